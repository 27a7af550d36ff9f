"""One run, end to end: settings → images → clean predictions → selection → outcomes → files."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.descriptions import describe
from experiments.measuring import Chosen, measurement
from experiments.pictures import draw_pictures
from experiments.presentation import present, present_description, store_run
from experiments.presentation_retraining import present_histories
from experiments.progress import Progress
from experiments.resources import Clock, get_classifier, get_engine, image_set
from experiments.retraining import plan
from experiments.retraining_measures import measure_retrained
from experiments.writing import Presented
from pixelrobust.datasets.cache import ImageSet, PixelRows
from pixelrobust.files import check_writable
from pixelrobust.manifest import Manifest
from pixelrobust.models import check_classifier
from pixelrobust.outcomes import concatenate
from pixelrobust.provenance import describe_hardware, describe_software
from pixelrobust.selection import Selection, clean_predictions, select
from pixelrobust.settings import RETRAINED, RunSettings, fingerprint


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
    if settings.measure in RETRAINED:
        return _retrain(settings, is_preset, progress)
    clock = Clock()
    with clock.part("images"):
        images = image_set(settings.dataset, settings.paths.cache, settings.seed, progress)
    with clock.part("selection"):
        selection = _select(settings, images, progress)
    with clock.part("evaluation"):
        outcomes = concatenate(_evaluate(settings, images, selection, progress))
    manifest = _manifest(settings, images.image_size, selection, clock.seconds)
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


def _retrain(
    settings: RunSettings, is_preset: bool, progress: Progress
) -> tuple[Path, list[Presented]]:
    """Retrain networks, measure them, and write what came of it."""
    clock = Clock()
    with clock.part("images"):
        chosen = plan(settings, progress)
    with clock.part("retraining and evaluation"):
        rows = measure_retrained(settings, chosen, progress)
    manifest = _manifest(settings, chosen.image_size, chosen.selection, clock.seconds)
    directory = _directory(settings, is_preset, manifest.address())
    store_run(directory, manifest, rows)
    if chosen.histories:
        present_histories(directory, pd.concat(chosen.histories, ignore_index=True))
    return directory, present(directory, manifest, rows)


def _directory(settings: RunSettings, is_preset: bool, address: str) -> Path:
    """Where results go: only unmodified presets go to their profile's folder."""
    if is_preset and settings.profile:
        return settings.paths.results / settings.profile
    return settings.paths.results / f"{settings.name}-{address}"


def _select(settings: RunSettings, images: ImageSet, progress: Progress) -> Selection:
    predictions: dict[str, NDArray[np.int64]] = {}
    # The evaluated models are tried too, so that a fault shows before any work is done.
    for key, model in (settings.models | settings.selection_models).items():
        classifier = get_classifier(key, model)
        check_classifier(classifier, images.image_size, int(images.labels.max()))
    for key, model in settings.selection_models.items():
        classifier, engine = get_classifier(key, model), get_engine(key, model, settings.engine)
        with progress.task(f"{classifier.name}: unchanged images", len(images)) as advance:
            predictions[classifier.name] = clean_predictions(
                classifier, engine, images, settings.paths.cache, advance
            )
    return select(images, predictions, settings.dataset.limit, settings.seed)


def _evaluate(
    settings: RunSettings, images: ImageSet, selection: Selection, progress: Progress
) -> list[pd.DataFrame]:
    """What is measured of each model: outcomes, of attacked images too, or activations."""
    chosen = Chosen(
        PixelRows(images.pixels, selection.indices),
        [images.keys[index] for index in selection.indices],
        images.labels[selection.indices],
    )
    measure = measurement(settings)
    parts = []
    for key, model in settings.models.items():
        classifier, engine = get_classifier(key, model), get_engine(key, model, settings.engine)
        parts.append(measure(settings, chosen, classifier, engine, progress))
    return parts


def _manifest(
    settings: RunSettings,
    image_size: tuple[int, int],
    selection: Selection,
    seconds: dict[str, float],
) -> Manifest:
    first_key, first_model = next(iter(settings.models.items()))
    return Manifest(
        name=settings.name,
        config=settings.identity(),
        draws=settings.draws,
        image_size=image_size,
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
            for classifier in (get_classifier(key, model) for key, model in settings.models.items())
        },
        software=describe_software(settings.paths.root),
        hardware=describe_hardware(get_engine(first_key, first_model, settings.engine).device),
        seconds=seconds,
    )
