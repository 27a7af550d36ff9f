"""From images and a classifier to outcomes: what it predicts for every change of every image."""

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust.datasets.cache import Advance, PixelRows
from pixelrobust.engine import EagerEngine, Engine, find_device
from pixelrobust.errors import InputError
from pixelrobust.grid import Cell, build_grid
from pixelrobust.outcomes import make_outcomes
from pixelrobust.perturbation import (
    ChangeRandomness,
    apply_change,
    check_images,
    check_unit_range,
    image_keys,
)

Images = Tensor | NDArray[np.generic] | PixelRows


def evaluate(
    model: nn.Module,
    images: Tensor | NDArray[np.generic],
    labels: Sequence[int] | Tensor | NDArray[np.integer],
    *,
    num: int | Iterable[int] = (4, 8, 16, 32, 64),
    amplitude: int | Iterable[int | None] | None = None,
    area: int | Iterable[int | None] | None = None,
    draws: int = 1,
    seed: int = 0,
    keys: Sequence[str] | None = None,
    name: str = "model",
    device: str = "auto",
    batch_size: int | None = None,
) -> pd.DataFrame:
    """Outcomes of any classifier on any images, over a grid of changes.

    Args:
        model: float images (B, C, H, W) in [0, 1] -> logits (B, K); normalisation belongs inside
            it. It is evaluated as a copy in eval mode and left as it was.
        images: (N, C, H, W), uint8 or floating point in [0, 1].
        labels: N true classes.
        num, amplitude, area: one value each, or several (see `pixelrobust.grid.Cell`). The
            unchanged image, num = 0, is always evaluated too, as the control.
        draws: independent changes of each image in each cell.
        seed: 0 or more.
        keys: N names, which an image's changes hang on; by default "0", "1", ….
        name: what to call the model in the outcomes.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch_size: images a forward pass; None: what suits the device.

    Returns:
        One row an outcome; columns as in `pixelrobust.outcomes.make_outcomes`.

    Raises:
        InputError: an argument is wrong.
    """
    tensor = torch.as_tensor(images)
    check_images(tensor)
    if tensor.is_floating_point():
        check_unit_range(tensor)
    truth = np.asarray(labels, dtype=np.int64)
    names = [str(index) for index in range(len(tensor))] if keys is None else list(keys)
    if not len(tensor) == len(truth) == len(names) or not names:
        raise InputError(
            f"{len(tensor)} images came with {len(truth)} labels and {len(names)} keys; "
            "give at least one image, and one label and one key for each."
        )
    engine = EagerEngine(copy.deepcopy(model).eval(), find_device(device), batch_size)
    return evaluate_cells(
        engine, tensor, names, truth, build_grid(num, amplitude, area), draws, seed, name
    )


def evaluate_cells(
    engine: Engine,
    images: Images,
    keys: Sequence[str],
    labels: NDArray[np.int64],
    cells: Sequence[Cell],
    draws: int,
    seed: int,
    name: str,
    advance: Advance = lambda done: None,
) -> pd.DataFrame:
    """Outcomes of one classifier in every cell.

    All cells of a batch share its images and its random numbers. The control (num = 0) has one
    draw, since it does not depend on it.

    Args:
        engine: runs the classifier.
        images: (N, C, H, W), uint8 or floating point in [0, 1]; may be memory-mapped.
        keys: N image keys.
        labels: (N,) true classes.
        cells: the grid.
        draws: independent changes of each image in each cell.
        seed: 0 or more.
        name: what to call the model in the outcomes.
        advance: told how many forward passes are done.

    Raises:
        InputError: a cell does not fit the images, or the model gives logits that are not finite.
    """
    height, width = images.shape[-2:]
    for cell in cells:
        cell.check_fits((height, width))
    if draws < 1:
        raise InputError(f"draws={draws} is too few; give 1 or more.")
    key_words = image_keys(keys, seed)
    predictions = {
        cell: np.empty((len(keys), 1 if cell.num == 0 else draws), dtype=np.int64) for cell in cells
    }
    for image, draw in _batches(len(keys), draws, engine.batch_size):
        batch = torch.as_tensor(images[image]).to(engine.device)
        words = key_words[image].to(engine.device)
        randomness = ChangeRandomness(
            words, torch.as_tensor(draw).to(engine.device), batch.shape[1:]
        )
        _reserve(randomness, cells)
        for cell, table in predictions.items():
            wanted = draw < table.shape[1]
            if not wanted.any():
                continue
            changed = apply_change(batch, randomness, cell)
            if not wanted.all():
                changed = changed[torch.as_tensor(wanted)]
            table[image[wanted], draw[wanted]] = engine.predict(changed).cpu().numpy()
            advance(int(wanted.sum()))
    for cell, table in predictions.items():
        if (table < 0).any():
            raise InputError(
                f"model {name} gives NaN or infinite logits for {keys[int(np.argwhere(table < 0)[0, 0])]!r} "
                f"(num={cell.num}); check its weights and normalisation."
            )
    return make_outcomes(name, keys, labels, predictions)


def count_passes(cells: Sequence[Cell], images: int, draws: int) -> int:
    """Forward passes that `evaluate_cells` makes, in images."""
    return sum(images * (1 if cell.num == 0 else draws) for cell in cells)


def _batches(
    images: int, draws: int, batch_size: int
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Batches of (image index, draw): all images of draw 0, then of draw 1, and so on."""
    for start in range(0, images * draws, batch_size):
        pair = np.arange(start, min(start + batch_size, images * draws))
        yield pair % images, pair // images


def _reserve(randomness: ChangeRandomness, cells: Sequence[Cell]) -> None:
    """Draw positions and words once, at the largest num of each area."""
    largest: dict[int | None, int] = {}
    for cell in cells:
        largest[cell.area] = max(cell.num, largest.get(cell.area, 0))
    for area, num in largest.items():
        if num:
            randomness.positions(num, area)
    randomness.words(max(largest.values()))
