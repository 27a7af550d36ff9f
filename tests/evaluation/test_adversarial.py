"""Adversarial images under pixel changes, on networks whose predictions are known."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pixelrobust import InputError
from pixelrobust.engine import EagerEngine
from pixelrobust.evaluation.adversarial import evaluate_adversarial
from pixelrobust.evaluation.forward import Design, Task
from pixelrobust.outcomes.kinds import ADVERSARIAL
from pixelrobust.outcomes.rows import concatenate, read_outcomes, write_outcomes
from pixelrobust.perturbation.grid import build_grid
from pixelrobust.settings import attack_settings
from pixelrobust.tables.adversarial import RETURN_COLUMNS, returns_for_reading, summarize_returns

SIDE = 6


class Brightness(nn.Module):
    """Class 1 where the mean brightness is above one half, else class 0."""

    def forward(self, images: Tensor) -> Tensor:
        excess = images.flatten(1).mean(dim=1) - 0.5
        return torch.stack([-excess, excess], dim=1)


def evaluated(
    levels: list[int], epsilons: tuple[float | str, ...], rounded: bool = True, wanted: int = 100
) -> pd.DataFrame:
    """Outcomes of uniformly grey images, whose class is that of their level."""
    module = Brightness().eval()
    images = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, SIDE, SIDE)
    labels = np.array([int(level > 127) for level in levels])
    attack = attack_settings(name="FGSM", epsilon=epsilons, round=rounded, wanted=wanted)
    engine = EagerEngine(module, torch.device("cpu"), 2)
    keys = [f"image{index}" for index in range(len(levels))]
    task = Task(engine, images, keys, labels, "net")
    return evaluate_adversarial(task, module, attack, Design(build_grid([1, 36]), 2, 0))


def test_only_images_that_fool_take_part() -> None:
    """A level of 130 is 2.5/255 above one half: 2/255 is too little, 4/255 enough; 200 needs 72.5."""
    outcomes = evaluated([130, 200, 126], (2, 4.0))
    assert list(outcomes.columns) == ADVERSARIAL.columns
    reached = outcomes.groupby("epsilon")["image"].unique().map(set).to_dict()
    assert reached == {"2": {"image2"}, "4": {"image0", "image2"}}


def test_minimal_sizes_are_the_first_sufficient_step() -> None:
    """Steps of 0.255: 2.5 above one half needs 10 of them, 1.5 below needs 6."""
    sizes = evaluated([130, 126], ("minimal",)).groupby("image")["size"].first()
    assert sizes["image0"] == pytest.approx(2.55, abs=1e-3)
    assert sizes["image1"] == pytest.approx(1.53, abs=1e-3)


def test_unrounded_images_fool_and_rounding_returns_what_hangs_on_fractions() -> None:
    """Level 128 fooled at 0.51/255 below it is rounded to 127, which still fools; 129 at 1.53 too,

    but 130 at 2.55 gives 127.45, rounded 127: fooling. With 127 at 0.51 above, 127.51 becomes 128.
    """
    summary = summarize_returns(evaluated([128, 130, 127], ("minimal",)), (SIDE, SIDE))
    control = summary[summary["num"] == 0].set_index("images_are")
    assert control.loc["unrounded", "returned"] == 0
    assert control.loc["unrounded", "stayed"] == 3
    assert control.loc["rounded", "returned"] == 0


def test_an_attack_smaller_than_half_a_level_is_undone_by_rounding() -> None:
    """Nearly half of the pixels at 127 and the others at 128: 0.255/255 fools, rounding undoes it."""
    module = Brightness().eval()
    image = torch.full((1, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    image.view(-1)[:50] = 127
    attack = attack_settings(name="FGSM", wanted=1)
    engine = EagerEngine(module, torch.device("cpu"), 2)
    task = Task(engine, image, ["a"], np.array([1]), "net")
    outcomes = evaluate_adversarial(task, module, attack, Design(build_grid(0), 1, 0))
    summary = summarize_returns(outcomes, (SIDE, SIDE)).set_index("images_are")
    assert outcomes["size"].iloc[0] == pytest.approx(0.255, abs=1e-3)
    assert summary.loc["unrounded", "return_rate"] == 0
    assert summary.loc["rounded", "return_rate"] == 1
    assert "rounded, still fooling" not in summary.index


def test_collection_stops_at_the_wanted_number() -> None:
    outcomes = evaluated([128, 129, 130, 126], ("minimal", 8), wanted=3)
    assert outcomes.groupby("epsilon")["image"].nunique().to_dict() == {"minimal": 3, "8": 3}


def test_no_fooled_image_is_said() -> None:
    with pytest.raises(InputError, match=r"no image fools model net .*'0.5'"):
        evaluated([200], (0.5,))


def test_without_rounding_there_are_unrounded_images_alone() -> None:
    summary = summarize_returns(evaluated([128], ("minimal",), rounded=False), (SIDE, SIDE))
    assert set(summary["images_are"]) == {"unrounded"}


def outcomes_by_hand() -> pd.DataFrame:
    """Four images of class 0, taken for 5; rounding returns one; pixels move two of the others."""
    rows = [
        # rounded, num, predictions of the four images
        (False, 0, [5, 5, 5, 5]),
        (False, 4, [0, 5, 7, 5]),
        (True, 0, [0, 5, 5, 5]),
        (True, 4, [0, 0, 7, 5]),
    ]
    return pd.DataFrame(
        [
            {
                "model": "net", "num": num, "amplitude": pd.NA, "area": pd.NA, "image": image,
                "draw": 0, "label": 0, "prediction": prediction, "wrong": prediction != 0,
                "epsilon": "1", "size": 1.0, "rounded": rounded, "adversarial": 5,
            }
            for rounded, num, predictions in rows
            for image, prediction in zip("abcd", predictions, strict=True)
        ]
    )  # fmt: skip


def test_returns_third_classes_and_gains_are_counted() -> None:
    summary = summarize_returns(outcomes_by_hand(), (SIDE, SIDE))
    assert list(summary.columns) == RETURN_COLUMNS
    counts = summary.set_index(["images_are", "num"])[["images", "returned", "third", "stayed"]]
    assert counts.loc[("unrounded", 4)].tolist() == [4, 1, 1, 2]
    assert counts.loc[("rounded", 0)].tolist() == [4, 1, 0, 3]
    assert counts.loc[("rounded", 4)].tolist() == [4, 2, 1, 1]
    assert counts.loc[("rounded, still fooling", 0)].tolist() == [3, 0, 0, 3]
    assert counts.loc[("rounded, still fooling", 4)].tolist() == [3, 1, 1, 1]
    rounded = summary.set_index(["images_are", "num"]).loc[("rounded", 4)]
    assert rounded["gain"] == pytest.approx(0.25)
    assert rounded["gain_p"] == 1.0
    assert rounded["pixel_index"] == pytest.approx(0.75 / (4 / 36))


def test_the_table_for_reading_shows_gains() -> None:
    readable = returns_for_reading(
        summarize_returns(outcomes_by_hand(), (SIDE, SIDE)), (SIDE, SIDE)
    )
    assert list(readable.columns) == ["Epsilon", "Images", "Num", "net"]
    assert readable["net"][1].startswith("25.0 (")
    assert readable["net"][1].endswith("; +25.0")
    assert ";" not in readable["net"][0]


def test_adversarial_outcomes_are_stored_and_merged(tmp_path) -> None:
    outcomes = concatenate([evaluated([128, 126], ("minimal", 4)), evaluated([128], ("minimal",))])
    write_outcomes(outcomes, tmp_path / "o.parquet")
    assert len(read_outcomes(tmp_path / "o.parquet", "adversarial")) == len(outcomes)
    # Two images at two sizes, unrounded and rounded, in a control and two cells of two draws.
    assert len(outcomes) == 2 * 2 * 2 * (1 + 2 * 2)
