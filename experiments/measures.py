"""Measure networks of a run: outcomes of plain and of attacked images, and activations."""

import functools
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from experiments.session import (
    Sample,
    Session,
    clean_predictions_of,
    get_classifier,
    get_engine,
    note_screened,
    prediction_store,
)
from pixelrobust.attacks import build_attack
from pixelrobust.datasets.decoded import ImageSet, PixelRows
from pixelrobust.engine import Engine, predict_all, reference_engine
from pixelrobust.evaluation.adversarial import evaluate_adversarial
from pixelrobust.evaluation.cells import count_forward, evaluate_cells
from pixelrobust.evaluation.forward import Task
from pixelrobust.evaluation.screening import SCREENING
from pixelrobust.evaluation.selection import image_list_digest
from pixelrobust.evaluation.worst_case import (
    EXTREME,
    clean_margins,
    pixels_of_first_flips,
    search_changes,
)
from pixelrobust.models.build import Classifier
from pixelrobust.outcomes.kinds import ACTIVATIONS, EXTREMES, RANDOM, SEARCH, WORST_CASE
from pixelrobust.outcomes.manifest import Screened
from pixelrobust.outcomes.rows import concatenate, with_cell
from pixelrobust.perturbation.augmentations import control_augmentations
from pixelrobust.perturbation.grid import Cell
from pixelrobust.settings import AttackSettings, RunSettings, fingerprint


class Chosen(NamedTuple):
    """Hold the images that take part, (N, C, H, W) uint8, with their N keys and labels.

    The digest stands for their keys and pixels.
    """

    pixels: PixelRows
    keys: list[str]
    labels: NDArray[np.int64]
    digest: str

    def identity(self) -> str:
        """Return a digest of keys, pixels and labels."""
        return fingerprint(self.digest, self.labels.tolist())

    def task(self, engine: Engine, name: str) -> Task:
        """Return what shows them to the network of this name."""
        return Task(engine, self.pixels, self.keys, self.labels, name)

    def take(self, rows: NDArray[np.int64]) -> "Chosen":
        """Return the images at these positions."""
        keys = [self.keys[row] for row in rows]
        digest = fingerprint(self.digest, rows.tolist())
        return Chosen(self.pixels.take(rows), keys, self.labels[rows], digest)

    def rows_in(self, sample: Sample | None) -> NDArray[np.int64]:
        """Return the positions of the images of a sample; of all without one."""
        every = np.arange(len(self.keys))
        return every[[sample is None or key in sample.images for key in self.keys]]


def chosen_from(images: ImageSet, rows: NDArray[np.int64]) -> Chosen:
    """Return the images of a data set at these positions."""
    return Chosen(
        PixelRows(images.pixels, rows),
        [images.keys[row] for row in rows],
        images.labels[rows],
        image_list_digest(images, rows.tolist()),
    )


class Subject(NamedTuple):
    """Hold the network that is measured, what runs it, and its predictions for unchanged images, (N,).

    The last is None where they are not known.
    """

    classifier: Classifier
    engine: Engine
    unchanged: NDArray[np.int64] | None = None


