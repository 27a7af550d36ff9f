"""Engines in general, from images to predicted classes; and those of PyTorch, plain and compiled."""

import functools
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pixelrobust.engine.devices import (
    arithmetic,
    check_precision,
    is_out_of_memory,
    keep_freed_memory,
    out_of_memory,
)
from pixelrobust.errors import InputError, first_line
from pixelrobust.perturbation.pixels import as_floats
from pixelrobust.settings import SCREENED, EngineName, Precision


class Engine:
    """Runs one classifier.

    Args:
        module: (B, C, H, W) float in [0, 1] -> (B, K) logits, in eval mode.
        device: where images and predictions live.
        batch_size: images a forward pass.
        precision: the arithmetic.

    Attributes:
        name: the kind of engine.
        reason: why it was chosen.
        screening: how changed images are screened; None: all of them are computed by this engine.

    Raises:
        InputError: the device does not have this precision.
    """

    name: EngineName
    reason: str = ""
    screening: "Screening | None" = None

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        batch_size: int,
        precision: Precision = "fp32",
    ) -> None:
        check_precision(device, precision)
        self.module = module
        self.device = device
        self.batch_size = batch_size
        self.precision = precision

    @property
    def version(self) -> str:
        """Name the software that computes: the same version gives the same logits."""
        return f"{self.name}, torch {torch.__version__}"

    @property
    def is_reference(self) -> bool:
        """Tell whether other engines are compared with this one."""
        return self.name == "eager" and self.precision == "fp32"

    def description(self) -> dict[str, Any]:
        """Return name, precision and batch size as plain data, and what screens, if anything does."""
        about: dict[str, Any] = {
            "name": self.name,
            "precision": self.precision,
            "batch_size": self.batch_size,
        }
        if self.screening:
            about |= {"precision": SCREENED, "fast": self.screening.fast.precision}
        return about

    def logits(self, images: Tensor) -> Tensor:
        """Return the (B, K) float32 logits of (B, C, H, W) uint8, or float in [0, 1], on `device`.

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
        """Return the (B,) int64 classes predicted for images as in `logits`, -1 where these are not finite."""
        return predicted_classes(self.logits(images))

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the `logits` of each batch of at most `batch_size` images, in order.

        Batches are asked for as soon as there is room for them, which may be before the logits of
        earlier ones are there.
        """
        return map(self.logits, batches)

    def predictions(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield what `predict` returns for each batch, as `stream` does with logits."""
        return map(predicted_classes, self.stream(batches))

    def _forward(self, images: Tensor) -> Tensor:
        """Return the `logits` of at most `batch_size` images."""
        raise NotImplementedError

    def _halve(self, tried: int) -> None:
        if tried == 1:
            raise out_of_memory(self.device)
        self.batch_size = (tried + 1) // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


class Screening(NamedTuple):
    """Hold how an engine's predictions are found faster (see `pixelrobust.evaluation.screening`).

    Attributes:
        fast: runs the same network on the same device in that arithmetic.
        multiple: of the largest error seen, below which margins are not trusted.
        checked: share of the trusted predictions that are computed by the engine itself too.
    """

    fast: Engine
    multiple: float
    checked: float


class EagerEngine(Engine):
    """Runs a module as it is: plain PyTorch, one operation after the other, in channels-last layout.

    Args:
        module: moved to the device, and its weights to channels-last layout, in place; values do not
            change.
        device, batch_size, precision: as in `Engine`.

    Raises:
        InputError: the device does not have this precision.
    """

    name: EngineName = "eager"

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        batch_size: int,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__(module, device, batch_size, precision)
        if device.type == "cpu":
            keep_freed_memory()
        module.to(device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> Tensor:
        with arithmetic(self.device, self.precision):
            logits: Tensor = self.module(as_floats(images))
        return logits.float()


class CompiledEngine(EagerEngine):
    """Runs a module compiled by torch.compile for one batch size; smaller batches are filled up.

    Operations are fewer and larger then, with weights folded in.

    Args:
        module, device, batch_size, precision: as in `EagerEngine`.

    Raises:
        InputError: the device does not have this precision, or the module cannot be compiled
            (when the first images come).
    """

    name = "compile"

    @functools.cached_property
    def _compiled(self) -> Callable[[Tensor], Tensor]:
        # This logger would warn of every machine without a GPU.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        # On a GPU, one launch then starts all operations of a batch.
        mode = "reduce-overhead" if self.device.type == "cuda" else None
        return torch.compile(self._from_images, dynamic=False, mode=mode)

    def _from_images(self, images: Tensor) -> Tensor:
        logits: Tensor = self.module(as_floats(images))
        return logits

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> Tensor:
        # Imported late, since it is slow to import.
        import torch._inductor.config as inductor

        full = filled_up(images, self.batch_size)
        options = {"freezing": self.device.type == "cpu"}
        if hasattr(inductor, "eager_numerics"):
            # Or a GPU would approximate quotients: other bits already where images are normalised.
            options["eager_numerics.division_rounding"] = True
        with (
            arithmetic(self.device, self.precision),
            inductor.patch(options),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            try:
                logits = self._compiled(full)
            # A compiler can fail in any way.
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                raise InputError(
                    f"torch.compile cannot compile this network ({first_line(error)}); give "
                    "engine=eager or engine=auto."
                ) from error
        # The next batch may overwrite the compiled function's own output.
        return logits[: len(images)].float().clone()


def filled_up(images: Tensor, batch_size: int) -> Tensor:
    """Return the images, and black ones after them where there are fewer than `batch_size`."""
    missing = batch_size - len(images)
    if missing == 0:
        return images
    return torch.cat([images, images.new_zeros(missing, *images.shape[1:])])


def predicted_classes(logits: Tensor) -> Tensor:
    """Return the (B,) int64 classes of the largest of (B, K) logits; -1 where not all are finite."""
    finite = torch.isfinite(logits).all(dim=1)
    return torch.where(finite, logits.argmax(dim=1), -1)


def top_margins(logits: Tensor) -> Tensor:
    """Return how far the largest of (B, K) logits lies above the next, (B,); 0 where there is only one."""
    if logits.shape[1] < 2:
        return logits.new_zeros(len(logits))
    largest = logits.topk(2, dim=1).values
    return largest[:, 0] - largest[:, 1]


def label_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how far the label's of (B, K) logits lies above the largest other one, (B,) for (B,) labels."""
    if logits.shape[1] < 2:
        return logits.new_zeros(len(logits))
    column = labels[:, None]
    others = logits.scatter(1, column, -torch.inf).amax(dim=1)
    return logits.gather(1, column)[:, 0] - others


def known_outputs(module: nn.Module) -> Tensor | None:
    """Return which of a classifier's K outputs stand for classes that it knows, (K,) bool; None: all.

    A network may have outputs for classes that it was never trained on, so that it can be used for
    a data set that has more (see `pixelrobust.models.heads.ExpandedLogits`).
    """
    masks = (getattr(part, "known_outputs", None) for part in module.modules())
    return next((mask for mask in masks if isinstance(mask, Tensor)), None)


def largest_logit(logits: Tensor, module: nn.Module) -> float:
    """Return the largest absolute value of a module's (B, K) logits, for classes that it knows."""
    known = known_outputs(module)
    if known is not None:
        logits = logits[:, known.to(logits.device)]
    return float(logits.nan_to_num().abs().max())
