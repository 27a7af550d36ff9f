"""Weights that do not fit, and networks that cannot be measured, on the command line and in Python."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import SqueezeNet1_1_Weights

from pixelrobust import evaluate
from tests.conftest import Run
from tests.fault_cases import CLASSES, folder_of, images, network, refusal, saved, sentence, state
from tests.models.cases import checkpoint, edited

pytestmark = pytest.mark.usefixtures("one_thread")

SAID = {
    "weights that are not there": "does not exist",
    "a folder for weights": "does not exist",
    "weights of another architecture": "weights w.safetensors do not fit the network: 52 tensors are",
    "weights for three classes, where two are asked for": "weights w.safetensors do not fit the network: classifier.1.bias",
    "weights cut in half": "Error while deserializing header: incomplete metadata, file not",
    "weights without their last byte": "Error while deserializing header: incomplete metadata, file not",
    "weights of no bytes": "Error while deserializing header: header too small",
    "a web page for weights": "Error while deserializing header: header too large",
    "NaN in weights": "weights w.safetensors hold NaN or infinity in classifier.1.bias",
    "infinity in weights": "weights w.safetensors hold NaN or infinity in classifier.1.weight",
    "weights so large that logits overflow": "model squeezenet1_1 gives NaN or infinite logits for unchanged",
    "a checkpoint without tensors": "holds no named tensors",
    "a Hugging Face folder that is not there": "holds no config.json",
    "a Hugging Face folder with pickled weights": "holds no model.safetensors",
    "a Hugging Face folder with code of its own": "auto_map in config.json), which is never run",
    "a Hugging Face folder whose image processor is code": "auto_map in preprocessor_config.json), which is never run",
    "a Hugging Face folder without an image processor": "does not say how images are normalised",
    "a Hugging Face folder whose settings are no JSON": "Expecting value: line 1 column 1",
    "a Hugging Face folder of a network that answers questions": "cannot be loaded as an image classifier",
    "a Hugging Face folder that exchanges red and blue": "does more to colours than normalise each channel, such as",
    "a Hugging Face folder without weights of the last layer": "lacks 1 of the network's tensors, or holds them in other shapes",
    "a Hugging Face folder with NaN in weights": "hold NaN or infinity in classifier.bias",
    "a Hugging Face folder with an adapter": "holds an adapter, not a network",
    "a Hugging Face folder whose weights lie elsewhere": "'../w.safetensors' in model.safetensors.index.json",
    "a Hugging Face folder of classes that the data set lacks": "fish, bird) is called like a class of the data set",
    "a part that stays in training mode": "its AlwaysOn), in which outputs depend on chance or on the other",
    "dropout that eval mode does not end": "model model gives different logits for the same image",
    "a buffer that every call changes": "model model changes its own buffer seen when it is used, so its",
    "a buffer that every call replaces": "model model changes its own buffer seen when it is used, so its",
    "weights that every call changes": "model model changes its own parameters when it is used, so its",
    "an answer that depends on earlier calls": "model model gives different logits for the same image",
    "batch normalisation by the batch": "model model gives an image other logits beside another image than",
    "NaN logits": "model model gives NaN or infinite logits for '0'",
    "a NaN logit of changed images only": "model model gives NaN or infinite logits for '0'",
    "an infinite logit of changed images only": "model model gives NaN or infinite logits for '0'",
    "too few outputs for the labels": "label 2 is out of range for model model, which has 2 outputs",
    "maps instead of logits": "model model gives outputs of shape",
    "classes instead of logits": "model model gives outputs of shape",
    "one row for all images": "model model gives outputs of shape",
    "a dictionary instead of logits": "model model gives a dict, not a tensor of logits",
    "an error of its own": "model model cannot take images of 12 x 12",
    "a tuple instead of logits": "model model gives a tuple, not a tensor of logits",
    "weights without values": "model model has weights without values",
    "a function instead of a module": "model is a function",
    "a module that cannot be copied": "cannot pickle 'generator' object",
    "labels as fractions": "3,) and dtype float64",
    "NaN among labels": "3,) and dtype float64",
    "labels one-hot": "3, 3) and dtype int64",
    "labels as words": "labels have shape",
    "a negative label": "label -1 is not the index of an output",
    "a label beyond the outputs": "label 4 is out of range for model model, which has 4 outputs",
    "too few labels": "3 images came with 2 labels and 3 keys",
    "a key twice": "keys are there twice, and such images would get the same changes",
    "images as words": "images cannot be used as a tensor",
    "one image without a batch": "images have shape",
    "images of 0 to 255 as floats": "floating-point images leave [0, 1]",
    "NaN among images": "floating-point images leave [0, 1]",
    "images as 64-bit integers": "images have dtype torch.int64",
    "no image": "0 images came with 0 labels and 0 keys",
    "draws=0": "draws=0 is not a number of changes",
    "draws as a word": "draws='many' is not a number of changes",
    "draws=nan": "draws=nan is not a number of changes",
    "draws=10^30": "draws=1000000000000000000000000000000 makes",
    "num=10^30": "perturbation.num=1000000000000000000000000000000 is more than the",
    "num=nan": "perturbation.num=nan is not a number of pixels",
    "amplitude=-1": "perturbation.amplitude=-1 is not an amplitude",
    "area=10^30": "perturbation.area=1000000000000000000000000000000 is larger than",
    "seed=-1": "seed=-1 is not a seed",
    "seed as a word": "seed='many' is not a seed",
    "batch_size=0": "engine.batch_size=0 is wrong: it should be greater than or equal",
    "batch_size=10^30": "engine.batch_size=1000000000000000000000000000000 is wrong: it",
    "a device that is not there": "engine.devices=cuda:99 is not there: this machine shows 0 GPUs to",
    "an engine that is not there": "engine.name='abacus' is wrong: it should be 'eager', 'compile' or",
}
"""What the sentence about each case says, by the case's id."""


