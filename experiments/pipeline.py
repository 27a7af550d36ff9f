"""Do one run, end to end: config → images → clean predictions → selection → measurement → store → tables."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.exits import REPOSITORY, Workshop, show_anywhere
from experiments.measures import (
    Subject,
    chosen_from,
    compare_with_eager,
    count_flips_of_halving,
    measure_activations,
    measure_adversarial,
    measure_outcomes,
    measure_worst_case,
    tell_differences,
    tell_screened,
)
from experiments.paper import experiment_called
from experiments.retrain import (
    measure_distances,
    measure_retraining,
    measure_transfer,
    plan,
)
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
from experiments.stored import is_stored, store_run
from experiments.terminal import console
from experiments.tracked import log_examples, log_results
from pixelrobust.attacks import check_attack
from pixelrobust.datasets.decoded import ImageSet
from pixelrobust.distributed import Context
from pixelrobust.evaluation.selection import Selection, select
from pixelrobust.files import check_writable
from pixelrobust.models.build import check_classifier
from pixelrobust.models.preprocessing import in_words, own_preprocessing
from pixelrobust.outcomes.kinds import (
    ACTIVATIONS,
    ADVERSARIAL,
    DISTANCES,
    OUTCOMES,
    RETRAINING,
    TRANSFER,
    WORST_CASE,
    kind_of,
)
from pixelrobust.outcomes.manifest import Manifest, describe_hardware, describe_software
from pixelrobust.outcomes.rows import concatenate
from pixelrobust.settings import RunSettings, fingerprint, model_label
from pixelrobust.tracking import NO_TRACKER, RunLog, Tracker

if TYPE_CHECKING:
    from experiments.writing import Presented


_Measure = Callable[..., pd.DataFrame]


class Measurement(NamedTuple):
    """Say how rows of one kind are measured.

    Attributes:
        measure: given a session; images and one model (`Subject`), or a plan of retraining.
        is_planned: whether it is given a plan.
    """

    measure: _Measure
    is_planned: bool = False


MEASUREMENTS = {
    OUTCOMES.name: Measurement(measure_outcomes),
    ADVERSARIAL.name: Measurement(measure_adversarial),
    ACTIVATIONS.name: Measurement(measure_activations),
    WORST_CASE.name: Measurement(measure_worst_case),
    RETRAINING.name: Measurement(measure_retraining, is_planned=True),
    TRANSFER.name: Measurement(measure_transfer, is_planned=True),
    DISTANCES.name: Measurement(measure_distances, is_planned=True),
}
"""How each kind of stored rows is measured, by the kind's name."""


def run(
    context: Context,
    settings: RunSettings,
    is_preset: bool,
    tracker: Tracker = NO_TRACKER,
    workshop: Workshop | None = None,
    is_job: bool = False,
) -> tuple[Path, list["Presented"]]:
    """Evaluate a config and write its results.

    Args:
        context: this process among those that share the work; the first one writes.
        settings: the run.
        is_preset: whether these are the unmodified settings of an experiment on a profile; only
            such results go to the profile's folder.
        tracker: logs the run, in the first process.
        workshop: what earlier runs of this process have made.
        is_job: whether it is a job of a sweep, which tells only what a user should know.

    Returns:
        The folder of the results, and the tables that it holds now.

    Raises:
        InputError: anything the user gave is wrong.
    """
    # Processes that share a run are started anew.
    show_anywhere()
    check_writable(settings.paths.results, "paths.results")
    if settings.measure == "descriptions":
        return _describe(context, settings, is_preset, tracker)
    check_writable(settings.paths.cache, "paths.cache")
    if settings.attack:
        check_attack(settings.attack, max(model.classes for model in settings.models.values()))
    progress = Progress(console(quiet=not context.is_main), is_job)
    session = Session(
        settings.on_device(str(context.device)),
        progress,
        record := RunRecord(settings, context.is_main, progress.say),
        context,
        workshop or Workshop(),
        tracker if context.is_main else NO_TRACKER,
    )
    try:
        directory, presented = _work(session, is_preset)
    except BaseException as error:
        record.fail(error)
        raise
    record.end(directory)
    return directory, presented


def _describe(
    context: Context, settings: RunSettings, is_preset: bool, tracker: Tracker
) -> tuple[Path, list["Presented"]]:
    """Write a table that needs no image."""
    from experiments.descriptions import describe
    from experiments.present import present_description

    directory = _directory(settings, is_preset, fingerprint(settings.identity())[:10])
    if not context.is_main:
        return directory, []
    table = describe(settings.name, settings.models)
    presented = present_description(directory, settings.name, table)
    tracker.attempt(RunLog.table, settings.name, table)
    return directory, presented


def _directory(settings: RunSettings, is_preset: bool, address: str) -> Path:
    """Return where results go: only unmodified presets go to their profile's folder."""
    if is_preset and settings.profile:
        return settings.paths.results / settings.profile
    return settings.paths.results / f"{settings.name}-{address}"


