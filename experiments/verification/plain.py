"""Outcomes of plain images, computed again."""

from collections.abc import Iterator

import pandas as pd

from experiments.verification.comparing import Shown, incomplete, outcomes_again
from experiments.verification.stored import StoredRun, classifier_of, engine_of, listed_images
from pixelrobust.datasets.decoded import ImageSet
from pixelrobust.outcomes.kinds import CELL_COLUMNS


def verify_outcomes(run: StoredRun, images: ImageSet) -> Iterator[pd.DataFrame]:
    """A share of each model's outcomes in each cell, found again; columns `comparing.COLUMNS`."""
    count, draws = len(run.outcomes["image"].cat.categories), run.manifest.draws
    for _, stored in run.outcomes.groupby("model", observed=True):
        yield incomplete(stored, (), count, draws)
    chosen = listed_images(run, images)
    for model, stored in run.outcomes.groupby("model", observed=True):
        engine = engine_of(run, str(model), classifier_of(run, str(model)).module, chosen.pixels)
        sample = run.sample_of_cells(stored)
        with run.task(str(model), len(sample)) as advance:
            task = chosen.task(engine, str(model))
            shown = Shown(task, None, run.seed, run.manifest.draws, advance)
            for _, cell in sample.groupby(CELL_COLUMNS, dropna=False):
                yield outcomes_again(shown, cell)
