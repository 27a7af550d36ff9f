"""Decoded images on disk: each image set is decoded once and memory-mapped from then on."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from filelock import FileLock
from numpy.typing import NDArray

from pixelrobust.datasets.decoding import decode
from pixelrobust.datasets.image_list import ImageList
from pixelrobust.errors import InputError
from pixelrobust.settings import PreprocessingSettings, fingerprint

_FORMAT = 1
_CHANNELS = 3

Advance = Callable[[int], None]
"""Told how many more items are done."""


@dataclass(frozen=True)
class ImageSet:
    """Decoded images.

    Attributes:
        pixels: uint8 (N, 3, H, W), memory-mapped, read-only.
        keys: N image keys.
        labels: (N,) int64.
        digests: N hexadecimal digests of the pixels.
    """

    pixels: NDArray[np.uint8]
    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[2], self.pixels.shape[3]


class PixelRows:
    """Some images of a memory-mapped array, read only when they are asked for.

    Args:
        pixels: (N, C, H, W).
        rows: (M,) positions in it.
    """

    def __init__(self, pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> None:
        self._pixels = pixels
        self._rows = rows
        self.shape = (len(rows), *pixels.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._pixels[self._rows[index]]

    def take(self, rows: NDArray[np.int64]) -> "PixelRows":
        """Some of these images, by their positions among them."""
        return PixelRows(self._pixels, self._rows[rows])


def load_images(
    images: ImageList, settings: PreprocessingSettings, cache: Path, advance: Advance
) -> ImageSet:
    """The decoded images, from the cache where they are in it.

    An entry is keyed by everything that determines it: preprocessing, the decoder's version, and
    path, size and modification time of every file. It appears under its final name only when it is
    complete; a second run that wants the same entry at the same time waits for the first.

    Raises:
        InputError: an image cannot be decoded, or the cache cannot be written.
    """
    entry = cache / "images" / _entry_name(images, settings)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_suffix(".lock")):
            known = _read(entry, images)
            if known is None:
                shutil.rmtree(entry, ignore_errors=True)
                _build(entry, images, settings, advance)
                known = _read(entry, images)
    except OSError as error:
        raise _unusable(cache, error.strerror or str(error)) from error
    if known is None:
        raise _unusable(cache, "what was written does not read back")
    return known


def _unusable(cache: Path, reason: str) -> InputError:
    return InputError(
        f"the cache {cache} cannot be used ({reason}); give paths.cache, a folder with enough room."
    )


def _read(entry: Path, images: ImageList) -> ImageSet | None:
    """The images of a complete entry; None where there is none."""
    try:
        digests = json.loads((entry / "digests.json").read_text(encoding="utf-8"))
        pixels = np.load(entry / "pixels.npy", mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not len(digests) == len(pixels) == len(images):
        return None
    return ImageSet(pixels, images.keys, images.labels, tuple(digests))


def _entry_name(images: ImageList, settings: PreprocessingSettings) -> str:
    files = []
    for key, path in zip(images.keys, images.paths, strict=True):
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(f"image {path} cannot be read ({error.strerror}).") from error
        files.append((key, status.st_size, status.st_mtime_ns))
    return fingerprint(_FORMAT, PIL.__version__, settings.model_dump(), str(images.root), files)[
        :32
    ]


def _build(
    entry: Path, images: ImageList, settings: PreprocessingSettings, advance: Advance
) -> None:
    unfinished = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}")
    unfinished.mkdir()
    try:
        shape = (len(images), _CHANNELS, settings.crop, settings.crop)
        pixels = np.lib.format.open_memmap(
            unfinished / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape
        )

        def decode_into(index: int) -> str:
            pixels[index] = decode(images.paths[index], settings)
            return hashlib.sha256(pixels[index].tobytes()).hexdigest()[:32]

        digests = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for digest in pool.map(decode_into, range(len(images))):
                digests.append(digest)
                advance(1)
        pixels.flush()
        (unfinished / "digests.json").write_text(json.dumps(digests), encoding="utf-8")
        unfinished.replace(entry)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
