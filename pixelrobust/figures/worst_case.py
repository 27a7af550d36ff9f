"""Random changes beside such as a search finds, which pixels these are, and whom they flip."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pixelrobust.figures import (
    COLOURS,
    MARKERS,
    Look,
    add_legend,
    add_series,
    add_words,
    looks_of,
    new_figure,
    set_places,
    tidy,
)
from pixelrobust.outcomes.kinds import EXTREMES, RANDOM, SEARCH
from pixelrobust.tables.worst_case import COLOUR, RADIUS, VALUE

_METHODS = {
    RANDOM: ("worst of so many random changes", Look(COLOURS[0], MARKERS[0])),
    EXTREMES: ("the same, with extreme values", Look(COLOURS[5], MARKERS[1])),
    SEARCH: ("search with so many queries", Look(COLOURS[1], MARKERS[2])),
}
_PANELS = {
    RADIUS: "distance from the centre\n(1: half the side)",
    VALUE: "new values of random changes",
    COLOUR: "new colours of extreme changes",
}


def worst_case_curves(summary: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw the share of images that are broken over the number of queries.

    Args:
        summary: from `pixelrobust.tables.worst_case.summarize_worst_case`, of one amplitude and area.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a row of panels for each model, a column for each num, and a series for each
        method; 95 % intervals as bars.
    """
    models, nums = (list(summary[key].unique()) for key in ("model", "num"))
    queries = sorted(int(one) for one in summary["queries"].unique())
    figure = new_figure(2.1 * len(nums) + 0.9, 1.75 * len(models) + 1.1)
    panels = figure.subplots(len(models), len(nums), sharex=True, sharey=True, squeeze=False)
    methods = [method for method in _METHODS if method in set(summary["method"])]
    for row, model in enumerate(models):
        for column, num in enumerate(nums):
            axes: Axes = panels[row, column]
            axes.set_xscale("log")
            axes.minorticks_off()
            set_places(axes, queries, [f"{one:,}" for one in queries], size=8)
            own = summary[(summary["model"] == model) & (summary["num"] == num)]
            for index, method in enumerate(methods):
                series = own[own["method"] == method].sort_values("queries")
                keys = ("broken_rate", "ci_low", "ci_high")
                middle, low, high = (100 * series[key] for key in keys)
                words, look = _METHODS[method]
                place = (index, len(methods))
                add_series(axes, series["queries"], (middle, low, high), words, look, place)
            # Points at either end show whole.
            axes.set_ylim(-4, 104)
            tidy(axes)
            if row == 0:
                axes.set_title(f"{num} pixel{'s' if num > 1 else ''}", fontsize=9)
            if row == len(models) - 1:
                axes.set_xlabel("changes tried (log scale)", fontsize=8)
        panels[row, 0].set_ylabel(f"{model}\nbroken (%)", fontsize=8, parse_math=False)
    add_legend(figure, panels[0, 0].lines)
    add_words(figure, title, caption)
    return figure


