"""What all engines share: from images to predicted classes, whatever runs the network."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from pixelrobust.errors import InputError
from pixelrobust.settings import EngineName, Precision

_LACKING = -1e29


class Engine:
    """Runs one classifier.

    Args:
        device: where images and predictions live.
        batch_size: images a forward pass.
        precision: of the arithmetic.

    Attributes:
        name: of the kind of engine.
        reason: why it was chosen.
    """

    name: EngineName
    reason: str = ""

    def __init__(self, device: torch.device, batch_size: int, precision: Precision) -> None:
        self.device = device
        self.batch_size = batch_size
        self.precision = precision

    @property
    def version(self) -> str:
        """Of the software that computes: the same version gives the same logits."""
        return f"{self.name}, torch {torch.__version__}"

    @property
    def is_reference(self) -> bool:
        """Whether it is what other engines are compared with."""
        return self.name == "eager" and self.precision == "fp32"

    def description(self) -> dict[str, Any]:
        """What it is, as plain data."""
        return {"name": self.name, "precision": self.precision, "batch_size": self.batch_size}

    def logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in [0, 1], on `device` -> (B, K) float32.

        Where memory does not suffice the batch size is halved, for good, until it does.

        Raises:
            InputError: not even one image fits.
        """
        parts = []
        start = 0
        while start < len(images):
            part = images[start : start + self.batch_size]
            try:
                parts.append(self._forward(part))
                start += len(part)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(len(part))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def predict(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in [0, 1], on `device` -> (B,) int64 predicted classes.

        An image whose logits are not all finite gets -1.
        """
        return predicted_classes(self.logits(images))

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """`logits` of each batch of at most `batch_size` images, in order.

        Batches are asked for as soon as there is room for them, which may be before the logits of
        earlier ones are there.
        """
        return map(self.logits, batches)

    def predictions(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """`predict` of each batch, as `stream` gives the logits."""
        return map(predicted_classes, self.stream(batches))

    def _forward(self, images: Tensor) -> Tensor:
        """`logits` of at most `batch_size` images."""
        raise NotImplementedError

    def _halve(self, tried: int) -> None:
        if tried == 1:
            raise out_of_memory(self.device)
        self.batch_size = (tried + 1) // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def predicted_classes(logits: Tensor) -> Tensor:
    """(B, K) -> (B,) int64: the largest; -1 where not all are finite."""
    finite = torch.isfinite(logits).all(dim=1)
    return torch.where(finite, logits.argmax(dim=1), -1)


def margins(logits: Tensor) -> Tensor:
    """(B, K) -> (B,) float32: how far the largest lies above the next; 0 where there is only one."""
    if logits.shape[1] < 2:
        return logits.new_zeros(len(logits))
    largest = logits.topk(2, dim=1).values
    return largest[:, 0] - largest[:, 1]


def largest_logit(logits: Tensor) -> Tensor:
    """(B, K) -> (): the largest absolute value, but for those of classes that a network lacks.

    These are as low as can be (see `pixelrobust.heads.ExpandedLogits`), and would hide differences.
    """
    return torch.where(logits > _LACKING, logits.nan_to_num().abs(), 0).max()


def label_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K), (B,) -> (B,) float32: how far the label's logit lies above the largest other one."""
    if logits.shape[1] < 2:
        return logits.new_zeros(len(logits))
    column = labels[:, None]
    others = logits.scatter(1, column, -torch.inf).amax(dim=1)
    return logits.gather(1, column)[:, 0] - others


def filled_up(images: Tensor, batch_size: int) -> Tensor:
    """The images, and black ones after them where there are fewer than `batch_size`."""
    missing = batch_size - len(images)
    if missing == 0:
        return images
    return torch.cat([images, images.new_zeros(missing, *images.shape[1:])])


def out_of_memory(device: torch.device) -> InputError:
    """What is said where not even one image fits."""
    return InputError(
        f"there is not enough memory on {device} for one image; close other programs, or "
        "give another device (engine.devices) or smaller images."
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory does not suffice, of a GPU or of the machine."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
