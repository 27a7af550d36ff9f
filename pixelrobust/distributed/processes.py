"""Processes that are started here, a device each, and what becomes of their failures."""

import json
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.multiprocessing import (  # type: ignore[attr-defined]
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from pixelrobust.distributed.context import Context, run_in_group
from pixelrobust.errors import InputError

# Forked processes could use neither GPUs nor autograd.
_START_METHOD = "spawn"


def run_in_processes(
    function: Callable[..., Any], devices: list[torch.device], arguments: Sequence[Any]
) -> Any:
    """`function(context, *arguments)` in a process for each device; what rank 0 returns.

    Raises:
        InputError: the function raised it in any process.
        RuntimeError: a process failed otherwise; the others are ended.
    """
    with tempfile.TemporaryDirectory(prefix="pixelrobust-") as folder:
        threads = max(1, torch.get_num_threads() // len(devices))
        processes = start_processes(  # type: ignore[no-untyped-call]
            _rank_main,
            (Path(folder), function, devices, threads, arguments),
            nprocs=len(devices),
            join=False,
            start_method=_START_METHOD,
        )
        try:
            while not processes.join():
                pass
        except (ProcessRaisedException, ProcessExitedException) as error:
            raise _failure(Path(folder), processes.processes, error) from None
        finally:
            for process in processes.processes:
                process.kill()
        return pickle.loads((Path(folder) / "result").read_bytes())


def _rank_main(
    rank: int,
    folder: Path,
    function: Callable[..., Any],
    devices: list[torch.device],
    threads: int,
    arguments: Sequence[Any],
) -> None:
    """What a started process does; its failure is left in the folder."""
    # Python's own handling would wait for the end of what the process waits for itself.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(threads)
    try:
        context = Context(rank, len(devices), devices[rank])
        store = FileStore(str(folder / "store"), len(devices))
        result = run_in_group(function, context, store, arguments)
        if context.is_main:
            (folder / "result").write_bytes(pickle.dumps(result))
    except Exception as error:
        report = {
            "rank": rank,
            "time": time.time(),
            "input_error": str(error) if isinstance(error, InputError) else None,
            "traceback": traceback.format_exc(),
        }
        (folder / f"failure-{rank}").write_text(json.dumps(report), encoding="utf-8")
        sys.stdout.flush()
        sys.stderr.flush()
        # An orderly end could wait for the other processes, which wait for this one.
        os._exit(1)


def _failure(folder: Path, processes: Sequence[Any], error: Exception) -> Exception:
    """What went wrong first: others fail because their partner is gone."""
    reports = sorted(
        (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("failure-*")),
        key=lambda report: (report["input_error"] is None, report["time"]),
    )
    if reports and reports[0]["input_error"] is not None:
        return InputError(reports[0]["input_error"])
    for rank, process in enumerate(processes):
        if (process.exitcode or 0) < 0 and process.exitcode != -signal.SIGTERM:
            name = signal.Signals(-process.exitcode).name
            return RuntimeError(f"process {rank} of {len(processes)} was ended by {name}.")
    if not reports:
        return RuntimeError(str(error))
    return RuntimeError(
        f"process {reports[0]['rank']} of {len(processes)} failed:\n{reports[0]['traceback']}"
    )
