"""Training what can be trained of a network, epoch by epoch, in one process or several.

Where only the last layer is trained on images that stay the same, all that comes before the first
trained or dropping layer gives the same values in every epoch. It is cut off by torch.fx, and
computed only once.
"""

import time
import warnings
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn, optim
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from pixelrobust.datasets.decoded import Advance
from pixelrobust.distributed import Context
from pixelrobust.engine.devices import to_device
from pixelrobust.engine.feeding import split_batches
from pixelrobust.errors import InputError
from pixelrobust.retraining.samples import Samples, rank_share
from pixelrobust.retraining.stochastic import KeyedDropout
from pixelrobust.settings import Recipe

HISTORY_COLUMNS = ["epoch", "loss", "accuracy", "seconds", "images_per_second"]

# The frozen part's outputs are kept in memory, unless they are larger than this.
_MAX_FROZEN_BYTES = 2**31

Inputs = Callable[[NDArray[np.int64], int], tuple[Tensor, ...]]
"""From samples and an epoch to the inputs of the trained part of a network."""


@dataclass(eq=False)
class Trainer:
    """Trains what can be trained, an epoch at a time. To be used in a `with` statement.

    Attributes:
        network: on the device, its trained parameters wanting gradients; changed.
        samples, recipe, context: see `retrain`.
        optimizer: of the trained parameters; changed.
    """

    network: nn.Module
    samples: Samples
    optimizer: optim.Optimizer
    recipe: Recipe
    context: Context

    def __post_init__(self) -> None:
        self._dropout = KeyedDropout(self.network)
        self._hooks = self._dropout.active()
        part, self._inputs = self._trained_part()
        self._model = part if self.context.world_size == 1 else _parallel(part, self.context.device)

    def __enter__(self) -> "Trainer":
        self._hooks.__enter__()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._hooks.__exit__(None, None, None)
        # DistributedDataParallel is to be gone before its processes part.
        del self._model

    def epoch(self, epoch: int, advance: Advance) -> dict[str, Any]:
        """Train for one epoch, and return its row of the history."""
        start = time.perf_counter()
        count = len(self.samples)
        totals = torch.zeros(2, dtype=torch.float64, device=self.context.device)
        for batch in self.samples.batches(epoch):
            totals += self._step(batch, epoch)
            if self.context.is_main:
                advance(len(batch))
        loss, correct = self.context.sum(totals).tolist()
        if not np.isfinite(loss):
            raise InputError(
                f"the loss of epoch {epoch} is not finite; give a smaller retrain.learning_rate."
            )
        seconds = time.perf_counter() - start
        values = (epoch, loss / count, correct / len(self.samples.keys), seconds, count / seconds)
        return dict(zip(HISTORY_COLUMNS, values, strict=True))

    def _step(self, batch: NDArray[np.int64], epoch: int) -> Tensor:
        """Take one step, and return (2,): this process's sum of losses, and its correct changed images."""
        context = self.context
        share = rank_share(batch, context.rank, context.world_size)
        # A process without samples takes part in averaging gradients by one that weighs nothing.
        weight = context.world_size / len(batch) if len(share) else 0.0
        taken = share if len(share) else batch[:1]
        targets, philox_keys, copies = self.samples.facts(taken)
        inputs = self._inputs(taken, epoch)
        self._dropout.begin(philox_keys, copies, epoch)
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            logits: Tensor = self._model(*inputs)
        losses = cross_entropy(logits.float(), targets, reduction="none")
        # Averaged over processes, this is the mean over the whole batch.
        (losses.sum() * weight).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if not len(share):
            return losses.new_zeros(2, dtype=torch.float64)
        correct = (logits.detach().argmax(dim=1) == targets) & (copies == 0)
        return torch.stack((losses.detach().double().sum(), correct.double().sum()))

    def _autocast(self) -> torch.autocast:
        is_lower = self.recipe.precision == "bf16"
        return torch.autocast(self.context.device.type, torch.bfloat16, enabled=is_lower)

    def _trained_part(self) -> tuple[nn.Module, Inputs]:
        """Return the network, or its end where the rest is frozen, and the inputs of that."""

        def images(taken: NDArray[np.int64], epoch: int) -> tuple[Tensor, ...]:
            return (self.samples.pixels(taken, epoch),)

        if self.recipe.trainable == "all" or self.recipe.redraw:
            return self.network, images
        # Two images, if there are: networks in which images meet are noticed so.
        (few,) = images(np.arange(min(2, len(self.samples))), 0)
        parts = split_frozen(self.network, self._dropout.names, few)
        features = self._compute_once(parts[0], images) if parts else None
        if parts is None or features is None:
            return self.network, images

        def kept(taken: NDArray[np.int64], epoch: int) -> tuple[Tensor, ...]:
            rows = torch.tensor(taken)
            return tuple(to_device(one[rows], self.context.device) for one in features)

        return parts[1], kept

    @torch.no_grad()
    def _compute_once(self, frozen: nn.Module, images: Inputs) -> list[Tensor] | None:
        """Return the frozen part's outputs for all samples, on the CPU; None where they are too large."""
        kept: list[Tensor] = []
        count = len(self.samples)
        for batch in split_batches(np.arange(count), self.recipe.batch_size):
            with self._autocast():
                parts: tuple[Tensor, ...] = frozen(*images(batch, 0))
            if not kept:
                sizes = [part[0].numel() * part.element_size() for part in parts]
                if sum(sizes) * count > _MAX_FROZEN_BYTES:
                    return None
                kept = [torch.empty(count, *p.shape[1:], dtype=p.dtype) for p in parts]
            for whole, part in zip(kept, parts, strict=True):
                whole[batch[0] : batch[-1] + 1] = part.cpu()
        return kept


