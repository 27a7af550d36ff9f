"""Evaluates so many made-up images in a process of its own, and prints what that took."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pixelrobust.datasets.decoded import PixelRows
from pixelrobust.engine import make_engine
from pixelrobust.evaluation.cells import evaluate_cells
from pixelrobust.evaluation.forward import Design, Task
from pixelrobust.perturbation.grid import build_grid
from pixelrobust.settings import EngineSettings
from pixelrobust.tables.rates import summarize

SIDE = 64


def anonymous_megabytes() -> float:
    """Resident memory of this process that is no map of a file; 0 where the system doesn't tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def main(folder: Path, engine_name: str, images: int, draws: int) -> None:
    path = folder / f"{images}.npy"
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (images, 3, SIDE, SIDE))
    for row in range(images):
        pixels[row] = np.random.default_rng(row).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    pixels.flush()
    pixels = np.load(path, mmap_mode="r")

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(15376, 10)
    ).eval()
    settings = EngineSettings(
        name=engine_name, devices="cpu", batch_size=64, precision="fp32", compared=0
    )
    engine = make_engine(network, settings, torch.tensor(pixels[:4]), images)
    peak = 0.0

    def advance(done: int) -> None:
        nonlocal peak
        peak = max(peak, anonymous_megabytes())

    start = time.perf_counter()
    task = Task(
        engine, PixelRows(pixels, np.arange(images)), [f"{row:06}.jpg" for row in range(images)],
        np.zeros(images, dtype=np.int64), "net",
    )  # fmt: skip
    outcomes = evaluate_cells(task, Design(build_grid([64]), draws, 0), advance)
    seconds = time.perf_counter() - start
    summarize(outcomes, (SIDE, SIDE))
    advance(0)
    print(json.dumps({"megabytes": peak, "seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
