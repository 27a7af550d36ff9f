"""Forward passes over changed images: changes are made while the network runs."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrobust.datasets.decoded import Advance, PixelRows
from pixelrobust.engine import Engine, Predicted
from pixelrobust.engine.base import label_margins, predicted_classes
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

    def predict(
        self, image: NDArray[np.int64], draw: NDArray[np.int64], cells: Sequence[Cell]
    ) -> dict[Cell, Predicted]:
        """Predict P changed images in every cell.

        Args:
            image, draw: (P,) the images, by their positions, and which of their draws.
            cells: the grid, one cell at least.

        Returns:
            For each cell, P classes, and margins: how far the true class's logit lies above the
            largest other one, negative where the image is misclassified.
        """
        return self.begin(image, draw, cells)()

    def begin(
        self, image: NDArray[np.int64], draw: NDArray[np.int64], cells: Sequence[Cell]
    ) -> Callable[[], dict[Cell, Predicted]]:
        """Do what `predict` does, but for waiting: that does what is returned.

        All cells share the images and their random numbers. On a GPU the work may be under way
        still, and more can be begun behind it.
        """
        # Small results of every batch, kept one by one, would fragment the heap, which then grows.
        device = self._engine.device
        classes = {
            cell: torch.empty(len(image), dtype=torch.int64, device=device) for cell in cells
        }
        margins = {cell: torch.empty(len(image), device=device) for cell in cells}
        underway: deque[_Batch] = deque()
        for logits in self._engine.stream(self._changed(image, draw, cells, underway)):
            cell, where, labels = underway.popleft()
            classes[cell][where] = predicted_classes(logits)
            margins[cell][where] = label_margins(logits, labels)
            self._advance(len(logits))
        return lambda: {
            cell: Predicted(classes[cell].cpu().numpy(), margins[cell].cpu().numpy())
            for cell in cells
        }

    def _changed(
        self,
        image: NDArray[np.int64],
        draw: NDArray[np.int64],
        cells: Sequence[Cell],
        underway: "deque[_Batch]",
    ) -> Iterator[Tensor]:
        """Yield changed images, batch by batch, and append to `underway` what each batch is."""
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
                    for where in _slices(part.start, part.stop, size):
                        first, last = where.start - whole.start, where.stop - whole.start
                        underway.append(_Batch(cell, where, labels[first:last]))
                        yield changed[where.start - part.start : where.stop - part.start]


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """Yield slices of at most this size, one after the other."""
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


class _Batch(NamedTuple):
    """A batch under way: its cell, where its predictions belong, and its labels."""

    cell: Cell
    where: slice
    labels: Tensor
