"""Which attacks of foolbox there are, and building them."""

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pixelrobust.errors import InputError, first_line
from pixelrobust.files import how_to_install
from pixelrobust.perturbation.pixels import check_unit_range

FOOLBOX_ERRORS = (TypeError, ValueError, AssertionError, NotImplementedError)
"""What foolbox raises where an attack's arguments or its kind do not suit.

torch's own errors, such as too little memory, are RuntimeErrors and pass as they are.
"""

# Arguments of foolbox's attacks that name a folder to write into.
_WRITING = ("tensorboard",)


@dataclass(frozen=True)
class Attack:
    """An attack of foolbox: a class and what to make it with.

    Attributes:
        name: of a class of foolbox.attacks; nothing else is looked up.
        arguments: keyword arguments of that class.

    Raises:
        InputError: there is no such attack, or it does not take these arguments.
    """

    name: str
    arguments: tuple[tuple[str, object], ...] = ()

    def __post_init__(self) -> None:
        self.build()

    @property
    def minimizes(self) -> bool:
        """Whether it looks for the smallest change itself, rather than changing by an epsilon."""
        return issubclass(find_attack(self.name), foolbox_module("attacks.base").MinimizationAttack)

    @property
    def is_straight(self) -> bool:
        """Whether epsilon only says how far to go, in a direction that does not depend on it."""
        fgsm = foolbox_module("attacks").LinfFastGradientAttack
        return find_attack(self.name) is fgsm and not self.build().random_start

    def build(self) -> Any:
        """The foolbox attack."""
        kind = find_attack(self.name)
        for name, value in self.arguments:
            if name in _WRITING and value is not False:
                raise InputError(
                    f"attack.arguments.{name} would write files elsewhere; leave it out."
                )
        try:
            return kind(**dict(self.arguments))
        except FOOLBOX_ERRORS as error:
            known = ", ".join(inspect.signature(kind).parameters) or "none"
            raise InputError(
                f"attack.arguments do not suit {self.name} ({first_line(error)}); "
                f"it takes: {known}."
            ) from error


def find_attack(name: str) -> Any:
    """Return the class of an attack; nothing but foolbox's own attacks is ever looked up.

    Args:
        name: of the class, such as "FGSM".

    Raises:
        InputError: there is no such attack that takes an epsilon or minimises it, or no foolbox.
    """
    base = foolbox_module("attacks.base")
    kinds = (base.MinimizationAttack, base.FixedEpsilonAttack)
    known = {
        own: value
        for own, value in vars(foolbox_module("attacks")).items()
        if inspect.isclass(value) and issubclass(value, kinds)
    }
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        raise InputError(
            f"attack.name={name!r} is not an attack that can be used; give one of foolbox's "
            f"that take an epsilon or minimise it, such as {(near or ['FGSM'])[0]}."
        )
    return known[name]


def foolbox_module(module: str) -> Any:
    """A module of foolbox, imported when needed: it is optional, and slow to import.

    Raises:
        InputError: foolbox is not installed.
    """
    try:
        return importlib.import_module(f"foolbox.{module}")
    except ModuleNotFoundError as error:
        raise InputError(
            f"attacks need the package foolbox, which is not installed; {how_to_install('bundled')}."
        ) from error


# Keep an attack's traces off everything else: gradients, grad modes, random generators.


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Gradients for images, whatever mode the caller is in, and none for the module's parameters.

    foolbox calls backward(), which would add to the .grad of every parameter that wants one.
    """
    wanting = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with torch.inference_mode(False), torch.enable_grad():
        try:
            for parameter in wanting:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in wanting:
                parameter.requires_grad_(True)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's and NumPy's global generators seeded, and put back afterwards."""
    cuda = device.type == "cuda"
    state = np.random.get_state()  # noqa: NPY002 - some of foolbox's attacks draw from it
    try:
        with torch.random.fork_rng(devices=[device] if cuda else []):
            # torch.manual_seed would also seed the GPUs that are not put back.
            torch.default_generator.manual_seed(seed)
            if cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


# Adversarial images: changed as little as an attack can, or by a given size.

MINIMAL = "minimal"
"""The epsilon that asks for the smallest change that fools the network."""

