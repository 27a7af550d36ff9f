"""From any torch data set to what `evaluate` takes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from pixelrobust import collect, evaluate
from pixelrobust.datasets.decoded import decode
from pixelrobust.settings import PreprocessingSettings
from tests.data_cases import noise
from tests.fault_cases import folder_of, picture


def test_pil_images_are_cropped_as_those_of_the_command_line(tmp_path):
    root = folder_of(tmp_path / "images", "a/1.png", "b/2.png")
    images, labels, keys = collect(ImageFolder(root), resize=20, crop=16, interpolation="bicubic")
    settings = PreprocessingSettings(resize=20, crop=16, interpolation="bicubic")
    expected = [decode(root / name, settings) for name in ("a/1.png", "b/2.png")]
    np.testing.assert_array_equal(images.numpy(), np.stack(expected))
    assert (images.dtype, labels.tolist(), keys) == (torch.uint8, [0, 1], ["0", "1"])


def test_without_a_size_images_stay_as_they_are():
    grey = picture(2).convert("L")
    images, _, _ = collect([(picture(0), 0), (picture(1), 1), (grey, 2)])
    assert images.shape == (3, 3, 40, 48)
    np.testing.assert_array_equal(images[1].permute(1, 2, 0), np.array(picture(1)))
    np.testing.assert_array_equal(images[2], np.stack([np.array(grey)] * 3))


@pytest.mark.parametrize("shape", [(8, 9, 3), (3, 8, 9), (8, 9)])
def test_arrays_may_have_their_channels_anywhere(shape):
    values = noise(*shape)
    images, _, _ = collect([(values, 0)])
    last = values.transpose(1, 2, 0) if shape[0] == 3 else values
    expected = np.array(Image.fromarray(np.ascontiguousarray(last)).convert("RGB"))
    np.testing.assert_array_equal(images[0].permute(1, 2, 0), expected)


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
