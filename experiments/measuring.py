"""What a run measures of each network: outcomes, outcomes of attacked images, or activations."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.progress import Progress
from pixelrobust.activations import layer_changes
from pixelrobust.adversarial import Crafting, evaluate_adversarial
from pixelrobust.attacks import Attack
from pixelrobust.datasets.cache import PixelRows
from pixelrobust.engine import Engine
from pixelrobust.evaluation import count_passes, evaluate_cells
from pixelrobust.models import Classifier
from pixelrobust.outcomes import ACTIVATION_COLUMNS, concatenate, with_cell
from pixelrobust.settings import AttackSettings, RunSettings


class Chosen(NamedTuple):
    """The images that take part, (N, C, H, W) uint8, with their N keys and labels."""

    pixels: PixelRows
    keys: list[str]
    labels: NDArray[np.int64]


Measurement = Callable[[RunSettings, Chosen, Classifier, Engine, Progress], pd.DataFrame]


def measurement(settings: RunSettings) -> Measurement:
    """What these settings ask for."""
    if settings.measure == "activations":
        return _activations
    return _adversarial_outcomes if settings.attack else _outcomes


def _outcomes(
    settings: RunSettings, chosen: Chosen, classifier: Classifier, engine: Engine, progress: Progress
) -> pd.DataFrame:  # fmt: skip
    cells, draws = settings.perturbation.cells(), settings.draws
    total = count_passes(cells, len(chosen.keys), draws)
    with progress.task(classifier.name, total) as advance:
        return evaluate_cells(
            engine, *chosen, cells, draws, settings.seed, classifier.name, advance
        )


def _adversarial_outcomes(
    settings: RunSettings, chosen: Chosen, classifier: Classifier, engine: Engine, progress: Progress
) -> pd.DataFrame:  # fmt: skip
    crafting = crafting_of(attack_of(settings))
    with progress.task(classifier.name, len(chosen.keys) * len(crafting.epsilons)) as advance:
        return evaluate_adversarial(
            engine, classifier.module, *chosen, crafting, settings.perturbation.cells(),
            settings.draws, settings.seed, classifier.name, advance,
        )  # fmt: skip


def _activations(
    settings: RunSettings, chosen: Chosen, classifier: Classifier, engine: Engine, progress: Progress
) -> pd.DataFrame:  # fmt: skip
    cells = [cell for cell in settings.perturbation.cells() if cell.num]
    pixels = chosen.pixels[np.arange(len(chosen.keys))]
    with progress.task(classifier.name, len(chosen.keys) * len(cells)) as advance:
        parts = [
            with_cell(
                layer_changes(
                    classifier.module, pixels, chosen.keys, cell, seed=settings.seed,
                    batch_size=engine.batch_size, advance=advance,
                ),
                cell,
            )
            for cell in cells
        ]  # fmt: skip
    return concatenate(parts).assign(model=classifier.name)[ACTIVATION_COLUMNS]


def attack_of(settings: RunSettings) -> AttackSettings:
    """The attack of settings that have one."""
    assert settings.attack
    return settings.attack


def crafting_of(attack: AttackSettings) -> Crafting:
    """How the settings want adversarial images made."""
    return Crafting(
        Attack(attack.target, tuple(attack.arguments.items())),
        attack.epsilon,
        attack.step,
        attack.max_epsilon,
        attack.round,
        attack.wanted,
    )
