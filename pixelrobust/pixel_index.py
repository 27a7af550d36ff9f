"""The Pixel-index, the paper's figure of merit (Section 5, Eq. 7 and Table 4)."""

import math
from typing import Literal

from pixelrobust.errors import InputError
from pixelrobust.grid import Cell, region

AmplitudeShare = Literal["range", "half"]


def pixel_index(
    wrong_rate: float,
    num: int,
    amplitude: int | None = None,
    area: int | None = None,
    image_size: tuple[int, int] = (224, 224),
    amplitude_share: AmplitudeShare = "range",
) -> float:
    """Pi = w / (p r a): wrong predictions per share of the image that was changed.

    Args:
        wrong_rate: w, the share of wrong outcomes, in 0..1.
        num: changed pixels; p = num / (height * width).
        amplitude: None gives r = 1; k gives r = min(2k / 255, 1).
        area: side of the square of positions; a = area^2 / (height * width), 1 for None.
        image_size: (height, width) in pixels.
        amplitude_share: "range" as above; "half" takes r = k / 255.

    Returns:
        Pi, 0 or more; smaller is more robust. NaN where num or amplitude is 0: nothing was
        changed, so the index is not defined.

    Raises:
        InputError: an argument is out of its range.
    """
    if not 0.0 <= wrong_rate <= 1.0:
        raise InputError(f"wrong_rate={wrong_rate!r} is not a share; give a number in 0..1.")
    cell = Cell(num, amplitude, area)
    cell.check_fits(image_size)
    height, width = image_size
    p = num / (height * width)
    r = _value_range_share(amplitude, amplitude_share)
    a = region(area, image_size).pixels / (height * width)
    changed = p * r * a
    return wrong_rate / changed if changed > 0 else math.nan


def _value_range_share(amplitude: int | None, amplitude_share: AmplitudeShare) -> float:
    if amplitude is None:
        return 1.0
    if amplitude_share == "half":
        return amplitude / 255
    if amplitude_share == "range":
        return min(2 * amplitude / 255, 1.0)
    raise InputError(
        f"pixel_index.amplitude_share={amplitude_share!r} is unknown; give 'range' (2k/255, at "
        "most 1) or 'half' (k/255)."
    )
