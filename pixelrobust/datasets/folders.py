"""Images in folders: class folders, ImageNet's validation folder, Imagenette, and what foolbox carries."""

import csv
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from pixelrobust.datasets.classes import (
    ClassNames,
    are_numbers,
    class_indices,
    free_labels,
    imagenet_classes,
    imagenet_wnids,
    read_class_names,
    read_lines,
)
from pixelrobust.datasets.lists import (
    ImageList,
    check_folder,
    files_below,
    is_folder,
    is_image_file,
    list_folder,
    make_image_list,
)
from pixelrobust.errors import InputError, some
from pixelrobust.files import how_to_install, package_folder
from pixelrobust.settings import OWN_CLASSES, DatasetSettings

_FORM = "one image a line: its file name, then its WordNet id or its class index 0..999"
_FOOLBOX_NAME = re.compile(r"imagenet_\d+_(?P<label>\d+)\.jpg")
_IMAGENETTE = "imagenette2"
_OF_IMAGENET = ("foolbox", "imagenet", "imagenette", "imagefolder")


def read_class_folders(
    root: Path | None,
    classes: Path | str | None = None,
    key: str = "dataset.root",
    other: Path | None = None,
) -> ImageList:
    """List the images of a folder `root/<class>/…/<image>`.

    Args:
        root: the folder.
        classes: a text file with one class name a line in the order of the classifiers' outputs;
            "folders" or "own": the folders' own names, sorted; "imagenet" or None: folder names are
            WordNet ids or English names of ImageNet's classes. Where all are whole numbers, they are
            indices of outputs, unless they are names in the file, or the data set's own.
        key: of the config, that gave the root.
        other: where the folders' own names are the classes, another such folder whose names count
            too, so that a class is the same number in both splits of a data set.

    Raises:
        InputError: no such folder, one that cannot be read, no images in it, or a class is unknown.
    """
    root = check_folder(root, key, "/data/images")
    files, left_out = _class_files(root)
    if not files:
        others = [path.relative_to(root).as_posix() for path in left_out]
        found = f" (but other files: {some(map(repr, others))})" if others else ""
        raise InputError(
            f"{key}={root} holds no images in class folders{found}; "
            "it must look like root/<class>/<image>.jpg."
        )
    folders = list(files)
    if classes in OWN_CLASSES:
        indices = class_indices(folders, _folder_names(files, other))
    else:
        found_labels = free_labels(
            folders,
            classes,
            lambda position: f"{key}={root}: class folder {folders[position]!r}",
            what="class folder",
        )
        indices = dict(zip(folders, found_labels, strict=True))
    paths = [path for members in files.values() for path in members]
    labels = [indices[name] for name, members in files.items() for _ in members]
    return make_image_list(root, paths, labels, left_out)


def class_names_of(settings: DatasetSettings) -> ClassNames | None:
    """Return the names of the class of each label of a data set; None where they are not known.

    Raises:
        InputError: the file or folder that names them cannot be read.
    """
    if settings.has_own_classes:
        if settings.kind != "imagefolder":
            return None
        return _folder_names(_files_of(settings), settings.train_root)
    if isinstance(settings.classes, Path):
        return read_class_names(settings.classes)
    if settings.classes is None and settings.kind not in _OF_IMAGENET:
        return None
    is_plain = settings.classes is None and settings.kind == "imagefolder"
    if is_plain and are_numbers(list(_files_of(settings))):
        # Such folders are called by outputs, whatever these mean.
        return None
    return imagenet_classes()


