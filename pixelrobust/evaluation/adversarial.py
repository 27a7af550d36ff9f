"""Adversarial images under pixel changes, which may recover their true class (Section 6.1.4, Table 9)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust.attacks import Adversarial, craft, is_straight, round_to_8_bits
from pixelrobust.datasets.decoded import Advance
from pixelrobust.datasets.lists import by_lot
from pixelrobust.engine.devices import release_freed_memory
from pixelrobust.errors import InputError
from pixelrobust.evaluation.cells import evaluate_cells
from pixelrobust.evaluation.forward import Design, Task
from pixelrobust.evaluation.store import Keep, compute_anew
from pixelrobust.outcomes.kinds import ADVERSARIAL
from pixelrobust.settings import AttackSettings


def evaluate_adversarial(
    task: Task,
    module: nn.Module,
    attack: AttackSettings,
    design: Design,
    advance: Advance = lambda done: None,
    keep: Keep = compute_anew,
    among: frozenset[str] | None = None,
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

    Returns:
        Columns of `make_outcomes`, and epsilon (text), size (the L-infinity size reached, in
        1/255), rounded, adversarial (the class that the unrounded image is taken for).

    Raises:
        InputError: an argument is wrong, or no image fools the network at any epsilon.
    """

    def attacked(epsilon: float | str) -> pd.DataFrame:
        found = [
            _outcomes(task, fooling, attack.round, design).assign(epsilon=epsilon_text(epsilon))
            for fooling in fooling_batches(
                task, module, attack, epsilon, design.seed, advance, among
            )
        ]
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
    """Images that fool the network, 1 or more.

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


def fooling_batches(
    task: Task,
    module: nn.Module,
    attack: AttackSettings,
    epsilon: float | str,
    seed: int,
    advance: Advance,
    among: frozenset[str] | None = None,
) -> Iterator[Fooling]:
    """Attack batch after batch, until `wanted` images fool the network or all have been tried.

    With keys in `among`, only these images are yielded, and all of them that fool the network.
    """
    missing = attack.wanted if among is None else len(among)
    for batch, index in attack_batches(task, attack, seed, among):
        if missing <= 0:
            return
        made = attack_batch(task, module, index, attack, epsilon, seed, batch)
        asked = torch.tensor([among is None or task.keys[i] in among for i in index])
        rows = torch.nonzero(made.fooled.cpu() & asked).flatten()[:missing]
        missing -= len(rows)
        advance(len(index))
        if len(rows):
            chosen = index[rows.numpy()]
            yield Fooling(
                made.images[rows],
                [task.keys[i] for i in chosen],
                task.labels[chosen],
                made.epsilon[rows].tolist(),
            )
    release_freed_memory()


def attack_batches(
    task: Task, attack: AttackSettings, seed: int, among: frozenset[str] | None = None
) -> list[tuple[int, NDArray[np.int64]]]:
    """Split images into attack batches: the number of each, and the positions of its images.

    Args:
        task: the images.
        attack: random ones draw from one generator for a whole batch, so that an image is attacked
            the same way only in the batch that it belongs to; of others no image hangs on the rest.
        seed: of the run, 0 or more.
        among: keys; batches without any of these images are left out.
    """
    every, size = np.arange(len(task.keys)), task.engine.batch_size
    if attack.sample:
        every = np.array(by_lot(task.keys, seed))
    if among is not None and is_straight(attack):
        every = every[[task.keys[row] in among for row in every]]
    batches = [every[start : start + size] for start in range(0, len(every), size)]
    return [
        (number, index)
        for number, index in enumerate(batches)
        if among is None or not among.isdisjoint(task.keys[row] for row in index)
    ]


def attack_batch(
    task: Task,
    module: nn.Module,
    index: NDArray[np.int64],
    attack: AttackSettings,
    epsilon: float | str,
    seed: int,
    batch: int,
) -> Adversarial:
    """Attack the images of one batch, the same way each time.

    Args:
        task, module: as in `evaluate_adversarial`.
        index: (B,) positions of the images.
        attack, epsilon: how.
        seed: of the run, 0 or more.
        batch: how many batches of the run came before.

    Returns:
        Attacked images on the engine's device, `fooled` only where they fool the engine too.
    """
    engine = task.engine
    originals = torch.as_tensor(task.images[index]).to(engine.device)
    labels = torch.as_tensor(task.labels[index]).to(engine.device)
    made = craft(module, originals, labels, attack, epsilon, seed=(seed + batch) % 2**32)
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
