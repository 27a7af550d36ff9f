"""A benchmark from its plan to its files: preparation, rounds of all arms, results after each."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pixelrobust.files import check_writable, write_text
from pixelrobust.tables import write_csv
from scripts.benchmarking.arms import ARMS, Bench
from scripts.benchmarking.page import write_page
from scripts.benchmarking.processes import run_module
from scripts.benchmarking.records import Measured, Plan, Request, read_job
from scripts.benchmarking.summary import summarise


def run_plan(plan: Plan) -> str:
    """Measure, and write benchmark.csv and benchmark.md after every round; the latter's text.

    Raises:
        InputError: anything the user gave is wrong.
    """
    start = time.monotonic()
    check_writable(plan.output, "--output")
    with tempfile.TemporaryDirectory() as folder:
        benches = [
            _prepared(plan, request, Path(folder) / request.model) for request in plan.requests
        ]
        runs: list[Measured] = []
        lengths: list[float] = []
        page = ""
        while has_room(plan, time.monotonic() - start, lengths):
            before = time.monotonic()
            for bench in benches:
                for arm in plan.arms:
                    runs.append(bench.measure(arm, len(lengths)))
                    print(_line(runs[-1]), flush=True)
            lengths.append(time.monotonic() - before)
            page = _write(plan.output, benches, runs)
    return page


def has_room(plan: Plan, passed: float, lengths: Sequence[float]) -> bool:
    """Whether another round is to begin.

    Args:
        plan: says how many.
        passed: seconds since the start.
        lengths: seconds that each of the rounds took so far.
    """
    if not lengths:
        return True
    if plan.rounds is not None and len(lengths) >= plan.rounds:
        return False
    return plan.minutes is None or passed + max(lengths) <= 60 * plan.minutes


def _prepared(plan: Plan, request: Request, folder: Path) -> Bench:
    folder.mkdir()
    print(f"{request.model}: preparing", flush=True)
    path = folder / "request.json"
    request.write(path)
    run_module("scripts.benchmarking.preparation", str(path), str(folder))
    bench = Bench(read_job(folder / "job.json"), folder, plan.seconds)
    if "b" in plan.arms:
        bench.find_workers(plan.trial_images)
    return bench


def _line(run: Measured) -> str:
    return (
        f"round {run.round + 1}, {run.model}, ({run.arm}) {ARMS[run.arm]}: {run.rate:,.1f} images/s, "
        f"{run.steady.passes:,} in {run.steady.seconds:.1f} s; whole process {run.whole_seconds:.1f} s"
    )


def _write(output: Path, benches: Sequence[Bench], runs: Sequence[Measured]) -> str:
    summary = summarise(runs)
    page = write_page("Benchmark", summary, benches, runs)
    write_csv(summary, output / "benchmark.csv")
    write_text(output / "benchmark.md", page)
    return page
