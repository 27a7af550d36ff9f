"""From an image file to the uint8 crop that pixels are changed on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from pixelrobust.errors import InputError
from pixelrobust.settings import PreprocessingSettings

# Pillow tells a format by a file's content, and would hand PostScript to a program of that name.
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# 16- and 32-bit integers and floats: converting them to RGB clips them to nonsense.
_WIDE_MODES = ("I", "F")


def decode(path: Path, settings: PreprocessingSettings) -> NDArray[np.uint8]:
    """Decode to RGB, resize the short side, crop the centre.

    Orientation tags are ignored, as torchvision's ImageFolder ignores them.

    Returns:
        uint8 (3, crop, crop).

    Raises:
        InputError: the file is missing or is not an image that can be decoded.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.mode.startswith(_WIDE_MODES):
                raise ValueError("its values have more than 8 bits, and no stated range")
            resized = F.resize(
                image.convert("RGB"),
                [settings.resize],
                interpolation=InterpolationMode(settings.interpolation),
                antialias=True,
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"image {path} cannot be read ({error}); convert it to an 8-bit image, or remove it from the data set."
        ) from error
    crop = F.center_crop(resized, [settings.crop, settings.crop])
    return np.ascontiguousarray(np.asarray(crop).transpose(2, 0, 1))
