"""Screening gives the predictions of the exact network, whatever the fast one does to small margins."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

import pixelrobust.engine
from pixelrobust import evaluate
from pixelrobust.engine import EagerEngine, Engine, make_engine
from pixelrobust.engine.base import Screening
from pixelrobust.evaluation import cells, screening
from pixelrobust.evaluation.cells import evaluate_cells
from pixelrobust.evaluation.forward import Design, ForwardPass, Task
from pixelrobust.evaluation.screening import SCREENING, Screen, fill
from pixelrobust.evaluation.store import Known, PredictionStore
from pixelrobust.outcomes.manifest import Screened
from pixelrobust.perturbation.grid import Cell, build_grid
from pixelrobust.settings import engine_settings

CPU = torch.device("cpu")
GRID = build_grid([2, 8])
CHANGED = [cell for cell in GRID if cell.num]
IMAGES, DRAWS = 200, 4


def images_of(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)


def bright_where_nobody_looks(count: int) -> Tensor:
    """Return images whose first pixel is black, and white in those by which no error is seen."""
    images, order = images_of(count), np.random.default_rng(0).permutation(count)
    images[:, :, 0, 0] = 0
    images[order[256:], :, 0, 0] = 255
    return images


def fraction(images: Tensor, factor: float) -> Tensor:
    """Return a number in [0, 1) for each image that seems random, but hangs on its pixels alone, (B,)."""
    weights = torch.arange(1, images[0].numel() + 1, dtype=torch.float64)
    total = ((images.double() * 255).round().flatten(1) * weights).sum(dim=1)
    return (total * factor).frac()


class Margins(nn.Module):
    """Three classes, of which two lie apart by up to `width`, in either direction.

    Args:
        width: of their distance.
        error: that it may be off by.
        broken: from this value of the first pixel on, 0 to 1, the second class is taken, with a distance of 3.
    """

    def __init__(self, width: float, error: float = 0.0, broken: float = 2.0) -> None:
        super().__init__()
        self.width, self.error, self.broken = width, error, broken
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        apart = self.width * (2 * fraction(images, 0.618034) - 1)
        apart = apart + self.error * (2 * fraction(images, 0.414214) - 1)
        is_broken = images[:, 0, 0, 0] >= self.broken
        apart = torch.where(is_broken, -3.0, apart)
        return torch.stack([apart, torch.zeros_like(apart), apart * 0 - 9], dim=1).float()


def engine_of(
    exact: nn.Module, fast: nn.Module | None, multiple: float = 2, checked: float = 0.01
) -> Engine:
    engine = EagerEngine(exact, CPU, 16)
    if fast is not None:
        engine.screening = Screening(EagerEngine(fast, CPU, 16), multiple, checked)
    return engine


def outcomes_of(
    engine: Engine, store: PredictionStore | None = None, images: Tensor | None = None
) -> pd.DataFrame:
    images = images_of(IMAGES) if images is None else images
    keys, labels = [str(row) for row in range(len(images))], np.zeros(len(images), dtype=np.int64)
    return evaluate_cells(
        Task(engine, images, keys, labels, "net"), Design(GRID, DRAWS, 0), store=store
    )


def screened_in(outcomes: pd.DataFrame) -> Screened:
    return Screened(**outcomes.attrs[SCREENING])


def rows(outcomes: pd.DataFrame) -> pd.DataFrame:
    return outcomes.drop(columns=["model"])


def test_only_small_margins_are_computed_again_and_all_predictions_are_exact() -> None:
    exact, fast = Margins(1.0), Margins(1.0, error=0.05)
    expected, tempted = outcomes_of(engine_of(exact, None)), outcomes_of(engine_of(fast, None))
    found = outcomes_of(engine_of(exact, fast))
    pd.testing.assert_frame_equal(rows(found), rows(expected))
    flipped = int((tempted["prediction"] != expected["prediction"])[expected["num"] > 0].sum())
    assert flipped > 10
    told = screened_in(found)
    assert told.screened == IMAGES * DRAWS * len(CHANGED)
    assert 0.04 < told.error <= 0.05
    assert told.bound == 2 * told.error
    assert (told.doubled, told.flipped) == (0, flipped)
    assert told.widest < 0.05
    # Distances lie evenly in -1..1.
    assert told.recomputed / told.screened == pytest.approx(told.bound, abs=0.03)
    assert told.calibrated == 256
    # One in a hundred of those that are neither below the bound nor among these.
    assert 4 <= told.checked <= 24


def test_margins_that_are_all_smaller_than_the_error_are_all_computed_again() -> None:
    exact, fast = Margins(0.01), Margins(0.01, error=0.05)
    found = outcomes_of(engine_of(exact, fast))
    pd.testing.assert_frame_equal(rows(found), rows(outcomes_of(engine_of(exact, None))))
    told = screened_in(found)
    assert (told.recomputed, told.checked) == (told.screened, 0)
    assert told.flipped > 0.3 * told.screened


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 3), st.floats(0, 1), st.floats(1, 4))
def test_errors_up_to_the_bound_never_show(width: float, error: float, multiple: float) -> None:
    """No error is larger than twice the largest of 256, so that only multiples below are at risk."""
    images = images_of(40)
    exact, fast = Margins(width), Margins(width, error=error)
    found = outcomes_of(engine_of(exact, fast, 1 + multiple, checked=0), images=images)
    expected = outcomes_of(engine_of(exact, None), images=images)
    pd.testing.assert_frame_equal(rows(found), rows(expected))


def test_a_check_that_fails_doubles_the_bound_and_what_lies_below_is_computed_again() -> None:
    """None of the images by which errors are seen is broken."""
    images = bright_where_nobody_looks(500)
    exact, fast = Margins(8.0), Margins(8.0, error=0.05, broken=0.999)
    expected = outcomes_of(engine_of(exact, None), images=images)
    unchecked = outcomes_of(engine_of(exact, fast, checked=0), images=images)
    found = outcomes_of(engine_of(exact, fast, checked=0.05), images=images)
    missed = (unchecked["prediction"] != expected["prediction"]).sum()
    assert missed > 200
    pd.testing.assert_frame_equal(rows(found), rows(expected))
    told = screened_in(found)
    assert told.doubled == np.ceil(np.log2(3 / (2 * told.error)))
    assert told.bound == 2 * told.error * 2**told.doubled
    assert told.widest == pytest.approx(3)
    assert told.flipped >= missed


def test_logits_that_the_fast_arithmetic_cannot_hold_are_computed_again() -> None:
    class Overflows(Margins):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return torch.where(logits[:, :1] > 0.5, torch.inf, logits)

    exact = Margins(1.0)
    found = outcomes_of(engine_of(exact, Overflows(1.0)))
    pd.testing.assert_frame_equal(rows(found), rows(outcomes_of(engine_of(exact, None))))
    told = screened_in(found)
    assert told.recomputed == pytest.approx(0.25 * told.screened, rel=0.2)
    assert told.error == told.bound == 0


class CountsImages(Margins):
    """Keeps the sizes of the batches that it is shown."""

    def forward(self, images: Tensor) -> Tensor:
        self.sizes = [*getattr(self, "sizes", []), len(images)]
        return super().forward(images)


@pytest.mark.parametrize("block", [300, 2048])
def test_images_are_gathered_into_full_batches_across_cells_and_blocks(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cells._PAIRS_IN_BLOCK, "cpu", block)
    exact, store = CountsImages(1.0), PredictionStore(tmp_path, pytest.fail, range(IMAGES))
    told = screened_in(outcomes_of(engine_of(exact, Margins(1.0, error=0.05)), store))
    # Those by which errors were seen are computed whatever their gap is.
    seen = dict(screening._calibrating(CHANGED, (IMAGES, DRAWS), 0))
    above = sum(
        int((seen[cell] & (store.load(cell, DRAWS).gaps >= told.bound)).sum()) for cell in CHANGED
    )
    assert sum(exact.sizes) == IMAGES + told.recomputed + told.checked + above
    # The unchanged images, those that are looked at first, which lie in up to two blocks, and the others.
    assert sum(size < 16 for size in exact.sizes) <= 4


def test_what_is_stored_says_its_arithmetic_and_is_not_computed_again(tmp_path: Path) -> None:
    store = PredictionStore(tmp_path, pytest.fail, range(IMAGES))
    exact, fast = Margins(1.0), Margins(1.0, error=0.05)
    first = outcomes_of(engine_of(exact, fast), store)
    told = screened_in(first)
    assert sum(map(store.count, CHANGED)) == told.screened
    inner = store.within("fp32")
    # The test above counts what is computed.
    computed = sum(map(inner.count, CHANGED))
    assert told.recomputed + told.checked < computed < told.screened / 2
    # Of images that were stopped before they were computed again, only these are.
    for part in sorted(tmp_path.glob("n8-*/fp32/*.parquet")):
        part.unlink()
    lost = sum(map(inner.count, CHANGED))
    counted = CountsImages(1.0)
    again = outcomes_of(engine_of(counted, CountsImages(1.0, error=0.05)), store)
    pd.testing.assert_frame_equal(again, first)
    assert sum(counted.sizes) == IMAGES + computed - lost
    idle = CountsImages(1.0, error=0.05)
    outcomes_of(engine_of(exact, idle), store)
    assert not hasattr(idle, "sizes")


def test_stored_predictions_below_a_bound_that_was_doubled_are_computed_again(
    tmp_path: Path,
) -> None:
    images = bright_where_nobody_looks(500)
    exact, fast = Margins(8.0), Margins(8.0, error=0.05, broken=0.999)
    store = PredictionStore(tmp_path, pytest.fail, range(500))
    missed = outcomes_of(engine_of(exact, fast, checked=0), store, images)
    found = outcomes_of(engine_of(exact, fast, checked=0.05), store, images)
    expected = outcomes_of(engine_of(exact, None), images=images)
    assert (missed["prediction"] != expected["prediction"]).any()
    pd.testing.assert_frame_equal(rows(found), rows(expected))


def test_errors_are_seen_on_images_from_all_over_the_list() -> None:
    """Lists are in the order of classes; in this one the last class alone has large errors."""

    class WrongInTheEnd(Margins):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return torch.where(images[:, :1, 0, 0] > 0.999, logits.flip(1), logits)

    images = images_of(500)
    images[:, :, 0, 0] = torch.where(torch.arange(500) < 400, 0, 255)[:, None]
    exact = Margins(1.0)
    found = outcomes_of(engine_of(exact, WrongInTheEnd(1.0), checked=0), images=images)
    pd.testing.assert_frame_equal(
        rows(found), rows(outcomes_of(engine_of(exact, None), images=images))
    )
    assert screened_in(found).doubled == 0


@pytest.mark.parametrize(("count", "calibrated"), [(5, 5 * 4 * 2), (31, 31 * 4 * 2), (200, 256)])
def test_of_few_images_all_changed_ones_show_how_large_errors_are(
    count: int, calibrated: int
) -> None:
    found = outcomes_of(engine_of(Margins(1.0), Margins(1.0, error=0.05)), images=images_of(count))
    assert screened_in(found).calibrated == calibrated


def test_nothing_is_trusted_where_errors_cannot_be_seen() -> None:
    """The fast arithmetic overflows on all images that are looked at first, and is wrong about the others."""

    class Useless(Margins):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images).flip(1)
            return torch.where(images[:, :1, 0, 0] > 0.999, logits, torch.inf)

    images, exact = bright_where_nobody_looks(500), Margins(1.0)
    found = outcomes_of(engine_of(exact, Useless(1.0), checked=0), images=images)
    pd.testing.assert_frame_equal(
        rows(found), rows(outcomes_of(engine_of(exact, None), images=images))
    )
    told = screened_in(found)
    assert told.recomputed == told.screened
    json.dumps(told._asdict(), allow_nan=False)


def test_what_is_computed_again_is_kept_before_all_of_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(CountsImages):
        def forward(self, images: Tensor) -> Tensor:
            if sum(getattr(self, "sizes", [])) > IMAGES + 300:
                raise KeyboardInterrupt
            return super().forward(images)

    monkeypatch.setattr(screening, "_KEPT_AT_ONCE", 60)
    store = PredictionStore(tmp_path, pytest.fail, range(IMAGES))
    with pytest.raises(KeyboardInterrupt):
        outcomes_of(engine_of(Stopped(0.01), Margins(0.01, error=0.05)), store)
    kept = sum(map(store.within("fp32").count, CHANGED))
    assert 300 - 64 <= kept <= 300 + 16


def test_long_runs_are_not_gone_through_for_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cells._PAIRS_IN_BLOCK, "cpu", 20)
    looks, settle = [], Screen.settle
    monkeypatch.setattr(Screen, "settle", lambda *given, **how: looks.append(settle(*given, **how)))
    engine, images = engine_of(Margins(1.0), Margins(1.0, error=0.05)), images_of(20)
    task = Task(engine, images, list(map(str, range(20))), np.zeros(20, dtype=np.int64), "net")
    evaluate_cells(task, Design([Cell(2)], 200, 0))
    # Of 200 blocks.
    assert 10 < len(looks) < 50


def test_checks_of_more_draws_begin_with_those_of_fewer() -> None:
    def drawn(draws: int) -> NDArray[np.float64]:
        engine = engine_of(Margins(1.0), Margins(1.0), checked=0.2)
        screen = Screen(None, engine, [Cell(4)], (30, draws), seed=0)  # type: ignore[arg-type]
        screen.add({Cell(4): Known.nothing(30, draws)})
        return screen._drawn[Cell(4)]

    assert (drawn(9)[:, :4] == drawn(4)).all()
    assert 0.1 < (drawn(100) < 0.2).mean() < 0.3


def small_network(broken: bool = False) -> nn.Module:
    class Breaks(nn.Module):
        """A layer that is wrong in bf16, for images whose first pixel is white."""

        def forward(self, values: Tensor) -> Tensor:
            if broken and values.dtype == torch.bfloat16:
                return torch.where(values[:, :1, :1, :1] > 3, values.flip(1), values)
            return values

    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 1), Breaks(), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 36, 10),
    )  # fmt: skip
    with torch.no_grad():
        network[0].weight[0], network[0].bias[0] = 1.1, 0.0
    return network.eval()


@pytest.mark.parametrize("broken", [False, True])
def test_real_bf16_gives_the_predictions_of_fp32_even_where_a_layer_is_broken(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixelrobust.engine, "fast_precision", lambda device: "bf16")
    images = bright_where_nobody_looks(500)
    arguments = {"num": [2, 8], "draws": 6, "engine": "eager", "device": "cpu"}
    network, labels = small_network(broken), [0] * 500
    expected = evaluate(network, images, labels, **arguments)
    half = evaluate(network, images, labels, precision="bf16", **arguments)
    found = evaluate(network, images, labels, precision="screened", **arguments)
    differing = int((half["prediction"] != expected["prediction"]).sum())
    assert differing > (200 if broken else 0)
    pd.testing.assert_frame_equal(found, expected, check_flags=False)
    told = screened_in(found)
    assert (told.doubled > 0) == broken
    if not broken:
        assert told.recomputed < 0.2 * told.screened


def test_nothing_is_screened_by_plain_pytorch_where_another_engine_runs_fp32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where OpenVINO cannot run a network in bf16, which auto then gives to plain PyTorch."""
    how = engine_settings(
        name="auto", devices="cpu", batch_size=None, precision="screened", compared=0,
        screening={"fast": "bf16"},
    )  # fmt: skip

    def screened_by(fast: str, exact: str) -> bool:
        def made(*given: Any) -> Engine:
            engine = EagerEngine(Margins(1.0), CPU, 16)
            engine.name = fast if "bf16" in given else exact
            return engine

        monkeypatch.setattr(pixelrobust.engine, "_made", made)
        return make_engine(Margins(1.0), how, images_of(1), 1).screening is not None

    assert not screened_by("eager", "openvino")
    assert screened_by("eager", "eager")
    assert screened_by("openvino", "openvino")
    assert screened_by("openvino", "eager")


