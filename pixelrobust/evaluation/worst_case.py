"""Search for the change of a few pixels that fools a network, by its scores alone.

The random search of Croce et al. (2022, "Sparse-RS", AAAI; the untargeted one of its Section 3) over
which pixels change and to which corner of the colour cube. In each query some of the changed pixels are
given up for others; a change stays where the margin of the true class falls.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrobust.datasets.decoded import Advance
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.engine import Engine
from pixelrobust.engine.base import label_margins, predicted_classes
from pixelrobust.engine.feeding import make_feed, split_batches
from pixelrobust.evaluation.cells import check_finite
from pixelrobust.evaluation.forward import Design, Task
from pixelrobust.outcomes.rows import cell_of, pixels_as_text, with_cell
from pixelrobust.perturbation.grid import Cell, Manner
from pixelrobust.perturbation.pixels import (
    ChangeRandomness,
    apply_change,
    change_at,
    draw_swaps,
    image_keys,
)

EXTREME = Manner(values="extreme")
"""How the search changes pixels, and random changes that it is compared with."""

# The share of the changed pixels that the first swap replaces, and the part of it that is left after so
# many of 10,000 queries; other budgets are scaled to these.
_FIRST_SHARE = 0.3
_SCHEDULE = (
    (50, 2), (200, 4), (500, 5), (1000, 6), (2000, 8), (4000, 10), (6000, 12), (8000, 15), (10_000, 20),
)  # fmt: skip
# Images of which all stay on the device while they are searched.
_AT_ONCE = 2048


def search_changes(
    task: Task,
    cell: Cell,
    seed: int,
    queries: int,
    advance: Advance = lambda done: None,
    context: Context = SINGLE,
) -> pd.DataFrame:
    """Search, for each image, for a change that the network misclassifies.

    The first query is the random change of draw 0 with extreme values; what the others try is a function
    of (seed, image key, query) and of what was kept before.

    Args:
        task: the network and the images, classified correctly unchanged.
        cell: num, 1 or more, amplitude and area of the changes.
        seed: 0 or more.
        queries: forward passes an image, at most.
        advance: told how many are done, or need not be done any more.
        context: this process among those that share the images.

    Returns:
        The same in every process: a row an image, with columns image, label, prediction (the label where
        none was found), query (the one that was misclassified, else the last) and pixels (that change, or
        the one of the smallest margin, see `pixels_as_text`).

    Raises:
        InputError: the cell does not fit the images, or the network gives logits that are not finite.
    """
    cell.check_fits((task.images.shape[-2], task.images.shape[-1]))

    def searched(part: slice) -> pd.DataFrame:
        own = task.take(part)
        blocks = split_batches(np.arange(len(own.keys)), _AT_ONCE)
        images = make_feed(own.images, own.engine.device).batches(blocks)
        parts = [
            _search(own, index, originals, cell, seed, queries, advance)
            for index, originals in zip(blocks, images, strict=True)
        ]
        return pd.concat(parts, ignore_index=True)

    shares = context.share(len(task.keys), task.engine.batch_size, searched)
    return pd.concat(shares, ignore_index=True)


def swapped(num: int, query: int, queries: int) -> int:
    """Return how many of num changed pixels a query replaces, 1 or more.

    Args:
        num: of pixels.
        query: 2 or more, the first query having drawn all of them.
        queries: of the search.
    """
    at = (query - 1) * 10_000 // queries
    part = next((part for until, part in _SCHEDULE if at <= until), _SCHEDULE[-1][1])
    return max(int(_FIRST_SHARE / (part if at > 0 else 1) * num), 1)


@dataclass
class _State:
    """Hold the best changes so far of P images.

    Attributes:
        positions: (P, num) int64.
        words: (P, num, C) int64.
        margins: (P,) of the label.
    """

    positions: Tensor
    words: Tensor
    margins: Tensor

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions and words of some images."""
        return self.positions[rows], self.words[rows]

    def put(self, rows: Tensor, positions: Tensor, words: Tensor, margins: Tensor) -> None:
        """Replace those of some images."""
        self.positions[rows], self.words[rows], self.margins[rows] = positions, words, margins


def _search(
    task: Task,
    index: NDArray[np.int64],
    originals: Tensor,
    cell: Cell,
    seed: int,
    queries: int,
    advance: Advance,
) -> pd.DataFrame:
    """Search on some images, as `search_changes` does; `originals` are those at the positions `index`."""
    engine, device = task.engine, task.engine.device
    keys = [task.keys[at] for at in index]
    labels = torch.as_tensor(task.labels[index]).to(device)
    words_of_keys = image_keys(keys, seed, device)
    first = ChangeRandomness(words_of_keys, torch.zeros_like(labels), originals.shape[1:], EXTREME)
    positions, words = first.positions(cell.num, cell.area), first.words(cell.num)
    best = _State(
        positions.clone(),
        words.clone(),
        labels.new_full(labels.shape, torch.inf, dtype=torch.float32),
    )
    prediction, query = labels.clone(), torch.full_like(labels, queries)
    left = torch.arange(len(labels), device=device)
    for turn in range(1, queries + 1):
        tried = best.take(left)
        if turn > 1:
            tried = _swapped(words_of_keys[left], turn, tried, cell, originals.shape[1:], queries)
        margins, classes = _shown(engine, originals, labels, left, tried, cell)
        check_finite(classes.cpu().numpy(), cell, [keys[at] for at in left.tolist()], task.name)
        fooled = classes != labels[left]
        better = fooled | (margins < best.margins[left])
        best.put(left[better], tried[0][better], tried[1][better], margins[better])
        prediction[left[fooled]], query[left[fooled]] = classes[fooled], turn
        # What is broken needs no more.
        advance(len(left) + (queries - turn) * int(fooled.sum()))
        left = left[~fooled]
        if not len(left):
            break
    changed = change_at(originals, best.positions, best.words, cell)
    return pd.DataFrame(
        {
            "image": keys,
            "label": task.labels[index].astype(np.int32),
            "prediction": prediction.cpu().numpy().astype(np.int32),
            "query": query.cpu().numpy().astype(np.int32),
            "pixels": _texts(changed, best.positions),
        }
    )


