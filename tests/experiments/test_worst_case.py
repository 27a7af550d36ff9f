"""Random and searched changes as they are presented: networks of different years, and known noise."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from experiments.config import JobRecord
from experiments.paper import year_and_stem
from experiments.present import derive, ladder_of, networks_of, tables_of
from experiments.stored import store_run
from experiments.sweep import finish
from pixelrobust import InputError
from pixelrobust.outcomes.kinds import SEARCH
from pixelrobust.perturbation.grid import Cell
from pixelrobust.settings import RunSettings
from pixelrobust.tables.worst_case import summarize_worst_case
from tests.conftest import Run
from tests.experiments.claim_cases import manifest, outcomes, wrong_first
from tests.retraining.world import only
from tests.settings.test_configs import settings
from tests.tables.test_worst_case import rows_of

ARCHITECTURES = (
    "alexnet", "vgg16", "resnet50", "resnet50_v2", "densenet121", "efficientnet_b0", "vit_b_16",
    "deit_small", "swin_t", "convnext_tiny",
)  # fmt: skip


def networks_of_profile() -> RunSettings:
    return settings("profile=architectures", "experiment=worst-case", "dataset.root=/x")


def test_the_profile_holds_ten_networks_and_two_recipes_of_one() -> None:
    run = networks_of_profile()
    assert tuple(run.models) == tuple(run.selection_models) == ARCHITECTURES
    assert {run.models[key].name for key in ("resnet50", "resnet50_v2")} == {"resnet50"}
    assert {model.source for model in run.models.values()} == {"torchvision", "timm"}
    crop = run.dataset.preprocessing
    assert (crop.resize, crop.crop, crop.interpolation) == (256, 224, "bilinear")


@pytest.mark.parametrize("key", ARCHITECTURES)
def test_years_and_first_kernels_are_those_of_the_networks(key: str) -> None:
    """Built without values, by their libraries."""
    model = networks_of_profile().models[key]
    with torch.device("meta"):
        network = (
            timm.create_model(model.name)
            if model.source == "timm"
            else torchvision.models.get_model(model.name)
        )
    first = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
    found = year_and_stem({"name": model.name, "weights": model.weights})
    assert found
    year, stem = found
    assert first.kernel_size == (stem, stem)
    assert 2012 <= year <= 2022


def test_weights_of_ones_own_have_the_year_of_the_network() -> None:
    assert year_and_stem({"name": "squeezenet1_1", "weights": "mine.safetensors"}) == (2016, 3)
    assert year_and_stem({"name": "resnet50", "weights": "IMAGENET1K_V2"}) == (2021, 7)
    assert year_and_stem({"name": "mine", "weights": "mine.pth"}) is None


def run_of(network: str, name: str, digest: str, **hits: set[int]) -> tuple[Any, pd.DataFrame]:
    """Random and searched changes of one network, on images of its own."""
    rows = pd.concat([rows_of(hits, num=64), rows_of(hits, SEARCH, num=64)]).assign(model=network)
    config = {
        "seed": 0, "measure": "worst_case", "queries": 20,
        "models": {network: {"name": name, "weights": "IMAGENET1K_V1"}},
    }  # fmt: skip
    changes: dict[str, Any] = {
        "name": "worst-case", "config": config, "draws": 6, "rejected": {network: 300},
        "images": len(hits), "image_list_sha256": digest, "weights_sha256": {network: network},
    }  # fmt: skip
    return manifest(**changes), rows


def test_networks_with_images_of_their_own_stand_in_one_unpaired_table(tmp_path: Path) -> None:
    runs = {
        "old": run_of("old", "alexnet", "a", a={1, 2}, b={1}, c=set(), d=set()),
        "new": run_of("new", "swin_t", "b", a=set(), e={1}),
    }
    jobs = []
    for key, run in runs.items():
        store_run(tmp_path / key, *run)
        jobs.append(JobRecord("worst-case", (f"model={key}",), str(tmp_path / key)))
    said: list[str] = []
    found = finish(jobs, tmp_path, said.append)
    assert found
    assert "tables of worst-case stand apart" in said[0]
    table = found[1][-1]
    assert table.table["Network"].tolist() == ["old", "new"]
    assert table.table["Year"].tolist() == ["2012", "2021"]
    assert table.table["First kernel"].tolist() == ["11 × 11", "4 × 4"]
    # 3 of 4 x 6 random draws and 2 of 4 searches; 1 of 2 x 6, and 1 of 2.
    numbers = table.numbers
    assert numbers["wrong_rate"].tolist() == pytest.approx([3 / 24, 1 / 12])
    assert numbers["broken_rate"].tolist() == [0.5, 0.5]
    assert numbers["accuracy"].tolist() == [0.7, 0.7]
    assert any("images of its own" in note for note in table.notes)
    (folder,) = tmp_path.glob("evaluation-*")
    assert (folder / "worst-case-networks.png").is_file()
    assert (folder / "worst-case-networks.csv").is_file()


def test_networks_of_unknown_years_have_no_such_table() -> None:
    runs = [run_of("one", "mine", "a", a={1}), run_of("two", "other", "a", a={1})]
    assert networks_of([(own, summarize_worst_case(rows, 20)) for own, rows in runs]) == []


def test_few_images_are_not_drawn_over_their_margin() -> None:
    """A sentence stands there instead."""
    presented = tables_of(*run_of("old", "alexnet", "a", a={1, 2}, b={1}, c=set(), d=set()))
    margins = next(each for each in presented if each.stem == "worst-case-margins")
    assert margins.undrawn == ["worst-case-margins"]
    assert any("too few images to draw" in note for note in margins.notes)


def both(images: str = "a") -> dict[str, Any]:
    pixels = outcomes({"net": {Cell(64): wrong_first(1, 20), Cell(4096): wrong_first(9, 20)}})
    nums = (1505, 3011, 4516, 8530, 13548)
    noise = outcomes({"net": {Cell(num): wrong_first(4 * at, 20) for at, num in enumerate(nums)}})
    return {
        "breakdown": (manifest(name="breakdown"), pixels),
        "impulse-noise": (manifest(name="impulse-noise", image_list_sha256=images), noise),
    }


def test_changed_pixels_stand_beside_the_noise_of_imagenet_c(tmp_path: Path) -> None:
    """The severities are those of its code: 3, 6, 9, 17 and 27 % of all values of 224 x 224 pixels."""
    (ladder,) = ladder_of(both())
    assert ladder.table["Changes"].tolist() == [
        "0 (0 %)", "64 (0.13 %)", "4096 (8.2 %)",
        *(f"severity {at} ({share} % of values)" for at, share in enumerate((3, 6, 9, 17, 27), 1)),
    ]  # fmt: skip
    run = settings("experiment=impulse-noise", "profile=bundled")
    shares = [cell.num / 224**2 for cell in run.perturbation.cells() if cell.num]
    assert shares == pytest.approx([0.03, 0.06, 0.09, 0.17, 0.27], abs=1 / 224**2)
    assert run.perturbation.manner == ("scattered", False, "extreme")
    derive(tmp_path, both())
    assert (tmp_path / "ladder.png").is_file()
    assert ladder_of({"breakdown": both()["breakdown"]}) == []
    with pytest.raises(
        InputError, match="breakdown and impulse-noise were run on different images"
    ):
        ladder_of(both(images="b"))


@pytest.mark.slow
def test_networks_of_several_kinds_are_measured_together(run: Run, tmp_path: Path) -> None:
    """With weights made on the spot, which call every image the same; the search then finds nothing."""
    names = {"resnet50": "torchvision", "swin_t": "torchvision", "deit_small": "timm"}
    keys = []
    for key, source in names.items():
        torch.manual_seed(0)
        name = "deit_small_patch16_224" if source == "timm" else key
        network = (
            timm.create_model(name) if source == "timm" else torchvision.models.get_model(name)
        )
        # The last layer.
        *_, head = (part for part in network.modules() if isinstance(part, nn.Linear))
        with torch.no_grad():
            head.weight.mul_(0.01)
            head.bias.zero_()
            head.bias[0] = 100
        path = tmp_path / f"{key}.safetensors"
        save_file(network.state_dict(), path)
        keys.append(f"models.{key}.weights={path}")
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "n01440764").mkdir(parents=True)
    for index in range(2):
        pixels = rng.integers(0, 256, (256, 256, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "n01440764" / f"{index}.png")
    chosen = f"[{','.join(names)}]"
    ended = run(
        "experiment=worst-case", "profile=architectures", f"model={chosen}",
        f"selection.models={chosen}", f"dataset.root={tmp_path / 'images'}", *keys, "draws=2",
        "queries=2", "perturbation.num=[4,64]", results=tmp_path / "results",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    folder = only(tmp_path / "results", "worst-case")
    table = pd.read_csv(folder / "worst-case-networks.csv")
    assert table["model"].tolist() == list(names)
    assert table["stem"].tolist() == [7, 4, 16]
    assert table["broken_rate"].tolist() == [0, 0, 0]
    rows = pd.read_parquet(folder / "outcomes" / "worst-case.parquet")
    # The control, two draws of two kinds, and the search, of two images and nums.
    assert len(rows) == 3 * 2 * (1 + 2 * (2 + 2 + 1))
