"""From outcomes and manifest to tables and figures; nothing here evaluates anything, or needs torch."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import captions
from experiments.claims import decide_claims
from experiments.claims.page import write_claims
from experiments.paper import (
    CLAIM_SOURCES,
    DESCRIPTIONS,
    HISTORIES,
    HISTORIES_TITLE,
    LADDER,
    LADDER_SOURCES,
    PAPERS_NUMS,
    TABLE_5,
    TABLE_5_SOURCES,
    WATERFALL_TITLE,
    Experiment,
    beside_published,
    experiment_called,
    within_paper,
    year_and_stem,
)
from experiments.stored import Run
from experiments.writing import Below, Presented, write_presented
from pixelrobust.errors import InputError
from pixelrobust.figures import curves, maps, write_figure
from pixelrobust.figures import retraining as retraining_figures
from pixelrobust.figures import worst_case as worst_case_figures
from pixelrobust.files import check_inside
from pixelrobust.outcomes.kinds import (
    ACTIVATIONS,
    ADVERSARIAL,
    ALL_CLASSES,
    CELL_COLUMNS,
    DISTANCES,
    OUTCOMES,
    RETRAINING,
    TRANSFER,
    WORST_CASE,
    kind_of,
)
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.perturbation.grid import Cell
from pixelrobust.settings import overshoot_of
from pixelrobust.statistics.rates import wilson_interval
from pixelrobust.tables import (
    adversarial,
    amplification,
    pixel_index,
    retraining,
    survival,
    worst_case,
)
from pixelrobust.tables.rates import for_reading, summarize, with_missing, write_csv


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
    if kind is OUTCOMES:
        return _rates(manifest, outcomes, experiment, missing)
    return _PRESENTATIONS[kind.name](manifest, outcomes, experiment)


def derive(directory: Path, runs: Mapping[str, Run]) -> list[Presented]:
    """Write what follows from several stored runs together.

    Args:
        directory: where to.
        runs: manifest and rows by the experiment's name.

    Returns:
        The tables that were written: Table 5 and the ranking where Experiments 1 to 3 are all among
        the runs, and the claims where one of them is. They go by the paper's numbers of pixels.

    Raises:
        InputError: runs that are compared image by image saw different images.
    """
    presented = indices_of(runs) + ladder_of(runs)
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
    summaries = [summarize(within_paper(rows), size, share) for _, rows in paired.values()]
    indices = pixel_index.pixel_indices(summaries, size, share)
    if indices.empty:
        return []
    notes = captions.ranking_notes(manifest)
    figures, undrawn = {}, []
    if indices["wrong"].any():
        caption = f"{captions.BARS} {' '.join(notes[1:])}"
        networks = list(manifest.rejected)
        figures[TABLE_5.figure] = curves.pixel_index_curves(
            indices, TABLE_5.figure_title, caption, networks
        )
    else:
        notes, undrawn = [*notes, captions.UNDRAWN], [TABLE_5.figure]
    accuracies = {model: 1 - n / manifest.candidates for model, n in manifest.rejected.items()}
    ranking = pixel_index.rank_models(indices, accuracies, PAPERS_NUMS[-1])
    title = "Networks by accuracy and by Pixel-index"
    note = (
        "Accuracy is on all candidates, unchanged; Pi is that of "
        f"{PAPERS_NUMS[-1]} changed pixels without limits."
    )
    below = (
        [] if ranking is None else [Below(title, pixel_index.ranking_for_reading(ranking), [note])]
    )
    table = Presented(
        TABLE_5.title,
        pixel_index.indices_for_reading(indices, size),
        notes,
        TABLE_5.table,
        indices,
        below,
        {} if ranking is None else {f"{TABLE_5.table}-ranking": ranking},
        figures,
        captions.BARS,
        undrawn=undrawn,
    )
    return [table, *(Presented(title, each.table, [note]) for each in below)]


def ladder_of(runs: Mapping[str, Run]) -> list[Presented]:
    """Return changed pixels beside the impulse noise of ImageNet-C; nothing where a run lacks.

    Args:
        runs: manifest and rows by the experiment's name.

    Raises:
        InputError: the two saw different images.
    """
    own = [runs[name] for name in LADDER_SOURCES if name in runs]
    if len(own) < len(LADDER_SOURCES):
        return []
    if len({manifest.image_list_sha256 for manifest, _ in own}) > 1:
        raise InputError(
            f"{' and '.join(LADDER_SOURCES)} were run on different images and are not compared; run them "
            "again with the same settings."
        )
    manifest = own[0][0]
    pixels, noise = (
        summarize(rows, manifest.image_size, manifest.amplitude_share) for _, rows in own
    )
    noise = noise[noise["num"] > 0]
    notes = [captions.LADDER, *captions.wrong_rate_notes(manifest, pixels)[1:]]
    caption = f"{captions.OWN_BARS} {' '.join(notes)}"
    figure = curves.ladder_curves(pixels, noise, LADDER.figure_title, caption)
    readable = pd.concat(
        [
            for_reading(part, manifest.image_size).rename(columns={"Num": "Changes"})
            for part in (pixels, noise)
        ],
        ignore_index=True,
    )
    first, severities = len(readable) - len(captions.SEVERITIES), captions.SEVERITIES
    if noise["num"].nunique() == len(severities):
        readable["Changes"] = [*readable["Changes"][:first], *severities]
    numbers = pd.concat([pixels.assign(changes="pixels"), noise.assign(changes="impulse noise")])
    return [
        Presented(
            LADDER.title,
            readable,
            notes,
            LADDER.table,
            numbers,
            figures={LADDER.figure: figure},
            about_figures=captions.OWN_BARS,
        )
    ]


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


def rebuild_histories(directory: Path) -> None:
    """Draw losses and accuracies of the retrainings anew, as far as their tables are there."""
    for stem in HISTORIES:
        path = directory / f"{stem}.csv"
        if path.is_file():
            write_figure(histories_figure(pd.read_csv(path)), directory / stem)


def histories_figure(histories: pd.DataFrame) -> Figure:
    """Draw losses and accuracies of the retrainings."""
    caption = captions.histories_caption(histories)
    return retraining_figures.loss_curves(histories, HISTORIES_TITLE, caption)


def _rates(
    manifest: Manifest,
    outcomes: pd.DataFrame,
    experiment: Experiment,
    missing: Sequence[tuple[str, Cell]],
) -> list[Presented]:
    """Present wrong rates, beside the paper's, and their curves; and how many pixels flip an image.

    The paper's figures show no more changed pixels than the paper's, where two such numbers are there.
    """
    summary = summarize(outcomes, manifest.image_size, manifest.amplitude_share)
    notes = captions.wrong_rate_notes(manifest, summary)
    whole = with_missing(summary, missing)
    published = captions.published_table(summary, experiment)
    is_papers, figures, undrawn = experiment.table in TABLE_5_SOURCES, {}, []
    own = within_paper(summary)
    drawn = own if is_papers and _what_varies(own) else summary
    by = _what_varies(drawn)
    if by and drawn["wrong"].any():
        title, caption = experiment.figure_title, f"{captions.BARS} {' '.join(notes[1:])}"
        networks = list(manifest.rejected)
        figures[experiment.figure] = curves.rate_curves(drawn, by, title, caption, networks)
    elif by:
        notes, undrawn = [*notes, captions.UNDRAWN], [experiment.figure]
    table = Presented(
        experiment.title,
        for_reading(whole, manifest.image_size),
        notes,
        experiment.table,
        beside_published(whole, experiment.table),
        [] if published is None else [Below("The paper's numbers", published, of_words=True)],
        figures=figures,
        lines=_beyond_paper(whole) if is_papers else {},
        about_figures=captions.BARS,
        undrawn=undrawn,
    )
    unchanged_wrong = outcomes.loc[outcomes["num"] == 0, "wrong"]
    if experiment.flips and _what_varies(summary) == "model" and not unchanged_wrong.all():
        return [table, _flips(manifest, outcomes, experiment.of_flips())]
    return [table]


def _beyond_paper(summary: pd.DataFrame) -> dict[int, str]:
    """Return the line above the first row of more changed pixels than the paper's, where there are both.

    None where further limits order the rows.
    """
    nums = summary[CELL_COLUMNS].drop_duplicates()["num"]
    within = int((nums <= PAPERS_NUMS[-1]).sum())
    is_divided = nums.is_unique and nums.is_monotonic_increasing and 1 < within < len(nums)
    return {within: f"beyond the paper's {PAPERS_NUMS[-1]} pixels"} if is_divided else {}


def _flips(manifest: Manifest, outcomes: pd.DataFrame, flips: Experiment) -> Presented:
    """Present how many changed pixels it takes to flip an image: table, tests, survival curves."""
    table, pairs = survival.tabulate_survival(outcomes), survival.compare_survival(outcomes)
    notes = captions.flips_notes(manifest, table)
    nums = sorted(int(num) for num in outcomes["num"].unique())
    figures, undrawn = {}, []
    if table["flipped"].any():
        shown, caption = (
            survival.survival_curves(outcomes),
            f"{captions.BARS} {' '.join(notes[1:])}",
        )
        networks = list(manifest.rejected)
        figures[flips.figure] = curves.survival_figure(
            shown, nums, flips.figure_title, caption, networks
        )
    else:
        notes, undrawn = [*notes, captions.UNDRAWN], [flips.figure]
    return Presented(
        flips.title,
        survival.survival_for_reading(table),
        notes,
        flips.table,
        table,
        [Below("Pairs of networks", survival.pairs_for_reading(pairs))] if len(pairs) else [],
        {f"{flips.table}-pairs": pairs},
        figures,
        captions.BARS,
        undrawn=undrawn,
    )


def _returns(manifest: Manifest, outcomes: pd.DataFrame, experiment: Experiment) -> list[Presented]:
    """Present adversarial images that are recovered, as a table; and where sizes are several, a map.

    Curves take the map's place where all sizes are multiples of the images' own smallest.
    """
    size = manifest.image_size
    summary = adversarial.summarize_returns(outcomes, size, manifest.amplitude_share)
    notes = captions.returns_notes(manifest, summary)
    figures = {}
    is_line = summary["epsilon"].map(overshoot_of).notna().all()
    title, about = experiment.figure_title, captions.BARS if is_line else captions.SHARES
    if _limits(summary) == 1 and summary["epsilon"].nunique() > 1:
        if is_line:
            caption = f"{about} {' '.join(notes[1:])}"
            figures[experiment.figure] = curves.overshoot_curves(summary, title, caption)
        else:
            caption = f"{about} {captions.without_intervals(notes[1:])}"
            figures[experiment.figure] = maps.returns_map(summary, title, caption)
    readable = adversarial.returns_for_reading(summary, size)
    return [
        Presented(
            experiment.title,
            readable,
            notes,
            experiment.table,
            summary,
            figures=figures,
            about_figures=about,
        )
    ]


def _amplification(
    manifest: Manifest, changes: pd.DataFrame, experiment: Experiment
) -> list[Presented]:
    """Present what becomes of changes inside networks, and their way from layer to layer."""
    verdicts = amplification.tabulate_verdicts(changes)
    notes = captions.amplification_notes(manifest)
    groups = changes.groupby(["model", "num"], observed=True, sort=False)
    summaries = {
        f"{model}: {num} pixels": amplification.summarize_blocks(rows)
        for (model, num), rows in groups
    }
    title, caption = experiment.figure_title, f"{captions.BLOCKS} {' '.join(notes[1:])}"
    figures = {experiment.figure: curves.amplification_curves(summaries, title, caption)}
    readable = amplification.verdicts_for_reading(verdicts)
    others = amplification.tabulate_augmentations(changes)
    below, beside = [], {}
    if len(others):
        entries = amplification.augmentations_for_reading(others)
        below = [Below(captions.AUGMENTED_TITLE, entries, [captions.AUGMENTED])]
        beside = {f"{experiment.table}-augmentations": others}
    return [
        Presented(
            experiment.title,
            readable,
            notes,
            experiment.table,
            verdicts,
            below,
            beside,
            figures,
            captions.BLOCKS,
        )
    ]


def _retraining(
    manifest: Manifest, outcomes: pd.DataFrame, experiment: Experiment
) -> list[Presented]:
    """Present the matrix of training by testing (Table 10), with differences in pairs."""
    size, share = manifest.image_size, manifest.amplitude_share
    summary = retraining.summarize_retraining(outcomes, size, share)
    notes = captions.retraining_notes(manifest, outcomes, summary)
    references = retraining.find_references(outcomes)
    below = [
        Below(f"Points more than {name}", retraining.differences_for_reading(summary, reference))
        for reference, name in references.items()
    ]
    right, rises = retraining.summarize_right(outcomes), retraining.summarize_rises(outcomes)
    if len(right):
        entries = retraining.rates_of_right_for_reading(right)
        below.append(Below(captions.RIGHT_TITLE, entries, captions.right_notes(right)))
    if len(rises):
        entries = retraining.rises_for_reading(rises)
        title = f"Difference in differences: points of rise more than {references['unchanged']}"
        below.append(Below(title, entries, captions.rises_notes(rises)))
    figures, undrawn = {}, []
    if not summary["wrong"].any():
        notes, undrawn = [*notes, captions.UNDRAWN], [experiment.figure]
    elif _limits(summary) <= 1:
        title, caption = experiment.figure_title, captions.without_intervals(notes[1:])
        figures[experiment.figure] = retraining_figures.retraining_matrix(summary, title, caption)
    readable = retraining.matrix_for_reading(summary)
    beside = {f"{experiment.table}-right": right, f"{experiment.table}-rises": rises}
    return [
        Presented(
            experiment.title,
            readable,
            notes,
            experiment.table,
            summary,
            below,
            beside,
            figures,
            undrawn=undrawn,
        )
    ]


def _transfer(manifest: Manifest, rows: pd.DataFrame, experiment: Experiment) -> list[Presented]:
    """Present which adversarial images still fool (Table 11), and the causes of the fall."""
    control = retraining.find_references(rows).get("unchanged", "")
    summary = retraining.summarize_transfer(rows, control)
    notes = captions.transfer_notes(manifest, rows)
    stages = _stages_of_the_fall(rows)
    below, figures = [], {}
    if stages:
        smallest = retraining.of_the_smallest_epsilon(rows)
        steps = retraining.fall(smallest, stages)
        about = captions.fall_note(smallest)
        below = [Below(WATERFALL_TITLE, retraining.fall_for_reading(steps), [about])]
        caption = " ".join([about, *notes[2:]])
        figures[experiment.figure] = retraining_figures.waterfall(steps, WATERFALL_TITLE, caption)
    readable = retraining.transfer_for_reading(summary)
    table = Presented(
        experiment.title, readable, notes, experiment.table, summary, below, figures=figures
    )
    return [table, *(Presented(each.title, each.table, list(each.notes)) for each in below)]


def _stages_of_the_fall(rows: pd.DataFrame) -> list[tuple[str, str, bool | None]]:
    """Return the stages from the original network to the paper's; none where one is missing.

    Returns:
        Label, network, and which images are rounded, as `fall` takes them.
    """
    references = retraining.find_references(rows)
    models = [str(model) for model in rows["model"].unique()]
    whole = next((model for model in models if model.endswith(ALL_CLASSES)), None)
    original, unchanged = references.get("baseline"), references.get("unchanged")
    pixels = next(iter(retraining.retrained_on_pixels(rows)), None)
    if not (whole and original and unchanged and pixels):
        return []
    return [
        ("the original network, unrounded images", whole, False),
        ("only the classes that take part", original, False),
        ("images that rounding to 8 bits gives back", original, None),
        ("all others rounded too", original, True),
        ("retrained on unchanged images", unchanged, True),
        (f"retrained with changed pixels, {pixels}", pixels, True),
    ]


def _distances(manifest: Manifest, rows: pd.DataFrame, experiment: Experiment) -> list[Presented]:
    """Present whether distances to the boundary grow (Eq. 6), as a table and a figure."""
    references = retraining.find_references(rows)
    summary = retraining.summarize_distances(rows, references)
    notes = captions.distances_notes(manifest, summary)
    reference = next(iter(references.values()), None)
    kind = retraining.most_telling(rows)
    own = rows[rows["images_are"] == kind]
    changes = {
        model: np.asarray(retraining.changes_by_image(own, model, reference))
        for model in map(str, own["model"].unique())
        if reference and model != reference
    }
    changes = {model: values for model, values in changes.items() if len(values)}
    figures = {}
    if changes:
        title = f"{experiment.figure_title} {reference}, {kind} images"
        caption = f"{captions.QUARTILES} {captions.without_intervals(notes[1:])}"
        figures[experiment.figure] = retraining_figures.distance_changes(changes, title, caption)
    return [
        Presented(
            experiment.title,
            retraining.distances_for_reading(summary, references),
            notes,
            experiment.table,
            summary,
            figures=figures,
            about_figures=captions.QUARTILES,
        )
    ]


def _worst_case(manifest: Manifest, rows: pd.DataFrame, experiment: Experiment) -> list[Presented]:
    """Present random changes beside such as a search finds, which pixels these are, and whom they flip."""
    summary, queries = worst_case_summary(manifest, rows), _queries_of(manifest, rows)
    stem, notes = experiment.table, captions.worst_case_notes(manifest, queries)
    caption = f"{captions.BARS} {' '.join(notes[1:])}"
    table = Presented(
        experiment.title,
        worst_case.worst_case_for_reading(summary),
        notes,
        stem,
        summary,
        [Below(captions.MORE_TITLE, worst_case.differences_for_reading(summary), [captions.MORE])],
        figures=(
            {
                experiment.figure: worst_case_figures.worst_case_curves(
                    summary, experiment.figure_title, caption
                )
            }
            if _limits(summary) == 1
            else {}
        ),
        about_figures=captions.BARS,
    )
    images = worst_case.tabulate_images(rows)
    correlations = worst_case.correlate_margins(images)
    calibration = worst_case.calibrate_margins(images, manifest.draws)
    calibrated = {}
    if len(calibration):
        calibrated[f"{stem}-margins"] = worst_case_figures.margin_curves(
            calibration, captions.CALIBRATION_TITLE, caption
        )
    predicts = Presented(
        captions.MARGINS_TITLE,
        worst_case.correlations_for_reading(correlations),
        [captions.MARGINS, *([] if calibrated else [captions.TOO_FEW]), *notes[1:]],
        f"{stem}-margins",
        correlations,
        beside={f"{stem}-images": images, f"{stem}-calibration": calibration},
        figures=calibrated,
        undrawn=[] if calibrated else [f"{stem}-margins"],
        about_figures=captions.BARS,
    )
    networks = networks_of([(manifest, summary)])
    pixels = worst_case.tabulate_pixels(rows, manifest.image_size)
    if pixels.empty:
        return [table, *networks, predicts]
    which = Presented(
        captions.PIXELS_TITLE,
        worst_case.pixels_for_reading(pixels),
        [captions.PIXELS, *notes[1:]],
        f"{stem}-pixels",
        pixels,
        figures={
            f"{stem}-pixels": worst_case_figures.pixels_against_chance(
                pixels, captions.PIXELS_TITLE, f"{captions.PIXELS} {caption}"
            )
        },
        about_figures=captions.BARS,
    )
    return [table, *networks, which, predicts]


def worst_case_summary(manifest: Manifest, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the share of images that are broken in a run of random and searched changes."""
    return worst_case.summarize_worst_case(rows, _queries_of(manifest, rows))


