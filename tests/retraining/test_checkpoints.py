"""Retraining that is interrupted and continued, and finished models in folders."""

import json
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from pixelrobust import InputError
from pixelrobust.files import file_sha256
from pixelrobust.models.build import load_classifier, weights_digest
from pixelrobust.models.heads import replace_head
from pixelrobust.models.saved import load_model, save_model
from pixelrobust.perturbation.augmentations import PixelAugmentation
from pixelrobust.retraining import recipe_settings, training_fingerprint
from pixelrobust.retraining.checkpoint import read_checkpoint
from pixelrobust.settings import ModelSettings
from tests.fault_cases import Touching
from tests.retraining.cases import (
    CHANGE,
    CLASSES,
    FORKING,
    classifier,
    images,
    keys,
    labels,
    train,
)  # fmt: skip

EPOCHS = 3
SAMPLES = 13


def train_and_die(directory: Path, options: dict[str, Any], samples: int, files: int) -> None:
    """In a process: retrain, and be killed after so many samples or written files."""
    torch.set_num_threads(1)
    done = written = 0
    rename = Path.replace

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if done >= samples:
            die()

    def replace(path: Path, target: Path) -> Path:
        nonlocal written
        if written == files:
            die()
        written += 1
        return rename(path, target)

    Path.replace = replace  # type: ignore[assignment, method-assign]
    train(directory, advance=advance, **options)


def interrupted(directory: Path, options: dict[str, Any], samples: int, files: int) -> None:
    process = FORKING.Process(target=train_and_die, args=(directory, options, samples, files))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


pytestmark = pytest.mark.usefixtures("one_thread")
NEVER = 10**9
RECIPES: dict[str, dict[str, Any]] = {
    "all": {"redraw": True, "originals": True},
    "adam": {"optimizer": "adam", "learning_rate": 0.01, "batch_norm": "train"},
    "last": {"trainable": "last", "momentum": 0.0},
}


