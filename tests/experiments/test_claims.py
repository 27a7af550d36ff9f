"""Claims on made-up outcomes for which each plainly holds, plainly fails, or cannot be decided."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.claims import Claim, Finding
from experiments.claims.findings import Verdict, rate_interval
from experiments.claims.findings import tested as with_findings
from experiments.claims.networks import _kendall
from experiments.claims.page import write_claims
from pixelrobust.outcomes.rows import concatenate
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.paired import holm, mcnemar
from tests.experiments.claim_cases import (
    AREAS,
    FAILS,
    FIVE,
    HOLDS,
    NUMS,
    OPEN,
    activations,
    adversarial,
    by_amplitude,
    by_area,
    by_num,
    claims,
    manifest,
    of_the_paper,
    outcomes,
    verdicts,
    with_beyond,
    wrong_first,
)


def exact(count: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval."""
    interval = stats.binomtest(count, images).proportion_ci(confidence, method="exact")
    return interval.low, interval.high


# In general


def test_without_runs_every_claim_is_there_and_has_no_finding() -> None:
    assert not any(claim.findings for claim in claims().values())


def test_outcomes_of_the_control_alone_find_nothing() -> None:
    rows = by_num(50, {"net": [1, 2, 3, 4, 5]})
    control = rows[rows["num"] == 0]
    changes = adversarial(50, {("minimal", False, 0): 0, ("minimal", True, 0): 9})
    found = claims(table6=control, table7=control, table8=control, table9=changes)
    assert not any(claim.findings for claim in found.values())


def test_cells_that_are_missing_leave_findings_out() -> None:
    """What a failed job of a sweep leaves behind."""
    whole = by_num(300, {"a": [3, 6, 12, 24, 48], "b": [3, 6, 12, 24, 48]})
    part = whole[(whole["model"] == "a") | (whole["num"] != 64)]
    amplitudes = by_amplitude(300, [0, 0, 5, 10, 90], nums=(4, 64))
    areas = by_area(300, {4: [0] * 5, 8: [0] * 5, 64: [9] * 5})
    found = claims(
        table6=part,
        table7=amplitudes[(amplitudes["num"] == 4) | (amplitudes["amplitude"] != 10)],
        table8=areas[(areas["num"] != 8) | (areas["area"] != 160)],
    )
    assert [finding.subject for finding in found["more-pixels"].findings] == ["a"]
    assert [finding.subject for finding in found["far-more-than-changed"].findings] == ["a"]
    assert [finding.condition for finding in found["amplitude-matters"].findings] == ["4 px"]
    assert [finding.condition for finding in found["area-hardly-matters"].findings] == ["4 px"]
    assert found["amplitude-over-position"].findings == ()
    subjects = [(f.subject, f.condition) for f in found["index-is-a-property"].findings]
    assert subjects == [("a", "4 px and 64 px"), ("net", "140 × 140 and 220 × 220")]


def test_limits_on_everything_find_nothing() -> None:
    """Table 6 with an amplitude, as a user may well run it."""
    limited = outcomes({"net": {Cell(n, 10): wrong_first(3, 50) for n in NUMS}})
    assert not any(claim.findings for claim in claims(table6=limited).values())


# Experiment 1


@pytest.mark.parametrize(
    ("images", "counts", "verdict"),
    [
        (300, [3, 6, 12, 24, 48], HOLDS),
        (300, [48, 24, 12, 6, 3], FAILS),
        (300, [9, 9, 9, 9, 9], OPEN),
        (300, [0, 0, 0, 0, 0], OPEN),
        (5, [0, 1, 2, 3, 4], OPEN),
        (1, [0, 0, 0, 1, 1], OPEN),
    ],
)
def test_more_pixels(images: int, counts: list[int], verdict: Verdict) -> None:
    claim = claims(table6=by_num(images, {"net": counts}))["more-pixels"]
    assert verdicts(claim) == [verdict]
    # A straight line over log2(num) - 2 = 0..4: half of -2, -1, 0, 1, 2 weighted sums, over 10.
    slope = sum((k - 2) * count for k, count in enumerate(counts)) / 10 / images
    assert claim.findings[0].estimate == pytest.approx(slope)


def test_p_values_are_corrected_over_the_findings() -> None:
    """Six of six images: 2 / 2^6 alone, three times that among three networks."""
    alone = claims(table6=by_num(40, {"a": [0, 0, 0, 0, 6]}))["more-pixels"]
    assert alone.findings[0].p == pytest.approx(2 / 64)
    assert verdicts(alone) == [HOLDS]
    rows = {"a": [0, 0, 0, 0, 6], "b": [0, 0, 0, 0, 0], "c": [0, 0, 0, 0, 6]}
    among = claims(table6=by_num(40, rows))["more-pixels"]
    assert [finding.p for finding in among.findings] == pytest.approx([6 / 64, 1, 6 / 64])
    assert verdicts(among) == [OPEN] * 3


@pytest.mark.parametrize(
    ("images", "wrong", "verdict"),
    # Ten times 0.128 % of the images are 25.5 of 2000.
    [(2000, 100, HOLDS), (2000, 26, OPEN), (2000, 8, FAILS), (4000, 0, FAILS), (20, 0, OPEN)],
)
def test_far_more_images_than_pixels(images: int, wrong: int, verdict: Verdict) -> None:
    claim = claims(table6=by_num(images, {"net": [0, 0, 0, 0, wrong]}))["far-more-than-changed"]
    (finding,) = claim.findings
    changed = 64 / 50176
    low, high = exact(wrong, images)
    assert finding.verdict == verdict
    assert finding.estimate == pytest.approx(wrong / images / changed)
    assert (finding.low, finding.high) == pytest.approx((low / changed, high / changed))


