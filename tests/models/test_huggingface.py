"""Image classifiers of Hugging Face's transformers, from folders made on the spot."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from pixelrobust import InputError, evaluate
from pixelrobust.datasets.classes import (
    imagenet_class_names,
    imagenet_classes,
    imagenet_wnids,
    names_in,
)
from pixelrobust.models.build import Classifier, arrange_outputs, has_names, load_classifier
from pixelrobust.models.huggingface import read_folder
from pixelrobust.models.preprocessing import own_preprocessing
from tests.conftest import Run, from_setup_dev
from tests.fault_cases import folder_of, manifest, sentence
from tests.models.cases import KINDS, checkpoint, edited, hugging_face, model, noise, picture

transformers = from_setup_dev("transformers")

pytestmark = pytest.mark.usefixtures("one_thread")


def load(folder: Path, **values: Any) -> Classifier:
    return load_classifier("mine", hugging_face(folder, **values))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers_own_pipeline(kind: str, tmp_path: Path) -> None:
    """Its image processor and model, on an image that needs no resizing."""
    folder = checkpoint(tmp_path, kind)
    image, pixels = picture()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    given = processor(images=image, do_resize=False, do_center_crop=False, return_tensors="pt")
    floats = torch.tensor(pixels.transpose(2, 0, 1)[None] / 255, dtype=torch.float32)
    with torch.no_grad():
        found = load(folder).module(floats)
        torch.testing.assert_close(found, model(**given).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "resize", "crop", "interpolation", "mean", "std"),
    [
        ("vit", 32, 32, "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        # 64 / 0.875, and then a crop.
        ("convnext", 73, 64, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        # Values go up to 2, so mean and std are halved.
        ("resnet", 40, 32, "bicubic", (0.240727, 0.228914, 0.204105), (0.134315, 0.130651, 0.137889)),
    ],
)  # fmt: skip
def test_a_folder_says_what_its_images_are_like(
    kind: str, resize: int, crop: int, interpolation: str,
    mean: tuple[float, ...], std: tuple[float, ...], tmp_path: Path,
) -> None:  # fmt: skip
    found = read_folder(checkpoint(tmp_path, kind))
    own = found.preprocessing
    assert own
    assert (own.resize, own.crop, own.interpolation) == (resize, crop, interpolation)
    assert found.mean == pytest.approx(mean, abs=2e-6)
    assert found.std == pytest.approx(std, abs=2e-6)
    assert found.labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("kind", "resize", "crop"),
    [
        ("Beit", 224, 224), ("DeiT", 256, 224), ("Levit", 256, 224), ("PoolFormer", 248, 224),
        # It divides by std twice.
        ("EfficientNet", 346, 346),
    ],
)  # fmt: skip
def test_other_image_processors_are_read_as_they_work(
    kind: str, resize: int, crop: int, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path)
    processor = getattr(transformers, f"{kind}ImageProcessor")()
    processor.save_pretrained(folder)
    found = read_folder(folder)
    own = found.preprocessing
    assert own
    assert (own.resize, own.crop, own.interpolation) == (resize, crop, "bicubic")
    image, pixels = picture()
    given = processor(images=image, do_resize=False, do_center_crop=False, return_tensors="np")
    expected = (pixels / 255 - found.mean) / found.std
    assert np.allclose(given["pixel_values"][0].transpose(1, 2, 0), expected, atol=1e-4)


def test_old_files_say_sizes_as_numbers(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    content = {
        "crop_pct": 0.875, "feature_extractor_type": "ConvNextFeatureExtractor", "resample": 3,
        "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": 224, "do_normalize": True,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    own = read_folder(folder).preprocessing
    assert own
    assert (own.resize, own.crop) == (256, 224)


def test_an_image_processor_may_leave_colours_as_they_are(tmp_path: Path) -> None:
    folder = edited(checkpoint(tmp_path), "preprocessor_config.json", do_normalize=False)
    found = read_folder(folder)
    assert (found.mean, found.std) == ((0, 0, 0), (1, 1, 1))
    found = read_folder(edited(folder, "preprocessor_config.json", do_rescale=False))
    assert found.std == pytest.approx([1 / 255] * 3, abs=1e-6)


def test_a_mean_and_std_of_ones_own_need_no_image_processor(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    (folder / "preprocessor_config.json").unlink()
    half = (0.5, 0.5, 0.5)
    module = load(folder, mean=half, std=half).module
    assert own_preprocessing(hugging_face(folder, mean=half, std=half)) == ()
    assert module[0].mean.flatten().tolist() == [0.5, 0.5, 0.5]


def test_half_precision_is_computed_in_float32(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    half = transformers.AutoModelForImageClassification.from_pretrained(folder).half()
    half.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    module = load(folder).module
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert module(torch.rand(1, 3, 32, 32)).dtype == torch.float32


def test_loading_downloads_nothing_and_leaves_settings_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants

    seen = []
    load_model = transformers.AutoModelForImageClassification.from_pretrained

    def watched(*arguments: Any, **options: Any) -> Any:
        seen.append(
            (constants.HF_HUB_OFFLINE, options["local_files_only"], options["trust_remote_code"])
        )
        return load_model(*arguments, **options)

    monkeypatch.setattr(transformers.AutoModelForImageClassification, "from_pretrained", watched)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    load(checkpoint(tmp_path))
    assert seen == [(True, True, False)]
    assert constants.HF_HUB_OFFLINE is False


def order(labels: list[str], classes: list[tuple[str, ...]]) -> list[int]:
    """For each class of the data set, which output tells of it."""
    named = tuple(map(names_in, labels))
    last = arrange_outputs("mine", named, tuple(classes)) if has_names(named) else None
    given = torch.arange(1.0, len(labels) + 1)[None]
    return [int(value) - 1 for value in (last(given) if last else given)[0].clamp(min=0)]


def test_outputs_are_brought_into_the_order_of_the_data_sets_classes() -> None:
    classes = [("cat",), ("dog",)]
    assert order(["dog", "cat"], classes) == [1, 0]
    # A bird is no class of the data set, and can win all the same.
    assert order(["dog", "bird", "cat"], classes) == [2, 0, 1]
    # Nothing is ever taken for a dog.
    assert order(["cat", "bird"], classes) == [0, -1, 1]
    assert order(["Dog", "house_cat"], [("house cat", "n1"), ("dog", "hound", "n2")]) == [1, 0]
    # Nor has an output without a name a class.
    assert order(["dog", "", "cat"], classes) == [2, 0, 1]
    # These are no names, and leave outputs in their order.
    assert order(["LABEL_0", "LABEL_1"], classes) == order(["0", "1"], classes) == [0, 1]


def test_imagenets_own_names_are_in_imagenets_order() -> None:
    """It has two cranes, and a maillot that is the tank suit as well as one that is not."""
    names = [", ".join(own) for own in imagenet_class_names()]
    classes = [
        (*own, wnid) for own, wnid in zip(imagenet_class_names(), imagenet_wnids(), strict=True)
    ]
    assert order(names, classes) == list(range(1000))
    assert order(list(imagenet_wnids()), classes) == list(range(1000))
    swapped = [names[1], names[0], *names[2:]]
    assert order(swapped, classes) == [1, 0, *range(2, 1000)]


def test_names_that_stand_twice_are_settled_by_their_order() -> None:
    """In ImageNet's order with and without a background, and sorted by name."""
    firsts = [names[0] for names in imagenet_class_names()]
    assert [firsts.count(name) for name in ("crane", "maillot")] == [2, 2]
    classes = list(imagenet_classes())
    assert order(firsts, classes) == list(range(1000))
    assert order(["background", *firsts], classes)[:1000] == list(range(1, 1001))
    # Polecat is a name of the skunk too, and Cardigan one of a dog.
    by_name = sorted(range(1000), key=lambda index: firsts[index].casefold())
    assert order([firsts[index] for index in by_name], classes) == np.argsort(by_name).tolist()


