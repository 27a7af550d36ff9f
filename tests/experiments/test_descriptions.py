"""Tables 1 to 4, from what is installed and configured."""

import pytest
import torchvision
from omegaconf import OmegaConf
from torchvision.transforms import v2

from experiments import descriptions
from experiments.config import compose, options, preset_settings
from experiments.descriptions import table1, table2, table3, table4
from pixelrobust import InputError


def test_table1_has_the_papers_networks_and_those_of_the_run() -> None:
    table = table1(preset_settings("table1", "bundled").models).set_index("model")
    profiles = [name for p in ("paper", "bundled") for name in compose(f"profile={p}").models]
    assert list(table.index) == list(dict.fromkeys(profiles))
    assert list(table.columns) == ["library", "name", "weights", "parameters", "top1", "top5"]
    resnet = torchvision.models.ResNet101_Weights.IMAGENET1K_V1.meta
    assert table.loc["resnet101", "parameters"] == resnet["num_params"] == 44_549_160
    assert table.loc["resnet101", "top1"] == pytest.approx(0.77374)
    assert table.loc["resnet101", "top5"] == pytest.approx(0.93546)
    # SqueezeNet's authors built the network that torchvision has, and trained it themselves.
    assert table.loc["squeezenet_caffe", "parameters"] == table.loc["squeezenet1_1", "parameters"]
    torchvision_rows = (table["library"] == "torchvision") & (table.index != "squeezenet_caffe")
    assert table.loc[torchvision_rows, "top1"].between(0.5, 0.9).all()
    assert table.loc[~torchvision_rows, ["top1", "top5"]].isna().all(axis=None)
    assert table.loc["efficientnet_lite0", "parameters"] == 4_652_008


def test_table2_has_a_row_for_each_attack_config() -> None:
    table = table2()
    assert list(table["attack"]) == [n for n in options("attack") if n not in ("none", "base")]
    assert list(table.columns) == [
        "attack", "foolbox_class", "description", "reference", "norm", "epsilon",
    ]  # fmt: skip
    assert (table["description"] != "").all()
    assert table["norm"].isin(["", "L0", "L1", "L2", "Linf"]).all()


def configured(monkeypatch: pytest.MonkeyPatch, **attack: object) -> None:
    """As if there were one attack config of these keys."""
    monkeypatch.setattr(descriptions, "options", lambda group: ["none", "own"])
    monkeypatch.setattr(
        descriptions, "compose", lambda override: OmegaConf.create({"attack": attack})
    )


@pytest.mark.parametrize(
    ("target", "epsilon", "expected"),
    [
        ("FGSM", ["minimal", 8], ("Fast Gradient Sign Method (FGSM)", "Linf", "minimal, 8")),
        (
            "L2CarliniWagnerAttack",
            None,
            ("Implementation of the Carlini & Wagner L2 Attack", "L2", ""),
        ),
        ("LinfPGD", [0.01, 0.5], ("Linf Projected Gradient Descent", "Linf", "0.01, 0.5")),
    ],
)
def test_table2_describes_classes(
    monkeypatch: pytest.MonkeyPatch, target: str, epsilon: object, expected: tuple[str, ...]
) -> None:
    configured(monkeypatch, name=target, arguments={}, epsilon=epsilon)
    row = table2().iloc[0]
    assert (row["description"], row["norm"], row["epsilon"]) == expected
    assert ("Carlini" in row["reference"]) == ("Carlini" in target)


@pytest.mark.parametrize("target", ["NoSuchAttack", "no_such_module.Attack", None])
def test_table2_names_the_config_of_an_unknown_class(
    monkeypatch: pytest.MonkeyPatch, target: str | None
) -> None:
    configured(monkeypatch, name=target)
    with pytest.raises(InputError, match=r"configs/attack/own\.yaml: name="):
        table2()


def test_table2_does_without_attack_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions, "options", lambda group: ["none"])
    assert table2().empty
    assert "attack" in table2().columns


def test_table3_lists_transforms_that_exist() -> None:
    table = table3()
    assert list(table["kind"].unique()) == ["geometric", "colour", "learned", "pixel change"]
    names = [path.rpartition(".")[2] for path in table["transform"]]
    assert all(hasattr(v2, name) for name in names[:-1])
    assert table["transform"].iloc[-1] == "pixelrobust.RandomPixelChange"
    assert table["description"].str.len().between(10, 150).all()
    assert not table["description"].str.contains(r"[`\n\[\]]").any()


def test_table3_leaves_out_what_torchvision_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions, "_AUGMENTATIONS", {"colour": ("NoSuch", "RandomInvert")})
    assert list(table3()["transform"]) == [
        "torchvision.transforms.v2.RandomInvert",
        "pixelrobust.RandomPixelChange",
    ]


def test_table4_has_the_worked_example() -> None:
    table = table4().set_index("symbol")
    assert list(table.index) == ["w", "p", "r", "a", "Pi"]
    # Eq. 8 to 11 as printed, in percent; Eq. 12 before the paper's rounding of p and a.
    assert table["example"].to_dict() == pytest.approx(
        {"w": 0.1, "p": 64 / 224**2, "r": 1.0, "a": 200**2 / 224**2, "Pi": 98.34496}
    )
    config = compose()
    for keys in table["key"]:
        for key in filter(None, keys.split(", ")):
            assert OmegaConf.select(config, key, default="none such") != "none such"
