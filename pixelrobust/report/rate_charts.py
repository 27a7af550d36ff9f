"""Figures of rates: over num, amplitude, area and epsilon; drawn from the CSV tables alone."""

import pandas as pd

from pixelrobust.report.axes import (
    PLACE,
    Row,
    ends,
    from_zero,
    num_axis,
    numbers,
    series_of,
    with_num_places,
)
from pixelrobust.report.plots import Axis, Panel, Plot, Series
from pixelrobust.retraining_tables import HELDOUT, SAME
from pixelrobust.tables import percent, significant

_TEST_IMAGES = {SAME: "the images trained on", HELDOUT: "other images"}
_LIMITS = {"amplitude": "±{:g}", "area": "{0:g} × {0:g}"}


def rate_plot(table: pd.DataFrame, title: str) -> Plot | None:
    """Rates over num: a curve a model, or a panel a model where something else varies, too.

    Args:
        table: from `pixelrobust.tables.summarize`, `retraining_tables.summarize_retraining` or
            `returns.summarize_returns`.
        title: of the figure.

    Returns:
        None where there are fewer than two nums, or amplitudes and areas both vary.
    """
    rate = "return_rate" if "return_rate" in table else "wrong_rate"
    table = numbers(table, "num", rate, "ci_low", "ci_high")
    changed = table[table["num"] > 0]
    varying = [key for key in _LIMITS if changed[key].nunique(dropna=False) > 1]
    if table["num"].nunique() < 2 or len(varying) > 1:
        return None
    table = with_num_places(table)
    if varying:
        names, panels = _by_limit(table, varying[0], rate)
    elif "epsilon" in table:
        names, panels = _by_epsilon(table, rate)
    else:
        names, panels = _by_model(table, rate)
    what = "returned to the true class (%)" if rate == "return_rate" else "wrong predictions (%)"
    x = num_axis([int(num) for num in table["num"].unique()])
    return Plot(title, x, from_zero(what, 100 * float(table["ci_high"].max())), panels, names)


def pixel_index_plot(table: pd.DataFrame, title: str) -> Plot | None:
    """The Pixel-index over num, where nothing else limits a change.

    Args:
        table: from `pixelrobust.ranking.pixel_indices`.
        title: of the figure.
    """
    table = numbers(table, "num", "pixel_index", "pi_low", "pi_high")
    table = table[table["amplitude"].isna() & table["area"].isna()]
    if table["num"].nunique() < 2:
        return None
    keys = ("pixel_index", "pi_low", "pi_high")
    curves = [
        series_of(str(model), rows, keys, 1, _index_hover)
        for model, rows in with_num_places(table).groupby("model", sort=False)
    ]
    x = num_axis([int(num) for num in table["num"].unique()])
    y = from_zero("Pixel-index (Pi)", float(table["pi_high"].max()))
    return Plot(title, x, y, [Panel("", curves)], [curve.name for curve in curves])


def transfer_plot(table: pd.DataFrame, title: str) -> Plot | None:
    """Adversarial images that still fool, over epsilon: a curve a network, a panel a kind of image.

    Args:
        table: from `pixelrobust.transfer.summarize_transfer`.
        title: of the figure.
    """
    table = numbers(table, "fooled_rate", "ci_low", "ci_high")
    if not len(table):
        return None
    epsilons = list(table["epsilon"].astype(str).unique())
    table = table.assign(**{PLACE: table["epsilon"].astype(str).map(epsilons.index)})
    names = [str(model) for model in table["model"].unique()]
    panels = [
        Panel(_kind_of_attack(str(against), str(rounded)), _curves(rows, "model", names, "fooled_rate"))
        for (against, rounded), rows in table.groupby(["against", "rounded"], sort=False)
    ]  # fmt: skip
    ticks = [(float(index), text) for index, text in enumerate(epsilons)]
    x = Axis("epsilon (1/255)", ticks, ends([0, len(epsilons) - 1]))
    y = from_zero("images that still fool (%)", 100 * float(table["ci_high"].max()))
    return Plot(title, x, y, panels, names)


