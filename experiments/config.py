"""Compose configs with Hydra, and read them as plain typed settings: nothing behind knows Hydra."""

import json
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from experiments.exits import CONFIGS, FAILURE, results_name, root
from pixelrobust.errors import InputError, first_line, printable
from pixelrobust.files import how_to_install, user_cache, write_text
from pixelrobust.perturbation.grid import Cell
from pixelrobust.settings import (
    ModelSettings,
    RunSettings,
    build_settings,
    model_label,
)

Config = DictConfig
"""A composed config, before it is read."""
CONFIG_NAME = "config"
HYDRA_VERSION = "1.3"
RECORD = "job.json"
"""The file in the folder of a job of a sweep that says what became of it."""
SETTINGS = "settings.json"
"""The file beside it with the settings of a job that failed; `FAILURE` holds its traceback."""

_COMPOSING_ERRORS = (
    HydraException,
    OmegaConfBaseException,
    YAMLError,
    ImportError,
    LookupError,
    ValueError,
)
"""What Hydra raises where a config is wrong, or a plugin is not there."""
_MANUAL = "`pixelrobust --help`"
# What values begin with that are more than a text.
_OPENING = ("[", "{", "(", '"', "'")
# The flags of Hydra that the next word belongs to.
_WITH_VALUE = {
    "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c",
    "--package", "-p", "--experimental-rerun",
}  # fmt: skip


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _jobs_at_once() -> int:
    """Return how many jobs a machine takes at once: one a GPU, or one a core without GPUs."""
    import torch

    return torch.cuda.device_count() or usable_cores()


def _below(folder: str, path: str) -> str:
    return str(Path(folder) / Path(path).expanduser())


OmegaConf.register_new_resolver("repository", lambda: str(root()), replace=True)
OmegaConf.register_new_resolver("results", results_name, replace=True)
OmegaConf.register_new_resolver("user_cache", lambda: str(user_cache()), replace=True)
OmegaConf.register_new_resolver("below", _below, replace=True)
OmegaConf.register_new_resolver("jobs_at_once", _jobs_at_once, replace=True)


@dataclass(frozen=True)
class Job:
    """Say which job of a sweep this is, and where it runs.

    Attributes:
        directory: the job's own folder, where it leaves its record.
        overrides: what distinguishes the job from its siblings.
        number: counts the jobs, from 0.
        launcher: the class of Hydra's launcher that runs it.
        at_once: how many jobs run at once on its machine.
        swept: the keys that the jobs differ in.
    """

    directory: Path
    overrides: tuple[str, ...]
    number: int = 0
    launcher: str = "BasicLauncher"
    at_once: int = 1
    swept: frozenset[str] = frozenset()


LOST = (
    "it left no record: its process has ended, or still runs; the same command goes on from there"
)


@dataclass(frozen=True)
class JobRecord:
    """Keep what became of one job.

    Attributes:
        name: of its experiment; empty where its config could not be read.
        overrides: what distinguishes it from its siblings.
        directory: where its results lie; empty where it failed.
        measured: whether it has outcomes, rather than a description.
        error: why it failed; empty where it did not.
        settings: of the job, as plain data; None where its config could not be read.
        expected: models with the cells, (num, amplitude, area), that its table is to have.
        seconds: how long it took.
    """

    name: str
    overrides: tuple[str, ...]
    directory: str = ""
    measured: bool = True
    error: str = ""
    settings: dict[str, Any] | None = None
    expected: tuple[tuple[str, tuple[int, int | None, int | None]], ...] = ()
    seconds: float = 0.0

    def own(self, swept: Collection[str]) -> str:
        """Return what distinguishes it from its siblings, which differ in these keys."""
        own = [one for one in self.overrides if one.partition("=")[0] in swept]
        return " ".join(own or self.overrides) or self.name

    def missing(self) -> list[tuple[str, Cell]]:
        """Return what is not there because the job failed."""
        return [(model, Cell(*cell)) for model, cell in self.expected] if self.error else []

    def write(self, job_directory: Path) -> None:
        """Write it into the folder of the job."""
        write_text(job_directory / RECORD, json.dumps(asdict(self), indent=1) + "\n")

    def write_failure(self, job_directory: Path, error: BaseException) -> None:
        """Write what was raised, with its traceback, and the settings of the job."""
        raised = "".join(traceback.format_exception(error))
        write_text(job_directory / FAILURE, raised)
        write_text(job_directory / SETTINGS, json.dumps(self.settings, indent=1) + "\n")


