"""What a GPU computes, beside the CPU."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pixelrobust import evaluate
from pixelrobust.attacks import craft, round_to_8_bits
from pixelrobust.distributed import Context, start
from pixelrobust.engine import EagerEngine, feeding, same_logits
from pixelrobust.engine.base import CompiledEngine
from pixelrobust.engine.devices import offers_tf32
from pixelrobust.models.heads import Normalize
from pixelrobust.perturbation.pixels import as_floats, unit_floats
from pixelrobust.settings import Precision, attack_settings
from tests.distributed_cases import add_ranks
from tests.engine.test_engines import network, pictures
from tests.retraining.cases import train
from tests.test_distributed import evaluation

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
    module = nn.Sequential(copy.deepcopy(NORMALIZE), nn.Flatten()).eval()
    found = engine(module, GPU, 16)
    expected = NORMALIZE(as_floats(images)).flatten(1)
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


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("engine", [EagerEngine, CompiledEngine])
def test_every_engine_and_precision_gives_the_cpus_logits(
    engine: type[EagerEngine], precision: Precision
) -> None:
    images = pictures(40)
    expected = EagerEngine(network(), CPU, 16).logits(images)
    found = engine(network(), GPU, 16, precision)
    logits = found.logits(images.to(GPU)).cpu()
    difference = float((logits - expected).abs().max() / expected.abs().max())
    assert difference < {"fp32": 1e-5, "tf32": 5e-3, "bf16": 5e-2, "fp16": 5e-3}[precision]
    assert same_logits(found, expected.to(GPU), images.to(GPU))


def test_images_that_do_not_stay_on_the_gpu_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> pd.DataFrame:
        return evaluate(
            network(), pictures(64), np.arange(64) % 10, num=[8, 64], draws=2, device="cuda",
            engine="eager", batch_size=7,
        )  # fmt: skip

    expected = found()
    monkeypatch.setattr(feeding, "_SHARE_OF_MEMORY", 0)
    assert isinstance(feeding.make_feed(pictures(4), GPU), feeding.StreamingFeed)
    pd.testing.assert_frame_equal(found(), expected)


def test_where_memory_is_short_batches_are_halved() -> None:
    """8,192 images take 25 MB as floats, and what the first layer makes of them 67 MB."""
    images = pictures(8192)
    expected = EagerEngine(network(), CPU, 256).predict(images)
    engine = EagerEngine(network(), GPU, 8192)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    taken = torch.cuda.memory_reserved(GPU)
    torch.cuda.set_per_process_memory_fraction((taken + 100e6) / total, GPU)
    try:
        found = engine.predict(images.to(GPU)).cpu()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    assert 1 < engine.batch_size < 8192
    assert int((found != expected).sum()) <= 8


def test_attacks_reach_what_they_reach_on_the_cpu() -> None:
    images = pictures(24)
    labels = EagerEngine(network(), CPU, 24).predict(images)
    attack = attack_settings(name="FGSM", refine=True)
    expected, found = (
        craft(network().to(device), images.to(device), labels.to(device), attack, "minimal")
        for device in (CPU, GPU)
    )
    assert torch.equal(found.fooled.cpu(), expected.fooled)
    assert bool(expected.fooled.any())
    torch.testing.assert_close(
        found.epsilon.cpu(), expected.epsilon, rtol=0, atol=0.02, equal_nan=True
    )


def test_retraining_goes_the_way_of_the_cpu(tmp_path: Path) -> None:
    expected = train(tmp_path / "cpu").history
    found = train(tmp_path / "gpu", context=Context(device=GPU)).history
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-3)


def test_two_processes_share_a_gpu() -> None:
    two = ["cuda:0", "cuda:0"]
    assert start(add_ranks, two) == 3
    pd.testing.assert_frame_equal(start(evaluation, two, 13), start(evaluation, ["cuda:0"], 13))


def test_tf32_is_offered() -> None:
    assert offers_tf32(GPU) == (torch.cuda.get_device_capability(GPU) >= (8, 0))
    assert not offers_tf32(CPU)
