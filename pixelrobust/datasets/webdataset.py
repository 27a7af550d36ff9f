"""Shards in WebDataset's form: tar files in which files of the same stem are one sample.

They are read by Python's tarfile, not by the webdataset library: it hands addresses that begin with
`pipe:` to a shell, and unpickles members by their extension. Nothing is unpacked to disk, so that no
name in an archive leads anywhere.
"""

import functools
import json
import re
import tarfile
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from pixelrobust.datasets.image_list import SUFFIXES, ImageList, is_unicode
from pixelrobust.datasets.labels import Label, free_labels, other_split
from pixelrobust.datasets.shards import expand_shards
from pixelrobust.datasets.sources import EncodedImage, file_stamp
from pixelrobust.errors import InputError, first_line

_IMAGES = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)
_CLASS, _JSON = "cls", "json"
_LABEL = "label"
# The key of a sample ends at the first dot of the name, and folders belong to it.
_SAMPLE = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)", re.DOTALL)
_LARGEST_LABEL = 1 << 20
_LARGEST_IMAGE = 1 << 28
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class _Sample:
    """An image of a shard: its key, name, place, size in bytes, and label."""

    shard: Path
    key: str
    name: str
    offset: int
    size: int
    label: Label

    @property
    def place(self) -> str:
        return _place(self.shard, self.key)


@dataclass
class _Group:
    """Members of a shard under one key: names, places and sizes of images, and contents of labels."""

    images: list[tuple[str, int, int]] = field(default_factory=list)
    labels: dict[str, bytes] = field(default_factory=dict)


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
    samples = _samples(pattern, label or _LABEL, key)
    others = _samples(other, label or _LABEL, other_split(key)) if other else []
    indices = free_labels(
        [sample.label for sample in samples],
        classes,
        lambda position: f"sample {samples[position].place}",
        [sample.label for sample in others],
    )
    stamps = {shard: file_stamp(shard) for shard in {sample.shard for sample in samples}}
    keyed = sorted(zip(_keys(samples), samples, indices, strict=True), key=lambda entry: entry[0])
    sources = []
    for _, sample, _ in keyed:
        read = functools.partial(_read, sample.shard, sample.offset, sample.size)
        name, stamp = f"{sample.name} in {sample.shard}", stamps[sample.shard]
        sources.append(EncodedImage(name, stamp, sample.offset, read))
    return ImageList(
        pattern,
        tuple(name for name, _, _ in keyed),
        tuple(sources),
        np.array([index for _, _, index in keyed], dtype=np.int64),
    )


def _samples(pattern: Path, label: str, key: str) -> list[_Sample]:
    shards = expand_shards(pattern, key)
    every = [sample for shard in shards for sample in _samples_of(shard, label)]
    if not every:
        raise InputError(
            f"{key}={pattern}: the tar files hold no image; members must be called such as 0001.jpg "
            "and 0001.cls."
        )
    return every


def _samples_of(shard: Path, label: str) -> Iterator[_Sample]:
    """The samples of a shard that hold an image, in its order."""
    for key, group in _groups(shard).items():
        if len(group.images) > 1:
            names = " and ".join(repr(name) for name, _, _ in group.images[:2])
            raise InputError(
                f"sample {_place(shard, key)} has several images ({names}); a sample is to have one."
            )
        for name, offset, size in group.images:
            value = _label(group.labels, label, _place(shard, key))
            yield _Sample(shard, key, name, offset, size, value)


def _groups(shard: Path) -> dict[str, _Group]:
    try:
        with shard.open("rb") as file:
            return _read_groups(shard, file)
    except InputError:
        raise
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise InputError(
            f"{shard} cannot be read as an uncompressed tar file ({reason}); fetch or write it anew, or "
            "unpack it if it is compressed."
        ) from error


def _read_groups(shard: Path, file: IO[bytes]) -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    for name, offset, size in _members(shard):
        parts = _SAMPLE.fullmatch(name)
        extension = parts[2].lower() if parts else ""
        if not parts or extension not in (*_IMAGES, _CLASS, _JSON):
            continue
        group = groups.setdefault(parts[1], _Group())
        if extension in _IMAGES:
            group.images.append((name, offset, size))
            continue
        if extension in group.labels:
            raise InputError(f"{shard} holds {name!r} twice; write the shard anew.")
        file.seek(offset)
        group.labels[extension] = file.read(min(size, _LARGEST_LABEL))
    return groups


def _place(shard: Path, key: str) -> str:
    return f"{key!r} in {shard}"


def _members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of every plain file of an archive."""
    with tarfile.open(shard, "r:") as archive:
        while (member := archive.next()) is not None:
            # Else all of them would be kept in memory.
            archive.members = []  # type: ignore[attr-defined]
            if member.isreg() and not member.issparse():
                yield member.name.removeprefix("./"), member.offset_data, member.size
        end = archive.offset
    # For tarfile an archive ends wherever it cannot be read further.
    with shard.open("rb") as file:
        file.seek(end)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError("it ends, or is damaged, before its end mark")


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


def _label(labels: Mapping[str, bytes], name: str, place: str) -> Label:
    extension = _CLASS if _CLASS in labels else _JSON
    if extension not in labels:
        raise InputError(f"sample {place} has no label; give it a .cls or a .json.")
    try:
        text = labels[extension].decode()
        value = json.loads(text) if extension == _JSON else text.strip()
        if isinstance(value, dict):
            value = value[name]
    except KeyError as error:
        raise InputError(
            f"sample {place}: its .json has no member {name!r}; give dataset.label_column."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"sample {place}: its .{extension} cannot be read ({first_line(error)}); it is to hold a "
            "class's number or name."
        ) from error
    if not isinstance(value, int | str) or isinstance(value, bool) or value == "":
        raise InputError(f"sample {place}: its label is {value!r}; give a class's number or name.")
    return value


def _read(shard: Path, offset: int, size: int) -> bytes:
    if size > _LARGEST_IMAGE:
        raise ValueError(f"it has {size:,} bytes, more than {_LARGEST_IMAGE:,}")
    with shard.open("rb") as file:
        file.seek(offset)
        return file.read(size)
