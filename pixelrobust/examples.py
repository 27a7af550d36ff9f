"""Examples: which images to show, and what to show of them."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.datasets.classes import ClassNames
from pixelrobust.errors import InputError
from pixelrobust.figures_strip import Strip
from pixelrobust.survival import pixels_to_flip


def flipping_examples(outcomes: pd.DataFrame, count: int, draw: int = 0) -> list[str]:
    """Images that flip at the fewest changed pixels: the most fragile, by no means typical ones.

    Args:
        outcomes: columns `outcomes.COLUMNS`, of one amplitude and area.
        count: how many, 1 or more.
        draw: which draw.

    Returns:
        At most `count` image keys, by the smallest num at which any model flips, then by how many
        models flip at all, most first, then by their order in the outcomes. Images that never flip
        come last. A model that is wrong about the unchanged image has nothing to flip.

    Raises:
        InputError: count is below 1, several amplitudes or areas, or nothing of that draw above
            num 0.
    """
    if count < 1:
        raise InputError(f"count={count} examples are too few; give 1 or more.")
    flips = _without_wrong_controls(pixels_to_flip(outcomes, draw), outcomes)
    # Keys as plain strings, since categories carry an order of their own.
    flips["image"] = flips["image"].astype(object)
    flipped = flips[flips["flipped"]].groupby("image", sort=False)["num"]
    ranking = pd.DataFrame({"num": flipped.min(), "models": -flipped.size()})
    every = list(dict.fromkeys(flips["image"]))
    # A stable sort keeps the images' order among ties, and puts missing nums last.
    ranked = ranking.reindex(every).sort_values(["num", "models"], kind="stable")
    return [str(key) for key in ranked.index[:count]]


def strips_from_outcomes(
    outcomes: pd.DataFrame,
    keys: Sequence[str],
    changed: Callable[[str, int], NDArray[np.uint8]],
    class_names: ClassNames,
    draw: int = 0,
) -> list[Strip]:
    """A strip for each of some images, of all nums and models of the outcomes.

    Args:
        outcomes: columns `outcomes.COLUMNS`, of one amplitude and area, with num 0.
        keys: the images.
        changed: image key, num -> uint8 (C, H, W), the image as it was evaluated in that draw.
        class_names: for each class, the names it goes by; the first is shown, with the class's
            index where several classes share it.
        draw: which draw; the unchanged image has one only.

    Raises:
        InputError: an outcome of an image, model and num is missing or there several times, or a
            class has no name.
    """
    rows = outcomes[(outcomes["num"] == 0) | (outcomes["draw"] == draw)]
    rows = rows[rows["image"].isin(list(keys))].astype({"model": object, "image": object})
    if rows.duplicated(["model", "image", "num"]).any():
        raise InputError(
            "Strips need outcomes of one amplitude and area; these hold several for one image and "
            "num. Filter them first."
        )
    words = _words(class_names)
    if len(rows) and not rows[["label", "prediction"]].isin(range(len(words))).all(axis=None):
        raise InputError(
            f"The outcomes hold classes beyond the {len(words)} class names; give the names of the "
            "evaluated models' classes."
        )
    nums = tuple(sorted(int(num) for num in rows["num"].unique()))
    models = list(rows["model"].unique())
    return [_strip(rows[rows["image"] == key], key, nums, models, changed, words) for key in keys]


def _without_wrong_controls(flips: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    control = outcomes[(outcomes["num"] == 0) & outcomes["wrong"]]
    wrong = set(zip(control["model"], control["image"], strict=True))
    pairs = zip(flips["model"], flips["image"], strict=True)
    had_to_flip = np.array([pair not in wrong for pair in pairs], dtype=bool)
    return flips.assign(flipped=flips["flipped"] & had_to_flip)


def _words(class_names: ClassNames) -> list[str]:
    """One name for each class, and no name for two: ImageNet has two kinds of crane."""
    first = [names[0] for names in class_names]
    shared = Counter(first)
    return [f"{name} ({index})" if shared[name] > 1 else name for index, name in enumerate(first)]


def _strip(
    rows: pd.DataFrame,
    key: str,
    nums: tuple[int, ...],
    models: list[str],
    changed: Callable[[str, int], NDArray[np.uint8]],
    words: list[str],
) -> Strip:
    """The strip of one image from its rows."""
    predictions = rows.pivot_table(index="model", columns="num", values="prediction", sort=False)
    table = predictions.reindex(index=models, columns=nums)
    if rows.empty or table.isna().to_numpy().any():
        raise InputError(
            f"The outcomes lack image {key!r} for some model or num; choose images that all models "
            "were evaluated on."
        )
    return Strip(
        key,
        words[int(rows["label"].iloc[0])],
        nums,
        np.stack([changed(key, num) for num in nums]),
        {
            model: tuple(words[index] for index in predicted)
            for model, predicted in zip(models, table.to_numpy(dtype=np.int64), strict=True)
        },
    )