def record_as_lost(sweep_directory: Path, jobs: Sequence[tuple[str, ...]]) -> None:
    """Write a record for each job of a sweep, given its overrides, that stands until it writes its own."""
    # Hydra makes the same folders, and says what is wrong with them.
    with suppress(InputError, OSError):
        for number, overrides in enumerate(jobs):
            (sweep_directory / str(number)).mkdir(parents=True)
            JobRecord("", overrides, error=LOST).write(sweep_directory / str(number))


def job_record(
    settings: RunSettings | None, overrides: tuple[str, ...], directory: str = "", error: str = ""
) -> JobRecord:
    """Return the record of a job with these settings, None where they could not be read."""
    if settings is None:
        return JobRecord("", overrides, directory, error=error)
    labels = [model_label(key, model) for key, model in settings.models.items()]
    cells = [(cell.num, cell.amplitude, cell.area) for cell in settings.perturbation.cells()]
    is_rates = settings.measure == "outcomes" and not settings.attack
    return JobRecord(
        settings.name,
        overrides,
        directory,
        settings.measure != "descriptions",
        error,
        settings.model_dump(mode="json"),
        tuple((label, cell) for label in labels for cell in cells) if is_rates else (),
    )


class SweepCallback(Callback):
    """Leave a record of each job of a sweep before the first begins: a job that dies writes none."""

    directory: Path | None = None
    launcher: str = ""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember the folder and the launcher of the sweep, and write the records."""
        SweepCallback.directory = Path(config.hydra.sweep.dir).resolve()
        SweepCallback.launcher = _class_name(config.hydra.launcher)
        record_as_lost(SweepCallback.directory, _jobs_of(config))


def _jobs_of(config: DictConfig) -> list[tuple[str, ...]]:
    """Return the overrides of each job of a sweep, numbered as Hydra's basic sweeper does."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    swept = config.hydra.sweeper.get("params") or {}
    given = [*(f"{key}={value}" for key, value in swept.items()), *config.hydra.overrides.task]
    values: dict[str, list[str]] = {}
    for override in parser.parse_overrides(given):
        each = (
            override.sweep_string_iterator()
            if override.is_sweep_override()
            else [override.get_value_element_as_str()]
        )
        key = override.get_key_element()
        values[key] = [f"{key}={value}" for value in each]
    return list(product(*values.values()))


def launch(
    task: Callable[[DictConfig, Job | None], None],
    arguments: Sequence[str] | None = None,
) -> Path | None:
    """Hand the command line to Hydra, which calls the task once for each job.

    Args:
        task: gets the job's config, for `read_settings`, and the job, None outside a sweep.
        arguments: the command line; None: this process's.

    Returns:
        After a sweep the folder of its jobs' records, else None.

    Raises:
        InputError: the command line or a config is wrong.
    """
    # Else Hydra prints errors itself and exits with its own code.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Else Ray reports to its maker.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    SweepCallback.directory = None
    words = flags_first(sys.argv[1:] if arguments is None else arguments)
    sys.argv[1:] = [*readable(words), *_said_to_other_machines(words)]
    faults: list[Exception] = []

    @hydra.main(version_base=HYDRA_VERSION, config_path=str(CONFIGS), config_name=CONFIG_NAME)
    def main(config: DictConfig) -> None:
        # Hydra would print what passes through it in its own way.
        try:
            task(config, _current_job())
        except Exception as error:
            faults.append(error)

    try:
        main()
    except _COMPOSING_ERRORS as error:
        raise InputError(_sentence(error)) from error
    except OSError as error:
        raise InputError(
            f"the records of jobs cannot be written to {error.filename} ({error.strerror or error}); "
            "give paths.results, a folder that can be written to."
        ) from error
    except KeyboardInterrupt:
        if SweepCallback.directory is not None:
            _cancel(SweepCallback.launcher, SweepCallback.directory)
        raise
    # Launchers have many kinds, where the process of a job has died, or none could be started.
    except Exception as error:
        if SweepCallback.directory is None:
            raise InputError(_sentence(error)) from error
        print(f"error: the launcher stopped: {printable(first_line(error))}", file=sys.stderr)
        _await_siblings(SweepCallback.launcher, SweepCallback.directory)
    if faults:
        raise faults[0]
    return SweepCallback.directory


