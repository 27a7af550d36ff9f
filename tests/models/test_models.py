"""Networks with weights from files, packages and libraries, as classifiers of images in [0, 1]."""

import argparse
import hashlib
import os
import pickle
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from experiments.config import settings_of
from pixelrobust import load_bundled_images, load_network
from pixelrobust.errors import InputError
from pixelrobust.models import weights as known_weights
from pixelrobust.models.architectures import published_accuracy
from pixelrobust.models.build import Classifier, check_classifier, load_classifier
from pixelrobust.models.preprocessing import own_preprocessing
from pixelrobust.models.weights import package_file, weights_digest
from pixelrobust.settings import ModelSettings
from tests.models.cases import model

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

State = dict[str, Tensor]


def load(weights: Path | str, key: str = "mine", **changes: Any) -> Classifier:
    """A classifier of five classes by SqueezeNet 1.1, where nothing else is said."""
    return load_classifier(key, model(weights=str(weights), **{"classes": 5} | changes))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.squeezenet1_1(weights=None, num_classes=5).eval()


@pytest.fixture(scope="module")
def timm_network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=5).eval()


@pytest.fixture
def state(network: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.fixture
def weights(state: State, tmp_path: Path) -> Path:
    return safetensors(state, tmp_path / "sound.safetensors")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def safetensors(state: State, path: Path) -> Path:
    save_file(state, path)
    return path


def checkpoint(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def logits(classifier: Classifier, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return classifier.module(images)


def logits_by_hand(
    network: nn.Module,
    images: Tensor,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Tensor:
    channels = [(images[:, c] - mean[c]) / std[c] for c in range(3)]
    with torch.inference_mode():
        return network(torch.stack(channels, dim=1))


def test_a_safetensors_file_gives_the_networks_logits(weights, network, images):
    found = logits(load(weights), images)
    assert found.shape == (2, 5)
    torch.testing.assert_close(found, logits_by_hand(network, images))


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 90},
    "model": lambda state: {"model": state},
    "module.": lambda state: prefixed("module.", state),
    "state_dict with module.": lambda state: {"state_dict": prefixed("module.", state), "best": 0.5},
    "a compiled network": lambda state: {"model_state_dict": prefixed("_orig_mod.", state)},
    "compiled on several GPUs": lambda state: {"net": prefixed("_orig_mod.module.", state)},
    "Lightning's": lambda state: {"state_dict": prefixed("model.", state), "callbacks": {}},
    "timm's, with arguments and an accuracy": lambda state: {
        "args": argparse.Namespace(output=Path("/runs")), "metric": np.float64(76.1),
        "state_dict": state, "arch": "squeezenet1_1",
    },
    "averaged, with a counter": lambda state: {
        "n_averaged": torch.tensor(3), **prefixed("module.", state)
    },
    "with counted operations": lambda state: {
        **state, "total_ops": torch.zeros(1), "features.0.total_params": torch.zeros(1)
    },
    "behind an optimiser's": lambda state: {
        "optimizer": {"state": {k: {"momentum_buffer": torch.ones_like(value)}
                                for k, value in enumerate(state.values())}},
        "state_dict": state,
    },
    "twice the same": lambda state: {"model": state, "model_ema": dict(state)},
}  # fmt: skip


@pytest.mark.parametrize("match", ["names", "order"])
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_checkpoints_of_every_usual_form_give_the_networks_logits(
    tmp_path, state, network, images, wrap, match
):
    loaded = load(checkpoint(wrap(state), tmp_path / "mine.pth"), match=match)
    torch.testing.assert_close(logits(loaded, images), logits_by_hand(network, images))
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (
            "state_dict",
            "state_dict_ema",
            "(state_dict, state_dict_ema), and state_dict_ema is used",
        ),
        ("model_ema", "model", "(model_ema, model), and model_ema is used"),
        ("student", "teacher", "(student, teacher), and student is used"),
    ],
)
def test_of_two_networks_in_a_file_the_averaged_or_first_is_taken_and_told(
    tmp_path, state, one, other, told
):
    """As timm loads its trainer's checkpoints."""
    changed = {name: tensor + 1 for name, tensor in state.items()}
    loaded = load(checkpoint({one: state, other: changed}, tmp_path / "two.pth.tar"))
    expected = changed if "ema" in other else state
    assert torch.equal(loaded.module[1].classifier[1].bias, expected["classifier.1.bias"])
    (note,) = loaded.notes
    assert "two.pth.tar hold the network 2 times" in note
    assert told in note