def test_intervals_that_decide_are_corrected_over_the_networks() -> None:
    """16 of 700: the interval lies above 1.28 % for one network, not for five."""
    assert exact(16, 700)[0] > 640 / 50176 > exact(16, 700, 0.99)[0]
    counts = [0, 0, 0, 0, 16]
    alone = claims(table6=by_num(700, {"a": counts}))["far-more-than-changed"]
    assert verdicts(alone) == [HOLDS]
    among = claims(table6=by_num(700, dict.fromkeys("abcde", counts)))["far-more-than-changed"]
    assert verdicts(among) == [OPEN] * 5


@pytest.mark.parametrize(
    ("images", "wrong", "verdict"),
    [
        (10_000, 500, HOLDS),
        (10_000, 530, HOLDS),
        (10_000, 700, FAILS),
        (10_000, 0, FAILS),
        (10_000, 590, OPEN),
        (20, 1, OPEN),
        (20, 0, OPEN),
        (400, 20, OPEN),
    ],
)
def test_published_rates(images: int, wrong: int, verdict: Verdict) -> None:
    """ResNet: about 5 % at 64 pixels."""
    rows = by_num(images, {"resnet101": [0, 0, 0, 0, wrong]})
    found = claims(table6=(of_the_paper(), rows))
    assert verdicts(found["rate-resnet101-64"]) == [verdict]
    assert "about 5 %" in found["rate-resnet101-64"].sentence
    assert found["rate-densenet121-64"].findings == ()


@pytest.mark.parametrize(
    "other",
    [
        {"config": {"models": {"resnet101": {"weights": "IMAGENET1K_V1"}}}},
        {
            "config": {
                "models": {"resnet101": {"weights": "x.pth"}},
                "dataset": {"kind": "imagenet"},
            }
        },
        {"rejected": dict.fromkeys(FIVE[:4], 300)},
        {"rejected": dict.fromkeys([*FIVE, "net"], 300)},
    ],
)
def test_rates_of_other_images_weights_or_selections_are_not_decided(other: dict[str, Any]) -> None:
    """Their numbers are shown all the same."""
    rows = by_num(10_000, {"resnet101": [0, 0, 0, 0, 500]})
    (finding,) = claims(table6=(of_the_paper(**other), rows))["rate-resnet101-64"].findings
    assert (finding.verdict, finding.estimate) == (OPEN, 0.05)


@pytest.mark.parametrize("draws", [1, 20])
def test_few_images_confirm_no_rate(draws: int) -> None:
    """Not even where each of 20 images is wrong in just the published share of draws."""
    rates = {"resnet101": 0.05, "densenet121": 0.035, "squeezenet1_1": 0.14}
    wrong = {model: [1] * round(rate * draws) for model, rate in rates.items()}
    table = outcomes(
        {
            model: {Cell(64): np.array([of_one + [0] * (draws - len(of_one))] * 20)}
            for model, of_one in wrong.items()
        }
    )
    found = claims(table6=(of_the_paper(), table))
    assert {verdicts(found[f"rate-{model}-64"])[0] for model in rates} == {OPEN}


def five(images: int, counts: list[int], more: dict[str, int] | None = None) -> pd.DataFrame:
    """The five networks, and others, with so many wrong images at 64 pixels."""
    wrong = dict(zip(FIVE, counts, strict=True)) | (more or {})
    return by_num(images, {model: [0, 0, 0, 0, count] for model, count in wrong.items()})


@pytest.mark.parametrize(
    ("images", "counts", "verdict"),
    [
        (4000, [400, 360, 380, 420, 440], HOLDS),
        (4000, [200, 160, 180, 220, 240], FAILS),
        (4000, [450, 400, 420, 470, 460], OPEN),
        (20, [2, 2, 2, 2, 2], OPEN),
        (1, [0, 0, 0, 0, 0], OPEN),
    ],
)
def test_ten_percent_of_the_five(images: int, counts: list[int], verdict: Verdict) -> None:
    run = of_the_paper(), five(images, counts)
    (finding,) = claims(table6=run)["ten-percent"].findings
    assert finding.verdict == verdict
    assert finding.estimate == pytest.approx(sum(counts) / 5 / images)
    assert finding.subject == "mean of 5"


def test_other_networks_neither_decide_nor_enter_what_is_said_of_the_five() -> None:
    counts = [40, 36, 38, 42, 44]
    others = claims(table6=five(400, counts, {"other": 400}))
    assert others["ten-percent"] == claims(table6=five(400, counts))["ten-percent"]
    assert len(others["most-robust"].findings) == 4
    assert not any("other" in f.subject for f in others["least-robust"].findings)
    four = by_num(400, {model: [0, 0, 0, 0, 40] for model in FIVE[:4]})
    assert verdicts(claims(table6=four)["ten-percent"]) == [OPEN]
    assert claims(table6=four)["ten-percent"].findings[0].estimate == pytest.approx(0.1)


def test_ten_percent_is_about_64_pixels() -> None:
    wrong = {model: [0, 0, 400, 400] for model in FIVE}
    assert claims(table6=by_num(4000, wrong))["ten-percent"].findings == ()


def test_the_most_and_the_least_robust() -> None:
    found = claims(table6=five(1000, [60, 10, 100, 105, 200]))
    most, least = found["most-robust"], found["least-robust"]
    assert [f.subject for f in most.findings] == [
        f"densenet121 and {other}" for other in FIVE if other != "densenet121"
    ]
    assert verdicts(most) == [HOLDS] * 4
    assert [f.estimate for f in most.findings] == pytest.approx([0.05, 0.09, 0.095, 0.19])
    assert verdicts(least) == [HOLDS] * 4
    assert [f.estimate for f in least.findings] == pytest.approx([0.14, 0.19, 0.1, 0.095])
    assert "less" in most.unit
    assert "more" in least.unit


