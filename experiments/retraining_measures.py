"""What is measured of retrained networks: Tables 10 and 11, and the distances of Eq. 3 to 6."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from experiments.engine_checks import compare_network_with_eager
from experiments.measuring import Chosen, attack_of, crafting_of, outcomes_of
from experiments.resources import Session, start_engine
from experiments.retraining import Network, Plan, networks
from pixelrobust.adversarial import Fooling, epsilon_text, fooling_batches
from pixelrobust.attacks import round_to_8_bits
from pixelrobust.boundary import linearized_distances, measured_distances
from pixelrobust.engine import Engine, find_device, predict_all
from pixelrobust.errors import InputError
from pixelrobust.evaluation import count_passes
from pixelrobust.outcomes import (
    DISTANCE_COLUMNS,
    RETRAINED_COLUMNS,
    TRANSFER_COLUMNS,
    concatenate,
)
from pixelrobust.retraining_tables import ALL_CLASSES
from pixelrobust.settings import fingerprint


class _Viewer(NamedTuple):
    """A network that adversarial images are shown to, with the data set's indices of its outputs."""

    network: Network
    engine: Engine
    classes: NDArray[np.int64]


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
    cells, draws = session.settings.perturbation.cells(), session.settings.draws
    tests = chosen.test_sets()
    passes = sum(count_passes(cells, len(images.keys), draws) for images in tests.values())
    session = replace(session, passes=passes)
    parts = []
    for network in networks(session, chosen):
        engine = start_engine(session, network.name, network.module, chosen.training.pixels)
        for kind, images in tests.items():
            local = images._replace(labels=_local(images, chosen))
            words = f"{network.name}: {kind}"
            outcomes = outcomes_of(session, local, engine, network.module, network.name, words)
            parts.append(
                _global(outcomes, chosen).assign(images_are=kind, training_seed=network.seed)
            )
        compare_network_with_eager(
            session, network.name, network.module, engine, chosen.training.pixels
        )
    return concatenate(parts)[RETRAINED_COLUMNS]


def measure_transfer(session: Session, chosen: Plan) -> pd.DataFrame:
    """What networks take images for that fool the original, or themselves (Table 11).

    Images are held out where there are any, else those trained on, and classified correctly by the
    original network, and by the network that is attacked.
    """
    if not chosen.known:
        raise InputError(
            "measure=transfer needs a network that knows the classes; "
            f"dataset.classes={session.settings.dataset.classes} says that it does not."
        )
    settings = session.settings
    model = settings.models[chosen.key]
    pixels = chosen.training.pixels
    engine = start_engine(session, chosen.classifier.name, chosen.classifier.module, pixels)
    images = _rightly_classified(engine, chosen.heldout or chosen.training)
    if not images.keys:
        raise InputError(
            f"{chosen.classifier.name} classifies none of the images to be attacked correctly, so "
            "none can fool it; give other images."
        )
    original = Network(f"{chosen.classifier.name}{ALL_CLASSES}", 0, chosen.classifier.module)
    every_class = np.arange(model.classes)
    compared = [_Viewer(original, engine, every_class)]
    compared += [
        _Viewer(
            network,
            start_engine(session, network.name, network.module, pixels),
            np.array(chosen.classes),
        )
        for network in networks(session, chosen)
    ]
    local = images._replace(labels=_local(images, chosen))

    def attacked(epsilon: float | str) -> pd.DataFrame:
        found = [
            _shown(viewer, fooling, "original", epsilon, fooling.labels)
            for fooling in _fooling(session, compared[0], images, epsilon)
            for viewer in compared
        ]
        for viewer in compared[1:]:
            found += _against_itself(session, viewer, local, epsilon)
        return concatenate(found) if found else pd.DataFrame(columns=TRANSFER_COLUMNS)

    keep = session.record.rows().rows
    parts = [
        keep(f"epsilon {epsilon_text(epsilon)}", partial(attacked, epsilon))
        for epsilon in attack_of(settings).epsilon
    ]
    if not any((part["against"] == "original").any() for part in parts):
        raise InputError(
            f"no image fools {chosen.classifier.name} at any of attack.epsilon="
            f"{[epsilon_text(epsilon) for epsilon in attack_of(settings).epsilon]}; give larger ones."
        )
    return concatenate(parts)[TRANSFER_COLUMNS]


def _against_itself(
    session: Session, viewer: _Viewer, images: Chosen, epsilon: float | str
) -> list[pd.DataFrame]:
    """What a network takes images for that were made against it, of those it classifies correctly.

    Where the attack fails the image stays as it is, which the network is right about: how many it
    gets wrong is how often the attack succeeds. `attack.wanted` limits how many are tried.
    """
    tried = _rightly_classified(viewer.engine, images)
    tried = _first(tried, attack_of(session.settings).wanted)
    parts = [
        _shown(viewer, fooling, "itself", epsilon, viewer.classes[fooling.labels])
        for fooling in _fooling(session, viewer, tried, epsilon)
    ]
    fooled = {str(key) for part in parts for key in part["image"]}
    spared = [index for index, key in enumerate(tried.keys) if key not in fooled]
    labels = viewer.classes[tried.labels[spared]]
    return [
        *parts,
        *(
            _rows(viewer, "itself", epsilon, rounded, [tried.keys[i] for i in spared], labels)
            for rounded in (False, True)
            if spared
        ),
    ]


