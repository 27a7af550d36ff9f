"""Networks run by OpenVINO, the fastest on most CPUs."""

import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from pixelrobust.engine.base import Engine, filled_up
from pixelrobust.errors import InputError, first_line
from pixelrobust.files import how_to_install
from pixelrobust.perturbation.pixels import as_floats
from pixelrobust.settings import Precision

_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
# So many requests wait besides those that are being computed, so that no thread is idle while the next
# batch is made.
_WAITING_REQUESTS = 2


class _Running(NamedTuple):
    """A request under way, the images that it reads, and how many of its logits are wanted."""

    request: Any
    images: Tensor
    wanted: int


class OpenVinoEngine(Engine):
    """Runs a module converted to OpenVINO on the CPU.

    As many batches are computed beside each other as there are threads, while the caller makes the
    next ones. All have one size, smaller ones are filled up, so that an image's logits do not depend
    on how many others came with it.

    Args:
        module: (B, C, H, W) float in [0, 1] -> (B, K) logits, in eval mode. Left as it is.
        batch_size: images a forward pass.
        precision: fp32 or bf16.

    Raises:
        InputError: OpenVINO is not installed or cannot convert the module (when the first images
            come), or the CPU does not have this precision.
    """

    name = "openvino"

    def __init__(self, module: nn.Module, batch_size: int, precision: Precision = "fp32") -> None:
        super().__init__(module, torch.device("cpu"), batch_size, precision)
        self._openvino = _import_openvino()
        self._threads = torch.get_num_threads()
        self._requests: dict[tuple[object, ...], list[Any]] = {}

    @property
    def version(self) -> str:
        """Name the software that computes, as of `Engine`."""
        return f"{self.name} {self._openvino.__version__}, torch {torch.__version__}"

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the logits of each batch, as of `Engine`."""
        running: deque[_Running] = deque()
        with _one_thread_of_torch():
            for images in batches:
                idle = self._idle_requests(images)
                while not idle:
                    yield self._finish(running.popleft())
                running.append(self._begin(idle.pop(), images))
            while running:
                yield self._finish(running.popleft())

    def _forward(self, images: Tensor) -> Tensor:
        return self._finish(self._begin(self._idle_requests(images).pop(), images))

    def _begin(self, request: Any, images: Tensor) -> _Running:
        full = filled_up(images, self.batch_size).contiguous()
        request.start_async([full.numpy()], share_inputs=True)
        return _Running(request, full, len(images))

    def _finish(self, running: _Running) -> Tensor:
        running.request.wait()
        # Copied: the request's next images overwrite them.
        logits = torch.tensor(running.request.get_output_tensor().data)[: running.wanted]
        self._idle_requests(running.images).append(running.request)
        return logits

    def _idle_requests(self, images: Tensor) -> list[Any]:
        """Return the requests for images of this type and shape that can be started."""
        key = (images.dtype, *images.shape[1:])
        if key not in self._requests:
            compiled = self._compile(images)
            wanted = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + _WAITING_REQUESTS
            self._requests[key] = [compiled.create_infer_request() for _ in range(wanted)]
        return self._requests[key]

    def _compile(self, images: Tensor) -> Any:
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": _PRECISIONS[self.precision],
            "INFERENCE_NUM_THREADS": self._threads,
            # Two processes would be pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        network = self._converted(images)
        try:
            return _core(self._openvino).compile_model(network, "CPU", options)
        except Exception as error:
            raise _cannot_run(error) from error

    def _converted(self, images: Tensor) -> Any:
        """Return the network for batches of images like these, not compiled."""
        example = images[:1].expand(2, *images.shape[1:])
        try:
            with torch.no_grad(), warnings.catch_warnings():
                # Warnings of tracing are OpenVINO's business.
                warnings.simplefilter("ignore")
                model = self._openvino.convert_model(
                    _FromImages(self.module), example_input=example
                )
            model.reshape([self.batch_size, *images.shape[1:]])
        # A converter can fail in any way.
        except Exception as error:
            raise _cannot_run(error) from error
        return model


def _cannot_run(error: Exception) -> InputError:
    return InputError(
        f"OpenVINO cannot run this network ({first_line(error)}); give engine=eager or engine=auto."
    )


@contextmanager
def _one_thread_of_torch() -> Iterator[None]:
    """Let torch work with one thread: its others would wait for work by spinning, on cores that OpenVINO uses."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _FromImages(nn.Module):
    """Classifies images as they come, bytes or floats."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.module(as_floats(images))
        return logits


@cache
def _core(openvino: ModuleType) -> Any:
    """Return OpenVINO's core, one for the process.

    Each core gives the thread that makes it a stack for signals of its own, and puts the one before
    back when it goes. Of two that go in the order in which they came, the second puts back what the
    first has freed, and the next signal, such as Ctrl-C, ends the process (OpenVINO 2026.4).
    """
    return openvino.Core()


def _import_openvino() -> Any:
    """Import OpenVINO, kept from reporting; InputError where it is not installed."""
    # Importing OpenVINO, and converting with it, would report to its maker. Where this package is not
    # to be had it does not.
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
    try:
        import openvino
    except ImportError as error:
        raise InputError(
            "engine=openvino needs the package openvino, which is not installed; "
            f"{how_to_install('openvino')}, or give engine=eager."
        ) from error
    return openvino
