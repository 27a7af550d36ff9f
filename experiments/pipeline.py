"""One run, end to end: settings → images → clean predictions → selection → outcomes → files."""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.descriptions import describe
from experiments.pictures import draw_pictures
from experiments.presentation import Presented, present, present_description, store_run
from experiments.progress import Progress
from pixelrobust.activations import layer_changes
from pixelrobust.adversarial import Crafting, evaluate_adversarial
from pixelrobust.attacks import Attack
from pixelrobust.datasets import list_images
from pixelrobust.datasets.cache import ImageSet, PixelRows, load_images
from pixelrobust.engine import Engine, make_engine
from pixelrobust.evaluation import count_passes, evaluate_cells
from pixelrobust.files import check_writable
from pixelrobust.manifest import Manifest
from pixelrobust.models import Classifier, check_classifier, load_classifier
from pixelrobust.outcomes import ACTIVATION_COLUMNS, concatenate, with_cell
from pixelrobust.provenance import describe_hardware, describe_software
from pixelrobust.selection import Selection, clean_predictions, select
from pixelrobust.settings import (
    AttackSettings,
    DatasetSettings,
    EngineSettings,
    ModelSettings,
    RunSettings,
    fingerprint,
)


def run(settings: RunSettings, is_preset: bool, progress: Progress) -> tuple[Path, list[Presented]]:
    """Evaluate a config and write its results.

    Args:
        settings: the run.
        is_preset: whether these are the unmodified settings of an experiment on a profile; only
            such results go to the profile's folder.
        progress: shows how far each part is.

    Returns:
        The folder of the results, and the tables that it holds now.

    Raises:
        InputError: anything the user gave is wrong.
    """
    check_writable(settings.paths.results, "paths.results")
    if settings.measure == "descriptions":
        return _describe(settings, is_preset)
    check_writable(settings.paths.cache, "paths.cache")
    clock = _Clock()
    with clock.part("images"):
        images = _images(settings.dataset, settings.paths.cache, settings.seed, progress)
    with clock.part("selection"):
        selection = _select(settings, images, progress)
    with clock.part("evaluation"):
        outcomes = concatenate(_evaluate(settings, images, selection, progress))
    manifest = _manifest(settings, images, selection, clock.seconds)
    directory = _directory(settings, is_preset, manifest.address())
    store_run(directory, manifest, outcomes)
    presented = present(directory, manifest, outcomes)
    if settings.pictures:
        draw_pictures(directory, settings, images, manifest, outcomes)
    return directory, presented


def _describe(settings: RunSettings, is_preset: bool) -> tuple[Path, list[Presented]]:
    """Write a table that needs no image."""
    directory = _directory(settings, is_preset, fingerprint(settings.identity())[:10])
    table = describe(settings.name, settings.models)
    return directory, present_description(directory, settings.name, table)


def _directory(settings: RunSettings, is_preset: bool, address: str) -> Path:
    """Where results go: only unmodified presets go to their profile's folder."""
    if is_preset and settings.profile:
        return settings.paths.results / settings.profile
    return settings.paths.results / f"{settings.name}-{address}"


# Jobs of a sweep in one process share images, networks and clean predictions.
_IMAGE_SETS: dict[tuple[DatasetSettings, Path, int], ImageSet] = {}


def _images(settings: DatasetSettings, cache: Path, seed: int, progress: Progress) -> ImageSet:
    known = _IMAGE_SETS.get((settings, cache, seed))
    if known is None:
        listed = list_images(settings, cache, seed)
        with progress.task("decoding images", len(listed)) as advance:
            known = load_images(listed, settings.preprocessing, cache, advance)
        _IMAGE_SETS[settings, cache, seed] = known
    return known


@functools.cache
def _classifier(key: str, settings: ModelSettings) -> Classifier:
    return load_classifier(key, settings)


@functools.cache
def _engine(key: str, model: ModelSettings, engine: EngineSettings) -> Engine:
    return make_engine(_classifier(key, model).module, engine)


