"""What all arms start from: weights in a file, images under the classes that are predicted for them.

    python -m scripts.benchmarking.preparation REQUEST FOLDER

None of it is timed.
"""

import math
import sys
from pathlib import Path

from torch import Tensor, nn

from experiments.config import compose, quoted, read_settings
from experiments.exits import exit_code
from pixelrobust.datasets.lists import sample
from pixelrobust.engine import Engine, make_engine
from pixelrobust.errors import InputError
from pixelrobust.models import load_classifier
from pixelrobust.settings import EngineSettings, RunSettings
from scripts.benchmarking.afternoon import BATCH_SIZE
from scripts.benchmarking.bare import predict_for
from scripts.benchmarking.images import decode_all, find_images, link_images, predicted_classes
from scripts.benchmarking.records import NUMS, Job, Request, read_request
from scripts.benchmarking.weights import has_weights, save_network, save_random_weights

# A pass over the images is to take plain PyTorch so long without decoding, that starting the workers
# of a DataLoader weighs little; and each of two workers is to have a batch.
_PASS_SECONDS = 2.0
_FEWEST, _MOST = 2 * BATCH_SIZE, 2000
_TRIAL_SECONDS = 1.0
_TRIAL_IMAGES = 16


def prepare(request: Request, folder: Path) -> Job:
    """Write what the arms need into a folder.

    Raises:
        InputError: anything of the request is wrong.
    """
    keys, is_random = _network_keys(request, folder)
    settings = read_settings(compose(*keys))
    model, preprocessing = settings.models[request.model], settings.dataset.preprocessing
    classifier = load_classifier(request.model, model)
    images = find_images(request.images)
    some = decode_all(images.paths[:_TRIAL_IMAGES], preprocessing)
    eager = _engine(classifier.module, settings, {"name": "eager", "precision": "fp32"}, some)
    count = request.count or _suitable_count(eager, some, len(images) if request.every else 0)
    images = images.take(sample(images.keys, count, seed=0))
    classes = predicted_classes(eager, images.paths, preprocessing)
    root, names = link_images(images.paths, classes, count, model.classes, folder)
    weights = folder / "network.safetensors"
    mean, std = save_network(classifier, weights)
    draws = request.draws or _suitable_draws(
        request.seconds, classifier.module, settings, some, count
    )
    return Job(
        model=request.model,
        label=classifier.name,
        source=model.source,
        name=model.name,
        classes=model.classes,
        weights=str(weights),
        random=is_random,
        mean=mean,
        std=std,
        images=str(root),
        count=count,
        files=len(images),
        draws=draws,
        device=str(eager.device),
        keys=(*keys, f"dataset.root={quoted(root)}", f"dataset.classes={quoted(names)}"),
    )


def _network_keys(request: Request, folder: Path) -> tuple[tuple[str, ...], bool]:
    """Keys of arm c's command line, but for its images, and whether weights are random."""
    keys = (
        "experiment=table6",
        f"model={request.model}",
        "selection.models=null",
        "dataset=imagefolder",
        "dataset.limit=null",
        *request.engine_keys,
    )
    key = f"models.{request.model}"
    if request.weights:
        return (*keys, f"{key}.weights={quoted(request.weights)}"), False
    settings = read_settings(compose(*keys)).models[request.model]
    if has_weights(settings):
        return keys, False
    path = folder / "random.safetensors"
    save_random_weights(settings, path)
    return (*keys, f"{key}.weights={quoted(path)}", f"{key}.match=names"), True


def _engine(
    module: nn.Module, settings: RunSettings, changes: dict[str, str], some: Tensor, passes: int = 0
) -> Engine:
    """The engine of the settings, but for these changes."""
    if not isinstance(settings.engine.devices, str):
        raise InputError("engine.devices names several devices; the benchmark runs on one.")
    engine = EngineSettings(**settings.engine.model_dump() | changes)
    return make_engine(module, engine, some, passes)


def _suitable_count(eager: Engine, some: Tensor, least: int) -> int:
    wanted = _PASS_SECONDS * _images_a_second(eager, some)
    batches = math.ceil(wanted / BATCH_SIZE)
    return max(min(max(batches * BATCH_SIZE, _FEWEST), _MOST), least)


def _suitable_draws(
    seconds: float, module: nn.Module, settings: RunSettings, some: Tensor, count: int
) -> int:
    """So many that arm c's forward passes take these seconds."""
    passes = count * len(NUMS)
    engine = _engine(module, settings, {}, some, passes)
    return max(math.ceil(seconds * _images_a_second(engine, some) / passes), 1)


def _images_a_second(engine: Engine, some: Tensor) -> float:
    passes, seconds = predict_for(_TRIAL_SECONDS, engine, some)
    return passes / seconds


def main(request: Path, folder: Path) -> int:
    """Prepare, and write the job; the exit code."""

    def work() -> int:
        prepare(read_request(request), folder).write(folder / "job.json")
        return 0

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
