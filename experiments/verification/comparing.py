"""Stored rows beside what they are found to be now."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pixelrobust.datasets.decoded import Advance
from pixelrobust.evaluation.cells import draws_of
from pixelrobust.evaluation.forward import ForwardPass, Task
from pixelrobust.outcomes.kinds import CELL_COLUMNS
from pixelrobust.outcomes.rows import cell_of
from pixelrobust.perturbation.grid import Cell
from pixelrobust.perturbation.pixels import PixelChange

# Of logits: what another order of the same sums can change. Engines in float32 differ by some 1e-5 of
# the largest logit.
BORDERLINE = 1e-2
# Of measured numbers, for the same reason; small ones are differences of large sums.
_RELATIVE, _ABSOLUTE = 1e-2, 1e-5

FAULTS = {
    "borderline": "two logits are all but equal, so another order of sums can decide",
    "prediction": "the network takes the image for another class",
    "wrong": "another number of draws is wrong",
    "label or wrong": "the label is another, or wrong does not follow from label and prediction",
    "attack": "the attack ends at another image",
    "adversarial": "the adversarial class is not what the attacked image was taken for",
    "value": "the number is another",
    "count": "outcomes are missing, or there more than once",
}
"""What can be the matter with a row; all but the first contradict it."""

COLUMNS = ["model", "image", "which", "stored", "again", "gap", "fault", "outcomes"]
"""Of rows that were found again: which outcome of the image it is, what it is stored as and what it is
now (texts), the gap of logits (missing where nothing differs), the fault (empty: none), and how many
outcomes a row stands for."""


class Shown(NamedTuple):
    """What a network of a run was shown.

    Attributes:
        task: the network and the images, labels as its outputs.
        classes: the data set's indices of the network's outputs; None where they are the same.
        seed, draws: of the run.
        advance: told how many forward passes are done.
    """

    task: Task
    classes: NDArray[np.int64] | None
    seed: int
    draws: int
    advance: Advance

    def forward(self) -> ForwardPass:
        return ForwardPass(self.task, self.seed, self.advance)

    def positions(self, stored: pd.DataFrame) -> NDArray[np.int64]:
        """Where the images of some rows are among these."""
        return positions(self.task.keys, stored["image"])

    def named(self, outputs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Outputs of the network as the data set's classes; -1 stays."""
        if self.classes is None:
            return outputs
        return np.where(outputs < 0, -1, self.classes[outputs])

    def output(self, named: int) -> int | None:
        """The output that stands for one of the data set's classes, if there is one."""
        if self.classes is None:
            return named
        found = np.flatnonzero(self.classes == named)
        return int(found[0]) if len(found) else None


def positions(keys: Sequence[str], wanted: Iterable[str]) -> NDArray[np.int64]:
    """(N,) where wanted keys are among all of them."""
    position = {key: index for index, key in enumerate(keys)}
    return np.array([position[str(key)] for key in wanted], dtype=np.int64)


def found(
    stored: pd.DataFrame,
    which: Sequence[str],
    was: Sequence[str],
    again: Sequence[str],
    fault: NDArray[np.object_] | str,
    gap: NDArray[np.float64] | float = np.nan,
    outcomes: NDArray[np.int64] | int = 1,
) -> pd.DataFrame:
    """Some stored rows of one model, with what they are found to be; `COLUMNS` says what is what."""
    rows = stored[["model", "image"]].astype(str).reset_index(drop=True)
    return rows.assign(
        which=list(which), stored=list(was), again=list(again), gap=gap, fault=fault,
        outcomes=outcomes,
    )  # fmt: skip


