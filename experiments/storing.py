"""Where a run keeps the answers of its networks, so that it goes on where it was stopped.

Below `results/store/answers` there is a folder for each network, list of images and engine, with a
folder for each cell; runs that share cells share these.
"""

import json

from torch import nn

from experiments.records import STORE
from experiments.resources import Session
from pixelrobust.engine import Engine
from pixelrobust.files import write_text
from pixelrobust.models.weights import weights_digest
from pixelrobust.perturbation import PROTOCOL_VERSION
from pixelrobust.settings import fingerprint
from pixelrobust.store import AnswerStore

_ABOUT = "about.json"


def answer_store(
    session: Session, name: str, engine: Engine, module: nn.Module, images: str, count: int
) -> AnswerStore:
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
    store = AnswerStore(directory, session.progress.say, range(count))
    if settings.recompute:
        store.forget(settings.perturbation.cells())
    return store
