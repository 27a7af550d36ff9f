"""The four arms, each run in a process of its own and measured from outside."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from experiments.config import quoted
from pixelrobust.manifest import Manifest, read_manifest
from scripts.benchmarking.processes import Ended, run_module
from scripts.benchmarking.records import Job, Measured, Steady, read_steady

ARMS = {
    "a": "afternoon script",
    "b": "competent script",
    "c": "pixelrobust",
    "d": "forward passes alone",
}
"""What the arms are called."""


@dataclass
class Bench:
    """A job with what its arms leave for each other.

    Attributes:
        job: the network and the images.
        folder: where the job is written, and files of a moment lie.
        seconds: of forward passes that a run of arms a, b and d has at least, unless arms a and b
            are through with the grid before.
        workers: that arm b decodes with.
        manifests: of the runs of arm c.
    """

    job: Job
    folder: Path
    seconds: float
    workers: int = 0
    manifests: list[Manifest] = field(default_factory=list)

    def measure(self, arm: str, number: int) -> Measured:
        """Run an arm, as part of the round of this number; d after c, whose engine it runs.

        Raises:
            InputError: it failed.
        """
        runs = {"a": self._run_a, "b": self._run_b, "c": self._run_c, "d": self._run_d}
        ended, steady = runs[arm]()
        return Measured(self.job.label, arm, number, steady, ended.seconds, ended.peak_bytes)

    def find_workers(self, images: int) -> None:
        """Try which number of workers suits arm b, on so many images."""
        self.workers = int(self._run("competent", str(images)).printed)

    def _run(self, module: str, *arguments: str) -> Ended:
        job = str(self.folder / "job.json")
        return run_module(f"scripts.benchmarking.{module}", job, *arguments)

    def _run_a(self) -> tuple[Ended, Steady]:
        ended = self._run("afternoon", str(self.seconds))
        return ended, read_steady(ended.printed)

    def _run_b(self) -> tuple[Ended, Steady]:
        ended = self._run("competent", str(self.seconds), str(self.workers))
        return ended, read_steady(ended.printed)

    def _run_c(self) -> tuple[Ended, Steady]:
        """As a user runs it who never did before: nothing is in its cache."""
        fresh = self.folder / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        paths = [f"paths.{key}={quoted(fresh / key)}" for key in ("results", "cache")]
        ended = run_module("experiments.run", *self.job.keys, f"draws={self.job.draws}", *paths)
        (path,) = fresh.glob("results/*/outcomes/*.json")
        self.manifests.append(read_manifest(path))
        return ended, steady_of(self.manifests[-1], self.job.label)

    def _run_d(self) -> tuple[Ended, Steady]:
        engine = self.manifests[-1].engines[self.job.label]
        keys = [f"engine.{key}={engine[key]}" for key in ("name", "precision", "batch_size")]
        ended = self._run("bare", str(self.seconds), *keys)
        return ended, read_steady(ended.printed)


def steady_of(manifest: Manifest, label: str) -> Steady:
    """The evaluation of a network, in a run of this software.

    The unchanged images cost nothing in it: their predictions are known from the selection.
    """
    grid, engine = manifest.config["perturbation"], manifest.engines[label]
    cells = len(grid["num"]) * len(grid["amplitude"]) * len(grid["area"])
    return Steady(
        passes=cells * manifest.images * manifest.draws,
        seconds=manifest.seconds[f"evaluation of {label}"],
        engine=engine["name"],
        precision=engine["precision"],
        batch_size=engine["batch_size"],
    )
