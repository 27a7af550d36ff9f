"""Images that a CSV file or a data set of torchvision stands for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from pixelrobust.datasets import ImageList, list_training_images
from pixelrobust.datasets.decoded import ImageSet, decode, load_images
from pixelrobust.errors import InputError
from pixelrobust.evaluation.selection import image_list_digest
from pixelrobust.settings import PreprocessingSettings
from tests.datasets.cases import (
    SMALL,
    cifar10,
    cifar_c,
    csv_of,
    encoded,
    flowers102,
    food101,
    labels_by_key,
    listed,
    mnist,
    noise,
    pets,
    stl10,
    svhn,
    textures,
)
from tests.fault_cases import folder_of, picture

NATIVE = {
    side: PreprocessingSettings(resize=side, crop=side, interpolation="bilinear")
    for side in (28, 32, 96)
}


def pixels(images: ImageList, side: int) -> np.ndarray:
    """Decode images of that size to (N, 3, side, side)."""
    return np.stack([decode(source, NATIVE[side]) for source in images.sources])


def loaded(images: ImageList, cache: Path) -> ImageSet:
    return load_images(images, SMALL, cache, lambda done: None)


def names_file(folder: Path, *names: str) -> Path:
    (folder / "names.txt").write_text("\n".join(names), encoding="utf-8")
    return folder / "names.txt"


def test_a_csv_gives_keys_as_written_wherever_the_folder_lies(tmp_path):
    rows = [("b/2.png", "goldfish"), ("a/1.png", "n01440764")]
    for place in ("here", "there/below"):
        folder_of(tmp_path / place, "a/1.png", "b/2.png")
        images = listed("csv", file=csv_of(tmp_path / place, rows))
        assert labels_by_key(images) == {"a/1.png": 0, "b/2.png": 1}
        assert images.paths == (tmp_path / place / "a/1.png", tmp_path / place / "b/2.png")
    elsewhere = listed("csv", file=csv_of(tmp_path / "lists", rows), root=tmp_path / "here")
    assert elsewhere.paths[0] == tmp_path / "here" / "a/1.png"


def test_a_csvs_columns_may_have_other_names_quotes_and_company(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_bytes(
        '\ufeffid, class,"file"\r\n1,tench,"a, b.png"\r\n\r\n2, goldfish ,NA.png\r\n'.encode()
    )
    images = listed("csv", file=file, image_column="file", label_column="class")
    assert labels_by_key(images) == {"a, b.png": 0, "NA.png": 1}


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
        # Empty fields and names of missing values are text like any other.
        ("own", ["nan", "NA"], [1, 0]),
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


BAD_CSV: dict[str, tuple[str | bytes | None, str]] = {
    "not there": (None, r"cannot be read \(No such file"),
    "empty": ("", "cannot be read .*CSV file in UTF-8 with a header"),
    "header only": ("path,label\n", "names no image"),
    "no header": ("a.png,0\nb.png,1\n", r"lacks the column 'path' \(its first line is 'a.png,0'\)"),
    "semicolons": ("path;label\na.png;0\n", "lacks the column 'path'"),
    "two columns": ("path,label,label\na.png,0,1\n", "more than one column 'label'.*label_column"),
    "a long row": ("path,label\na, b.png,0\n", "line 2, saw 3.*commas in quotes"),
    "a short row": ("path,label\na.png\n", "line 2 has no label"),
    "a row twice": ("path,label\na.png,0\n\n./a.png,0\n", "line 4: 'a.png' stands in line 2"),
    "no label": ("path,label\na.png, \n", "line 2 has no label"),
    "no path": ("path,label\n,0\n", "line 2: '' is not a path"),
    "a label of -1": ("path,label\na.png,-1\n", "line 2, has label -1; .*0 to 99999"),
    "a label of 10^30": (f"path,label\na.png,{10**30}\n", "line 2, has label 10"),
    "up": ("path,label\nb/../../a.png,0\n", r"leads out of .*without '\.\.'"),
    "an absolute path": ("path,label\n/data/a.png,0\n", "leads out of"),
    "a path of Windows": ("path,label\nC:/data/a.png,0\n", "leads out of"),
    "backslashes": ("path,label\nb\\a.png,0\n", "backslashes; write slashes"),
    "a NUL": ("path,label\na\0b,0\n", "is not a path"),
    "Latin-1": ("path,label\ncaf\u00e9.png,0\n".encode("latin-1"), "cannot be read .*UTF-8"),
    "an open quote": ('path,label\n"a.png,0\n', "cannot be read .*inside string"),
    "an image": (encoded(picture(0)), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "fault"), BAD_CSV.values(), ids=BAD_CSV)
def test_a_bad_csv_is_refused(tmp_path, content, fault):
    file = tmp_path / "labels.csv"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=rf"(?s)dataset\.file=.*labels\.csv.*{fault}"):
        listed("csv", file=file)


def test_what_a_csv_needs_is_said(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.file is not set; give a file"):
        listed("csv")
    file = csv_of(tmp_path / "data", [("a.png", 2)])
    with pytest.raises(InputError, match="class 'catt' is not among ImageNet"):
        listed("csv", file=csv_of(tmp_path, [("a.png", "catt")]))
    with pytest.raises(InputError, match=r"has label 2, but dataset\.classes has 2 names"):
        listed("csv", file=file, classes=names_file(tmp_path, "cat", "dog"))


def of_torchvision(name: str, root: Path, **keys: Any) -> ImageList:
    return listed("torchvision", **{"name": name, "split": "test", "root": root} | keys)


def test_mnist_has_grey_images_of_numbered_and_named_classes(tmp_path):
    values = noise(3, 28, 28)
    root = mnist(tmp_path, values, [7, 0, 9])
    images = of_torchvision("MNIST", root)
    assert labels_by_key(images) == {"test/0": 7, "test/1": 0, "test/2": 9}
    assert images.classes[7] == ("7 - seven",)
    np.testing.assert_array_equal(pixels(images, 28), np.stack([values] * 3, 1))
    trained = of_torchvision("MNIST", root, train_split="train", listing=list_training_images)
    assert labels_by_key(trained) == {"train/0": 7, "train/1": 0, "train/2": 9}
    np.testing.assert_array_equal(pixels(trained, 28)[:, 0], 255 - values)
    root = mnist(tmp_path, noise(1, 28, 28), [9], "FashionMNIST")
    assert of_torchvision("FashionMNIST", root).classes[9] == ("Ankle boot",)


def test_colour_arrays_have_their_own_pixels(tmp_path, monkeypatch):
    values = noise(3, 3, 32, 32)
    images = of_torchvision("CIFAR10", cifar10(tmp_path / "c", values, [3, 0, 9], monkeypatch))
    assert labels_by_key(images) == {"test/0": 3, "test/1": 0, "test/2": 9}
    assert images.classes[3] == ("cat",)
    np.testing.assert_array_equal(pixels(images, 32), values)
    for name, make, side, last in (("SVHN", svhn, 32, "9"), ("STL10", stl10, 96, "truck")):
        values = noise(2, side, side, 3)
        images = of_torchvision(name, make(tmp_path / name, values, [0, 9], monkeypatch))
        assert (images.labels.tolist(), images.classes[9]) == ([0, 9], (last,))
        np.testing.assert_array_equal(pixels(images, side), values.transpose(0, 3, 1, 2))


def test_sets_of_files_are_called_by_their_paths(tmp_path, monkeypatch):
    root = food101(tmp_path, {"pizza": ["2", "1"], "apple_pie": ["9"]})
    assert labels_by_key(of_torchvision("Food101", root)) == {
        "food-101/images/apple_pie/9.jpg": 0,
        "food-101/images/pizza/1.jpg": 1,
        "food-101/images/pizza/2.jpg": 1,
    }
    images = of_torchvision("Flowers102", flowers102(tmp_path, [5, 101], monkeypatch))
    assert images.labels.tolist() == [5, 101]
    assert images.keys[1] == "flowers-102/jpg/image_00002.jpg"
    images = of_torchvision("OxfordIIITPet", pets(tmp_path, [("Abyssinian_1", 0), ("beagle_7", 1)]))
    assert images.classes == (("Abyssinian",), ("Beagle",))
    assert images.labels.tolist() == [0, 1]
    root = textures(tmp_path, ["dotted/dotted_1.jpg", "banded/banded_1.jpg"])
    images = of_torchvision("DTD", root)
    assert [Path(key).name for key in images.keys] == ["banded_1.jpg", "dotted_1.jpg"]
    assert images.labels.tolist() == [0, 1]


def test_named_classes_find_outputs_by_their_names(tmp_path, monkeypatch):
    root = cifar10(tmp_path / "data", noise(2, 3, 32, 32), [3, 8], monkeypatch)
    own = of_torchvision("CIFAR10", root, classes=names_file(tmp_path, "ship", "frog", "cat"))
    assert (own.labels.tolist(), own.classes) == ([2, 0], None)
    with pytest.raises(InputError, match=r"class 'cat' is not among ImageNet-1k's classes"):
        of_torchvision("CIFAR10", root, classes="imagenet")


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


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"name": None}, r"dataset\.name is not set; give one of CIFAR10"),
        ({"name": "ImageNet"}, r"dataset\.name=ImageNet is unknown"),
        ({"name": "MNIST", "split": "val"}, r"MNIST has no dataset\.split=val; .*train, test"),
        ({"name": "STL10", "split": "unlabeled"}, "STL10 has no"),
        ({"name": "MNIST"}, r"MNIST cannot be read from .*dataset\.download=true"),
        ({"name": "CIFAR10"}, "CIFAR10 cannot be read from"),
        ({"name": "Food101"}, "Food101 cannot be read from"),
    ],
)
def test_what_torchvision_lacks_is_refused(tmp_path, keys, fault):
    with pytest.raises(InputError, match=fault):
        listed("torchvision", **{"root": tmp_path, "split": "test"} | keys)


def of_corruption(root: Path, **keys: Any) -> ImageList:
    return listed("cifar_c", root=root, **{"corruption": "fog", "severity": "all"} | keys)


def test_a_corruption_holds_five_severities_one_after_the_other(tmp_path):
    """Two images in each; labels may be a column."""
    values = noise(10, 32, 32, 3)
    root = cifar_c(tmp_path, values, [[3], [9]] * 5)
    images = of_corruption(root)
    assert images.keys == tuple(f"fog/{severity}/{n}" for severity in range(1, 6) for n in (0, 1))
    assert images.labels.tolist() == [3, 9] * 5
    assert images.classes[3] == ("cat",)
    np.testing.assert_array_equal(pixels(images, 32), values.transpose(0, 3, 1, 2))
    second = of_corruption(root, severity=2)
    assert labels_by_key(second) == {"fog/2/0": 3, "fog/2/1": 9}
    np.testing.assert_array_equal(pixels(second, 32), values[2:4].transpose(0, 3, 1, 2))
    own = of_corruption(root, classes=names_file(tmp_path, "truck", "cat"))
    assert own.labels.tolist() == [1, 0] * 5
    hundred = of_corruption(cifar_c(tmp_path / "100", values, [3, 99] * 5))
    assert (len(hundred.classes), hundred.labels.max()) == (100, 99)


def test_files_of_corruptions_are_mapped_into_memory(tmp_path):
    images = of_corruption(cifar_c(tmp_path, noise(10, 32, 32, 3), [0, 1] * 5))
    view = images.sources[0].values
    while view.base is not None and not isinstance(view, np.memmap):
        view = view.base
    assert isinstance(view, np.memmap)


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"corruption": None}, r"dataset\.corruption is not set; give one of fog, short, wide"),
        ({"corruption": "snow"}, r"dataset\.corruption=snow is not in .*; give one of fog"),
        ({"corruption": "../fog"}, r"dataset\.corruption=\.\./fog is not in"),
        ({"corruption": "short"}, "short.npy holds 5 images, but labels.npy 10 labels"),
        ({"corruption": "wide"}, r"wide.npy holds float64 of shape \(10, 3, 4, 4\); give uint8"),
    ],
)
def test_what_is_no_corruption_is_refused(tmp_path, keys, fault):
    cifar_c(tmp_path / "c", noise(5, 4, 4, 3), 0, "short")
    cifar_c(tmp_path / "c", np.zeros((10, 3, 4, 4)), 0, "wide")
    cifar_c(tmp_path / "c", noise(10, 4, 4, 3), [0, 1] * 5)
    with pytest.raises(InputError, match=fault):
        of_corruption(tmp_path / "c", **keys)


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ([0, 100] * 5, "fog/1/1 in .* has label 100, but there are 100 classes"),
        ([0.0, 1.0] * 5, "labels have shape .* and dtype float64"),
        (np.array([{}] * 10), "labels.npy cannot be read .*without pickles"),
    ],
)
def test_labels_of_corruptions_are_checked(tmp_path, labels, fault):
    with pytest.raises(InputError, match=fault):
        of_corruption(cifar_c(tmp_path, noise(10, 4, 4, 3), labels))


def altered(root: Path) -> None:
    """CIFAR10's files are pickles, whose checksums torchvision compares before it loads them."""
    with pytest.MonkeyPatch.context() as patch:
        cifar10(root, noise(2, 3, 32, 32), [0, 1], patch)


