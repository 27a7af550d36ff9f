"""The first and last layers of classifiers: normalisation, logits of some classes, new heads."""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from pixelrobust.engine.base import known_outputs
from pixelrobust.errors import InputError
from pixelrobust.perturbation.pixels import check_seed

HeadInit = Literal["random", "copied"]

# A logit this low never wins, and takes no probability. It is finite, since logits that are not are
# taken for faults.
_UNKNOWN_LOGIT = -1e30

# torch's CPU generator reads no more of a seed.
_SEEDS = 2**32


class Normalize(nn.Module):
    """Computes (x - mean) / std by channel, so that images are in [0, 1] everywhere outside.

    Args:
        mean, std: one number a channel, for images in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (B, C, H, W) in [0, 1]."""
        return (images - self.mean) / self.std


class Logits(nn.Module):
    """Gives the logits alone of a network that gives them along with other things.

    Args:
        network: (B, C, H, W) -> an object with `logits`, (B, K).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        """Return the (B, K) logits of (B, C, H, W) images."""
        logits: Tensor = self.network(images).logits
        return logits


def has_logits(outputs: Any) -> bool:
    """Tell whether a network's outputs are an object with logits in it, as Hugging Face's are."""
    return not isinstance(outputs, Tensor) and isinstance(getattr(outputs, "logits", None), Tensor)


class RestrictedLogits(nn.Module):
    """Gives a classifier's logits of some of its classes only.

    Args:
        module: (B, C, H, W) -> (B, K) logits; kept, not copied.
        classes: different integers in 0..K-1, in the order of the new outputs.

    Raises:
        InputError: not such classes; those beyond K - 1 are noticed at the first call.
    """

    classes: Tensor

    def __init__(self, module: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        indices = _class_indices(classes)
        self.module = module
        self.training = module.training
        self.register_buffer("classes", torch.tensor(indices))
        self._largest = max(indices)

    def forward(self, images: Tensor) -> Tensor:
        """Return the (B, len(classes)) logits of (B, C, H, W) images."""
        logits: Tensor = self.module(images)
        # On a GPU an index that is out of range would end the whole process.
        _check_largest(self._largest, logits.shape[1])
        return logits.index_select(1, self.classes)

    @property
    def known_outputs(self) -> Tensor | None:
        """Tell which of the outputs the classifier knows, (len(classes),) bool; None: all."""
        known = known_outputs(self.module)
        return None if known is None else known[self.classes]


class ExpandedLogits(nn.Module):
    """Gives a classifier of some of a data set's classes outputs for all of them.

    Args:
        module: (B, C, H, W) -> (B, len(classes)) logits; kept, not copied.
        classes: what its outputs stand for, different integers in 0..outputs-1.
        outputs: how many the new module has; logits of classes that the module does not know are so
            low that they never win, and `known_outputs` says which they are.

    Raises:
        InputError: not such classes; too few or too many for the module's outputs are noticed at
            the first call.
    """

    classes: Tensor
    sources: Tensor

    def __init__(self, module: nn.Module, classes: Sequence[int], outputs: int) -> None:
        super().__init__()
        indices = _class_indices(classes)
        _check_largest(max(indices), outputs)
        self.module = module
        self.training = module.training
        self.register_buffer("classes", torch.tensor(indices))
        places = {index: place for place, index in enumerate(indices)}
        sources = [places.get(output, len(indices)) for output in range(outputs)]
        self.register_buffer("sources", torch.tensor(sources), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the (B, outputs) logits of (B, C, H, W) images."""
        logits: Tensor = self.module(images)
        if logits.shape[1] != len(self.classes):
            raise InputError(
                f"{len(self.classes)} classes do not fit the classifier's {logits.shape[1]} outputs; "
                "give one for each."
            )
        # Half precision has no number as low.
        lowest = max(_UNKNOWN_LOGIT, torch.finfo(logits.dtype).min)
        # Not index_copy, which OpenVINO gets wrong, up to writing where it must not.
        padded = nn.functional.pad(logits, (0, 1), value=lowest)
        return padded.index_select(1, self.sources)

    @property
    def known_outputs(self) -> Tensor:
        """Tell which of the outputs the module knows, (outputs,) bool."""
        return self.sources < len(self.classes)


def find_head(module: nn.Module) -> str:
    """Find the dotted name of the layer whose outputs are a classifier's logits.

    It is an nn.Linear, or an nn.Conv2d with a 1 x 1 kernel, whose maps are averaged, as in SqueezeNet.
    timm's networks say which layer it is; in others it is the last one with parameters, in the
    order of registration.

    Args:
        module: a classifier, with or without other layers, such as normalisation, in front.

    Raises:
        InputError: there is no such layer, or several make up the logits together.
    """
    parts: dict[str, nn.Module] = dict(module.named_modules())
    if any(isinstance(part, RestrictedLogits | ExpandedLogits) for part in parts.values()):
        raise _unknown_head(
            "its logits are put together from another's; give that classifier itself"
        )
    layers = [name for name, part in parts.items() if _parameter_names(part, recurse=False)]
    if not layers:
        raise _unknown_head("it has no parameters")
    classifier = _named_classifier(parts, last=layers[-1])
    inside = [name for name in layers if _is_inside(name, classifier)]
    if not inside or not _is_linear(parts[inside[-1]]):
        raise _unknown_head("its last layer with parameters is of another kind")
    head = inside[-1]
    # Networks trained by distillation average two heads, each with all the outputs. Elsewhere than
    # in timm's own classifiers such a layer may be an auxiliary one, which only training uses.
    if classifier and any(
        _is_linear(parts[name]) and _outputs(parts[name]) == _outputs(parts[head])
        for name in inside[:-1]
    ):
        raise _unknown_head("it has several")
    return head


