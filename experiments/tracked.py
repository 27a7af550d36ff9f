"""Logging of runs, where they are tracked: curves, tables, figures, examples, files.

Everything is read from the files that the run has written, so that what is logged is what lies there.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.paper import (
    FIGURE_1,
    FIGURE_1_TITLE,
    HISTORIES_TITLE,
    Experiment,
    experiment_called,
)
from pixelrobust.datasets.decoded import ImageSet
from pixelrobust.outcomes.kinds import (
    ACTIVATIONS,
    ADVERSARIAL,
    CELL_COLUMNS,
    DISTANCES,
    OUTCOMES,
    RETRAINING,
    TRANSFER,
    WORST_CASE,
    Kind,
    kind_of,
)
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.settings import RETRAINED, RunSettings
from pixelrobust.tracking import Picture, RunLog

if TYPE_CHECKING:
    from pixelrobust.figures.strip import Strip

_BESIDE = ("ci_low", "ci_high", "pixel_index")
_LIMITS = ("amplitude", "area")
_LOGGED = {
    OUTCOMES.name: ("wrong_rate", _BESIDE, ("model", *_LIMITS)),
    ADVERSARIAL.name: ("return_rate", _BESIDE, ("model", "images_are", "epsilon", *_LIMITS)),
    ACTIVATIONS.name: ("ratio", (), ("model", *_LIMITS)),
    RETRAINING.name: ("wrong_rate", _BESIDE, ("model", "images_are", *_LIMITS)),
    TRANSFER.name: ("fooled_rate", (), ("model", "against", "epsilon", "rounded")),
    DISTANCES.name: ("median", (), ("model", "images_are")),
    WORST_CASE.name: ("broken_rate", _BESIDE[:2], ("model", "method", "queries", *_LIMITS)),
}
"""For each kind, columns of its table: what it is about, what is drawn beside it, what tells curves apart."""
# As the options of the config groups are called.
_PREFIXES = {"amplitude": "r", "area": "p", "epsilon": "epsilon"}
_UNLIMITED = {"amplitude": "full", "area": "whole"}


def log_epoch(log: RunLog, name: str, seed: int, row: dict[str, Any]) -> None:
    """Log an epoch of a retraining that goes on: loss and accuracy over epochs, a curve a network.

    Args:
        log: of the run.
        name, seed: of the network that is retrained.
        row: its loss and accuracy, and the epoch.
    """
    curve = _plain(f"{name} seed {seed}" if seed else name)
    log.curves("epoch", "loss", "accuracy")
    values = {f"{column}/{curve}": float(row[column]) for column in ("loss", "accuracy")}
    log.values({"epoch": row["epoch"]} | values)


def log_results(log: RunLog, settings: RunSettings, directory: Path, manifest: Manifest) -> None:
    """Log what a run has written into its folder.

    Args:
        log, settings: of the run.
        directory: where its results lie.
        manifest: of the run.
    """
    experiment = experiment_called(manifest.name)
    log.summary(
        {
            "directory": str(directory),
            "images": manifest.images,
            "candidates": manifest.candidates,
            "draws": manifest.draws,
            "image_list_sha256": manifest.image_list_sha256,
            "seconds": manifest.seconds,
        }
    )
    # A profile's folder may hold those of other runs too.
    histories = settings.measure in RETRAINED
    tables = dict(_tables(directory, experiment, histories))
    if experiment.table in tables:
        _log_rates(log, tables[experiment.table], kind_of(manifest.config))
    for name, table in tables.items():
        log.table(name, table)
    figures = dict(_figures(experiment, histories))
    if settings.pictures:
        figures[FIGURE_1] = FIGURE_1_TITLE
    for name, title in figures.items():
        path = directory / f"{name}.png"
        if path.is_file():
            log.pictures(f"figures/{name}", [(path, title)])
    stem = directory / "outcomes" / experiment.table
    files = [stem.with_suffix(suffix) for suffix in (".parquet", ".json")]
    log.files(f"{manifest.name}-outcomes", "outcomes", files)


def log_examples(
    log: RunLog, settings: RunSettings, images: ImageSet, outcomes: pd.DataFrame
) -> None:
    """Log images that flip, unchanged and at the fewest changed pixels that flip them.

    Args:
        log: of the run.
        settings: of the run.
        images: all of them.
        outcomes: of one network or several, in any cells.
    """
    count = settings.tracking.examples if settings.tracking else 0
    if not count or kind_of(settings.identity()) is not OUTCOMES:
        return
    changed = outcomes[outcomes["num"] > 0]
    if changed.empty:
        return
    # Loads Matplotlib, which only runs that are logged need here.
    from experiments.pictures import example_strips

    # Strips are of one amplitude and area: of several, the first.
    cell = changed[CELL_COLUMNS[1:]].iloc[0]
    chosen = (outcomes["num"] == 0) | (
        outcomes[CELL_COLUMNS[1:]].fillna(-1) == cell.fillna(-1)
    ).all(axis=1)
    strips = example_strips(settings, images, outcomes[chosen], count)
    log.pictures("examples", [picture for strip in strips for picture in _before_after(strip)])


def curve_points(table: pd.DataFrame, kind: Kind) -> dict[int, dict[str, float]]:
    """Return what is drawn over num: for each, rates with intervals and Pixel-indices, by name.

    Args:
        table: as it was written.
        kind: of the rows that it was made of; cells are among their keys.
    """
    rate, beside, series = _LOGGED[kind.name]
    points: dict[int, dict[str, float]] = {}
    for num, name, row in _with_controls(table, series):
        values = {f"{column}/{name}": float(row[column]) for column in (rate, *beside)}
        known = {key: value for key, value in values.items() if not np.isnan(value)}
        points.setdefault(num, {}).update(known)
    return dict(sorted(points.items()))


def _log_rates(log: RunLog, table: pd.DataFrame, kind: Kind) -> None:
    """Log rates over num where there is one, else rates of the run as a whole."""
    rate, _, series = _LOGGED[kind.name]
    if "num" in kind.keys:
        log.curves("num", rate, *_BESIDE)
        for num, values in curve_points(table, kind).items():
            log.values({"num": num} | values)
        return
    rates = {f"{rate}/{name}": table[rate][row] for row, name in _names(table, series).items()}
    log.summary({name: float(value) for name, value in rates.items() if not pd.isna(value)})


def _with_controls(
    table: pd.DataFrame, series: Sequence[str]
) -> Iterator[tuple[int, str, pd.Series]]:
    """Yield rows with num and name of their curve; unchanged images begin every curve of a network."""
    changed = table["num"] > 0
    names = _names(table, series, changed)
    inside = [column for column in series if column not in CELL_COLUMNS]
    for place, row in table.iterrows():
        if row["num"] or not changed.any():
            yield int(row["num"]), names[place], row
            continue
        same = (table[inside].astype(str) == row[inside].astype(str)).all(axis=1)
        for name in dict.fromkeys(names[other] for other in table.index[same & changed]):
            yield 0, name, row


def _names(
    table: pd.DataFrame, series: Sequence[str], compared: "pd.Series[bool] | None" = None
) -> dict[Any, str]:
    """Return, for each row's place, the name of its curve: the network, and whatever else differs.

    Args:
        table: of all rows.
        series: columns that tell curves apart.
        compared: rows among which columns differ; None: all.
    """
    rows = table if compared is None else table[compared]
    varying = [
        column for column in series if column == "model" or rows[column].nunique(dropna=False) > 1
    ]
    names = {
        place: " ".join(_word(column, row[column]) for column in varying)
        for place, row in table.iterrows()
    }
    plain: dict[str, str] = {}
    for name in dict.fromkeys(names.values()):
        plain[name] = _plain(name)
        while list(plain.values()).count(plain[name]) > 1:
            plain[name] += "_"
    return {place: plain[name] for place, name in names.items()}


def _word(column: str, value: Any) -> str:
    if column == "rounded":
        return "rounded" if value else "unrounded"
    if pd.isna(value):
        return _UNLIMITED.get(column, "none")
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{_PREFIXES.get(column, '')}{text}"


def _plain(name: str) -> str:
    """Return a name in characters that W&B can draw and sort by."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")


