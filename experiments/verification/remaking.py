"""Adversarial images of a stored run, made again."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.verification.comparing import BORDERLINE, found
from pixelrobust.attacks import is_straight
from pixelrobust.engine.base import label_margins
from pixelrobust.evaluation.adversarial import (
    attack_batch,
    attack_batches,
    unrounded_and_rounded,
)
from pixelrobust.evaluation.forward import Task
from pixelrobust.settings import AttackSettings

# Of sizes in 1/255.
_SAME_SIZE = 1e-2


class Attacked(NamedTuple):
    """How images were attacked.

    Attributes:
        task: the network that they were to fool, and all images that were attacked.
        module: the network.
        attack, epsilon: how.
        seed: of the run.
    """

    task: Task
    module: nn.Module
    attack: AttackSettings
    epsilon: float | str
    seed: int


class Remade(NamedTuple):
    """An image attacked again.

    Attributes:
        original, image: (C, H, W) float on the CPU, before the attack and after it.
        size: L-infinity size of the change in 1/255; 0 where it does not fool the network.
        label: the true class, as an output of the network.
    """

    original: Tensor
    image: Tensor
    size: float
    label: int


def remake(attacked: Attacked, keys: set[str]) -> dict[str, Remade]:
    """Some images attacked once more."""
    task, made = attacked.task, dict[str, Remade]()
    for batch, index in _batches_with(attacked, keys):
        result = attack_batch(
            task, attacked.module, index, attacked.attack, attacked.epsilon, attacked.seed, batch
        )
        after, sizes = result.images.cpu(), torch.where(result.fooled, result.epsilon, 0).tolist()
        before = torch.tensor(np.asarray(task.images[index])).float() / 255
        made |= {
            task.keys[row]: Remade(before[i], after[i], sizes[i], int(task.labels[row]))
            for i, row in enumerate(index.tolist())
            if task.keys[row] in keys
        }
    return made


def _batches_with(attacked: Attacked, keys: set[str]) -> list[tuple[int, NDArray[np.int64]]]:
    """What has to be attacked: the number of each batch, and the positions of its images."""
    every, size = attacked.task.keys, attacked.task.engine.batch_size
    if is_straight(attacked.attack):
        # No image hangs on the others.
        wanted = np.array([row for row, key in enumerate(every) if key in keys], dtype=np.int64)
        return [
            (batch, wanted[index]) for batch, index in enumerate(attack_batches(len(wanted), size))
        ]
    # Random attacks draw from one generator for the whole batch.
    return [
        (batch, index)
        for batch, index in enumerate(attack_batches(len(every), size))
        if not keys.isdisjoint(every[row] for row in index)
    ]


def versions_of(made: Mapping[str, Remade]) -> dict[bool, Tensor]:
    """(N, C, H, W) each: the images as the attack leaves them (False), and rounded to 8 bits (True)."""
    return unrounded_and_rounded(torch.stack([one.image for one in made.values()]))


def labels_of(made: Mapping[str, Remade]) -> NDArray[np.int64]:
    """(N,) the true classes, as outputs of the network."""
    return np.array([one.label for one in made.values()], dtype=np.int64)


def ends_elsewhere(
    attacked: Attacked, stored: pd.DataFrame, made: Mapping[str, Remade], words: str
) -> pd.DataFrame:
    """Images at which the attack ends now with a change of another size; columns `comparing.COLUMNS`.

    It is borderline where the smaller change all but ties the label with another class: only of
    attacks that go straight on, of which that change is known.

    Args:
        attacked: how they were attacked.
        stored: columns model, image and size (0: the attack failed).
        made: the images, attacked again.
        words: which attack.
    """
    rows = stored.drop_duplicates(["image", "size"])
    again = [made[str(key)] for key in rows["image"]]
    pairs = list(zip(rows["size"].astype(float), again, strict=True))
    # What is no number is not the same either.
    differs = [not abs(size - one.size) <= _SAME_SIZE for size, one in pairs]
    faulty = [pair for pair, other in zip(pairs, differs, strict=True) if other]
    return found(
        rows[differs],
        [words] * len(faulty),
        [_size_in_words(size) for size, _ in faulty],
        [_size_in_words(one.size) for _, one in faulty],
        np.array(
            ["borderline" if _ties(attacked, *pair) else "attack" for pair in faulty], dtype=object
        ),
        outcomes=0,
    )


def _ties(attacked: Attacked, stored: float, made: Remade) -> bool:
    """Whether the smaller of two changes, the stored one and this, all but ties two classes."""
    change = made.image - made.original
    largest = float(change.abs().max()) * 255
    size = min((one for one in (stored, made.size) if one > 0), default=0.0)
    if not is_straight(attacked.attack) or not largest:
        return False
    image = (made.original + change * (size / largest)).clamp(0, 1)[None]
    engine = attacked.task.engine
    logits = engine.logits(image.to(engine.device))
    margin = label_margins(logits, torch.tensor([made.label], device=engine.device))
    return abs(float(margin[0])) <= BORDERLINE


def _size_in_words(size: float) -> str:
    return f"fooled by {size:.4g}/255" if size > 0 else "not fooled"