def _swapped(
    keys: Tensor,
    turn: int,
    tried: tuple[Tensor, Tensor],
    cell: Cell,
    image_shape: torch.Size,
    queries: int,
) -> tuple[Tensor, Tensor]:
    """Return positions and words after the swaps of a query."""
    positions, words = tried
    count = swapped(cell.num, turn, queries)
    swaps = draw_swaps(keys, turn, positions, cell.area, image_shape, count)
    index = swaps.places[:, :, None].expand_as(swaps.words)
    return positions.scatter(1, swaps.places, swaps.positions), words.scatter(1, index, swaps.words)


def _shown(
    engine: Engine,
    originals: Tensor,
    labels: Tensor,
    rows: Tensor,
    tried: tuple[Tensor, Tensor],
    cell: Cell,
) -> tuple[Tensor, Tensor]:
    """Return margins and classes of changes of the originals at `rows`, batch by batch."""
    parts = torch.split(rows, engine.batch_size)
    changes = zip(*(torch.split(one, engine.batch_size) for one in tried), strict=True)

    def batches() -> Iterator[Tensor]:
        for part, (positions, words) in zip(parts, changes, strict=True):
            yield change_at(originals[part], positions, words, cell)

    margins, classes = [], []
    for part, logits in zip(parts, engine.stream(batches()), strict=True):
        margins.append(label_margins(logits, labels[part]))
        classes.append(predicted_classes(logits))
    return torch.cat(margins), torch.cat(classes)


def clean_margins(task: Task) -> NDArray[np.float32]:
    """Return how far each label's logit lies above the largest other one of the unchanged image, (N,)."""
    batches = split_batches(np.arange(len(task.keys)), task.engine.batch_size)
    images = make_feed(task.images, task.engine.device).batches(batches)
    labels = (torch.as_tensor(task.labels[index]).to(task.engine.device) for index in batches)
    found = [
        label_margins(logits, own).cpu()
        for logits, own in zip(task.engine.stream(images), labels, strict=True)
    ]
    return torch.cat(found).numpy()


def pixels_of_first_flips(task: Task, outcomes: pd.DataFrame, design: Design) -> "pd.Series[str]":
    """Return the changed pixels of the first draw of each image in each cell that is misclassified.

    Args:
        task: what the outcomes are of.
        outcomes: one network's, of random changes.
        design: by whose seed and manner they were changed.

    Returns:
        Text, see `pixels_as_text`, by the index of the outcomes; empty for all other rows.
    """
    texts = pd.Series("", index=outcomes.index, dtype=object)
    wrong = outcomes[outcomes["wrong"] & (outcomes["num"] > 0)].sort_values("draw")
    by = ["num", "amplitude", "area"]
    place = {key: row for row, key in enumerate(task.keys)}
    for _, rows in wrong.drop_duplicates([*by, "image"]).groupby(by, dropna=False):
        for part in split_batches(np.arange(len(rows)), task.engine.batch_size):
            own = rows.iloc[part]
            images = torch.as_tensor(task.images[np.array([place[key] for key in own["image"]])])
            draws = torch.as_tensor(own["draw"].to_numpy(dtype=np.int64))
            keys = image_keys(list(own["image"]), design.seed)
            change = ChangeRandomness(keys, draws, images.shape[1:], design.manner)
            cell = cell_of(own)
            changed = apply_change(images, change, cell)
            found = _texts(changed, change.positions(cell.num, cell.area))
            texts.update(pd.Series(found, index=own.index, dtype=object))
    return texts


def searched_rows(found: pd.DataFrame, name: str, cell: Cell) -> pd.DataFrame:
    """Return what `search_changes` found as rows of outcomes: one an image, of draw 0."""
    wrong = found["prediction"] != found["label"]
    rows = found.assign(model=name, draw=np.int32(0), wrong=wrong)
    return with_cell(rows, cell)


def _texts(changed: Tensor, positions: Tensor) -> list[str]:
    """Return the changed pixels of (P, C, H, W) images at (P, K) flat positions as text, an image each."""
    width = changed.shape[-1]
    index = positions[:, None, :].expand(-1, changed.shape[1], -1)
    values = changed.flatten(2).gather(2, index)
    if values.is_floating_point():
        values = (values * 255).round()
    pixels = values.to(torch.uint8).transpose(1, 2).cpu().numpy()
    places = torch.stack([positions // width, positions % width], dim=2).cpu().numpy()
    return [pixels_as_text(*one) for one in zip(places, pixels, strict=True)]
