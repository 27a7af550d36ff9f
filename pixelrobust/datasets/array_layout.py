"""How images lie in an array: with their channels first, last, or without any."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixelrobust.errors import InputError

Layout = Literal["grey", "first", "last"]

_CHANNELS = (1, 3)


def find_layout(shape: tuple[int, ...], place: str) -> Layout:
    """Where the channels of N images are.

    Args:
        shape: (N, H, W), (N, C, H, W) or (N, H, W, C), with 1 or 3 channels.
        place: what sentences call the array.

    Raises:
        InputError: the shape is another, or fits two of them.
    """
    if min(shape, default=0) < 1:
        raise InputError(f"{place} has shape {shape}, in which there is no image.")
    if len(shape) == 3:
        return "grey"
    first, last = (len(shape) == 4 and shape[axis] in _CHANNELS for axis in (1, 3))
    if first and last:
        raise InputError(
            f"{place} has shape {shape}, which fits (N, C, H, W) and (N, H, W, C); give images of "
            "another size, or without the axis of length 1."
        )
    if not (first or last):
        raise InputError(
            f"{place} has shape {shape}; give (N, H, W, 3), (N, 3, H, W), or, for grey images, (N, H, W)."
        )
    return "first" if first else "last"


def as_picture(image: NDArray[np.uint8], layout: Layout) -> NDArray[np.uint8]:
    """One image as (H, W) or (H, W, 3)."""
    if layout == "grey":
        return image
    last = image.transpose(1, 2, 0) if layout == "first" else image
    return last[:, :, 0] if last.shape[2] == 1 else last
