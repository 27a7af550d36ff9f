"""What a composed config may hold, so that a config from a stranger can run no code.

Hydra makes callbacks, launchers and sweepers of whatever class a config names, configures logging as
it says, and writes where it says. So a config is checked as a whole, Hydra's own part included,
before anything is made of it; and by what is permitted rather than by what is known to be bad.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pixelrobust.errors import InputError
from pixelrobust.settings import ATTACK_PREFIX

_CORE = "hydra._internal.core_plugins"
_PLUGINS = "hydra_plugins"

LAUNCHERS = (
    f"{_CORE}.basic_launcher.BasicLauncher",
    f"{_PLUGINS}.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    f"{_PLUGINS}.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    f"{_PLUGINS}.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    f"{_PLUGINS}.hydra_ray_launcher.ray_launcher.RayLauncher",
)
SWEEPERS = (f"{_CORE}.basic_sweeper.BasicSweeper",)

RESOLVERS = ("repository", "results", "user_cache", "below", "now")
"""Functions that a value may call; others read the environment, or make config of text."""

_SHELL = "load modules and activate environments in the shell before you start the sweep: jobs inherit it"
_SBATCH = "set sbatch's own variables in the shell, such as SBATCH_RESERVATION"
_WORKERS = "start Ray's nodes with what jobs need"
_REMOVE = "it could run code, or reach other folders and machines; remove it"

_LAUNCHER_VALUES: dict[str, tuple[tuple[object, ...], str]] = {
    "additional_parameters": ((None, {}), _SBATCH),
    "address": ((None, "auto", "local"), "name the cluster by RAY_ADDRESS in the shell"),
    "max_nbytes": ((None,), _REMOVE),
    "mmap_mode": (("r",), _REMOVE),
    "name": (("${hydra.job.name}",), ""),
    "pre_dispatch": (("2*n_jobs", "all"), _REMOVE),
    "python": ((None,), _SHELL),
    "runtime_env": ((None, {}), _WORKERS),
    "setup": ((None, []), _SHELL),
    "srun_args": ((None, []), "set srun's own variables in the shell, such as SLURM_CPU_BIND"),
    "submitit_folder": (("${hydra.sweep.dir}/.submitit/%j",), _REMOVE),
    "temp_folder": ((None,), _REMOVE),
}
"""Of launchers, keys that are lines of a shell, or name packages, folders or machines: what they may hold,
and what to do instead of anything else."""
_LAUNCHER_WORDS = {
    # Of joblib.
    "n_jobs", "backend", "prefer", "require", "verbose", "timeout", "batch_size",
    # Of submitit and Slurm.
    "account", "array_parallelism", "constraint", "cpus_per_gpu", "cpus_per_task", "exclude",
    "comment", "gpus_per_node", "gpus_per_task", "gres", "max_num_timeout", "mem_gb", "mem_per_cpu",
    "mem_per_gpu", "name", "nodes", "partition", "qos", "signal_delay_s", "stderr_to_stdout",
    "tasks_per_node", "timeout_min",
    # Of Ray.
    "include_dashboard", "max_calls", "max_retries", "memory", "num_cpus", "num_gpus",
    "object_store_memory",
}  # fmt: skip
"""Keys that hold numbers, or words without spaces, of which no scheduler makes a command or an option."""
_PARTS = {"init", "ray", "remote"}
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:&|*\[\]-]*")
_INTERPOLATION = re.compile(r"\$\{\s*([^:}$]*)(.?)", re.DOTALL)

# Set by the software: another value would make, run or write something else.
_OWN = ("callbacks", "output_subdir", "run", "sweep")
_LOGGING_KEYS = {"version", "root", "disable_existing_loggers"}

# What sends something, or to somebody: said by whoever types the command, and by no config.
_SENDING: dict[str, tuple[object, ...]] = {"mode": (None, "offline"), "entity": (None,)}

_Place = tuple[str, ...]


def check_permitted(config: Mapping[str, Any], own_hydra: Mapping[str, Any]) -> None:
    """Raise InputError unless a composed config holds only what is permitted.

    Args:
        config: as plain data, its interpolations not resolved; with or without Hydra's own part.
        own_hydra: the part `hydra` of `configs/config.yaml`, likewise.
    """
    for place, value in _entries(config, ()):
        if isinstance(value, str):
            _check_interpolations(place, value)
        if place[-1:] == ("_target_",):
            _check_target(place, value)
    if "hydra" in config:
        _check_hydra(config["hydra"], own_hydra)


def check_sending(config: Mapping[str, Any], overridden: Collection[str]) -> None:
    """Raise InputError where a composed config would have something sent that nobody asked for.

    Args:
        config: as for `check_permitted`.
        overridden: keys that the command line gives.
    """
    for key in config.get("hydra", {}).get("sweeper", {}).get("params") or ():
        if str(key).lstrip("+").startswith("tracking"):
            raise _refused(("hydra", "sweeper", "params", key), "give it on the command line")
    tracking = config.get("tracking")
    for key, quiet in _SENDING.items():
        value = tracking.get(key) if isinstance(tracking, Mapping) else None
        if value not in quiet and f"tracking.{key}" not in overridden:
            raise _refused(
                ("tracking", key), f"give it on the command line, tracking.{key}={value}"
            )


def check_override(key: str) -> None:
    """Raise InputError where an override could load modules before anything is composed."""
    if key == "hydra.searchpath":
        raise _refused(("hydra", "searchpath"), "give a folder of configs by --config-dir FOLDER")


def _entries(value: Any, place: _Place) -> Iterator[tuple[_Place, Any]]:
    """A value and everything in it, each with the keys that lead to it."""
    yield place, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _entries(inner, (*place, str(key)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _entries(inner, (*place, str(index)))


def _check_interpolations(place: _Place, text: str) -> None:
    for name, end in _INTERPOLATION.findall(text):
        if end != "}" and (end != ":" or name.strip() not in RESOLVERS):
            raise _refused(
                place,
                f"a value may name another key, as ${{key}}, and call {', '.join(RESOLVERS)}; "
                "write the value itself",
            )


def _check_target(place: _Place, target: object) -> None:
    if place == ("attack", "_target_"):
        # Whether foolbox has such an attack is seen when it is looked up.
        name = str(target).removeprefix(ATTACK_PREFIX)
        if (name.isidentifier() and target != name) or target == "???":
            return
        raise _refused(place, f"{target!r} is no attack; give one, such as {ATTACK_PREFIX}FGSM")
    # Those that belong to Hydra are compared with what they may be.
    if place[:2] not in (("hydra", "callbacks"), ("hydra", "launcher"), ("hydra", "sweeper")):
        raise _refused(place, "only attacks, launchers and sweepers are named so; remove it")


def _check_hydra(hydra: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    for key in _OWN:
        if hydra.get(key) != own.get(key):
            raise _refused(("hydra", key), "it is set by the software; remove it")
    if hydra.get("searchpath"):
        check_override("hydra.searchpath")
    for key in ("env_copy", "env_set"):
        if hydra.get("job", {}).get(key):
            raise _refused(("hydra", "job", key), "set variables of the environment in the shell")
    for key in ("hydra_logging", "job_logging"):
        if not _is_plain_logging(hydra.get(key)):
            raise _refused(("hydra", key), f"it could run code; give hydra/{key}=disabled")
    for part, known in (("launcher", LAUNCHERS), ("sweeper", SWEEPERS)):
        _check_plugin(("hydra", part), hydra.get(part), known)


def _is_plain_logging(logging: object) -> bool:
    """Whether it sets a level at most: handlers, formatters and filters are code and files."""
    if logging is None:
        return True
    if not isinstance(logging, Mapping) or not set(logging) <= _LOGGING_KEYS:
        return False
    root = logging.get("root")
    return root is None or (isinstance(root, Mapping) and set(root) <= {"level"})


def _check_plugin(place: _Place, plugin: object, known: tuple[str, ...]) -> None:
    if not isinstance(plugin, Mapping) or plugin.get("_target_") not in known:
        raise _refused((*place, "_target_"), f"known are {', '.join(known)}")
    for inside, value in _entries(plugin, place):
        if inside[-1] == "_target_" and inside != (*place, "_target_"):
            raise _refused(inside, "only the plugin itself is named so; remove it")
        if isinstance(value, str) and not value.isprintable():
            raise _refused(inside, "it holds line breaks or other control characters; remove them")
    if place[-1] == "launcher":
        for key, value in plugin.items():
            _check_option((*place, str(key)), value)


def _check_option(place: _Place, value: object) -> None:
    """Raise InputError unless an option of a launcher is known, and harmless."""
    key = place[-1]
    allowed, remedy = _LAUNCHER_VALUES.get(key, ((), _REMOVE))
    if key == "_target_" or value in allowed:
        return
    if key in _PARTS and isinstance(value, Mapping):
        for inner, inside in value.items():
            _check_option((*place, str(inner)), inside)
        return
    if key not in _LAUNCHER_WORDS:
        raise _refused(place, remedy)
    if isinstance(value, str) and not _WORD.fullmatch(value):
        raise _refused(place, "write letters, digits, and . , : & | * [ ] _ - only")
    if not (value is None or isinstance(value, bool | int | float | str)):
        raise _refused(place, "give a number or a word")


def _refused(place: _Place, remedy: str) -> InputError:
    return InputError(f"{'.'.join(place)} is not permitted: {remedy}.")
