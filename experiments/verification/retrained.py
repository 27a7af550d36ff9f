"""What was found of retrained networks, computed again with the networks as this machine keeps them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from experiments.measures import Chosen, attack_of
from experiments.retrain import (
    Network,
    Plan,
    Viewer,
    compared_viewers,
    images_to_attack,
    networks,
    original_viewer,
    plan,
    tried_on,
    unfinished_networks,
)
from experiments.session import Session
from experiments.verification.attacked import check_keys, size_of
from experiments.verification.comparing import (
    Shown,
    incomplete,
    numbers_again,
    outcomes_again,
    positions,
)
from experiments.verification.remaking import (
    Attacked,
    Remade,
    ends_elsewhere,
    labels_of,
    remake,
    versions_of,
)
from experiments.verification.stored import StoredRun, check_weights, engine_of
from pixelrobust.datasets.decoded import Advance
from pixelrobust.engine import find_device
from pixelrobust.errors import InputError
from pixelrobust.evaluation.boundary import linearized_distances, measured_distances
from pixelrobust.evaluation.cells import CONTROL
from pixelrobust.evaluation.forward import Task
from pixelrobust.outcomes.kinds import CELL_COLUMNS
from pixelrobust.outcomes.rows import with_cell

# network, images and labels -> a distance of each image
_Measure = Callable[[nn.Module, torch.Tensor, torch.Tensor], NDArray[np.float64]]


class NotKeptError(InputError):
    """Retrained networks of a run are not on this machine."""


def planned(run: StoredRun, train: bool, *needed: str) -> tuple[Session, Plan]:
    """What a run retrained, with the same images.

    Args:
        run: that retrained.
        train: whether networks may be trained that are not kept.
        needed: groups of keys that its manifest must have, besides retrain.

    Raises:
        NotKeptError: some are not, and may not.
        InputError: images or weights are not those of the run.
    """
    session, manifest = run.as_it_was("retrain", *needed), run.manifest
    chosen = plan(session)
    check_weights(manifest, chosen.classifier)
    if chosen.selection.image_list_sha256 != manifest.image_list_sha256:
        raise InputError(
            f"other images are selected now than {manifest.name} retrained on; give the data set, "
            "preprocessing and engine that it ran with."
        )
    lacking = unfinished_networks(session, chosen)
    if lacking and not train:
        raise NotKeptError(
            f"{manifest.name}: {len(lacking)} of its retrained networks are not kept here, {lacking[0]} "
            "for example; --retrain trains them."
        )
    return session, chosen


def verify_retraining(run: StoredRun, train: bool) -> Iterator[pd.DataFrame]:
    """A share of each network's outcomes in each cell; columns `comparing.COLUMNS`."""
    session, chosen = planned(run, train)
    draws = run.manifest.draws
    for network, kind, images, rows in _test_sets(run, session, chosen):
        yield incomplete(rows, (), len(images.keys), draws)
        engine = engine_of(run, network.name, network.module, images.pixels)
        sample = run.sample_of_cells(rows)
        with run.task(f"{network.name}, {kind}", len(sample)) as advance:
            own = images._replace(labels=chosen.outputs(images.labels))
            task = own.task(engine, network.name)
            shown = Shown(task, np.array(chosen.classes), run.seed, draws, advance)
            for _, cell in sample.groupby(CELL_COLUMNS, dropna=False):
                yield outcomes_again(shown, cell, f"seed {network.seed}, {kind}, ")


def verify_distances(run: StoredRun, train: bool) -> Iterator[pd.DataFrame]:
    """Distances of a share of each network's images; columns `comparing.COLUMNS`."""
    session, chosen = planned(run, train)
    device = find_device(str(session.settings.engine.devices))
    boundaries = session.settings.retrain.boundaries
    for network, kind, images, stored in _test_sets(run, session, chosen):
        module = network.module.to(device)
        rows = run.sample_of_images(stored)
        few = rows[rows["measured"].notna()]
        measures: dict[str, tuple[pd.DataFrame, _Measure]] = {
            "distance": (rows, partial(linearized_distances, candidates=boundaries)),
            "measured": (few, measured_distances),
        }
        with run.task(f"{network.name}, {kind}", len(rows) + len(few)) as advance:
            for column, (own, measure) in measures.items():
                if not len(own):
                    continue
                index = positions(images.keys, own["image"])
                pixels = torch.as_tensor(images.pixels[index])
                labels = torch.as_tensor(chosen.outputs(images.labels[index]))
                words = f"seed {network.seed}, {kind}, {column}"
                again = measure(module, pixels, labels)
                # Measured distances stand in rows that count already.
                counted = int(column == "distance")
                yield numbers_again(own, column, again, [words] * len(own), counted)
                advance(len(own))


