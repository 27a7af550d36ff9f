"""Images of any torch data set, or other source of images with labels, for `evaluate`."""

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pixelrobust.datasets.decoded import crop_centre
from pixelrobust.datasets.lists import as_keys
from pixelrobust.errors import InputError
from pixelrobust.perturbation.grid import as_plain
from pixelrobust.perturbation.pixels import check_images
from pixelrobust.settings import PreprocessingSettings, preprocessing_settings

_CHANNELS = (1, 3)


class Collected(NamedTuple):
    """Images as `pixelrobust.evaluate` takes them.

    Attributes:
        images: (N, C, H, W), uint8, or floating point where they were tensors of that kind.
        labels: (N,) int64.
        keys: N names.
    """

    images: Tensor
    labels: NDArray[np.int64]
    keys: list[str]


def collect(
    items: Any,
    *,
    keys: Sequence[str] | None = None,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: str = "bilinear",
) -> Collected:
    """Collect all images of a torch `Dataset`, or of any iterable of pairs (image, label), in memory.

    Args:
        items: an image is a PIL image; an array, uint8 (H, W, 3), (3, H, W) or (H, W); or a tensor
            (C, H, W), uint8 or floating point in [0, 1]. A label is an integer, also of NumPy or torch.
        keys: N names, which an image's changes hang on; by default "0", "1", ….
        resize: short side of PIL images and arrays, in pixels; None: they stay as they are.
        crop: side of their central crop.
        interpolation: bilinear, bicubic or nearest.

    Raises:
        InputError: an item is no such pair, sizes differ, or an argument is wrong.
    """
    settings = None
    if resize is not None or crop is not None:
        settings = preprocessing_settings(resize=resize, crop=crop, interpolation=interpolation)
    images, labels = [], []
    for position, item in enumerate(_iterate(items)):
        image, label = _pair(item, position)
        images.append(_as_tensor(image, settings, position))
        labels.append(_as_label(label, position))
        if (images[-1].shape, images[-1].dtype) != (images[0].shape, images[0].dtype):
            raise InputError(
                f"item {position} is {_shown(images[-1])}, but item 0 {_shown(images[0])}; give resize and "
                "crop, or images of one kind and size."
            )
    if not images:
        raise InputError("there is no item; give at least one image with its label.")
    names = as_keys(keys, len(images))
    if len(names) != len(images):
        raise InputError(f"{len(images)} images came with {len(names)} keys; give one for each.")
    stacked = torch.stack(images)
    check_images(stacked)
    return Collected(stacked, np.array(labels, dtype=np.int64), names)


def _iterate(items: Any) -> Iterator[Any]:
    """Go through the items once; torch's data sets need not end an iteration over them."""
    if hasattr(items, "__getitem__") and hasattr(items, "__len__"):
        return (items[index] for index in range(len(items)))
    if isinstance(items, Iterable):
        return iter(items)
    raise InputError(
        f"items of type {type(items).__name__} cannot be gone through; give a torch Dataset, or pairs (image, label)."
    )


def _pair(item: Any, position: int) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise InputError(
            f"item {position} is of type {type(item).__name__}; give pairs (image, label)."
        )
    return item[0], item[1]


def _as_tensor(image: Any, settings: PreprocessingSettings | None, position: int) -> Tensor:
    if isinstance(image, Tensor):
        if image.ndim != 3:
            raise InputError(
                f"item {position} holds a tensor of shape {tuple(image.shape)}; give one image, (C, H, W), "
                "at a time: the data set itself, not a DataLoader."
            )
        if settings is not None:
            raise InputError(
                f"item {position} is a tensor, and tensors are taken as they are; leave out resize and crop."
            )
        return image.detach().cpu()
    try:
        opened = _as_image(image, position)
        if settings is not None:
            return torch.from_numpy(crop_centre(opened, settings))
        return torch.from_numpy(np.array(opened.convert("RGB")).transpose(2, 0, 1).copy())
    except InputError:
        raise
    # Files that PIL opens only now may be damaged in any way.
    except Exception as error:
        raise InputError(f"item {position} cannot be used as an image ({error}).") from error


def _as_image(image: Any, position: int) -> Image.Image:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise InputError(
                f"item {position} is an array of {image.dtype}, whose range is not stated; give uint8."
            )
        return Image.fromarray(np.ascontiguousarray(_channels_last(image, position)))
    if not isinstance(image, Image.Image):
        raise InputError(
            f"item {position} holds an image of type {type(image).__name__}; give a PIL image, a tensor or an array."
        )
    if image.mode.startswith(("I", "F")):
        raise InputError(
            f"item {position} has values of more than 8 bits, and no stated range; convert it to 8 bits."
        )
    return image


def _channels_last(image: NDArray[np.uint8], position: int) -> NDArray[np.uint8]:
    """Return an array, whose channels may be first, last or missing, as (H, W) or (H, W, 3)."""
    shape = image.shape
    if min(shape, default=0) < 1:
        raise InputError(
            f"item {position} is an array of shape {shape}, in which there is no image."
        )
    if len(shape) == 2:
        return image
    first, last = (len(shape) == 3 and shape[axis] in _CHANNELS for axis in (0, 2))
    if first and last:
        raise InputError(
            f"item {position} is an array of shape {shape}, which fits (C, H, W) and (H, W, C); give "
            "images of another size, or without the axis of length 1."
        )
    if not (first or last):
        raise InputError(
            f"item {position} is an array of shape {shape}; give (H, W, 3), (3, H, W), or, for a grey "
            "image, (H, W)."
        )
    image = image.transpose(1, 2, 0) if first else image
    return image[:, :, 0] if image.shape[2] == 1 else image


def _as_label(label: Any, position: int) -> int:
    try:
        value = operator.index(as_plain(label))
    except TypeError as error:
        raise InputError(
            f"item {position} has label {label!r}; give the index of an output, a whole number."
        ) from error
    if value < 0:
        raise InputError(f"item {position} has label {value}; give 0 or more.")
    return value


def _shown(image: Tensor) -> str:
    return f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
