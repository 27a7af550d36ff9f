"""Stored outcomes found once more: what a network answers to the very same changes now."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pixelrobust.datasets.cache import Advance, PixelRows
from pixelrobust.engine import Engine
from pixelrobust.evaluation import draws_of
from pixelrobust.outcomes import ALLOTTED_COLUMNS, CELL_COLUMNS, cell_of
from pixelrobust.passes import Passes
from pixelrobust.perturbation import PixelChange

# Of logits: what another order of the same sums can change. Engines in float32 differ by some 1e-5 of
# the largest logit.
BORDERLINE = 1e-2


class Shown(NamedTuple):
    """What a network of a run was shown.

    Attributes:
        engine: runs the network.
        pixels: (N, C, H, W) uint8.
        keys: N image keys, in the order of the outcomes' categories.
        labels: (N,) true classes.
        seed, draws: of the run.
        advance: told how many forward passes are done.
    """

    engine: Engine
    pixels: PixelRows
    keys: list[str]
    labels: NDArray[np.int64]
    seed: int
    draws: int
    advance: Advance

    def passes(self) -> Passes:
        return Passes(self.engine, self.pixels, self.keys, self.labels, self.seed, self.advance)


Recompute = Callable[[Shown, pd.DataFrame], pd.DataFrame]
"""From some stored rows of one model and cell to the same rows with what they are found to be: the
columns model, num, image, draw (text), label, stored, again (texts), gap (of logits; missing where
nothing differs), fault (empty: none) and outcomes (how many a row stands for)."""


def count_outcomes(stored: pd.DataFrame) -> int:
    """How many outcomes rows stand for."""
    adaptive = list(stored.columns) == ALLOTTED_COLUMNS
    return int(stored["draws"].sum()) if adaptive else len(stored)


def recomputed_outcomes(shown: Shown, stored: pd.DataFrame) -> pd.DataFrame:
    """Single outcomes; see `Recompute`."""
    cell = cell_of(stored)
    image = np.asarray(stored["image"].cat.codes, dtype=np.int64)
    draw = np.asarray(stored["draw"], dtype=np.int64)
    again = shown.passes().answers(image, draw, [cell])[cell].classes
    prediction = stored["prediction"].to_numpy(np.int64)
    gaps, faults = np.full(len(stored), np.nan), np.full(len(stored), "", dtype=object)
    change = PixelChange(cell.num, cell.amplitude, cell.area, shown.seed)
    for index in np.flatnonzero(prediction != again).tolist():
        row = int(image[index])
        picture = torch.tensor(np.asarray(shown.pixels[np.array([row])]))
        changed = change(picture, [shown.keys[row]], int(draw[index]))
        gap = _gap(shown.engine.logits(changed.to(shown.engine.device))[0], int(prediction[index]))
        gaps[index], faults[index] = gap, "borderline" if gap <= BORDERLINE else "prediction"
    # What does not follow from label and prediction was not written by this software.
    labels = shown.labels[image]
    inconsistent = (stored["label"].to_numpy() != labels) | (
        stored["wrong"].to_numpy() != (prediction != labels)
    )
    beyond = draw >= draws_of(cell, shown.draws)
    faults[inconsistent | beyond] = "label or wrong"
    return _known(stored).assign(
        draw=[str(one) for one in draw], stored=[str(one) for one in prediction],
        again=[str(one) for one in again], gap=gaps, fault=faults, outcomes=1,
    )  # fmt: skip


def recomputed_counts(shown: Shown, stored: pd.DataFrame) -> pd.DataFrame:
    """How many draws of an image were wrong, of an adaptive evaluation; see `Recompute`.

    A difference is borderline where so many draws have their label's logit close to the largest other.
    """
    cell = cell_of(stored)
    image = np.asarray(stored["image"].cat.codes, dtype=np.int64)
    first, draws, wrong = (stored[key].to_numpy(np.int64) for key in ("first", "draws", "wrong"))
    row = np.arange(len(stored)).repeat(draws)
    within = np.arange(len(row)) - (np.cumsum(draws) - draws).repeat(draws)
    answers = shown.passes().answers(image[row], first[row] + within, [cell])[cell]
    again = np.bincount(row[answers.classes != shown.labels[image][row]], minlength=len(stored))
    margins = np.abs(answers.margins)
    doubtful = np.bincount(row[margins <= BORDERLINE], minlength=len(stored))
    nearest = np.full(len(stored), np.inf, dtype=np.float32)
    np.minimum.at(nearest, row, margins)
    differs = again != wrong
    faults = np.full(len(stored), "", dtype=object)
    faults[differs] = "wrong"
    faults[differs & (np.abs(again - wrong) <= doubtful)] = "borderline"
    faults[stored["label"].to_numpy() != shown.labels[image]] = "label"
    last = first + draws - 1
    return _known(stored).assign(
        draw=[f"{start}–{end}" for start, end in zip(first, last, strict=True)],
        stored=[f"{one} wrong" for one in wrong], again=[f"{one} wrong" for one in again],
        gap=np.where(differs, nearest, np.nan), fault=faults, outcomes=draws,
    )  # fmt: skip


def _known(stored: pd.DataFrame) -> pd.DataFrame:
    return stored[["model", *CELL_COLUMNS, "image", "label"]].astype({"image": str, "model": str})


def _gap(logits: torch.Tensor, stored: int) -> float:
    """How far the largest logit lies above that of the stored prediction."""
    if not 0 <= stored < len(logits):
        return float("inf")
    return float(logits.max() - logits[stored])
