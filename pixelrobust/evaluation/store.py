"""What networks answer when they are shown changed images."""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from pixelrobust.files import remove_leftovers, write_bytes
from pixelrobust.perturbation.grid import Cell

UNKNOWN = -2
"""Stands among classes where there is no answer yet."""


class Answers(NamedTuple):
    """What a network takes changed images for; both of one shape.

    Attributes:
        classes: int64; -1 where logits are not finite.
        margins: float32, how far the true class's logit lies above the largest other one; negative
            where the image is misclassified.
    """

    classes: NDArray[np.int64]
    margins: NDArray[np.float32]


# Results kept on disk while they are found, so that nothing is computed twice. They lie in parts,
# Parquet files that have the SHA-256 of their contents in their names: a part is whole or not
# there, and damage shows.

_SUFFIX = ".parquet"
# What other processes are still writing has a dot in front.
_PARTS = f"[!.]*{_SUFFIX}"


class AnswerStore:
    """The answers of one network for one list of images, in a folder for each cell.

    Args:
        directory: its folder; what it is called must stand for all that determines an answer.
        say: told in a sentence what a user should know.
        images: which positions of the list count here, as 0, 1, …
    """

    def __init__(self, directory: Path, say: Callable[[str], None], images: range) -> None:
        self._directory = directory
        self._say = say
        self._images = images

    def shard(self, part: slice) -> "AnswerStore":
        """The same for some images that follow each other; other processes have the others."""
        return AnswerStore(self._directory, self._say, self._images[part])

    def load(self, cell: Cell, draws: int) -> Answers:
        """What is known, (N, draws) each; classes are UNKNOWN where nothing is.

        A damaged part is reported and removed, so that its answers are computed again.
        """
        first, count = self._images.start, len(self._images)
        classes = np.full((count, draws), UNKNOWN, dtype=np.int64)
        margins = np.full((count, draws), np.nan, dtype=np.float32)
        for path in sorted(self._folder(cell).glob(_PARTS)):
            part = _read(path, path.stem, self._say)
            if part is None:
                continue
            wanted = part["image"].between(first, first + count - 1) & (part["draw"] < draws)
            image, draw = (part.loc[wanted, column] for column in ("image", "draw"))
            classes[image - first, draw] = part.loc[wanted, "class"]
            margins[image - first, draw] = part.loc[wanted, "margin"]
        return Answers(classes, margins)

    def keep(
        self, cell: Cell, image: NDArray[np.int64], draw: NDArray[np.int64], answers: Answers
    ) -> None:
        """Write the answers for P (image, draw) pairs as one part.

        Raises:
            InputError: it cannot be written.
        """
        part = pd.DataFrame(
            {
                "image": (image + self._images.start).astype(np.int32),
                "draw": draw.astype(np.int32),
                "class": answers.classes.astype(np.int32),
                "margin": answers.margins,
            }
        )
        content = _as_bytes(part)
        write_bytes(self._folder(cell) / f"{_digest(content)}{_SUFFIX}", content)

    def count(self, cell: Cell) -> int:
        """How many answers there are, of all images and draws."""
        parts = self._folder(cell).glob(_PARTS)
        return sum(pq.read_metadata(path).num_rows for path in parts)

    def forget(self, cells: Sequence[Cell]) -> None:
        """Remove what is known of some cells."""
        for cell in cells:
            for path in self._folder(cell).glob(_PARTS):
                path.unlink(missing_ok=True)

    def claims(self, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
        """The cells in groups, each of which no other run works on until the next is asked for.

        First come all that are free; those that another run works on are waited for, one by one.
        """
        with ExitStack() as held:
            free = [cell for cell in cells if self._acquire(cell, held, wait=False)]
            if free:
                yield free
        for cell in cells:
            if cell not in free:
                self._say(f"waiting for another run that evaluates {cell_name(cell)} too")
                with ExitStack() as held:
                    self._acquire(cell, held, wait=True)
                    yield [cell]

    def _acquire(self, cell: Cell, held: ExitStack, wait: bool) -> bool:
        folder = self._folder(cell)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{self._images.start}-{self._images.stop}.lock")
        try:
            held.enter_context(lock.acquire(timeout=-1 if wait else 0))
        except Timeout:
            return False
        # What a run that was killed left.
        remove_leftovers(folder)
        return True

    def _folder(self, cell: Cell) -> Path:
        return self._directory / cell_name(cell)


Keep = Callable[[str, Callable[[], pd.DataFrame]], pd.DataFrame]
"""From a name and what computes rows to the rows: those kept under this name, where there are any."""


def compute_anew(name: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Keeps nothing."""
    return compute()


class RowStore:
    """Rows that belong to one run, in parts that have names.

    Args:
        directory: the run's folder.
        say: told in a sentence what a user should know.
    """

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._say = say

    def forget(self) -> None:
        """Remove what is there."""
        for path in self._directory.glob(_PARTS):
            path.unlink(missing_ok=True)

    def rows(self, name: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The part of this name, computed only where it is not there yet.

        Raises:
            InputError: it cannot be written.
        """
        stem = hashlib.sha256(name.encode()).hexdigest()[:16]
        self._directory.mkdir(parents=True, exist_ok=True)
        with FileLock(self._directory / f"{stem}.lock"):
            remove_leftovers(self._directory)
            for path in self._directory.glob(f"{stem}-*{_SUFFIX}"):
                found = _read(path, path.stem.partition("-")[2], self._say)
                if found is not None:
                    return found
            made = compute()
            content = _as_bytes(made)
            write_bytes(self._directory / f"{stem}-{_digest(content)}{_SUFFIX}", content)
            return made


def cell_name(cell: Cell) -> str:
    """What the folder of a cell is called, such as n64-rfull-p220."""
    amplitude = "full" if cell.amplitude is None else cell.amplitude
    area = "whole" if cell.area is None else cell.area
    return f"n{cell.num}-r{amplitude}-p{area}"


def _as_bytes(rows: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    rows.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def _read(path: Path, digest: str, say: Callable[[str], None]) -> pd.DataFrame | None:
    """A part, if its contents have this digest; else it is reported and removed."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        # Another process found it damaged first.
        return None
    if _digest(content) == digest:
        return pd.read_parquet(io.BytesIO(content))
    say(f"{path} is damaged; what was in it is computed again")
    path.unlink(missing_ok=True)
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
