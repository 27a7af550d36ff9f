"""A network and images of which sweeps make tables that are not all zeros, and commands that run apart."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from torchvision.models import squeezenet1_1

from tests.conftest import REPOSITORY
from tests.fault_cases import images, network, saved

# A machine may have much else to do.
_PATIENCE = 600.0


def world(folder: Path) -> list[str]:
    """Arguments that name images, and a network whose predictions a few pixels change."""
    generator = np.random.default_rng(0)
    for name in ("one", "two"):
        (folder / "images" / name).mkdir(parents=True)
        for index in range(6):
            pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{index}.png")
    torch.manual_seed(0)
    module = squeezenet1_1(num_classes=2)
    weights = saved(dict(module.state_dict()), folder / "weights.safetensors")
    arguments = images(folder / "images", ["one", "two"])[:-1]
    return [*arguments, *network(weights, 2), "engine=eager", "engine.compared=0"]


@contextmanager
def started(arguments: list[str], results: Path) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process of its own, which is killed at the end with all that it started."""
    command = [sys.executable, "-m", "experiments.run", *arguments, f"paths.results={results}"]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        left = descendants(process)
        process.kill()
        for child in left:
            end(child)
        process.communicate()


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """What it started, and what that started."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def end(process: psutil.Process) -> None:
    """Kill a process, if it is still there."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
