"""ONNX files of image classifiers, read and checked."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelrobust.engine.openvino import import_openvino, last_line
from pixelrobust.errors import InputError

_CHANNELS = 3
_NAMES_OF_LOGITS = {"logits"}
_METADATA = ("mean", "std", "scale", "labels", "names")


@dataclass(frozen=True)
class OnnxFile:
    """A file that was read, and checked to hold a classifier of images.

    Attributes:
        network: what OpenVINO made of it; never changed.
        channels_last: whether it takes (B, H, W, 3) rather than (B, 3, H, W).
        batch: the number of images that it was exported for; None: any.
        size: (height, width) of the images that it was exported for; None: any.
        output: which of its outputs are the logits.
        metadata: what whoever made it wrote into it.
        sha256: digest of the file, and of the weights that lie beside it.
    """

    network: Any
    channels_last: bool
    batch: int | None
    size: tuple[int | None, int | None]
    output: int
    metadata: dict[str, Any]
    sha256: str

    @classmethod
    def read(cls, path: Path | str | None) -> "OnnxFile":
        """Read a file.

        Raises:
            InputError: it is missing, OpenVINO is not installed or cannot read it, it looks for
                weights outside its own folder, or it is no classifier of RGB images.
        """
        if path is None:
            raise InputError("models.<name>.path is not set; give an ONNX file.")
        path = Path(path)
        if not path.is_file() or path.suffix.lower() != ".onnx":
            raise InputError(
                f"models.<name>.path={path} is no ONNX file; give the path of an existing .onnx file."
            )
        openvino = import_openvino("an ONNX file")
        try:
            network = openvino.Core().read_model(str(path))
            content = path.read_bytes()
        # Whatever is in the file, or is not.
        except Exception as error:
            raise InputError(
                f"ONNX file {path} cannot be read ({last_line(error)}); give a whole file, with its "
                "weights in it or beside it."
            ) from error
        sizes = _input_sizes(network, path)
        channels_last = sizes[1] != _CHANNELS and sizes[3] == _CHANNELS
        if not channels_last and sizes[1] not in (_CHANNELS, None):
            raise InputError(
                f"ONNX file {path} takes {sizes[1]} channels; give a classifier of RGB images."
            )
        height, width = sizes[1:3] if channels_last else sizes[2:4]
        return cls(
            network,
            channels_last,
            sizes[0],
            (height, width),
            _output(network, path),
            _metadata(network),
            _digest(network, content),
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxFile":
        return self

    @property
    def takes_bytes(self) -> bool:
        """Whether its input is of 8-bit integers."""
        return str(self.network.input(0).get_element_type().to_string()) == "u8"

    def for_images(self, shape: Sequence[int], batch: int) -> tuple[Any, int]:
        """A copy for images of one shape, and the batch size that it takes.

        That is the wanted one where the network can be made to take it, else that of the export.

        Args:
            shape: (3, H, W).
            batch: wanted.

        Raises:
            InputError: the network cannot take such images.
        """
        height, width = shape[1:]
        if self.size[0] not in (None, height) or self.size[1] not in (None, width):
            raise InputError(
                f"the ONNX network was exported for images of {self.size[0]} x {self.size[1]}, not of "
                f"{height} x {width}; set dataset.preprocessing.resize and crop, or export it for images "
                "of any size."
            )
        reason = ""
        for size in dict.fromkeys([batch, self.batch or batch]):
            sizes = [size, height, width, shape[0]] if self.channels_last else [size, *shape]
            copied = self.network.clone()
            try:
                copied.reshape(sizes)
                outputs = copied.output(self.output).get_partial_shape()
                fits = outputs[0].is_static and outputs[0].get_length() == size
                reason = f"its outputs for {size} of them are of shape {outputs}"
            except Exception as error:
                fits, reason = False, last_line(error)
            if fits:
                return copied, size
        raise InputError(
            f"the ONNX network cannot take images of {height} x {width} ({reason}); set "
            "dataset.preprocessing.resize and crop."
        )


def _input_sizes(network: Any, path: Path) -> list[int | None]:
    """(B, C, H, W) or (B, H, W, C) of its only input; None: any."""
    if len(network.inputs) != 1:
        raise InputError(
            f"ONNX file {path} takes {len(network.inputs)} inputs; give a classifier of images alone."
        )
    shape = network.input(0).get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 4:
        raise InputError(
            f"ONNX file {path} takes inputs of shape {shape}; a classifier of images takes (B, 3, H, W)."
        )
    return [int(size.get_length()) if size.is_static else None for size in shape]


def _output(network: Any, path: Path) -> int:
    names = [output.get_names() for output in network.outputs]
    if len(names) == 1:
        return 0
    known = [index for index, own in enumerate(names) if own & _NAMES_OF_LOGITS]
    if len(known) != 1:
        raise InputError(
            f"ONNX file {path} gives {len(names)} outputs, none of which is called logits; export one."
        )
    return known[0]


def _metadata(network: Any) -> dict[str, Any]:
    """What is readable as JSON among what the file says of itself."""
    path = ["framework"]
    found: dict[str, Any] = {}
    if not network.has_rt_info(path):
        return found
    for key in _METADATA:
        if network.has_rt_info([*path, key]):
            try:
                found[key] = json.loads(network.get_rt_info([*path, key]).astype(str))
            except (ValueError, RecursionError):
                continue
    return found


def _digest(network: Any, content: bytes) -> str:
    digest = hashlib.sha256(content)
    for operation in network.get_ordered_ops():
        if operation.get_type_name() == "Constant":
            digest.update(np.ascontiguousarray(operation.data).data)
    return digest.hexdigest()
