"""One function in several processes, a device each: started here, or by somebody else."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

from pixelrobust.distributed.context import PATIENCE, Context, run_in_group
from pixelrobust.distributed.processes import run_in_processes
from pixelrobust.engine import find_device
from pixelrobust.errors import InputError

_T = TypeVar("_T")

# torchrun sets them all; by hand, or by a scheduler's script, these are what it takes.
_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")


def is_first_process() -> bool:
    """Whether this process is not one of those that torchrun, or a script, started as helpers."""
    return os.environ.get("RANK", "0") == "0" or not _is_launched()


def device_names(devices: str | int | Sequence[str]) -> tuple[str, ...]:
    """What `engine.devices` stands for, as `start` takes it.

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
        devices: "auto", "cpu", "cuda" or "cuda:N" each; "cpu" as often as processes are wanted.
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
        context = _launched_context(chosen)
        return run_in_group(function, context, _launched_store(), arguments)
    if len(chosen) == 1:
        return function(Context(device=chosen[0]), *arguments)
    return cast(_T, run_in_processes(function, chosen, arguments))


def _is_launched() -> bool:
    """Whether somebody else has started several processes, of which this is one."""
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
        if len(set(devices)) < len(devices):
            raise InputError(f"engine.devices={','.join(names)} names a GPU twice; give each once.")
    return devices


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
    """The store by which launched processes meet. Kept: its port can be opened only once."""
    store, _, _ = next(rendezvous("env://", timeout=PATIENCE))
    return store


_GROUPS: list[None] = []


def _launched_store() -> Any:
    """A part of the store that no earlier group has written to."""
    _GROUPS.append(None)
    return PrefixStore(f"pixelrobust-{len(_GROUPS)}", _rendezvous())
