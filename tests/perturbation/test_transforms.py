"""RandomPixelChange in training pipelines."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from pixelrobust import InputError, RandomPixelChange


def grey() -> Tensor:
    return torch.full((3, 16, 16), 128, dtype=torch.uint8)


class SameImage(Dataset[Tensor]):
    def __init__(self, transform: v2.Transform) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(grey())


def changed_pixels(image: Tensor) -> int:
    return int((image != 128).any(dim=-3).sum())


def test_num_pixels_of_every_kind_of_image_change() -> None:
    transform = RandomPixelChange(num=5)
    assert changed_pixels(transform(grey())) == 5
    assert changed_pixels(transform(torch.stack([grey(), grey()]))) == 10
    picture = transform(Image.fromarray(np.full((16, 16, 3), 128, dtype=np.uint8)))
    assert isinstance(picture, Image.Image)
    assert changed_pixels(torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)) == 5
    floats = transform(grey() / 255)
    assert floats.dtype == torch.float32
    assert int((floats != grey() / 255).any(dim=0).sum()) == 5


def test_labels_and_masks_pass_and_types_stay() -> None:
    image, mask = tv_tensors.Image(grey()), tv_tensors.Mask(torch.ones(16, 16))
    changed, same_mask, label = v2.Compose([RandomPixelChange(num=5)])(image, mask, 7)
    assert isinstance(changed, tv_tensors.Image)
    assert changed_pixels(changed) == 5
    assert torch.equal(same_mask, mask)
    assert label == 7
    assert torch.equal(image, grey())


def test_images_of_a_batch_calls_workers_epochs_and_ranks_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transform = RandomPixelChange(num=5)
    first, second = transform(torch.stack([grey(), grey()]))
    loader = DataLoader(SameImage(transform), batch_size=1, num_workers=2)
    images = [first, second, transform(grey()), transform(grey())]
    images += [batch[0] for _ in range(2) for batch in loader]
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        torch.manual_seed(3)
        images.append(transform(grey()))
    assert len({image.numpy().tobytes() for image in images}) == 14


def test_torchs_seed_decides() -> None:
    transform = RandomPixelChange(num=5, amplitude=9, area=8)
    torch.manual_seed(3)
    first = transform(grey())
    torch.manual_seed(3)
    assert torch.equal(transform(grey()), first)


def test_it_says_what_it_is_and_refuses_a_negative_num() -> None:
    assert repr(RandomPixelChange(num=5)) == "RandomPixelChange(num=5, amplitude=None, area=None)"
    with pytest.raises(InputError, match="num=-1"):
        RandomPixelChange(num=-1)