def _parallel(part: nn.Module, device: torch.device) -> nn.Module:
    """Wrap the trained part for several processes, which leave buffers as they are."""
    devices = [device] if device.type == "cuda" else None
    with warnings.catch_warnings():
        # torch 2.15 has another word for it, which older versions do not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        return DistributedDataParallel(part, device_ids=devices, broadcast_buffers=False)


def split_frozen(
    network: nn.Module, dropping: Set[str], images: Tensor
) -> tuple[nn.Module, nn.Module] | None:
    """Split a network into a frozen part and the rest, run one after the other.

    Args:
        network: in eval mode; its parameters that want gradients are the trained ones. Kept: the
            two share its layers.
        dropping: names of layers whose outputs differ from epoch to epoch.
        images: (B, C, H, W), a few to try the two on.

    Returns:
        (frozen, rest): `rest(*frozen(images))` are the logits, and frozen's outputs (B, …) are the
        same in every epoch. None where the network cannot be taken apart: torch.fx cannot follow
        it, or images meet in it.
    """
    if any(part.training for part in network.modules()):
        return None
    try:
        graph = _Tracer().trace(network)
        frozen, rest = _cut(network, graph, _varying(network, graph, dropping))
        return (frozen, rest) if _is_same(network, frozen, rest, images) else None
    # Tracing code that was not written for it can raise nearly anything, and so can running it.
    except Exception:
        return None


class _Tracer(fx.Tracer):
    """Follows a network down to its layers, whoever wrote them, and not into them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_leaf = next(m.children(), None) is None
        return is_leaf or super().is_leaf_module(m, module_qualified_name)


def _varying(network: nn.Module, graph: fx.Graph, dropping: Set[str]) -> set[fx.Node]:
    """Return the nodes whose values change from epoch to epoch."""
    varying: set[fx.Node] = set()
    for node in graph.nodes:
        if (
            node.op == "output"
            or any(source in varying for source in node.all_input_nodes)
            or (node.op == "call_module" and _is_varying_layer(network, str(node.target), dropping))
            or (node.op == "get_attr" and _wants_gradients(network, str(node.target)))
        ):
            varying.add(node)
    return varying


def _is_varying_layer(network: nn.Module, name: str, dropping: Set[str]) -> bool:
    part = network.get_submodule(name)
    names = {f"{name}.{inner}" if inner else name for inner, _ in part.named_modules()}
    return bool(names & dropping) or any(p.requires_grad for p in part.parameters())


def _wants_gradients(network: nn.Module, name: str) -> bool:
    path, _, attribute = name.rpartition(".")
    value = getattr(network.get_submodule(path), attribute, None)
    return isinstance(value, Tensor) and value.requires_grad


def _cut(
    network: nn.Module, graph: fx.Graph, varying: set[fx.Node]
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Cut a graph in two; what flows between them is the first's outputs and the second's inputs."""
    parameters = {n for n in graph.nodes if n.op == "get_attr" and n not in varying}
    used = {
        node
        for node in graph.nodes
        if node not in varying and any(user in varying for user in node.users)
    }
    crossing = [node for node in graph.nodes if node in used - parameters]
    first, second = fx.Graph(), fx.Graph()
    in_first: dict[fx.Node, fx.Node] = {}
    in_second = {node: second.placeholder(node.name) for node in crossing}
    for node in graph.nodes:
        if node not in varying:
            in_first[node] = first.node_copy(node, in_first.__getitem__)
        # Parameters have no row for each image; both graphs can have them.
        if node in varying or node in used & parameters:
            in_second[node] = second.node_copy(node, in_second.__getitem__)
    first.output(tuple(in_first[node] for node in crossing))
    return fx.GraphModule(network, first), fx.GraphModule(network, second)


@torch.no_grad()
def _is_same(network: nn.Module, frozen: nn.Module, rest: nn.Module, images: Tensor) -> bool:
    """Check that the two give the network's logits, from tensors that have one row an image."""
    together: tuple[Any, ...] = frozen(images)
    alone: tuple[Any, ...] = frozen(images[:1])
    for one, other in zip(together, alone, strict=True):
        if not isinstance(one, Tensor) or len(one) != len(images) or not _close(one[:1], other):
            return False
    return _close(rest(*together), network(images))


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5)
