"""Tables and figures of retrained networks from outcomes that are counted by hand."""

import math
from collections.abc import Sequence

import pandas as pd
import pytest
from scipy import stats

from pixelrobust.errors import InputError
from pixelrobust.figures.retraining import loss_curves, retraining_matrix
from pixelrobust.outcomes.rows import concatenate
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.paired import holm, sign_flip_test
from pixelrobust.statistics.rates import wilson_interval
from pixelrobust.tables.retraining import (
    differences_for_reading,
    find_references,
    matrix_for_reading,
    most_telling,
    pool_seeds,
    rates_of_right_for_reading,
    retrained_on_pixels,
    rises_for_reading,
    summarize_retraining,
    summarize_right,
    summarize_rises,
)
from tests.tables.retrained_rows import (
    CONTROL,
    FOUR,
    MANY,
    ORIGINAL,
    first,
    outcomes_of,
    row_of,
    together,
)

# Wrong images of 20, at 0 and 64 changed pixels; those of a network lie within each other.
COUNTS = {ORIGINAL: (0, 10), CONTROL: (1, 8), FOUR: (0, 2), MANY: (8, 8)}


def outcomes(kind: str = "same", counts: dict[str, tuple[int, int]] = COUNTS) -> pd.DataFrame:
    return together(
        *(
            outcomes_of({Cell(0): first(clean, 20), Cell(64): first(changed, 20)}, model, kind)
            for model, (clean, changed) in counts.items()
        )
    )


def test_rates_and_intervals_of_each_network_and_cell() -> None:
    summary = summarize_retraining(outcomes())
    assert summary["model"].tolist() == [name for name in COUNTS for _ in range(2)]
    assert summary["wrong"].tolist() == [count for pair in COUNTS.values() for count in pair]
    found = row_of(summary, ORIGINAL, num=64)
    interval = wilson_interval(0.5, 20)
    assert (found["ci_low"], found["ci_high"]) == (interval.low, interval.high)
    assert (found["training_seeds"], found["draws"], found["images"]) == (1, 1, 20)


def test_differences_are_in_pairs_and_corrected_over_the_rows() -> None:
    """Nested wrong images: as many are discordant as the counts differ, all of them one way."""
    summary = summarize_retraining(outcomes())
    for reference, name in (("baseline", ORIGINAL), ("unchanged", CONTROL)):
        apart = {
            (model, num): own - other
            for model, counts in COUNTS.items()
            if model != name
            for num, own, other in zip((0, 64), counts, COUNTS[name], strict=True)
        }
        raw = [min(2.0 ** (1 - abs(count)), 1) for count in apart.values()]
        for (model, num), p in zip(apart, holm(raw), strict=True):
            found = row_of(summary, model, num=num)
            difference = apart[model, num] / 20
            assert found[f"{reference}_difference"] == pytest.approx(difference)
            assert found[f"{reference}_p"] == pytest.approx(p)
            assert found[f"{reference}_low"] < difference < found[f"{reference}_high"]
        own = summary[summary["model"] == name]
        assert own.filter(regex=f"^{reference}_").isna().all(axis=None)


def test_pairs_count_not_totals() -> None:
    """As many wrong images as the original has, but others: a difference of 0, 12 discordant."""
    one, two = first(6, 20), first(6, 20, start=6)
    rows = together(*(outcomes_of({Cell(4): w}, m) for w, m in ((one, ORIGINAL), (two, FOUR))))
    found = row_of(summarize_retraining(rows), FOUR, num=4)
    assert found["baseline_difference"] == 0
    assert found["baseline_p"] == 1
    # Wald's, which is a little wider here than Tango's: 12 discordant pairs of 20.
    wald = stats.norm.ppf(0.975) * math.sqrt(12) / 20
    assert found["baseline_high"] == pytest.approx(wald, rel=0.05)
    assert found["baseline_low"] == pytest.approx(-found["baseline_high"])


def test_each_set_of_images_is_compared_and_corrected_apart() -> None:
    both = concatenate([outcomes(), outcomes("heldout")])
    summary = summarize_retraining(both)
    assert summary["images_are"].tolist() == ["same"] * 8 + ["heldout"] * 8
    alone = summarize_retraining(outcomes())
    assert summary["baseline_p"][:8].tolist()[2:] == alone["baseline_p"].tolist()[2:]
    assert summary["baseline_p"][8:].tolist()[2:] == alone["baseline_p"].tolist()[2:]


