"""What a run measures of each network: outcomes, outcomes of attacked images, or activations."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from experiments.session import (
    Session,
    answer_store,
    clean_predictions_of,
    get_classifier,
    get_engine,
)
from pixelrobust.attacks import build_attack
from pixelrobust.datasets.decoded import ImageSet, PixelRows
from pixelrobust.engine import Engine, Predicted, predict_all, reference_engine
from pixelrobust.evaluation.activations import layer_changes
from pixelrobust.evaluation.adversarial import evaluate_adversarial
from pixelrobust.evaluation.cells import count_forward, evaluate_cells, shard
from pixelrobust.evaluation.forward import Design, Task
from pixelrobust.evaluation.selection import image_list_digest
from pixelrobust.models.build import Classifier
from pixelrobust.outcomes.kinds import ACTIVATIONS
from pixelrobust.outcomes.rows import concatenate, with_cell
from pixelrobust.perturbation.grid import Cell
from pixelrobust.settings import AttackSettings, RunSettings, fingerprint


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
    total = count_forward(ahead, part.stop - part.start, design.draws)
    with session.progress.task(words, total) as advance:
        task = chosen.task(engine, name)
        return evaluate_cells(task, design, advance, unchanged, store, session.context)


def _adversarial_outcomes(session: Session, chosen: Chosen, subject: Subject) -> pd.DataFrame:
    settings, (classifier, engine, _) = session.settings, subject
    attack = attack_of(settings)
    total = len(chosen.keys) * len(attack.epsilon)
    with session.progress.task(classifier.name, total) as advance:
        return evaluate_adversarial(
            chosen.task(engine, classifier.name), classifier.module, attack, design_of(settings),
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
    return concatenate(parts).assign(model=classifier.name)[ACTIVATIONS.columns]


def design_of(settings: RunSettings) -> Design:
    """How the settings want images changed."""
    return Design(settings.perturbation.cells(), settings.draws, settings.seed)


def attack_of(settings: RunSettings) -> AttackSettings:
    """Return the attack of settings that have one; InputError where foolbox has no such attack."""
    assert settings.attack
    build_attack(settings.attack)
    return settings.attack


# How many predictions an engine changes, beside plain PyTorch, and when memory halves its
# batches.


def compare_with_eager(
    session: Session,
    key: str,
    images: ImageSet,
    rows: NDArray[np.int64],
    unchanged: Predicted | None,
) -> None:
    """Count, over unchanged images of the run, where an engine and plain PyTorch disagree.

    Args:
        session: what to use; the counts are noted in its engines.
        key: of the model.
        images: the data set.
        rows: positions of the M images that take part; evenly over them, `engine.compared` are used.
        unchanged: (M,) the engine's own predictions for them, where they are known.
    """
    classifier = get_classifier(session.settings, key)
    engine, chosen = get_engine(session, key, images), _compared(session, len(rows))
    if engine.is_reference or not len(chosen):
        return
    find = partial(clean_predictions_of, session, classifier, images=images, rows=rows[chosen])
    reference = reference_engine(classifier.module, engine.device, images.image_size)
    expected = find(reference, words="unchanged images, by eager")
    found = find(engine, words="unchanged images") if unchanged is None else unchanged.take(chosen)
    _note_difference(session, classifier.name, found, expected)


def count_flips_of_halving(
    session: Session,
    name: str,
    engine: Engine,
    images: ImageSet,
    rows: NDArray[np.int64],
    unchanged: Predicted | None,
) -> None:
    """Count, where memory made an engine halve its batches, how many predictions that changes.

    Sums of another order can flip a borderline prediction, and the run holds some of either kind.

    Args:
        session: what to use; the counts are noted in its engines.
        name: of the model.
        engine: after its work.
        images, rows, unchanged: as in `compare_with_eager`; predictions from before the work.
    """
    begun = session.engines[name]["batch_size"]
    if engine.batch_size == begun or unchanged is None:
        return
    chosen = _compared(session, len(rows))
    found = predict_all(engine, PixelRows(images.pixels, rows[chosen]), lambda done: None)
    flipped = int((found.classes != unchanged.take(chosen).classes).sum())
    session.engines[name] |= {"halved_to": engine.batch_size, "flipped_by_halving": flipped}
    session.progress.say(
        f"{name}: for want of memory, batches became {engine.batch_size} images instead of {begun}; that "
        f"flips {flipped} of {len(chosen):,} predictions of unchanged images"
    )


def compare_network_with_eager(
    session: Session, name: str, module: nn.Module, engine: Engine, images: PixelRows
) -> None:
    """The same for a network that is not one of the settings, on images that it is tested on."""
    chosen = images.take(_compared(session, len(images)))
    if engine.is_reference or not len(chosen):
        return
    image_size = (images.shape[-2], images.shape[-1])
    reference = reference_engine(module, engine.device, image_size)
    found, expected = (predict_all(each, chosen, lambda done: None) for each in (engine, reference))
    _note_difference(session, name, found, expected)


def _compared(session: Session, images: int) -> NDArray[np.int64]:
    """Positions of those, out of so many, by which engines are compared."""
    count = min(session.settings.engine.compared, images)
    return np.arange(count) * images // max(count, 1)


def _note_difference(session: Session, name: str, found: Predicted, expected: Predicted) -> None:
    count, differing = len(found.classes), int((found.classes != expected.classes).sum())
    session.engines[name] |= {"compared": count, "differing": differing}
    session.progress.say(
        f"{name}: {differing} of {count:,} predictions of unchanged images differ from those of "
        "eager in fp32"
    )
