"""What is measured of retrained networks: Tables 10 and 11, and the distances of Eq. 3 to 6."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from experiments.measuring import Chosen, attack_of, crafting_of, outcomes_of
from experiments.resources import Session, get_engine
from experiments.retraining import Network, Plan, networks
from pixelrobust.adversarial import Fooling, epsilon_text, fooling_batches
from pixelrobust.attacks import round_to_8_bits
from pixelrobust.boundary import linearized_distances, measured_distances
from pixelrobust.engine import Engine, make_engine
from pixelrobust.errors import InputError
from pixelrobust.outcomes import (
    DISTANCE_COLUMNS,
    RETRAINED_COLUMNS,
    TRANSFER_COLUMNS,
    concatenate,
)
from pixelrobust.retraining_tables import ALL_CLASSES


def measure_retrained(session: Session, chosen: Plan) -> pd.DataFrame:
    """What these settings ask for: Table 10, Table 11, or distances."""
    measures = {
        "retraining": measure_retraining,
        "transfer": measure_transfer,
        "distances": measure_distances,
    }
    return measures[session.settings.measure](session, chosen)


def measure_retraining(session: Session, chosen: Plan) -> pd.DataFrame:
    """Outcomes of every network on every set of test images (Table 10)."""
    cells = session.settings.perturbation.cells()
    parts = []
    for network in networks(session, chosen):
        engine = make_engine(network.module, session.settings.engine)
        for kind, images in chosen.test_sets().items():
            local = images._replace(labels=_local(images, chosen))
            words = f"{network.name}: {kind}"
            outcomes = outcomes_of(session, local, engine, cells, network.name, words)
            parts.append(
                _global(outcomes, chosen).assign(images_are=kind, training_seed=network.seed)
            )
    return concatenate(parts)[RETRAINED_COLUMNS]


def measure_transfer(session: Session, chosen: Plan) -> pd.DataFrame:
    """What networks take images for that fool the original, or themselves (Table 11).

    Images are held out where there are any, else those trained on, and classified correctly by the
    network that is attacked.
    """
    if not chosen.known:
        raise InputError(
            "measure=transfer needs a network that knows the classes; dataset.classes=folders says "
            "that it does not."
        )
    settings = session.settings
    model = settings.models[chosen.key]
    engine = get_engine(chosen.key, model, settings.engine)
    images = _rightly_classified(engine, chosen.heldout or chosen.training)
    original = Network(f"{chosen.classifier.name}{ALL_CLASSES}", 0, chosen.classifier.module)
    every_class = np.arange(model.classes)
    compared = [_Viewer(original, engine, every_class)]
    compared += [
        _Viewer(network, make_engine(network.module, settings.engine), np.array(chosen.classes))
        for network in networks(session, chosen)
    ]
    parts = []
    for epsilon in attack_of(settings).epsilon:
        for fooling in _fooling(session, compared[0], images, epsilon):
            parts += [
                _shown(viewer, fooling, "original", epsilon, fooling.labels) for viewer in compared
            ]
        for viewer in compared[1:]:
            own = _rightly_classified(viewer.engine, images._replace(labels=_local(images, chosen)))
            parts += [
                _shown(viewer, fooling, "itself", epsilon, viewer.classes[fooling.labels])
                for fooling in _fooling(session, viewer, own, epsilon)
            ]
    if not parts:
        raise InputError("no image fools the network at any attack.epsilon; give larger ones.")
    return concatenate(parts)[TRANSFER_COLUMNS]


def measure_distances(session: Session, chosen: Plan) -> pd.DataFrame:
    """Distances of images to every network's boundary (Eq. 3 to 6)."""
    parts = []
    for network in networks(session, chosen):
        settings = session.settings
        engine = make_engine(network.module, settings.engine)
        module = network.module.to(engine.device)
        for kind, images in chosen.test_sets().items():
            labels = torch.as_tensor(_local(images, chosen))
            every = np.arange(len(images.keys))
            few = every[: settings.retrain.measured]
            with session.progress.task(f"{network.name}: {kind}, distances", len(every)) as advance:
                distance = linearized_distances(
                    module,
                    torch.as_tensor(images.pixels[every]),
                    labels,
                    candidates=settings.retrain.boundaries,
                )
                measured = np.full(len(every), np.nan)
                if len(few):
                    measured[few] = measured_distances(
                        module, torch.as_tensor(images.pixels[few]), labels[: len(few)]
                    )
                advance(len(every))
            parts.append(
                pd.DataFrame(
                    {
                        "model": network.name,
                        "training_seed": network.seed,
                        "images_are": kind,
                        "image": images.keys,
                        "distance": distance,
                        "measured": measured,
                    }
                )
            )
    return concatenate(parts)[DISTANCE_COLUMNS]


def _rightly_classified(engine: Engine, images: Chosen) -> Chosen:
    """Those of the images that a network classifies correctly."""
    every = np.arange(len(images.keys))
    predicted = np.concatenate(
        [
            engine.predict(torch.as_tensor(images.pixels[part]).to(engine.device)).cpu().numpy()
            for part in np.array_split(every, max(1, len(every) // engine.batch_size))
        ]
    )
    right = every[predicted == images.labels]
    return Chosen(
        images.pixels.take(right),
        [images.keys[i] for i in right],
        images.labels[right],
    )


def _local(images: Chosen, chosen: Plan) -> NDArray[np.int64]:
    """(N,) labels as outputs of retrained networks, 0..C-1."""
    return np.searchsorted(np.array(chosen.classes), images.labels)


def _global(outcomes: pd.DataFrame, chosen: Plan) -> pd.DataFrame:
    """Outcomes with the data set's own class indices."""
    classes = np.array(chosen.classes, dtype=np.int32)
    return outcomes.assign(
        label=classes[outcomes["label"]], prediction=classes[outcomes["prediction"]]
    )


class _Viewer(NamedTuple):
    """A network that adversarial images are shown to, with the data set's indices of its outputs."""

    network: Network
    engine: Engine
    classes: NDArray[np.int64]


def _fooling(
    session: Session, viewer: _Viewer, images: Chosen, epsilon: float | str
) -> Iterator[Fooling]:
    """Images that fool a network, batch by batch."""
    settings = session.settings
    crafting = crafting_of(attack_of(settings))
    words = f"{viewer.network.name}: attacked, epsilon {epsilon_text(epsilon)}"
    with session.progress.task(words, len(images.keys)) as advance:
        yield from fooling_batches(
            viewer.engine, viewer.network.module, *images, crafting, epsilon, settings.seed, advance
        )


def _shown(
    viewer: _Viewer, fooling: Fooling, against: str, epsilon: float | str, labels: NDArray[np.int64]
) -> pd.DataFrame:
    """What a network takes adversarial images for, as the attack left them and rounded."""
    rows = []
    for rounded, images in ((False, fooling.images), (True, round_to_8_bits(fooling.images))):
        prediction = viewer.classes[viewer.engine.predict(images).cpu().numpy()]
        rows.append(
            pd.DataFrame(
                {
                    "model": viewer.network.name,
                    "training_seed": viewer.network.seed,
                    "against": against,
                    "epsilon": epsilon_text(epsilon),
                    "size": np.array(fooling.sizes, dtype=np.float32),
                    "rounded": rounded,
                    "image": fooling.keys,
                    "label": labels.astype(np.int32),
                    "prediction": prediction.astype(np.int32),
                    "wrong": prediction != labels,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)
