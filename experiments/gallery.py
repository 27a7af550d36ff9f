"""The gallery of a page: images that flip, changed again pixel for pixel; predictions are the stored ones."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from experiments.paper import experiment_called
from experiments.pictures import FRAGILE, example_strips
from experiments.session import Progress, Session, image_set, rows_of
from experiments.stored import Run
from pixelrobust.errors import InputError
from pixelrobust.figures.strip import Strip
from pixelrobust.outcomes.kinds import CELL_COLUMNS, OUTCOMES, kind_of
from pixelrobust.outcomes.rows import concatenate
from pixelrobust.report.page import Card, Gallery
from pixelrobust.settings import RunSettings

_STORED = (
    "Pixels were changed again from the images, by the seed of the runs (draw 0); the predictions are "
    "those that the runs stored."
)
# Stems of outcomes; together they show few pixels and many, both of draws of the same images.
_RUNS = ("table6", "breakdown", "table")
_SAME = ("image_list_sha256", "weights_sha256", "image_size")
_MOST_CARDS = 6
# Of a page that, with all its pictures, is still sent and opened with ease.
_MOST_BYTES = 1_100_000


def draw_gallery(
    folder: Path, runs: Mapping[str, Run], settings: RunSettings
) -> tuple[Gallery, str]:
    """Return the images that flip at the fewest changed pixels, under every num that was tried.

    Args:
        folder: of the results.
        runs: manifest and rows of its runs, by the experiment's name.
        settings: where the images and the cache are.

    Returns:
        The gallery, and its caption.

    Raises:
        InputError: no run has pictures to show, or these are not the images of the run.
    """
    manifest, outcomes = _runs_together(folder, runs)
    progress = Progress(Console(quiet=True))
    images = image_set(Session(settings.on_device("auto"), progress))
    rows = rows_of(images, manifest, list(outcomes["image"].cat.categories))
    of_run = settings.model_copy(update={"seed": int(manifest.config["seed"])})
    strips = example_strips(of_run, images, outcomes, _MOST_CARDS, list(map(int, rows)))
    height, width = manifest.image_size
    gallery = Gallery(
        f"Changed pixels, of {height * width:,}",
        [f"{num:,}" for num in strips[0].nums],
        _fitting([card_of(strip) for strip in strips]),
        (width, height),
    )
    return gallery, f"{FRAGILE} {_STORED}"


def _runs_together(folder: Path, runs: Mapping[str, Run]) -> Run:
    """Return the outcomes over num of the runs that saw the same changes of the same images."""
    kept: list[Run] = []
    by_stem = {experiment_called(name).table: run for name, run in runs.items()}
    for run in (by_stem[stem] for stem in _RUNS if stem in by_stem):
        manifest, rows = run
        if kind_of(manifest.config) is not OUTCOMES or "seed" not in manifest.config:
            continue
        if not (rows["num"] > 0).any() or len(_limits(rows)) != 1:
            continue
        if not kept or _joins(kept[0], run):
            kept.append(run)
    if not kept:
        raise InputError(
            f"{folder} holds no run over num alone, of which pictures are shown; run "
            "`make reproduce-table6` or `make breakdown` first."
        )
    return kept[0][0], concatenate([rows for _, rows in kept])


def _joins(first: Run, other: Run) -> bool:
    (one, rows), (two, more) = first, other
    same = all(getattr(one, key) == getattr(two, key) for key in _SAME)
    return same and one.config["seed"] == two.config["seed"] and _limits(rows) == _limits(more)


def _limits(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    """Return the different amplitudes and areas of the changed cells."""
    limits = rows.loc[rows["num"] > 0, CELL_COLUMNS[1:]].astype("Int64").fillna(-1)
    return list(limits.drop_duplicates().itertuples(index=False, name=None))


def card_of(strip: Strip) -> Card:
    before = [None, *strip.images[:-1]]
    return Card(
        strip.label,
        [_layer(*pair) for pair in zip(strip.images, before, strict=True)],
        [
            [
                (model, words[place], words[place] == strip.label)
                for model, words in strip.predictions.items()
            ]
            for place in range(len(strip.nums))
        ],
    )


def _layer(picture: NDArray[np.uint8], before: NDArray[np.uint8] | None) -> str:
    """Return the pixels in which a picture differs from the one before it, as a data URI.

    Lossless, since single pixels count; and those alone, since random pixels cannot be compressed.
    """
    pixels = np.broadcast_to(picture, (3, *picture.shape[1:])).transpose(1, 2, 0)
    if before is not None:
        differs = (picture != before).any(axis=0)[..., None]
        pixels = np.concatenate([pixels * differs, np.uint8(255) * differs], axis=2)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", lossless=True, quality=100)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _fitting(cards: list[Card]) -> list[Card]:
    """Return the first cards, as many as a page has room for; one at least."""
    sizes = np.cumsum([sum(map(len, card.layers)) for card in cards])
    return cards[: max(1, int((sizes <= _MOST_BYTES).sum()))]