def test_holm_over_the_pairs_by_hand() -> None:
    """Discordant images 6, 9, 12 and 12: p of 2 / 2^k times 4 for the two smallest, 2, and 1."""
    most = claims(table6=five(300, [6, 0, 9, 12, 12]))["most-robust"]
    assert mcnemar([True] * 6 + [False], [False] * 7) == 2 / 2**6
    assert [f.p for f in most.findings] == pytest.approx(
        [2 / 2**6, 2 * 2 / 2**9, 4 * 2 / 2**12, 4 * 2 / 2**12]
    )
    assert verdicts(most) == [HOLDS] * 4


def test_who_is_not_the_most_robust() -> None:
    most = claims(table6=five(1000, [60, 70, 10, 70, 71]))["most-robust"]
    assert verdicts(most) == [FAILS, FAILS, OPEN, OPEN]


# Table 5


def ranked(rejected: list[int], wrong: list[int]) -> Finding:
    names = [f"net{index}" for index in range(len(wrong))]
    rows = by_num(1000, {name: [0, 0, 0, 0, n] for name, n in zip(names, wrong, strict=True)})
    run = (manifest(rejected=dict(zip(names, rejected, strict=True))), rows)
    (finding,) = claims(table6=run)["index-follows-accuracy"].findings
    return finding


@pytest.mark.parametrize(
    ("rejected", "wrong", "tau", "p", "verdict"),
    [
        ([10, 20, 30, 40, 50], [1, 2, 3, 4, 5], -1, 2 / 120, HOLDS),
        ([10, 20, 30, 40, 50], [5, 4, 3, 2, 1], 1, 2 / 120, FAILS),
        ([10, 20, 30, 40, 50], [1, 2, 3, 5, 4], -0.8, 10 / 120, OPEN),
        ([10, 20, 30, 40], [1, 2, 3, 4], -1, 2 / 24, OPEN),
        ([10, 20], [1, 2], -1, 1, OPEN),
        # Two pairs of ties: 4 of the 120 orders, in either direction, are as extreme.
        ([10, 20, 30, 40, 50], [1, 1, 2, 2, 3], -8 / math.sqrt(80), 8 / 120, OPEN),
    ],
)
def test_accuracy_and_index(
    rejected: list[int], wrong: list[int], tau: float, p: float, verdict: Verdict
) -> None:
    finding = ranked(rejected, wrong)
    assert finding.estimate == pytest.approx(tau)
    assert finding.p == pytest.approx(p)
    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("rejected", "wrong"), [([5] * 6, [1, 2, 3, 4, 5, 6]), ([1, 2, 3, 4, 5], [0] * 5)]
)
def test_without_variation_the_index_follows_nothing(rejected: list[int], wrong: list[int]) -> None:
    finding = ranked(rejected, wrong)
    assert math.isnan(finding.estimate)
    assert finding.verdict == OPEN


def test_many_networks_are_tested_as_scipy_does() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(12), rng.random(12)
    expected = stats.kendalltau(first, second)
    assert _kendall(first, second) == pytest.approx((expected.statistic, expected.pvalue))
    few = stats.kendalltau(first[:7], second[:7], method="exact")
    assert _kendall(first[:7], second[:7]) == pytest.approx((few.statistic, few.pvalue))


def test_the_index_differs_between_cells() -> None:
    """1 % at 4 pixels is 16 times the index of 1 % at 64."""
    claim = claims(table6=by_num(3000, {"net": [30, 30, 30, 30, 30]}))["index-is-a-property"]
    (finding,) = claim.findings
    assert finding.estimate == pytest.approx(0.01 * 50176 / 4 - 0.01 * 50176 / 64)
    assert finding.verdict == FAILS
    assert finding.condition == "4 px and 64 px"


def test_a_level_index_is_not_refuted_and_never_confirmed() -> None:
    level = by_num(3000, {"net": [30, 60, 120, 240, 480]})
    (finding,) = claims(table6=level)["index-is-a-property"].findings
    assert finding.estimate == pytest.approx(0, abs=1e-9)
    assert finding.verdict == OPEN
    few = by_num(20, {"net": [0, 0, 0, 0, 6]})
    assert verdicts(claims(table6=few)["index-is-a-property"]) == [OPEN]


def test_amplitudes_and_areas_enter_the_index() -> None:
    found = claims(
        table7=by_amplitude(3000, [0, 0, 0, 0, 600]),
        table8=by_area(3000, {64: [600, 0, 0, 0, 600]}),
    )["index-is-a-property"]
    amplitude, area = found.findings
    share = 64 / 50176
    assert amplitude.estimate == pytest.approx(-0.2 / (share * 254 / 255))
    assert area.estimate == pytest.approx(
        0.2 / (share * 140**2 / 50176) - 0.2 / (share * 220**2 / 50176)
    )
    assert (amplitude.verdict, area.verdict) == (FAILS, FAILS)
    assert (amplitude.condition, area.condition) == ("±10 and ±127", "140 × 140 and 220 × 220")


def test_an_amplitude_of_0_has_no_index() -> None:
    cells = {Cell(64, k): wrong_first(k, 100) for k in (0, 10, 20)}
    (finding,) = claims(table7=outcomes({"net": cells}))["index-is-a-property"].findings
    assert finding.condition == "±10 and ±20"
    assert math.isfinite(finding.estimate)


