"""Other people's data: which images a CSV file, an archive, a library's data set or a shard stands for."""

import inspect
import json
import pickle
import re
import tarfile
import tempfile
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixelrobust.datasets import ImageList, list_training_images
from pixelrobust.datasets.array_layout import find_layout
from pixelrobust.datasets.cache import ImageSet, load_images
from pixelrobust.datasets.decoding import decode
from pixelrobust.datasets.shards import expand_shards
from pixelrobust.datasets.torchvision_sets import KNOWN
from pixelrobust.errors import InputError
from pixelrobust.selection import image_list_digest
from pixelrobust.settings import PreprocessingSettings
from tests.data_cases import (
    SMALL,
    cifar10,
    csv_of,
    encoded,
    flowers102,
    food101,
    listed,
    mnist,
    noise,
    pets,
    saved_by_datasets,
    shard_of,
    stl10,
    svhn,
    tar_of,
    textures,
)
from tests.fault_cases import folder_of, picture

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


# NumPy archives


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("layout", ["last", "first", "grey"])
def test_an_archives_images_are_those_of_the_array(tmp_path, save, layout):
    values = noise(5, 8, 8) if layout == "grey" else noise(5, 8, 8, 3)
    stored = values.transpose(0, 3, 1, 2) if layout == "first" else values
    # As Fortran orders it, a transposed array would be stored.
    save(tmp_path / "a.npz", images=np.ascontiguousarray(stored), labels=[4, 3, 2, 1, 0])
    images = listed("npz", cache=tmp_path / "cache", file=tmp_path / "a.npz")
    assert labels_by_key(images) == {"0": 4, "1": 3, "2": 2, "3": 1, "4": 0}
    expected = np.stack([values] * 3, 1) if layout == "grey" else values.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(pixels(images, 8), expected)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".npz"]


def test_an_archive_may_name_its_images_and_classes(tmp_path):
    np.savez(
        tmp_path / "a.npz", x=noise(2, 8, 8, 3), y=["goldfish", "tench"], keys=["b", "e\u0301"]
    )
    images = listed("npz", file=tmp_path / "a.npz", image_column="x", label_column="y")
    assert labels_by_key(images) == {"b": 1, "\u00e9": 0}


def test_an_archive_has_a_training_split(tmp_path):
    np.savez(tmp_path / "test.npz", images=noise(1, 8, 8, 3), labels=["b"])
    np.savez(tmp_path / "train.npz", images=noise(2, 8, 8, 3), labels=["a", "b"])
    keys = {"file": tmp_path / "test.npz", "train_file": tmp_path / "train.npz", "classes": "own"}
    assert listed("npz", **keys).labels.tolist() == [1]
    assert listed("npz", listing=list_training_images, **keys).labels.tolist() == [0, 1]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_large_archive_is_not_held_in_memory(tmp_path, save):
    values = np.zeros((64, 256, 256, 3), np.uint8)
    values[:, 0, 0, 0] = np.arange(64)
    save(tmp_path / "a.npz", images=values, labels=np.zeros(64, int))
    tracemalloc.start()
    try:
        images = listed("npz", cache=tmp_path / "cache", file=tmp_path / "a.npz")
        firsts = []
        for source in images.sources:
            with source.open() as image:
                firsts.append(image.getpixel((0, 0))[0])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert firsts == list(range(64))
    # Of 12 MiB, a piece of one, and a picture or two.
    assert peak < 4 << 20


def test_a_compressed_archive_is_unpacked_once_for_all_threads(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", images=noise(4, 8, 8, 3), labels=[0, 0, 0, 0])
    images = listed("npz", cache=tmp_path / "cache", file=tmp_path / "a.npz")
    made, make = [], tempfile.TemporaryFile
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **keys: made.append(1) or make(**keys))
    start = threading.Barrier(4)

    def shown(index: int) -> np.ndarray:
        start.wait()
        return decode(images.sources[index], NATIVE[8])

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(shown, range(4)))) == 4
    assert made == [1]


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


class Canary:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["test_batch", "batches.meta"])
def test_pickles_of_others_are_refused_unread(tmp_path, monkeypatch, name):
    root = cifar10(tmp_path, noise(1, 3, 32, 32), [0], monkeypatch)
    (file,) = root.rglob(name)
    file.write_bytes(pickle.dumps(Canary(tmp_path / "touched")))
    with pytest.raises(InputError, match=r"CIFAR10 cannot be read .*corrupted\)"):
        listed("torchvision", name="CIFAR10", split="test", root=root)
    assert not (tmp_path / "touched").exists()
    pickle.loads(file.read_bytes())
    assert (tmp_path / "touched").exists()