# float images, labels, epsilon in [0, 1] units or None -> attacked images, whether they fool
_Run = Callable[[Tensor, Tensor, float | None], tuple[Tensor, Tensor]]
# The same for the images of an index, (K,).
_Attempt = Callable[[Tensor, float | None], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Adversarial:
    """A batch of attacked images.

    Attributes:
        images: (B, C, H, W) float32 in [0, 1], unrounded.
        fooled: (B,) bool, whether the module misclassifies `images`, and, where the smallest
            epsilon was asked for, the change is no larger than max_epsilon.
        epsilon: (B,) float32, the largest absolute change in 1/255; NaN where not fooled.
    """

    images: Tensor
    fooled: Tensor
    epsilon: Tensor


def craft(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    epsilon: float | str,
    *,
    step: float = 0.255,
    max_epsilon: float = 32.0,
    seed: int = 0,
) -> Adversarial:
    """Attack a batch of images, so that their predicted class is not their label.

    "minimal" asks for the smallest change. An attack that does not look for that itself is tried at
    epsilons of 1, 2, 3, … steps, on the images that are not fooled yet: the search that foolbox 1
    and 2 made by default, in 1,000 steps over the whole value range, which is step=0.255. Images
    that are wrong as they are come back unchanged, fooled at epsilon 0; images that are not fooled
    come back unchanged too.

    At a given epsilon every image is attacked, and comes back as the attack leaves it.

    Attacks that start at random draw from generators seeded with `seed` once a call. An image's
    result then depends on its place in the batch and on the other images too: the same results
    need the same batches, and each batch should have a seed of its own.

    Args:
        module: (B, C, H, W) float in [0, 1] -> (B, K) logits; in eval mode, on the images' device.
            Its parameters, their gradients and requires_grad flags are left as they are.
        images: (B, C, H, W) uint8.
        labels: (B,) integers, the true classes.
        attack: which attack.
        epsilon: size of the change in 1/255, as measured by the attack's own norm (FGSM, BIM and
            PGD: the largest absolute change); or "minimal".
        step: of the search for the smallest epsilon, in 1/255.
        max_epsilon: largest epsilon that "minimal" may give, in 1/255. For attacks that look for
            the smallest change themselves it limits the largest absolute change.
        seed: 0 or more, below 2**32.

    Raises:
        InputError: an argument is wrong, or the attack cannot work on this task.
    """
    _check_sizes(epsilon, step, max_epsilon)
    _check_batch(module, images, labels, seed)
    minimal = epsilon == MINIMAL
    with undisturbed(module), seeded(seed, images.device):
        # Like the engine's: channels-last layout is far quicker on CPUs.
        originals = images.to(torch.float32, memory_format=torch.channels_last).div_(255)
        # Copied, since autograd refuses tensors that were made in inference mode.
        labels = labels.to(images.device, torch.int64, copy=True)
        run = _runner(module, attack, images.device)
        if minimal:
            sizes = [None] if attack.minimizes else _steps(step, max_epsilon)
            follow = _straight if attack.is_straight else _anew
            attempt = follow(module, run, originals, labels)
            attacked = _search(module, attempt, originals, labels, sizes)
        else:
            attacked = run(originals, labels, float(epsilon) / 255)[0] if len(images) else originals
        wrong = _wrong(module, attacked, labels)
    changes = (attacked - originals).abs().flatten(1).amax(dim=1) * 255
    if minimal:
        # foolbox's Carlini-Wagner attack gives black images where it fails, and counts them as
        # successes where black is misclassified. The thousandth is for float32's own rounding.
        wrong &= changes <= max_epsilon + 1e-3
        attacked = torch.where(wrong[:, None, None, None], attacked, originals)
    return Adversarial(attacked, wrong, torch.where(wrong, changes, torch.nan))


def round_to_8_bits(images: Tensor) -> Tensor:
    """The nearest images that 8-bit files can hold, as floats.

    Args:
        images: floating point in [0, 1], any shape.

    Returns:
        The same shape and dtype, on the grid k / 255; halves go to the even k.

    Raises:
        InputError: images are not floating point in [0, 1].
    """
    if not images.is_floating_point():
        raise InputError(f"images have dtype {images.dtype}; give floating point in [0, 1].")
    check_unit_range(images)
    return (images * 255).round() / 255


def _check_sizes(epsilon: float | str, step: float, max_epsilon: float) -> None:
    for key, value in (("epsilon", epsilon), ("step", step), ("max_epsilon", max_epsilon)):
        if key == "epsilon" and value == MINIMAL:
            continue
        if isinstance(value, bool | str) or not 0 < value <= 255:  # NaN is refused too
            raise InputError(
                f"attack.{key}={value!r} is wrong; give a number of 255ths above 0 and at most 255"
                f"{', or minimal' if key == 'epsilon' else ''}."
            )
    if step > max_epsilon:
        raise InputError(
            f"attack.step={step} is larger than attack.max_epsilon={max_epsilon}; make it smaller."
        )


def _check_batch(module: nn.Module, images: Tensor, labels: Tensor, seed: int) -> None:
    if any(part.training for part in module.modules()):
        raise InputError("the model is in training mode; call its eval() before attacking it.")
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise InputError(
            f"images have shape {tuple(images.shape)} and dtype {images.dtype}; "
            "give (batch, channels, height, width), uint8."
        )
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise InputError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; "
            f"give {len(images)} integers."
        )
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed} is out of range; give 0 to 2**32 - 1.")


