"""The network of arms a and b, built as scripts build it: without this software."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from scripts.benchmarking.records import Job


def build_network(job: Job) -> nn.Module:
    """In eval mode, on the device; it takes normalised images."""
    network: nn.Module
    # Imported late: each is slow to import, and needed by some networks only.
    if job.source == "torchvision":
        import torchvision

        network = torchvision.models.get_model(job.name, num_classes=job.classes)
    else:
        import timm

        network = timm.create_model(job.name, num_classes=job.classes)
    network.load_state_dict(load_file(Path(job.weights)))
    return network.to(torch.device(job.device)).eval()
