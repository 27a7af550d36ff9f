"""From images and a classifier to outcomes: what it predicts for every change of every image."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust.arguments import (
    as_classifier,
    as_images,
    as_keys,
    as_labels,
    check_draws,
    check_room,
)
from pixelrobust.datasets.cache import Advance
from pixelrobust.engine import Engine, make_engine
from pixelrobust.engine.feeding import Images, make_feed
from pixelrobust.errors import InputError
from pixelrobust.grid import Cell, build_grid
from pixelrobust.outcomes import make_outcomes
from pixelrobust.perturbation import (
    ChangeRandomness,
    apply_change,
    image_keys,
)
from pixelrobust.settings import EngineName, Precision, engine_settings

_CONTROL = Cell(0)
# Random numbers cost least when they are made for many images at once.
_IMAGES_AT_ONCE = 64
_PIXELS_AT_ONCE = 2**20


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
    engine: EngineName | Literal["auto"] = "auto",
    precision: Precision = "fp32",
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
        batch_size: images a forward pass; None: what suits device and images.
        engine: what runs the model: "eager", "compile", "openvino", or "auto", the fastest that the
            work is worth starting for.
        precision: "fp32", "bf16", or, on a GPU, "tf32" or "fp16".

    Returns:
        One row an outcome; columns as in `pixelrobust.outcomes.make_outcomes`.

    Raises:
        InputError: an argument is wrong, or the model is none that can be measured (see
            `pixelrobust.models.fitness.check_module`).
    """
    tensor, truth = as_images(images), as_labels(labels)
    names = as_keys(keys, len(tensor))
    if not len(tensor) == len(truth) == len(names) or not names:
        raise InputError(
            f"{len(tensor)} images came with {len(truth)} labels and {len(names)} keys; "
            "give at least one image, and one label and one key for each."
        )
    cells = build_grid(num, amplitude, area)
    settings = engine_settings(
        name=engine, devices=device, batch_size=batch_size, precision=precision, compared=0
    )
    check_draws(draws)
    passes = count_passes(cells, len(tensor), draws)
    check_room(passes, draws)
    module = as_classifier(model, tensor, truth, name)
    running = make_engine(module, settings, tensor, passes)
    return evaluate_cells(running, tensor, names, truth, cells, draws, seed, name)


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
    unchanged: NDArray[np.int64] | None = None,
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
        unchanged: (N,) this engine's predictions for the unchanged images, where they are known;
            they are the outcomes of the control then.

    Raises:
        InputError: a cell does not fit the images, or the model gives logits that are not finite.
    """
    height, width = images.shape[-2:]
    for cell in cells:
        cell.check_fits((height, width))
    check_draws(draws)
    check_room(count_passes(cells, len(keys), draws), draws)
    tables = {
        cell: torch.empty(len(keys), draws_of(cell, draws), dtype=torch.int64, device=engine.device)
        for cell in cells
    }
    todo = list(cells)
    if unchanged is not None and _CONTROL in tables:
        tables[_CONTROL][:, 0] = torch.as_tensor(unchanged)
        todo.remove(_CONTROL)
    # What is being predicted: nothing here waits for the device.
    underway: deque[_Batch] = deque()
    work = _changed_batches(engine, images, image_keys(keys, seed), todo, draws, underway)
    for predicted in engine.predictions(work):
        done = underway.popleft()
        tables[done.cell][done.image, done.draw] = predicted
        advance(len(predicted))
    predictions = {cell: table.cpu().numpy() for cell, table in tables.items()}
    for cell, table in predictions.items():
        if (table < 0).any():
            raise InputError(
                f"model {name} gives NaN or infinite logits for {keys[int(np.argwhere(table < 0)[0, 0])]!r} "
                f"(num={cell.num}); check its weights and normalisation."
            )
    return make_outcomes(name, keys, labels, predictions)


def draws_of(cell: Cell, draws: int) -> int:
    """How many draws of each image there are in a cell of a run with so many."""
    return 1 if cell.num == 0 else draws


def count_passes(cells: Sequence[Cell], images: int, draws: int) -> int:
    """Forward passes that `evaluate_cells` makes, in images."""
    return sum(images * draws_of(cell, draws) for cell in cells)


class _Batch(NamedTuple):
    """Of the predictions of a batch: the cell, and (B,) positions of image and draw."""

    cell: Cell
    image: Tensor
    draw: Tensor


def _changed_batches(
    engine: Engine,
    images: Images,
    key_words: Tensor,
    cells: Sequence[Cell],
    draws: int,
    underway: deque[_Batch],
) -> Iterator[Tensor]:
    """Changed images, batch by batch; what each is, is appended to `underway`."""
    if not cells:
        return
    largest = max(cell.num for cell in cells)
    at_once = max(engine.batch_size, _IMAGES_AT_ONCE)
    pairs = list(
        _pairs(len(key_words), draws, min(at_once, max(1, _PIXELS_AT_ONCE // (largest or 1))))
    )
    feed = make_feed(images, engine.device)
    key_words = key_words.to(engine.device)
    for (image, draw), batch in zip(pairs, feed.batches(image for image, _ in pairs), strict=True):
        rows, numbers = (_sent(index, engine.device) for index in (image, draw))
        randomness = ChangeRandomness(key_words[rows], numbers, batch.shape[1:])
        _reserve(randomness, cells)
        for cell in cells:
            # Draws ascend, so those that a cell has come first.
            wanted = int((draw < draws_of(cell, draws)).sum())
            if not wanted:
                continue
            changed = apply_change(batch, randomness, cell)[:wanted]
            for start in range(0, wanted, engine.batch_size):
                part = slice(start, min(start + engine.batch_size, wanted))
                underway.append(_Batch(cell, rows[part], numbers[part]))
                yield changed[part]


def _sent(index: NDArray[np.int64], device: torch.device) -> Tensor:
    """An array on the device, without waiting for what that is computing."""
    tensor = torch.as_tensor(index)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor


def _pairs(
    images: int, draws: int, count: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """So many (image, draw) positions at a time: all images of draw 0, then of draw 1, and so on."""
    for start in range(0, images * draws, count):
        pair = np.arange(start, min(start + count, images * draws))
        yield pair % images, pair // images


def _reserve(randomness: ChangeRandomness, cells: Sequence[Cell]) -> None:
    """Draw positions and words once, at the largest num of each area."""
    largest: dict[int | None, int] = {}
    for cell in cells:
        largest[cell.area] = max(cell.num, largest.get(cell.area, 0))
    for area, num in largest.items():
        if num:
            randomness.positions(num, area)
    if largest:
        randomness.words(max(largest.values()))
