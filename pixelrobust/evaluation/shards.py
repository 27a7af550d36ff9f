"""Images shared among processes."""

from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.datasets.decoded import Advance, PixelRows
from pixelrobust.distributed import Context
from pixelrobust.evaluation.cells import draws_of, predict_cells
from pixelrobust.evaluation.forward import Design, Task
from pixelrobust.evaluation.store import AnswerStore
from pixelrobust.outcomes.rows import make_outcomes
from pixelrobust.perturbation.grid import Cell


def shard(count: int, batch_size: int, context: Context) -> slice:
    """Which of `count` items a process takes: each item is in one slice, and none is in two.

    Slices follow each other by rank and begin at multiples of the batch size, so that batches are
    those of a single process. A slice may be empty.
    """
    batches = -(-count // batch_size)
    first, last = (
        batches * rank // context.world_size for rank in (context.rank, context.rank + 1)
    )
    return slice(min(first * batch_size, count), min(last * batch_size, count))


def evaluate_shards(
    context: Context,
    task: Task,
    design: Design,
    advance: Advance = lambda done: None,
    unchanged: NDArray[np.int64] | None = None,
    store: AnswerStore | None = None,
) -> pd.DataFrame:
    """`pixelrobust.evaluation.cells.evaluate_cells` by several processes, each its share of the images.

    Args:
        context: this process; all are given the same other arguments, but for the engine's device.
        task, design, unchanged, store: as in `evaluate_cells`.
        advance: told how many forward passes this process has done.

    Returns:
        The outcomes of all images, in the same order as by one process, in every process.

    Raises:
        InputError: see `evaluate_cells`.
    """
    keys, labels = task.keys, task.labels
    part = shard(len(keys), task.engine.batch_size, context)
    own: dict[Cell, NDArray[np.int64]] = {
        cell: np.empty((0, draws_of(cell, design.draws)), dtype=np.int64) for cell in design.cells
    }
    if part.start < part.stop:
        # Only indexed by arrays, which all kinds of images allow.
        rows = PixelRows(cast(Any, task.images), np.arange(part.start, part.stop))
        share = task._replace(images=rows, keys=keys[part], labels=labels[part])
        known = None if unchanged is None else unchanged[part]
        own = predict_cells(share, design, advance, known, store and store.shard(part))
    gathered = context.gather(own)
    whole = {cell: np.concatenate([tables[cell] for tables in gathered]) for cell in own}
    return make_outcomes(task.name, keys, labels, whole)
