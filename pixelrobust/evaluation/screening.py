"""Screening: predictions of fp32, most of which a faster arithmetic finds.

Arithmetics disagree about an image only where its two largest logits lie closer together than the error of
the faster one. So every changed image is predicted in the fast arithmetic first, and again in fp32 where the
gap is below a bound: a multiple of the largest error seen on the first images of the run. A share of the others
is computed in both, to check: where one disagrees, the bound is doubled, and the share, and what they ask for
then is computed again.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelrobust.engine import Engine
from pixelrobust.evaluation.forward import ForwardPass, Pairs, PredictedChange
from pixelrobust.evaluation.store import UNKNOWN, Known, PredictionStore
from pixelrobust.perturbation.grid import Cell

SCREENING = "screening"
"""What rows in memory call how they were screened, among their `attrs`."""
# So many of the first changed images, of all cells in turn, show how large errors are.
_CALIBRATED = 256


class Screened(NamedTuple):
    """Count what was screened.

    Attributes:
        screened: changed images.
        error: the largest error of a gap on the first of them.
        bound: below which gaps were not trusted in the end.
        doubled: how often it was doubled.
        recomputed: images below the bound, computed again in fp32.
        flipped: of these, how many fp32 takes for another class.
        checked: others that were computed in both; not one is taken for another class.
        widest: the largest gap of an image that fp32 is known to take for another class.
    """

    screened: int = 0
    error: float = 0.0
    bound: float = 0.0
    doubled: int = 0
    recomputed: int = 0
    flipped: int = 0
    checked: int = 0
    widest: float = 0.0

    def plus(self, other: "Screened") -> "Screened":
        """Return both together: sums of counts, the largest of all else."""
        sums = ("screened", "recomputed", "flipped", "checked")
        both = zip(self._fields, self, other, strict=True)
        return Screened._make(own + one if key in sums else max(own, one) for key, own, one in both)


class Screen:
    """Finds what fp32 would predict, from predictions of a faster arithmetic.

    Args:
        exact: shows the images to the network in fp32.
        engine: has the `screening`.
        cells: of the changes, without the control.
        shape: (images, draws).
        seed: decides which predictions are checked.
        store: keeps those of fp32, and gives those that it has.
        bound: the least bound.
    """

    def __init__(
        self,
        exact: ForwardPass,
        engine: Engine,
        cells: Sequence[Cell],
        shape: tuple[int, int],
        seed: int,
        store: PredictionStore | None = None,
        bound: float = 0.0,
    ) -> None:
        assert engine.screening
        self._forward, self._settings = exact, engine.screening
        self._batch_size = engine.batch_size
        self._store, self._seed, self._least = store, seed, bound
        self._shape = shape
        self._calibrating = dict(_calibrating(cells, shape))
        self._fast: dict[Cell, Known] = {}
        self._exact: dict[Cell, Known] = {}
        # Of each change a number in [0, 1): those below the share are checked.
        self._drawn: dict[Cell, NDArray[np.float64]] = {}

    def add(self, tables: Mapping[Cell, Known]) -> None:
        """Take on cells, with the fast predictions that are known; these are filled in place later."""
        for cell, table in tables.items():
            self._fast[cell] = table
            known = self._store.load(cell, self._shape[1]) if self._store else None
            self._exact[cell] = known or Known.nothing(*self._shape)
            limits = (0 if limit is None else 1 + limit for limit in (cell.amplitude, cell.area))
            random = np.random.default_rng([self._seed, cell.num, *limits])
            # Draw by draw, so that those of more draws begin with those of fewer.
            self._drawn[cell] = random.random(self._shape[::-1]).T

    def settle(self, whole_batches: bool = False) -> None:
        """Compute in fp32 what is to be, of all that is known by now.

        Args:
            whole_batches: leave what does not fill a batch until more is known. GPUs take their time to
                get ready for a batch of another size.
        """
        while wanted := self._wanted(whole_batches):
            for cell, found in self._forward.predict_each(wanted).items():
                pairs = wanted[cell]
                fill(self._exact[cell], pairs, found)
                if self._store and (found.classes >= 0).all():
                    self._store.keep(cell, *pairs, found)

    def classes(self, cell: Cell) -> NDArray[np.int64]:
        """Return the classes of a cell, (N, draws): those of fp32, where they are known."""
        exact = self._exact[cell].classes
        return np.where(exact == UNKNOWN, self._fast[cell].classes, exact)

    def found(self) -> Screened:
        """Count what was found, so far."""
        (bound, doubled), counts = self._bound(), np.zeros(4, dtype=np.int64)
        for cell, fast in self._fast.items():
            both = self._in_both(cell)
            below = both & ~(fast.gaps >= bound)
            differ = self._exact[cell].classes != fast.classes
            counts += [
                mask.sum()
                for mask in (fast.classes != UNKNOWN, below, below & differ, both & ~below)
            ]
        screened, recomputed, flipped, checked = counts.tolist()
        return Screened(
            screened, self._error(), bound, doubled, recomputed, flipped, checked, self._widest()
        )

    def _wanted(self, whole_batches: bool) -> dict[Cell, Pairs]:
        """Return which images of each cell are to be computed in fp32 next; cells that have any."""
        masks = {cell: self._open(cell) & self._calibrating[cell] for cell in self._fast}
        if any(mask.any() for mask in masks.values()):
            # Nothing is known of errors before these are.
            whole_batches = False
        else:
            bound, doubled = self._bound()
            share = self._settings.checked * 2**doubled
            # Of logits that are not finite there is no gap.
            masks = {
                cell: self._open(cell) & (~(fast.gaps >= bound) | (self._drawn[cell] < share))
                for cell, fast in self._fast.items()
            }
        left = sum(int(mask.sum()) for mask in masks.values())
        if whole_batches:
            left -= left % self._batch_size
        wanted = {}
        for cell, mask in masks.items():
            draw, image = (part[:left] for part in np.nonzero(mask.T))
            left -= len(image)
            if len(image):
                wanted[cell] = image, draw
        return wanted

    def _open(self, cell: Cell) -> NDArray[np.bool_]:
        """Tell which images are known in the fast arithmetic alone, (N, draws)."""
        fast, exact = (each[cell].classes != UNKNOWN for each in (self._fast, self._exact))
        return np.asarray(fast & ~exact)

    def _in_both(self, cell: Cell) -> NDArray[np.bool_]:
        """Tell which are known in both."""
        fast, exact = (each[cell].classes != UNKNOWN for each in (self._fast, self._exact))
        return np.asarray(fast & exact)

    def _bound(self) -> tuple[float, int]:
        """Return below which gaps are not trusted, and how often that was doubled.

        The first bound is doubled until no image contradicts it that is known in both arithmetics; what
        other processes distrust besides does not count as doubled here.
        """
        bound, widest = self._settings.multiple * self._error(), self._widest()
        doubled = 0
        while widest and bound <= widest:
            bound, doubled = 2 * (bound or widest), doubled + 1
        return max(bound, self._least), doubled

    def _error(self) -> float:
        """Return the largest error of a gap among the first images.

        Where classes differ the class of the fast arithmetic lies below another one in fp32, by the gap
        there at least.
        """
        largest = 0.0
        for cell, fast in self._fast.items():
            exact = self._exact[cell]
            known = self._in_both(cell) & self._calibrating[cell] & np.isfinite(fast.gaps)
            sign = np.where(fast.classes == exact.classes, 1, -1)
            errors = np.abs(fast.gaps - sign * exact.gaps)[known]
            largest = max(largest, float(errors.max(initial=0)))
        return largest

    def _widest(self) -> float:
        """Return the largest gap of an image that fp32 is known to take for another class."""
        widest = 0.0
        for cell, fast in self._fast.items():
            differ = self._in_both(cell) & (self._exact[cell].classes != fast.classes)
            gaps = fast.gaps[differ & np.isfinite(fast.gaps)]
            widest = max(widest, float(gaps.max(initial=0)))
        return widest


def fill(table: Known, pairs: Pairs, found: PredictedChange) -> None:
    """Note in place what was found for P images; no gap where logits are not finite."""
    table.classes[pairs] = found.classes
    table.gaps[pairs] = np.where(found.classes >= 0, found.gaps, np.nan)


def _calibrating(
    cells: Sequence[Cell], shape: tuple[int, int]
) -> Iterator[tuple[Cell, NDArray[np.bool_]]]:
    """Yield, for each cell, (N, draws): the first images, of which each cell has its share."""
    images, draws = shape
    first = np.arange(min(_CALIBRATED, images * draws))
    for turn, cell in enumerate(cells):
        own = first[turn :: len(cells)]
        mask = np.zeros(shape, dtype=np.bool_)
        mask[own % images, own // images] = True
        yield cell, mask
