"""Table 11 and its waterfall from made-up adversarial images."""

import itertools

import pandas as pd
import pytest
from scipy import stats

from experiments.captions import fall_note, transfer_notes
from pixelrobust.figures.retraining import waterfall
from pixelrobust.statistics.paired import holm
from pixelrobust.statistics.rates import wilson_interval, wrong_rate_interval
from pixelrobust.tables.retraining import (
    TRANSFER_SUMMARY,
    Step,
    fall,
    fall_for_reading,
    fooled_shares,
    of_the_smallest_epsilon,
    summarize_transfer,
    transfer_for_reading,
)
from tests.experiments.claim_cases import manifest
from tests.tables.retrained_rows import (
    ALL,
    CONTROL,
    FOUR,
    ORIGINAL,
    first,
    keys,
    row_of,
    shown,
    together,
)

STAGES = [
    ("all", ALL, False),
    ("restricted", ORIGINAL, False),
    ("rounded", ORIGINAL, True),
    ("unchanged", CONTROL, True),
    ("pixels", FOUR, True),
]


def cases() -> pd.DataFrame:
    """20 images that fool the original: how many fool whom, unrounded and rounded."""
    counts = {ALL: (20, 16), ORIGINAL: (18, 15), CONTROL: (10, 10), FOUR: (4, 12)}
    return together(
        *(
            shown(first(count, 20), model, rounded=rounded)
            for model, pair in counts.items()
            for rounded, count in zip((False, True), pair, strict=True)
        )
    )


def test_how_many_images_fool_each_network() -> None:
    summary = summarize_transfer(cases(), CONTROL)
    assert list(summary.columns) == TRANSFER_SUMMARY
    row = row_of(summary, FOUR, rounded=False)
    interval = wilson_interval(0.2, 20)
    assert (row["images"], row["fooled"], row["fooled_rate"]) == (20, 4, 0.2)
    assert (row["ci_low"], row["ci_high"]) == (interval.low, interval.high)
    assert row_of(summary, ALL, rounded=False)["fooled_rate"] == 1


def test_differences_from_the_control_are_paired_and_corrected() -> None:
    """Nested images: the six others than the control, by McNemar, all of them one way."""
    summary = summarize_transfer(cases(), CONTROL)
    discordant = {
        (ALL, False): 10, (ORIGINAL, False): 8, (FOUR, False): 6,
        (ALL, True): 6, (ORIGINAL, True): 5, (FOUR, True): 2,
    }  # fmt: skip
    raw = [stats.binomtest(count, count, 0.5).pvalue for count in discordant.values()]
    for (model, rounded), p in zip(discordant, holm(raw), strict=True):
        row = row_of(summary, model, rounded=rounded)
        sign = -1 if (model, rounded) == (FOUR, False) else 1
        assert row["difference"] == pytest.approx(sign * discordant[model, rounded] / 20)
        assert row["difference_p"] == pytest.approx(p)
        assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert summary.loc[summary["model"] == CONTROL, "difference"].isna().all()


def test_images_against_each_network_itself_are_not_compared() -> None:
    rows = together(
        cases(),
        shown(first(3, 9), FOUR, against="itself"),
        shown([1, 1], CONTROL, against="itself"),
    )
    summary = summarize_transfer(rows, CONTROL)
    row = row_of(summary, FOUR, against="itself")
    assert (row["images"], row["fooled"]) == (9, 3)
    assert pd.isna(row["difference_p"])


def test_without_a_control_nothing_is_compared() -> None:
    rows = cases()[lambda table: table["model"] != CONTROL]
    assert summarize_transfer(rows, "")["difference"].isna().all()


