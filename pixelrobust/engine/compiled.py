"""Networks compiled by torch.compile: fewer, larger operations, weights folded in."""

import logging
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pixelrobust.engine.base import EagerEngine, as_floats, filled_up
from pixelrobust.engine.devices import arithmetic, is_out_of_memory
from pixelrobust.errors import InputError, first_line
from pixelrobust.settings import Precision


class CompiledEngine(EagerEngine):
    """Runs a module compiled for one batch size; smaller batches are filled up.

    Args:
        module, device, batch_size, precision: as in `EagerEngine`.

    Raises:
        InputError: the device does not have this precision, or the module cannot be compiled
            (when the first images come).
    """

    name = "compile"

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        batch_size: int,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__(module, device, batch_size, precision)
        # This logger would warn of every machine without a GPU.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        # On a GPU, one launch then starts all operations of a batch.
        mode = "reduce-overhead" if device.type == "cuda" else None
        self._compiled: Callable[[Tensor], Tensor] = torch.compile(
            self._from_images, dynamic=False, mode=mode
        )

    def _from_images(self, images: Tensor) -> Tensor:
        logits: Tensor = self.module(as_floats(images))
        return logits

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> Tensor:
        import torch._inductor.config as inductor

        full = filled_up(images, self.batch_size)
        with (
            arithmetic(self.device, self.precision),
            inductor.patch(freezing=self.device.type == "cpu"),
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
