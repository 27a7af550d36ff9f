"""Runs go on where they were stopped, whatever stopped them, and end as if nothing had."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import measures, session
from experiments.status import main as status
from experiments.status import run_statuses
from pixelrobust.engine import EagerEngine
from pixelrobust.evaluation.forward import Design, ForwardPass, Task
from pixelrobust.perturbation.grid import Cell
from tests.conftest import REPOSITORY, Run
from tests.fault_cases import folder_of, images, network, saved, state

ENDED = 24

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("crashes")
    finished = subprocess.run(
        [sys.executable, "-m", "tests.experiments.crash_cases", str(folder), str(ENDED)],
        capture_output=True, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout.splitlines()[-1]))


def by_signal(cases: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [case for case in cases["ended"] if case["signal"] == name]


@pytest.mark.slow
def test_killed_runs_end_as_if_nothing_had_happened(cases: dict[str, Any]) -> None:
    killed = by_signal(cases, "SIGKILL")
    # Some moments may fall behind the end of a run.
    assert sum(case["code"] == -9 for case in killed) >= 10
    assert sum(0 < case["parts"] < cases["whole_parts"] for case in killed) >= 4
    for case in killed:
        assert (case["again"], case["others"], case["same"]) == (0, [], True)
    # Nothing that was there is computed again.
    assert all(case["all_parts"] == cases["whole_parts"] for case in killed)
    assert {Path(name).suffix for name in cases["files"]} == {
        # No prediction is wrong, so that no figure is drawn.
        ".csv", ".md", ".tex", ".parquet",
    }  # fmt: skip


@pytest.mark.slow
def test_interrupted_runs_end_in_one_line(cases: dict[str, Any]) -> None:
    interrupted = by_signal(cases, "SIGINT")
    stopped = [case for case in interrupted if case["code"] != 0]
    assert len(stopped) >= 4
    for case in stopped:
        assert case["code"] == 130
        assert "Traceback" not in case["said"]
        assert case["said"].splitlines()[-1].strip() == "interrupted"
    assert all(case["again"] == 0 and case["same"] for case in interrupted)


@pytest.mark.slow
def test_two_runs_at_once_do_not_disturb_each_other(cases: dict[str, Any]) -> None:
    together = cases["together"]
    assert together["codes"] == [0, 0]
    assert together["same"]
    assert together["parts"] == cases["whole_parts"]


Call = Callable[..., Any]


@pytest.fixture
def small(run: Run, tmp_path: Path) -> Call:
    """A small run over four images."""
    weights = saved(state(), tmp_path / "w.safetensors")
    root = folder_of(tmp_path / "images", *(f"cat/{number}.png" for number in range(4)))
    usual = [*images(root), *network(weights), "draws=3", "engine=eager"]

    def call(*arguments: str) -> Any:
        flags = [argument for argument in arguments if argument.startswith("-")]
        keys = [argument for argument in arguments if not argument.startswith("-")]
        # The last one of a key counts.
        return run(*flags, *usual, "perturbation.num=[4,64]", *keys)

    return call


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "harm",
    [flip_a_bit, lambda content: content[:-7], lambda content: b""],
    ids=[
        "a part of predictions with one bit flipped",
        "one that is cut short",
        "one that is empty",
    ],
)
def test_a_damaged_part_is_found_and_computed_again(
    harm: Callable[[bytes], bytes], small: Call, tmp_path: Path
) -> None:
    assert small().code == 0
    (table,) = (tmp_path / "results").glob("run-*/table.csv")
    before = table.read_bytes()
    part, *_ = sorted((tmp_path / "results").glob("store/answers/*/n64-*/*.parquet"))
    content = part.read_bytes()
    part.write_bytes(harm(content))
    table.unlink()
    ended = small()
    assert ended.code == 0
    assert f"{part} is damaged" in ended.out
    assert part.read_bytes() == content
    assert table.read_bytes() == before


def test_nothing_is_computed_twice_unless_asked_for(
    small: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[int] = []
    begin = ForwardPass.begin

    def counted(self: Any, pairs: Any, cells: Any) -> Any:
        shown.append(len(pairs[0]) * len(cells))
        return begin(self, pairs, cells)

    monkeypatch.setattr("pixelrobust.evaluation.forward.ForwardPass.begin", counted)
    assert small().code == 0
    assert sum(shown) == 4 * 3 * 2
    shown.clear()
    # Of more draws, and another cell, only those that are new.
    assert small("draws=5", "perturbation.num=[4,64,100]").code == 0
    assert sum(shown) == 4 * 2 * 2 + 4 * 5
    shown.clear()
    assert small("recompute=true").code == 0
    assert sum(shown) == 4 * 3 * 2


class Tight(EagerEngine):
    """Has memory for four images once, and for two from then on."""

    calls = 0

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls > 1 and len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super()._forward(images)


def test_flips_that_halved_batches_may_cause_are_counted(
    small: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert small("name=usual").code == 0
    monkeypatch.setattr(
        session, "make_engine", lambda module, *others: Tight(module, torch.device("cpu"), 4)
    )
    ended = small("name=tight", "seed=0", "engine.compared=3", f"paths.cache={tmp_path / 'other'}")
    assert ended.code == 0, ended.err
    assert "batches became 2 images instead of 4; that flips 0 of 3 predictions" in ended.out
    (manifest,) = (tmp_path / "results").glob("tight-*/outcomes/*.json")
    (engine,) = json.loads(manifest.read_text())["engines"].values()
    assert (engine["batch_size"], engine["halved_to"], engine["flipped_by_halving"]) == (4, 2, 0)
    usual, tight = (
        pd.read_parquet(path)
        for path in sorted((tmp_path / "results").glob("*/outcomes/*.parquet"))
    )
    pd.testing.assert_frame_equal(usual, tight)


def test_a_failed_job_is_told_and_its_cells_are_missing(
    small: Call,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evaluate = measures.evaluate_cells

    def failing(task: Task, design: Design, *others: Any) -> Any:
        if Cell(64) in design.cells:
            raise ZeroDivisionError("of all things")
        return evaluate(task, design, *others)

    monkeypatch.setattr(measures, "evaluate_cells", failing)
    sweep = ("-m", "perturbation.num=4,64,9")
    ended = small(*sweep)
    assert ended.code != 0
    assert "2 of 3 jobs finished" in ended.out
    assert "ZeroDivisionError" in ended.err
    results = tmp_path / "results"
    (failure,) = results.glob("sweeps/*/1/failure.txt")
    assert "of all things" in failure.read_text()
    settings = json.loads(failure.with_name("settings.json").read_text())
    assert settings["perturbation"]["num"] == [64]
    (merged,) = results.glob("run-sweep-*/table.md")
    rows = {
        line.split("|")[1].split()[0]: line
        for line in merged.read_text().splitlines()
        if line.startswith("| ")
    }
    assert "missing" in rows["64"]
    assert "missing" not in rows["4"] + rows["9"]
    table = pd.read_csv(merged.with_suffix(".csv")).set_index("num")
    assert np.isnan(table["wrong_rate"][64])
    assert table["wrong_rate"][4] == 0
    states = {run.state for run in run_statuses(results)}
    assert states == {"done", "failed"}
    assert status([str(results)]) == 0
    shown = capsys.readouterr().out
    assert "n64-rfull-pwhole" in shown.replace("\n", "")
    # Then everything is there, and only what was missing is computed.
    monkeypatch.setattr(measures, "evaluate_cells", evaluate)
    ended = small(*sweep)
    assert ended.code == 0
    (whole,) = set(results.glob("run-sweep-*/table.md")) - {merged}
    assert "missing" not in whole.read_text()
    assert {run.state for run in run_statuses(results)} == {"done"}


def test_no_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status([str(tmp_path)]) == 2
    assert "no run is recorded" in capsys.readouterr().err
