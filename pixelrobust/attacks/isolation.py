"""Keep an attack's traces off everything else: gradients, grad modes, random generators."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Gradients for images, whatever mode the caller is in, and none for the module's parameters.

    foolbox calls backward(), which would add to the .grad of every parameter that wants one.
    """
    wanting = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with torch.inference_mode(False), torch.enable_grad():
        try:
            for parameter in wanting:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in wanting:
                parameter.requires_grad_(True)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's and NumPy's global generators seeded, and put back afterwards."""
    cuda = device.type == "cuda"
    state = np.random.get_state()  # noqa: NPY002 - some of foolbox's attacks draw from it
    try:
        with torch.random.fork_rng(devices=[device] if cuda else []):
            # torch.manual_seed would also seed the GPUs that are not put back.
            torch.default_generator.manual_seed(seed)
            if cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
