"""Random changes beside such as a search finds: tables from stored outcomes."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from pixelrobust.outcomes.kinds import CELL_COLUMNS, RANDOM, SEARCH
from pixelrobust.outcomes.rows import cell_of, pixels_from_text
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.paired import compare_pairs, mean_interval
from pixelrobust.statistics.rates import (
    Interval,
    correlation_interval,
    effective_sample_size,
    wilson_interval,
    wrong_rate_interval,
)
from pixelrobust.tables.rates import one_column_a_model, points, rate_with_interval

BUDGETS = (1, 5, 20, 100, 500)
"""Changes of an image, of which the worst counts, that tables and figures show."""

BROKEN_COLUMNS = [
    "model", *CELL_COLUMNS, "method", "queries", "images", "broken_rate", "ci_low", "ci_high",
    "more", "more_low", "more_high", "p",
]  # fmt: skip

RADIUS, VALUE, COLOUR = "distance from the centre", "value", "colour"
"""What changed pixels are told apart by."""

# Of half the image's side; the last ring ends at the corners.
_RINGS = (0.0, 0.25, 0.5, 0.75, 1.0, math.inf)
_RING_NAMES = ("to 1/4", "to 1/2", "to 3/4", "to 1", "corners")
# From 0 to 255, in eight equal parts.
_PARTS = 8
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
# Groups of images by their margin, as many as hold so many images each.
_GROUPS, _IN_A_GROUP = 5, 20


def summarize_worst_case(rows: pd.DataFrame, queries: int) -> pd.DataFrame:
    """Return the share of images that are broken by the worst of so many changes.

    Args:
        rows: columns of `pixelrobust.outcomes.kinds.WORST_CASE`.
        queries: of the search, at most; all images may be broken by fewer.

    Returns:
        A row for each model, cell, method and number of queries. Of n random draws of an image, of which
        h are misclassified, any q hold none of these with a chance of C(n - h, q) / C(n, q): the mean over
        images uses all draws for every q. broken_rate with its 95 % interval over images; more: its
        difference to random changes of as many queries, in pairs of images, with interval and p-value
        (missing for random changes, and where there are not as many).
    """
    found = []
    for (model, cell), shares in _broken_shares(rows, queries):
        for (method, tries), (own, independent) in shares.items():
            interval = wilson_interval(float(own.mean()), effective_sample_size(own, independent))
            row = {
                "model": model, **vars(cell), "method": method, "queries": tries,
                "images": len(own), "broken_rate": float(own.mean()),
                "ci_low": interval.low, "ci_high": interval.high,
            }  # fmt: skip
            reference = shares.get((RANDOM, tries))
            if method != RANDOM and reference is not None:
                more = compare_pairs(own, reference[0])
                row |= {
                    "more": more.mean,
                    "more_low": more.low,
                    "more_high": more.high,
                    "p": more.p,
                }
            found.append(row)
    summary = pd.DataFrame(found, columns=BROKEN_COLUMNS)
    return summary.astype({"amplitude": "Int16", "area": "Int32"})


_Shares = dict[tuple[str, int], tuple[NDArray[np.float64], int]]


def _broken_shares(rows: pd.DataFrame, queries: int) -> Iterator[tuple[tuple[str, Cell], _Shares]]:
    """Yield, for each model and cell, shares of broken images by method and number of queries.

    Each with the number of independent draws that it comes from, as intervals count them; images stand in
    one order.
    """
    changed = rows[rows["num"] > 0].astype({"image": str})
    for (model, *_), own in changed.groupby(
        ["model", *CELL_COLUMNS], dropna=False, observed=True, sort=False
    ):
        shares: _Shares = {}
        for method, tried in own.groupby("method", observed=True, sort=False):
            images = tried.groupby("image")
            if method == SEARCH:
                broken = images["query"].first().where(images["wrong"].first(), np.inf).to_numpy()
                for tries in _budgets(queries):
                    shares[str(method), tries] = (broken <= tries).astype(np.float64), 1
                continue
            hits, draws = images["wrong"].sum().to_numpy(), int(tried["draw"].max()) + 1
            for tries in _budgets(draws):
                shares[str(method), tries] = worst_of(hits, draws, tries), draws // tries
        yield (str(model), cell_of(own)), shares


def _budgets(most: int) -> list[int]:
    """Return the budgets that are shown up to so many queries, and this one where it lies between."""
    return [*(queries for queries in BUDGETS if queries < most), most]


def worst_of(hits: NDArray[np.int64], draws: int, queries: int) -> NDArray[np.float64]:
    """Return the chance that some of so many draws of an image, out of all, is misclassified.

    Args:
        hits: (N,) how many of an image's draws are.
        draws: of each image.
        queries: 1..draws.
    """
    misses = draws - np.asarray(hits, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = (
            special.gammaln(misses + 1)
            - special.gammaln(misses - queries + 1)
            + special.gammaln(draws - queries + 1)
            - special.gammaln(draws + 1)
        )
    none = np.where(misses >= queries, np.exp(logs), 0.0)
    # Chances are rounded, so that equal ones are equal.
    return np.asarray(np.clip(np.round(1 - none, 12), 0, 1))


def worst_case_for_reading(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the summary as text: a row a num, number of queries and method, a column a model."""
    ordered = _by_queries(summary)
    entries = [rate_with_interval(row["broken_rate"], row) for row in ordered.to_dict("records")]
    return _laid_out(ordered, entries)


