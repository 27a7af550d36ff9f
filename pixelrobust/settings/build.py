"""Settings built of a resolved config: paths made absolute, values checked, faults as sentences."""

import re
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pixelrobust.errors import InputError
from pixelrobust.settings.schema import (
    ATTACK_PREFIX,
    ATTACKS_BEFORE,
    CLASSES,
    FROM_MODELS,
    AttackSettings,
    EngineSettings,
    ModelSettings,
    PreprocessingSettings,
    ProfileSettings,
    Recipe,
    RetrainSettings,
    RunSettings,
    Section,
    SelectionSettings,
    is_weights_file,
)

_NOT_PASSED_ON = ("selection", *ProfileSettings.model_fields)
_FILES_OF_IMAGES = ("root", "train_root", "file", "train_file", "labels", "classes")

# A single letter is a drive of Windows.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
# Of a wrong value in a message.
_LONGEST = 80

_S = TypeVar("_S", bound=Section)

Preprocessing = Callable[[Mapping[str, ModelSettings], Mapping[str, Any], bool], dict[str, Any]]
"""From models, some keys of their preprocessing, and whether the models must agree, to all its keys."""


def build_settings(
    config: Mapping[str, Any], known_models: Mapping[str, Any], common_preprocessing: Preprocessing
) -> RunSettings:
    """Build the settings of a run from a resolved config.

    Args:
        config: plain data with the keys of `configs/config.yaml`.
        known_models: settings of models that `selection.models` may name besides `models`.
        common_preprocessing: called where preprocessing is to be the models' own.

    Raises:
        InputError: a value is wrong; one sentence a fault.
    """
    data = {key: value for key, value in config.items() if key not in _NOT_PASSED_ON}
    data["paths"] = _absolute_paths(_group(config, "paths"))
    root = data["paths"]["root"]
    data["dataset"] = _anchored(config, "dataset", _FILES_OF_IMAGES, root)
    data["retrain"] = _anchored(config, "retrain", ("save",), root)
    data["tracking"] = _anchored(config, "tracking", ("directory",), root)
    for section in ("attack", "tracking"):
        if isinstance(config.get(section), Mapping) and config[section].get("kind") == "none":
            data[section] = None
    models = _group(config, "models") if config.get("models") else {}
    if not models:
        raise InputError(
            "no model is given (models is empty); name one, for example model=resnet101."
        )
    chosen = _validate(SelectionSettings, _group(config, "selection"), "selection.").models
    of_profile = ProfileSettings.model_fields.keys() & config.keys()
    _validate(ProfileSettings, {key: config[key] for key in of_profile}, "")
    data["selection_models"] = {
        name: _selection_model(name, models, known_models) for name in chosen or models
    }
    for group in ("models", "selection_models"):
        data[group] = {
            name: _anchored_weights(data[group], name, root) for name in data.get(group) or {}
        }
    data["dataset"] = _with_preprocessing(data, common_preprocessing)
    return _validate(RunSettings, data, "")


def engine_settings(**values: Any) -> EngineSettings:
    """Build settings of an engine from its keys; InputError where one is wrong."""
    return _validate(EngineSettings, values, "engine.")


def model_settings(**values: Any) -> ModelSettings:
    """Build settings of a model from its keys; InputError where one is wrong."""
    return _validate(ModelSettings, values, "models.<name>.")


def attack_settings(**values: Any) -> AttackSettings:
    """Build settings of an attack from its keys, those of `configs/attack`; only `name` is needed.

    Raises:
        InputError: a key is wrong. Whether foolbox has such an attack is seen when it is used.
    """
    return _validate(AttackSettings, values, "attack.")


def stored_attack(config: Mapping[str, Any]) -> AttackSettings:
    """Return the attack of a stored run, given its config (`RunSettings.identity`).

    Raises:
        InputError: it has none, or a key of it is wrong.
    """
    attack: dict[str, Any] = {**ATTACKS_BEFORE, **_group(config, "attack")}
    name = str(attack.pop("target", "")).removeprefix(ATTACK_PREFIX)
    return attack_settings(**attack | {"name": name})


def retrain_settings(**values: Any) -> RetrainSettings:
    """Build settings of a retraining from its keys; InputError where one is wrong."""
    return _validate(RetrainSettings, values, "retrain.")


def recipe_settings(**values: Any) -> Recipe:
    """Return a recipe of retraining by its keys; InputError where one is wrong."""
    return _validate(Recipe, values, "retrain.")


def preprocessing_settings(**values: Any) -> PreprocessingSettings:
    """Build settings of resizing and cropping from their keys; InputError where one is wrong."""
    return _validate(PreprocessingSettings, values, "")


