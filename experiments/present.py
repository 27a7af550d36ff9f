"""From outcomes and manifest to tables and figures; nothing here evaluates anything, or needs torch."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.captions import (
    HISTOGRAMS,
    amplification_notes,
    distances_notes,
    fall_note,
    flips_notes,
    published_table,
    ranking_notes,
    retraining_notes,
    returns_notes,
    transfer_notes,
    wrong_rate_notes,
)
from experiments.claims import decide_claims
from experiments.claims.page import write_claims
from experiments.paper import (
    CLAIM_SOURCES,
    DESCRIPTIONS,
    TABLE_5,
    TABLE_5_SOURCES,
    WATERFALL_TITLE,
    Experiment,
    beside_published,
    experiment_called,
)
from experiments.writing import Below, Presented, write_presented
from pixelrobust.errors import InputError
from pixelrobust.figures import write_figure
from pixelrobust.figures.curves import (
    amplification_curves,
    pixel_index_curves,
    rate_curves,
    survival_figure,
)
from pixelrobust.figures.maps import returns_map
from pixelrobust.figures.retraining import (
    distance_changes,
    loss_curves,
    retraining_matrix,
    waterfall,
)
from pixelrobust.files import check_inside, remove_leftovers
from pixelrobust.outcomes.kinds import (
    ACTIVATIONS,
    ADVERSARIAL,
    ALL_CLASSES,
    DISTANCES,
    ORIGINAL,
    OUTCOMES,
    RETRAINING,
    TRANSFER,
    UNCHANGED,
    kind_of,
    read_outcomes,
    write_outcomes,
)
from pixelrobust.outcomes.manifest import Manifest, read_manifest
from pixelrobust.perturbation.grid import Cell
from pixelrobust.tables.adversarial import returns_for_reading, summarize_returns
from pixelrobust.tables.amplification import (
    summarize_amplification,
    tabulate_verdicts,
    verdicts_for_reading,
)
from pixelrobust.tables.pixel_index import (
    indices_for_reading,
    pixel_indices,
    rank_models,
    ranking_for_reading,
)
from pixelrobust.tables.rates import for_reading, summarize, with_missing, write_csv
from pixelrobust.tables.retraining import (
    changes_by_image,
    differences_for_reading,
    distances_for_reading,
    fall,
    fall_for_reading,
    find_references,
    matrix_for_reading,
    most_telling,
    of_the_smallest_epsilon,
    retrained_on_pixels,
    summarize_distances,
    summarize_retraining,
    summarize_transfer,
    transfer_for_reading,
)
from pixelrobust.tables.survival import (
    compare_survival,
    pairs_for_reading,
    survival_curves,
    survival_for_reading,
    tabulate_survival,
)

Run = tuple[Manifest, pd.DataFrame]

HISTORIES_TITLE = "Losses and accuracies while retraining"


def store_run(directory: Path, manifest: Manifest, outcomes: pd.DataFrame) -> None:
    """Write what a run found, and who found it where."""
    for folder in (directory, directory / "outcomes"):
        remove_leftovers(folder)
    check_inside(directory / "outcomes", directory.parent)
    path = outcomes_file(directory, manifest.name)
    write_outcomes(outcomes, path)
    manifest.write(path.with_suffix(".json"))


def outcomes_file(directory: Path, name: str) -> Path:
    """Return where `store_run` writes the outcomes of the experiment of this name."""
    return directory / "outcomes" / f"{experiment_called(name).table}.parquet"


def load_run(directory: Path, name: str) -> Run:
    """Read what `store_run` wrote for the experiment of this name."""
    path = outcomes_file(directory, name)
    manifest = read_manifest(path.with_suffix(".json"))
    return manifest, read_outcomes(path, kind_of(manifest.config).name)


def stored_runs(directory: Path) -> dict[str, Run]:
    """Read all that `store_run` wrote into a folder, by the experiment's name."""
    manifests = [read_manifest(path) for path in sorted(directory.glob("outcomes/[!.]*.json"))]
    return {manifest.name: load_run(directory, manifest.name) for manifest in manifests}


def present(
    directory: Path,
    manifest: Manifest,
    outcomes: pd.DataFrame,
    missing: Sequence[tuple[str, Cell]] = (),
) -> list[Presented]:
    """Write tables (CSV, Markdown, LaTeX) and figures (PNG, PDF) of a run; see `tables_of`."""
    presented = tables_of(manifest, outcomes, missing)
    write_presented(directory, presented)
    return presented