@pytest.fixture(scope="module", params=RECIPES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    options = RECIPES[request.param]
    torch.set_num_threads(1)
    return options, train(tmp_path_factory.mktemp("whole"), **options)


# An epoch writes three files. Killed: before any file; between the first checkpoint's files, and
# between those of the second; in the middle of the last epoch.
@pytest.mark.parametrize(
    ("samples", "files", "epochs"),
    [(5, NEVER, 0), (NEVER, 2, 0), (NEVER, 3, 1), (NEVER, 4, 1), (NEVER, 5, 1), (-5, NEVER, 2)],
)
def test_what_is_killed_is_continued_to_the_same_bits(
    tmp_path: Path, whole: Any, samples: int, files: int, epochs: int
) -> None:
    options, expected = whole
    total = SAMPLES * (2 if options.get("originals") else 1) * EPOCHS
    interrupted(tmp_path, options, samples if samples > 0 else total + samples, files)
    done: list[int] = []
    result = train(tmp_path, advance=done.append, **options)
    assert weights_digest(result.module) == weights_digest(expected.module)
    numbers = ["epoch", "loss", "accuracy"]
    assert result.history[numbers].equals(expected.history[numbers])
    assert sum(done) == total
    assert (done[0] == epochs * total // EPOCHS) == (epochs > 0)
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.json", "optimizer-00003.safetensors", "weights-00003.safetensors",
    }  # fmt: skip


def test_a_finished_retraining_is_read_back(tmp_path: Path) -> None:
    first = train(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    done: list[int] = []
    second = train(tmp_path, advance=done.append)
    assert weights_digest(first.module) == weights_digest(second.module)
    assert first.history.equals(second.history)
    assert done == [SAMPLES * EPOCHS]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_something_else_is_not_continued(tmp_path: Path) -> None:
    train(tmp_path / "first", epochs=1)
    done: list[int] = []
    result = train(tmp_path / "first", epochs=1, seed=1, advance=done.append)
    assert max(done) <= 4
    fresh = train(tmp_path / "fresh", epochs=1, seed=1)
    assert weights_digest(result.module) == weights_digest(fresh.module)


def flip_a_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def hold_code(path: Path) -> None:
    """Put a pickle in place of the weights, and its digest into the record."""
    path.write_bytes(pickle.dumps(Touching(path.parent / "sprung")))
    record = json.loads((path.parent / "checkpoint.json").read_text())
    record["sha256"]["weights"] = file_sha256(path)
    (path.parent / "checkpoint.json").write_text(json.dumps(record))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a checkpoint of a retraining that was cut": lambda p: p.write_bytes(p.read_bytes()[:-9]),
    "one bit of a checkpoint changed": flip_a_bit,
    "a checkpoint without its weights": Path.unlink,
    "a checkpoint whose record is damaged": lambda p: (p.parent / "checkpoint.json").write_text(
        "[1"
    ),
    "a pickle with code in it instead of a checkpoint": hold_code,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_and_not_continued(tmp_path: Path, damage: str) -> None:
    first = train(tmp_path, epochs=1)
    DAMAGES[damage](next(tmp_path.glob("weights-*")))
    done, said = list[int](), list[str]()
    again = train(tmp_path, epochs=1, advance=done.append, say=said.append)
    assert max(done) <= 4
    assert weights_digest(again.module) == weights_digest(first.module)
    assert not (tmp_path / "sprung").exists()
    (told,) = said
    assert told.startswith(f"the checkpoint in {tmp_path} is damaged, so training starts anew: ")


def test_a_checkpoint_holds_what_training_changes(tmp_path: Path) -> None:
    train(tmp_path, epochs=1, trainable="last", optimizer="adam")
    record = json.loads((tmp_path / "checkpoint.json").read_text())
    about = record["about"]
    assert about["classes"] == CLASSES
    recipe = recipe_settings(
        epochs=1, batch_size=4, learning_rate=0.05, trainable="last", optimizer="adam"
    )
    assert about["recipe"] == recipe.model_dump() | {"seed": 0}
    parameters = dict(classifier().named_parameters())
    weights = load_file(tmp_path / record["weights"])
    assert set(weights) & set(parameters) == {"1.11.weight", "1.11.bias"}
    kinds = {name.rpartition(":")[2] for name in load_file(tmp_path / record["optimizer"])}
    assert kinds == {"step", "exp_avg", "exp_avg_sq"}
    assert read_checkpoint(tmp_path, record["fingerprint"]) is not None
    assert read_checkpoint(tmp_path, "another") is None


def test_fingerprints_tell_retrainings_apart() -> None:
    good = [classifier(), CLASSES, images(3), keys(3), labels(3), CHANGE, recipe_settings(), 0]
    others = [
        classifier(0.1),
        [5, 7, 2],
        images(4)[1:],
        ["a", "b", "c"],
        [5, 5, 5],
        PixelAugmentation(6, first_draw=1),
        recipe_settings(epochs=1),
        1,
    ]
    found = {training_fingerprint(*good), training_fingerprint(*good)}  # type: ignore[arg-type]
    for index, other in enumerate(others):
        found.add(training_fingerprint(*good[:index], other, *good[index + 1 :]))  # type: ignore[arg-type]
    assert len(found) == 1 + len(others)


@pytest.mark.parametrize(
    ("options", "seed", "digest"),
    [
        ({}, 3, "e8786b7340e81c800274dd9a6fa7b2446605ab4bfb86af199660e0ee1cce8cd9"),
        (
            {
                "trainable": "last", "head": "copied", "epochs": 5, "learning_rate": 0.05,
                "optimizer": "adam", "momentum": 0.0, "weight_decay": 0.1, "batch_size": 7,
                "originals": True, "redraw": True, "batch_norm": "train", "precision": "bf16",
            },
            0,
            "3a504c2abf4442605748dc47181df8d898931db1137cf4a9db750bd56169d98b",
        ),
    ],
)  # fmt: skip
def test_networks_that_caches_hold_are_found_again(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], seed: int, digest: str
) -> None:
    """Digests of an earlier version: another one would have everybody retrain everything."""
    monkeypatch.setattr(torch, "__version__", "2.0.0")
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    for parameter in module.parameters():
        parameter.data = torch.arange(parameter.numel()).view(parameter.shape) / 8
    pixels = np.arange(36, dtype=np.uint8).reshape(3, 3, 2, 2)
    arguments = module, [1, 0], pixels, list("abc"), [0, 1, 1], PixelAugmentation(2)
    found = training_fingerprint(*arguments, recipe_settings(**options), seed)
    assert found == digest


# --- finished models --------------------------------------------------------------------------


def settings(tmp_path: Path) -> ModelSettings:
    """Of a network with random weights in a file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.squeezenet1_1(num_classes=6)
    save_file(network.state_dict(), tmp_path / "original.safetensors")
    return ModelSettings(
        source="torchvision", name="squeezenet1_1", weights=str(tmp_path / "original.safetensors"),
        match="names", classes=6, mean=None, std=(0.1, 0.2, 0.3), label="mine",
    )  # fmt: skip


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    model = settings(tmp_path)
    module = replace_head(load_classifier("a", model).module, CLASSES, "random", 1)
    state = torch.get_rng_state()
    save_model(tmp_path / "saved", module, model, CLASSES, {"recipe": {"seed": 1}})
    loaded = load_model(tmp_path / "saved")
    assert torch.equal(torch.get_rng_state(), state)
    there = {path.name for path in (tmp_path / "saved").iterdir()}
    assert there == {"model.json", "weights.safetensors"}
    assert weights_digest(loaded.module) == weights_digest(module) == loaded.weights_sha256
    assert not any(part.training for part in loaded.module.modules())
    assert loaded.classes == tuple(CLASSES)
    assert loaded.about == {"recipe": {"seed": 1}}
    assert loaded.settings.classes == 3
    assert loaded.settings.label == "mine"
    assert loaded.settings.std == pytest.approx((0.1, 0.2, 0.3))
    batch = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.module(batch), module(batch))
    # Its settings alone make the same classifier, as any network's do.
    assert load_classifier("b", loaded.settings).weights_sha256 == loaded.weights_sha256


def test_models_that_cannot_be_saved(tmp_path: Path) -> None:
    model = settings(tmp_path)
    module = load_classifier("a", model).module
    with pytest.raises(InputError, match="other layers"):
        save_model(tmp_path / "saved", module, model, CLASSES)
    with pytest.raises(InputError, match="other layers"):
        save_model(
            tmp_path / "saved", module, model.model_copy(update={"name": "alexnet"}), range(6)
        )
    for other in (module[1], nn.Sequential(module[0]), nn.Sequential(module[1], module[0])):
        with pytest.raises(InputError, match="only normalisation and a network"):
            save_model(tmp_path / "saved", other, model, range(6))
    assert not (tmp_path / "saved").exists()


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    model = settings(tmp_path)
    folder = tmp_path / "saved"
    with pytest.raises(InputError, match="holds no saved model"):
        load_model(folder)
    save_model(folder, load_classifier("a", model).module, model, range(6))
    record = json.loads((folder / "model.json").read_text())
    for damage in ({"format": 9}, {"classes": [1]}, {"settings": {"source": "torchvision"}}):
        (folder / "model.json").write_text(json.dumps(record | damage))
        with pytest.raises(InputError, match="holds no saved model"):
            load_model(folder)
