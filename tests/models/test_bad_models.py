"""Weights that do not fit, and networks that cannot be measured, on the command line and in Python."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pixelrobust import InputError, evaluate
from pixelrobust.evaluation.activations import layer_changes
from pixelrobust.evaluation.boundary import linearized_distances
from pixelrobust.models.build import load_classifier
from pixelrobust.models.saved import save_model
from pixelrobust.perturbation.augmentations import PixelAugmentation
from pixelrobust.perturbation.grid import Cell
from pixelrobust.retraining import retrain
from pixelrobust.settings import recipe_settings
from tests.conftest import Run
from tests.fault_cases import folder_of, images, network, refusal, saved, sentence, state
from tests.models.cases import checkpoint, edited, hugging_face, model

pytestmark = pytest.mark.usefixtures("one_thread")


def test_weights_so_large_that_logits_overflow_are_refused(run: Run, tmp_path: Path) -> None:
    huge = {name: value * 1e30 for name, value in state().items()}
    root = folder_of(tmp_path / "images", "cat/a.png")
    told = sentence(run(*images(root), *network(saved(huge, tmp_path / "w.safetensors"))))
    assert "model squeezenet1_1 gives NaN or infinite logits for unchanged" in told


def test_a_saved_network_with_other_weights_is_refused(run: Run, tmp_path: Path) -> None:
    path = saved(state(), tmp_path / "w.safetensors")
    settings = model(weights=str(path))
    save_model(tmp_path / "saved", load_classifier("mine", settings).module, settings, (0, 1))
    other = state()
    other["classifier.1.bias"][0] = 9
    saved(other, tmp_path / "saved" / "weights.safetensors")
    root = folder_of(tmp_path / "images", "cat/a.png")
    keys = ["model=checkpoint", f"models.checkpoint.path={tmp_path / 'saved'}"]
    assert "is not what model.json describes" in sentence(run(*keys, *images(root)))


def test_a_network_that_is_right_no_more_than_by_chance_is_told_before_selection_hides_it(
    run: Run, tmp_path: Path
) -> None:
    path = saved(state(), tmp_path / "w.safetensors")
    root = folder_of(tmp_path / "images", "cat/a.png", "dog/b.png", "dog/c.png", "dog/d.png")
    ended = run(*images(root), *network(path))
    assert ended.code == 0, ended.err
    told = (
        "model squeezenet1_1 gets 1 of 4 unchanged images right, no more than chance would (50 %)"
    )
    assert told in ended.out


def without(*names: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def pickled_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def with_code(folder: Path) -> None:
    (folder / "modeling.py").write_text("raise AssertionError('run')\n")
    edited(folder, "config.json", auto_map={"AutoModelForImageClassification": "modeling.Net"})


def processor(**values: object) -> Callable[[Path], object]:
    return lambda folder: edited(folder, "preprocessor_config.json", **values)


def tensors(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return spoil


def shards_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "w.safetensors")
    index = {"metadata": {}, "weight_map": {"classifier.bias": "../w.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "not there": (shutil.rmtree, "holds no config.json"),
    "pickled weights": (pickled_weights, "holds no model.safetensors"),
    "code of its own": (with_code, r"auto_map in config.json\), which is never run"),
    "an image processor that is code": (
        processor(auto_map={"AutoImageProcessor": "other/place--code.Own"}),
        r"auto_map in preprocessor_config.json\), which is never run",
    ),
    "no image processor": (
        without("preprocessor_config.json"), "images are normalised; .*mean and std"
    ),
    "an image processor without std": (processor(image_std=None), "does not say how images are"),
    "an std of 0": (processor(image_std=[0, 1, 1]), "does not say how images are normalised"),
    "a mean of one channel": (processor(image_mean=[0.5]), "does not say how images are normalised"),
    "a mean that is a word": (processor(image_mean="half"), "does not say how images are"),
    "red and blue exchanged": (
        processor(do_flip_channel_order=True), r"more to colours .*\(do_flip_channel_order\)"
    ),
    "an offset": (processor(rescale_offset=True), "does not say how images are normalised"),
    "a factor of 0": (processor(rescale_factor=0), "does not say how images are normalised"),
    "settings that are no JSON": (
        lambda folder: (folder / "config.json").write_text("<!DOCTYPE html>"), "Expecting value"
    ),
    "a network of texts": (
        lambda folder: edited(folder, "config.json", model_type="bert"),
        "cannot be loaded as an image classifier",
    ),
    "no last layer": (
        tensors(lambda weights: weights.pop("classifier.weight")),
        "lacks 1 of the network's tensors, or holds them in other shapes",
    ),
    "NaN in weights": (
        tensors(lambda weights: weights["classifier.bias"].fill_(torch.nan)),
        "hold NaN or infinity in classifier.bias",
    ),
    "an adapter": (
        lambda folder: (folder / "adapter_config.json").write_text("{}"),
        "holds an adapter, not a network",
    ),
    "weights that lie elsewhere": (
        shards_elsewhere, "'../w.safetensors' in model.safetensors.index.json"
    ),
    "classes that the data set lacks": (
        lambda folder: edited(folder, "config.json", id2label={"0": "fish", "1": "bird"}),
        r"fish, bird\) is called like a class of the data set",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), FOLDERS.values(), ids=FOLDERS)
def test_hugging_face_folders_that_cannot_be_used_are_refused(
    spoil: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "network")
    spoil(folder)
    with pytest.raises(InputError, match=words):
        load_classifier("mine", hugging_face(folder), (("cat",), ("dog",)))


def noise(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 12, 12), dtype=torch.uint8, generator=generator)


class Plain(nn.Module):
    """A network whose logits are pixels; each fault is a subclass that differs in one place."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :4] * self.scale


