"""Retraining a classifier on changed images, for some of its classes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn, optim
from torch.nn.modules.batchnorm import _BatchNorm

from pixelrobust.datasets.decoded import Advance
from pixelrobust.datasets.lists import as_labels
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.engine.feeding import Images
from pixelrobust.errors import InputError
from pixelrobust.files import check_writable
from pixelrobust.models.checks import check_values
from pixelrobust.models.heads import find_head, replace_head
from pixelrobust.models.weights import weights_digest
from pixelrobust.perturbation.augmentations import Augmentation, PixelAugmentation
from pixelrobust.perturbation.grid import PROTOCOL_VERSION
from pixelrobust.perturbation.pixels import check_seed
from pixelrobust.retraining.checkpoint import (
    Checkpoint,
    changing_weights,
    optimizer_tensors,
    read_checkpoint,
    restore,
    write_checkpoint,
)
from pixelrobust.retraining.samples import Samples, check_training_images, read_rows
from pixelrobust.retraining.trainer import HISTORY_COLUMNS, Trainer
from pixelrobust.settings import Recipe, fingerprint

# Part of every fingerprint: raised when the same settings come to mean other numbers.
_VERSION = 1
_ROWS_AT_A_TIME = 256

Labels = Sequence[int] | NDArray[np.int64]


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
    labels: Labels,
    augmentation: Augmentation,
    recipe: Recipe,
    *,
    seed: int = 0,
    directory: Path,
    context: Context = SINGLE,
    advance: Advance = lambda done: None,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Retrained:
    """Retrain a copy of a classifier, with a new last layer, on changed images.

    Every random choice is a function of the seed and of image key, epoch or layer name: neither the
    number of processes nor an interruption matters, but for the rounding of sums. A checkpoint is
    written after each epoch; where one of the very same retraining is found, it goes on from there,
    and on one CPU ends with the same bits. One of anything else is replaced.

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
        seed: of the new layer, order, changes and dropout, an integer of 0 or more.
        directory: of the checkpoint; of nothing else. All processes see it.
        context: this process among those that train together, all by the same arguments; the first
            of them writes, and reports.
        advance: told how many more samples are done, of `count_samples`.
        report: given the row of the history of each epoch that has ended, at once; of those before
            an interruption, at the beginning.
        say: told in a sentence that a checkpoint is damaged.

    Returns:
        The same in all processes, on the context's device. The time that fingerprints, checkpoints
        and what is computed once take is in no epoch.

    Raises:
        InputError: an argument is wrong or does not suit the module, or the loss is not finite.
    """
    check_values("to retrain", module)
    _check_device(recipe, context)
    seed, labels = check_seed(seed), as_labels(labels)
    targets = _targets(labels, classes)
    samples = Samples(images, keys, targets, augmentation, recipe, seed, context.device)
    if context.is_main:
        check_writable(directory, "directory")
    digest = context.broadcast(
        training_fingerprint(module, classes, images, keys, labels, augmentation, recipe, seed)
        if context.is_main
        else ""
    )
    network = replace_head(module, classes, recipe.head, seed)
    flags = [parameter.requires_grad for parameter in network.parameters()]
    network.eval().to(context.device).to(memory_format=torch.channels_last)
    parameters = _prepare(network, recipe, samples)
    optimizer = _optimizer(parameters, recipe)
    known = read_checkpoint(directory, digest, say)
    if known:
        restore(network, optimizer, parameters, known)
    history = known.history if known else []
    for row in history:
        report(row)
    if history and context.is_main:
        advance(len(history) * len(samples))
    # No process may write before all have read.
    if len(set(context.gather(len(history)))) > 1:
        raise InputError(
            f"the processes see different checkpoints in {directory}; give a folder that all share."
        )
    about = {
        "classes": [int(one) for one in classes],
        "recipe": recipe.with_seed(seed),
        "augmentation": augmentation.name,
    }
    if len(history) < recipe.epochs:
        with _reproducible(), Trainer(network, samples, optimizer, recipe, context) as trainer:
            for epoch in range(len(history), recipe.epochs):
                history = [*history, trainer.epoch(epoch, advance)]
                report(history[-1])
                if context.is_main:
                    tensors = changing_weights(network), optimizer_tensors(optimizer, parameters)
                    checkpoint = Checkpoint(digest, len(history), history, *tensors)
                    write_checkpoint(directory, checkpoint, about)
    # A process that comes back first may look for what the first process has written.
    context.barrier()
    for parameter, flag in zip(network.parameters(), flags, strict=True):
        parameter.requires_grad_(flag)
        parameter.grad = None
    return Retrained(network.eval(), pd.DataFrame(history, columns=HISTORY_COLUMNS))


@contextmanager
def _reproducible() -> Iterator[None]:
    """Have cuDNN take algorithms that give the same bits every time."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def count_samples(images: int, recipe: Recipe) -> int:
    """Count the samples that a whole retraining passes through the network."""
    return images * (2 if recipe.originals else 1) * recipe.epochs