def test_what_stands_beside_the_network_is_left_out_and_told(tmp_path, state, network, images):
    """As adversarially trained networks come, normalisation and attacker in one module."""
    content = {
        **prefixed("module.model.", state), **prefixed("module.attacker.model.", state),
        "module.normalizer.new_mean": torch.zeros(3, 1, 1),
    }  # fmt: skip
    loaded = load(checkpoint({"model": content}, tmp_path / "robust.pt"))
    torch.testing.assert_close(logits(loaded, images), logits_by_hand(network, images))
    (note,) = loaded.notes
    assert "module.normalizer.new_mean; tensors: 1), which is left out" in note


def test_in_python_the_choice_is_a_warning(tmp_path, state):
    changed = {name: tensor + 1 for name, tensor in state.items()}
    path = checkpoint({"model": state, "ema": {"module": changed}}, tmp_path / "two.pt")
    with pytest.warns(UserWarning, match=r"\(model, ema/module\), and ema/module is used"):
        load_network("squeezenet1_1", path, source="torchvision", classes=5)


@pytest.mark.parametrize(
    "name", ["mine.pt", "mine.bin", "MINE.PTH", "best.pth.tar", "last.ckpt", "mine.tar", "mine.th"]
)
def test_checkpoints_may_have_any_usual_suffix(tmp_path, state, name):
    path = checkpoint(state, tmp_path / name)
    assert not any(module.training for module in load(path).module.modules())


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (nn.Linear(2, 2), "it holds torch.nn.modules.linear.Linear, and loading"),
        (
            {"state_dict": {}, "schedule": Fraction(1, 2)},
            "it holds fractions.Fraction, and loading",
        ),
    ],
)
def test_a_pickle_that_is_refused_is_named_by_its_class(tmp_path, content, named):
    path = checkpoint(content, tmp_path / "whole.pth")
    with pytest.raises(InputError) as refused:
        load(path)
    assert named in str(refused.value)
    assert "x1b" not in str(refused.value)


def test_a_classifier_is_called_by_its_label_else_by_its_key(weights):
    assert load(weights, key="mine").name == "mine"
    assert load(weights, key="mine", label="SqueezeNet, ours").name == "SqueezeNet, ours"


def test_matching_by_order_ignores_names(tmp_path, state, network, images):
    renamed = {f"layer{number}": tensor for number, tensor in enumerate(state.values())}
    path = checkpoint(renamed, tmp_path / "renamed.pth")
    found = logits(load(path, match="order"), images)
    torch.testing.assert_close(found, logits_by_hand(network, images))


def with_last_bias(state: State, value: float) -> State:
    state["classifier.1.bias"][3] = value
    return state


