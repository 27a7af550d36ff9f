"""Results that are kept on disk while they are found, so that nothing is computed twice.

They lie in parts, Parquet files that have the SHA-256 of their contents in their names: a part is
whole or not there, and damage shows.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from pixelrobust.files import remove_leftovers, write_bytes
from pixelrobust.perturbation.grid import Cell

if TYPE_CHECKING:
    # Who only counts what is there, needs no torch.
    from pixelrobust.evaluation.forward import PredictedChange

UNKNOWN = -2
"""Stands among classes where there is no prediction yet."""

_SUFFIX = ".parquet"
# What other processes are still writing has a dot in front.
_PARTS = f"[!.]*{_SUFFIX}"


class Known(NamedTuple):
    """Hold what is known of a network's predictions in a cell, filled in place.

    Attributes:
        classes: (N, draws) int64; UNKNOWN where there is no prediction yet, -1 where logits are not finite.
        gaps: (N, draws) float32, how far the largest logit lies above the next.
    """

    classes: NDArray[np.int64]
    gaps: NDArray[np.float32]

    @classmethod
    def nothing(cls, images: int, draws: int) -> "Known":
        """Return a table without predictions."""
        shape = images, draws
        return cls(np.full(shape, UNKNOWN, np.int64), np.full(shape, np.nan, np.float32))


class PredictionStore:
    """The predictions of one network for one list of images, in a folder for each cell.

    Args:
        directory: the store's folder, whose name must stand for all that determines a prediction.
        say: told in a sentence what a user should know.
        images: the positions of the list that count here, as 0, 1, …
        inner: a folder in each cell's folder, for predictions of another kind.
    """

    def __init__(
        self, directory: Path, say: Callable[[str], None], images: range, inner: str = ""
    ) -> None:
        self._directory = directory
        self._say = say
        self._images = images
        self._inner = inner

    def shard(self, part: slice) -> "PredictionStore":
        """Return the store of some images that follow each other; other processes have the others."""
        return PredictionStore(self._directory, self._say, self._images[part], self._inner)

    def within(self, inner: str) -> "PredictionStore":
        """Return the store of predictions of another kind, under the same locks."""
        return PredictionStore(self._directory, self._say, self._images, inner)

    def load(self, cell: Cell, draws: int) -> Known:
        """Return what is known of N images and their first draws.

        A damaged part is reported and removed, so that its predictions are computed again.
        """
        first, count = self._images.start, len(self._images)
        found = Known.nothing(count, draws)
        for path in sorted(self._folder(cell).glob(_PARTS)):
            part = _read(path, path.stem, self._say)
            if part is not None:
                own = part["image"].between(first, first + count - 1) & (part["draw"] < draws)
                image, draw, known = (part.loc[own, key] for key in ("image", "draw", "class"))
                found.classes[image - first, draw] = known
                # Parts from before there were gaps are of runs that need none.
                if "gap" in part:
                    found.gaps[image - first, draw] = part.loc[own, "gap"]
        return found

    def keep(
        self,
        cell: Cell,
        image: NDArray[np.int64],
        draw: NDArray[np.int64],
        found: "PredictedChange",
    ) -> None:
        """Write the predictions for P (image, draw) pairs as one part.

        Raises:
            InputError: it cannot be written.
        """
        part = pd.DataFrame(
            {
                "image": (image + self._images.start).astype(np.int32),
                "draw": draw.astype(np.int32),
                "class": found.classes.astype(np.int32),
                "margin": found.margins,
                "gap": found.gaps,
            }
        )
        _write(self._folder(cell), "", part)

    def count(self, cell: Cell) -> int:
        """Count the predictions of a cell, of all images and draws."""
        parts = self._folder(cell).glob(_PARTS)
        return sum(pq.read_metadata(path).num_rows for path in parts)

    def forget(self, cells: Sequence[Cell]) -> None:
        """Remove all predictions of some cells, of all kinds."""
        for cell in cells:
            _remove_parts(self._folder(cell))

    def locked(self, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
        """Yield the cells in groups, each of them locked until the next group is asked for.

        First come all that are free; those that another run works on are waited for, one by one.
        """
        with ExitStack() as locks:
            free = [cell for cell in cells if self._lock(cell, locks, wait=False)]
            if free:
                yield free
        for cell in cells:
            if cell not in free:
                self._say(f"waiting for another run that evaluates {cell_name(cell)} too")
                with ExitStack() as locks:
                    self._lock(cell, locks, wait=True)
                    yield [cell]

    def _lock(self, cell: Cell, locks: ExitStack, wait: bool) -> bool:
        folder = self._folder(cell)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{self._images.start}-{self._images.stop}.lock")
        try:
            locks.enter_context(lock.acquire(timeout=-1 if wait else 0))
        except Timeout:
            return False
        # A run that was killed may have left some.
        for own in (folder, *filter(Path.is_dir, folder.iterdir())):
            remove_leftovers(own)
        return True

    def _folder(self, cell: Cell) -> Path:
        return self._directory / cell_name(cell) / self._inner


Keep = Callable[[str, Callable[[], pd.DataFrame]], pd.DataFrame]
"""From a name and what computes rows to the rows: those kept under this name, where there are any."""


def compute_anew(name: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Compute the rows, and keep nothing."""
    return compute()


class RowStore:
    """Rows that belong to one run, in parts that have names.

    Args:
        directory: the store's folder.
        say: told in a sentence what a user should know.
    """

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._say = say

    def forget(self) -> None:
        """Remove all rows."""
        _remove_parts(self._directory)

    def rows(
        self,
        name: str,
        compute: Callable[[], pd.DataFrame],
        tell: Callable[[pd.DataFrame | None], object] = lambda known: None,
    ) -> pd.DataFrame:
        """Return the part of this name, computed only where it is not there yet.

        Args:
            name: of the part.
            compute: makes it.
            tell: told, before anything is computed, what is there; None where nothing is.

        Raises:
            InputError: it cannot be written.
        """
        stem = hashlib.sha256(name.encode()).hexdigest()[:16]
        self._directory.mkdir(parents=True, exist_ok=True)
        with FileLock(self._directory / f"{stem}.lock"):
            remove_leftovers(self._directory)
            paths = self._directory.glob(f"{stem}-*{_SUFFIX}")
            parts = (_read(path, path.stem.partition("-")[2], self._say) for path in paths)
            known = next((part for part in parts if part is not None), None)
            tell(known)
            if known is None:
                known = compute()
                _write(self._directory, f"{stem}-", known)
            return known


def cell_name(cell: Cell) -> str:
    """Return the name of a cell's folder, such as n64-rfull-p220."""
    amplitude = "full" if cell.amplitude is None else cell.amplitude
    area = "whole" if cell.area is None else cell.area
    return f"n{cell.num}-r{amplitude}-p{area}"


def _write(folder: Path, prefix: str, rows: pd.DataFrame) -> None:
    """Write rows as a part, named by its prefix and its digest."""
    buffer = io.BytesIO()
    rows.to_parquet(buffer, index=False, compression="zstd")
    content = buffer.getvalue()
    write_bytes(folder / f"{prefix}{_digest(content)}{_SUFFIX}", content)


def _read(path: Path, digest: str, say: Callable[[str], None]) -> pd.DataFrame | None:
    """Read a part, if its contents have this digest; else it is reported and removed."""
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


def _remove_parts(folder: Path) -> None:
    for path in folder.rglob(_PARTS):
        path.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
