"""Adversarial images under pixel changes, which may recover their true class (Section 6.1.4, Table 9)."""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust.attacks import Adversarial, craft, is_apart, is_straight, round_to_8_bits
from pixelrobust.datasets.decoded import Advance
from pixelrobust.datasets.lists import by_lot
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.engine.devices import release_freed_memory
from pixelrobust.engine.feeding import split_batches
from pixelrobust.errors import InputError
from pixelrobust.evaluation.cells import evaluate_cells
from pixelrobust.evaluation.forward import Design, Task
from pixelrobust.evaluation.store import Keep, compute_anew
from pixelrobust.outcomes.kinds import ADVERSARIAL
from pixelrobust.settings import AttackSettings

_T = TypeVar("_T")


def evaluate_adversarial(
    task: Task,
    module: nn.Module,
    attack: AttackSettings,
    design: Design,
    advance: Advance = lambda done: None,
    keep: Keep = compute_anew,
    among: frozenset[str] | None = None,
    context: Context = SINGLE,
) -> pd.DataFrame:
    """Evaluate changed adversarial images.

    For each epsilon, images are attacked until `wanted` of them fool the network or they end: with
    `sample` in a random order that seed and keys decide, so that they are a sample of those that
    fool, else in their own. Those are changed, and classified again: as the attack left them, and rounded to 8 bits.

    Args:
        task: the classifier, and correctly classified images, uint8.
        module: the classifier, for gradients.
        attack: how images are attacked.
        design: how attacked images are changed; num 0, which is the unchanged adversarial image,
            must be among the cells.
        advance: told how many images have been attacked.
        keep: keeps the outcomes of each epsilon, or has kept them.
        among: keys of images; only these are evaluated, however many fool the network.
        context: this process among those that attack batches in turns; all are given the same other
            arguments, but for the engine's device.

    Returns:
        The same in every process. Columns of `make_outcomes`, and epsilon (text), size (the L-infinity size reached, in
        1/255), rounded, adversarial (the class that the unrounded image is taken for).

    Raises:
        InputError: an argument is wrong, or no image fools the network at any epsilon.
    """

    smallest: dict[str, float] = {}

    def attacked(epsilon: float | str) -> pd.DataFrame:
        def shown(fooling: Fooling) -> pd.DataFrame:
            own = _outcomes(task, fooling, attack.round, design)
            return own.assign(epsilon=epsilon_text(epsilon))

        found = show_fooling(
            shown, task, module, attack, epsilon, design.seed, advance, among, context, smallest
        )
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    every = [
        keep(f"{task.name}, epsilon {epsilon_text(epsilon)}", partial(attacked, epsilon))
        for epsilon in attack.epsilon
    ]
    parts = [part for part in every if len(part)]
    if not parts and among is not None:
        return pd.DataFrame(columns=ADVERSARIAL.columns)
    if not parts:
        raise InputError(
            f"no image fools model {task.name} at any of attack.epsilon="
            f"{[epsilon_text(epsilon) for epsilon in attack.epsilon]}; give larger ones."
        )
    return pd.concat(parts, ignore_index=True)[ADVERSARIAL.columns]


@dataclass(frozen=True)
class Fooling:
    """Images that fool the network.

    Attributes:
        images: (n, C, H, W) float, as the attack left them.
        keys: n image keys.
        labels: (n,) true classes.
        sizes: n L-infinity sizes of the attack's changes, in 1/255.
    """

    images: Tensor
    keys: list[str]
    labels: NDArray[np.int64]
    sizes: list[float]

    def first(self, count: int) -> "Fooling":
        """Return the first so many of them, or all."""
        return Fooling(
            self.images[:count], self.keys[:count], self.labels[:count], self.sizes[:count]
        )


def show_fooling(
    show: Callable[[Fooling], _T],
    task: Task,
    module: nn.Module,
    attack: AttackSettings,
    epsilon: float | str,
    seed: int,
    advance: Advance,
    among: frozenset[str] | None = None,
    context: Context = SINGLE,
    smallest: MutableMapping[str, float] | None = None,
) -> list[_T]:
    """Attack batch after batch, until `wanted` images fool the network or all have been tried.

    Processes take the batches in turns. After each turn they count what fools, and leave out what a
    single process, which stops at the wanted image, would not have come to.

    Args:
        show: given the images of each batch that fool the network.
        task, module, attack, advance, context: as in `evaluate_adversarial`.
        epsilon: one of the attack's.
        seed: of the run, 0 or more.
        among: keys; only these images are shown, and all of them that fool the network.
        smallest: where multiples keep the smallest epsilons, see `craft`.

    Returns:
        What `show` returned, in the order of the batches; the same in every process.
    """
    missing = attack.wanted if among is None else len(among)
    size = min(context.gather(task.engine.batch_size))
    batches = attack_batches(task, attack, seed, size, among)
    found: list[list[_T]] = []
    for first in range(0, len(batches), context.world_size):
        turn = batches[first : first + context.world_size]
        # The last turn may not come to all.
        own = [
            _fooling(task, module, index, attack, epsilon, seed, among, smallest)
            for index in turn[context.rank : context.rank + 1]
        ]
        counts = context.gather(sum(len(fooling.keys) for fooling in own))
        left = max(missing - sum(counts[: context.rank]), 0)
        found.append([show(fooling.first(left)) for fooling in own if fooling.keys and left])
        missing -= sum(counts)
        advance(sum(map(len, turn)))
        if missing <= 0:
            break
    release_freed_memory()
    turns = zip(*context.gather(found), strict=True)
    return [one for turn in turns for shown in turn for one in shown]


