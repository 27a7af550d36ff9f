"""Screening: predictions of fp32, most of which a faster arithmetic finds.

Arithmetics disagree about an image only where its two largest logits lie closer together than the error of
the faster one. So every changed image is predicted in the fast arithmetic first, and again in fp32 where the
gap is below a bound: a multiple of the largest error seen on a sample of the changed images. A share of the
others is computed in both, to check: where one disagrees, the bound is doubled, and the share, and what they
ask for then is computed again.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pixelrobust.engine import Engine
from pixelrobust.evaluation.forward import ForwardPass, Pairs, PredictedChange
from pixelrobust.evaluation.store import UNKNOWN, Known, PredictionStore
from pixelrobust.outcomes.manifest import Screened
from pixelrobust.perturbation.grid import Cell

SCREENING = "screening"
"""What rows in memory call how they were screened, among their `attrs`."""
# So many changed images, drawn from all cells and images, show how large errors are.
_CALIBRATED = 256
# So many are computed in fp32 before they are kept: a run that is killed loses at most these.
_KEPT_AT_ONCE = 4096
# Each look at what to compute in fp32 goes through all that is known, so that it waits for this much more.
_GROWTH = 1 / 8
# Where the fast arithmetic gives no finite logits to see errors by, none of its predictions is trusted.
_NOTHING_TRUSTED = 1e30


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
        self._batch_size = size = engine.batch_size
        self._portion = math.ceil(_KEPT_AT_ONCE / size) * size
        self._store, self._seed, self._least = store, seed, bound
        self._shape = shape
        self._calibrating = dict(_calibrating(cells, shape, seed))
        self._fast: dict[Cell, Known] = {}
        self._exact: dict[Cell, Known] = {}
        # Of each change a number in [0, 1): those below the share are checked.
        self._drawn: dict[Cell, NDArray[np.float32]] = {}
        self._known = self._looked_at = 0

    def add(self, tables: Mapping[Cell, Known]) -> None:
        """Take on cells, with the fast predictions that are known; these are filled in place later."""
        for cell, table in tables.items():
            self._fast[cell] = table
            known = self._store.load(cell, self._shape[1]) if self._store else None
            self._exact[cell] = known or Known.nothing(*self._shape)
            limits = (0 if limit is None else 1 + limit for limit in (cell.amplitude, cell.area))
            random = np.random.default_rng([self._seed, cell.num, *limits])
            # Draw by draw, so that those of more draws begin with those of fewer.
            self._drawn[cell] = random.random(self._shape[::-1], dtype=np.float32).T
            self._known += int((table.classes != UNKNOWN).sum())

    def grow(self, count: int) -> None:
        """Note that so many more fast predictions are known, and settle what fills batches, now and then."""
        self._known += count
        if self._known >= (1 + _GROWTH) * self._looked_at:
            self.settle(whole_batches=True)
            self._looked_at = self._known

    def settle(self, whole_batches: bool = False) -> None:
        """Compute in fp32 what is to be, of all that is known by now.

        Args:
            whole_batches: leave what does not fill a batch until more is known. GPUs take their time to
                get ready for a batch of another size.
        """
        while wanted := self._wanted(whole_batches):
            for portion in _portions(wanted, self._portion):
                for cell, found in self._forward.predict_each(portion).items():
                    pairs = portion[cell]
                    fill(self._exact[cell], pairs, found)
                    if self._store and (found.classes >= 0).all():
                        self._store.keep(cell, *pairs, found)

    def classes(self, cell: Cell) -> NDArray[np.int64]:
        """Return the classes of a cell, (N, draws): those of fp32, where they are known."""
        exact = self._exact[cell].classes
        return np.where(exact == UNKNOWN, self._fast[cell].classes, exact)

    def found(self) -> Screened:
        """Count what was found, so far."""
        bound, doubled = self._bound()
        counts: Counter[str] = Counter()
        for cell, fast in self._fast.items():
            both, calibrating = self._in_both(cell), self._calibrating[cell]
            below = both & ~(fast.gaps >= bound)
            masks = {
                "screened": fast.classes != UNKNOWN,
                "calibrated": both & calibrating,
                "recomputed": below,
                "flipped": below & (self._exact[cell].classes != fast.classes),
                # Those by which errors were seen agree above the bound, since it is larger.
                "checked": both & ~below & ~calibrating & self._is_drawn(cell, doubled),
            }
            counts.update({key: int(mask.sum()) for key, mask in masks.items()})
        return Screened(
            error=self._error(), bound=bound, doubled=doubled, widest=self._widest(), **counts
        )

    def _wanted(self, whole_batches: bool) -> dict[Cell, Pairs]:
        """Return which images of each cell are to be computed in fp32 next; cells that have any."""
        masks = {cell: self._open(cell) & self._calibrating[cell] for cell in self._fast}
        if any(mask.any() for mask in masks.values()):
            # Nothing is known of errors before these are.
            whole_batches = False
        else:
            bound, doubled = self._bound()
            # Of logits that are not finite there is no gap.
            masks = {
                cell: self._open(cell) & (~(fast.gaps >= bound) | self._is_drawn(cell, doubled))
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

    def _is_drawn(self, cell: Cell, doubled: int) -> NDArray[np.bool_]:
        """Tell which images are checked, (N, draws)."""
        return np.asarray(self._drawn[cell] < self._settings.checked * 2**doubled)

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
        """Return the largest error of a gap among the images that are drawn for it.

        Where classes differ the class of the fast arithmetic lies below another one in fp32, by the gap
        there at least.
        """
        largest, seen, finite = 0.0, False, False
        for cell, fast in self._fast.items():
            exact = self._exact[cell]
            calibrated = self._in_both(cell) & self._calibrating[cell]
            known = calibrated & np.isfinite(fast.gaps)
            seen, finite = seen or bool(calibrated.any()), finite or bool(known.any())
            sign = np.where(fast.classes == exact.classes, 1, -1)
            errors = np.abs(fast.gaps - sign * exact.gaps)[known]
            largest = max(largest, float(errors.max(initial=0)))
        return _NOTHING_TRUSTED if seen and not finite else largest

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
    cells: Sequence[Cell], shape: tuple[int, int], seed: int
) -> Iterator[tuple[Cell, NDArray[np.bool_]]]:
    """Yield, for each cell, (N, draws): the images by which errors are seen, of which each has its share.

    They are drawn from all images, since neighbours in a list are often of one class; no image counts
    twice while there are others, and first draws come first.
    """
    images, draws = shape
    order = np.random.default_rng(seed).permutation(images)
    wanted = min(_CALIBRATED, images * draws * len(cells))
    ends = wanted * np.arange(len(cells) + 1) // len(cells)
    for cell, start, stop in zip(cells, ends[:-1], ends[1:], strict=True):
        own = np.arange(start, stop) % (images * draws)
        mask = np.zeros(shape, dtype=np.bool_)
        mask[order[own % images], own // images] = True
        yield cell, mask


def _portions(wanted: Mapping[Cell, Pairs], size: int) -> Iterator[dict[Cell, Pairs]]:
    """Yield so many of the wanted images at a time."""
    portion: dict[Cell, Pairs] = {}
    left = size
    for cell, (image, draw) in wanted.items():
        start = 0
        while start < len(image):
            part = slice(start, start + left)
            portion[cell] = image[part], draw[part]
            left -= len(image[part])
            start = part.stop
            if not left:
                yield portion
                portion, left = {}, size
    if portion:
        yield portion
