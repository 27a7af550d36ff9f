"""The images of a benchmark: found, classified, and laid out in class folders."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixelrobust.datasets.decoded import decode
from pixelrobust.datasets.folders import read_foolbox_samples
from pixelrobust.datasets.lists import (
    ImageList,
    check_folder,
    is_image_file,
    make_image_list,
)
from pixelrobust.engine import Engine
from pixelrobust.errors import InputError
from pixelrobust.settings import PreprocessingSettings

_DECODED_AT_ONCE = 64


def find_images(folder: str | None) -> ImageList:
    """All images below a folder, at any depth; for None, those of the foolbox package.

    Their labels mean nothing.

    Raises:
        InputError: there are none.
    """
    if folder is None:
        return read_foolbox_samples()
    root = check_folder(Path(folder), "--images", "/data/imagenet/val")
    files = [path for path in root.rglob("*") if is_image_file(path, root)]
    if not files:
        raise InputError(f"--images={root} holds no images; give a folder of class folders.")
    return make_image_list(root, files, [0] * len(files))


def decode_all(paths: Sequence[Path], settings: PreprocessingSettings) -> Tensor:
    """(N, 3, H, W) uint8, of N image files."""
    return torch.from_numpy(np.stack([decode(path, settings) for path in paths]))


def predicted_classes(
    engine: Engine, paths: Sequence[Path], settings: PreprocessingSettings
) -> list[int]:
    """What a network takes each image for.

    Raises:
        InputError: its logits are not finite.
    """
    classes: list[int] = []
    for start in range(0, len(paths), _DECODED_AT_ONCE):
        images = decode_all(paths[start : start + _DECODED_AT_ONCE], settings).to(engine.device)
        classes += torch.cat(
            list(engine.predictions(torch.split(images, engine.batch_size)))
        ).tolist()
    if min(classes) < 0:
        raise InputError(
            "the network gives NaN or infinite logits for unchanged images; check its weights."
        )
    return classes


def link_images(
    paths: Sequence[Path], classes: Sequence[int], count: int, outputs: int, folder: Path
) -> tuple[Path, Path]:
    """Lay out links to images in class folders that are called by the number of the class.

    Args:
        paths: the images.
        classes: of each image.
        count: how many links; each image gets several where there are fewer images.
        outputs: how many classes there are.
        folder: where to lay them out.

    Returns:
        The root of the class folders, and a file of all classes' names, in order.
    """
    digits = len(str(outputs - 1))
    root, names = folder / "images", folder / "classes.txt"
    for position in range(count):
        path, index = paths[position % len(paths)], classes[position % len(paths)]
        link = root / f"{index:0{digits}}" / f"{position:06}{path.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.absolute())
    lines = [f"{index:0{digits}}\n" for index in range(outputs)]
    names.write_text("".join(lines), encoding="utf-8")
    return root, names
