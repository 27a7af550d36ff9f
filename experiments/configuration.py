"""Where Hydra and OmegaConf stop: configs come in, plain typed settings go out."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from experiments.checked_hydra import CONFIG_NAME, HYDRA_VERSION, check_composed, run_hydra
from experiments.places import CONFIGS, RESULTS, root
from pixelrobust.errors import InputError
from pixelrobust.files import user_cache
from pixelrobust.settings import ModelSettings, RunSettings, build_settings

_COMPOSING_ERRORS = (
    HydraException,
    OmegaConfBaseException,
    YAMLError,
    ImportError,
    LookupError,
    RuntimeError,
    ValueError,
)
"""What Hydra raises where a config is wrong, or a plugin is not there."""
_MANUAL = "`python -m experiments.run --help`"

OmegaConf.register_new_resolver("repository", lambda: str(root()), replace=True)
OmegaConf.register_new_resolver("results", lambda: RESULTS, replace=True)
OmegaConf.register_new_resolver("user_cache", lambda: str(user_cache()), replace=True)
OmegaConf.register_new_resolver(
    "below", lambda folder, path: str(Path(folder) / Path(path).expanduser()), replace=True
)


@dataclass(frozen=True)
class Job:
    """Where a job of a sweep leaves its record; None outside a sweep.

    Attributes:
        directory: the job's own folder.
        overrides: what distinguishes the job from its siblings.
    """

    directory: Path
    overrides: tuple[str, ...]


class SweepCallback(Callback):
    """Remembers where the sweep of this process keeps its records."""

    directory: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        SweepCallback.directory = Path(config.hydra.sweep.dir).resolve()


def launch(
    task: Callable[[Callable[[], RunSettings], Job | None], None],
    lost: Callable[[Callable[[], RunSettings], Job, str], None],
    arguments: Sequence[str] | None = None,
) -> Path | None:
    """Hand the command line to Hydra, which calls the task once for each job.

    Args:
        task: gets a function that reads the job's settings (and may find fault with them), and the
            job, None outside a sweep.
        lost: gets the same of a job whose process ended before the task did, and why.
        arguments: the command line; None: this process's.

    Returns:
        After a sweep the folder of its jobs' records, else None.

    Raises:
        InputError: the command line or a config is wrong.
    """
    # Else Hydra prints errors itself and exits with its own code.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    SweepCallback.directory = None

    faults: list[Exception] = []

    def main(config: DictConfig) -> None:
        # Hydra would print what passes through it in its own way.
        try:
            task(lambda: read_settings(config), _current_job())
        except Exception as error:
            faults.append(error)

    def record_lost(config: DictConfig, directory: Path, why: str) -> None:
        job = Job(directory, tuple(config.hydra.overrides.task))
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        lost(lambda: read_settings(own), job, why)

    try:
        run_hydra(CONFIGS, main, record_lost, arguments)
    except InputError:
        raise
    except _COMPOSING_ERRORS as error:
        raise InputError(_sentence(error)) from error
    except OSError as error:
        raise InputError(
            f"the records of jobs cannot be written to {error.filename} ({error.strerror or error}); "
            "give paths.results, a folder that can be written to."
        ) from error
    if faults:
        raise faults[0]
    return SweepCallback.directory


def compose(*overrides: str) -> DictConfig:
    """The config that these overrides give, as the command line would compose it.

    Raises:
        InputError: it holds what is not permitted.
    """
    if GlobalHydra.instance().is_initialized():
        config = hydra.compose(CONFIG_NAME, overrides=list(overrides))
    else:
        with hydra.initialize_config_dir(str(CONFIGS), version_base=HYDRA_VERSION):
            config = hydra.compose(CONFIG_NAME, overrides=list(overrides))
    check_composed(config, CONFIGS, [override.partition("=")[0] for override in overrides])
    return config


def plain(config: Any) -> dict[str, Any]:
    """A part of a composed config as plain data, its interpolations resolved."""
    return dict(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


def settings_of(*overrides: str) -> RunSettings:
    """The settings that these overrides give.

    Raises:
        InputError: an override or a value is wrong.
    """
    try:
        config = compose(*overrides)
    except _COMPOSING_ERRORS as error:
        raise InputError(_sentence(error)) from error
    return read_settings(config)


def read_settings(config: DictConfig) -> RunSettings:
    """A composed config as validated settings.

    Raises:
        InputError: a value is wrong or missing.
    """
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise InputError(_sentence(error)) from error
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    data: dict[str, Any] = {str(key): value for key, value in plain.items()}
    return build_settings(data, _model_configs(_only_selected(data)), _common_preprocessing)


def _common_preprocessing(
    models: Mapping[str, ModelSettings], given: Mapping[str, Any], strict: bool
) -> dict[str, Any]:
    """The preprocessing that all models say; libraries of networks are imported only for it."""
    from pixelrobust.models.preprocessing import common_preprocessing

    return common_preprocessing(models, given, strict)


def _only_selected(data: dict[str, Any]) -> list[str]:
    """The models that a selection names although the run does not evaluate them."""
    models, selection = (
        value if isinstance(value, dict) else {}
        for value in (data.get("models"), data.get("selection"))
    )
    selected = selection.get("models")
    names = selected if isinstance(selected, list) else []
    return [name for name in names if isinstance(name, str) and name not in models]


def preset_settings(name: str, profile: str) -> RunSettings | None:
    """The settings of an experiment on a profile without further overrides, if both exist."""
    if name not in options("experiment") or profile not in options("profile"):
        return None
    return read_settings(compose(f"experiment={name}", f"profile={profile}"))


def options(group: str) -> list[str]:
    """The names of a config group's files."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def _model_configs(names: list[str]) -> dict[str, Any]:
    """The config of models that a selection names although the run does not evaluate them."""
    known = [name for name in options("model") if name != "base"]
    wanted = [name for name in names if name in known]
    if not wanted:
        return {} if not names else dict.fromkeys(known)
    return plain(compose(f"model=[{','.join(wanted)}]").models)


def _current_job() -> Job | None:
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN:
        return None
    directory = Path(hydra_config.runtime.output_dir)
    return Job(directory, tuple(hydra_config.overrides.task))


def _sentence(error: Exception) -> str:
    """What Hydra or OmegaConf found wrong, as one sentence with a remedy."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        known = options(group)
        remedy = f"choose from {', '.join(known)}" if known else f"{_MANUAL} lists what there is"
        return f"{group}={option} is unknown; {remedy}."
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is not set; give a value, for example {error.full_key}=…"
    text = " ".join(line.strip() for line in str(error).splitlines() if not line.startswith("See "))
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        return f"{unknown[1]} is not a key of the configuration; {_MANUAL} lists them."
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read ({text}); write KEY=VALUE, in quotes where the shell needs them."
    plugin = re.search(r"Unknown plugin class : '.*\.(\w+)'", text)
    if plugin:
        how = "`make setup-ray`" if plugin[1] == "RayLauncher" else "pixelrobust[clusters]"
        return f"the launcher {plugin[1]} is not installed; it comes with {how}."
    if "Config group override must be" in text:
        return "a group takes names of its files, not numbers; for example perturbation/count=n64."
    return f"the configuration cannot be composed ({text.rstrip('.')}); {_MANUAL} lists groups and keys."
