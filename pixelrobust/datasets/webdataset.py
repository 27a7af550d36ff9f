"""Shards in WebDataset's form: tar files in which files of the same stem are one sample.

They are read by Python's tarfile, not by the webdataset library: it hands addresses that begin with
`pipe:` to a shell, and unpickles members by their extension. Nothing is unpacked to disk, so that no
name in an archive leads anywhere.
"""

import functools
import itertools
import json
import re
import tarfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pixelrobust.datasets.image_list import SUFFIXES, ImageList, is_unicode
from pixelrobust.datasets.labels import Label, free_labels
from pixelrobust.datasets.sources import EncodedImage, file_stamp
from pixelrobust.errors import InputError, first_line

_IMAGES = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)
_CLASS, _JSON = "cls", "json"
_LABEL = "label"
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")
# The key of a sample ends at the first dot of the name, and folders belong to it.
_SAMPLE = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)", re.DOTALL)
_MOST_SHARDS = 100_000
_LARGEST_LABEL = 1 << 20
_LARGEST_IMAGE = 1 << 28
_BLOCK = 512


@dataclass
class _Sample:
    """What a shard holds under one key: names and places of members."""

    shard: Path
    key: str
    images: list[tuple[str, int, int]] = field(default_factory=list)
    labels: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.key!r} in {self.shard}"


def read_webdataset(
    pattern: Path | None,
    classes: Path | str | None,
    label: str | None = None,
    key: str = "dataset.file",
    other: Path | None = None,
) -> ImageList:
    """The images of all shards, ordered by key.

    A sample holds one image (.jpg, .png, …) and its label: .cls, a number or name, or .json, a number
    or name or an object that holds one. Its key is the image's key; where shards repeat each other's
    keys, the shard's name stands before every key.

    Args:
        pattern: of file names, with {000..009}, {a,b}, * and ?.
        classes: see `pixelrobust.datasets.labels.free_labels`.
        label: of the objects in .json, which member is the label; None: "label".
        key: of the config, that gave the pattern.
        other: the pattern of another split, whose class names count too.

    Raises:
        InputError: there are no such files, or one is damaged, compressed, or in another form.
    """
    if pattern is None:
        raise InputError(
            f'{key} is not set; give tar files, for example {key}="/data/shards-{{000..009}}.tar".'
        )
    samples = _samples(pattern, key)
    values = [_label(sample, label or _LABEL) for sample in samples]
    others = [_label(sample, label or _LABEL) for sample in _samples(other, key)] if other else []
    indices = free_labels(values, classes, lambda position: samples[position].place, others)
    shards = sorted({sample.shard for sample in samples})
    stamps = {shard: file_stamp(shard) for shard in shards}
    keyed = sorted(zip(_keys(samples), samples, indices, strict=True), key=lambda entry: entry[0])
    sources = []
    for _, sample, _ in keyed:
        name, offset, size = sample.images[0]
        read = functools.partial(_read, sample.shard, offset, size, _LARGEST_IMAGE)
        sources.append(
            EncodedImage(f"{name} in {sample.shard}", stamps[sample.shard], offset, read)
        )
    return ImageList(
        pattern,
        tuple(name for name, _, _ in keyed),
        tuple(sources),
        np.array([index for _, _, index in keyed], dtype=np.int64),
    )


def expand_shards(pattern: Path, key: str = "dataset.file") -> list[Path]:
    """The files that a pattern stands for, in the order of their names.

    Raises:
        InputError: there is none, or braces are wrong.
    """
    found: set[Path] = set()
    for name in _expand_braces(str(pattern), key):
        path = Path(name)
        wild = set("*?") & set(name) and not path.exists()
        found |= set(Path(path.anchor).glob(name.removeprefix(path.anchor))) if wild else {path}
    missing = next((path for path in sorted(found) if not path.is_file()), None)
    if missing is not None or not found:
        raise InputError(
            f"{key}={pattern}: {'no file fits' if missing is None else f'{missing} is not a file'}; give "
            "the tar files as a pattern, such as /data/shards-{000..009}.tar or /data/shards-*.tar."
        )
    return sorted(found)


