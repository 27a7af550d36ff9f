"""README, docs, Makefile and environment: every command and every number in them is true."""

import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from experiments.exits import CONFIGS
from experiments.manual import manual
from experiments.report import main as report
from experiments.verify import main as verify
from pixelrobust.datasets.classes import imagenet_wnids
from scripts.readme import PICTURE, draw_flip, with_tables
from tests.conftest import REPOSITORY, Run, from_setup_dev
from tests.models.cases import SIDE, checkpoint, tiny

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BIN = Path(sys.executable).parent


def commands(language: str, page: str = README) -> list[str]:
    blocks = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return (
        [line for block in blocks for line in block.splitlines()] if language == "bash" else blocks
    )


MAKE = [command for command in commands("bash") if command.startswith("make ")]
RUNS = [c for c in commands("bash") if c.startswith("python -m experiments.run ")]
# The commands of the second part are run by datasets/test_data_page.py.
MODELS, _, _ = (
    (REPOSITORY / "docs" / "models-and-data.md")
    .read_text(encoding="utf-8")
    .partition("\n## Images\n")
)
RUNS += commands("bash", MODELS)
# The console script is the same program.
RUNS += [
    command.replace("pixelrobust ", "python -m experiments.run ", 1)
    for command in commands("bash")
    if command.startswith("pixelrobust ")
]
RETRAININGS = [c for c in RUNS if "/data/networks" in c]
REPORTS = [c for c in commands("bash") if c.startswith("python -m experiments.report")]

VIEWERS = [c for c in commands("bash") if c.startswith("wandb leet ")]
VERIFICATIONS = [c for c in commands("bash") if c.startswith("python -m experiments.verify ")]


INSTALLATIONS = [c for c in commands("bash") if c.startswith("pip install ")]


