"""Whether adaptive evaluation keeps what it promises, by simulation on a stored census.

    python -m scripts.adaptive_coverage
    python -m scripts.adaptive_coverage --take --images /data/imagenet/val --weights FILE

The census holds margins of many draws of every image in every cell; a simulated draw is one of them,
with replacement, so the truth is known. Writes adaptive.csv and adaptive.md beside it; --take makes
the census itself, of SqueezeNet 1.1, from a folder laid out as the ILSVRC's.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.exits import REPOSITORY, exit_code
from pixelrobust.adaptive.estimate import summarize_adaptive
from pixelrobust.adaptive.rounds import evaluate_adaptively
from pixelrobust.answers import Answers
from pixelrobust.errors import InputError
from pixelrobust.files import replacing
from pixelrobust.grid import Cell
from pixelrobust.tables import percent, write_csv, write_markdown

CENSUS = REPOSITORY / "results" / "imagenet-samples" / "census.parquet"
NUMS = (4, 8, 16, 32, 64)
"""Cells of the census; 0 holds the clean margins."""
_MODEL = "squeezenet1_1"
_CENSUS_DRAWS = 40
_SIMULATED_DRAWS = 20


class Census:
    """Margins by num, (N, draws) each; (N, 1) of the unchanged images.

    Args:
        path: Parquet of columns num, image (0..N-1), draw, margin.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"there is no census {path}; make one with --take.")
        rows = pd.read_parquet(path).sort_values(["num", "image", "draw"])
        self._margins: dict[int, NDArray[np.float32]] = {
            int(num): part["margin"].to_numpy().reshape(part["image"].nunique(), -1)
            for num, part in rows.groupby("num")
        }

    @property
    def clean(self) -> NDArray[np.float32]:
        """(N,)"""
        return self._margins[0][:, 0]

    def rates(self, num: int) -> NDArray[np.float64]:
        """(N,) share of wrong draws."""
        return np.asarray((self._margins[num] < 0).mean(axis=1))

    def answers(self, num: int, image: NDArray[np.int64], rng: np.random.Generator) -> Answers:
        """Of one random draw for each position in image."""
        margins = self._margins[num]
        found = margins[image, rng.integers(0, margins.shape[1], len(image))]
        return Answers((found < 0).astype(np.int64), found)


def simulate(path: Path, nums: Sequence[int], seeds: range) -> pd.DataFrame:
    """An adaptive evaluation for each seed: rows of `summarize_adaptive`."""
    census = Census(path)
    count = len(census.clean)
    parts = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 1])

        def ask(
            cell: Cell,
            image: NDArray[np.int64],
            draw: NDArray[np.int64],
            rng: np.random.Generator = rng,
        ) -> Answers:
            return census.answers(cell.num, image, rng)

        rows = evaluate_adaptively(
            ask, np.zeros(count, dtype=np.int64), [str(row) for row in range(count)],
            census.clean, [Cell(num) for num in nums], _SIMULATED_DRAWS, seed, "model",
        )  # fmt: skip
        parts.append(summarize_adaptive(rows, _SIMULATED_DRAWS))
    return pd.concat(parts, ignore_index=True)


