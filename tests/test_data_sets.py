"""Other people's data: which images a CSV file, an archive, a library's data set or a shard stands for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelrobust.datasets import ImageList, list_training_images
from pixelrobust.datasets.decoded import ImageSet, decode, load_images
from pixelrobust.datasets.readers import find_layout
from pixelrobust.errors import InputError
from pixelrobust.selection import image_list_digest
from pixelrobust.settings import PreprocessingSettings
from tests.data_cases import (
    SMALL,
    cifar10,
    csv_of,
    flowers102,
    food101,
    listed,
    mnist,
    noise,
    pets,
    stl10,
    svhn,
    textures,
)
from tests.fault_cases import folder_of

NATIVE = {
    side: PreprocessingSettings(resize=side, crop=side, interpolation="bilinear")
    for side in (8, 28, 32, 96)
}


def labels_by_key(images: ImageList) -> dict[str, int]:
    return dict(zip(images.keys, images.labels.tolist(), strict=True))


def pixels(images: ImageList, side: int) -> np.ndarray:
    """(N, 3, side, side), of images of that size."""
    return np.stack([decode(source, NATIVE[side]) for source in images.sources])


def loaded(images: ImageList, cache: Path) -> ImageSet:
    return load_images(images, SMALL, cache, lambda done: None)


def names_file(folder: Path, *names: str) -> Path:
    (folder / "names.txt").write_text("\n".join(names), encoding="utf-8")
    return folder / "names.txt"


# CSV files


def test_a_csv_gives_keys_as_written_wherever_the_folder_lies(tmp_path):
    rows = [("b/2.png", "goldfish"), ("a/1.png", "n01440764")]
    keys = []
    for place in ("here", "there/below"):
        folder_of(tmp_path / place, "a/1.png", "b/2.png")
        images = listed("csv", file=csv_of(tmp_path / place, rows))
        keys.append(images.keys)
        assert labels_by_key(images) == {"a/1.png": 0, "b/2.png": 1}
        assert images.paths == (tmp_path / place / "a/1.png", tmp_path / place / "b/2.png")
    assert keys[0] == keys[1]


def test_a_csv_beside_its_images_takes_their_root(tmp_path):
    file = csv_of(tmp_path / "lists", [("1.png", 7)])
    images = listed("csv", file=file, root=folder_of(tmp_path / "images", "1.png"))
    assert images.paths == (tmp_path / "images" / "1.png",)
    np.testing.assert_array_equal(
        decode(images.sources[0], SMALL), decode(tmp_path / "images" / "1.png", SMALL)
    )


def test_a_csvs_columns_may_have_other_names_quotes_and_company(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_bytes(
        '\ufeffid,class,"file"\r\n1,tench,"a, b.png"\r\n\r\n2,goldfish,é.png\r\n'.encode()
    )
    images = listed("csv", file=file, image_column="file", label_column="class")
    assert labels_by_key(images) == {"a, b.png": 0, "é.png": 1}


def test_a_csvs_keys_are_composed_and_paths_as_written(tmp_path):
    images = listed("csv", file=csv_of(tmp_path, [("./e\u0301//1.png", 3)]))
    assert images.keys == ("\u00e9/1.png",)
    assert images.paths == (tmp_path / "e\u0301" / "1.png",)


@pytest.mark.parametrize(
    ("classes", "values", "expected"),
    [
        (None, ["0", "999"], [0, 999]),
        (None, ["tench", "n01443537"], [0, 1]),
        ("imagenet", ["goldfish", "tench"], [1, 0]),
        ("own", ["zebra", "ant"], [1, 0]),
        ("own", ["7", "3"], [7, 3]),
        (["dog", "cat"], ["cat", "dog"], [1, 0]),
        (["dog", "cat"], ["1", "0"], [1, 0]),
        # Classes that are called by numbers are meant by them.
        (["9", "8", "7"], ["7", "9"], [2, 0]),
    ],
)
def test_labels_are_names_or_indices(tmp_path, classes, values, expected):
    rows = [(f"{number}.png", value) for number, value in enumerate(values)]
    given_classes = names_file(tmp_path, *classes) if isinstance(classes, list) else classes
    images = listed("csv", file=csv_of(tmp_path / "data", rows), classes=given_classes)
    assert images.labels.tolist() == expected


def test_names_are_the_same_classes_in_both_csv_files(tmp_path):
    test = csv_of(tmp_path / "test", [("1.png", "cat"), ("2.png", "zebra")])
    train = csv_of(tmp_path / "train", [("1.png", "ant"), ("2.png", "zebra")])
    keys: dict[str, Any] = {"file": test, "train_file": train, "classes": "own"}
    assert listed("csv", **keys).labels.tolist() == [1, 2]
    trained = listed("csv", listing=list_training_images, **keys)
    assert trained.labels.tolist() == [0, 2]
    assert trained.paths[0] == tmp_path / "train" / "1.png"


SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)


@settings(deadline=None)
@given(SHAPES)
def test_a_layout_is_found_where_only_one_fits(shape):
    fits = {
        "grey": len(shape) == 3,
        "first": len(shape) == 4 and shape[1] in (1, 3),
        "last": len(shape) == 4 and shape[3] in (1, 3),
    }
    found = [layout for layout, fit in fits.items() if fit]
    if len(found) == 1:
        assert find_layout(shape, "images") == found[0]
    else:
        with pytest.raises(InputError, match=r"images has shape \("):
            find_layout(shape, "images")


# torchvision's


def test_mnist_has_grey_images_of_numbered_and_named_classes(tmp_path):
    values = noise(3, 28, 28)
    root = mnist(tmp_path, values, [7, 0, 9])
    images = listed("torchvision", name="MNIST", split="test", root=root)
    assert labels_by_key(images) == {"test/0": 7, "test/1": 0, "test/2": 9}
    assert images.classes[7] == ("7 - seven",)
    np.testing.assert_array_equal(pixels(images, 28), np.stack([values] * 3, 1))


def test_fashion_mnists_classes_are_its_own(tmp_path):
    root = mnist(tmp_path, noise(1, 28, 28), [9], "FashionMNIST")
    images = listed("torchvision", name="FashionMNIST", split="test", root=root)
    assert images.classes[images.labels[0]] == ("Ankle boot",)


def test_cifar10_has_its_own_pixels(tmp_path, monkeypatch):
    values = noise(3, 3, 32, 32)
    root = cifar10(tmp_path, values, [3, 0, 9], monkeypatch)
    images = listed("torchvision", name="CIFAR10", split="test", root=root)
    assert labels_by_key(images) == {"test/0": 3, "test/1": 0, "test/2": 9}
    assert images.classes[3] == ("cat",)
    np.testing.assert_array_equal(pixels(images, 32), values)


def test_svhn_and_stl10_have_their_own_pixels(tmp_path, monkeypatch):
    values = noise(2, 32, 32, 3)
    root = svhn(tmp_path / "svhn", values, [0, 9], monkeypatch)
    images = listed("torchvision", name="SVHN", split="test", root=root)
    assert (images.labels.tolist(), images.classes[9]) == ([0, 9], ("9",))
    np.testing.assert_array_equal(pixels(images, 32), values.transpose(0, 3, 1, 2))
    values = noise(2, 96, 96, 3)
    root = stl10(tmp_path / "stl10", values, [9, 0], monkeypatch)
    images = listed("torchvision", name="STL10", split="test", root=root)
    assert (images.labels.tolist(), images.classes[9]) == ([9, 0], ("truck",))
    np.testing.assert_array_equal(pixels(images, 96), values.transpose(0, 3, 1, 2))


def test_sets_of_files_are_called_by_their_paths(tmp_path, monkeypatch):
    root = food101(tmp_path, {"pizza": ["2", "1"], "apple_pie": ["9"]})
    images = listed("torchvision", name="Food101", split="test", root=root)
    assert labels_by_key(images) == {
        "food-101/images/apple_pie/9.jpg": 0,
        "food-101/images/pizza/1.jpg": 1,
        "food-101/images/pizza/2.jpg": 1,
    }
    root = flowers102(tmp_path, [5, 101], monkeypatch)
    images = listed("torchvision", name="Flowers102", split="test", root=root)
    assert images.labels.tolist() == [5, 101]
    assert images.keys[1] == "flowers-102/jpg/image_00002.jpg"
    root = pets(tmp_path, [("Abyssinian_1", 0), ("beagle_7", 1)])
    images = listed("torchvision", name="OxfordIIITPet", split="test", root=root)
    assert images.classes == (("Abyssinian",), ("Beagle",))
    assert images.labels.tolist() == [0, 1]
    root = textures(tmp_path, ["dotted/dotted_1.jpg", "banded/banded_1.jpg"])
    images = listed("torchvision", name="DTD", split="test", root=root)
    assert [Path(key).name for key in images.keys] == ["banded_1.jpg", "dotted_1.jpg"]
    assert images.labels.tolist() == [0, 1]


def test_named_classes_find_outputs_by_their_names(tmp_path, monkeypatch):
    root = cifar10(tmp_path / "data", noise(2, 3, 32, 32), [3, 8], monkeypatch)
    keys = {"name": "CIFAR10", "split": "test", "root": root}
    own = listed("torchvision", classes=names_file(tmp_path, "ship", "frog", "cat"), **keys)
    assert (own.labels.tolist(), own.classes) == ([2, 0], None)
    with pytest.raises(InputError, match=r"class 'cat' is not among ImageNet-1k's classes"):
        listed("torchvision", classes="imagenet", **keys)


def test_a_training_split_of_torchvision(tmp_path):
    values = noise(2, 28, 28)
    root = mnist(tmp_path, values, [1, 2])
    keys = {"name": "MNIST", "split": "test", "train_split": "train", "root": root}
    images = listed("torchvision", listing=list_training_images, **keys)
    assert labels_by_key(images) == {"train/0": 1, "train/1": 2}
    np.testing.assert_array_equal(pixels(images, 28)[:, 0], 255 - values)


def test_torchvision_is_told_to_download_only_where_it_is_asked_for(tmp_path, monkeypatch):
    calls = []

    class Fetched:
        data, targets, classes = np.zeros((1, 32, 32, 3), np.uint8), [0], ["a", "b"]

        def __init__(self, root: Path, train: bool, download: bool) -> None:
            calls.append((root, train, download))

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fetched)
    keys = {"name": "CIFAR10", "split": "train", "cache": tmp_path}
    listed("torchvision", **keys)
    listed("torchvision", download=True, **keys)
    root = tmp_path / "torchvision"
    assert calls == [(root, True, False), (root, True, True)]
    assert root.is_dir()


# One cache for all


def every_kind(tmp_path: Path, patch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The keys of a small data set of each kind, in which the third image is of class 1."""
    rows = [(f"{number}.png", number % 2) for number in range(4)]
    folder_of(tmp_path / "csv", *(name for name, _ in rows))
    labels = [0, 0, 1, 0]
    return {
        "csv": {"file": csv_of(tmp_path / "csv", rows)},
        "torchvision": {
            "root": cifar10(tmp_path / "cifar", noise(4, 3, 32, 32), labels, patch),
            "name": "CIFAR10", "split": "test",
        },
    }  # fmt: skip


