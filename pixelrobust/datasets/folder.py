"""Any folder of class folders."""

from pathlib import Path

from pixelrobust.datasets.class_names import class_indices, read_class_names
from pixelrobust.datasets.image_list import ImageList, check_folder, is_image_file, make_image_list
from pixelrobust.errors import InputError


def read_class_folders(root: Path | None, classes: Path | None = None) -> ImageList:
    """The images of a folder `root/<class>/…/<image>`.

    Args:
        root: the folder.
        classes: a text file with one class name a line in the order of the classifiers' outputs;
            None: folder names are WordNet ids or English names of ImageNet's classes.

    Raises:
        InputError: no such folder, no images in it, or a class is unknown.
    """
    root = check_folder(root, "dataset.root", "/data/images")
    files = {
        folder.name: sorted(path for path in folder.rglob("*") if is_image_file(path, root))
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    files = {name: paths for name, paths in files.items() if paths}
    if not files:
        raise InputError(
            f"dataset.root={root} holds no images in class folders; "
            "it must look like root/<class>/<image>.jpg."
        )
    indices = class_indices(list(files), read_class_names(classes) if classes else None)
    paths = [path for members in files.values() for path in members]
    labels = [indices[name] for name, members in files.items() for _ in members]
    return make_image_list(root, paths, labels)
