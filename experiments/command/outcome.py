"""What `pixelrobust evaluate` prints when it is done."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from experiments.paper import experiment_called
from experiments.report import show_tables
from experiments.writing import Presented
from pixelrobust.escaping import printable
from pixelrobust.ranking import indices_for_reading, pixel_indices
from pixelrobust.settings import RunSettings


def show_outcome(directory: Path, settings: RunSettings, presented: Sequence[Presented]) -> None:
    """Print tables with what they show, the Pixel-index, and where everything lies."""
    show_tables([*presented, *_indices(directory, settings)])
    notes = [note for each in presented for note in each.notes]
    files = ", ".join(sorted(path.name for path in directory.iterdir()))
    lines = [*notes, "", f"{directory} holds {files}", f"again: pixelrobust report {directory}"]
    for line in lines:
        Console().print(printable(line), markup=False, soft_wrap=True, highlight=False)


def _indices(directory: Path, settings: RunSettings) -> list[Presented]:
    """The Pixel-index of every changed cell; none where something else was measured."""
    table = pd.read_csv(directory / f"{experiment_called(settings.name).table}.csv")
    if "pixel_index" not in table or not table["num"].any():
        return []
    side = settings.dataset.preprocessing.crop
    cells = table.astype({"amplitude": "Int16", "area": "Int32"})
    indices = pixel_indices([cells], (side, side), settings.pixel_index.amplitude_share)
    title = "Pixel-index: wrong rate per share of the image that was changed"
    return [Presented(title, indices_for_reading(indices, (side, side)), [])]
