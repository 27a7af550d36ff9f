"""Progress bars."""

import contextlib
import functools
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text
from torch import nn

from experiments.exits import DONE, FAILURE, RUN, STORE
from pixelrobust.datasets import ImageList, list_images, list_training_images
from pixelrobust.datasets.classes import ClassNames
from pixelrobust.datasets.decoded import ImageSet, PixelRows, load_images
from pixelrobust.datasets.folders import class_names_of
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.engine import (
    Engine,
    Predicted,
    choose_engine,
    find_device,
    make_engine,
)
from pixelrobust.errors import InputError, printable
from pixelrobust.evaluation.selection import clean_predictions
from pixelrobust.evaluation.store import PredictionStore, RowStore
from pixelrobust.files import write_text
from pixelrobust.models.build import Classifier, load_classifier
from pixelrobust.models.weights import weights_digest
from pixelrobust.perturbation.grid import PROTOCOL_VERSION
from pixelrobust.settings import (
    RETRAINED,
    DatasetSettings,
    EngineSettings,
    ModelSettings,
    RunSettings,
    fingerprint,
)
from pixelrobust.tracking import NO_TRACKER, Tracker


class Progress:
    """Shows the parts of a run, each with its own bar.

    Args:
        console: where to; anything but a terminal gets one line a part, when it is done.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, sentence: str) -> None:
        """Print a line between the bars."""
        self._console.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, description: str, total: int) -> Iterator["Bar"]:
        """Yield a function that is told how many more of the total are done."""
        columns: tuple[ProgressColumn, ...] = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self._console) as bar:
            task = bar.add_task(printable(description), total=total)
            yield Bar(bar, task, printable(description))
            bar.update(task, completed=total)


class Bar:
    """Called with how many more of the total are done."""

    def __init__(self, bar: RichProgress, task: TaskID, description: str) -> None:
        self._bar, self._task, self._description = bar, task, description

    def __call__(self, done: int) -> None:
        self._bar.advance(self._task, done)

    def note(self, text: str) -> None:
        """Show how it stands, behind the description."""
        self._bar.update(self._task, description=printable(f"{self._description}: {text}"))


class _RateColumn(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} images/s")


PARTS = "parts"


class RunRecord:
    """The record of a run, from when its images are known.

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

    def note_answers(self, network: str, folder: Path, images: int) -> None:
        """Keep where the answers of a network lie, and how many images there are."""
        relative = folder.relative_to(self._settings.paths.results / STORE)
        self._about.setdefault("answers", {})[network] = [relative.as_posix(), images]
        self._write()

    def rows(self) -> RowStore:
        """Where rows are kept that are no answers."""
        assert self._directory
        store = RowStore(self._directory / PARTS, self._say)
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


# Images, networks and engines of a process: jobs of a sweep share them.


class Clock:
    """Wall-clock seconds of the parts of a run; of all times that a part came up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        passed = time.perf_counter() - start
        self.seconds[name] = round(self.seconds.get(name, 0.0) + passed, 2)


@dataclass(frozen=True)
class Session:
    """What every part of a run needs.

    Attributes:
        settings: of the run; its engine's device is this process's.
        progress: shows how far each part is; silent in all processes but the first.
        context: this process among those that share the work.
        passes: forward passes of each network that are ahead, at most, in images.
        clock: how long each part takes.
        engines: what runs each network, as far as it is known.
        record: what the run leaves about itself.
        tracker: logs the run; only in the process that writes.
    """

    settings: RunSettings
    progress: Progress
    record: RunRecord
    context: Context = SINGLE
    passes: int = 0
    clock: Clock = field(default_factory=Clock)
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    tracker: Tracker = NO_TRACKER


# Images by which an engine shows that it works.
_EXAMPLES = 4
# Of files that cannot be read, in the terminal.
_NAMED = 3

_Listing = Callable[[DatasetSettings, Path, int], ImageList | None]

_IMAGE_SETS: dict[tuple[_Listing, DatasetSettings, Path, int], ImageSet] = {}


def image_set(session: Session) -> ImageSet:
    """The decoded images of the data set."""
    images = _decoded(list_images, session)
    assert images
    return images


def training_set(session: Session) -> ImageSet | None:
    """The decoded images of its training split; None where it has none."""
    return _decoded(list_training_images, session)


def _decoded(listing: _Listing, session: Session) -> ImageSet | None:
    settings, cache = session.settings.dataset, session.settings.paths.cache
    key = (listing, settings, cache, session.settings.seed)
    if key not in _IMAGE_SETS:
        listed = listing(settings, cache, session.settings.seed)
        if listed is None:
            return None
        with session.progress.task("decoding images", len(listed)) as advance:
            _IMAGE_SETS[key] = load_images(
                listed, settings.preprocessing, cache, advance, settings.unreadable == "skip"
            )
        _tell_unreadable(session, _IMAGE_SETS[key])
    return _IMAGE_SETS[key]


def _tell_unreadable(session: Session, images: ImageSet) -> None:
    """Say how many files were left out, and the first few; all processes leave out the same."""
    if session.context.broadcast(images.keys) != images.keys:
        raise InputError(
            "some files can be read now and then only, so that processes see different images; mend "
            "them, or set dataset.unreadable=stop."
        )
    if images.unreadable:
        named = ", ".join(map(repr, list(images.unreadable)[:_NAMED]))
        more = ", …" if len(images.unreadable) > _NAMED else ""
        session.progress.say(
            f"{len(images.unreadable):,} of {len(images) + len(images.unreadable):,} files cannot be "
            f"read and are left out: {named}{more}"
        )


def get_classifier(settings: RunSettings, key: str) -> Classifier:
    """The classifier of one of the models of a run, its outputs in the order of the data set's classes."""
    model, dataset = all_models(settings)[key], settings.dataset
    # Classes that networks are retrained for are not theirs yet.
    known = settings.measure not in RETRAINED or not dataset.has_own_classes
    names = _class_names(dataset) if known and model.source == "huggingface" else None
    return _classifier(key, model, names)


