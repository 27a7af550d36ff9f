"""A config from a stranger runs no code: every way that Hydra has, tried on the command line."""

import logging
import pickle
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.permitted import LAUNCHERS, SWEEPERS, check_permitted
from pixelrobust import InputError
from tests.conftest import Ended, Run

CANARY = "canary"
SECRET = "the-secret-of-this-machine"


def touching(canary: Path) -> dict[str, Any]:
    """A config of which Hydra would make a new file; its own list of bad functions lets it pass."""
    return {
        "_target_": "pathlib.Path.touch",
        "_args_": [{"_target_": "pathlib.Path", "_args_": [str(canary)]}],
    }


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Hydra's --info changes it for the whole process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / CANARY


def refused(ended: Ended, canary: Path, *words: str) -> None:
    """The attack did nothing, and one sentence says what was wrong."""
    assert not canary.exists()
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    for word in words:
        assert word in ended.err
    assert "Traceback" not in ended.err


def as_override(value: Any) -> str:
    """Nested data in the grammar of Hydra's overrides."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{as_override(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_override, value)) + "]"
    return f"'{value}'" if isinstance(value, str) else str(value)


# Where code could be named: on the command line, and in a shared experiment.
PLACES = [
    "hydra.callbacks.shared",
    "hydra.callbacks.sweep",
    "hydra.launcher",
    "hydra.launcher.inside",
    "hydra.sweeper",
    "attack",
    "attack.arguments",
    "models.efficientnet_lite0",
    "models.another",
    "dataset",
    "anything",
]


@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["run", "sweep"])
@pytest.mark.parametrize("place", PLACES)
def test_an_override_that_names_code_is_refused(
    run: Run, canary: Path, place: str, flags: list[str]
) -> None:
    code = as_override(touching(canary))
    refused(
        run(*flags, "attack=fgsm", f"++{place}={code}", "perturbation.num=-1"), canary, group(place)
    )


def group(place: str) -> str:
    """What a sentence names at least."""
    return ".".join(place.split(".")[:2])


def nested(place: str, value: Any) -> dict[str, Any]:
    for key in reversed(place.split(".")):
        value = {key: value}
    return dict(value)


def share(folder: Path, content: dict[str, Any], name: str = "experiment/shared") -> list[str]:
    """What somebody types who was given a folder of configs."""
    path = folder / "given" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# @package _global_\n" + yaml.safe_dump(content))
    return ["--config-dir", str(folder / "given"), "experiment=shared"]


@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["run", "sweep"])
@pytest.mark.parametrize("place", PLACES)
def test_a_shared_experiment_that_names_code_is_refused(
    run: Run, tmp_path: Path, canary: Path, place: str, flags: list[str]
) -> None:
    given_config = share(tmp_path, nested(place, touching(canary)))
    refused(run(*flags, *given_config, "seed=0", "perturbation.num=-1"), canary, group(place))


@pytest.mark.parametrize("flag", ["--help", "--hydra-help", "--cfg=all", "--info=config"])
def test_nothing_that_is_asked_about_a_shared_experiment_runs_it(
    run: Run, tmp_path: Path, canary: Path, flag: str
) -> None:
    content = nested("hydra.callbacks.shared", touching(canary))
    refused(
        run(flag, *share(tmp_path, content)[:2], "experiment=shared"), canary, "hydra.callbacks"
    )


def test_one_bad_job_ends_a_sweep_before_any_job_runs(
    run: Run, tmp_path: Path, canary: Path
) -> None:
    given_config = share(tmp_path, {"seed": 1})
    share(tmp_path, nested("hydra.callbacks.x", touching(canary)), "experiment/other")
    ended = run("-m", *given_config[:2], "experiment=shared,other")
    refused(ended, canary, "hydra.callbacks")
    assert "job:" not in ended.out


def test_a_sweepers_own_overrides_are_checked(run: Run, tmp_path: Path, canary: Path) -> None:
    params = {"hydra.searchpath": "[pkg://pixelrobust]"}
    given_config = share(tmp_path, {"hydra": {"sweeper": {"params": params}}})
    refused(run("-m", *given_config), canary, "hydra.searchpath")


def logging_of(handler: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "root": {"handlers": ["one"]}, "handlers": {"one": handler}}


class Touching:
    """Unpickles to a new file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("which", ["hydra_logging", "job_logging"])
