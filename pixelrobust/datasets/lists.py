"""Lists of the images that a run may use: where each one is, what it is called, what it shows."""

import hashlib
import itertools
import stat
import unicodedata
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelrobust.datasets.classes import ClassNames
from pixelrobust.errors import InputError, first_line, some

# What Pillow reads, by the format's name, with the endings that such files have. Pillow tells a format by
# a file's content. Left out are those that are handed to other programs (EPS, WMF), and documents.
_ENDINGS = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "ICO": (".ico",),
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe", ".mpo"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PCX": (".pcx",),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
_SUFFIXES = frozenset(ending for endings in _ENDINGS.values() for ending in endings)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a file of its own."""

    path: Path

    @property
    def name(self) -> str:
        """Return the name that sentences call it by."""
        return str(self.path)

    def stamp(self) -> tuple[int | str, ...]:
        """Return size in bytes and time of change; OSError where the file is not there."""
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    def open(self) -> AbstractContextManager[Image.Image]:
        """Open the image, in any mode; any error may come where there is none."""
        # Reading a pipe would wait for ever.
        if not stat.S_ISREG(self.path.stat().st_mode):
            raise ValueError("it is not a regular file")
        return Image.open(self.path, formats=tuple(_ENDINGS))


@dataclass(frozen=True, slots=True)
class ArrayImage:
    """An image that is decoded already.

    Attributes:
        name: that sentences call it by.
        values: uint8 (H, W) or (H, W, 3).
    """

    name: str
    values: NDArray[np.uint8]

    def stamp(self) -> tuple[int | str, ...]:
        """Return shape and digest."""
        return str(self.values.shape), hashlib.sha256(self.values.tobytes()).hexdigest()

    def open(self) -> AbstractContextManager[Image.Image]:
        """Return the image."""
        return Image.fromarray(np.ascontiguousarray(self.values))


Source = ImageFile | ArrayImage
"""One image of a data set, not decoded yet; its stamp is another once the image is another."""


@dataclass(frozen=True)
class ImageList:
    """Images with labels, in a fixed order.

    Attributes:
        root: the folder that they are in.
        keys: N names, unique, in Unicode NFC; of files, their paths relative to root, with POSIX
            separators.
        sources: N images, not decoded yet.
        labels: (N,) int64, indices into the classifiers' outputs.
        classes: where labels are the data set's own numbers, the names that go with them.
        left_out: names of the files below root that are no images of the data set, for their place or
            their ending; hidden ones are not told.
    """

    root: Path
    keys: tuple[str, ...]
    sources: tuple[Source, ...]
    labels: NDArray[np.int64]
    classes: ClassNames | None = None
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, indices: Sequence[int]) -> "ImageList":
        """Return the images at these indices, in this order."""
        return replace(
            self,
            keys=tuple(self.keys[i] for i in indices),
            sources=tuple(self.sources[i] for i in indices),
            labels=self.labels[list(indices)],
        )

    @property
    def what_is_left_out(self) -> str:
        """Return a sentence that counts and names the files that are left out; "" for none."""
        if not self.left_out:
            return ""
        return (
            f"{len(self.left_out):,} files in {self.root} are left out for their place or ending: "
            f"{some(map(repr, self.left_out))}"
        )

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the paths of those images that are files of their own."""
        return tuple(source.path for source in self.sources if isinstance(source, ImageFile))


