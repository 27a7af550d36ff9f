"""Classifiers in ONNX files, exported on the spot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.verify import main as verify
from pixelrobust import InputError, OnnxModel, evaluate
from pixelrobust.engine import make_engine
from pixelrobust.models.normalization import Normalize
from pixelrobust.models.weights import weights_digest
from pixelrobust.settings import EngineSettings
from tests.conftest import Run
from tests.fault_cases import folder_of, manifest
from tests.model_cases import SIDE, exported, noise, tiny, with_weights_at

onnx = pytest.importorskip("onnx")

pytestmark = pytest.mark.usefixtures("one_thread")

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


def with_metadata(path: Path, **values: str) -> Path:
    model = onnx.load(path)
    for key, value in values.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, path)
    return path


def expected(network: nn.Module, images: Tensor, mean: Any = MEAN, std: Any = STD) -> Tensor:
    with torch.no_grad():
        return nn.Sequential(Normalize(mean, std), network)(images.float() / 255)


def engine(model: OnnxModel, images: Tensor, **values: Any) -> Any:
    usual = {
        "name": "auto",
        "devices": "cpu",
        "batch_size": None,
        "precision": "fp32",
        "compared": 0,
    }
    return make_engine(model.eval(), EngineSettings(**(usual | values)), images, 1)


def close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() < 1e-4)


@pytest.mark.parametrize(("batch", "any_batch"), [(1, True), (1, False), (3, False)])
@pytest.mark.parametrize("batch_size", [None, 1, 5])
def test_logits_are_those_of_the_network_in_pytorch(
    batch: int, any_batch: bool, batch_size: int | None, tmp_path: Path
) -> None:
    network, images = tiny(), noise(7)
    model = OnnxModel(exported(network, tmp_path / "n.onnx", batch, any_batch=any_batch), MEAN, STD)
    running = engine(model, images, batch_size=batch_size)
    for given in (images, images.float() / 255):
        assert close(running.logits(given), expected(network, images))
    with torch.no_grad():
        assert close(model(images / 255), expected(network, images))


class OfOneImage(nn.Module):
    """A network that can only be run for the number of images that it was exported for."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tiny()
        self.register_buffer("offsets", torch.tensor([[0.0, 1.0], [2.0, 0.0]]))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images) + self.offsets[:, :1] - self.offsets[:, :1]


def test_a_file_for_a_fixed_number_of_images_is_run_with_that_number(tmp_path: Path) -> None:
    path, images = exported(OfOneImage().eval(), tmp_path / "n.onnx", batch=2), noise(5)
    running = engine(OnnxModel(path, MEAN, STD), images, batch_size=4)
    assert running.batch_size == 2
    assert close(running.logits(images), expected(tiny(), images))


class AnotherForAnotherNumber(nn.Module):
    """Its logits are means over a number of images that the exporter writes into the file."""

    def forward(self, images: Tensor) -> Tensor:
        logits = images.mean(dim=(2, 3))
        return logits.reshape(-1, images.shape[0] * 3).reshape(-1, 3) * 10 / images.shape[0]


def test_batches_are_those_of_the_export_where_others_make_it_another_network(
    tmp_path: Path,
) -> None:
    path, images = exported(AnotherForAnotherNumber().eval(), tmp_path / "n.onnx"), noise(5)
    running = engine(OnnxModel(path), images)
    with torch.no_grad():
        single = torch.cat([AnotherForAnotherNumber()(image[None] / 255) for image in images])
    assert close(running.logits(images), single)


def test_metadata_say_what_arguments_do_not(tmp_path: Path) -> None:
    network, images = tiny(), noise(3)
    path = with_metadata(
        exported(network, tmp_path / "n.onnx"),
        mean="[0.1, 0.2, 0.3]", std="[0.4, 0.5, 0.6]", names='{"0": "cat", "1": "dog"}',
    )  # fmt: skip
    model = OnnxModel(path)
    assert model.labels == ("cat", "dog")
    assert close(engine(model, images).logits(images), expected(network, images))
    other = engine(OnnxModel(path, 0.5, 0.25), images).logits(images)
    assert close(other, expected(network, images, [0.5] * 3, [0.25] * 3))


class Adapted(nn.Module):
    """The tiny network, behind something that makes its input of another."""

    def __init__(self, adapt: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.adapt = tiny(), adapt

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.adapt(images))


def test_networks_that_take_channels_last_are_given_them_so(tmp_path: Path) -> None:
    network = Adapted(lambda images: images.permute(0, 3, 1, 2)).eval()
    path = exported(network, tmp_path / "n.onnx", example=torch.rand(1, SIDE, SIDE, 3))
    images = noise(3)
    found = engine(OnnxModel(path, MEAN, STD), images).logits(images)
    assert close(found, expected(tiny(), images))


def test_networks_that_take_bytes_are_given_them(tmp_path: Path) -> None:
    network, images = Adapted(lambda images: images.float() / 255).eval(), noise(3)
    path = exported(network, tmp_path / "n.onnx", example=images[:1])
    found = engine(OnnxModel(path), images).logits(images)
    assert close(found, expected(tiny(), images, [0.0], [1.0]))


