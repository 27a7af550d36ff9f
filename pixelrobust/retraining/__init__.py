"""Retraining classifiers on changed images, and keeping what comes of it."""

from pixelrobust.retraining.trainer import HISTORY_COLUMNS
from pixelrobust.retraining.training import (
    Retrained,
    count_samples,
    retrain,
    training_fingerprint,
)
from pixelrobust.settings import Recipe, recipe_settings

__all__ = [
    "HISTORY_COLUMNS",
    "Recipe",
    "Retrained",
    "count_samples",
    "recipe_settings",
    "retrain",
    "training_fingerprint",
]
