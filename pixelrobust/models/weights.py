"""Weights from files and libraries, loaded without running any code that a file may carry.

torchvision and PyTorch check published weights while they download them, and never again; and they would
run code that a file holds. So what lies in their cache is checked here, at every load.
"""

import argparse
import functools
import hashlib
import io
import os
import pathlib
import pickle
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pixelrobust.errors import InputError, first_line, some
from pixelrobust.files import file_sha256, how_to_install, package_folder, replacing
from pixelrobust.settings import PACKAGE_PREFIX, is_weights_file

# Published DenseNets have dots in the names of layers where torchvision's modules have none.
_OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")
# PyTorch publishes weights under names that end in the first digits of their SHA-256.
_DIGEST = re.compile(r"-([0-9a-f]{8,})\.[a-z]+$")
_CODE_REFUSED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
# What PyTorch says of a pickle that it refuses.
_REFUSED_CLASS = re.compile(r"GLOBAL (\S+)")
_UNPICKLER = "WeightsUnpickler error: "
# Trainers keep their arguments, and accuracies of NumPy's, beside the weights: plain values, whose
# loading runs no code. timm lets the first through too.
_NUMBERS = tuple(map(np.dtype, "?bhilqBHILQefd"))
_PLAIN: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    *dict.fromkeys(map(type, _NUMBERS)),
    *(
        (_NUMBERS[0].type(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar")
        for core in ("core", "_core")
    ),
]
# SqueezeNet 1.1 as its authors published it for Caffe; the package ndf carries this file, a pickle.
_CAFFE_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"
# Where torchvision's network has the authors' layers.
_CAFFE_LAYERS = {
    "conv1": "features.0", "fire2": "features.3", "fire3": "features.4", "fire4": "features.6",
    "fire5": "features.7", "fire6": "features.9", "fire7": "features.10", "fire8": "features.11",
    "fire9": "features.12", "conv10": "classifier.1",
}  # fmt: skip
# All that a pickle of arrays names. NumPy 2 has the last in another module, which files do not know.
_ARRAYS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}
# Checkpoints nest no deeper.
_DEEPEST = 4
_BATCHES = "num_batches_tracked"
# They count steps and operations beside the weights.
_COUNTERS = frozenset((_BATCHES, "n_averaged", "num_updates", "decay", "total_ops", "total_params"))
# Under such a name lie weights that were averaged over the training.
_AVERAGED = re.compile(r"(?:^|[./_])(?:ema|swa)(?=[./_])", re.IGNORECASE)


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


def weights_file(weights: str) -> Path | None:
    """Return the file that holds the weights; None for published ones.

    Raises:
        InputError: as of `package_file`.
    """
    if weights.startswith(PACKAGE_PREFIX):
        return package_file(weights)
    return Path(weights) if is_weights_file(weights) else None


def published_name(path: Path, names: Collection[str]) -> str | None:
    """Return which of some published files, by names or addresses, a file is; None: none of them.

    It is called so, or lies in a folder that is, or has the same first digits of its SHA-256, in its
    name or in fact.

    Raises:
        InputError: there is no such file.
    """
    _check_is_there(path)
    digits: dict[str, str] = {}
    for name in names:
        called = Path(urlparse(name).path).name
        if found := _DIGEST.search(called):
            digits[name] = found[1]
        folders = (each == called or each.endswith(f"--{called}") for each in path.parts[:-1])
        in_name = name in digits and digits[name] in path.name
        if called in (path.name, path.stem) or in_name or any(folders):
            return name
    digest = _sha256(path, path.stat().st_mtime_ns)
    return next((name for name, first in digits.items() if digest.startswith(first)), None)


@functools.lru_cache
def _sha256(path: Path, changed: int) -> str:
    """Return the SHA-256 of a file that was last changed then."""
    return file_sha256(path)


def _check_is_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist; give the path of an existing file.")