def _class_files(root: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Find the images of every class folder that has some, by its name; and all other files."""
    files: dict[str, list[Path]] = {}
    others = []
    for path in files_below(root):
        folder, *below = path.relative_to(root).parts
        if below and is_image_file(path):
            files.setdefault(folder, []).append(path)
        else:
            others.append(path)
    return files, others


def _files_of(settings: DatasetSettings) -> dict[str, list[Path]]:
    """Return the images in each class folder of a data set of such folders."""
    return _class_files(check_folder(settings.root, "dataset.root", "/data/images"))[0]


def _folder_names(files: Mapping[str, list[Path]], other: Path | None) -> ClassNames:
    """Return the class folders' own names, and those of another root's folders, sorted."""
    others = _class_files(other)[0] if other is not None and is_folder(other) else {}
    return tuple((name,) for name in sorted({*files, *others}))


def read_imagenet(root: Path | None, labels: Path | None) -> ImageList:
    """List the images of the ILSVRC 2012 validation folder.

    Args:
        root: the folder, or the data set's folder with a `val` folder in it. It holds class
            folders named by WordNet id, or the images themselves.
        labels: for the flat form, a text or CSV file with one image a line: its file name, then its
            WordNet id or class index, separated by a comma or a space. Kaggle's
            LOC_val_solution.csv has this form.

    Raises:
        InputError: the folder or labels file is missing or does not have this form.
    """
    root = check_folder(root, "dataset.root", "/data/imagenet/val")
    if is_folder(root / "val"):
        root = root / "val"
    flat = [path for path in list_folder(root) if is_image_file(path)]
    if not flat or (labels is None and _class_files(root)[0]):
        return read_class_folders(root)
    if labels is None:
        raise InputError(
            f"dataset.root={root} holds images without class folders, so their labels are unknown; "
            f"give dataset.labels, a file with {_FORM}."
        )
    known = _read_labels(labels, {path.stem for path in flat})
    unlabelled = [path.name for path in flat if path.stem not in known]
    if unlabelled:
        raise InputError(
            f"dataset.labels={labels} has no label for {unlabelled[0]} "
            f"({len(unlabelled)} of {len(flat)} images lack one); give a file with {_FORM}."
        )
    others = sorted(set(files_below(root)) - set(flat))
    return make_image_list(root, flat, [known[path.stem] for path in flat], others)


def _read_labels(path: Path, stems: Collection[str]) -> dict[str, int]:
    """Read the class index of each file name without its suffix; a header names none of the files."""
    labels: dict[str, int] = {}
    lines = read_lines(path, "dataset.labels", f"a file with {_FORM}")
    rows = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    for number, line in rows:
        fields = _fields(line)
        is_first, names_a_file = number == rows[0][0], Path(fields[0]).stem in stems
        if is_first and not names_a_file and _find_class("".join(fields[1:2])) is None:
            continue
        if len(fields) == 1 and fields[0].isdigit():
            raise InputError(
                f"dataset.labels={path} holds bare numbers; the development kit's ground truth counts "
                f"classes in an order of its own. Give a file with {_FORM}."
            )
        index = _class_index(fields[1] if len(fields) > 1 else "", f"{path}, line {number}")
        if labels.setdefault(Path(fields[0]).stem, index) != index:
            raise InputError(
                f"dataset.labels={path}, line {number}: {fields[0]} had another label before; "
                "keep the right one."
            )
    return labels


def _fields(line: str) -> list[str]:
    """Split a line of a labels file: at commas, where there are some, and else at blanks."""
    if "," not in line:
        return line.split()
    try:
        name, *others = next(csv.reader([line], skipinitialspace=True))
    except csv.Error:  # A field that is too long is nobody's name.
        return [line]
    return [name.strip(), *" ".join(others).split()]


def _find_class(name: str) -> int | None:
    """Return the class index that a WordNet id or an index means; None where it is neither."""
    wnids = imagenet_wnids()
    if name.isdecimal() and int(name) < len(wnids):
        return int(name)
    return wnids.get(name)


def _class_index(name: str, place: str) -> int:
    found = _find_class(name)
    if found is not None:
        return found
    raise InputError(
        f"dataset.labels={place}: {name!r} is neither a WordNet id of ImageNet-1k nor a "
        f"class index; give {_FORM}."
    )


def read_imagenette(root: Path | None, cache: Path, split: str = "val") -> ImageList:
    """List Imagenette's images, labelled with ImageNet's indices by their WordNet ids.

    Args:
        root: a folder that holds, or will hold, `imagenette2`; None: below the cache folder.
        cache: the cache folder.
        split: val or train; a download brings both.

    Raises:
        InputError: the images are not there and cannot be downloaded.
    """
    root = root or cache / "imagenette"
    if not (root / _IMAGENETTE / split).is_dir():
        # Imported late, since it brings torch, which other data sets are listed without.
        from torchvision.datasets import Imagenette

        try:
            root.mkdir(parents=True, exist_ok=True)
            Imagenette(root, split="val", size="full", download=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"Imagenette could not be downloaded ({error}); connect to the network, or unpack "
                f"imagenette2.tgz by hand and give dataset.root, the folder that holds {_IMAGENETTE}."
            ) from error
    return read_class_folders(root / _IMAGENETTE / split)


def read_foolbox_samples() -> ImageList:
    """List the 20 ImageNet images of the foolbox package, whose file names end in the label.

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
    named = [(path, _FOOLBOX_NAME.fullmatch(path.name)) for path in root.glob("imagenet_*.jpg")]
    found = [(path, int(match["label"])) for path, match in named if match]
    if not found:
        raise InputError(f"the installed foolbox carries no images in {root}; reinstall foolbox.")
    return make_image_list(root, [path for path, _ in found], [label for _, label in found])
