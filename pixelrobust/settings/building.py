"""From a resolved config to settings: paths made absolute, values checked, faults as sentences."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pixelrobust.errors import InputError
from pixelrobust.settings.run import RunSettings
from pixelrobust.settings.sections import Section, SelectionSettings, is_weights_file

_NOT_PASSED_ON = ("selection", "grid_draws")

_S = TypeVar("_S", bound=Section)


def build_settings(config: Mapping[str, Any], known_models: Mapping[str, Any]) -> RunSettings:
    """Validate a resolved config.

    Args:
        config: plain data with the keys of `configs/config.yaml`.
        known_models: settings of models that `selection.models` may name besides `models`.

    Raises:
        InputError: a value is wrong; one sentence a fault.
    """
    data = {key: value for key, value in config.items() if key not in _NOT_PASSED_ON}
    data["paths"] = _absolute_paths(config["paths"])
    data["dataset"] = _anchored(
        config["dataset"], ("root", "train_root", "labels", "classes"), data["paths"]["root"]
    )
    data["retrain"] = _anchored(config["retrain"], ("save",), data["paths"]["root"])
    if isinstance(config["attack"], Mapping) and config["attack"].get("kind") == "none":
        data["attack"] = None
    models = config.get("models") or {}
    if not models:
        raise InputError("no model is given; name one, for example model=resnet101.")
    chosen = _validate(SelectionSettings, config["selection"], "selection.").models
    data["selection_models"] = {
        name: _selection_model(name, models, known_models) for name in chosen or models
    }
    for group in ("models", "selection_models"):
        data[group] = {
            name: _anchored_weights(model, data["paths"]["root"])
            for name, model in (data.get(group) or {}).items()
        }
    return _validate(RunSettings, data, "")


def _selection_model(name: str, models: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    if name in models:
        return models[name]
    if name in known:
        return known[name]
    raise InputError(
        f"selection.models names '{name}', which is not a model; "
        f"known are {', '.join(sorted({*models, *known}))}."
    )


def _absolute_paths(paths: Mapping[str, Any]) -> dict[str, Path]:
    root = Path(paths["root"]).expanduser().resolve()
    return {
        "root": root,
        **{key: root / Path(paths[key]).expanduser() for key in ("results", "cache")},
    }


def _anchored(section: Mapping[str, Any], keys: tuple[str, ...], root: Path) -> dict[str, Any]:
    """The section with its relative paths taken from paths.root."""
    anchored = dict(section)
    for key in keys:
        if anchored.get(key) not in (None, "folders"):
            anchored[key] = root / Path(str(anchored[key])).expanduser()
    return anchored


def _anchored_weights(model: Any, root: Path) -> Any:
    """The model with its relative files taken from paths.root."""
    if not isinstance(model, Mapping):
        return model
    anchored = _anchored(model, ("path",), root)
    if is_weights_file(model.get("weights")):
        anchored["weights"] = str(root / Path(model["weights"]).expanduser())
    return anchored


def _validate(kind: type[_S], data: Any, prefix: str) -> _S:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        sentences = dict.fromkeys(_sentence(detail, prefix) for detail in error.errors())
        raise InputError(*sentences) from None


def _sentence(detail: Any, prefix: str) -> str:
    """One sentence for one fault found by pydantic."""
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return str(cause)
    parts = [str(part) for part in detail["loc"] if not isinstance(part, int)]
    # Models named in both places are one config: its faults are told once.
    key = prefix + ".".join(parts).replace("selection_models.", "models.")
    if detail["type"] == "value_error":
        return f"{key}: {cause}" if key else str(cause)
    if detail["type"] == "extra_forbidden":
        return f"{key} is not a key of the configuration; `python -m experiments.run --help` lists them."
    if detail["type"] == "missing":
        return f"{key} is missing; `python -m experiments.run --help` says what it means."
    requirement = detail["msg"][detail["msg"].find("should") :]
    return f"{key}={detail['input']!r} is wrong: it {requirement}."