def test_seeds_count_as_draws_of_each_image() -> None:
    rows = together(
        shown([1, 1, 0, 0], FOUR, seed=1),
        shown([1, 0, 0, 0], FOUR, seed=2),
        shown([1, 1, 1, 0], CONTROL, seed=1),
        shown([1, 1, 1, 0], CONTROL, seed=2),
    )
    row = row_of(summarize_transfer(rows, CONTROL), FOUR)
    assert (row["training_seeds"], row["images"], row["fooled"]) == (2, 4, 3)
    assert row["fooled_rate"] == 0.375
    interval = wrong_rate_interval([2, 1, 0, 0], 2)
    assert (row["ci_low"], row["ci_high"]) == (interval.low, interval.high)
    # Half of image 1 and all of image 2: of four sign patterns, two are as large.
    assert row["difference"] == -0.375
    assert row["difference_p"] == 0.5
    shares, seeds = fooled_shares(rows, FOUR)
    assert (shares.tolist(), seeds) == ([1, 0.5, 0, 0], 2)


def test_seeds_may_have_images_of_their_own() -> None:
    """Not one image belongs to both seeds: each counts once, as in a single seed."""
    names = keys(6)
    rows = together(
        shown([1, 1, 1], FOUR, seed=1, against="itself", names=names[:3]),
        shown([1, 0, 0], FOUR, seed=2, against="itself", names=names[3:]),
    )
    row = row_of(summarize_transfer(rows, CONTROL), FOUR)
    assert (row["images"], row["fooled"]) == (6, 4)
    assert row["fooled_rate"] == pytest.approx(4 / 6)
    assert row["ci_low"] < 4 / 6 < row["ci_high"]
    # Certainly no narrower than that of as many independent images, nor much wider.
    once = wilson_interval(4 / 6, 6)
    assert row["ci_low"] == pytest.approx(once.low, abs=0.15)
    assert row["ci_low"] <= once.low
    assert row["ci_high"] >= once.high


def test_the_smallest_epsilon_is_minimal_a_multiple_or_the_least_number() -> None:
    rows = together(
        *(shown([1], FOUR, epsilon=epsilon) for epsilon in ("10", "2", "0.5")),
        shown([1], FOUR, epsilon="0.25", against="itself"),
    )
    assert of_the_smallest_epsilon(rows)["epsilon"].tolist() == ["0.5"]
    multiples = together(rows, *(shown([1], FOUR, epsilon=text) for text in ("10x", "9x")))
    assert of_the_smallest_epsilon(multiples)["epsilon"].tolist() == ["9x"]
    minimal = together(multiples, shown([1], FOUR))
    assert of_the_smallest_epsilon(minimal)["epsilon"].tolist() == ["minimal"]


def test_the_fall_goes_from_step_to_step_in_pairs() -> None:
    steps = fall(cases(), STAGES)
    assert [step.label for step in steps] == ["all", "restricted", "rounded", "unchanged", "pixels"]
    assert [step.rate for step in steps] == [1, 0.9, 0.75, 0.5, 0.6]
    assert [step.change for step in steps] == pytest.approx([0, -0.1, -0.15, -0.25, 0.1])
    assert all(step.low <= step.rate <= step.high for step in steps)
    assert all(step.change_low < step.change < step.change_high for step in steps[1:])
    interval = wilson_interval(0.75, 20)
    assert (steps[2].low, steps[2].high) == (interval.low, interval.high)


def test_the_fall_has_a_step_for_what_rounding_gives_back() -> None:
    """Rounding returns 5 of 20 images, 3 of which it gives back as they were."""
    rows = together(shown(first(20, 20), ORIGINAL), shown(first(15, 20), ORIGINAL, rounded=True))
    rows["size"] = rows["image"].isin(keys(20)[17:]).map({True: 0.3, False: 1.0})
    stages = [("unrounded", ORIGINAL, False), ("back", ORIGINAL, None), ("all", ORIGINAL, True)]
    assert [step.rate for step in fall(rows, stages)] == [1, 0.85, 0.75]
    assert "rounding gives 3 of them back" in fall_note(rows)


# For reading