def test_without_a_reference_there_are_no_differences() -> None:
    rows = outcomes(counts={FOUR: (0, 2), MANY: (1, 2)})
    summary = summarize_retraining(rows)
    assert find_references(rows) == {}
    assert summary.filter(regex="_difference$|_p$").isna().all(axis=None)


def test_seeds_are_pooled_as_draws_of_the_same_images() -> None:
    """Four images; wrong for both seeds, one of them, and none: shares 1, 1/2, 0, 0."""
    rows = together(
        outcomes_of({Cell(4): [0, 0, 0, 0]}, ORIGINAL),
        outcomes_of({Cell(4): [1, 1, 0, 0]}, FOUR, seed=3),
        outcomes_of({Cell(4): [1, 0, 0, 0]}, FOUR, seed=7),
    )
    found = row_of(summarize_retraining(rows), FOUR, num=4)
    assert (found["training_seeds"], found["images"], found["draws"]) == (2, 4, 2)
    assert (found["wrong"], found["wrong_rate"]) == (3, 0.375)
    # Signs of two differences, 1 and 1/2: one pattern of four has a sum as large, and one as small.
    assert found["baseline_p"] == pytest.approx(0.5)
    original = row_of(summarize_retraining(rows), ORIGINAL, num=4)
    assert (original["training_seeds"], original["draws"]) == (1, 1)


def test_pooled_draws_are_different_ones() -> None:
    parts = [
        outcomes_of({Cell(0): [0, 1], Cell(4): [[0, 1], [1, 1]]}, FOUR, seed=seed)
        for seed in (2, 9)
    ]
    pooled = pool_seeds(together(*parts))
    assert not pooled.duplicated(["num", "image", "draw"]).any()
    assert sorted(pooled.loc[pooled["num"] == 4, "draw"].unique()) == [0, 1, 2, 3]


def test_networks_by_their_names() -> None:
    names = ["re-18 (all classes)", "re-18 (original)", "re-18-unchanged", "re-18-noise"]
    rows = pd.DataFrame({"model": [*names, "re-18-64", "re-18-8", "re-18-16"]})
    assert find_references(rows) == {"baseline": names[1], "unchanged": names[2]}
    assert retrained_on_pixels(rows) == ["re-18-8", "re-18-16", "re-18-64"]


@pytest.mark.parametrize(
    ("kinds", "expected"), [(["same"], "same"), (["heldout", "same"], "heldout")]
)
def test_heldout_images_say_most(kinds: list[str], expected: str) -> None:
    assert most_telling(pd.DataFrame({"images_are": kinds})) == expected


def test_networks_of_different_images_are_refused() -> None:
    rows = together(
        outcomes_of({Cell(4): [0, 0, 1]}, ORIGINAL), outcomes_of({Cell(4): [0, 0]}, FOUR)
    )
    with pytest.raises(InputError, match="compared in pairs"):
        summarize_retraining(rows)


# For reading


def test_the_matrix_as_text() -> None:
    table = matrix_for_reading(summarize_retraining(outcomes()))
    assert list(table.columns) == ["Tested on", "Network", "0", "64"]
    assert table["Network"].tolist() == list(COUNTS)
    assert table["64"][0] == "50.0 (29.9–70.1)"


def test_differences_as_text_have_a_sign_and_a_star() -> None:
    table = differences_for_reading(summarize_retraining(outcomes()), "baseline")
    assert table["Network"].tolist() == [CONTROL, FOUR, MANY]
    # 8 of 8 one way: 2 / 256, six times that, is below 0.05.
    four = table["64"][1]
    assert four.startswith("-40.0 (")
    assert four.endswith(") *")
    assert table["0"][2].startswith("+40.0 (+")
    assert table["0"][0].startswith("+5.0 (")
    assert not table["0"][0].endswith("*")


def test_limits_are_columns_of_their_own() -> None:
    """Not one over the other, although num is the same."""
    cells = {Cell(0): [0, 0], Cell(4): [1, 1], Cell(4, 10): [1, 0], Cell(4, 10, 5): [0, 0]}
    table = matrix_for_reading(summarize_retraining(outcomes_of(cells, FOUR)))
    columns = table.drop(columns=["Tested on", "Network"]).iloc[0]
    assert {name: text.split()[0] for name, text in columns.items()} == {
        "0": "0.0",
        "4, ±10, 5 × 5": "0.0",
        "4, ±10": "50.0",
        "4": "100.0",
    }