def cut(root: Path) -> None:
    mnist(root, noise(3, 28, 28), [0, 1, 2])
    file = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])


def leading_out(root: Path) -> None:
    food101(root, {"pizza": ["1"]})
    listed = {"pizza": ["../../../secret"]}
    (root / "food-101" / "meta" / "test.json").write_text(json.dumps(listed))
    picture(0).save(root.parent / "secret.jpg")


@pytest.mark.parametrize(
    ("name", "make", "fault"),
    [
        ("CIFAR10", altered, r"CIFAR10 cannot be read from dataset\.root=.*corrupted"),
        ("MNIST", lambda root: mnist(root, noise(3, 28, 28), [0, 1]), "3 images, but 2 labels"),
        ("MNIST", lambda root: mnist(root, noise(1, 28, 28), [11]), "test/0 of MNIST has label 11"),
        ("MNIST", cut, r"MNIST cannot be read from dataset\.root="),
        ("Food101", leading_out, "secret.*, which leads out of it; fetch it anew"),
    ],
)
def test_files_that_are_not_the_published_ones_are_refused(
    tmp_path: Path, name: str, make: Callable[[Path], Any], fault: str
) -> None:
    make(tmp_path / "data")
    with pytest.raises(InputError, match=fault):
        of_torchvision(name, tmp_path / "data")


