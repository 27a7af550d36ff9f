"""`pixelrobust evaluate`: options become a config, and the config is run."""

import re
from dataclasses import dataclass
from pathlib import Path

from experiments.command.images import image_overrides, outputs_of
from experiments.command.overrides import listed, quoted
from experiments.command.values import numbers
from experiments.places import default_results
from pixelrobust.errors import InputError

_BUNDLED_NETWORK = "efficientnet_lite0"

_OPTIONS = {
    r"\bdataset\.root\b": "--images",
    r"\bdataset\.classes\b": "--classes",
    r"\bdataset\.limit\b": "--limit",
    r"\bmodels\.[^.=\s]+\.name\b": "--model",
    r"\bperturbation\.(num|amplitude|area)\b": r"--\1",
    r"(?<![\w.-])(draws|seed)(?==)": r"--\1",
    r"\bengine\.devices\b": "--device",
    r"\bengine=": "--engine=",
    r"\bpaths\.results\b": "--out",
}
"""What keys of the configuration are called here."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated, as options say it.

    Attributes:
        models, images, classes: see `experiments.command.options`.
    """

    models: tuple[str, ...] = ()
    images: str = ""
    classes: str | None = None

    def overrides(self) -> list[str]:
        """The overrides that name networks and images, of those that are given.

        Raises:
            InputError: there is no such network, or there are no such images.
        """
        # Imported late, like all that takes its time: help and completion answer at once.
        from experiments.command.networks import network_overrides

        models = self.models
        if self.images == "bundled" and not models:
            models = (_BUNDLED_NETWORK,)
        found = network_overrides(models, outputs_of(self.classes)) if models else []
        return found + (image_overrides(self.images, self.classes) if self.images else [])


@dataclass(frozen=True)
class Request:
    """What to do with it, as options say it; see `experiments.command.options`."""

    num: tuple[str, ...] = ("4", "16", "64")
    amplitude: tuple[str, ...] = ("full",)
    area: tuple[str, ...] = ("whole",)
    draws: int = 1
    seed: int = 0
    limit: int = 10_000
    device: str = "auto"
    engine: str = "auto"
    out: Path | None = None
    keys: tuple[str, ...] = ()

    def overrides(self) -> list[str]:
        """The overrides that say so.

        Raises:
            InputError: something that should be a number is none.
        """
        return [
            f"perturbation.num={listed(numbers('--num', self.num))}",
            f"perturbation.amplitude={listed(numbers('--amplitude', self.amplitude, 'full'))}",
            f"perturbation.area={listed(numbers('--area', self.area, 'whole'))}",
            f"draws={self.draws}",
            f"seed={self.seed}",
            f"dataset.limit={self.limit}",
            f"engine.devices={quoted(self.device)}",
            f"engine={quoted(self.engine)}",
            f"paths.results={quoted(results_folder(self.out))}",
            *self.keys,
        ]


def results_folder(out: Path | None) -> Path:
    """Where results go, as `--out` says."""
    return out.expanduser().absolute() if out else default_results()


def evaluate(subject: Subject, request: Request) -> int:
    """Run the evaluation and print what came out; the exit code.

    Raises:
        InputError: something given is wrong.
    """
    if not subject.images or not (subject.models or subject.images == "bundled"):
        raise InputError(
            "evaluate needs a network and images: pixelrobust evaluate --model resnet50 --images "
            "/data/images; `pixelrobust demo` needs neither, `pixelrobust evaluate --help` explains all."
        )
    try:
        _run(subject.overrides() + request.overrides())
    except InputError as error:
        raise InputError(*map(in_options, error.args)) from error
    return 0


def in_options(sentence: str) -> str:
    """The same, with keys of the configuration called as the options that set them."""
    for key, option in _OPTIONS.items():
        sentence = re.sub(key, option, sentence)
    return sentence


def _run(overrides: list[str]) -> None:
    from experiments.configuration import settings_of
    from experiments.run import perform

    settings = settings_of(*overrides)
    directory, presented = perform(settings)
    if presented:
        from experiments.command.outcome import show_outcome

        show_outcome(directory, settings, presented)