def tables_of(
    manifest: Manifest, outcomes: pd.DataFrame, missing: Sequence[tuple[str, Cell]] = ()
) -> list[Presented]:
    """Return the tables and figures of a run.

    Args:
        manifest, outcomes: of the run.
        missing: models and cells that a table of wrong rates is to list as missing.
    """
    experiment = experiment_called(manifest.name)
    kind = kind_of(manifest.config)
    if kind is not OUTCOMES:
        return _PRESENTATIONS[kind.name](manifest, outcomes, experiment)
    size, share = manifest.image_size, manifest.amplitude_share
    summary = summarize(outcomes, size, share)
    notes = wrong_rate_notes(manifest, summary)
    presented = [_rates(manifest, summary, experiment, notes, missing)]
    if experiment.flips and _what_varies(summary) == "model":
        presented.append(_flips(manifest, outcomes, experiment.of_flips()))
    return presented


def derive(directory: Path, runs: Mapping[str, Run]) -> list[Presented]:
    """Write what follows from several stored runs together.

    Args:
        directory: where to.
        runs: manifest and rows by the experiment's name.

    Returns:
        The tables that were written: Table 5 and the ranking where Experiments 1 to 3 are all among
        the runs, and the claims where one of them is.

    Raises:
        InputError: runs that are compared image by image saw different images.
    """
    presented = indices_of(runs)
    write_presented(directory, presented)
    deciding = [runs[name][0] for name in CLAIM_SOURCES if name in runs]
    if deciding:
        presented.append(write_claims(directory, deciding[0], decide_claims(runs)))
    return presented


def indices_of(runs: Mapping[str, Run]) -> list[Presented]:
    """Return Table 5, the Pixel-index of every cell, and the ranking; nothing where a run lacks.

    Args:
        runs: manifest and rows by the experiment's name.

    Raises:
        InputError: runs that are compared image by image saw different images.
    """
    paired = {name: runs[name] for name in TABLE_5_SOURCES if name in runs}
    if len({manifest.image_list_sha256 for manifest, _ in paired.values()}) > 1:
        raise InputError(
            f"{', '.join(paired)} were run on different images and are not compared; run them again "
            "with the same settings."
        )
    if len(paired) < len(TABLE_5_SOURCES):
        return []
    manifest = paired[TABLE_5_SOURCES[0]][0]
    size, share = manifest.image_size, manifest.amplitude_share
    summaries = [summarize(rows, size, share) for _, rows in paired.values()]
    indices = pixel_indices(summaries, size, share)
    notes = ranking_notes(manifest)
    ranking = _ranking(manifest, indices)
    title = "Networks by accuracy and by Pixel-index"
    note = "Accuracy is on all candidates, unchanged; Pi is that of the largest num without limits."
    below = [] if ranking is None else [Below(title, ranking_for_reading(ranking), [note])]
    table = Presented(
        TABLE_5.title,
        indices_for_reading(indices, size),
        notes,
        TABLE_5.table,
        indices,
        below,
        {} if ranking is None else {f"{TABLE_5.table}-ranking": ranking},
        {TABLE_5.figure: pixel_index_curves(indices, TABLE_5.figure_title, " ".join(notes[1:]))},
    )
    return [table, *(Presented(title, each.table, [note]) for each in below)]


def present_description(directory: Path, name: str, table: pd.DataFrame) -> list[Presented]:
    """Write one of the tables that describe rather than measure, given its name."""
    check_inside(directory, directory.parent)
    presented = [description_of(name, table)]
    write_presented(directory, presented)
    return presented


def description_of(name: str, table: pd.DataFrame) -> Presented:
    """Return one of the tables that describe rather than measure, given its name."""
    title, note = DESCRIPTIONS[name]
    readable = table.rename(columns=lambda column: column.replace("_", " ").capitalize())
    return Presented(title, readable.map(_readable), [note], name, table)


def present_histories(directory: Path, experiment: Experiment, histories: pd.DataFrame) -> None:
    """Write losses and accuracies of the retrainings, as a table and a figure."""
    write_csv(histories, directory / f"{experiment.histories}.csv")
    write_figure(histories_figure(histories), directory / experiment.histories)