def _queries_of(manifest: Manifest, rows: pd.DataFrame) -> int:
    """Return how many queries the search had, at most; of a record that does not say, how many it took."""
    queries = manifest.config.get("queries")
    return queries if isinstance(queries, int) and queries > 0 else int(rows["query"].max())


def networks_of(runs: Sequence[Run]) -> list[Presented]:
    """Return what random and searched changes do to networks of known years and first kernels.

    Args:
        runs: manifest of random and searched changes, and the summary of their rows; several where each
            network has images of its own.

    Returns:
        One table with its figure; none where fewer than two networks are known.
    """
    parts = [
        worst_case.tabulate_networks(summary, _about_networks(manifest))
        for manifest, summary in runs
    ]
    networks = pd.concat(parts, ignore_index=True)
    if networks["year"].notna().sum() < 2:
        return []
    whose = [captions.NETWORKS] if len(runs) == 1 else [captions.NETWORKS, captions.OWN_IMAGES]
    notes = [*whose, *(captions.images_notes(runs[0][0], None) if len(runs) == 1 else [])]
    stem, figures = "worst-case-networks", {}
    if networks["stem"].nunique() > 1:
        caption = " ".join([captions.BARS, *notes[1:]])
        figures[stem] = worst_case_figures.networks_scatter(
            networks, captions.NETWORKS_TITLE, caption
        )
    readable = worst_case.networks_for_reading(networks)
    return [
        Presented(
            captions.NETWORKS_TITLE,
            readable,
            notes,
            stem,
            networks,
            figures=figures,
            about_figures=captions.BARS,
        )
    ]


def _about_networks(manifest: Manifest) -> pd.DataFrame:
    """Return year, first kernel and accuracy of the networks of a run, as `tabulate_networks` takes them."""
    known = {
        name: year_and_stem(network)
        for key, network in manifest.config["models"].items()
        for name in (key, str(network["name"]))
    }
    rows = []
    for name, rejected in manifest.rejected.items():
        year, stem = known.get(name) or (np.nan, np.nan)
        accuracy = 1 - rejected / manifest.candidates
        interval = wilson_interval(accuracy, manifest.candidates)
        rows.append([name, year, stem, accuracy, interval.low, interval.high])
    return pd.DataFrame(rows, columns=["model", "year", "stem", "accuracy", "ci_low", "ci_high"])


_PRESENTATIONS = {
    WORST_CASE.name: _worst_case,
    ADVERSARIAL.name: _returns,
    ACTIVATIONS.name: _amplification,
    RETRAINING.name: _retraining,
    TRANSFER.name: _transfer,
    DISTANCES.name: _distances,
}


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


def _limits(summary: pd.DataFrame) -> int:
    """Count the pairs of amplitude and area among changes; maps over num show one."""
    return len(summary.loc[summary["num"] > 0, ["amplitude", "area"]].drop_duplicates())