def test_a_level_index_of_rare_errors_is_seldom_refuted() -> None:
    """Wrong in proportion to num, on 100 images: seldom one is wrong at 4 pixels, some are at 64."""
    rng = np.random.default_rng(3)
    refuted = 0
    for _ in range(60):
        first_wrong = rng.random(100)
        cells = {Cell(n): (first_wrong < 0.003 * n)[:, None].astype(int) for n in (4, 64)}
        claim = claims(table6=outcomes({"net": cells}))["index-is-a-property"]
        refuted += verdicts(claim) == [FAILS]
    assert refuted <= 3


# Experiments 2 and 3


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ([5, 10, 20, 30, 40], HOLDS),
        ([40, 30, 20, 10, 5], FAILS),
        ([5, 5, 5, 5, 5], OPEN),
        ([0, 0, 0, 0, 5], OPEN),
    ],
)
def test_amplitude(counts: list[int], verdict: Verdict) -> None:
    claim = claims(table7=by_amplitude(500, counts))["amplitude-matters"]
    assert verdicts(claim) == [verdict]
    # The slope of a straight line over log2, fitted to the shares of all images.
    x = np.log2([10, 40, 70, 100, 127])
    assert claim.findings[0].estimate == pytest.approx(np.polyfit(x, np.array(counts) / 500, 1)[0])


def test_a_rise_among_the_middle_amplitudes_counts() -> None:
    """The ends are alike: only a trend sees that the larger ones break more."""
    claim = claims(table7=by_amplitude(500, [30, 0, 40, 60, 30]))["amplitude-matters"]
    assert verdicts(claim) == [HOLDS]


def test_areas_have_a_trend_of_their_own() -> None:
    """What Section 5 asks of a robust network, and Section 6.1.3 does not find."""
    found = claims(table8=by_area(500, {4: [5, 10, 20, 30, 40], 64: [40, 30, 20, 10, 5]}))
    assert verdicts(found["area-matters"]) == [HOLDS, FAILS]
    x = np.log2([140, 160, 180, 200, 220])
    slope = np.polyfit(x, np.array([5, 10, 20, 30, 40]) / 500, 1)[0]
    assert found["area-matters"].findings[0].estimate == pytest.approx(slope)


def test_amplitude_at_each_num_is_corrected() -> None:
    """Six discordant images: 2 / 64 alone, twice that at two nums."""
    claim = claims(table7=by_amplitude(500, [0, 0, 0, 0, 6], nums=(4, 64)))["amplitude-matters"]
    assert [f.condition for f in claim.findings] == ["4 px", "64 px"]
    assert [f.p for f in claim.findings] == pytest.approx([4 / 64, 4 / 64])
    assert verdicts(claim) == [OPEN, OPEN]


def area_claim(images: int, counts: dict[int, list[int]]) -> Claim:
    return claims(table8=by_area(images, counts))["area-hardly-matters"]


def test_areas_hardly_matter_below_64_pixels_each_num_apart() -> None:
    claim = area_claim(
        3000, {4: [3] * 5, 8: [0, 0, 0, 0, 300], 16: [20, 0, 10, 20, 40], 64: [0, 0, 0, 0, 3000]}
    )
    assert [f.condition for f in claim.findings] == ["4 px", "8 px", "16 px"]
    assert verdicts(claim) == [HOLDS, FAILS, OPEN]


def test_the_area_furthest_from_the_largest_is_shown() -> None:
    (finding,) = area_claim(3000, {4: [90, 100, 80, 100, 100]}).findings
    assert finding.estimate == pytest.approx(20 / 3000)
    assert finding.low < finding.estimate < finding.high


def test_too_few_images_say_how_many_it_takes(written: Callable) -> None:
    """At 5 % over two findings, 0.025 ^ (1 / n) must be above 0.99: from 368 images on."""
    assert 0.025 ** (1 / 367) < 0.99 < 0.025 ** (1 / 368)
    counts = {4: [0] * 5, 8: [0, 0, 0, 0, 1]}
    claim = area_claim(367, counts)
    assert [f.images_needed for f in claim.findings] == [368, 368]
    text, _ = written({claim.key: claim})
    sentence = "Even if no image differed, these could not decide it: that takes 368."
    assert sentence in text
    enough = area_claim(368, counts)
    assert verdicts(enough) == [HOLDS, OPEN]
    assert np.isnan([f.images_needed for f in enough.findings]).all()
    assert "Even if" not in written({enough.key: enough})[0]


@pytest.mark.parametrize("images", [1, 5, 20, 100, 290])
def test_few_images_never_show_that_areas_hardly_matter(images: int) -> None:
    assert verdicts(area_claim(images, {4: [0] * 5})) == [OPEN]
    assert verdicts(area_claim(images, {4: [1] * 5})) == [OPEN]


def test_equivalence_is_corrected_over_the_findings() -> None:
    """500 images none of which differs: 0.6 points are possible at 5 %, 0.9 at 5 % / 4, and more
    than one at 5 % / 16."""
    some = {model: {Cell(4, area=side): wrong_first(0, 500) for side in AREAS} for model in "abcd"}
    one = claims(table8=outcomes({"a": some["a"]}))["area-hardly-matters"]
    assert verdicts(one) == [HOLDS]
    assert one.findings[0].high == pytest.approx(1 - 0.05 ** (1 / 500))
    four = claims(table8=outcomes(some))["area-hardly-matters"]
    assert four.findings[0].high == pytest.approx(1 - 0.0125 ** (1 / 500))
    assert verdicts(four) == [HOLDS] * 4
    nums = (4, 8, 16, 32)
    many = {m: {Cell(n, area=p): wrong_first(0, 500) for n in nums for p in AREAS} for m in "abcd"}
    assert set(verdicts(claims(table8=outcomes(many))["area-hardly-matters"])) == {OPEN}


