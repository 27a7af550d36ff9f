"""Sweeps whose jobs run beside each other: what they give, and how they end."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from omegaconf import OmegaConf

from experiments.config import Job, settings_of, usable_cores
from experiments.run import _in_place
from tests.conftest import REPOSITORY, Run, from_setup_dev
from tests.experiments.launcher_cases import descendants, end, started, wait_for, world

from_setup_dev("hydra_plugins.hydra_joblib_launcher")
from_setup_dev("hydra_plugins.hydra_submitit_launcher")

pytestmark = pytest.mark.usefixtures("one_thread")

TABLES = ("csv", "md", "tex")
CLUSTER = REPOSITORY / "scripts" / "slurm" / "test_cluster.sh"
SWEEP = ("-m", "experiment=table6", "draws=2", "perturbation.num=64,1024")
# The first job has nothing to do, the second would take hours.
ENDLESS = ("-m", "experiment=table6", "draws=200000", "perturbation.num=0,1024")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of one node."""
    if not (shutil.which("sbatch") and shutil.which("munged", path="/usr/sbin:/usr/bin")):
        pytest.skip("no Slurm: apt-get install slurm-wlm munge")
    if os.geteuid():
        pytest.skip("Slurm's daemons are started by root only")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([CLUSTER, "start", folder], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        yield
        subprocess.run([CLUSTER, "stop", folder], check=True)


@pytest.fixture(autouse=True)
def _own_code(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Other processes import what is tested."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("PIXELROBUST_CACHE", str(cache))


def tables(results: Path) -> dict[str, bytes]:
    """The merged table of a sweep, by kind of file."""
    (folder,) = results.glob("table6-sweep-*")
    return {suffix: (folder / f"table6.{suffix}").read_bytes() for suffix in TABLES}


@pytest.fixture(scope="module")
def expected(
    arguments: list[str], tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> dict[str, bytes]:
    """What the sweep gives when its jobs run one after the other."""
    results = tmp_path_factory.mktemp("basic")
    with (
        pytest.MonkeyPatch.context() as patch,
        started([*SWEEP, *arguments, f"paths.cache={cache}"], results) as process,
    ):
        patch.setenv("COLUMNS", "200")
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    found = tables(results)
    rates = [line.split(b",")[7] for line in found["csv"].splitlines()[1:]]
    assert len(set(rates)) > 1, "the table is to have something in it"
    return found


LAUNCHERS = {
    "local": ["hydra/launcher=local", "hydra.launcher.n_jobs=2"],
    "processes": ["hydra/launcher=processes"],
    "slurm": ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1"],
}


@pytest.fixture(params=LAUNCHERS)
def launcher(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    return LAUNCHERS[request.param]


def test_every_launcher_gives_the_same_table(
    run: Run,
    launcher: list[str],
    arguments: list[str],
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*SWEEP, *arguments, *launcher)
    assert ended.code == 0, ended.err
    assert "2 of 2 jobs finished" in ended.out
    assert tables(tmp_path / "results") == expected
    # Nothing lies elsewhere, and jobs of Slurm are one array.
    assert {path.name for path in tmp_path.iterdir()} == {"results"}
    jobs = [
        path.parent.name for path in tmp_path.glob("results/sweeps/*/.submitit/*/*_submitted.pkl")
    ]
    if "hydra/launcher=slurm" in launcher:
        assert len(jobs) == 2
        assert len({job.partition("_")[0] for job in jobs}) == 1


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def has_begun(results: Path) -> bool:
    """Whether the first job is done, and the second at work."""
    done = [
        json.loads(path.read_text())["directory"] for path in results.glob("sweeps/*/0/job.json")
    ]
    return any(done) and len(list(results.glob("store/runs/*"))) == 2


# submitit asks Slurm for the states of jobs every ten minutes only.
@pytest.mark.parametrize("name", ["local", "processes"])
def test_a_job_that_dies_is_lost_and_the_rest_is_merged(
    name: str, arguments: list[str], results: Path
) -> None:
    with started([*ENDLESS, *arguments, *LAUNCHERS[name]], results) as process:
        wait_for(lambda: has_begun(results))
        for child in descendants(process):
            if is_at_work(child, name):
                end(child)
        out, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "1 of 2 jobs finished" in out
    (failed,) = [line for line in errors.splitlines() if line.startswith("failed: ")]
    assert "perturbation.num=1024" in failed
    assert "left no record" in failed
    assert "Traceback" not in errors
    (table,) = results.glob("table6-sweep-*/table6.md")
    rows = [line for line in table.read_text().splitlines() if line.startswith("| ")]
    assert ["missing" in row for row in rows if row.startswith("| 1024")] == [True]


def is_at_work(process: psutil.Process, name: str) -> bool:
    """Whether a process does a job for a launcher."""
    marks = {"local": "popen_loky", "processes": "submitit.core._submit"}
    try:
        return any(marks[name] in word for word in process.cmdline())
    except psutil.Error:
        return False


def active_jobs() -> list[str]:
    return subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i"], capture_output=True, text=True
    ).stdout.split()


@pytest.mark.parametrize("name", LAUNCHERS)
def test_an_interrupt_ends_all_jobs(
    name: str, request: pytest.FixtureRequest, arguments: list[str], results: Path
) -> None:
    if name == "slurm":
        request.getfixturevalue("slurm")
    with started([*ENDLESS, *arguments, *LAUNCHERS[name]], results) as process:
        wait_for(lambda: has_begun(results))
        at_work = descendants(process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 130
        # Those of submitit that watch over local jobs show tracebacks of their own.
        ours = errors if name != "processes" else errors[: errors.index("interrupted\n") + 12]
        assert last_line(ours) == "interrupted"
        wait_for(lambda: not any(child.is_running() for child in at_work))
    if name == "slurm":
        wait_for(lambda: not active_jobs())


def test_what_slurm_does_not_take_is_told(run: Run, slurm: None, arguments: list[str]) -> None:
    ended = run(*SWEEP, *arguments, *LAUNCHERS["slurm"], "hydra.launcher.partition=nowhere")
    assert ended.code == 2
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert "the launcher stopped" in line
    assert "nvalid partition" in ended.err


# Commands of the pages

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
COMMANDS = [
    line
    for page in PAGES
    for block in re.findall(r"```shell\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
]
SMALL = ["draws=1", "perturbation.num=4", "engine=eager", "engine.compared=0"]


def test_there_are_commands_of_both_kinds() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"python", "sbatch"}


def batch(*words: str, log: Path) -> None:
    """Submit a script, and wait until it has ended well."""
    ended = subprocess.run(
        ["sbatch", "--wait", f"--output={log}", *words], cwd=REPOSITORY, capture_output=True,
        text=True, env=os.environ | {"PYTHON": sys.executable},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr + log.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith("python ")])
def test_every_sweep_of_the_pages_runs(command: str, run: Run, slurm: None, tmp_path: Path) -> None:
    assert " -m experiments.run -m hydra/launcher=slurm " in command
    ended = run(*command.split()[3:], *SMALL)
    assert ended.code == 0, ended.err
    assert "2 of 2 jobs finished" in ended.out
    _, *rows = tables(tmp_path / "results")["csv"].decode().splitlines()
    assert {row.split(",")[0] for row in rows} == {"efficientnet_lite0", "efficientnet_lite1"}


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith("sbatch ")])
def test_every_batch_of_the_pages_is_understood(command: str, slurm: None) -> None:
    """One runs below."""
    words = command.split()
    ended = subprocess.run(
        [words[0], "--test-only", *words[1:]], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


def test_a_batch_of_two_processes_gives_what_one_does(
    run: Run, slurm: None, arguments: list[str], tmp_path: Path
) -> None:
    retraining = [
        *arguments, "experiment=table10", "draws=2", "perturbation.num=[4,256]", "engine.batch_size=4",
        "retrain.num=[4]", "retrain.controls=[]", "retrain.epochs=2", "retrain.batch_size=4",
        "retrain.trainable=all", "retrain.selected=false",
    ]  # fmt: skip
    # Caches of their own, or the second would find what the first has trained.
    ended = run(*retraining, f"paths.cache={tmp_path / 'cache-1'}")
    assert ended.code == 0, ended.err
    two = [f"paths.results={tmp_path / 'two'}", f"paths.cache={tmp_path / 'cache-2'}"]
    script = str(REPOSITORY / "scripts" / "slurm" / "torchrun.sbatch")
    batch("--nodes=1", script, *retraining, *two, log=tmp_path / "log")
    (one,), (other,) = tmp_path.glob("results/table10-*"), tmp_path.glob("two/table10-*")
    rows = [pd.read_parquet(each / "outcomes" / "table10.parquet") for each in (one, other)]
    pd.testing.assert_frame_equal(*rows)
    assert rows[0]["wrong"].nunique() == 2
    losses = [pd.read_csv(each / "retraining.csv")["loss"] for each in (one, other)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="no shellcheck: apt-get install it")
def test_scripts_of_the_shell_are_clean() -> None:
    scripts = [*REPOSITORY.glob("scripts/*/*.sh"), *REPOSITORY.glob("scripts/*/*.sbatch")]
    assert len(scripts) == 3
    subprocess.run(["shellcheck", *scripts], check=True)


# Where jobs run


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def job(number: int, at_once: int, launcher: str = "JoblibLauncher") -> Job:
    return Job(Path("sweep") / str(number), (), number, launcher, at_once)


def test_jobs_at_once_have_gpus_and_cores_of_their_own(
    threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr("experiments.run.usable_cores", lambda: 7)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    usual, named = settings_of(), settings_of("engine.devices=cuda:2")
    assert usual.engine.devices == "auto"
    placed = [_in_place(usual, job(number, 3)).engine.devices for number in range(5)]
    assert placed == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    assert torch.get_num_threads() == 2
    assert _in_place(named, job(0, 3)).engine.devices == "cuda:2"
    # Which device a run has does not change what it is.
    assert _in_place(usual, job(1, 3)).identity() == usual.identity()


def test_a_job_alone_has_the_whole_machine(threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    torch.set_num_threads(3)
    assert _in_place(settings_of(), job(1, 1, "BasicLauncher")) == settings_of()
    assert torch.get_num_threads() == 3


def test_a_job_of_slurm_computes_on_the_cores_that_it_was_given(
    threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert _in_place(settings_of(), job(1, 1, "SlurmLauncher")) == settings_of()
    assert torch.get_num_threads() == 3


def test_by_default_there_are_as_many_jobs_as_gpus_or_else_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launcher = OmegaConf.load(REPOSITORY / "configs" / "hydra" / "launcher" / "local.yaml")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert launcher.n_jobs == 3
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert launcher.n_jobs == usable_cores()
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