def test_tables_as_text() -> None:
    rows = together(
        cases(),
        shown(first(5, 5), ALL, epsilon="2"),
        shown(first(2, 4), FOUR, against="itself", epsilon="2"),
    )
    table = transfer_for_reading(summarize_transfer(rows, CONTROL))
    assert list(table.columns) == ["Made against", "Images", "Network", "minimal", "2"]
    assert table["Made against"].tolist() == ["original"] * 8 + ["itself"]
    assert table["Images"].tolist() == ["unrounded"] * 4 + ["rounded"] * 4 + ["unrounded"]
    assert table["Network"].tolist()[:4] == [ALL, ORIGINAL, CONTROL, FOUR]
    assert table["minimal"][3] == "20.0 (8.1–41.6)"
    assert table.loc[8, ["minimal", "2"]].tolist() == ["", "50.0 (15.0–85.0)"]
    assert table["2"][0].startswith("100.0 (")


def test_steps_as_text() -> None:
    table = fall_for_reading(fall(cases(), STAGES))
    assert table["Still fool (%)"][1] == "90.0 (69.9–97.2)"
    assert table["Change (points)"][0] == ""
    assert table["Change (points)"][3].startswith("-25.0 (-")
    assert table["Change (points)"][4].startswith("+10.0 (")


def test_notes_count_the_images_of_each_epsilon_and_the_seeds() -> None:
    """Not the union over epsilons."""
    rows = together(
        shown(first(3, 3), ALL),
        shown(first(2, 2), ALL, epsilon="2", names=["x", "y"]),
        *(shown([1, 1, 0], FOUR, seed=seed) for seed in (4, 5)),
    )
    attack = {"target": "foolbox.attacks.FGSM", "wanted": 200}
    config = {"retrain": {"selected": True}, "attack": attack}
    notes = transfer_notes(manifest(config=config), rows)
    assert "in steps of 0.255/255 up to 32/255." in notes[0]
    assert notes[1].startswith("2 to 3 images fool the original network")
    # The keys of before are not in the manifest.
    assert "the first 200 in the order of their names" in notes[1]
    sampled = transfer_notes(
        manifest(config=config | {"attack": attack | {"sample": True, "refine": True}}), rows
    )
    assert "the first 200 in a random order" in sampled[1]
    assert "in 20 steps up to there" in sampled[0]
    assert "2 retrainings of each kind" in notes[2]
    assert "500 images that net classifies correctly" in notes[2]
    unselected = transfer_notes(manifest(config=config | {"retrain": {"selected": False}}), rows)
    assert "correctly" not in unselected[2]
    assert "3 images" in fall_note(of_the_smallest_epsilon(rows))
    assert "smallest epsilon that fools it" in fall_note(of_the_smallest_epsilon(rows))
    assert "epsilon 2/255" in fall_note(rows[rows["epsilon"] == "2"])
    assert "1.5 times the smallest" in fall_note(shown([1], FOUR, epsilon="1.5x"))


# The figure


def test_the_waterfall_goes_from_level_to_level() -> None:
    figure = waterfall(fall(cases(), STAGES), "Title", "Caption.")
    (axes,) = figure.axes
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    expected = [(0, 100), (100, 90), (90, 75), (75, 50), (50, 60)]
    assert [pytest.approx(span) for span in spans] == expected
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert len(set(colours[:4])) == 1
    assert colours[4] != colours[0]
    assert axes.patches[4].get_hatch() == "//"
    assert [text.get_text() for text in axes.texts] == [
        "100.0 %", "90.0 %", "75.0 %", "50.0 %", "60.0 %",
    ]  # fmt: skip


def test_labels_of_the_waterfall_do_not_overlap() -> None:
    label = "retrained with changed pixels, some_long_network_name-4"
    steps = [Step(label, 0.5, 0.4, 0.6, 0.0, 0.0, 0.0)] * 5
    figure = waterfall(steps, "Title", "")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert all(one.y0 > two.y1 for one, two in itertools.pairwise(boxes))