def histories_figure(histories: pd.DataFrame) -> Figure:
    """Draw losses and accuracies of the retrainings."""
    several = histories["training_seed"].nunique() > 1
    curves = {
        f"{model}, seed {seed}" if several else str(model): rows
        for (model, seed), rows in histories.groupby(["model", "training_seed"], sort=False)
    }
    return loss_curves(curves, HISTORIES_TITLE, "")


def _ranking(manifest: Manifest, indices: pd.DataFrame) -> pd.DataFrame | None:
    """Rank networks; None where accuracies, or cells without limits, are not there."""
    unlimited = indices["amplitude"].isna() & indices["area"].isna()
    if not unlimited.any() or not set(indices["model"]) <= set(manifest.rejected):
        return None
    accuracies = {model: 1 - n / manifest.candidates for model, n in manifest.rejected.items()}
    return rank_models(indices, accuracies)


def _rates(
    manifest: Manifest,
    summary: pd.DataFrame,
    experiment: Experiment,
    notes: list[str],
    missing: Sequence[tuple[str, Cell]],
) -> Presented:
    """Present wrong rates, beside the paper's, and their curves."""
    whole = with_missing(summary, missing)
    published = published_table(summary, experiment)
    by = _what_varies(summary)
    title, caption = experiment.figure_title, " ".join(notes[1:])
    return Presented(
        experiment.title,
        for_reading(whole, manifest.image_size),
        notes,
        experiment.table,
        beside_published(whole, experiment.table),
        [] if published is None else [Below("The paper's numbers", published, of_words=True)],
        figures={experiment.figure: rate_curves(summary, by, title, caption)} if by else {},
    )


def _flips(manifest: Manifest, outcomes: pd.DataFrame, flips: Experiment) -> Presented:
    """Present how many changed pixels it takes to flip an image: table, tests, survival curves."""
    notes = flips_notes(manifest)
    table, pairs = tabulate_survival(outcomes), compare_survival(outcomes)
    nums = sorted(int(num) for num in outcomes["num"].unique())
    figure = survival_figure(
        survival_curves(outcomes), nums, flips.figure_title, " ".join(notes[1:])
    )
    return Presented(
        flips.title,
        survival_for_reading(table),
        notes,
        flips.table,
        table,
        [Below("Pairs of networks", pairs_for_reading(pairs))] if len(pairs) else [],
        {f"{flips.table}-pairs": pairs},
        {flips.figure: figure},
    )


def _returns(manifest: Manifest, outcomes: pd.DataFrame, experiment: Experiment) -> list[Presented]:
    """Present adversarial images that are recovered, as a table and a map."""
    summary = summarize_returns(outcomes, manifest.image_size, manifest.amplitude_share)
    notes = returns_notes(manifest, summary)
    figures = {}
    if len(summary[["amplitude", "area"]][summary["num"] > 0].drop_duplicates()) == 1:
        caption = " ".join(notes[1:])
        figures[experiment.figure] = returns_map(summary, experiment.figure_title, caption)
    readable = returns_for_reading(summary, manifest.image_size)
    return [
        Presented(experiment.title, readable, notes, experiment.table, summary, figures=figures)
    ]


def _amplification(
    manifest: Manifest, changes: pd.DataFrame, experiment: Experiment
) -> list[Presented]:
    """Present what becomes of changes inside networks, and their way from layer to layer."""
    verdicts = tabulate_verdicts(changes)
    notes = amplification_notes(manifest)
    groups = changes.groupby(["model", "num"], observed=True, sort=False)
    summaries = {
        f"{model}: {num} pixels": summarize_amplification(rows) for (model, num), rows in groups
    }
    figure = amplification_curves(summaries, experiment.figure_title, " ".join(notes[1:]))
    return [
        Presented(
            experiment.title,
            verdicts_for_reading(verdicts),
            notes,
            experiment.table,
            verdicts,
            figures={experiment.figure: figure},
        )
    ]


def _retraining(
    manifest: Manifest, outcomes: pd.DataFrame, experiment: Experiment
) -> list[Presented]:
    """Present the matrix of training by testing (Table 10), with differences in pairs."""
    summary = summarize_retraining(outcomes, manifest.image_size, manifest.amplitude_share)
    notes = retraining_notes(manifest, outcomes, summary)
    below = [
        Below(f"Points more than {name}", differences_for_reading(summary, reference))
        for reference, name in find_references(outcomes).items()
    ]
    figures = {}
    if len(summary.loc[summary["num"] > 0, ["amplitude", "area"]].drop_duplicates()) <= 1:
        caption = " ".join(notes[1:])
        figures[experiment.figure] = retraining_matrix(summary, experiment.figure_title, caption)
    readable = matrix_for_reading(summary)
    return [
        Presented(
            experiment.title, readable, notes, experiment.table, summary, below, figures=figures
        )
    ]


