"""Several processes on one machine: what they compute together, and how they end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from pixelrobust import InputError, distributed
from pixelrobust.distributed import SINGLE, Context, device_names, start
from pixelrobust.engine import EagerEngine
from pixelrobust.engine.base import Screening
from pixelrobust.evaluation.cells import evaluate_cells
from pixelrobust.evaluation.forward import Design, ForwardPass, Task
from pixelrobust.models.build import weights_digest
from pixelrobust.models.heads import replace_head
from pixelrobust.perturbation.grid import build_grid
from tests.conftest import REPOSITORY
from tests.distributed_cases import fail
from tests.retraining.cases import CLASSES, FORKING, classifier, images, keys, train

TWO = ["cpu", "cpu"]
CELLS = build_grid([4, 20], None, None)

# 13 images in batches of 4: the last one leaves a process without any.
RECIPES: dict[str, dict[str, Any]] = {
    "all": {"redraw": True},
    "adam": {"optimizer": "adam", "learning_rate": 0.01, "originals": True, "weight_decay": 0.1},
    "last": {"trainable": "last"},
}


def network() -> nn.Module:
    """Build a classifier that does not give all images the same class."""
    module = replace_head(classifier(), CLASSES, "random", 1)
    with torch.no_grad():
        module[1][-1].bias -= module(torch.tensor(images(13)) / 255).mean(dim=0)
    return module


def screened_engine(device: torch.device) -> EagerEngine:
    """Return an engine with a fast one that is off by more or less all of its margins."""
    engine, fast = EagerEngine(network(), device, 4), network()
    with torch.no_grad():
        fast[1][-1].weight += 0.05 * fast[1][-1].weight.flip(0)
    engine.screening = Screening(EagerEngine(fast, device, 4), 2, 0.1)
    return engine


def evaluation(context: Context, count: int, screened: bool = False) -> pd.DataFrame:
    device = context.device
    engine = screened_engine(device) if screened else EagerEngine(network(), device, 4)
    truth = np.arange(count) % 3
    task, design = Task(engine, images(count), keys(count), truth, "small"), Design(CELLS, 2, 0)
    return evaluate_cells(task, design, context=context)


def work_together(context: Context, directory: Path) -> dict[str, Any]:
    """Do everything that is asked of two processes, since starting them takes seconds."""
    results: dict[str, Any] = {}
    for name, options in RECIPES.items():
        result = train(directory / name, context=context, **options)
        digests = context.gather(weights_digest(result.module))
        results[name] = (result.history, result.module.state_dict(), digests)
    results["continued"] = train(directory / "one", context=context, advance=told(context)).history
    results["outcomes"] = {count: evaluation(context, count) for count in (13, 3)}
    results["screened"] = evaluation(context, 13, screened=True)
    return results


def told(context: Context) -> Any:
    """Return a progress callback that only the first process may call."""

    def advance(done: int) -> None:
        assert context.is_main

    return advance


def start_fast(patch: pytest.MonkeyPatch) -> None:
    """Start processes from one that has imported everything; importing takes most of the time."""
    assert FORKING.get_start_method() == "forkserver"
    patch.setattr(distributed, "_START_METHOD", "forkserver")


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("together")
    done: list[int] = []

    def interrupt(more: int) -> None:
        done.append(more)
        if sum(done) > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(directory / "one", advance=interrupt)
    begun = json.loads((directory / "one" / "checkpoint.json").read_text())["history"]
    with pytest.MonkeyPatch.context() as patch:
        start_fast(patch)
        return {"begun": begun, **start(work_together, TWO, directory)}


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_train_as_one_does(
    together: dict[str, Any], name: str, tmp_path: Path
) -> None:
    history, weights, digests = together[name]
    alone = train(tmp_path, **RECIPES[name])
    np.testing.assert_allclose(history["loss"], alone.history["loss"], rtol=1e-4)
    assert (history["accuracy"] == alone.history["accuracy"]).all()
    for key, tensor in alone.module.state_dict().items():
        torch.testing.assert_close(weights[key], tensor, rtol=1e-3, atol=1e-4)
    assert len(set(digests)) == 1


def test_two_processes_continue_what_one_began(together: dict[str, Any], tmp_path: Path) -> None:
    begun = pd.DataFrame(together["begun"])
    continued, alone = together["continued"], train(tmp_path).history
    assert continued["seconds"][:2].tolist() == begun["seconds"].tolist()
    np.testing.assert_allclose(continued["loss"], alone["loss"], rtol=1e-4)


@pytest.mark.parametrize("count", [13, 3])
def test_two_processes_evaluate_as_one_does(together: dict[str, Any], count: int) -> None:
    expected = evaluation(SINGLE, count)
    pd.testing.assert_frame_equal(together["outcomes"][count], expected)
    assert expected["prediction"].nunique() > 1


def test_two_processes_screen_as_one_does(together: dict[str, Any]) -> None:
    """Both find what fp32 predicts, of which the fast arithmetic misses some."""
    found, alone = together["screened"], evaluation(SINGLE, 13, screened=True)
    pd.testing.assert_frame_equal(found, evaluation(SINGLE, 13), check_flags=False)
    told, expected = found.attrs["screening"], alone.attrs["screening"]
    assert told["screened"] == expected["screened"] == 13 * 2 * 2
    assert told["flipped"] == expected["flipped"] > 0
    # Both processes distrust what either does: all gaps below the larger bound are computed again.
    fast = screened_engine(torch.device("cpu")).screening.fast
    task = Task(fast, images(13), keys(13), np.zeros(13, dtype=np.int64), "fast")
    pairs = np.tile(np.arange(13), 2), np.arange(2).repeat(13)
    changed = [cell for cell in CELLS if cell.num]
    gaps = ForwardPass(task, Design(CELLS, 2, 0)).predict(pairs, changed)
    below = sum(int((found.gaps < told["bound"]).sum()) for found in gaps.values())
    assert told["recomputed"] == below < told["screened"]


@pytest.mark.parametrize(
    ("count", "batch_size", "world_size"),
    [(13, 4, 2), (3, 4, 2), (0, 4, 3), (100, 7, 8), (8, 4, 2)],
)
def test_shards_cover_everything_once(count: int, batch_size: int, world_size: int) -> None:
    shards = [Context(rank, world_size).shard(count, batch_size) for rank in range(world_size)]
    covered = [index for part in shards for index in range(part.start, part.stop)]
    assert covered == list(range(count))
    assert all(part.start % batch_size == 0 or part.start == count for part in shards)


# --- how processes end ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("input", InputError, r"^retrain\.epochs is wrong; give another\.$"),
        ("other", RuntimeError, "process 1 of 2 failed:(.|\n)*ZeroDivisionError: something else"),
        ("killed", RuntimeError, "process 1 of 2 was ended by SIGKILL"),
    ],
)
def test_a_failure_in_one_process_is_one_error(
    monkeypatch: pytest.MonkeyPatch, how: str, error: type[Exception], message: str
) -> None:
    if how != "input":
        start_fast(monkeypatch)
    began = time.monotonic()
    with pytest.raises(error, match=message):
        start(fail, TWO, how)
    assert time.monotonic() - began < 40


def test_one_device_needs_no_other_process() -> None:
    found = start(lambda context, value: (context, value, os.getpid()), ["cpu"], 3)
    assert found == (SINGLE, 3, os.getpid())


@pytest.mark.parametrize(
    ("devices", "gpus", "names"),
    [
        ("auto", 2, ("auto",)),
        ("cuda:1", 0, ("cuda:1",)),
        (["cuda:1", "cuda:3"], 4, ("cuda:1", "cuda:3")),
        (("cpu",), 1, ("cpu",)),
        (1, 0, ("cpu",)),
        (3, 0, ("cpu", "cpu", "cpu")),
        (1, 4, ("cuda:0",)),
        (3, 4, ("cuda:0", "cuda:1", "cuda:2")),
    ],
)
def test_what_devices_stand_for(
    monkeypatch: pytest.MonkeyPatch, devices: Any, gpus: int, names: tuple[str, ...]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert device_names(devices) == names
    if gpus:
        with pytest.raises(InputError, match=rf"engine\.devices=5 is more than the {gpus} GPUs"):
            device_names(5)


TORCHRUN = """
import sys
from tests.distributed_cases import add_ranks
from pixelrobust.distributed import start
# Twice, as the jobs of a sweep would.
total = start(add_ranks, ["cpu"]) + start(add_ranks, ["cpu"])
sys.exit(0 if total == 6 else 3)
"""


@pytest.mark.slow
def test_processes_of_torchrun_are_joined(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(TORCHRUN)
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