def outcomes_again(shown: Shown, stored: pd.DataFrame, words: str = "") -> pd.DataFrame:
    """Single outcomes, of one model and cell: the rows of `found`.

    Args:
        shown: what the network was shown.
        stored: columns image, draw, label, prediction and wrong, and those of the cell.
        words: before the words for cell and draw.
    """
    cell = _fitting_cell(shown, stored)
    image, draw = shown.positions(stored), np.array(stored["draw"], np.int64)
    prediction, labels = (
        stored["prediction"].to_numpy(np.int64),
        shown.named(shown.task.labels[image]),
    )
    again = shown.named(shown.forward().predict(image, draw, [cell])[cell].classes)
    gaps, faults = np.full(len(stored), np.nan), np.full(len(stored), "", dtype=object)
    change = PixelChange(cell.num, cell.amplitude, cell.area, shown.seed)
    for index in np.flatnonzero(prediction != again).tolist():
        row = int(image[index])
        picture = torch.as_tensor(np.asarray(shown.task.images[np.array([row])]).copy())
        changed = change(picture, [shown.task.keys[row]], int(draw[index]))
        logits = shown.task.engine.logits(changed.to(shown.task.engine.device))[0]
        gaps[index] = _gap(logits, shown.output(int(prediction[index])))
        faults[index] = "borderline" if gaps[index] <= BORDERLINE else "prediction"
    # What does not follow from label and prediction was not written by this software.
    label, wrong = stored["label"].to_numpy(np.int64), stored["wrong"].to_numpy(bool)
    inconsistent = (label != labels) | (wrong != (prediction != labels))
    faults[inconsistent | (draw >= draws_of(cell, shown.draws))] = "label or wrong"
    return found(
        stored,
        [f"{words}{cell_in_words(cell)}, draw {one}" for one in draw],
        [_outcome(*row) for row in zip(prediction, label, wrong, strict=True)],
        [_outcome(*row) for row in zip(again, labels, again != labels, strict=True)],
        faults,
        gaps,
    )


def numbers_again(
    stored: pd.DataFrame,
    column: str,
    again: NDArray[np.float64],
    which: Sequence[str],
    outcomes: int = 1,
) -> pd.DataFrame:
    """Measured numbers of one model: the rows of `found`.

    Args:
        stored: rows.
        column: that holds the numbers.
        again: (N,) what they are now.
        which: N texts.
        outcomes: how many each row counts for.
    """
    values = stored[column].to_numpy(np.float64)
    same = np.isclose(values, again, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True)
    return found(
        stored, which, [f"{one:.6g}" for one in values], [f"{one:.6g}" for one in again],
        np.where(same, "", "value").astype(object), outcomes=outcomes,
    )  # fmt: skip


def incomplete(
    stored: pd.DataFrame, by: Sequence[str], images: int | None, draws: int
) -> pd.DataFrame:
    """Cells that lack outcomes, or have some twice, of one model: the rows of `found`; mostly none.

    Args:
        stored: all rows of the model.
        by: columns that part them, besides those of the cell.
        images: how many images each part has; None: as many as come up in it.
        draws: of the run.
    """
    parts = []
    for _, part in stored.groupby(list(by), observed=True) if by else [(None, stored)]:
        count = part["image"].nunique() if images is None else images
        for _, own in part.groupby(CELL_COLUMNS, dropna=False):
            expected = count * draws_of(cell_of(own), draws)
            pairs = len(own[["image", "draw"]].drop_duplicates())
            if not len(own) == pairs == expected:
                words = ", ".join([*_values(own, by), cell_in_words(cell_of(own))])
                row = own.iloc[:1].assign(image="all")
                was = f"{len(own):,} outcomes, {pairs:,} of them different"
                parts.append(found(row, [words], [was], [f"{expected:,}"], "count", outcomes=0))
    return pd.concat(parts) if parts else pd.DataFrame(columns=COLUMNS)


def cell_in_words(cell: Cell) -> str:
    """Such as num 64, amplitude 40, area 220; without what is not limited."""
    limits = {"amplitude": cell.amplitude, "area": cell.area}
    return ", ".join(
        [f"num {cell.num}", *(f"{key} {value}" for key, value in limits.items() if value is not None)]
    )  # fmt: skip


def _fitting_cell(shown: Shown, stored: pd.DataFrame) -> Cell:
    """The cell of some rows; InputError where images have no room for it."""
    cell, (height, width) = cell_of(stored), shown.task.images.shape[-2:]
    cell.check_fits((height, width))
    return cell


def _values(rows: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """What all rows have in some columns."""
    return [f"{column} {rows.iloc[0][column]}" for column in columns]


def _outcome(prediction: int, label: int, wrong: bool) -> str:
    return f"class {prediction} of label {label}, {'wrong' if wrong else 'right'}"


def _gap(logits: torch.Tensor, stored: int | None) -> float:
    """How far the largest logit lies above that of the stored prediction."""
    if stored is None or not 0 <= stored < len(logits):
        return float("inf")
    return float(logits.max() - logits[stored])
