"""Search for the change of a few pixels that fools a network, by its scores alone.

The random search of Croce et al. (2022, "Sparse-RS", AAAI; the untargeted one of its Section 3) over
which pixels change and to which corner of the colour cube. In each query some of the changed pixels are
given up for others; a change stays where the margin of the true class falls.
"""

from collections.abc import Iterator, Sequence

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
from pixelrobust.outcomes.rows import cell_of, make_outcomes, pixels_as_text
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
    cells: Sequence[Cell],
    seed: int,
    queries: int,
    advance: Advance = lambda done: None,
    context: Context = SINGLE,
) -> pd.DataFrame:
    """Search, for each image and cell, for a change that the network misclassifies.

    The first query is the random change of draw 0 with extreme values; what the others try is a function
    of (seed, image key, query) and of what was kept before.

    Args:
        task: the network and the images, classified correctly unchanged.
        cells: num, 1 or more, amplitude and area of the changes.
        seed: 0 or more.
        queries: forward passes for each image and cell, at most.
        advance: told how many are done, or need not be done any more.
        context: this process among those that share the images.

    Returns:
        The same in every process: outcomes (`pixelrobust.outcomes.kinds.OUTCOMES`), one for each image and
        cell, of draw 0, with the label as prediction where none was found; and columns query (the one
        that was misclassified, else the last) and pixels (that change, or the one of the smallest
        margin, see `pixels_as_text`).

    Raises:
        InputError: a cell does not fit the images, or the network gives logits that are not finite.
    """
    for cell in cells:
        cell.check_fits((task.images.shape[-2], task.images.shape[-1]))

    def searched(part: slice) -> list[pd.DataFrame]:
        own = task.take(part)
        blocks = split_batches(np.arange(len(own.keys)), _AT_ONCE)
        images = make_feed(own.images, own.engine.device).batches(blocks)
        found = [
            _search_block(own, index, originals, cells, seed, queries, advance)
            for index, originals in zip(blocks, images, strict=True)
        ]
        return [pd.concat(of_cell) for of_cell in zip(*found, strict=True)]

    shares = context.share(len(task.keys), task.engine.batch_size, searched)
    # All images of a cell, then of the next.
    ordered: list[pd.DataFrame] = [
        rows for of_cell in zip(*shares, strict=True) for rows in of_cell
    ]
    return pd.concat(ordered, ignore_index=True)


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


class _Search:
    """The search in one cell, on some images that stay on the device.

    Args:
        cell: of the changes.
        originals: (P, C, H, W).
        labels: (P,).
        keys: (P, 2), from `image_keys`.
        queries: of the search.
    """

    def __init__(
        self, cell: Cell, originals: Tensor, labels: Tensor, keys: Tensor, queries: int
    ) -> None:
        self.cell, self._originals, self._labels = cell, originals, labels
        self._keys, self._queries = keys, queries
        first = ChangeRandomness(keys, torch.zeros_like(labels), originals.shape[1:], EXTREME)
        # The best changes so far.
        self._positions = first.positions(cell.num, cell.area).clone()
        self._words = first.words(cell.num).clone()
        self._margins = torch.full(labels.shape, torch.inf, device=labels.device)
        self.prediction, self.query = labels.clone(), torch.full_like(labels, queries)
        self.left = torch.arange(len(labels), device=labels.device)
        self._tried = self._positions, self._words

    def propose(self, turn: int) -> None:
        """Say what a query is to try on the images that are left."""
        positions, words = self._positions[self.left], self._words[self.left]
        if turn > 1:
            count = swapped(self.cell.num, turn, self._queries)
            shape, area = self._originals.shape[1:], self.cell.area
            swaps = draw_swaps(self._keys[self.left], turn, positions, area, shape, count)
            index = swaps.places[:, :, None].expand_as(swaps.words)
            positions = positions.scatter(1, swaps.places, swaps.positions)
            words = words.scatter(1, index, swaps.words)
        self._tried = positions, words

    def changed(self, part: slice) -> Tensor:
        """Return some of the images that are left, with what is tried."""
        positions, words = (one[part] for one in self._tried)
        return change_at(self._originals[self.left[part]], positions, words, self.cell)

    def learn(self, turn: int, margins: Tensor, classes: Tensor) -> int:
        """Keep what lowers the margin, and leave what is misclassified; return how many images that are."""
        left = self.left
        fooled = classes != self._labels[left]
        better = fooled | (margins < self._margins[left])
        at = left[better]
        self._positions[at], self._words[at] = (one[better] for one in self._tried)
        self._margins[at] = margins[better]
        self.prediction[left[fooled]], self.query[left[fooled]] = classes[fooled], turn
        self.left = left[~fooled]
        return len(left) - len(self.left)

    def pixels(self) -> list[str]:
        """Return the best changes as text."""
        changed = change_at(self._originals, self._positions, self._words, self.cell)
        return _texts(changed, self._positions)


def _search_block(
    task: Task,
    index: NDArray[np.int64],
    originals: Tensor,
    cells: Sequence[Cell],
    seed: int,
    queries: int,
    advance: Advance,
) -> list[pd.DataFrame]:
    """Search on some images, as `search_changes` does; return rows for each cell.

    Args:
        index: positions of the images.
        originals: (P, C, H, W), these images on the device.
        task, cells, seed, queries, advance: as there.
    """
    keys = [task.keys[at] for at in index]
    labels = torch.as_tensor(task.labels[index]).to(task.engine.device)
    words_of_keys = image_keys(keys, seed, task.engine.device)
    searches = [_Search(cell, originals, labels, words_of_keys, queries) for cell in cells]
    for turn in range(1, queries + 1):
        active = [search for search in searches if len(search.left)]
        if not active:
            break
        for search in active:
            search.propose(turn)
        for search, margins, classes in zip(
            active, *_shown(task.engine, active, labels), strict=True
        ):
            tried = [keys[at] for at in search.left.tolist()]
            check_finite(classes.cpu().numpy(), search.cell, tried, task.name)
            # What is broken needs no more.
            advance(len(tried) + (queries - turn) * search.learn(turn, margins, classes))
    parts = []
    for search in searches:
        predictions = {search.cell: search.prediction.cpu().numpy()[:, None]}
        found = make_outcomes(task.name, keys, task.labels[index], predictions)
        query = search.query.cpu().numpy().astype(np.int32)
        plain = found.astype({"image": object, "model": object})
        parts.append(plain.assign(query=query, pixels=search.pixels()))
    return parts


def _shown(
    engine: Engine, searches: Sequence[_Search], labels: Tensor
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Show what is tried, in batches over all searches; return margins and classes of each search."""

    def batches() -> Iterator[Tensor]:
        parts: list[Tensor] = []
        room = engine.batch_size
        for search in searches:
            start = 0
            while start < len(search.left):
                part = slice(start, start + room)
                parts.append(search.changed(part))
                start, room = start + len(parts[-1]), room - len(parts[-1])
                if not room:
                    yield torch.cat(parts)
                    parts, room = [], engine.batch_size
        if parts:
            yield torch.cat(parts)

    logits = torch.cat(list(engine.stream(batches())))
    sizes = [len(search.left) for search in searches]
    margins = label_margins(logits, torch.cat([labels[search.left] for search in searches]))
    return torch.split(margins, sizes), torch.split(predicted_classes(logits), sizes)


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