def training_fingerprint(
    module: nn.Module,
    classes: Sequence[int],
    images: Images,
    keys: Sequence[str],
    labels: Labels,
    augmentation: Augmentation,
    recipe: Recipe,
    seed: int,
) -> str:
    """Return a hexadecimal digest of all that determines what `retrain` gives; arguments as there.

    Devices and their number are no part of it: they decide how sums are rounded, and nothing else.
    Augmentations are told apart by their `repr`.
    """
    seed, labels = check_seed(seed), as_labels(labels)
    check_training_images(images, keys, labels)
    pixels = hashlib.sha256()
    for start in range(0, len(keys), _ROWS_AT_A_TIME):
        rows = np.arange(start, min(start + _ROWS_AT_A_TIME, len(keys)))
        pixels.update(np.ascontiguousarray(read_rows(images, rows).cpu().numpy()).data)
    return fingerprint(
        [_VERSION, PROTOCOL_VERSION, torch.__version__],
        [weights_digest(module), repr(module)],
        [int(one) for one in classes],
        [pixels.hexdigest(), list(images.shape), list(keys), labels.tolist()],
        [_origin(augmentation), repr(augmentation)],
        recipe.with_seed(seed),
    )


def _origin(augmentation: Augmentation) -> str:
    """Return the module of an augmentation; ours are known by the name that they had at first."""
    module = type(augmentation).__module__
    return "pixelrobust.augmentations" if module == PixelAugmentation.__module__ else module


def _check_device(recipe: Recipe, context: Context) -> None:
    if recipe.precision == "bf16" and context.device.type != "cuda":
        raise InputError("retrain.precision=bf16 needs a GPU; give fp32.")
    if recipe.batch_norm == "train" and context.world_size > 1:
        # Each process would go by its share of a batch, and the result hang on how many there are.
        raise InputError(
            "retrain.batch_norm=train needs whole batches on one device; give eval, or one device."
        )


def _targets(labels: NDArray[np.int64], classes: Sequence[int]) -> NDArray[np.int64]:
    """Return (N,) the positions of labels among classes."""
    position = {int(one): index for index, one in enumerate(classes)}
    values = labels.tolist()
    unknown = sorted(set(values) - set(position))
    if unknown:
        raise InputError(
            f"label {unknown[0]} is not among the {len(position)} classes that take part; leave "
            "its images out, or add it."
        )
    return np.array([position[label] for label in values], dtype=np.int64)


def _prepare(network: nn.Module, recipe: Recipe, samples: Samples) -> dict[str, nn.Parameter]:
    """Return the parameters to train, by name; they alone want gradients from now on.

    Batch normalisation is in training mode from now on, where the recipe wants it.

    Parameters that logits do not depend on, as of auxiliary classifiers, are left out: no process
    would have a gradient for them.
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
    if recipe.batch_norm == "train":
        for part in network.modules():
            part.training = isinstance(part, _BatchNorm)
    return {name: parameter for name, parameter in wanting.items() if parameter.requires_grad}


def _optimizer(parameters: dict[str, nn.Parameter], recipe: Recipe) -> optim.Optimizer:
    tensors = list(parameters.values())
    if recipe.optimizer == "adam":
        return optim.Adam(tensors, recipe.learning_rate, weight_decay=recipe.weight_decay)
    return optim.SGD(tensors, recipe.learning_rate, recipe.momentum, 0, recipe.weight_decay)
