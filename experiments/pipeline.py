"""One run, end to end: settings → images → clean predictions → selection → outcomes → files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Console

from experiments.descriptions import describe
from experiments.exits import REPOSITORY
from experiments.measures import (
    Subject,
    chosen_from,
    compare_with_eager,
    count_flips_of_halving,
    measurement,
)
from experiments.paper import experiment_called
from experiments.pictures import draw_pictures
from experiments.present import present, present_description, present_histories, store_run
from experiments.retrain import measure_retrained, plan
from experiments.session import (
    Progress,
    RunRecord,
    Session,
    all_models,
    check_outputs,
    get_classifier,
    get_engine,
    image_set,
    predictions_of,
)
from experiments.tracked import log_examples, log_results
from experiments.writing import Presented
from pixelrobust.datasets.decoded import ImageSet
from pixelrobust.distributed import Context
from pixelrobust.engine import Predicted, find_device
from pixelrobust.errors import InputError
from pixelrobust.evaluation.cells import count_forward
from pixelrobust.evaluation.selection import Selection, select
from pixelrobust.files import check_writable
from pixelrobust.models.build import check_classifier
from pixelrobust.models.preprocessing import in_words, own_preprocessing
from pixelrobust.outcomes.manifest import Manifest, describe_hardware, describe_software
from pixelrobust.outcomes.rows import concatenate
from pixelrobust.settings import RETRAINED, RunSettings, fingerprint, model_label
from pixelrobust.tracking import NO_TRACKER, Tracker


def run(
    context: Context, settings: RunSettings, is_preset: bool, tracker: Tracker = NO_TRACKER
) -> tuple[Path, list[Presented]]:
    """Evaluate a config and write its results.

    Args:
        context: this process among those that share the work; the first one writes.
        settings: the run.
        is_preset: whether these are the unmodified settings of an experiment on a profile; only
            such results go to the profile's folder.
        tracker: logs the run, in the first process.

    Returns:
        The folder of the results, and the tables that it holds now.

    Raises:
        InputError: anything the user gave is wrong.
    """
    check_writable(settings.paths.results, "paths.results")
    if settings.measure == "descriptions":
        return _describe(settings, is_preset, tracker)
    check_writable(settings.paths.cache, "paths.cache")
    _check_shared(context, settings)
    progress = Progress(Console(quiet=not context.is_main))
    record = RunRecord(settings, context.is_main, progress.say)
    tracker = tracker if context.is_main else NO_TRACKER
    session = Session(
        settings.on_device(str(context.device)), progress, record, context, tracker=tracker
    )
    try:
        directory, presented = _work(session, is_preset)
    except BaseException as error:
        record.fail(error)
        raise
    record.end(directory)
    return directory, presented


def _work(session: Session, is_preset: bool) -> tuple[Path, list[Presented]]:
    """Measure, and write the results."""
    settings = session.settings
    measure = _retrain if settings.measure in RETRAINED else _evaluate
    manifest, rows, finish = measure(session)
    directory = _directory(settings, is_preset, manifest.address())
    if not session.context.is_main:
        return directory, []
    store_run(directory, manifest, rows)
    finish(directory)
    presented = present(directory, manifest, rows)
    session.tracker.attempt(log_results, settings, directory, manifest)
    return directory, presented


# Of a run: who found what, where; the rows; and what else is to be written into the folder.
_Found = tuple[Manifest, pd.DataFrame, Callable[[Path], None]]


def _check_shared(context: Context, settings: RunSettings) -> None:
    """Not everything can be shared by several processes."""
    shared = settings.measure in ("outcomes", "retraining") and not settings.attack
    if context.world_size > 1 and not shared:
        raise InputError(
            "several devices share outcomes of plain images, and retraining; run this on one "
            "(engine.devices=auto), or its models as jobs of a sweep."
        )


def _evaluate(session: Session) -> _Found:
    """Select images, and measure every model on them."""
    settings = session.settings
    with session.clock.part("images"):
        images = image_set(session)
    _tell_preprocessing(session)
    session = replace(session, passes=_passes_ahead(settings, len(images)))
    with session.clock.part("selection"):
        selection, known = _select(session, images)
    _begin(session, selection)
    with session.clock.part("evaluation"):
        rows = concatenate(_measure(session, images, selection, known))
    manifest = _manifest(session, images.image_size, selection)

    def finish(directory: Path) -> None:
        if settings.pictures:
            draw_pictures(directory, settings, images, manifest, rows)
        session.tracker.attempt(log_examples, settings, images, rows)

    return manifest, rows, finish


def _tell_preprocessing(session: Session) -> None:
    """Say which networks were made for other images than all are shown, unless a profile decides it."""
    settings = session.settings
    if settings.profile:
        return
    shown = settings.dataset.preprocessing
    own = {
        model_label(key, model): own_preprocessing(model) for key, model in settings.models.items()
    }
    others = [
        f"{name} ({in_words(made)})" for name, made in own.items() if made not in (None, shown)
    ]
    if others:
        session.progress.say(
            f"images are prepared with {in_words(shown)}; made for others: {', '.join(others)}; "
            "dataset.preprocessing says what all networks see"
        )


def _retrain(session: Session) -> _Found:
    """Retrain networks, and measure them."""
    with session.clock.part("images"):
        chosen = plan(session)
    _begin(session, chosen.selection)
    with session.clock.part("retraining and evaluation"):
        rows = measure_retrained(session, chosen)
    manifest = _manifest(session, chosen.image_size, chosen.selection)

    def finish(directory: Path) -> None:
        if chosen.histories:
            experiment = experiment_called(session.settings.name)
            histories = pd.concat(chosen.histories, ignore_index=True)
            present_histories(directory, experiment, histories)

    return manifest, rows, finish


def _begin(session: Session, selection: Selection) -> None:
    """Open the run's record, now that its images and networks are known."""
    session.record.begin(
        selection.image_list_sha256, _weights(session.settings), describe_software(REPOSITORY)
    )


