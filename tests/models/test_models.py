"""Networks with weights from files, packages and libraries, as classifiers of images in [0, 1]."""

import hashlib
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from pixelrobust.errors import InputError
from pixelrobust.models.build import Classifier, check_classifier, load_classifier
from pixelrobust.models.weights import weights_digest
from pixelrobust.settings import ModelSettings

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

State = dict[str, Tensor]


def load(weights: Path | str, key: str = "mine", **changes: Any) -> Classifier:
    """A classifier of five classes by SqueezeNet 1.1, where nothing else is said."""
    fields = {
        "source": "torchvision",
        "name": "squeezenet1_1",
        "weights": str(weights),
        "match": "names",
        "classes": 5,
        "mean": None,
        "std": None,
        "label": None,
    } | changes
    return load_classifier(key, ModelSettings(**fields))


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


# Weights from files


def test_a_safetensors_file_gives_the_networks_logits(weights, network, images):
    found = logits(load(weights), images)
    assert found.shape == (2, 5)
    torch.testing.assert_close(found, logits_by_hand(network, images))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 90},
        lambda state: {"model": state},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {
            "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
            "best": 0.5,
        },
    ],
    ids=["bare", "state_dict", "model", "module.", "state_dict with module."],
)
def test_checkpoints_of_every_usual_form_give_the_networks_logits(
    tmp_path, state, network, images, wrap
):
    path = checkpoint(wrap(state), tmp_path / "mine.pth")
    torch.testing.assert_close(logits(load(path), images), logits_by_hand(network, images))


@pytest.mark.parametrize("name", ["mine.pt", "mine.bin", "MINE.PTH"])
def test_checkpoints_may_have_any_usual_suffix(tmp_path, state, network, images, name):
    path = checkpoint(state, tmp_path / name)
    torch.testing.assert_close(logits(load(path), images), logits_by_hand(network, images))


def test_the_module_is_in_eval_mode(weights, images):
    classifier = load(weights)
    assert not any(module.training for module in classifier.module.modules())
    torch.testing.assert_close(logits(classifier, images), logits(classifier, images))


def test_a_classifier_is_called_by_its_label_else_by_its_key(weights):
    assert load(weights, key="mine").name == "mine"
    assert load(weights, key="mine", label="SqueezeNet, ours").name == "SqueezeNet, ours"


def test_matching_by_order_ignores_names(tmp_path, state, network, images):
    renamed = {f"layer{number}": tensor for number, tensor in enumerate(state.values())}
    path = checkpoint(renamed, tmp_path / "renamed.pth")
    found = logits(load(path, match="order"), images)
    torch.testing.assert_close(found, logits_by_hand(network, images))
    with pytest.raises(InputError, match=r"renamed\.pth.*layer0"):
        load(path, match="names")


def test_matching_by_order_refuses_another_number_of_tensors(tmp_path, state):
    del state["classifier.1.bias"]
    path = checkpoint(state, tmp_path / "short.pth")
    with pytest.raises(InputError, match=r"short\.pth hold 51 tensors, the network has 52"):
        load(path, match="order")


def test_matching_by_order_refuses_other_shapes(tmp_path, state):
    path = checkpoint(dict(reversed(state.items())), tmp_path / "reversed.pth")
    with pytest.raises(InputError, match=r"reversed\.pth.*shape \(5,\), not \(64, 3, 3, 3\)"):
        load(path, match="order")


# Files that cannot be used


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = safetensors(nn.Linear(3, 5).state_dict(), tmp_path / "linear.safetensors")
    with pytest.raises(InputError, match=r"linear\.safetensors do not fit.*52 tensors are missing"):
        load(path)


def test_weights_that_lack_a_tensor_are_refused_by_its_name(tmp_path, state):
    del state["classifier.1.bias"]
    path = safetensors(state, tmp_path / "short.safetensors")
    with pytest.raises(InputError, match=r"short\.safetensors.*classifier\.1\.bias"):
        load(path)


def test_weights_for_another_number_of_classes_are_refused(weights):
    with pytest.raises(InputError, match=r"sound\.safetensors.*models\.<name>\.classes"):
        load(weights, classes=6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("match", ["names", "order"])
def test_weights_that_are_not_finite_are_refused(tmp_path, state, value, match):
    state["classifier.1.bias"][3] = value
    path = checkpoint(state, tmp_path / "unsound.pth")
    with pytest.raises(InputError, match=r"unsound\.pth.*classifier\.1\.bias"):
        load(path, match=match)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_name(tmp_path, state, suffix, share):
    write = safetensors if suffix == ".safetensors" else checkpoint
    path = write(state, tmp_path / f"half{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"half\{suffix}"):
        load(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "text",
    ["<!DOCTYPE html>\n<p>Not Found</p>\n", "version https://git-lfs.github.com/spec/v1\n"],
    ids=["web page", "Git LFS pointer"],
)
def test_a_text_file_is_refused_by_name(tmp_path, suffix, text):
    path = tmp_path / f"page{suffix}"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"page\{suffix}"):
        load(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"Repository Not Found", b"GIF89a", b"\x80\x02"]
)
def test_any_other_bytes_are_refused_by_name(tmp_path, content):
    path = tmp_path / "odd.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"odd\.pth cannot be loaded"):
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


def test_matching_by_order_needs_a_format_that_keeps_order(weights):
    with pytest.raises(InputError, match=r"keeps no order.*match=names"):
        load(weights, match="order")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_missing_file_is_refused_by_name(tmp_path, suffix):
    with pytest.raises(InputError, match=rf"absent\{suffix} does not exist"):
        load(tmp_path / f"absent{suffix}")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], torch.zeros(3)], ids=repr)
