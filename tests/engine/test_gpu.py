"""What a GPU computes, beside the CPU."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pixelrobust import evaluate
from pixelrobust.attacks import craft, round_to_8_bits
from pixelrobust.engine import EagerEngine
from pixelrobust.engine.base import CompiledEngine
from pixelrobust.models.heads import Normalize
from pixelrobust.perturbation.pixels import as_floats, unit_floats
from pixelrobust.settings import attack_settings
from tests.engine.test_engines import network, pictures

pytestmark = pytest.mark.gpu

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
NORMALIZE = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
DTYPES = [torch.uint8, torch.float16, torch.float32, torch.float64]


def images_of(dtype: torch.dtype, count: int = 64) -> Tensor:
    images = pictures(count)
    return images if dtype == torch.uint8 else unit_floats(images, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("engine", [EagerEngine, CompiledEngine])
def test_a_networks_input_has_the_same_bits(engine: type[EagerEngine], dtype: torch.dtype) -> None:
    """Logits are the normalised images themselves."""
    images = images_of(dtype)
    found = engine(nn.Sequential(NORMALIZE, nn.Flatten()).eval(), GPU, 16)
    expected = NORMALIZE.to(CPU)(as_floats(images)).flatten(1)
    assert torch.equal(found.logits(images.to(GPU)).cpu(), expected)


def test_rounded_images_have_the_same_bits() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for dtype in DTYPES[1:]:
        expected = round_to_8_bits(images.to(dtype))
        assert torch.equal(round_to_8_bits(images.to(GPU, dtype)).cpu(), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_predictions_are_those_of_the_cpu(dtype: torch.dtype) -> None:
    images, labels = images_of(dtype), np.arange(64) % 10
    expected, found = (
        evaluate(
            network(), images, labels, num=[8, 64], amplitude=[None, 30], draws=3, device=device,
            engine="eager",
        )
        for device in ("cpu", "cuda")
    )  # fmt: skip
    pd.testing.assert_frame_equal(found, expected)
    assert expected["prediction"].nunique() > 3


def test_random_starts_are_those_of_the_cpu() -> None:
    """Without a step an attack ends where it starts."""
    images, labels = pictures(6), torch.zeros(6, dtype=torch.int64)
    attack = attack_settings(name="PGD", arguments={"steps": 0})
    expected, found = (
        craft(network().to(device), images.to(device), labels, attack, 8, seed=1).images
        for device in (CPU, GPU)
    )
    assert torch.equal(found.cpu(), expected)
    assert not torch.equal(expected, as_floats(images))