def pixels_against_chance(pixels: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw where the pixels of changes that fool lie, and what they become, against chance.

    Args:
        pixels: from `pixelrobust.tables.worst_case.tabulate_pixels`, with some rows.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a panel for distances, values and colours: how many times as many pixels are of a
        kind as chance has it, 95 % intervals as bars.
    """
    shown = [of for of in _PANELS if of in set(pixels["of"])]
    figure = new_figure(3.1 * len(shown) + 0.6, 3.7)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, of in zip(panels, shown, strict=True):
        own = pixels[pixels["of"] == of]
        parts = list(own["part"].unique())
        set_places(
            axes, range(len(parts)), parts, size=7, rotation=35, ha="right", rotation_mode="anchor"
        )
        axes.axhline(1, color="#000000", linewidth=0.8, linestyle=":", label="chance")
        methods = [method for method in _METHODS if method in set(own["method"])]
        for index, method in enumerate(methods):
            series = own[own["method"] == method]
            middle, low, high = (series[key] for key in ("ratio", "ci_low", "ci_high"))
            at = [parts.index(part) for part in series["part"]]
            _, look = _METHODS[method]
            add_series(axes, at, (middle, low, high), method, look, (index, len(methods)))
        axes.set_title(_PANELS[of], fontsize=9)
        tidy(axes)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("times as many as by chance")
    lines = {line.get_label(): line for axes in panels for line in axes.lines}
    add_legend(figure, lines.values())
    add_words(figure, title, caption)
    return figure


def networks_scatter(networks: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw what random and searched changes do to networks, over what these are.

    Args:
        networks: from `pixelrobust.tables.worst_case.tabulate_networks`.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a row of panels for random changes and one for the search, a column for accuracy,
        first kernel and year, and a point for each network; 95 % intervals as bars.
    """
    num, queries = int(networks["num"].max()), int(networks["queries"].max())
    rows = {
        ("wrong_rate", "wrong"): f"wrong after one random\nchange of {num} pixels (%)",
        ("broken_rate", "broken"): f"broken by {queries} queries\nof the search (%)",
    }
    columns = {
        "accuracy": "accuracy, unchanged (%)",
        "stem": "side of the first kernel (pixels)",
        "year": "year",
    }
    figure = new_figure(8.6, 5.6)
    panels = figure.subplots(len(rows), len(columns), sharex="col", sharey="row", squeeze=False)
    looks = looks_of(list(networks["model"]))
    for row, ((rate, word), left) in enumerate(rows.items()):
        for column, (what, below) in enumerate(columns.items()):
            axes: Axes = panels[row, column]
            known = networks[networks[what].notna()]
            if what != "accuracy":
                places = sorted(known[what].unique())
                labels = [f"{place:g}" for place in places]
                set_places(axes, places, labels, size=7, rotation=45 if what == "year" else 0)
            for _, own in known.groupby(what, sort=False):
                at = float(own[what].iloc[0]) * (100 if what == "accuracy" else 1)
                for index, one in enumerate(own.to_dict("records")):
                    middle, low, high = (
                        [100 * one[key]] for key in (rate, f"{word}_low", f"{word}_high")
                    )
                    name, place = str(one["model"]), (index, len(own))
                    add_series(axes, [at], (middle, low, high), name, looks[name], place)
            if row == len(rows) - 1:
                axes.set_xlabel(below)
            tidy(axes)
        panels[row, 0].set_ylim(bottom=-2)
        panels[row, 0].set_ylabel(left)
    lines = {line.get_label(): line for line in panels[0, 0].lines}
    add_legend(figure, (lines[name] for name in looks))
    add_words(figure, title, caption)
    return figure


def margin_curves(calibration: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw how often images of different margins flip.

    Args:
        calibration: from `pixelrobust.tables.worst_case.calibrate_margins`.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a panel for each model and a series for each num, over the median margins of groups
        of the images; 95 % intervals as bars.
    """
    models = list(calibration["model"].unique())
    columns = min(len(models), 2)
    rows = -(-len(models) // columns)
    figure = new_figure(3.8 * columns + 0.8, 2.5 * rows + 0.9)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    nums = [str(num) for num in sorted(calibration["num"].unique())]
    looks = looks_of(nums, ordered=True)
    for axes in panels[len(models) :]:
        axes.remove()
    for place, (axes, model) in enumerate(zip(panels, models, strict=False)):
        own = calibration[calibration["model"] == model]
        margins = sorted(own["margin"].unique())
        set_places(axes, margins, [f"{one:.3g}" for one in margins], size=8)
        for index, num in enumerate(nums):
            series = own[own["num"] == int(num)].sort_values("margin")
            middle, low, high = (100 * series[key] for key in ("wrong_rate", "ci_low", "ci_high"))
            values, at = (middle, low, high), (index, len(nums))
            add_series(axes, series["margin"], values, f"num {num}", looks[num], at)
        axes.set_title(model, fontsize=9, parse_math=False)
        axes.set_xlabel("margin of the unchanged image (logits)")
        if place % columns == 0:
            axes.set_ylabel("wrong predictions (%)")
        axes.set_ylim(bottom=0)
        tidy(axes)
    add_legend(figure, panels[0].lines)
    add_words(figure, title, caption)
    return figure