def _transfer(manifest: Manifest, rows: pd.DataFrame, experiment: Experiment) -> list[Presented]:
    """Present which adversarial images still fool (Table 11), and the causes of the fall."""
    summary = summarize_transfer(rows, find_references(rows).get("unchanged", ""))
    notes = transfer_notes(manifest, rows)
    stages = _stages_of_the_fall(rows)
    below, figures = [], {}
    if stages:
        smallest = of_the_smallest_epsilon(rows)
        steps = fall(smallest, stages)
        about = fall_note(smallest)
        below = [Below(WATERFALL_TITLE, fall_for_reading(steps), [about])]
        caption = " ".join([about, *notes[2:]])
        figures = {experiment.figure: waterfall(steps, WATERFALL_TITLE, caption)}
    readable = transfer_for_reading(summary)
    table = Presented(
        experiment.title, readable, notes, experiment.table, summary, below, figures=figures
    )
    return [table, *(Presented(each.title, each.table, list(each.notes)) for each in below)]


def _distances(manifest: Manifest, rows: pd.DataFrame, experiment: Experiment) -> list[Presented]:
    """Present whether distances to the boundary grow (Eq. 6), as a table and a figure."""
    references = find_references(rows)
    summary = summarize_distances(rows, references)
    notes = distances_notes(manifest, summary)
    reference = next(iter(references.values()), None)
    kind = most_telling(rows)
    own = rows[rows["images_are"] == kind]
    changes = {
        str(model): np.asarray(changes_by_image(own, str(model), reference))
        for model in own["model"].unique()
        if reference and model != reference
    }
    changes = {model: values for model, values in changes.items() if len(values)}
    figures = {}
    if changes:
        title = f"{experiment.figure_title} {reference}, {kind} images"
        caption = " ".join([HISTOGRAMS, *notes[1:]])
        figures[experiment.figure] = distance_changes(changes, title, caption)
    return [
        Presented(
            experiment.title,
            distances_for_reading(summary, references),
            notes,
            experiment.table,
            summary,
            figures=figures,
            # On a dark page they are white.
            about_figures=HISTOGRAMS.replace("Black lines", "Lines"),
        )
    ]


def _stages_of_the_fall(rows: pd.DataFrame) -> list[tuple[str, str, bool]]:
    """Return the stages from the original network to the paper's; none where one is missing.

    Returns:
        Label, network, and whether images are rounded.
    """
    models = [str(model) for model in rows["model"].unique()]

    def ending(suffix: str) -> str | None:
        return next((model for model in models if model.endswith(suffix)), None)

    original, restricted = ending(ALL_CLASSES), ending(ORIGINAL)
    unchanged = ending(UNCHANGED)
    pixels = next(iter(retrained_on_pixels(rows)), None)
    if not (original and restricted and unchanged and pixels):
        return []
    return [
        ("the original network, unrounded images", original, False),
        ("only the classes that take part", restricted, False),
        ("images rounded to 8 bits", restricted, True),
        ("retrained on unchanged images", unchanged, True),
        (f"retrained with changed pixels, {pixels}", pixels, True),
    ]


def _readable(value: Any) -> str:
    """Return a value of a description as text."""
    if isinstance(value, float):
        return "not stated" if math.isnan(value) else f"{value:.5g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _what_varies(summary: pd.DataFrame) -> str | None:
    """Return what curves over num stand for; None where there is no curve to draw, or a family."""
    changed = summary[summary["num"] > 0]
    varying = [key for key in ("amplitude", "area") if changed[key].nunique(dropna=False) > 1]
    if changed["num"].nunique() < 2 or len(varying) > 1:
        return None
    return varying[0] if varying else "model"


_PRESENTATIONS = {
    ADVERSARIAL.name: _returns,
    ACTIVATIONS.name: _amplification,
    RETRAINING.name: _retraining,
    TRANSFER.name: _transfer,
    DISTANCES.name: _distances,
}