def _expand_braces(text: str, key: str) -> list[str]:
    parts = _BRACES.split(text)
    if any(brace in part for part in parts[::2] for brace in "{}"):
        raise InputError(
            f"{key}={text} has a brace too many; write such as shards-{{000..009}}.tar."
        )
    choices: list[list[str]] = []
    for index, part in enumerate(parts):
        bounds = _RANGE.fullmatch(part)
        if index % 2 == 0:
            choices.append([part])
        elif bounds:
            first, last, width = int(bounds[1]), int(bounds[2]), len(bounds[1])
            if last - first >= _MOST_SHARDS:
                raise InputError(
                    f"{key}={text} is more than {_MOST_SHARDS:,} files; give a smaller range."
                )
            choices.append([f"{number:0{width}}" for number in range(first, last + 1)])
        else:
            choices.append(part.split(","))
    if np.prod([len(choice) for choice in choices], dtype=float) > _MOST_SHARDS:
        raise InputError(f"{key}={text} is more than {_MOST_SHARDS:,} files; give smaller ranges.")
    return ["".join(choice) for choice in itertools.product(*choices)]


def _samples(pattern: Path, key: str) -> list[_Sample]:
    every = [sample for shard in expand_shards(pattern, key) for sample in _samples_of(shard)]
    if not every:
        raise InputError(
            f"{key}={pattern}: the tar files hold no image; members must be called such as 0001.jpg "
            "and 0001.cls."
        )
    return every


def _samples_of(shard: Path) -> list[_Sample]:
    """The samples of a shard that hold an image, in its order."""
    samples: dict[str, _Sample] = {}
    for name, offset, size in _members(shard):
        parts = _SAMPLE.fullmatch(name)
        if not parts:
            continue
        sample = samples.setdefault(parts[1], _Sample(shard, parts[1]))
        extension = parts[2].lower()
        if extension in _IMAGES:
            sample.images.append((name, offset, size))
        elif extension in (_CLASS, _JSON) and sample.labels.setdefault(
            extension, (offset, size)
        ) != (offset, size):
            raise InputError(f"{shard} holds {name!r} twice; write the shard anew.")
    found = [sample for sample in samples.values() if sample.images]
    several = next((sample for sample in found if len(sample.images) > 1), None)
    if several:
        names = " and ".join(repr(name) for name, _, _ in several.images[:2])
        raise InputError(
            f"sample {several.place} has several images ({names}); a sample is to have one."
        )
    return found


def _members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of every plain file of an archive."""
    try:
        with tarfile.open(shard, "r:") as archive:
            while (member := archive.next()) is not None:
                # Else all of them would be kept in memory.
                archive.members = []  # type: ignore[attr-defined]
                if member.isreg() and not member.issparse():
                    yield member.name.removeprefix("./"), member.offset_data, member.size
            end = archive.offset
        with shard.open("rb") as file:
            file.seek(end)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise tarfile.ReadError("it ends, or is damaged, before its end mark")
    except InputError:
        raise
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise InputError(
            f"{shard} cannot be read as an uncompressed tar file ({reason}); fetch or write it anew, or "
            "unpack it if it is compressed."
        ) from error


def _keys(samples: list[_Sample]) -> list[str]:
    alone = [unicodedata.normalize("NFC", sample.key) for sample in samples]
    if len(set(alone)) == len(alone):
        keys = alone
    else:
        keys = [f"{sample.shard.stem}/{key}" for sample, key in zip(samples, alone, strict=True)]
    seen: set[str] = set()
    for sample, key in zip(samples, keys, strict=True):
        if key in seen or not is_unicode(key):
            fault = "is there twice" if key in seen else "is not Unicode"
            raise InputError(f"sample {sample.place} {fault}; give each another name.")
        seen.add(key)
    return keys


def _label(sample: _Sample, name: str) -> Label:
    extension = _CLASS if _CLASS in sample.labels else _JSON
    if extension not in sample.labels:
        raise InputError(f"sample {sample.place} has no label; give it a .cls or a .json.")
    try:
        text = _read(sample.shard, *sample.labels[extension], _LARGEST_LABEL).decode()
        value = json.loads(text) if extension == _JSON else text.strip()
        if isinstance(value, dict):
            value = value[name]
    except KeyError as error:
        raise InputError(
            f"sample {sample.place}: its .json has no member {name!r}; give dataset.label_column."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"sample {sample.place}: its .{extension} cannot be read ({first_line(error)}); it is to "
            "hold a class's number or name."
        ) from error
    if not isinstance(value, int | str) or isinstance(value, bool) or value == "":
        raise InputError(
            f"sample {sample.place}: its label is {value!r}; give a class's number or name."
        )
    return value


def _read(shard: Path, offset: int, size: int, most: int) -> bytes:
    if size > most:
        raise ValueError(f"it has {size:,} bytes, more than {most:,}")
    with shard.open("rb") as file:
        file.seek(offset)
        return file.read(size)