def test_only_cifars_files_are_unpickled():
    """As torchvision is installed here; what is new in KNOWN is looked at, too."""
    pickled = set()
    for name in KNOWN:
        text = inspect.getsource(inspect.getmodule(getattr(torchvision.datasets, name)))
        if "pickle.load" in text:
            pickled.add(name)
        for call in re.findall(r"torch\.load\((.*)\)\n", text):
            assert "weights_only=True" in call, name
    assert pickled == {"CIFAR10", "CIFAR100"}


# Hugging Face's


def test_a_saved_data_set_has_its_images_and_names(tmp_path):
    root = saved_by_datasets(tmp_path / "saved", [1, 0, 1], ["cat", "dog"])
    images = listed("huggingface", root=root)
    assert labels_by_key(images) == {"0": 1, "1": 0, "2": 1}
    assert images.classes == (("cat",), ("dog",))
    picture(2).save(tmp_path / "2.png")
    np.testing.assert_array_equal(
        decode(images.sources[2], SMALL), decode(tmp_path / "2.png", SMALL)
    )


def test_a_split_of_a_saved_data_set(tmp_path):
    root = saved_by_datasets(tmp_path / "saved", [1, 0], ["goldfish", "tench"], "test")
    for split in ("test", None):
        images = listed("huggingface", root=root, split=split, classes="imagenet")
        assert labels_by_key(images) == {"test/0": 0, "test/1": 1}
        assert images.classes is None
    keys = {"root": root, "split": "test", "train_split": "test"}
    trained = listed("huggingface", listing=list_training_images, **keys)
    assert labels_by_key(trained) == {"test/0": 1, "test/1": 0}


def test_columns_of_a_saved_data_set_may_be_named_or_plain(tmp_path):
    datasets = pytest.importorskip("datasets")
    image = {"bytes": encoded(picture(0)), "path": None}
    features = datasets.Features(
        {"a": datasets.Image(), "b": datasets.Image(), "name": datasets.Value("string")}
    )
    made = datasets.Dataset.from_dict({"a": [image], "b": [image], "name": ["tench"]}, features)
    made.save_to_disk(str(tmp_path / "saved"))
    keys = {"image_column": "b", "label_column": "name"}
    assert listed("huggingface", root=tmp_path / "saved", **keys).labels.tolist() == [0]
    with pytest.raises(
        InputError, match=r"2 columns are Image; give dataset\.image_column, one of a, b"
    ):
        listed("huggingface", root=tmp_path / "saved")


def test_rows_that_were_chosen_or_shuffled_before_saving(tmp_path):
    datasets = pytest.importorskip("datasets")
    root = saved_by_datasets(tmp_path / "saved", [0, 1, 0, 1], ["cat", "dog"])
    datasets.load_from_disk(str(root)).select([3, 0]).save_to_disk(str(tmp_path / "chosen"))
    images = listed("huggingface", root=tmp_path / "chosen")
    assert images.labels.tolist() == [1, 0]
    picture(3).save(tmp_path / "3.png")
    np.testing.assert_array_equal(
        decode(images.sources[0], SMALL), decode(tmp_path / "3.png", SMALL)
    )


# WebDataset's


def test_shards_are_read_in_any_order_to_the_same_list(tmp_path):
    shard_of(tmp_path / "s-001.tar", {"c": 2, "a": 0})
    shard_of(tmp_path / "s-000.tar", {"b": 1}, seed=7)
    found = [
        listed("webdataset", file=tmp_path / pattern)
        for pattern in ("s-{000..001}.tar", "s-{001,000}.tar", "s-*.tar", "s-00?.tar")
    ]
    for images in found:
        assert labels_by_key(images) == {"a": 0, "b": 1, "c": 2}
        assert images.keys == ("a", "b", "c")
    picture(7).save(tmp_path / "b.png")
    np.testing.assert_array_equal(
        decode(found[0].sources[1], SMALL), decode(tmp_path / "b.png", SMALL)
    )