def _tables(
    directory: Path, experiment: Experiment, histories: bool
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the tables that a run of this experiment writes, by name."""
    names = [experiment.table, *([experiment.histories] if histories else [])]
    if experiment.flips:
        names += [experiment.flips, f"{experiment.flips}-pairs"]
    for name in names:
        path = directory / f"{name}.csv"
        if path.is_file():
            yield name, pd.read_csv(path)


def _figures(experiment: Experiment, histories: bool) -> Iterator[tuple[str, str]]:
    """Yield the figures that such a run may draw, with their titles."""
    yield experiment.figure, experiment.figure_title
    if histories:
        yield experiment.histories, HISTORIES_TITLE
    if experiment.flips:
        yield experiment.flips, experiment.of_flips().figure_title


def _before_after(strip: "Strip") -> Iterator[tuple[Picture, str]]:
    """Yield the unchanged image of a strip, and the one that flips first; else the one changed most."""
    flips = [place for place, models in enumerate(strip.flips()) if models]
    for place in (0, flips[0] if flips else len(strip.nums) - 1):
        found = ", ".join(f"{model}: {words[place]}" for model, words in strip.predictions.items())
        caption = f"{strip.key} ({strip.label}), {strip.nums[place]} changed pixels. {found}"
        yield np.ascontiguousarray(strip.images[place].transpose(1, 2, 0)), caption
