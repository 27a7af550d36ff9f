"""A NumPy archive (.npz) with images, labels and, if there are any, keys."""

import functools
import shutil
import tempfile
import threading
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixelrobust.datasets.array_layout import Layout, as_picture, find_layout
from pixelrobust.datasets.image_list import ImageList, is_unicode
from pixelrobust.datasets.labels import Label, free_labels, other_split
from pixelrobust.datasets.sources import ArrayImage, file_stamp
from pixelrobust.errors import InputError, first_line

_T = TypeVar("_T")

_IMAGES, _LABELS, _KEYS = "images", "labels", "keys"
# Unpacked at once, in bytes.
_PIECE = 1 << 20
# Of a zip file's entry: where its data begin, after a name and extra fields of these lengths.
_LOCAL_HEADER, _NAME_LENGTH, _EXTRA_LENGTH = 30, slice(26, 28), slice(28, 30)

_DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)


@dataclass(frozen=True)
class _Array:
    """An array of the archive, as its header says; its values are not read yet."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


class _Contents(NamedTuple):
    images: _Array
    layout: Layout
    labels: list[Label]
    keys: tuple[str, ...]


def read_npz(
    file: Path | None,
    classes: Path | str | None,
    cache: Path,
    columns: tuple[str | None, str | None] = (None, None),
    key: str = "dataset.file",
    other: Path | None = None,
) -> ImageList:
    """The images of an archive; their values are mapped into memory when they are decoded.

    Those of a compressed archive are unpacked to a file without a name, in the cache folder, piece by
    piece. Nothing is ever unpickled.

    Args:
        file: holds `images`, uint8 (N, H, W, 3), (N, 3, H, W) or (N, H, W); `labels`, N integers or
            names; and perhaps `keys`, N names; without these keys are "0", "1", …, as those of
            `pixelrobust.evaluate`.
        classes: see `pixelrobust.datasets.labels.free_labels`.
        cache: the cache folder.
        columns: names of the arrays of images and of labels; None: those above.
        key: of the config, that gave the file.
        other: the archive of another split, whose class names count too.

    Raises:
        InputError: the file is missing, or is no such archive.
    """
    if file is None:
        raise InputError(f"{key} is not set; give a file, for example {key}=/data/images.npz.")
    place, names = f"{key}={file}", (columns[0] or _IMAGES, columns[1] or _LABELS)
    found = _read(file, place, lambda archive: _contents(archive, names, place))
    others: list[Label] = []
    if other is not None:
        place_of_other = f"{other_split(key)}={other}"
        others = _read(
            other, place_of_other, lambda archive: _labels(archive, names[1], place_of_other)
        )
    indices = free_labels(
        found.labels, classes, lambda position: f"{place}: image {position}", others
    )
    mapped, stamp = _Mapped(file, found.images, cache), (*file_stamp(file), found.images.name)

    def read(index: int) -> NDArray[np.uint8]:
        return as_picture(mapped.image(index), found.layout)

    sources = tuple(
        ArrayImage(f"{index} of {file}", functools.partial(read, index), stamp, index)
        for index in range(len(indices))
    )
    return ImageList(file, found.keys, sources, np.array(indices, dtype=np.int64))


def _read(file: Path, place: str, ask: Callable[[zipfile.ZipFile], _T]) -> _T:
    """What an archive answers; InputError where it cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            return ask(archive)
    except InputError:
        raise
    except _DAMAGED as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise InputError(
            f"{place} cannot be read ({reason}); give an archive that numpy.savez wrote."
        ) from error


def _contents(archive: zipfile.ZipFile, names: tuple[str, str], place: str) -> _Contents:
    images = _header(archive, names[0], place)
    _check_images(images, place)
    layout = find_layout(images.shape, f"{place}: array {names[0]}")
    labels = _labels(archive, names[1], place)
    if len(labels) != images.shape[0]:
        raise InputError(
            f"{place} holds {images.shape[0]} images, but {len(labels)} labels; give one for each."
        )
    return _Contents(images, layout, labels, _keys(archive, len(labels), place))


def _member(archive: zipfile.ZipFile, name: str, place: str) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(f"{name}.npy")
    except KeyError:
        names = ", ".join(entry.filename.removesuffix(".npy") for entry in archive.infolist())
        raise InputError(
            f"{place} holds no array {name!r} (it holds {names or 'nothing'}); save it with images and "
            "labels, or give dataset.image_column and dataset.label_column."
        ) from None


def _header(archive: zipfile.ZipFile, name: str, place: str) -> _Array:
    with archive.open(_member(archive, name, place)) as opened:
        return _read_header(opened, name)


