"""Images, networks and engines of a process: jobs of a sweep share them."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.progress import Progress
from pixelrobust.datasets import ImageList, list_images, list_training_images
from pixelrobust.datasets.cache import ImageSet, load_images
from pixelrobust.engine import Engine, make_engine
from pixelrobust.models import Classifier, load_classifier
from pixelrobust.settings import DatasetSettings, EngineSettings, ModelSettings

_Listing = Callable[[DatasetSettings, Path, int], ImageList | None]

_IMAGE_SETS: dict[tuple[_Listing, DatasetSettings, Path, int], ImageSet] = {}


def image_set(settings: DatasetSettings, cache: Path, seed: int, progress: Progress) -> ImageSet:
    """The decoded images of a data set."""
    images = _decoded(list_images, settings, cache, seed, progress)
    assert images
    return images


def training_set(
    settings: DatasetSettings, cache: Path, seed: int, progress: Progress
) -> ImageSet | None:
    """The decoded images of its training split; None where it has none."""
    return _decoded(list_training_images, settings, cache, seed, progress)


def _decoded(
    listing: _Listing, settings: DatasetSettings, cache: Path, seed: int, progress: Progress
) -> ImageSet | None:
    key = (listing, settings, cache, seed)
    if key not in _IMAGE_SETS:
        listed = listing(settings, cache, seed)
        if listed is None:
            return None
        with progress.task("decoding images", len(listed)) as advance:
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
