"""Retraining classifiers on changed images, and keeping what comes of it."""

from pixelrobust.retraining.samples import Recipe
from pixelrobust.retraining.trainer import HISTORY_COLUMNS
from pixelrobust.retraining.training import (
    Retrained,
    count_samples,
    retrain,
    training_fingerprint,
)

__all__ = [
    "HISTORY_COLUMNS",
    "Recipe",
    "Retrained",
    "count_samples",
    "retrain",
    "training_fingerprint",
]