def _kind_of_attack(against: str, rounded: str) -> str:
    target = {"original": "the original", "itself": "each network itself"}.get(against, against)
    return f"made against {target}, {'rounded' if rounded == 'True' else 'not rounded'}"


def _by_model(table: pd.DataFrame, rate: str) -> tuple[list[str], list[Panel]]:
    """A curve a model; a panel a set of test images, where there are several."""
    names = [str(model) for model in table["model"].unique()]
    if "images_are" not in table:
        return names, [Panel("", _curves(table, "model", names, rate))]
    return names, [
        Panel(f"tested on {_TEST_IMAGES.get(str(kind), kind)}", _curves(rows, "model", names, rate))
        for kind, rows in table.groupby("images_are", sort=False)
    ]


def _by_limit(table: pd.DataFrame, by: str, rate: str) -> tuple[list[str], list[Panel]]:
    """A panel a model, a curve an amplitude or area, each beginning at the control."""
    values = pd.to_numeric(table[by], errors="coerce")
    labels = values.map(lambda value: "unlimited" if pd.isna(value) else _LIMITS[by].format(value))
    names = list(dict.fromkeys(labels[table["num"] > 0]))
    panels = []
    for model, rows in table.groupby("model", sort=False):
        own, control = labels.loc[rows.index], rows["num"] == 0
        curves = [_rate_series(name, rows[(own == name) | control], rate) for name in names]
        panels.append(Panel(str(model), curves))
    return names, panels


def _by_epsilon(table: pd.DataFrame, rate: str) -> tuple[list[str], list[Panel]]:
    """A panel a model and kind of image, a curve an epsilon."""
    labelled = table.assign(label=table["epsilon"].astype(str).map(_epsilon))
    names = list(labelled["label"].unique())
    return names, [
        Panel(f"{model}: {kind}", _curves(rows, "label", names, rate))
        for (model, kind), rows in labelled.groupby(["model", "images_are"], sort=False)
    ]


def _epsilon(value: str) -> str:
    return "smallest epsilon that fools" if value == "minimal" else f"epsilon {value}/255"


def _curves(rows: pd.DataFrame, by: str, names: list[str], rate: str) -> list[Series]:
    own = rows[by].astype(str)
    return [_rate_series(name, rows[own == name], rate) for name in names if (own == name).any()]


def _rate_series(name: str, rows: pd.DataFrame, rate: str) -> Series:
    def hover(row: Row) -> list[str]:
        return [name, _cell_words(row), _with_interval(row, rate), _basis(row)]

    return series_of(name, rows, (rate, "ci_low", "ci_high"), 100, hover)


def _with_interval(row: Row, rate: str) -> str:
    share, low, high = (percent(float(row[key])) for key in (rate, "ci_low", "ci_high"))
    return f"{share} % (95 %: {low}–{high})"


def _basis(row: Row) -> str:
    """What a rate rests on."""
    images = f"{row['images']:,.0f} images"
    draws = row.get("draws")
    return (
        images
        if draws is None
        else f"{images}, {draws:,.0f} draw{'s' if draws > 1 else ''} of each"
    )


def _cell_words(row: Row) -> str:
    if "num" not in row:
        return _epsilon(str(row["epsilon"]))
    limits = [
        form.format(float(row[key])) for key, form in _LIMITS.items() if not pd.isna(row[key])
    ]
    return ", ".join([f"{row['num']:,.0f} changed pixels", *limits])


def _index_hover(row: Row) -> list[str]:
    index, low, high = (
        significant(float(row[key])) for key in ("pixel_index", "pi_low", "pi_high")
    )
    return [str(row["model"]), _cell_words(row), f"Pi {index} (95 %: {low}–{high})", _basis(row)]