def measure_distances(session: Session, chosen: Plan) -> pd.DataFrame:
    """Distances of images to every network's boundary (Eq. 3 to 6)."""
    parts, keep = [], session.record.rows().rows
    for network in networks(session, chosen):
        settings = session.settings
        assert isinstance(settings.engine.devices, str)
        module = network.module.to(find_device(settings.engine.devices))
        for kind, images in chosen.test_sets().items():
            measure = partial(_distances, session, chosen, network, module, kind, images)
            parts.append(keep(f"{network.name}, {network.seed}, {kind}", measure))
    return concatenate(parts)[DISTANCE_COLUMNS]


def _distances(
    session: Session, chosen: Plan, network: Network, module: nn.Module, kind: str, images: Chosen
) -> pd.DataFrame:
    """Distances of some images to the boundary of one network, on its device."""
    retrain = session.settings.retrain
    labels = torch.as_tensor(_local(images, chosen))
    every = np.arange(len(images.keys))
    few = every[: retrain.measured]
    with session.progress.task(f"{network.name}: {kind}, distances", len(every)) as advance:
        pixels = torch.as_tensor(images.pixels[every])
        distance = linearized_distances(module, pixels, labels, candidates=retrain.boundaries)
        measured = np.full(len(every), np.nan)
        if len(few):
            measured[few] = measured_distances(
                module, torch.as_tensor(images.pixels[few]), labels[: len(few)]
            )
        advance(len(every))
    return pd.DataFrame(
        {
            "model": network.name,
            "training_seed": network.seed,
            "images_are": kind,
            "image": images.keys,
            "distance": distance,
            "measured": measured,
        }
    )


def _rightly_classified(engine: Engine, images: Chosen) -> Chosen:
    """Those of the images that a network classifies correctly."""
    found = predict_all(engine, images.pixels, lambda done: None)
    return _taken(images, np.flatnonzero(found.classes == images.labels))


def _first(images: Chosen, count: int) -> Chosen:
    """At most so many of the images, evenly over all of them."""
    total = len(images.keys)
    chosen = min(count, total)
    return _taken(images, np.arange(chosen) * total // max(chosen, 1))


def _taken(images: Chosen, rows: NDArray[np.int64]) -> Chosen:
    """Some of the images."""
    keys = [images.keys[row] for row in rows]
    digest = fingerprint(images.digest, rows.tolist())
    return Chosen(images.pixels.take(rows), keys, images.labels[rows], digest)


def _local(images: Chosen, chosen: Plan) -> NDArray[np.int64]:
    """(N,) labels as outputs of retrained networks, 0..C-1."""
    return np.searchsorted(np.array(chosen.classes), images.labels)


def _global(outcomes: pd.DataFrame, chosen: Plan) -> pd.DataFrame:
    """Outcomes with the data set's own class indices."""
    classes = np.array(chosen.classes, dtype=np.int32)
    return outcomes.assign(
        label=classes[outcomes["label"]], prediction=classes[outcomes["prediction"]]
    )


def _fooling(
    session: Session, viewer: _Viewer, images: Chosen, epsilon: float | str
) -> Iterator[Fooling]:
    """Images that fool a network, batch by batch."""
    settings = session.settings
    crafting = crafting_of(attack_of(settings))
    words = f"{viewer.network.name}: attacked, epsilon {epsilon_text(epsilon)}"
    with session.progress.task(words, len(images.keys)) as advance:
        yield from fooling_batches(
            viewer.engine, viewer.network.module, images.pixels, images.keys, images.labels,
            crafting, epsilon, settings.seed, advance,
        )  # fmt: skip


def _shown(
    viewer: _Viewer, fooling: Fooling, against: str, epsilon: float | str, labels: NDArray[np.int64]
) -> pd.DataFrame:
    """What a network takes adversarial images for, as the attack left them and rounded."""
    rows = []
    for rounded, images in ((False, fooling.images), (True, round_to_8_bits(fooling.images))):
        found = viewer.engine.predict(images).cpu().numpy()
        # Logits that are not finite win nothing.
        predictions = np.where(found < 0, -1, viewer.classes[found])
        table = _rows(viewer, against, epsilon, rounded, fooling.keys, labels, predictions)
        rows.append(table.assign(size=np.array(fooling.sizes, dtype=np.float32)))
    return pd.concat(rows, ignore_index=True)


def _rows(
    viewer: _Viewer,
    against: str,
    epsilon: float | str,
    rounded: bool,
    keys: list[str],
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """Rows of images of these keys and labels; without predictions, of those left unchanged."""
    found = labels if predictions is None else predictions
    return pd.DataFrame(
        {
            "model": viewer.network.name,
            "training_seed": viewer.network.seed,
            "against": against,
            "epsilon": epsilon_text(epsilon),
            "size": np.float32(0),
            "rounded": rounded,
            "image": keys,
            "label": labels.astype(np.int32),
            "prediction": found.astype(np.int32),
            "wrong": found != labels,
        }
    )
