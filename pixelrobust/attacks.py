"""Adversarial images, made by foolbox's attacks: tiny changes that a classifier gets wrong."""

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pixelrobust.datasets.lists import as_keys, as_labels
from pixelrobust.errors import InputError, first_line
from pixelrobust.files import how_to_install
from pixelrobust.perturbation.pixels import (
    as_floats,
    check_seed,
    check_uint8_images,
    check_unit_range,
    unit_floats,
)
from pixelrobust.settings import MINIMAL, AttackSettings, as_epsilon, fingerprint, overshoot_of

# What foolbox raises where an attack's arguments or its kind do not suit. torch's own errors, such
# as too little memory, are RuntimeErrors and pass as they are.
_FOOLBOX_ERRORS = (TypeError, ValueError, AssertionError, NotImplementedError)
# Arguments of foolbox's attacks that name a folder to write into.
_WRITING = ("tensorboard",)

# The refined search of foolbox 1 and 2: where one of so many first steps fools, it begins again, in as
# many steps up to there.
_REFINED = 20
# How often the bracket around the smallest epsilon is halved: 0.255/255 becomes 0.00006/255.
_HALVINGS = 12
# An attack that has come so far, in forward passes of a trial, works.
_TRIAL_PASSES = 1000
_TRIAL_SIDE = 32
_TRIAL_CLASSES = 1000

# Positions (K,) of images, epsilon in [0, 1] units or None -> attacked images, whether they fool.
_Run = Callable[[Tensor, float | None], tuple[Tensor, Tensor]]
# Positions (K,) of images, and of each a size in 1/255 -> the same, of these images; on the CPU are
# positions, sizes, and whether the images fool.
_Attempt = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


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
    keys: Sequence[str] | None = None,
    smallest: MutableMapping[str, float] | None = None,
) -> Adversarial:
    """Attack a batch of images, so that their predicted class is not their label.

    "minimal" asks for the smallest change. An attack that does not look for that itself is tried at
    epsilons of 1, 2, 3, … steps, on the images that are not fooled yet: the search that foolbox 1
    and 2 made by default, in 1,000 steps over the whole value range, which is step=0.255. With
    `refine`, theirs for single-step attacks: an image that one of the first 20 steps fools is tried
    again at epsilons of 1, 2, 3, … twentieths of that one. Images that are wrong as they are come
    back unchanged, fooled at epsilon 0; images that are not fooled come back unchanged too. For
    attacks that look for the smallest change themselves, max_epsilon limits the largest absolute
    change.

    "1.5x" asks for 1.5 times the smallest: the interval between the last size of that search that
    does not fool and the first that does is halved 12 times, and the upper end counts. max_epsilon
    limits the search, not the multiple. Images that this size does not fool come back unchanged.

    At a given epsilon every image is attacked, and comes back as the attack leaves it.

    What an attack draws at random is a function of (seed, image key), so neither batches nor
    processes matter. Attacks that descend a gradient draw a start for each image; others that may
    draw, or stop by what the whole batch has reached, are given one image at a time.

    Args:
        module: (B, C, H, W) float in [0, 1] -> (B, K) logits; in eval mode, on the images' device.
            Its parameters, their gradients and requires_grad flags are left as they are.
        images: (B, C, H, W) uint8.
        labels: (B,) or (B, 1) integers, the true classes.
        attack: which attack, and how the smallest epsilon is searched for, such as
            `pixelrobust.settings.attack_settings(name="FGSM")`.
        epsilon: one size, whatever the settings list: the change in 1/255, as measured by the
            attack's own norm (FGSM, BIM and PGD: the largest absolute change); "minimal"; or, of an
            attack that goes straight on, a multiple of it, such as "1.5x".
        seed: 0 or more.
        keys: B image keys; by default "0", "1", ….
        smallest: where multiples keep the smallest epsilon of each image, in 1/255 (0: none fools), so
            that it is searched for once, by its key; the caller's for one module, attack and seed.

    Raises:
        InputError: an argument is wrong, or the attack cannot work on this task.
    """
    epsilon, seed = as_epsilon(epsilon), check_seed(seed)
    if overshoot_of(epsilon) and not is_straight(attack):
        raise InputError(
            f"attack.epsilon={epsilon} needs an attack that goes straight on, which "
            f"attack.name={attack.name} does not; give numbers or minimal, or take FGSM."
        )
    labels = _check_batch(module, images, labels)
    keys = as_keys(keys, len(images))
    if len(images) > 1 and not is_apart(attack):
        return _one_by_one(module, images, labels, attack, epsilon, seed, keys)
    seeds = [int(fingerprint(seed, key)[:8], 16) for key in keys]
    with _undisturbed(module), _seeded(seeds[0] if seeds else 0, images.device):
        # Like the engine's: channels-last layout is far quicker on CPUs.
        originals = as_floats(images)
        # Copied, since autograd refuses tensors that were made in inference mode.
        labels = labels.to(images.device, copy=True)
        run = _runner(module, attack, originals, labels, seeds)
        times = overshoot_of(epsilon)
        if not len(images):
            attacked = originals
        elif times is not None:
            known = {} if smallest is None else smallest
            attacked = _go_beyond(module, attack, run, originals, labels, times, keys, known)
        elif isinstance(epsilon, str):
            attacked = _search(module, attack, run, originals, labels)
        else:
            every = torch.arange(len(images))
            attacked = run(every, epsilon / 255)[0]
        wrong = _wrong(module, attacked, labels)
    changes = (attacked - originals).abs().flatten(1).amax(dim=1) * 255
    if epsilon == MINIMAL:
        # foolbox's Carlini-Wagner attack gives black images where it fails, and counts them as
        # successes where black is misclassified. The thousandth is for float32's own rounding.
        wrong &= changes <= attack.max_epsilon + 1e-3
    if isinstance(epsilon, str):
        attacked = torch.where(wrong[:, None, None, None], attacked, originals)
    return Adversarial(attacked, wrong, torch.where(wrong, changes, torch.nan))