def differences_for_reading(summary: pd.DataFrame) -> pd.DataFrame:
    """Return what breaks more images than as many random changes, in points, laid out the same."""
    ordered = _by_queries(summary[summary["more"].notna()])
    entries = [
        points(row["more"], row["more_low"], row["more_high"]) for row in ordered.to_dict("records")
    ]
    return _laid_out(ordered, entries)


def _by_queries(summary: pd.DataFrame) -> pd.DataFrame:
    place = {method: at for at, method in enumerate(summary["method"].unique())}
    order = summary.assign(place=summary["method"].map(place))
    return order.sort_values(["num", "queries", "place"], kind="stable").drop(columns="place")


def _laid_out(summary: pd.DataFrame, entries: list[str]) -> pd.DataFrame:
    keys = ["method", "queries", *CELL_COLUMNS]
    cells, models = one_column_a_model(summary, entries, keys, missing="")
    named = pd.DataFrame(
        {
            "Num": cells["num"].astype(str),
            "Queries": cells["queries"].astype(str),
            "Changes": cells["method"],
        }
    )
    return pd.concat([named, models], axis=1)


def tabulate_networks(summary: pd.DataFrame, about: pd.DataFrame) -> pd.DataFrame:
    """Return, for each network, what random and searched changes do to it, beside what it is.

    Args:
        summary: from `summarize_worst_case`; its largest num counts, one random change, and the search's
            most queries.
        about: columns model, year, stem (missing where not known), accuracy with ci_low and ci_high.

    Returns:
        The columns of `about`, num, images, wrong_rate, wrong_low, wrong_high (of random changes), queries,
        broken_rate, broken_low, broken_high (of the search).
    """
    largest = summary[summary["num"] == summary["num"].max()]
    random = largest[(largest["method"] == RANDOM) & (largest["queries"] == 1)]
    search = largest[largest["method"] == SEARCH]
    search = search[search["queries"] == search.groupby("model")["queries"].transform("max")]
    names = {"ci_low": "{}_low", "ci_high": "{}_high"}
    one, worst = (
        rows.set_index("model").rename(
            columns={key: end.format(word) for key, end in names.items()}
        )
        for rows, word in ((random, "wrong"), (search, "broken"))
    )
    one = one.rename(columns={"broken_rate": "wrong_rate"})
    return (
        about.set_index("model")
        .join(one[["num", "images", "wrong_rate", "wrong_low", "wrong_high"]], how="inner")
        .join(worst[["queries", "broken_rate", "broken_low", "broken_high"]], how="inner")
        .reset_index()
    )


