"""Networks retrained on changed images, and what is measured of them: Tables 10 and 11, Eq. 3 to 6."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from experiments.measuring import Chosen
from experiments.resources import (
    Session,
    check_outputs,
    get_classifier,
    image_set,
    predictions_of,
    training_set,
)
from experiments.tracked import log_epoch
from pixelrobust.augmentations import (
    Augmentation,
    GaussianNoise,
    PixelAugmentation,
    TorchvisionAugmentation,
    Unchanged,
)
from pixelrobust.datasets.cache import ImageSet, PixelRows
from pixelrobust.datasets.image_list import sample
from pixelrobust.errors import InputError
from pixelrobust.files import check_writable
from pixelrobust.heads import RestrictedLogits
from pixelrobust.models import Classifier, check_classifier
from pixelrobust.retraining import (
    Recipe,
    count_samples,
    retrain,
    save_model,
    training_fingerprint,
)
from pixelrobust.retraining_tables import HELDOUT, ORIGINAL, SAME
from pixelrobust.selection import Selection, image_list_digest, select
from pixelrobust.settings import RetrainSettings, RunSettings, fingerprint

_CONTROLS: dict[str, Augmentation] = {
    "unchanged": Unchanged(),
    "erasing": TorchvisionAugmentation("RandomErasing", (("p", 1.0),)),
    "trivial_augment": TorchvisionAugmentation("TrivialAugmentWide"),
    "auto_augment": TorchvisionAugmentation("AutoAugment"),
    "augmix": TorchvisionAugmentation("AugMix"),
}


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


@dataclass(frozen=True)
class Network:
    """One of the networks that are compared.

    Attributes:
        name: what tables call it; the paper's way, such as resnet101-4.
        seed: of its retraining; 0 for the original.
        module: (B, C, H, W) float in [0, 1] -> (B, len(classes)) logits.
    """

    name: str
    seed: int
    module: nn.Module


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
    if retraining.selected and not known:
        raise InputError(
            f"dataset.classes={settings.dataset.classes} names classes that are not the network's own, so it cannot "
            "classify them; set retrain.selected=false."
        )
    if not known and not retraining.num and not retraining.controls:
        raise InputError(
            "there is nothing to retrain, nor an original network that knows the classes; give "
            "retrain.num or retrain.controls."
        )
    selection = _select_training(session, key, candidates)
    labels = candidates.labels[selection.indices]
    classes = tuple(sorted({int(label) for label in labels}))
    if len(classes) < 2:
        raise InputError(
            f"{len(classes)} class is left to train on; a classifier needs two or more. Give more "
            "images, or raise retrain.categories."
        )
    training = _chosen(candidates, selection.indices)
    heldout = None
    if trained is not None:
        shown = {candidates.digests[index] for index in selection.indices}
        indices = _held_out(tested, classes, shown, settings)
        heldout = _chosen(tested, indices) if len(indices) else None
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


def networks(session: Session, chosen: Plan) -> Iterator[Network]:
    """The original network restricted to the classes, then each retrained one.

    Retrained networks are kept in the cache folder: a later experiment takes them from there.
    """
    settings, name = session.settings, chosen.classifier.name
    if chosen.known:
        yield Network(
            f"{name}{ORIGINAL}",
            0,
            RestrictedLogits(chosen.classifier.module, chosen.classes).eval(),
        )
    for seed in settings.retrain.seeds:
        for suffix, augmentation in _augmentations(settings.retrain).items():
            retrained = f"{name}-{suffix}"
            yield _retrained(session, chosen, retrained, augmentation, seed)


def _augmentations(settings: RetrainSettings) -> dict[str, Augmentation]:
    """How training images are changed, by the ending of the network's name."""
    controls = _CONTROLS | {"noise": GaussianNoise(settings.noise)}
    pixels: dict[str, Augmentation] = {str(num): PixelAugmentation(num) for num in settings.num}
    return {name: controls[name] for name in settings.controls} | pixels


def _retrained(
    session: Session, chosen: Plan, name: str, augmentation: Augmentation, seed: int
) -> Network:
    settings, images = session.settings, chosen.training
    recipe = _recipe(settings.retrain, seed, len(images.keys))
    arguments = (
        chosen.classifier.module, chosen.classes, images.pixels, images.keys, images.labels,
        augmentation, recipe,
    )  # fmt: skip
    folder = settings.paths.cache / "retrained" / training_fingerprint(*arguments)[:32]
    words = f"retraining {name}"
    with session.progress.task(words, count_samples(len(images.keys), recipe)) as bar:

        def report(row: dict[str, Any]) -> None:
            bar.note(f"epoch {row['epoch'] + 1} of {recipe.epochs}, loss {row['loss']:.3g}")
            session.tracker.attempt(log_epoch, name, seed, row)

        made = retrain(
            *arguments,
            directory=folder,
            context=session.context,
            advance=bar,
            report=report,
            say=session.progress.say,
        )
    chosen.histories.append(made.history.assign(model=name, training_seed=seed))
    if settings.retrain.save and session.context.is_main:
        _save(settings, chosen, made.module, name, recipe)
    return Network(name, seed, made.module)


def _save(
    settings: RunSettings, chosen: Plan, module: nn.Module, name: str, recipe: Recipe
) -> None:
    """Keep a network where `model=checkpoint`, and other software, finds it."""
    assert settings.retrain.save
    model = settings.models[chosen.key]
    folder = name if recipe.seed == settings.retrain.seeds[0] else f"{name}-seed{recipe.seed}"
    about = {"name": name, "outputs": model.classes, "recipe": asdict(recipe)}
    save_model(settings.retrain.save / folder, module, model, chosen.classes, about)


def _recipe(settings: RetrainSettings, seed: int, images: int) -> Recipe:
    epochs = settings.epochs
    if settings.steps is not None:
        samples = images * (2 if settings.originals else 1)
        epochs = math.ceil(settings.steps / math.ceil(samples / settings.batch_size))
    return Recipe(
        trainable=settings.trainable,
        head=settings.head,
        epochs=epochs,
        learning_rate=settings.learning_rate,
        optimizer=settings.optimizer,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        batch_size=settings.batch_size,
        originals=settings.originals,
        redraw=settings.redraw,
        batch_norm=settings.batch_norm,
        precision=settings.precision,
        seed=seed,
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


def _chosen(images: ImageSet, indices: NDArray[np.int64]) -> Chosen:
    keys = [images.keys[index] for index in indices]
    digest = image_list_digest(images, indices.tolist())
    return Chosen(PixelRows(images.pixels, indices), keys, images.labels[indices], digest)
