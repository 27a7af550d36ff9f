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
from tests.conftest import Happened, Run
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
from tests.fault_cases import SIDE, caption, folder_of, manifest, network, picture, saved, state
from tests.reliability import refusal, sentence, without_advice

pytestmark = pytest.mark.usefixtures("one_thread")

KIND = "Data sets of other kinds"
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


@pytest.mark.tries(KIND)
@pytest.mark.parametrize("make", BAD_CSV.values(), ids=BAD_CSV)
def test_a_bad_csv_is_refused(
    make: Callable[[Path], Any], refused: Refused, tmp_path: Path, happened: Happened
) -> None:
    folder_of(tmp_path / "data", "a.png", "b.png")
    make(tmp_path / "data" / "labels.csv")
    happened(refused("csv", f"dataset.file={tmp_path / 'data' / 'labels.csv'}"))


@pytest.mark.tries(KIND)
@pytest.mark.parametrize(
    ("kind", "key"),
    [("csv", "file"), ("npz", "file"), ("webdataset", "file"), ("huggingface", "root")],
    ids=["dataset=csv alone", "dataset=npz alone", "dataset=webdataset alone",
         "dataset=huggingface alone"],
)  # fmt: skip
def test_a_kind_alone_says_what_it_needs(
    kind: str, key: str, refused: Refused, happened: Happened
) -> None:
    told = refused(kind)
    assert (
        f"dataset.{key} is not set; give a f" in told or f"dataset.{key} is not set; give t" in told
    )
    happened(told)


@pytest.mark.tries(KIND, "a CSV that names a file which is not there")
def test_a_missing_file_stops_the_run_or_is_left_out(
    run: Run, small_network: list[str], tmp_path: Path, happened: Happened
) -> None:
    folder_of(tmp_path / "data", "a.png")
    file = csv_of(tmp_path / "data", [("a.png", 0), ("b.png", 0)])
    arguments = ["dataset=csv", f"dataset.file={file}", *small_network, *SMALL]
    stopped = without_advice(sentence(run(*arguments), tmp_path))
    ended = run(*arguments, "dataset.unreadable=skip")
    assert (ended.code, ended.err) == (0, "")
    assert manifest(tmp_path / "results")["unreadable"] == ["b.png"]
    assert "1 of 2 files could not be read" in caption(tmp_path / "results")
    happened(f"{stopped} Skipped: left out, named and counted.")


@pytest.mark.tries(KIND)
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
    keys: tuple[str, str], refused: Refused, happened: Happened
) -> None:
    happened(refused(*keys))


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


@pytest.mark.tries(KIND)
@pytest.mark.parametrize("make", BAD_NPZ.values(), ids=BAD_NPZ)
def test_a_bad_archive_is_refused(
    make: Callable[[Path], Any], refused: Refused, tmp_path: Path, happened: Happened
) -> None:
    make(tmp_path / "a.npz")
    happened(refused("npz", f"dataset.file={tmp_path / 'a.npz'}"))


@pytest.mark.tries(KIND, "a compressed archive with damaged images")
def test_damaged_images_of_an_archive_are_told(
    refused: Refused, tmp_path: Path, happened: Happened
) -> None:
    damaged_npz(tmp_path / "a.npz")
    told = refused("npz", f"dataset.file={tmp_path / 'a.npz'}")
    assert "image 0 of …/a.npz cannot be read (" in told
    happened(without_advice(told).partition(" (")[0])


# torchvision's


@pytest.mark.tries(KIND)
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
    keys: list[str], refused: Refused, tmp_path: Path, happened: Happened
) -> None:
    happened(refused("torchvision", f"dataset.root={tmp_path}", *keys))


@pytest.mark.tries(KIND, "CIFAR10 with other files than the published ones")
def test_altered_files_are_refused(refused: Refused, tmp_path: Path, happened: Happened) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cifar10(tmp_path, noise(2, 3, 32, 32), [0, 1], patch)
    happened(refused("torchvision", "dataset.name=CIFAR10", f"dataset.root={tmp_path}"))


@pytest.mark.tries(KIND, "a download of CIFAR10 without a network")
def test_a_download_that_fails_says_so(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happened: Happened
) -> None:
    def fail(*arguments: Any, **keys: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    keys = ["dataset.name=CIFAR10", f"dataset.root={tmp_path}", "dataset.download=true"]
    happened(refused("torchvision", *keys))


@pytest.mark.tries(KIND, "CIFAR10 on a network of ImageNet's 1000 classes")
def test_other_classes_than_the_networks_are_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happened: Happened
) -> None:
    cifar10(tmp_path, noise(2, 3, 32, 32), [0, 1], monkeypatch)
    weights = saved(state(1000), tmp_path / "w.safetensors")
    keys = ["dataset=torchvision", "dataset.name=CIFAR10", f"dataset.root={tmp_path}"]
    happened(sentence(run(*keys, *network(weights, 1000), *SMALL), tmp_path))


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


@pytest.mark.tries(KIND, "MNIST with a label too few")
def test_labels_that_are_missing_are_told(
    refused: Refused, tmp_path: Path, happened: Happened
) -> None:
    mnist(tmp_path, noise(3, 28, 28), [0, 1])
    happened(refused("torchvision", "dataset.name=MNIST", f"dataset.root={tmp_path}"))


