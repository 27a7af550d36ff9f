"""The configs: every one composes, and the manual names every key."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from experiments.config import compose, options, preset_settings, quoted, read_settings, readable
from experiments.exits import CONFIGS
from experiments.manual import commented_keys, manual
from pixelrobust.errors import InputError
from pixelrobust.perturbation.grid import Cell
from pixelrobust.settings import RunSettings, stored_attack

DRAWN_WITH = {
    "figure1": "breakdown",
    "figure8": "table6",
    "figure9": "table7",
    "figure10": "table8",
}
PAPERS_FIVE = ["resnet101", "densenet121", "vgg16", "alexnet", "squeezenet1_1"]


def settings(*overrides: str) -> RunSettings:
    return read_settings(compose(*overrides))


# Its images are too small for the paper's areas: it is there for retraining.
RETRAINING_ONLY = ("cifar10-sample",)


@pytest.mark.parametrize(
    ("experiment", "profile"),
    [
        (experiment, profile)
        for profile in options("profile")
        for experiment in (
            ["table10", "distances"] if profile in RETRAINING_ONLY else options("experiment")
        )
    ],
)
def test_every_experiment_composes_on_every_profile(experiment: str, profile: str) -> None:
    composed = settings(f"experiment={experiment}", f"profile={profile}")
    table = DRAWN_WITH.get(experiment, experiment)
    assert (composed.name, composed.profile) == (table, profile)
    preset = preset_settings(table, profile)
    assert preset
    assert preset.identity() == composed.identity()


@pytest.mark.parametrize(
    ("group", "key"), [("count", "num"), ("amplitude", "amplitude"), ("area", "area")]
)
def test_every_perturbation_composes(group: str, key: str) -> None:
    for option in options(f"perturbation/{group}"):
        value = getattr(settings(f"perturbation/{group}={option}").perturbation, key)
        if option[1:].isdigit():
            assert value == (int(option[1:]),)


@pytest.mark.parametrize("model", [name for name in options("model") if name != "base"])
def test_every_model_composes_under_its_own_name(model: str) -> None:
    needed = dict.fromkeys(("timm", "torchvision"), "name")
    needed |= dict.fromkeys(("checkpoint", "huggingface"), "path")
    overrides = [f"models.{model}.{needed[model]}=x"] if model in needed else []
    assert list(settings(f"model={model}", *overrides).models) == [model]


def test_table_10_is_the_papers_retraining() -> None:
    paper = settings("experiment=table10", "profile=paper")
    retrain = paper.retrain
    assert (retrain.model, retrain.images, retrain.num) == ("resnet101", 1000, (4, 8, 16, 32, 64))
    assert (retrain.learning_rate, retrain.epochs, retrain.head) == (0.001, 20, "random")


def test_table_6_is_the_papers_experiment_1() -> None:
    paper = settings("experiment=table6", "profile=paper")
    cells = [Cell(num) for num in (0, 4, 8, 16, 32, 64)]
    assert paper.perturbation.cells() == cells
    assert list(paper.models) == PAPERS_FIVE
    assert {model.weights for model in paper.models.values()} == {"IMAGENET1K_V1"}
    assert (paper.draws, paper.dataset.limit, paper.seed) == (1, 10_000, 0)
    crop = paper.dataset.preprocessing
    assert (crop.resize, crop.crop, crop.interpolation) == (256, 224, "bilinear")


def test_the_evaluated_models_select_unless_a_list_is_given() -> None:
    one = settings("experiment=table6", "profile=paper", "model=vgg16")
    assert list(one.models) == ["vgg16"]
    assert list(one.selection_models) == PAPERS_FIVE
    assert list(settings("model=[vgg16,alexnet]").selection_models) == ["vgg16", "alexnet"]


def test_two_models_of_one_library() -> None:
    both = settings(
        "model=timm", "models.timm.name=resnet18", "+model@models.b=timm", "models.b.name=vgg11"
    )
    labels = {key: model.label for key, model in both.models.items()}
    assert labels == {"timm": "resnet18", "b": "vgg11"}


def test_relative_paths_hang_on_the_root() -> None:
    composed = settings(
        "paths.root=/somewhere", "dataset=imagefolder", "dataset.root=images",
        "model=vgg16", "models.vgg16.weights=vgg.pth",
    )  # fmt: skip
    assert composed.paths.results == Path("/somewhere/results")
    assert composed.dataset.root == Path("/somewhere/images")
    assert composed.models["vgg16"].weights == "/somewhere/vgg.pth"


def test_augmentations_count_where_layers_are_measured() -> None:
    usual = settings("experiment=amplification", "augmentations=[]")
    assert "augmentations" not in usual.identity()
    other = settings("experiment=amplification", "augmentations=[noise,augmix]")
    assert other.identity() == usual.identity() | {
        "augmentations": ["noise", "augmix"], "retrain": {"noise": 10.0},
    }  # fmt: skip
    for overrides in (
        ("augmentations=augmix",),
        ("experiment=amplification", "augmentations=unchanged"),
    ):
        with pytest.raises(InputError, match="augmentations"):
            settings(*overrides)


def test_where_files_lie_does_not_change_what_a_run_is() -> None:
    here = ("model=vgg16", "models.vgg16.weights=/a/vgg.pth")
    usual = settings(*here).identity()
    moved = settings(
        "model=vgg16", "models.vgg16.weights=/b/vgg.pth", "models.vgg16.label=mine",
        "paths.results=/tmp/x", "engine.batch_size=3", "dataset.description=words",
    )  # fmt: skip
    assert usual == moved.identity()
    assert usual == settings(*here, "perturbation.channels=apart").identity()
    for override in ("seed=1", "draws=2", "perturbation.num=5", "dataset.limit=9",
                     "perturbation.channels=together", "perturbation.repetition=true"):  # fmt: skip
        assert settings(*here, override).identity() != usual


def test_keys_of_attacks_that_came_later_are_in_the_identity_where_they_change_something() -> None:
    """A manifest without them is read as what was done before there were any."""
    before = ("model=vgg16", "attack=fgsm", "attack.sample=false", "attack.refine=false")
    old = settings(*before).identity()["attack"]
    assert list(old) == [
        "kind", "target", "arguments", "epsilon", "step", "max_epsilon", "round", "wanted",
    ]  # fmt: skip
    assert stored_attack({"attack": old}) == settings(*before).attack
    new = settings("model=vgg16", "attack=fgsm")
    assert new.identity()["attack"] == old | {"refine": True, "sample": True}
    assert stored_attack(new.identity()) == new.attack


def test_epsilons_are_sizes_or_multiples_of_the_smallest() -> None:
    attack = settings("model=vgg16", "attack=fgsm", "attack.epsilon=[minimal,1.50x,1.01x,4]").attack
    assert attack
    assert attack.epsilon == ("minimal", "1.5x", "1.01x", 4.0)


def test_the_manual_names_every_key() -> None:
    text = manual(CONFIGS)
    config = OmegaConf.to_container(compose("model=vgg16", "attack=fgsm", "tracking=wandb"))
    keys = [
        f"{section}.{key}"
        for section, values in config.items()
        if isinstance(values, dict) and section not in ("models", "hydra")
        for key in values
    ]
    keys += [key for key, value in config.items() if not isinstance(value, dict)]
    keys += [f"models.<name>.{key}" for key in config["models"]["vgg16"]]
    assert [
        key for key in keys if not re.search(rf"^  {re.escape(key)}[\s.]", text, re.MULTILINE)
    ] == []


def test_the_manual_takes_its_words_from_the_comments() -> None:
    text = (
        "# @package x\nplain: 1\ntold: null   # what it is;\n              # and more\n"
        "group:\n  inner: 2  # within\n\n  # of nothing\n  other: 3\ndefaults:\n  - a: b  # not a key\n"
    )
    found = {"told": "what it is; and more", "group.inner": "within"}
    assert dict(commented_keys(text)) == found


def test_every_value_in_the_configs_has_a_comment() -> None:
    uncommented = [
        f"{path.relative_to(CONFIGS)}: {line}"
        for path in (
            CONFIGS / "config.yaml",
            *CONFIGS.glob("*/base.yaml"),
            *CONFIGS.glob("tracking/*.yaml"),
        )
        for line in path.read_text().split("\nhydra:")[0].splitlines()
        if ":" in line and "#" not in line and not line.rstrip().endswith(":") and " - " not in line
    ]
    assert uncommented == []


def test_every_config_says_what_it_is() -> None:
    named_by_value = {"n", "r", "p"}
    silent = [
        str(path.relative_to(CONFIGS))
        for path in CONFIGS.rglob("*.yaml")
        if "hydra" not in path.parts
        and not (path.stem[0] in named_by_value and path.stem[1:].isdigit())
        and not any(
            line.startswith("# ") and not line.startswith("# @package")
            for line in path.read_text().splitlines()
        )
    ]
    assert silent == []
    assert all(yaml.safe_load(path.read_text()) for path in CONFIGS.rglob("*.yaml"))


@given(st.text(st.sampled_from("ab \\\"'=,[]{}:/é%~$@"), max_size=12))
def test_any_path_can_be_the_value_of_a_key(text: str) -> None:
    assert OverridesParser.create().parse_override(f"key={quoted(text)}").value() == text


def values_of(*words: str) -> list[Any]:
    """What Hydra makes of a command line's values."""
    overrides = OverridesParser.create().parse_overrides(readable(words))
    return [
        [getattr(value, "text", value) for value in one.value().list]
        if one.is_sweep_override()
        else one.value()
        for one in overrides
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/data/images (1)", "/data/my images", "/data/x[1]", "/data/数据", "/data/Größe", "~/x", "/data/it's",
        "/data/a=b", "/data/{x}", '/data/"x"', "/data/a;b&c", "数据/a b",
    ],
)  # fmt: skip
def test_paths_need_no_quotes_of_hydras_own(path: str) -> None:
    assert values_of(f"dataset.root={path}") == [path]
    assert values_of("seed=3", f"dataset.root={path}") == [3, path]


def test_what_hydra_reads_stays_as_it_is() -> None:
    words = ["perturbation.num=[4,8]", "model=[", "evaluate", "a={b:1}", "--cfg", "x=", 'y="a", b']
    assert readable(words) == words
    # In a sweep commas stand between values.
    (override,) = readable(["dataset.root=/data/数,/b c, /d (1)", "-m"])[:1]
    assert values_of(override) == [["/data/数", "/b c", "/d (1)"]]
