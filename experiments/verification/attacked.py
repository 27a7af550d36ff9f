"""Outcomes of attacked images, computed again."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from experiments.measures import attack_of
from experiments.present import Run
from experiments.verification.comparing import Shown, found, incomplete, outcomes_again
from experiments.verification.remaking import (
    Attacked,
    ends_elsewhere,
    labels_of,
    remake,
    versions_of,
)
from experiments.verification.stored import StoredRun, all_images, classifier_of, engine_of
from pixelrobust.attacks import MINIMAL
from pixelrobust.datasets.decoded import Advance, ImageSet
from pixelrobust.errors import InputError
from pixelrobust.outcomes.kinds import CELL_COLUMNS


def verify_attacked(
    run: StoredRun, images: ImageSet, others: Mapping[str, Run]
) -> Iterator[pd.DataFrame]:
    """All outcomes of a share of each model's images at each epsilon; columns `comparing.COLUMNS`."""
    chosen = all_images(run, images, others)
    attack = attack_of(run.as_it_was("attack").settings)
    for model, stored in run.outcomes.groupby("model", observed=True):
        yield incomplete(stored, ("epsilon", "rounded"), None, run.manifest.draws)
        module = classifier_of(run, str(model)).module
        engine = engine_of(run, str(model), module, chosen.pixels, as_eager=True)
        task = chosen.task(engine, str(model))
        samples = {
            str(epsilon): run.sample_of_images(rows)
            for epsilon, rows in stored.groupby("epsilon", sort=False)
        }
        with run.task(str(model), sum(map(len, samples.values()))) as advance:
            for text, rows in samples.items():
                attacked = Attacked(task, module, attack, size_of(text), run.seed)
                yield from _verify_epsilon(run, attacked, rows, f"epsilon {text}", advance)


def size_of(epsilon: str) -> float | str:
    """An epsilon of stored rows as the attack takes it: "minimal", or a number of 255ths."""
    try:
        return MINIMAL if epsilon == MINIMAL else float(epsilon)
    except ValueError:
        raise InputError(f"{epsilon!r} is stored as an epsilon, which it is not.") from None


def check_keys(run: StoredRun, stored: pd.DataFrame, attacked: Sequence[str]) -> None:
    """Raise InputError where rows are of an image that was not among those attacked."""
    strangers = sorted(set(stored["image"].astype(str)) - set(attacked))
    if strangers:
        raise InputError(
            f"{run.manifest.name} holds outcomes of {strangers[0]!r}, which was not attacked."
        )


def _verify_epsilon(
    run: StoredRun, attacked: Attacked, stored: pd.DataFrame, words: str, advance: Advance
) -> Iterator[pd.DataFrame]:
    """Outcomes of some images that one network was attacked with at one epsilon."""
    keys = stored["image"].astype(str)
    check_keys(run, stored, attacked.task.keys)
    made = remake(attacked, set(keys))
    elsewhere = ends_elsewhere(attacked, stored, made, words)
    yield elsewhere
    same = stored[~keys.isin(elsewhere["image"])]
    if not len(same):
        return
    kept = {key: made[key] for key in dict.fromkeys(same["image"].astype(str))}
    yield _of_other_classes(same, words)
    for rounded, pixels in versions_of(kept).items():
        own = same[same["rounded"] == rounded]
        task = attacked.task._replace(images=pixels, keys=list(kept), labels=labels_of(kept))
        shown = Shown(task, None, run.seed, run.manifest.draws, advance)
        prefix = f"{words}, {'rounded, ' if rounded else ''}"
        for _, cell in own.groupby(CELL_COLUMNS, dropna=False):
            yield outcomes_again(shown, cell, prefix)


def _of_other_classes(stored: pd.DataFrame, words: str) -> pd.DataFrame:
    """Rows whose adversarial class is not what the attacked image was taken for."""
    attacked = stored[(stored["num"] == 0) & ~stored["rounded"]].drop_duplicates("image")
    taken_for = dict(zip(attacked["image"].astype(str), attacked["prediction"], strict=True))
    expected = stored["image"].astype(str).map(taken_for)
    rows = stored[stored["adversarial"] != expected]
    return found(
        rows,
        [f"{words}, adversarial"] * len(rows),
        [f"class {one}" for one in rows["adversarial"]],
        [f"class {one:.0f}" for one in expected[rows.index]],
        "adversarial",
        outcomes=0,
    )