def test_values_of_0_to_255_are_a_matter_of_scale(tmp_path: Path) -> None:
    network, images = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 2)).eval(), noise(3)
    model = OnnxModel(exported(network, tmp_path / "n.onnx"), scale=255)
    with torch.no_grad():
        wanted = network(images.float())
    assert (engine(model, images).logits(images) - wanted).abs().max() < 1e-3 * wanted.abs().max()


def test_softmax_at_the_end_changes_margins_and_no_prediction(tmp_path: Path) -> None:
    images, labels = noise(20), [0, 1] * 10
    plain = exported(tiny(), tmp_path / "plain.onnx")
    soft = exported(tiny(last=nn.Softmax(dim=1)), tmp_path / "soft.onnx")
    found = [evaluate(OnnxModel(path), images, labels, num=64, draws=2) for path in (plain, soft)]
    assert found[0].equals(found[1])


def test_outcomes_are_those_of_the_network_in_pytorch(tmp_path: Path) -> None:
    images, labels = noise(30), [0, 1] * 15
    module = nn.Sequential(Normalize(MEAN, STD), tiny())
    wanted = evaluate(module, images, labels, num=[4, 64], draws=3, engine="eager")
    model = OnnxModel(exported(tiny(), tmp_path / "n.onnx"), MEAN, STD)
    found = evaluate(model, images, labels, num=[4, 64], draws=3)
    assert found.equals(wanted)
    assert 0 < found["wrong"].mean() < 1


def test_weights_beside_the_file_count(tmp_path: Path) -> None:
    paths = []
    for folder, value in (("a", 0.0), ("b", 1.0)):
        network = tiny()
        with torch.no_grad():
            network[4].bias[0] += value
        (tmp_path / folder).mkdir()
        path = exported(network, tmp_path / folder / "n.onnx")
        onnx.save(
            onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0
        )
        paths.append(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    images = noise(2)
    assert close(
        engine(OnnxModel(paths[0], MEAN, STD), images).logits(images), expected(tiny(), images)
    )
    digests = {weights_digest(OnnxModel(path)) for path in paths}
    assert len(digests) == 2


@pytest.mark.parametrize("form", ["../secret.bin", "absolute", "inside/../../secret.bin", "link"])
def test_weights_outside_the_files_folder_are_not_read(form: str, tmp_path: Path) -> None:
    folder, secret = tmp_path / "folder", tmp_path / "secret.bin"
    (folder / "inside").mkdir(parents=True)
    np.zeros(3 * SIDE**2 * 2, dtype=np.float32).tofile(secret)
    if form == "link":
        (folder / "link").symlink_to(secret)
    path = with_weights_at(folder / "n.onnx", str(secret) if form == "absolute" else form)
    with pytest.raises(InputError, match=r"n\.onnx cannot be read .*outside the base directory"):
        OnnxModel(path)


def test_a_file_is_evaluated_at_its_own_size_with_classes_by_name(
    run: Run, tmp_path: Path, cache: Path
) -> None:
    """Its first output is a dog, the data set's second class, and it takes everything for one."""
    network = tiny()
    with torch.no_grad():
        network[4].bias[0] += 100
    path = with_metadata(exported(network, tmp_path / "n.onnx"), labels='["dog", "cat"]')
    root = folder_of(tmp_path / "images", "cat/a.png", "dog/b.png", "dog/c.png")
    keys = (
        "model=onnx", f"models.onnx.path={path}", "models.onnx.mean=[0.1,0.2,0.3]",
        "models.onnx.std=0.5", "dataset=imagefolder", f"dataset.root={root}",
        "dataset.classes=folders",
    )  # fmt: skip
    ended = run(*keys, "perturbation.num=4", "draws=2")
    assert ended.code == 0, ended.err
    assert "onnx: run by openvino in fp32 (an ONNX file)" in ended.out
    record = manifest(tmp_path / "results")
    assert (record["images"], record["candidates"]) == (2, 3)
    preprocessing = record["config"]["dataset"]["preprocessing"]
    assert preprocessing == {"resize": 36, "crop": 32, "interpolation": "bilinear"}
    (folder,) = (tmp_path / "results").glob("run-*")
    assert verify([str(folder), *keys, f"paths.cache={cache}", "--share", "1"]) == 0
    named = tmp_path / "names.txt"
    named.write_text("cat\ndog\n")
    ended = run(
        "model=onnx", f"models.onnx.path={path}", f"models.onnx.labels={named}",
        "dataset=imagefolder", f"dataset.root={root}", "dataset.classes=folders", "perturbation.num=4",
        results=tmp_path / "other",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert manifest(tmp_path / "other")["images"] == 1


def test_the_exporter_of_today_writes_files_that_are_understood(tmp_path: Path) -> None:
    """With a batch of any size, and weights beside the file."""
    pytest.importorskip("onnxscript")
    path, images = tmp_path / "n.onnx", noise(5)
    example = (torch.rand(2, 3, SIDE, SIDE),)
    batch = ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(tiny(), example, path, dynamo=True, dynamic_shapes=batch, verbose=False)
    found = engine(OnnxModel(path, MEAN, STD), images).logits(images)
    assert close(found, expected(tiny(), images))
