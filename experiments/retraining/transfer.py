"""What networks take images for that were made to fool the original, or themselves (Table 11)."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.measuring import Chosen, attack_of, crafting_of
from experiments.resources import Session, start_engine
from experiments.retraining.networks import Network, networks
from experiments.retraining.plan import Plan
from pixelrobust.adversarial import (
    Fooling,
    epsilon_text,
    fooling_batches,
    unrounded_and_rounded,
)
from pixelrobust.engine import Engine, predict_all
from pixelrobust.errors import InputError
from pixelrobust.outcomes import TRANSFER_COLUMNS, concatenate
from pixelrobust.retraining_tables import ALL_CLASSES
from pixelrobust.settings import fingerprint


class Viewer(NamedTuple):
    """A network that adversarial images are shown to, with the data set's indices of its outputs."""

    network: Network
    engine: Engine
    classes: NDArray[np.int64]


def measure_transfer(session: Session, chosen: Plan) -> pd.DataFrame:
    """What networks take images for that fool the original, or themselves (Table 11).

    Images are held out where there are any, else those trained on, and classified correctly by the
    original network, and by the network that is attacked.
    """
    epsilons = attack_of(session.settings).epsilon
    original = original_viewer(session, chosen)
    images = images_to_attack(original, chosen)
    others = compared_viewers(session, chosen)
    tried = [tried_on(session, viewer, chosen, images) for viewer in others]

    def attacked(epsilon: float | str) -> pd.DataFrame:
        found = [
            _shown(viewer, fooling, "original", epsilon, fooling.labels)
            for fooling in _fooling(session, original, images, epsilon)
            for viewer in (original, *others)
        ]
        for viewer, own in zip(others, tried, strict=True):
            found += _against_itself(session, viewer, own, epsilon)
        return concatenate(found) if found else pd.DataFrame(columns=TRANSFER_COLUMNS)

    keep = session.record.rows().rows
    parts = [
        keep(f"epsilon {epsilon_text(epsilon)}", partial(attacked, epsilon)) for epsilon in epsilons
    ]
    if not any((part["against"] == "original").any() for part in parts):
        raise InputError(
            f"no image fools {chosen.classifier.name} at any of attack.epsilon="
            f"{[epsilon_text(epsilon) for epsilon in epsilons]}; give larger ones."
        )
    return concatenate(parts)[TRANSFER_COLUMNS]


def original_viewer(session: Session, chosen: Plan) -> Viewer:
    """The original network with all its classes.

    Raises:
        InputError: it does not know those of the images.
    """
    if not chosen.known:
        raise InputError(
            "measure=transfer needs a network that knows the classes; "
            f"dataset.classes={session.settings.dataset.classes} says that it does not."
        )
    classifier = chosen.classifier
    engine = start_engine(session, classifier.name, classifier.module, chosen.training.pixels)
    network = Network(f"{classifier.name}{ALL_CLASSES}", 0, classifier.module)
    return Viewer(network, engine, np.arange(session.settings.models[chosen.key].classes))


def compared_viewers(session: Session, chosen: Plan) -> list[Viewer]:
    """The networks that are compared: the original restricted to the classes, and retrained ones."""
    pixels, classes = chosen.training.pixels, np.array(chosen.classes)
    return [
        Viewer(network, start_engine(session, network.name, network.module, pixels), classes)
        for network in networks(session, chosen)
    ]


def images_to_attack(original: Viewer, chosen: Plan) -> Chosen:
    """The images that the original classifies correctly.

    Raises:
        InputError: there is none.
    """
    images = _rightly_classified(original.engine, chosen.heldout or chosen.training)
    if not images.keys:
        raise InputError(
            f"{chosen.classifier.name} classifies none of the images to be attacked correctly, so "
            "none can fool it; give other images."
        )
    return images


def tried_on(session: Session, viewer: Viewer, chosen: Plan, images: Chosen) -> Chosen:
    """The images that are attacked to fool this network: of those that it classifies correctly, at
    most `attack.wanted`; their labels are its outputs.
    """
    own = images._replace(labels=chosen.outputs(images.labels))
    return _first(_rightly_classified(viewer.engine, own), attack_of(session.settings).wanted)


def _against_itself(
    session: Session, viewer: Viewer, tried: Chosen, epsilon: float | str
) -> list[pd.DataFrame]:
    """What a network takes images for that were made against it.

    Where the attack fails the image stays as it is, which the network is right about: how many it
    gets wrong is how often the attack succeeds.
    """
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


def _fooling(
    session: Session, viewer: Viewer, images: Chosen, epsilon: float | str
) -> Iterator[Fooling]:
    """Images that fool a network, batch by batch."""
    settings = session.settings
    crafting = crafting_of(attack_of(settings))
    words = f"{viewer.network.name}: attacked, epsilon {epsilon_text(epsilon)}"
    with session.progress.task(words, len(images.keys)) as advance:
        task = images.task(viewer.engine, viewer.network.name)
        yield from fooling_batches(
            task, viewer.network.module, crafting, epsilon, settings.seed, advance
        )


def _shown(
    viewer: Viewer, fooling: Fooling, against: str, epsilon: float | str, labels: NDArray[np.int64]
) -> pd.DataFrame:
    """What a network takes adversarial images for, as the attack left them and rounded."""
    rows = []
    for rounded, images in unrounded_and_rounded(fooling.images).items():
        found = viewer.engine.predict(images).cpu().numpy()
        # Logits that are not finite win nothing.
        predictions = np.where(found < 0, -1, viewer.classes[found])
        table = _rows(viewer, against, epsilon, rounded, fooling.keys, labels, predictions)
        rows.append(table.assign(size=np.array(fooling.sizes, dtype=np.float32)))
    return pd.concat(rows, ignore_index=True)


def _rows(
    viewer: Viewer,
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
