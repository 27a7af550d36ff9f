"""From outcomes and manifest to table and figure files; nothing here evaluates anything."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.captions import (
    amplification_notes,
    flips_notes,
    published_notes,
    ranking_notes,
    returns_notes,
    wrong_rate_notes,
)
from experiments.paper import DESCRIPTIONS, TABLE_5, Experiment, beside_published, experiment_called
from experiments.retraining.presentation import (
    present_distances,
    present_retraining,
    present_transfer,
)
from experiments.writing import Presented, write_tables
from pixelrobust.amplification import (
    summarize_amplification,
    tabulate_verdicts,
    verdicts_for_reading,
)
from pixelrobust.figures import curves, write_figure
from pixelrobust.figures_amplification import amplification_curves
from pixelrobust.figures_ranking import pixel_index_curves
from pixelrobust.figures_returns import returns_map
from pixelrobust.figures_survival import survival_figure
from pixelrobust.files import check_inside, remove_leftovers
from pixelrobust.grid import Cell
from pixelrobust.manifest import Manifest, read_manifest
from pixelrobust.outcomes import read_outcomes, write_outcomes
from pixelrobust.ranking import (
    indices_for_reading,
    pixel_indices,
    rank_models,
    ranking_for_reading,
)
from pixelrobust.returns import returns_for_reading, summarize_returns
from pixelrobust.survival_tables import (
    compare_survival,
    pairs_for_reading,
    survival_curves,
    survival_for_reading,
    tabulate_survival,
)
from pixelrobust.tables import (
    for_reading,
    markdown_table,
    summarize,
    with_missing,
    write_csv,
)

Run = tuple[Manifest, pd.DataFrame]


def store_run(directory: Path, manifest: Manifest, outcomes: pd.DataFrame) -> None:
    """Write what a run found, and who found it where."""
    for folder in (directory, directory / "outcomes"):
        remove_leftovers(folder)
    check_inside(directory / "outcomes", directory.parent)
    path = outcomes_file(directory, manifest.name)
    write_outcomes(outcomes, path)
    manifest.write(path.with_suffix(".json"))


def outcomes_file(directory: Path, name: str) -> Path:
    """Where `store_run` writes the outcomes of the experiment of this name."""
    return directory / "outcomes" / f"{experiment_called(name).table}.parquet"


def load_run(directory: Path, name: str) -> Run:
    """Read what `store_run` wrote for the experiment of this name."""
    path = outcomes_file(directory, name)
    return read_manifest(path.with_suffix(".json")), read_outcomes(path)


def stored_runs(directory: Path) -> dict[str, Run]:
    """All that `store_run` wrote into a folder, by the experiment's name."""
    manifests = [read_manifest(path) for path in sorted(directory.glob("outcomes/[!.]*.json"))]
    return {manifest.name: load_run(directory, manifest.name) for manifest in manifests}


def present(
    directory: Path,
    manifest: Manifest,
    outcomes: pd.DataFrame,
    missing: Sequence[tuple[str, Cell]] = (),
) -> list[Presented]:
    """Write tables (CSV, Markdown, LaTeX) and figures (PNG, PDF) of a run.

    Args:
        directory: where to.
        manifest, outcomes: of the run.
        missing: models and cells that a table of wrong rates is to list as missing.
    """
    experiment = experiment_called(manifest.name)
    if "against" in outcomes:
        return present_transfer(directory, manifest, outcomes, experiment)
    if "epsilon" in outcomes:
        return [_present_returns(directory, manifest, outcomes, experiment)]
    if "layer" in outcomes:
        return [_present_amplification(directory, manifest, outcomes, experiment)]
    if "draw" in outcomes and "training_seed" in outcomes:
        return present_retraining(directory, manifest, outcomes, experiment)
    if "distance" in outcomes:
        return present_distances(directory, manifest, outcomes, experiment)
    summary = summarize(outcomes, manifest.image_size, manifest.amplitude_share)
    presented = [_present_rates(directory, manifest, summary, experiment, missing)]
    if experiment.flips and _what_varies(summary) == "model":
        presented.append(_present_flips(directory, manifest, outcomes, experiment))
    return presented


def present_description(directory: Path, name: str, table: pd.DataFrame) -> list[Presented]:
    """Write one of the tables that describe rather than measure, given its name."""
    check_inside(directory, directory.parent)
    title, note = DESCRIPTIONS[name]
    readable = table.rename(columns=lambda column: column.replace("_", " ").capitalize())
    readable = readable.map(_readable)
    write_tables(directory, name, title, table, readable, [note], [])
    return [Presented(title, readable, [note])]


def present_indices(directory: Path, runs: list[Run]) -> list[Presented]:
    """Write the Pixel-index of every cell of several runs over the same images, and the ranking."""
    manifest = runs[0][0]
    size, share = manifest.image_size, manifest.amplitude_share
    indices = pixel_indices([summarize(rows, size, share) for _, rows in runs], size, share)
    notes = ranking_notes(manifest)
    readable = indices_for_reading(indices, size)
    ranking = _present_ranking(directory, manifest, indices)
    below = [] if ranking is None else [
        f"## {ranking.title}", markdown_table(ranking.table), *ranking.notes,
    ]  # fmt: skip
    write_tables(directory, TABLE_5.table, TABLE_5.title, indices, readable, notes, below)
    figure = pixel_index_curves(indices, TABLE_5.figure_title, " ".join(notes[1:]))
    write_figure(figure, directory / TABLE_5.figure)
    presented = Presented(TABLE_5.title, readable, notes)
    return [presented] if ranking is None else [presented, ranking]


