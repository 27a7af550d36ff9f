"""Any folder of class folders."""

from collections.abc import Mapping
from pathlib import Path

from pixelrobust.datasets.class_names import ClassNames, class_indices, read_class_names
from pixelrobust.datasets.image_list import (
    ImageList,
    check_folder,
    files_below,
    is_folder,
    is_image_file,
    list_folder,
    make_image_list,
)
from pixelrobust.errors import InputError
from pixelrobust.settings import OWN_CLASSES


def read_class_folders(
    root: Path | None,
    classes: Path | str | None = None,
    key: str = "dataset.root",
    other: Path | None = None,
) -> ImageList:
    """The images of a folder `root/<class>/…/<image>`.

    Args:
        root: the folder.
        classes: a text file with one class name a line in the order of the classifiers' outputs;
            "folders" or "own": the folders' own names, sorted; "imagenet" or None: folder names are
            WordNet ids or English names of ImageNet's classes.
        key: of the config, that gave the root.
        other: where the folders' own names are the classes, another such folder whose names count
            too, so that a class is the same number in both splits of a data set.

    Raises:
        InputError: no such folder, one that cannot be read, no images in it, or a class is unknown.
    """
    root = check_folder(root, key, "/data/images")
    files = _image_files(root)
    if not files:
        raise InputError(
            f"{key}={root} holds no images in class folders; "
            "it must look like root/<class>/<image>.jpg."
        )
    names = _names(files, other) if classes in OWN_CLASSES else []
    indices = class_indices(list(files), _class_names(names, classes))
    paths = [path for members in files.values() for path in members]
    labels = [indices[name] for name, members in files.items() for _ in members]
    return make_image_list(root, paths, labels)


def folder_names(
    root: Path | None, other: Path | None = None, key: str = "dataset.root"
) -> list[str]:
    """The names of all class folders that hold images, sorted; args and errors as above."""
    return _names(_image_files(check_folder(root, key, "/data/images")), other)


def _names(files: Mapping[str, list[Path]], other: Path | None) -> list[str]:
    others = _image_files(other) if other is not None and is_folder(other) else {}
    return sorted({*files, *others})


def _image_files(root: Path) -> dict[str, list[Path]]:
    """The images of every class folder that has some, by its name."""
    files = {
        folder.name: sorted(path for path in files_below(folder) if is_image_file(path, root))
        for folder in list_folder(root)
        if folder.is_dir() and not folder.name.startswith(".")
    }
    return {name: paths for name, paths in files.items() if paths}


def _class_names(folders: list[str], classes: Path | str | None) -> ClassNames | None:
    if classes in OWN_CLASSES:
        return tuple((name,) for name in folders)
    return read_class_names(classes) if isinstance(classes, Path) else None
