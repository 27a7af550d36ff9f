"""Configurations that are wrong: every numeric key, any value anywhere, keys and groups unknown."""

import copy
import math
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import BaseModel

from experiments.config import compose
from pixelrobust.errors import InputError
from pixelrobust.models.preprocessing import common_preprocessing
from pixelrobust.settings import RunSettings, build_settings
from pixelrobust.settings.schema import ProfileSettings
from tests.conftest import Run
from tests.fault_cases import folder_of, images, manifest, sentence

pytestmark = pytest.mark.usefixtures("one_thread")

ZERO = {
    "attack.arguments.steps",
    "engine.compared",
    "engine.screening.checked",
    "models.vgg16.mean",
    "perturbation.amplitude",
    "perturbation.num",
    "pictures",
    "retrain.measured",
    "table6_num",
    "table6_pictures",
    "retrain.momentum",
    "retrain.num",
    "retrain.seeds",
    "retrain.weight_decay",
    "seed",
    "tracking.examples",
}
"""Keys that take 0."""
SAID = {
    "zip=3": "zip is not a key of the configuration",
    "+zip=3": "zip is not a key of the configuration",
    "+dataset.zip=3": "dataset.zip is not a key of the configuration",
    "dataset=zip": "dataset=zip is unknown",
    "model=zip": "model=zip is unknown",
    "+models.vgg16.zip=3": "models.vgg16.zip is not a key of the configuration",
    "experiment=table99": "experiment=table99 is unknown",
    "measure=weights": "measure='weights' is wrong: it should be 'outcomes'",
    "dataset.unreadable=maybe": "dataset.unreadable='maybe' is wrong: it should be 'stop' or 'skip'",
    "perturbation.num=[": "no viable alternative at input '['",
    "perturbation.num=[]": "perturbation.num=[] is wrong: it should have at least 1 item",
    "perturbation.num=[4,nan]": "perturbation.num=nan is not a number of pixels",
    "perturbation/count=64": "a group takes names of its files, not numbers",
    "model=[]": "no model is given",
    "selection.models=[zip]": "selection.models names 'zip', which is not a model",
    "selection=zip": "selection='zip' is wrong: it should be a group of keys",
    "paths.cache=": "paths.cache='' is not a path",
    "paths.cache=1.5": "paths.cache=1.5 is not a path",
    "engine.devices=many": "engine.devices='many' is not a device",
    "engine.devices=[]": "engine.devices=[] is wrong: it should be a valid string, or",
    "engine.devices=cuda:99": "engine.devices=cuda:99 is not there: this machine shows 1 GPUs to",
    "engine.devices=64": "engine.devices=64 is more than the 1 GPUs that are there",
    "attack=pgd attack.arguments.zip=3": "attack.arguments.zip is not a key of the configuration",
    "attack=pgd attack.epsilon=[minimal,0.5x]": "attack.epsilon='0.5x' is wrong; give a number",
    "attack=pgd attack.epsilon=0": "attack.epsilon=0 is wrong; give a number",
    "attack=pgd attack.step=33": "attack.step=33.0 is larger than attack.max_epsilon=32",
    "attack=pgd attack.step=1e-30": "attack.step=1e-30 takes more than 10,000 steps to",
    "dataset=csv dataset.split=test": "dataset.split means nothing to dataset.kind=csv; remove it: it is "
    "for torchvision",
    "dataset=csv dataset.download=true": "dataset.download means nothing to dataset.kind=csv",
    "dataset=csv dataset.kind=npz": "dataset.kind='npz' is wrong",
    "dataset=imagefolder dataset.file=labels.csv": "dataset.file means nothing to dataset.kind=imagefolder",
    "dataset=torchvision dataset.name=5": "dataset.name=5 is wrong",
    "dataset.preprocessing.crop=300": "dataset.preprocessing: crop=300 is larger than resize=256",
}
"""Words of the sentence about each case, by the case's id."""

MODEL = "vgg16"
VALUES = {"0": 0, "-1": -1, "10^30": 10**30, "nan": math.nan, "many": "many", "true": True}