def _group(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a part of the config that holds keys of its own."""
    value = config.get(key)
    if not isinstance(value, Mapping):
        raise InputError(f"{key}={_shown(value)} is wrong: it should be a group of keys.")
    return value


def _selection_model(name: str, models: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    for group in (models, known):
        if name in group:
            return group[name]
    raise InputError(
        f"selection.models names {_shown(name)}, which is not a model; "
        f"known are {', '.join(sorted({*models, *known}))}."
    )


def _absolute_paths(paths: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: _path(value, f"paths.{key}") for key, value in paths.items()}
    root = found.get("root", Path()).resolve()
    return {key: root / path for key, path in found.items()} | {"root": root}


def _anchored(
    config: Mapping[str, Any], section: str, keys: tuple[str, ...], root: Path
) -> dict[str, Any]:
    """Return a section with its relative paths taken from paths.root."""
    anchored = dict(_group(config, section))
    for key in keys:
        if anchored.get(key) is not None and not (key == "classes" and anchored[key] in CLASSES):
            if key in ("file", "train_file"):
                _check_no_address(anchored[key], f"{section}.{key}")
            anchored[key] = root / _path(anchored[key], f"{section}.{key}")
    return anchored


def _check_no_address(value: Any, key: str) -> None:
    """Raise InputError where a value is an address, such as `pipe:…`, rather than a file."""
    if isinstance(value, str) and _ADDRESS.match(value):
        raise InputError(
            f"{key}={_shown(value)} is an address, but only files of this machine are read, and no command "
            "is run for them (pipe:); give a path."
        )


def _anchored_weights(models: Mapping[str, Any], name: str, root: Path) -> Any:
    """Return a model with its relative files taken from paths.root."""
    model = models[name]
    if not isinstance(model, Mapping):
        return model
    anchored = dict(model)
    if anchored.get("path") is not None:
        anchored["path"] = root / _path(anchored["path"], f"models.{name}.path")
    if anchored.get("labels") not in (None, "order"):
        anchored["labels"] = root / _path(anchored["labels"], f"models.{name}.labels")
    if is_weights_file(model.get("weights")):
        anchored["weights"] = str(root / _path(model["weights"], f"models.{name}.weights"))
    return anchored


def _with_preprocessing(
    data: Mapping[str, Any], common_preprocessing: Preprocessing
) -> dict[str, Any]:
    """Return the data set, its preprocessing taken from the models where it is to be theirs."""
    dataset = dict(data["dataset"])
    wanted = dataset.get("preprocessing")
    if not isinstance(wanted, Mapping) or not any(_is_models(value) for value in wanted.values()):
        return dataset
    models = {
        name: _validate(ModelSettings, model, f"models.{name}.")
        for group in ("models", "selection_models")
        for name, model in data[group].items()
    }
    given = {key: value for key, value in wanted.items() if not _is_models(value)}
    dataset["preprocessing"] = given
    if all(key == "interpolation" or type(value) is int for key, value in given.items()):
        strict = "models" in wanted.values()
        dataset["preprocessing"] = common_preprocessing(models, given, strict)
    return dataset


def _is_models(value: Any) -> bool:
    """Tell whether a key of preprocessing is to be the models' own."""
    return isinstance(value, str) and value in FROM_MODELS


def _path(value: Any, key: str) -> Path:
    """Return a path as it was given; a name of digits comes as a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str | Path) or str(value) == "" or "\0" in str(value):
        raise InputError(
            f"{key}={_shown(value)} is not a path; give the name of a file or folder, in quotes."
        )
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{key}={_shown(value)} names a home folder that is not known; give the whole path."
        ) from error


def _validate(kind: type[_S], data: Any, prefix: str) -> _S:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InputError(*_fault_sentences(error, kind, prefix)) from None


def _shown(value: Any) -> str:
    """Return a wrong value as messages show it."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _fault_sentences(error: ValidationError, kind: type[BaseModel], prefix: str) -> list[str]:
    """Say what pydantic found wrong with a kind of section, a sentence for each key of this prefix."""
    faults: dict[str, list[Any]] = {}
    for detail in error.errors():
        # Models named in both places are one config: its faults are told once.
        key = prefix + ".".join(_key(kind, detail["loc"]))
        faults.setdefault(key.replace("selection_models.", "models."), []).append(detail)
    sentences = [line for key, details in faults.items() for line in _sentences(key, details)]
    return list(dict.fromkeys(sentences))


def _sentences(key: str, details: list[Any]) -> Iterator[str]:
    requirements = []
    for detail in details:
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, InputError):
            yield str(cause)
        elif detail["type"] == "value_error":
            yield f"{key}: {cause}" if key else str(cause)
        elif detail["type"] == "extra_forbidden":
            yield f"{key} is not a key of the configuration; `pixelrobust --help` lists them."
        elif detail["type"] == "missing":
            yield f"{key} is missing; `pixelrobust --help` says what it means."
        else:
            requirements.append(detail["msg"][detail["msg"].find("should") :])
    if requirements:
        # A key that takes several kinds of values has a requirement of each.
        every = ", or ".join(dict.fromkeys(requirements))
        yield f"{key}={_shown(details[0]['input'])} is wrong: it {every}."


def _key(kind: Any, location: tuple[int | str, ...]) -> Iterator[str]:
    """List the keys on the way to a fault, without positions in lists, or names of kinds of values."""
    for part in location:
        section, items = _inside(kind)
        if section is None and items is None:
            return
        # A name that somebody made up may hold anything.
        yield str(part) if str(part).isprintable() else repr(part)
        if section is None:
            kind = items
        else:
            field = section.model_fields.get(str(part))
            kind = field.annotation if field else None


def _inside(kind: Any) -> tuple[type[BaseModel] | None, Any]:
    """Return the section that a key holds, or what its mapping holds; both None for a plain value."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind, None
    if typing.get_origin(kind) is dict:
        return None, typing.get_args(kind)[1]
    for part in typing.get_args(kind):
        found = _inside(part)
        if found != (None, None):
            return found
    return None, None
