"""Images as uint8 crops: decoded once, kept on disk, and memory-mapped from then on."""

import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from pixelrobust.datasets.classes import ClassNames
from pixelrobust.datasets.lists import ImageFile, ImageList, Source
from pixelrobust.errors import InputError, first_line, some
from pixelrobust.settings import PreprocessingSettings, fingerprint

_FORMAT = 2
_CHANNELS = 3
# Decoded images that wait to be written, at most.
_AT_ONCE = 256

# 16- and 32-bit integers and floats: converting them to RGB clips them to nonsense.
_WIDE_MODES = ("I", "F")
# Pillow itself takes a file of more pixels for an attack on memory. Enlarging a narrow strip to its short
# side can get there too.
_MAX_PIXELS = 178_956_970

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
        unreadable: of the files that were left out, by image key: why.
        classes: where labels are the data set's own numbers, the names that go with them.
        left_out: names of files in the folder that are no images of the data set, for their place or
            their ending.
    """

    pixels: NDArray[np.uint8]
    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    digests: tuple[str, ...]
    unreadable: dict[str, str] = field(default_factory=dict)
    classes: ClassNames | None = None
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def what_is_unreadable(self) -> str:
        """Return a sentence that counts and names the files that were left out; "" for none."""
        if not self.unreadable:
            return ""
        files = len(self) + len(self.unreadable)
        return (
            f"{len(self.unreadable):,} of {files:,} files cannot be read and are left out: "
            f"{some(map(repr, self.unreadable))}"
        )

    @property
    def image_size(self) -> tuple[int, int]:
        """Return the (height, width) of the images in pixels."""
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
        """Return some of these images, by their positions among them."""
        return PixelRows(self._pixels, self._rows[rows])


def decode(image: Path | Source, settings: PreprocessingSettings) -> NDArray[np.uint8]:
    """Decode to RGB, resize the short side, crop the centre.

    Orientation tags are ignored, as torchvision's ImageFolder ignores them; transparency is dropped;
    of several frames or pages the first counts. 16-bit colours are reduced to their upper 8 bits,
    as Pillow reads them.

    Returns:
        uint8 (3, crop, crop).

    Raises:
        InputError: the image is missing, or cannot be decoded.
    """
    source = ImageFile(image) if isinstance(image, Path) else image
    try:
        with source.open() as opened:
            return crop_centre(opened, settings)
    except MemoryError:
        raise
    # Damaged files raise nearly anything.
    except Exception as error:
        raise InputError(
            f"image {source.name} cannot be read ({_reason(error, source)}); convert it to an 8-bit image, "
            "remove it from the data set, or leave such files out: dataset.unreadable=skip."
        ) from error


def crop_centre(image: Image.Image, settings: PreprocessingSettings) -> NDArray[np.uint8]:
    """Resize an opened image and crop its centre, as `decode` does: uint8 (3, crop, crop).

    Raises:
        ValueError: its values have more than 8 bits, or it is too narrow a strip.
    """
    if image.mode.startswith(_WIDE_MODES):
        raise ValueError("its values have more than 8 bits, and no stated range")
    short, long = sorted(image.size)
    if settings.resize**2 * long > _MAX_PIXELS * short:
        raise ValueError(
            f"it has {image.width} x {image.height} pixels, too narrow a strip to be enlarged to a "
            f"short side of {settings.resize}"
        )
    resized = F.resize(
        image.convert("RGB"),
        [settings.resize],
        interpolation=InterpolationMode(settings.interpolation),
        antialias=True,
    )
    crop = F.center_crop(resized, [settings.crop, settings.crop])
    return np.ascontiguousarray(np.asarray(crop).transpose(2, 0, 1))


def _reason(error: Exception, source: Source) -> str:
    """Return why an image cannot be read, without its name, which the sentence has given."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error).replace(f" {source.name!r}", "").rstrip(".")