def _one_by_one(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: AttackSettings,
    epsilon: float | str,
    seed: int,
    keys: Sequence[str],
) -> Adversarial:
    made = [
        craft(
            module,
            images[row : row + 1],
            labels[row : row + 1],
            attack,
            epsilon,
            seed=seed,
            keys=[key],
        )
        for row, key in enumerate(keys)
    ]
    return Adversarial(
        torch.cat([one.images for one in made]),
        torch.cat([one.fooled for one in made]),
        torch.cat([one.epsilon for one in made]),
    )


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
    return unit_floats((images * 255).round().to(torch.uint8), images.dtype)


def check_attack(attack: AttackSettings, classes: int) -> None:
    """Attack images of noise, as long as a second may take, to see that the attack works here.

    Args:
        attack: tried at each of its epsilons.
        classes: of the network that is to be attacked.

    Raises:
        InputError: the attack does not exist, lacks a package, does not take its arguments or
            epsilons, or needs what images and their classes do not give it.
    """
    shape = (2, 3, _TRIAL_SIDE, _TRIAL_SIDE)
    images = torch.randint(256, shape, generator=torch.Generator().manual_seed(0))
    for epsilon in attack.epsilon:
        # More classes than this would take memory, and show no more.
        network = _Trial(min(classes, _TRIAL_CLASSES)).eval()
        labels = network(images / 255).argmax(dim=1)
        with suppress(_WorksError):
            craft(network, images.to(torch.uint8), labels, attack, epsilon)


class _WorksError(Exception):
    """End an attack that has come far enough."""


