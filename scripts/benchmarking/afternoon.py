"""Arm a, the script that a researcher writes in an afternoon.

    python -m scripts.benchmarking.afternoon JOB SECONDS

One image after the other is decoded, resized, changed by NumPy and normalised in the workers of a
DataLoader; the network is plain PyTorch in float32; all of it again for each num.
"""

import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from scripts.benchmarking.networks import build_network
from scripts.benchmarking.records import NUMS, SHORT_SIDE, SIDE, Job, Steady, read_job

BATCH_SIZE = 50
WORKERS = os.cpu_count() or 1


class ChangePixels:
    """Gives random pixels of an image random colours.

    Args:
        num: how many.
    """

    def __init__(self, num: int) -> None:
        self.num = num

    def __call__(self, image: Image.Image) -> Image.Image:
        pixels = np.array(image)
        height, width, channels = pixels.shape
        positions = np.array(random.sample(range(height * width), self.num))
        colours = np.random.randint(0, 256, (self.num, channels))  # noqa: NPY002 (workers seed it)
        pixels[positions // width, positions % width] = colours
        return Image.fromarray(pixels)


def make_loader(job: Job, num: int) -> DataLoader[tuple[torch.Tensor, int]]:
    """Batches of normalised images with so many pixels changed, and their labels."""
    transform = transforms.Compose(
        [
            transforms.Resize(SHORT_SIDE),
            transforms.CenterCrop(SIDE),
            ChangePixels(num),
            transforms.ToTensor(),
            transforms.Normalize(job.mean, job.std),
        ]
    )
    folder = ImageFolder(job.images, transform)
    # Folders are called by the outputs that are right for them.
    outputs = [int(name) for name in folder.classes]
    folder.target_transform = outputs.__getitem__
    return DataLoader(folder, batch_size=BATCH_SIZE, num_workers=WORKERS)


def count_wrong(
    model: nn.Module, loader: DataLoader[tuple[torch.Tensor, int]], device: torch.device
) -> int:
    """How many images a network gets wrong."""
    wrong = 0
    with torch.no_grad():
        for images, labels in loader:
            predicted = model(images.to(device)).argmax(dim=1).cpu()
            wrong += int((predicted != labels).sum())
    return wrong


def main(job: Job, seconds: float) -> None:
    """Go through the images for one num after the other, until so many seconds have passed."""
    device = torch.device(job.device)
    model = build_network(job)
    with torch.no_grad():
        # The first batch is slow.
        model(torch.zeros(min(BATCH_SIZE, job.count), 3, SIDE, SIDE, device=device))
    passes, start, passed = 0, time.perf_counter(), 0.0
    for num in NUMS:
        wrong = count_wrong(model, make_loader(job, num), device)
        passes, passed = passes + job.count, time.perf_counter() - start
        print(f"num={num}: {wrong} of {job.count} wrong", file=sys.stderr)
        if passed >= seconds:
            break
    Steady(passes, passed, "eager", "fp32", BATCH_SIZE, WORKERS).print()


if __name__ == "__main__":
    main(read_job(Path(sys.argv[1])), float(sys.argv[2]))
