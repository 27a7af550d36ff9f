"""How much memory a process takes, with the processes that it starts."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_PROC = Path("/proc")


class PeakMemory:
    """Watches a process and its descendants, from a thread, while the block runs.

    Anonymous resident memory counts (RssAnon): neither files that are mapped, nor memory that is
    shared by name. What forked processes still share counts once for each.

    Args:
        pid: of the process.
        interval: seconds between two looks.

    Attributes:
        peak_bytes: the largest sum seen; None where the system does not tell.
    """

    def __init__(self, pid: int, interval: float = 0.05) -> None:
        self.peak_bytes: int | None = None
        self._pid = pid
        self._interval = interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if _children_file(os.getpid(), os.getpid()).exists():
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while True:
            taken = sum(_anonymous_bytes(pid) for pid in _family(self._pid))
            self.peak_bytes = max(taken, self.peak_bytes or 0)
            if self._stopped.wait(self._interval):
                return


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    family, todo = [], [pid]
    while todo:
        parent = todo.pop()
        family.append(parent)
        # Every thread has children of its own.
        for thread in _threads(parent):
            todo += [int(child) for child in _read(_children_file(parent, thread)).split()]
    return family


def _children_file(pid: int, thread: int) -> Path:
    return _PROC / str(pid) / "task" / str(thread) / "children"


def _anonymous_bytes(pid: int) -> int:
    """0 for a process that has ended."""
    for line in _read(_PROC / str(pid) / "status").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _threads(pid: int) -> list[int]:
    """None for a process that has ended."""
    try:
        return [int(entry.name) for entry in (_PROC / str(pid) / "task").iterdir()]
    except OSError:
        return []


def _read(path: Path) -> str:
    """Nothing for a process that has ended."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
