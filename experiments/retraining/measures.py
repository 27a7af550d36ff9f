"""What is measured of retrained networks: Tables 10 and 11, and the distances of Eq. 3 to 6."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import nn

from experiments.engine_checks import compare_network_with_eager
from experiments.measuring import Chosen, outcomes_of
from experiments.resources import Session, start_engine
from experiments.retraining.networks import Network, networks
from experiments.retraining.plan import Plan
from experiments.retraining.transfer import measure_transfer
from pixelrobust.boundary import linearized_distances, measured_distances
from pixelrobust.engine import find_device
from pixelrobust.evaluation import count_passes
from pixelrobust.outcomes import DISTANCE_COLUMNS, RETRAINED_COLUMNS, concatenate


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
            local = images._replace(labels=chosen.outputs(images.labels))
            words = f"{network.name}: {kind}"
            outcomes = outcomes_of(session, local, engine, network.module, network.name, words)
            parts.append(
                _global(outcomes, chosen).assign(images_are=kind, training_seed=network.seed)
            )
        compare_network_with_eager(
            session, network.name, network.module, engine, chosen.training.pixels
        )
    return concatenate(parts)[RETRAINED_COLUMNS]


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
    labels = torch.as_tensor(chosen.outputs(images.labels))
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


def _global(outcomes: pd.DataFrame, chosen: Plan) -> pd.DataFrame:
    """Outcomes with the data set's own class indices."""
    classes = np.array(chosen.classes, dtype=np.int32)
    return outcomes.assign(
        label=classes[outcomes["label"]], prediction=classes[outcomes["prediction"]]
    )