def test_a_difference_just_beyond_one_point_refutes_nothing() -> None:
    """1.2 points, sure to be above 0 but not above 1: areas may well hardly matter."""
    (finding,) = area_claim(3000, {4: [0, 0, 0, 0, 36]}).findings
    assert finding.verdict == OPEN
    (far,) = area_claim(3000, {4: [0, 0, 0, 0, 90]}).findings
    assert far.verdict == FAILS
    assert far.low > 0.01


@pytest.mark.parametrize(
    ("amplitudes", "areas", "verdict"),
    [
        ([0, 0, 0, 0, 100], [50, 50, 50, 50, 52], HOLDS),
        ([0, 0, 0, 0, 100], [52, 50, 50, 50, 50], HOLDS),
        ([0, 0, 0, 0, 4], [0, 0, 0, 0, 100], FAILS),
        ([0, 0, 0, 0, 4], [100, 0, 0, 0, 0], FAILS),
        ([0, 0, 0, 0, 50], [0, 0, 0, 0, 50], OPEN),
        ([0] * 5, [0] * 5, OPEN),
    ],
)
def test_amplitude_over_position(amplitudes: list[int], areas: list[int], verdict: Verdict) -> None:
    found = claims(
        table7=by_amplitude(500, amplitudes), table8=by_area(500, {64: areas}, start=200)
    )["amplitude-over-position"]
    (finding,) = found.findings
    effect = (amplitudes[-1] - amplitudes[0]) - abs(areas[-1] - areas[0])
    assert finding.estimate == pytest.approx(effect / 500)
    assert finding.verdict == verdict


def test_an_area_that_works_the_other_way_counts_by_its_size() -> None:
    """Ten images up with the amplitude, twenty down with the area, and noise against each other.

    The difference of both effects is above 0, at a larger p-value than their sum's, which is below.
    """

    def cell(*spans: tuple[int, int]) -> np.ndarray:
        return np.maximum.reduce([wrong_first(end - start, 200, start) for start, end in spans])

    amplitudes = {Cell(64, 10): cell((35, 50)), Cell(64, 127): cell((0, 10), (20, 35))}
    areas = {Cell(64, area=140): cell((0, 35)), Cell(64, area=220): cell((35, 50))}
    found = claims(table7=outcomes({"net": amplitudes}), table8=outcomes({"net": areas}))
    (finding,) = found["amplitude-over-position"].findings
    assert finding.estimate == pytest.approx((10 - 20) / 200)
    assert finding.p == pytest.approx(2 * 2 / 2**10)
    assert finding.verdict == FAILS


# Experiment 4


def returns(images: int, draws: int = 1, **counts: int) -> dict[str, Claim]:
    """So many images return at 64 pixels: minimal, unrounded; at 4/255; rounded, of which at 0."""
    table = {
        ("minimal", False, 0): 0,
        ("minimal", False, 64): counts.get("minimal", 0),
        ("0.25", False, 0): 0,
        ("0.25", False, 64): images,
        ("4", False, 0): 0,
        ("4", False, 64): counts.get("four", 0),
        ("8", False, 0): 0,
        ("8", False, 64): 0,
        ("minimal", True, 0): counts.get("rounding", 0),
        ("minimal", True, 64): counts.get("rounded", 0),
    }
    rows = adversarial(images, table, draws=draws)
    return claims(table9=rows, returns=rows)


@pytest.mark.parametrize(
    ("images", "count", "verdict"),
    [(200, 60, HOLDS), (200, 5, FAILS), (200, 25, OPEN), (10, 0, OPEN), (10, 3, OPEN)],
)
def test_returns_of_10_percent_are_considerable(images: int, count: int, verdict: Verdict) -> None:
    (minimal,) = returns(images, minimal=count)["returns-minimal"].findings
    assert (minimal.low, minimal.high) == pytest.approx(exact(count, images))
    assert minimal.verdict == verdict
    (larger,) = returns(images, four=count)["returns-larger"].findings
    assert larger.condition.startswith("epsilon 4, " if count else "epsilon ")
    assert larger.verdict == verdict


def test_the_choice_of_the_epsilon_is_corrected_for() -> None:
    """33 of 225: at 95 % above 10 %, not at 97.5 %, which two epsilons need."""
    assert exact(33, 225)[0] > 0.1 > exact(33, 225, 0.975)[0]
    found = returns(225, minimal=33, four=33)
    assert verdicts(found["returns-minimal"]) == [HOLDS]
    assert verdicts(found["returns-larger"]) == [OPEN]


@pytest.mark.parametrize(
    ("rounding", "rounded", "verdict"),
    [(100, 150, HOLDS), (100, 100, FAILS), (150, 50, FAILS), (0, 20, OPEN), (190, 192, OPEN)],
)
def test_what_pixels_return_is_judged_on_what_rounding_leaves_fooling(
    rounding: int, rounded: int, verdict: Verdict
) -> None:
    """Those that rounding returns count neither where they stay right nor where pixels break them."""
    claim = returns(200, rounding=rounding, rounded=rounded)["returns-beyond-rounding"]
    (finding,) = claim.findings
    count, left = max(rounded - rounding, 0), 200 - rounding
    assert finding.estimate == pytest.approx(count / left)
    assert (finding.low, finding.high) == pytest.approx(exact(count, left))
    assert finding.condition == f"epsilon minimal, {left} images"
    assert finding.verdict == verdict