def _steps(step: float, max_epsilon: float) -> list[float]:
    """The epsilons of a search, in [0, 1] units."""
    # The small addition counts the last step where division falls just below a whole number.
    steps = math.floor(max_epsilon / step + 1e-9)
    return [count * step / 255 for count in range(1, steps + 1)]


def _search(
    module: nn.Module,
    attempt: _Attempt,
    originals: Tensor,
    labels: Tensor,
    sizes: Sequence[float | None],
) -> Tensor:
    """Images as the first size that fools changes them; unchanged where none does, or none need.

    Args:
        sizes: epsilons, rising; None: the attack's own choice.
    """
    found = originals.clone()
    index = (~_wrong(module, originals, labels)).nonzero().flatten()
    for size in sizes:
        if not len(index):
            break
        attacked, fooled = attempt(index, size)
        found[index[fooled]] = attacked[fooled]
        index = index[~fooled]
    return found


def _anew(module: nn.Module, run: _Run, originals: Tensor, labels: Tensor) -> _Attempt:
    """The attack at each size anew."""
    return lambda index, size: run(originals[index], labels[index], size)


def _straight(module: nn.Module, run: _Run, originals: Tensor, labels: Tensor) -> _Attempt:
    """Steps in one direction: a gradient for the whole search, rather than one a size."""
    if not len(originals):
        return _anew(module, run, originals, labels)
    direction = (run(originals, labels, 1 / 255)[0] - originals).sign()

    def attempt(index: Tensor, size: float | None) -> tuple[Tensor, Tensor]:
        assert size is not None
        attacked = (originals[index] + size * direction[index]).clamp(0, 1)
        return attacked, _wrong(module, attacked, labels[index])

    return attempt


def _runner(module: nn.Module, attack: Attack, device: torch.device) -> _Run:
    """The attack on this module, as a function."""
    victim = foolbox_module("models").PyTorchModel(module, bounds=(0, 1), device=device)
    misclassification = foolbox_module("criteria").Misclassification
    instance = attack.build()

    def run(images: Tensor, labels: Tensor, epsilon: float | None) -> tuple[Tensor, Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)
        try:
            criterion = misclassification(labels)
            _, clipped, fooled = instance(victim, images, criterion, epsilons=epsilon)
        except FOOLBOX_ERRORS as error:
            raise InputError(
                f"attack.name={attack.name} cannot attack these images ({first_line(error)}); "
                "mend attack.arguments, or take another attack, for example FGSM."
            ) from error
        # Clipping is done on the change: adding it again may leave [0, 1] by a rounding error.
        return clipped.detach().clamp(0, 1), fooled

    return run


def _wrong(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """(B,) bool: the prediction is not the label. Logits that are not finite predict nothing."""
    with torch.no_grad():
        logits: Tensor = module(images)
    return torch.isfinite(logits).all(dim=1) & (logits.argmax(dim=1) != labels)


# Adversarial images, made by foolbox's attacks: tiny changes that a classifier gets wrong.

__all__ = ["MINIMAL", "Adversarial", "Attack", "craft", "find_attack", "round_to_8_bits"]
