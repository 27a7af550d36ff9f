"""From images in memory or on disk to batches on the device that runs the network."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrobust.datasets.decoded import PixelRows
from pixelrobust.engine.devices import to_device

Images = Tensor | NDArray[np.generic] | PixelRows

# Images may take this share of a GPU's free memory for good; the rest is the network's.
_SHARE_OF_MEMORY = 0.4
_UPLOADED_AT_ONCE = 256
# One thread reads more slowly than a GPU fetches.
_BUFFERS = 4


def make_feed(images: Images, device: torch.device) -> "InPlaceFeed | StreamingFeed":
    """Choose how images come to this device.

    On a GPU they live as they are, uint8, where there is room for them; else they stream through
    a few buffers, the next ones being filled while the network runs.

    Args:
        images: (N, C, H, W), uint8 or floating point; may be memory-mapped.
        device: where the network runs.
    """
    if device.type == "cpu":
        return InPlaceFeed(images)
    if isinstance(images, Tensor) and images.device == device:
        return InPlaceFeed(images)
    free, _ = torch.cuda.mem_get_info(device)
    if _first(images).nbytes * len(images) <= _SHARE_OF_MEMORY * free:
        return InPlaceFeed(_upload(images, device))
    return StreamingFeed(images, device)


class InPlaceFeed:
    """Takes images from where they are.

    Args:
        images: (N, C, H, W).
    """

    def __init__(self, images: Images) -> None:
        self._images = images

    def batches(self, order: Iterable[NDArray[np.int64]]) -> Iterator[Tensor]:
        """Yield, for each array of B positions, (B, C, H, W) on the device, of the images' dtype."""
        for index in order:
            if isinstance(self._images, Tensor):
                yield self._images[to_device(torch.as_tensor(index), self._images.device)]
            else:
                yield torch.as_tensor(self._images[index])


class StreamingFeed:
    """Reads images, and sends them to the device, while it computes.

    Args:
        images: (N, C, H, W).
        device: where they go.
    """

    def __init__(self, images: Images, device: torch.device) -> None:
        self._images = images
        self._device = device

    def batches(self, order: Iterable[NDArray[np.int64]]) -> Iterator[Tensor]:
        """Yield batches, as of `InPlaceFeed`."""
        buffers = [_Buffer(self._device) for _ in range(_BUFFERS)]
        waiting: deque[Future[_Buffer]] = deque()
        with ThreadPoolExecutor(_BUFFERS - 1) as readers:
            for turn, index in enumerate(order):
                waiting.append(readers.submit(buffers[turn % _BUFFERS].fill, self._images, index))
                if len(waiting) == _BUFFERS:
                    yield waiting.popleft().result().send()
            for filled in waiting:
                yield filled.result().send()


class _Buffer:
    """Page-locked memory, from which a GPU fetches by itself."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_cuda = device.type == "cuda"
        self._memory = torch.empty(0)
        self._rows = 0
        self._sent: torch.cuda.Event | None = None

    def fill(self, images: Images, index: NDArray[np.int64]) -> "_Buffer":
        """Read images, once the last ones have left."""
        if self._sent is not None:
            self._sent.synchronize()
        if isinstance(images, Tensor):
            read = images.index_select(0, torch.as_tensor(index))
        else:
            read = torch.as_tensor(images[index])
        if len(self._memory) < len(read) or self._memory.dtype != read.dtype:
            self._memory = torch.empty(read.shape, dtype=read.dtype, pin_memory=self._is_cuda)
        self._rows = len(read)
        self._memory[: self._rows] = read
        return self

    def send(self) -> Tensor:
        """Return the images on the device; the transfer may be under way still."""
        filled = self._memory[: self._rows]
        if not self._is_cuda:
            return filled.clone()
        sent = filled.to(self._device, non_blocking=True)
        self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._sent.record(torch.cuda.current_stream(self._device))
        return sent


def split_batches(order: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Split positions into batches that follow each other; the last one may be smaller."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _first(images: Images) -> Tensor:
    """Return the first image as a batch; an empty one where there is none."""
    return torch.as_tensor(images[np.arange(min(1, len(images)))])


def _upload(images: Images, device: torch.device) -> Tensor:
    first = _first(images)
    # Networks run in this layout, and images are changed and converted as they lie.
    resident = torch.empty(
        (len(images), *first.shape[1:]), dtype=first.dtype, device=device,
        memory_format=torch.channels_last,
    )  # fmt: skip
    parts = split_batches(np.arange(len(images)), _UPLOADED_AT_ONCE)
    for part, sent in zip(parts, StreamingFeed(images, device).batches(parts), strict=True):
        resident[part[0] : part[-1] + 1] = sent
    return resident