# Files of weights


def other_architecture(path: Path) -> Path:
    return saved(torchvision.models.resnet18(num_classes=2).state_dict(), path)


def changed(**values: object) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        tensors = state()
        for name, value in values.items():
            tensors["classifier.1." + name].view(-1)[0] = value
        return saved(tensors, path)

    return make


def cut(share: float) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        content = saved(state(), path).read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        return path

    return make


def written(content: bytes) -> Callable[[Path], Path]:
    return lambda path: path.write_bytes(content) and path


def pickled(content: object) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        torch.save(content, path.with_suffix(".pth"))
        return path.with_suffix(".pth")

    return make


WEIGHTS = {
    "weights that are not there": lambda path: path,
    "a folder for weights": lambda path: path.mkdir() or path,
    "weights of another architecture": other_architecture,
    "weights for three classes, where two are asked for": lambda path: saved(state(3), path),
    "weights cut in half": cut(0.5),
    "weights without their last byte": cut(1 - 1e-7),
    "weights of no bytes": cut(0),
    "a web page for weights": written(b"<!DOCTYPE html><p>Not Found</p>"),
    "NaN in weights": changed(bias=float("nan")),
    "infinity in weights": changed(weight=float("inf")),
    "weights so large that logits overflow": lambda path: saved(
        {name: value * 1e30 for name, value in state().items()}, path
    ),
    "a checkpoint without tensors": pickled({"epoch": 3}),
}


