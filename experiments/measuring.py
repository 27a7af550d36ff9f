"""What a run measures of each network: outcomes, outcomes of attacked images, or activations."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.resources import Session
from pixelrobust.activations import layer_changes
from pixelrobust.adversarial import Crafting, evaluate_adversarial
from pixelrobust.attacks import Attack
from pixelrobust.datasets.cache import PixelRows
from pixelrobust.distributed import evaluate_shards, shard
from pixelrobust.engine import Engine, Predicted
from pixelrobust.evaluation import count_passes
from pixelrobust.grid import Cell
from pixelrobust.models import Classifier
from pixelrobust.outcomes import ACTIVATION_COLUMNS, concatenate, with_cell
from pixelrobust.settings import AttackSettings, RunSettings


class Chosen(NamedTuple):
    """The images that take part, (N, C, H, W) uint8, with their N keys and labels."""

    pixels: PixelRows
    keys: list[str]
    labels: NDArray[np.int64]


class Subject(NamedTuple):
    """The network that is measured, what runs it, and what it takes the N unchanged images for.

    The last is None where it is not known.
    """

    classifier: Classifier
    engine: Engine
    unchanged: Predicted | None


Measurement = Callable[[Session, Chosen, Subject], pd.DataFrame]


def measurement(settings: RunSettings) -> Measurement:
    """What these settings ask for."""
    if settings.measure == "activations":
        return _activations
    return _adversarial_outcomes if settings.attack else _outcomes


def _outcomes(session: Session, chosen: Chosen, subject: Subject) -> pd.DataFrame:
    name, cells = subject.classifier.name, session.settings.perturbation.cells()
    unchanged = subject.unchanged.classes if subject.unchanged else None
    return outcomes_of(session, chosen, subject.engine, cells, name, name, unchanged)


def outcomes_of(
    session: Session,
    chosen: Chosen,
    engine: Engine,
    cells: list[Cell],
    name: str,
    words: str,
    unchanged: NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """Outcomes in every cell, each process its share of the images.

    Args:
        session: what to use.
        chosen: the images, their labels as outputs of the engine's network.
        engine: runs the network.
        cells: the grid.
        name: what to call the network.
        words: for the progress bar.
        unchanged: (N,) predictions for the unchanged images, where they are known.
    """
    draws = session.settings.draws
    # The bar shows the first process's share.
    part = shard(len(chosen.keys), engine.batch_size, session.context)
    ahead = [cell for cell in cells if cell.num or unchanged is None]
    total = count_passes(ahead, part.stop - part.start, draws)
    with session.progress.task(words, total) as advance:
        return evaluate_shards(
            session.context, engine, *chosen, cells, draws, session.settings.seed, name, advance,
            unchanged,
        )  # fmt: skip


def _adversarial_outcomes(session: Session, chosen: Chosen, subject: Subject) -> pd.DataFrame:
    settings, (classifier, engine, _) = session.settings, subject
    crafting = crafting_of(attack_of(settings))
    with session.progress.task(
        classifier.name, len(chosen.keys) * len(crafting.epsilons)
    ) as advance:
        return evaluate_adversarial(
            engine, classifier.module, *chosen, crafting, settings.perturbation.cells(),
            settings.draws, settings.seed, classifier.name, advance,
        )  # fmt: skip


def _activations(session: Session, chosen: Chosen, subject: Subject) -> pd.DataFrame:
    settings, (classifier, engine, _) = session.settings, subject
    cells = [cell for cell in settings.perturbation.cells() if cell.num]
    pixels = chosen.pixels[np.arange(len(chosen.keys))]
    with session.progress.task(classifier.name, len(chosen.keys) * len(cells)) as advance:
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
