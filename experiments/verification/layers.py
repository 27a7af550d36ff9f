"""Activations' changes, measured again."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from experiments.verification.comparing import cell_in_words, found, numbers_again, positions
from experiments.verification.stored import StoredRun, classifier_of, engine_of, listed_images
from pixelrobust.datasets.decoded import ImageSet
from pixelrobust.evaluation.activations import MAX_NORM_MISMATCH, layer_changes
from pixelrobust.outcomes.kinds import CELL_COLUMNS
from pixelrobust.outcomes.rows import cell_of

_KEYS = ["image", "change", "layer"]


def verify_activations(run: StoredRun, images: ImageSet) -> Iterator[pd.DataFrame]:
    """All layers of a share of each model's images in each cell; columns `comparing.COLUMNS`."""
    chosen = listed_images(run, images)
    for model, stored in run.outcomes.groupby("model", observed=True):
        classifier = classifier_of(run, str(model))
        # Puts the network where it is to run, and says how many images fit.
        engine = engine_of(run, str(model), classifier.module, chosen.pixels, as_eager=True)
        samples = [
            run.sample_of_images(rows) for _, rows in stored.groupby(CELL_COLUMNS, dropna=False)
        ]
        with run.task(str(model), sum(rows["image"].nunique() for rows in samples)) as advance:
            for rows in samples:
                cell, keys = cell_of(rows), [str(key) for key in rows["image"].unique()]
                pixels = chosen.pixels[positions(chosen.keys, keys)]
                again = layer_changes(
                    classifier.module, pixels, keys, cell, seed=run.seed,
                    batch_size=engine.batch_size, advance=advance,
                )  # fmt: skip
                yield from _beside(rows, again, cell_in_words(cell))


def _beside(stored: pd.DataFrame, again: pd.DataFrame, words: str) -> Iterator[pd.DataFrame]:
    both = stored.astype(dict.fromkeys(_KEYS, str)).merge(
        again.astype(dict.fromkeys(_KEYS, str)), "left", _KEYS, suffixes=("", "_again")
    )
    which = [f"{words}, {row.change}, layer {row.layer}" for row in both.itertuples()]
    yield numbers_again(both, "relative_change", both["relative_change_again"].to_numpy(), which)
    mismatch = both["norm_mismatch"]
    wrong = ~np.isclose(
        mismatch, both["norm_mismatch_again"], rtol=0.1, atol=MAX_NORM_MISMATCH / 10
    )
    wrong |= both["matched"] != (mismatch.abs() < MAX_NORM_MISMATCH)
    rows = both[wrong]
    yield found(
        rows,
        [f"{words}, {row.change}, layer {row.layer}, norm" for row in rows.itertuples()],
        [f"{row.norm_mismatch:.3g}, matched {row.matched}" for row in rows.itertuples()],
        [
            f"{row.norm_mismatch_again:.3g}, matched {row.matched_again}"
            for row in rows.itertuples()
        ],
        "value",
        outcomes=0,
    )