def _weights(settings: RunSettings) -> dict[str, str]:
    """Digests of the weights of the models that are evaluated."""
    classifiers = (get_classifier(settings, key) for key in settings.models)
    return {classifier.name: classifier.weights_sha256 for classifier in classifiers}


def _describe(
    settings: RunSettings, is_preset: bool, tracker: Tracker
) -> tuple[Path, list[Presented]]:
    """Write a table that needs no image."""
    directory = _directory(settings, is_preset, fingerprint(settings.identity())[:10])
    table = describe(settings.name, settings.models)
    presented = present_description(directory, settings.name, table)
    tracker.table(settings.name, table)
    return directory, presented


def _directory(settings: RunSettings, is_preset: bool, address: str) -> Path:
    """Where results go: only unmodified presets go to their profile's folder."""
    if is_preset and settings.profile:
        return settings.paths.results / settings.profile
    return settings.paths.results / f"{settings.name}-{address}"


def _passes_ahead(settings: RunSettings, images: int) -> int:
    """Forward passes of each network, should all images be classified correctly."""
    cells = [cell for cell in settings.perturbation.cells() if cell.num]
    return images + count_forward(
        cells, min(settings.dataset.limit or images, images), settings.draws
    )


def _select(session: Session, images: ImageSet) -> tuple[Selection, dict[str, Predicted]]:
    """The images that take part, and what models take all the unchanged ones for."""
    settings = session.settings
    # The evaluated models are tried too, so that a fault shows before any work is done.
    for key in all_models(settings):
        classifier = get_classifier(settings, key)
        check_classifier(classifier, images.image_size, int(images.labels.max()))
        check_outputs(session, classifier, images)
    known = {key: predictions_of(session, key, images) for key in settings.selection_models}
    predictions = {
        get_classifier(settings, key).name: found.classes for key, found in known.items()
    }
    return select(images, predictions, settings.dataset.limit, settings.seed), known


def _measure(
    session: Session,
    images: ImageSet,
    selection: Selection,
    known: dict[str, Predicted],
) -> list[pd.DataFrame]:
    """What is measured of each model: outcomes, of attacked images too, or activations."""
    settings, rows = session.settings, selection.indices
    chosen = chosen_from(images, rows)
    measure = measurement(settings)
    parts = []
    for key in settings.models:
        engine = get_engine(session, key, images)
        unchanged = known[key].take(rows) if key in known else None
        subject = Subject(get_classifier(settings, key), engine, unchanged)
        with session.clock.part(f"evaluation of {subject.classifier.name}"):
            parts.append(measure(session, chosen, subject))
        count_flips_of_halving(session, subject.classifier.name, engine, images, rows, unchanged)
        compare_with_eager(session, key, images, rows, unchanged)
    return parts


def _manifest(session: Session, image_size: tuple[int, int], selection: Selection) -> Manifest:
    settings = session.settings
    assert isinstance(settings.engine.devices, str)
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
        weights_sha256=_weights(settings),
        engines=session.engines,
        software=describe_software(REPOSITORY),
        hardware=describe_hardware(find_device(settings.engine.devices)),
        seconds=session.clock.seconds,
        unreadable=selection.unreadable,
        files=selection.files,
        repeated=selection.repeated,
    )