def measure_outcomes(session: Session, chosen: Chosen, subject: Subject) -> pd.DataFrame:
    """Measure what a network predicts for changed images (Tables 6 to 8)."""
    classifier, engine, unchanged = subject
    return outcomes_of(
        session, chosen, engine, classifier.module, classifier.name, classifier.name,
        unchanged,
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
    """Return outcomes in every cell of the run, each process its share of the images.

    Args:
        session: of the run.
        chosen: the images, their labels as outputs of the network.
        engine: runs the network.
        module: the network.
        name: what to call the network.
        words: what to call its predictions in the run's record.
        unchanged: (N,) predictions for the unchanged images, where they are known.
    """
    design = session.design
    if session.sample:
        chosen = chosen.take(chosen.rows_in(session.sample))
    store = prediction_store(session, words, engine, module, chosen.identity(), len(chosen.keys))
    # The bar shows the first process's share.
    part = session.context.shard(len(chosen.keys), engine.batch_size)
    ahead = [cell for cell in design.cells if cell.num or unchanged is None]
    total = count_forward(ahead, part.stop - part.start, design.draws)
    with session.progress.task("changed images", total, name) as advance:
        task = chosen.task(engine, name)
        outcomes = evaluate_cells(task, design, advance, unchanged, store, session.context)
    if SCREENING in outcomes.attrs:
        # Rows of several networks are put together.
        note_screened(session, name, outcomes.attrs.pop(SCREENING))
    return outcomes


def measure_adversarial(session: Session, chosen: Chosen, subject: Subject) -> pd.DataFrame:
    """Measure what a network predicts for attacked images that are changed (Table 9)."""
    classifier, engine, _ = subject
    attack = attack_of(session.settings)
    total = len(chosen.rows_in(session.sample)) * len(attack.epsilon)
    with session.progress.task("attacked images", total, classifier.name) as advance:
        return evaluate_adversarial(
            chosen.task(engine, classifier.name), classifier.module, attack, session.design,
            advance, session.rows(), session.sample.images if session.sample else None,
            session.context,
        )  # fmt: skip


def measure_worst_case(session: Session, chosen: Chosen, subject: Subject) -> pd.DataFrame:
    """Measure what random changes do to a network, and changes that are searched for by its scores."""
    classifier, engine, _ = subject
    settings, name = session.settings, classifier.name
    chosen = chosen.take(chosen.rows_in(session.sample))
    task, keep = chosen.task(engine, name), session.rows()
    perturbation = settings.perturbation.model_copy(update={"values": EXTREME.values})
    extremes = replace(session, settings=settings.model_copy(update={"perturbation": perturbation}))
    parts = []
    for method, own, words in (
        (RANDOM, session, name), (EXTREMES, extremes, f"{name}, {EXTREMES}"),
    ):  # fmt: skip
        rows = outcomes_of(own, chosen, engine, classifier.module, name, words, subject.unchanged)
        pixels = pixels_of_first_flips(task, rows, own.design)
        query = (rows["draw"] + 1).where(rows["num"] > 0, 0).astype(np.int32)
        parts.append(rows.assign(method=method, query=query, pixels=pixels))
    # The unchanged images need not stand there twice.
    parts[1] = parts[1][parts[1]["num"] > 0]
    cells = [cell for cell in session.design.cells if cell.num]
    total = len(cells) * len(chosen.keys) * settings.queries
    with session.progress.task("queries of the search", total, name) as advance:

        def search() -> pd.DataFrame:
            found = search_changes(
                task, cells, settings.seed, settings.queries, advance, session.context
            )
            margins = dict(zip(chosen.keys, clean_margins(task), strict=True))
            return found.assign(margin=found["image"].map(margins))

        # With the margins: a run that is repeated starts no network for them.
        searched = keep(f"{name}, search", search).assign(method=SEARCH)
    margins = dict(zip(searched["image"], searched["margin"], strict=True))
    rows = concatenate([*parts, searched.drop(columns="margin")])
    return rows.assign(margin=rows["image"].astype(str).map(margins))[WORST_CASE.columns]


def measure_activations(session: Session, chosen: Chosen, subject: Subject) -> pd.DataFrame:
    """Measure how far the activations of every layer move."""
    from pixelrobust.evaluation.activations import layer_changes

    classifier, engine, _ = subject
    cells = [cell for cell in session.design.cells if cell.num]
    rows, keep = chosen.rows_in(session.sample), session.rows()
    settings = session.settings
    others = control_augmentations(settings.augmentations, settings.retrain.noise)
    pixels, keys = chosen.pixels[rows], [chosen.keys[row] for row in rows]
    total = len(keys) * len(cells)
    with session.progress.task("changed images", total, classifier.name) as advance:

        def changes(cell: Cell) -> pd.DataFrame:
            return layer_changes(
                classifier.module, pixels, keys, cell, seed=settings.seed,
                manner=session.design.manner, augmentations=list(others.values()),
                batch_size=engine.batch_size, advance=advance, context=session.context,
            )  # fmt: skip

        parts = [
            with_cell(keep(f"{classifier.name}, {cell}", partial(changes, cell)), cell)
            for cell in cells
        ]
    return concatenate(parts).assign(model=classifier.name)[ACTIVATIONS.columns]


def attack_of(settings: RunSettings) -> AttackSettings:
    """Return the attack of settings that have one; InputError where foolbox has no such attack."""
    assert settings.attack
    build_attack(settings.attack)
    return settings.attack


def compare_with_eager(
    session: Session,
    key: str,
    images: ImageSet,
    rows: NDArray[np.int64],
    unchanged: NDArray[np.int64] | None,
) -> None:
    """Count, over unchanged images of the run, where an engine and plain PyTorch disagree.

    Args:
        session: of the run; the counts are noted in its engines.
        key: of the model.
        images: the data set.
        rows: positions of the M images that take part; evenly over them, `engine.compared` are used.
        unchanged: (M,) the engine's own predictions for them, where they are known.
    """
    classifier = get_classifier(session, key)
    engine, chosen = get_engine(session, key, images), _compared(session, len(rows))
    if engine.is_reference or not len(chosen):
        return
    find = partial(clean_predictions_of, session, key, images=images, rows=rows[chosen])
    reference = reference_engine(classifier.module, engine.device, images.image_size)
    expected = find(reference, words="unchanged images, by plain PyTorch")
    found = find(engine, words="unchanged images") if unchanged is None else unchanged[chosen]
    _note_difference(session, classifier.name, found, expected)


def compare_network_with_eager(
    session: Session, name: str, module: nn.Module, engine: Engine, images: PixelRows
) -> None:
    """Count the same for a network that is not one of the settings, on images that it is tested on."""
    chosen = images.take(_compared(session, len(images)))
    if engine.is_reference or not len(chosen):
        return
    image_size = (images.shape[-2], images.shape[-1])
    reference = reference_engine(module, engine.device, image_size)
    found, expected = (predict_all(each, chosen, lambda done: None) for each in (engine, reference))
    _note_difference(session, name, found, expected)


def count_flips_of_halving(
    session: Session,
    name: str,
    engine: Engine,
    images: ImageSet,
    rows: NDArray[np.int64],
    unchanged: NDArray[np.int64] | None,
) -> None:
    """Count, where memory made an engine halve its batches, how many predictions that changes.

    Sums of another order can flip a borderline prediction, and the run holds some of either kind.

    Args:
        session: of the run; the counts are noted in its engines.
        name: of the model.
        engine: after its work.
        images, rows, unchanged: as in `compare_with_eager`; predictions from before the work.
    """
    begun = session.engines[name]["batch_size"]
    if engine.batch_size == begun or unchanged is None:
        return
    chosen = _compared(session, len(rows))
    found = predict_all(engine, PixelRows(images.pixels, rows[chosen]), lambda done: None)
    flipped = int((found != unchanged[chosen]).sum())
    session.engines[name] |= {"halved_to": engine.batch_size, "flipped_by_halving": flipped}
    session.progress.say(
        f"{name}: for want of memory, batches became {engine.batch_size} images instead of {begun}; that "
        f"flips {flipped} of {len(chosen):,} predictions of unchanged images"
    )


def _compared(session: Session, images: int) -> NDArray[np.int64]:
    """Return the positions of those, out of so many, by which engines are compared."""
    count = min(session.settings.engine.compared, images)
    return np.arange(count) * images // max(count, 1)


def _note_difference(
    session: Session, name: str, found: NDArray[np.int64], expected: NDArray[np.int64]
) -> None:
    differing = int((found != expected).sum())
    session.engines[name] |= {"compared": len(found), "differing": differing}


def tell_screened(session: Session) -> None:
    """Say how many predictions were computed again in fp32, or to check, and what came of it."""
    engines = [one for one in session.engines.values() if Screened.of(one).screened]
    if not engines:
        return
    total = functools.reduce(Screened.plus, map(Screened.of, engines))
    doubled = [name for name, one in session.engines.items() if one.get("doubled")]
    if doubled:
        found = f"some had differed from {' and '.join(doubled)}, whose bounds were doubled until none did"
    else:
        found = "none differed"
    session.progress.tell(
        f"of {total.screened:,} predictions in {engines[0].get('fast')}, {total.recomputed:,} "
        f"({total.recomputed / total.screened:.1%}) with small margins were computed again in fp32, which "
        f"changed {total.flipped:,}; of the others, {total.checked:,} were checked: {found}"
    )


def tell_differences(session: Session) -> None:
    """Say how many predictions of engines were compared with plain PyTorch's, and how many differ."""
    compared = {name: one for name, one in session.engines.items() if one.get("compared")}
    count, differing = (
        sum(one[key] for one in compared.values()) for key in ("compared", "differing")
    )
    whose = [f"{one['differing']} of {name}" for name, one in compared.items() if one["differing"]]
    if count:
        session.progress.tell(
            f"{differing} of {count:,} predictions of unchanged images differ from those of plain "
            f"PyTorch (fp32){': ' if whose else ''}{', '.join(whose)}"
        )