def test_what_rounding_returns_is_judged_on_what_it_leaves_perturbed() -> None:
    """Of 200 images it returns 120, of which it gives 100 back as they were: 20 of 100 is left."""
    rows = adversarial(
        200, {("minimal", True, 0): 120, ("minimal", True, 64): 120, ("minimal", False, 64): 0}
    )
    given_back = rows["image"] < "00100.png"
    (finding,) = claims(table9=rows.assign(size=np.where(given_back, 0.1, 0.6)))[
        "returns-by-rounding"
    ].findings
    assert finding.estimate == pytest.approx(0.2)
    assert (finding.low, finding.high) == pytest.approx(exact(20, 100))
    assert finding.verdict == HOLDS
    assert not claims(table9=rows.assign(size=0.1))["returns-by-rounding"].findings


def test_multiples_of_the_smallest_epsilon_are_no_sizes() -> None:
    rows = adversarial(200, {("2x", False, 0): 0, ("2x", False, 64): 60})
    found = claims(table9=rows, returns=rows)
    assert found["returns-larger"].findings == found["returns-minimal"].findings == ()


def test_draws_are_no_images() -> None:
    """Twenty draws each of ten images, all of three of which return, say what ten images say."""
    (finding,) = returns(10, draws=20, minimal=3)["returns-minimal"].findings
    assert finding.estimate == pytest.approx(0.3)
    assert finding.verdict == OPEN


def test_attacks_of_one_size_decide_what_they_can() -> None:
    table = adversarial(200, {("4", False, 0): 0, ("4", False, 64): 60}, models=("b", "a"))
    found = claims(table9=table, returns=table)
    assert found["returns-minimal"].findings == found["returns-beyond-rounding"].findings == ()
    assert [f.subject for f in found["returns-larger"].findings] == ["b", "a"]


# Section 3


@pytest.mark.parametrize(
    ("pixels", "noise", "verdict"),
    [
        ([2.0, 2.2, 2.4, 2.1], [1.0, 1.1, 1.2, 1.3], HOLDS),
        ([2.0, 2.2, 2.4, 2.1], [4.0, 4.1, 4.2, 4.3], FAILS),
        ([0.5, 0.6, 0.4, 0.55], [0.1, 0.11, 0.12, 0.13], HOLDS),
        ([0.5, 0.6, 2.0, 1.5], [0.5, 1.3, 1.0, 1.5], OPEN),
        ([3.0], [1.0], OPEN),
    ],
)
def test_magnified_more_than_noise(
    pixels: list[float], noise: list[float], verdict: Verdict
) -> None:
    """By the control alone, whether amplification is above 1 or below."""
    (finding,) = claims(amplification=activations(pixels, noise))["magnified"].findings
    assert finding.verdict == verdict
    assert finding.estimate == pytest.approx(stats.gmean(np.divide(pixels, noise)))
    if len(pixels) > 1:
        test = stats.ttest_1samp(np.log(np.divide(pixels, noise)), 0)
        assert finding.p == pytest.approx(test.pvalue)
        assert finding.low == pytest.approx(math.exp(test.confidence_interval(0.95).low))


def test_magnification_is_corrected_over_networks_and_cells() -> None:
    table = concatenate(
        [
            activations([1.1, 1.5, 1.3], [1.0, 1.0, 1.0], model, num)
            for model in ("a", "b")
            for num in (4, 64)
        ]
    )
    findings = claims(amplification=table)["magnified"].findings
    p = stats.ttest_1samp(np.log([1.1, 1.5, 1.3]), 0).pvalue
    assert [(f.subject, f.condition) for f in findings] == [
        (model, f"{num} pixels") for model in ("a", "b") for num in (4, 64)
    ]
    assert [f.p for f in findings] == pytest.approx([min(4 * p, 1)] * 4)


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [([4.0, 5.0, 6.0, 4.5], HOLDS), ([1.0, 1.2, 0.9, 1.1], FAILS), ([1.0, 5.0, 2.0, 3.0], OPEN)],
)
def test_augmented_images_beside_small_distance_samples(
    factors: list[float], verdict: Verdict
) -> None:
    """An image that the augmentation leaves as it is says nothing of it."""
    pixels = [2.0, 2.2, 2.4, 2.1]
    rows = activations(pixels, [1.0] * 4)
    own = rows[(rows["change"] == "pixels") & (rows["layer"] == "logits")]
    left = activations([2.0] * 5, [1.0] * 5)
    left = left[left["image"].astype(str) == left["image"].astype(str).max()]
    augmented = own.assign(change="AugMix", relative_change=0.1 * np.array(factors))
    same = left[(left["change"] == "pixels") & (left["layer"] == "logits")]
    same = same.assign(change="AugMix", relative_change=0.0)
    found = claims(amplification=concatenate([rows, left, augmented, same]))
    (finding,) = found["augmented-differ"].findings
    ratios = np.divide(factors, pixels)
    test = stats.ttest_1samp(np.log(ratios), 0)
    assert finding.verdict == verdict
    assert finding.condition == "AugMix, 64 pixels, 4 images"
    assert (finding.estimate, finding.p) == pytest.approx((stats.gmean(ratios), test.pvalue))
    # The control is decided by pixels and noise as ever.
    alone = claims(amplification=concatenate([rows, left]))["magnified"]
    assert found["magnified"] == alone


# Laws


COUNTS = st.lists(st.integers(0, 30), min_size=5, max_size=5)


