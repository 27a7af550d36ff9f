"""From any torch data set to what `evaluate` takes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from pixelrobust import InputError, collect, evaluate
from pixelrobust.datasets.decoded import decode
from pixelrobust.settings import PreprocessingSettings
from tests.datasets.cases import noise
from tests.fault_cases import folder_of, picture


def test_pil_images_are_cropped_as_those_of_the_command_line(tmp_path):
    root = folder_of(tmp_path / "images", "a/1.png", "b/2.png")
    images, labels, keys = collect(ImageFolder(root), resize=20, crop=16, interpolation="bicubic")
    own = PreprocessingSettings(resize=20, crop=16, interpolation="bicubic")
    expected = [decode(root / name, own) for name in ("a/1.png", "b/2.png")]
    np.testing.assert_array_equal(images.numpy(), np.stack(expected))
    assert (images.dtype, labels.tolist(), keys) == (torch.uint8, [0, 1], ["0", "1"])


def test_without_a_size_images_stay_as_they_are():
    grey = picture(2).convert("L")
    images, _, _ = collect([(picture(0), 0), (picture(1), 1), (grey, 2)])
    assert images.shape == (3, 3, 40, 48)
    np.testing.assert_array_equal(images[1].permute(1, 2, 0), np.array(picture(1)))
    np.testing.assert_array_equal(images[2], np.stack([np.array(grey)] * 3))


SHAPES = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)


@settings(deadline=None)
@given(SHAPES)
def test_arrays_may_have_their_channels_anywhere_if_only_one_place_fits(shape):
    values = noise(*shape)
    fitting = [values] if len(shape) == 2 else []
    if len(shape) == 3:
        fitting += [values.transpose(1, 2, 0)] if shape[0] in (1, 3) else []
        fitting += [values] if shape[2] in (1, 3) else []
    if len(fitting) == 1 and values.size:
        images, _, _ = collect([(values, 0)])
        last = fitting[0].reshape(*fitting[0].shape[:2], -1)
        np.testing.assert_array_equal(
            images[0].permute(1, 2, 0), np.broadcast_to(last, (*last.shape[:2], 3))
        )
    else:
        with pytest.raises(InputError, match=r"item 0 is an array of shape \("):
            collect([(values, 0)])


def test_tensors_stay_as_they_are(tmp_path):
    values = torch.rand(4, 3, 8, 8)
    images, labels, _ = collect(TensorDataset(values, torch.tensor([3, 2, 1, 0])))
    assert torch.equal(images, values)
    assert labels.tolist() == [3, 2, 1, 0]
    folder = folder_of(tmp_path / "images", "a/1.png")
    floats = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    images, _, _ = collect(ImageFolder(folder, floats))
    np.testing.assert_array_equal((images[0] * 255).round().permute(1, 2, 0), np.array(picture(0)))


class Stream(IterableDataset):
    def __iter__(self):
        return ((picture(number), np.int64(number)) for number in range(3))


def test_streams_and_subsets_are_gone_through():
    images, labels, _ = collect(Stream())
    assert (len(images), labels.tolist()) == (3, [0, 1, 2])
    pairs = [(picture(number), number) for number in range(5)]
    assert collect(Subset(pairs, [4, 2])).labels.tolist() == [4, 2]


def test_keys_tie_changes_to_images_in_any_order():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 40 * 48, 50)).eval()
    pairs = [(picture(number), 0) for number in range(4)]

    def predicted(order: list[int]) -> dict[tuple[str, int], int]:
        items = collect([pairs[index] for index in order], keys=[f"k{index}" for index in order])
        rows = evaluate(model, items.images, items.labels, keys=items.keys, num=[4, 64], draws=5)
        index = zip(rows["image"], rows["num"], rows["draw"], strict=True)
        return dict(zip(index, rows["prediction"], strict=True))

    assert predicted([0, 1, 2, 3]) == predicted([2, 0, 3, 1])


class Endless:
    """Never ends an iteration, as data sets of torch need not."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return picture(0), 0


def test_an_iteration_that_never_ends_is_not_waited_for():
    assert len(collect(Endless()).labels) == 2


BATCHES = DataLoader(TensorDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4)))
PAIRS = [(picture(0), 0), (picture(1), 0)]
FLOATS, BYTES = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nothing": ([], {}, "there is no item"),
    "a number": (5, {}, "items of type int cannot be gone through"),
    "no labels": ([picture(0)], {}, r"item 0 is of type Image; give pairs \(image, label\)"),
    "a DataLoader": (BATCHES, {}, "item 0 holds a tensor of shape .*not a DataLoader"),
    "two sizes": ([(picture(0), 0), (picture(1, 20, 20), 0)], {}, "item 1 is .*but item 0"),
    "two kinds": ([(FLOATS, 0), (BYTES, 0)], {}, "item 1 is uint8 .*but item 0 float32"),
    "tensors to be resized": ([(FLOATS, 0)], {"resize": 8, "crop": 8}, "taken as they are"),
    "a crop without a size": ([(picture(0), 0)], {"crop": 8}, "resize"),
    "floating point": ([(np.zeros((8, 8, 3)), 0)], {}, "array of float64, whose range is not stated"),
    "a 16-bit image": ([(Image.new("I;16", (8, 8)), 0)], {}, "more than 8 bits"),
    "a text": ([("a.png", 0)], {}, "image of type str; give a PIL image"),
    "a name as a label": ([(picture(0), "cat")], {}, "item 0 has label 'cat'"),
    "a label of -1": ([(picture(0), -1)], {}, "item 0 has label -1; give 0 or more"),
    "a key too few": (PAIRS, {"keys": ["a"]}, "2 images came with 1 keys"),
    "a key twice": (PAIRS, {"keys": ["a", "a"]}, "keys are there twice"),
}  # fmt: skip


@pytest.mark.parametrize(("items", "arguments", "fault"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_data_set_is_not_collected(items, arguments, fault):
    with pytest.raises(InputError, match=fault):
        collect(items, **arguments)
