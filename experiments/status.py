"""Runs, how far they are, and what they lack: `python -m experiments.status`. Nothing here needs torch."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.exits import DONE, FAILURE, RUN, STORE, default_results, exit_code, short
from experiments.terminal import console, say
from pixelrobust.errors import InputError
from pixelrobust.evaluation.store import PredictionStore, cell_name
from pixelrobust.outcomes.kinds import CELL_COLUMNS
from pixelrobust.perturbation.grid import Cell, build_grid

_DAMAGED = (OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class RunStatus:
    """Say how far a run is.

    Attributes:
        folder: where its record lies.
        results: where its results lie; None where there are none.
        begun: when, ISO 8601.
        state: done, failed or not finished.
        why: the last line of what made it fail; else empty.
        finished: (network, cell) pairs all of whose predictions are there.
        missing: the others, by name of network and cell.
    """

    folder: Path
    results: Path | None
    begun: str
    state: str
    why: str
    finished: int
    missing: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the runs below a results folder, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.status", description="List runs, and what they lack."
    )
    parser.add_argument("results", nargs="?", type=Path, default=default_results())
    results = parser.parse_args(arguments).results

    def work() -> int:
        _print(run_statuses(results))
        return 0

    return exit_code(work)


def run_statuses(results: Path) -> list[RunStatus]:
    """Return how far all runs are whose record is below a results folder, the latest last.

    Raises:
        InputError: there is none, or a record cannot be read.
    """
    records = sorted((results / STORE / "runs").glob(f"*/{RUN}"))
    if not records:
        raise InputError(
            f"no run is recorded below {results}; evaluate something first, or give another folder."
        )
    return sorted((_status(record, results) for record in records), key=lambda run: run.begun)


def _status(record: Path, results: Path) -> RunStatus:
    try:
        about = json.loads(record.read_text(encoding="utf-8"))
        finished, missing = _cells(about, results)
        begun = str(about["begun"])
    except _DAMAGED as error:
        raise InputError(
            f"the record {record} cannot be read ({error}); remove its folder."
        ) from error
    folder, why, found = record.parent, "", None
    state = "done" if (folder / DONE).is_file() else "not finished"
    if state == "done":
        found = Path((folder / DONE).read_text(encoding="utf-8").strip())
    if (folder / FAILURE).is_file():
        state = "failed"
        why = (folder / FAILURE).read_text(encoding="utf-8").strip().splitlines()[-1]
    there = found if found and found.is_dir() else None
    return RunStatus(folder, there, begun, state, why, finished, tuple(missing))


def _cells(about: dict[str, Any], results: Path) -> tuple[int, list[str]]:
    """Count the finished cells and name the others, of what is evaluated cell by cell."""
    settings = about["settings"]
    if settings["measure"] not in ("outcomes", "retraining") or settings["attack"]:
        return 0, []
    finished, missing = 0, []
    grid = {key: settings["perturbation"][key] for key in CELL_COLUMNS}
    cells = [cell for cell in build_grid(**grid) if cell.num]
    networks = about["answers"] or dict.fromkeys(about["weights_sha256"])
    for network, place in networks.items():
        for cell in cells:
            if place and _is_finished(results / STORE / place[0], cell, place[1], settings):
                finished += 1
            else:
                missing.append(f"{network} {cell_name(cell)}")
    return finished, missing


def _is_finished(folder: Path, cell: Cell, images: int, settings: dict[str, Any]) -> bool:
    """Tell whether all predictions are there."""
    wanted = images * int(settings["draws"])
    return PredictionStore(folder, lambda sentence: None, range(images)).count(cell) >= wanted


def _print(runs: Sequence[RunStatus]) -> None:
    out = console()
    for run in runs:
        cells = len(run.missing) + run.finished
        counts = f", {run.finished} of {cells} cells" if cells else ""
        say(out, short(run.folder), "bold")
        for line in (
            f"{run.state}{counts}, begun {run.begun}",
            run.results and f"results in {short(run.results)}",
            run.why,
            run.missing and f"missing: {', '.join(run.missing)}",
        ):
            if line:
                say(out, line, indent="  ")


if __name__ == "__main__":
    sys.exit(main())
