"""Adversarial images under pixel changes, on networks whose predictions are known."""

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pixelrobust import InputError
from pixelrobust.attacks import round_to_8_bits
from pixelrobust.engine import EagerEngine
from pixelrobust.evaluation.adversarial import attack_batches, evaluate_adversarial
from pixelrobust.evaluation.forward import Design, Task
from pixelrobust.figures.curves import overshoot_curves
from pixelrobust.outcomes.kinds import ADVERSARIAL
from pixelrobust.outcomes.rows import concatenate, read_outcomes, write_outcomes
from pixelrobust.perturbation.grid import build_grid
from pixelrobust.settings import attack_settings
from pixelrobust.tables.adversarial import (
    RETURN_COLUMNS,
    is_restored,
    returns_for_reading,
    summarize_returns,
)

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
    assert summary.loc["rounded", "restored"] == 1
    assert set(summary.index) == {"unrounded", "rounded"}


def test_what_rounding_gives_back_is_told_apart_by_the_size_of_the_attack() -> None:
    """Below half a level all values are rounded back; at half a level some of many are not."""
    rows = outcomes_by_hand()
    sizes = {"a": 0.3, "b": 0.4998, "c": 0.5, "d": 0.51}
    rows["size"] = rows["image"].map(sizes)
    # What is given back is right again.
    given_back = rows["rounded"] & rows["image"].isin(["a", "b"]) & (rows["num"] == 0)
    rows.loc[given_back, ["prediction", "wrong"]] = [0, False]
    summary = summarize_returns(rows, (SIDE, SIDE)).set_index(["images_are", "num"])
    assert summary.loc[("rounded", 0), ["images", "restored", "returned"]].tolist() == [4, 2, 2]
    assert summary.loc[("rounded, still perturbed", 0), ["images", "returned"]].tolist() == [2, 0]
    assert summary.loc[("rounded, still perturbed", 4), "restored"] == 0
    assert summary.loc[("rounded, still fooling", 0), "images"] == 2
    assert (summary.loc["unrounded", "restored"] == 0).all()


def test_the_size_says_what_rounding_gives_back(pictures: tuple[Tensor, Tensor]) -> None:
    """Of random images changed by random attacks, against a comparison of all their values."""
    originals, changed = pictures
    size = (changed - originals).abs().flatten(1).amax(dim=1) * 255
    same = (round_to_8_bits(changed) == originals).flatten(1).all(dim=1)
    assert is_restored(pd.DataFrame({"size": size.numpy()})).tolist() == same.tolist()
    assert 0 < int(same.sum()) < len(same)


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    originals = torch.randint(256, (200, 3, SIDE, SIDE), generator=generator).float() / 255
    directions = torch.randint(-1, 2, originals.shape, generator=generator)
    sizes = torch.linspace(0.3, 0.7, 200)[:, None, None, None] / 255
    return originals, (originals + sizes * directions).clamp(0, 1)


def many(wanted: int, batch: int, seed: int = 0, sample: bool = True) -> list[str]:
    """Keys of the images, of those 1 to 30 levels above one half, that are kept of 2/255 that fool."""
    module, levels = Brightness().eval(), [128 + index % 3 * 20 for index in range(60)]
    images = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, SIDE, SIDE)
    attack = attack_settings(name="FGSM", epsilon=2, round=False, wanted=wanted, sample=sample)
    engine = EagerEngine(module, torch.device("cpu"), batch)
    keys = [f"image{index:02}" for index in range(len(levels))]
    task = Task(engine, images, keys, np.ones(len(levels), dtype=np.int64), "net")
    rows = evaluate_adversarial(task, module, attack, Design(build_grid(0), 1, seed))
    return list(rows["image"])


def test_the_images_are_a_seeded_sample_of_those_that_fool() -> None:
    """A third of the images fools; lots are drawn from seed and key, whatever the batches."""
    fooling = [f"image{index:02}" for index in range(0, 60, 3)]
    assert many(100, 7, sample=False) == fooling
    assert many(5, 7, sample=False) == fooling[:5]
    for seed in (0, 1):
        lots = {key: hashlib.blake2b(f"{seed}\0{key}".encode()).digest() for key in fooling}
        expected = sorted(fooling, key=lots.__getitem__)[:5]
        assert many(5, 7, seed) == many(5, 60, seed) == many(5, 1, seed) == expected
        assert sorted(expected) != fooling[:5]
    assert sorted(many(100, 7)) == fooling


def test_one_image_is_attacked_in_the_batch_that_it_belongs_to() -> None:
    """Alone, if the attack goes straight on, or takes one image at a time anyway."""
    module = Brightness().eval()
    images = torch.full((9, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    keys = [f"image{index}" for index in range(9)]
    engine = EagerEngine(module, torch.device("cpu"), 4)
    task = Task(engine, images, keys, np.ones(9, dtype=np.int64), "net")
    for name in ("FGSM", "L2CarliniWagnerAttack", "PGD"):
        attack = attack_settings(name=name)
        batches = [index.tolist() for index in attack_batches(task, attack, 0, 4)]
        assert [len(index) for index in batches] == [4, 4, 1]
        for key in keys:
            (index,) = attack_batches(task, attack, 0, 4, frozenset([key]))
            own = keys.index(key)
            if name != "PGD":
                assert index.tolist() == [own]
            else:
                assert index.tolist() in batches
                assert own in index


def test_recovered_images_are_drawn_over_the_multiple_of_their_smallest_epsilon() -> None:
    """With a curve for each num, and one for rounding alone."""
    levels = [128, 129, 131, 126]
    summary = summarize_returns(evaluated(levels, ("4x", "1.5x", "10x")), (SIDE, SIDE))
    figure = overshoot_curves(summary, "Title", "Caption.")
    (axes,) = figure.axes
    assert axes.get_xscale() == "symlog"
    assert "log scale" in axes.get_xlabel()
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1.5", "4", "10"]
    curves = {line.get_label(): line for line in axes.lines}
    assert list(curves) == ["num 1", "num 36", "rounding alone"]
    for label, kind, num in (
        ("num 36", "unrounded", 36), ("rounding alone", "rounded", 0),
    ):  # fmt: skip
        rows = summary[(summary["images_are"] == kind) & (summary["num"] == num)]
        rows = rows.set_index("epsilon").loc[["1.5x", "4x", "10x"]]
        assert curves[label].get_xdata().tolist() == [0.5, 3, 9]
        assert curves[label].get_ydata().tolist() == (100 * rows["return_rate"]).tolist()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(curves)


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
    assert readable["net"][0].endswith("; 4 images")
    assert readable["net"][2].endswith("; 0 of 4 restored")


def test_adversarial_outcomes_are_stored_and_merged(tmp_path) -> None:
    outcomes = concatenate([evaluated([128, 126], ("minimal", 4)), evaluated([128], ("minimal",))])
    write_outcomes(outcomes, tmp_path / "o.parquet")
    assert len(read_outcomes(tmp_path / "o.parquet", "adversarial")) == len(outcomes)
    # Two images at two sizes, unrounded and rounded, in a control and two cells of two draws.
    assert len(outcomes) == 2 * 2 * 2 * (1 + 2 * 2)
