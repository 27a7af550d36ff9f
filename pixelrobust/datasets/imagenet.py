"""The ILSVRC 2012 validation folder, in class folders or flat with a labels file."""

import re
from pathlib import Path

from pixelrobust.datasets.class_names import imagenet_wnids
from pixelrobust.datasets.folder import read_class_folders
from pixelrobust.datasets.image_list import (
    ImageList,
    check_folder,
    is_folder,
    is_image_file,
    list_folder,
    make_image_list,
)
from pixelrobust.errors import InputError

_FORM = "one image a line: its file name, then its WordNet id or its class index 0..999"
_EXAMPLE_ROOT = "/data/imagenet/val"


def read_imagenet(root: Path | None, labels: Path | None) -> ImageList:
    """The images of the validation folder.

    Args:
        root: the folder, or the data set's folder with a `val` folder in it. It holds class
            folders named by WordNet id, or the images themselves.
        labels: for the flat form, a text or CSV file with one image a line: its file name, then its
            WordNet id or class index, separated by a comma or a space. Kaggle's
            LOC_val_solution.csv has this form.

    Raises:
        InputError: the folder or labels file is missing or does not have this form.
    """
    root = check_folder(root, "dataset.root", _EXAMPLE_ROOT)
    if is_folder(root / "val"):
        root = root / "val"
    flat = [path for path in list_folder(root) if is_image_file(path, root)]
    if not flat:
        return read_class_folders(root)
    if labels is None:
        raise InputError(
            f"dataset.root={root} holds images without class folders, so their labels are unknown; "
            f"give dataset.labels, a file with {_FORM}."
        )
    known = _read_labels(labels)
    unlabelled = [path.name for path in flat if path.stem not in known]
    if unlabelled:
        raise InputError(
            f"dataset.labels={labels} has no label for {unlabelled[0]} "
            f"({len(unlabelled)} of {len(flat)} images lack one); give a file with {_FORM}."
        )
    return make_image_list(root, flat, [known[path.stem] for path in flat])


def _read_labels(path: Path) -> dict[str, int]:
    """File name without suffix to class index."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"dataset.labels={path} cannot be read ({error}); give a file with {_FORM}."
        ) from error
    labels: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        fields = re.split(r"[,\s]+", line.strip())
        if fields == [""] or fields[0] == "ImageId":
            continue
        if len(fields) == 1 and fields[0].isdigit():
            raise InputError(
                f"dataset.labels={path} holds bare numbers; the development kit's ground truth counts "
                f"classes in an order of its own. Give a file with {_FORM}."
            )
        index = _class_index(fields[1] if len(fields) > 1 else "", path, number)
        if labels.setdefault(Path(fields[0]).stem, index) != index:
            raise InputError(
                f"dataset.labels={path}, line {number}: {fields[0]} had another label before; "
                "keep the right one."
            )
    return labels


def _class_index(name: str, path: Path, line: int) -> int:
    wnids = imagenet_wnids()
    if name in wnids:
        return wnids[name]
    if name.isdecimal() and int(name) < len(wnids):
        return int(name)
    raise InputError(
        f"dataset.labels={path}, line {line}: {name!r} is neither a WordNet id of ImageNet-1k nor a "
        f"class index; give {_FORM}."
    )
