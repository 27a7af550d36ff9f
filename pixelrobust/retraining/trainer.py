"""Training what can be trained of a network, epoch by epoch, in one process or several."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from pixelrobust.datasets.decoded import Advance
from pixelrobust.distributed import Context
from pixelrobust.errors import InputError
from pixelrobust.retraining.frozen import split_frozen
from pixelrobust.retraining.order import epoch_batches, epoch_order, rank_share
from pixelrobust.retraining.recipe import Recipe
from pixelrobust.retraining.samples import Samples, to_device
from pixelrobust.retraining.stochastic import KeyedDropout

HISTORY_COLUMNS = ["epoch", "loss", "accuracy", "seconds", "images_per_second"]

# What is computed once is kept in memory, unless it is larger than this.
_MOST_FROZEN_BYTES = 2**31

Inputs = Callable[[NDArray[np.int64], int], tuple[Tensor, ...]]
"""What the trained part of a network takes, of some samples in an epoch."""


class Trainer:
    """Trains what can be trained, an epoch at a time. To be used in a `with` statement.

    Args:
        network: on the device, its trained parameters wanting gradients; changed.
        samples, recipe, context: see `retrain`.
        optimizer: of the trained parameters; changed.
    """

    def __init__(
        self,
        network: nn.Module,
        samples: Samples,
        optimizer: optim.Optimizer,
        recipe: Recipe,
        context: Context,
    ) -> None:
        self._samples = samples
        self._optimizer = optimizer
        self._recipe = recipe
        self._context = context
        self._dropout = KeyedDropout(network)
        self._hooks = self._dropout.active()
        part, self._inputs = self._trained_part(network)
        self._model = part if context.world_size == 1 else _parallel(part, context.device)

    def __enter__(self) -> "Trainer":
        self._hooks.__enter__()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._hooks.__exit__(None, None, None)
        # DistributedDataParallel is to be gone before its processes part.
        del self._model

    def epoch(self, epoch: int, advance: Advance) -> dict[str, Any]:
        """Train for one epoch; its row of the history."""
        start = time.perf_counter()
        count = len(self._samples)
        totals = torch.zeros(2, dtype=torch.float64, device=self._context.device)
        order = epoch_order(count, self._recipe.seed, epoch)
        for batch in epoch_batches(order, self._recipe.batch_size):
            totals += self._step(batch, epoch)
            if self._context.is_main:
                advance(len(batch))
        loss, correct = self._context.sum(totals).tolist()
        if not np.isfinite(loss):
            raise InputError(
                f"the loss of epoch {epoch} is not finite; give a smaller retrain.learning_rate."
            )
        seconds = time.perf_counter() - start
        values = (epoch, loss / count, correct / self._samples.changed, seconds, count / seconds)
        return dict(zip(HISTORY_COLUMNS, values, strict=True))

    def _step(self, batch: NDArray[np.int64], epoch: int) -> Tensor:
        """Take one step; (2,) this process's sum of losses, and how many changed images won."""
        context = self._context
        share = rank_share(batch, context.rank, context.world_size)
        # A process without samples takes part in averaging gradients by one that weighs nothing.
        weight = context.world_size / len(batch) if len(share) else 0.0
        taken = share if len(share) else batch[:1]
        targets, philox_keys, copies = self._samples.facts(taken)
        inputs = self._inputs(taken, epoch)
        self._dropout.begin(philox_keys, copies, epoch)
        self._optimizer.zero_grad(set_to_none=True)
        with _precision(self._recipe, context.device):
            logits: Tensor = self._model(*inputs)
        losses = cross_entropy(logits.float(), targets, reduction="none")
        # Averaged over processes, this is the mean over the whole batch.
        (losses.sum() * weight).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        if not len(share):
            return losses.new_zeros(2, dtype=torch.float64)
        correct = (logits.detach().argmax(dim=1) == targets) & (copies == 0)
        return torch.stack((losses.detach().double().sum(), correct.double().sum()))

    def _trained_part(self, network: nn.Module) -> tuple[nn.Module, Inputs]:
        """The network, or where the rest stays the same throughout, its end; and what it takes."""

        def images(taken: NDArray[np.int64], epoch: int) -> tuple[Tensor, ...]:
            return (self._samples.pixels(taken, epoch),)

        if self._recipe.trainable == "all" or self._recipe.redraw:
            return network, images
        # Two images, if there are: networks in which images meet are noticed so.
        (few,) = images(np.arange(min(2, len(self._samples))), 0)
        parts = split_frozen(network, self._dropout.names, few)
        if parts is None:
            return network, images
        frozen, rest = parts
        kept = self._compute_once(frozen, images)
        if kept is None:
            return network, images

        def features(taken: NDArray[np.int64], epoch: int) -> tuple[Tensor, ...]:
            rows = torch.tensor(taken)
            return tuple(to_device(one[rows], self._context.device) for one in kept)

        return rest, features

    @torch.no_grad()
    def _compute_once(self, frozen: nn.Module, images: Inputs) -> list[Tensor] | None:
        """What the frozen part gives for all samples, on the CPU; None where it is too much."""
        kept: list[Tensor] = []
        count = len(self._samples)
        for batch in epoch_batches(np.arange(count), self._recipe.batch_size):
            with _precision(self._recipe, self._context.device):
                parts: tuple[Tensor, ...] = frozen(*images(batch, 0))
            if not kept:
                sizes = [part[0].numel() * part.element_size() for part in parts]
                if sum(sizes) * count > _MOST_FROZEN_BYTES:
                    return None
                kept = [torch.empty(count, *p.shape[1:], dtype=p.dtype) for p in parts]
            for whole, part in zip(kept, parts, strict=True):
                whole[batch[0] : batch[-1] + 1] = part.cpu()
        return kept


def _parallel(part: nn.Module, device: torch.device) -> nn.Module:
    devices = [device] if device.type == "cuda" else None
    with warnings.catch_warnings():
        # torch 2.15 has another word for it, which older versions do not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        # Training by several processes leaves buffers as they are.
        return DistributedDataParallel(part, device_ids=devices, broadcast_buffers=False)


def _precision(recipe: Recipe, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


@contextmanager
def reproducible() -> Iterator[None]:
    """Inside, cuDNN takes algorithms that give the same bits every time."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
