"""Folders of images with odd names, too few images, the same image twice, or classes that do not fit."""

import os
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Run
from tests.fault_cases import caption, folder_of, images, manifest, network, saved, sentence, state

pytestmark = pytest.mark.usefixtures("one_thread")

SAID = {
    "no folder": "holds no images in class folders",
    "empty folders": "holds no images in class folders",
    "a class that dataset.classes lacks": "class folder 'catt' is not among the names in dataset.classes",
    "a class that ImageNet lacks": "class folder 'catt' is not among ImageNet-1k's classes",
    "a name of two classes of ImageNet": "class folder 'crane' fits 2 of ImageNet-1k's classes",
}
"""What the sentence about each case says, by the case's id."""


def stored_images(results: Path) -> list[str]:
    (path,) = results.glob("run-*/outcomes/*.parquet")
    return [str(key) for key in pd.read_parquet(path)["image"].unique()]


# Names


@pytest.mark.parametrize(
    "name",
    ["two words.png", "two\nlines.png", "\u732b \u00e9.png", "[bold] x [red].png", "-rf;$(x)'\".png"],
    ids=["a name with a space", "a name with a newline", "a name beyond ASCII",
         "a name like markup", "a name of signs"],
)  # fmt: skip
def test_any_name_will_do(name: str, run: Run, small_network: list[str], tmp_path: Path) -> None:
    root = folder_of(tmp_path / "images", "cat/plain.png", f"cat/{name}")
    (root / "cat" / f"bad {name}").touch()
    ended = run(*images(root), *small_network, "dataset.unreadable=skip")
    assert (ended.code, ended.err) == (0, "")
    assert f"1 of 3 files cannot be read and are left out: {f'cat/bad {name}'!r}" in ended.out
    assert set(stored_images(tmp_path / "results")) == {"cat/plain.png", f"cat/{name}"}
    assert manifest(tmp_path / "results")["unreadable"] == [f"cat/bad {name}"]


def test_a_name_that_is_not_unicode_is_refused(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    root = folder_of(tmp_path / "images", "cat/plain.png")
    (root / "cat" / "plain.png").rename(root / "cat" / os.fsdecode(b"\xff.png"))
    assert "has a name that is not Unicode, as outcomes keep it" in sentence(
        run(*images(root), *small_network), tmp_path
    )


# How many images


def test_a_class_folder_without_images_is_ignored(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png", "cat/b.png")
    (root / "dog").mkdir()
    (root / "nothing at all").mkdir()
    ended = run(*images(root), *small_network)
    assert (ended.code, ended.err) == (0, "")
    found = manifest(tmp_path / "results")
    assert (found["images"], found["files"]) == (2, 2)


@pytest.mark.parametrize("folders", [(), ("cat", "dog")], ids=["no folder", "empty folders"])
def test_a_folder_without_images_is_refused(
    folders: tuple[str, ...], run: Run, small_network: list[str], tmp_path: Path, words: str
) -> None:
    for name in ("", *folders):
        (tmp_path / "images" / name).mkdir()
    assert words in sentence(run(*images(tmp_path / "images"), *small_network), tmp_path)


def test_one_image_gives_wide_intervals(run: Run, small_network: list[str], tmp_path: Path) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png")
    ended = run(*images(root), *small_network, "perturbation.num=[4,64]", "draws=3")
    assert (ended.code, ended.err) == (0, "")
    (path,) = (tmp_path / "results").glob("run-*/table.csv")
    table = pd.read_csv(path)
    assert table["images"].tolist() == [1, 1, 1]
    assert table["wrong"].tolist() == [0, 0, 0]
    # Wilson's interval for 0 of 1 is 0 .. z² / (1 + z²), z = 1.959964.
    assert table["ci_high"].tolist() == pytest.approx([0.793450] * 3, abs=1e-6)


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


# Classes


@pytest.mark.parametrize(
    ("folder", "extra"),
    [("catt", []), ("catt", ["dataset.classes=null"]), ("crane", ["dataset.classes=null"])],
    ids=["a class that dataset.classes lacks", "a class that ImageNet lacks",
         "a name of two classes of ImageNet"],
)  # fmt: skip
def test_a_class_that_is_not_known_is_refused(
    folder: str,
    extra: list[str],
    run: Run,
    small_network: list[str],
    tmp_path: Path,
    words: str,
) -> None:
    root = folder_of(tmp_path / "images", f"{folder}/a.png")
    assert words in sentence(run(*images(root), *small_network, *extra), tmp_path)


def test_a_label_without_an_output_is_refused(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png", "emu/a.png")
    assert "label 2 is out of range for model squeezenet1_1, which has 2" in sentence(
        run(*images(root, ["cat", "dog", "emu"]), *small_network), tmp_path
    )


def test_a_label_out_of_range_is_refused(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    root = folder_of(tmp_path / "val", "a.png")
    (tmp_path / "labels.txt").write_text("a.png 1000\n")
    arguments = ["dataset=imagenet", f"dataset.root={root}"]
    labels = f"dataset.labels={tmp_path / 'labels.txt'}"
    assert "line 1: '1000' is neither a WordNet id of ImageNet-1k nor a class" in sentence(
        run(*arguments, labels, *small_network), tmp_path
    )


def test_no_image_left_says_who_rejected_how_many(run: Run, tmp_path: Path) -> None:
    """Everything is taken for a cat, but all are dogs."""
    root = folder_of(tmp_path / "images", "dog/a.png", "dog/b.png", "dog/c.png")
    first, second = (saved(state(), tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    other = [
        "+model@models.b=torchvision", "models.b.name=squeezenet1_1", "models.b.label=other",
        f"models.b.weights={second}", "models.b.classes=2",
    ]  # fmt: skip
    assert "no image is left: none of the 3 is classified correctly by every" in sentence(
        run(*images(root), *network(first), *other), tmp_path
    )
