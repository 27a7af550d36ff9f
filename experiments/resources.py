"""Images, networks and engines of a process: jobs of a sweep share them."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from experiments.progress import Progress
from experiments.records import RunRecord
from pixelrobust.datasets import ImageList, list_images, list_training_images
from pixelrobust.datasets.cache import ImageSet, PixelRows, load_images
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.engine import (
    EagerEngine,
    Engine,
    Predicted,
    choose_engine,
    find_device,
    make_engine,
    predict_all,
    suitable_batch_size,
)
from pixelrobust.errors import InputError
from pixelrobust.models import Classifier, load_classifier
from pixelrobust.selection import clean_predictions
from pixelrobust.settings import DatasetSettings, EngineSettings, ModelSettings, RunSettings


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
    """

    settings: RunSettings
    progress: Progress
    record: RunRecord
    context: Context = SINGLE
    passes: int = 0
    clock: Clock = field(default_factory=Clock)
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)


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


@functools.cache
def get_classifier(key: str, settings: ModelSettings) -> Classifier:
    """The classifier of a model config."""
    return load_classifier(key, settings)


_ENGINES: dict[tuple[object, ...], Engine] = {}


def get_engine(session: Session, key: str, images: ImageSet) -> Engine:
    """What runs a model of the settings, on images like these."""
    model = all_models(session.settings)[key]
    classifier = get_classifier(key, model)
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
    classifier = get_classifier(key, all_models(session.settings)[key])
    engine = get_engine(session, key, images)
    every = np.arange(len(images))
    return _predictions(session, classifier, engine, images, every, "unchanged images")


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
    classifier = get_classifier(key, all_models(session.settings)[key])
    engine, chosen = get_engine(session, key, images), _compared(session, len(rows))
    if engine.is_reference or not len(chosen):
        return
    find = partial(_predictions, session, classifier, images=images, rows=rows[chosen])
    reference = _reference(engine, classifier.module, images.image_size)
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
    reference = _reference(engine, module, (images.shape[-2], images.shape[-1]))
    found, expected = (predict_all(each, chosen, lambda done: None) for each in (engine, reference))
    _note_difference(session, name, found, expected)


def _compared(session: Session, images: int) -> NDArray[np.int64]:
    """Positions of those, out of so many, by which engines are compared."""
    count = min(session.settings.engine.compared, images)
    return np.arange(count) * images // max(count, 1)


def _reference(engine: Engine, module: nn.Module, image_size: tuple[int, int]) -> Engine:
    return EagerEngine(module, engine.device, suitable_batch_size(engine.device, image_size))


def _note_difference(session: Session, name: str, found: Predicted, expected: Predicted) -> None:
    count, differing = len(found.classes), int((found.classes != expected.classes).sum())
    session.engines[name] |= {"compared": count, "differing": differing}
    session.progress.say(
        f"{name}: {differing} of {count:,} predictions of unchanged images differ from those of "
        "eager in fp32"
    )


def _predictions(
    session: Session,
    classifier: Classifier,
    engine: Engine,
    images: ImageSet,
    rows: NDArray[np.int64],
    words: str,
) -> Predicted:
    found = None
    if session.context.is_main:
        cache = session.settings.paths.cache
        with session.progress.task(f"{classifier.name}: {words}", len(rows)) as advance:
            found = clean_predictions(classifier, engine, images, rows, cache, advance)
    return cast(Predicted, session.context.broadcast(found))