def test_keys_do_not_depend_on_how_samples_are_spread_over_shards(tmp_path):
    shard_of(tmp_path / "one.tar", {"x/a": 0, "x/b": 1})
    for key, label in {"x/a": 0, "x/b": 1}.items():
        shard_of(tmp_path / f"two-{label}.tar", {key: label})
    one = listed("webdataset", file=tmp_path / "one.tar")
    two = listed("webdataset", file=tmp_path / "two-*.tar")
    assert labels_by_key(one) == labels_by_key(two) == {"x/a": 0, "x/b": 1}


def test_where_keys_repeat_the_shard_tells_them_apart(tmp_path):
    shard_of(tmp_path / "s-0.tar", {"0": 3})
    shard_of(tmp_path / "s-1.tar", {"0": 4})
    images = listed("webdataset", file=tmp_path / "s-*.tar")
    assert labels_by_key(images) == {"s-0/0": 3, "s-1/0": 4}


def test_labels_of_samples_are_classes_or_json(tmp_path):
    image = encoded(picture(0))
    members = []
    for key, (name, content) in {
        "a": ("cls", b" 3\n"),
        "b": ("json", b"4"),
        "c": ("json", json.dumps({"label": 5, "other": 6}).encode()),
        "d": ("json", json.dumps({"label": "7"}).encode()),
    }.items():
        members += [(f"./{key}.PNG", image), (f"./{key}.{name}", content)]
    file = tar_of(tmp_path / "s.tar", [*members, ("note.txt", b"x"), (".hidden.png", b"x")])
    assert labels_by_key(listed("webdataset", file=file)) == {"a": 3, "b": 4, "c": 5, "d": 7}
    file = tar_of(tmp_path / "t.tar", [("a.png", image), ("a.json", b'{"class": "tench"}')])
    assert listed("webdataset", file=file, label_column="class").labels.tolist() == [0]


def test_only_images_and_labels_are_looked_at(tmp_path):
    image, canary = encoded(picture(0)), pickle.dumps(Canary(tmp_path / "touched"))
    members = [
        ("a.png", image),
        ("a.cls", b"0"),
        ("a.pyd", canary),
        ("a.pkl", canary),
        ("b.pyd", canary),
    ]
    images = listed("webdataset", file=tar_of(tmp_path / "s.tar", members))
    assert len(loaded(images, tmp_path / "cache")) == 1
    assert not (tmp_path / "touched").exists()


def test_names_in_shards_lead_nowhere(tmp_path):
    folder = tmp_path / "deep" / "er"
    shard = shard_of(folder / "s.tar", {"../../out": 0, "/tmp/absolute": 1})
    with tarfile.open(shard, "a") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    images = listed("webdataset", file=shard)
    assert len(loaded(images, tmp_path / "cache")) == 2
    assert images.keys == ("../../out", "/tmp/absolute")
    assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == before


def test_what_the_webdataset_library_writes_is_read(tmp_path):
    library = pytest.importorskip("webdataset")
    written = picture(3)
    with library.ShardWriter(str(tmp_path / "s-%03d.tar"), maxcount=2, verbose=0) as writer:
        for number in range(5):
            writer.write({"__key__": f"{number:04}", "png": written, "cls": number})
    images = listed("webdataset", file=tmp_path / "s-{000..002}.tar")
    assert labels_by_key(images) == {f"{number:04}": number for number in range(5)}
    written.save(tmp_path / "3.png")
    np.testing.assert_array_equal(
        decode(images.sources[4], SMALL), decode(tmp_path / "3.png", SMALL)
    )


@settings(deadline=None)
@given(st.integers(0, 120), st.integers(0, 30), st.integers(1, 4))
def test_braces_stand_for_a_range_of_numbers_of_one_width(first, more, width):
    with tempfile.TemporaryDirectory() as folder:
        expected = [
            Path(folder) / f"s{number:0{width}}.tar" for number in range(first, first + more + 1)
        ]
        for path in expected:
            path.touch()
        pattern = Path(folder) / f"s{{{first:0{width}}..{first + more}}}.tar"
        assert expand_shards(pattern) == sorted(expected)


# One cache for all


