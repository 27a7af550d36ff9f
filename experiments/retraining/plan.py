"""What is retrained, on which images, and tested on which."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.measuring import Chosen, chosen_from
from experiments.resources import (
    Session,
    check_outputs,
    get_classifier,
    image_set,
    predictions_of,
    training_set,
)
from pixelrobust.datasets.decoded import ImageSet
from pixelrobust.datasets.lists import sample
from pixelrobust.errors import InputError
from pixelrobust.files import check_writable
from pixelrobust.models import Classifier, check_classifier
from pixelrobust.retraining_tables import HELDOUT, SAME
from pixelrobust.selection import Selection, image_list_digest, select
from pixelrobust.settings import RunSettings, fingerprint


@dataclass(frozen=True)
class Plan:
    """What is retrained, on which images, and tested on which.

    Attributes:
        key, classifier: the original network.
        classes: C of its outputs, the classes that take part, ascending.
        training: the images that are trained on, and tested on as "same".
        heldout: images of the same classes that are never trained on; None where there are none.
        selection: how the training images came to be chosen; its digest is of the held-out ones too.
        image_size: (height, width), in pixels.
        known: whether the classes are the original's own, so that it can be the baseline.
        histories: of the networks retrained so far: model, training_seed, and an epoch a row.
    """

    key: str
    classifier: Classifier
    classes: tuple[int, ...]
    training: Chosen
    heldout: Chosen | None
    selection: Selection
    image_size: tuple[int, int]
    known: bool
    histories: list[pd.DataFrame] = field(default_factory=list)

    def test_sets(self) -> dict[str, Chosen]:
        """What networks are tested on, by what tables call it."""
        return {SAME: self.training} | ({HELDOUT: self.heldout} if self.heldout else {})

    def outputs(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) labels as outputs of retrained networks, 0..C-1."""
        return np.searchsorted(np.array(self.classes), labels)


def plan(session: Session) -> Plan:
    """Choose images and classes.

    Raises:
        InputError: no image is left, or the settings do not suit the network or each other.
    """
    settings = session.settings
    retraining = settings.retrain
    if retraining.save:
        check_writable(retraining.save, "retrain.save")
    key = retraining.model or next(iter(settings.models))
    classifier = get_classifier(settings, key)
    tested = image_set(session)
    trained = training_set(session)
    candidates = trained or tested
    known = not settings.dataset.has_own_classes
    check_classifier(
        classifier, candidates.image_size, int(candidates.labels.max()) if known else 0
    )
    check_outputs(session, classifier, candidates)
    if not known:
        _check_needs_no_original(settings)
    selection = _select_training(session, key, candidates)
    labels = candidates.labels[selection.indices]
    classes = tuple(sorted({int(label) for label in labels}))
    if len(classes) < 2:
        raise InputError(
            f"{len(classes)} class is left to train on; a classifier needs two or more. Give more "
            "images, or raise retrain.categories."
        )
    training = chosen_from(candidates, selection.indices)
    heldout = None
    if trained is not None:
        shown = {candidates.digests[index] for index in selection.indices}
        indices = _held_out(tested, classes, shown, settings)
        heldout = chosen_from(tested, indices) if len(indices) else None
        digests = selection.image_list_sha256, image_list_digest(tested, indices.tolist())
        selection = replace(
            selection,
            image_list_sha256=fingerprint(digests),
            unreadable=(*selection.unreadable, *tested.unreadable),
            files=selection.files + len(tested) + len(tested.unreadable),
        )
    return Plan(
        key, classifier, classes, training, heldout, selection, candidates.image_size, known
    )


def _check_needs_no_original(settings: RunSettings) -> None:
    """Raise InputError where the original network would have to know the classes."""
    if settings.retrain.selected:
        raise InputError(
            f"dataset.classes={settings.dataset.classes} names classes that are not the network's own, so it "
            "cannot classify them; set retrain.selected=false."
        )
    if not settings.retrain.num and not settings.retrain.controls:
        raise InputError(
            "there is nothing to retrain, nor an original network that knows the classes; give "
            "retrain.num or retrain.controls."
        )


def _select_training(session: Session, key: str, candidates: ImageSet) -> Selection:
    """Images of so many categories that the original classifies correctly, if that is asked for."""
    settings = session.settings
    selected = settings.retrain.selected
    predictions = (
        predictions_of(session, key, candidates).classes if selected else candidates.labels
    )
    right = candidates.labels[predictions == candidates.labels]
    present = sorted({int(label) for label in right})
    kept = sample([str(label) for label in present], settings.retrain.categories, settings.seed)
    classes = [present[index] for index in kept]
    taking_part = np.where(np.isin(candidates.labels, classes), predictions, -1)
    return select(
        candidates,
        {get_classifier(settings, key).name: taking_part},
        settings.retrain.images,
        settings.seed,
    )


def _held_out(
    tested: ImageSet, classes: tuple[int, ...], shown: set[str], settings: RunSettings
) -> NDArray[np.int64]:
    """Positions of images of the classes whose pixels, by their digests, were not trained on."""
    of_classes = np.isin(tested.labels, classes)
    if not of_classes.any():
        raise InputError(
            "dataset.root holds no image of the classes that are trained on, so there is nothing to "
            "test on; give the same classes as in dataset.train_root."
        )
    others = np.array([digest not in shown for digest in tested.digests])
    indices = np.flatnonzero(of_classes & others)
    keys = [tested.keys[index] for index in indices]
    return indices[sample(keys, settings.dataset.limit, settings.seed)]
