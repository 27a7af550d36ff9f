"""Evaluating classifiers: from images to the outcomes of every change of every image."""

import copy
import functools
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust.datasets.decoded import Advance
from pixelrobust.datasets.lists import as_keys, as_labels
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.engine import NOTHING_FASTER, make_engine
from pixelrobust.errors import InputError, first_line
from pixelrobust.evaluation.forward import Design, ForwardPass, Pairs, PredictedChange, Task
from pixelrobust.evaluation.screening import SCREENING, Screen, fill
from pixelrobust.evaluation.store import UNKNOWN, Known, PredictionStore
from pixelrobust.models.checks import check_module, check_values, try_module
from pixelrobust.models.heads import Logits, has_logits
from pixelrobust.outcomes.kinds import IMAGE_SIZE
from pixelrobust.outcomes.manifest import Screened
from pixelrobust.outcomes.rows import make_outcomes
from pixelrobust.perturbation.grid import (
    Cell,
    Channels,
    Manner,
    Values,
    as_plain,
    build_grid,
    is_integer,
)
from pixelrobust.perturbation.pixels import (
    as_floats,
    check_images,
    check_seed,
    check_unit_range,
)
from pixelrobust.settings import SCREENED, EngineName, Precision, engine_settings

CONTROL = Cell(0)
# A run that is killed loses at most so many forward passes of a cell.
_PAIRS_IN_BLOCK = {"cpu": 2048, "cuda": 16384}
_MAX_OUTCOMES = 200_000_000


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
    channels: Channels = "apart",
    repetition: bool = False,
    values: Values = "uniform",
    keys: Sequence[str] | None = None,
    name: str = "model",
    device: str | torch.device = "auto",
    batch_size: int | None = None,
    engine: EngineName | Literal["auto"] = "auto",
    precision: Precision | Literal["screened"] = "fp32",
) -> pd.DataFrame:
    """Evaluate any classifier on any images, over a grid of changes.

    Args:
        model: float images (B, C, H, W) in [0, 1] -> logits (B, K), or an object with `logits`;
            normalisation belongs inside it. It is evaluated as a copy, in eval mode and with weights
            in float32, on `device`, and left as it was.
        images: (N, C, H, W), uint8 or floating point in [0, 1].
        labels: N true classes; (N,) or (N, 1).
        num, amplitude, area: one value each, or several (see `pixelrobust.perturbation.grid.Cell`). The
            unchanged image, num = 0, is always evaluated too, as the control.
        draws: independent changes of each image in each cell.
        seed: 0 or more.
        channels, repetition, values: see `pixelrobust.perturbation.grid.Manner`.
        keys: N names, which an image's changes hang on; by default "0", "1", ….
        name: of the model, in the outcomes.
        device: "auto", "cpu", "cuda" or "cuda:N", or torch's own of these.
        batch_size: images a forward pass; None: a number that suits device and images.
        engine: what runs the model: "eager", "compile", "openvino", or "auto", the fastest that the
            work is worth starting for.
        precision: "fp32", "bf16", or, on a GPU, "tf32" or "fp16"; or "screened": predictions of fp32,
            most of which a faster arithmetic finds (see `pixelrobust.evaluation.screening`).

    Returns:
        One row an outcome; columns as in `pixelrobust.outcomes.rows.make_outcomes`. Its `attrs` note
        the size of the images, for `summarize`, and how they were screened.

    Raises:
        InputError: an argument is wrong, or the model is none that can be measured (see
            `pixelrobust.models.checks.check_module`).
    """
    manner = Manner(channels, repetition, values)
    manner.check()
    grid = build_grid(num, amplitude, area)
    design = Design(grid, as_plain(draws), check_seed(seed), manner)
    settings = engine_settings(
        name=engine, devices=str(device), batch_size=batch_size, precision=precision, compared=0
    )
    tensor, truth = _as_images(images), as_labels(labels)
    names = as_keys(keys, len(tensor))
    if not len(tensor) == len(truth) == len(names) or not names:
        raise InputError(
            f"{len(tensor)} images came with {len(truth)} labels and {len(names)} keys; "
            "give at least one image, and one label and one key for each."
        )
    n_forward = _check_size(design, len(tensor))
    module = _as_classifier(model, tensor, truth, name)
    started = make_engine(module, settings, tensor, n_forward)
    if precision == SCREENED and not started.screening:
        warnings.warn(NOTHING_FASTER, stacklevel=2)
    outcomes = evaluate_cells(Task(started, tensor, names, truth, name), design)
    outcomes.attrs[IMAGE_SIZE] = tuple(tensor.shape[-2:])
    return outcomes


