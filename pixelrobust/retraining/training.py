"""Retraining a classifier on changed images, for some of its classes."""

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from pixelrobust.augmentations import Augmentation
from pixelrobust.datasets.cache import Advance
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.errors import InputError
from pixelrobust.files import check_writable
from pixelrobust.heads import find_head, replace_head
from pixelrobust.models.weights import weights_digest
from pixelrobust.perturbation import PROTOCOL_VERSION
from pixelrobust.retraining.checkpoint import (
    Checkpoint,
    changing_weights,
    optimizer_tensors,
    read_checkpoint,
    restore,
    write_checkpoint,
)
from pixelrobust.retraining.frozen import split_frozen
from pixelrobust.retraining.order import epoch_batches, epoch_order, rank_share
from pixelrobust.retraining.recipe import Recipe
from pixelrobust.retraining.samples import (
    Images,
    Samples,
    check_training_images,
    read_rows,
    to_device,
)
from pixelrobust.retraining.stochastic import KeyedDropout
from pixelrobust.settings import fingerprint

HISTORY_COLUMNS = ["epoch", "loss", "accuracy", "seconds", "images_per_second"]

# Part of every fingerprint: raised when the same settings come to mean other numbers.
_VERSION = 1
# What is computed once is kept in memory, unless it is larger than this.
_MOST_FROZEN_BYTES = 2**31
_ROWS_AT_A_TIME = 256

Inputs = Callable[[NDArray[np.int64], int], tuple[Tensor, ...]]
"""What the trained part of a network takes, of some samples in an epoch."""


@dataclass(frozen=True)
class Retrained:
    """A retrained classifier.

    Attributes:
        module: (B, C, H, W) float in [0, 1] -> (B, len(classes)) logits; in eval mode.
        history: one row an epoch: epoch, from 0; loss, the mean cross-entropy of all samples as
            they were trained on; accuracy, the share of changed images that won then; seconds;
            images_per_second.
    """

    module: nn.Module
    history: pd.DataFrame


def retrain(
    module: nn.Module,
    classes: Sequence[int],
    images: Images,
    keys: Sequence[str],
    labels: Sequence[int] | NDArray[np.int64],
    augmentation: Augmentation,
    recipe: Recipe,
    *,
    directory: Path,
    context: Context = SINGLE,
    advance: Advance = lambda done: None,
) -> Retrained:
    """A copy of a classifier, with a new last layer, retrained on changed images.

    Every random choice is a function of the recipe's seed and of image key, epoch or layer name:
    neither the number of processes nor an interruption matters, but for the rounding of sums. A
    checkpoint is written after each epoch; where one of the very same retraining is found, it goes
    on from there, and on one CPU ends with the same bits. One of anything else is replaced.

    Dropout and stochastic depth are trained with as `pixelrobust.retraining.stochastic` says;
    everything else is in eval mode, batch normalisation as the recipe wants it.

    Args:
        module: as `load_classifier` makes it; left as it was.
        classes: the module's outputs that take part, in the order of the new ones.
        images: (N, C, H, W) uint8; may be memory-mapped.
        keys: N different image keys.
        labels: N of the classes.
        augmentation: how images are changed.
        recipe: how to train.
        directory: of the checkpoint; of nothing else. All processes see it.
        context: this process among those that train together, all by the same arguments; the first
            of them writes, and reports.
        advance: told how many more samples are done, of `count_samples`.

    Returns:
        The same in all processes, on the context's device. The time that fingerprints, checkpoints
        and what is computed once take is in no epoch.

    Raises:
        InputError: an argument is wrong or does not suit the module, or the loss is not finite.
    """
    _check_device(recipe, context)
    targets = _targets(labels, classes)
    samples = Samples(images, keys, targets, augmentation, recipe, context.device)
    if context.is_main:
        check_writable(directory, "directory")
    identity = context.broadcast(
        training_fingerprint(module, classes, images, keys, labels, augmentation, recipe)
        if context.is_main
        else ""
    )
    network = replace_head(module, classes, recipe.head, recipe.seed)
    flags = [parameter.requires_grad for parameter in network.parameters()]
    network.eval().to(context.device).to(memory_format=torch.channels_last)
    parameters = _trained_parameters(network, recipe, samples)
    if recipe.batch_norm == "train":
        for part in network.modules():
            part.training = isinstance(part, _BatchNorm)
    optimizer = _optimizer(parameters, recipe)
    known = read_checkpoint(directory, identity)
    history: list[dict[str, Any]] = []
    if known:
        restore(network, optimizer, parameters, known)
        history = known.history
        if context.is_main:
            advance(len(history) * len(samples))
    # Nor may any write before all have read.
    if len(set(context.gather(len(history)))) > 1:
        raise InputError(
            f"the processes see different checkpoints in {directory}; give a folder that all share."
        )
    if len(history) < recipe.epochs:
        about = {
            "classes": [int(one) for one in classes],
            "recipe": asdict(recipe),
            "augmentation": augmentation.name,
        }
        with _reproducible(), _Trainer(network, samples, optimizer, recipe, context) as trainer:
            for epoch in range(len(history), recipe.epochs):
                history = [*history, trainer.epoch(epoch, advance)]
                if context.is_main:
                    checkpoint = Checkpoint(
                        identity,
                        len(history),
                        history,
                        changing_weights(network),
                        optimizer_tensors(optimizer, parameters),
                    )
                    write_checkpoint(directory, checkpoint, about)
    # Whoever comes back first may look for what the first process has written.
    context.barrier()
    for parameter, flag in zip(network.parameters(), flags, strict=True):
        parameter.requires_grad_(flag)
        parameter.grad = None
    return Retrained(network.eval(), pd.DataFrame(history, columns=HISTORY_COLUMNS))