def numeric_keys(section: type[BaseModel] = RunSettings, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of all numbers that settings hold."""
    for name, field in section.model_fields.items():
        if name == "selection_models":
            continue
        parts = set(_parts(field.annotation))
        inner = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
        for kind in inner:
            place = f"{name}.{MODEL}" if dict in parts else name
            yield from numeric_keys(kind, f"{prefix}{place}.")
        if not inner and parts & {int, float}:
            yield prefix + name


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield a type, and all that it is made of."""
    yield typing.get_origin(annotation) or annotation
    for part in typing.get_args(annotation):
        yield from _parts(part)


KEYS = [*numeric_keys(), *numeric_keys(ProfileSettings), "attack.arguments.steps"]


def usual() -> dict[str, Any]:
    plain = OmegaConf.to_container(
        compose(f"model={MODEL}", "attack=pgd", "tracking=wandb"), resolve=True
    )
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


USUAL = usual()


def changed(key: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return the usual config with another value at a key."""
    config = copy.deepcopy(USUAL)
    section = config
    for part in key[:-1]:
        section = section[part]
    assert key[-1] in section
    section[key[-1]] = value
    return config


def found(settings: RunSettings, key: str) -> Any:
    """Return what settings hold at a dotted key."""
    for part in key.split("."):
        settings = settings[part] if isinstance(settings, dict) else getattr(settings, part)
    return settings


def outcome(key: str, value: Any) -> str:
    """Tell that a value is accepted as it is, or what is required of it."""
    try:
        built = build_settings(changed(tuple(key.split(".")), value), {}, common_preprocessing)
    except InputError as error:
        text = str(error)
        assert "\n" not in text, text
        assert text.startswith(key), text
        requirement = re.fullmatch(rf"{re.escape(key)}=.* is wrong: it (.*)\.", text)
        return requirement[1] if requirement else text.partition("; ")[0].replace(str(value), "…")
    if key not in ProfileSettings.model_fields:
        expected = (value, float(value)) if isinstance(value, int) else (value,)
        assert found(built, key) in (*expected, *((each,) for each in expected))
    return "accepted"


def test_there_are_as_many_numeric_keys_as_the_settings_show() -> None:
    """Name some of each section, so that none is overlooked."""
    assert len(KEYS) == len(set(KEYS)) >= 35
    for key in ("seed", "draws", "pictures", "perturbation.amplitude", "dataset.candidates",
                "dataset.preprocessing.crop", f"models.{MODEL}.std", "attack.epsilon",
                "retrain.seeds", "retrain.steps", "engine.devices", "engine.batch_size"):  # fmt: skip
        assert key in KEYS


@pytest.mark.parametrize("key", KEYS)
def test_a_number_is_accepted_or_refused_by_its_key(key: str) -> None:
    outcomes: dict[str, list[str]] = {}
    for name, value in VALUES.items():
        outcomes.setdefault(outcome(key, value), []).append(name)
    # Nothing is without bounds, but for what the loss shows at once; nan and true are no numbers.
    accepted = set(outcomes.get("accepted", []))
    exceptions = {
        "retrain.learning_rate": {"10^30"},
        "attack.arguments.steps": {"true"},
        # Bounded by the images, where a run takes it.
        "table6_num": {"10^30"},
    }
    assert not accepted & ({"-1", "10^30", "nan", "true"} - exceptions.get(key, set()))
    assert ("0" in accepted) == (key in ZERO)


def places(section: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the way to every key and section of a config."""
    for key, value in section.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


WORDS = st.sampled_from(["minimal", "folders", "none", "transfer", "a.pth", "~nobody", "~", "\0"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=400)
@given(key=st.sampled_from(sorted(places(USUAL))), value=JSON)
def test_any_value_at_any_key_is_accepted_or_refused_by_a_key(
    key: tuple[str, ...], value: Any
) -> None:
    try:
        build_settings(changed(key, value), {}, common_preprocessing)
    except InputError as error:
        for line in str(error).splitlines():
            assert any(part in line for part in key), line
            assert line.endswith("."), line


@settings(deadline=None, max_examples=100)
@given(key=st.sampled_from(sorted(places(USUAL))), name=st.text(min_size=1), value=JSON)
def test_no_section_takes_a_key_that_it_does_not_have(
    key: tuple[str, ...], name: str, value: Any
) -> None:
    config = copy.deepcopy(USUAL)
    section: Any = config
    for part in key:
        section = section[part]
    # Models and the arguments of attacks have names of their own.
    own_names = (("models",), ("attack", "arguments"))
    if not isinstance(section, dict) or name in section or key in own_names:
        return
    section[name] = value
    with pytest.raises(InputError, match=r"is not a key|is not a path"):
        build_settings(config, {}, common_preprocessing)


@pytest.mark.parametrize("override", SAID)
def test_a_wrong_configuration_is_refused(
    override: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Sentences say how many there are.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    ended = run(f"model={MODEL}", *override.split())
    assert SAID[override] in sentence(ended, tmp_path)


def test_a_word_where_an_attack_takes_a_number_is_refused(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    """Only the attack itself knows what it takes."""
    root = folder_of(tmp_path / "images", "cat/a.png")
    attack = ["attack=pgd", "attack.epsilon=1", "attack.arguments.steps=many"]
    assert "attack.name=PGD cannot attack these images" in sentence(
        run(*images(root), *small_network, *attack), tmp_path
    )


def test_limits_beyond_what_is_there_mean_everything(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png", "cat/b.png")
    largest = [f"{key}={10**9}" for key in ("dataset.candidates", "dataset.limit")]
    others = [f"engine.compared={10**9}", f"seed={2**63 - 1}", "engine.batch_size=65536"]
    ended = run(*images(root), *small_network, *largest, *others)
    assert (ended.code, ended.err) == (0, "")
    assert manifest(tmp_path / "results")["images"] == 2


def test_a_batch_beyond_the_machines_memory_is_refused_before_it_is_tried(
    run: Run, small_network: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelrobust.engine.devices._memory", lambda: 1e9)
    root = folder_of(tmp_path / "images", "cat/a.png")
    told = sentence(run(*images(root), *small_network, "engine.batch_size=65536"))
    # 65,536 x 3 x 32 x 32 numbers of four bytes.
    assert "engine.batch_size=65536 images of 32 x 32 take 0.8 GB" in told