def test_a_network_that_lacks_a_cell_has_an_empty_place() -> None:
    rows = together(
        outcomes_of({Cell(0): [0, 1], Cell(4): [0, 1]}, FOUR), outcomes_of({Cell(0): [1, 1]}, MANY)
    )
    table = matrix_for_reading(summarize_retraining(rows))
    assert table["4"].tolist()[1] == ""
    assert table["0"].tolist()[1].startswith("100.0")


# Figures


def test_the_matrix_has_a_panel_for_each_set_of_images() -> None:
    both = concatenate([outcomes(), outcomes("heldout", {ORIGINAL: (4, 10), FOUR: (0, 20)})])
    figure = retraining_matrix(summarize_retraining(both), "Title", "Caption.")
    same, heldout, bar = figure.axes
    assert same.get_title() == "tested on the images trained on (20)"
    assert heldout.get_title() == "tested on held-out images (20)"
    assert [label.get_text() for label in same.get_yticklabels()] == list(COUNTS)
    assert [text.get_text() for text in same.texts][:4] == ["0.0", "50.0", "5.0", "40.0"]
    # Networks without heldout images leave their place empty.
    assert [text.get_text() for text in heldout.texts] == ["20.0", "50.0", "0.0", "100.0"]
    assert same.images[0].get_clim() == heldout.images[0].get_clim() == (0, 100)
    assert bar.get_ylabel() == "wrong predictions (%)"


def test_a_matrix_without_a_wrong_outcome() -> None:
    rows = outcomes_of({Cell(0): [0, 0], Cell(4): [0, 0]}, FOUR)
    (panel, _) = retraining_matrix(summarize_retraining(rows), "Title", "").axes
    assert [text.get_text() for text in panel.texts] == ["0.0", "0.0"]


def histories(names: Sequence[str], seeds: int = 1) -> pd.DataFrame:
    history = pd.DataFrame({"epoch": [0, 1], "loss": [1.5, 0.5], "accuracy": [0.25, 1.0]})
    return pd.concat(
        history.assign(model=name, training_seed=seed, loss=history["loss"] + seed)
        for name in names
        for seed in range(seeds)
    )


def test_losses_and_accuracies_over_epochs() -> None:
    controls, pixels = ["net-unchanged", "net-noise"], ["net-4", "net-64"]
    figure = loss_curves(histories(controls + pixels), "Title", "")
    loss, others, accuracy, _ = figure.axes
    assert [axes.get_title() for axes in (loss, others)] == ["controls", "changed pixels"]
    assert loss.lines[0].get_xydata().tolist() == [[1, 1.5], [2, 0.5]]
    assert accuracy.lines[0].get_xydata().tolist() == [[1, 25], [2, 100]]
    assert loss.get_ylim() == others.get_ylim()
    assert (loss.get_yscale(), loss.get_ylabel()) == ("log", "cross-entropy (log scale)")
    # Beside the changed pixels stands what they are compared with.
    assert (len(loss.lines), len(others.lines)) == (2, 3)
    assert others.lines[0].get_color() == loss.lines[0].get_color()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == controls + pixels
    assert not loss.collections


def test_losses_of_several_seeds_are_means_with_their_range() -> None:
    loss = loss_curves(histories(["net-4"], 3), "Title", "").axes[0]
    assert loss.lines[0].get_xydata().tolist() == [[1, 2.5], [2, 1.5]]
    assert loss.collections[0].get_segments()[0].tolist() == [[1, 1.5], [1, 3.5]]


# By the rule of Experiments 1 to 3, and as differences in differences