def judge(simulated: pd.DataFrame, census: Census) -> pd.DataFrame:
    """A row for each num.

    Returns:
        Columns num, simulations, wrong_rate (the truth), bias (in standard errors of the mean over
        simulations), variance_ratio (to that of the census of as many draws as were asked for),
        share_of_census (passes, as they were), share_at_equal_variance (their product, for variance
        goes with 1 / passes), coverage and missed_low, missed_high: intervals above, below the truth.
    """
    rows = []
    for num, own in simulated.groupby("num"):
        rates = census.rates(int(num))
        truth = float(rates.mean())
        census_variance = float((rates * (1 - rates)).sum()) / _SIMULATED_DRAWS / len(rates) ** 2
        errors = own["wrong_rate"] - truth
        variance = float((errors**2).mean())
        share = float(own["share_of_census"].mean())
        low, high = own["ci_low"] > truth, own["ci_high"] < truth
        rows.append(
            {
                "num": num,
                "simulations": len(own),
                "wrong_rate": truth,
                "bias": float(errors.mean()) / np.sqrt(variance / len(own)),
                "variance_ratio": variance / census_variance,
                "share_of_census": share,
                "share_at_equal_variance": share * variance / census_variance,
                "coverage": 1 - float((low | high).mean()),
                "missed_low": float(low.mean()),
                "missed_high": float(high.mean()),
            }
        )
    return pd.DataFrame(rows).round(4)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; the exit code."""
    given = _parser().parse_args(arguments)
    return exit_code(lambda: _simulate(given))


def _simulate(given: argparse.Namespace) -> int:
    if given.take:
        if given.images is None or given.weights is None:
            raise InputError("--take needs --images and --weights; give both.")
        take_census(given.census, given.images, given.weights)
    census = Census(given.census)
    shares = [range(start, given.simulations, given.processes) for start in range(given.processes)]
    with ProcessPoolExecutor(given.processes) as pool:
        jobs = [pool.submit(simulate, given.census, NUMS, share) for share in shares]
        simulated = pd.concat([job.result() for job in jobs], ignore_index=True)
    _write(judge(simulated, census), given.census.parent)
    return 0


def take_census(path: Path, images: Path, weights: Path) -> None:
    """Write the census.

    Args:
        path: where to.
        images: folder laid out as the ILSVRC's.
        weights: file of SqueezeNet 1.1.
    """
    # Imported late: simulations do without.
    from rich.console import Console

    from experiments.config import compose, quoted, read_settings
    from experiments.progress import Progress
    from experiments.records import RunRecord
    from experiments.resources import Session, get_engine, image_set, predictions_of
    from pixelrobust.datasets.decoded import PixelRows
    from pixelrobust.passes import Passes
    from pixelrobust.selection import select
    from pixelrobust.task import Task

    keys = [
        "experiment=table6",
        "dataset=imagenet",
        f"dataset.root={quoted(images)}",
        f"draws={_CENSUS_DRAWS}",
    ]
    keys += [
        f"model={_MODEL}",
        "selection.models=null",
        f"models.{_MODEL}.weights={quoted(weights)}",
    ]
    settings = read_settings(compose(*keys))
    progress = Progress(Console())
    record = RunRecord(settings, False, progress.say)
    session = Session(settings.on_device("auto"), progress, record, passes=10**6)
    every = image_set(session)
    known = predictions_of(session, _MODEL, every)
    rows = select(every, {_MODEL: known.classes}, None, settings.seed).indices
    clean = pd.DataFrame({"num": 0, "image": range(len(rows)), "draw": 0})
    parts = [clean.assign(margin=known.take(rows).margins)]
    image = np.tile(np.arange(len(rows)), _CENSUS_DRAWS)
    draw = np.arange(_CENSUS_DRAWS).repeat(len(rows))
    cells = [Cell(num) for num in NUMS]
    with session.progress.task("census", len(image) * len(cells)) as advance:
        task = Task(
            get_engine(session, _MODEL, every), PixelRows(every.pixels, rows),
            [every.keys[row] for row in rows], every.labels[rows], _MODEL,
        )  # fmt: skip
        passes = Passes(task, settings.seed, advance)
        for cell, answers in passes.answers(image, draw, cells).items():
            found = pd.DataFrame({"image": image, "draw": draw, "margin": answers.margins})
            parts.append(found.assign(num=cell.num))
    census = pd.concat(parts).astype({"num": "int32", "image": "int32", "draw": "int32"})
    with replacing(path) as temporary:
        census.to_parquet(temporary, index=False, compression="zstd")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.adaptive_coverage", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--simulations", type=int, default=2000, help="2000")
    add("--processes", type=int, default=2, help="2")
    add("--census", type=Path, default=CENSUS, help="Parquet file", metavar="FILE")
    add("--take", action="store_true", help="make the census first")
    add("--images", type=Path, help="for --take", metavar="FOLDER")
    add("--weights", type=Path, help="for --take: of SqueezeNet 1.1", metavar="FILE")
    return parser


def _write(judged: pd.DataFrame, folder: Path) -> None:
    """The findings as numbers and as a page."""
    write_csv(judged, folder / "adaptive.csv")
    readable = pd.DataFrame(
        {
            "Num": judged["num"].astype(str),
            "Wrong": [f"{percent(rate)} %" for rate in judged["wrong_rate"]],
            "Passes": [f"{100 * share:.0f} %" for share in judged["share_of_census"]],
            "Variance": judged["variance_ratio"].map("{:.2f}".format),
            "Passes at equal variance": [
                f"{100 * share:.0f} %" for share in judged["share_at_equal_variance"]
            ],
            "Bias / its standard error": judged["bias"].map("{:+.1f}".format),
            "Coverage of 95 % intervals": [f"{percent(share)} %" for share in judged["coverage"]],
        }
    )
    notes = [
        f"{judged['simulations'].min():,} simulated evaluations of squeezenet1_1 on the images of the "
        f"profile imagenet-samples that it classifies correctly, draws={_SIMULATED_DRAWS}, beside a "
        "census of as many draws: forward passes (the pilot's too), and variance of the wrong rate, "
        "relative to it. A simulated draw is one of a stored census of "
        f"{_CENSUS_DRAWS} draws, so the truth is known.",
    ]
    write_markdown(readable, "Adaptive evaluation", notes, folder / "adaptive.md")


if __name__ == "__main__":
    sys.exit(main())