@pytest.mark.parametrize("kind", ["factory", "class", "external", "level", "whole"])
def test_logging_that_runs_code_or_writes_files_is_refused(
    run: Run, tmp_path: Path, canary: Path, which: str, kind: str
) -> None:
    trap = tmp_path / "trap.pkl"
    trap.write_bytes(pickle.dumps(Touching(canary)))
    config = {
        "factory": logging_of({"()": "pandas.read_pickle", "filepath_or_buffer": str(trap)}),
        "class": logging_of({"class": "logging.FileHandler", "filename": str(canary)}),
        "external": logging_of({"class": "logging.StreamHandler", "stream": "ext://antigravity"}),
        "level": {"version": 1, "root": {"level": "ERROR", "handlers": []}},
        "whole": "${models}",
    }[kind]
    given_config = share(tmp_path, {"hydra": {which: config}})
    refused(run(*given_config, "perturbation.num=-1"), canary, f"hydra.{which}")


def test_a_file_of_an_earlier_run_that_holds_code_is_refused(
    run: Run, tmp_path: Path, canary: Path
) -> None:
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps(Touching(canary)))
    ended = run("--experimental-rerun", str(tmp_path / "trap.pkl"))
    refused(ended, canary, "--experimental-rerun")


@pytest.fixture
def loaded_module(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that can be imported, and makes a file when it is."""
    (tmp_path / "trapped" / "inside").mkdir(parents=True)
    (tmp_path / "trapped" / "__init__.py").write_text(
        f"import pathlib; pathlib.Path({str(canary)!r}).touch()"
    )
    (tmp_path / "trapped" / "inside" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return "trapped"


@pytest.mark.parametrize(
    "arguments",
    [
        ["hydra.searchpath=[pkg://trapped]"],
        ["++hydra.searchpath=[pkg://trapped]"],
        ["--info=defaults", "hydra.searchpath=[pkg://trapped]"],
        ["--config-path=pkg://trapped"],
        ["--config-name=pkg://trapped/x"],
        ["experiment=pkg://trapped/x"],
        ["attack=fgsm", "attack._target_=trapped.inside"],
        ["hydra.launcher._target_=trapped.inside"],
        ["models.efficientnet_lite0.weights=package:trapped.inside/x.pth"],
    ],
    ids=str,
)
def test_nothing_in_a_config_imports_a_module(
    run: Run, canary: Path, loaded_module: str, arguments: list[str]
) -> None:
    refused(run(*arguments), canary)


def test_yaml_that_makes_python_objects_is_refused(run: Run, tmp_path: Path, canary: Path) -> None:
    given_config = share(tmp_path, {})
    path = tmp_path / "given" / "experiment" / "shared.yaml"
    path.write_text(f"name: !!python/object/apply:os.system ['touch {canary}']\n")
    refused(run(*given_config), canary, "python/object")


# --- what a config could read, and where it could write -------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:PIXELROBUST_SECRET}",
        "${oc.env:NOT_SET,${oc.env:PIXELROBUST_SECRET}}",
        "${ oc.env :PIXELROBUST_SECRET}",
        "${oc.${hydra.job.config_name}:PIXELROBUST_SECRET}",
        "${oc.decode:'${oc.env:PIXELROBUST_SECRET}'}",
        "${oc.create:{a: 1}}",
        "${below:x,${oc.env:PIXELROBUST_SECRET}}",
        "${hydra:job.env_set.PIXELROBUST_SECRET}",
    ],
)
def test_values_do_not_read_the_environment(
    run: Run, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PIXELROBUST_SECRET", SECRET)
    ended = run(*share(tmp_path, {"dataset": {"description": text}}), "perturbation.num=-1")
    refused(ended, canary, "dataset.description")
    assert SECRET not in ended.out + ended.err


@pytest.mark.parametrize("key", ["env_copy", "env_set"])
def test_the_environment_is_not_changed_or_copied(run: Run, canary: Path, key: str) -> None:
    value = {"env_copy": "[PATH]", "env_set": "{LD_PRELOAD:x}"}[key]
    refused(run(f"hydra.job.{key}={value}", "perturbation.num=-1"), canary, f"hydra.job.{key}")


def test_a_variable_that_is_not_there_is_one_sentence(run: Run, canary: Path) -> None:
    refused(run("hydra.job.env_copy=[NO_SUCH_VARIABLE]"), canary, "NO_SUCH_VARIABLE")


@pytest.mark.parametrize("key", ["run.dir", "sweep.dir", "sweep.subdir", "output_subdir"])
def test_hydra_writes_nowhere_else(run: Run, canary: Path, key: str) -> None:
    for flags in ([], ["-m"]):
        ended = run(*flags, f"hydra.{key}={canary}", "perturbation.num=-1")
        refused(ended, canary, f"hydra.{key.split('.')[0]}")


# --- what is permitted ----------------------------------------------------------------------------


OWN: dict[str, Any] = {"callbacks": {"sweep": {"_target_": "own"}}}


def plain(launcher: dict[str, Any], sweeper: str = SWEEPERS[0]) -> dict[str, Any]:
    return {"hydra": OWN | {"launcher": launcher, "sweeper": {"_target_": sweeper}}}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_known_launchers_are_permitted(launcher: str) -> None:
    check_permitted(plain({"_target_": launcher, "n_jobs": 2, "partition": "gpu"}), OWN)
    folder = "${hydra.sweep.dir}/.submitit/%j"
    check_permitted(plain({"_target_": launcher, "setup": None, "submitit_folder": folder}), OWN)


@pytest.mark.parametrize(
    "options",
    [
        {"setup": ["touch canary"]},
        {"additional_parameters": {"wrap": "touch canary"}},
        {"comment": "x\ntouch canary"},
        {"submitit_folder": "/elsewhere"},
        {"temp_folder": "/elsewhere"},
        {"ray": {"init": {"address": "ray://stranger:10001"}}},
        {"ray": {"init": {"runtime_env": {"pip": ["stranger"]}}}},
        {"callback": {"_target_": "os.system"}},
        {"srun_args": ["--prolog=canary"]},
        {"python": "canary"},
        {"partition": "gpu --wrap=canary"},
        {"qos": "--uid=root"},
        {"constraint": "$(touch canary)"},
        {"name": "`touch canary`"},
        {"nodes": ["a"]},
        {"pre_dispatch": "__import__('os').system('touch canary')"},
        {"max_nbytes": "canary"},
        {"ray": {"init": {"dashboard_host": "0.0.0.0"}}},
        {"ray": {"init": {"_temp_dir": "/elsewhere"}}},
        {"ray": {"remote": {"runtime_env": {"working_dir": "stranger.zip"}}}},
        {"something": 1},
    ],
    ids=str,
)
def test_launchers_run_no_command_of_a_config(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"hydra\.launcher\."):
        check_permitted(plain({"_target_": LAUNCHERS[3], **options}), OWN)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"setup": ["module load x"]}, "in the shell"),
        ({"additional_parameters": {"reservation": "x"}}, "SBATCH_RESERVATION"),
        ({"ray": {"init": {"address": "10.0.0.1:6379"}}}, "RAY_ADDRESS"),
    ],
)
def test_a_refusal_says_what_to_do_instead(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        check_permitted(plain({"_target_": LAUNCHERS[3], **options}), OWN)


@pytest.mark.parametrize("name", ["local", "processes", "slurm", "ray_cluster"])
def test_own_presets_are_permitted(run: Run, name: str) -> None:
    ended = run("--cfg", "job", f"hydra/launcher={name}")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("name", ["joblib", "submitit_local", "submitit_slurm"])
def test_hydras_own_presets_are_permitted(run: Run, name: str) -> None:
    pytest.importorskip("submitit")
    ended = run("--cfg", "job", f"hydra/launcher={name}")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    "words",
    [
        "gpu",
        "a100|v100",
        "node[1-3],node7",
        "gpu:a100:2",
        "large_memory",
        "10G",
        "research-group.1",
    ],
)
def test_names_that_clusters_have_are_permitted(words: str) -> None:
    for key in ("partition", "constraint", "exclude", "gres", "account", "mem_per_cpu"):
        check_permitted(plain({"_target_": LAUNCHERS[3], key: words}), OWN)


def test_a_launcher_that_is_not_installed_is_one_sentence(
    run: Run, tmp_path: Path, canary: Path
) -> None:
    if find_spec("ray"):
        pytest.skip("Ray is installed")
    share(tmp_path, nested("hydra.launcher", {"_target_": LAUNCHERS[4]}))
    ended = run("-m", "--config-dir", str(tmp_path / "given"), "experiment=shared")
    refused(ended, canary, "make setup-ray")
    refused(run("-m", "hydra/launcher=no_such_launcher"), canary, "no_such_launcher is unknown")


def test_a_shared_experiment_is_taken(run: Run, tmp_path: Path) -> None:
    content = {"name": "theirs", "attack": {"_target_": "foolbox.attacks.FGSM"}}
    content |= {"dataset": {"description": "images of ${name}", "limit": 3}}
    ended = run("--cfg", "job", *share(tmp_path, content)[:2], "attack=fgsm", "experiment=shared")
    assert ended.code == 0, ended.err
    assert "name: theirs" in ended.out


KEYS = st.sampled_from(["a", "hydra", "attack", "models", "callbacks", "launcher", "x"])
DATA = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(
    path=st.lists(KEYS, max_size=4), beside=DATA, target=st.sampled_from(["os.system", "a.b", ""])
)
def test_no_place_is_overlooked(path: list[str], beside: Any, target: str) -> None:
    inside: Any = {"_target_": target, "beside": beside}
    for index, key in enumerate(reversed(path)):
        inside = {key: inside} if index % 2 else {key: [beside, inside]}
    with pytest.raises(InputError, match="is not permitted"):
        check_permitted(plain({"_target_": LAUNCHERS[0]}) | {"models": inside}, OWN)


TOKENS = "${ } oc env oc.env . : PIXELROBUST_SECRET ${b} ${c} \\ ' now %Z %p below , { $ decode a"
PIECES = st.lists(st.sampled_from([*TOKENS.split(), " ", '"']), max_size=12)


@given(pieces=PIECES)
def test_what_is_permitted_reads_no_environment(pieces: list[str]) -> None:
    text = "".join(pieces)
    config = {"a": text, "b": "oc", "c": "env", "d": "oc.env:PIXELROBUST_SECRET"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIXELROBUST_SECRET", SECRET)
        try:
            check_permitted(config, OWN)
            resolved = str(OmegaConf.create(config)["a"])
        except (InputError, OmegaConfBaseException):
            return
        assert SECRET not in resolved


# --- what a config could send ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["tracking.mode", "tracking.entity", "hydra.sweeper.params.tracking.mode"]
)
def test_no_config_has_anything_sent(run: Run, tmp_path: Path, canary: Path, key: str) -> None:
    shared = {"defaults": [{"override /tracking": "wandb"}]}
    if key.startswith("hydra"):
        shared["hydra"] = {"sweeper": {"params": {"tracking.mode": "online"}}}
    else:
        shared |= nested(key, "online")
    ended = run("-m", *share(tmp_path, shared), "perturbation.num=-1")
    refused(ended, canary, key, "command line")


def test_who_types_the_command_may_have_it_sent(run: Run, tmp_path: Path, canary: Path) -> None:
    shared = {"defaults": [{"override /tracking": "wandb"}]}
    own = ("tracking.mode=online", "tracking.entity=me", "perturbation.num=-1")
    ended = run(*share(tmp_path, shared), *own)
    refused(ended, canary, "perturbation.num=-1")
