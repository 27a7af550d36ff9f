"""What measured changes of activations say, on networks for which it is known."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from pixelrobust import InputError
from pixelrobust.figures.curves import amplification_curves
from pixelrobust.outcomes.rows import concatenate, with_cell
from pixelrobust.perturbation.grid import Cell
from pixelrobust.tables.amplification import (
    amplification_verdict,
    blocks_of,
    summarize_blocks,
    tabulate_verdicts,
    verdicts_for_reading,
)
from tests.evaluation.cases import (
    SIDE,
    Square,
    convolutional,
    measure,
    random_images,
    unreachable_norms,
    wide,
    zero_logits,
)
from tests.experiments.claim_cases import activations


def test_a_multiple_of_the_identity_amplifies_by_one() -> None:
    count = 3 * SIDE * SIDE
    linear = nn.Linear(count, count, bias=False)
    with torch.no_grad():
        linear.weight.copy_(2 * torch.eye(count))
    changes = measure(nn.Sequential(nn.Flatten(), linear), random_images(6))
    assert list(changes["layer"].cat.categories) == ["input", "0", "1", "logits"]
    summary = summarize_blocks(changes)
    of_input = summary.groupby("change")["relative_change"].transform("first")
    assert (summary["relative_change"] / of_input).to_numpy() == pytest.approx(1, abs=1e-6)
    assert (summary["images"] == 6).all()
    assert amplification_verdict(changes).pixels.value == pytest.approx(1, abs=1e-6)


def test_squaring_doubles_small_changes() -> None:
    images = torch.full((4, 3, SIDE, SIDE), 200, dtype=torch.uint8)
    changes = measure(nn.Sequential(Square(), nn.Flatten()), images, Cell(3, amplitude=2))
    verdict = amplification_verdict(changes)
    assert verdict.pixels.value == pytest.approx(2, rel=0.02)
    assert verdict.noise.value == pytest.approx(2, rel=0.02)


def test_images_whose_noise_is_too_small_are_left_out() -> None:
    changes = unreachable_norms()
    told = changes.groupby("image", observed=True)["matched"].first()
    verdict = amplification_verdict(changes)
    assert (verdict.images, verdict.left_out) == (told.sum(), 40 - told.sum())
    assert (summarize_blocks(changes)["images"] == told.sum()).all()


def test_without_comparable_changes_there_is_no_verdict() -> None:
    with pytest.raises(InputError, match="no image has comparable"):
        amplification_verdict(zero_logits())


def test_a_block_has_the_geometric_mean_of_its_layers() -> None:
    changes = measure(convolutional(True), random_images(9))
    assert len(set(changes["layer"])) == 11
    summary = summarize_blocks(changes).set_index(["change", "block"])
    rows = wide(changes, "noise")
    logs = np.log(rows["3"])
    shown = summary.loc["noise", "layer 4"][["relative_change", "ci_low", "ci_high"]]
    half = stats.t.ppf(0.975, 8) * logs.std() / 3
    assert shown.tolist() == pytest.approx(
        np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    )


SQUEEZENET = {
    "input": "input", "0": "stem", "1.features.0": "stem", "1.features.1": "stem",
    "1.features.3.squeeze": "features.3", "1.features.3.expand1x1": "features.3",
    "1.features.3.expand1x1#2": "features.3",
    "1.features.4.squeeze": "features.4", "1.features.4.a": "features.4", "1.features.4.b": "features.4",
    "1.features.5": "features.4",
    "1.features.6.squeeze": "features.6", "1.features.6.a": "features.6", "1.features.6.b": "features.6",
    "1.features.7.squeeze": "features.7", "1.features.7.a": "features.7", "1.features.7.b": "features.7",
    "1.classifier.0": "head", "1.classifier.1": "head", "logits": "logits",
}  # fmt: skip
RESNET = {
    "input": "input", "conv1": "stem",
    **{f"layer{k}.{block}.conv{j}": f"layer{k}" for k in range(1, 5) for block in (0, 1) for j in (1, 2)},
    "fc": "head", "logits": "logits",
}  # fmt: skip


@pytest.mark.parametrize("blocks", [SQUEEZENET, RESNET])
def test_layers_are_taken_together_by_block(blocks: dict[str, str]) -> None:
    assert blocks_of(list(blocks)) == blocks


def test_without_blocks_neighbouring_layers_are_taken_together() -> None:
    inner = [f"1.features.{k}" for k in range(25)]
    found = blocks_of(["input", *inner, "logits"])
    assert list(found) == ["input", *inner, "logits"]
    assert list(dict.fromkeys(found.values())) == [
        "input", *(f"layers {k}–{k + 2}" for k in range(1, 25, 3)), "layer 25", "logits",
    ]  # fmt: skip


@pytest.mark.parametrize("models", [1, 2, 4])
def test_the_figure_has_a_panel_for_each_model(models: int) -> None:
    changes = measure(convolutional(True), random_images(5))
    augmented = changes[changes["change"] == "noise"].assign(change="erasing")
    summary = summarize_blocks(concatenate([changes.astype({"change": str}), augmented]))
    summaries = {f"model {index}": summary for index in range(models)}
    figure = amplification_curves(summaries, "Title", "caption")
    assert [axes.get_title() for axes in figure.axes] == list(summaries)
    assert "log scale" in figure.axes[0].get_ylabel()
    for axes in figure.axes:
        assert axes.get_yscale() == "log"
        assert axes.get_ylim() == figure.axes[0].get_ylim()
        assert axes.get_xticklabels()[0].get_text() == "input"
        assert len(axes.get_lines()) == 3


def two_networks() -> pd.DataFrame:
    """Grow by 2 to 4 in the one, shrink in the other, twice as much as noise does in both."""
    grown, shrunk = np.array([2.0, 3.0, 4.0, 2.5]), np.array([0.2, 0.3, 0.4, 0.25])
    limited = with_cell(activations(list(shrunk), list(shrunk / 2), "b"), Cell(8, 10, 200))
    return concatenate([activations(list(grown), list(grown / 2), "a"), limited])


def test_each_network_and_cell_has_its_verdict() -> None:
    table = tabulate_verdicts(two_networks())
    assert table[["model", "num", "images", "left_out"]].to_numpy().tolist() == [
        ["a", 64, 4, 0],
        ["b", 8, 4, 0],
    ]
    assert table["amplitude"].isna().tolist() == [True, False]
    assert table.loc[1, ["amplitude", "area"]].tolist() == [10, 200]
    assert table["pixels"].tolist() == pytest.approx([2.75, 0.275])
    assert table["noise"].tolist() == pytest.approx([1.375, 0.1375])
    assert table["ratio"].tolist() == pytest.approx([2, 2])
    assert table["ratio_low"].tolist() == pytest.approx([2, 2])
    assert table["exceeds_noise"].tolist() == ["yes", "yes"]


def test_the_ratio_is_a_geometric_mean_with_its_interval() -> None:
    table = tabulate_verdicts(activations([1.0, 4.0, 8.0], [2.0, 2.0, 1.0]))
    logs = np.log([0.5, 2, 8])
    interval = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    row = table.iloc[0]
    assert row["ratio"] == pytest.approx(2)
    assert row["ratio_low"] == pytest.approx(math.exp(interval.low))
    assert row["ratio_high"] == pytest.approx(math.exp(interval.high))
    assert row["exceeds_noise"] == "not decided"


def test_several_nums_of_a_network_are_not_mixed() -> None:
    few, many = activations([2.0, 2.2], [1.0, 1.0], num=4), activations([8.0, 8.8], [1.0, 1.0])
    table = tabulate_verdicts(concatenate([few, many]))
    assert table["num"].tolist() == [4, 64]
    assert table["pixels"].tolist() == pytest.approx([2.1, 8.4])


def test_verdicts_for_reading() -> None:
    text = verdicts_for_reading(tabulate_verdicts(two_networks()))
    assert text["Model"].tolist() == ["a", "b"]
    assert text["Num"].tolist() == ["64", "8"]
    assert text["Ratio"].tolist() == ["2.00 (2.00–2.00)"] * 2
    assert text["Changed pixels"][0].startswith("2.75 (")
    assert text["Magnified more than noise"].tolist() == ["yes", "yes"]


def test_an_interval_that_few_images_cannot_give_is_said() -> None:
    text = verdicts_for_reading(tabulate_verdicts(activations([2.0], [1.0])))
    assert text["Ratio"].tolist() == ["2.00 (no interval)"]
    assert text["Changed pixels"].tolist() == ["2.00 (no interval)"]
    assert text["Magnified more than noise"].tolist() == ["not decided"]
