"""Runs logged in W&B: what it keeps is what lies in the results folder, and its faults change nothing."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import md5
from http.server import ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wandb
from PIL import Image

from experiments.config import settings_of
from experiments.report import _list_runs
from experiments.run import main
from experiments.status import run_statuses
from experiments.tracked import curve_points
from pixelrobust import distributed, tracking
from pixelrobust.outcomes.kinds import OUTCOMES
from pixelrobust.retraining import training
from pixelrobust.tracking import NO_TRACKER, About, make_tracker
from tests.conftest import REPOSITORY, Ended, Run
from tests.fault_cases import sentence
from tests.retraining.cases import FORKING
from tests.retraining.world import data, network
from tests.tracked_runs import FallingSilent, KeptRun, kept_runs

pytestmark = pytest.mark.usefixtures("one_thread", "nobody")

WANDB = "tracking=wandb"
ONLINE = (WANDB, "tracking.mode=online", "tracking.timeout=2")
KEY = "0123456789abcdef0123456789abcdef01234567"
FEW = ("perturbation.num=[4,64,256]", "draws=2", "engine=eager")
RETRAINING = (
    "experiment=table10", "retrain.num=[4]", "retrain.controls=[unchanged]", "retrain.epochs=3",
    "retrain.learning_rate=0.05", "perturbation.num=[64]", "engine=eager",
)  # fmt: skip
# Manifests hold times.
SAME = (".csv", ".md", ".tex", ".parquet", ".png", ".pdf")


@dataclass(frozen=True)
class Done:
    """Small evaluation that has been done: where its results lie, and its seconds."""

    results: Path
    seconds: float


def done(world: Path, folder: Path, cache: Path, *arguments: str) -> Done:
    """Run the small evaluation outside of a test, with results and home in a folder."""
    own = (*data(world, train=False), *network(world), *FEW, *arguments)
    out, err, start = StringIO(), StringIO(), time.monotonic()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("HOME", str(folder))
        patch.setenv("PIXELROBUST_CACHE", str(cache))
        patch.setattr("sys.argv", ["experiments.run", *own, f"paths.results={folder / 'results'}"])
        assert main() == 0
    wandb.teardown()
    assert err.getvalue() == ""
    assert "wandb" not in out.getvalue().lower()
    return Done(folder / "results", time.monotonic() - start)


@pytest.fixture(scope="module")
def plain(world: Path, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Done:
    """Do the evaluation without a tracker."""
    return done(world, tmp_path_factory.mktemp("plain"), cache)


@pytest.fixture(scope="module")
def tracked(world: Path, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Done:
    """Do the evaluation with a tracker, for tests that look at what it has kept."""
    amplitudes = "perturbation.amplitude=[null,100]"
    words = ("tracking.tags=[one,two]", "tracking.group=mine")
    return done(world, tmp_path_factory.mktemp("tracked"), cache, WANDB, amplitudes, *words)


@pytest.fixture(scope="module")
def kept(tracked: Done) -> KeptRun:
    return only(tracked.results)


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody is logged in, and the package knows nothing of other tests."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setattr(tracking, "_REFUSING", set())
    wandb.teardown()
    yield
    wandb.teardown()


Call = Callable[..., Ended]


@pytest.fixture
def evaluate(run: Run, world: Path) -> Call:
    """Return a small evaluation; flags of the command line may come first."""

    def call(*arguments: str, **options: Any) -> Ended:
        flags = [one for one in arguments if one.startswith("-")]
        others = [one for one in arguments if one not in flags]
        usual = (*data(world, train=False), *network(world), *FEW)
        return run(*flags, *usual, *others, **options)

    return call


@pytest.fixture
def retrain(run: Run, world: Path) -> Call:
    return lambda *arguments: run(*data(world), *network(world), *RETRAINING, *arguments)


def only(results: Path) -> KeptRun:
    (kept,) = kept_runs(results)
    return kept


def folder(results: Path, name: str = "run") -> Path:
    (found,) = results.glob(f"{name}-*")
    return found


def files(results: Path) -> dict[str, bytes]:
    """Read what runs have written, but for what the tracker keeps."""
    return {
        str(path.relative_to(results)): path.read_bytes()
        for path in sorted(results.rglob("*.*"))
        if path.suffix in SAME and path.relative_to(results).parts[0] not in ("wandb", "store")
    }


def warnings(ended: Ended) -> list[str]:
    """Return what it said, all of it warnings of one line."""
    lines = ended.err.splitlines()
    assert all(line.startswith("warning: ") and line.endswith(".") for line in lines), lines
    return [line.removeprefix("warning: ") for line in lines]


def test_a_run_is_kept_as_it_lies_in_the_results_folder(tracked: Done, kept: KeptRun) -> None:
    table = pd.read_csv(folder(tracked.results) / "table.csv")
    assert table["wrong"].sum() > 0
    # Table, value for value.
    own = kept.table("table")
    assert list(own.columns) == list(table.columns)
    values = table.astype(object).where(table.notna(), None)
    assert own.to_numpy().tolist() == values.to_numpy().tolist()
    # Curves over num, likewise; the unchanged images begin both.
    points = kept.points("num")
    assert [point["num"] for point in points] == [0, 4, 64, 256]
    expected: dict[int, dict[str, float]] = {0: {}, 4: {}, 64: {}, 256: {}}
    for row in table.to_dict("records"):
        limits = [row["amplitude"]] if row["num"] else [np.nan, 100.0]
        for limit in limits:
            name = "small_full" if np.isnan(limit) else "small_r100"
            for column in ("wrong_rate", "ci_low", "ci_high", "pixel_index"):
                if not np.isnan(row[column]):
                    expected[row["num"]][f"{column}/{name}"] = row[column]
    assert points == [{"num": num, **values} for num, values in expected.items()]
    drawn = {
        one["glob_name"]: one["step_metric"] for one in kept.all_of("metric") if "glob_name" in one
    }
    assert drawn == dict.fromkeys(("wrong_rate/*", "ci_low/*", "ci_high/*", "pixel_index/*"), "num")
    assert kept.exit_code() == 0
    assert kept.all_of("stats")


def test_what_a_run_is_called_and_made_of(kept: KeptRun, world: Path) -> None:
    run = kept.run()
    told = ("project", "run_group", "job_type", "display_name", "tags")
    assert [run[key] for key in told] == ["pixelrobust", "mine", "run", "run", ["one", "two"]]
    config = dict(run["config"]["update"])
    del config["_wandb"]
    settings = settings_of(
        *data(world, train=False), *network(world), *FEW, "perturbation.amplitude=[null,100]"
    )
    expected = settings.model_dump(mode="json", exclude={"tracking", "paths"})
    assert {key: value for key, value in config.items() if key != "paths"} == expected
    # Neither code nor who somebody is.
    (about, machine) = kept.all_of("environment")
    assert not {"git", "host", "username", "email", "code_path", "docker"} & {*about, *machine}
    assert not list(kept.folder.rglob("*.py"))
    assert not list(kept.folder.rglob("requirements.txt"))


def test_outcomes_are_an_artifact_by_reference(tracked: Done, kept: KeptRun) -> None:
    outcomes = folder(tracked.results) / "outcomes"
    artifact = kept.artifacts()["run-outcomes"]
    entries = {entry["path"]: entry for entry in artifact["manifest"]["contents"]}
    assert {name: entry["ref"] for name, entry in entries.items()} == {
        name: (outcomes / name).as_uri() for name in ("table.parquet", "table.json")
    }
    for name, entry in entries.items():
        content = (outcomes / name).read_bytes()
        assert int(entry["size"]) == len(content)
        assert entry["digest"] == b64encode(md5(content).digest()).decode()
        assert "local_path" not in entry
    assert not list((tracked.results / "wandb").rglob("*.parquet"))


def test_figures_and_examples_are_images(tracked: Done, kept: KeptRun, world: Path) -> None:
    summary = kept.summary()
    (figure,) = summary["figures/figure.filenames"]
    own = (folder(tracked.results) / "figure.png").read_bytes()
    assert (kept.folder / "files" / figure).read_bytes() == own
    assert summary["examples.count"] == 8
    before, after = summary["examples.filenames"][:2]
    caption, later = summary["examples.captions"][:2]
    name = re.match(r"(\S+) \((\w+)\), 0 changed pixels. small: (\w+)$", caption)
    assert name
    assert name[2] == name[3]
    original = np.asarray(Image.open(world / "test" / name[1]))
    first, second = (np.asarray(Image.open(kept.folder / "files" / one)) for one in (before, after))
    np.testing.assert_array_equal(first, original)
    flipped = re.match(rf"{re.escape(name[1])} \(\w+\), (\d+) changed pixels. small: (\w+)$", later)
    assert flipped
    assert flipped[2] != name[2]
    # Some of them change to what they were.
    differing = int((second != first).any(axis=2).sum())
    assert 0.9 * int(flipped[1]) <= differing <= int(flipped[1])


def test_other_lists_of_runs_do_not_see_the_trackers_folder(
    tracked: Done, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [run.state for run in run_statuses(tracked.results)] == ["done"]
    _list_runs(tracked.results)
    assert "wandb" not in capsys.readouterr().out
    ignored = ["git", "check-ignore", "--quiet", "results/wandb/offline-run-1/run-1.wandb"]
    assert subprocess.run(ignored, cwd=REPOSITORY).returncode == 0


def test_a_tracked_run_is_the_same_run(evaluate: Call, plain: Done, tmp_path: Path) -> None:
    assert evaluate(WANDB).code == 0
    assert len(files(plain.results)) == 6
    assert files(tmp_path / "results") == files(plain.results)
    identities = [
        settings_of(*arguments).identity()
        for arguments in (
            (), (WANDB,), (*ONLINE, "tracking.entity=x", "tracking.directory=y", "tracking.tags=z"),
        )
    ]  # fmt: skip
    assert identities[0] == identities[1] == identities[2]


def test_a_table_that_describes_is_kept(run: Run, tmp_path: Path) -> None:
    assert run("experiment=table4", WANDB).code == 0
    table = pd.read_csv(folder(tmp_path / "results", "table4") / "table4.csv")
    kept = only(tmp_path / "results").table("table4")
    assert kept["symbol"].tolist() == table["symbol"].tolist()


def test_curves_of_networks_whose_names_are_drawn_alike_stay_apart() -> None:
    rates = {"wrong_rate": [0.25, 0.5]} | dict.fromkeys(
        ("ci_low", "ci_high", "pixel_index"), np.nan
    )
    table = pd.DataFrame(
        {"model": ["a-b", "a_b"], "num": 4, "amplitude": None, "area": None} | rates
    )
    points = {4: {"wrong_rate/a_b": 0.25, "wrong_rate/a_b_": 0.5}}
    assert curve_points(table, OUTCOMES) == points


def losses(kept: KeptRun) -> dict[str, list[tuple[float, float]]]:
    """Return (epoch, loss) pairs of each network, in the order in which they were logged."""
    found: dict[str, list[tuple[float, float]]] = {}
    for point in kept.points("epoch"):
        for name, value in point.items():
            if name.startswith("loss/"):
                found.setdefault(name, []).append((point["epoch"], value))
    return found


def test_losses_are_those_of_the_table(retrain: Call, tmp_path: Path) -> None:
    assert retrain(WANDB).code == 0
    kept = only(tmp_path / "results")
    place = folder(tmp_path / "results", "table10")
    history = pd.read_csv(place / "retraining.csv")
    expected = {
        f"loss/{str(model).replace('-', '_')}": [*zip(rows["epoch"], rows["loss"], strict=True)]
        for model, rows in history.groupby("model")
    }
    assert losses(kept) == expected
    assert [len(curve) for curve in expected.values()] == [3, 3]
    table = pd.read_csv(place / "table10.csv")
    row = table[
        (table["model"] == "small-4") & (table["num"] == 64) & (table["images_are"] == "heldout")
    ].iloc[0]
    (point,) = [point for point in kept.points("num") if point["num"] == 64]
    assert point["wrong_rate/small_4_heldout"] == row["wrong_rate"]
    assert kept.summary()["figures/retraining.count"] == 1


def test_losses_are_logged_while_they_fall(
    retrain: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep what went before an interruption; a run that goes on has the whole curve."""
    write, written = training.write_checkpoint, []

    def interrupted(*arguments: Any) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        write(*arguments)
        written.append(arguments)

    with monkeypatch.context() as patched:
        patched.setenv("PIXELROBUST_CACHE", str(tmp_path / "cache"))
        patched.setattr(training, "write_checkpoint", interrupted)
        ended = retrain(WANDB, f"paths.cache={tmp_path / 'cache'}")
    assert (ended.code, ended.err) == (130, "interrupted\n")
    kept = only(tmp_path / "results")
    (curve,) = losses(kept).values()
    assert [epoch for epoch, _ in curve] == [0, 1]
    assert kept.exit_code() == 1
    assert retrain(WANDB, f"paths.cache={tmp_path / 'cache'}").code == 0
    again = max(kept_runs(tmp_path / "results"), key=lambda kept: len(kept.records))
    assert [[epoch for epoch, _ in curve] for curve in losses(again).values()] == [[0, 1, 2]] * 2
    assert next(iter(losses(again).values()))[0] == curve[0]