def _work(session: Session, is_preset: bool) -> tuple[Path, list["Presented"]]:
    """Measure, and write the results."""
    settings = session.settings
    measure, is_planned = MEASUREMENTS[kind_of(settings.identity()).name]
    manifest, rows, finish = (_retrain if is_planned else _evaluate)(session, measure)
    directory = _directory(settings, is_preset, manifest.address())
    if not session.context.is_main:
        return directory, []
    session.progress.end_line()
    tell_screened(session)
    tell_differences(session)
    # Loads Matplotlib and SciPy, which only the process that writes needs, and only now.
    from experiments.present import tables_of
    from experiments.writing import is_written, write_presented

    presented = tables_of(manifest, rows)
    is_known = not settings.recompute and is_stored(directory, manifest, rows)
    if is_known and is_written(directory, presented):
        session.progress.tell("the same numbers as stored; nothing was written")
    else:
        if not is_known:
            store_run(directory, manifest, rows)
        write_presented(directory, presented)
    finish(directory, is_known)
    session.tracker.attempt(log_results, settings, directory, manifest)
    return directory, presented


# The manifest and rows of a run, and what writes into its folder what else there is, told whether its
# files hold the same numbers already.
_Found = tuple[Manifest, pd.DataFrame, Callable[[Path, bool], None]]


def _evaluate(session: Session, measure: _Measure) -> _Found:
    """Select images, and measure every model on them."""
    settings = session.settings
    with session.clock.part("images"):
        images = image_set(session)
    _tell_preprocessing(session)
    with session.clock.part("selection"):
        selection, known = _select(session, images)
    _begin(session, selection)
    with session.clock.part("evaluation"):
        rows = concatenate(_measured(session, measure, images, selection, known))
    manifest = _manifest(session, images.image_size, selection)

    def finish(directory: Path, is_known: bool) -> None:
        if settings.pictures and (rows["num"] > 0).any():
            from experiments.pictures import draw_pictures

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
        f"{name} ({' or '.join(map(in_words, made))})"
        for name, made in own.items()
        if made and shown not in made
    ]
    if others:
        session.workshop.once(
            session.progress.say,
            f"images are prepared with {in_words(shown)}; made for others: {', '.join(others)}; "
            "dataset.preprocessing says what all networks see",
        )


def _retrain(session: Session, measure: _Measure) -> _Found:
    """Retrain networks, and measure them."""
    with session.clock.part("images"):
        chosen = plan(session)
    _begin(session, chosen.selection)
    with session.clock.part("retraining and evaluation"):
        rows = measure(session, chosen)
    manifest = _manifest(session, chosen.image_size, chosen.selection)

    def finish(directory: Path, is_known: bool) -> None:
        experiment = experiment_called(session.settings.name)
        is_written = (directory / f"{experiment.histories}.pdf").is_file()
        if chosen.histories and not (is_known and is_written):
            from experiments.present import present_histories

            histories = pd.concat(chosen.histories, ignore_index=True)
            present_histories(directory, experiment, histories)

    return manifest, rows, finish


def _begin(session: Session, selection: Selection) -> None:
    """Open the run's record, now that its images and networks are known."""
    assert session.record
    session.record.begin(
        selection.image_list_sha256, _weights(session), describe_software(REPOSITORY)
    )


def _weights(session: Session) -> dict[str, str]:
    """Return digests of the weights of the models that are evaluated."""
    classifiers = (get_classifier(session, key) for key in session.settings.models)
    return {classifier.name: classifier.weights_sha256 for classifier in classifiers}


def _select(session: Session, images: ImageSet) -> tuple[Selection, dict[str, NDArray[np.int64]]]:
    """Select the images that take part; return what models take all the unchanged ones for, too."""
    settings = session.settings
    # The evaluated models are tried too, so that a fault shows before any work is done.
    for key in all_models(settings):
        classifier = get_classifier(session, key)
        check_classifier(classifier, images.image_size, images.labels)
        check_outputs(session, classifier, images)
    known = {key: predictions_of(session, key, images) for key in settings.selection_models}
    predictions = {get_classifier(session, key).name: found for key, found in known.items()}
    return select(images, predictions, settings.dataset.limit, settings.seed), known


def _measured(
    session: Session,
    measure: _Measure,
    images: ImageSet,
    selection: Selection,
    known: dict[str, NDArray[np.int64]],
) -> list[pd.DataFrame]:
    """Measure each model on the images that take part."""
    settings, rows = session.settings, selection.indices
    chosen = chosen_from(images, rows)
    parts = []
    for key in settings.models:
        engine = get_engine(session, key, images)
        unchanged = known[key][rows] if key in known else None
        subject = Subject(get_classifier(session, key), engine, unchanged)
        with session.clock.part(f"evaluation of {subject.classifier.name}"):
            parts.append(measure(session, chosen, subject))
        count_flips_of_halving(session, subject.classifier.name, engine, images, rows, unchanged)
        compare_with_eager(session, key, images, rows, unchanged)
    return parts


def _manifest(session: Session, image_size: tuple[int, int], selection: Selection) -> Manifest:
    settings = session.settings
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
        weights_sha256=_weights(session),
        engines=session.engines,
        software=describe_software(REPOSITORY),
        hardware=describe_hardware(session.device),
        seconds=session.clock.seconds,
        unreadable=selection.unreadable,
        files=selection.files,
        repeated=selection.repeated,
    )
