"""One run, end to end: settings → images → clean predictions → selection → outcomes → files."""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.presentation import present, store_run
from experiments.progress import Progress
from pixelrobust.adversarial import Crafting, evaluate_adversarial
from pixelrobust.attacks import Attack
from pixelrobust.datasets import list_images
from pixelrobust.datasets.cache import ImageSet, PixelRows, load_images
from pixelrobust.engine import Engine, make_engine
from pixelrobust.evaluation import count_passes, evaluate_cells
from pixelrobust.files import check_writable
from pixelrobust.manifest import Manifest
from pixelrobust.models import Classifier, check_classifier, load_classifier
from pixelrobust.outcomes import concatenate
from pixelrobust.provenance import describe_hardware, describe_software
from pixelrobust.selection import Selection, clean_predictions, select
from pixelrobust.settings import (
    AttackSettings,
    DatasetSettings,
    EngineSettings,
    ModelSettings,
    RunSettings,
)


def run(settings: RunSettings, is_preset: bool, progress: Progress) -> tuple[Path, pd.DataFrame]:
    """Evaluate a config and write its results.

    Args:
        settings: the run.
        is_preset: whether these are the unmodified settings of an experiment on a profile; only
            such results go to the profile's folder.
        progress: shows how far each part is.

    Returns:
        The folder of the results, and the table for reading.

    Raises:
        InputError: anything the user gave is wrong.
    """
    check_writable(settings.paths.results, "paths.results")
    check_writable(settings.paths.cache, "paths.cache")
    clock = _Clock()
    with clock.part("images"):
        images = _images(settings.dataset, settings.paths.cache, settings.seed, progress)
    with clock.part("selection"):
        selection = _select(settings, images, progress)
    with clock.part("evaluation"):
        outcomes = concatenate(_evaluate(settings, images, selection, progress))
    manifest = _manifest(settings, images, selection, clock.seconds)
    if is_preset and settings.profile:
        directory = settings.paths.results / settings.profile
    else:
        directory = settings.paths.results / f"{settings.name}-{manifest.address()}"
    store_run(directory, manifest, outcomes)
    return directory, present(directory, manifest, outcomes)


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
    """Outcomes of each model, of attacked images where an attack is set."""
    cells, draws, seed = settings.perturbation.cells(), settings.draws, settings.seed
    pixels = PixelRows(images.pixels, selection.indices)
    keys = [images.keys[index] for index in selection.indices]
    labels = images.labels[selection.indices]
    crafting = _crafting(settings.attack) if settings.attack else None
    parts = []
    for key, model in settings.models.items():
        classifier, engine = _classifier(key, model), _engine(key, model, settings.engine)
        name = classifier.name
        if crafting is None:
            with progress.task(name, count_passes(cells, len(keys), draws)) as advance:
                parts.append(
                    evaluate_cells(engine, pixels, keys, labels, cells, draws, seed, name, advance)
                )
            continue
        with progress.task(name, len(keys) * len(crafting.epsilons)) as advance:
            parts.append(
                evaluate_adversarial(
                    engine, classifier.module, pixels, keys, labels, crafting, cells, draws, seed,
                    name, advance,
                )
            )  # fmt: skip
    return parts


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
