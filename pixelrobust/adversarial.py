"""Do pixel changes bring adversarial images back to their true class? (Section 6.1.4, Table 9.)"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust.attacks import Adversarial, Attack, craft, round_to_8_bits
from pixelrobust.datasets.cache import Advance
from pixelrobust.engine import Engine
from pixelrobust.engine.feeding import Images
from pixelrobust.engine.memory import release_freed_memory
from pixelrobust.errors import InputError
from pixelrobust.evaluation import evaluate_cells
from pixelrobust.grid import Cell
from pixelrobust.outcomes import ADVERSARIAL_COLUMNS
from pixelrobust.store import Keep, compute_anew


@dataclass(frozen=True)
class Crafting:
    """How adversarial images are made.

    Attributes:
        attack: which attack.
        epsilons: sizes in 1/255, or "minimal".
        step, max_epsilon: of the search for the minimal size, in 1/255.
        rounded: whether the images rounded to 8 bits are evaluated too.
        wanted: at most so many images that fool the network, for each epsilon.
    """

    attack: Attack
    epsilons: tuple[float | str, ...]
    step: float
    max_epsilon: float
    rounded: bool
    wanted: int


def evaluate_adversarial(
    engine: Engine,
    module: nn.Module,
    images: Images,
    keys: Sequence[str],
    labels: NDArray[np.int64],
    crafting: Crafting,
    cells: Sequence[Cell],
    draws: int,
    seed: int,
    name: str,
    advance: Advance = lambda done: None,
    keep: Keep = compute_anew,
) -> pd.DataFrame:
    """Outcomes of changed adversarial images.

    For each epsilon, images are attacked in their order until `wanted` of them fool the network or
    they end. Those are changed, and classified again: as the attack left them, and rounded to 8 bits.

    Args:
        engine, module: the classifier, for outcomes and for gradients.
        images: (N, C, H, W) uint8, correctly classified; may be memory-mapped.
        keys, labels, cells, draws, seed, name, advance: as in `evaluate_cells`; num 0, which is
            the unchanged adversarial image, must be among the cells.
        keep: keeps the outcomes of each epsilon, or has kept them.

    Returns:
        Columns of `make_outcomes`, and epsilon (text), size (the L-infinity size reached, in
        1/255), rounded, adversarial (the class that the unrounded image is taken for).

    Raises:
        InputError: an argument is wrong, or no image fools the network at any epsilon.
    """
    evaluate = partial(evaluate_cells, engine, cells=cells, draws=draws, seed=seed, name=name)

    def attacked(epsilon: float | str) -> pd.DataFrame:
        found = [
            _outcomes(evaluate, fooling, crafting.rounded).assign(epsilon=epsilon_text(epsilon))
            for fooling in fooling_batches(
                engine, module, images, keys, labels, crafting, epsilon, seed, advance
            )
        ]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    every = [
        keep(f"{name}, epsilon {epsilon_text(epsilon)}", partial(attacked, epsilon))
        for epsilon in crafting.epsilons
    ]
    parts = [part for part in every if len(part)]
    if not parts:
        raise InputError(
            f"no image fools model {name} at any of attack.epsilon="
            f"{[epsilon_text(epsilon) for epsilon in crafting.epsilons]}; give larger ones."
        )
    return pd.concat(parts, ignore_index=True)[ADVERSARIAL_COLUMNS]


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


# images, keys, labels -> outcomes in every cell
_Evaluate = Callable[[Tensor, list[str], NDArray[np.int64]], pd.DataFrame]


def fooling_batches(
    engine: Engine,
    module: nn.Module,
    images: Images,
    keys: Sequence[str],
    labels: NDArray[np.int64],
    crafting: Crafting,
    epsilon: float | str,
    seed: int,
    advance: Advance,
) -> Iterator[Fooling]:
    """Attack batch after batch, until `wanted` images fool the network or all have been tried."""
    missing = crafting.wanted
    for batch, index in enumerate(attack_batches(len(keys), engine.batch_size)):
        if missing <= 0:
            return
        made = attack_batch(
            engine, module, images[index], labels[index], crafting, epsilon, seed, batch
        )
        rows = torch.nonzero(made.fooled.cpu()).flatten()[:missing]
        missing -= len(rows)
        advance(len(index))
        if len(rows):
            chosen = index[rows.numpy()]
            yield Fooling(
                made.images[rows],
                [keys[i] for i in chosen],
                labels[chosen],
                made.epsilon[rows].tolist(),
            )
    release_freed_memory()


def attack_batches(images: int, batch_size: int) -> list[NDArray[np.int64]]:
    """Which of so many images are attacked together, by their positions."""
    every = np.arange(images)
    return [every[start : start + batch_size] for start in range(0, images, batch_size)]


def attack_batch(
    engine: Engine,
    module: nn.Module,
    images: Images,
    labels: NDArray[np.int64],
    crafting: Crafting,
    epsilon: float | str,
    seed: int,
    batch: int,
) -> Adversarial:
    """Attack the images of one batch, the same way each time.

    Args:
        engine, module: the classifier, for predictions and for gradients.
        images: (B, C, H, W) uint8.
        labels: (B,) true classes.
        crafting, epsilon: how.
        seed: of the run, 0 or more.
        batch: how many batches of the run came before.

    Returns:
        Attacked images on the engine's device, `fooled` only where they fool the engine too.
    """
    truth = torch.as_tensor(labels).to(engine.device)
    made = craft(
        module, torch.as_tensor(images).to(engine.device), truth, crafting.attack, epsilon,
        step=crafting.step, max_epsilon=crafting.max_epsilon, seed=(seed + batch) % 2**32,
    )  # fmt: skip
    # The engine's predictions decide, since they make the outcomes.
    return replace(made, fooled=made.fooled & (engine.predict(made.images) != truth))


def _outcomes(evaluate: _Evaluate, fooling: Fooling, rounded: bool) -> pd.DataFrame:
    """Outcomes of some adversarial images, unrounded and, if asked for, rounded."""
    versions = {False: fooling.images}
    if rounded:
        versions[True] = round_to_8_bits(fooling.images)
    parts = [
        evaluate(version, fooling.keys, fooling.labels).assign(rounded=kind)
        for kind, version in versions.items()
    ]
    unchanged = parts[0].loc[parts[0]["num"] == 0]
    adversarial = dict(zip(unchanged["image"], unchanged["prediction"], strict=True))
    sizes = dict(zip(fooling.keys, fooling.sizes, strict=True))
    outcomes = pd.concat([part.astype({"image": object, "model": object}) for part in parts])
    return outcomes.assign(
        adversarial=outcomes["image"].map(adversarial).astype("int32"),
        size=outcomes["image"].map(sizes).astype("float32"),
    )


def epsilon_text(epsilon: float | str) -> str:
    return epsilon if isinstance(epsilon, str) else f"{epsilon:g}"
