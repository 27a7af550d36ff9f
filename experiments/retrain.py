"""Retrain networks, and measure them: Tables 10 and 11, and the distances of Eq. 3 to 6."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from experiments.measures import (
    Chosen,
    attack_of,
    chosen_from,
    compare_network_with_eager,
    outcomes_of,
)
from experiments.session import (
    Session,
    check_outputs,
    get_classifier,
    image_set,
    predictions_of,
    start_engine,
    training_set,
)
from experiments.tracked import log_epoch
from pixelrobust.datasets.decoded import ImageSet, PixelRows
from pixelrobust.datasets.lists import sample
from pixelrobust.engine import Engine
from pixelrobust.errors import InputError
from pixelrobust.evaluation.adversarial import (
    Fooling,
    epsilon_text,
    show_fooling,
    unrounded_and_rounded,
)
from pixelrobust.evaluation.boundary import (
    BATCH_SIZE,
    linearized_distances,
    measured_distances,
)
from pixelrobust.evaluation.cells import count_forward
from pixelrobust.evaluation.selection import (
    Selection,
    image_list_digest,
    predict_together,
    select,
)
from pixelrobust.files import check_writable
from pixelrobust.models.build import Classifier, check_classifier
from pixelrobust.models.heads import RestrictedLogits
from pixelrobust.models.saved import save_model
from pixelrobust.outcomes.kinds import (
    ALL_CLASSES,
    DISTANCES,
    HELDOUT,
    ORIGINAL,
    RETRAINING,
    SAME,
    TRANSFER,
)
from pixelrobust.outcomes.rows import concatenate
from pixelrobust.perturbation.augmentations import (
    TRAINING_DRAWS,
    Augmentation,
    PixelAugmentation,
    control_augmentations,
)
from pixelrobust.perturbation.grid import Manner
from pixelrobust.retraining import (
    count_samples,
    retrain,
    training_fingerprint,
)
from pixelrobust.retraining.checkpoint import read_checkpoint
from pixelrobust.settings import Recipe, RetrainSettings, RunSettings, fingerprint


@dataclass(frozen=True)
class Plan:
    """Hold what is retrained, on which images, and tested on which.

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
        """Return what networks are tested on, by what tables call it."""
        return {SAME: self.training} | ({HELDOUT: self.heldout} if self.heldout else {})

    def outputs(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (N,) labels as outputs of retrained networks, 0..C-1."""
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
    classifier = get_classifier(session, key)
    tested = image_set(session)
    trained = training_set(session)
    candidates = trained or tested
    known = not settings.dataset.has_own_classes
    labels = candidates.labels if known else np.zeros_like(candidates.labels)
    check_classifier(classifier, candidates.image_size, labels)
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
    """Select images of so many categories that the original gets right, if that is asked for."""
    settings = session.settings
    selected = settings.retrain.selected
    predictions = predictions_of(session, key, candidates) if selected else candidates.labels
    right = candidates.labels[predictions == candidates.labels]
    present = sorted({int(label) for label in right})
    kept = sample([str(label) for label in present], settings.retrain.categories, settings.seed)
    classes = [present[index] for index in kept]
    taking_part = np.where(np.isin(candidates.labels, classes), predictions, -1)
    return select(
        candidates,
        {get_classifier(session, key).name: taking_part},
        settings.retrain.images,
        settings.seed,
    )


def _held_out(
    tested: ImageSet, classes: tuple[int, ...], shown: set[str], settings: RunSettings
) -> NDArray[np.int64]:
    """Return positions of images of the classes whose pixels, by digest, were not trained on."""
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


@dataclass(frozen=True)
class Network:
    """Hold one of the networks that are compared.

    Attributes:
        name: what tables call it; the paper's way, such as resnet101-4.
        seed: of its retraining; 0 for the original.
        module: (B, C, H, W) float in [0, 1] -> (B, len(classes)) logits.
    """

    name: str
    seed: int
    module: nn.Module


def networks(session: Session, chosen: Plan) -> Iterator[Network]:
    """Yield the original network restricted to the classes, then each retrained one.

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
    """Return the networks, by name, that the cache folder lacks, or holds half trained."""

    def is_finished(training: _Training) -> bool:
        known = read_checkpoint(training.directory, training.fingerprint)
        return known is not None and known.epochs == training.recipe.epochs

    return [
        f"{training.name} (seed {training.seed})"
        for training in _trainings(session, chosen)
        if not is_finished(training)
    ]


@dataclass(frozen=True)
class _Training:
    """Hold what a network is retrained with.

    Attributes:
        name: what tables call the network.
        augmentation: how its training images are changed.
        recipe, seed: how it is trained.
        fingerprint: of all that determines the network.
        directory: where it is kept.
    """

    name: str
    augmentation: Augmentation
    recipe: Recipe
    seed: int
    fingerprint: str
    directory: Path


def _trainings(session: Session, chosen: Plan) -> Iterator[_Training]:
    """Yield the trainings that the settings ask for."""
    settings, images = session.settings, chosen.training
    recipe = _recipe(settings.retrain, len(images.keys))
    for seed in settings.retrain.seeds:
        for suffix, augmentation in _augmentations(
            settings.retrain, settings.perturbation.manner
        ).items():
            fingerprint = training_fingerprint(*_material(chosen), augmentation, recipe, seed)
            folder = settings.paths.cache / "retrained" / fingerprint[:32]
            name = f"{chosen.classifier.name}-{suffix}"
            yield _Training(name, augmentation, recipe, seed, fingerprint, folder)


def _material(
    chosen: Plan,
) -> tuple[nn.Module, tuple[int, ...], PixelRows, list[str], NDArray[np.int64]]:
    """Return the network, its classes, and the images with their keys and labels."""
    images = chosen.training
    return chosen.classifier.module, chosen.classes, images.pixels, images.keys, images.labels


def _augmentations(settings: RetrainSettings, manner: Manner) -> dict[str, Augmentation]:
    """Return how training images are changed, by the ending of the network's name."""
    pixels: dict[str, Augmentation] = {
        str(num): PixelAugmentation(num, None, None, TRAINING_DRAWS, *manner)
        for num in settings.num
    }
    return control_augmentations(settings.controls, settings.noise) | pixels


def _retrained(session: Session, chosen: Plan, training: _Training) -> Network:
    settings, name, recipe = session.settings, training.name, training.recipe
    seed, samples = training.seed, count_samples(len(chosen.training.keys), recipe)
    with session.progress.task("retraining", samples, name) as bar:

        def report(row: dict[str, Any]) -> None:
            bar.note(f"epoch {row['epoch'] + 1} of {recipe.epochs}, loss {row['loss']:.3g}")
            session.tracker.attempt(log_epoch, name, seed, row)

        made = retrain(
            *_material(chosen),
            training.augmentation,
            recipe,
            seed=seed,
            directory=training.directory,
            context=session.context,
            advance=bar,
            report=report,
            say=session.progress.say,
        )
    chosen.histories.append(made.history.assign(model=name, training_seed=seed))
    if settings.retrain.save and session.context.is_main:
        _save(settings, chosen, made.module, training)
    return Network(name, seed, made.module)


def _save(settings: RunSettings, chosen: Plan, module: nn.Module, training: _Training) -> None:
    """Keep a network where `model=checkpoint`, and other software, finds it."""
    assert settings.retrain.save
    model, name, seed = settings.models[chosen.key], training.name, training.seed
    folder = name if seed == settings.retrain.seeds[0] else f"{name}-seed{seed}"
    about = {"name": name, "outputs": model.classes, "recipe": training.recipe.with_seed(seed)}
    save_model(settings.retrain.save / folder, module, model, chosen.classes, about)


def _recipe(settings: RetrainSettings, images: int) -> Recipe:
    """Return the recipe for so many images, with as many epochs as `steps` asks for."""
    if settings.steps is None:
        return settings
    a_pass = settings.model_copy(update={"epochs": 1})
    steps = math.ceil(count_samples(images, a_pass) / settings.batch_size)
    return settings.model_copy(update={"epochs": math.ceil(settings.steps / steps)})


def measure_retraining(session: Session, chosen: Plan) -> pd.DataFrame:
    """Measure outcomes of every network on every set of test images (Table 10)."""
    design, tests = session.design, chosen.test_sets()
    n_forward = sum(
        count_forward(design.cells, len(images.keys), design.draws) for images in tests.values()
    )
    classes, parts = np.array(chosen.classes, dtype=np.int32), []
    for network in networks(session, chosen):
        name, module, pixels = network.name, network.module, chosen.training.pixels
        engine = start_engine(session, name, module, pixels, n_forward)
        for kind, images in tests.items():
            if not len(images.rows_in(session.sample)):
                continue
            local = images._replace(labels=chosen.outputs(images.labels))
            found = outcomes_of(session, local, engine, module, name, f"{name}: {kind}")
            parts.append(
                found.assign(
                    label=classes[found["label"]],
                    prediction=classes[found["prediction"]],
                    images_are=kind,
                    training_seed=network.seed,
                )
            )
        compare_network_with_eager(session, name, module, engine, pixels)
    return concatenate(parts)[RETRAINING.columns]


def measure_distances(session: Session, chosen: Plan) -> pd.DataFrame:
    """Measure distances of images to every network's boundary (Eq. 3 to 6)."""
    parts, keep = [], session.rows()
    for network in networks(session, chosen):
        network.module.to(session.device)
        for kind, images in chosen.test_sets().items():
            measure = partial(_distances, session, chosen, network, kind, images)
            parts.append(keep(f"{network.name}, {network.seed}, {kind}", measure))
    return concatenate(parts)[DISTANCES.columns]


def _distances(
    session: Session, chosen: Plan, network: Network, kind: str, images: Chosen
) -> pd.DataFrame:
    """Return distances of some images to the boundary of one network, on its device."""
    retrain, rows = session.settings.retrain, images.rows_in(session.sample)
    few = rows[rows < retrain.measured]
    pixels, labels = images.pixels, torch.as_tensor(chosen.outputs(images.labels))
    measured = np.full(len(rows), np.nan)
    with session.progress.task(f"distances, {kind}", len(rows), network.name) as advance:

        def together(
            measure: Callable[..., NDArray[np.float64]], rows: NDArray[np.int64]
        ) -> NDArray[np.float64]:
            """Measure images at these positions, each process its share of them."""

            def own(part: slice) -> NDArray[np.float64]:
                some = torch.as_tensor(pixels[rows[part]])
                return measure(network.module, some, labels[rows[part]], batch_size=BATCH_SIZE)

            return np.concatenate(session.context.share(len(rows), BATCH_SIZE, own))

        distance = together(partial(linearized_distances, candidates=retrain.boundaries), rows)
        if len(few):
            measured[: len(few)] = together(measured_distances, few)
        advance(len(rows))
    return pd.DataFrame(
        {
            "model": network.name,
            "training_seed": network.seed,
            "images_are": kind,
            "image": [images.keys[row] for row in rows],
            "distance": distance,
            "measured": measured,
        }
    )


class Viewer(NamedTuple):
    """Hold a network that adversarial images are shown to, with the data set's indices of its outputs."""

    network: Network
    engine: Engine
    classes: NDArray[np.int64]


def measure_transfer(session: Session, chosen: Plan) -> pd.DataFrame:
    """Measure what networks take images for that fool the original, or themselves (Table 11).

    Images are held out where there are any, else those trained on, and classified correctly by the
    original network, and by the network that is attacked.
    """
    epsilons = attack_of(session.settings).epsilon
    original = original_viewer(session, chosen)
    images = images_to_attack(session, original, chosen)
    others = [viewer_of(session, chosen, network) for network in networks(session, chosen)]
    tried = [tried_on(session, viewer, chosen, images) for viewer in others]

    def attacked(epsilon: float | str) -> pd.DataFrame:
        def shown(fooling: Fooling) -> pd.DataFrame:
            return pd.concat(
                _shown(viewer, fooling, "original", epsilon, fooling.labels)
                for viewer in (original, *others)
            )

        found = _show_fooling(session, original, images, epsilon, shown)
        for viewer, own in zip(others, tried, strict=True):
            found += _against_itself(session, viewer, own, epsilon)
        return concatenate(found) if found else pd.DataFrame(columns=TRANSFER.columns)

    keep = session.rows()
    parts = [
        keep(f"epsilon {epsilon_text(epsilon)}", partial(attacked, epsilon)) for epsilon in epsilons
    ]
    is_fooled = any((part["against"] == "original").any() for part in parts)
    if not is_fooled and session.sample is None:
        raise InputError(
            f"no image fools {chosen.classifier.name} at any of attack.epsilon="
            f"{[epsilon_text(epsilon) for epsilon in epsilons]}; give larger ones."
        )
    return concatenate(parts)[TRANSFER.columns]


def original_viewer(session: Session, chosen: Plan) -> Viewer:
    """Return the original network with all its classes.

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


def viewer_of(session: Session, chosen: Plan, network: Network) -> Viewer:
    """Return a network that answers with the classes that take part, ready to be shown images."""
    engine = start_engine(session, network.name, network.module, chosen.training.pixels)
    return Viewer(network, engine, np.array(chosen.classes))


def images_to_attack(session: Session, original: Viewer, chosen: Plan) -> Chosen:
    """Return the images that the original classifies correctly.

    Raises:
        InputError: there is none.
    """
    candidates = chosen.heldout or chosen.training
    images = _rightly_classified(session, original.engine, candidates)
    if not images.keys:
        raise InputError(
            f"{chosen.classifier.name} classifies none of the images to be attacked correctly, so "
            "none can fool it; give other images."
        )
    return images


def tried_on(session: Session, viewer: Viewer, chosen: Plan, images: Chosen) -> Chosen:
    """Return the images that are attacked to fool this network; their labels are its outputs.

    Of those that it classifies correctly they are at most `attack.wanted`, evenly over all.
    """
    own = images._replace(labels=chosen.outputs(images.labels))
    right = _rightly_classified(session, viewer.engine, own)
    total = len(right.keys)
    count = min(attack_of(session.settings).wanted, total)
    return right.take(np.arange(count) * total // max(count, 1))


def _rightly_classified(session: Session, engine: Engine, images: Chosen) -> Chosen:
    found = predict_together(engine, images.pixels, lambda done: None, session.context)
    return images.take(np.flatnonzero(found == images.labels))


def _show_fooling(
    session: Session,
    viewer: Viewer,
    images: Chosen,
    epsilon: float | str,
    show: Callable[[Fooling], pd.DataFrame],
) -> list[pd.DataFrame]:
    """Show images that fool a network, batch by batch."""
    settings, sample = session.settings, session.sample
    words = f"{viewer.network.name}, epsilon {epsilon_text(epsilon)}"
    with session.progress.task(words, len(images.rows_in(sample)), "attacks") as advance:
        return show_fooling(
            show,
            images.task(viewer.engine, viewer.network.name),
            viewer.network.module,
            attack_of(settings),
            epsilon,
            settings.seed,
            advance,
            sample.images if sample else None,
            session.context,
        )


def _against_itself(
    session: Session, viewer: Viewer, tried: Chosen, epsilon: float | str
) -> list[pd.DataFrame]:
    """Return what a network takes images for that were made against it.

    Where the attack fails the image stays as it is, which the network is right about: how many it
    gets wrong is how often the attack succeeds.
    """

    def shown(fooling: Fooling) -> pd.DataFrame:
        return _shown(viewer, fooling, "itself", epsilon, viewer.classes[fooling.labels])

    parts = _show_fooling(session, viewer, tried, epsilon, shown)
    fooled = {str(key) for part in parts for key in part["image"]}
    rows = tried.rows_in(session.sample)
    spared = tried.take(rows[[tried.keys[row] not in fooled for row in rows]])
    labels = viewer.classes[spared.labels]
    return [
        *parts,
        *(
            _rows(viewer, "itself", epsilon, rounded, spared.keys, labels, labels)
            for rounded in (False, True)
            if spared.keys
        ),
    ]


def _shown(
    viewer: Viewer, fooling: Fooling, against: str, epsilon: float | str, labels: NDArray[np.int64]
) -> pd.DataFrame:
    """Return what a network takes adversarial images for, as the attack left them and rounded."""
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
    predictions: NDArray[np.int64],
) -> pd.DataFrame:
    """Return rows of images of these keys and labels, which the attack has not changed."""
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
            "prediction": predictions.astype(np.int32),
            "wrong": predictions != labels,
        }
    )
