"""The console command `pixelrobust`: options become the config that keys would give."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
import timm
import torchvision
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from experiments import pipeline
from experiments.command.app import main
from experiments.command.evaluate import Request, Subject, in_options
from experiments.command.images import image_overrides
from experiments.command.names import configured_networks, library_networks, timm_weights
from experiments.command.networks import network_overrides
from experiments.command.overrides import quoted
from experiments.command.values import joined
from experiments.configuration import settings_of
from experiments.exits import exit_code
from pixelrobust.errors import InputError
from tests.conftest import REPOSITORY, Run
from tests.fault_cases import CLASSES, SIDE, Ended, folder_of, saved, state

pytestmark = pytest.mark.usefixtures("one_thread")

Command = Callable[..., Ended]
SMALL = (f"dataset.preprocessing.resize={SIDE}", f"dataset.preprocessing.crop={SIDE}")


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: Path
) -> Command:
    """`pixelrobust`, in this process."""
    monkeypatch.setenv("PIXELROBUST_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["pixelrobust", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def subject(tmp_path: Path) -> list[str]:
    """Options that name a network which takes everything for a cat, and pictures of cats and a dog."""
    (tmp_path / "names.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    root = folder_of(tmp_path / "my images", "cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png")
    weights = saved(state(), tmp_path / "w.safetensors")
    return [
        "--model", f"squeezenet1_1={weights}", "--images", str(root), "--classes",
        str(tmp_path / "names.txt"),
    ]  # fmt: skip


def test_evaluate_is_the_run_that_keys_would_give(
    command: Command, run: Run, subject: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "my results"
    ended = command("evaluate", *subject, "--num", "4", "16", "--draws", "2", "--out", out, *SMALL)
    assert ended.code == 0, ended.err
    (folder,) = out.glob("run-*")
    table = pd.read_csv(folder / "table.csv")
    assert table[["model", "num", "images", "draws"]].to_numpy().tolist() == [
        ["squeezenet1_1 (w)", num, 3, draws] for num, draws in ((0, 1), (4, 2), (16, 2))
    ]
    # All is taken for a cat whatever changes: nothing wrong, and Wilson's 95 % interval of 0 of 3.
    assert "0.0 (0.0–56.1)" in ended.out
    # Its end divided by the share that is changed: 0.561 / (4 / 32²).
    assert "0 (0–144)" in ended.out
    assert "Images: 3 of 4 (images of one's own)" in ended.out
    assert f"{folder} holds figure.pdf, figure.png, outcomes, table.csv, table.md" in ended.out

    weights, names = tmp_path / "w.safetensors", tmp_path / "names.txt"
    ended = run(
        "model=torchvision", "models.torchvision.name=squeezenet1_1",
        f"models.torchvision.weights={weights}", "models.torchvision.classes=2",
        'models.torchvision.label="squeezenet1_1 (w)"',
        "dataset=imagefolder", f"dataset.root={tmp_path / 'my images'}", f"dataset.classes={names}",
        "perturbation.num=[4,16]", "draws=2", *SMALL,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (same,) = (tmp_path / "results").glob("run-*")
    assert (same / "table.csv").read_bytes() == (folder / "table.csv").read_bytes()


def test_report_status_and_verify_understand_what_evaluate_wrote(
    command: Command, subject: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "results"
    assert command("evaluate", *subject, "--num", "4", "--out", out, *SMALL).code == 0
    (folder,) = out.glob("run-*")
    ended = command("report", folder)
    assert ended.code == 0, ended.err
    assert "torch" in ended.out
    ended = command("report", folder, "--html")
    assert (ended.code, (folder / "report.html").is_file()) == (0, True)
    ended = command("status", out)
    assert (ended.code, "done" in ended.out, "1 of 1" in ended.out) == (0, True, True)
    ended = command("verify", folder, *subject, "--share", "1", *SMALL)
    assert ended.code == 0, ended.err
    assert "6 were recomputed (100 %" in ended.out.replace("\n", " ")
    path = folder / "outcomes" / "table.parquet"
    outcomes = pd.read_parquet(path)
    outcomes.loc[0, ["prediction", "wrong"]] = [1, True]
    outcomes.to_parquet(path, index=False)
    assert command("verify", folder, *subject, "--share", "1", *SMALL).code == 1
    ended = command("verify", folder, *subject, "--runs", "table9", "--retrain", *SMALL)
    assert (ended.code, "no outcomes of table9" in ended.err) == (2, True)


def test_run_is_the_one_runner(command: Command, tmp_path: Path) -> None:
    ended = command("run", "experiment=table4", f"paths.results={tmp_path}")
    assert (ended.code, "written to" in ended.out) == (0, True)
    assert "EXAMPLES" in command("run", "--help").out
    assert "foo is not a key" in command("run", "foo=1").err


def test_interrupted_is_130(
    command: Command, subject: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_work", interrupted)
    ended = command("evaluate", *subject, *SMALL)
    assert (ended.code, ended.err) == (130, "interrupted\n")


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def wrong() -> int:
        raise InputError("this is wrong.", "and that.")

    assert [exit_code(lambda: 0), exit_code(lambda: 1), exit_code(wrong)] == [0, 1, 2]
    assert capsys.readouterr().err == "error: this is wrong.\nand that.\n"


def test_what_options_leave_unsaid_is_what_the_configuration_says() -> None:
    """But for num, of which fewer are shown."""
    ours = settings_of(*Request().overrides(), "dataset=imagefolder", "perturbation/count=paper")
    config = settings_of("dataset=imagefolder", "perturbation/count=paper")
    same = {"perturbation": config.perturbation}
    assert ours.model_copy(update=same) == config


def test_numbers_and_words_of_the_grid() -> None:
    request = Request(num=("4,8", "16"), amplitude=("10", "full"), area=("whole,200",))
    settings = settings_of("dataset=imagefolder", *request.overrides())
    grid = settings.perturbation
    assert (grid.num, grid.amplitude, grid.area) == ((4, 8, 16), (10, None), (None, 200))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--num 4 16 64 --draws 2", "--num 4,16,64 --draws 2"),
        ("--num 4 dataset.root=5 6", "--num 4 dataset.root=5 6"),
        ("--amplitude 10 full --area whole 200", "--amplitude 10,full --area whole,200"),
        ("--num 4, 8", "--num 4,8"),
        ("--num --area 3 4", "--num --area 3,4"),
        ("--num -1 2", "--num -1,2"),
        ("--num=4 8", "--num=4 8"),
        ("--draws 2 3 --model 4 5", "--draws 2 3 --model 4 5"),
    ],
)
def test_several_values_follow_their_option(line: str, expected: str) -> None:
    assert " ".join(joined(line.split())) == expected


@given(st.text(st.sampled_from("ab \\\"'=,[]{}:/é%~$@"), max_size=12))
def test_any_path_can_be_the_value_of_a_key(text: str) -> None:
    assert OverridesParser.create().parse_override(f"key={quoted(text)}").value() == text


# Names of networks


def test_names_are_those_that_the_libraries_know() -> None:
    assert library_networks("timm") == tuple(sorted(timm.list_models()))
    known = torchvision.models.list_models(module=torchvision.models)
    assert library_networks("torchvision") == tuple(sorted(known))
    pretrained = set(timm.list_pretrained())
    assert len(pretrained & set(timm_weights())) > 0.95 * len(pretrained)
    assert library_networks("no_such_library") == ()
    assert {"resnet101", "efficientnet_lite0"} <= set(configured_networks())
    assert not {"base", "timm", "torchvision", "checkpoint"} & set(configured_networks())


@pytest.mark.parametrize(
    ("text", "source", "name", "weights"),
    [
        ("vgg16", "torchvision", "vgg16", "IMAGENET1K_V1"),
        ("resnet50", "torchvision", "resnet50", "IMAGENET1K_V1"),
        ("timm:resnet50", "timm", "resnet50", "pretrained"),
        ("resnet50.a1_in1k", "timm", "resnet50.a1_in1k", "pretrained"),
        ("mobilenetv3_large_100", "timm", "mobilenetv3_large_100", "pretrained"),
        ("resnet50=IMAGENET1K_V2", "torchvision", "resnet50", "IMAGENET1K_V2"),
        ("timm:resnet18=/w/mine.pth", "timm", "resnet18", "/w/mine.pth"),
        ("efficientnet_lite0", "timm", "tf_efficientnet_lite0", "package:"),
    ],
)
def test_a_name_is_a_network(text: str, source: str, name: str, weights: str) -> None:
    settings = settings_of(*network_overrides([text]))
    (model,) = settings.models.values()
    assert (model.source, model.name) == (source, name)
    assert model.weights.startswith(weights)
    assert model.classes == 1000


def test_several_networks_keep_their_names_apart() -> None:
    texts = ["resnet18", "timm:resnet18.a1_in1k", "resnet18=/w/a.pth", "resnet18=/w/b.pth"]
    settings = settings_of(*network_overrides(texts, outputs=7))
    labels = [model.label for model in settings.models.values()]
    assert labels == ["resnet18", "resnet18.a1_in1k", "resnet18 (a)", "resnet18 (b)"]
    assert [model.classes for model in settings.models.values()] == [1000, 1000, 7, 7]


def test_a_saved_network_is_a_folder(tmp_path: Path) -> None:
    for name in ("resnet18.a-4", "resnet18.a-8"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text("{}")
    folders = sorted(tmp_path.iterdir())
    models = settings_of(*network_overrides(list(map(str, folders)))).models.values()
    assert [(model.source, model.path, model.label) for model in models] == [
        ("checkpoint", folder, folder.name) for folder in folders
    ]


def test_networks_of_other_libraries_are_paths(tmp_path: Path) -> None:
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text("{}")
    (tmp_path / "net.onnx").touch()
    for name, kind in (("vit", "huggingface"), ("net.onnx", "onnx")):
        lines = network_overrides([str(tmp_path / name)])
        key = name.partition(".")[0]
        assert lines[:2] == ["model=[]", f"+model@models.{key}={kind}"]
        assert f"models.{key}.path={quoted(tmp_path / name)}" in lines


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("labels.csv", ["dataset=csv", "dataset.file={}"]),
        ("images.npz", ["dataset=npz", "dataset.file={}"]),
        ("part-{{0..3}}.tar", ["dataset=webdataset", "dataset.file={}"]),
        ("saved", ["dataset=huggingface", "dataset.root={}"]),
        ("folders", ["dataset=imagefolder", "dataset.root={}"]),
    ],
)
def test_images_are_told_by_what_is_there(name: str, lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / name
    if "." in name:
        path.touch()
    else:
        path.mkdir()
    if name == "saved":
        (path / "dataset_info.json").touch()
    assert image_overrides(str(path), None) == [line.format(quoted(path)) for line in lines]


def test_bundled_images_need_no_network() -> None:
    settings = settings_of(*Subject(images="bundled").overrides())
    assert (list(settings.models), settings.dataset.kind) == (["efficientnet_lite0"], "foolbox")


# What is wrong


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "resnt50"], "--model=resnt50 is neither"),
        (["--model", "resnt50"], "similar are resnet50"),
        (["--model", "mine.pth"], "--model resnet18=mine.pth"),
        (["--model", "timm:vgg16.nothing"], "--model='vgg16.nothing' is not a classifier of timm"),
        (["--model", "vgg16", "--model", "vgg16"], "two networks are called vgg16; give each once"),
        (["--images", "nowhere"], "--images=nowhere is not there"),
        (["--classes", "nowhere.txt"], "--classes=nowhere.txt cannot be read"),
        (["--num", "-1"], "--num=-1 is not a number of pixels"),
        (["--num", "four"], "--num=four is wrong"),
        (["--amplitude", "-1"], "--amplitude=-1 is not"),
        (["--area", "all"], "--area=all is wrong; give one whole number or several, or whole"),
        (["--draws", "0"], "--draws=0 is wrong"),
        (["--limit", "0"], "--limit=0 is wrong"),
        (["--seed", "-1"], "--seed=-1 is wrong"),
        (["--device", "cuda:99"], "--device=cuda:99 is not there"),
        (["--engine", "steam"], "--engine=steam is unknown; choose from auto"),
        (["foo=1"], "foo is not a key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_sentence(
    options: list[str], words: str, command: Command, subject: list[str], tmp_path: Path
) -> None:
    given_already = {"--model", "--images", "--classes"} & {options[0]}
    for option in given_already:
        start = subject.index(option)
        del subject[start : start + 2]
    ended = command("evaluate", "--out", tmp_path / "results", *SMALL, *subject, *options)
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1


def test_evaluate_without_anything_explains_itself(command: Command) -> None:
    ended = command("evaluate")
    assert ended.code == 2
    assert "Examples" in ended.out
    assert "pixelrobust evaluate --model resnet50 --images" in ended.err
    ended = command("evaluate", "--model", "vgg16")
    assert (ended.code, ended.out) == (2, "")
    assert "needs a network and images" in ended.err


def test_keys_are_called_as_the_options_that_set_them() -> None:
    sentence = "dataset.root=x, models.a_b.name=y, perturbation.area=3, retrain.seed=4, draws=5"
    assert in_options(sentence) == "--images=x, --model=y, --area=3, retrain.seed=4, --draws=5"


# Help


def test_help_reads_like_a_manual(command: Command) -> None:
    whole = command("--help").out
    for name in ("evaluate", "demo", "doctor", "report", "status", "verify", "run"):
        assert f" {name} " in whole
        assert command(name, "--help").code == 0
    assert "Exit codes" in whole
    shown = command("evaluate", "--help").out
    assert "Examples" in shown
    for text in (
        "[default: (4 16 64)]",
        "[default: (full)]",
        "[default: 10000]",
        "pixelrobust-results",
    ):
        assert text in shown
    assert "KEY=VALUE" in shown


def test_version(command: Command) -> None:
    assert command("--version").out == f"pixelrobust {metadata.version('pixelrobust')}\n"


def test_help_comes_at_once() -> None:
    """Measured as the processor's time, since the machine may be busy with other things."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import sys; sys.argv = ['pixelrobust', '--help']\n"
        "from experiments.command.app import app\n"
        "app(standalone_mode=False)\n"
        "print(sorted({'torch', 'numpy', 'pydantic', 'hydra'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "evaluate" in shown.stdout
    assert shown.stdout.endswith("[]\n")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_doctor_prints_json(command: Command, subject: list[str], tmp_path: Path) -> None:
    ended = command("doctor", *subject, "--out", tmp_path, "--json", *SMALL)
    found = json.loads(ended.out)
    levels = {finding["name"]: finding["level"] for finding in found["findings"]}
    assert (ended.code, found["ready"]) == (0, True), ended.out
    assert levels["images"] == levels["network squeezenet1_1 (w)"] == "ok"


def test_python_dash_m_is_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "experiments.command", "--version"],
        cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.startswith("pixelrobust ")
