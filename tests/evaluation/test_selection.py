"""The images that take part, and the predictions for them before any change."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pixelrobust import InputError
from pixelrobust.datasets.decoded import ImageSet
from pixelrobust.engine import EagerEngine
from pixelrobust.evaluation.selection import clean_predictions, low_accuracy, select
from pixelrobust.models.build import Classifier


def image_set(labels: list[int]) -> ImageSet:
    pixels = np.zeros((len(labels), 3, 4, 4), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(len(labels))
    keys, digests = (
        tuple(f"{word}{index}" for index in range(len(labels))) for word in ("image", "digest")
    )
    return ImageSet(pixels, keys, np.array(labels), digests)


def test_only_images_that_all_models_get_right() -> None:
    predictions = {"a": np.array([0, 1, 9, 3]), "b": np.array([0, 9, 9, 3])}
    selection = select(image_set([0, 1, 2, 3]), predictions, limit=None, seed=0)
    assert selection.indices.tolist() == [0, 3]
    assert (selection.candidates, selection.survivors) == (4, 2)
    assert selection.rejected == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("right", "images", "classes", "published", "words"),
    [
        (0, 20, 1000, 0.7, "0 of 20 unchanged images right, no more than chance would (0.1 %)"),
        (6, 20, 5, None, "no more than chance would (20 %)"),
        # Wilson's interval of 10 of 20 is 30 to 70 %: above chance.
        (10, 20, 5, None, None),
        # That of 420 of 1,000 is 39 to 45 %, and four fifths of what was published are 46.5 %.
        (420, 1000, 1000, 0.58178, "far fewer than was published (58.2%)"),
        (440, 1000, 1000, 0.58178, None),
        (420, 1000, 1000, None, None),
    ],
)
def test_a_network_that_is_right_too_seldom_is_told_with_the_usual_causes(
    right: int, images: int, classes: int, published: float | None, words: str | None
) -> None:
    told = low_accuracy(right, images, classes, published)
    if words is None:
        assert told is None
    else:
        assert told
        assert words in told
        for cause in ("normalisation", "order of its outputs", "size of images"):
            assert cause in told


def test_a_limit_takes_a_seeded_sample() -> None:
    right = {"a": np.zeros(200, dtype=np.int64)}
    chosen = [select(image_set([0] * 200), right, limit=20, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (one.indices.tolist() for one in chosen)
    assert len(first) == 20
    assert first == again == sorted(first)
    assert first != other
    assert chosen[0].survivors == 200


def test_the_digest_stands_for_names_labels_and_pixels() -> None:
    images = image_set([0, 1])
    others = [
        replace(images, keys=("x", "image1")),
        replace(images, digests=("x", "digest1")),
        image_set([1, 1]),
    ]

    def digest(one: ImageSet, seed: int = 0) -> str:
        return select(one, {"a": one.labels}, None, seed).image_list_sha256

    assert digest(image_set([0, 1]), seed=7) == digest(images)
    assert len({digest(images), *map(digest, others)}) == 4


def test_no_image_left_says_which_model_rejected_how_many() -> None:
    predictions = {"a": np.array([0, 0, 1]), "b": np.array([9, 9, 9])}
    with pytest.raises(InputError, match=r"none of the 3 .*a rejects 1, b rejects 3"):
        select(image_set([0, 0, 0]), predictions, None, 0)


class Corner(nn.Module):
    """Predicts the value of the first pixel, and counts its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches += 1
        return nn.functional.one_hot((images[:, 0, 0, 0] * 255).round().long(), 10).float()


def test_clean_predictions_are_made_once(tmp_path: Path) -> None:
    module, images, done = Corner(), image_set([0] * 7), list[int]()
    engine = EagerEngine(module, torch.device("cpu"), 3)

    def predicted(rows: slice, weights: str = "digest") -> list[int]:
        classifier, some = Classifier("corner", module, weights), np.arange(7)[rows]
        return clean_predictions(classifier, engine, images, some, tmp_path, done.append).tolist()

    every = slice(7)
    assert predicted(every) == list(range(7))
    assert (module.batches, sum(done)) == (3, 7)
    assert predicted(every) == list(range(7))
    assert module.batches == 3
    predicted(every, "other weights")
    assert module.batches == 6
    assert predicted(slice(2, 4)) == [2, 3]
    # A damaged entry is made again.
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:99])
    assert predicted(every) == list(range(7))
