"""Processes, timed from start to end, their memory watched."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO

from experiments.exits import EXIT_INPUT, REPOSITORY
from pixelrobust.errors import InputError
from scripts.benchmarking.memory import PeakMemory


@dataclass(frozen=True)
class Ended:
    """What became of a process.

    Attributes:
        printed: to its standard output.
        seconds: from its start to its end.
        peak_bytes: see `PeakMemory`.
    """

    printed: str
    seconds: float
    peak_bytes: int | None


def run_module(module: str, *arguments: str) -> Ended:
    """Run a module of the repository by this Python, in a process of its own.

    Raises:
        InputError: it failed. What it printed stands on standard error then, unless it was one
            sentence that says what is wrong.
    """
    command = [sys.executable, "-m", module, *arguments]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        # A session of its own, so that its workers can be ended together with it.
        process = subprocess.Popen(
            command, stdout=output, stderr=errors, cwd=REPOSITORY, start_new_session=True
        )
        try:
            with PeakMemory(process.pid) as memory:
                code = process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        seconds = time.perf_counter() - start
        if code:
            raise InputError(_failure(module, code, _text(errors)))
        return Ended(_text(output), seconds, memory.peak_bytes)


def _failure(module: str, code: int, errors: str) -> str:
    if code == EXIT_INPUT and errors.startswith("error: "):
        return errors.removeprefix("error: ").strip()
    print(errors, file=sys.stderr)
    return f"{module} failed with exit code {code}; what it said stands above."


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