def test_each_kind_is_decoded_once_and_samples_go_with_their_labels(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    for kind, keys in every_kind(tmp_path, monkeypatch).items():
        whole = loaded(listed(kind, cache=cache, **keys), cache)
        assert isinstance(whole.pixels, np.memmap), kind
        some = loaded(listed(kind, cache=cache, candidates=2, **keys), cache)
        position = {key: row for row, key in enumerate(whole.keys)}
        for key, label, digest in zip(some.keys, some.labels, some.digests, strict=True):
            assert whole.labels[position[key]] == label, kind
            assert whole.digests[position[key]] == digest, kind
        with monkeypatch.context() as patch:
            patch.setattr("pixelrobust.datasets.decoded.decode", None)
            assert loaded(listed(kind, cache=cache, **keys), cache).digests == whole.digests, kind
        assert whole.classes == listed(kind, cache=cache, **keys).classes


def test_a_folder_and_a_csv_of_the_same_files_are_the_same_images(tmp_path):
    root = folder_of(tmp_path / "images", "tench/b.png", "goldfish/a.png", "tench/a.png")
    rows = [("tench/a.png", 0), ("goldfish/a.png", 1), ("tench/b.png", 0)]
    by_csv = loaded(listed("csv", file=csv_of(tmp_path, rows), root=root), tmp_path / "cache")
    by_folder = loaded(listed("imagefolder", root=root), tmp_path / "cache")
    assert image_list_digest(by_csv, range(3)) == image_list_digest(by_folder, range(3))


def test_other_content_of_the_same_name_is_decoded_anew(tmp_path):
    cache, digests = tmp_path / "cache", []
    for seed in (0, 1):
        root = mnist(tmp_path / str(seed), noise(2, 28, 28, seed=seed), [0, 1])
        (tmp_path / "root").unlink(missing_ok=True)
        (tmp_path / "root").symlink_to(root)
        keys = {"name": "MNIST", "split": "test", "root": tmp_path / "root"}
        digests.append(loaded(listed("torchvision", **keys), cache).digests)
    for first, second in zip(digests[::2], digests[1::2], strict=True):
        assert not set(first) & set(second)