def load_images(
    images: ImageList,
    settings: PreprocessingSettings,
    cache: Path,
    advance: Advance,
    skip_unreadable: bool = False,
) -> ImageSet:
    """Decode images, or map what an earlier run has decoded into memory.

    An entry of the cache is keyed by everything that determines it: preprocessing, the decoder's
    version, and name, size and modification time of every file. It appears under its final name only
    when it is complete; a second run that wants the same entry at the same time waits for the first.
    Files that could not be read are tried again each time.

    Args:
        images: the files.
        settings: how they are decoded.
        cache: the cache folder.
        advance: told how many more files are done.
        skip_unreadable: leave files out that cannot be read, rather than stop.

    Raises:
        InputError: an image cannot be decoded, or not one can, or the cache cannot be written.
    """
    entry = cache / "images" / _entry_name(images, settings, skip_unreadable)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_suffix(".lock")):
            known = _read(entry, images, settings)
            if known is None:
                shutil.rmtree(entry, ignore_errors=True)
                _build(entry, images, settings, advance, skip_unreadable)
                known = _read(entry, images, settings)
    except OSError as error:
        raise _unusable(cache, error.strerror or str(error)) from error
    if known is None:
        raise _unusable(cache, "what was written does not read back")
    if known.unreadable and not skip_unreadable:
        raise InputError(next(iter(known.unreadable.values())))
    return known


def _unusable(cache: Path, reason: str) -> InputError:
    return InputError(
        f"the cache {cache} cannot be used ({reason}); give paths.cache, a folder with enough room."
    )


def _read(entry: Path, images: ImageList, settings: PreprocessingSettings) -> ImageSet | None:
    """Map a complete entry into memory; None where there is none, or a file can be read by now."""
    try:
        digests = json.loads((entry / "digests.json").read_text(encoding="utf-8"))
        pixels = np.load(entry / "pixels.npy", mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    readable = [index for index, digest in enumerate(digests) if digest is not None]
    if len(digests) != len(images) or len(pixels) != len(readable):
        return None
    unreadable = {}
    for index in sorted(set(range(len(images))) - set(readable)):
        try:
            decode(images.sources[index], settings)
        except InputError as error:
            unreadable[images.keys[index]] = str(error)
        else:
            return None
    kept = images.take(readable)
    known = tuple(digests[i] for i in readable)
    return ImageSet(pixels, kept.keys, kept.labels, known, unreadable, kept.classes, kept.left_out)


def _entry_name(images: ImageList, settings: PreprocessingSettings, skip_unreadable: bool) -> str:
    """Return the digest of everything that determines an entry."""
    files: list[tuple[int | str, ...]] = []
    for key, source in zip(images.keys, images.sources, strict=True):
        try:
            files.append((key, *source.stamp()))
        except OSError:
            if not skip_unreadable:
                # Decoding says why the file cannot be read.
                decode(source, settings)
            files.append((key, -1, -1))
    parts = (_FORMAT, PIL.__version__, settings.model_dump(), str(images.root), files)
    return fingerprint(*parts)[:32]


def _build(
    entry: Path,
    images: ImageList,
    settings: PreprocessingSettings,
    advance: Advance,
    skip_unreadable: bool,
) -> None:
    """Decode images into a folder beside the entry, and give it the entry's name once it is complete."""
    unfinished = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}")
    unfinished.mkdir()
    try:
        digests: list[str | None] = []
        # Written rather than mapped: a full disk would end a process that writes to mapped memory.
        with (
            (unfinished / "pixels.npy").open("wb") as file,
            closing(_decoded(images, settings)) as every,
        ):
            _write_header(file, len(images), settings)
            for decoded in every:
                if isinstance(decoded, InputError):
                    if not skip_unreadable:
                        raise decoded
                    digests.append(None)
                else:
                    content = decoded.tobytes()
                    file.write(content)
                    digests.append(hashlib.sha256(content).hexdigest()[:32])
                advance(1)
            readable = len(digests) - digests.count(None)
            if not readable:
                raise InputError(
                    f"not one of the {len(images)} files in {images.root} can be read as an image; "
                    f"the first is {images.keys[0]!r}."
                )
            file.seek(0)
            _write_header(file, readable, settings)
            file.flush()
            os.fsync(file.fileno())
        (unfinished / "digests.json").write_text(json.dumps(digests), encoding="utf-8")
        unfinished.replace(entry)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_header(file: BinaryIO, images: int, settings: PreprocessingSettings) -> None:
    """Write the beginning of a .npy file, of the same length whatever the number of images."""
    shape = (images, _CHANNELS, settings.crop, settings.crop)
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )


def _decoded(
    images: ImageList, settings: PreprocessingSettings
) -> Generator[NDArray[np.uint8] | InputError]:
    """Yield each image's pixels, in order, or why there are none."""

    def attempt(source: Source) -> NDArray[np.uint8] | InputError:
        try:
            return decode(source, settings)
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        # Pillow warns of large images; those that are too large are refused.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for start in range(0, len(images), _AT_ONCE):
            yield from pool.map(attempt, images.sources[start : start + _AT_ONCE])