# Read once, like the networks and the images that it belongs to.
_class_names = functools.cache(class_names_of)


@functools.cache
def _classifier(key: str, settings: ModelSettings, classes: ClassNames | None) -> Classifier:
    return load_classifier(key, settings, classes)


def check_outputs(session: Session, classifier: Classifier, images: ImageSet) -> None:
    """Raise InputError where a data set numbers its own classes, and a network has more or fewer.

    `dataset.classes` says what is meant where they are not the same.
    """
    if images.classes is None or session.settings.dataset.classes is not None:
        return
    with torch.inference_mode():
        outputs = classifier.module(torch.zeros(1, 3, *images.image_size)).shape[1]
    if outputs != len(images.classes):
        raise InputError(
            f"the data set has {len(images.classes)} classes of its own, but model {classifier.name} has "
            f"{outputs} outputs; give dataset.classes: imagenet, if they are called as classes of "
            "ImageNet, or a text file with one class name a line in the order of the outputs."
        )


_ENGINES: dict[tuple[object, ...], Engine] = {}


def get_engine(session: Session, key: str, images: ImageSet) -> Engine:
    """What runs a model of the settings, on images like these."""
    model = all_models(session.settings)[key]
    classifier = get_classifier(session.settings, key)
    settings = _engine_settings(session)
    assert isinstance(settings.devices, str)
    name, _ = choose_engine(find_device(settings.devices), settings.precision, session.passes)
    place = (key, model, settings, name, images.image_size)
    if place not in _ENGINES:
        _ENGINES[place] = _started(session, classifier.module, images.pixels)
    _note_engine(session, classifier.name, _ENGINES[place])
    return _ENGINES[place]


def start_engine(
    session: Session, name: str, module: nn.Module, pixels: NDArray[np.uint8] | PixelRows
) -> Engine:
    """What runs a network that is not one of the settings, on images like these."""
    engine = _started(session, module, pixels)
    _note_engine(session, name, engine)
    return engine


def _started(session: Session, module: nn.Module, pixels: NDArray[np.uint8] | PixelRows) -> Engine:
    some = torch.tensor(pixels[np.arange(min(_EXAMPLES, len(pixels)))])
    with session.clock.part("engines"):
        return make_engine(module, _engine_settings(session), some, session.passes)


def _note_engine(session: Session, name: str, engine: Engine) -> None:
    """Say once in a run, and keep, what runs a network."""
    if name not in session.engines:
        session.progress.say(
            f"{name}: run by {engine.name} in {engine.precision} ({engine.reason})"
        )
        session.engines[name] = engine.description()


def _engine_settings(session: Session) -> EngineSettings:
    """Gradients are plain PyTorch's, and predictions are to fit them."""
    settings = session.settings.engine
    if settings.name == "auto" and session.settings.takes_gradients:
        return settings.model_copy(update={"name": "eager"})
    return settings


def all_models(settings: RunSettings) -> dict[str, ModelSettings]:
    """Those that are evaluated, and those that only select."""
    return settings.models | settings.selection_models


def predictions_of(session: Session, key: str, images: ImageSet) -> Predicted:
    """What a model of the settings takes the N unchanged images for.

    The first of several processes finds out for all of them.
    """
    classifier = get_classifier(session.settings, key)
    engine = get_engine(session, key, images)
    every = np.arange(len(images))
    return clean_predictions_of(session, classifier, engine, images, every, "unchanged images")


def clean_predictions_of(
    session: Session,
    classifier: Classifier,
    engine: Engine,
    images: ImageSet,
    rows: NDArray[np.int64],
    words: str,
) -> Predicted:
    """What a network takes some unchanged images for; the first of several processes finds out.

    Args:
        session: what to use.
        classifier: the network.
        engine: runs it.
        images: the data set.
        rows: (M,) positions in it.
        words: for the progress bar.
    """
    found = None
    if session.context.is_main:
        cache = session.settings.paths.cache
        with session.progress.task(f"{classifier.name}: {words}", len(rows)) as advance:
            found = clean_predictions(classifier, engine, images, rows, cache, advance)
    return cast(Predicted, session.context.broadcast(found))


# Where a run keeps the answers of its networks, so that it goes on where it was stopped. Below
# `results/store/answers` there is a folder for each network, list of images and engine, with a
# folder for each cell; runs that share cells share these.

_ABOUT = "about.json"


def answer_store(
    session: Session, name: str, engine: Engine, module: nn.Module, images: str, count: int
) -> PredictionStore:
    """Where the answers of a network for some images are kept.

    Args:
        session: of the run.
        name: of the network, for the record.
        engine: runs the network.
        module: the network.
        images: a digest of keys, pixels, and labels as outputs of the network.
        count: how many images there are.
    """
    settings = session.settings
    about = {
        "network": fingerprint(weights_digest(module), repr(module)),
        "images": images,
        "count": count,
        "seed": settings.seed,
        "protocol": PROTOCOL_VERSION,
        "engine": [engine.version, engine.precision, engine.device.type, engine.batch_size],
    }
    directory = settings.paths.results / STORE / "answers" / fingerprint(about)[:32]
    write_text(directory / _ABOUT, json.dumps(about, indent=1) + "\n")
    session.record.note_answers(name, directory, count)
    store = PredictionStore(directory, session.progress.say, range(count))
    if settings.recompute:
        store.forget(settings.perturbation.cells())
    return store
