"""One process among those that run the same function, and what they have to tell each other."""

import datetime
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

_T = TypeVar("_T")

_CPU = torch.device("cpu")
PATIENCE = datetime.timedelta(minutes=30)
"""How long a process waits for another."""


@dataclass(frozen=True)
class Context:
    """One process among those that run the same function.

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
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def broadcast(self, value: _T) -> _T:
        """What rank 0 gave, in all processes; plain data."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: _T) -> list[_T]:
        """What each process gave, by rank, in all processes; plain data."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def sum(self, values: Tensor) -> Tensor:
        """The sum of what each process gave, tensors of one shape on its device."""
        total = values.clone()
        if self.world_size > 1:
            dist.all_reduce(total)
        return total

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            device_ids = [self.device.index] if self.device.type == "cuda" else None
            dist.barrier(device_ids=device_ids)


SINGLE = Context()
"""The only process, on the CPU."""


def run_in_group(
    function: Callable[..., _T], context: Context, store: Any, arguments: Sequence[Any]
) -> _T:
    """The function, inside a group of processes.

    The group is left only when it ends well: whoever fails must not wait for the others.
    """
    is_cuda = context.device.type == "cuda"
    if is_cuda:
        torch.cuda.set_device(context.device)
    dist.init_process_group(
        "nccl" if is_cuda else "gloo",
        store=store,
        rank=context.rank,
        world_size=context.world_size,
        timeout=PATIENCE,
    )
    result = function(context, *arguments)
    # What still refers to the group has to go first, or some processes abort at their exit.
    gc.collect()
    context.barrier()
    dist.destroy_process_group()
    return result