def test_a_file_without_named_tensors_is_refused_by_name(tmp_path, content):
    path = checkpoint(content, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=r"odd\.pth"):
        load(path)


class Malicious:
    """Unpickles to a call that leaves a folder behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("form", ["checkpoint", "pickle"])
def test_a_file_that_holds_code_is_refused_and_the_code_not_run(tmp_path, state, form):
    mark, path = tmp_path / "mark", tmp_path / "trap.pth"
    content = {"state_dict": state, "extra": Malicious(mark)}
    if form == "checkpoint":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(InputError, match=r"trap\.pth"):
        load(path)
    assert not mark.exists()


# Networks and published weights by name


def test_an_unknown_network_of_torchvision_is_refused(weights):
    with pytest.raises(InputError, match=r"'squeezenet9'.*torchvision.*squeezenet1_1"):
        load(weights, name="squeezenet9")


def test_a_torchvision_network_that_classifies_no_images_is_refused(weights):
    with pytest.raises(InputError, match="'fasterrcnn_resnet50_fpn'"):
        load(weights, name="fasterrcnn_resnet50_fpn")


def test_an_unknown_network_of_timm_is_refused(weights):
    with pytest.raises(InputError, match=r"'efficientnet_zzz'.*timm.*efficientnet"):
        load(weights, source="timm", name="efficientnet_zzz")


def test_unknown_published_weights_of_torchvision_are_refused():
    with pytest.raises(InputError, match=r"'IMAGENET1K_V9' .* for squeezenet1_1 \(IMAGENET1K_V1"):
        load("IMAGENET1K_V9")


def test_unknown_published_weights_of_timm_are_refused():
    with pytest.raises(InputError, match=r"'IMAGENET1K_V1' is neither 'pretrained'"):
        load("IMAGENET1K_V1", source="timm", name="resnet18")


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
        if isinstance(content, bytes):
            made.write_bytes(content)
        else:
            checkpoint(content, made)
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


def test_published_weights_have_a_thousand_outputs(torchvision_cache):
    with pytest.raises(InputError, match="classes=5 does not fit the published weights"):
        load("IMAGENET1K_V1", classes=5)


def test_another_file_in_torchvisions_cache_is_named(torchvision_cache):
    path = torchvision_cache / SQUEEZENET.url.rpartition("/")[2]
    path.write_text("<!DOCTYPE html>")
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


def test_an_unknown_tag_of_timm_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"resnet18\.nonsense.*similar are resnet18\."):
        load("pretrained", source="timm", name="resnet18.nonsense", classes=1000)


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


# Packages that carry weights


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


def test_a_file_that_the_package_does_not_carry_is_refused(package):
    with pytest.raises(InputError, match=r"carries_weights/models/other\.pth"):
        load(f"package:{package}/models/other.pth")


def test_weights_of_a_package_that_is_not_installed_are_refused_by_its_name():
    with pytest.raises(InputError, match="no-such-weights, which is not installed"):
        load("package:no_such_weights/models/a.pth")


# Normalisation


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


# Digests


def test_equal_weights_have_equal_digests_whatever_file_they_come_from(tmp_path, weights, state):
    digest = load(weights).weights_sha256
    assert len(digest) == 64
    assert load(checkpoint({"model": state}, tmp_path / "a.pth")).weights_sha256 == digest


def test_a_single_changed_value_changes_the_digest(tmp_path, weights, state):
    state["features.0.weight"][0, 0, 0, 0] += 1e-6
    changed = safetensors(state, tmp_path / "changed.safetensors")
    assert load(changed).weights_sha256 != load(weights).weights_sha256


def test_other_normalisation_changes_the_digest(weights):
    digests = {
        load(weights).weights_sha256,
        load(weights, mean=(0.5, 0.5, 0.5)).weights_sha256,
        load(weights, std=(0.5, 0.5, 0.5)).weights_sha256,
    }
    assert len(digests) == 3
    assert load(weights, mean=IMAGENET_MEAN, std=IMAGENET_STD).weights_sha256 in digests


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


# Fitness for a run


def classifier(module: nn.Module) -> Classifier:
    return Classifier("mine", module.eval(), "")


def test_a_classifier_that_fits_passes(weights):
    check_classifier(load(weights), (64, 64), labels=4)


@pytest.mark.parametrize(
    ("module", "size"),
    [
        (torchvision.models.squeezenet1_1(weights=None, num_classes=5), (8, 9)),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), (30, 40)),
    ],
    ids=["too small", "another size"],
)
def test_images_of_a_size_that_the_network_cannot_take_are_refused(module, size):
    with pytest.raises(InputError, match=f"mine cannot take images of {size[0]} x {size[1]}"):
        check_classifier(classifier(module), size, labels=0)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(3, 5, 1), r"\(1, 5, 16, 16\)"),
        (nn.Flatten(0), r"\(768,\)"),
        (nn.Flatten(0, 1), r"\(3, 16, 16\)"),
    ],
    ids=["maps", "vector", "no batch"],
)
def test_outputs_that_are_not_one_row_an_image_are_refused(module, shape):
    with pytest.raises(InputError, match=f"mine gives outputs of shape {shape}"):
        check_classifier(classifier(module), (16, 16), labels=0)


def test_a_label_without_an_output_is_refused(weights):
    with pytest.raises(InputError, match=r"label 5 is out of range for model mine.* 5 outputs"):
        check_classifier(load(weights), (64, 64), labels=5)
