"""From outcomes and manifest to table and figure files; nothing here evaluates anything."""

from pathlib import Path

import pandas as pd

from experiments.paper import Experiment, beside_published, experiment_called, published_rates
from pixelrobust.figures import curves, write_figure
from pixelrobust.figures_returns import returns_map
from pixelrobust.manifest import Manifest, read_manifest
from pixelrobust.outcomes import CELL_COLUMNS, read_outcomes, write_outcomes
from pixelrobust.returns import returns_for_reading, summarize_returns
from pixelrobust.tables import (
    escape_markdown,
    for_reading,
    summarize,
    write_csv,
    write_latex,
    write_markdown,
)

_NOTHING_WRONG = (
    "Not one outcome is wrong: the networks withstand all these changes on these images, and the "
    "intervals say which rates so few images cannot exclude. The experiment breakdown shows how many "
    "changed pixels it takes."
)


def store_run(directory: Path, manifest: Manifest, outcomes: pd.DataFrame) -> None:
    """Write what a run found, and who found it where."""
    stem = experiment_called(manifest.name).table
    write_outcomes(outcomes, directory / "outcomes" / f"{stem}.parquet")
    manifest.write(directory / "outcomes" / f"{stem}.json")


def load_run(directory: Path, name: str) -> tuple[Manifest, pd.DataFrame]:
    """Read what `store_run` wrote for the experiment of this name."""
    stem = directory / "outcomes" / experiment_called(name).table
    return read_manifest(stem.with_suffix(".json")), read_outcomes(stem.with_suffix(".parquet"))


def present(directory: Path, manifest: Manifest, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Write the table (CSV, Markdown, LaTeX) and figure (PNG, PDF) of a run.

    Returns:
        The table for reading.
    """
    experiment = experiment_called(manifest.name)
    if "epsilon" in outcomes:
        return _present_returns(directory, manifest, outcomes, experiment)
    summary = summarize(outcomes, manifest.image_size, manifest.amplitude_share)
    readable = for_reading(summary, manifest.image_size)
    notes = caption(manifest, summary)
    table = beside_published(summary, experiment.table)
    _write_tables(
        directory, experiment, table, readable, notes, published_notes(summary, experiment)
    )
    by = _what_varies(summary)
    if by is not None:
        figure = curves(summary, by, experiment.figure_title, " ".join(notes[1:]))
        write_figure(figure, directory / experiment.figure)
    return readable


def _present_returns(
    directory: Path, manifest: Manifest, outcomes: pd.DataFrame, experiment: Experiment
) -> pd.DataFrame:
    """The table and map of adversarial images that return to their true class."""
    summary = summarize_returns(outcomes, manifest.image_size, manifest.amplitude_share)
    readable = returns_for_reading(summary, manifest.image_size)
    notes = returns_caption(manifest, summary)
    _write_tables(directory, experiment, summary, readable, notes, [])
    if len(summary[["amplitude", "area"]][summary["num"] > 0].drop_duplicates()) == 1:
        figure = returns_map(summary, experiment.figure_title, " ".join(notes[1:]))
        write_figure(figure, directory / experiment.figure)
    return readable


def _write_tables(
    directory: Path,
    experiment: Experiment,
    table: pd.DataFrame,
    readable: pd.DataFrame,
    notes: list[str],
    published: list[str],
) -> None:
    stem = directory / experiment.table
    write_csv(table, stem.with_suffix(".csv"))
    markdown = [*map(escape_markdown, notes), *published]
    write_markdown(readable, experiment.title, markdown, stem.with_suffix(".md"))
    write_latex(readable, experiment.title, notes, experiment.table, stem.with_suffix(".tex"))


def _what_varies(summary: pd.DataFrame) -> str | None:
    """What curves over num stand for; None where there is no curve to draw, or a whole family."""
    changed = summary[summary["num"] > 0]
    varying = [key for key in ("amplitude", "area") if changed[key].nunique(dropna=False) > 1]
    if changed["num"].nunique() < 2 or len(varying) > 1:
        return None
    return varying[0] if varying else "model"


def caption(manifest: Manifest, summary: pd.DataFrame) -> list[str]:
    """Which images, how many, and what a reader must not conclude."""
    return [
        "Wrong predictions in percent, with 95 % intervals in parentheses. Num is the number of changed "
        "pixels and their share of the image; 0 is the unchanged image, the control.",
        _images_and_draws(manifest, summary),
        *([manifest.caveat] if manifest.caveat else []),
        *([_NOTHING_WRONG] if not summary["wrong"].any() else []),
    ]


def returns_caption(manifest: Manifest, summary: pd.DataFrame) -> list[str]:
    """What the returns are, of which images, and what a reader must not conclude."""
    return [
        "Adversarial images that return to their true class, in percent, with 95 % intervals in "
        "parentheses; behind the semicolon, points gained on num 0 in pairs. Epsilon is in 1/255; "
        "minimal is the smallest that fools the network. Unrounded images all fool it at num 0; "
        "rounding them to 8 bits returns some of them before any pixel is changed.",
        _images_and_draws(manifest, summary),
        *([manifest.caveat] if manifest.caveat else []),
    ]


def _images_and_draws(manifest: Manifest, summary: pd.DataFrame) -> str:
    models = _listing(list(manifest.rejected))
    correct = "it classifies" if len(manifest.rejected) == 1 else "all of them classify"
    changed = summary[summary["num"] > 0]
    draws = int(changed["draws"].max()) if len(changed) else 1
    sample = (
        f", a random sample of the {manifest.survivors:,} that qualify"
        if manifest.images < manifest.survivors
        else ""
    )
    return (
        f"Images: {manifest.images:,} of {manifest.candidates:,} ({manifest.description}); selected "
        f"with {models}, as images that {correct} correctly before any change{sample}. "
        f"{_counted(draws, 'random change')} of each image; intervals are over images."
    )


def published_notes(summary: pd.DataFrame, experiment: Experiment) -> list[str]:
    """The paper's numbers beside ours, as Markdown."""
    published = published_rates(experiment.table)
    if published.empty:
        return []
    ours = published.merge(
        summary[["model", *CELL_COLUMNS, "wrong_rate"]], how="left", on=["model", *CELL_COLUMNS]
    )
    table = pd.DataFrame(
        {
            "Model": ours["model"].map(escape_markdown),
            "Num": ours["num"].astype(str),
            "Published": ours["wording"],
            "Here": [
                "not evaluated" if pd.isna(r) else f"{100 * r:.1f} %" for r in ours["wrong_rate"]
            ],
            "Difference (points)": [
                "" if pd.isna(r) else f"{100 * (r - p):+.1f}"
                for r, p in zip(ours["wrong_rate"], ours["published_wrong_rate"], strict=True)
            ],
            "Where": ours["source"],
        }
    )
    return ["## The paper's numbers", table.to_markdown(index=False, disable_numparse=True)]


def _listing(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _counted(count: int, noun: str) -> str:
    return f"One {noun}" if count == 1 else f"{count} {noun}s"