def _fooling(
    task: Task,
    module: nn.Module,
    index: NDArray[np.int64],
    attack: AttackSettings,
    epsilon: float | str,
    seed: int,
    among: frozenset[str] | None,
    smallest: MutableMapping[str, float] | None,
) -> Fooling:
    """Return what fools the network of the images at some positions, and is asked for."""
    made = attack_batch(task, module, index, attack, epsilon, seed, smallest)
    asked = torch.tensor([among is None or task.keys[i] in among for i in index])
    rows = torch.nonzero(made.fooled.cpu() & asked).flatten()
    positions = index[rows.numpy()]
    return Fooling(
        made.images[rows],
        [task.keys[i] for i in positions],
        task.labels[positions],
        made.epsilon[rows].tolist(),
    )


def attack_batches(
    task: Task,
    attack: AttackSettings,
    seed: int,
    size: int,
    among: frozenset[str] | None = None,
) -> list[NDArray[np.int64]]:
    """Split images into attack batches, each the positions of its images.

    Args:
        task: the images.
        attack: no image hangs on the rest of its batch, but for the rounding of sums, and attacks that
            do not go straight on can follow from that to other images.
        seed: of the run, 0 or more.
        size: images of a batch.
        among: keys; batches without any of these images are left out.
    """
    every = np.arange(len(task.keys))
    if attack.sample:
        every = np.array(by_lot(task.keys, seed))
    is_asked = np.array([among is None or key in among for key in task.keys])
    if is_straight(attack) or not is_apart(attack):
        every = every[is_asked[every]]
    return [index for index in split_batches(every, size) if is_asked[index].any()]


def attack_batch(
    task: Task,
    module: nn.Module,
    index: NDArray[np.int64],
    attack: AttackSettings,
    epsilon: float | str,
    seed: int,
    smallest: MutableMapping[str, float] | None = None,
) -> Adversarial:
    """Attack some images, the same way each time.

    Args:
        task, module: as in `evaluate_adversarial`.
        index: (B,) positions of the images.
        attack, epsilon: how.
        seed: of the run, 0 or more.
        smallest: as in `show_fooling`.

    Returns:
        Attacked images on the engine's device, `fooled` only where they fool the engine too.
    """
    engine = task.engine
    originals = torch.as_tensor(task.images[index]).to(engine.device)
    labels = torch.as_tensor(task.labels[index]).to(engine.device)
    keys = [task.keys[i] for i in index]
    made = craft(
        module, originals, labels, attack, epsilon, seed=seed, keys=keys, smallest=smallest
    )
    # The engine's predictions decide, since they make the outcomes.
    return replace(made, fooled=made.fooled & (engine.predict(made.images) != labels))


def _outcomes(task: Task, fooling: Fooling, rounded: bool, design: Design) -> pd.DataFrame:
    """Evaluate some adversarial images, unrounded and, if asked for, rounded."""
    shown = task._replace(keys=fooling.keys, labels=fooling.labels)
    parts = [
        evaluate_cells(shown._replace(images=images), design).assign(rounded=kind)
        for kind, images in unrounded_and_rounded(fooling.images).items()
        if rounded or not kind
    ]
    unchanged = parts[0].loc[parts[0]["num"] == 0]
    adversarial = dict(zip(unchanged["image"], unchanged["prediction"], strict=True))
    sizes = dict(zip(fooling.keys, fooling.sizes, strict=True))
    outcomes = pd.concat([part.astype({"image": object, "model": object}) for part in parts])
    return outcomes.assign(
        adversarial=outcomes["image"].map(adversarial).astype("int32"),
        size=outcomes["image"].map(sizes).astype("float32"),
    )


def unrounded_and_rounded(images: Tensor) -> dict[bool, Tensor]:
    """Return adversarial images as the attack leaves them (False), and rounded to 8 bits (True)."""
    return {False: images, True: round_to_8_bits(images)}


def epsilon_text(epsilon: float | str) -> str:
    return epsilon if isinstance(epsilon, str) else f"{epsilon:g}"
