"""Pictures of images that flip, and what the networks take them for (the paper's Figure 1)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from experiments.captions import images_notes
from experiments.paper import FIGURE_1, FIGURE_1_TITLE
from pixelrobust.datasets.classes import ClassNames, imagenet_class_names, read_class_names
from pixelrobust.datasets.decoded import ImageSet
from pixelrobust.figures import write_figure
from pixelrobust.figures.strip import (
    Strip,
    flipping_examples,
    picture_strip,
    shortened,
    strips_from_outcomes,
)
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.outcomes.rows import cell_of
from pixelrobust.perturbation.pixels import PixelChange
from pixelrobust.settings import RunSettings

_SOME = "More numbers of changed pixels were tried than are shown."
FRAGILE = "These flip at the fewest changed pixels of all images of the run; they are not typical."


def draw_pictures(
    directory: Path,
    settings: RunSettings,
    images: ImageSet,
    manifest: Manifest,
    outcomes: pd.DataFrame,
) -> None:
    """Write the figure: `settings.pictures` images in draw 0, under as many nums as a page has room for."""
    strips = example_strips(settings, images, outcomes, settings.pictures)
    shown = shortened(strips)
    left_out = [_SOME] if len(shown[0].nums) < len(strips[0].nums) else []
    caption = " ".join([FRAGILE, *left_out, *images_notes(manifest, None, intervals=False)])
    figure = picture_strip(shown, FIGURE_1_TITLE, caption)
    write_figure(figure, directory / FIGURE_1, photographs=True)


def example_strips(
    settings: RunSettings,
    images: ImageSet,
    outcomes: pd.DataFrame,
    count: int,
    rows: Sequence[int] | None = None,
) -> list[Strip]:
    """Return the images that flip at the fewest changed pixels, each under every num, in draw 0.

    Args:
        settings: of the run; its seed decides which pixels change.
        images: all of them.
        outcomes: of the run.
        count: how many images.
        rows: of the images that took part; None: all.

    Raises:
        InputError: the outcomes are of several amplitudes or areas.
    """
    keys = flipping_examples(outcomes, count)
    cell = cell_of(outcomes[outcomes["num"] > 0])
    places = {images.keys[row]: row for row in (range(len(images)) if rows is None else rows)}

    def changed(key: str, num: int) -> NDArray[np.uint8]:
        image = torch.tensor(np.asarray(images.pixels[places[key]]))[None]
        manner = settings.perturbation.manner
        change = PixelChange(num, cell.amplitude, cell.area, settings.seed, *manner)
        return np.asarray(change(image, [key], 0)[0].numpy())

    return strips_from_outcomes(outcomes, keys, changed, _words_for_classes(settings, images))


def _words_for_classes(settings: RunSettings, images: ImageSet) -> ClassNames:
    """Return what pictures call the outputs: as file or data set say, else ImageNet's, or numbers."""
    if isinstance(settings.dataset.classes, Path):
        return read_class_names(settings.dataset.classes)
    outputs = max(model.classes for model in settings.models.values())
    if images.classes is not None and len(images.classes) >= outputs:
        return images.classes
    names = imagenet_class_names()
    return names if outputs == len(names) else tuple((f"class {k}",) for k in range(outputs))
