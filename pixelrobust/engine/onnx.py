"""Classifiers in ONNX files, which OpenVINO runs: predictions, without gradients or layers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pixelrobust.engine.onnx_file import OnnxFile
from pixelrobust.engine.openvino import OpenVinoEngine, compile_network, import_openvino
from pixelrobust.errors import InputError
from pixelrobust.settings import Precision

_CHANNELS = 3
_BYTES = 255.0


class OnnxModel(nn.Module):
    """A classifier in an ONNX file: float images (B, 3, H, W) in [0, 1] -> logits (B, K).

    It can be given to `pixelrobust.evaluate`. OpenVINO runs it on the CPU. The network is shown
    (image - mean) / std * scale.

    Args:
        path: the file.
        mean, std: by channel, or one number for all, in [0, 1]; None: what the file's metadata say
            under these names, as JSON, else 0 and 1.
        scale: 255 where the network takes values of 0 to 255; None: what the metadata say, else 255
            where its input is of 8-bit integers, and 1.

    Attributes:
        labels: what its metadata say of its outputs (`labels` or `names`); None: nothing.
        last: is shown its outputs, and gives the logits.

    Raises:
        InputError: as of `OnnxFile.read`; or the metadata hold other values than these.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor

    def __init__(
        self,
        path: Path | str | None,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.file = OnnxFile.read(path)
        told = self.file.metadata
        usual = _BYTES if self.file.takes_bytes else 1.0
        self.register_buffer("mean", _by_channel("mean", mean, told.get("mean"), 0.0))
        self.register_buffer("std", _by_channel("std", std, told.get("std"), 1.0))
        self.register_buffer("scale", _by_channel("scale", scale, told.get("scale"), usual))
        if not bool((self.std > 0).all()):
            raise InputError("std of an ONNX network is not above 0; give models.<name>.std.")
        # So that a digest of the module is one of the file too.
        digest = torch.frombuffer(bytearray.fromhex(self.file.sha256), dtype=torch.uint8)
        self.register_buffer("sha256", digest)
        self.labels = _names(told.get("labels", told.get("names")))
        self.last: nn.Module = nn.Identity()
        self._networks: dict[tuple[int, ...], tuple[Any, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # What is compiled is compiled again by a copy.
        return self.__dict__ | {"_networks": {}}

    def batch_size(self, shape: Sequence[int], wanted: int) -> int:
        """How many images of a shape it takes at a time; as wanted, where that is possible."""
        return self.file.for_images(shape, wanted)[1]

    def for_images(self, images: Tensor, batch: int) -> Any:
        """An OpenVINO network of `batch` images as they come, uint8 or float in [0, 1]."""
        openvino = import_openvino("an ONNX file")
        network, _ = self.file.for_images(images.shape[1:], batch)
        about = openvino.preprocess.PrePostProcessor(network)
        given = about.input(0)
        is_bytes = images.dtype == torch.uint8
        kind = openvino.Type.u8 if is_bytes else openvino.Type.f32
        given.tensor().set_element_type(kind).set_layout(openvino.Layout("NCHW"))
        steps = given.preprocess().convert_element_type(openvino.Type.f32)
        if is_bytes:
            steps = steps.scale(_BYTES)
        # One step each, by channel.
        steps.mean(self.mean.tolist()).scale((self.std / self.scale).tolist())
        given.model().set_layout(openvino.Layout("NHWC" if self.file.channels_last else "NCHW"))
        return about.build()

    def logits_of(self, outputs: Any) -> Tensor:
        """(B, K) float32 from a request that has been run."""
        data = outputs.get_output_tensor(self.file.output).data
        logits: Tensor = self.last(torch.tensor(np.asarray(data, dtype=np.float32)))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float in [0, 1] -> (B, K), a few at a time: engines are faster."""
        floats = images.detach().to("cpu", torch.float32).contiguous()
        shape = tuple(floats.shape[1:])
        if shape not in self._networks:
            batch = self.file.batch or 1
            compiled = compile_network(
                self.for_images(floats, batch), {"INFERENCE_PRECISION_HINT": "f32"}
            )
            self._networks[shape] = compiled.create_infer_request(), batch
        request, batch = self._networks[shape]
        parts = []
        for start in range(0, len(floats), batch):
            part = floats[start : start + batch]
            full = torch.cat([part, part.new_zeros(batch - len(part), *shape)])
            request.infer([full.numpy()])
            parts.append(self.logits_of(request)[: len(part)])
        return torch.cat(parts)


class OnnxEngine(OpenVinoEngine):
    """Runs an ONNX file on the CPU, as `OpenVinoEngine` runs a module that it has converted.

    Args:
        model: of the file. Left as it is.
        batch_size: images a forward pass.
        precision: fp32 or bf16.

    Raises:
        InputError: the CPU does not have this precision; or the network cannot take the images
            (when the first come).
    """

    def __init__(self, model: OnnxModel, batch_size: int, precision: Precision = "fp32") -> None:
        super().__init__(model, batch_size, precision)
        self._model = model

    @property
    def is_reference(self) -> bool:
        """See `Engine.is_reference`: nothing else runs it."""
        return self.precision == "fp32"

    def _converted(self, images: Tensor) -> Any:
        return self._model.for_images(images, self.batch_size)

    def _logits(self, request: Any) -> Tensor:
        return self._model.logits_of(request)


def _by_channel(name: str, given: Any, told: Any, usual: float) -> Tensor:
    """(3,) float32: what is given, else what metadata say, else what is usual."""
    value = given if given is not None else told if told is not None else usual
    try:
        tensor = torch.tensor(value, dtype=torch.float32).flatten().expand(_CHANNELS).clone()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        tensor = torch.full((_CHANNELS,), torch.nan)
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(
            f"{name} of an ONNX network is {str(value)[:40]!r}, not one number or three; give "
            f"models.<name>.{name}."
        )
    return tensor


def _names(told: Any) -> tuple[str, ...] | None:
    """Names from a list, or from a mapping of positions."""
    if isinstance(told, dict):
        told = [told.get(str(index)) for index in range(len(told))]
    if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
        return None
    return tuple(told)