def evaluate_cells(
    task: Task,
    design: Design,
    advance: Advance = lambda done: None,
    unchanged: NDArray[np.int64] | None = None,
    store: PredictionStore | None = None,
    context: Context = SINGLE,
) -> pd.DataFrame:
    """Evaluate one classifier in every cell.

    The control (num = 0) has one draw, since it does not depend on it.

    Args:
        task: the classifier and the images.
        design: the changes.
        advance: told how many forward passes this process has done, or were done before.
        unchanged: (N,) the engine's predictions for the unchanged images, where they are known;
            they are the outcomes of the control then.
        store: keeps predictions, and gives those that it has.
        context: this process among those that share the images; all are given the same other
            arguments, but for the engine's device.

    Returns:
        The outcomes of all images, the same in every process; columns as in
        `pixelrobust.outcomes.kinds.make_outcomes`.

    Raises:
        InputError: a cell does not fit the images, or the model gives logits that are not finite.
    """

    bound = 0.0

    def predicted(part: slice) -> _Predicted:
        known = None if unchanged is None else unchanged[part]
        own = store.shard(part) if store else None
        return _predict_cells(task.take(part), design, advance, known, own, bound)

    while True:
        shares = context.share(len(task.keys), task.engine.batch_size, predicted)
        bounds = [share.screened.bound for share in shares if share.screened]
        if len(set(bounds)) < 2:
            break
        # What one process distrusts all do: they look once more at what is stored.
        bound, advance = max(bounds), _tell_nobody
    whole = {
        cell: np.concatenate([share.classes[cell] for share in shares]) for cell in design.cells
    }
    outcomes = make_outcomes(task.name, task.keys, task.labels, whole)
    if bounds:
        found = [share.screened for share in shares if share.screened]
        outcomes.attrs[SCREENING] = functools.reduce(Screened.plus, found)._asdict()
    return outcomes


class _Predicted(NamedTuple):
    """The classes in every cell, (N, draws) each, and how they were screened, if they were."""

    classes: dict[Cell, NDArray[np.int64]]
    screened: Screened | None


def _tell_nobody(done: int) -> None:
    pass


def _predict_cells(
    task: Task,
    design: Design,
    advance: Advance,
    unchanged: NDArray[np.int64] | None,
    store: PredictionStore | None,
    bound: float,
) -> _Predicted:
    """Predict the classes in every cell, one draw for the control.

    Args:
        task, design, advance, unchanged, store: as in `evaluate_cells`.
        bound: the least one of screening.
    """
    cells, draws, count = design.cells, design.draws, len(task.keys)
    height, width = task.images.shape[-2:]
    for cell in cells:
        cell.check_fits((height, width))
    _check_size(design, count)
    forward = ForwardPass(task, design, advance)
    found: dict[Cell, NDArray[np.int64]] = {}
    if CONTROL in cells and unchanged is None:
        first = np.arange(count), np.zeros(count, dtype=np.int64)
        unchanged = forward.predict(first, [CONTROL])[CONTROL].classes
    changed, screen = [cell for cell in cells if cell != CONTROL], None
    if task.engine.screening and changed:
        exact = forward.by(task.engine, _tell_nobody)
        forward = forward.by(task.engine.screening.fast, advance)
        inner = store.within(task.engine.precision) if store else None
        screen = Screen(exact, task.engine, changed, (count, draws), design.seed, inner, bound)
    for own in store.locked(changed) if store else [changed]:
        found |= _predict_changed(forward, own, count, draws, advance, store, screen)
    if screen:
        # A later group of cells may have raised the bound.
        screen.settle()
        found |= {cell: screen.classes(cell) for cell in changed}
    if unchanged is not None and CONTROL in cells:
        found[CONTROL] = unchanged[:, None]
    for cell in cells:
        check_finite(found[cell], cell, task.keys, task.name)
    return _Predicted({cell: found[cell] for cell in cells}, screen.found() if screen else None)


def draws_of(cell: Cell, draws: int) -> int:
    """Return how many draws of each image a cell has in a run with so many."""
    return 1 if cell.num == 0 else draws


def count_forward(cells: Sequence[Cell], images: int, draws: int) -> int:
    """Count the forward passes that `evaluate_cells` makes, in images."""
    return sum(images * draws_of(cell, draws) for cell in cells)