def make_image_list(
    root: Path, paths: Sequence[Path], labels: Sequence[int], left_out: Sequence[Path] = ()
) -> ImageList:
    """List files below root, ordered by key.

    Args:
        root: the folder.
        paths: of the images.
        labels: one for each.
        left_out: paths of files below root that are no images of the data set.

    Raises:
        InputError: two files have the same key once their names are normalised, or a name is no
            Unicode.
    """
    # An image's random changes hang on its key.
    names = [unicodedata.normalize("NFC", path.relative_to(root).as_posix()) for path in paths]
    keyed = sorted(zip(names, paths, labels, strict=True))
    keys = tuple(key for key, _, _ in keyed)
    for key in keys:
        if any("\ud800" <= character <= "\udfff" for character in key):
            raise InputError(
                f"the file {key!r} in {root} has a name that is not Unicode, as outcomes keep it; "
                "rename it."
            )
    for first, second in itertools.pairwise(keys):
        if first == second:
            raise InputError(
                f"two files in {root} are both called {first!r} once Unicode is normalised; rename one."
            )
    ordered = np.array([label for _, _, label in keyed], dtype=np.int64)
    sources = tuple(ImageFile(path) for _, path, _ in keyed)
    others = tuple(path.relative_to(root).as_posix() for path in left_out)
    return ImageList(root, keys, sources, ordered, left_out=others)


def as_keys(keys: Sequence[str] | None, images: int) -> list[str]:
    """Return image keys, by default "0", "1", …; InputError where one is there twice."""
    names = list(map(str, range(images) if keys is None else keys))
    if len(set(names)) < len(names):
        raise InputError("keys are there twice, and such images would get the same changes.")
    return names


def as_labels(labels: Any, images: int | None = None) -> NDArray[np.int64]:
    """Return (N,) labels, also from (N, 1).

    Args:
        labels: of any library.
        images: how many there are to be, if that is known.

    Raises:
        InputError: they are not integers of 0 or more, or are not as many.
    """
    array = np.asarray(labels.cpu() if hasattr(labels, "cpu") else labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    are_integers = not array.size or np.issubdtype(array.dtype, np.integer)
    if array.ndim != 1 or images not in (None, len(array)) or not are_integers:
        wanted = "an integer for each image" if images is None else f"{images} integers"
        raise InputError(f"labels have shape {array.shape} and dtype {array.dtype}; give {wanted}.")
    if array.size and array.min() < 0:
        raise InputError(f"label {array.min()} is not the index of an output; give 0 or more.")
    return array.astype(np.int64)


def sample(keys: Sequence[str], size: int | None, seed: int) -> list[int]:
    """Draw a random sample of indices, ascending; all of them where size is None or too large.

    The sample of a subset is that subset's share of the sample, whatever the order of the keys.
    """
    if size is None or size >= len(keys):
        return list(range(len(keys)))
    return sorted(by_lot(keys, seed)[:size])


def by_lot(keys: Sequence[str], seed: int) -> list[int]:
    """Return all indices in a random order, by the lot that each key draws of its own from (seed, key)."""
    lots = [
        hashlib.blake2b(f"{seed}\0{key}".encode("utf-8", "surrogateescape")).digest()
        for key in keys
    ]
    return sorted(range(len(keys)), key=lots.__getitem__)


def is_image_file(path: Path) -> bool:
    """Tell whether a path is an image by its name, and no folder."""
    return path.suffix.lower() in _SUFFIXES and not is_folder(path)


def files_below(folder: Path, above: Sequence[Path] = ()) -> list[Path]:
    """Find all files in a folder and below, hidden ones aside, sorted; links are followed.

    A link that leads back to a folder that it lies in is found as if it were a file.

    Args:
        folder: where to look.
        above: the folders that it was found in, resolved.

    Raises:
        InputError: a folder cannot be read.
    """
    found: list[Path] = []
    inside = [*above, folder.resolve()]
    for path in list_folder(folder):
        if is_folder(path) and path.resolve() not in inside:
            found += files_below(path, inside)
        else:
            found.append(path)
    return found


def list_folder(folder: Path) -> list[Path]:
    """List what is in a folder, hidden names aside, sorted; InputError where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"the folder {error.filename} cannot be read ({error.strerror or first_line(error)}); "
            "make it readable, or remove it."
        ) from error


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder; one that may not be looked at is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def check_folder(root: Path | None, key: str, example: str) -> Path:
    """Return the folder itself; InputError where the key is unset or no such folder exists."""
    if root is None:
        raise InputError(f"{key} is not set; give a folder, for example {key}={example}.")
    if not is_folder(root):
        raise InputError(f"{key}={root} is not a folder; give the path of an existing one.")
    return root
