"""Runs that were kept offline, sent to W&B: `python -m experiments.sync`, or `make wandb-sync`."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.exits import exit_code
from experiments.places import default_results
from pixelrobust.errors import InputError
from pixelrobust.escaping import printable
from pixelrobust.packages import how_to_install, package_folder
from pixelrobust.tracking.environment import FOLDER, run_environment

# Else the package tries for hours to reach a server that does not answer.
_SECONDS = 10
_PATIENCE = {"WANDB_X_GRAPHQL_RETRY_MAX": "1", "WANDB_X_GRAPHQL_TIMEOUT_SECONDS": str(_SECONDS)}
_FAULT = "ERROR "


def main(arguments: Sequence[str] | None = None) -> int:
    """Send what has not been sent; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sync", description="Send runs that were kept offline to W&B."
    )
    parser.add_argument("results", nargs="?", type=Path, default=default_results())
    results = parser.parse_args(arguments).results.resolve()

    def work() -> int:
        print(_send(results))
        return 0

    return exit_code(work)


def waiting_runs(results: Path) -> list[Path]:
    """The folders of runs below a results folder that were kept offline and are not sent yet."""
    logs = sorted((results / FOLDER).glob("offline-run-*/run-*.wandb"))
    return [log.parent for log in logs if not log.with_name(f"{log.name}.synced").exists()]


def _send(results: Path) -> str:
    """Send all; what became of it, as a sentence."""
    runs = waiting_runs(results)
    if not runs:
        return f"Nothing waits in {printable(results / FOLDER)}; tracking=wandb puts runs there."
    if package_folder("wandb") is None:
        raise InputError(
            "sending runs needs the package wandb, which is not installed; "
            f"{how_to_install('tracking')}."
        )
    print(f"sending {len(runs)} runs of {printable(results / FOLDER)}", flush=True)
    # Where the first is not taken, the others would not be either.
    for part in (runs[:1], runs[1:]):
        said = _sync(part, results) if part else ""
        left = [run for run in part if run in waiting_runs(results)]
        if left:
            raise InputError(
                f"{len(waiting_runs(results))} of {len(runs)} runs are not sent ({_reason(said)}); "
                "they are kept, try again later."
            )
    return "All are sent."


def _sync(runs: Sequence[Path], results: Path) -> str:
    """Have the package send some runs; what it says."""
    changed = run_environment(results, _SECONDS) | {"WANDB_SILENT": None} | _PATIENCE
    environment = {name: value for name, value in os.environ.items() if name not in changed}
    environment |= {name: value for name, value in changed.items() if value is not None}
    command = [sys.executable, "-m", "wandb", "sync", *map(str, runs)]
    done = subprocess.run(
        command, env=environment, cwd=results, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def _reason(said: str) -> str:
    """The first fault that the package tells of, or its last words."""
    lines = [line.removeprefix("wandb: ").strip() for line in said.splitlines() if line.strip()]
    faults = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    faults += [line.removeprefix(_FAULT) for line in lines if line.startswith(_FAULT)]
    return (faults or lines[-1:] or ["it does not say why"])[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
