"""Images and networks in one call each."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import pixelrobust
from pixelrobust import InputError, evaluate, load_bundled_images, load_folder, load_network
from pixelrobust.files import user_cache
from tests.conftest import REPOSITORY
from tests.fault_cases import SIDE, folder_of, picture, saved, state


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "images", "dog/b.png", "cat/a.png", "dog/a.png")


def test_a_folder_is_decoded_and_labelled(own_folder: Path, cache: Path) -> None:
    images = load_folder(own_folder, "folders", resize=40, crop=SIDE, cache=cache)
    assert images.keys == ("cat/a.png", "dog/a.png", "dog/b.png")
    assert images.labels.tolist() == [0, 1, 1]
    # 48 x 40 is not resized, so its centre is cut out as it is.
    centre = np.asarray(picture(1))[4 : 4 + SIDE, 8 : 8 + SIDE].transpose(2, 0, 1)
    assert (images.pixels[0] == centre).all()


def test_classes_of_a_file_and_of_imagenet(tmp_path: Path, own_folder: Path, cache: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("dog\ncow\ncat\n", encoding="utf-8")
    assert load_folder(own_folder, names, cache=cache).labels.tolist() == [2, 0, 0]
    folder_of(tmp_path / "net", "n01440764/a.png", "goldfish/a.png")
    assert load_folder(tmp_path / "net", cache=cache).labels.tolist() == [1, 0]
    with pytest.raises(InputError, match="'cat' is not among ImageNet-1k's classes"):
        load_folder(own_folder, cache=cache)


def test_what_cannot_be_read_stops_or_is_left_out(own_folder: Path, cache: Path) -> None:
    (own_folder / "cat" / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a\.png cannot be read"):
        load_folder(own_folder, "folders", cache=cache)
    with pytest.warns(
        UserWarning, match="^1 of 3 files cannot be read and are left out: 'cat/a.png'$"
    ):
        images = load_folder(own_folder, "folders", skip_unreadable=True, cache=cache)
    assert images.keys == ("dog/a.png", "dog/b.png")
    assert list(images.unreadable) == ["cat/a.png"]


def test_files_that_are_left_out_are_counted_and_named(own_folder: Path, cache: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_folder(own_folder, "folders", cache=cache)
    for number in range(5):
        (own_folder / "cat" / f"{number}.heic").touch()
    picture(0).save(own_folder / "a.png")
    with pytest.warns(UserWarning, match="6 files in .*: 'a.png', 'cat/0.heic', 'cat/1.heic', …$"):
        images = load_folder(own_folder, "folders", cache=cache)
    assert (len(images), len(images.left_out)) == (3, 6)
    (own_folder / "only").mkdir()
    (own_folder / "only" / "x.heic").touch()
    with pytest.raises(
        InputError, match=r"no images in class folders \(but other files: 'x.heic'\)"
    ):
        load_folder(own_folder / "only")


def test_wrong_sizes_and_folders_are_sentences(own_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="crop=300 is larger than resize=256"):
        load_folder(own_folder, "folders", crop=300)
    with pytest.raises(InputError, match=r"folder=.*none is not a folder"):
        load_folder(tmp_path / "none")


def test_the_cache_is_where_the_environment_says(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXELROBUST_CACHE", str(tmp_path / "mine"))
    assert user_cache() == tmp_path / "mine"
    load_folder(own_folder, "folders")
    assert len(list((tmp_path / "mine" / "images").glob("*/pixels.npy"))) == 1
    monkeypatch.delenv("PIXELROBUST_CACHE")
    assert user_cache().name == "pixelrobust"


def test_bundled_images(cache: Path) -> None:
    pytest.importorskip("foolbox")
    images = load_bundled_images(cache=cache)
    assert images.pixels.shape == (20, 3, 224, 224)
    assert len(set(images.keys)) == 20


def test_a_network_with_weights_of_a_file(tmp_path: Path) -> None:
    weights = saved(state(), tmp_path / "w.safetensors")
    network = load_network("squeezenet1_1", weights, source="torchvision", classes=2)
    assert not network.training
    assert network(torch.rand(3, 3, SIDE, SIDE)).argmax(dim=1).tolist() == [0, 0, 0]


def test_normalisation_is_part_of_the_network(tmp_path: Path) -> None:
    weights = saved(state(), tmp_path / "w.safetensors")
    same = {"source": "torchvision", "classes": 2}
    plain = load_network("squeezenet1_1", weights, mean=[0.0], std=[1.0], **same)
    shifted = load_network("squeezenet1_1", weights, mean=[0.5], std=[0.5], **same)
    images = torch.rand(2, 3, SIDE, SIDE)
    torch.testing.assert_close(shifted(images), plain((images - 0.5) / 0.5))


def test_unknown_networks_and_values_are_sentences() -> None:
    with pytest.raises(InputError, match="is not a classifier of timm"):
        load_network("resnet1234")
    with pytest.raises(InputError, match=r"models\.<name>\.classes"):
        load_network("resnet18", classes=0)


def test_decoded_images_are_evaluated_without_a_warning(own_folder: Path, cache: Path) -> None:
    images = load_folder(own_folder, "folders", resize=40, crop=SIDE, cache=cache)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE**2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes = evaluate(network, images.pixels, images.labels, keys=images.keys, num=4)
    assert list(outcomes["image"].unique()) == list(images.keys)


def test_public_names_are_all_there_and_need_torch_only_when_used() -> None:
    assert all(callable(getattr(pixelrobust, name)) for name in pixelrobust.__all__)
    code = (
        "import sys, pixelrobust; assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
