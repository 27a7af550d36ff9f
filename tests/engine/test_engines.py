"""Engines: the same predictions from each, chosen by the work ahead, whatever memory allows."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pixelrobust import InputError, evaluate
from pixelrobust import engine as choosing
from pixelrobust.datasets.decoded import PixelRows
from pixelrobust.engine import (
    EagerEngine,
    Engine,
    choose_engine,
    make_engine,
    predict_all,
    same_logits,
)
from pixelrobust.engine.base import CompiledEngine
from pixelrobust.engine.devices import suitable_batch_size
from pixelrobust.engine.feeding import InPlaceFeed, StreamingFeed
from pixelrobust.engine.openvino import OpenVinoEngine
from pixelrobust.evaluation.cells import evaluate_cells
from pixelrobust.evaluation.forward import Design, Task
from pixelrobust.models.heads import ExpandedLogits
from pixelrobust.perturbation.grid import build_grid
from pixelrobust.settings import EngineSettings
from tests.conftest import REPOSITORY

CPU = torch.device("cpu")


def network(seed: int = 0) -> nn.Module:
    """Small, and as sensitive to a pixel as a network can be."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 8 * 8, 10)).eval()


def pictures(count: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)


def settings(name: str = "auto", precision: str = "fp32") -> EngineSettings:
    return EngineSettings(
        name=name, devices="cpu", batch_size=None, precision=precision, compared=9
    )


def engines(batch_size: int) -> list[Engine]:
    return [
        EagerEngine(network(), CPU, batch_size),
        OpenVinoEngine(network(), batch_size),
        CompiledEngine(network(), CPU, batch_size),
    ]


def test_every_engine_computes_what_the_module_does() -> None:
    with torch.no_grad():
        expected = network()(pictures(7).float() / 255)
    for engine in engines(3):
        for images in (pictures(7), pictures(7).double() / 255, pictures(7).float() / 255):
            assert torch.allclose(engine.logits(images), expected, atol=1e-5), engine.name
            assert engine.predict(images).tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize("classes", [[2, 0, 1], [1, 4, 2, 0]], ids=["another order", "others"])
def test_every_engine_brings_logits_to_their_classes(classes: list[int]) -> None:
    """Those of classes that the network does not know are huge, and hide no difference."""
    images = pictures(5).float() / 255
    few = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(12, len(classes)))
    expanded = ExpandedLogits(few, classes, 6).eval()
    with torch.no_grad():
        expected = few(images)
    eager = EagerEngine(expanded, CPU, 5)
    for engine in (eager, OpenVinoEngine(expanded, 5), CompiledEngine(expanded, CPU, 5)):
        logits = engine.logits(images)
        assert torch.allclose(logits[:, classes], expected, atol=1e-5), engine.name
        assert (logits.sort(dim=1).values[:, : 6 - len(classes)] < -1e20).all()
    assert same_logits(eager, eager.logits(images), images)
    assert not same_logits(eager, eager.logits(images) + 0.1, images)
    half = EagerEngine(expanded, CPU, 5, "bf16")
    assert half.predict(images).tolist() == eager.predict(images).tolist()


def test_openvino_asks_for_the_next_batch_before_the_last_is_done() -> None:
    engine, asked = OpenVinoEngine(network(), 2), []
    predictions = engine.predictions(asked.append(i) or pictures(2) for i in range(50))  # type: ignore[func-returns-value]
    next(predictions)
    assert 2 < len(asked) < 20


SIGNALLED = """
import signal
from tests.engine.test_engines import OpenVinoEngine, network, pictures

for _ in range(2):
    first, second = (OpenVinoEngine(network(), 2) for _ in range(2))
    first.predict(pictures(2)), second.predict(pictures(2))
    del first, second
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""


def test_signals_are_handled_after_engines_have_gone() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALLED], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr


def test_logits_that_are_not_finite_are_no_prediction() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            dark = (images.sum(dim=(1, 2, 3)) == 0)[:, None]
            return torch.where(dark, torch.nan, torch.arange(3.0).expand(len(images), 3))

    images = pictures(5)
    images[1] = images[3] = 0
    for engine in (EagerEngine(Broken(), CPU, 2), OpenVinoEngine(Broken(), 2)):
        assert engine.predict(images).tolist() == [2, -1, 2, -1, 2], engine.name


def test_auto_weighs_the_start_of_an_engine_against_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert choose_engine(CPU, 100)[0] == "eager"
    assert choose_engine(CPU, 5_000)[0] == "openvino"
    monkeypatch.setattr(choosing, "package_folder", lambda name: None)
    assert choose_engine(CPU, 5_000)[0] == "eager"
    assert choose_engine(CPU, 50_000)[0] == "compile"
    monkeypatch.setattr(choosing.shutil, "which", lambda name: None)
    assert choose_engine(CPU, 50_000) == ("eager", "there is no g++ to compile with")
    gpu = torch.device("cuda")
    assert choose_engine(gpu, 50_000)[0] == "eager"
    assert choose_engine(gpu, 5_000_000)[0] == "compile"


class Forgetful(nn.Module):
    """Computes what is not in its graph."""

    def forward(self, images: Tensor) -> Tensor:
        features = images.flatten(1)[:, :10]
        return -features if torch.jit.is_tracing() else features


class Untraceable(Forgetful):
    def forward(self, images: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            raise ValueError("not to be traced")
        return super().forward(images)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Forgetful(), "gives other logits than plain PyTorch"),
        (Untraceable(), "OpenVINO cannot run this network"),
    ],
)
def test_an_engine_that_cannot_run_a_network_is_not_used(module: nn.Module, words: str) -> None:
    engine = make_engine(module, settings(), pictures(6), 10_000)
    assert engine.name == "eager"
    assert words in engine.reason
    with pytest.raises(InputError, match=words):
        make_engine(module, settings(name="openvino"), pictures(6), 10_000)


def test_a_missing_openvino_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(InputError, match=r"needs the package openvino"):
        make_engine(network(), settings(name="openvino"), pictures(2), 10)


def test_half_precision_is_close_and_never_the_default() -> None:
    images = pictures(6)
    exact = EagerEngine(network(), CPU, 6).logits(images)
    for engine in (EagerEngine(network(), CPU, 6, "bf16"), OpenVinoEngine(network(), 6, "bf16")):
        logits = engine.logits(images)
        assert logits.dtype == torch.float32
        assert torch.allclose(logits, exact, atol=0.05), engine.name
    assert not torch.equal(EagerEngine(network(), CPU, 6, "bf16").logits(images), exact)
    assert make_engine(network(), settings(), images, 10_000).precision == "fp32"
    for precision in ("tf32", "fp16"):
        with pytest.raises(InputError, match=f"engine.precision={precision} needs a GPU"):
            make_engine(network(), settings(precision=precision), images, 10)


class Greedy(nn.Module):
    """Asks for more memory than there is when more than `most` images come at a time."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.sizes = most, []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        if len(images) > self.most:
            torch.empty(2**59, dtype=torch.uint8)
        return images.flatten(1)[:, :10]


