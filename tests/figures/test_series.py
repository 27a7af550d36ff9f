"""Series in figures: side by side, one look a name, one scale, and axes that say what they are."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from experiments.captions import UNDRAWN
from experiments.present import tables_of
from experiments.stored import load_run
from experiments.writing import Presented, write_presented
from pixelrobust.figures import (
    add_legend,
    add_series,
    looks_of,
    new_figure,
    num_axis,
    remove_figure,
    write_figure,
)
from pixelrobust.figures.curves import rate_curves

RESULTS = Path(__file__).parents[2] / "results"
FIVE = ["resnet101", "densenet121", "vgg16", "alexnet", "squeezenet1_1"]
NUMS = [0, 4, 8, 16, 32, 64]


def summary(amplitudes: list[int | None]) -> pd.DataFrame:
    """Wrong rates of five networks, which differ much."""
    rows = []
    for place, model in enumerate(FIVE):
        for amplitude in amplitudes:
            for num in NUMS:
                rate = num * (place + 1) / 400
                rows.append(
                    {
                        "model": model, "num": num, "amplitude": amplitude if num else None,
                        "area": None, "wrong_rate": rate, "ci_low": rate / 2, "ci_high": rate + 0.05,
                    }
                )  # fmt: skip
    table = pd.DataFrame(rows).drop_duplicates(["model", "num", "amplitude"])
    return table.astype({"amplitude": "Int16", "area": "Int32"})


def places_of_bars(axes: Axes) -> list[float]:
    """Return where bars stand on the page, in points, from left to right."""
    dots = 72 / axes.get_figure(root=True).dpi
    return sorted(
        dots * bars.get_transform().transform(segment)[0, 0]
        for bars in axes.collections
        for segment in bars.get_segments()
    )


@pytest.mark.parametrize(
    ("by", "amplitudes"), [("model", [None]), ("amplitude", [10, 40, 70, 100, 127])]
)
def test_error_bars_stand_side_by_side(by: str, amplitudes: list[int | None]) -> None:
    figure = rate_curves(summary(amplitudes), by, "Title", "Caption.")
    figure.canvas.draw()
    for axes in figure.axes:
        places = places_of_bars(axes)
        assert len(places) == 5 * len(NUMS)
        width = axes.collections[0].get_linewidth()[0]
        assert all(two - one > width for one, two in pairwise(places))
        # Those of one num stand nearer to each other than to those of the next.
        gaps = np.diff(places).reshape(-1)
        assert gaps[4::5].min() > np.delete(gaps, np.s_[4::5]).max()
        left, right = axes.get_window_extent().x0, axes.get_window_extent().x1
        assert 72 / figure.dpi * left < places[0] < places[-1] < 72 / figure.dpi * right


def test_panels_that_are_compared_have_one_scale() -> None:
    figure = rate_curves(summary([10, 127]), "amplitude", "Title", "Caption.")
    assert [axes.get_title() for axes in figure.axes] == FIVE
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    low, high = figure.axes[0].get_ylim()
    assert low < 100 * (1 - 64 * 5 / 400 - 0.05)
    assert high > 100
    assert "symlog: linear below 4" in figure.axes[0].get_xlabel()


def test_networks_keep_their_colours_where_only_some_are_shown() -> None:
    table = summary([None])
    some = table[table["model"].isin(FIVE[2:4])]
    whole, part = (
        {line.get_label(): (line.get_color(), line.get_marker()) for line in figure.axes[0].lines}
        for figure in (
            rate_curves(table, "model", "Title", ""),
            rate_curves(some, "model", "Title", "", FIVE),
        )
    )
    assert part == {name: whole[name] for name in FIVE[2:4]}
    assert len(set(whole.values())) == 5


def test_retrainings_and_changes_keep_their_looks() -> None:
    kinds = ["unchanged", "noise", "erasing", "trivial_augment", "auto_augment", "augmix"]
    names = [f"net-{kind}" for kind in [*kinds, 4, 8, 16, 32, 64]]
    looks = looks_of(["net (original)", *names, "net-own"])
    assert len(set(looks.values())) == 13
    assert looks_of(["net-unchanged", "net-16"])["net-16"] == looks["net-16"]
    assert looks_of(["pixels", "noise"])["noise"] == looks["net-noise"]


def test_many_names_and_alike_ones_are_told_apart() -> None:
    names = [f"net {k}" for k in range(20)]
    assert (
        len(set(looks_of(names).values())) == len(set(looks_of(names, ordered=True).values())) == 20
    )
    assert len(set(looks_of(["a-4", "b-4"]).values())) == 2


def test_a_legend_of_long_names_stays_within_the_figure() -> None:
    figure = new_figure(6, 4)
    axes = figure.subplots()
    num_axis(axes, NUMS)
    for index, name in enumerate(
        names := [f"a_network_with_a_rather_long_name_{k}" for k in range(5)]
    ):
        add_series(axes, NUMS, (NUMS, NUMS, NUMS), name, looks_of(names)[name], (index, 5))
    add_legend(figure, axes.lines)
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 < axes.get_tightbbox().y0


def test_a_figure_that_would_show_nothing_leaves_no_file(tmp_path: Path) -> None:
    files = write_figure(rate_curves(summary([None]), "model", "Title", ""), tmp_path / "figure8")
    assert all(file.is_file() for file in files)
    write_presented(tmp_path, [Presented("Title", pd.DataFrame(), [], undrawn=["figure8"])])
    assert not any(file.exists() for file in files)
    remove_figure(tmp_path / "figure8")


@pytest.mark.parametrize("name", ["table6", "table7", "table10"])
def test_where_nothing_is_wrong_a_sentence_stands_for_the_figure(name: str) -> None:
    manifest, rows = load_run(RESULTS / "bundled", name)
    tables = tables_of(manifest, rows.assign(wrong=False, prediction=rows["label"]))
    for each in tables:
        assert not each.figures
        assert each.undrawn
        assert UNDRAWN in each.notes


def test_equal_figures_are_equal_files(tmp_path: Path) -> None:
    one, two = (
        [
            file.read_bytes()
            for file in write_figure(
                rate_curves(summary([None]), "model", "T", ""), tmp_path / name
            )
        ]
        for name in ("one", "two")
    )
    assert one == two