class _Trial(nn.Module):
    """A linear network, which ends the attack after so many forward passes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(
            torch.randn(3 * _TRIAL_SIDE**2, classes, generator=generator) / _TRIAL_SIDE
        )
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        if self.passes > _TRIAL_PASSES:
            raise _WorksError
        return (images - 0.5).flatten(1) @ self.weight


def is_straight(attack: AttackSettings) -> bool:
    """Tell whether epsilon only says how far to go, in a direction that does not depend on it."""
    fgsm = _foolbox("attacks").LinfFastGradientAttack
    return find_attack(attack.name) is fgsm and not build_attack(attack).random_start


def is_apart(attack: AttackSettings) -> bool:
    """Tell whether an attack treats each image of a batch as if it were alone, but for its random start."""
    return _descends(attack) or issubclass(
        find_attack(attack.name), _foolbox("attacks.deepfool").DeepFoolAttack
    )


def _descends(attack: AttackSettings) -> bool:
    base = _foolbox("attacks.gradient_descent_base").BaseGradientDescent
    return issubclass(find_attack(attack.name), base)


def _is_single_step(attack: AttackSettings) -> bool:
    """Tell whether an attack takes one step along the gradient, in whatever norm."""
    attacks = _foolbox("attacks")
    single = {getattr(attacks, f"{norm}FastGradientAttack") for norm in ("L1", "L2", "Linf")}
    return find_attack(attack.name) in single


def build_attack(attack: AttackSettings) -> Any:
    """Return foolbox's object of an attack.

    Raises:
        InputError: there is no such attack, it does not take these arguments, or needs a package
            that is not installed.
    """
    kind = find_attack(attack.name)
    if attack.refine and not _is_single_step(attack):
        raise InputError(
            f"attack.refine=true is for attacks of a single step, and attack.name={attack.name} is "
            "none; set attack.refine=false, or take FGSM."
        )
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
    except ImportError as error:
        raise InputError(
            f"attack.name={attack.name} cannot run here ({first_line(error)}); install what it needs, or "
            "take another attack, for example FGSM."
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


def _check_batch(module: nn.Module, images: Tensor, labels: Any) -> Tensor:
    """Return (B,) int64 labels; InputError where something does not suit."""
    if any(part.training for part in module.modules()):
        raise InputError("the model is in training mode; call its eval() before attacking it.")
    check_uint8_images(images)
    return torch.from_numpy(as_labels(labels, len(images)))


def _search(
    module: nn.Module, attack: AttackSettings, run: _Run, originals: Tensor, labels: Tensor
) -> Tensor:
    """Change images by the first size that fools; leave them where none does, or none need."""
    found = originals.clone()
    index = (~_wrong(module, originals, labels)).nonzero().flatten().cpu()
    if not len(index):
        return found
    if issubclass(find_attack(attack.name), _foolbox("attacks.base").MinimizationAttack):
        attacked, fooled = run(index, None)
        found[index[fooled.cpu()]] = attacked[fooled]
        return found
    attempts = _straight if is_straight(attack) else _anew
    _bracket(attack, attempts(module, run, originals, labels), found, index)
    return found


def _go_beyond(
    module: nn.Module,
    attack: AttackSettings,
    run: _Run,
    originals: Tensor,
    labels: Tensor,
    times: float,
    keys: Sequence[str],
    smallest: MutableMapping[str, float],
) -> Tensor:
    """Change images by so many times their smallest size that fools, whether that fools or not.

    Args:
        module, attack, run, originals, labels: as in `_search`; the attack goes straight on.
        times: the multiple.
        keys: of the images.
        smallest: sizes by key, 0 where none fools or none need; what is not there is searched for.
    """
    attempt = _straight(module, run, originals, labels)
    unknown = torch.tensor([key not in smallest for key in keys], dtype=torch.bool)
    index = (unknown & ~_wrong(module, originals, labels).cpu()).nonzero().flatten()
    size, step = _bracket(attack, attempt, originals.clone(), index)
    index, low, high = (part[size > 0] for part in (index, size - step, size))
    for _ in range(_HALVINGS if len(index) else 0):
        middle = (low + high) / 2
        fools = attempt(index, middle)[1]
        low, high = torch.where(fools, low, middle), torch.where(fools, middle, high)
    found = dict.fromkeys(keys, 0.0)
    found |= {keys[at]: end for at, end in zip(index.tolist(), high.tolist(), strict=True)}
    smallest.update({key: size for key, size in found.items() if key not in smallest})
    sizes = torch.tensor([smallest[key] for key in keys], dtype=torch.float64)
    return attempt(torch.arange(len(keys)), times * sizes)[0]


def _bracket(
    attack: AttackSettings, attempt: _Attempt, found: Tensor, index: Tensor
) -> tuple[Tensor, Tensor]:
    """Change images by the first size of the attack's search that fools.

    Args:
        attack: says the steps of the search.
        attempt: the attack.
        found: of all images; those that are fooled are put here.
        index: (K,) positions of the images that are tried.

    Returns:
        (K,) sizes that fool, 0 where none does, and the last steps before them, in 1/255.
    """
    step = torch.full((len(index),), attack.step, dtype=torch.float64)
    # The small addition counts the last step where division falls just below a whole number.
    size = _climb(attempt, found, index, step, math.floor(attack.max_epsilon / attack.step + 1e-9))
    if attack.refine:
        near = (size > 0) & (size <= (_REFINED + 0.5) * attack.step)
        step = torch.where(near, size / _REFINED, step)
        # The last of the steps is the size that has fooled already.
        finer = _climb(attempt, found, index[near], step[near], _REFINED - 1)
        size[near] = torch.where(finer > 0, finer, size[near])
    return size, step


def _climb(attempt: _Attempt, found: Tensor, index: Tensor, step: Tensor, count: int) -> Tensor:
    """Change images by the first of 1, 2, … `count` steps of their own that fools.

    Args:
        attempt: the attack.
        found: of all images; those that are fooled are put here.
        index: (K,) positions of the images that are tried.
        step: (K,) in 1/255.

    Returns:
        (K,) the sizes that fool, in 1/255; 0 where none does.
    """
    size, left = torch.zeros_like(step), torch.arange(len(index))
    for steps in range(1, count + 1):
        if not len(left):
            break
        attacked, fools = attempt(index[left], steps * step[left])
        size[left[fools]] = steps * step[left[fools]]
        found[index[left[fools]]] = attacked[fools.to(attacked.device)]
        left = left[~fools]
    return size


def _anew(module: nn.Module, run: _Run, originals: Tensor, labels: Tensor) -> _Attempt:
    """Attack anew at every size."""

    def attempt(index: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        attacked, fools = originals[index], torch.zeros(len(index), dtype=torch.bool)
        for size in torch.unique(sizes):
            rows = (sizes == size).nonzero().flatten()
            images, fooled = run(index[rows], float(size) / 255)
            attacked[rows], fools[rows] = images, fooled.cpu()
        return attacked, fools

    return attempt


def _straight(module: nn.Module, run: _Run, originals: Tensor, labels: Tensor) -> _Attempt:
    """Step in one direction: a gradient for the whole search, rather than one a size."""
    direction = (run(torch.arange(len(originals)), 1 / 255)[0] - originals).sign()

    def attempt(index: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        shift = (sizes / 255).float().to(originals.device)[:, None, None, None]
        attacked = (originals[index] + shift * direction[index]).clamp(0, 1)
        return attacked, _wrong(module, attacked, labels[index]).cpu()

    return attempt


def _runner(
    module: nn.Module,
    attack: AttackSettings,
    originals: Tensor,
    labels: Tensor,
    seeds: Sequence[int],
) -> _Run:
    """Return the attack on some of these images as a function, each with a seed of its own."""
    victim = _foolbox("models").PyTorchModel(module, bounds=(0, 1), device=originals.device)
    misclassification = _foolbox("criteria").Misclassification
    instance = build_attack(attack)

    def run(index: Tensor, epsilon: float | None) -> tuple[Tensor, Tensor]:
        if _descends(attack):
            own = [seeds[row] for row in index.tolist()]
            instance.get_random_start = partial(_random_starts, instance, own)
        images = originals[index].contiguous(memory_format=torch.channels_last)
        try:
            criterion = misclassification(labels[index])
            _, clipped, fooled = instance(victim, images, criterion, epsilons=epsilon)
        except _FOOLBOX_ERRORS as error:
            raise InputError(
                f"attack.name={attack.name} cannot attack these images ({first_line(error)}); "
                "mend attack.arguments, or take another attack, for example FGSM."
            ) from error
        # Clipping is done on the change: adding it again may leave [0, 1] by a rounding error.
        return clipped.detach().clamp(0, 1), fooled

    return run


def _random_starts(instance: Any, seeds: Sequence[int], images: Any, epsilon: float) -> Any:
    """Return random starts of an attack, each drawn by a seed of its own, on the CPU as everywhere.

    Args:
        instance: the attack.
        seeds: B of them.
        images: (B, C, H, W), of foolbox's kind of tensors.
        epsilon: the attack's.
    """
    starts = []
    for seed, image in zip(seeds, images.raw.cpu().split(1), strict=True):
        with _seeded(seed, image.device):
            start = type(instance).get_random_start(instance, type(images)(image), epsilon)
            starts.append(start.raw)
    return type(images)(torch.cat(starts).to(images.raw.device))


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
