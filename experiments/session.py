"""Hold the state of one run: settings, progress and record, and make its images, networks and engines."""

import contextlib
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from torch import nn

from experiments.exits import DONE, FAILURE, RUN, STORE, Workshop
from experiments.terminal import duration, say
from pixelrobust.datasets import list_images, list_training_images
from pixelrobust.datasets.decoded import ImageSet, PixelRows, load_images
from pixelrobust.datasets.folders import class_names_of
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.engine import (
    ASKED_FOR,
    NOTHING_FASTER,
    Engine,
    choose_engine,
    find_device,
    make_engine,
)
from pixelrobust.engine.base import known_outputs
from pixelrobust.engine.devices import offers_tf32
from pixelrobust.errors import InputError, printable
from pixelrobust.evaluation.cells import count_forward
from pixelrobust.evaluation.forward import Design
from pixelrobust.evaluation.selection import (
    clean_predictions,
    image_list_digest,
    low_accuracy,
)
from pixelrobust.evaluation.store import Keep, PredictionStore, RowStore, compute_anew
from pixelrobust.files import write_text
from pixelrobust.models.architectures import published_accuracy
from pixelrobust.models.build import Classifier, load_classifier
from pixelrobust.models.checks import try_module
from pixelrobust.models.weights import weights_digest
from pixelrobust.outcomes.kinds import OUTCOMES, RETRAINING, WORST_CASE, kind_of
from pixelrobust.outcomes.manifest import Manifest, Screened
from pixelrobust.perturbation.grid import PROTOCOL_VERSION, Cell, Manner
from pixelrobust.settings import (
    RETRAINED,
    SCREENED,
    EngineSettings,
    ModelSettings,
    RunSettings,
    engine_settings,
    fingerprint,
)
from pixelrobust.tracking import NO_TRACKER, Tracker

# In the folder of a run below `store/runs`, its rows so far.
_PARTS = "parts"
_ABOUT = "about.json"
# Measured in results/benchmark-gpu.csv.
_TF32 = (
    "engine.precision=tf32 would be faster on this GPU (on an H200, 1.6 to 4.3 times); how many predictions "
    "of unchanged images differ from those in fp32 would be said"
)
# Of these, changed images are predicted and nothing else hangs on the logits.
_SCREENED_KINDS = (OUTCOMES, RETRAINING, WORST_CASE)
_ENGINES = {"eager": "PyTorch", "compile": "compiled PyTorch", "openvino": "OpenVINO"}
# An engine shows by so many images that it works.
_EXAMPLES = 4


class Progress:
    """Show how far a run is: a bar while something is done, and a line for each network when it is.

    Args:
        console: where to; anything but a terminal gets the lines alone.
        is_brief: whether to tell only what a user should know, as in a job of a sweep.
    """

    def __init__(self, console: Console, is_brief: bool = False) -> None:
        self._console, self._is_brief = console, is_brief
        self._subject, self._done, self._seconds = "", 0, 0.0

    def say(self, sentence: str) -> None:
        """Print what a user should know."""
        say(self._console, sentence)

    def tell(self, sentence: str) -> None:
        """Print what is good to know."""
        if not self._is_brief:
            self.say(sentence)

    @contextmanager
    def task(self, words: str, total: int, subject: str = "") -> Iterator["Bar"]:
        """Show a bar, and yield what moves it on.

        Args:
            words: what is done.
            total: how many images there are.
            subject: the network, say, whose line counts it; that of another one ends. Empty: none's.
        """
        if subject and subject != self._subject:
            self.end_line()
            self._subject = subject
        columns: tuple[ProgressColumn, ...] = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        description = printable(f"{subject}: {words}" if subject else words)
        start = time.perf_counter()
        # Elsewhere than in a terminal it would leave empty lines.
        is_unseen = not self._console.is_interactive
        with RichProgress(
            *columns, console=self._console, transient=True, expand=True, disable=is_unseen
        ) as bar:
            task = bar.add_task(description, total=total)
            yield Bar(bar, task, description)
        if subject:
            self._done += total
            self._seconds += time.perf_counter() - start

    def end_line(self) -> None:
        """Print the line of what was measured last."""
        if self._subject:
            rate = self._done / self._seconds if self._seconds >= 1 else 0
            words = f", {rate:,.0f} images a second" if rate else ""
            self.tell(f"{self._subject}: {duration(self._seconds)}{words}")
        self._subject, self._done, self._seconds = "", 0, 0.0