def networks_for_reading(networks: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `tabulate_networks` as text."""
    rows = networks.to_dict("records")

    def rates(rate: str, word: str) -> list[str]:
        return [
            rate_with_interval(
                row[rate], {"ci_low": row[f"{word}_low"], "ci_high": row[f"{word}_high"]}
            )
            for row in rows
        ]

    return pd.DataFrame(
        {
            "Network": networks["model"],
            "Year": ["" if pd.isna(year) else str(int(year)) for year in networks["year"]],
            "First kernel": [
                "" if pd.isna(one) else f"{one:.0f} × {one:.0f}" for one in networks["stem"]
            ],
            "Accuracy (%)": rates("accuracy", "ci"),
            "Images": networks["images"].astype(str),
            "One random change wrong (%)": rates("wrong_rate", "wrong"),
            "Broken by the search (%)": rates("broken_rate", "broken"),
        }
    )


def tabulate_pixels(rows: pd.DataFrame, image_size: tuple[int, int]) -> pd.DataFrame:
    """Return where the changed pixels of misclassified changes lie, and which values they have.

    Of each model, image and num the first such change of either method counts; their pixels are counted
    together, so that those of the largest num weigh most.

    Args:
        rows: columns of `pixelrobust.outcomes.kinds.WORST_CASE`.
        image_size: (height, width) in pixels.

    Returns:
        Columns method, of (what pixels are told apart by), part, pixels (how many there are), share (of
        the pixels in this part, the mean over images), chance (were all pixels and values alike), ratio
        of the two with its 95 % interval (Student's, over images); no rows where nothing is broken.
    """
    broken = rows[rows["wrong"] & (rows["num"] > 0) & (rows["pixels"] != "")]
    found: list[dict[str, Any]] = []
    for method, own in broken.groupby("method", observed=True, sort=False):
        by_image = [
            [pixels_from_text(str(text)) for text in group]
            for _, group in own.groupby("image", observed=True)["pixels"]
        ]
        places = [np.concatenate([one[0] for one in image]) for image in by_image]
        values = [np.concatenate([one[1] for one in image]) for image in by_image]
        rings = [_rings(one, image_size) for one in places]
        found += _parts_of(str(method), RADIUS, _RING_NAMES, rings, _areas(image_size))
        if method == RANDOM:
            names = [f"{32 * part}–{32 * part + 31}" for part in range(_PARTS)]
            eighths = [one.ravel() // (256 // _PARTS) for one in values]
            found += _parts_of(RANDOM, VALUE, names, eighths, np.full(_PARTS, 1 / _PARTS))
        elif values[0].shape[1] == len(_RGB):
            corners = [(one > 127) @ _RGB for one in values]
            chance = np.full(len(_COLOURS), 1 / len(_COLOURS))
            found += _parts_of(str(method), COLOUR, _COLOURS, corners, chance)
    columns = ["method", "of", "part", "pixels", "share", "chance", "ratio", "ci_low", "ci_high"]
    return pd.DataFrame(found, columns=columns)


def pixels_for_reading(pixels: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `tabulate_pixels` as text, a column a method."""
    text = pixels.assign(
        entry=[
            f"{row['ratio']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
            for row in pixels.to_dict("records")
        ]
    )
    table = text.pivot_table(
        index=["of", "part"], columns="method", values="entry", aggfunc="first", sort=False
    )
    named = table.rename_axis(None, axis=1).reset_index(names=["Pixels by", "Part"])
    return named.fillna("")


# Of the bits of red, green and blue, the places of colours.
_RGB = np.array([1, 2, 4])


def _parts_of(
    method: str,
    of: str,
    names: Sequence[str],
    kinds: Sequence[NDArray[np.int64]],
    chance: NDArray[np.float64],
) -> Iterator[dict[str, Any]]:
    """Yield a row for each part; `kinds` holds, for each image, the part of each of its pixels."""
    counts = np.stack([np.bincount(one, minlength=len(names)) for one in kinds])
    shares = counts / counts.sum(axis=1, keepdims=True)
    for part, name in enumerate(names):
        mean, expected = float(shares[:, part].mean()), float(chance[part])
        if expected == 0:
            # Small images have no pixel in some rings.
            continue
        several = len(shares) > 1
        interval = mean_interval(shares[:, part], limit=1) if several else Interval(0.0, 1.0)
        yield {
            "method": method, "of": of, "part": name, "pixels": int(counts[:, part].sum()),
            "share": mean, "chance": expected, "ratio": mean / expected,
            "ci_low": max(interval.low, 0.0) / expected, "ci_high": interval.high / expected,
        }  # fmt: skip


def _rings(places: NDArray[np.int64], image_size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the ring of each place, (K, 2) rows and columns, by its distance from the centre."""
    height, width = image_size
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    half = np.array([height / 2, width / 2])
    distance = np.sqrt((((places - centre) / half) ** 2).sum(axis=1))
    return np.asarray(np.digitize(distance, _RINGS) - 1)


def _areas(image_size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share of an image's pixels in each ring."""
    every = np.stack(np.meshgrid(*map(np.arange, image_size), indexing="ij"), axis=-1).reshape(
        -1, 2
    )
    counts = np.bincount(_rings(every, image_size), minlength=len(_RING_NAMES))
    return np.asarray(counts / counts.sum())


def tabulate_images(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, for each model and image, its margin, and what it takes to flip its prediction.

    Returns:
        Columns model, image, margin (of the label's logit over the largest other, unchanged); random_num:
        the smallest num of which draw 0 is misclassified; worst_num: of which any draw is; searched_num:
        of which the search found one (missing where none is); and for each num of the run, as
        wrong_at_num, the share of random draws that are misclassified.
    """
    changed = rows[rows["num"] > 0]
    random = changed[changed["method"] == RANDOM]
    keys = ["model", "image"]
    groups = rows.groupby(keys, observed=True, sort=False)
    smallest = {
        "random_num": random[random["wrong"] & (random["draw"] == 0)],
        "worst_num": random[random["wrong"]],
        "searched_num": changed[changed["wrong"] & (changed["method"] == SEARCH)],
    }
    table = groups["margin"].first().to_frame()
    for name, flips in smallest.items():
        table[name] = flips.groupby(keys, observed=True)["num"].min().reindex(table.index)
    table = table.astype(dict.fromkeys(smallest, "Int64"))
    for num, own in random.groupby("num"):
        shares = own.groupby(keys, observed=True)["wrong"].mean()
        table[f"wrong_at_{num}"] = shares.reindex(table.index)
    return table.reset_index()


def correlate_margins(images: pd.DataFrame) -> pd.DataFrame:
    """Return how well the margin of an unchanged image predicts what flips it: Spearman's correlation.

    Args:
        images: from `tabulate_images`.

    Returns:
        Columns model, with (a column of the images), images, correlation (missing where either is
        constant), ci_low, ci_high; shares of wrong draws count as shares of right ones, and images that
        nothing flips come last, so that a margin that predicts gives a positive one.
    """
    found = []
    for model, own in images.groupby("model", observed=True, sort=False):
        for column in own.columns[3:]:
            values = own[column].astype("Float64").fillna(np.inf).astype(np.float64)
            values = -values if str(column).startswith("wrong_at_") else values
            correlation, interval = np.nan, Interval(np.nan, np.nan)
            if values.nunique() > 1 and own["margin"].nunique() > 1:
                correlation = float(own["margin"].rank().corr(values.rank()))
                interval = correlation_interval(correlation, len(own))
            found.append([str(model), column, len(own), correlation, interval.low, interval.high])
    columns = ["model", "with", "images", "correlation", "ci_low", "ci_high"]
    return pd.DataFrame(found, columns=columns)


def correlations_for_reading(correlations: pd.DataFrame) -> pd.DataFrame:
    """Return the correlations as text: a row for each thing that the margin predicts, a column a model."""
    text = correlations.assign(
        entry=[
            "undefined"
            if pd.isna(row["correlation"])
            else f"{row['correlation']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
            for row in correlations.to_dict("records")
        ],
        words=correlations["with"].map(_predicted),
    )
    table = text.pivot_table(
        index="words", columns="model", values="entry", aggfunc="first", sort=False
    )
    return table.rename_axis(None, axis=1).reset_index(names="Margin and")


def _predicted(column: str) -> str:
    words = {
        "random_num": "smallest num that flips, one random change",
        "worst_num": "smallest num that flips, any random change",
        "searched_num": "smallest num that flips, by the search",
    }
    return words.get(column) or f"share of right draws at num {column.rpartition('_')[2]}"


def calibrate_margins(images: pd.DataFrame, draws: int) -> pd.DataFrame:
    """Return the share of wrong draws of images by their margin: groups of 20 and more, five at most.

    Args:
        images: from `tabulate_images`.
        draws: random ones of each image.

    Returns:
        Columns model, num, margin (the median of a group), images, wrong_rate, ci_low, ci_high; no rows
        where images make up one group only.
    """
    found = []
    nums = [
        str(name).rpartition("_")[2] for name in images.columns if str(name).startswith("wrong_at_")
    ]
    for model, own in images.groupby("model", observed=True, sort=False):
        ordered = own.sort_values("margin", kind="stable")
        groups = min(_GROUPS, len(ordered) // _IN_A_GROUP)
        for part in np.array_split(np.arange(len(ordered)), groups) if groups > 1 else ():
            some = ordered.iloc[part]
            for num in nums:
                shares = some[f"wrong_at_{num}"].to_numpy(dtype=np.float64)
                interval = wrong_rate_interval(np.round(shares * draws), draws)
                found.append(
                    {
                        "model": str(model), "num": int(num), "margin": float(some["margin"].median()),
                        "images": len(some), "wrong_rate": float(shares.mean()),
                        "ci_low": interval.low, "ci_high": interval.high,
                    }
                )  # fmt: skip
    columns = ["model", "num", "margin", "images", "wrong_rate", "ci_low", "ci_high"]
    return pd.DataFrame(found, columns=columns)