def test_a_batch_that_memory_does_not_hold_is_halved_and_nothing_is_lost() -> None:
    module, images = Greedy(3), pictures(23)
    engine = EagerEngine(module, CPU, 16)
    expected = images.flatten(1)[:, :10].argmax(1)
    found = list(engine.predictions(images.split(16)))
    assert torch.equal(torch.cat(found), expected)
    assert module.sizes[:4] == [16, 8, 4, 2]
    assert set(module.sizes[4:]) == {2, 1}
    assert engine.batch_size == 2


def test_memory_that_does_not_hold_one_image_is_told_and_other_faults_are_not_taken_for_it() -> (
    None
):
    with pytest.raises(InputError, match="not enough memory on cpu for one image"):
        EagerEngine(Greedy(0), CPU, 4).predict(pictures(4))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        EagerEngine(network(), CPU, 4).predict(pictures(4)[:, :, :8, :8])


@pytest.mark.parametrize("feed", [InPlaceFeed, lambda images: StreamingFeed(images, CPU)])
@pytest.mark.parametrize("kind", ["tensor", "array", "rows"])
def test_feeds_bring_the_rows_that_are_asked_for(feed: object, kind: str) -> None:
    images = pictures(20)
    rows = PixelRows(images.numpy(), np.arange(20))
    source = {"tensor": images, "array": images.numpy(), "rows": rows}[kind]
    generator = np.random.default_rng(0)
    order = [generator.integers(0, 20, size) for size in (4, 7, 1, 7, 3)]
    # All batches are kept: none changes while later ones fill the same buffers.
    found = list(feed(source).batches(iter(order)))  # type: ignore[operator]
    assert len(found) == 5
    for batch, index in zip(found, order, strict=True):
        assert torch.equal(batch, images[torch.as_tensor(index)])


def test_batches_hold_as_many_pixels_whatever_the_image_size() -> None:
    assert suitable_batch_size(CPU, (224, 224)) == 16
    assert suitable_batch_size(CPU, (224, 224), 4) == 4
    assert suitable_batch_size(CPU, (112, 112), 4) == 16
    assert suitable_batch_size(CPU, (32, 32)) == 256
    assert suitable_batch_size(CPU, (2240, 2240)) == 1
    assert suitable_batch_size(torch.device("cuda"), (224, 224)) == 1024


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_outcomes_are_the_same_by_every_engine_and_batch_size(batch_size: int) -> None:
    labels = EagerEngine(network(), CPU, 9).predict(pictures(9))

    def found(**options: Any) -> pd.DataFrame:
        grid = {"num": [1, 9, 60], "amplitude": [None, 60], "draws": 4}
        return evaluate(network(), pictures(9), labels, **grid, **options)

    expected = found()
    assert 0 < expected["wrong"].mean() < 1
    for engine in ("eager", "openvino", "compile"):
        assert found(engine=engine, batch_size=batch_size).equals(expected), engine


class Counting(EagerEngine):
    """Counts the images that it is shown."""

    shown = 0

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        for batch in batches:
            self.shown += len(batch)
            yield self.logits(batch)


def test_known_predictions_of_unchanged_images_are_the_control() -> None:
    images, keys = pictures(5), list("abcde")
    labels = np.zeros(5, dtype=np.int64)
    engine = Counting(network(), CPU, 2)
    task, design = Task(engine, images, keys, labels, "net"), Design(build_grid([3]), 2, 0)
    usual = evaluate_cells(task, design)
    assert engine.shown == 5 + 10
    known = EagerEngine(network(), CPU, 5).predict(images).numpy()
    spared = evaluate_cells(task, design, unchanged=known)
    assert engine.shown == 15 + 10
    assert spared.equals(usual)
    only_control = evaluate_cells(task, Design(build_grid([]), 2, 0), unchanged=known)
    assert engine.shown == 15 + 10
    assert only_control["prediction"].tolist() == known.tolist()


def test_all_images_are_predicted_in_order() -> None:
    """They are so many that some batches wait while others are under way."""
    images = pictures(41)
    done: list[int] = []
    for engine in engines(4):
        found = predict_all(engine, PixelRows(images.numpy(), np.arange(41)), done.append)
        logits = EagerEngine(network(), CPU, 64).logits(images)
        assert found.tolist() == logits.argmax(1).tolist()
    assert done == ([4] * 10 + [1]) * 3
