"""The command line: from config to table, sweeps, and every wrong value as one sentence."""

import json
import os
import pickle
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from experiments import session
from experiments.config import flags_first
from experiments.exits import Workshop, exit_code
from pixelrobust.engine import EagerEngine, Engine
from pixelrobust.errors import InputError
from tests.conftest import REPOSITORY, Run
from tests.fault_cases import folder_of, images

SMALL = (
    "model=efficientnet_lite0",
    "selection.models=null",
    "perturbation.num=[4,16384]",
    "draws=2",
)

FEW = ("profile=bundled", "model=efficientnet_lite0", "selection.models=null", "draws=1")


def only_folder(results: Path, pattern: str) -> Path:
    (folder,) = results.glob(pattern)
    return folder


def test_from_config_to_table(run: Run, tmp_path: Path) -> None:
    ended = run("experiment=table6", "profile=bundled", *SMALL)
    assert ended.code == 0, ended.err
    folder = only_folder(tmp_path / "results", "table6-*")
    flips = [f"pixels-to-flip.{kind}" for kind in ("csv", "md", "pdf", "png", "tex")]
    tables = [f"table6.{kind}" for kind in ("csv", "md", "tex")]
    assert sorted(path.name for path in folder.iterdir()) == [
        "figure1.pdf", "figure1.png", "figure8.pdf", "figure8.png", "outcomes",
        "pixels-to-flip-pairs.csv", *flips, *tables,
    ]  # fmt: skip
    named = [line.split(": ") for line in ended.out.splitlines()[-3:]]
    assert [what for what, _ in named] == ["figure", "figure", "pictures of images that flip"]
    assert [Path(path).name for _, path in named] == [
        "figure8.png", "pixels-to-flip.png", "figure1.png",
    ]  # fmt: skip
    assert all(Path(path).is_file() for _, path in named)
    table = pd.read_csv(folder / "table6.csv")
    outcomes = pd.read_parquet(folder / "outcomes" / "table6.parquet")
    assert table["num"].tolist() == [0, 4, 16384]
    assert table["wrong"].tolist() == [
        int(outcomes.loc[outcomes["num"] == num, "wrong"].sum()) for num in (0, 4, 16384)
    ]
    assert table["wrong_rate"][0] == 0
    assert table["wrong_rate"][2] > 0.3
    assert "efficientnet_lite0" in ended.out
    assert "16384 (33 %)" in ended.out
    manifest = json.loads((folder / "outcomes" / "table6.json").read_text())
    assert manifest["images"] == table["images"][0] == outcomes["image"].nunique()
    assert manifest["candidates"] == 20
    markdown = (folder / "table6.md").read_text()
    assert f"Images: {manifest['images']} of 20 (ImageNet images that the foolbox" in markdown
    assert "not the paper's 10,000 images" in markdown
    assert "2 random changes of each image" in markdown