class Bar:
    """Move a bar on by how many more of the total are done."""

    def __init__(self, bar: RichProgress, task: TaskID, description: str) -> None:
        self._bar, self._task, self._description = bar, task, description

    def __call__(self, done: int) -> None:
        self._bar.advance(self._task, done)

    def note(self, text: str) -> None:
        """Show how it stands, behind the description."""
        self._bar.update(self._task, description=printable(f"{self._description}: {text}"))


class Clock:
    """Add up the wall-clock seconds of each part of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done within."""
        start = time.perf_counter()
        yield
        passed = time.perf_counter() - start
        self.seconds[name] = round(self.seconds.get(name, 0.0) + passed, 2)


class RunRecord:
    """Keep the record of a run, from when its images are known.

    Args:
        settings: of the run.
        is_main: whether this process writes; others share its work.
        say: told in a sentence what a user should know.
    """

    def __init__(self, settings: RunSettings, is_main: bool, say: Callable[[str], None]) -> None:
        self._settings, self._is_main, self._say = settings, is_main, say
        self._directory: Path | None = None
        self._about: dict[str, Any] = {}

    def begin(self, images: str, weights: Mapping[str, str], software: Mapping[str, Any]) -> None:
        """Open the folder, which is called by a digest of all that determines the rows.

        Args:
            images: digest of the images.
            weights: for each model that is evaluated, the digest of its weights.
            software: versions.
        """
        settings = self._settings
        engine = settings.engine.model_dump(include={"name", "precision", "batch_size", "devices"})
        versions = [software.get(name) for name in ("protocol", "torch", "openvino", "foolbox")]
        digest = fingerprint(settings.identity(), images, dict(weights), engine, versions)
        self._directory = settings.paths.results / STORE / "runs" / f"{settings.name}-{digest[:10]}"
        self._about = {
            "name": settings.name,
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": settings.model_dump(mode="json"),
            "images_sha256": images,
            "weights_sha256": dict(weights),
            "software": dict(software),
            "answers": {},
        }
        if self._is_main:
            for name in (DONE, FAILURE):
                (self._directory / name).unlink(missing_ok=True)
        self._write()

    def note_predictions(self, network: str, folder: Path, images: int) -> None:
        """Keep where the predictions of a network lie, and how many images there are."""
        relative = folder.relative_to(self._settings.paths.results / STORE)
        self._about["answers"][network] = [relative.as_posix(), images]
        self._write()

    def rows(self) -> RowStore:
        """Return the store of rows that are no predictions for plain images."""
        assert self._directory
        store = RowStore(self._directory / _PARTS, self._say)
        if self._settings.recompute:
            store.forget()
        return store

    def end(self, results: Path) -> None:
        """Mark the run as done, and say where its results lie."""
        if self._directory and self._is_main:
            write_text(self._directory / DONE, f"{results}\n")

    def fail(self, error: BaseException) -> None:
        """Keep why the run failed, if it had begun, and there is room."""
        if self._directory and self._is_main:
            text = "".join(traceback.format_exception(error))
            with contextlib.suppress(InputError):
                write_text(self._directory / FAILURE, text)

    def _write(self) -> None:
        if self._directory and self._is_main:
            write_text(self._directory / RUN, json.dumps(self._about, indent=1) + "\n")


class Sample(NamedTuple):
    """Name what of a run is measured again: some images, by their keys, in the cells of its rows."""

    images: frozenset[str]
    cells: list[Cell]