WRITERS = {".pth": checkpoint, ".safetensors": safetensors}
UNUSABLE: dict[str, tuple[Callable[[State], Any], str, str]] = {
    "another architecture": (lambda _: nn.Linear(3, 5).state_dict(), "names", "52 tensors are missing"),
    "other names": (lambda state: {f"a{name}": value for name, value in state.items()}, "names", "afea"),
    "no last tensor": (lambda state: state.pop("classifier.1.bias") is None or state, "names",
                       r"classifier\.1\.bias"),
    "too few in order": (lambda state: dict(list(state.items())[:51]), "order",
                         "hold 51 tensors, the network has 52"),
    "another order": (lambda state: dict(reversed(state.items())), "order",
                      r"shape \(5,\), not \(64, 3, 3, 3\)"),
    "NaN": (lambda state: with_last_bias(state, torch.nan), "names", r"NaN .* in classifier\.1\.bias"),
    "infinity": (lambda state: with_last_bias(state, torch.inf), "order", r"in classifier\.1\.bias"),
    "an empty dictionary": (lambda _: {}, "names", "no named tensors"),
    "a number": (lambda _: {"epoch": 3}, "names", "no named tensors"),
    "a list": (lambda _: [1, 2], "names", "no named tensors"),
    "one tensor": (lambda _: torch.zeros(3), "names", "no named tensors"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "match", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_weights_that_do_not_fit_are_refused_by_the_name_of_the_file(
    tmp_path, state, make, match, words
):
    path = checkpoint(make(state), tmp_path / "odd.pth")
    with pytest.raises(InputError, match=rf"odd\.pth.*{words}"):
        load(path, match=match)


def test_weights_for_another_number_of_classes_are_refused(weights):
    with pytest.raises(InputError, match=r"sound\.safetensors.*models\.<name>\.classes"):
        load(weights, classes=6)


def test_matching_by_order_needs_a_format_that_keeps_order(weights):
    with pytest.raises(InputError, match=r"keeps no order.*match=names"):
        load(weights, match="order")


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_name(tmp_path, state, suffix, share):
    path = WRITERS[suffix](state, tmp_path / f"half{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"half\{suffix}"):
        load(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_of_anything_else_is_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"odd{suffix}"
    with pytest.raises(InputError, match=rf"odd\{suffix} does not exist"):
        load(path)
    path.mkdir()
    with pytest.raises(InputError, match=rf"odd\{suffix} does not exist"):
        load(path)
    path.rmdir()
    page, pointer = (
        b"<!DOCTYPE html>\n<p>Not Found</p>",
        b"version https://git-lfs.github.com/spec/v1",
    )
    for content in (b"", b"hello", b"GIF89a", b"\x80\x02", page, pointer):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"odd\{suffix} cannot be loaded"):
            load(path)


def test_an_old_file_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"old\.pth"):
            load(path)


def test_files_from_before_batches_were_counted_fit(tmp_path, images):
    torch.manual_seed(4)
    network = torchvision.models.resnet18(num_classes=5).eval()
    old = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(old) == len(network.state_dict()) - 20
    found = logits(load(checkpoint(old, tmp_path / "old.pth"), name="resnet18"), images)
    torch.testing.assert_close(found, logits_by_hand(network, images))


class Malicious:
    """Unpickles to a call that leaves a folder behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "squeezenet9"}, r"'squeezenet9'.*torchvision.*squeezenet1_1"),
        ({"name": "fasterrcnn_resnet50_fpn"}, "'fasterrcnn_resnet50_fpn'"),
        ({"source": "timm", "name": "efficientnet_zzz"}, r"'efficientnet_zzz'.*timm.*efficientnet"),
        ({"weights": "IMAGENET1K_V9"}, r"'IMAGENET1K_V9' .* for squeezenet1_1 \(IMAGENET1K_V1"),
        ({"source": "timm", "name": "resnet18"}, "'IMAGENET1K_V1' is neither 'pretrained'"),
        (
            {"source": "timm", "name": "resnet18.nonsense", "weights": "pretrained"},
            r"resnet18\.nonsense.*similar are resnet18\.",
        ),
        ({"classes": 5}, "classes=5 does not fit the published weights"),
        ({"weights": "package:no_such_weights/a.pth"}, "no-such-weights, which is not installed"),
    ],
)
def test_names_that_libraries_do_not_know_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        load(**{"weights": "IMAGENET1K_V1", "classes": 1000} | changes)


@pytest.fixture
def torchvision_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision keeps what it has downloaded, with no way to download more."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise URLError("no network here")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    # Files made on the spot have not the hashes that are in the names of published ones.
    monkeypatch.setattr(torch.hub, "HASH_REGEX", re.compile("(?!)"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def publish(
    torchvision_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any, bytes | State], Path]:
    """Puts a file made on the spot into the cache, as if torchvision published it."""

    def put(weights: Any, content: bytes | State) -> Path:
        made = torchvision_cache / "made.pth"
        made.write_bytes(content) if isinstance(content, bytes) else checkpoint(content, made)
        digest = hashlib.sha256(made.read_bytes()).hexdigest()[:8]
        url = f"https://nowhere.invalid/models/made-{digest}.pth"
        monkeypatch.setattr(weights.value, "url", url)
        return made.rename(torchvision_cache / url.rpartition("/")[2])

    return put


SQUEEZENET = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1


def test_published_weights_are_taken_from_torchvisions_cache(publish, images):
    torch.manual_seed(2)
    published = torchvision.models.squeezenet1_1(weights=None).eval()
    publish(SQUEEZENET, published.state_dict())
    found = logits(load("IMAGENET1K_V1", classes=1000), images)
    torch.testing.assert_close(found, logits_by_hand(published, images))


def densenet(classes: int = 1000) -> tuple[nn.Module, State]:
    """A DenseNet-121, and its weights under the names that torchvision's published files use."""
    torch.manual_seed(5)
    network = torchvision.models.densenet121(num_classes=classes).eval()
    published = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): value
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in published
    return network, published


def test_densenets_published_names_are_understood(publish, images, tmp_path):
    network, published = densenet()
    publish(torchvision.models.DenseNet121_Weights.IMAGENET1K_V1, published)
    from_cache = load("IMAGENET1K_V1", name="densenet121", classes=1000)
    own = load(checkpoint(published, tmp_path / "d.pth"), name="densenet121", classes=1000)
    for found in (from_cache, own):
        torch.testing.assert_close(logits(found, images), logits_by_hand(network, images))


def test_networks_that_transform_their_input_do_so_with_published_weights(publish):
    torch.manual_seed(6)
    weights = torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1
    plain = torchvision.models.googlenet(init_weights=False, aux_logits=True)
    publish(weights, plain.state_dict())
    expected = torchvision.models.googlenet(weights=weights).eval()
    images = torch.rand(1, 3, 64, 64)
    found = logits(load("IMAGENET1K_V1", name="googlenet", classes=1000), images)
    torch.testing.assert_close(found, logits_by_hand(expected, images))


def half(images: Tensor) -> Tensor:
    return (images - 0.5) / 0.5


def googlenet() -> nn.Module:
    torch.manual_seed(6)
    return torchvision.models.googlenet(init_weights=False, aux_logits=True).eval()


def test_a_file_that_torchvision_publishes_is_built_as_published(publish, tmp_path):
    """By its name, by the digits of its digest in another name, or by its digest."""
    weights, plain = torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1, googlenet()
    cached = publish(weights, plain.state_dict())
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = logits(load("IMAGENET1K_V1", name="googlenet", classes=1000), images)
    torch.testing.assert_close(expected, plain(half(images)).detach(), atol=1e-4, rtol=1e-4)
    digits = cached.stem.removeprefix("made-")
    converted = safetensors(plain.state_dict(), tmp_path / f"mine-{digits}-converted.safetensors")
    renamed = tmp_path / "renamed.pth"
    renamed.write_bytes(cached.read_bytes())
    for path in (cached, converted, renamed):
        found = load(path, name="googlenet", classes=1000)
        torch.testing.assert_close(logits(found, images), expected, atol=1e-4, rtol=1e-4)


def test_of_another_file_of_such_a_network_the_user_must_say(tmp_path):
    plain = googlenet()
    path = safetensors(plain.state_dict(), tmp_path / "mine.safetensors")
    with pytest.raises(
        InputError,
        match=r"mine\.safetensors is no file that is published for goog.*"
        r"mean=\[0\.5, .*mean=\[0\.485, .*give models\.<name>\.mean and std",
    ):
        load(path, name="googlenet", classes=1000)
    images = torch.rand(1, 3, 64, 64)
    for mean, std in ((IMAGENET_MEAN, IMAGENET_STD), ((0.5,) * 3, (0.5,) * 3)):
        found = load(path, name="googlenet", classes=1000, mean=mean, std=std)
        torch.testing.assert_close(logits(found, images), logits_by_hand(plain, images, mean, std))


@pytest.mark.parametrize(
    ("source", "name", "weights", "sizes", "accuracy"),
    [
        ("torchvision", "resnet50", "/w/resnet50-0676ba61.pth", [256], 0.7613),
        ("torchvision", "resnet50", "/w/resnet50-11ad3fa6.pth", [232], 0.80858),
        ("torchvision", "resnet50", "/w/ours.pth", [256, 232], None),
        ("torchvision", "resnet50", "IMAGENET1K_V2", [232], 0.80858),
        # Its other published file is half a network.
        ("torchvision", "vgg16", "/w/ours.pth", [256], None),
        ("timm", "resnet50", "/w/resnet50_a1_0-14fe96d1.pth", [288], None),
        ("timm", "resnet50", "/w/models--timm--resnet50.tv_in1k/x/model.safetensors", [256], None),
        ("timm", "resnet50.tv_in1k", "/w/ours.pth", [256], None),
    ],
)
def test_what_published_files_were_tested_with_and_how_well(
    monkeypatch, source, name, weights, sizes, accuracy
):
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    monkeypatch.setattr(known_weights, "_sha256", lambda *_: "0" * 64)
    monkeypatch.setattr(Path, "stat", lambda path: os.stat_result(range(10)))
    settings = model(source=source, name=name, weights=weights, classes=1000)
    assert [each.resize for each in own_preprocessing(settings)] == sizes
    assert published_accuracy(settings) == pytest.approx(accuracy)


def test_a_vision_transformer_for_larger_images_is_built_for_them(tmp_path):
    large = torchvision.models.vit_b_16(image_size=384)
    path = safetensors(large.state_dict(), tmp_path / "vit_b_16_swag-9ac1b537.safetensors")
    found = load(path, name="vit_b_16", classes=1000).module[1]
    assert found.image_size == 384


def test_another_file_in_torchvisions_cache_is_named(torchvision_cache):
    """It fits the network, so that nothing but its hash tells."""
    path = torchvision_cache / SQUEEZENET.url.rpartition("/")[2]
    checkpoint(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    with pytest.raises(
        InputError, match=rf"{re.escape(str(path))} is not what was published.*delete"
    ):
        load("IMAGENET1K_V1", classes=1000)


def test_another_file_that_a_download_brought_is_named(torchvision_cache, monkeypatch):
    def download(url: str, path: str, *rest: Any) -> None:
        Path(path).write_text("<!DOCTYPE html>")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(InputError, match="is not what was published under this name"):
        load("IMAGENET1K_V1", classes=1000)


def test_published_weights_that_cannot_be_loaded_are_named(publish):
    path = publish(SQUEEZENET, b"<!DOCTYPE html>")
    with pytest.raises(InputError, match=f"remove {re.escape(str(path))} if it is damaged"):
        load("IMAGENET1K_V1", classes=1000)


def test_code_in_published_weights_is_refused_whatever_their_digest(publish, tmp_path):
    mark = tmp_path / "mark"
    publish(SQUEEZENET, pickle.dumps({"weight": Malicious(mark)}, protocol=2))
    with pytest.raises(InputError, match="IMAGENET1K_V1 of squeezenet1_1 cannot be had"):
        load("IMAGENET1K_V1", classes=1000)
    assert not mark.exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_a_failing_download_from_torchvision_says_why_and_what_else_to_do(torchvision_cache):
    with pytest.raises(
        InputError, match=r"IMAGENET1K_V1 of squeezenet1_1.*no network here.*\.weights="
    ):
        load("IMAGENET1K_V1", classes=1000)


def test_a_failing_download_by_timm_says_why_and_what_else_to_do(monkeypatch):
    create = timm.create_model

    def without_network(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise URLError("no network here")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", without_network)
    with pytest.raises(InputError, match=r"tf_efficientnet_lite0.*no network here.*\.weights="):
        load("pretrained", source="timm", name="tf_efficientnet_lite0", classes=1000)


@pytest.fixture
def package(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an installed package that carries weights."""
    folder = tmp_path / "site" / "carries_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('need not be imported')\n")
    checkpoint(state, folder / "models" / "mine-1234.pth")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return "carries_weights"


def test_weights_are_taken_from_an_installed_package(package, network, images):
    found = logits(load(f"package:{package}/models/mine-1234.pth"), images)
    torch.testing.assert_close(found, logits_by_hand(network, images))
    with pytest.raises(InputError, match=r"carries_weights/models/other\.pth"):
        load(f"package:{package}/models/other.pth")


def test_a_timm_network_is_normalised_as_timm_says(tmp_path, timm_network, images):
    path = checkpoint(timm_network.state_dict(), tmp_path / "lite0.pth")
    found = logits(load(path, source="timm", name="tf_efficientnet_lite0"), images)
    half = (0.5, 0.5, 0.5)
    torch.testing.assert_close(found, logits_by_hand(timm_network, images, half, half))


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), ((0.1, 0.2, 0.3), None), (None, (0.4, 0.5, 0.6))],
    ids=["both", "mean", "std"],
)
def test_an_explicit_mean_or_std_wins(weights, network, images, mean, std):
    found = logits(load(weights, mean=mean, std=std), images)
    expected = logits_by_hand(network, images, mean or IMAGENET_MEAN, std or IMAGENET_STD)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, logits_by_hand(network, images), rtol=1e-3)


def test_digests_tell_weights_and_normalisation_apart_but_not_files(tmp_path, weights, state):
    own = load(weights).weights_sha256
    assert len(own) == 64
    assert load(checkpoint({"model": state}, tmp_path / "a.pth")).weights_sha256 == own
    assert load(weights, mean=IMAGENET_MEAN, std=IMAGENET_STD).weights_sha256 == own
    state["features.0.weight"][0, 0, 0, 0] += 1e-6
    others = {
        load(safetensors(state, tmp_path / "changed.safetensors")).weights_sha256,
        load(weights, mean=(0.5, 0.5, 0.5)).weights_sha256,
        load(weights, std=(0.5, 0.5, 0.5)).weights_sha256,
    }
    assert len(others - {own}) == 3


def test_buffers_shapes_and_types_enter_the_digest():
    norm = nn.BatchNorm2d(2)
    plain = weights_digest(norm)
    assert weights_digest(nn.BatchNorm2d(2)) == plain
    norm.num_batches_tracked += 1
    assert weights_digest(norm) != plain
    digests = {
        weights_digest(nn.ParameterDict({name: torch.zeros(shape, dtype=dtype)}))
        for name, shape, dtype in [
            ("a", (2, 3), torch.float32),
            ("a", (3, 2), torch.float32),
            ("a", (3, 4), torch.float16),
            ("b", (2, 3), torch.float32),
        ]
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("module", "size", "words"),
    [
        (torchvision.models.squeezenet1_1(weights=None, num_classes=5), (8, 9), "images of 8 x 9"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), (30, 40), "images of 30 x 40"),
    ],
    ids=["too small", "another size"],
)
def test_a_network_that_does_not_fit_the_images_is_refused(module, size, words):
    with pytest.raises(InputError, match=f"model mine .*{words}"):
        check_classifier(Classifier("mine", module.eval(), ""), size, np.array([0]))


# SqueezeNet as its authors published it

CAFFE = package_file("package:ndf/example_models/weights/squeezenet_weights.pkl")


def caffe() -> ModelSettings:
    return settings_of("model=squeezenet_caffe").models["squeezenet_caffe"]


def test_the_authors_squeezenet_is_for_rgb_images_and_fits_torchvisions_layers():
    assert hashlib.sha256(CAFFE.read_bytes()).hexdigest().startswith("f286bbf493e63899")
    with CAFFE.open("rb") as file:
        # A file whose hash is known.
        layers = pickle.load(file)
    tensors = known_weights.read_weights(CAFFE, "caffe")
    network = torchvision.models.squeezenet1_1(weights=None)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        name: tensor.shape for name, tensor in network.state_dict().items()
    }
    # Kernels are (height, width, inputs, outputs) there, and conv1's inputs blue, green, red.
    kernel, bias = layers["conv1"]
    red, blue = tensors["features.0.weight"][7, 0], tensors["features.0.weight"][7, 2]
    assert red.tolist() == kernel[:, :, 2, 7].tolist()
    assert blue.tolist() == kernel[:, :, 0, 7].tolist()
    assert tensors["features.0.bias"].tolist() == bias.tolist()
    kernel, _ = layers["fire5/expand3x3"]
    assert tensors["features.7.expand3x3.weight"][3, 2, 0, 1].item() == kernel[0, 1, 2, 3]
    kernel, _ = layers["fire9/squeeze1x1"]
    assert tensors["features.12.squeeze.weight"][3, 2, 0, 0].item() == kernel[0, 0, 2, 3]


def test_the_authors_squeezenet_sees_pixels_less_the_mean_of_their_images():
    """In 0..255, less 123.68, 116.779 and 103.939, and not divided by anything."""
    first = torch.zeros(1, 3, 1, 1)
    first[0, :, 0, 0] = torch.tensor([200, 100, 0]) / 255
    (normalised,) = load_classifier("mine", caffe()).module[0](first)
    expected = [200 - 123.68, 100 - 116.779, -103.939]
    assert normalised.flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_the_authors_squeezenet_is_right_about_14_of_the_20_bundled_images():
    """Measured beforehand with a loader of its own; other orders of channels are right about fewer."""
    images = load_bundled_images()
    found = logits(load_classifier("mine", caffe()), torch.tensor(images.pixels) / 255)
    assert int((found.argmax(dim=1).numpy() == images.labels).sum()) == 14


def test_the_authors_squeezenet_has_no_accuracy_of_torchvisions():
    assert published_accuracy(caffe()) is None
    assert published_accuracy(model(weights="IMAGENET1K_V1", classes=1000)) is not None


def test_another_file_than_the_authors_is_refused_unread(tmp_path):
    path = tmp_path / "squeezenet_weights.pkl"
    content = bytearray(CAFFE.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not the one that match=caffe reads: .* reinstall ndf"):
        load(path, match="caffe", classes=1000)


class _Runs:
    """Unpickled by a careless reader, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_names_more_than_arrays_is_refused_even_under_the_right_hash(
    tmp_path, monkeypatch
):
    """As if somebody had found another file of that hash."""
    path, trap = tmp_path / "squeezenet_weights.pkl", tmp_path / "trap"
    path.write_bytes(pickle.dumps({"conv1": [_Runs(trap), np.zeros(64)]}))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(known_weights, "_CAFFE_SHA256", digest)
    with pytest.raises(InputError, match="could run code") as told:
        load(path, match="caffe", classes=1000)
    assert "\n" not in str(told.value)
    assert not trap.exists()
