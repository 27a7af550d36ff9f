"""Images shared among processes."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.datasets.cache import Advance, PixelRows
from pixelrobust.distributed.context import Context
from pixelrobust.engine import Engine
from pixelrobust.engine.feeding import Images
from pixelrobust.evaluation import draws_of, predict_cells
from pixelrobust.grid import Cell
from pixelrobust.outcomes import make_outcomes
from pixelrobust.store import AnswerStore


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
    store: AnswerStore | None = None,
) -> pd.DataFrame:
    """`pixelrobust.evaluation.evaluate_cells` by several processes, each its share of the images.

    Args:
        context: this process; all are given the same other arguments, but for the engine's device.
        engine, images, keys, labels, cells, draws, seed, name: as in `evaluate_cells`.
        advance: told how many forward passes this process has done.
        unchanged: as in `evaluate_cells`.
        store: as in `evaluate_cells`.

    Returns:
        The outcomes of all images, in the same order as by one process, in every process.

    Raises:
        InputError: see `evaluate_cells`.
    """
    part = shard(len(keys), engine.batch_size, context)
    own: dict[Cell, NDArray[np.int64]] = {
        cell: np.empty((0, draws_of(cell, draws)), dtype=np.int64) for cell in cells
    }
    if part.start < part.stop:
        # Only indexed by arrays, which all kinds of images allow.
        rows = PixelRows(cast(Any, images), np.arange(part.start, part.stop))
        own = predict_cells(
            engine, rows, keys[part], labels[part], cells, draws, seed, name, advance,
            None if unchanged is None else unchanged[part], store and store.shard(part),
        )  # fmt: skip
    gathered = context.gather(own)
    whole = {cell: np.concatenate([tables[cell] for tables in gathered]) for cell in own}
    return make_outcomes(name, keys, labels, whole)