@dataclass(frozen=True)
class Session:
    """Hold what every part of a run needs.

    Attributes:
        settings: of the run; its engine's device is this process's.
        progress: shows how far each part is; silent in all processes but the first.
        record: what the run leaves about itself; None where it leaves nothing, and takes up nothing
            that others left.
        context: this process among those that share the work.
        workshop: images, networks and engines that this process has made.
        tracker: logs the run; only in the process that writes.
        noted: by the name of a network what ran it in a run that is measured again; this session's
            engines are the same, as far as the machine has them.
        sample: what of such a run is measured; None: all that the settings ask for.
        clock: how long each part takes.
        engines: what runs each network, as far as it is known.
    """

    settings: RunSettings
    progress: Progress
    record: RunRecord | None = None
    context: Context = SINGLE
    workshop: Workshop = field(default_factory=Workshop)
    tracker: Tracker = NO_TRACKER
    noted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sample: Sample | None = None
    clock: Clock = field(default_factory=Clock)
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Return the device of this process."""
        assert isinstance(self.settings.engine.devices, str)
        return find_device(self.settings.engine.devices)

    @property
    def design(self) -> Design:
        """Return the changes of every image."""
        settings = self.settings
        cells = self.sample.cells if self.sample else settings.perturbation.cells()
        return Design(cells, settings.draws, settings.seed, settings.perturbation.manner)

    def rows(self) -> Keep:
        """Return what keeps rows, so that a run goes on where it was stopped.

        The first process reads and writes, and tells the others what is there; the rest all compute.
        """
        if self.record is None:
            return compute_anew
        if self.context.is_main:
            return partial(self.record.rows().rows, tell=self.context.broadcast)

        def follow(name: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
            known = self.context.broadcast(cast(pd.DataFrame | None, None))
            return compute() if known is None else known

        return follow


def image_set(session: Session) -> ImageSet:
    """Return the decoded images of the data set."""
    images = _decoded(session, is_training=False)
    assert images
    return images


def training_set(session: Session) -> ImageSet | None:
    """Return the decoded images of its training split; None where it has none."""
    return _decoded(session, is_training=True)


def _decoded(session: Session, is_training: bool) -> ImageSet | None:
    run = session.settings
    settings, cache, seed = run.dataset, run.paths.cache, run.seed

    def load() -> ImageSet | None:
        listed = (list_training_images if is_training else list_images)(settings, cache, seed)
        if listed is None:
            return None
        if listed.left_out:
            session.progress.say(listed.what_is_left_out)
        with session.progress.task("decoding images", len(listed)) as advance:
            images = load_images(
                listed, settings.preprocessing, cache, advance, settings.unreadable == "skip"
            )
        _tell_unreadable(session, images)
        return images

    return session.workshop.get(("images", is_training, settings, cache, seed), load)


def _tell_unreadable(session: Session, images: ImageSet) -> None:
    """Say how many files were left out, and the first few; all processes leave out the same."""
    if session.context.broadcast(images.keys) != images.keys:
        raise InputError(
            "some files can be read now and then only, so that processes see different images; mend "
            "them, or set dataset.unreadable=stop."
        )
    if images.unreadable:
        session.progress.say(images.what_is_unreadable)


def rows_of(images: ImageSet, manifest: Manifest, keys: Sequence[str]) -> NDArray[np.int64]:
    """Return the positions of a stored run's images, by their keys, in the data set.

    Raises:
        InputError: they are not in it, or their pixels, labels or order differ.
    """
    position = {key: row for row, key in enumerate(images.keys)}
    unknown = [key for key in keys if key not in position]
    if unknown:
        raise InputError(
            f"{len(unknown)} images of {manifest.name} are not in the data set, {unknown[0]!r} for "
            "example; give the one that it ran on (dataset=…, dataset.root=…)."
        )
    rows = np.array([position[key] for key in keys], dtype=np.int64)
    if image_list_digest(images, rows.tolist()) != manifest.image_list_sha256:
        raise InputError(
            f"the images of {manifest.name} are called as those of this data set, but their pixels, "
            "labels or order differ; give the data set, and the preprocessing, that it ran on."
        )
    return rows


def all_models(settings: RunSettings) -> dict[str, ModelSettings]:
    """Return the models that are evaluated, and those that only select."""
    return settings.models | settings.selection_models


def get_classifier(session: Session, key: str) -> Classifier:
    """Return the classifier of a model, its outputs in the order of the data set's classes."""
    model, dataset = all_models(session.settings)[key], session.settings.dataset
    # Classes that networks are retrained for are not theirs yet.
    is_known = session.settings.measure not in RETRAINED or not dataset.has_own_classes
    is_named = is_known and model.is_named

    def load() -> Classifier:
        classifier = load_classifier(key, model, class_names_of(dataset) if is_named else None)
        for note in classifier.notes:
            session.progress.say(note)
        return classifier

    return session.workshop.get(("network", key, model, dataset if is_named else None), load)


