"""Adaptive evaluation: unbiased whatever it guesses, as precise as it says, and cheaper."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from pixelrobust import InputError, estimate, evaluate, summarize
from pixelrobust.adaptive.allotment import ROUND_WEIGHTS, allot
from pixelrobust.adaptive.estimate import estimate as estimate_of
from pixelrobust.adaptive.estimate import rate_interval, summarize_adaptive
from pixelrobust.adaptive.rounds import evaluate_adaptively
from pixelrobust.adaptive.sensitivity import Sensitivity, families
from pixelrobust.answers import Answers
from pixelrobust.grid import Cell, build_grid
from scripts.adaptive_coverage import CENSUS, Census, judge, main, simulate
from tests.conftest import Run

CELL = Cell(4)


def allotted(*rows: tuple[str, int, float, float, int, int, float]) -> pd.DataFrame:
    columns = ["image", "round", "weight", "expected", "draws", "wrong", "guessed"]
    return pd.DataFrame(rows, columns=columns)


# --- the estimate -----------------------------------------------------------------------------


def test_an_estimate_worked_out_by_hand() -> None:
    """Round 1: images 3/4 and .2 + (1 - .2) / .5 = 1.8; round 2: 1/2 and .1, for want of a draw."""
    rows = allotted(
        ("a", 0, 0.0, 1.0, 1, 1, 0.0),
        ("a", 1, 0.4, 4.0, 4, 3, 0.9),
        ("b", 1, 0.4, 0.5, 1, 1, 0.2),
        ("a", 2, 0.6, 2.0, 2, 1, 0.9),
        ("b", 2, 0.6, 0.5, 0, 0, 0.1),
    )
    rate, variance = estimate_of(rows)
    assert rate == pytest.approx((0.4 * (0.75 + 1.8) + 0.6 * (0.5 + 0.1)) / 2)
    # Of means of 4 and 2 outcomes: p q / (n - 1); of the single one its squared distance.
    by_round = 0.4**2 * (0.75 * 0.25 / 3 + 1.6**2), 0.6**2 * (0.25 / 1 + 0)
    assert variance == pytest.approx(sum(by_round) / 4)


@given(
    rate=st.floats(0, 1),
    guessed=st.floats(0, 1),
    chance=st.floats(0.02, 0.69),
    draws=st.integers(1, 4),
)
def test_each_image_is_estimated_without_bias(
    rate: float, guessed: float, chance: float, draws: int
) -> None:
    """Over all that can happen to an image with a chance of a draw, and to one with whole draws."""
    one = [
        (1 - chance, allotted(("a", 1, 1.0, chance, 0, 0, guessed))),
        (chance * rate, allotted(("a", 1, 1.0, chance, 1, 1, guessed))),
        (chance * (1 - rate), allotted(("a", 1, 1.0, chance, 1, 0, guessed))),
    ]
    ways = [1, draws, draws * (draws - 1) // 2, draws * (draws - 1) * (draws - 2) // 6, 1]
    whole = [
        (
            ways[wrong] * rate**wrong * (1 - rate) ** (draws - wrong),
            allotted(("a", 1, 1.0, float(draws), draws, wrong, guessed)),
        )
        for wrong in range(draws + 1)
    ]
    whole[-1] = (rate**draws, whole[-1][1])
    for happening in (one, whole):
        found = [(probability, *estimate_of(rows)) for probability, rows in happening]
        mean = sum(probability * value for probability, value, _ in found)
        assert mean == pytest.approx(rate, abs=1e-9)
        true_variance = sum(probability * (value - rate) ** 2 for probability, value, _ in found)
        expected_variance = sum(probability * variance for probability, _, variance in found)
        # Rather too large than too small; exact where there are several draws.
        assert expected_variance >= true_variance - 1e-9
        if happening is whole and draws > 1:
            assert expected_variance == pytest.approx(true_variance, abs=1e-9)


def test_an_interval_where_nothing_was_wrong_is_that_of_one_draw_an_image() -> None:
    found = rate_interval(0.0, 0.0, 100)
    assert found.low == 0
    assert found.high == pytest.approx(0.0370, abs=1e-4)
    # 50 wrong of 1,000 have the variance .05 * .95 / 1000.
    found = rate_interval(0.05, 0.05 * 0.95 / 1000, 100)
    assert (found.low, found.high) == pytest.approx((0.03811, 0.06537), abs=1e-4)


# --- allotment and sensitivity ----------------------------------------------------------------


def test_draws_are_allotted_in_proportion_to_the_spread() -> None:
    """Sum of variance / draws over sum of variance is to be 1 / (20 * .5)."""
    spread = np.array([0.5, 0.25, 0.001])
    found = allot(spread, 0.5, 20, np.random.default_rng(0))
    scale = 20 * 0.5 * spread.sum() / (spread**2).sum()
    assert found.expected.tolist() == [12, 6, pytest.approx(0.001 * scale)]
    assert found.draws[:2].tolist() == [12, 6]
    assert sum(ROUND_WEIGHTS) == pytest.approx(1)


def test_less_than_one_draw_is_a_chance_of_one() -> None:
    spread = np.concatenate([[0.5], np.full(20_000, 1e-4)])
    found = allot(spread, 0.1, 1, np.random.default_rng(0))
    few = found.draws[1:]
    assert set(few) == {0, 1}
    assert few.mean() == pytest.approx(found.expected[1], abs=0.005)


def test_cells_that_tell_most_come_first() -> None:
    cells = [*build_grid([4, 64, 16], [None, 40]), Cell(8, None, 20)]
    found = families([cell for cell in cells if cell.num])
    assert found[0] == [Cell(64), Cell(16), Cell(4)]
    assert sorted(map(len, found)) == [1, 3, 3]


def sensitivity(clean: NDArray[np.float64]) -> Sensitivity:
    """Of a cell that moves margins by about 1, as far as 0 is concerned."""
    found = Sensitivity(clean)
    found.begin(np.array([0, 0]), {CELL: clean[[0, 0]] - np.array([0.7, -0.7])})
    return found


def test_images_near_the_boundary_vary_most() -> None:
    expected, spread = sensitivity(np.array([5.0, 0.0, 1.0, 3.0, 30.0])).guess(CELL)
    assert spread[1] > spread[2] > spread[3] > spread[4] > 0
    assert expected[1] == pytest.approx(0.5, abs=1e-6)
    assert expected[4] < 0.01


def test_what_is_seen_of_an_image_is_learned() -> None:
    clean = np.array([5.0, 2.0, 2.0, 2.0])
    knows = sensitivity(clean)
    before, _ = knows.guess(CELL)
    assert before[1] == pytest.approx(before[3])
    knows.see(CELL, np.array([1, 1, 1]), np.array([-1.0, 0.5, -0.2]))
    knows.see(CELL, np.array([2, 2, 2]), np.array([2.01, 1.99, 2.0]))
    after, _ = knows.guess(CELL)
    assert after[1] > 2 * before[1]
    assert after[2] < before[2] / 3


def test_what_other_cells_show_counts_less() -> None:
    clean = np.array([5.0, 2.0, 2.0])
    guesses = []
    for cell in (CELL, Cell(8)):
        knows = Sensitivity(clean)
        pilot = clean[[0, 0]] - np.array([0.7, -0.7])
        knows.begin(np.array([0, 0]), {CELL: pilot, Cell(8): pilot})
        unseen = knows.guess(CELL)[0][1]
        knows.see(cell, np.array([1, 1]), np.array([-1.0, -0.2]))
        guesses.append(knows.guess(CELL)[0][1])
    assert guesses[0] > guesses[1] > unseen


# --- rounds -----------------------------------------------------------------------------------


def test_no_draw_of_an_image_is_shown_twice_in_a_family_or_another() -> None:
    shown: list[tuple[int, int]] = []

    def ask(cell: Cell, image: NDArray[np.int64], draw: NDArray[np.int64]) -> Answers:
        shown.extend(zip(image.tolist(), draw.tolist(), strict=True))
        margins = np.sin(image * 13.0 + draw * 7 + cell.num).astype(np.float32)
        return Answers((margins < 0).astype(np.int64), margins)

    cells = [cell for cell in build_grid([4, 16], [None, 40]) if cell.num]
    arguments = (
        np.zeros(30, dtype=np.int64), [f"{i:02}" for i in range(30)], np.linspace(0, 3, 30), cells, 5,
    )  # fmt: skip
    first = evaluate_adaptively(ask, *arguments, 0, "net")
    assert len(shown) == len(set(shown)) == first["draws"].sum()
    # Every draw of an image is used before the next.
    for image in range(30):
        draws = sorted(draw for of, draw in shown if of == image)
        assert draws == list(range(len(draws)))
    summary = summarize_adaptive(first, 5, (224, 224))
    assert summary["passes"].sum() == len(shown)
    again = evaluate_adaptively(ask, *arguments, 0, "net")
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(evaluate_adaptively(ask, *arguments, 1, "net"))


def test_the_committed_census_is_estimated_well_for_less() -> None:
    """The full 2,000 simulations stand in adaptive.csv, and are checked below."""
    nums = (4, 16)
    found = judge(simulate(CENSUS, nums, range(40)), Census(CENSUS)).set_index("num")
    assert (found["bias"].abs() < 4).all()
    assert (found["coverage"] >= 0.82).all()
    assert found["share_of_census"][4] < 0.4
    assert found["share_of_census"][16] < 0.5


def test_the_committed_simulation_keeps_the_promise() -> None:
    found = pd.read_csv(CENSUS.with_name("adaptive.csv")).set_index("num")
    assert (found["simulations"] >= 2000).all()
    assert found["coverage"].between(0.93, 0.97).all()
    assert (found["bias"].abs() < 3).all()
    assert found["share_at_equal_variance"][4] <= 0.25
    assert found["share_at_equal_variance"][16] <= 0.35
    census = Census(CENSUS)
    for num, rate in found["wrong_rate"].items():
        assert rate == pytest.approx(census.rates(int(str(num))).mean(), abs=1e-4)


def test_a_census_that_is_not_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--census", str(tmp_path / "none.parquet")]) == 2
    assert capsys.readouterr().err.startswith("error: there is no census")


# --- as a run ---------------------------------------------------------------------------------

ADAPTIVE = (
    "profile=bundled", "model=efficientnet_lite0", "selection.models=null", "perturbation.num=[64,4096]",
    "draws=2", "engine=eager",
)  # fmt: skip


def test_a_run_is_like_its_census(run: Run, tmp_path: Path) -> None:
    tables = {}
    for kind in ("census", "adaptive"):
        ended = run(*ADAPTIVE, f"evaluation={kind}", f"name={kind}")
        assert ended.code == 0, ended.err
        (path,) = (tmp_path / "results").glob(f"{kind}-*/table.csv")
        tables[kind] = pd.read_csv(path).set_index("num")
    census, adaptive = tables["census"], tables["adaptive"]
    assert adaptive.index.tolist() == census.index.tolist() == [0, 64, 4096]
    assert adaptive["wrong_rate"][0] == census["wrong_rate"][0]
    assert adaptive["ci_low"][4096] <= census["wrong_rate"][4096] <= adaptive["ci_high"][4096]
    page = path.with_suffix(".md").read_text()
    assert "Intervals are for exactly these images" in page


@pytest.mark.parametrize("key", ["attack=fgsm", "measure=activations", "pictures=1"])
def test_what_cannot_be_adaptive_is_one_sentence(run: Run, key: str) -> None:
    ended = run(*ADAPTIVE[:3], "evaluation=adaptive", key)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "evaluation=adaptive" in ended.err


# --- in Python --------------------------------------------------------------------------------


def test_an_estimate_in_one_call_is_that_of_a_census_by_fewer_passes() -> None:
    """Most of the images lie far from the boundary, where no change of two pixels takes them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 2))
    images = torch.randint(0, 256, (400, 3, 12, 12), dtype=torch.uint8)
    with torch.no_grad():
        labels = model(images / 255).argmax(dim=1)
    arguments = {"num": [2], "draws": 60, "device": "cpu", "engine": "eager"}
    before = images.clone()
    found = estimate(model, images, labels, **arguments)
    assert torch.equal(images, before)
    census = summarize(evaluate(model, images, labels, **arguments), image_size=(12, 12))
    assert list(found["num"]) == list(census["num"]) == [0, 2]
    assert found.loc[0, "wrong_rate"] == census.loc[0, "wrong_rate"] == 0
    rate = census.loc[1, "wrong_rate"]
    assert 0.01 < rate < 0.4
    assert found.loc[1, "wrong_rate"] == pytest.approx(rate, abs=5 * found.loc[1, "standard_error"])
    assert found.loc[1, "ci_low"] < rate < found.loc[1, "ci_high"]
    assert found.loc[1, "share_of_census"] < 0.8
    assert found.equals(estimate(model, images, labels, **arguments))


def test_an_estimate_of_nothing_is_refused() -> None:
    images = torch.zeros(2, 3, 8, 8)
    with pytest.raises(InputError, match="num=0 changes nothing"):
        estimate(nn.Flatten(), images, [0, 0], num=0)
    with pytest.raises(InputError, match="num=65"):
        estimate(nn.Flatten(), images, [0, 0], num=65)
    spoiled = nn.Sequential(nn.Flatten(), nn.Threshold(0.5, torch.nan))
    with pytest.raises(InputError, match="NaN or infinite logits for '0'"):
        estimate(spoiled, images, [0, 0], num=4)
