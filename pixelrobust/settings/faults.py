"""What pydantic finds wrong with a config, as sentences that name the config's keys."""

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from pixelrobust.errors import InputError

_LONGEST = 80


def shown(value: Any) -> str:
    """A wrong value as messages show it."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def fault_sentences(error: ValidationError, kind: type[BaseModel], prefix: str) -> list[str]:
    """One sentence for each key that is wrong.

    Args:
        error: what was found.
        kind: what was validated.
        prefix: of its keys.
    """
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
        yield f"{key}={shown(details[0]['input'])} is wrong: it {every}."


def _key(kind: Any, location: tuple[int | str, ...]) -> Iterator[str]:
    """The keys on the way to a fault, without positions in lists, or names of kinds of values."""
    for part in location:
        section, items = _inside(kind)
        if section is None and items is None:
            return
        # A name that somebody made up may hold anything.
        yield str(part) if str(part).isprintable() else repr(part)
        kind = items if section is None else _field(section, str(part))


def _field(section: type[BaseModel], key: str) -> Any:
    """What a section's key holds; None where there is no such key."""
    for name, field in section.model_fields.items():
        if key in (name, field.alias):
            return field.annotation
    return None


def _inside(kind: Any) -> tuple[type[BaseModel] | None, Any]:
    """The section that a key holds, or what a mapping holds; both None where it is a plain value."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind, None
    if typing.get_origin(kind) is dict:
        return None, typing.get_args(kind)[1]
    for part in typing.get_args(kind):
        found = _inside(part)
        if found != (None, None):
            return found
    return None, None
