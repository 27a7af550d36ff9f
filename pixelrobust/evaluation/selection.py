"""Selecting the images that every model classifies correctly before any change."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelrobust.datasets.decoded import Advance, ImageSet, PixelRows
from pixelrobust.datasets.lists import sample
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.engine import Engine, predict_all
from pixelrobust.errors import InputError
from pixelrobust.files import replacing
from pixelrobust.models.build import Classifier
from pixelrobust.settings import fingerprint

# Sets of images that are harder than ImageNet's own cost networks up to a fifth of their accuracy
# (Recht et al. 2019: 11 to 14 points); wrong channels, normalisation or labels cost more.
_FAR_BELOW = 0.8


@dataclass(frozen=True)
class Selection:
    """The chosen images of a run, and how they came to be chosen.

    Attributes:
        indices: (M,) ascending positions in the image set.
        candidates: how many images were looked at.
        survivors: how many of them every model classified correctly, before any limit.
        rejected: for each model, how many candidates it misclassified.
        image_list_sha256: digest of keys, labels and pixels of the chosen images.
        unreadable: keys of files that were left out, since they cannot be read.
        files: how many files there are, those among them.
        repeated: how many of the chosen images show the very pixels of another of them.
    """

    indices: NDArray[np.int64]
    candidates: int
    survivors: int
    rejected: dict[str, int]
    image_list_sha256: str
    unreadable: tuple[str, ...]
    files: int
    repeated: int


def select(
    images: ImageSet, predictions: Mapping[str, NDArray[np.int64]], limit: int | None, seed: int
) -> Selection:
    """Keep the images that all models get right, then a seeded sample of at most `limit`.

    Args:
        images: the candidates.
        predictions: for each model, (N,) its predictions for the unchanged images.
        limit: at most so many images; None: no limit.
        seed: decides the sample.

    Raises:
        InputError: no image is left.
    """
    correct = {model: predicted == images.labels for model, predicted in predictions.items()}
    rejected = {model: int((~right).sum()) for model, right in correct.items()}
    survivors = np.flatnonzero(np.logical_and.reduce(list(correct.values())))
    if not len(survivors):
        counts = ", ".join(f"{model} rejects {count}" for model, count in rejected.items())
        raise InputError(
            f"no image is left: none of the {len(images)} is classified correctly by every model "
            f"({counts}); check that labels fit the models' outputs (dataset.classes), or name fewer "
            "models in selection.models."
        )
    chosen = sample([images.keys[i] for i in survivors], limit, seed)
    indices = survivors[chosen]
    return Selection(
        indices=indices,
        candidates=len(images),
        survivors=len(survivors),
        rejected=rejected,
        image_list_sha256=image_list_digest(images, indices.tolist()),
        unreadable=tuple(images.unreadable),
        files=len(images) + len(images.unreadable),
        repeated=len(indices) - len({images.digests[index] for index in indices}),
    )


def low_accuracy(right: int, images: int, classes: int, published: float | None) -> str | None:
    """Say that a network gets suspiciously few unchanged images right, and why that may be.

    Args:
        right: how many it classifies correctly, before any selection.
        images: of so many, 1 or more.
        classes: how many it can choose from.
        published: share that it should get right; None where that is not known.

    Returns:
        The end of a sentence; None where the 95 % interval (Wilson 1927) lies above chance, and reaches
        four fifths of the published accuracy.
    """
    # Brings SciPy, which not all processes need.
    from pixelrobust.statistics.rates import wilson_interval

    interval = wilson_interval(right / images, images)
    if interval.low <= 1 / classes:
        fault = f"no more than chance would ({100 / classes:.3g} %)"
    elif published is not None and interval.high < _FAR_BELOW * published:
        fault = f"far fewer than was published ({published:.1%})"
    else:
        return None
    return (
        f"gets {right:,} of {images:,} unchanged images right, {fault}: look at its normalisation "
        "(mean, std, the order of colours), at the order of its outputs (labels, dataset.classes), and "
        "at the size of images (dataset.preprocessing)"
    )


def image_list_digest(images: ImageSet, indices: Sequence[int]) -> str:
    """Return a digest of keys, labels and pixels of the images at these positions."""
    return fingerprint(
        [(images.keys[i], int(images.labels[i]), images.digests[i]) for i in indices]
    )


def clean_predictions(
    classifier: Classifier,
    engine: Engine,
    images: ImageSet,
    rows: NDArray[np.int64],
    cache: Path,
    advance: Advance,
    context: Context = SINGLE,
) -> NDArray[np.int64]:
    """Predict the unchanged images at M positions, or read that from the cache where it is known.

    An entry is keyed by weights, network, images, engine, precision, batch size and versions. Of
    several processes the first one reads and writes; all predict their share.
    """
    identity = (
        classifier.name,
        classifier.weights_sha256,
        [images.digests[row] for row in rows],
        engine.version,
        engine.precision,
        str(engine.device),
        engine.batch_size,
    )
    path = cache / "clean" / f"{fingerprint(*identity)[:32]}.npz"
    known = context.broadcast(_read(path, len(rows)) if context.is_main else None)
    if known is not None:
        return known
    predicted = predict_together(engine, PixelRows(images.pixels, rows), advance, context)
    if (predicted < 0).any():
        raise InputError(
            f"model {classifier.name} gives NaN or infinite logits for unchanged images; "
            "check its weights and normalisation."
        )
    if context.is_main:
        with replacing(path) as temporary:
            np.savez(temporary, classes=predicted)
    return predicted


def predict_together(
    engine: Engine, pixels: PixelRows, advance: Advance, context: Context
) -> NDArray[np.int64]:
    """Predict the classes of (N, C, H, W) images, N at least 1, each process its share of them."""

    def predicted(part: slice) -> NDArray[np.int64]:
        return predict_all(engine, pixels.take(np.arange(len(pixels))[part]), advance)

    return np.concatenate(context.share(len(pixels), engine.batch_size, predicted))


def _read(path: Path, count: int) -> NDArray[np.int64] | None:
    """Read the predictions for so many images from a cache entry; None where there is no sound one."""
    try:
        with np.load(path, allow_pickle=False) as known:
            predicted: NDArray[np.int64] = known["classes"]
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None
    return predicted if predicted.shape == (count,) else None
