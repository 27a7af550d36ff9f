"""One function in several processes, a device each, and what they have to tell each other."""

import datetime
import functools
import gc
import itertools
import json
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import (  # type: ignore[attr-defined]
    FileStore,
    PrefixStore,
    rendezvous,
)
from torch.multiprocessing import (  # type: ignore[attr-defined]
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from pixelrobust.engine import find_device
from pixelrobust.errors import InputError
from pixelrobust.files import write_text

_T = TypeVar("_T")

_CPU = torch.device("cpu")
# How long a process waits for another.
_PATIENCE = datetime.timedelta(minutes=30)
# torchrun sets them all; by hand, or by a scheduler's script, these are what it takes.
_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")
# Forked processes could use neither GPUs nor autograd.
_START_METHOD = "spawn"
# Numbers the groups that this process joins.
_GROUPS = itertools.count(1)


@dataclass(frozen=True)
class Context:
    """Place of a process among those that run the same function.

    All of them must make the same calls of these methods, in the same order.

    Attributes:
        rank: 0..world_size-1; rank 0 writes files and reports.
        world_size: how many processes there are.
        device: this process's own.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = _CPU

    @property
    def is_main(self) -> bool:
        """Tell whether this is the process that writes and reports."""
        return self.rank == 0

    def broadcast(self, value: _T) -> _T:
        """Return, in all processes, what rank 0 gave; plain data."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: _T) -> list[_T]:
        """Return, in all processes, what each process gave, by rank; plain data."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def shard(self, count: int, batch_size: int) -> slice:
        """Return the slice of `count` items that this process takes: each item is in one, and none in two.

        Slices follow each other by rank and begin at multiples of the batch size, so that batches are
        those of a single process. A slice may be empty.
        """
        batches = -(-count // batch_size)
        first, last = (batches * rank // self.world_size for rank in (self.rank, self.rank + 1))
        return slice(min(first * batch_size, count), min(last * batch_size, count))

    def share(self, count: int, batch_size: int, work: Callable[[slice], _T]) -> list[_T]:
        """Have each process work on its `shard`; return, in all processes, what each found, in order.

        Args:
            count: of the items.
            batch_size: for want of memory that of some process may have been halved; the smallest counts.
            work: given the items of a process, 1 or more; returns plain data.
        """
        part = self.shard(count, min(self.gather(batch_size)))
        found = work(part) if part.start < part.stop else None
        return [one for one in self.gather(found) if one is not None]

    def sum(self, values: Tensor) -> Tensor:
        """Sum what each process gave, tensors of one shape on its device."""
        total = values.clone()
        if self.world_size > 1:
            dist.all_reduce(total)
        return total

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            is_nccl = dist.get_backend() == "nccl"
            dist.barrier(device_ids=[self.device.index] if is_nccl else None)


SINGLE = Context()
"""The only process, on the CPU."""


def is_first_process() -> bool:
    """Tell whether this process is none that torchrun, or a script, started beside the first."""
    return os.environ.get("RANK", "0") == "0" or not _is_launched()


def device_names(devices: str | int | Sequence[str]) -> tuple[str, ...]:
    """Return what `engine.devices` stands for, as `start` takes it.

    Args:
        devices: one device; several; or how many: GPUs where there are any, else processes on the
            CPU.

    Raises:
        InputError: there are not so many GPUs.
    """
    if isinstance(devices, str):
        return (devices,)
    if not isinstance(devices, int):
        return tuple(devices)
    gpus = torch.cuda.device_count()
    if gpus == 0:
        return ("cpu",) * devices
    if devices > gpus:
        raise InputError(f"engine.devices={devices} is more than the {gpus} GPUs that are there.")
    return tuple(f"cuda:{index}" for index in range(devices))


def start(function: Callable[..., _T], devices: Sequence[str], *arguments: Any) -> _T:
    """Run `function(context, *arguments)` on each of several devices of this machine at once.

    Under torchrun, or where RANK, WORLD_SIZE, LOCAL_RANK and MASTER_ADDR are set, this process is
    one of them already. Otherwise one device is used by this process itself, and several each by a
    new one (a script that asks for these needs `if __name__ == "__main__":`).

    Args:
        function: where processes are started, one at the top level of a module.
        devices: "auto", "cpu", "cuda" or "cuda:N" each; any as often as processes are wanted on it.
            Under torchrun a single one stands for all ranks: "cuda" for the GPU of each.
        arguments: plain data, where processes are started.

    Returns:
        What the function returned: in this process, or where others were started, in rank 0.

    Raises:
        InputError: a device is wrong, or the function raised it in any process.
        RuntimeError: a started process failed otherwise; the others are ended.
    """
    chosen = _find_devices(devices)
    if _is_launched():
        # A part of the store that no earlier group has written to.
        store = PrefixStore(f"pixelrobust-{next(_GROUPS)}", _rendezvous())
        backend = _backend(chosen)
        return _run_in_group(function, _launched_context(chosen), backend, store, arguments)
    if len(chosen) == 1:
        return function(Context(device=chosen[0]), *arguments)
    return cast(_T, _run_in_processes(function, chosen, arguments))


def _is_launched() -> bool:
    """Tell whether somebody else has started several processes, of which this is one."""
    return all(name in os.environ for name in _LAUNCHED) and int(os.environ["WORLD_SIZE"]) > 1


def _find_devices(names: Sequence[str]) -> list[torch.device]:
    devices = [find_device(name) for name in names]
    if not devices or len({device.type for device in devices}) > 1:
        raise InputError(
            f"engine.devices={','.join(names)!r} is no choice of devices; give one or more, all of "
            "one kind."
        )
    if devices[0].type == "cuda":
        devices = [torch.device("cuda", device.index or 0) for device in devices]
    return devices


def _backend(devices: list[torch.device]) -> str:
    """Return what processes talk by: NCCL does not let several share a GPU."""
    is_shared = len(set(devices)) < len(devices)
    return "gloo" if is_shared or devices[0].type == "cpu" else "nccl"


def _launched_context(devices: list[torch.device]) -> Context:
    rank, world_size, local = (int(os.environ[name]) for name in _LAUNCHED[:3])
    if len(devices) > 1:
        if local >= len(devices):
            raise InputError(
                f"there are more processes than the {len(devices)} of engine.devices; start as many, "
                "or give one device."
            )
        return Context(rank, world_size, devices[local])
    device = find_device(f"cuda:{local}") if devices[0].type == "cuda" else devices[0]
    return Context(rank, world_size, device)


@functools.cache
def _rendezvous() -> Any:
    """Return the store by which launched processes meet. Kept: its port can be opened only once."""
    store, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
    return store


def _run_in_group(
    function: Callable[..., _T],
    context: Context,
    backend: str,
    store: Any,
    arguments: Sequence[Any],
) -> _T:
    """Run the function inside a group of processes.

    The group is left only when it ends well: whoever fails must not wait for the others.
    """
    if context.device.type == "cuda":
        torch.cuda.set_device(context.device)
    dist.init_process_group(
        backend,
        store=store,
        rank=context.rank,
        world_size=context.world_size,
        timeout=_PATIENCE,
    )
    result = function(context, *arguments)
    # What still refers to the group has to go first, or some processes abort at their exit.
    gc.collect()
    context.barrier()
    dist.destroy_process_group()
    return result


def _run_in_processes(
    function: Callable[..., Any], devices: list[torch.device], arguments: Sequence[Any]
) -> Any:
    """Run `function(context, *arguments)` in a new process for each device; return rank 0's result."""
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
    """Be a started process; leave a result, or a failure, in the folder."""
    # Python's own handling would wait for the end of what the process waits for itself.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(threads)
    try:
        context = Context(rank, len(devices), devices[rank])
        store = FileStore(str(folder / "store"), len(devices))
        result = _run_in_group(function, context, _backend(devices), store, arguments)
        if context.is_main:
            (folder / "result").write_bytes(pickle.dumps(result))
    except Exception as error:
        report = {
            "rank": rank,
            "time": time.time(),
            "input_error": str(error) if isinstance(error, InputError) else None,
            "traceback": traceback.format_exc(),
        }
        # Whole or not at all: this process may be ended because another one has failed, too.
        write_text(folder / f"failure-{rank}", json.dumps(report))
        sys.stdout.flush()
        sys.stderr.flush()
        # An orderly end could wait for the other processes, which wait for this one.
        os._exit(1)


def _failure(folder: Path, processes: Sequence[Any], error: Exception) -> Exception:
    """Return what went wrong first: others fail because their partner is gone."""
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
