"""Arm b, the same as arm a by someone who knows PyTorch.

    python -m scripts.benchmarking.competent JOB SECONDS WORKERS
    python -m scripts.benchmarking.competent JOB IMAGES

The workers, as many as are fastest, hand bytes on, and stay for the next num; pixels change in
whole batches; the network runs in inference mode on channels-last images. The second form says how
many workers are fastest, by so many images.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from scripts.benchmarking.networks import build_network
from scripts.benchmarking.records import NUMS, SHORT_SIDE, SIDE, Job, Steady, read_job

_BATCH_SIZES = {"cpu": 32, "cuda": 256}
_TRIAL_SECONDS = 2.0


class Network:
    """A network of images that are bytes, ready to go.

    Args:
        job: names it.
    """

    def __init__(self, job: Job) -> None:
        self.device = torch.device(job.device)
        self.batch_size = _BATCH_SIZES[self.device.type]
        self._model = build_network(job).to(memory_format=torch.channels_last)
        self._mean, self._std = (
            torch.tensor(values, device=self.device).view(1, -1, 1, 1) * 255
            for values in (job.mean, job.std)
        )
        # The first batch is slow.
        count = min(self.batch_size, job.count)
        self.predict(torch.zeros(count, 3, SIDE, SIDE, dtype=torch.uint8))

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B,) classes, on the CPU."""
        floats = images.to(self.device, non_blocking=True).to(
            torch.float32, memory_format=torch.channels_last
        )
        classes: Tensor = self._model(floats.sub_(self._mean).div_(self._std)).argmax(dim=1)
        return classes.cpu()


def change_pixels(images: Tensor, num: int, rng: np.random.Generator) -> None:
    """Give random pixels of each image random colours, in place.

    Args:
        images: (B, C, H, W) uint8.
        num: how many.
        rng: decides which.
    """
    count, channels, height, width = images.shape
    chosen = [rng.choice(height * width, num, replace=False, shuffle=False) for _ in range(count)]
    positions = torch.from_numpy(np.stack(chosen))[:, None].expand(-1, channels, -1)
    colours = torch.from_numpy(rng.integers(0, 256, positions.shape, dtype=np.uint8))
    images.view(count, channels, -1).scatter_(2, positions, colours)


def make_loader(job: Job, network: Network, workers: int, limit: int) -> DataLoader[Tensor]:
    """Batches of at most so many unchanged images, uint8, and their labels."""
    decoded = transforms.Compose(
        [
            transforms.Resize(SHORT_SIDE),
            transforms.CenterCrop(SIDE),
            transforms.PILToTensor(),
        ]
    )
    folder = ImageFolder(job.images, decoded)
    # Folders are called by the outputs that are right for them.
    outputs = [int(name) for name in folder.classes]
    folder.target_transform = outputs.__getitem__
    return DataLoader(
        Subset(folder, range(min(limit, job.count))),
        batch_size=network.batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=network.device.type == "cuda",
    )


def count_wrong(
    network: Network, loader: DataLoader[Tensor], num: int, rng: np.random.Generator
) -> int:
    """How many images a network gets wrong with so many pixels changed."""
    wrong = 0
    for images, labels in loader:
        change_pixels(images, num, rng)
        wrong += int((network.predict(images) != labels).sum())
    return wrong


def measure(job: Job, seconds: float, workers: int) -> None:
    """Go through the images for one num after the other, until so many seconds have passed."""
    network, rng = Network(job), np.random.default_rng(0)
    loader = make_loader(job, network, workers, job.count)
    passes, start, passed = 0, time.perf_counter(), 0.0
    for num in NUMS:
        wrong = count_wrong(network, loader, num, rng)
        passes, passed = passes + job.count, time.perf_counter() - start
        print(f"num={num}: {wrong} of {job.count} wrong", file=sys.stderr)
        if passed >= seconds:
            break
    Steady(passes, passed, "eager", "fp32", network.batch_size, workers).print()


def try_workers(job: Job, images: int) -> None:
    """Print how many workers get through so many images in the least time."""
    network, rng = Network(job), np.random.default_rng(0)
    cores = os.cpu_count() or 1
    powers = [2**exponent for exponent in range(cores.bit_length())]
    taken = {}
    for workers in sorted({0, *powers, cores}):
        loader = make_loader(job, network, workers, images)
        passes: list[float] = []
        # The first pass has the start of the workers in it, which weighs where passes are short.
        while sum(passes) < _TRIAL_SECONDS:
            start = time.perf_counter()
            count_wrong(network, loader, NUMS[-1], rng)
            passes.append(time.perf_counter() - start)
        taken[workers] = min(passes)
    print(min(taken, key=taken.__getitem__))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        try_workers(read_job(Path(sys.argv[1])), int(sys.argv[2]))
    else:
        measure(read_job(Path(sys.argv[1])), float(sys.argv[2]), int(sys.argv[3]))
