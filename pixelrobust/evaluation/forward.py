"""Forward passes over changed images: changes are made while the network runs."""

import copy
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrobust.datasets.decoded import Advance, PixelRows
from pixelrobust.engine import Engine
from pixelrobust.engine.base import label_margins, predicted_classes, top_margins
from pixelrobust.engine.devices import to_device
from pixelrobust.engine.feeding import Images, make_feed
from pixelrobust.perturbation.grid import Cell, Manner
from pixelrobust.perturbation.pixels import ChangeRandomness, apply_change, image_keys

# Random numbers cost least when they are made for many images at once: on a GPU for several batches,
# since it takes about as long for few images as for many.
_IMAGES_AT_ONCE = 64
_BATCHES_AT_ONCE = 16
_PIXELS_AT_ONCE = 2**20


class Task(NamedTuple):
    """A network, and images to show it.

    Attributes:
        engine: runs the network.
        images: (N, C, H, W), uint8 or floating point in [0, 1]; may be memory-mapped.
        keys: N image keys, which changes hang on.
        labels: (N,) true classes.
        name: what outcomes call the network.
    """

    engine: Engine
    images: Images
    keys: list[str]
    labels: NDArray[np.int64]
    name: str

    def take(self, part: slice) -> "Task":
        """Return what shows some images that follow each other; all of them stay where they are."""
        rows = np.arange(len(self.keys))[part]
        if len(rows) == len(self.keys):
            return self
        # Only indexed by arrays, which all kinds of images allow.
        images = PixelRows(cast(Any, self.images), rows)
        return self._replace(images=images, keys=self.keys[part], labels=self.labels[part])


class Design(NamedTuple):
    """The changes of every image.

    Attributes:
        cells: the grid; the control (num 0) may be among them.
        draws: independent changes of each image in each cell.
        seed: 0 or more.
        manner: how pixels are drawn and changed.
    """

    cells: list[Cell]
    draws: int
    seed: int
    manner: Manner = Manner()


