"""A stored run, and what this machine has of it: images, networks, engines."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from experiments.measures import Chosen, chosen_from
from experiments.present import Run
from experiments.session import Bar, Session, all_models, get_classifier, image_set, predictions_of
from pixelrobust.datasets.decoded import ImageSet
from pixelrobust.engine import Engine, find_device, make_engine
from pixelrobust.engine.feeding import Images
from pixelrobust.errors import InputError
from pixelrobust.evaluation.selection import image_list_digest, select
from pixelrobust.models.build import Classifier
from pixelrobust.outcomes.kinds import CELL_COLUMNS, OUTCOMES, kind_of
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.settings import (
    ATTACK_PREFIX,
    EngineSettings,
    attack_settings,
    engine_settings,
    model_label,
    retrain_settings,
)
from pixelrobust.settings.schema import DatasetSettings

# Engines show that they work by so many images.
_EXAMPLES = 4


class StoredRun(NamedTuple):
    """What a run wrote, and what it is verified with.

    Attributes:
        manifest, outcomes: as stored.
        session: its settings say where images and weights are on this machine.
        share: how much of it is computed again, above 0 and at most 1.
        rng: decides which.
    """

    manifest: Manifest
    outcomes: pd.DataFrame
    session: Session
    share: float
    rng: np.random.Generator

    @property
    def seed(self) -> int:
        """Of its changes."""
        seed = self.manifest.config.get("seed")
        if not isinstance(seed, int) or seed < 0:
            raise InputError(
                f"the manifest of {self.manifest.name} does not say by which seed its images were "
                "changed, so nothing can be computed again; run the experiment again."
            )
        return seed

    def task(self, words: str, total: int) -> AbstractContextManager[Bar]:
        """A bar of the progress; see `experiments.session.Progress.task`."""
        return self.session.progress.task(f"{self.manifest.name}: {words}", total)

    def engine_settings(self, noted: dict[str, Any]) -> EngineSettings:
        """What a run's notes say of an engine, as far as this machine has it."""
        settings = self.session.settings.engine
        own = {key: noted[key] for key in ("name", "precision", "batch_size") if key in noted}
        if find_device(str(settings.devices)).type == "cuda":
            own.pop("name", None)
        return engine_settings(**settings.model_dump() | own)

    def as_it_was(self, *needed: str) -> Session:
        """The session with the settings of the run, as far as its manifest has them.

        Args:
            needed: groups of keys that it must have.

        Raises:
            InputError: it lacks one, or they are not such as a run has.
        """
        config, own = self.manifest.config, self.session.settings
        for group in needed:
            if not isinstance(config.get(group), dict):
                raise InputError(
                    f"the manifest of {self.manifest.name} has no {group}, which its rows need; run the "
                    "experiment again."
                )
        changes: dict[str, Any] = {
            "name": self.manifest.name,
            "seed": self.seed,
            "draws": self.manifest.draws,
            "measure": config.get("measure", "outcomes"),
            "dataset": _dataset(config.get("dataset"), own.dataset),
            # All networks of a run have the same.
            "engine": self.engine_settings(next(iter(self.manifest.engines.values()), {})),
        }
        if isinstance(config.get("attack"), dict):
            # Which sizes there are the rows say too; of a sweep over them only these know.
            attack = {"epsilon": "minimal"} | config["attack"]
            name = str(attack.pop("target", "")).removeprefix(ATTACK_PREFIX)
            changes["attack"] = attack_settings(**attack | {"name": name})
        if isinstance(config.get("retrain"), dict):
            changes["retrain"] = retrain_settings(**{**config["retrain"], "save": None})
        for group in ("models", "selection_models"):
            if isinstance(config.get(group), dict):
                known = all_models(own)
                for key in config[group]:
                    if key not in known:
                        raise InputError(_unknown(key, self.manifest, known))
                changes[group] = {key: known[key] for key in config[group]}
        return replace(self.session, settings=own.model_copy(update=changes))

    def sample_of_cells(self, rows: pd.DataFrame) -> pd.DataFrame:
        """A share of the rows of each cell, at least one."""
        return pd.concat(
            [
                own.iloc[self._some(len(own))]
                for _, own in rows.groupby(CELL_COLUMNS, dropna=False, sort=False)
            ]
        )

    def sample_of_images(self, rows: pd.DataFrame) -> pd.DataFrame:
        """All rows of a share of the images in them, at least one."""
        keys = rows["image"].astype(str)
        every = keys.unique()
        return rows[keys.isin(every[self._some(len(every))])]

    def _some(self, count: int) -> NDArray[np.int64]:
        chosen = max(1, round(self.share * count))
        return np.sort(self.rng.choice(count, chosen, replace=False))