def every_kind(tmp_path: Path, patch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The keys of a small data set of each kind, in which the third image is of class 1."""
    rows = [(f"{number}.png", number % 2) for number in range(4)]
    folder_of(tmp_path / "csv", *(name for name, _ in rows))
    np.savez(tmp_path / "a.npz", images=noise(4, 40, 48, 3), labels=[0, 0, 1, 0])
    labels = [0, 0, 1, 0]
    return {
        "csv": {"file": csv_of(tmp_path / "csv", rows)},
        "npz": {"file": tmp_path / "a.npz"},
        "torchvision": {
            "root": cifar10(tmp_path / "cifar", noise(4, 3, 32, 32), labels, patch),
            "name": "CIFAR10", "split": "test",
        },
        "huggingface": {"root": saved_by_datasets(tmp_path / "saved", labels, ["cat", "dog"])},
        "webdataset": {"file": shard_of(tmp_path / "s.tar", dict(zip("abcd", labels, strict=True)))},
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
            patch.setattr("pixelrobust.datasets.cache.decode", None)
            assert loaded(listed(kind, cache=cache, **keys), cache).digests == whole.digests, kind
        assert whole.classes == listed(kind, cache=cache, **keys).classes


def test_a_folder_and_a_csv_of_the_same_files_are_the_same_images(tmp_path):
    root = folder_of(tmp_path / "images", "tench/b.png", "goldfish/a.png", "tench/a.png")
    rows = [("tench/a.png", 0), ("goldfish/a.png", 1), ("tench/b.png", 0)]
    by_csv = loaded(listed("csv", file=csv_of(tmp_path, rows), root=root), tmp_path / "cache")
    by_folder = loaded(listed("imagefolder", root=root), tmp_path / "cache")
    assert image_list_digest(by_csv, range(3)) == image_list_digest(by_folder, range(3))


def test_other_arrays_and_columns_of_a_file_are_other_images(tmp_path):
    """Where all else is the same: the file, the number of images, their keys."""
    cache, first, second = tmp_path / "cache", noise(2, 40, 48, 3), noise(2, 40, 48, 3, seed=1)
    np.savez(tmp_path / "a.npz", a=first, b=second, labels=[0, 1])
    datasets = pytest.importorskip("datasets")
    image = datasets.Image()
    features = datasets.Features({"a": image, "b": image, "label": datasets.Value("int64")})
    columns = {
        name: [{"bytes": encoded(Image.fromarray(one)), "path": None} for one in values]
        for name, values in {"a": first, "b": second}.items()
    }
    made = datasets.Dataset.from_dict(columns | {"label": [0, 1]}, features=features)
    made.save_to_disk(str(tmp_path / "saved"))
    digests = [
        loaded(listed("npz", file=tmp_path / "a.npz", image_column=name), cache).digests
        for name in "ab"
    ]
    keys = {"root": tmp_path / "saved", "label_column": "label"}
    digests += [loaded(listed("huggingface", image_column=x, **keys), cache).digests for x in "ab"]
    assert digests[0] == digests[2] != digests[1] == digests[3]


def test_what_cannot_be_read_is_left_out_and_tried_again(tmp_path):
    members = [
        ("a.png", b"not found"),
        ("a.cls", b"0"),
        ("b.png", encoded(picture(0))),
        ("b.cls", b"1"),
    ]
    images = listed("webdataset", file=tar_of(tmp_path / "s.tar", members))
    for _ in range(2):
        found = load_images(images, SMALL, tmp_path / "cache", lambda done: None, True)
        assert (found.keys, found.labels.tolist(), list(found.unreadable)) == (("b",), [1], ["a"])


def test_other_content_of_the_same_name_is_decoded_anew(tmp_path):
    cache, file = tmp_path / "cache", tmp_path / "a.npz"
    digests = []
    for seed in (0, 1):
        np.savez(file, images=noise(2, 8 + seed, 8, 3, seed=seed), labels=[0, 1])
        digests.append(loaded(listed("npz", file=file), cache).digests)
    shard = tmp_path / "s.tar"
    for seed in (0, 1):
        shard_of(shard, dict.fromkeys("ab" if seed else "abc", 0), seed=9 * seed)
        digests.append(loaded(listed("webdataset", file=shard), cache).digests)
    for seed in (0, 1):
        root = mnist(tmp_path / str(seed), noise(2, 28, 28, seed=seed), [0, 1])
        (tmp_path / "root").unlink(missing_ok=True)
        (tmp_path / "root").symlink_to(root)
        keys = {"name": "MNIST", "split": "test", "root": tmp_path / "root"}
        digests.append(loaded(listed("torchvision", **keys), cache).digests)
    for first, second in zip(digests[::2], digests[1::2], strict=True):
        assert not set(first) & set(second)
