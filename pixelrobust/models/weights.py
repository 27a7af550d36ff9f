"""Weights from files and libraries, loaded without running any code that a file may carry.

torchvision and PyTorch check published weights while they download them, and never again; and they would
run code that a file holds. So what lies in their cache is checked here, at every load.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pixelrobust.errors import InputError, first_line
from pixelrobust.files import file_sha256, how_to_install, package_folder, replacing
from pixelrobust.settings import PACKAGE_PREFIX

# Published DenseNets have dots in the names of layers where torchvision's modules have none.
_OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")
# PyTorch publishes weights under names that end in the first digits of their SHA-256.
_DIGEST = re.compile(r"-([0-9a-f]{8,})\.[a-z]+$")
_CODE_REFUSED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def package_file(weights: str) -> Path:
    """Return the file of an installed package that `package:<module>/<path>` stands for.

    Raises:
        InputError: no such package is installed, or it has no such file.
    """
    module, _, inside = weights.removeprefix(PACKAGE_PREFIX).partition("/")
    folder = package_folder(module)
    if folder is None:
        raise InputError(
            f"weights={weights} needs the package {module.replace('_', '-')}, which is not installed; "
            f"{how_to_install('bundled')}."
        )
    path = folder / inside
    outside = ".." in path.parts or not path.is_relative_to(folder)
    if outside or not path.is_file():
        raise InputError(f"weights={weights} is not in the installed package; reinstall {module}.")
    return path


def read_weights(path: Path, match: str) -> dict[str, Tensor]:
    """Read named tensors from a .safetensors file, or a .pth, .pt or .bin checkpoint.

    A checkpoint may hold its tensors under `state_dict` or `model`, with or without `module.` in
    front of their names. Pickles are read with `weights_only=True`: one that holds code is refused.

    Args:
        path: the file.
        match: "names" or "order", see `load_weights`.

    Raises:
        InputError: the file is missing, damaged, or holds anything but tensors; or its order is
            asked for, and its format keeps none.
    """
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist; give the path of an existing file.")
    is_safetensors = path.suffix.lower() == ".safetensors"
    if is_safetensors and match == "order":
        raise InputError(
            f"weights file {path} is a .safetensors file, which keeps no order of its tensors; set "
            "models.<name>.match=names, or give a .pth file."
        )
    try:
        content: Any
        if is_safetensors:
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle can raise nearly anything.
    except Exception as error:
        raise InputError(
            f"weights file {path} cannot be loaded ({first_line(error)}); "
            "give a complete .safetensors file, or a checkpoint that holds tensors only."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in (content.items() if isinstance(content, dict) else ())
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise InputError(f"weights file {path} holds no named tensors; give a saved state_dict.")
    return tensors


def load_weights(module: nn.Module, state: dict[str, Tensor], match: str, origin: str) -> None:
    """Put weights into a network.

    Args:
        module: the network; changed.
        state: named tensors.
        match: "names": names must agree. "order": only order and shapes must, for files whose
            authors named the same layers differently.
        origin: what to call the weights in messages.

    Raises:
        InputError: they do not fit the network, or hold values that are not finite.
    """
    expected = module.state_dict()
    if match == "order":
        if len(state) != len(expected):
            raise InputError(
                f"weights {origin} hold {len(state)} tensors, the network has {len(expected)}; "
                "they belong to another architecture."
            )
        state = dict(zip(expected, state.values(), strict=True))
    state = {_OLD_DENSENET_NAME.sub(r"\1", name): tensor for name, tensor in state.items()}
    # Batch normalisation counts batches only since PyTorch 0.4.1, and only training reads it.
    state |= {
        name: tensor
        for name, tensor in expected.items()
        if name.endswith(".num_batches_tracked") and name not in state
    }
    _check_fit(expected, state, origin)
    module.load_state_dict(state)


def _check_fit(expected: dict[str, Tensor], state: dict[str, Tensor], origin: str) -> None:
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected:
        raise InputError(
            f"weights {origin} do not fit the network: {len(missing)} tensors are missing"
            f"{f' ({missing[0]}, …)' if missing else ''}, {len(unexpected)} are not part of it"
            f"{f' ({unexpected[0]}, …)' if unexpected else ''}; give weights of this architecture."
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"weights {origin} do not fit the network: {name} has shape {tuple(tensor.shape)}, "
                f"not {tuple(expected[name].shape)}; check the architecture and models.<name>.classes."
            )
    check_finite(state, origin)


def check_finite(state: Mapping[str, Tensor], origin: str) -> None:
    """Raise InputError where weights, called by their origin, hold values that are not finite."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"weights {origin} hold NaN or infinity in {name}; give sound weights."
            )


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 over names, shapes, dtypes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(np.ascontiguousarray(values.view(-1).view(torch.uint8).numpy()).data)
    return digest.hexdigest()


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a whole safetensors file, or nothing.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary)
        # A full disk raises this here.
        except SafetensorError as error:
            raise OSError(str(error)) from error


def portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, as safetensors wants them: contiguous, none within another's memory."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def cached_file(url: str) -> Path:
    """Return where torchvision keeps what it downloads from here."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def download(url: str, path: Path) -> None:
    """Download published weights, unless they are there; InputError unless they are what was published.

    Args:
        url: where they are.
        path: ends in their published name, which holds the beginning of their SHA-256.
    """
    digits = _DIGEST.search(path.name)
    expected = digits[1] if digits else None
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), expected)
    found = file_sha256(path)
    if expected is None or not found.startswith(expected):
        raise InputError(
            f"weights file {path} is not what was published under this name: its SHA-256 begins with "
            f"{found[:8]}; delete it, and it is downloaded again."
        )


@contextmanager
def weights_only() -> Iterator[None]:
    """Let torch.load refuse pickles that hold code, whatever its caller asks for."""
    before = os.environ.get(_CODE_REFUSED)
    os.environ[_CODE_REFUSED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_CODE_REFUSED]
        else:
            os.environ[_CODE_REFUSED] = before