def _read_header(opened: IO[bytes], name: str) -> _Array:
    version = np.lib.format.read_magic(opened)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(opened)
    return _Array(name, shape, dtype, fortran)


def _check_images(images: _Array, place: str) -> None:
    if images.dtype.hasobject:
        raise InputError(
            f"{place}: array {images.name} holds Python objects, which could run code; save an array of "
            "uint8, all images of one size."
        )
    if images.dtype != np.uint8:
        raise InputError(
            f"{place}: array {images.name} is {images.dtype}, whose range is not stated; save values from 0 "
            "to 255 as uint8."
        )
    if images.fortran:
        raise InputError(
            f"{place}: array {images.name} is in Fortran's order; save numpy.ascontiguousarray of it."
        )


def _small_array(archive: zipfile.ZipFile, name: str, place: str) -> NDArray[Any]:
    """An array with a value an image, (N,), in memory."""
    header, entry = _header(archive, name, place), _member(archive, name, place)
    if header.dtype.hasobject:
        raise InputError(
            f"{place}: array {name} holds Python objects, which could run code; save integers, or text "
            "(dtype str)."
        )
    if len(header.shape) != 1:
        raise InputError(
            f"{place}: array {name} has shape {header.shape}; give one value for each image."
        )
    if header.shape[0] * header.dtype.itemsize > entry.file_size:
        raise ValueError(f"{name} is shorter than its header says")
    with archive.open(entry) as opened:
        return np.lib.format.read_array(opened, allow_pickle=False)


def _labels(archive: zipfile.ZipFile, name: str, place: str) -> list[Label]:
    values = _small_array(archive, name, place)
    if values.dtype.kind not in "iuU":
        raise InputError(
            f"{place}: array {name} is {values.dtype}; give integers, or names of classes (dtype str)."
        )
    return [str(value) if values.dtype.kind == "U" else int(value) for value in values]


def _keys(archive: zipfile.ZipFile, images: int, place: str) -> tuple[str, ...]:
    if f"{_KEYS}.npy" not in archive.namelist():
        return tuple(str(index) for index in range(images))
    values = _small_array(archive, _KEYS, place)
    if values.dtype.kind != "U" or values.shape != (images,):
        raise InputError(
            f"{place}: array {_KEYS} is {values.dtype} of shape {values.shape}; give a name (dtype str) for each "
            f"of the {images} images, or leave them out."
        )
    keys = tuple(unicodedata.normalize("NFC", str(value)) for value in values)
    for key, count in Counter(keys).items():
        if count > 1 or not key or not is_unicode(key):
            fault = "is there twice" if count > 1 else "is no name"
            raise InputError(f"{place}: the key {key!r} {fault}; give each image another one.")
    return keys


class _Mapped:
    """The images of an archive, mapped into memory when the first is asked for."""

    def __init__(self, file: Path, images: _Array, cache: Path) -> None:
        self._file, self._array, self._cache = file, images, cache
        self._lock = threading.Lock()
        self._pixels: NDArray[np.uint8] | None = None

    def image(self, index: int) -> NDArray[np.uint8]:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._map()
            pixels: NDArray[np.uint8] = self._pixels[index]
        return pixels

    def _map(self) -> NDArray[np.uint8]:
        with zipfile.ZipFile(self._file) as archive:
            entry = archive.getinfo(f"{self._array.name}.npy")
            if entry.compress_type == zipfile.ZIP_STORED:
                return _mapped(self._file.open("rb"), _start(self._file, entry), self._array)
            self._cache.mkdir(parents=True, exist_ok=True)
            unpacked: IO[bytes] = tempfile.TemporaryFile(dir=self._cache)  # noqa: SIM115
            with archive.open(entry) as packed:
                shutil.copyfileobj(packed, unpacked, _PIECE)
            unpacked.flush()
            return _mapped(unpacked, 0, self._array)


def _start(file: Path, entry: zipfile.ZipInfo) -> int:
    """Where an entry's data begin."""
    with file.open("rb") as opened:
        opened.seek(entry.header_offset)
        header = opened.read(_LOCAL_HEADER)
    lengths = (int.from_bytes(header[part], "little") for part in (_NAME_LENGTH, _EXTRA_LENGTH))
    return entry.header_offset + _LOCAL_HEADER + sum(lengths)


def _mapped(opened: IO[bytes], start: int, images: _Array) -> NDArray[np.uint8]:
    with opened:
        opened.seek(start)
        if _read_header(opened, images.name) != images:
            raise ValueError("its header has changed")
        return np.memmap(opened, np.uint8, "r", opened.tell(), images.shape)