@pytest.mark.parametrize("make", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_cannot_be_used_are_refused(
    make: Callable[[Path], Path], run: Run, tmp_path: Path, words: str
) -> None:
    path = make(tmp_path / "w.safetensors")
    root = folder_of(tmp_path / "images", "cat/a.png")
    assert words in sentence(run(*images(root), *network(path)), tmp_path)


def test_a_file_of_another_hash_is_not_taken_for_published_weights(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fits the network, so nothing but its hash tells."""
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    other = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(other, folder / SqueezeNet1_1_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    root = folder_of(tmp_path / "images", "tench/a.png")
    told = sentence(
        run("model=squeezenet1_1", *images(root), "dataset.classes=null"), folder, tmp_path
    )
    # What the file's hash is depends on torch's version.
    assert re.search(r"its SHA-256 begins with (?!b8a52dc0)[0-9a-f]{8}; delete it", told)
    assert "is not what was published under this name: its SHA-256 begins" in told


def test_published_weights_have_their_number_of_outputs(run: Run, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png")
    published = ["model=squeezenet1_1", "models.squeezenet1_1.classes=2"]
    assert "models.<name>.classes=2 does not fit the published weights" in sentence(
        run(*published, *images(root)), tmp_path
    )


def test_a_saved_network_with_other_weights_is_refused(run: Run, tmp_path: Path) -> None:
    from pixelrobust.models.build import load_classifier
    from pixelrobust.models.saved import save_model
    from pixelrobust.settings import ModelSettings

    path = saved(state(), tmp_path / "w.safetensors")
    settings = ModelSettings(
        source="torchvision", name="squeezenet1_1", weights=str(path), match="names",
        classes=len(CLASSES), mean=None, std=None,
    )  # fmt: skip
    save_model(tmp_path / "saved", load_classifier("mine", settings).module, settings, (0, 1))
    changed(bias=9.0)(tmp_path / "saved" / "weights.safetensors")
    root = folder_of(tmp_path / "images", "cat/a.png")
    checkpoint = ["model=checkpoint", f"models.checkpoint.path={tmp_path / 'saved'}"]
    assert "is not what model.json describes" in sentence(run(*checkpoint, *images(root)), tmp_path)


def test_images_that_the_network_cannot_take_are_refused(run: Run, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png")
    path = saved(state(), tmp_path / "w.safetensors")
    small = ["dataset.preprocessing.resize=8", "dataset.preprocessing.crop=8"]
    assert "model squeezenet1_1 cannot take images of 8 x 8" in sentence(
        run(*images(root), *network(path), *small), tmp_path
    )


# Folders of Hugging Face's


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


FOLDERS: dict[str, Callable[[Path], object]] = {
    "a Hugging Face folder that is not there": shutil.rmtree,
    "a Hugging Face folder with pickled weights": pickled_weights,
    "a Hugging Face folder with code of its own": with_code,
    "a Hugging Face folder whose image processor is code": lambda folder: edited(
        folder, "preprocessor_config.json", auto_map={"AutoImageProcessor": "other/place--code.Own"}
    ),
    "a Hugging Face folder without an image processor": without("preprocessor_config.json"),
    "a Hugging Face folder whose settings are no JSON": lambda folder: (
        folder / "config.json"
    ).write_text("<!DOCTYPE html>"),
    "a Hugging Face folder of a network that answers questions": lambda folder: edited(
        folder, "config.json", model_type="bert"
    ),
    "a Hugging Face folder that exchanges red and blue": lambda folder: edited(
        folder, "preprocessor_config.json", image_processor_type="MobileViTImageProcessor",
        do_flip_channel_order=True,
    ),
    "a Hugging Face folder without weights of the last layer": tensors(
        lambda weights: weights.pop("classifier.weight")
    ),
    "a Hugging Face folder with NaN in weights": tensors(
        lambda weights: weights["classifier.bias"].fill_(torch.nan)
    ),
    "a Hugging Face folder with an adapter": lambda folder: (
        folder / "adapter_config.json"
    ).write_text("{}"),
    "a Hugging Face folder whose weights lie elsewhere": shards_elsewhere,
    "a Hugging Face folder of classes that the data set lacks": lambda folder: edited(
        folder, "config.json", id2label={"0": "fish", "1": "bird"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("spoil", FOLDERS.values(), ids=FOLDERS)
def test_hugging_face_folders_that_cannot_be_used_are_refused(
    spoil: Callable[[Path], object], run: Run, tmp_path: Path, words: str
) -> None:
    folder = checkpoint(tmp_path / "network")
    spoil(folder)
    root = folder_of(tmp_path / "images", "cat/a.png")
    named = ["model=huggingface", f"models.huggingface.path={folder}"]
    assert words in sentence(run(*named, *images(root)), tmp_path)


def test_models_that_disagree_about_images_are_refused(run: Run, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png")
    models = [
        "model=timm", "models.timm.name=resnet18.a1_in1k", "+model@models.b=torchvision",
        "models.b.name=resnet18", "dataset=imagefolder", f"dataset.root={root}",
        "dataset.preprocessing.crop=models",
    ]  # fmt: skip
    assert "resnet18.a1_in1k: resize=288, crop=288, bicubic; resnet18" in sentence(
        run(*models), tmp_path
    )


# Networks given to the API


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


MODELS: dict[str, Callable[[], object]] = {
    "a part that stays in training mode": StaysInTraining,
    "dropout that eval mode does not end": DropsAtRandom,
    "a buffer that every call changes": CountsImages,
    "a buffer that every call replaces": ReplacesItsBuffer,
    "weights that every call changes": ChangesItsWeights,
    "an answer that depends on earlier calls": RemembersCalls,
    "batch normalisation by the batch": LooksAtTheBatch,
    "NaN logits": lambda: Gives(lambda logits: logits * torch.nan),
    "a NaN logit of changed images only": lambda: Gives(spoiled(float("nan"))),
    "an infinite logit of changed images only": lambda: Gives(spoiled(float("inf"))),
    "too few outputs for the labels": lambda: Gives(lambda logits: logits[:, :2]),
    "maps instead of logits": lambda: Gives(lambda logits: logits[:, :, None, None]),
    "classes instead of logits": lambda: Gives(lambda logits: logits.argmax(1)),
    "one row for all images": lambda: Gives(lambda logits: logits.mean(0, keepdim=True)),
    "a dictionary instead of logits": lambda: Gives(lambda logits: {"logits": logits}),
    "an error of its own": lambda: Gives(lambda logits: {}["missing"]),
    "a tuple instead of logits": lambda: Gives(lambda logits: (logits, logits)),
    "weights without values": lambda: Plain().to("meta"),
    "a function instead of a module": lambda: lambda images: images.flatten(1),
    "a module that cannot be copied": CannotBeCopied,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_network_that_cannot_be_measured_is_refused(
    make: Callable[[], object], words: str
) -> None:
    assert words in refusal(lambda: evaluate(make(), noise(3), [0, 1, 2], num=64, draws=2))


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


def test_a_network_that_gives_an_object_with_logits_is_taken_by_them() -> None:
    wrapped = Gives(lambda logits: SimpleNamespace(logits=logits, loss=None))
    found = evaluate(wrapped, noise(9), [1] * 9, num=64, draws=3)
    assert found.equals(evaluate(Plain(), noise(9), [1] * 9, num=64, draws=3))


# Other arguments


ARGUMENTS: dict[str, dict[str, object]] = {
    "labels as fractions": {"labels": [0.0, 0.7, 1.2]},
    "NaN among labels": {"labels": [0, 1, float("nan")]},
    "labels one-hot": {"labels": torch.eye(3, dtype=torch.int64)},
    "labels as words": {"labels": ["cat", "dog", "cat"]},
    "a negative label": {"labels": [0, -1, 1]},
    "a label beyond the outputs": {"labels": [0, 1, 4]},
    "too few labels": {"labels": [0, 1]},
    "a key twice": {"keys": ["a", "b", "a"]},
    "images as words": {"images": "images"},
    "one image without a batch": {"images": noise(3)[0]},
    "images of 0 to 255 as floats": {"images": noise(3).float()},
    "NaN among images": {"images": noise(3) / 255 * torch.nan},
    "images as 64-bit integers": {"images": noise(3).long()},
    "no image": {"images": noise(0), "labels": []},
    "draws=0": {"draws": 0},
    "draws as a word": {"draws": "many"},
    "draws=nan": {"draws": float("nan")},
    "draws=10^30": {"draws": 10**30},
    "num=10^30": {"num": 10**30},
    "num=nan": {"num": float("nan")},
    "amplitude=-1": {"amplitude": -1},
    "area=10^30": {"area": 10**30},
    "seed=-1": {"seed": -1},
    "seed as a word": {"seed": "many"},
    "batch_size=0": {"batch_size": 0},
    "batch_size=10^30": {"batch_size": 10**30},
    "a device that is not there": {"device": "cuda:99"},
    "an engine that is not there": {"engine": "abacus"},
}


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_wrong_argument_is_refused(
    arguments: dict[str, object], monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    # The sentence says how many there are.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    usual = {"images": noise(3), "labels": [0, 1, 2], "num": 4}
    assert words in refusal(lambda: evaluate(Plain(), **(usual | arguments)))
