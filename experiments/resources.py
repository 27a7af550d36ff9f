"""Images, networks and engines of a process: jobs of a sweep share them."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.progress import Progress
from pixelrobust.datasets import ImageList, list_images, list_training_images
from pixelrobust.datasets.cache import ImageSet, load_images
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.engine import Engine, make_engine
from pixelrobust.models import Classifier, load_classifier
from pixelrobust.selection import clean_predictions
from pixelrobust.settings import DatasetSettings, EngineSettings, ModelSettings, RunSettings


@dataclass(frozen=True)
class Session:
    """What every part of a run needs.

    Attributes:
        settings: of the run; its engine's device is this process's.
        progress: shows how far each part is; silent in all processes but the first.
        context: this process among those that share the work.
    """

    settings: RunSettings
    progress: Progress
    context: Context = SINGLE


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
            _IMAGE_SETS[key] = load_images(listed, settings.preprocessing, cache, advance)
    return _IMAGE_SETS[key]


@functools.cache
def get_classifier(key: str, settings: ModelSettings) -> Classifier:
    """The classifier of a model config."""
    return load_classifier(key, settings)


@functools.cache
def get_engine(key: str, model: ModelSettings, settings: EngineSettings) -> Engine:
    """What runs it."""
    return make_engine(get_classifier(key, model).module, settings)


class Clock:
    """Wall-clock seconds of the parts of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)


def predictions_of(session: Session, key: str, images: ImageSet) -> NDArray[np.int64]:
    """(N,) classes that a model of the settings takes unchanged images for.

    The first of several processes finds out for all of them.
    """
    settings = session.settings
    model = (settings.models | settings.selection_models)[key]
    classifier, engine = get_classifier(key, model), get_engine(key, model, settings.engine)
    words = f"{classifier.name}: unchanged images"
    if not session.context.is_main:
        return session.context.broadcast(np.empty(0, dtype=np.int64))
    with session.progress.task(words, len(images)) as advance:
        found = clean_predictions(classifier, engine, images, settings.paths.cache, advance)
    return session.context.broadcast(found)
