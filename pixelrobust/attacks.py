"""Adversarial images, made by foolbox's attacks: tiny changes that a classifier gets wrong."""

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

from pixelrobust.datasets.lists import as_labels
from pixelrobust.errors import InputError, first_line
from pixelrobust.files import how_to_install
from pixelrobust.perturbation.grid import as_plain
from pixelrobust.perturbation.pixels import check_seed, check_uint8_images, check_unit_range
from pixelrobust.settings import AttackSettings

MINIMAL = "minimal"
"""The epsilon that asks for the smallest change that fools the network."""

# What foolbox raises where an attack's arguments or its kind do not suit. torch's own errors, such
# as too little memory, are RuntimeErrors and pass as they are.
_FOOLBOX_ERRORS = (TypeError, ValueError, AssertionError, NotImplementedError)
# Arguments of foolbox's attacks that name a folder to write into.
_WRITING = ("tensorboard",)

# float images, labels, epsilon in [0, 1] units or None -> attacked images, whether they fool
_Run = Callable[[Tensor, Tensor, float | None], tuple[Tensor, Tensor]]
# The same for the images of an index, (K,).
_Attempt = Callable[[Tensor, float | None], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Adversarial:
    """Attacked images of one batch.

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
    attack: AttackSettings,
    epsilon: float | str,
    *,
    seed: int = 0,
) -> Adversarial:
    """Attack a batch of images, so that their predicted class is not their label.

    "minimal" asks for the smallest change. An attack that does not look for that itself is tried at
    epsilons of 1, 2, 3, … steps, on the images that are not fooled yet: the search that foolbox 1
    and 2 made by default, in 1,000 steps over the whole value range, which is step=0.255. Images
    that are wrong as they are come back unchanged, fooled at epsilon 0; images that are not fooled
    come back unchanged too. For attacks that look for the smallest change themselves, max_epsilon
    limits the largest absolute change.

    At a given epsilon every image is attacked, and comes back as the attack leaves it.

    Attacks that start at random draw from generators seeded with `seed` once a call. An image's
    result then depends on its place in the batch and on the other images too: the same results
    need the same batches, and each batch should have a seed of its own.

    Args:
        module: (B, C, H, W) float in [0, 1] -> (B, K) logits; in eval mode, on the images' device.
            Its parameters, their gradients and requires_grad flags are left as they are.
        images: (B, C, H, W) uint8.
        labels: (B,) or (B, 1) integers, the true classes.
        attack: which attack, and how the smallest epsilon is searched for, such as
            `pixelrobust.settings.attack_settings(name="FGSM")`.
        epsilon: one size, whatever the settings list: the change in 1/255, as measured by the
            attack's own norm (FGSM, BIM and PGD: the largest absolute change); or "minimal".
        seed: 0 or more, below 2**32.

    Raises:
        InputError: an argument is wrong, or the attack cannot work on this task.
    """
    epsilon, seed = _as_epsilon(epsilon), check_seed(seed)
    labels = _check_batch(module, images, labels, seed)
    with _undisturbed(module), _seeded(seed, images.device):
        # Like the engine's: channels-last layout is far quicker on CPUs.
        originals = images.to(torch.float32, memory_format=torch.channels_last).div_(255)
        # Copied, since autograd refuses tensors that were made in inference mode.
        labels = labels.to(images.device, copy=True)
        run = _runner(module, attack, images.device)
        if epsilon == MINIMAL:
            attacked = _search(module, attack, run, originals, labels)
        else:
            attacked = run(originals, labels, float(epsilon) / 255)[0] if len(images) else originals
        wrong = _wrong(module, attacked, labels)
    changes = (attacked - originals).abs().flatten(1).amax(dim=1) * 255
    if epsilon == MINIMAL:
        # foolbox's Carlini-Wagner attack gives black images where it fails, and counts them as
        # successes where black is misclassified. The thousandth is for float32's own rounding.
        wrong &= changes <= attack.max_epsilon + 1e-3
        attacked = torch.where(wrong[:, None, None, None], attacked, originals)
    return Adversarial(attacked, wrong, torch.where(wrong, changes, torch.nan))


def round_to_8_bits(images: Tensor) -> Tensor:
    """Return the nearest images that 8-bit files can hold, as floats.

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


def is_straight(attack: AttackSettings) -> bool:
    """Tell whether epsilon only says how far to go, in a direction that does not depend on it."""
    fgsm = _foolbox("attacks").LinfFastGradientAttack
    return find_attack(attack.name) is fgsm and not build_attack(attack).random_start


def build_attack(attack: AttackSettings) -> Any:
    """Return foolbox's object of an attack.

    Raises:
        InputError: there is no such attack, or it does not take these arguments.
    """
    kind = find_attack(attack.name)
    for name, value in attack.arguments.items():
        if name in _WRITING and value is not False:
            raise InputError(f"attack.arguments.{name} would write files elsewhere; leave it out.")
    try:
        return kind(**attack.arguments)
    except _FOOLBOX_ERRORS as error:
        known = ", ".join(inspect.signature(kind).parameters) or "none"
        raise InputError(
            f"attack.arguments do not suit {attack.name} ({first_line(error)}); it takes: {known}."
        ) from error


def find_attack(name: str) -> Any:
    """Return the class of an attack; nothing but foolbox's own attacks is ever looked up.

    Args:
        name: of the class, such as "FGSM".

    Raises:
        InputError: there is no such attack that takes an epsilon or minimises it, or no foolbox.
    """
    base = _foolbox("attacks.base")
    kinds = (base.MinimizationAttack, base.FixedEpsilonAttack)
    known = {
        own: value
        for own, value in vars(_foolbox("attacks")).items()
        if inspect.isclass(value) and issubclass(value, kinds)
    }
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        raise InputError(
            f"attack.name={name!r} is not an attack that can be used; give one of foolbox's "
            f"that take an epsilon or minimise it, such as {(near or ['FGSM'])[0]}."
        )
    return known[name]


def _foolbox(module: str) -> Any:
    """Return a module of foolbox, imported when needed: it is optional, and slow to import."""
    try:
        return importlib.import_module(f"foolbox.{module}")
    except ModuleNotFoundError as error:
        raise InputError(
            f"attacks need the package foolbox, which is not installed; {how_to_install('bundled')}."
        ) from error


def _as_epsilon(epsilon: Any) -> float | str:
    size = as_plain(epsilon)
    if size == MINIMAL:
        return MINIMAL
    is_number = isinstance(size, int | float) and not isinstance(size, bool)
    if not is_number or not 0 < size <= 255:  # NaN is refused too
        raise InputError(
            f"attack.epsilon={epsilon!r} is wrong; give a number of 255ths above 0 and at most 255, "
            "or minimal."
        )
    return float(size)


def _check_batch(module: nn.Module, images: Tensor, labels: Any, seed: int) -> Tensor:
    """Return (B,) int64 labels; InputError where something does not suit."""
    if any(part.training for part in module.modules()):
        raise InputError("the model is in training mode; call its eval() before attacking it.")
    check_uint8_images(images)
    known = as_labels(labels, len(images))
    if seed >= 2**32:
        raise InputError(f"seed={seed} is out of range; give 0 to 2**32 - 1.")
    return torch.from_numpy(known)


def _search(
    module: nn.Module, attack: AttackSettings, run: _Run, originals: Tensor, labels: Tensor
) -> Tensor:
    """Change images by the first size that fools; leave them where none does, or none need."""
    looks_itself = issubclass(find_attack(attack.name), _foolbox("attacks.base").MinimizationAttack)
    sizes: Sequence[float | None] = [None] if looks_itself else _steps(attack)

    def anew(index: Tensor, size: float | None) -> tuple[Tensor, Tensor]:
        return run(originals[index], labels[index], size)

    straight = len(originals) and is_straight(attack)
    attempt = _straight(module, run, originals, labels) if straight else anew
    found = originals.clone()
    index = (~_wrong(module, originals, labels)).nonzero().flatten()
    for size in sizes:
        if not len(index):
            break
        attacked, fooled = attempt(index, size)
        found[index[fooled]] = attacked[fooled]
        index = index[~fooled]
    return found


def _steps(attack: AttackSettings) -> list[float]:
    """Return the epsilons of a search, in [0, 1] units."""
    # The small addition counts the last step where division falls just below a whole number.
    steps = math.floor(attack.max_epsilon / attack.step + 1e-9)
    return [count * attack.step / 255 for count in range(1, steps + 1)]


def _straight(module: nn.Module, run: _Run, originals: Tensor, labels: Tensor) -> _Attempt:
    """Step in one direction: a gradient for the whole search, rather than one a size."""
    direction = (run(originals, labels, 1 / 255)[0] - originals).sign()

    def attempt(index: Tensor, size: float | None) -> tuple[Tensor, Tensor]:
        assert size is not None
        attacked = (originals[index] + size * direction[index]).clamp(0, 1)
        return attacked, _wrong(module, attacked, labels[index])

    return attempt


def _runner(module: nn.Module, attack: AttackSettings, device: torch.device) -> _Run:
    """Return the attack on this module, as a function."""
    victim = _foolbox("models").PyTorchModel(module, bounds=(0, 1), device=device)
    misclassification = _foolbox("criteria").Misclassification
    instance = build_attack(attack)

    def run(images: Tensor, labels: Tensor, epsilon: float | None) -> tuple[Tensor, Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)
        try:
            criterion = misclassification(labels)
            _, clipped, fooled = instance(victim, images, criterion, epsilons=epsilon)
        except _FOOLBOX_ERRORS as error:
            raise InputError(
                f"attack.name={attack.name} cannot attack these images ({first_line(error)}); "
                "mend attack.arguments, or take another attack, for example FGSM."
            ) from error
        # Clipping is done on the change: adding it again may leave [0, 1] by a rounding error.
        return clipped.detach().clamp(0, 1), fooled

    return run


def _wrong(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return (B,) bool: the prediction is not the label. Infinite or NaN logits predict nothing."""
    with torch.no_grad():
        logits: Tensor = module(images)
    return torch.isfinite(logits).all(dim=1) & (logits.argmax(dim=1) != labels)


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Allow gradients for images, whatever mode the caller is in, and none for parameters.

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
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's and NumPy's global generators, and put them back afterwards."""
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
