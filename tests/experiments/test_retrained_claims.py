"""Claims of retraining on made-up rows for which each plainly holds, fails, or cannot be decided."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.claims.findings import Verdict
from pixelrobust.perturbation.grid import Cell
from tests.experiments.claim_cases import (
    FAILS,
    HOLDS,
    OPEN,
    claims,
    manifest,
    of_the_paper,
    verdicts,
    with_beyond,
)
from tests.tables.retrained_rows import (
    ALL,
    CONTROL,
    FOUR,
    MANY,
    ORIGINAL,
    distances,
    first,
    outcomes_of,
    shown,
    together,
)

NOISE = "net-noise"
KEYS = {
    "table10": (
        "retraining-unharmed", "retraining-robust", "fewer-pixels-better", "traditional-no-effect",
    ),
    "table10-all": ("retraining-robust-all",),
    "table11": ("still-fool", "fool-less-because-of-pixels"),
    "distances": ("distance-grows", "distance-grows-because-of-pixels"),
}  # fmt: skip


def table10(
    images: int, counts: dict[str, Sequence[int]], kind: str = "same", seed: int = 0
) -> pd.DataFrame:
    """How many images each network gets wrong at 0, 4 and 64 changed pixels; nested."""
    cells = (Cell(0), Cell(4), Cell(64))
    return together(
        *(
            outcomes_of(
                {cell: first(n, images) for cell, n in zip(cells, own, strict=True)},
                model, kind, seed,
            )
            for model, own in counts.items()
        )
    )  # fmt: skip


def test_more_pixels_than_the_papers_decide_nothing() -> None:
    counts = {ORIGINAL: (0, 5, 40), CONTROL: (0, 5, 40), FOUR: (0, 1, 5), NOISE: (0, 5, 39)}
    rows = table10(300, counts)
    plain, wider = claims(table10=rows), claims(table10=with_beyond(rows))
    assert plain["retraining-robust"].findings
    assert list(map(repr, wider.values())) == list(map(repr, plain.values()))


def test_each_run_decides_its_own_claims() -> None:
    networks = {ORIGINAL: (0, 0, 9), CONTROL: (0, 0, 9), FOUR: (0, 0, 1), MANY: (1, 1, 1)}
    tables = {
        "table10": table10(50, networks | {NOISE: (0, 0, 9)}),
        "table10-all": table10(50, networks),
        "table11": fooling(50, 50, 40, 10),
        "distances": moved(20, 0.1, 0.5),
    }  # fmt: skip
    for name, table in tables.items():
        decided = claims(**{name: table})
        found = {key for key, claim in decided.items() if claim.findings}
        assert found == set(KEYS[name])


# Table 10


@pytest.mark.parametrize(
    ("images", "wrong", "verdict"),
    [(2000, 0, HOLDS), (2000, 100, FAILS), (30, 0, OPEN), (2000, 20, OPEN)],
)
def test_unharmed(images: int, wrong: int, verdict: Verdict) -> None:
    rows = table10(images, {ORIGINAL: (0, 0, 0), FOUR: (wrong, 0, 0)})
    (finding,) = claims(table10=rows)["retraining-unharmed"].findings
    assert finding.verdict == verdict
    assert finding.estimate == pytest.approx(wrong / images)
    assert finding.low < finding.estimate < finding.high


def test_better_recognition_is_a_change_too() -> None:
    rows = table10(2000, {ORIGINAL: (200, 0, 0), FOUR: (0, 0, 0)})
    (finding,) = claims(table10=rows)["retraining-unharmed"].findings
    assert (finding.verdict, finding.estimate) == (FAILS, pytest.approx(-0.1))
    assert finding.high < -0.01


def test_unharmed_is_corrected_for_as_many_networks() -> None:
    """400 alike images bound a difference by 3.0 / 400 for one network, for five by 4.6 / 400."""
    alone = {ORIGINAL: (0, 0, 0), FOUR: (0, 0, 0)}
    assert verdicts(claims(table10=table10(400, alone))["retraining-unharmed"]) == [HOLDS]
    several = alone | {f"net-{num}": (0, 0, 0) for num in (8, 16, 32, 64)}
    assert verdicts(claims(table10=table10(400, several))["retraining-unharmed"]) == [OPEN] * 5


@pytest.mark.parametrize(
    ("images", "control", "own", "verdict"),
    [(200, 60, 20, HOLDS), (200, 20, 60, FAILS), (200, 20, 20, OPEN), (10, 3, 1, OPEN)],
)
def test_robust(images: int, control: int, own: int, verdict: Verdict) -> None:
    """At the largest num only, and against retraining on unchanged images, not the original.

    All are right unchanged, so that both measures find the same, and p is that of two findings.
    """
    rows = table10(
        images, {ORIGINAL: (0, 0, images), CONTROL: (0, images, control), FOUR: (0, images, own)}
    )
    right, rise = claims(table10=rows)["retraining-robust"].findings
    apart = abs(control - own)
    expected = stats.binomtest(apart, apart, 0.5).pvalue if apart else 1
    for finding in (right, rise):
        assert finding.verdict == verdict
        assert finding.estimate == pytest.approx((control - own) / images)
    assert right.p == pytest.approx(min(2 * expected, 1))
    assert right.condition == f"same images, 64 pixels, {images} right unchanged"
    assert rise.condition == "same images, 64 pixels, rise from unchanged"


def test_robust_is_decided_by_what_pixels_do_not_by_who_is_right_unchanged() -> None:
    """60 of 300 are wrong at 64 pixels whatever the network; retrained, 60 others are wrong unchanged.

    On all images there is no difference; on the 240 that both are right about there is, and the rise
    from the unchanged images is less.
    """
    rows = table10(300, {CONTROL: (0, 60, 60), FOUR: (60, 60, 60)})
    right, rise = claims(table10=rows)["retraining-robust"].findings
    assert (right.estimate, right.verdict) == (0, OPEN)
    assert right.condition == "same images, 64 pixels, 240 right unchanged"
    assert (rise.estimate, rise.verdict) == (pytest.approx(0.2), HOLDS)
    # 30 of these 60 and 30 others at 64 pixels: those others are right unchanged with both.
    part = [int(i < 30 or 60 <= i < 90) for i in range(300)]
    cells = {Cell(0): first(0, 300), Cell(64): part}
    rows = together(
        outcomes_of(cells, CONTROL),
        outcomes_of({Cell(0): first(60, 300), Cell(64): first(60, 300)}, FOUR),
    )
    right, rise = claims(table10=rows)["retraining-robust"].findings
    assert (right.estimate, right.verdict) == (pytest.approx(30 / 240), HOLDS)
    assert (rise.estimate, rise.verdict) == (pytest.approx(60 / 300), HOLDS)


def test_all_layers_are_decided_apart() -> None:
    rows = table10(200, {CONTROL: (0, 0, 20), FOUR: (0, 0, 60)})
    found = claims(**{"table10-all": rows})
    assert verdicts(found["retraining-robust-all"]) == [FAILS] * 2
    assert found["retraining-robust"].findings == ()


@pytest.mark.parametrize(
    ("fewest", "most", "verdict"), [(10, 80, HOLDS), (80, 10, FAILS), (30, 30, OPEN)]
)
def test_fewer_pixels(fewest: int, most: int, verdict: Verdict) -> None:
    middle = {"net-16": (0, 200, 200)}
    rows = table10(200, {MANY: (0, most, most), FOUR: (0, fewest, fewest)} | middle)
    for finding in claims(table10=rows)["fewer-pixels-better"].findings:
        assert (finding.subject, finding.verdict) == ("net-4 and net-64", verdict)
        assert finding.estimate == pytest.approx((most - fewest) / 200)


@pytest.mark.parametrize(
    ("images", "control", "noise", "verdict"),
    [
        (2000, 300, 300, HOLDS),
        (2000, 300, 400, HOLDS),
        (2000, 400, 300, FAILS),
        (2000, 300, 285, OPEN),
        (300, 0, 0, OPEN),
    ],
)
def test_traditional_augmentation(images: int, control: int, noise: int, verdict: Verdict) -> None:
    """It has no effect where its network is no better by a point; harm is no effect on robustness."""
    rows = table10(images, {CONTROL: (0, 0, control), NOISE: (0, 0, noise), FOUR: (images, 0, 0)})
    findings = claims(table10=rows)["traditional-no-effect"].findings
    assert [f.subject for f in findings] == [NOISE] * 2
    for finding in findings:
        assert finding.verdict == verdict
        assert finding.estimate == pytest.approx((control - noise) / images)


def test_traditional_augmentation_takes_as_many_images() -> None:
    """At 5 % over two findings, 0.025 ^ (1 / n) must exceed 0.99; a rise can be two points an image."""
    right, rise = claims(table10=table10(367, {CONTROL: (0, 0, 9), NOISE: (0, 0, 9)}))[
        "traditional-no-effect"
    ].findings
    assert (right.images_needed, rise.images_needed) == (368, 736)
    assert 0.025 ** (1 / 735) < 0.995 < 0.025 ** (1 / 736)


def test_one_network_has_nothing_to_be_compared_with() -> None:
    decided = claims(table10=table10(50, {FOUR: (0, 0, 9)}))
    assert all(decided[key].findings == () for key in KEYS["table10"])


def test_heldout_images_decide_where_there_are_any() -> None:
    """Whatever order they come in."""
    rows = together(
        table10(200, {CONTROL: (0, 0, 60), FOUR: (0, 0, 20)}, "heldout"),
        table10(200, {CONTROL: (0, 0, 20), FOUR: (0, 0, 60)}, "same"),
    )
    for finding in claims(table10=rows)["retraining-robust"].findings:
        assert finding.verdict == HOLDS
        assert finding.condition.startswith("heldout images, 64 pixels, ")


def test_seeds_are_no_further_images() -> None:
    """Six images of 200 differ, for each of five seeds: still six images, of two findings."""
    parts = [table10(200, {CONTROL: (0, 0, 6), FOUR: (0, 0, 0)}, seed=seed) for seed in range(1, 6)]
    for finding in claims(table10=together(*parts))["retraining-robust"].findings:
        assert (finding.verdict, finding.p) == (OPEN, pytest.approx(2 * 2 / 2**6))


def test_seeds_that_disagree_leave_it_open() -> None:
    """On 400 images the mean of three seeds differs by 20 %; of one of them it is less than nothing."""
    counts = {0: (160, 20), 1: (160, 40), 2: (20, 40)}
    parts = [
        table10(400, {CONTROL: (0, 0, control), FOUR: (0, 0, own)}, seed=seed)
        for seed, (control, own) in counts.items()
    ]
    for finding in claims(table10=together(*parts))["retraining-robust"].findings:
        assert finding.p < 0.001
        assert finding.low < 0 < finding.estimate
        assert finding.verdict == OPEN


def test_limits_on_everything_find_nothing() -> None:
    """A table 10 with an amplitude has no cell without one."""
    limited = {Cell(0): [0] * 9, Cell(4, 10): [1] * 9, Cell(64, 10): [1] * 9}
    rows = together(*(outcomes_of(limited, model) for model in (ORIGINAL, CONTROL, FOUR, MANY)))
    decided = claims(table10=rows)
    assert not decided["retraining-robust"].findings
    assert not decided["fewer-pixels-better"].findings
    assert len(decided["retraining-unharmed"].findings) == 2


# Table 11


def fooling(images: int, original: int, control: int, own: int, name: str = FOUR) -> pd.DataFrame:
    """How many of the images that fool the original fool others, rounded or not."""
    counts = {ALL: images, ORIGINAL: original, CONTROL: control, name: own}
    return together(
        *(
            shown(first(count, images), model, rounded=rounded)
            for rounded in (False, True)
            for model, count in counts.items()
        )
    )


@pytest.mark.parametrize(
    ("images", "own", "verdict"),
    [(40_000, 9960, HOLDS), (1000, 600, FAILS), (1000, 30, FAILS), (100, 25, OPEN)],
)
def test_still_fool(images: int, own: int, verdict: Verdict) -> None:
    rows = fooling(images, images, images, own, name="resnet101-4")
    claim = claims(table11=(of_the_paper(rejected={"resnet101": 5}), rows))["still-fool"]
    assert verdicts(claim) == [verdict] * 2
    assert [finding.condition for finding in claim.findings] == ["not rounded", "rounded to 8 bits"]
    for finding in claim.findings:
        exact = stats.binomtest(own, images).proportion_ci(0.975, method="exact")
        assert (finding.low, finding.high) == pytest.approx((exact.low, exact.high))


def test_still_fool_is_said_of_the_papers_network_and_images_only() -> None:
    other = claims(table11=fooling(1000, 1000, 1000, 600))["still-fool"]
    own = fooling(1000, 1000, 1000, 600, name="resnet101-4")
    others = claims(table11=(manifest(rejected={"resnet101": 5}), own))["still-fool"]
    assert verdicts(other) == verdicts(others) == [OPEN] * 2
    assert {f.estimate for f in (*other.findings, *others.findings)} == {0.6}


@pytest.mark.parametrize(
    ("control", "own", "verdict"), [(60, 20, HOLDS), (20, 60, FAILS), (20, 20, OPEN)]
)
def test_because_of_pixels(control: int, own: int, verdict: Verdict) -> None:
    claim = claims(table11=fooling(100, 100, control, own))["fool-less-because-of-pixels"]
    assert verdicts(claim) == [verdict] * 2
    assert claim.findings[0].estimate == pytest.approx((control - own) / 100)


def test_another_number_of_pixels_says_nothing_of_four() -> None:
    decided = claims(table11=fooling(1000, 1000, 600, 900, name=MANY))
    assert all(decided[key].findings == () for key in KEYS["table11"])
    decided = claims(table11=fooling(1000, 1000, 600, 900, name="net-14"))
    assert all(decided[key].findings == () for key in KEYS["table11"])


def test_without_a_control_the_cause_is_not_decided() -> None:
    rows = fooling(1000, 1000, 600, 900)
    decided = claims(table11=rows[rows["model"] != CONTROL])
    assert decided["fool-less-because-of-pixels"].findings == ()
    assert len(decided["still-fool"].findings) == 2


def test_only_the_smallest_epsilon_counts() -> None:
    rows = together(
        fooling(1000, 1000, 600, 900).assign(epsilon="2"),
        fooling(100, 100, 60, 25),
        shown(first(900, 1000), FOUR, against="itself"),
    )
    assert [f.estimate for f in claims(table11=rows)["still-fool"].findings] == [0.25] * 2


# Distances


def moved(images: int, control: float, own: float) -> pd.DataFrame:
    """By how much retraining moves images, about: a tenth of it up and down."""
    before = np.linspace(1, 2, images)
    up_and_down = np.where(np.arange(images) % 2, 1.1, 0.9)
    return together(
        distances(before, ORIGINAL),
        distances(before + control * up_and_down, CONTROL),
        distances(before + own * up_and_down, FOUR),
    )


@pytest.mark.parametrize(
    ("images", "control", "own", "grows", "beyond"),
    [
        (20, 0.1, 0.5, HOLDS, HOLDS),
        (20, -0.1, -0.5, FAILS, FAILS),
        (20, 0.5, 0.1, HOLDS, FAILS),
        (20, 0.0, 0.0, OPEN, OPEN),
        (4, 0.1, 0.5, OPEN, OPEN),
    ],
)
def test_distances(
    images: int, control: float, own: float, grows: Verdict, beyond: Verdict
) -> None:
    decided = claims(distances=moved(images, control, own))
    assert verdicts(decided["distance-grows"]) == [grows]
    assert verdicts(decided["distance-grows-because-of-pixels"]) == [beyond]
    (finding,) = decided["distance-grows"].findings
    assert finding.estimate == pytest.approx(own)
    (finding,) = decided["distance-grows-because-of-pixels"].findings
    assert finding.estimate == pytest.approx(own - control)
    where = f"the {images} images trained on"
    assert finding.condition == (f"{where}, less" if beyond == FAILS else where)


def test_distances_that_all_change_alike_have_no_interval() -> None:
    """Nothing says how far another image may move."""
    rows = together(
        distances([1.0] * 12, ORIGINAL), distances([2.0] * 12, FOUR), distances([1.0] * 12, CONTROL)
    )
    (finding,) = claims(distances=rows)["distance-grows"].findings
    assert finding.verdict == OPEN
    assert np.isinf([finding.low, finding.high]).all()


@pytest.mark.parametrize("after", [[2.0], [np.inf, 2.0], [np.nan, np.inf]])
def test_one_distance_or_none_decides_nothing(after: list[float]) -> None:
    rows = together(distances([1.0] * len(after), ORIGINAL), distances(after, FOUR))
    assert set(verdicts(claims(distances=rows)["distance-grows"])) <= {OPEN}
    assert verdicts(claims(distances=rows)["distance-grows-because-of-pixels"]) == []
