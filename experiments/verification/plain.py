"""Outcomes of plain images, computed again."""

from collections.abc import Callable, Iterator

import pandas as pd

from experiments.verification.comparing import Shown, counts_again, incomplete, outcomes_again
from experiments.verification.stored import StoredRun, classifier_of, engine_of, listed_images
from pixelrobust.datasets.decoded import ImageSet
from pixelrobust.outcomes import CELL_COLUMNS


def verify_outcomes(run: StoredRun, images: ImageSet) -> Iterator[pd.DataFrame]:
    """A share of each model's outcomes in each cell, found again; columns `comparing.COLUMNS`."""
    count, draws = len(run.outcomes["image"].cat.categories), run.manifest.draws
    for _, stored in run.outcomes.groupby("model", observed=True):
        yield incomplete(stored, (), count, draws)
    yield from _verify_rows(run, images, run.outcomes, outcomes_again)


def verify_counts(run: StoredRun, images: ImageSet) -> Iterator[pd.DataFrame]:
    """The same for the counts of an adaptive evaluation."""
    drawn = run.outcomes[run.outcomes["draws"] > 0]
    yield from _verify_rows(run, images, drawn, counts_again)


def _verify_rows(
    run: StoredRun,
    images: ImageSet,
    rows: pd.DataFrame,
    find_again: Callable[[Shown, pd.DataFrame], pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    chosen = listed_images(run, images)
    for model, stored in rows.groupby("model", observed=True):
        engine = engine_of(run, str(model), classifier_of(run, str(model)).module, chosen.pixels)
        sample = run.sample_of_cells(stored)
        with run.task(str(model), count_outcomes(sample)) as advance:
            task = chosen.task(engine, str(model))
            shown = Shown(task, None, run.seed, run.manifest.draws, advance)
            for _, cell in sample.groupby(CELL_COLUMNS, dropna=False):
                yield find_again(shown, cell)


def count_outcomes(rows: pd.DataFrame) -> int:
    """How many outcomes rows stand for."""
    return int(rows["draws"].sum()) if "draws" in rows else len(rows)
