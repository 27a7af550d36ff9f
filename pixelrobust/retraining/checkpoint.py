"""Checkpoints of a retraining, by which it can be continued after any epoch.

Weights and the optimiser's tensors are safetensors files that carry the epoch in their names; the
JSON file, which is written last, says which of them count. Whatever the moment a process dies at,
the JSON file that is there and its two files belong together.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn, optim

from pixelrobust.errors import InputError, first_line
from pixelrobust.files import file_sha256, write_text
from pixelrobust.models.weights import portable, write_tensors

_FORMAT = 2
_RECORD = "checkpoint.json"
_KINDS = ("weights", "optimizer")


@dataclass(frozen=True)
class Checkpoint:
    """A retraining after some of its epochs.

    Attributes:
        fingerprint: of everything that determines the result.
        epochs: how many of them are done.
        history: a row for each.
        weights: the tensors that training changes, by name.
        optimizer: the optimiser's tensors, "<parameter>:<kind>".
    """

    fingerprint: str
    epochs: int
    history: list[dict[str, Any]]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def write_checkpoint(directory: Path, checkpoint: Checkpoint, about: Mapping[str, Any]) -> None:
    """Write a checkpoint, with plain data about it for readers, and remove those before it.

    Raises:
        InputError: the folder cannot be written to.
    """
    names = {kind: f"{kind}-{checkpoint.epochs:05d}.safetensors" for kind in _KINDS}
    for kind, tensors in zip(_KINDS, (checkpoint.weights, checkpoint.optimizer), strict=True):
        write_tensors(directory / names[kind], tensors)
    record = {
        "format": _FORMAT,
        "fingerprint": checkpoint.fingerprint,
        "epochs": checkpoint.epochs,
        **names,
        "sha256": {kind: file_sha256(directory / name) for kind, name in names.items()},
        "history": checkpoint.history,
        "about": about,
    }
    write_text(directory / _RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    # Processes that were killed leave temporary files too, with a dot in front.
    patterns = [f"{dot}{kind}-*.safetensors" for kind in _KINDS for dot in ("", ".")]
    for pattern in (*patterns, f".{_RECORD}.*"):
        for path in directory.glob(pattern):
            if path.name not in names.values():
                path.unlink(missing_ok=True)


def read_checkpoint(
    directory: Path, fingerprint: str, say: Callable[[str], None] = lambda sentence: None
) -> Checkpoint | None:
    """Return the checkpoint of a folder; None where there is none, it is damaged, or of something else.

    Args:
        directory: the folder.
        fingerprint: of the retraining that is to be continued.
        say: told in a sentence that the checkpoint is damaged.
    """
    if not (directory / _RECORD).exists():
        return None
    try:
        record = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
        if (record["format"], record["fingerprint"]) != (_FORMAT, fingerprint):
            return None
        weights, optimizer = (
            _read_tensors(directory / record[kind], record["sha256"][kind]) for kind in _KINDS
        )
        return Checkpoint(fingerprint, record["epochs"], record["history"], weights, optimizer)
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        say(
            f"the checkpoint in {directory} is damaged, so training starts anew: {first_line(error)}"
        )
        return None


def _read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    """Read the tensors of a file, which never unpickles anything."""
    if file_sha256(path) != digest:
        raise ValueError(f"{path.name} is not what was written")
    return load_file(path)


def changing_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return what training changes, as `portable`: parameters that want gradients, and buffers."""
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    fixed = {name for name, _ in network.named_parameters()} - trained
    state = network.state_dict()
    return portable({name: tensor for name, tensor in state.items() if name not in fixed})


def optimizer_tensors(
    optimizer: optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Return the optimiser's state by name of parameter, as `portable`."""
    return portable(
        {
            f"{name}:{kind}": value
            for name, parameter in parameters.items()
            for kind, value in optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }
    )


def restore(
    network: nn.Module,
    optimizer: optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    checkpoint: Checkpoint,
) -> None:
    """Put a checkpoint's tensors into a network and its optimiser, where they are.

    Args:
        network, optimizer: both are changed.
        parameters: the trained ones, by name, in the optimiser's order.
        checkpoint: of the same network and recipe.

    Raises:
        InputError: it is of another network.
    """
    missing, unexpected = network.load_state_dict(checkpoint.weights, strict=False)
    if unexpected or set(missing) & set(parameters):
        raise InputError("the checkpoint is of another network; remove it to start anew.")
    state: dict[int, dict[str, Tensor]] = {}
    for index, (name, parameter) in enumerate(parameters.items()):
        kinds = {
            key.rpartition(":")[2]: value
            for key, value in checkpoint.optimizer.items()
            if key.rpartition(":")[0] == name
        }
        if kinds:
            state[index] = {kind: _laid_out(value, parameter) for kind, value in kinds.items()}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """Return the value in the parameter's memory layout, which can decide the last bit of sums."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value).detach()