def test_jobs_of_a_sweep_are_runs_of_a_group(evaluate: Call, tmp_path: Path, world: Path) -> None:
    """Let one of them fail."""
    (tmp_path / "none").mkdir()
    roots = f"dataset.root={world / 'test'},{tmp_path / 'none'}"
    ended = evaluate("-m", WANDB, roots)
    assert ended.code == 2
    assert "holds no images" in ended.err
    kept = kept_runs(tmp_path / "results")
    failed, well = sorted(kept, key=lambda run: run.exit_code() == 0)
    assert (failed.exit_code(), well.exit_code()) == (1, 0)
    assert str(tmp_path / "none") in failed.run()["display_name"]
    (sweep,) = (tmp_path / "results" / "sweeps").iterdir()
    assert {run.run()["run_group"] for run in kept} == {f"sweep {sweep.name}"}
    assert len({run.folder for run in kept}) == 2


def test_of_several_processes_one_logs(
    retrain: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "_START_METHOD", FORKING.get_start_method())
    few = ("retrain.controls=[]", f"paths.cache={tmp_path / 'cache'}")
    assert retrain(WANDB, "engine.devices=2", "engine.batch_size=4", *few).code == 0
    kept = only(tmp_path / "results")
    assert [[epoch for epoch, _ in curve] for curve in losses(kept).values()] == [[0, 1, 2]]
    assert [point["num"] for point in kept.points("num")] == [0, 64]
    assert list(kept.artifacts()) == ["table10-outcomes"]
    assert kept.exit_code() == 0


