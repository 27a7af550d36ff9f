"""Tables and figures of retrained networks: Tables 10 and 11, the waterfall, distances, losses."""

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.captions import (
    HISTOGRAMS,
    distances_notes,
    fall_note,
    retraining_notes,
    transfer_notes,
)
from experiments.paper import WATERFALL_TITLE, Experiment
from experiments.writing import Presented, write_tables
from pixelrobust.distance_tables import (
    changes_by_image,
    distances_for_reading,
    summarize_distances,
)
from pixelrobust.escaping import escape_paragraph
from pixelrobust.figures import write_figure
from pixelrobust.figures_retraining import (
    distance_changes,
    loss_curves,
    retraining_matrix,
    waterfall,
)
from pixelrobust.manifest import Manifest
from pixelrobust.retraining_tables import (
    ALL_CLASSES,
    ORIGINAL,
    UNCHANGED,
    differences_for_reading,
    find_references,
    matrix_for_reading,
    most_telling,
    retrained_on_pixels,
    summarize_retraining,
)
from pixelrobust.tables import markdown_table, write_csv
from pixelrobust.transfer import (
    fall,
    fall_for_reading,
    of_the_smallest_epsilon,
    summarize_transfer,
    transfer_for_reading,
)


def present_retraining(
    directory: Path, manifest: Manifest, outcomes: pd.DataFrame, experiment: Experiment
) -> list[Presented]:
    """The matrix of training by testing (Table 10), with differences in pairs."""
    summary = summarize_retraining(outcomes, manifest.image_size, manifest.amplitude_share)
    readable = matrix_for_reading(summary)
    notes = retraining_notes(manifest, outcomes, summary)
    below = []
    for reference, name in find_references(outcomes).items():
        below += [
            f"## Points more than {name}",
            markdown_table(differences_for_reading(summary, reference)),
        ]
    write_tables(directory, experiment.table, experiment.title, summary, readable, notes, below)
    if len(summary.loc[summary["num"] > 0, ["amplitude", "area"]].drop_duplicates()) <= 1:
        figure = retraining_matrix(summary, experiment.figure_title, " ".join(notes[1:]))
        write_figure(figure, directory / experiment.figure)
    return [Presented(experiment.title, readable, notes)]


def present_transfer(
    directory: Path, manifest: Manifest, rows: pd.DataFrame, experiment: Experiment
) -> list[Presented]:
    """Which adversarial images still fool (Table 11), and the causes of the fall."""
    references = find_references(rows)
    summary = summarize_transfer(rows, references.get("unchanged", ""))
    readable = transfer_for_reading(summary)
    notes = transfer_notes(manifest, rows)
    presented = [Presented(experiment.title, readable, notes)]
    stages = stages_of_the_fall(rows)
    below: list[str] = []
    if stages:
        smallest = of_the_smallest_epsilon(rows)
        steps = fall(smallest, stages)
        steps_table = fall_for_reading(steps)
        about = fall_note(smallest)
        below = [f"## {WATERFALL_TITLE}", markdown_table(steps_table), escape_paragraph(about)]
        figure = waterfall(steps, WATERFALL_TITLE, " ".join([about, *notes[2:]]))
        write_figure(figure, directory / experiment.figure)
        presented.append(Presented(WATERFALL_TITLE, steps_table, [about]))
    write_tables(directory, experiment.table, experiment.title, summary, readable, notes, below)
    return presented


def present_distances(
    directory: Path, manifest: Manifest, rows: pd.DataFrame, experiment: Experiment
) -> list[Presented]:
    """Whether distances to the boundary grow (Eq. 6), as a table and a figure."""
    references = find_references(rows)
    summary = summarize_distances(rows, references)
    readable = distances_for_reading(summary, references)
    notes = distances_notes(manifest, summary)
    write_tables(directory, experiment.table, experiment.title, summary, readable, notes, [])
    reference = next(iter(references.values()), None)
    kind = most_telling(rows)
    own = rows[rows["images_are"] == kind]
    changes = {
        str(model): np.asarray(changes_by_image(own, str(model), reference))
        for model in own["model"].unique()
        if reference and model != reference
    }
    changes = {model: values for model, values in changes.items() if len(values)}
    if changes:
        title = f"{experiment.figure_title} {reference}, {kind} images"
        caption = " ".join([HISTOGRAMS, *notes[1:]])
        write_figure(distance_changes(changes, title, caption), directory / experiment.figure)
    return [Presented(experiment.title, readable, notes)]


def present_histories(directory: Path, experiment: Experiment, histories: pd.DataFrame) -> None:
    """Losses and accuracies of the retrainings, as a table and a figure."""
    write_csv(histories, directory / f"{experiment.histories}.csv")
    several = histories["training_seed"].nunique() > 1
    curves = {
        f"{model}, seed {seed}" if several else str(model): rows
        for (model, seed), rows in histories.groupby(["model", "training_seed"], sort=False)
    }
    figure = loss_curves(curves, "Losses and accuracies while retraining", "")
    write_figure(figure, directory / experiment.histories)


def stages_of_the_fall(rows: pd.DataFrame) -> list[tuple[str, str, bool]]:
    """Label, network, and whether images are rounded: from the original network to the paper's; none where one of them is missing."""
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
