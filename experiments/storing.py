"""What a run keeps while it works, so that it goes on where it was stopped; below `results/store`.

answers/<digest>/       what a network takes changes of a list of images for, cell by cell; runs
                        that share cells share these
runs/<name>-<digest>/   a run: its settings and what it consists of (run.json), DONE or the last
                        failure (failure.txt), and parts of rows other than answers
"""

import json

from torch import nn

from experiments.resources import Session
from pixelrobust.engine import Engine
from pixelrobust.files import write_text
from pixelrobust.models.weights import weights_digest
from pixelrobust.perturbation import PROTOCOL_VERSION
from pixelrobust.settings import fingerprint
from pixelrobust.store import AnswerStore

STORE = "store"
RUN, DONE, FAILURE, ABOUT = "run.json", "DONE", "failure.txt", "about.json"


def answer_store(
    session: Session, engine: Engine, module: nn.Module, images: str, count: int
) -> AnswerStore:
    """Where the answers of a network for some images are kept.

    Args:
        session: of the run.
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
    write_text(directory / ABOUT, json.dumps(about, indent=1) + "\n")
    store = AnswerStore(directory, session.progress.say, range(count))
    if settings.recompute:
        store.forget(settings.perturbation.cells())
    return store