def _present_ranking(
    directory: Path, manifest: Manifest, indices: pd.DataFrame
) -> Presented | None:
    """Networks side by side; None where accuracies, or cells without limits, are not there."""
    unlimited = indices["amplitude"].isna() & indices["area"].isna()
    if not unlimited.any() or not set(indices["model"]) <= set(manifest.rejected):
        return None
    accuracies = {model: 1 - n / manifest.candidates for model, n in manifest.rejected.items()}
    ranking = rank_models(indices, accuracies)
    write_csv(ranking, directory / f"{TABLE_5.table}-ranking.csv")
    note = "Accuracy is on all candidates, unchanged; Pi is that of the largest num without limits."
    return Presented(
        "Networks by accuracy and by Pixel-index", ranking_for_reading(ranking), [note]
    )


def _present_rates(
    directory: Path,
    manifest: Manifest,
    summary: pd.DataFrame,
    experiment: Experiment,
    missing: Sequence[tuple[str, Cell]],
) -> Presented:
    """The table of wrong rates, and their curves."""
    notes = wrong_rate_notes(manifest, summary)
    whole = with_missing(summary, missing)
    readable = for_reading(whole, manifest.image_size)
    table = beside_published(whole, experiment.table)
    published = published_notes(summary, experiment)
    write_tables(directory, experiment.table, experiment.title, table, readable, notes, published)
    by = _what_varies(summary)
    if by is not None:
        figure = curves(summary, by, experiment.figure_title, " ".join(notes[1:]))
        write_figure(figure, directory / experiment.figure)
    return Presented(experiment.title, readable, notes)


def _present_flips(
    directory: Path, manifest: Manifest, outcomes: pd.DataFrame, experiment: Experiment
) -> Presented:
    """How many changed pixels it takes to flip an image: table, tests and survival curves."""
    flips = experiment.of_flips()
    notes = flips_notes(manifest)
    table, pairs = tabulate_survival(outcomes), compare_survival(outcomes)
    readable = survival_for_reading(table)
    below = ["## Pairs of networks", markdown_table(pairs_for_reading(pairs))] if len(pairs) else []
    write_tables(directory, flips.table, flips.title, table, readable, notes, below)
    write_csv(pairs, directory / f"{flips.table}-pairs.csv")
    nums = sorted(int(num) for num in outcomes["num"].unique())
    figure = survival_figure(
        survival_curves(outcomes), nums, flips.figure_title, " ".join(notes[1:])
    )
    write_figure(figure, directory / flips.figure)
    return Presented(flips.title, readable, notes)


def _present_returns(
    directory: Path, manifest: Manifest, outcomes: pd.DataFrame, experiment: Experiment
) -> Presented:
    """The table and map of adversarial images that return to their true class."""
    summary = summarize_returns(outcomes, manifest.image_size, manifest.amplitude_share)
    readable = returns_for_reading(summary, manifest.image_size)
    notes = returns_notes(manifest, summary)
    write_tables(directory, experiment.table, experiment.title, summary, readable, notes, [])
    if len(summary[["amplitude", "area"]][summary["num"] > 0].drop_duplicates()) == 1:
        figure = returns_map(summary, experiment.figure_title, " ".join(notes[1:]))
        write_figure(figure, directory / experiment.figure)
    return Presented(experiment.title, readable, notes)


def _present_amplification(
    directory: Path, manifest: Manifest, changes: pd.DataFrame, experiment: Experiment
) -> Presented:
    """The table of what becomes of changes inside networks, and their way from layer to layer."""
    verdicts = tabulate_verdicts(changes)
    readable = verdicts_for_reading(verdicts)
    notes = amplification_notes(manifest)
    write_tables(directory, experiment.table, experiment.title, verdicts, readable, notes, [])
    summaries = amplification_summaries(changes)
    figure = amplification_curves(summaries, experiment.figure_title, " ".join(notes[1:]))
    write_figure(figure, directory / experiment.figure)
    return Presented(experiment.title, readable, notes)


def amplification_summaries(changes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Medians and quartiles layer by layer, of each model and num."""
    groups = changes.groupby(["model", "num"], observed=True, sort=False)
    return {
        f"{model}: {num} pixels": summarize_amplification(rows) for (model, num), rows in groups
    }


def _readable(value: Any) -> str:
    """A value of a description as text."""
    if isinstance(value, float):
        return "not stated" if math.isnan(value) else f"{value:.5g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _what_varies(summary: pd.DataFrame) -> str | None:
    """What curves over num stand for; None where there is no curve to draw, or a whole family."""
    changed = summary[summary["num"] > 0]
    varying = [key for key in ("amplitude", "area") if changed[key].nunique(dropna=False) > 1]
    if changed["num"].nunique() < 2 or len(varying) > 1:
        return None
    return varying[0] if varying else "model"
