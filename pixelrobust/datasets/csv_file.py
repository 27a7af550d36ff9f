"""A CSV file with the path and the label of an image a line."""

import re
import unicodedata
from pathlib import Path, PurePosixPath

import pandas as pd

from pixelrobust.datasets.image_list import ImageList, check_folder, make_image_list
from pixelrobust.datasets.labels import free_labels
from pixelrobust.errors import InputError, first_line

Columns = tuple[str | None, str | None]
"""The names of the columns of paths and labels; None: "path" and "label"."""

_DRIVE = re.compile(r"[A-Za-z]:")


def read_csv(
    file: Path | None,
    root: Path | None,
    classes: Path | str | None,
    columns: Columns = (None, None),
    key: str = "dataset.file",
    other: Path | None = None,
) -> ImageList:
    """List the images that a CSV file names.

    Args:
        file: UTF-8, separated by commas, with a header.
        root: the folder that paths are relative to; None: the file's own.
        classes: see `pixelrobust.datasets.labels.free_labels`.
        columns: of paths and of labels.
        key: of the config, that gave the file.
        other: the file of the other split, whose class names count too.

    Raises:
        InputError: the file is missing or does not have this form, or a path leads out of root.
    """
    if file is None:
        raise InputError(f"{key} is not set; give a file, for example {key}=/data/labels.csv.")
    rows = _read_rows(file, columns, key)
    root = check_folder(file.parent if root is None else root, "dataset.root", "/data/images")
    other_key = "dataset.file" if key == "dataset.train_file" else "dataset.train_file"
    labels = free_labels(
        rows["label"].tolist(),
        classes,
        lambda position: f"{key}={file}, line {rows.index[position]},",
        _read_rows(other, columns, other_key)["label"].tolist() if other else [],
    )
    return make_image_list(root, [root / path for path in rows["path"]], labels)


def _read_rows(file: Path, columns: Columns, key: str) -> pd.DataFrame:
    """Read the paths and labels of a file, indexed by its lines."""
    lines = _read_lines(file, key)
    place = f"{key}={file}"
    paths, labels = _positions([name.strip() for name in lines.iloc[0]], columns, place)
    rows = lines.iloc[1:]
    rows = rows[(rows != "").any(axis=1)]
    if rows.empty:
        raise InputError(f"{place} names no image; give one a line below the header.")
    found = pd.DataFrame({"path": rows[paths], "label": rows[labels].str.strip()})
    seen: dict[str, int] = {}
    for line, path, label in found.itertuples():
        _check_path(path, f"{place}, line {line}")
        if not label:
            raise InputError(
                f"{place}, line {line} has no label; give the name of a class, or an index."
            )
        name = unicodedata.normalize("NFC", PurePosixPath(path).as_posix())
        if seen.setdefault(name, line) != line:
            raise InputError(
                f"{place}, line {line}: {name!r} stands in line {seen[name]} already; keep one."
            )
    return found


def _read_lines(file: Path, key: str) -> pd.DataFrame:
    """Read every field as text, indexed by line from 1 on; lines of too many fields are refused."""
    try:
        # Opened here, so that pandas takes the name for no address and unpacks nothing.
        with file.open(encoding="utf-8-sig", newline="") as opened:
            lines = pd.read_csv(
                opened, header=None, dtype=str, keep_default_na=False, skip_blank_lines=False
            )
    # Pandas' errors of files that are no CSV, and those of Unicode, are ValueErrors.
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise InputError(
            f"{key}={file} cannot be read ({reason}); give a CSV file in UTF-8 with a header, and fields "
            "that hold commas in quotes."
        ) from error
    lines.index += 1
    return lines.fillna("")


def _positions(header: list[str], columns: Columns, place: str) -> tuple[int, int]:
    """Find the columns of paths and of labels."""
    found = []
    options = (("path", "dataset.image_column"), ("label", "dataset.label_column"))
    for (usual, option), column in zip(options, columns, strict=True):
        wanted = column or usual
        if header.count(wanted) != 1:
            fault = "lacks the column" if wanted not in header else "has more than one column"
            raise InputError(
                f"{place} {fault} {wanted!r} (its first line is {','.join(header)!r}); begin it with a "
                f"header such as path,label, or give {option}."
            )
        found.append(header.index(wanted))
    return found[0], found[1]


def _check_path(text: str, place: str) -> None:
    """Raise InputError unless a path stays below the root."""
    path = PurePosixPath(text)
    if "\\" in text:
        raise InputError(f"{place}: the path {text!r} has backslashes; write slashes.")
    if "\0" in text or not path.parts:
        raise InputError(f"{place}: {text!r} is not a path; give that of an image.")
    if path.is_absolute() or ".." in path.parts or _DRIVE.match(text):
        raise InputError(
            f"{place}: the path {text!r} leads out of the folder that paths are relative to; write it "
            "relative to dataset.root (null: the file's own folder), without '..'."
        )