def read_weights(path: Path, match: str) -> dict[str, Tensor]:
    """Read all named tensors of a .safetensors file, or of a pickled checkpoint.

    Pickles are read with `weights_only=True`: one that holds code is refused.

    Args:
        path: the file.
        match: "names" or "order", see `load_weights`; "caffe": the file is that of SqueezeNet's authors.

    Returns:
        Tensors by name; those in a dictionary within the checkpoint have its name and a slash in
        front, such as `state_dict/conv1.weight`.

    Raises:
        InputError: the file is missing, damaged, or holds anything but tensors and plain values; or
            its order is asked for, and its format keeps none.
    """
    _check_is_there(path)
    if match == "caffe":
        return _read_caffe(path)
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
            with torch.serialization.safe_globals(_PLAIN):
                content = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle can raise nearly anything.
    except Exception as error:
        raise InputError(
            f"weights file {path} cannot be loaded ({why_refused(error)}); "
            "give a complete .safetensors file, or a checkpoint that holds tensors only, as "
            "torch.save(model.state_dict(), FILE) writes it."
        ) from error
    tensors = dict(_named_tensors(content, "", set(), _DEEPEST))
    if not tensors:
        raise InputError(f"weights file {path} holds no named tensors; give a saved state_dict.")
    return tensors


class _ArraysUnpickler(pickle.Unpickler):
    """Unpickle arrays, and refuse whatever else a pickle may name."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names; UnpicklingError where that is nothing of an array's."""
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(
                f"it holds {module}.{name}, and loading that could run code"
            )
        return _ARRAYS[module, name]


def _read_caffe(path: Path) -> dict[str, Tensor]:
    """Read the weights of SqueezeNet's authors, under torchvision's names and for RGB images.

    Raises:
        InputError: it is another file, or holds anything but arrays.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != _CAFFE_SHA256:
        raise InputError(
            f"weights file {path} is not the one that match=caffe reads: its SHA-256 begins with "
            f"{digest[:8]} instead of {_CAFFE_SHA256[:8]}; reinstall ndf 0.1.4."
        )
    try:
        layers = _ArraysUnpickler(io.BytesIO(content)).load()
    except pickle.UnpicklingError as error:
        raise InputError(
            f"weights file {path} cannot be loaded ({first_line(error)}); give weights from a source "
            "that you trust."
        ) from error
    tensors = {}
    for layer, (kernel, bias) in layers.items():
        block, _, part = layer.partition("/")
        name = f"{_CAFFE_LAYERS[block]}.{part.replace('squeeze1x1', 'squeeze')}".rstrip(".")
        # Images are BGR there, and kernels (height, width, inputs, outputs).
        kernel = kernel[:, :, ::-1] if layer == "conv1" else kernel
        tensors[f"{name}.weight"] = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
        tensors[f"{name}.bias"] = torch.tensor(bias)
    return tensors


def why_refused(error: BaseException) -> str:
    """Return on one line why weights cannot be loaded: of a pickle with code, its class."""
    _, _, reason = str(error).partition(_UNPICKLER)
    refused = _REFUSED_CLASS.search(reason)
    if refused:
        return f"it holds {refused[1]}, and loading that could run code"
    return first_line(ValueError(reason) if reason else error)


def _named_tensors(
    content: Any, place: str, seen: set[int], depth: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in dictionaries, each dictionary once, that have words for names."""
    if not isinstance(content, dict) or id(content) in seen or not depth:
        return
    seen.add(id(content))
    for name, value in content.items():
        # An optimiser numbers what it keeps, in the order of the network's tensors.
        if not isinstance(name, str):
            continue
        if isinstance(value, Tensor):
            yield f"{place}{name}", value
        else:
            yield from _named_tensors(value, f"{place}{name}/", seen, depth - 1)