class PredictedChange(NamedTuple):
    """Hold what a network takes P changed images for.

    Attributes:
        classes: (P,) int64; -1 where logits are not finite.
        margins: (P,) float32, how far the true class's logit lies above the largest other one; negative
            where the image is misclassified.
        gaps: (P,) float32, how far the largest logit lies above the next.
    """

    classes: NDArray[np.int64]
    margins: NDArray[np.float32]
    gaps: NDArray[np.float32]


Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Positions of P images, and of each a draw."""


class ForwardPass:
    """Shows changes of some images to one network.

    Args:
        task: the network and the images.
        design: the changes, of which seed and manner count here.
        advance: told how many forward passes are done.
    """

    def __init__(self, task: Task, design: Design, advance: Advance = lambda done: None) -> None:
        self.device = device = task.engine.device
        self._engine = task.engine
        self._feed = make_feed(task.images, device)
        self._image_shape = task.images.shape[1:]
        self._key_words = image_keys(task.keys, design.seed).to(device)
        self._manner = design.manner
        self._labels = torch.as_tensor(task.labels).to(device)
        self._advance = advance

    def by(self, engine: Engine, advance: Advance) -> "ForwardPass":
        """Return what shows the same images to another engine of the device, and tells another."""
        other = copy.copy(self)
        other._engine, other._advance = engine, advance
        return other

    def predict(self, pairs: Pairs, cells: Sequence[Cell]) -> dict[Cell, PredictedChange]:
        """Predict some changed images in each of some cells, one at least."""
        return self.begin(pairs, cells)()

    def begin(
        self, pairs: Pairs, cells: Sequence[Cell]
    ) -> Callable[[], dict[Cell, PredictedChange]]:
        """Do what `predict` does, but for waiting: that does what is returned.

        All cells share the images and their random numbers. On a GPU the work may be under way
        still, and more can be begun behind it.
        """
        return self._begin([(pairs, cells)])

    def predict_each(self, wanted: Mapping[Cell, Pairs]) -> dict[Cell, PredictedChange]:
        """Predict other changed images in each cell; batches are filled across cells."""
        return self._begin([(pairs, [cell]) for cell, pairs in wanted.items()])()

    def _begin(
        self, parts: Sequence[tuple[Pairs, Sequence[Cell]]]
    ) -> Callable[[], dict[Cell, PredictedChange]]:
        """Begin to predict, in every part, its images in all of its cells; no cell is in two."""
        # Small results of every batch, kept one by one, would fragment the heap, which then grows.
        device = self._engine.device
        sizes = {cell: len(pairs[0]) for pairs, cells in parts for cell in cells}
        classes = {
            cell: torch.empty(size, dtype=torch.int64, device=device)
            for cell, size in sizes.items()
        }
        margins, gaps = (
            {cell: torch.empty(size, device=device) for cell, size in sizes.items()}
            for _ in range(2)
        )
        underway: deque[list[_Piece]] = deque()
        for logits in self._engine.stream(self._batches(parts, underway)):
            pieces = underway.popleft()
            own = [len(piece.labels) for piece in pieces]
            labels = torch.cat([piece.labels for piece in pieces])
            for found, values in (
                (classes, predicted_classes(logits)),
                (margins, label_margins(logits, labels)),
                (gaps, top_margins(logits)),
            ):
                for piece, part in zip(pieces, torch.split(values, own), strict=True):
                    found[piece.cell][piece.where] = part
            self._advance(len(logits))
        return lambda: {
            cell: PredictedChange(
                *(found[cell].cpu().numpy() for found in (classes, margins, gaps))
            )
            for cell in sizes
        }

    def _batches(
        self,
        parts: Sequence[tuple[Pairs, Sequence[Cell]]],
        underway: "deque[list[_Piece]]",
    ) -> Iterator[Tensor]:
        """Yield changed images in full batches, and append to `underway` what is in each."""
        size, filled = self._engine.batch_size, 0
        waiting: list[Tensor] = []
        pieces: list[_Piece] = []
        for pairs, cells in parts:
            for changed, piece in self._changed(pairs, cells):
                start = 0
                while start < len(changed):
                    stop = min(start + size - filled, len(changed))
                    waiting.append(changed[start:stop])
                    pieces.append(piece.take(slice(start, stop)))
                    filled, start = filled + stop - start, stop
                    # Cells that share their images keep apart, so that those that are computed alone,
                    # such as what a stopped run lacks, come in the same batches.
                    is_whole = filled == size or (len(parts) == 1 and start == len(changed))
                    if is_whole:
                        underway.append(pieces)
                        yield torch.cat(waiting) if len(waiting) > 1 else waiting[0]
                        waiting, pieces, filled = [], [], 0
        if filled:
            underway.append(pieces)
            yield torch.cat(waiting)

    def _changed(self, pairs: Pairs, cells: Sequence[Cell]) -> Iterator[tuple[Tensor, "_Piece"]]:
        """Yield changed images, those of one cell and of neighbouring pairs together, and what they are."""
        image, draw = pairs
        size, device = self._engine.batch_size, self._engine.device
        largest = max(cell.num for cell in cells)
        room = max(1, _PIXELS_AT_ONCE // max(largest, 1))
        at_once = min(max(size, _IMAGES_AT_ONCE), room)
        drawn = at_once
        if device.type == "cuda":
            drawn *= max(1, min(_BATCHES_AT_ONCE, room // at_once))
        wholes = list(_slices(0, len(image), drawn))
        parts = [list(_slices(whole.start, whole.stop, at_once)) for whole in wholes]
        feed = self._feed.batches(image[part] for own in parts for part in own)
        for whole, own in zip(wholes, parts, strict=True):
            rows, draws = (
                to_device(torch.as_tensor(index[whole]), device) for index in (image, draw)
            )
            keys, labels = self._key_words[rows], self._labels[rows]
            randomness = ChangeRandomness(keys, draws, self._image_shape, self._manner)
            randomness.reserve(cells)
            for part in own:
                batch = next(feed)
                here = slice(part.start - whole.start, part.stop - whole.start)
                for cell in cells:
                    changed = apply_change(batch, randomness.take(here), cell)
                    yield changed, _Piece(cell, part, labels[here])


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """Yield slices of at most this size, one after the other."""
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


class _Piece(NamedTuple):
    """Images of a batch under way: their cell, where their predictions belong, and their labels."""

    cell: Cell
    where: slice
    labels: Tensor

    def take(self, part: slice) -> "_Piece":
        """Return some that follow each other."""
        start = self.where.start
        return _Piece(self.cell, slice(start + part.start, start + part.stop), self.labels[part])