def test_where_one_of_several_processes_fails_the_run_has_failed(
    retrain: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "_START_METHOD", FORKING.get_start_method())
    ended = retrain(WANDB, "engine.devices=2", "retrain.batch_norm=train")
    assert "retrain.batch_norm=train needs whole batches" in sentence(ended)
    assert only(tmp_path / "results").exit_code() == 1


@pytest.fixture
def silent_server() -> Iterator[tuple[str, list[Any]]]:
    """Yield the address of one that takes connections and says nothing, and those that it took."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[Any] = []

        def take() -> None:
            try:
                while True:
                    taken.append(server.accept())
            except OSError:
                return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", taken
        for connection, _ in taken:
            connection.close()


@pytest.fixture
def with_key(silent_server: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", silent_server[0])


def test_nothing_is_sent_unless_online_is_asked_for(
    evaluate: Call,
    with_key: None,
    silent_server: tuple[str, list[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the environment says, which is afterwards as it was."""
    said = {
        "WANDB_MODE": "online", "WANDB_RUN_ID": "theirs", "WANDB_PROJECT": "theirs",
        "WANDB_DIR": str(tmp_path / "theirs"), "WANDB_NAME": "theirs", "WANDB_SILENT": "false",
    }  # fmt: skip
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    ended = evaluate(WANDB)
    assert (ended.code, ended.err) == (0, "")
    assert silent_server[1] == []
    run = only(tmp_path / "results").run()
    assert "theirs" not in (run["run_id"], run["project"], run["display_name"])
    assert not (tmp_path / "theirs").exists()
    assert list((tmp_path / "home").rglob("*")) == []
    assert {name: os.environ[name] for name in said} == said