def _select(settings: RunSettings, images: ImageSet, progress: Progress) -> Selection:
    predictions: dict[str, NDArray[np.int64]] = {}
    # The evaluated models are tried too, so that a fault shows before any work is done.
    for key, model in (settings.models | settings.selection_models).items():
        classifier = _classifier(key, model)
        check_classifier(classifier, images.image_size, int(images.labels.max()))
    for key, model in settings.selection_models.items():
        classifier, engine = _classifier(key, model), _engine(key, model, settings.engine)
        with progress.task(f"{classifier.name}: unchanged images", len(images)) as advance:
            predictions[classifier.name] = clean_predictions(
                classifier, engine, images, settings.paths.cache, advance
            )
    return select(images, predictions, settings.dataset.limit, settings.seed)


def _evaluate(
    settings: RunSettings, images: ImageSet, selection: Selection, progress: Progress
) -> list[pd.DataFrame]:
    """What is measured of each model: outcomes, of attacked images too, or activations."""
    chosen = _Chosen(
        PixelRows(images.pixels, selection.indices),
        [images.keys[index] for index in selection.indices],
        images.labels[selection.indices],
    )
    if settings.measure == "activations":
        measure = _activations
    else:
        measure = _adversarial_outcomes if settings.attack else _outcomes
    return [
        measure(settings, chosen, _classifier(key, model), _engine(key, model, settings.engine), progress)
        for key, model in settings.models.items()
    ]  # fmt: skip


class _Chosen(NamedTuple):
    """The images that take part, (N, C, H, W) uint8, with their N keys and labels."""

    pixels: PixelRows
    keys: list[str]
    labels: NDArray[np.int64]


def _outcomes(
    settings: RunSettings, chosen: _Chosen, classifier: Classifier, engine: Engine, progress: Progress
) -> pd.DataFrame:  # fmt: skip
    cells, draws = settings.perturbation.cells(), settings.draws
    total = count_passes(cells, len(chosen.keys), draws)
    with progress.task(classifier.name, total) as advance:
        return evaluate_cells(
            engine, *chosen, cells, draws, settings.seed, classifier.name, advance
        )


def _adversarial_outcomes(
    settings: RunSettings, chosen: _Chosen, classifier: Classifier, engine: Engine, progress: Progress
) -> pd.DataFrame:  # fmt: skip
    assert settings.attack
    crafting = _crafting(settings.attack)
    with progress.task(classifier.name, len(chosen.keys) * len(crafting.epsilons)) as advance:
        return evaluate_adversarial(
            engine, classifier.module, *chosen, crafting, settings.perturbation.cells(),
            settings.draws, settings.seed, classifier.name, advance,
        )  # fmt: skip


def _activations(
    settings: RunSettings, chosen: _Chosen, classifier: Classifier, engine: Engine, progress: Progress
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


def _crafting(attack: AttackSettings) -> Crafting:
    return Crafting(
        Attack(attack.target, tuple(attack.arguments.items())),
        attack.epsilon,
        attack.step,
        attack.max_epsilon,
        attack.round,
        attack.wanted,
    )


def _manifest(
    settings: RunSettings, images: ImageSet, selection: Selection, seconds: dict[str, float]
) -> Manifest:
    first_key, first_model = next(iter(settings.models.items()))
    return Manifest(
        name=settings.name,
        config=settings.identity(),
        draws=settings.draws,
        image_size=images.image_size,
        amplitude_share=settings.pixel_index.amplitude_share,
        description=settings.dataset.description,
        caveat=settings.dataset.caveat,
        candidates=selection.candidates,
        survivors=selection.survivors,
        images=len(selection.indices),
        rejected=selection.rejected,
        image_list_sha256=selection.image_list_sha256,
        weights_sha256={
            classifier.name: classifier.weights_sha256
            for classifier in (_classifier(key, model) for key, model in settings.models.items())
        },
        software=describe_software(settings.paths.root),
        hardware=describe_hardware(_engine(first_key, first_model, settings.engine).device),
        seconds=seconds,
    )


class _Clock:
    """Wall-clock seconds of the parts of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)