def rows_of(images: ImageSet, manifest: Manifest, outcomes: pd.DataFrame) -> NDArray[np.int64]:
    """Where the images of a run are in the data set.

    Raises:
        InputError: they are not in it, or their pixels, labels or order differ.
    """
    position = {key: row for row, key in enumerate(images.keys)}
    keys = [str(key) for key in outcomes["image"].cat.categories]
    unknown = [key for key in keys if key not in position]
    if unknown:
        raise InputError(
            f"{len(unknown)} images of {manifest.name} are not in the data set, {unknown[0]!r} for "
            "example; give the one that it ran on (dataset=…, dataset.root=…)."
        )
    rows = np.array([position[key] for key in keys], dtype=np.int64)
    if image_list_digest(images, rows.tolist()) != manifest.image_list_sha256:
        raise InputError(
            f"the images of {manifest.name} are called as those of this data set, but their pixels, "
            "labels or order differ; give the data set, and the preprocessing, that it ran on."
        )
    return rows


def listed_images(run: StoredRun, images: ImageSet) -> Chosen:
    """The images of a run whose rows name them all."""
    return chosen_from(images, rows_of(images, run.manifest, run.outcomes))


def all_images(run: StoredRun, images: ImageSet, others: Mapping[str, Run]) -> Chosen:
    """The images of a run whose rows name some of them.

    A run of plain outcomes over the same ones names them all; else they are selected as the run did.

    Args:
        run: of which they are.
        images: the data set.
        others: runs of the same folder.

    Raises:
        InputError: other images are selected.
    """
    manifest = run.manifest
    for other, rows in others.values():
        same = other.image_list_sha256 == manifest.image_list_sha256
        if same and kind_of(other.config) is OUTCOMES:
            return chosen_from(images, rows_of(images, other, rows))
    session = run.as_it_was()
    candidates, settings = image_set(session), session.settings
    predictions = {
        key: predictions_of(session, key, candidates).classes for key in settings.selection_models
    }
    selection = select(candidates, predictions, settings.dataset.limit, settings.seed)
    if selection.image_list_sha256 != manifest.image_list_sha256:
        raise InputError(
            f"other images are selected now than {manifest.name} had; give the data set, preprocessing, "
            "networks and engine that it ran with."
        )
    return chosen_from(candidates, selection.indices)


def classifier_of(run: StoredRun, model: str) -> Classifier:
    """A network of a run, with the weights that it had.

    Raises:
        InputError: this machine's settings lack it, or its weights are others.
    """
    settings, manifest = run.session.settings, run.manifest
    labels = {model_label(key, own): key for key, own in settings.models.items()}
    if model not in labels:
        raise InputError(_unknown(model, manifest, labels))
    classifier = get_classifier(settings, labels[model])
    check_weights(manifest, classifier)
    return classifier


def check_weights(manifest: Manifest, classifier: Classifier) -> None:
    """Raise InputError where a network's weights are not those that a run had."""
    if classifier.weights_sha256 != manifest.weights_sha256.get(classifier.name):
        raise InputError(
            f"the weights of {classifier.name} are not those that {manifest.name} ran with; give them "
            f"(models.{classifier.name}.weights)."
        )


def engine_of(
    run: StoredRun, name: str, module: nn.Module, images: Images, as_eager: bool = False
) -> Engine:
    """What ran a network, as far as this machine has it.

    Args:
        run: in which.
        name: of the network.
        module: the network.
        images: (N, C, H, W), some that it will be given.
        as_eager: whether the run took gradients, so that plain PyTorch ran it unless noted.
    """
    some = torch.as_tensor(np.asarray(images[np.arange(min(_EXAMPLES, len(images)))]).copy())
    noted = run.manifest.engines.get(name, {})
    settings = run.engine_settings({"name": "eager"} | noted if as_eager else noted)
    return make_engine(module, settings, some, len(images))


def _dataset(stored: Any, own: DatasetSettings) -> DatasetSettings:
    """This machine's data set, cut down to as many images as the run looked at."""
    known = stored if isinstance(stored, dict) else {}
    kept = {key: known[key] for key in ("candidates", "limit") if key in known}
    if not all(value is None or (isinstance(value, int) and value > 0) for value in kept.values()):
        raise InputError(
            "the manifest's dataset.candidates or dataset.limit is no number of images; run the "
            "experiment again."
        )
    return own.model_copy(update=kept)


def _unknown(model: str, manifest: Manifest, known: Mapping[str, Any]) -> str:
    return (
        f"model {model} of {manifest.name} is not among the models ({', '.join(known)}); name it: "
        f"model={model}."
    )
