"""Tables of retrained networks: the matrix of training by testing, and differences in pairs."""

from typing import Any

import numpy as np
import pandas as pd

from pixelrobust.comparisons import compare_pairs, holm
from pixelrobust.grid import Cell
from pixelrobust.pixel_index import AmplitudeShare
from pixelrobust.shares import WrongShares
from pixelrobust.tables import SUMMARY_COLUMNS, rate_with_interval, summarize

REFERENCES = ("baseline", "unchanged")
"""What retrained networks are compared with: the original, and retraining on unchanged images."""

ORIGINAL = " (original)"
UNCHANGED = "-unchanged"
ALL_CLASSES = " (all classes)"
"""How the names of these networks end."""

SAME = "same"
HELDOUT = "heldout"
"""What tables call the images that networks were retrained on, and others."""

_DIFFERENCE = ("difference", "low", "high", "p")


def summarize_retraining(
    outcomes: pd.DataFrame,
    image_size: tuple[int, int] = (224, 224),
    amplitude_share: AmplitudeShare = "range",
) -> pd.DataFrame:
    """One row for each set of test images, network and test cell.

    Args:
        outcomes: columns `outcomes.RETRAINED_COLUMNS`.
        image_size: (height, width), for the Pixel-index.
        amplitude_share: see `pixelrobust.pixel_index`.

    Returns:
        Columns images_are ("same" as trained on, or "heldout"), training_seeds, those of
        `pixelrobust.tables.summarize` (draws counts those of all seeds; intervals are over images),
        and for each reference <name>_difference in -1..1, the network's wrong rate minus the
        reference's on the same images, with its 95 % interval <name>_low and <name>_high, and
        <name>_p after Holm's correction over the rows of these images; missing for itself.
    """
    references = find_references(outcomes)
    parts = []
    for kind, rows in outcomes.groupby("images_are", observed=True, sort=False):
        pooled = pool_seeds(rows)
        summary = summarize(pooled, image_size, amplitude_share)
        seeds = rows.groupby("model", observed=True)["training_seed"].nunique()
        table = summary.assign(images_are=str(kind), training_seeds=summary["model"].map(seeds))
        shares = WrongShares(pooled)
        for reference in REFERENCES:
            table = _with_differences(table, shares, reference, references.get(reference))
        parts.append(table)
    columns = ["images_are", "training_seeds", *SUMMARY_COLUMNS]
    columns += [f"{name}_{end}" for name in REFERENCES for end in _DIFFERENCE]
    return pd.concat(parts, ignore_index=True)[columns].astype({"training_seeds": "int64"})


def find_references(rows: pd.DataFrame) -> dict[str, str]:
    """The names of the reference networks among those of the rows, by `REFERENCES`."""
    endings = dict(zip(REFERENCES, (ORIGINAL, UNCHANGED), strict=True))
    models = [str(model) for model in rows["model"].unique()]
    return {
        reference: model
        for reference, ending in endings.items()
        for model in models
        if model.endswith(ending)
    }


def retrained_on_pixels(rows: pd.DataFrame) -> list[str]:
    """The networks that were retrained on changed pixels, from the fewest to the most."""
    models = [str(model) for model in rows["model"].unique()]
    own = [model for model in models if model.rpartition("-")[2].isdigit()]
    return sorted(own, key=lambda model: int(model.rpartition("-")[2]))


def most_telling(rows: pd.DataFrame) -> str:
    """Which of the test images say most: heldout ones where there are any, else those trained on."""
    kinds = {str(kind) for kind in rows["images_are"].unique()}
    return HELDOUT if HELDOUT in kinds else SAME


def matrix_for_reading(summary: pd.DataFrame) -> pd.DataFrame:
    """The matrix as text: a row for each set of images and network, a column for each test cell."""
    entries = [rate_with_interval(row["wrong_rate"], row) for row in _records(summary)]
    return _laid_out(summary, entries)


def differences_for_reading(summary: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Differences to a reference as text, in points, laid out like the matrix."""
    compared = summary[summary[f"{reference}_difference"].notna()]
    return _laid_out(compared, [_difference(row, reference) for row in _records(compared)])


def pool_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Outcomes of one set of test images, every training seed's draws as draws of their own.

    Rates are then means over seeds too. Intervals stay intervals over images, for networks of just
    these seeds: a handful of retrainings says little about all others.
    """
    draws = int(rows["draw"].max()) + 1
    seeds = {seed: rank for rank, seed in enumerate(sorted(rows["training_seed"].unique()))}
    return rows.assign(draw=rows["draw"] + draws * rows["training_seed"].map(seeds).astype("int32"))


def _with_differences(
    table: pd.DataFrame, shares: WrongShares, reference: str, name: str | None
) -> pd.DataFrame:
    found = [
        _compare(shares, str(row["model"]), name, _cell(row))
        if name in shares.models and row["model"] != name
        else (np.nan,) * len(_DIFFERENCE)
        for row in _records(table)
    ]
    columns = pd.DataFrame(
        found, columns=[f"{reference}_{end}" for end in _DIFFERENCE], index=table.index
    )
    p = columns[f"{reference}_p"].astype(float)
    tested = p.notna()
    columns.loc[tested, f"{reference}_p"] = holm(p[tested].to_numpy())
    return pd.concat([table, columns], axis=1)


def _compare(
    shares: WrongShares, model: str, reference: str | None, cell: Cell
) -> tuple[float, float, float, float]:
    assert reference
    found = compare_pairs(shares.of(model, cell), shares.of(reference, cell))
    return found.mean, found.low, found.high, found.p


def _laid_out(summary: pd.DataFrame, entries: list[str]) -> pd.DataFrame:
    """Entries of the summary's rows, a row for each set of images and network."""
    headings = _headings(summary)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for row, heading, entry in zip(_records(summary), headings, entries, strict=True):
        kind, model = str(row["images_are"]), str(row["model"])
        empty = {"Tested on": kind, "Network": model, **dict.fromkeys(headings, "")}
        rows.setdefault((kind, model), empty)[heading] = entry
    return pd.DataFrame(list(rows.values()))


def _headings(summary: pd.DataFrame) -> list[str]:
    """Of each row the num, with amplitude and area where they limit anything."""
    texts = []
    for row in _records(summary):
        cell = _cell(row)
        amplitude = "" if cell.amplitude is None else f", ±{cell.amplitude}"
        area = "" if cell.area is None else f", {cell.area} × {cell.area}"
        texts.append(f"{cell.num}{amplitude}{area}")
    return texts


def _cell(row: dict[str, Any]) -> Cell:
    limits = (None if pd.isna(row[key]) else int(row[key]) for key in ("amplitude", "area"))
    return Cell(int(row["num"]), *limits)


def _difference(row: dict[str, Any], reference: str) -> str:
    value, low, high, p = (row[f"{reference}_{end}"] for end in _DIFFERENCE)
    star = " *" if p < 0.05 else ""
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}){star}"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