def test_labels_of_synset_files_are_found_by_their_ids() -> None:
    lines = [
        f"{wnid} {', '.join(names)}"
        for wnid, names in zip(imagenet_wnids(), imagenet_class_names(), strict=True)
    ]
    assert order(lines[::-1], list(imagenet_classes())) == list(range(999, -1, -1))
    # Without ids among the classes, names count.
    assert order(lines[:2], [("goldfish",), ("tench",)]) == [1, 0]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            ["fish", "bird"],
            r"none of the outputs .*\(fish, bird\).* class .*\(cat, dog, crane, …\)",
        ),
        (["cat", "Cat"], "two outputs of model mine are the class 'cat'"),
        (["crane"], "the output 'crane' of model mine fits 2 classes"),
    ],
)
def test_outputs_that_fit_no_data_set_are_refused(labels: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        arrange_outputs(
            "mine",
            tuple(map(names_in, labels)),
            (("cat",), ("dog",), ("crane", "a"), ("crane", "b")),
        )


@pytest.mark.parametrize("engine", ["eager", "openvino"])
def test_a_folder_is_evaluated_at_its_own_size_with_classes_by_name(
    engine: str, run: Run, tmp_path: Path
) -> None:
    """It takes everything for a dog, which is its first output and the data set's second class."""
    folder = checkpoint(tmp_path / "vit", labels=["dog", "bird", "cat"], favourite=0)
    root = folder_of(tmp_path / "images", "cat/a.png", "dog/b.png", "dog/c.png")
    ended = run(
        "model=huggingface", f"models.huggingface.path={folder}", "dataset=imagefolder",
        f"dataset.root={root}", "dataset.classes=folders", "perturbation.num=4", f"engine={engine}",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    record = manifest(tmp_path / "results")
    assert (record["images"], record["candidates"]) == (2, 3)
    assert record["image_size"] == [32, 32]
    assert record["config"]["dataset"]["preprocessing"] == {
        "resize": 32, "crop": 32, "interpolation": "bilinear"
    }  # fmt: skip
    assert len(record["weights_sha256"]["huggingface"]) == 64


def test_classes_of_the_images_without_an_output_are_an_error_that_counts_them(
    run: Run, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "vit", labels=["dog", "bird"])
    root = folder_of(tmp_path / "images", "cat/a.png", "dog/b.png", "fish/c.png")
    keys = ["model=huggingface", f"models.huggingface.path={folder}", "perturbation.num=4"]
    ended = run(*keys, "dataset=imagefolder", f"dataset.root={root}", "dataset.classes=folders")
    assert (
        "2 of the 3 classes that the images show have no output of model huggingface (cat, fish)"
    ) in sentence(ended)


def test_of_1001_outputs_the_first_is_the_background(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(num_classes=1001)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    settings = model(weights=str(tmp_path / "w.safetensors"), classes=1001)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        plain = load_classifier("mine", settings).module(images)
        found = load_classifier("mine", settings, imagenet_classes())
        assert load_classifier("mine", settings, imagenet_classes()[::-1]).notes == ()
        torch.testing.assert_close(found.module(images), plain.roll(-1, dims=1))
    assert "the first is taken for the background" in found.notes[0]


def test_labels_say_what_the_outputs_of_any_network_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(num_classes=2)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "labels.txt").write_text("dog\ncat\n")
    settings = model(weights=str(tmp_path / "w.safetensors"), labels=tmp_path / "labels.txt")
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        plain = load_classifier("mine", settings).module(images)
        found = load_classifier("mine", settings, (("cat",), ("dog",))).module(images)
    torch.testing.assert_close(found, plain.flip(1))


def test_attacks_find_the_networks_gradients(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    logits = load(checkpoint(tmp_path)).module(images)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0


def test_a_network_that_gives_an_object_with_logits_can_be_evaluated(tmp_path: Path) -> None:
    model = transformers.AutoModelForImageClassification.from_pretrained(checkpoint(tmp_path))
    found = evaluate(model, noise(3), [0, 0, 1], num=4)
    assert found["prediction"].eq(0).all()
    assert np.array_equal(found.query("num == 4")["wrong"], [False, False, True])