def count_samples(images: int, recipe: Recipe) -> int:
    """How many samples a whole retraining passes through the network."""
    return images * (2 if recipe.originals else 1) * recipe.epochs


def training_fingerprint(
    module: nn.Module,
    classes: Sequence[int],
    images: Images,
    keys: Sequence[str],
    labels: Sequence[int] | NDArray[np.int64],
    augmentation: Augmentation,
    recipe: Recipe,
) -> str:
    """A hexadecimal digest of all that determines what `retrain` gives; arguments as there.

    Devices and their number are no part of it: they decide how sums are rounded, and nothing else.
    Augmentations are told apart by their `repr`.
    """
    check_training_images(images, keys, np.asarray(labels))
    pixels = hashlib.sha256()
    for start in range(0, len(keys), _ROWS_AT_A_TIME):
        rows = np.arange(start, min(start + _ROWS_AT_A_TIME, len(keys)))
        pixels.update(np.ascontiguousarray(read_rows(images, rows).cpu().numpy()).data)
    return fingerprint(
        [_VERSION, PROTOCOL_VERSION, torch.__version__],
        [weights_digest(module), repr(module)],
        [int(one) for one in classes],
        [pixels.hexdigest(), list(images.shape), list(keys), np.asarray(labels).tolist()],
        [type(augmentation).__module__, repr(augmentation)],
        asdict(recipe),
    )


class _Trainer:
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

    def __enter__(self) -> "_Trainer":
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


def _check_device(recipe: Recipe, context: Context) -> None:
    if recipe.precision == "bf16" and context.device.type != "cuda":
        raise InputError("retrain.precision=bf16 needs a GPU; give fp32.")
    if recipe.batch_norm == "train" and context.world_size > 1:
        # Each process would go by its share of a batch, and the result hang on how many there are.
        raise InputError(
            "retrain.batch_norm=train needs whole batches on one device; give eval, or one device."
        )


def _targets(
    labels: Sequence[int] | NDArray[np.int64], classes: Sequence[int]
) -> NDArray[np.int64]:
    """(N,) the positions of labels among classes."""
    position = {int(one): index for index, one in enumerate(classes)}
    values = np.asarray(labels).tolist()
    strangers = sorted({label for label in values if label not in position})
    if strangers:
        raise InputError(
            f"label {strangers[0]} is not among the {len(position)} classes that take part; leave "
            "its images out, or add it."
        )
    return np.array([position[label] for label in values], dtype=np.int64)


def _trained_parameters(
    network: nn.Module, recipe: Recipe, samples: Samples
) -> dict[str, nn.Parameter]:
    """The parameters to train, by name; they alone want gradients from now on.

    Those that logits do not depend on, as of auxiliary classifiers, are left out: no process would
    have a gradient for them.
    """
    head = find_head(network)
    inside = f"{head}." if head else ""
    for name, parameter in network.named_parameters():
        wanted = recipe.trainable == "all" or name.startswith(inside)
        parameter.requires_grad_(wanted and parameter.is_floating_point())
    wanting = {name: p for name, p in network.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        logits: Tensor = network(samples.pixels(np.zeros(1, dtype=np.int64), 0))
        gradients = torch.autograd.grad(logits.sum(), list(wanting.values()), allow_unused=True)
    for parameter, gradient in zip(wanting.values(), gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    return {name: parameter for name, parameter in wanting.items() if parameter.requires_grad}


def _optimizer(parameters: dict[str, nn.Parameter], recipe: Recipe) -> optim.Optimizer:
    tensors = list(parameters.values())
    if recipe.optimizer == "adam":
        return optim.Adam(tensors, recipe.learning_rate, weight_decay=recipe.weight_decay)
    return optim.SGD(tensors, recipe.learning_rate, recipe.momentum, 0, recipe.weight_decay)


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
def _reproducible() -> Iterator[None]:
    """Inside, cuDNN takes algorithms that give the same bits every time."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
