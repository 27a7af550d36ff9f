"""The change as a training augmentation, in the style of torchvision.transforms.v2."""

import os
from typing import Any

import torch
import torch.distributed
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from pixelrobust.perturbation.grid import Cell, Channels, Manner, Values
from pixelrobust.perturbation.pixels import PixelChange

_SEED_LIMIT = 2**62


class RandomPixelChange(v2.Transform):  # type: ignore[misc]  # torchvision is not typed
    """Change ``num`` random pixels of every image that passes, each time anew.

    Takes PIL images and image tensors (..., C, H, W), uint8 or floating point in [0, 1], alone or
    inside any structure; masks, boxes and labels pass unchanged. The images of one batch get
    different changes, the images of one call with several the same.

    Like torchvision's own transforms it draws from torch's default generator, which a DataLoader
    seeds apart for every worker and epoch; the rank is mixed in, since the ranks of distributed
    training often start from one seed.

    Args:
        num, amplitude, area, channels, repetition, values: as in `PixelChange`.
    """

    def __init__(
        self,
        num: int,
        amplitude: int | None = None,
        area: int | None = None,
        channels: Channels = "apart",
        repetition: bool = False,
        values: Values = "uniform",
    ) -> None:
        super().__init__()
        cell = Cell(num, amplitude, area)
        self.num, self.amplitude, self.area = cell.num, cell.amplitude, cell.area
        self.manner = Manner(channels, repetition, values)
        self.manner.check()

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"seed": int(torch.randint(_SEED_LIMIT, ())), "rank": _rank()}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, Image.Image):
            return F.to_pil_image(self._change(F.pil_to_tensor(inpt), params))
        is_wrapped = isinstance(inpt, tv_tensors.TVTensor)
        is_image = isinstance(inpt, tv_tensors.Image | tv_tensors.Video) or not is_wrapped
        if not isinstance(inpt, Tensor) or not is_image:
            return inpt
        changed = self._change(inpt.as_subclass(Tensor), params)
        return tv_tensors.wrap(changed, like=inpt) if is_wrapped else changed

    def extra_repr(self) -> str:
        return f"num={self.num}, amplitude={self.amplitude}, area={self.area}{self.manner.words}"

    def _change(self, images: Tensor, params: dict[str, Any]) -> Tensor:
        batch = images.reshape(-1, *images.shape[-3:])
        change = PixelChange(self.num, self.amplitude, self.area, params["seed"], *self.manner)
        keys = [f"{params['rank']}/{index}" for index in range(len(batch))]
        return change(batch, keys).view(images.shape)


def _rank() -> int:
    """Return the process's rank in distributed training; 0 outside it.

    DataLoader workers have no process group, but they inherit the environment that torchrun sets.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0"))
