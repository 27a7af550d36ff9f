"""Arm d, forward passes alone, by the engine that arm c had.

    python -m scripts.benchmarking.bare JOB SECONDS KEY=VALUE …

Real images wait in memory, in batches; nothing happens but that the engine predicts their classes.
"""

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.config import compose, read_settings
from pixelrobust.engine import Engine, make_engine
from pixelrobust.models import load_classifier
from scripts.benchmarking.images import decode_all
from scripts.benchmarking.records import Job, Steady, read_job

_MOST_IMAGES = 256
_WARM_UP_SECONDS = 0.5


def main(job: Job, seconds: float, engine_keys: Sequence[str]) -> None:
    """Predict for so many seconds.

    Args:
        job: the network and the images.
        seconds: how long.
        engine_keys: of the command line: what arm c's engine was.
    """
    settings = read_settings(compose(*job.keys, *engine_keys))
    paths = sorted(path for path in Path(job.images).rglob("*") if not path.is_dir())
    images = decode_all(paths[:_MOST_IMAGES], settings.dataset.preprocessing)
    module = load_classifier(job.model, settings.models[job.model]).module
    engine = make_engine(module, settings.engine, images, passes=0)
    passes, passed = predict_for(seconds, engine, images)
    Steady(passes, passed, engine.name, engine.precision, engine.batch_size).print()


def predict_for(seconds: float, engine: Engine, images: Tensor) -> tuple[int, float]:
    """Forward passes, in images, and the seconds that they took, after a warm-up.

    Args:
        seconds: at least so many.
        engine: what runs them.
        images: (N, C, H, W) uint8, N at least 1; each may be passed many times.
    """
    rows = np.arange(max(len(images) // engine.batch_size, 1) * engine.batch_size) % len(images)
    waiting = images[torch.as_tensor(rows)].to(engine.device)
    batches = torch.split(waiting, engine.batch_size)
    # On a GPU, predictions are under way until they are fetched.
    torch.cat(list(engine.predictions(_repeated(batches, _WARM_UP_SECONDS)))).cpu()
    start = time.perf_counter()
    predicted = torch.cat(list(engine.predictions(_repeated(batches, seconds)))).cpu()
    return len(predicted), time.perf_counter() - start


def _repeated(batches: Sequence[Tensor], seconds: float) -> Iterator[Tensor]:
    """Batches, again and again, one at least."""
    end = time.perf_counter() + seconds
    for batch in itertools.cycle(batches):
        yield batch
        if time.perf_counter() >= end:
            return


if __name__ == "__main__":
    main(read_job(Path(sys.argv[1])), float(sys.argv[2]), sys.argv[3:])
