"""The resizing and cropping that networks were made for; all models of a run see one size."""

from collections.abc import Mapping
from typing import Any

from pixelrobust.errors import InputError
from pixelrobust.models.architectures import find_architecture, unrecognised
from pixelrobust.models.huggingface import read_folder
from pixelrobust.settings import ModelSettings, PreprocessingSettings, model_label

_PAPER = PreprocessingSettings(resize=256, crop=224, interpolation="bilinear")


def own_preprocessing(settings: ModelSettings) -> tuple[PreprocessingSettings, ...]:
    """Return what a model's library or folder says of its images; nothing where it says nothing.

    Several, where it may be any of them: that of a file of weights which are no published ones.

    Raises:
        InputError: there is no such network, or it cannot be read.
    """
    if settings.source == "checkpoint":
        return ()
    if settings.source == "huggingface":
        own = read_folder(settings.path, settings.mean, settings.std).preprocessing
        return () if own is None else (own,)
    return find_architecture(settings).preprocessing


def common_preprocessing(
    models: Mapping[str, ModelSettings], given: Mapping[str, Any], strict: bool
) -> dict[str, Any]:
    """Return the preprocessing that all models of a run ask for, with what is given instead.

    Where only one of resize and crop is given, the other keeps the models' proportion.

    Args:
        models: by name.
        given: some of resize, crop and interpolation.
        strict: whether they must agree; else it is the paper's where they do not.

    Returns:
        resize, crop and interpolation.

    Raises:
        InputError: models disagree and must not, or none says anything and one must; or one cannot
            be read, or has weights of which nobody can tell.
    """
    if set(given) == {"resize", "crop", "interpolation"}:
        return dict(given)
    found: dict[str, dict[str, Any]] = {}
    for key, settings in models.items():
        own = own_preprocessing(settings)
        wanted = {tuple(_with_given(each, given).values()): each for each in own}
        if len(wanted) > 1:
            raise InputError(
                f"{unrecognised(settings)} are prepared in different ways "
                f"({'; '.join(map(in_words, own))}); give dataset.preprocessing.resize, crop and "
                "interpolation as the network was trained for."
            )
        if own:
            found[model_label(key, settings)] = _with_given(own[0], given)
    different = {tuple(own.values()): name for name, own in reversed(found.items())}
    if len(different) == 1:
        return next(iter(found.values()))
    if not strict:
        return _with_given(_PAPER, given)
    if not found:
        raise InputError(
            "dataset.preprocessing is to be the models', which say nothing of it; give "
            "dataset.preprocessing.resize, crop and interpolation."
        )
    told = "; ".join(f"{name}: {in_words(found[name])}" for name in reversed(different.values()))
    raise InputError(
        f"dataset.preprocessing is to be the models', which disagree ({told}), and all models of a run "
        "see one size; give dataset.preprocessing.resize, crop and interpolation, or one model."
    )


def in_words(preprocessing: PreprocessingSettings | Mapping[str, Any]) -> str:
    """Return preprocessing as sentences say it."""
    if isinstance(preprocessing, PreprocessingSettings):
        preprocessing = preprocessing.model_dump()
    return "resize={resize}, crop={crop}, {interpolation}".format(**preprocessing)


def _with_given(own: PreprocessingSettings, given: Mapping[str, Any]) -> dict[str, Any]:
    resize, crop = given.get("resize", own.resize), given.get("crop", own.crop)
    if "resize" in given and "crop" not in given:
        crop = max(round(resize * own.crop / own.resize), 1)
    if "crop" in given and "resize" not in given:
        resize = max(round(crop * own.resize / own.crop), crop)
    return {
        "resize": resize,
        "crop": crop,
        "interpolation": given.get("interpolation", own.interpolation),
    }