class StaysInTraining(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = AlwaysOn(0.5)


class AlwaysOn(nn.Dropout):
    def train(self, mode: bool = True) -> "AlwaysOn":
        return super().train(True)


class DropsAtRandom(Plain):
    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(images), 0.5, training=True)


class CountsImages(Plain):
    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return super().forward(images)


class ReplacesItsBuffer(Plain):
    def forward(self, images: Tensor) -> Tensor:
        self.seen = self.seen + 1
        return super().forward(images)


class ChangesItsWeights(Plain):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            self.scale.mul_(0.9999)
        return super().forward(images)


class RemembersCalls(Plain):
    """Without a parameter or buffer that shows it."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images).roll(self.calls, dims=1)


class LooksAtTheBatch(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.norm(images))


class Gives(Plain):
    """Whatever is made of its logits."""

    def __init__(self, make: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.make = make

    def forward(self, images: Tensor) -> object:
        return self.make(super().forward(images))


def spoiled(value: float) -> Callable[[Tensor], Tensor]:
    """Logits with one value that is not finite, where an image is not one of the unchanged ones."""
    first = noise(3).flatten(1)[:, :4].float() / 255

    def make(logits: Tensor) -> Tensor:
        known = (logits[:, None] - first[None]).abs().amax(dim=2).amin(dim=1) < 1e-6
        column = torch.arange(4) == 2
        return torch.where(~known[:, None] & column, value, logits)

    return make


class CannotBeCopied(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.calls = (number for number in range(3))


MODELS: dict[str, tuple[Callable[[], object], str]] = {
    "a part that stays in training mode": (StaysInTraining, "in training mode (its AlwaysOn), in which"),
    "dropout that eval mode does not end": (DropsAtRandom, "gives different logits for the same image"),
    "a buffer that every call changes": (CountsImages, "changes its own buffer seen when"),
    "a buffer that every call replaces": (ReplacesItsBuffer, "changes its own buffer seen when"),
    "weights that every call changes": (ChangesItsWeights, "changes its own parameters when"),
    "logits that depend on earlier calls": (RemembersCalls, "different logits for the same image"),
    "batch normalisation by the batch": (LooksAtTheBatch, "other logits beside another image than"),
    "NaN logits": (lambda: Gives(lambda logits: logits * torch.nan), "NaN or infinite logits for '0'"),
    "a NaN logit of changed images only": (
        lambda: Gives(spoiled(float("nan"))), "model model gives NaN or infinite logits for '0'"
    ),
    "an infinite logit of changed images only": (
        lambda: Gives(spoiled(float("inf"))), "model model gives NaN or infinite logits for '0'"
    ),
    "too few outputs for the labels": (
        lambda: Gives(lambda logits: logits[:, :2]), "label 2 is out of range for model model, which has 2"
    ),
    "maps instead of logits": (
        lambda: Gives(lambda logits: logits[:, :, None, None]), "gives outputs of shape (1, 4, 1, 1)"
    ),
    "classes instead of logits": (
        lambda: Gives(lambda logits: logits.argmax(1)), "gives outputs of shape (1,) for one image"
    ),
    "one row for all images": (
        lambda: Gives(lambda logits: logits.mean(0, keepdim=True)), "gives outputs of shape (1, 4) for 2"
    ),
    "a dictionary instead of logits": (
        lambda: Gives(lambda logits: {"logits": logits}), "gives a dict, not a tensor of logits"
    ),
    "a tuple instead of logits": (
        lambda: Gives(lambda logits: (logits, logits)), "gives a tuple, not a tensor of logits"
    ),
    "an error of its own": (
        lambda: Gives(lambda logits: {}["missing"]), "cannot take images of 12 x 12 ('missing')"
    ),
    "weights without values": (lambda: Plain().to("meta"), "model model has weights without values"),
    "a lazy module that was never used": (
        lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), "not initialised yet (1.weight of a lazy"
    ),
    "a lazy module with buffers": (
        lambda: nn.Sequential(nn.LazyBatchNorm2d(), Plain()), "not initialised yet (0.weight of a lazy"
    ),
    "a function instead of a module": (lambda: lambda images: images.flatten(1), "model is a function"),
    "a module that cannot be copied": (CannotBeCopied, "cannot pickle 'generator' object"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "words"), MODELS.values(), ids=MODELS)
def test_a_network_that_cannot_be_measured_is_refused(
    make: Callable[[], object], words: str
) -> None:
    assert words in refusal(lambda: evaluate(make(), noise(3), [0, 1, 2], num=64, draws=2))


def test_a_lazy_module_is_refused_before_anything_is_measured_or_trained(tmp_path: Path) -> None:
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(4)).eval()
    images, keys, labels = noise(2), ["a", "b"], np.array([0, 1])
    calls: list[Callable[[], object]] = [
        lambda: layer_changes(lazy, images, keys, Cell(4), seed=0, batch_size=2),
        lambda: linearized_distances(lazy, images, labels),
        lambda: retrain(
            lazy, (0, 1), images, keys, labels, PixelAugmentation(4), recipe_settings(), directory=tmp_path
        ),
    ]  # fmt: skip
    for call in calls:
        assert "not initialised yet (1.weight of a lazy module)" in refusal(call)


def test_a_network_in_training_mode_is_measured_in_eval_mode_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Flatten(), nn.Linear(800, 4)
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = evaluate(model.eval(), noise(9), [1] * 9, num=64, draws=3)
    found = evaluate(model.train(), noise(9), [1] * 9, num=64, draws=3)
    assert found.equals(expected)
    assert 0 < found["wrong"].mean() < 1
    assert all(part.training for part in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_network_in_half_precision_is_computed_in_float32() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 4)).bfloat16()
    same = copy.deepcopy(model).float()
    found = evaluate(model, noise(9), [1] * 9, num=64, draws=3)
    assert found.equals(evaluate(same, noise(9), [1] * 9, num=64, draws=3))
    assert model[1].weight.dtype == torch.bfloat16


ARGUMENTS: list[tuple[dict[str, object], str]] = [
    ({"labels": [0.0, 0.7, 1.2]}, "3,) and dtype float64"),
    ({"labels": [0, 1, float("nan")]}, "3,) and dtype float64"),
    ({"labels": torch.eye(3, dtype=torch.int64)}, "3, 3) and dtype int64"),
    ({"labels": ["cat", "dog", "cat"]}, "labels have shape"),
    ({"labels": [0, -1, 1]}, "label -1 is not the index of an output"),
    ({"labels": [0, 1, 4]}, "label 4 is out of range for model model, which has 4 outputs"),
    ({"labels": [0, 1]}, "3 images came with 2 labels and 3 keys"),
    ({"keys": ["a", "b", "a"]}, "keys are there twice, and such images would get the same changes"),
    ({"images": "images"}, "images cannot be used as a tensor"),
    ({"images": noise(3)[0]}, "images have shape"),
    ({"images": noise(3).float()}, "floating-point images leave [0, 1]"),
    ({"images": noise(3) / 255 * torch.nan}, "floating-point images leave [0, 1]"),
    ({"images": noise(3).long()}, "images have dtype torch.int64"),
    ({"images": noise(0), "labels": []}, "0 images came with 0 labels and 0 keys"),
    ({"draws": 0}, "draws=0 is not a number of changes"),
    ({"draws": "many"}, "draws='many' is not a number of changes"),
    ({"draws": float("nan")}, "draws=nan is not a number of changes"),
    ({"draws": 10**30}, "draws=1000000000000000000000000000000 makes"),
    ({"num": 10**30}, "perturbation.num=1000000000000000000000000000000 is more than the"),
    ({"num": float("nan")}, "perturbation.num=nan is not a number of pixels"),
    ({"amplitude": -1}, "perturbation.amplitude=-1 is not an amplitude"),
    ({"area": 10**30}, "perturbation.area=1000000000000000000000000000000 is larger than"),
    ({"seed": -1}, "seed=-1 is not a seed"),
    ({"seed": "many"}, "seed='many' is not a seed"),
    ({"batch_size": 0}, "engine.batch_size=0 is wrong: it should be greater than or equal"),
    ({"batch_size": 10**30}, "engine.batch_size=1000000000000000000000000000000 is wrong: it"),
    ({"device": "cuda:99"}, "engine.devices=cuda:99 is not there: this machine shows 0 GPUs to"),
    ({"engine": "abacus"}, "engine.name='abacus' is wrong: it should be 'eager', 'compile' or"),
]


@pytest.mark.parametrize(("arguments", "words"), ARGUMENTS)
def test_a_wrong_argument_is_refused(
    arguments: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The sentence says how many there are.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    usual = {"images": noise(3), "labels": [0, 1, 2], "num": 4}
    assert words in refusal(lambda: evaluate(Plain(), **(usual | arguments)))
