"""Pictures of images that flip, changed again pixel for pixel; predictions are the stored ones."""

import base64
import io

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from experiments.page.folder import Stored
from experiments.pictures import FRAGILE, words_for_classes
from experiments.progress import Progress
from experiments.records import RunRecord
from experiments.resources import Session, image_set
from experiments.verification.stored import rows_of
from pixelrobust.errors import InputError
from pixelrobust.examples import flipping_examples, strips_from_outcomes
from pixelrobust.figures_strip import Strip
from pixelrobust.manifest import Manifest
from pixelrobust.outcomes import CELL_COLUMNS, COLUMNS, cell_of, concatenate
from pixelrobust.perturbation import PixelChange
from pixelrobust.report import Card, Gallery, Stop
from pixelrobust.settings import RunSettings

# Together they show few pixels and many; both are of draws of the same images.
_RUNS = ("table6", "breakdown", "table")
_MOST_CARDS = 6
# Of a page, with all its pictures, that is still sent and opened with ease.
_MOST_BYTES = 6_500_000
_SAME = ("image_list_sha256", "weights_sha256", "image_size")
_STORED = (
    "Pixels were changed again from the images, by the seed of the runs (draw 0); the predictions are "
    "those that the runs stored."
)


def draw_gallery(stored: Stored, settings: RunSettings) -> tuple[Gallery, list[str]]:
    """The images that flip at the fewest changed pixels, under every num that was tried.

    Args:
        stored: results.
        settings: where the images and the cache are.

    Returns:
        The gallery, and its captions.

    Raises:
        InputError: no run has pictures to show, or these are not the images of the run.
    """
    manifest, outcomes = _runs_together(stored)
    progress = Progress(Console(quiet=True))
    record = RunRecord(settings, False, progress.say)
    images = image_set(Session(settings.on_device("auto"), progress, record))
    rows = rows_of(images, manifest, outcomes)
    position = {images.keys[row]: row for row in rows}
    cell = cell_of(outcomes[outcomes["num"] > 0])
    seed = int(manifest.config["seed"])

    def changed(key: str, num: int) -> NDArray[np.uint8]:
        image = torch.tensor(np.asarray(images.pixels[position[key]]))[None]
        return np.asarray(PixelChange(num, cell.amplitude, cell.area, seed)(image, [key])[0])

    keys = flipping_examples(outcomes, _MOST_CARDS)
    strips = strips_from_outcomes(outcomes, keys, changed, words_for_classes(settings, images))
    stops = [f"{num:,}" for num in strips[0].nums]
    height, width = manifest.image_size
    label = f"Changed pixels, of {height * width:,}"
    gallery = Gallery(label, stops, _fitting([_card(strip) for strip in strips]), (width, height))
    return gallery, [f"{FRAGILE} {_STORED}"]


def _runs_together(stored: Stored) -> tuple[Manifest, pd.DataFrame]:
    """Outcomes over num of the runs that saw the same changes of the same images."""
    kept: list[tuple[Manifest, pd.DataFrame]] = []
    for name in _RUNS:
        rows = stored.rows(name) if name in stored.manifests else None
        if (
            rows is None
            or list(rows.columns) != COLUMNS
            or "seed" not in stored.manifests[name].config
        ):
            continue
        if kept and not _joins(kept[0], (stored.manifests[name], rows)):
            continue
        if (rows["num"] > 0).any() and len(_limits(rows)) == 1:
            kept.append((stored.manifests[name], rows))
    if not kept:
        raise InputError(
            f"{stored.folder} holds no run over num alone, of which pictures are shown; run "
            "`make reproduce-table6` or `make breakdown` first."
        )
    return kept[0][0], concatenate([rows for _, rows in kept])


def _joins(first: tuple[Manifest, pd.DataFrame], other: tuple[Manifest, pd.DataFrame]) -> bool:
    (one, rows), (two, more) = first, other
    same = all(getattr(one, key) == getattr(two, key) for key in _SAME)
    return same and one.config["seed"] == two.config["seed"] and _limits(rows) == _limits(more)


def _limits(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    """The different amplitudes and areas of the changed cells."""
    limits = rows.loc[rows["num"] > 0, CELL_COLUMNS[1:]].astype("Int64").fillna(-1)
    return list(limits.drop_duplicates().itertuples(index=False, name=None))


def _card(strip: Strip) -> Card:
    stops = [
        Stop(
            _data_uri(picture),
            [
                (model, words[index], words[index] == strip.label)
                for model, words in strip.predictions.items()
            ],
        )
        for index, picture in enumerate(strip.images)
    ]
    return Card(strip.label, stops)


def _fitting(cards: list[Card]) -> list[Card]:
    """The first cards, as many as a page has room for; one at least."""
    sizes = np.cumsum([sum(len(stop.picture) for stop in card.stops) for card in cards])
    return cards[: max(1, int((sizes <= _MOST_BYTES).sum()))]


def _data_uri(picture: NDArray[np.uint8]) -> str:
    """Lossless, since single pixels count."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(
        file, "WEBP", lossless=True, quality=80, method=4
    )
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