def test_a_download_that_fails_says_so(tmp_path, monkeypatch):
    def fail(*arguments: Any, **keys: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    with pytest.raises(InputError, match=r"no network here\); connect to the network"):
        of_torchvision("CIFAR10", tmp_path, download=True)


def test_arrays_are_decoded_once_and_samples_go_with_their_labels(tmp_path, monkeypatch):
    root = cifar10(tmp_path / "cifar", noise(4, 3, 32, 32), [0, 0, 1, 0], monkeypatch)
    images = of_torchvision("CIFAR10", root)
    whole = loaded(images, tmp_path / "cache")
    assert (whole.classes, isinstance(whole.pixels, np.memmap)) == (images.classes, True)
    some = loaded(of_torchvision("CIFAR10", root, candidates=2), tmp_path / "cache")
    rows = [whole.keys.index(key) for key in some.keys]
    assert some.labels.tolist() == whole.labels[rows].tolist()
    assert some.digests == tuple(whole.digests[row] for row in rows)
    monkeypatch.setattr("pixelrobust.datasets.decoded.decode", None)
    assert loaded(images, tmp_path / "cache").digests == whole.digests


def test_a_folder_and_a_csv_of_the_same_files_are_the_same_images(tmp_path):
    root = folder_of(tmp_path / "images", "tench/b.png", "goldfish/a.png", "tench/a.png")
    rows = [("tench/a.png", 0), ("goldfish/a.png", 1), ("tench/b.png", 0)]
    by_csv = loaded(listed("csv", file=csv_of(tmp_path, rows), root=root), tmp_path / "cache")
    by_folder = loaded(listed("imagefolder", root=root), tmp_path / "cache")
    assert image_list_digest(by_csv, range(3)) == image_list_digest(by_folder, range(3))


def test_other_arrays_of_the_same_name_are_decoded_anew(tmp_path):
    cache, digests = tmp_path / "cache", []
    for seed in (0, 1):
        root = mnist(tmp_path / str(seed), noise(2, 28, 28, seed=seed), [0, 1])
        (tmp_path / "root").unlink(missing_ok=True)
        (tmp_path / "root").symlink_to(root)
        digests.append(loaded(of_torchvision("MNIST", tmp_path / "root"), cache).digests)
    assert not set(digests[0]) & set(digests[1])
