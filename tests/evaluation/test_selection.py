"""Which images take part."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pixelrobust import InputError
from pixelrobust.datasets.decoded import ImageSet
from pixelrobust.engine import EagerEngine
from pixelrobust.evaluation.selection import clean_predictions, select
from pixelrobust.models.build import Classifier


def image_set(labels: list[int]) -> ImageSet:
    pixels = np.zeros((len(labels), 3, 4, 4), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(len(labels))
    keys = tuple(f"image{index}" for index in range(len(labels)))
    digests = tuple(f"digest{index}" for index in range(len(labels)))
    return ImageSet(pixels, keys, np.array(labels), digests)


def test_only_images_that_all_models_get_right() -> None:
    images = image_set([0, 1, 2, 3])
    predictions = {"a": np.array([0, 1, 9, 3]), "b": np.array([0, 9, 9, 3])}
    selection = select(images, predictions, limit=None, seed=0)
    assert selection.indices.tolist() == [0, 3]
    assert (selection.candidates, selection.survivors) == (4, 2)
    assert selection.rejected == {"a": 1, "b": 2}


def test_a_limit_takes_a_seeded_sample() -> None:
    images = image_set([0] * 200)
    right = {"a": np.zeros(200, dtype=np.int64)}
    chosen = [select(images, right, limit=20, seed=seed).indices.tolist() for seed in (0, 0, 1)]
    assert len(chosen[0]) == 20
    assert chosen[0] == chosen[1] == sorted(chosen[0])
    assert chosen[0] != chosen[2]
    assert select(images, right, limit=20, seed=0).survivors == 200


def test_the_digest_stands_for_names_labels_and_pixels() -> None:
    right = {"a": np.array([0, 1])}
    images = image_set([0, 1])
    same = select(images, right, None, 0).image_list_sha256
    renamed = ImageSet(images.pixels, ("x", "image1"), images.labels, images.digests)
    repainted = ImageSet(images.pixels, images.keys, images.labels, ("x", "digest1"))
    assert select(image_set([0, 1]), right, None, 7).image_list_sha256 == same
    assert select(renamed, right, None, 0).image_list_sha256 != same
    assert select(repainted, right, None, 0).image_list_sha256 != same


def test_no_image_left_says_who_rejected_how_many() -> None:
    predictions = {"a": np.array([0, 0, 1]), "b": np.array([9, 9, 9])}
    with pytest.raises(InputError, match=r"none of the 3 .*a rejects 1, b rejects 3"):
        select(image_set([0, 0, 0]), predictions, None, 0)


class Corner(nn.Module):
    """Predicts the value of the first pixel, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        return nn.functional.one_hot((images[:, 0, 0, 0] * 255).round().long(), 10).float()


def test_clean_predictions_are_made_once(tmp_path: Path) -> None:
    module, images = Corner(), image_set([0] * 7)
    engine = EagerEngine(module, torch.device("cpu"), 3)
    classifier, done, every = Classifier("corner", module, "digest"), [], np.arange(7)
    first = clean_predictions(classifier, engine, images, every, tmp_path, done.append)
    assert first.classes.tolist() == list(range(7))
    assert first.margins.tolist() == [1.0] * 7
    assert (module.asked, sum(done)) == (3, 7)
    assert (
        clean_predictions(classifier, engine, images, every, tmp_path, done.append).classes.tolist()
        == first.classes.tolist()
    )
    assert module.asked == 3
    other = Classifier("corner", module, "other weights")
    clean_predictions(other, engine, images, every, tmp_path, done.append)
    assert module.asked == 6
    some = clean_predictions(classifier, engine, images, every[2:4], tmp_path, done.append)
    assert some.classes.tolist() == [2, 3]