def _said_to_other_machines(words: Sequence[str]) -> list[str]:
    """Return overrides that say where paths begin: jobs of a Ray cluster have current folders of their own."""
    if "hydra/launcher=ray_cluster" not in words:
        return []
    said = {"paths.root": str(root()), "paths.results": results_name()}
    return [
        f"{key}={quoted(value)}"
        for key, value in said.items()
        if not any(word.startswith(f"{key}=") for word in words)
    ]


def _if_text(override: str) -> str:
    """Say how the value of an override is written for text that is to be taken as it is."""
    key, equals, value = override.partition("=")
    return (
        f"; a name or path is written so: {shlex.quote(f'{key}={quoted(value)}')}" if equals else ""
    )


def _class_name(launcher: DictConfig) -> str:
    return str(launcher._target_).rpartition(".")[2]


def _await_siblings(launcher: str, sweep_directory: Path) -> None:
    """Wait for jobs that still run: submitit tells of one that has died before the others are done."""
    if launcher == "LocalLauncher":
        with suppress(ChildProcessError):
            while True:
                os.wait()
    elif launcher == "SlurmLauncher":
        import submitit

        for folder, number in _submitted(sweep_directory):
            submitit.SlurmJob(folder, number).wait()


def _cancel(launcher: str, sweep_directory: Path) -> None:
    """End the jobs of submitit, which do not end with the process that waits for them."""
    if launcher == "LocalLauncher":
        for _, number in _submitted(sweep_directory):
            with suppress(ProcessLookupError):
                # submitit calls local jobs by their processes, which hand this on.
                os.kill(int(number), signal.SIGINT)
    elif launcher == "SlurmLauncher":
        import submitit

        for folder, number in _submitted(sweep_directory):
            submitit.SlurmJob(folder, number).cancel(check=False)


def _submitted(sweep_directory: Path) -> list[tuple[Path, str]]:
    """Return the folder and the id of each job that submitit was given."""
    suffix = "_submitted.pkl"
    return [
        (path.parent, path.name.removesuffix(suffix))
        for path in sweep_directory.glob(f".submitit/*/*{suffix}")
    ]


def flags_first(words: Sequence[str]) -> list[str]:
    """Return a command line with its flags, and their values, before its overrides.

    Hydra refuses flags between overrides.
    """
    flags: list[str] = []
    overrides: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        is_flag = word.startswith("-") or before in _WITH_VALUE
        (flags if is_flag else overrides).append(word)
    return [*flags, *overrides]


def readable(words: Sequence[str]) -> list[str]:
    """Return a command line in which values that Hydra cannot read are quoted, as the text that they are.

    Such are paths with parentheses, apostrophes or letters of other scripts. Lists, and what is quoted
    already, are left to Hydra, and so are commas, but for those between the values of a sweep.
    """
    is_sweep = not {"-m", "--multirun"}.isdisjoint(words)
    return [_readable(word, is_sweep) for word in words]


def _readable(word: str, is_sweep: bool) -> str:
    key, equals, value = word.partition("=")
    parts = value.split(",") if is_sweep else [value]
    if not equals or word.startswith("-") or _is_readable(word):
        return word
    if any("," in part or part.strip()[:1] in {"", *_OPENING} for part in parts):
        return word
    own = [part if _is_readable(f"{key}={part}") else quoted(part.strip()) for part in parts]
    return f"{key}={','.join(own)}"


def _is_readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def quoted(text: Path | str) -> str:
    """Return a text as the value of a key on the command line, whatever characters it holds."""
    # Backslashes are themselves, but before a quotation mark, where two stand for one.
    inside = re.sub(
        r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), str(text)
    )
    return f'"{inside}"'


def compose(*overrides: str) -> DictConfig:
    """Return the config that these overrides give, as the command line would compose it."""
    if GlobalHydra.instance().is_initialized():
        return hydra.compose(CONFIG_NAME, overrides=list(overrides))
    with hydra.initialize_config_dir(str(CONFIGS), version_base=HYDRA_VERSION):
        return hydra.compose(CONFIG_NAME, overrides=list(overrides))


