"""Real ImageNet images and real weights, where they are present."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms

from pixelrobust.datasets.classes import imagenet_wnids
from tests.conftest import SHARED, Run

IMAGES = SHARED / "data" / "imagenet-samples" / "val"
WEIGHTS = SHARED / "weights" / "squeezenet1_1-imagenet.safetensors"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        not (IMAGES.is_dir() and WEIGHTS.is_file()),
        reason=f"needs real images and weights beside the repository, in {SHARED.name}/",
    ),
]

SQUEEZENET = ("model=squeezenet1_1", f"models.squeezenet1_1.weights={WEIGHTS}")


def independent_wrong_rates(keys: list[str], nums: list[int], draws: int) -> dict[int, float]:
    """What a short script measures, with torchvision, PIL and NumPy alone."""
    network = torchvision.models.squeezenet1_1()
    network.load_state_dict(load_file(WEIGHTS))
    network.eval()
    crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    wnids = imagenet_wnids()
    rng = np.random.default_rng(0)
    wrong = dict.fromkeys(nums, 0)
    with torch.inference_mode():
        for key in keys:
            clean = np.asarray(crop(Image.open(IMAGES / key).convert("RGB")))
            for num in nums:
                batch = np.stack([clean] * draws)
                for image in batch:
                    flat = rng.choice(224 * 224, num, replace=False)
                    image[flat // 224, flat % 224] = rng.integers(0, 256, (num, 3))
                floats = torch.from_numpy(batch).permute(0, 3, 1, 2) / 255
                predicted = network(normalize(floats)).argmax(1)
                wrong[num] += int((predicted != wnids[key.split("/")[0]]).sum())
    return {num: count / (len(keys) * draws) for num, count in wrong.items()}


def test_rates_agree_with_an_independent_implementation(run: Run, tmp_path: Path) -> None:
    """On 100 images at 6 draws; the same images, so only the draws differ."""
    ended = run(
        "dataset=imagefolder", f"dataset.root={IMAGES}", *SQUEEZENET,
        "dataset.limit=100", "perturbation.num=[4,64]", "draws=6",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    outcomes = pd.read_parquet(next(tmp_path.glob("results/run-*/outcomes/table.parquet")))
    ours = outcomes.groupby("num")["wrong"].mean()
    theirs = independent_wrong_rates(sorted(outcomes["image"].unique()), [4, 64], 6)
    assert ours[0] == 0
    # Both means of 600 outcomes; 0.05 is over three standard errors of their difference at 64.
    assert ours[4] == pytest.approx(theirs[4], abs=0.03)
    assert ours[64] == pytest.approx(theirs[64], abs=0.05)
    assert 0.1 < ours[64] < 0.3


def test_survivors_of_the_selection(run: Run, tmp_path: Path) -> None:
    """Some 61 % of the 700 images; fewer once EfficientNet-Lite0 must get them right too."""
    for models in ("squeezenet1_1", "[squeezenet1_1,efficientnet_lite0]"):
        ended = run(
            "dataset=imagefolder", f"dataset.root={IMAGES}", f"model={models}", SQUEEZENET[1],
            "dataset.limit=10", "perturbation.num=4",
        )  # fmt: skip
        assert ended.code == 0, ended.err
    manifests = [
        json.loads(path.read_text()) for path in tmp_path.glob("results/*/outcomes/*.json")
    ]
    alone, both = sorted(manifests, key=lambda manifest: len(manifest["rejected"]))
    assert alone["candidates"] == both["candidates"] == 700
    assert 410 <= alone["survivors"] <= 440
    assert 380 <= both["survivors"] < alone["survivors"]


def test_predictions_do_not_depend_on_the_batch(run: Run, tmp_path: Path) -> None:
    for size in (1, 7):
        ended = run(
            "dataset=imagefolder", f"dataset.root={IMAGES}", *SQUEEZENET, "dataset.limit=40",
            "perturbation.num=64", f"engine.batch_size={size}", f"name=batch{size}",
        )  # fmt: skip
        assert ended.code == 0, ended.err
    first, second = (
        pd.read_parquet(path)["prediction"]
        for path in tmp_path.glob("results/*/outcomes/*.parquet")
    )
    assert (first != second).sum() <= 1
