"""Data sets of other kinds that are damaged, incomplete, ambiguous, or lead elsewhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pixelrobust import collect
from tests.conftest import Happened, Run
from tests.data_cases import (
    cifar10,
    csv_of,
    encoded,
    food101,
    mnist,
    noise,
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
    [("csv", "file")],
    ids=["dataset=csv alone"],
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
        ("csv", "dataset.download=true"),
        ("torchvision", "dataset.name=5"),
    ],
    ids=["a key of another kind: file", "a key of another kind: split",
         "a key of another kind: download", "a number as a name"],
)  # fmt: skip
def test_a_key_that_means_nothing_is_refused(
    keys: tuple[str, str], refused: Refused, happened: Happened
) -> None:
    happened(refused(*keys))


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