def check_outputs(session: Session, classifier: Classifier, images: ImageSet) -> None:
    """Raise InputError where a data set numbers its own classes, and a network has more or fewer.

    `dataset.classes` says what is meant where they are not the same.
    """
    if images.classes is None or session.settings.dataset.classes is not None:
        return
    outputs = _count_outputs(classifier, images)
    if outputs != len(images.classes):
        raise InputError(
            f"the data set has {len(images.classes)} classes of its own, but model {classifier.name} has "
            f"{outputs} outputs; give dataset.classes: imagenet, if they are called as classes of "
            "ImageNet, or a text file with one class name a line in the order of the outputs."
        )


def _count_outputs(classifier: Classifier, images: ImageSet) -> int:
    # An engine may have moved it to a GPU.
    logits = try_module(classifier.name, classifier.module, torch.zeros(1, 3, *images.image_size))
    return int(logits.shape[1])


def get_engine(session: Session, key: str, images: ImageSet) -> Engine:
    """Return what runs a model of the settings, on images like these."""
    classifier, n_forward = get_classifier(session, key), _n_forward(session.settings, len(images))
    settings = _engine_settings(session, classifier.name, key not in session.settings.models)
    name, _ = choose_engine(session.device, n_forward)
    place = ("engine", key, all_models(session.settings)[key], settings, name, images.image_size)
    engine = session.workshop.get(
        place, lambda: _started(session, settings, classifier.module, images.pixels, n_forward)
    )
    _note_engine(session, classifier.name, engine, settings.precision)
    return engine


def start_engine(
    session: Session, name: str, module: nn.Module, pixels: PixelRows, n_forward: int = 0
) -> Engine:
    """Return what runs a network that is not one of the settings, on images like these.

    Args:
        session: of the run.
        name: of the network.
        module: the network.
        pixels: some images.
        n_forward: forward passes that are ahead, in images, at most; engines that take long to
            start are not worth it for few.
    """
    settings = _engine_settings(session, name)
    engine = _started(session, settings, module, pixels, n_forward)
    _note_engine(session, name, engine, settings.precision)
    return engine


def _n_forward(settings: RunSettings, images: int) -> int:
    """Return the forward passes of a network, should all images be classified correctly."""
    if settings.measure in RETRAINED:
        return 0
    cells = [cell for cell in settings.perturbation.cells() if cell.num]
    chosen = min(settings.dataset.limit or images, images)
    if settings.measure == WORST_CASE.name:
        # Random changes twice, and the search.
        return images + chosen * len(cells) * (2 * settings.draws + settings.queries)
    return images + count_forward(cells, chosen, settings.draws)


def _started(
    session: Session,
    settings: EngineSettings,
    module: nn.Module,
    pixels: NDArray[np.uint8] | PixelRows,
    n_forward: int,
) -> Engine:
    some = torch.tensor(pixels[np.arange(min(_EXAMPLES, len(pixels)))])
    with session.clock.part("engines"):
        return make_engine(module, settings, some, n_forward)


def _note_engine(session: Session, name: str, engine: Engine, wanted: str) -> None:
    """Keep what runs a network, and say it of the first one, and of others that another engine runs.

    Args:
        session: of the run.
        name: of the network.
        engine: runs it.
        wanted: the precision that it was asked for.
    """
    if name in session.engines:
        return
    words = _engine_in_words(engine.description())
    told = {_engine_in_words(one) for one in session.engines.values()}
    if words not in told:
        is_second_choice = engine.name == "eager" and engine.reason != ASKED_FOR
        why = f": {engine.reason}" if is_second_choice else ""
        who = f"{name} runs" if told or len(session.settings.models) == 1 else "networks run"
        session.progress.tell(f"{who} on {words}{why}")
        if not told and wanted == "fp32" and offers_tf32(engine.device):
            session.progress.tell(_TF32)
        if wanted == SCREENED and not engine.screening:
            session.workshop.once(session.progress.say, NOTHING_FASTER)
    session.engines[name] = engine.description()


def _engine_in_words(about: Mapping[str, Any]) -> str:
    """Return what runs a network, given `Engine.description`."""
    precision = f"fp32, screened in {about['fast']}" if "fast" in about else about["precision"]
    return f"{_ENGINES[about['name']]} ({precision})"


