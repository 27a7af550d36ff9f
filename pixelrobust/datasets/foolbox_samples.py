"""The 20 real ImageNet images that the foolbox package carries."""

import re

from pixelrobust.datasets.image_list import ImageList, make_image_list
from pixelrobust.errors import InputError
from pixelrobust.packages import how_to_install, package_folder

_NAME = re.compile(r"imagenet_\d+_(?P<label>\d+)\.jpg")


def read_foolbox_samples() -> ImageList:
    """The images, read from the installed package's files, whose names end in the ImageNet index.

    The files are read directly: foolbox's own loader squashes the image that is not square.

    Raises:
        InputError: foolbox is not installed, or carries no images.
    """
    folder = package_folder("foolbox")
    if folder is None:
        raise InputError(
            "dataset.kind=foolbox needs the images of the foolbox package, which is not installed; "
            f"{how_to_install('bundled')}."
        )
    root = folder / "data"
    named = [(path, _NAME.fullmatch(path.name)) for path in sorted(root.glob("imagenet_*.jpg"))]
    found = [(path, int(match["label"])) for path, match in named if match]
    if not found:
        raise InputError(f"the installed foolbox carries no images in {root}; reinstall foolbox.")
    return make_image_list(root, [path for path, _ in found], [label for _, label in found])