def verify_transfer(run: StoredRun, train: bool) -> Iterator[pd.DataFrame]:
    """What networks take a share of attacked images for; columns `comparing.COLUMNS`."""
    session, chosen = planned(run, train, "attack")
    original = original_viewer(session, chosen)
    images = images_to_attack(original, chosen)
    others = compared_viewers(session, chosen)
    _check_networks(run, [viewer.network for viewer in (original, *others)])
    against = run.outcomes["against"]
    fooling = run.outcomes[against == "original"]
    yield from _verify_attacks(run, session, original, images, [original, *others], fooling)
    for viewer in others:
        own = _of_network(run.outcomes[against == "itself"], viewer.network)
        tried = tried_on(session, viewer, chosen, images)
        yield from _verify_attacks(run, session, viewer, tried, [viewer], own)


def _test_sets(
    run: StoredRun, session: Session, chosen: Plan
) -> Iterator[tuple[Network, str, Chosen, pd.DataFrame]]:
    """Each network with each set of images that it was tested on, and the rows of both.

    Raises:
        InputError: rows are of other networks, or images.
    """
    seen, tests = [], chosen.test_sets()
    for network in networks(session, chosen):
        seen.append(network)
        stored = _of_network(run.outcomes, network)
        for kind, rows in stored.groupby("images_are", observed=True):
            images = tests.get(str(kind))
            if images is None or not set(rows["image"].astype(str)) <= set(images.keys):
                raise InputError(
                    f"{run.manifest.name} holds rows of {kind} images on which no network was tested."
                )
            yield network, str(kind), images, rows
    _check_networks(run, seen)


def _verify_attacks(
    run: StoredRun,
    session: Session,
    attacker: Viewer,
    images: Chosen,
    viewers: Sequence[Viewer],
    stored: pd.DataFrame,
) -> Iterator[pd.DataFrame]:
    """What networks take images for that one was attacked with, at every epsilon."""
    attack = attack_of(session.settings)
    for text, rows in stored.groupby("epsilon", sort=False):
        sample = run.sample_of_images(rows)
        check_keys(run, sample, images.keys)
        task = images.task(attacker.engine, attacker.network.name)
        attacked = Attacked(task, attacker.network.module, attack, size_of(str(text)), run.seed)
        words = f"{attacker.network.name} attacked, epsilon {text}"
        with run.task(words, len(sample)) as advance:
            made = remake(attacked, set(sample["image"].astype(str)))
            for viewer in viewers:
                own = _of_network(sample, viewer.network)
                yield from _verify_viewer(run, attacker, attacked, made, viewer, own, advance)


def _verify_viewer(
    run: StoredRun,
    attacker: Viewer,
    attacked: Attacked,
    made: Mapping[str, Remade],
    viewer: Viewer,
    stored: pd.DataFrame,
    advance: Advance,
) -> Iterator[pd.DataFrame]:
    """What one network takes images for that were made to fool one."""
    words = (
        f"seed {viewer.network.seed}, against {attacker.network.name}, epsilon {attacked.epsilon}"
    )
    elsewhere = ends_elsewhere(attacked, stored, made, words)
    yield elsewhere
    same = stored[~stored["image"].isin(elsewhere["image"])]
    kept = {key: _as_shown(made[key]) for key in dict.fromkeys(same["image"].astype(str))}
    if not kept:
        return
    labels = np.searchsorted(viewer.classes, attacker.classes[labels_of(kept)])
    for rounded, pixels in versions_of(kept).items():
        rows = with_cell(same[same["rounded"] == rounded], CONTROL).assign(draw=0)
        task = Task(viewer.engine, pixels, list(kept), labels, viewer.network.name)
        shown = Shown(task, viewer.classes, run.seed, 1, advance)
        if len(rows):
            yield outcomes_again(shown, rows, f"{words}, {'rounded, ' if rounded else ''}")


def _as_shown(made: Remade) -> Remade:
    """An image as networks were shown it: unchanged where the attack failed."""
    return made if made.size > 0 else made._replace(image=made.original)


def _of_network(rows: pd.DataFrame, network: Network) -> pd.DataFrame:
    return rows[(rows["model"] == network.name) & (rows["training_seed"] == network.seed)]


def _check_networks(run: StoredRun, seen: Sequence[Network]) -> None:
    """Raise InputError where rows are of a network that the run did not have."""
    known = {(network.name, network.seed) for network in seen}
    pairs = run.outcomes[["model", "training_seed"]].drop_duplicates()
    for model, seed in pairs.itertuples(index=False):
        if (str(model), int(seed)) not in known:
            raise InputError(
                f"{run.manifest.name} holds outcomes of {model} (seed {seed}), which it did not train."
            )
