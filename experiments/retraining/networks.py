"""Networks retrained on changed images, and the original beside them: Tables 10 and 11, Eq. 3 to 6."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from experiments.resources import Session
from experiments.retraining.plan import Plan
from experiments.tracked import log_epoch
from pixelrobust.augmentations import (
    Augmentation,
    GaussianNoise,
    PixelAugmentation,
    TorchvisionAugmentation,
    Unchanged,
)
from pixelrobust.datasets.decoded import PixelRows
from pixelrobust.heads import RestrictedLogits
from pixelrobust.models.saved import save_model
from pixelrobust.retraining import (
    Recipe,
    count_samples,
    retrain,
    training_fingerprint,
)
from pixelrobust.retraining.checkpoint import read_checkpoint
from pixelrobust.retraining_tables import ORIGINAL
from pixelrobust.settings import RetrainSettings, RunSettings

_CONTROLS: dict[str, Augmentation] = {
    "unchanged": Unchanged(),
    "erasing": TorchvisionAugmentation("RandomErasing", (("p", 1.0),)),
    "trivial_augment": TorchvisionAugmentation("TrivialAugmentWide"),
    "auto_augment": TorchvisionAugmentation("AutoAugment"),
    "augmix": TorchvisionAugmentation("AugMix"),
}


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


def networks(session: Session, chosen: Plan) -> Iterator[Network]:
    """The original network restricted to the classes, then each retrained one.

    Retrained networks are kept in the cache folder: a later experiment takes them from there.
    """
    name = chosen.classifier.name
    if chosen.known:
        yield Network(
            f"{name}{ORIGINAL}",
            0,
            RestrictedLogits(chosen.classifier.module, chosen.classes).eval(),
        )
    for training in _trainings(session, chosen):
        yield _retrained(session, chosen, training)


def unfinished_networks(session: Session, chosen: Plan) -> list[str]:
    """Names of the networks that the cache folder lacks, or holds half trained."""

    def is_finished(training: _Training) -> bool:
        known = read_checkpoint(training.directory, training.fingerprint)
        return known is not None and known.epochs == training.recipe.epochs

    return [
        training.words() for training in _trainings(session, chosen) if not is_finished(training)
    ]


@dataclass(frozen=True)
class _Training:
    """What a network is retrained with.

    Attributes:
        name: what tables call the network.
        augmentation: how its training images are changed.
        recipe: how it is trained.
        fingerprint: of all that determines the network.
        directory: where it is kept.
    """

    name: str
    augmentation: Augmentation
    recipe: Recipe
    fingerprint: str
    directory: Path

    def words(self) -> str:
        return f"{self.name} (seed {self.recipe.seed})"


def _trainings(session: Session, chosen: Plan) -> Iterator[_Training]:
    """Those that the settings ask for."""
    settings, images = session.settings, chosen.training
    for seed in settings.retrain.seeds:
        recipe = _recipe(settings.retrain, seed, len(images.keys))
        for suffix, augmentation in _augmentations(settings.retrain).items():
            fingerprint = training_fingerprint(*_material(chosen), augmentation, recipe)
            folder = settings.paths.cache / "retrained" / fingerprint[:32]
            name = f"{chosen.classifier.name}-{suffix}"
            yield _Training(name, augmentation, recipe, fingerprint, folder)


def _material(
    chosen: Plan,
) -> tuple[nn.Module, tuple[int, ...], PixelRows, list[str], NDArray[np.int64]]:
    """The network, its classes, and the images with their keys and labels."""
    images = chosen.training
    return chosen.classifier.module, chosen.classes, images.pixels, images.keys, images.labels


def _augmentations(settings: RetrainSettings) -> dict[str, Augmentation]:
    """How training images are changed, by the ending of the network's name."""
    controls = _CONTROLS | {"noise": GaussianNoise(settings.noise)}
    pixels: dict[str, Augmentation] = {str(num): PixelAugmentation(num) for num in settings.num}
    return {name: controls[name] for name in settings.controls} | pixels


def _retrained(session: Session, chosen: Plan, training: _Training) -> Network:
    settings, name, recipe = session.settings, training.name, training.recipe
    seed, samples = recipe.seed, count_samples(len(chosen.training.keys), recipe)
    with session.progress.task(f"retraining {name}", samples) as bar:

        def report(row: dict[str, Any]) -> None:
            bar.note(f"epoch {row['epoch'] + 1} of {recipe.epochs}, loss {row['loss']:.3g}")
            session.tracker.attempt(log_epoch, name, seed, row)

        made = retrain(
            *_material(chosen),
            training.augmentation,
            recipe,
            directory=training.directory,
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
