"""A folder of results as one page, `report.html`. Only its pictures need torch."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.captions import histories_caption, listing
from experiments.claims.findings import LEVEL
from experiments.claims.page import claims_section, said_of_claims, stored_claims
from experiments.config import settings_of
from experiments.paper import (
    CLAIM_SOURCES,
    CLAIMS,
    DESCRIPTIONS,
    LADDER_SOURCES,
    PAPERS_NUMS,
    TABLE_5,
    TABLE_5_SOURCES,
    experiment_called,
    within_paper,
)
from experiments.present import (
    description_of,
    histories_figure,
    indices_of,
    ladder_of,
    tables_of,
)
from experiments.stored import Run
from experiments.writing import Presented
from pixelrobust.errors import InputError
from pixelrobust.files import check_inside, file_sha256, write_text
from pixelrobust.outcomes.kinds import OUTCOMES, RETRAINING, kind_of
from pixelrobust.outcomes.manifest import Manifest, read_manifest
from pixelrobust.outcomes.rows import read_outcomes
from pixelrobust.perturbation.grid import Cell
from pixelrobust.report.page import (
    Block,
    Disclosure,
    Drawing,
    Facts,
    Gallery,
    Heading,
    Line,
    Page,
    Part,
    Section,
    Text,
    anchor_of,
    render,
    table_for_reading,
    table_of_csv,
)
from pixelrobust.report.svg import inline_svg
from pixelrobust.statistics.paired import holm, paired_test
from pixelrobust.statistics.rates import WrongShares
from pixelrobust.tables.pixel_index import ranking_for_reading
from pixelrobust.tables.rates import rate_with_interval

PAGE = "report.html"

_TITLE = "How easily do a few random pixels break these networks?"
_SECTIONS = (
    ("pixels", "How many changed pixels it takes",
     ("table6", "table", "pixels-to-flip", "breakdown", "breakdown-pixels-to-flip", "impulse-noise", "ladder")),
    ("limits", "How far values move, and where pixels lie", ("table7", "table8")),
    ("index", "The Pixel-index of every cell", ("table5",)),
    ("chance", "How much of the danger is chance", ("worst-case", "worst-case-networks", "worst-case-pixels", "worst-case-margins")),
    ("adversarial", "Adversarial images", ("table9", "returns", "overshoot")),
    ("inside", "Inside the networks", ("amplification",)),
    ("retrained", "After retraining",
     ("table10", "retraining", "table10-all", "retraining-all", "table11", "distances")),
    ("used", "What was used", tuple(DESCRIPTIONS)),
    ("others", "Further tables of the folder", ()),
)  # fmt: skip
_KNOWN = {stem for _, _, stems in _SECTIONS for stem in stems}
_HISTORIES = {
    "retraining": "Losses while retraining",
    "retraining-all": "Losses while all layers are retrained",
}
_HISTORY_COLUMNS = {"epoch", "loss", "accuracy", "model", "training_seed"}
_GALLERY = "Images that flip"
_DESCRIBES = "This describes what is configured and installed; no run is behind it."
_UNKNOWN = "No record of a run lies beside it."
_FOOTER = (
    "Made by pixelrobust from stored results. This page is one file and loads nothing from anywhere. "
    "Its pictures, if any, belong to the data set: whether the page may be passed on with them is for "
    "their licence to say."
)
# The run that says most about the others.
_FIRST_RUNS = ("table6", "table", "breakdown", "table10")
# More networks are summed up in the first words.
_MOST_NAMED = 4
_LEADERBOARD = "Leaderboard: networks by Pixel-index"
_LIMITS_OF_IT = (
    "This ranks networks on these images only. Do not conclude that a network is better where the two are "
    "not told apart, nor that a Pixel-index here is a property of the network: it is that of one cell, and "
    "the column over cells says how far the others are from it. Networks of other runs, or other images, "
    "have no place in this ranking."
)


@dataclass(frozen=True)
class Stored:
    """A folder of results, whoever wrote it.

    Attributes:
        folder: where it is.
        tables: its CSV files, by stem.
        manifests: of its runs, by the stem of their outcomes.
        runs: those whose outcomes are there, by the experiment's name.
        presented: tables with notes and figures, by stem.
        behind: the runs that these were made of, as in manifests.
    """

    folder: Path
    tables: Mapping[str, Path]
    manifests: Mapping[str, Manifest]
    runs: Mapping[str, Run]
    presented: Mapping[str, Presented]
    behind: Mapping[str, Sequence[str]]

    @property
    def main_run(self) -> str | None:
        """Name the run that says most about the others; None where there is none."""
        known = [*_FIRST_RUNS, *self.manifests]
        return next((run for run in known if run in self.manifests), None)


MakeGallery = Callable[[Stored], tuple[Gallery, str]]


def write_page(folder: Path, make_gallery: MakeGallery | None, tell: Callable[[str], None]) -> Path:
    """Write `report.html` into a folder of results; see `page_of`."""
    path = folder / PAGE
    write_text(path, page_of(folder, make_gallery, tell))
    return path


def page_of(folder: Path, make_gallery: MakeGallery | None, tell: Callable[[str], None]) -> str:
    """Return the page of a folder of results, as HTML; a pure function of its files and pictures.

    Args:
        folder: of anyone's results.
        make_gallery: pictures and their caption, which need the images; None: no images at hand.
        tell: is told why there are no pictures.

    Raises:
        InputError: there are no results, or they cannot be read.
    """
    stored = read_folder(folder)
    claims = stored_claims(stored.tables.get(CLAIMS))
    sections = _tables(stored)
    if claims:
        sources = [run for run in CLAIM_SOURCES if run in stored.manifests]
        first = stored.manifests[sources[0]] if sources else None
        lines = source_lines(stored, CLAIMS, sources)
        sections.insert(0, claims_section(claims, stored.tables[CLAIMS], first, lines))
    sections += [_gallery(stored, make_gallery, tell), _provenance(stored)]
    run = stored.main_run
    lead = [*_measured(stored, run), *_came_out(stored, run), *said_of_claims(claims)]
    caveat = stored.manifests[run].caveat if run else ""
    return render(Page(folder.resolve().name, _TITLE, lead, caveat, sections, _FOOTER))


def keys_gallery(keys: Sequence[str]) -> MakeGallery:
    """Return what makes a gallery of the images that keys name; loads torch when called."""

    def make(stored: Stored) -> tuple[Gallery, str]:
        """Draw the gallery of a folder."""
        # Wrong keys are said before torch is loaded, which takes seconds.
        settings = settings_of(*keys)
        from experiments.gallery import draw_gallery

        return draw_gallery(stored.folder, stored.runs, settings)

    return make


# What lies in the folder


def read_folder(folder: Path) -> Stored:
    """Read everything in a folder of results, and make tables and figures of the outcomes.

    Raises:
        InputError: there are no results, a file cannot be read, or is a link that leads out.
    """
    tables = {path.stem: path for path in sorted(folder.glob("[!.]*.csv"))}
    records = sorted(folder.glob("outcomes/[!.]*.json"))
    if not tables and not records:
        raise InputError(
            f"{folder} holds no results; run `make reproduce-table6` first, or give another folder."
        )
    for path in (*tables.values(), *records, *folder.glob("outcomes/[!.]*.parquet")):
        check_inside(path, folder)
    manifests = {path.stem: read_manifest(path) for path in records}
    outcomes = {stem: folder / "outcomes" / f"{stem}.parquet" for stem in manifests}
    runs = {
        manifest.name: (manifest, read_outcomes(outcomes[stem], kind_of(manifest.config).name))
        for stem, manifest in manifests.items()
        if outcomes[stem].is_file()
    }
    presented: dict[str, Presented] = {}
    behind: dict[str, list[str]] = {}
    for stem, manifest in manifests.items():
        if manifest.name in runs:
            for each in tables_of(*runs[manifest.name]):
                presented[each.stem], behind[each.stem] = each, [stem]
    # Runs on different images have no Pixel-indices in common, but tables of their own.
    for derived, sources in ((indices_of, TABLE_5_SOURCES), (ladder_of, LADDER_SOURCES)):
        with contextlib.suppress(InputError):
            for each in derived(runs):
                presented[each.stem], behind[each.stem] = each, list(sources)
    for stem, path in tables.items():
        if stem in DESCRIPTIONS:
            presented[stem] = description_of(stem, _read(path))
        elif stem in _HISTORIES:
            presented[stem] = _histories(stem, _read(path))
            known = [name for name in manifests if name.startswith("table10")]
            behind[stem] = [name for name in known if experiment_called(name).histories == stem]
        elif stem not in presented:
            experiment = experiment_called(stem)
            title = experiment.title if experiment.table == stem else stem
            presented[stem] = Presented(title, pd.DataFrame(), [], stem)
    presented.pop("", None)
    return Stored(folder, tables, manifests, runs, presented, behind)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"table {path} cannot be read ({error}); rebuild it.") from error


def _histories(stem: str, histories: pd.DataFrame) -> Presented:
    drawn = len(histories) and set(histories.columns) >= _HISTORY_COLUMNS
    figures = {stem: histories_figure(histories)} if drawn else {}
    about = histories_caption(histories) if drawn else ""
    return Presented(
        _HISTORIES[stem], pd.DataFrame(), [], stem, figures=figures, about_figures=about
    )


# Sections


def _tables(stored: Stored) -> list[Section]:
    """Return a section for each subject of which there is a table."""
    left = set(stored.presented) - {CLAIMS}
    children = {stem: _parent(stem, left) for stem in left - _KNOWN}
    left -= {stem for stem, parent in children.items() if parent}
    sections = []
    for anchor, title, stems in _SECTIONS:
        own = [stem for stem in stems if stem in left] or (sorted(left) if not stems else [])
        left -= set(own)
        parts = [
            _part(stored, stem, sorted(child for child, of in children.items() if of == stem))
            for stem in own
        ]
        if parts:
            sections.append(Section(anchor, title, (), parts))
    return sections


def _parent(stem: str, stems: set[str]) -> str:
    """Return the table that another belongs to: of table5-ranking, table5."""
    return max((own for own in stems if stem.startswith(f"{own}-")), key=len, default="")


def _part(stored: Stored, stem: str, children: Sequence[str]) -> Part:
    """Return a table with figures, notes, all its numbers, and where it comes from."""
    presented = stored.presented[stem]
    blocks: list[Block] = [
        Drawing(inline_svg(figure, name), figure.get_suptitle(), presented.about_figures)
        for name, figure in presented.figures.items()
    ]
    if stem == TABLE_5.table:
        # Instead of the ranking below the table.
        blocks += _leaderboard(presented, stored.runs)
    if len(presented.table):
        blocks += [table_for_reading(presented.table, presented.title)]
        blocks += map(Text, presented.notes)
    for below in presented.below if stem != TABLE_5.table else ():
        blocks += [Heading(below.title), table_for_reading(below.table, below.title)]
        blocks += map(Text, below.notes)
    for name in (stem, *children):
        if name in stored.tables:
            numbers = table_of_csv(stored.tables[name])
            rows = len(numbers.rows) + numbers.more
            blocks.append(Disclosure(f"All columns of {name}.csv, {rows:,} rows", [numbers]))
    titles = [each.title for each in stored.presented.values()]
    title = presented.title if titles.count(presented.title) == 1 else f"{presented.title} ({stem})"
    lines = source_lines(stored, stem, stored.behind.get(stem, ()))
    return Part(anchor_of("part", stem), title, [*blocks, *lines])


def _leaderboard(presented: Presented, runs: Mapping[str, Run]) -> list[Block]:
    """Return networks ranked by Pixel-index, and which of them these images do not tell apart.

    Args:
        presented: Table 5.
        runs: those that it was made of, by the experiment's name.
    """
    ranking = presented.beside.get(f"{TABLE_5.table}-ranking")
    if ranking is None:
        return []
    cell = Cell(PAPERS_NUMS[-1])
    alike = _not_told_apart(cell, runs)
    ranking = ranking.sort_values("pixel_index", kind="stable", ignore_index=True)
    readable = ranking_for_reading(ranking)
    table = pd.DataFrame(
        {
            "Place": readable["Rank by Pi"],
            "Network": readable["Model"],
            "Pixel-index (95 %)": readable["Pi"],
            "Accuracy (%)": readable["Accuracy (%)"],
            "Pi over cells": readable["Pi over cells"],
            "Not told apart from": [
                ", ".join(alike.get(str(model), [])) or "none" for model in ranking["model"]
            ],
        }
    )
    count, pairs = sum(map(len, alike.values())) // 2, len(alike) * (len(alike) - 1) // 2
    return [
        Heading(_LEADERBOARD),
        Text(
            f"By the Pixel-index at {cell.num:,} changed pixels anywhere in the image, of any value; "
            "smaller is more robust. Accuracy is on all candidates, unchanged."
        ),
        table_for_reading(table, _LEADERBOARD),
        Text(
            f"{count} of {pairs} pairs of networks are not told apart: paired tests of their wrong "
            f"predictions on the same images, p {LEVEL:g} or more after Holm's correction."
        ),
        Text(_LIMITS_OF_IT, marked=True),
        Heading("Every cell"),
    ]


def _not_told_apart(cell: Cell, runs: Mapping[str, Run]) -> dict[str, list[str]]:
    """Return, for each network, those whose wrong rates in this cell could be the same."""
    tables = (WrongShares(runs[name][1]) for name in TABLE_5_SOURCES)
    shares = next(own for own in tables if any(own.has(model, cell) for model in own.models))
    models = [model for model in shares.models if shares.has(model, cell)]
    pairs = list(combinations(models, 2))
    adjusted = holm(
        [paired_test(shares.of(one, cell), shares.of(two, cell), shares.draws) for one, two in pairs]
    )  # fmt: skip
    alike: dict[str, list[str]] = {model: [] for model in models}
    for (one, two), p in zip(pairs, adjusted, strict=True):
        if p >= LEVEL:
            alike[one].append(two)
            alike[two].append(one)
    return alike


def _gallery(
    stored: Stored, make_gallery: MakeGallery | None, tell: Callable[[str], None]
) -> Section:
    why = "no images were given"
    if make_gallery is not None:
        try:
            gallery, caption = make_gallery(stored)
            return Section("gallery", _GALLERY, [Text(caption), gallery])
        except InputError as error:
            tell(f"the page shows no pictures: {error}")
            why = "the images that these runs saw are not at hand"
    sentence = (
        f"Left out: {why}. Pictures are changed again, pixel for pixel, from the images of the runs: "
        "`make report`, or `python -m experiments.report FOLDER --html --images`, with the keys that "
        "say where they lie, shows them."
    )
    return Section("gallery", _GALLERY, [Text(sentence)])


# Where the numbers come from


def provenance(manifest: Manifest) -> str:
    """Return a run in one line."""
    software, hardware = manifest.software, manifest.hardware
    commit = str(software.get("commit") or "unknown")[:10]
    changes = " with uncommitted changes" if software.get("uncommitted_changes") else ""
    machine = hardware.get("gpu") or f"{hardware.get('cores')} cores, {hardware.get('system')}"
    return (
        f"{manifest.name}: seed {manifest.config.get('seed', 'of each')}, draws {manifest.draws}, "
        f"torch {software.get('torch')}, commit {commit}{changes}, {machine}, "
        f"{sum(manifest.seconds.values()):.0f} s; images {manifest.image_list_sha256[:10]}"
    )


def source_lines(stored: Stored, stem: str, runs: Sequence[str]) -> list[Block]:
    """Return the file of a table and the runs behind it, in small print."""
    from_file = f"From {stem}.csv." if stem in stored.tables else ""
    if stem in DESCRIPTIONS or not runs:
        return [Line(f"{from_file} {_DESCRIBES if stem in DESCRIPTIONS else _UNKNOWN}")]
    lines: list[Block] = [Line(from_file)] if from_file and len(runs) > 1 else []
    begin = "" if lines or not from_file else f"{from_file} "
    return lines + [
        Line(begin + provenance(stored.manifests[run]), anchor_of("run", run), "full record")
        for run in runs
    ]


def _provenance(stored: Stored) -> Section:
    """Return the records of all runs."""
    parts = []
    for run, manifest in stored.manifests.items():
        facts = Facts(_facts(stored.folder, run, manifest))
        parts.append(Part(anchor_of("run", run), f"Run {manifest.name}", [facts]))
    rows = [
        {
            "Run": manifest.name,
            "Images": f"{manifest.images:,}",
            "Draws": str(manifest.draws),
            "Seed": str(manifest.config.get("seed", "")),
            "Seconds": f"{sum(manifest.seconds.values()):.0f}",
            "Images' hash": manifest.image_list_sha256[:10],
            "Commit": str(manifest.software.get("commit") or "unknown")[:10],
            "Machine": str(manifest.hardware.get("gpu") or manifest.hardware.get("device") or ""),
        }
        for manifest in stored.manifests.values()
    ]
    blocks = [table_for_reading(pd.DataFrame(rows), "All runs")] if rows else []
    return Section("provenance", "Where the numbers come from", blocks, parts)


def _facts(folder: Path, run: str, manifest: Manifest) -> list[tuple[str, str]]:
    outcomes = folder / "outcomes" / f"{run}.parquet"
    digest = file_sha256(outcomes) if outcomes.is_file() else "missing"
    height, width = manifest.image_size
    facts = [
        ("Record", f"outcomes/{run}.json"),
        ("Outcomes", f"outcomes/{run}.parquet, SHA-256 {digest}"),
        ("Images", f"{manifest.images:,} of {manifest.candidates:,}, {height} × {width} pixels"),
        ("Data set", manifest.description),
        ("List of images, SHA-256", manifest.image_list_sha256),
        ("Seed, draws", f"{manifest.config.get('seed', 'of each')}, {manifest.draws}"),
        ("Wrong before any change", _pairs(manifest.rejected)),
    ]
    facts += [(f"Weights of {key}, SHA-256", str(v)) for key, v in manifest.weights_sha256.items()]
    facts += [
        (f"Engine of {model}", _pairs(engine) if isinstance(engine, dict) else str(engine))
        for model, engine in manifest.engines.items()
    ]
    facts += [
        ("Software", _pairs(manifest.software)),
        ("Machine", _pairs(manifest.hardware)),
        ("Seconds", _pairs(manifest.seconds)),
    ]
    return [(name, value) for name, value in facts if value]


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


# The first words


def _measured(stored: Stored, run: str | None) -> list[str]:
    """Say what was measured, on which images."""
    if run is None:
        return ["No record of a run lies in this folder."]
    manifest = stored.manifests[run]
    models = list(manifest.weights_sha256) or list(manifest.rejected)
    draws = "once" if manifest.draws == 1 else f"{manifest.draws:,} times"
    return [
        f"{manifest.images:,} images ({manifest.description}) were shown to {listing(models)} with "
        f"{_pixels(stored, run)} changed, {draws} for each number of pixels."
    ]


def _pixels(stored: Stored, run: str) -> str:
    """Say how many pixels were changed, as far as the run's rows are there and say it."""
    table = stored.presented[run].numbers if run in stored.presented else pd.DataFrame()
    if table.empty or "num" not in kind_of(stored.manifests[run].config).keys:
        return "random pixels"
    nums = table.loc[table["num"] > 0, "num"]
    if nums.empty:
        return "no pixels"
    least, most = int(nums.min()), int(nums.max())
    return f"{least:,} random pixels" if least == most else f"{least:,} to {most:,} random pixels"


def _came_out(stored: Stored, run: str | None) -> list[str]:
    """Say what the wrong rates at the largest number of changed pixels are."""
    if run is None or run not in stored.presented:
        return []
    kind, table = kind_of(stored.manifests[run].config), stored.presented[run].numbers
    if table.empty or kind not in (OUTCOMES, RETRAINING):
        return []
    if kind is RETRAINING:
        # Of networks that were trained, others' images say most.
        table = table[table["images_are"] == table["images_are"].iloc[-1]]
    within = within_paper(table)
    if run in TABLE_5_SOURCES and (within["num"] > 0).any():
        table = within
    largest = table[table["num"] == table["num"].max()]
    largest = largest.sort_values("wrong_rate", ascending=False, kind="stable")
    rates = [
        rate_with_interval(row["wrong_rate"], row, unit="\N{NO-BREAK SPACE}%")
        + f" of {row['model']}"
        for row in largest.to_dict("records")
    ]
    begin = f"With {int(largest['num'].iloc[0]):,} pixels changed, the share of wrong predictions"
    if len(rates) <= _MOST_NAMED:
        return [f"{begin} (with its 95 % interval) was {listing(rates)}."]
    return [f"{begin} (95 % interval) went from {rates[-1]} to {rates[0]}."]