def test_the_same_command_gives_the_same_files(run: Run, tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        run(*SMALL)
        paths = only_folder(tmp_path / "results", "run-*").rglob("*.*")
        found.append({path.name: path.read_bytes() for path in paths if path.suffix != ".json"})
    assert found[0] == found[1]
    assert len(found[0]) == 6


def test_only_an_unmodified_preset_writes_to_the_profiles_folder(run: Run, tmp_path: Path) -> None:
    run("experiment=breakdown", "profile=bundled", "seed=1", "perturbation.num=4", "draws=1")
    assert not (tmp_path / "results" / "bundled").exists()
    assert only_folder(tmp_path / "results", "breakdown-*").is_dir()


def test_a_sweep_ends_with_one_merged_table(run: Run, tmp_path: Path) -> None:
    sweep = ("perturbation.num=4,16384", "perturbation.area=220,200", "model=efficientnet_lite0")
    ended = run("-m", "profile=bundled", "draws=1", *sweep)
    assert ended.code == 0, ended.err
    assert "4 of 4 jobs finished" in ended.out
    assert len(list((tmp_path / "results").glob("run-*"))) == 5
    merged = pd.read_csv(only_folder(tmp_path / "results", "run-sweep-*") / "table.csv")
    cells = [[0, 0], [4, 200], [16384, 200], [4, 220], [16384, 220]]
    assert merged[["num", "area"]].fillna(0).to_numpy().tolist() == cells
    # Decoding, and predicting unchanged images, happen in the first job alone.
    assert ended.out.count("decoding images") <= 1


def test_a_sweep_and_one_run_agree(run: Run, tmp_path: Path) -> None:
    common = (*FEW, "perturbation.num=[4,16384]")
    run("-m", *common, "perturbation.area=220,200")
    run(*common, "perturbation.area=[220,200]")
    tables = {path.parent.name: pd.read_csv(path) for path in tmp_path.glob("results/*/table.csv")}
    (merged,) = (table for name, table in tables.items() if "sweep" in name)
    (whole,) = (table for name, table in tables.items() if "sweep" not in name and len(table) == 5)
    pd.testing.assert_frame_equal(whole, merged)


def test_several_experiments_end_with_what_follows_of_them(run: Run, tmp_path: Path) -> None:
    """Table 5 and the claims."""
    experiments = "experiment=table4,table6,table7,table8,amplification"
    ended = run("-m", experiments, *FEW, "dataset.candidates=4", "perturbation.num=[4,64]")
    assert ended.code == 0, ended.err
    folder = only_folder(tmp_path / "results", "evaluation-*")
    cells = pd.read_csv(folder / "table5.csv")
    assert len(cells) == 2 * (1 + 5 + 5)
    assert cells["pi_high"].gt(0).all()
    claims = pd.read_csv(folder / "claims.csv").set_index("claim")
    assert set(claims.loc["magnified", "condition"]) == {"4 pixels", "64 pixels"}
    assert "Which of the paper's claims hold" in ended.out


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4"])
def test_tables_that_describe_need_no_image(name: str, run: Run, tmp_path: Path) -> None:
    ended = run(f"experiment={name}", "profile=bundled", "dataset.root=nowhere")
    assert ended.code == 0, ended.err
    folder = tmp_path / "results" / "bundled"
    assert len(pd.read_csv(folder / f"{name}.csv")) > 3
    assert (folder / f"{name}.md").read_text().startswith(f"# Table {name[-1]}")
    assert (folder / f"{name}.tex").is_file()


def test_only_those_tables_describe(run: Run) -> None:
    ended = run("measure=descriptions")
    assert ended.code == 2
    assert "experiment=table1, table2, table3, table4" in ended.err


def test_pictures_of_images_that_flip(run: Run, tmp_path: Path) -> None:
    ended = run("experiment=figure1", *FEW, "perturbation.num=[64,16384]", "pictures=2")
    assert ended.code == 0, ended.err
    folder = only_folder(tmp_path / "results", "breakdown-*")
    with Image.open(folder / "figure1.png") as picture:
        assert min(picture.size) > 400
    assert (folder / "breakdown-pixels-to-flip.md").is_file()


def test_activations_are_measured_and_shown(run: Run, tmp_path: Path) -> None:
    ended = run(
        "experiment=amplification", *FEW, "dataset.limit=3", "perturbation.num=[4,64]",
        "augmentations=[noise,augmix]",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    folder = only_folder(tmp_path / "results", "amplification-*")
    table = pd.read_csv(folder / "amplification.csv")
    assert table[["num", "images"]].to_numpy().tolist() == [[4, 3], [64, 3]]
    rows = pd.read_parquet(folder / "outcomes" / "amplification.parquet")
    inputs = rows[(rows["layer"] == "input") & (rows["num"] == 64)]
    assert inputs["change"].value_counts().to_dict() == dict.fromkeys(
        ("pixels", "noise", "gaussian-noise-10", "AugMix"), 3
    )
    others = pd.read_csv(folder / "amplification-augmentations.csv")
    assert others[["num", "augmentation", "images"]].to_numpy().tolist() == [
        [num, name, 3] for num in (4, 64) for name in ("gaussian-noise-10", "AugMix")
    ]
    assert "Augmented images inside the network" in (folder / "amplification.md").read_text()
    # Noise is as large as the change of pixels of the same image.
    sizes = inputs.pivot_table(
        index="image", columns="change", values="relative_change", observed=True
    )
    assert sizes["noise"].to_numpy() == pytest.approx(sizes["pixels"].to_numpy(), rel=0.01)


def test_another_manner_of_changing_pixels_is_another_run(run: Run, tmp_path: Path) -> None:
    """With predictions of its own, and said below its table."""
    few = ("experiment=table6", *FEW, "dataset.limit=3", "perturbation.num=4")
    for manner in ((), ("perturbation.channels=together", "perturbation.repetition=true")):
        ended = run(*few, *manner)
        assert ended.code == 0, ended.err
    plain, other = sorted(
        (tmp_path / "results").glob("table6-*"), key=lambda path: path.stat().st_mtime
    )
    said = (
        "All channels of a changed pixel have the same random number. Positions may be drawn again"
    )
    assert said in (other / "table6.md").read_text()
    assert said not in (plain / "table6.md").read_text()
    stores = list((tmp_path / "results" / "store" / "answers").iterdir())
    models = pd.read_csv(plain / "table6.csv")["model"].nunique()
    assert len(stores) == 2 * models


def test_a_failing_job_does_not_end_its_siblings(run: Run, tmp_path: Path) -> None:
    ended = run("-m", *SMALL[:2], "draws=1", "perturbation.num=-1,4")
    assert ended.code == 2
    assert "1 of 2 jobs finished" in ended.out
    assert "perturbation.num=-1 is not a number of pixels" in ended.err
    assert "Traceback" not in ended.err
    assert only_folder(tmp_path / "results", "run-sweep-*").is_dir()


def test_runs_over_different_images_are_not_merged(run: Run, tmp_path: Path) -> None:
    limits = "dataset.limit=3,4"
    ended = run("-m", *SMALL[:2], "draws=1", "perturbation.num=4", limits)
    assert ended.code == 0, ended.err
    assert "tables of run stand apart: runs over different image lists (3 and 4" in ended.out
    assert "2 of 2 jobs finished" in ended.out
    assert sorted(images_of(tmp_path / "results")) == [3, 4]


def images_of(results: Path) -> list[int]:
    """How many images each table in a folder of its own is of."""
    return [int(pd.read_csv(path)["images"][0]) for path in results.glob("*/table.csv")]


def test_a_sweep_over_seeds_merges_what_belongs_together(
    run: Run, tmp_path: Path, small_network: list[str]
) -> None:
    folder_of(tmp_path / "images", "cat/1.png", "cat/2.png")
    own = [*small_network, *images(tmp_path / "images"), "draws=1"]
    ended = run("-m", *own, "seed=0,1", "perturbation.num=4,8")
    assert ended.code == 0, ended.err
    assert "4 of 4 jobs finished" in ended.out
    assert ended.out.count("stand apart: runs with different seeds") == 1
    merged = sorted((tmp_path / "results").glob("run-sweep-*/table.csv"))
    assert [pd.read_csv(path)["num"].tolist() for path in merged] == [[0, 4, 8]] * 2
    seeds = [json.loads(path.read_text())["config"]["seed"] for path in
             (tmp_path / "results").glob("run-sweep-*/outcomes/*.json")]  # fmt: skip
    assert sorted(seeds) == [0, 1]


def test_a_sweep_over_folders_lists_a_table_for_each(
    run: Run, tmp_path: Path, small_network: list[str]
) -> None:
    for name, count in (("a (1)", 1), ("数", 2)):
        folder_of(tmp_path / name, *(f"cat/{number}.png" for number in range(count)))
    roots = ",".join(str(tmp_path / name) for name in ("a (1)", "数"))
    own = [*small_network, *images(tmp_path / "x"), "draws=1"]
    ended = run("-m", *(key for key in own if not key.startswith("dataset.root")),
                f"dataset.root={roots}")  # fmt: skip
    assert ended.code == 0, ended.err
    assert sorted(images_of(tmp_path / "results")) == [1, 2]
    for folder in (tmp_path / "results").glob("run-*"):
        assert folder.name in ended.out
    assert not list((tmp_path / "results").glob("run-sweep-*"))


def test_a_profiles_folder_holds_none_of_several_tables_of_an_experiment(
    run: Run, tmp_path: Path
) -> None:
    """Where they differ in a folder of images, each would be the profile's own, and replace the other."""
    for swept, is_there in (("seed=0,1", False), ("experiment=table1,table2", True)):
        ended = run("-m", "experiment=table1", "profile=bundled", swept)
        assert ended.code == 0, ended.err
        assert (tmp_path / "results" / "bundled").exists() == is_there


def test_the_control_alone_is_a_table_without_a_figure(run: Run, tmp_path: Path) -> None:
    ended = run(*SMALL[:2], "perturbation.num=0")
    assert ended.code == 0, ended.err
    folder = only_folder(tmp_path / "results", "run-*")
    assert pd.read_csv(folder / "table.csv")["num"].tolist() == [0]
    assert not list(folder.glob("*.png"))


WRONG = {
    "model=foo": "model=foo is unknown; choose from alexnet",
    "experiment=table99": "experiment=table99 is unknown",
    "foo=3": "foo is not a key",
    "+foo=3": "foo is not a key",
    "+dataset.foo=3": "dataset.foo is not a key",
    "perturbation.num=[": "perturbation.num=[ cannot be read",
    "perturbation/count=64": "perturbation/count=n64",
    "perturbation.num=-1": "perturbation.num=-1",
    "perturbation.num=2.5": "perturbation.num=2.5",
    "perturbation.num=many": "perturbation.num='many'",
    "perturbation.num=60000": "more than the 50176 pixels",
    "perturbation.area=225": "perturbation.area=225 is larger than the image",
    "perturbation.area=3": "more than the 9 pixels",
    "perturbation.amplitude=-10": "perturbation.amplitude=-10",
    "draws=0": "draws=0",
    "seed=-1": "seed=-1",
    "seed=nan": "seed=nan",
    "dataset.limit=0": "dataset.limit=0",
    "dataset=imagefolder": "dataset.root is not set",
    "dataset=imagefolder dataset.root=/nowhere": "dataset.root=/nowhere is not a folder",
    "dataset.preprocessing.crop=300": "crop=300 is larger than resize=256",
    "dataset.kind=zip": "dataset.kind='zip'",
    "model=[]": "no model is given",
    "model=timm": "models.timm.name is not set",
    "model=vgg16 models.vgg16.std=[0.2,0,0.2]": "models.vgg16.std=0",
    "model=timm models.timm.name=resnt18": "similar are resnet18",
    "model=torchvision models.torchvision.name=resnet5": "similar are resnet50",
    "model=vgg16 models.vgg16.weights=missing.pth": "missing.pth does not exist",
    "model=vgg16 models.vgg16.weights=IMAGENET9": "IMAGENET1K_V1",
    "selection.models=[foo]": "selection.models names 'foo'",
    "engine.devices=cuda:99": "engine.devices=cuda:99 is not there",
    "engine.batch_size=0": "engine.batch_size=0",
    "engine.precision=screened engine.screening.fast=tf32": "engine.screening.fast=tf32 needs a GPU",
    "name=../x": "name='../x'",
    "evaluate": "evaluate cannot be read",
    "attack=fgsm ++attack._target_=foolbox.attacks.FGSM": "attack._target_ is not a key",
    "measure=activations attack=fgsm": "measure=activations takes images as they are",
    "measure=activations draws=2": "set draws=1",
    "measure=weights": "measure='weights' is wrong",
    "attack=fgsm pictures=1": "set pictures=0",
    "perturbation.area=[200,220] pictures=1": "one amplitude and area",
    "experiment=table6 profile=bundled perturbation.amplitude=[10,40]": "set pictures=0",
    "pictures=-1": "pictures=-1 is wrong",
    "--config-dir /nowhere": "/nowhere",
    "-m hydra/launcher=no_such_launcher": "hydra/launcher=no_such_launcher is unknown",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_value_is_one_sentence(run: Run, arguments: str) -> None:
    ended = run(*arguments.split())
    assert ended.code == 2
    assert WRONG[arguments] in ended.err
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dataset.root=/data/cats, dogs"], """'dataset.root="/data/cats, dogs"'"""),
        (["dataset.root=[数]"], """'dataset.root="[数]"'"""),
    ],
)
def test_the_quoting_of_a_path_is_shown(run: Run, arguments: list[str], words: str) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.err.count("\n"), words in ended.err) == (2, 1, True), ended.err
    (override,) = shlex.split(words)
    assert OverridesParser.create().parse_override(override).value() == arguments[0][13:]


def test_what_the_terminals_encoding_lacks_is_shown_in_plain_letters(
    tmp_path: Path, small_network: list[str]
) -> None:
    """Dashes between the ends of intervals, and names of other scripts."""
    root = folder_of(tmp_path / "数据", "cat/1.png", "cat/2.png")
    (root / "cat" / "–.txt").touch()
    keys = [*small_network, *images(root), f"paths.results={tmp_path / 'results'}"]
    ended = subprocess.run(
        [sys.executable, "-m", "experiments.run", *keys],
        env=os.environ
        | {"PYTHONIOENCODING": "latin-1", "PIXELROBUST_CACHE": str(tmp_path / "cache")},
        capture_output=True, cwd=REPOSITORY,
    )  # fmt: skip
    shown = " ".join(ended.stdout.decode("latin-1").split())
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert "0.0 (0.0-65.8)" in shown
    assert r"\u6570\u636e are left out for their place or ending: 'cat/-.txt'" in shown


def make_folder(root: Path, *names: str) -> Path:
    for name in ("n01440764/a.png", "n01443537/a.png", *names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), "red").save(root / name)
    return root


def test_images_that_cannot_be_used_are_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make_folder(tmp_path / "unknown", "qwerty/a.png")
    make_folder(tmp_path / "broken")
    (tmp_path / "broken" / "n01440764" / "b.jpg").write_bytes(b"\xff\xd8 not a picture")
    said = {
        "empty": "holds no images",
        "unknown": "'qwerty' is not among",
        "broken": "b.jpg cannot be read",
    }
    for name, words in said.items():
        ended = run("dataset=imagefolder", f"dataset.root={tmp_path / name}")
        assert (ended.code, words in ended.err, "Traceback" in ended.err) == (2, True, False)


def test_no_image_selected_is_one_sentence(run: Run, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    ended = run("dataset=imagefolder", f"dataset.root={root}", *SMALL)
    assert ended.code == 2
    assert "no image is left: none of the 2" in ended.err
    assert "efficientnet_lite0 rejects 2" in ended.err


def test_a_results_folder_that_cannot_be_is_told_before_any_work(run: Run, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    ended = run(*SMALL)
    assert (ended.code, "paths.results=" in ended.err) == (2, True)


def test_help_reads_like_a_manual_and_comes_at_once() -> None:
    start = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-m", "experiments.run", "--help"],
        capture_output=True, text=True, cwd=REPOSITORY, check=True,
    )  # fmt: skip
    # A second on a machine that has nothing else to do.
    assert time.perf_counter() - start < 3
    assert "EXAMPLES" in shown.stdout
    assert "perturbation/area: p200, p220, paper, whole" in shown.stdout


def test_a_wrong_key_is_told_before_torch_is_loaded() -> None:
    """Which neither the public package nor the command line loads when it is imported."""
    code = (
        "import sys, pixelrobust; from experiments.run import main\n"
        "sys.argv[1:] = ['foo=1']; code = main(); sys.exit(0 if code == 2 and 'torch' not in sys.modules else 1)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
    assert ended.returncode == 0


def test_a_launcher_without_a_sweep_is_refused(run: Run, tmp_path: Path) -> None:
    """Hydra would ignore it, and compute here what was meant for a cluster."""
    ended = run("hydra/launcher=slurm", *SMALL)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "hydra/launcher=slurm launches the jobs of a sweep" in ended.err
    assert "give -m too" in ended.err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("experiment=table6 -m seed=1", "-m experiment=table6 seed=1"),
        ("a=1 --config-dir b=c ~d --cfg job", "--config-dir b=c --cfg job a=1 ~d"),
        ("-sc install=bash", "-sc install=bash"),
        ("", ""),
    ],
)
def test_flags_may_stand_anywhere(line: str, expected: str) -> None:
    assert " ".join(flags_first(line.split())) == expected


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def wrong() -> int:
        raise InputError("this is wrong.", "and that.")

    def interrupted() -> int:
        raise KeyboardInterrupt

    codes = [exit_code(work) for work in (lambda: 0, lambda: 1, wrong, interrupted)]
    assert codes == [0, 1, 2, 130]
    assert capsys.readouterr().err == "error: this is wrong.\nand that.\ninterrupted\n"


def test_what_a_process_has_made_is_not_handed_to_others() -> None:
    workshop = Workshop()
    assert [workshop.get(("network",), lambda made=made: made) for made in (1, 2)] == [1, 1]
    assert pickle.loads(pickle.dumps(workshop)).get(("network",), lambda: 3) == 3


def test_a_run_says_and_keeps_what_ran_each_network(run: Run, tmp_path: Path) -> None:
    few = ("experiment=table6", "profile=bundled", *SMALL)
    parts = {}
    for engine in ("eager", "openvino", "auto"):
        ended = run(*few, f"engine={engine}")
        assert ended.code == 0, ended.err
        (path,) = (tmp_path / "results").glob("table6-*/outcomes/table6.json")
        manifest = json.loads(path.read_text())
        parts[engine] = manifest["engines"]["efficientnet_lite0"]
        known = {"eager": "PyTorch", "openvino": "OpenVINO"}[parts[engine]["name"]]
        assert ended.out.count(f"efficientnet_lite0 runs on {known} (fp32)") == 1
        outcomes = pd.read_parquet(path.with_suffix(".parquet"))
        outcomes.to_parquet(tmp_path / f"{engine}.parquet")
        # Different engines are different runs.
        path.parent.parent.rename(tmp_path / engine)
        if engine == "openvino":
            counts = parts[engine]["compared"], parts[engine]["differing"]
            assert counts == (manifest["images"], 0)
            assert "0 of 17 predictions of unchanged images differ from those of plain" in ended.out
    assert parts["eager"] == {"name": "eager", "precision": "fp32", "batch_size": 16}
    assert parts["openvino"]["batch_size"] == 4
    # There is little to do.
    assert parts["auto"] == parts["eager"]
    by_engine = [pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("eager", "openvino")]
    same = (by_engine[0]["prediction"] == by_engine[1]["prediction"]).mean()
    assert same > 0.98


def test_a_run_says_and_keeps_what_was_screened(run: Run, tmp_path: Path) -> None:
    """Of a sweep the merged record counts all jobs."""
    screened = ("engine=eager", "engine.precision=screened", "engine.screening.fast=bf16")
    ended = run("-m", *FEW, *screened, "perturbation.num=4,64")
    assert ended.code == 0, ended.err
    folder = only_folder(tmp_path / "results", "*-sweep-*")
    found = json.loads((folder / "outcomes" / "table.json").read_text())
    (about, *_) = found["engines"].values()
    assert (about["precision"], about["fast"]) == ("screened", "bf16")
    assert about["screened"] == 2 * found["images"] * found["draws"]
    # They are so few that all of them show how large errors are.
    assert about["calibrated"] == about["screened"]
    jobs = [
        path for path in tmp_path.glob("results/*/outcomes/table.json") if "sweep" not in str(path)
    ]
    parts = [json.loads(path.read_text())["engines"] for path in jobs]
    for name, own in found["engines"].items():
        assert own["screened"] == sum(part[name]["screened"] for part in parts)
        assert own["error"] == max(part[name]["error"] for part in parts) > 0

    alone = run(*FEW, *screened, "perturbation.num=256")
    assert alone.code == 0, alone.err
    assert "runs on PyTorch (fp32, screened in bf16)" in alone.out
    assert re.search(
        r"of \d+ predictions in bf16, \d+ \([\d.]+%\) with small margins were computed again in fp32, "
        r"which changed \d+; of the others, 0 were checked: none differed",
        " ".join(alone.out.split()),
    )


def test_the_jobs_of_a_sweep_share_engines_and_repeat_no_unchanged_image(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Engine] = []

    def counted(*arguments: Any) -> Engine:
        started.append(Shown(*arguments))
        return started[-1]

    class Shown(EagerEngine):
        shown = 0

        def __init__(self, module: Any, settings: Any, images: Any, passes: int) -> None:
            super().__init__(module, torch.device("cpu"), 16)

        def logits(self, images: torch.Tensor) -> torch.Tensor:
            Shown.shown += len(images)
            return super().logits(images)

    monkeypatch.setattr(session, "make_engine", counted)
    ended = run("-m", *SMALL[:2], "perturbation.num=4,8", "perturbation.amplitude=10,40", "seed=77")
    assert ended.code == 0, ended.err
    assert "4 of 4 jobs finished" in ended.out
    assert len(started) == 1
    (path, *_) = (tmp_path / "results").glob("run-*/outcomes/*.json")
    images = json.loads(path.read_text())["images"]
    # Of other tests' unchanged images the cache may know already.
    assert Shown.shown in (4 * images, 4 * images + 20)