def plain(config: Any) -> dict[str, Any]:
    """Return a part of a composed config as plain data, its interpolations resolved."""
    return dict(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


def settings_of(*overrides: str) -> RunSettings:
    """Return the settings that these overrides give.

    Raises:
        InputError: an override or a value is wrong.
    """
    try:
        config = compose(*readable(overrides))
    except _COMPOSING_ERRORS as error:
        raise InputError(_sentence(error)) from error
    return read_settings(config)


def read_settings(config: DictConfig) -> RunSettings:
    """Return a composed config as validated settings.

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
    return build_settings(data, _only_selected(data), _common_preprocessing)


def _common_preprocessing(
    models: Mapping[str, ModelSettings], given: Mapping[str, Any], strict: bool
) -> dict[str, Any]:
    """Return the preprocessing that all models say; libraries of networks are imported only for it."""
    from pixelrobust.models.preprocessing import common_preprocessing

    return common_preprocessing(models, given, strict)


def _only_selected(data: dict[str, Any]) -> dict[str, Any]:
    """Return the config of models that a selection names although the run does not evaluate them."""
    models, selection = (
        value if isinstance(value, dict) else {}
        for value in (data.get("models"), data.get("selection"))
    )
    selected = selection.get("models")
    names = selected if isinstance(selected, list) else []
    others = [name for name in names if isinstance(name, str) and name not in models]
    known = [name for name in options("model") if name != "base"]
    wanted = [name for name in others if name in known]
    if not wanted:
        # What there is stands in the sentence about an unknown name.
        return dict.fromkeys(known) if others else {}
    return plain(compose(f"model=[{','.join(wanted)}]").models)


def preset_settings(name: str, profile: str) -> RunSettings | None:
    """Return the settings of an experiment on a profile without further overrides, if both exist."""
    if name not in options("experiment") or profile not in options("profile"):
        return None
    return read_settings(compose(f"experiment={name}", f"profile={profile}"))


def options(group: str) -> list[str]:
    """Return the names of a config group's files."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def _current_job() -> Job | None:
    """Return the job of a sweep that this process does; None outside a sweep.

    Raises:
        InputError: a launcher is given without a sweep, which Hydra would ignore.
    """
    config = HydraConfig.get()
    launcher = _class_name(config.launcher)
    if config.mode != RunMode.MULTIRUN:
        if launcher != "BasicLauncher":
            choice = config.runtime.choices["hydra/launcher"]
            raise InputError(
                f"hydra/launcher={choice} launches the jobs of a sweep, and this is none; give -m too."
            )
        return None
    directory = Path(config.runtime.output_dir)
    jobs = len(list(directory.parent.glob(f"*/{RECORD}")))
    at_once = {"JoblibLauncher": config.launcher.get("n_jobs"), "LocalLauncher": jobs}.get(
        launcher, 1
    )
    if at_once < 1:
        # As joblib counts: -1 is all, -2 all but one.
        at_once = max(1, usable_cores() + 1 + at_once)
    overrides = tuple(config.overrides.task)
    swept = _swept(directory.parent, jobs)
    return Job(directory, overrides, config.job.num, launcher, min(at_once, jobs), swept)


def _swept(sweep_directory: Path, jobs: int) -> frozenset[str]:
    """Return the keys of a sweep that have several values: the first job has their first, the last their last."""
    if jobs < 2:
        return frozenset()
    ends = [
        json.loads((sweep_directory / str(number) / RECORD).read_text(encoding="utf-8"))
        for number in (0, jobs - 1)
    ]
    return differing(*(record["overrides"] for record in ends))


def differing(first: Iterable[str], last: Iterable[str]) -> frozenset[str]:
    """Return the keys of the overrides that only one of two jobs has."""
    return frozenset(override.partition("=")[0] for override in set(first) ^ set(last))


def _sentence(error: Exception) -> str:
    """Return what Hydra or OmegaConf found wrong, as one sentence with a remedy."""
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
        return (
            f"{error.override} cannot be read ({text}); write KEY=VALUE{_if_text(error.override)}."
        )
    ambiguous = re.search(r"Ambiguous value for argument '(.+)'$", str(error).partition("\n")[0])
    if ambiguous:
        return f"{ambiguous[1]} has several values, which need -m: a sweep{_if_text(ambiguous[1])}."
    plugin = re.search(r"Unknown plugin class : '.*\.(\w+)'", text)
    if plugin:
        ray = plugin[1] == "RayLauncher"
        how = "run `make setup-ray`" if ray else how_to_install("clusters")
        return f"the launcher {plugin[1]} is not installed; {how}."
    if "Config group override must be" in text:
        return "a group takes names of its files, not numbers; for example perturbation/count=n64."
    return f"the configuration cannot be composed ({text.rstrip('.')}); {_MANUAL} lists groups and keys."