def test_a_server_that_hangs_costs_the_timeout_and_no_more(
    evaluate: Call, with_key: None, tmp_path: Path
) -> None:
    seconds = {}
    for name, arguments in {"plain": (), "tracked": ONLINE}.items():
        start = time.monotonic()
        ended = evaluate(
            "-m", "draws=1", "perturbation.num=4,64", *arguments, results=tmp_path / name
        )
        seconds[name] = time.monotonic() - start
        assert ended.code == 0
    (warning,) = warnings(ended)
    assert "W&B does not take runs (http://127.0.0.1:" in warning
    assert "`wandb sync` sends them" in warning
    # Two jobs wait for it once.
    # Of itself the package would wait for 90 seconds.
    assert seconds["tracked"] - seconds["plain"] < 2 + 20
    assert files(tmp_path / "plain") == files(tmp_path / "tracked") != {}
    assert [run.exit_code() for run in kept_runs(tmp_path / "tracked")] == [0, 0]


def test_a_server_that_falls_silent_costs_a_few_timeouts(
    evaluate: Call, plain: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FallingSilent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    FallingSilent.ended.clear()
    try:
        start = time.monotonic()
        ended = evaluate(*ONLINE)
        seconds = time.monotonic() - start
    finally:
        FallingSilent.ended.set()
        server.shutdown()
        server.server_close()
    assert ended.code == 0
    (warning,) = warnings(ended)
    assert warning.startswith("W&B fails (")
    assert files(tmp_path / "results") == files(plain.results)
    # The server itself would be silent for 60 seconds, at every request.
    assert seconds - plain.seconds < 30


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, r"there is no key for https://.*`wandb login`"),
        ({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ],
)
def test_without_a_key_or_a_server_runs_are_kept_offline(
    environment: dict[str, str],
    words: str,
    evaluate: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = evaluate(*ONLINE)
    assert ended.code == 0
    (warning,) = warnings(ended)
    assert re.search(words, warning)
    assert only(tmp_path / "results").exit_code() == 0


def test_a_key_in_the_netrc_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "home" / ".netrc"
    assert not tracking._is_logged_in("https://api.example.org")
    file.write_text(f"machine api.example.org login user password {KEY}\n")
    assert tracking._is_logged_in("https://api.example.org")
    assert not tracking._is_logged_in("https://other.example.org")
    file.write_text("machine\n")
    assert not tracking._is_logged_in("https://api.example.org")


@pytest.mark.parametrize("found", [None, type(sys)("wandb")], ids=["nothing", "a folder so called"])
def test_a_package_that_is_missing_is_told_before_any_work(
    found: object, evaluate: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", found)
    told = sentence(evaluate(WANDB))
    assert "tracking=wandb needs the package wandb, which cannot be imported" in told
    assert "pip install 'pixelrobust[tracking]'" in told
    assert not list((tmp_path / "results").glob("run-*"))


def test_a_folder_that_cannot_be(evaluate: Call, plain: Done, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = evaluate(WANDB, f"tracking.directory={tmp_path / 'file'}")
    assert ended.code == 0
    (warning,) = warnings(ended)
    assert "W&B fails (" in warning
    assert files(tmp_path / "results") == files(plain.results)


def test_a_fault_at_any_call_changes_nothing(
    evaluate: Call, plain: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("define_metric", "log", "log_artifact", "summary", "finish"):
        monkeypatch.setattr(tracking, "_open_run", lambda *_, name=name: Broken(name))
        ended = evaluate(WANDB)
        assert ended.code == 0
        (warning,) = warnings(ended)
        assert f"W&B fails (no {name}); the run goes on without it" in warning
    assert files(tmp_path / "results") == files(plain.results)


class Broken:
    """Run of the package that fails at one kind of call."""

    def __init__(self, call: str) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        if name == self._call:
            raise ValueError(f"no {name}\nand more")
        return self if name == "summary" else lambda *_, **__: None


def test_the_package_is_imported_in_one_place_and_only_where_it_is_asked_for() -> None:
    importing = {
        str(path.relative_to(REPOSITORY))
        for folder in ("pixelrobust", "experiments")
        for path in (REPOSITORY / folder).rglob("*.py")
        if re.search(r"^\s*(import|from) wandb", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert importing == {"pixelrobust/tracking.py"}
    code = "import sys, experiments.run, pixelrobust.tracking; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_nothing_is_logged_unless_it_is_asked_for(tmp_path: Path) -> None:
    tracker = make_tracker(None, About("run", "run", {}))
    assert tracker is NO_TRACKER
    with tracker as same:
        same.attempt(lambda *_: pytest.fail("called"))
    with pytest.raises(ZeroDivisionError), tracker:
        raise ZeroDivisionError