def _predict_changed(
    forward: ForwardPass,
    cells: Sequence[Cell],
    images: int,
    draws: int,
    advance: Advance,
    store: PredictionStore | None,
    screen: Screen | None,
) -> dict[Cell, NDArray[np.int64]]:
    """Predict the classes in some cells, block by block, and keep each block when it is done."""
    tables = {
        cell: store.load(cell, draws) if store else Known.nothing(images, draws) for cell in cells
    }
    advance(sum(int((table.classes != UNKNOWN).sum()) for table in tables.values()))
    if screen:
        screen.add(tables)
    # On a GPU the next block is under way before the results of the last one are fetched and kept.
    ahead = 1 if forward.device.type == "cuda" else 0
    underway: deque[tuple[Pairs, Callable[[], dict[Cell, PredictedChange]]]] = deque()

    def finish(left: int) -> None:
        while len(underway) > left:
            pairs, results = underway.popleft()
            found = results()
            for cell, predicted in found.items():
                fill(tables[cell], pairs, predicted)
                if store and (predicted.classes >= 0).all():
                    store.keep(cell, *pairs, predicted)
            if screen:
                screen.grow(len(pairs[0]) * len(found))

    for image, draw in _blocks(images, draws, _PAIRS_IN_BLOCK[forward.device.type]):
        missing = {
            cell: np.flatnonzero(table.classes[image, draw] == UNKNOWN)
            for cell, table in tables.items()
        }
        for rows, together in _alike(missing):
            pairs = image[rows], draw[rows]
            underway.append((pairs, forward.begin(pairs, together)))
            finish(ahead)
    finish(0)
    if screen:
        screen.settle()
    return {cell: table.classes for cell, table in tables.items()}


def _alike(
    missing: Mapping[Cell, NDArray[np.int64]],
) -> Iterator[tuple[NDArray[np.int64], list[Cell]]]:
    """Yield rows that cells lack, with all cells that lack just these: they share images and positions."""
    groups: dict[bytes, list[Cell]] = {}
    for cell, rows in missing.items():
        groups.setdefault(rows.tobytes(), []).append(cell)
    for cells in groups.values():
        if len(missing[cells[0]]):
            yield missing[cells[0]], cells


def _blocks(images: int, draws: int, size: int) -> Iterator[Pairs]:
    """Yield all (image, draw) pairs, so many at a time: all images of draw 0, then of draw 1, and so on.

    Where a block ends depends on the number of images alone, so runs of few and of many draws, and
    interrupted ones, make the same batches.
    """
    images_at_once = min(images, size)
    draws_at_once = max(1, size // images_at_once)
    for draw in range(0, draws, draws_at_once):
        some_draws = np.arange(draw, min(draw + draws_at_once, draws))
        for image in range(0, images, images_at_once):
            some_images = np.arange(image, min(image + images_at_once, images))
            yield np.tile(some_images, len(some_draws)), some_draws.repeat(len(some_images))


def check_finite(classes: NDArray[np.int64], cell: Cell, keys: Sequence[str], name: str) -> None:
    """Raise InputError where a prediction, of those of the image of each key, is that of no finite logits."""
    if (classes < 0).any():
        raise InputError(
            f"model {name} gives NaN or infinite logits for {keys[int(np.argwhere(classes < 0)[0, 0])]!r} "
            f"(num={cell.num}); check its weights and normalisation."
        )


def _check_size(design: Design, images: int) -> int:
    """Return the forward passes of a design; InputError where memory has no room for its outcomes."""
    draws = design.draws
    if not is_integer(draws) or draws < 1:
        raise InputError(
            f"draws={draws!r} is not a number of changes; give an integer of 1 or more."
        )
    outcomes = count_forward(design.cells, images, draws)
    if outcomes > _MAX_OUTCOMES:
        raise InputError(
            f"draws={draws} makes {outcomes:,} outcomes of a model, more than {_MAX_OUTCOMES:,}; give "
            "fewer draws, fewer cells or fewer images."
        )
    return outcomes


def _as_images(images: Any) -> Tensor:
    """Return images as a tensor; InputError unless they are (N, C, H, W), uint8 or float in [0, 1]."""
    try:
        with warnings.catch_warnings():
            # Memory-mapped images are read-only; nothing here writes to them.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            tensor = torch.as_tensor(images)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"images cannot be used as a tensor ({first_line(error)}); give a tensor or an array."
        ) from error
    check_images(tensor)
    if tensor.is_floating_point():
        check_unit_range(tensor)
    return tensor


def _as_classifier(
    model: nn.Module, images: Tensor, labels: NDArray[np.int64], name: str
) -> nn.Module:
    """Copy a model, in eval mode and float32, so that it gives logits.

    Raises:
        InputError: it cannot be measured on these images.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; give a torch.nn.Module.")
    check_values(name, model)
    try:
        module = copy.deepcopy(model).eval()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"model {name} cannot be copied ({first_line(error)}); give one that copy.deepcopy takes."
        ) from error
    module = _in_float32(name, module)
    # Mirrored, so that the two differ even where there is only one.
    examples = torch.cat([as_floats(images[:1]), as_floats(images[-1:]).flip(-1)])
    if has_logits(try_module(name, module, examples[:1])):
        module = Logits(module)
    check_module(name, module, examples, int(labels.max()))
    return module


def _in_float32(name: str, module: nn.Module) -> nn.Module:
    """Return the module with weights in float32: `precision` says what is computed in, not the weights."""
    tensors = [*module.parameters(), *module.buffers()]
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return module.float() if kinds - {torch.float32} else module