def contradiction(claim: Claim, finding: Finding) -> str:
    """What is wrong with a finding's verdict, given its numbers; empty where nothing is."""
    low, high = finding.low, finding.high
    if np.isnan(low):
        sided = finding.verdict == OPEN or finding.p < 0.05
        return "" if sided else "no evidence"
    if not low - 1e-9 <= finding.estimate <= high + 1e-9:
        return "the estimate lies outside its interval"
    if not np.isnan(finding.p) and finding.verdict != OPEN and finding.p >= 0.05:
        return "the test does not reject"
    if finding.verdict == OPEN:
        return ""
    holds = finding.verdict == HOLDS
    if claim.key == "area-hardly-matters":
        agrees = (low > -0.01 and high < 0.01) if holds else (low > 0.01 or high < -0.01)
    elif claim.key == "index-is-a-property":
        agrees = not holds and not low <= 0 <= high
    elif claim.published.endswith(" %"):
        rate = float(claim.published[:-2]) / 100
        near = rate - 0.01 - 1e-9 <= low and high <= rate + 0.01 + 1e-9
        agrees = near if holds else (high < rate - 0.01 or low > rate + 0.01)
    else:
        null = {
            "returns-minimal": 0.1,
            "returns-larger": 0.1,
            "returns-by-rounding": 0.1,
            "returns-beyond-rounding": 0.1,
            "magnified": 1,
            "augmented-differ": 1,
            "far-more-than-changed": 10,
        }
        level = null.get(claim.key, 0)
        agrees = low > level if holds else high < level
    return "" if agrees else "the verdict contradicts the interval"


def check(found: dict[str, Claim]) -> None:
    for claim in found.values():
        for finding in claim.findings:
            assert contradiction(claim, finding) == "", (claim.key, finding)


@given(st.integers(30, 4000), st.lists(COUNTS, min_size=5, max_size=5))
@settings(max_examples=6, deadline=None)
def test_verdicts_of_the_five_follow_from_their_numbers(
    images: int, counts: list[list[int]]
) -> None:
    rows = by_num(images, dict(zip(FIVE, counts, strict=True)))
    rejected = {model: sum(own) for model, own in zip(FIVE, counts, strict=True)}
    check(claims(table6=(of_the_paper(rejected=rejected), rows)))


@given(st.integers(30, 3000), COUNTS, st.lists(COUNTS, min_size=2, max_size=2), st.integers(0, 1))
@settings(max_examples=10, deadline=None)
def test_verdicts_on_limits_follow_from_their_numbers(
    images: int, amplitudes: list[int], areas: list[list[int]], start: int
) -> None:
    check(
        claims(
            table7=by_amplitude(images, amplitudes, nums=(4, 64)),
            table8=by_area(images, {4: areas[0], 64: areas[1]}, start=start * (images - 30)),
        )
    )


@given(st.integers(30, 400), COUNTS)
@settings(max_examples=10, deadline=None)
def test_verdicts_on_returns_follow_from_their_numbers(images: int, counts: list[int]) -> None:
    names = ("minimal", "four", "rounding", "rounded")
    check(returns(images, **dict(zip(names, counts, strict=False))))


@given(st.lists(st.tuples(*[st.floats(0.1, 10)] * 2), min_size=1, max_size=8))
@settings(max_examples=10, deadline=None)
def test_verdicts_on_magnification_follow_from_their_numbers(
    factors: list[tuple[float, float]],
) -> None:
    pixels, noise = zip(*factors, strict=True)
    check(claims(amplification=activations(pixels, noise)))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 1)), min_size=1, max_size=6))
def test_tested_applies_holm_and_never_decides_against_the_interval(
    found: list[tuple[float, float]],
) -> None:
    claim = Claim("key", "sentence", "where", "", "points", "test")
    findings = [Finding("a", "", x, x - 0.3, x + 0.3, p, OPEN) for p, x in found]
    decided = with_findings(claim, findings).findings
    assert [f.p for f in decided] == pytest.approx(holm([p for p, _ in found]).tolist())
    for finding in decided:
        sure = finding.p < 0.05 and not finding.low <= 0 <= finding.high
        assert finding.verdict == ((HOLDS if finding.estimate > 0 else FAILS) if sure else OPEN)


def test_a_rates_interval_is_over_images() -> None:
    """Draws of four images that are all alike within an image say what four images say."""
    for draws in (1, 20):
        assert rate_interval(np.array([1.0, 0, 0, 0]), draws) == pytest.approx(exact(1, 4))
    assert rate_interval(np.zeros(9), 20) == pytest.approx(exact(0, 9))
    assert rate_interval(np.ones(9), 20) == pytest.approx(exact(9, 9))


# The page


def rows_of(markdown: str) -> list[list[list[str]]]:
    """The cells of each table of a page; a raw pipe in a cell would make one more."""
    tables: list[list[list[str]]] = []
    for is_table, lines in itertools.groupby(markdown.splitlines(), lambda line: line[:1] == "|"):
        if is_table:
            bare = [line.replace("\\|", "¦").strip("|").split("|") for line in lines]
            tables.append([[cell.strip() for cell in row] for row in bare if "---" not in row[0]])
    return tables


@pytest.fixture
def written(tmp_path: Path) -> Callable[[dict[str, Claim]], tuple[str, pd.DataFrame]]:
    def write(found: dict[str, Claim]) -> tuple[str, pd.DataFrame]:
        write_claims(tmp_path, manifest(), list(found.values()))
        text = (tmp_path / "claims.md").read_text(encoding="utf-8")
        return text, pd.read_csv(tmp_path / "claims.csv")

    return write


def every_run() -> dict[str, Any]:
    wrong = {"resnet101": [3, 6, 12, 24, 48], "a|b": [0, 0, 0, 0, 0]}
    rejected = dict.fromkeys(wrong, 100)
    return {
        "table6": (manifest(rejected=rejected), by_num(1000, wrong)),
        "table7": by_amplitude(500, [0, 0, 0, 0, 60], nums=(4, 64)),
        "table8": by_area(500, {4: [0] * 5, 8: [0, 0, 0, 0, 90], 64: [60] * 5}),
        "table9": adversarial(200, {("minimal", False, 0): 0, ("minimal", False, 64): 60}),
        "amplification": activations([2.0, 2.1], [1.0, 1.3]),
    }


