"""docs/models-and-data.md, images: every command, run to a table on data made on the spot; and every kind has one."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

import experiments.pictures
from experiments.verify import main as verify
from pixelrobust import collect
from pixelrobust.figures.strip import Strip
from tests.conftest import REPOSITORY, Run
from tests.datasets.cases import cifar10, cifar_c, csv_of, mnist, noise
from tests.fault_cases import folder_of, network, picture, saved, state

pytestmark = pytest.mark.usefixtures("one_thread")

_, _, PAGE = (
    (REPOSITORY / "docs" / "models-and-data.md")
    .read_text(encoding="utf-8")
    .partition("\n## Images\n")
)
PREFIX = "python -m experiments.run "
COMMANDS = re.findall(rf"```bash\n{PREFIX}(.*?)\n```", PAGE)
KINDS = {
    path.stem for path in (REPOSITORY / "configs" / "dataset").glob("*.yaml")
} - {"base", "bundled", "imagenet", "imagenette"}  # fmt: skip


def test_every_command_is_run_here_and_every_kind_has_one() -> None:
    assert len(COMMANDS) == PAGE.count("```bash") == PAGE.count(PREFIX)
    assert {re.search(r"dataset=(\w+)", command)[1] for command in COMMANDS} == KINDS


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make what the page's /data holds: two pictures of each kind, the first class's among them."""
    root = tmp_path / "data"
    folder_of(root / "images", "tench/1.png", "goldfish/2.png")
    folder_of(root, "cats/1.jpg", "dogs/2.jpg")
    csv_of(root, [("cats/1.jpg", "tench"), ("dogs/2.jpg", "n01443537")])
    digits = np.tile(np.arange(2), 4)
    mnist(root / "torchvision", noise(8, 28, 28), digits.tolist())
    cifar10(root / "torchvision", noise(4, 3, 32, 32), [0, 0, 1, 2], monkeypatch)
    cifar_c(root / "CIFAR-10-C", noise(10, 32, 32, 3), [0, 1] * 5)
    return root


def small(command: str, root: Path, folder: Path) -> list[str]:
    """Return a command as written, on the data of the test; one that names no network gets a small one."""
    command = command.replace("/data/", f"{root}/").replace("/weights/", f"{folder}/")
    arguments, extra = shlex.split(command), ["draws=1", "perturbation.num=4"]
    if "model=" in command:
        (weights,) = re.findall(r"weights=(\S+)", command)
        torch.manual_seed(0)
        module = resnet18(num_classes=10)
        with torch.no_grad():
            module.fc.bias[0] += 10
        save_file(module.state_dict(), weights)
    else:
        extra += network(saved(state(2), folder / "w.safetensors"), 2)
    if "preprocessing" not in command:
        extra += ["dataset.preprocessing.resize=32", "dataset.preprocessing.crop=32"]
    if "table10" in command:
        extra += ["retrain.num=[4]", "retrain.controls=[]", "retrain.epochs=1"]
    return [*arguments, *extra]


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: re.search(r"dataset=\w+|table10", command)[0]
)
def test_every_command_gives_a_table_that_verifies(
    command: str, run: Run, data: Path, tmp_path: Path, cache: Path
) -> None:
    ended = run(*small(command, data, tmp_path))
    assert ended.code == 0, ended.err
    found = (tmp_path / "results").glob("*-*/table*.csv")
    (table,) = (pd.read_csv(path) for path in found if "-" not in path.stem)
    if "table10" in command:
        assert set(table["images_are"]) == {"same", "heldout"}
        return
    # The network takes everything for the first class: its images alone take part, and never flip.
    assert table["images"].tolist() == [2 if "CIFAR10" in command else 1] * 2
    assert table["wrong"].tolist() == [0, 0]
    (folder,) = (tmp_path / "results").glob("run-*")
    keys = [*small(command, data, tmp_path), f"paths.cache={cache}"]
    assert verify([str(folder), "--share=1", *keys]) == 0


def npz(root: Path) -> None:
    np.savez(root / "images.npz", images=noise(2, 3, 40, 48), labels=[0, 1])


def saved_by_datasets(root: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="no dependency: only the page names it")
    datasets.disable_progress_bars()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [picture(0), picture(1)], "label": [0, 1]}
    datasets.Dataset.from_dict(rows, features).save_to_disk(str(root / "saved"))


def shards(root: Path) -> None:
    library = pytest.importorskip("webdataset", reason="no dependency: only the page names it")
    with library.ShardWriter(str(root / "shards-%03d.tar"), maxcount=1, verbose=0) as writer:
        for number in range(2):
            writer.write({"__key__": f"{number}", "png": picture(number), "cls": number})


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(
    ("block", "make"), list(zip(BLOCKS, [None, npz, saved_by_datasets, shards], strict=True))
)
def test_every_python_block_runs(
    block: str,
    make: Callable[[Path], None] | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3))
    names = {"dataset": [(picture(number), 0) for number in range(3)], "model": model}
    if make is not None:
        make(tmp_path)
        names["collect"] = collect
    exec(block.replace("/data/", f"{tmp_path}/"), names)
    if make is None:
        assert "wrong_rate" in capsys.readouterr().out
    else:
        assert (names["images"].shape, names["labels"].tolist()) == ((2, 3, 224, 224), [0, 1])


def test_pictures_call_classes_as_the_data_set_does(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Strip] = []

    def draw(strips: list[Strip], *words: str) -> Figure:
        drawn.extend(strips)
        return Figure()

    monkeypatch.setattr(experiments.pictures, "picture_strip", draw)
    (command,) = (command for command in COMMANDS if "CIFAR10" in command)
    ended = run(*small(command, data, tmp_path), "pictures=1")
    assert ended.code == 0, ended.err
    assert [strip.label for strip in drawn] == ["airplane"]