def test_without_a_faster_arithmetic_all_is_computed_in_fp32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pixelrobust.engine, "fast_precision", lambda device: None)
    arguments = {"num": 4, "engine": "eager", "device": "cpu"}
    with pytest.warns(UserWarning, match="no arithmetic of this device is faster than fp32"):
        found = evaluate(small_network(), images_of(5), [0] * 5, precision="screened", **arguments)
    assert SCREENING not in found.attrs
    expected = evaluate(small_network(), images_of(5), [0] * 5, **arguments)
    pd.testing.assert_frame_equal(found, expected)


def test_a_bound_of_other_processes_is_kept_apart_from_what_was_doubled_here() -> None:
    """As in a second round, after one process has told the others its bound."""
    images = bright_where_nobody_looks(500)
    exact, fast = Margins(8.0), Margins(8.0, error=0.05, broken=0.999)
    engine = engine_of(exact, fast, checked=0.05)
    assert engine.screening
    task = Task(
        engine, images, [str(row) for row in range(500)], np.zeros(500, dtype=np.int64), "net"
    )
    forward = ForwardPass(task, Design(CHANGED, DRAWS, 0))
    found = []
    for bound in (0.0, 20.0):
        screen = Screen(forward, engine, CHANGED, (500, DRAWS), 0, bound=bound)
        tables = {cell: Known.nothing(500, DRAWS) for cell in CHANGED}
        pairs = np.tile(np.arange(500), DRAWS), np.arange(DRAWS).repeat(500)
        for cell, predicted in (
            forward.by(engine.screening.fast, int).predict(pairs, CHANGED).items()
        ):
            fill(tables[cell], pairs, predicted)
        screen.add(tables)
        screen.settle()
        found.append(screen.found())
    assert found[0].doubled == found[1].doubled > 0
    assert found[0].bound < found[1].bound == 20
    # No distance is larger.
    assert found[1].recomputed == found[1].screened
