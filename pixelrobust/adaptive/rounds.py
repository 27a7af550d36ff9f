"""The rounds of an adaptive evaluation: allot, draw, learn."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.adaptive.allotment import ROUND_WEIGHTS, Allotment, allot
from pixelrobust.adaptive.sensitivity import Sensitivity, families
from pixelrobust.answers import Answers
from pixelrobust.grid import Cell
from pixelrobust.outcomes import ALLOTTED_COLUMNS, with_cell

Ask = Callable[[Cell, NDArray[np.int64], NDArray[np.int64]], Answers]
"""From a cell, and (P,) positions of images and draws, to the answers of the network."""

# Draws of so many images, spread over all margins, tell how far a cell moves margins.
_PILOT = 48


def evaluate_adaptively(
    ask: Ask,
    labels: NDArray[np.int64],
    keys: Sequence[str],
    clean: NDArray[np.floating],
    cells: Sequence[Cell],
    draws: int,
    seed: int,
    name: str,
) -> pd.DataFrame:
    """What images were allotted in every cell and round, and how often the network was wrong.

    Every (image, draw) is shown in one cell only, so that what one cell tells of an image can
    guide another one without biasing it.

    Args:
        ask: shows changes to the network.
        labels: (N,) true classes.
        keys: N image keys.
        clean: (N,) margins of the unchanged images.
        cells: the grid, without the control.
        draws: the precision wanted is that of a census of so many draws of each image.
        seed: decides who gets a draw where less than one is due.
        name: what to call the model.

    Returns:
        A row for each cell, round and image; columns as in `ALLOTTED_COLUMNS`. Round 0 is the pilot.
    """
    unseen = np.zeros(len(keys), dtype=np.int64)
    parts = []
    for family in families(cells):
        rounds = _Rounds(ask, labels, clean, unseen, draws, seed)
        rounds.begin(family)
        for number, weight in enumerate(ROUND_WEIGHTS, start=1):
            for cell in family:
                rounds.go(cell, number, weight)
        parts += rounds.parts
    rows = pd.concat(parts, ignore_index=True)
    images = pd.Categorical(np.array(keys)[rows["image"]], categories=list(keys))
    models = pd.Categorical([name]).repeat(len(rows))
    return rows.assign(image=images, model=models)[ALLOTTED_COLUMNS]


def control_rows(
    labels: NDArray[np.int64], keys: Sequence[str], classes: NDArray[np.int64], name: str
) -> pd.DataFrame:
    """The unchanged images, as rows like those of `evaluate_adaptively`.

    Args:
        labels, keys, name: as there.
        classes: (N,) what the network takes the unchanged images for.
    """
    control = pd.DataFrame(
        {
            "model": pd.Categorical([name]).repeat(len(keys)),
            "image": pd.Categorical(list(keys), categories=list(keys)),
            "label": labels.astype(np.int32),
            "round": np.int32(1),
            "weight": 1.0,
            "expected": 1.0,
            "first": np.int32(0),
            "draws": np.int32(1),
            "wrong": (classes != labels).astype(np.int32),
            "guessed": 0.0,
        }
    )
    return with_cell(control, Cell(0))[ALLOTTED_COLUMNS]


class _Rounds:
    """The cells of one family.

    Args:
        ask, labels, clean, draws, seed: see `evaluate_adaptively`.
        unseen: (N,) first draw of every image that was not shown yet; moved on, in place.
    """

    def __init__(
        self,
        ask: Ask,
        labels: NDArray[np.int64],
        clean: NDArray[np.floating],
        unseen: NDArray[np.int64],
        draws: int,
        seed: int,
    ) -> None:
        self._ask, self._labels, self._unseen = ask, labels, unseen
        self._draws, self._seed = draws, seed
        self._sensitivity = Sensitivity(clean)
        spread = np.linspace(0, len(clean) - 1, min(_PILOT, len(clean))).astype(np.int64)
        self._pilot = np.sort(np.argsort(clean, kind="stable")[spread])
        self.parts: list[pd.DataFrame] = []

    def begin(self, cells: Sequence[Cell]) -> None:
        """The pilot of every cell: it teaches, but is no part of the estimate."""
        once = np.zeros(len(self._labels), dtype=np.int64)
        once[self._pilot] = 1
        margins = {}
        for cell in cells:
            first = self._unseen.copy()
            _, answers, wrong = self._show(cell, once)
            margins[cell] = answers.margins
            certain = Allotment(once.astype(np.float64), once)
            self._note(cell, 0, 0.0, certain, first, wrong, np.zeros(len(once)))
        self._sensitivity.begin(self._pilot, margins)

    def go(self, cell: Cell, number: int, weight: float) -> None:
        """One round of one cell."""
        expected, spread = self._sensitivity.guess(cell)
        rng = np.random.default_rng(
            [self._seed, cell.num, cell.amplitude or 0, cell.area or 0, number]
        )
        allotted = allot(spread, weight, self._draws, rng)
        first = self._unseen.copy()
        image, answers, wrong = self._show(cell, allotted.draws)
        self._sensitivity.see(cell, image, answers.margins)
        self._note(cell, number, weight, allotted, first, wrong, expected)

    def _show(
        self, cell: Cell, draws: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], Answers, NDArray[np.int64]]:
        """So many fresh draws of each image: positions, answers, and how many are wrong of each."""
        image = np.arange(len(draws)).repeat(draws)
        within = np.arange(len(image)) - (np.cumsum(draws) - draws).repeat(draws)
        answers = self._ask(cell, image, self._unseen[image] + within)
        self._unseen += draws
        wrong = answers.classes != self._labels[image]
        counts = np.bincount(image[wrong], minlength=len(draws))
        return image, answers, counts

    def _note(
        self,
        cell: Cell,
        number: int,
        weight: float,
        allotted: Allotment,
        first: NDArray[np.int64],
        wrong: NDArray[np.int64],
        guessed: NDArray[np.float64],
    ) -> None:
        part = pd.DataFrame(
            {
                "image": np.arange(len(wrong)),
                "label": self._labels.astype(np.int32),
                "round": np.int32(number),
                "weight": weight,
                "expected": allotted.expected,
                "first": first.astype(np.int32),
                "draws": allotted.draws.astype(np.int32),
                "wrong": wrong.astype(np.int32),
                "guessed": guessed,
            }
        )
        self.parts.append(with_cell(part, cell))
