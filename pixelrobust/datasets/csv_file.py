"""A CSV file with the path and the label of an image a line."""

import csv
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pixelrobust.datasets.image_list import ImageList, check_folder, make_image_list
from pixelrobust.datasets.labels import free_labels, other_split
from pixelrobust.errors import InputError, first_line

_PATH, _LABEL = "path", "label"
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class _Row:
    line: int
    path: PurePosixPath
    label: str


def read_csv(
    file: Path | None,
    root: Path | None,
    classes: Path | str | None,
    columns: tuple[str | None, str | None] = (None, None),
    key: str = "dataset.file",
    other: Path | None = None,
) -> ImageList:
    """The images that a CSV file names; the file as written is not read before they are decoded.

    Args:
        file: UTF-8, separated by commas, with a header.
        root: the folder that paths are relative to; None: the file's own.
        classes: see `pixelrobust.datasets.labels.free_labels`.
        columns: of paths and of labels; None: "path" and "label".
        key: of the config, that gave the file.
        other: the file of another split, whose class names count too.

    Raises:
        InputError: the file is missing or does not have this form, or a path leads out of root.
    """
    if file is None:
        raise InputError(f"{key} is not set; give a file, for example {key}=/data/labels.csv.")
    rows = _read_rows(file, columns, key)
    root = check_folder(file.parent if root is None else root, "dataset.root", "/data/images")
    others = _read_rows(other, columns, other_split(key)) if other else []
    labels = free_labels(
        [row.label for row in rows],
        classes,
        lambda position: f"{key}={file}, line {rows[position].line},",
        [row.label for row in others],
    )
    return make_image_list(root, [root / row.path for row in rows], labels)


def _read_rows(file: Path, columns: tuple[str | None, str | None], key: str) -> list[_Row]:
    seen: dict[str, int] = {}
    found = []
    for row in _parse(file, columns, key):
        name = unicodedata.normalize("NFC", row.path.as_posix())
        if name in seen:
            raise InputError(
                f"{key}={file}, line {row.line}: {name!r} stands in line {seen[name]} already; keep one."
            )
        seen[name] = row.line
        found.append(row)
    if not found:
        raise InputError(f"{key}={file} names no image; give one a line below the header.")
    return found


def _parse(file: Path, columns: tuple[str | None, str | None], key: str) -> Iterator[_Row]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, strict=True)
            header = [name.strip() for name in next(reader, [])]
            path, label = _positions(header, columns, f"{key}={file}")
            for fields in reader:
                place = f"{key}={file}, line {reader.line_num}"
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise InputError(
                        f"{place} has {len(fields)} fields where the header has {len(header)}; put a field "
                        "that holds commas in quotes."
                    )
                yield _Row(
                    reader.line_num,
                    _relative(fields[path], place),
                    _filled(fields[label].strip(), place),
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise InputError(
            f"{key}={file} cannot be read ({reason}); give a CSV file in UTF-8 with a header."
        ) from error


def _positions(
    header: list[str], columns: tuple[str | None, str | None], place: str
) -> tuple[int, int]:
    found = []
    for name, column in zip((_PATH, _LABEL), columns, strict=True):
        wanted = column or name
        if header.count(wanted) != 1:
            fault = "lacks the column" if wanted not in header else "has more than one column"
            option = "dataset.image_column" if name == _PATH else "dataset.label_column"
            raise InputError(
                f"{place} {fault} {wanted!r} (its first line is {','.join(header)!r}); begin it with a "
                f"header such as path,label, or give {option}."
            )
        found.append(header.index(wanted))
    return found[0], found[1]


def _relative(text: str, place: str) -> PurePosixPath:
    """A path below the root."""
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
    return path


def _filled(label: str, place: str) -> str:
    if not label:
        raise InputError(f"{place} has no label; give the name of a class, or an index.")
    return label