def note_screened(session: Session, name: str, found: Mapping[str, Any]) -> None:
    """Keep how predictions of a network were screened, together with what is known of it already."""
    session.engines[name] = Screened(**found).added_to(session.engines[name])


def _engine_settings(session: Session, name: str, only_selects: bool = False) -> EngineSettings:
    """Return what a network of this name is to be run by, which may be one that only selects images."""
    settings, noted = session.settings.engine, session.noted.get(name, {})
    own = {key: noted[key] for key in ("name", "precision", "batch_size") if key in noted}
    if session.device.type == "cuda":
        own.pop("name", None)
    settings = engine_settings(**settings.model_dump() | own) if own else settings
    # What was screened is measured again in fp32, whose predictions it is to have.
    if settings.precision == SCREENED and (
        noted or only_selects or kind_of(session.settings.identity()) not in _SCREENED_KINDS
    ):
        settings = settings.model_copy(update={"precision": "fp32"})
    # Gradients are plain PyTorch's, and predictions are to fit them.
    if settings.name == "auto" and session.settings.takes_gradients:
        return settings.model_copy(update={"name": "eager"})
    return settings


def predictions_of(session: Session, key: str, images: ImageSet) -> NDArray[np.int64]:
    """Return what a model of the settings takes the N unchanged images for.

    Where it gets suspiciously few of them right, that is said here: a selection would hide it.
    """
    engine, every = get_engine(session, key, images), np.arange(len(images))
    found = clean_predictions_of(session, key, engine, images, every, "unchanged images")
    classifier, model = get_classifier(session, key), all_models(session.settings)[key]
    known = known_outputs(classifier.module)
    classes = _count_outputs(classifier, images) if known is None else int(known.sum())
    is_imagenet = images.classes is None and session.settings.dataset.classes in (None, "imagenet")
    right = int((found == images.labels).sum())
    fault = low_accuracy(
        right, len(images), classes, published_accuracy(model) if is_imagenet else None
    )
    if fault:
        session.workshop.once(session.progress.say, f"model {classifier.name} {fault}")
    return found


def clean_predictions_of(
    session: Session,
    key: str,
    engine: Engine,
    images: ImageSet,
    rows: NDArray[np.int64],
    words: str,
) -> NDArray[np.int64]:
    """Return what a network takes some unchanged images for, each process its share of them.

    Args:
        session: of the run.
        key: of the model.
        engine: runs it.
        images: the data set.
        rows: (M,) positions in it.
        words: for the progress bar.
    """
    classifier, cache = get_classifier(session, key), session.settings.paths.cache
    with session.progress.task(f"{classifier.name}: {words}", len(rows)) as advance:
        return clean_predictions(classifier, engine, images, rows, cache, advance, session.context)


def prediction_store(
    session: Session, name: str, engine: Engine, module: nn.Module, images: str, count: int
) -> PredictionStore | None:
    """Return where the predictions of a network for some images are kept.

    Below `results/store/answers` there is a folder for each network, list of images and engine,
    with a folder for each cell; runs that share cells share these.

    Args:
        session: of the run; without a record nothing is kept.
        name: of the network, for the record.
        engine: runs the network.
        module: the network.
        images: a digest of keys, pixels, and labels as outputs of the network.
        count: how many images there are.
    """
    settings = session.settings
    if session.record is None:
        return None
    about = {
        "network": fingerprint(weights_digest(module), repr(module)),
        "images": images,
        "count": count,
        "seed": settings.seed,
        "protocol": PROTOCOL_VERSION,
        "engine": [engine.version, engine.precision, engine.device.type, engine.batch_size],
    }
    if engine.screening:
        # These come first; those of the engine itself lie within.
        fast = engine.screening.fast
        about["screened"] = [fast.version, fast.precision, fast.batch_size]
    manner = settings.perturbation.manner
    if manner != Manner():
        about["manner"] = manner._asdict()
    directory = settings.paths.results / STORE / "answers" / fingerprint(about)[:32]
    write_text(directory / _ABOUT, json.dumps(about, indent=1) + "\n")
    session.record.note_predictions(name, directory, count)
    store = PredictionStore(directory, session.progress.say, range(count))
    if settings.recompute:
        store.forget(settings.perturbation.cells())
    return store