def everything() -> dict[str, Claim]:
    return claims(**every_run())


@pytest.mark.parametrize("name", ["table6", "table7", "table8", "table9"])
def test_more_pixels_than_the_papers_decide_nothing(name: str) -> None:
    """All images are wrong at 16,384; yet claims go by 64 pixels and fewer."""
    runs = every_run()
    found = runs[name] if isinstance(runs[name], tuple) else (manifest(name=name), runs[name])
    wider = claims(**runs | {name: (found[0], with_beyond(found[1]))})
    assert list(map(repr, wider.values())) == list(map(repr, claims(**runs).values()))


def test_without_the_papers_largest_number_nothing_is_said_of_it() -> None:
    """Nor is it said of the largest that is there."""
    rows = by_num(1000, {"net": [3, 6, 12, 24, 48]})
    found = claims(table6=rows[rows["num"] < 64])
    assert verdicts(found["more-pixels"]) == [HOLDS]
    assert not found["far-more-than-changed"].findings
    assert not found["index-follows-accuracy"].findings
    assert not found["index-is-a-property"].findings


def test_the_page_has_a_row_a_claim_in_both_tables(written: Callable) -> None:
    found = everything()
    text, _ = written(found)
    verdict_table, details = rows_of(text)
    assert verdict_table[0] == ["Claim", "Paper", "Verdict"]
    assert details[0] == ["Claim", "Here", "Test"]
    for table in (verdict_table, details):
        assert len(table) == 1 + len(found)
        assert {len(row) for row in table} == {3}
    shown = {row[0]: row[2] for row in verdict_table[1:]}
    assert all(shown.values())
    for claim in found.values():
        cell = shown[claim.sentence.replace("_", "\\_").replace("|", "¦")]
        for verdict in verdicts(claim) or [OPEN]:
            assert verdict in cell


def test_different_verdicts_say_whose_they_are(written: Callable) -> None:
    text, _ = written(everything())
    shown = {row[0]: row[2] for row in rows_of(text)[0]}
    assert shown["The more pixels change, the more images are misclassified"] == (
        "holds: resnet101<br>not decided: a¦b"
    )
    areas = shown["Below 64 changed pixels, where they lie plays no significant role"]
    assert "does not hold: net at 8 px" in areas


def test_numbers_are_shown_in_the_claims_unit(written: Callable) -> None:
    text, _ = written(everything())
    here = {row[0]: row[1] for row in rows_of(text)[1]}
    amplitude = here["The further values move, the more images are misclassified"]
    # 12 points at the largest amplitude alone; one of 10,001 sign patterns, at two nums.
    assert "net: 4 px: 1.84 (" in amplitude
    assert "p = 0.0002" in amplitude
    (magnified,) = (
        text for claim, text in here.items() if claim.startswith("Differences of a few")
    )
    assert "times: " in magnified
    # The square root of 2 x 2.1 / 1.3.
    assert "1.8 (" in magnified
    # All are equally accurate.
    assert "undefined" in here["Networks of smaller Pixel-index are the more accurate ones"]
    assert (
        "not measured"
        in here[
            "Images that densenet121 misclassifies at 64 changed pixels: about 3.5 % (the best model)"
        ]
    )
    assert "-0 " not in text


def test_the_csv_has_a_row_a_finding(written: Callable) -> None:
    found = everything()
    _, table = written(found)
    expected = [(c.key, f.subject, f.verdict) for c in found.values() for f in c.findings]
    assert list(zip(table["claim"], table["subject"], table["verdict"], strict=True)) == expected
    assert {"estimate", "low", "high", "p", "unit", "test"} < set(table.columns)


def test_a_page_without_findings(written: Callable) -> None:
    text, table = written(claims())
    assert {row[2] for row in rows_of(text)[0][1:]} == {OPEN}
    assert len(table) == 0
    assert "verdict" in table.columns


def tried(hits: int, images: int, draws: int = 100, num: int = 64) -> pd.DataFrame:
    """Random changes of so many images, of which some have one, the last, that is misclassified."""
    names = np.repeat([f"image {at}" for at in range(images)], draws)
    draw = np.tile(np.arange(draws), images)
    wrong = (np.repeat(np.arange(images), draws) < hits) & (draw == draws - 1)
    return pd.DataFrame(
        {
            "model": "net", "num": num, "amplitude": pd.NA, "area": pd.NA, "image": names, "draw": draw,
            "method": "random", "wrong": wrong,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("hits", "verdict"), [(0, "does not hold"), (10, "not decided"), (30, "holds")]
)
def test_attackers_may_try_a_hundred_changes(hits: int, verdict: str) -> None:
    """Of 100 images, exact intervals: 0 to 3.6 %, 4.9 to 17.6 %, 21.2 to 40.0 %."""
    (finding,) = claims(**{"worst-case": tried(hits, 100)})["attackers"].findings
    assert (finding.verdict, finding.estimate) == (verdict, hits / 100)
    expected = {0: (0, 0.0362), 10: (0.0490, 0.1762), 30: (0.2124, 0.3998)}[hits]
    assert (finding.low, finding.high) == pytest.approx(expected, abs=1e-4)


def test_fewer_tries_or_pixels_say_nothing_of_attackers() -> None:
    for rows in (tried(3, 10, draws=20), tried(3, 10, num=16)):
        assert not claims(**{"worst-case": rows})["attackers"].findings
