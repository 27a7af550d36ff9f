"""What training cannot change in a network, apart from what it can.

Where only the last layer is trained on images that stay the same, all that comes before the first
trained or dropping layer gives the same values in every epoch; they need be computed only once.
"""

from collections.abc import Set
from typing import Any

import torch
from torch import Tensor, fx, nn


def split_frozen(
    network: nn.Module, dropping: Set[str], images: Tensor
) -> tuple[nn.Module, nn.Module] | None:
    """A network as two, run one after the other.

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
    """The nodes whose values change from epoch to epoch."""
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
    """Two graphs; what flows from one to the other are outputs of the first, inputs of the second."""
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
    """Whether the two give the network's logits, from tensors that have one row an image."""
    together: tuple[Any, ...] = frozen(images)
    alone: tuple[Any, ...] = frozen(images[:1])
    for one, other in zip(together, alone, strict=True):
        if not isinstance(one, Tensor) or len(one) != len(images) or not _close(one[:1], other):
            return False
    return _close(rest(*together), network(images))


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5)
