"""Memory does not grow with the images. As a module: evaluates so many made-up images, and prints the peak."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pixelrobust.datasets.decoded import PixelRows
from pixelrobust.engine import make_engine
from pixelrobust.evaluation.cells import evaluate_cells
from pixelrobust.evaluation.forward import Design, Task
from pixelrobust.perturbation.grid import build_grid
from pixelrobust.settings import EngineSettings
from pixelrobust.tables.rates import summarize
from tests.conftest import REPOSITORY

SIDE = 64


def anonymous_megabytes() -> float:
    """Return this process' memory that is no map of a file; 0 where the system doesn't tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def peak_megabytes(folder: Path, engine_name: str, images: int) -> float:
    """Evaluate so many images in this process, and return the memory that it took at most."""
    path = folder / f"{images}.npy"
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (images, 3, SIDE, SIDE))
    for row in range(images):
        pixels[row] = np.random.default_rng(row).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    pixels.flush()
    pixels = np.load(path, mmap_mode="r")

    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(15376, 10)]
    settings = EngineSettings(
        name=engine_name, devices="cpu", batch_size=64, precision="fp32", compared=0
    )
    network = nn.Sequential(*layers).eval()
    engine = make_engine(network, settings, torch.tensor(pixels[:4]), images)
    peaks = []
    task = Task(
        engine, PixelRows(pixels, np.arange(images)), [f"{row:06}.jpg" for row in range(images)],
        np.zeros(images, dtype=np.int64), "net",
    )  # fmt: skip
    design = Design(build_grid([64]), 1, 0)
    outcomes = evaluate_cells(task, design, lambda done: peaks.append(anonymous_megabytes()))
    summarize(outcomes, (SIDE, SIDE))
    return max(*peaks, anonymous_megabytes())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["eager", "openvino"])
def test_memory_does_not_grow_with_the_images(engine: str, tmp_path: Path) -> None:
    few, many = (
        float(subprocess.check_output(
            [sys.executable, "-m", "tests.engine.test_growth", str(tmp_path), engine, images],
            cwd=REPOSITORY,
        ).splitlines()[-1])
        for images in ("1000", "20000")
    )  # fmt: skip
    if not few:
        pytest.skip("this system does not tell how much anonymous memory a process has")
    # The images are 12 KB each: 223 MB more. Their outcomes, 40,000 rows, take some 20 MB.
    assert many < few + 40


if __name__ == "__main__":
    print(peak_megabytes(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
