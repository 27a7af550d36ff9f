"""Where an image comes from: a file of its own, or an array."""

import hashlib
import stat
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Pillow tells a format by a file's content, and would hand PostScript to a program of that name.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class Source(Protocol):
    """One image of a data set, not decoded yet. Several threads open images at once."""

    @property
    def name(self) -> str:
        """What sentences call it."""

    def stamp(self) -> tuple[int | str, ...]:
        """Plain data that is other data once the image is another; OSError where it is gone."""

    def open(self) -> AbstractContextManager[Image.Image]:
        """The image, in any mode; whatever error where there is none."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file of its own."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def stamp(self) -> tuple[int | str, ...]:
        return file_stamp(self.path)

    def open(self) -> AbstractContextManager[Image.Image]:
        # Reading a pipe would wait for ever.
        if not stat.S_ISREG(self.path.stat().st_mode):
            raise ValueError("it is not a regular file")
        return Image.open(self.path, formats=_FORMATS)


@dataclass(frozen=True, slots=True)
class ArrayImage:
    """An image that is decoded already.

    Attributes:
        name: what sentences call it.
        values: uint8 (H, W) or (H, W, 3).
    """

    name: str
    values: NDArray[np.uint8]

    def stamp(self) -> tuple[int | str, ...]:
        return str(self.values.shape), hashlib.sha256(self.values.tobytes()).hexdigest()

    def open(self) -> AbstractContextManager[Image.Image]:
        return Image.fromarray(np.ascontiguousarray(self.values))


def file_stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change of a file; OSError where it is not there."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns
