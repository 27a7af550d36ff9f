"""Runs on the command line over odd, few, doubled or missing images, and classes that do not fit."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Run
from tests.datasets.cases import cifar10, mnist, noise
from tests.fault_cases import (
    SIDE,
    caption,
    folder_of,
    images,
    manifest,
    network,
    saved,
    sentence,
    state,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = [
    f"dataset.preprocessing.resize={SIDE}", f"dataset.preprocessing.crop={SIDE}",
    "perturbation.num=4",
]  # fmt: skip
SHORT = ["retrain.num=[4]", "retrain.controls=[]", "retrain.epochs=1", "retrain.selected=false"]

Refused = Callable[..., str]


@pytest.fixture
def refused(run: Run, small_network: list[str]) -> Refused:
    """Return the sentence with which a run over a data set is refused."""
    return lambda *keys: sentence(run(*small_network, *SMALL, *keys))


def test_files_that_are_no_images_stop_a_run_or_are_left_out_named_and_counted(
    run: Run, small_network: list[str], refused: Refused, tmp_path: Path
) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png", "cat/b.png")
    for number in range(4):
        (root / "cat" / f"bad{number}.png").touch()
    assert f"image {root}/cat/bad0.png cannot be read (" in refused(*images(root))
    ended = run(*images(root), *small_network, "dataset.unreadable=skip")
    assert (ended.code, ended.err) == (0, "")
    named = "'cat/bad0.png', 'cat/bad1.png', 'cat/bad2.png', …"
    assert f"4 of 6 files cannot be read and are left out: {named}" in ended.out
    found = manifest(tmp_path / "results")
    assert (len(found["unreadable"]), found["files"], found["images"]) == (4, 6, 2)
    assert "4 of 6 files could not be read and were left out" in caption(tmp_path / "results")


def test_retraining_counts_the_files_of_both_splits(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png", "dog/a.png")
    train = folder_of(tmp_path / "train", "cat/b.png", "cat/c.png", "dog/b.png", "dog/c.png")
    (root / "cat" / "bad.png").touch()
    (train / "dog" / "worse.png").touch()
    ended = run(
        "experiment=table10", *images(root), *small_network, *SHORT,
        f"dataset.train_root={train}", "dataset.unreadable=skip",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    (page,) = (tmp_path / "results").glob("table10-*/table10.md")
    assert "2 of 8 files could not be read and were left out" in page.read_text(encoding="utf-8")


NAMES = [
    "two words.png", "two\nlines.png", "\u732b \u00e9.png", "[bold] x [red].png", "-rf;$(x)'\".png",
]  # fmt: skip


def test_any_name_will_do(run: Run, small_network: list[str], tmp_path: Path) -> None:
    root = folder_of(tmp_path / "images", *(f"cat/{name}" for name in NAMES))
    for name in NAMES:
        (root / "cat" / f"bad {name}").touch()
    ended = run(*images(root), *small_network, "dataset.unreadable=skip")
    assert (ended.code, ended.err) == (0, "")
    bad = sorted(f"cat/bad {name}" for name in NAMES)
    named = ", ".join(map(repr, bad[:3]))
    assert f"5 of 10 files cannot be read and are left out: {named}, …" in ended.out
    assert manifest(tmp_path / "results")["unreadable"] == bad
    (path,) = (tmp_path / "results").glob("run-*/outcomes/*.parquet")
    assert set(pd.read_parquet(path)["image"]) == {f"cat/{name}" for name in NAMES}


def test_images_that_are_there_twice_are_counted_and_told(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png", "cat/b.png")
    for name in ("c.png", "d.png"):
        (root / "cat" / name).write_bytes((root / "cat" / "a.png").read_bytes())
    ended = run(*images(root), *small_network)
    assert (ended.code, ended.err) == (0, "")
    (told,) = (line for line in caption(tmp_path / "results").splitlines() if "pixels of" in line)
    assert told.startswith("2 of the images")


def test_no_image_left_says_who_rejected_how_many(run: Run, tmp_path: Path) -> None:
    """Everything is taken for a cat, but all are dogs."""
    root = folder_of(tmp_path / "images", "dog/a.png", "dog/b.png", "dog/c.png")
    first, second = (saved(state(), tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    other = [
        "+model@models.b=torchvision", "models.b.name=squeezenet1_1", "models.b.label=other",
        f"models.b.weights={second}", "models.b.classes=2",
    ]  # fmt: skip
    told = sentence(run(*images(root), *network(first), *other))
    assert "(squeezenet1_1 rejects 3, other rejects 3)" in told


def test_a_label_without_an_output_is_refused(refused: Refused, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png", "emu/a.png")
    assert "2 outputs; check dataset.classes" in refused(*images(root, ["cat", "dog", "emu"]))


def test_other_classes_than_the_networks_are_refused(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cifar10(tmp_path / "cifar", noise(2, 3, 32, 32), [0, 1], monkeypatch)
    told = refused("dataset=torchvision", "dataset.name=CIFAR10", f"dataset.root={root}")
    assert "the data set has 10 classes of its own, but model squeezenet1_1 has 2 outputs" in told


def test_retraining_refuses_other_classes_unless_they_are_to_be_learnt(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    mnist(tmp_path, noise(4, 28, 28), [0, 1, 0, 1])
    command = [
        "experiment=table10", "dataset=torchvision", "dataset.name=MNIST", f"dataset.root={tmp_path}",
        *small_network, *SMALL, *SHORT,
    ]  # fmt: skip
    told = sentence(run(*command))
    assert "has 10 classes of its own, but model squeezenet1_1 has 2 outputs" in told
    assert run(*command, "dataset.classes=own").code == 0