def replace_head(
    module: nn.Module, classes: Sequence[int], init: HeadInit, seed: int = 0
) -> nn.Module:
    """Return a deep copy of a classifier whose head has one output for each of `classes`.

    Args:
        module: as in `find_head`, with K outputs; left as it was. Auxiliary classifiers, which only
            training uses, keep their outputs in the copy.
        classes: different integers of 0 or more, the old outputs that the new ones stand for.
        init: "copied": the new head has the old one's rows for these classes, which must be below
            K, and its logits are the old ones of these classes. "random": it is initialised as
            torch does it for this kind of layer (He et al. 2015), whatever the classes are.
        seed: of the random values, an integer of 0 or more; the same on every machine.

    Returns:
        The copy, in the same mode, on the same devices; the new head's parameters want gradients.

    Raises:
        InputError: no head is found, or an argument is wrong.
    """
    name = find_head(module)
    indices, seed = _class_indices(classes), check_seed(seed)
    replaced = copy.deepcopy(module)
    # Typed as anything: for type checkers, convolutions and linear layers have no common base.
    head: Any = replaced.get_submodule(name)
    outputs = _outputs(head)
    if init == "copied":
        _check_largest(max(indices), outputs)
        weight, bias = _copied(head, indices)
    elif init == "random":
        weight, bias = _random(head, len(indices), seed)
    else:
        raise InputError(f"init={init!r} is not a way to make a head; give random or copied.")
    # Only its parameters are new: subclasses of these layers, and hooks, stay as they are.
    head.weight = nn.Parameter(weight.to(head.weight))
    if bias is not None:
        head.bias = nn.Parameter(bias.to(head.bias))
    setattr(head, _count_name(head), len(indices))
    _update_class_counts(replaced, name, outputs, len(indices))
    return replaced


def _copied(head: Any, classes: list[int]) -> tuple[Tensor, Tensor | None]:
    rows = torch.tensor(classes, device=head.weight.device)
    bias = None if head.bias is None else head.bias.detach()[rows]
    return head.weight.detach()[rows], bias


def _random(head: Any, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Draw what `reset_parameters` of nn.Linear and nn.Conv2d draws, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed % _SEEDS)
    weight = torch.empty(count, *head.weight.shape[1:], dtype=torch.float32, device="cpu")
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    if head.bias is None:
        return weight, None
    bound = 1 / math.sqrt(weight[0].numel())
    bias = torch.empty(count, dtype=torch.float32, device="cpu")
    return weight, nn.init.uniform_(bias, -bound, bound, generator=generator)


def _update_class_counts(module: nn.Module, head: str, old: int, new: int) -> None:
    """Correct the number of classes that networks around a head remember; some reshape by it."""
    path = head.split(".")
    for depth in range(len(path)):
        part = module.get_submodule(".".join(path[:depth]))
        if vars(part).get("num_classes") == old:
            setattr(part, "num_classes", new)  # noqa: B010 - type checkers take it for a tensor


def _named_classifier(parts: dict[str, nn.Module], last: str) -> str:
    """Find the name of what a network of timm's calls its classifier; "" for other networks.

    Args:
        parts: all modules by name.
        last: name of the last layer; networks with layers of somebody else's behind do not count.
    """
    for name, part in parts.items():
        if callable(getattr(part, "get_classifier", None)) and _is_inside(last, name):
            classifier = cast(Any, part).get_classifier()
            for inner, candidate in parts.items():
                if candidate is classifier:
                    return inner
            raise _unknown_head("it has several")
    return ""


def _is_inside(name: str, part: str) -> bool:
    return part in ("", name) or name.startswith(f"{part}.")


def _is_linear(part: nn.Module) -> bool:
    """Tell whether each output is one row of a weight, times the inputs, plus one bias."""
    kind = isinstance(part, nn.Linear) or (
        isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.groups == 1
    )
    # Others have weights that are computed, as by weight normalisation.
    return kind and _parameter_names(part) in ({"weight"}, {"weight", "bias"})


def _parameter_names(part: nn.Module, *, recurse: bool = True) -> set[str]:
    return {name for name, _ in part.named_parameters(recurse=recurse)}


def _count_name(head: nn.Module) -> str:
    return "out_features" if isinstance(head, nn.Linear) else "out_channels"


def _outputs(head: nn.Module) -> int:
    return int(getattr(head, _count_name(head)))


def _class_indices(classes: Sequence[int]) -> list[int]:
    indices = np.asarray(classes)
    whole = indices.ndim == 1 and np.issubdtype(indices.dtype, np.integer)
    values: list[int] = indices.tolist() if whole else []
    if not values or len(set(values)) != len(values) or min(values) < 0:
        raise InputError(
            f"classes={classes!r} are no classes to keep; give one or more different integers of "
            "0 or more."
        )
    return values


def _check_largest(largest: int, outputs: int) -> None:
    if largest >= outputs:
        raise InputError(
            f"classes hold {largest}, but the classifier has {outputs} outputs; give classes in "
            f"0..{outputs - 1}."
        )


def _unknown_head(reason: str) -> InputError:
    return InputError(
        f"the classification layer of this network cannot be told: {reason}. Networks that end in "
        "one nn.Linear, or one nn.Conv2d with a 1 x 1 kernel, can be used."
    )
