"""Data sets of other kinds that are damaged, incomplete, ambiguous, or lead elsewhere."""

import io
import json
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pixelrobust.datasets.huggingface
from pixelrobust import collect
from tests.conftest import Run
from tests.data_cases import (
    cifar10,
    csv_of,
    encoded,
    food101,
    mnist,
    noise,
    saved_by_datasets,
    shard_of,
    tar_of,
)
from tests.fault_cases import (
    SIDE,
    caption,
    folder_of,
    manifest,
    network,
    picture,
    refusal,
    saved,
    sentence,
    state,
    without_advice,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SAID = {
    "a CSV that is not there": "No such file or directory",
    "an empty CSV": "lacks the column 'path'",
    "a CSV with its header only": "names no image",
    "a CSV without a header": "its first line is 'a.png,0'",
    "a CSV with semicolons": "its first line is 'path;label'",
    "a CSV with two columns of one name": "its first line is 'path,label,label'",
    "a CSV with a row that is too long": "line 2 has 3 fields where the header has 2",
    "a CSV with a row that is too short": "line 2 has 1 fields where the header has 2",
    "a CSV with a row twice": "line 4: 'a.png' stands in line 2 already",
    "a CSV without a label in a row": "line 2 has no label",
    "a CSV without a path in a row": "line 2: '' is not a path",
    "a CSV with an unknown class": "class 'catt' is not among ImageNet-1k's classes",
    "a CSV with a label of -1": "line 2, has label -1",
    "a CSV with a label of 10^30": "line 2, has label 1000000000000000000000000000000",
    "a CSV with a label beyond the network's outputs": "label 2 is out of range for model squeezenet1_1, which has 2",
    "a CSV with a path that leads up": "line 2: the path 'b/../../a.png' leads out of the folder that",
    "a CSV with an absolute path": "line 2: the path '/data/a.png' leads out of the folder that paths",
    "a CSV with a path of Windows": "line 2: the path 'C:/data/a.png' leads out of the folder that",
    "a CSV with backslashes": "line 2: the path 'b\\\\a.png' has backslashes",
    "a CSV in Latin-1": "'utf-8' codec can't decode byte 0xe9 in position 14: invalid",
    "a CSV with a quote that is not closed": "unexpected end of data",
    "a CSV that is an image": "'utf-8' codec can't decode byte 0x89 in position 0: invalid start",
    "a key of another kind: file": "dataset.file means nothing to dataset.kind=imagefolder",
    "a key of another kind: split": "dataset.split means nothing to dataset.kind=csv",
    "a key of another kind: download": "dataset.download means nothing to dataset.kind=huggingface",
    "a number as a name": "dataset.name=5 is wrong: it should be a valid string",
    "an archive that is not there": "No such file or directory",
    "an archive that is no archive": "File is not a zip file",
    "an archive that is a pickle": "File is not a zip file",
    "an archive cut in half": "File is not a zip file",
    "an archive without images": "holds no array 'images'",
    "an archive without labels": "holds no array 'labels'",
    "an archive of no images": "0, 40, 40, 3), in which there is no image",
    "an archive of floating-point images": "array images is float64, whose range is not stated",
    "an archive of 16-bit images": "array images is uint16, whose range is not stated",
    "an archive of objects as images": "array images holds Python objects, which could run code",
    "an archive of objects as labels": "array labels holds Python objects, which could run code",
    "an archive of one image without N": "array images has shape",
    "an archive of images of four channels": "array images has shape",
    "an archive of images of shape (N, 3, 40, 3)": "2, 3, 40, 3), which fits",
    "an archive in Fortran's order": "array images is in Fortran's order",
    "an archive with a label too few": "holds 2 images, but 1 labels",
    "an archive with one-hot labels": "array labels has shape",
    "an archive with labels of floating point": "array labels is float64",
    "an archive with a label of -1": "image 1 has label -1",
    "an archive with a key twice": "the key 'é' is there twice",
    "an archive with numbers as keys": "array keys is int64 of shape",
    "an archive with a key too few": "array keys is <U1 of shape",
    "an archive whose labels say they are 10^9": "labels is shorter than its header says",
    "dataset=torchvision alone": "dataset.name is not set",
    "a data set that is not among those of torchvision": "dataset.name=ImageNet is unknown",
    "a split that MNIST lacks": "MNIST has no dataset.split=val",
    "a split without labels": "STL10 has no dataset.split=unlabeled",
    "MNIST that is not there": "MNIST cannot be read from",
    "CIFAR10 that is not there": "Dataset not found or corrupted",
    "Food101 that is not there": "Food101 cannot be read from",
    "a folder that no library saved": "holds no saved data set",
    "a saved data set, and a split that it lacks": "has the splits test",
    "a saved data set of two splits, and none named": "has the splits test, train",
    "a saved data set without splits, and one named": "has no splits",
    "a saved data set, and a column that it lacks": "dataset.image_column=picture is no such column",
    "a saved data set with labels of -1": "has label -1, but there are 2 classes",
    "a saved data set of three classes on a network of two": "the data set has 3 classes of its own, but model squeezenet1_1",
    "a saved data set that names files of other folders": "state.json names '../x.arrow', which is no file of this folder",
    "a saved data set whose state is no JSON": "Expecting property name enclosed in double quotes: line 1 column 2",
    "a shard that is not there": "is not a file",
    "a shard of zero bytes": "cannot be read as an uncompressed tar file",
    "a shard that is a text": "cannot be read as an uncompressed tar file",
    "a compressed shard": "cannot be read as an uncompressed tar file",
    "a shard cut within a picture": "cannot be read as an uncompressed tar file",
    "a shard cut within a header": "it ends, or is damaged, before its end mark",
    "a shard with a damaged header": "it ends, or is damaged, before its end mark",
    "a shard without images": "the tar files hold no image",
    "a shard with an image without a label": "sample 'a' in",
    "a shard with two images of a sample": "'a.png' and 'a.jpg'",
    "a shard with a sample twice": "holds 'a.cls' twice",
    "a shard with a label of no number": "'utf-8' codec can't decode byte 0xff in position 0: invalid start",
    "a shard with an empty label": "its label is ''",
    "a shard with a broken .json": "Expecting property name enclosed in double quotes: line 1 column 2",
    "a shard with a .json without the member": "its .json has no member 'label'",
    "a shard with a .json of a list": "its label is [1]",
    "a shard with a .json of 100,000 brackets": "maximum recursion depth exceeded while decoding a JSON array from",
    "pipe:touch canary": "dataset.file='pipe:touch canary' is an address, but only files of",
    "pipe:touch canary | cat shards-{000..009}.tar": "dataset.file='pipe:touch canary | cat shards-{000..009}.tar' is",
    "file:/data/s.tar": "dataset.file='file:/data/s.tar' is an address, but only files of",
    "https://example.org/s.tar": "dataset.file='https://example.org/s.tar' is an address, but only",
    "s3://bucket/s.tar": "dataset.file='s3://bucket/s.tar' is an address, but only files of",
    "braces of 10^9 files": "is more than 100,000 files",
    "braces of 10^6 files": "is more than 100,000 files",
    "a brace that is not closed": "has a brace too many",
    "a pattern that fits no file": "no file fits",
    "collect: nothing": "there is no item",
    "collect: a number": "items of type int cannot be gone through",
    "collect: images without labels": "item 0 is of type Image",
    "collect: a DataLoader": "item 0 holds a tensor of shape",
    "collect: images of two sizes": "3, 20, 20), but item 0 uint8",
    "collect: tensors of two kinds": "3, 8, 8), but item 0 float32",
    "collect: tensors to be resized": "item 0 is a tensor, and tensors are taken as they are",
    "collect: a crop without a size": "resize=None is wrong: it should be a valid integer",
    "collect: an array of floating point": "item 0 is an array of float64, whose range is not stated",
    "collect: a 16-bit image": "item 0 has values of more than 8 bits, and no stated range",
    "collect: a text as an image": "item 0 holds an image of type str",
    "collect: a name as a label": "item 0 has label 'cat'",
    "collect: a label of -1": "item 0 has label -1",
    "collect: a key too few": "2 images came with 1 keys",
    "collect: a key twice": "keys are there twice, and such images would get the same changes",
}
"""What the sentence about each case says, by the case's id."""
SMALL = [
    f"dataset.preprocessing.resize={SIDE}",
    f"dataset.preprocessing.crop={SIDE}",
    "perturbation.num=4",
]


@pytest.fixture
def refused(run: Run, small_network: list[str], tmp_path: Path) -> Callable[..., str]:
    """What a run over a data set is refused with."""

    def call(kind: str, *keys: str) -> str:
        return sentence(run(f"dataset={kind}", *keys, *small_network, *SMALL), tmp_path)

    return call


Refused = Callable[..., str]

# CSV files


def latin1(path: Path) -> None:
    path.write_bytes("path,label\ncaf\u00e9.png,0\n".encode("latin-1"))


def text(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(content, encoding="utf-8")


BAD_CSV: dict[str, Callable[[Path], Any]] = {
    "a CSV that is not there": lambda path: None,
    "an empty CSV": text(""),
    "a CSV with its header only": text("path,label\n"),
    "a CSV without a header": text("a.png,0\nb.png,1\n"),
    "a CSV with semicolons": text("path;label\na.png;0\n"),
    "a CSV with two columns of one name": text("path,label,label\na.png,0,1\n"),
    "a CSV with a row that is too long": text("path,label\na, b.png,0\n"),
    "a CSV with a row that is too short": text("path,label\na.png\n"),
    "a CSV with a row twice": text("path,label\na.png,0\nb.png,1\n./a.png,0\n"),
    "a CSV without a label in a row": text("path,label\na.png,\n"),
    "a CSV without a path in a row": text("path,label\n,0\n"),
    "a CSV with an unknown class": text("path,label\na.png,catt\n"),
    "a CSV with a label of -1": text("path,label\na.png,-1\n"),
    "a CSV with a label of 10^30": text(f"path,label\na.png,{10**30}\n"),
    "a CSV with a label beyond the network's outputs": text("path,label\na.png,2\n"),
    "a CSV with a path that leads up": text("path,label\nb/../../a.png,0\n"),
    "a CSV with an absolute path": text("path,label\n/data/a.png,0\n"),
    "a CSV with a path of Windows": text("path,label\nC:/data/a.png,0\n"),
    "a CSV with backslashes": text("path,label\nb\\a.png,0\n"),
    "a CSV in Latin-1": latin1,
    "a CSV with a quote that is not closed": text('path,label\n"a.png,0\n'),
    "a CSV that is an image": lambda path: path.write_bytes(encoded(picture(0))),
}


@pytest.mark.parametrize("make", BAD_CSV.values(), ids=BAD_CSV)
def test_a_bad_csv_is_refused(
    make: Callable[[Path], Any], refused: Refused, tmp_path: Path, words: str
) -> None:
    folder_of(tmp_path / "data", "a.png", "b.png")
    make(tmp_path / "data" / "labels.csv")
    assert words in refused("csv", f"dataset.file={tmp_path / 'data' / 'labels.csv'}")


@pytest.mark.parametrize(
    ("kind", "key"),
    [("csv", "file"), ("npz", "file"), ("webdataset", "file"), ("huggingface", "root")],
    ids=["dataset=csv alone", "dataset=npz alone", "dataset=webdataset alone",
         "dataset=huggingface alone"],
)  # fmt: skip
def test_a_kind_alone_says_what_it_needs(kind: str, key: str, refused: Refused) -> None:
    assert f"dataset.{key} is not set; give" in refused(kind)


def test_a_missing_file_stops_the_run_or_is_left_out(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    folder_of(tmp_path / "data", "a.png")
    file = csv_of(tmp_path / "data", [("a.png", 0), ("b.png", 0)])
    arguments = ["dataset=csv", f"dataset.file={file}", *small_network, *SMALL]
    stopped = without_advice(sentence(run(*arguments), tmp_path))
    ended = run(*arguments, "dataset.unreadable=skip")
    assert (ended.code, ended.err) == (0, "")
    assert manifest(tmp_path / "results")["unreadable"] == ["b.png"]
    assert "1 of 2 files could not be read" in caption(tmp_path / "results")
    assert "No such file or directory)" in stopped


@pytest.mark.parametrize(
    "keys",
    [
        ("imagefolder", "dataset.file=labels.csv"),
        ("csv", "dataset.split=test"),
        ("huggingface", "dataset.download=true"),
        ("torchvision", "dataset.name=5"),
    ],
    ids=["a key of another kind: file", "a key of another kind: split",
         "a key of another kind: download", "a number as a name"],
)  # fmt: skip
def test_a_key_that_means_nothing_is_refused(
    keys: tuple[str, str], refused: Refused, words: str
) -> None:
    assert words in refused(*keys)


# NumPy archives


def npz(**arrays: Any) -> Callable[[Path], Any]:
    return lambda path: np.savez(path, **arrays)


def damaged_npz(path: Path) -> None:
    """Compressed images, some bytes of which are others."""
    np.savez_compressed(path, labels=[0, 0], images=noise(2, 40, 40, 3))
    content = bytearray(path.read_bytes())
    content[-3000:-2900] = bytes(100)
    path.write_bytes(content)


def cut_npz(path: Path) -> None:
    np.savez(path, images=noise(2, 40, 40, 3), labels=[0, 0])
    path.write_bytes(path.read_bytes()[:5000])


def lying_npz(path: Path) -> None:
    """Labels that say they are a thousand million."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<i8", "fortran_order": False, "shape": (10**9,)}
    )
    np.savez(path, images=noise(2, 40, 40, 3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.npy", header.getvalue())


OBJECTS = np.array([noise(4, 4, 3), noise(5, 5, 3)], dtype=object)

BAD_NPZ: dict[str, Callable[[Path], Any]] = {
    "an archive that is not there": lambda path: None,
    "an archive that is no archive": lambda path: path.write_bytes(b"PK not an archive"),
    "an archive that is a pickle": lambda path: path.write_bytes(pickle.dumps([1])),
    "an archive cut in half": cut_npz,
    "an archive without images": npz(labels=[0, 1]),
    "an archive without labels": npz(images=noise(2, 40, 40, 3)),
    "an archive of no images": npz(images=noise(0, 40, 40, 3), labels=np.array([], int)),
    "an archive of floating-point images": npz(images=np.zeros((2, 40, 40, 3)), labels=[0, 1]),
    "an archive of 16-bit images": npz(images=np.zeros((2, 40, 40, 3), np.uint16), labels=[0, 1]),
    "an archive of objects as images": npz(images=OBJECTS, labels=[0, 1]),
    "an archive of objects as labels": npz(
        images=noise(2, 40, 40, 3), labels=np.array(["cat", 1], dtype=object)
    ),
    "an archive of one image without N": npz(images=noise(40, 40), labels=[0]),
    "an archive of images of four channels": npz(images=noise(2, 40, 40, 4), labels=[0, 1]),
    "an archive of images of shape (N, 3, 40, 3)": npz(images=noise(2, 3, 40, 3), labels=[0, 1]),
    "an archive in Fortran's order": npz(
        images=np.asfortranarray(noise(2, 40, 40, 3)), labels=[0, 1]
    ),
    "an archive with a label too few": npz(images=noise(2, 40, 40, 3), labels=[0]),
    "an archive with one-hot labels": npz(images=noise(2, 40, 40, 3), labels=np.eye(2, dtype=int)),
    "an archive with labels of floating point": npz(images=noise(2, 40, 40, 3), labels=[0.0, 1.0]),
    "an archive with a label of -1": npz(images=noise(2, 40, 40, 3), labels=[0, -1]),
    "an archive with a key twice": npz(
        images=noise(2, 40, 40, 3), labels=[0, 0], keys=["\u00e9", "e\u0301"]
    ),
    "an archive with numbers as keys": npz(images=noise(2, 40, 40, 3), labels=[0, 0], keys=[1, 2]),
    "an archive with a key too few": npz(images=noise(2, 40, 40, 3), labels=[0, 0], keys=["a"]),
    "an archive whose labels say they are 10^9": lying_npz,
}


@pytest.mark.parametrize("make", BAD_NPZ.values(), ids=BAD_NPZ)
def test_a_bad_archive_is_refused(
    make: Callable[[Path], Any], refused: Refused, tmp_path: Path, words: str
) -> None:
    make(tmp_path / "a.npz")
    assert words in refused("npz", f"dataset.file={tmp_path / 'a.npz'}")


def test_damaged_images_of_an_archive_are_told(refused: Refused, tmp_path: Path) -> None:
    damaged_npz(tmp_path / "a.npz")
    told = refused("npz", f"dataset.file={tmp_path / 'a.npz'}")
    assert "image 0 of …/a.npz cannot be read (" in told


# torchvision's


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["dataset.name=ImageNet"],
        ["dataset.name=MNIST", "dataset.split=val"],
        ["dataset.name=STL10", "dataset.split=unlabeled"],
        ["dataset.name=MNIST"],
        ["dataset.name=CIFAR10"],
        ["dataset.name=Food101"],
    ],
    ids=["dataset=torchvision alone", "a data set that is not among those of torchvision",
         "a split that MNIST lacks", "a split without labels", "MNIST that is not there",
         "CIFAR10 that is not there", "Food101 that is not there"],
)  # fmt: skip
def test_what_torchvision_lacks_is_refused(
    keys: list[str], refused: Refused, tmp_path: Path, words: str
) -> None:
    assert words in refused("torchvision", f"dataset.root={tmp_path}", *keys)


def test_altered_files_are_refused(refused: Refused, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cifar10(tmp_path, noise(2, 3, 32, 32), [0, 1], patch)
    assert "Dataset not found or corrupted)" in refused(
        "torchvision", "dataset.name=CIFAR10", f"dataset.root={tmp_path}"
    )


def test_a_download_that_fails_says_so(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **keys: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    keys = ["dataset.name=CIFAR10", f"dataset.root={tmp_path}", "dataset.download=true"]
    assert "CIFAR10 cannot be read from" in refused("torchvision", *keys)


def test_other_classes_than_the_networks_are_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar10(tmp_path, noise(2, 3, 32, 32), [0, 1], monkeypatch)
    weights = saved(state(1000), tmp_path / "w.safetensors")
    keys = ["dataset=torchvision", "dataset.name=CIFAR10", f"dataset.root={tmp_path}"]
    assert "the data set has 10 classes of its own, but model squeezenet1_1" in sentence(
        run(*keys, *network(weights, 1000), *SMALL), tmp_path
    )


def test_retraining_refuses_other_classes_unless_they_are_to_be_learnt(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    mnist(tmp_path, noise(4, 28, 28), [0, 1, 0, 1])
    short = ["retrain.num=[4]", "retrain.controls=[]", "retrain.epochs=1", "retrain.selected=false"]
    command = [
        "experiment=table10", "dataset=torchvision", "dataset.name=MNIST", f"dataset.root={tmp_path}",
        *small_network, *SMALL, *short,
    ]  # fmt: skip
    told = sentence(run(*command), tmp_path)
    assert "has 10 classes of its own, but model squeezenet1_1 has 2 outputs" in told
    assert run(*command, "dataset.classes=own").code == 0


def test_labels_that_are_missing_are_told(refused: Refused, tmp_path: Path) -> None:
    mnist(tmp_path, noise(3, 28, 28), [0, 1])
    assert "has 3 images, but 2 labels" in refused(
        "torchvision", "dataset.name=MNIST", f"dataset.root={tmp_path}"
    )


def test_a_cut_file_of_torchvision_is_told(refused: Refused, tmp_path: Path) -> None:
    mnist(tmp_path, noise(3, 28, 28), [0, 1, 2])
    file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    told = refused("torchvision", "dataset.name=MNIST", f"dataset.root={tmp_path}")
    assert "MNIST cannot be read from dataset.root=… (" in told


def test_a_list_of_files_leads_nowhere(refused: Refused, tmp_path: Path) -> None:
    root = food101(tmp_path / "data", {"pizza": ["1"]})
    listed = {"pizza": ["../../../secret"]}
    (root / "food-101" / "meta" / "test.json").write_text(json.dumps(listed))
    picture(0).save(tmp_path / "secret.jpg")
    assert "which leads out of it" in refused(
        "torchvision", "dataset.name=Food101", f"dataset.root={root}"
    )


# Hugging Face's


def two_splits(root: Path) -> None:
    saved_by_datasets(root, [0, 1], ["cat", "dog"], "test")
    shutil.copytree(root / "test", root / "train")
    (root / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')


def edited(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A saved data set, one file of which says something else."""

    def make(root: Path) -> None:
        saved_by_datasets(root, [0, 1], ["cat", "dog"])
        content = json.loads((root / name).read_text())
        change(content)
        (root / name).write_text(json.dumps(content))

    return make


def cut_arrow(root: Path) -> None:
    saved_by_datasets(root, [0, 1], ["cat", "dog"])
    (file,) = root.glob("*.arrow")
    file.write_bytes(file.read_bytes()[:300])


def unlabelled(root: Path) -> None:
    saved_by_datasets(root, [0, -1], ["cat", "dog"])


BAD_SAVED: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "a folder that no library saved": (lambda root: root.mkdir(), []),
    "a saved data set, and a split that it lacks": (
        lambda root: saved_by_datasets(root, [0, 1], ["cat", "dog"], "test"),
        ["dataset.split=val"],
    ),
    "a saved data set of two splits, and none named": (two_splits, []),
    "a saved data set without splits, and one named": (
        lambda root: saved_by_datasets(root, [0, 1], ["cat", "dog"]),
        ["dataset.split=test"],
    ),
    "a saved data set, and a column that it lacks": (
        lambda root: saved_by_datasets(root, [0, 1], ["cat", "dog"]),
        ["dataset.image_column=picture"],
    ),
    "a saved data set with labels of -1": (unlabelled, []),
    "a saved data set of three classes on a network of two": (
        lambda root: saved_by_datasets(root, [0, 1], ["cat", "dog", "emu"]),
        [],
    ),
    "a saved data set that names files of other folders": (
        edited("state.json", lambda state: state["_data_files"][0].update(filename="../x.arrow")),
        [],
    ),
    "a saved data set whose state is no JSON": (
        lambda root: (
            saved_by_datasets(root, [0, 1], ["cat", "dog"]),
            (root / "state.json").write_text("{"),
        ),
        [],
    ),
}


@pytest.mark.parametrize(("make", "keys"), BAD_SAVED.values(), ids=BAD_SAVED)
def test_a_bad_saved_data_set_is_refused(
    make: Callable[[Path], Any],
    keys: list[str],
    refused: Refused,
    tmp_path: Path,
    words: str,
) -> None:
    make(tmp_path / "saved")
    assert words in refused("huggingface", f"dataset.root={tmp_path / 'saved'}", *keys)


def test_a_cut_saved_data_set_is_refused(refused: Refused, tmp_path: Path) -> None:
    cut_arrow(tmp_path / "saved")
    told = refused("huggingface", f"dataset.root={tmp_path / 'saved'}")
    assert "cannot be read as a saved data set (" in told


def test_files_that_are_only_named_are_not_looked_for(refused: Refused, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    picture(0).save(tmp_path / "secret.png")
    features = datasets.Features(
        {
            "image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "label": datasets.ClassLabel(names=["cat", "dog"]),
        }
    )
    image = {"bytes": None, "path": str(tmp_path / "secret.png")}
    made = datasets.Dataset.from_dict({"image": [image], "label": [0]}, features=features)
    made.save_to_disk(str(tmp_path / "saved"))
    info = tmp_path / "saved" / "dataset_info.json"
    content = json.loads(info.read_text())
    content["features"]["image"] = {"_type": "Image"}
    info.write_text(json.dumps(content))
    told = refused("huggingface", f"dataset.root={tmp_path / 'saved'}")
    assert "the data set holds no image here, or only the name of a file" in told


def test_a_library_that_is_not_there_is_named(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixelrobust.datasets.huggingface, "package_folder", lambda name: None)
    assert "dataset.kind=huggingface needs the package datasets, which is not" in refused(
        "huggingface", f"dataset.root={tmp_path}"
    )


# WebDataset's


def cut_shard(at: int) -> Callable[[Path], Any]:
    def make(path: Path) -> None:
        shard_of(path, {"a": 0, "b": 1})
        path.write_bytes(path.read_bytes()[:at])

    return make


def damaged_shard(path: Path) -> None:
    """The header of the second member is noise."""
    shard_of(path, {"a": 0, "b": 1})
    with tarfile.open(path) as archive:
        place = archive.getmembers()[1].offset
    content = bytearray(path.read_bytes())
    content[place : place + 512] = noise(512).tobytes()
    path.write_bytes(content)


def packed_shard(path: Path) -> None:
    with tarfile.open(path, "w:gz"):
        pass


def members(*named: tuple[str, bytes]) -> Callable[[Path], Any]:
    return lambda path: tar_of(path, named)


PNG = encoded(picture(0))
# A header, a picture of 6 KB and what fills its last block; a header, and a label of one block.
BAD_SHARD: dict[str, Callable[[Path], Any]] = {
    "a shard that is not there": lambda path: None,
    "a shard of zero bytes": lambda path: path.touch(),
    "a shard that is a text": lambda path: path.write_text("not a tar file " * 100),
    "a compressed shard": packed_shard,
    "a shard cut within a picture": cut_shard(3000),
    "a shard cut within a header": cut_shard(512 + 6144 + 100),
    "a shard with a damaged header": damaged_shard,
    "a shard without images": members(("a.cls", b"0"), ("b.txt", b"x")),
    "a shard with an image without a label": members(("a.png", PNG)),
    "a shard with two images of a sample": members(("a.png", PNG), ("a.jpg", PNG), ("a.cls", b"0")),
    "a shard with a sample twice": members(
        ("a.png", PNG), ("a.cls", b"0"), ("a.png", PNG), ("a.cls", b"0")
    ),
    "a shard with a label of no number": members(("a.png", PNG), ("a.cls", b"\xff\xfe")),
    "a shard with an empty label": members(("a.png", PNG), ("a.cls", b" \n")),
    "a shard with a broken .json": members(("a.png", PNG), ("a.json", b"{")),
    "a shard with a .json without the member": members(("a.png", PNG), ("a.json", b'{"x": 1}')),
    "a shard with a .json of a list": members(("a.png", PNG), ("a.json", b'{"label": [1]}')),
    "a shard with a .json of 100,000 brackets": members(("a.png", PNG), ("a.json", b"[" * 100_000)),
}


@pytest.mark.parametrize("make", BAD_SHARD.values(), ids=BAD_SHARD)
def test_a_bad_shard_is_refused(
    make: Callable[[Path], Any], refused: Refused, tmp_path: Path, words: str
) -> None:
    make(tmp_path / "s.tar")
    assert words in refused("webdataset", f"dataset.file={tmp_path / 's.tar'}")


def test_a_shard_cut_between_members_is_refused(refused: Refused, tmp_path: Path) -> None:
    """Python's tarfile takes such an archive for a whole one."""
    shard_of(tmp_path / "s.tar", {"a": 0, "b": 1})
    with tarfile.open(tmp_path / "s.tar") as archive:
        places = [member.offset for member in archive.getmembers()]
    whole = (tmp_path / "s.tar").read_bytes()
    for place in places[1:]:
        (tmp_path / "s.tar").write_bytes(whole[:place])
        told = refused("webdataset", f"dataset.file={tmp_path / 's.tar'}")
        assert "it ends, or is damaged, before its end mark" in told


@pytest.mark.parametrize(
    "pattern",
    ["pipe:touch canary", "pipe:touch canary | cat shards-{000..009}.tar", "file:/data/s.tar",
     "https://example.org/s.tar", "s3://bucket/s.tar"],
)  # fmt: skip
def test_an_address_is_refused_and_no_command_is_run(
    pattern: str,
    refused: Refused,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    told = refused("webdataset", f'dataset.file="{pattern}"')
    assert not (tmp_path / "canary").exists()
    assert words in told


@pytest.mark.parametrize(
    "pattern",
    ["s-{000..999999999}.tar", "s-{0..999}{0..999}.tar", "s-{0..9.tar", "s-*.tar"],
    ids=["braces of 10^9 files", "braces of 10^6 files", "a brace that is not closed",
         "a pattern that fits no file"],
)  # fmt: skip
def test_a_pattern_that_stands_for_too_much_or_nothing_is_refused(
    pattern: str, refused: Refused, tmp_path: Path, words: str
) -> None:
    assert words in refused("webdataset", f'dataset.file="{tmp_path}/{pattern}"')


def test_a_bad_picture_in_a_shard_stops_the_run_or_is_left_out(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    named = [("a.png", PNG), ("a.cls", b"0"), ("b.png", b"not found"), ("b.cls", b"0")]
    tar_of(tmp_path / "s.tar", named)
    arguments = ["dataset=webdataset", f"dataset.file={tmp_path / 's.tar'}", *small_network, *SMALL]
    stopped = without_advice(sentence(run(*arguments), tmp_path))
    ended = run(*arguments, "dataset.unreadable=skip")
    assert (ended.code, ended.err) == (0, "")
    assert manifest(tmp_path / "results")["unreadable"] == ["b"]
    assert "1 of 2 files cannot be read and are left out: 'b'" in ended.out
    assert "image b.png in" in stopped


# Given to `collect`


class Endless:
    """A data set that never ends an iteration, as torch's need not."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return picture(0), 0


NOT_COLLECTED: dict[str, Callable[[], Any]] = {
    "collect: nothing": lambda: collect([]),
    "collect: a number": lambda: collect(5),
    "collect: images without labels": lambda: collect([picture(0)]),
    "collect: a DataLoader": lambda: collect(
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4)))
    ),
    "collect: images of two sizes": lambda: collect([(picture(0), 0), (picture(1, 20, 20), 0)]),
    "collect: tensors of two kinds": lambda: collect(
        [(torch.zeros(3, 8, 8), 0), (torch.zeros(3, 8, 8, dtype=torch.uint8), 0)]
    ),
    "collect: tensors to be resized": lambda: collect([(torch.zeros(3, 8, 8), 0)], resize=8, crop=8),
    "collect: a crop without a size": lambda: collect([(picture(0), 0)], crop=8),
    "collect: an array of floating point": lambda: collect([(np.zeros((8, 8, 3)), 0)]),
    "collect: a 16-bit image": lambda: collect([(Image.new("I;16", (8, 8)), 0)]),
    "collect: a text as an image": lambda: collect([("a.png", 0)]),
    "collect: a name as a label": lambda: collect([(picture(0), "cat")]),
    "collect: a label of -1": lambda: collect([(picture(0), -1)]),
    "collect: a key too few": lambda: collect([(picture(0), 0), (picture(1), 0)], keys=["a"]),
    "collect: a key twice": lambda: collect([(picture(0), 0), (picture(1), 0)], keys=["a", "a"]),
}  # fmt: skip


@pytest.mark.parametrize("call", NOT_COLLECTED.values(), ids=NOT_COLLECTED)
def test_what_is_no_data_set_is_not_collected(call: Callable[[], Any], words: str) -> None:
    assert words in refusal(call)


def test_an_iteration_that_never_ends_is_not_waited_for() -> None:
    assert len(collect(Endless()).labels) == 2