@pytest.mark.tries(KIND, "MNIST cut in half")
def test_a_cut_file_of_torchvision_is_told(
    refused: Refused, tmp_path: Path, happened: Happened
) -> None:
    mnist(tmp_path, noise(3, 28, 28), [0, 1, 2])
    file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    told = refused("torchvision", "dataset.name=MNIST", f"dataset.root={tmp_path}")
    assert "MNIST cannot be read from dataset.root=… (" in told
    happened(told.partition(" (")[0])


@pytest.mark.tries(KIND, "Food101 with a file name that leads out of it")
def test_a_list_of_files_leads_nowhere(
    refused: Refused, tmp_path: Path, happened: Happened
) -> None:
    root = food101(tmp_path / "data", {"pizza": ["1"]})
    listed = {"pizza": ["../../../secret"]}
    (root / "food-101" / "meta" / "test.json").write_text(json.dumps(listed))
    picture(0).save(tmp_path / "secret.jpg")
    happened(refused("torchvision", "dataset.name=Food101", f"dataset.root={root}"))


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


@pytest.mark.tries(KIND)
@pytest.mark.parametrize(("make", "keys"), BAD_SAVED.values(), ids=BAD_SAVED)
def test_a_bad_saved_data_set_is_refused(
    make: Callable[[Path], Any],
    keys: list[str],
    refused: Refused,
    tmp_path: Path,
    happened: Happened,
) -> None:
    make(tmp_path / "saved")
    happened(refused("huggingface", f"dataset.root={tmp_path / 'saved'}", *keys))


@pytest.mark.tries(KIND, "a saved data set cut in half")
def test_a_cut_saved_data_set_is_refused(
    refused: Refused, tmp_path: Path, happened: Happened
) -> None:
    cut_arrow(tmp_path / "saved")
    told = refused("huggingface", f"dataset.root={tmp_path / 'saved'}")
    assert "cannot be read as a saved data set (" in told
    happened(told.partition(" (")[0])


@pytest.mark.tries(KIND, "a saved data set that only names the files of its images")
def test_files_that_are_only_named_are_not_looked_for(
    refused: Refused, tmp_path: Path, happened: Happened
) -> None:
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
    happened(without_advice(told))


@pytest.mark.tries(KIND, "Hugging Face's library not installed")
def test_a_library_that_is_not_there_is_named(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happened: Happened
) -> None:
    monkeypatch.setattr(pixelrobust.datasets.huggingface, "package_folder", lambda name: None)
    happened(refused("huggingface", f"dataset.root={tmp_path}"))


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


@pytest.mark.tries(KIND)
@pytest.mark.parametrize("make", BAD_SHARD.values(), ids=BAD_SHARD)
def test_a_bad_shard_is_refused(
    make: Callable[[Path], Any], refused: Refused, tmp_path: Path, happened: Happened
) -> None:
    make(tmp_path / "s.tar")
    happened(refused("webdataset", f"dataset.file={tmp_path / 's.tar'}"))


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


@pytest.mark.tries(KIND)
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
    happened: Happened,
) -> None:
    monkeypatch.chdir(tmp_path)
    told = refused("webdataset", f'dataset.file="{pattern}"')
    assert not (tmp_path / "canary").exists()
    happened(told)


@pytest.mark.tries(KIND)
@pytest.mark.parametrize(
    "pattern",
    ["s-{000..999999999}.tar", "s-{0..999}{0..999}.tar", "s-{0..9.tar", "s-*.tar"],
    ids=["braces of 10^9 files", "braces of 10^6 files", "a brace that is not closed",
         "a pattern that fits no file"],
)  # fmt: skip
def test_a_pattern_that_stands_for_too_much_or_nothing_is_refused(
    pattern: str, refused: Refused, tmp_path: Path, happened: Happened
) -> None:
    happened(refused("webdataset", f'dataset.file="{tmp_path}/{pattern}"'))


@pytest.mark.tries(KIND, "a shard with a picture that is a text")
def test_a_bad_picture_in_a_shard_stops_the_run_or_is_left_out(
    run: Run, small_network: list[str], tmp_path: Path, happened: Happened
) -> None:
    named = [("a.png", PNG), ("a.cls", b"0"), ("b.png", b"not found"), ("b.cls", b"0")]
    tar_of(tmp_path / "s.tar", named)
    arguments = ["dataset=webdataset", f"dataset.file={tmp_path / 's.tar'}", *small_network, *SMALL]
    stopped = without_advice(sentence(run(*arguments), tmp_path))
    ended = run(*arguments, "dataset.unreadable=skip")
    assert (ended.code, ended.err) == (0, "")
    assert manifest(tmp_path / "results")["unreadable"] == ["b"]
    assert "1 of 2 files cannot be read and are left out: 'b'" in ended.out
    happened(f"{stopped.partition(' (')[0]}. Skipped: left out, named and counted.")


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


@pytest.mark.tries(KIND)
@pytest.mark.parametrize("call", NOT_COLLECTED.values(), ids=NOT_COLLECTED)
def test_what_is_no_data_set_is_not_collected(call: Callable[[], Any], happened: Happened) -> None:
    happened(refusal(call))


def test_an_iteration_that_never_ends_is_not_waited_for() -> None:
    assert len(collect(Endless()).labels) == 2
