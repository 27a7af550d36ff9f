"""One image size a run: the models' own, where they agree, or by key."""

import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from experiments.config import settings_of
from pixelrobust.errors import InputError
from pixelrobust.settings import RunSettings
from tests.conftest import Run
from tests.fault_cases import folder_of, manifest

FOLDER = ["dataset=imagefolder", "dataset.root=/images"]
LITES = "model=[efficientnet_lite0,efficientnet_lite1,efficientnet_lite2]"


def timm_model(name: str, key: str = "timm") -> list[str]:
    group = "model=timm" if key == "timm" else f"+model@models.{key}=timm"
    return [group, f"models.{key}.name={name}"]


def shown(settings: RunSettings) -> tuple[int, int, str]:
    found = settings.dataset.preprocessing
    return found.resize, found.crop, found.interpolation


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (timm_model("resnet50.a1_in1k"), (288, 288, "bicubic")),
        (timm_model("tf_efficientnet_lite1"), (272, 240, "bicubic")),
        (timm_model("vgg11.tv_in1k"), (256, 224, "bilinear")),
        (["model=torchvision", "models.torchvision.name=resnet50"], (256, 224, "bilinear")),
        (["model=torchvision", "models.torchvision.name=resnet50",
          "models.torchvision.weights=IMAGENET1K_V2"], (232, 224, "bilinear")),
        (["model=torchvision", "models.torchvision.name=efficientnet_b3"], (320, 300, "bicubic")),
        (["model=resnet101"], (256, 224, "bilinear")),
    ],
)  # fmt: skip
def test_a_networks_own_preprocessing_is_what_its_library_says(
    model: list[str], expected: tuple[int, int, str]
) -> None:
    assert shown(settings_of(*model, *FOLDER)) == expected
    # The paper's protocol stands for the paper's data sets.
    assert shown(settings_of(*model, "dataset=imagenet")) == (256, 224, "bilinear")


def test_what_is_given_wins_and_the_rest_keeps_its_proportion() -> None:
    model = timm_model("tf_efficientnet_lite1")
    for given, expected in (
        (["interpolation=nearest"], (272, 240, "nearest")),
        (["crop=120"], (136, 120, "bicubic")),
        (["resize=136"], (136, 120, "bicubic")),
        (["crop=10", "resize=20"], (20, 10, "bicubic")),
    ):
        keys = [f"dataset.preprocessing.{each}" for each in given]
        assert shown(settings_of(*model, *FOLDER, *keys)) == expected


def test_models_that_disagree_see_the_papers_size_unless_they_must_agree() -> None:
    assert shown(settings_of(LITES, *FOLDER)) == (256, 224, "bilinear")
    own = [f"dataset.preprocessing.{key}=models" for key in ("resize", "crop", "interpolation")]
    with pytest.raises(InputError) as refused:
        settings_of(LITES, *FOLDER, *own)
    assert re.search(
        r"which disagree \(efficientnet_lite0: resize=256, crop=224, bicubic; efficientnet_lite1: "
        r"resize=272, crop=240, bicubic; efficientnet_lite2: .*\).*give dataset\.preprocessing\.resize",
        str(refused.value),
    )
    # They agree on what is left.
    sizes = ["dataset.preprocessing.resize=256", "dataset.preprocessing.crop=224", own[2]]
    assert shown(settings_of(LITES, *FOLDER, *sizes)) == (256, 224, "bicubic")


def test_models_that_only_select_or_say_nothing(tmp_path: Path) -> None:
    models = [*timm_model("resnet50.a1_in1k"), "selection.models=[timm,vgg16]"]
    assert shown(settings_of(*models, *FOLDER)) == (256, 224, "bilinear")
    model = ["model=checkpoint", f"models.checkpoint.path={tmp_path}"]
    assert shown(settings_of(*model, *FOLDER)) == (256, 224, "bilinear")
    with pytest.raises(InputError, match="say nothing of it"):
        settings_of(*model, *FOLDER, "dataset.preprocessing.crop=models")


def test_weights_that_are_not_published_need_a_size_where_published_ones_differ(
    tmp_path: Path,
) -> None:
    (tmp_path / "ours.pth").write_bytes(b"")
    model = [
        "model=torchvision", "models.torchvision.name=resnet50",
        f"models.torchvision.weights={tmp_path / 'ours.pth'}", *FOLDER,
    ]  # fmt: skip
    with pytest.raises(InputError) as refused:
        settings_of(*model)
    assert re.search(
        r"ours\.pth is no file that is published for resnet50, whose images are prepared in different "
        r"ways \(resize=256, crop=224, bilinear; resize=232, crop=224, bilinear\); give "
        r"dataset\.preprocessing\.resize, crop and interpolation",
        str(refused.value),
    )
    given = [f"dataset.preprocessing.{each}" for each in ("resize=240", "crop=224")]
    assert shown(settings_of(*model, *given)) == (240, 224, "bilinear")


def evaluated(name: str, run: Run, folder: Path, *keys: str) -> str:
    """Evaluate such a network, with weights that take everything for a cat; return what was printed."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=2)
    with torch.no_grad():
        network.get_classifier().bias[0] += 10
    save_file(network.state_dict(), folder / "w.safetensors")
    root = folder_of(folder / "images", "cat/a.png", "dog/b.png")
    ended = run(
        *timm_model(name), f"models.timm.weights={folder / 'w.safetensors'}", "models.timm.classes=2",
        "perturbation.num=4", "dataset=imagefolder", f"dataset.root={root}", "dataset.classes=folders",
        *keys,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    return " ".join(ended.out.split())


def test_a_network_is_shown_what_its_library_would_test_it_with(run: Run, tmp_path: Path) -> None:
    assert "made for others" not in evaluated("resnet18.a1_in1k", run, tmp_path)
    record = manifest(tmp_path / "results")
    assert record["image_size"] == [288, 288]
    preprocessing = record["config"]["dataset"]["preprocessing"]
    assert preprocessing == {"resize": 288, "crop": 288, "interpolation": "bicubic"}


def test_networks_that_were_made_for_other_images_are_named(run: Run, tmp_path: Path) -> None:
    smaller = ["dataset.preprocessing.crop=32", "dataset.preprocessing.resize=40"]
    told = evaluated("test_resnet.r160_in1k", run, tmp_path, *smaller)
    others = "made for others: test_resnet.r160_in1k (resize=168"
    assert f"resize=40, crop=32, bilinear; {others}" in told


def test_a_sweep_says_it_once(run: Run, tmp_path: Path) -> None:
    smaller = ["dataset.preprocessing.crop=32", "dataset.preprocessing.resize=40"]
    told = evaluated("test_resnet.r160_in1k", run, tmp_path, *smaller, "-m", "draws=1,2")
    assert told.count("made for others: test_resnet.r160_in1k") == 1
    assert "2 of 2 jobs finished" in told
