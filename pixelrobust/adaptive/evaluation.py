"""Adaptive evaluation of any classifier on any images, in one call."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust.adaptive.estimate import summarize_adaptive
from pixelrobust.adaptive.rounds import control_rows, evaluate_adaptively
from pixelrobust.engine import predict_all
from pixelrobust.errors import InputError
from pixelrobust.evaluation import CONTROL, check_finite, finite_answers, prepare
from pixelrobust.grid import build_grid
from pixelrobust.outcomes import concatenate
from pixelrobust.passes import Passes
from pixelrobust.settings import EngineName, Precision, engine_settings
from pixelrobust.task import Design


def estimate(
    model: nn.Module,
    images: Tensor | NDArray[np.generic],
    labels: Sequence[int] | Tensor | NDArray[np.integer],
    *,
    num: int | Iterable[int] = (4, 8, 16, 32, 64),
    amplitude: int | Iterable[int | None] | None = None,
    area: int | Iterable[int | None] | None = None,
    draws: int = 20,
    seed: int = 0,
    keys: Sequence[str] | None = None,
    name: str = "model",
    device: str = "auto",
    batch_size: int | None = None,
    engine: EngineName | Literal["auto"] = "auto",
    precision: Precision = "fp32",
) -> pd.DataFrame:
    """Wrong rates of exactly these images, as precise as by so many draws of each, by fewer passes.

    Images get more draws whose answers vary, and few or none the others (see docs/speed.md). Where
    every single outcome matters, or cells or models are to be compared in pairs, use
    `pixelrobust.evaluate`.

    Args:
        draws: the precision wanted is that of so many draws of each image, in each cell.
        model, images, labels, num, amplitude, area, seed, keys, name, device, batch_size, engine,
            precision: as in `pixelrobust.evaluate`.

    Returns:
        One row a cell; columns as in `pixelrobust.adaptive.estimate.summarize_adaptive`.

    Raises:
        InputError: as of `pixelrobust.evaluate`.
    """
    design = Design(build_grid(num, amplitude, area), draws, seed)
    changed = [cell for cell in design.cells if cell.num]
    if not changed:
        raise InputError("num=0 changes nothing, so there is nothing to estimate; give 1 or more.")
    settings = engine_settings(
        name=engine, devices=device, batch_size=batch_size, precision=precision, compared=0
    )
    task = prepare(model, images, labels, keys, name, design, settings)
    height, width = task.images.shape[-2:]
    for cell in design.cells:
        cell.check_fits((height, width))
    unchanged = predict_all(task.engine, task.images, lambda done: None)
    check_finite(unchanged.classes, CONTROL, task.keys, name)
    passes = Passes(task, seed)
    control = control_rows(task.labels, task.keys, unchanged.classes, name)
    rows = evaluate_adaptively(
        partial(finite_answers, passes), task.labels, task.keys,
        unchanged.margins_of(task.labels), changed, draws, seed, name,
    )  # fmt: skip
    return summarize_adaptive(concatenate([control, rows]), draws, (height, width))
