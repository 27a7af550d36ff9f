"""From an image file to the uint8 crop that pixels are changed on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from pixelrobust.datasets.sources import ImageFile, Source
from pixelrobust.errors import InputError, first_line
from pixelrobust.settings import PreprocessingSettings

# 16- and 32-bit integers and floats: converting them to RGB clips them to nonsense.
_WIDE_MODES = ("I", "F")
# Beyond it Pillow itself takes a file for an attack on memory. Enlarging a narrow strip to its short
# side can get there too.
_MAX_PIXELS = 178_956_970


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
    """The central crop of an opened image, uint8 (3, crop, crop); as `decode` does it.

    Raises:
        ValueError: its values have more than 8 bits, or it is too narrow a strip.
    """
    _check(image, settings)
    resized = F.resize(
        image.convert("RGB"),
        [settings.resize],
        interpolation=InterpolationMode(settings.interpolation),
        antialias=True,
    )
    crop = F.center_crop(resized, [settings.crop, settings.crop])
    return np.ascontiguousarray(np.asarray(crop).transpose(2, 0, 1))


def _check(image: Image.Image, settings: PreprocessingSettings) -> None:
    if image.mode.startswith(_WIDE_MODES):
        raise ValueError("its values have more than 8 bits, and no stated range")
    short, long = sorted(image.size)
    if settings.resize**2 * long > _MAX_PIXELS * short:
        raise ValueError(
            f"it has {image.width} x {image.height} pixels, too narrow a strip to be enlarged to a "
            f"short side of {settings.resize}"
        )


def _reason(error: Exception, source: Source) -> str:
    """Why, without the name, which the sentence has given."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error).replace(f" {source.name!r}", "").rstrip(".")
