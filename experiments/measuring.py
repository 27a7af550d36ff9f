"""What a run measures of each network: outcomes, outcomes of attacked images, or activations."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from experiments.resources import Session
from experiments.storing import answer_store
from pixelrobust.activations import layer_changes
from pixelrobust.adversarial import Crafting, evaluate_adversarial
from pixelrobust.attacks import Attack
from pixelrobust.datasets.decoded import ImageSet, PixelRows
from pixelrobust.engine import Engine, Predicted
from pixelrobust.evaluation import count_passes
from pixelrobust.grid import Cell
from pixelrobust.models import Classifier
from pixelrobust.outcomes import ACTIVATION_COLUMNS, concatenate, with_cell
from pixelrobust.selection import image_list_digest
from pixelrobust.settings import AttackSettings, RunSettings, fingerprint
from pixelrobust.sharding import evaluate_shards, shard
from pixelrobust.task import Design, Task


class Chosen(NamedTuple):
    """The images that take part, (N, C, H, W) uint8, with their N keys and labels.

    The digest stands for their keys and pixels.
    """

    pixels: PixelRows
    keys: list[str]
    labels: NDArray[np.int64]
    digest: str

    def identity(self) -> str:
        """A digest of keys, pixels and labels."""
        return fingerprint(self.digest, self.labels.tolist())

    def task(self, engine: Engine, name: str) -> Task:
        """To show them to the network of this name."""
        return Task(engine, self.pixels, self.keys, self.labels, name)


def chosen_from(images: ImageSet, rows: NDArray[np.int64]) -> Chosen:
    """The images of a data set at these positions."""
    return Chosen(
        PixelRows(images.pixels, rows),
        [images.keys[row] for row in rows],
        images.labels[rows],
        image_list_digest(images, rows.tolist()),
    )


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
    classifier, engine, unchanged = subject
    return outcomes_of(
        session, chosen, engine, classifier.module, classifier.name, classifier.name,
        unchanged.classes if unchanged else None,
    )  # fmt: skip


def outcomes_of(
    session: Session,
    chosen: Chosen,
    engine: Engine,
    module: nn.Module,
    name: str,
    words: str,
    unchanged: NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """Outcomes in every cell of the settings, each process its share of the images.

    Args:
        session: what to use.
        chosen: the images, their labels as outputs of the network.
        engine: runs the network.
        module: the network.
        name: what to call the network.
        words: for the progress bar.
        unchanged: (N,) predictions for the unchanged images, where they are known.
    """
    design = design_of(session.settings)
    store = answer_store(session, words, engine, module, chosen.identity(), len(chosen.keys))
    # The bar shows the first process's share.
    part = shard(len(chosen.keys), engine.batch_size, session.context)
    ahead = [cell for cell in design.cells if cell.num or unchanged is None]
    total = count_passes(ahead, part.stop - part.start, design.draws)
    with session.progress.task(words, total) as advance:
        task = chosen.task(engine, name)
        return evaluate_shards(session.context, task, design, advance, unchanged, store)


def _adversarial_outcomes(session: Session, chosen: Chosen, subject: Subject) -> pd.DataFrame:
    settings, (classifier, engine, _) = session.settings, subject
    crafting = crafting_of(attack_of(settings))
    with session.progress.task(
        classifier.name, len(chosen.keys) * len(crafting.epsilons)
    ) as advance:
        return evaluate_adversarial(
            chosen.task(engine, classifier.name), classifier.module, crafting, design_of(settings),
            advance, session.record.rows().rows,
        )  # fmt: skip


def _activations(session: Session, chosen: Chosen, subject: Subject) -> pd.DataFrame:
    settings, (classifier, engine, _) = session.settings, subject
    cells = [cell for cell in settings.perturbation.cells() if cell.num]
    pixels = chosen.pixels[np.arange(len(chosen.keys))]
    keep = session.record.rows().rows
    with session.progress.task(classifier.name, len(chosen.keys) * len(cells)) as advance:

        def changes(cell: Cell) -> pd.DataFrame:
            return layer_changes(
                classifier.module, pixels, chosen.keys, cell, seed=settings.seed,
                batch_size=engine.batch_size, advance=advance,
            )  # fmt: skip

        parts = [
            with_cell(keep(f"{classifier.name}, {cell}", partial(changes, cell)), cell)
            for cell in cells
        ]
    return concatenate(parts).assign(model=classifier.name)[ACTIVATION_COLUMNS]


def design_of(settings: RunSettings) -> Design:
    """How the settings want images changed."""
    return Design(settings.perturbation.cells(), settings.draws, settings.seed)


def attack_of(settings: RunSettings) -> AttackSettings:
    """The attack of settings that have one."""
    assert settings.attack
    return settings.attack


def crafting_of(attack: AttackSettings) -> Crafting:
    """How the settings want adversarial images made."""
    return Crafting(
        Attack(attack.name, tuple(attack.arguments.items())),
        attack.epsilon,
        attack.step,
        attack.max_epsilon,
        attack.round,
        attack.wanted,
    )