def load_weights(
    module: nn.Module, tensors: dict[str, Tensor], match: str, origin: str
) -> tuple[str, ...]:
    """Put weights into a network, whatever a trainer put in front of their names.

    Args:
        module: the network; changed.
        tensors: as of `read_weights`.
        match: "names": names must agree. "order": only order and shapes must, for files whose
            authors named the same layers differently. "caffe": as names, which `read_weights` gives.
        origin: what to call the weights in messages.

    Returns:
        Sentences that a user should know: which weights were taken where there are several, and what
        beside the network was left out.

    Raises:
        InputError: they do not fit the network, or hold values that are not finite.
    """
    expected = module.state_dict()
    find = _places_in_order if match == "order" else _places_of_names
    places = find(expected, tensors, origin)
    fitting = {
        place: names
        for place, names in places.items()
        if all(tensors[given].shape == expected[name].shape for name, given in names.items())
    }
    place = min(fitting or places, key=lambda each: not _AVERAGED.search(each))
    used = {given for names in places.values() for given in names.values()}
    beside = [
        name
        for name in tensors
        if _folder(name) == _folder(place)
        and name not in used
        and _last_part(name) not in _COUNTERS
    ]
    state = {name: tensors[given] for name, given in places[place].items()}
    # Batch normalisation counts batches only since PyTorch 0.4.1, and only training reads it.
    state |= {
        name: tensor
        for name, tensor in expected.items()
        if _last_part(name) == _BATCHES and name not in state
    }
    _check_fit(expected, state, [name for name in beside if name.startswith(place)], origin)
    module.load_state_dict(state)
    told = []
    if any(not _same_tensors(tensors, places[place], names) for names in fitting.values()):
        told.append(
            f"weights {origin} hold the network {len(fitting)} times "
            f"({', '.join(map(_called, fitting))}), and {_called(place)} is used; for another, save "
            "it in a file of its own"
        )
    if beside:
        told.append(
            f"weights {origin} hold more than the network ({some(beside)}; tensors: {len(beside)}), which "
            "is left out; if it normalises images, give models.<name>.mean and std"
        )
    return tuple(told)


def _places_of_names(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], origin: str
) -> dict[str, dict[str, str]]:
    """Find the network by its names, in front of which anything may stand.

    Returns:
        By what stands in front, the names in the file by those of the network: of all places where
        none lacks, else of the one where fewest do.
    """
    found: dict[str, dict[str, str]] = {"": {}}
    for given in tensors:
        name = _OLD_DENSENET_NAME.sub(r"\1", given)
        for cut in _cuts(name):
            if name[cut:] in expected:
                found.setdefault(name[:cut], {})[name[cut:]] = given
    needed = {name for name in expected if _last_part(name) != _BATCHES}
    whole = {place: names for place, names in found.items() if needed <= set(names)}
    best = max(found, key=lambda place: len(found[place]))
    return whole or {best: found[best]}


def _places_in_order(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], origin: str
) -> dict[str, dict[str, str]]:
    """Find the network by the number and order of its tensors; returns as `_places_of_names`."""
    found: dict[str, list[str]] = {}
    for given in tensors:
        if _last_part(given) == _BATCHES or _last_part(given) not in _COUNTERS:
            for cut in _cuts(given):
                found.setdefault(given[:cut], []).append(given)
    # Several may stand in front of the same.
    places = {tuple(names): place for place, names in found.items() if len(names) == len(expected)}
    if not places:
        counts = [len(names) for names in found.values()]
        closest = min(counts, key=lambda count: abs(count - len(expected)), default=0)
        raise InputError(
            f"weights {origin} hold {closest} tensors, the network has {len(expected)}; "
            "they belong to another architecture."
        )
    return {place: dict(zip(expected, names, strict=True)) for names, place in places.items()}


def _cuts(name: str) -> list[int]:
    """Return where a name can be cut in two: in front of it, and behind each dot or slash."""
    return [0, *(index + 1 for index, mark in enumerate(name) if mark in "./")]


def _last_part(name: str) -> str:
    return name[_cuts(name)[-1] :]


def _folder(name: str) -> str:
    """Return the dictionaries of a checkpoint that a name lies in."""
    return name[: name.rfind("/") + 1]


def _called(place: str) -> str:
    return place.rstrip("./") or "the outermost"


def _same_tensors(
    tensors: Mapping[str, Tensor], one: Mapping[str, str], other: Mapping[str, str]
) -> bool:
    pairs = ((tensors[one[name]], tensors[other[name]]) for name in one if name in other)
    return all(
        first.dtype == second.dtype and torch.equal(first, second) for first, second in pairs
    )


def _check_fit(
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    unexpected: Sequence[str],
    origin: str,
) -> None:
    missing = [name for name in expected if name not in state]
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