def test_only_images_that_are_right_unchanged_under_a_seed_count_under_it() -> None:
    """Of four images, the second is right unchanged under seed 1 only, the last under none.

    At 64 pixels, network 4 is wrong about the first under seed 0, about the second under both: over
    its seeds the first is wrong by half, the second wholly, the third never.
    """
    wrong = {
        (CONTROL, 0): ([0, 1, 0, 1], [1, 1, 0, 1]),
        (CONTROL, 1): ([0, 0, 0, 1], [1, 0, 0, 1]),
        (FOUR, 0): ([0, 0, 0, 0], [1, 1, 0, 0]),
        (FOUR, 1): ([0, 0, 0, 0], [0, 1, 0, 0]),
    }
    rows = together(
        *(
            outcomes_of({Cell(0): clean, Cell(64): changed}, model, seed=seed)
            for (model, seed), (clean, changed) in wrong.items()
        ),
        # A control of another kind is not among the compared: its errors leave no image out.
        outcomes_of({Cell(0): [1, 1, 1, 1], Cell(64): [1, 1, 1, 1]}, "net-noise"),
    )
    summary = summarize_right(rows)
    assert set(summary["model"]) == {CONTROL, FOUR}
    own, control = (row_of(summary, model) for model in (FOUR, CONTROL))
    assert (own["images"], own["training_seeds"], own["outcomes"]) == (3, 2, 5)
    assert own["wrong_rate"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert control["wrong_rate"] == pytest.approx((1 + 0 + 0) / 3)
    assert (
        own["seeds_low"] <= own["ci_low"] < own["wrong_rate"] < own["ci_high"] <= own["seeds_high"]
    )


def test_an_original_network_is_asked_beside_every_seed() -> None:
    """It is wrong unchanged about the first image, which leaves that out under all seeds."""
    clean, changed = [0, 0, 0, 0], [1, 1, 1, 0]
    rows = together(
        outcomes_of({Cell(0): [1, 0, 0, 0], Cell(64): [0, 0, 1, 0]}, ORIGINAL),
        *(outcomes_of({Cell(0): clean, Cell(64): changed}, FOUR, seed=seed) for seed in (3, 4)),
    )
    summary = summarize_right(rows)
    assert row_of(summary, FOUR)["wrong_rate"] == pytest.approx(2 / 3)
    assert row_of(summary, ORIGINAL)["wrong_rate"] == pytest.approx(1 / 3)


def test_no_image_that_all_are_right_about() -> None:
    rows = together(
        outcomes_of({Cell(0): [1, 0], Cell(64): [1, 0]}, CONTROL),
        outcomes_of({Cell(0): [0, 1], Cell(64): [0, 1]}, FOUR),
    )
    assert len(summarize_right(rows)) == 0
    assert row_of(summarize_rises(rows), FOUR)["difference"] == 0


def test_difference_in_differences_by_hand() -> None:
    """Of 20 images the control rises from 1 to 8 wrong ones, FOUR from 0 to 2, MANY not at all."""
    summary = summarize_rises(outcomes())
    assert row_of(summary, FOUR)["difference"] == pytest.approx((2 - 0 - (8 - 1)) / 20)
    assert row_of(summary, MANY)["difference"] == pytest.approx((8 - 8 - (8 - 1)) / 20)
    assert row_of(summary, ORIGINAL)["difference"] == pytest.approx((10 - 0 - (8 - 1)) / 20)
    assert CONTROL not in set(summary["model"])
    # Images whose contrasts are not 0, all of one sign: 0 and 2..7 of FOUR, 1..7 of MANY; of the
    # original 0, 8 and 9. Sign-flip p of 2 / 2^k, after Holm's correction of three.
    found = [row_of(summary, model)["p"] for model in (FOUR, MANY, ORIGINAL)]
    raw = [sign_flip_test([1, -1, -1, -1, -1, -1, -1]), 2 / 2**7, 2 / 2**3]
    assert found[1:] == pytest.approx(holm(raw)[1:].tolist())


def test_both_measures_as_text() -> None:
    """A star needs both p and interval."""
    rows = outcomes(counts={CONTROL: (1, 8), FOUR: (0, 2)})
    right = rates_of_right_for_reading(summarize_right(rows))
    assert right.columns.tolist() == ["Tested on", "Network", "64"]
    # Both are right about 19 of 20 unchanged; the control is wrong about 7 of these, FOUR about 1.
    assert [entry.split(" (")[0] for entry in right["64"]] == ["36.8", "5.3"]
    rises = rises_for_reading(summarize_rises(rows))
    assert rises["Network"].tolist() == [FOUR]
    assert rises["64"][0].startswith("-25.0 (")
    starred = rises_for_reading(summarize_rises(outcomes(counts={CONTROL: (0, 15), FOUR: (0, 2)})))
    assert starred["64"][0].endswith(") *")


def test_without_a_control_there_is_no_difference_in_differences() -> None:
    rows = outcomes(counts={ORIGINAL: (0, 10), FOUR: (0, 2)})
    assert len(summarize_rises(rows)) == 0
    assert len(summarize_right(rows)) == 2