def make(*arguments: str) -> str:
    return subprocess.run(
        ["make", "--no-print-directory", f"BIN={BIN}", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_readme_has_no_command_of_another_kind() -> None:
    known = MAKE + RUNS + REPORTS + VERIFICATIONS + INSTALLATIONS + VIEWERS
    written = [
        re.sub("^pixelrobust ", "python -m experiments.run ", command)
        for command in commands("bash") + commands("bash", MODELS)
    ]
    assert sorted(known) == sorted(written)
    assert len(known) > 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_that_a_page_names_exists(page: Path) -> None:
    for target in re.findall(r"`make ([a-z0-9-]+)`", page.read_text(encoding="utf-8")):
        assert make("--dry-run", target).strip(), target


def test_make_passes_profile_folder_and_arguments_on() -> None:
    line = make(
        "-n", "reproduce-table6", "PROFILE=paper", "IMAGENET_DIR=/a b/val", "ARGS=draws=2 seed=1"
    )
    expected = "experiment=table6 profile=paper 'dataset.root=\"/a b/val\"' draws=2 seed=1"
    assert line.strip().endswith(expected)


@pytest.mark.slow
def test_make_runs_the_main_job(tmp_path: Path, cache: Path) -> None:
    shrunk = f"ARGS=draws=1 perturbation.num=4 paths.results={tmp_path} paths.cache={cache}"
    out = make("reproduce-table6", shrunk)
    assert "efficientnet_lite2" in out
    assert len(list(tmp_path.glob("table6-*/table6.csv"))) == 1


def test_make_help_lists_every_target() -> None:
    database = make("--print-data-base", "--dry-run", "help")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", database, re.MULTILINE)
    told = make("help")
    assert sorted(re.findall(r"^  (\S+) ", told, re.MULTILINE)) == sorted(phony.split())
    assert max(map(len, told.splitlines())) <= 80


def test_make_without_setup_says_what_to_type(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    ended = subprocess.run(["make", "test"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "type `make setup` first" in ended.stdout


@pytest.fixture
def own_images(tmp_path: Path) -> Path:
    """A folder of class folders in which every class holds one picture."""
    for wnid in ("n01440764", "n02123045"):
        (tmp_path / "images" / wnid).mkdir(parents=True)
        colours = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(colours).save(tmp_path / "images" / wnid / "picture.png")
    return tmp_path / "images"


@pytest.fixture
def own_weights(tmp_path: Path) -> Path:
    """Weights of a ResNet-18 that takes everything for a tench."""
    torch.manual_seed(0)
    network = timm.create_model("resnet18", pretrained=False)
    with torch.no_grad():
        network.fc.bias[imagenet_wnids()["n01440764"]] += 10
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


def with_own_networks(arguments: str, folder: Path) -> str:
    """The arguments, with a Hugging Face folder that is made on the spot."""
    tench, tabby = "n01440764", "n02123045"
    made = checkpoint(folder / "networks", labels=(tench, tabby))
    return arguments.replace("/data/checkpoint", str(made))


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted({*RUNS} - {*RETRAININGS}))
def test_every_python_command_runs(
    command: str, run: Run, own_images: Path, own_weights: Path
) -> None:
    """As written, but small, and with files of the test where it names the reader's."""
    arguments = command.removeprefix("python -m experiments.run ")
    arguments = arguments.replace("/data/images", str(own_images))
    arguments = arguments.replace("/weights/mine.safetensors", str(own_weights))
    if "huggingface" in arguments:
        arguments = with_own_networks(arguments, own_images.parent)
    extra = ["draws=1"]
    if "perturbation" not in arguments:
        extra.append("perturbation.num=4")
    if "model=" in arguments:
        # A network made on the spot knows one of the pictures, and nothing is downloaded for it.
        extra += ["dataset=imagefolder", f"dataset.root={own_images}"]
        if "timm" in arguments and "weights" not in arguments:
            extra += [f"models.timm.weights={own_weights}"]
    elif str(own_images) in arguments:
        named = "models.timm.name=resnet18.a1_in1k"
        extra += ["model=timm", named, f"models.timm.weights={own_weights}"]
    else:
        extra += ["model=efficientnet_lite0"]
    ended = run(*arguments.split(), *extra)
    assert ended.code == 0, ended.err
    assert "results are in" in ended.out


@pytest.mark.slow
def test_retraining_and_using_what_came_of_it(run: Run, own_images: Path, tmp_path: Path) -> None:
    """As written, one after the other, but with a short retraining on pictures of the test."""
    retraining, using = (
        command.removeprefix("python -m experiments.run ")
        .replace("/data/images", str(own_images))
        .replace("/data/train", str(own_images))
        .replace("/data/networks", str(tmp_path / "networks"))
        for command in RETRAININGS
    )
    short = ("retrain.num=[4]", "retrain.controls=[]", "retrain.selected=false", "draws=1")
    sure = ("retrain.epochs=30", "retrain.learning_rate=0.1", "perturbation.num=4")
    ended = run(*retraining.split(), *short, *sure, "model=efficientnet_lite0")
    assert ended.code == 0, ended.err
    ended = run(*using.split(), "perturbation.num=4")
    assert ended.code == 0, ended.err
    assert "checkpoint" in ended.out


@pytest.mark.parametrize("command", REPORTS)
def test_every_report_command_prints(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert report(command.split()[3:]) == 0
    assert ("claims" if "claims" in command else "bundled") in capsys.readouterr().out


@pytest.mark.parametrize("command", VERIFICATIONS)
def test_every_verification_is_understood(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a folder that is empty: test_verification.py verifies the committed one."""
    _, _, _, folder, *keys = command.split()
    assert (REPOSITORY / folder).is_dir()
    assert verify([str(tmp_path), *keys]) == 2
    assert "holds no outcomes" in capsys.readouterr().err


def test_what_is_installed_is_what_is_built() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (line,) = INSTALLATIONS
    wheel = f"dist/{project['name']}-{project['version']}-py3-none-any.whl"
    found = re.fullmatch(rf"pip install '{re.escape(wheel)}\[(\w+)\]'", line)
    assert found, line
    assert found[1] in project["optional-dependencies"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs terminals of POSIX")
@pytest.mark.parametrize("command", VIEWERS)
def test_the_viewer_shows_a_tracked_run(
    command: str,
    run: Run,
    own_images: Path,
    own_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Where it keeps how it was left.
    monkeypatch.setenv("HOME", str(tmp_path))
    own = ("model=torchvision", "models.torchvision.name=resnet18", "engine=eager")
    weights = f"models.torchvision.weights={own_weights}"
    images = ("dataset=imagefolder", f"dataset.root={own_images}", "perturbation.num=4")
    assert run(*own, weights, *images, "tracking=wandb").code == 0
    arguments = command.replace("results/wandb", str(tmp_path / "results" / "wandb")).split()
    shown = in_terminal([str(BIN / arguments[0]), *arguments[1:]], "wrong_rate", "q")
    assert "Project: pixelrobust" in shown


def in_terminal(command: list[str], wanted: str, last_key: str) -> str:
    """What a program shows in a terminal until it shows a word, and a key ends it."""
    import fcntl
    import pty
    import struct
    import termios

    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    program = subprocess.Popen(
        command, stdin=inside, stdout=inside, stderr=inside, start_new_session=True,
        env=os.environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(inside)
    seen, pressed = "", False
    try:
        while select.select([terminal], [], [], 60)[0] and (part := os.read(terminal, 65536)):
            seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", part.decode(errors="replace"))
            if wanted in seen and not pressed:
                pressed = bool(os.write(terminal, last_key.encode()))
    # A terminal whose program has ended.
    except OSError:
        assert program.wait(10) == 0
    finally:
        program.kill()
        os.close(terminal)
    return seen


@pytest.mark.slow
def test_the_page_on_models_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    images = torch.full((2, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    names = {"images": images, "labels": [0, 0], "model": tiny()}
    blocks = commands("python", MODELS)
    for block in blocks:
        exec(block.replace("(224, 224)", f"({SIDE}, {SIDE})"), names)
        assert capsys.readouterr().out.strip()
    assert len(blocks) == 1


@pytest.mark.slow
@pytest.mark.parametrize("block", range(len(commands("python"))))
def test_every_python_block_runs(block: int, capsys: pytest.CaptureFixture[str]) -> None:
    images = torch.full((2, 3, 224, 224), 128, dtype=torch.uint8)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3))
    names = {"images": images, "labels": [0, 0], "model": model, "keys": ["a", "b"]}
    exec(commands("python")[block], names)
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
def test_readmes_picture_is_the_committed_one() -> None:
    assert PICTURE.read_bytes() == draw_flip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_tables_are_the_committed_ones(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_tables(text) == text


def test_readme_is_short_and_its_first_table_explained() -> None:
    assert len(README.split()) <= 1500
    assert "squeezenet\\_caffe" in README
    (explained,) = re.findall(r"\*(0\.0)\* still means", README)
    assert f" {explained} (" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_key_that_a_page_names_exists(page: Path) -> None:
    """Files and headings that pages link are looked up in test_pages.py."""
    text = page.read_text(encoding="utf-8")
    told = manual(CONFIGS)
    for key in re.findall(
        r"`((?:dataset|selection|models|engine|perturbation)\.[a-z_.<>]+)`", text
    ):
        assert key in told, key


def test_conda_users_get_the_same_environment() -> None:
    MatchSpec = from_setup_dev("rattler").MatchSpec  # noqa: N806
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    *packages, pip = environment["dependencies"]
    names = [MatchSpec(package).name.normalized for package in packages]
    assert names == ["python", "pip", "make"]
    assert MatchSpec(packages[0]).version is not None
    setup = make("--dry-run", "setup")
    for line in pip["pip"]:
        option, value = line.split()
        assert re.search(rf"{option} '?{re.escape(value)}'?", setup), line
        assert (REPOSITORY / value.split("[")[0]).exists()


def test_no_machine_is_named_in_the_repository() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.split()
    # A clone in the folder of temporary files would find its name in tests that speak of that folder.
    folders = {REPOSITORY.parent, Path.home()} - {Path(tempfile.gettempdir())}
    own = [str(folder) + os.sep for folder in folders]
    for name in tracked:
        path = REPOSITORY / name
        if path.suffix not in (".png", ".pdf", ".parquet") and path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not any(folder in text for folder in own), name
