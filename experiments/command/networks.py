"""What `--model` says, as overrides of the configuration."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from experiments.command.names import configured_networks, library_networks
from experiments.command.overrides import quoted
from pixelrobust.errors import InputError
from pixelrobust.settings import is_weights_file

_LIBRARIES = ("torchvision", "timm")
_SAVED: dict[str, Callable[[Path], bool]] = {
    "checkpoint": lambda path: (path / "model.json").is_file(),
    "huggingface": lambda path: (path / "config.json").is_file(),
    "onnx": lambda path: path.suffix == ".onnx" and path.is_file(),
}
"""Options of the config group `model` that stand for a path, and how one of theirs is told."""


@dataclass(frozen=True)
class Network:
    """A network as the configuration knows it.

    Attributes:
        option: of the config group `model`.
        key: what it is called below `models`.
        values: of keys below `models.<key>`.
    """

    option: str
    key: str
    values: dict[str, str | int] = field(default_factory=dict)

    def overrides(self) -> list[str]:
        """With this network beside those that are already there."""
        place = f"models.{self.key}"
        values = [
            f"{place}.{name}={value if isinstance(value, int) else quoted(value)}"
            for name, value in self.values.items()
        ]
        return [f"+model@{place}={self.option}", *values]


def network_overrides(texts: Sequence[str], outputs: int | None = None) -> list[str]:
    """The overrides that evaluate these networks and no other.

    Args:
        texts: as given to `--model`.
        outputs: of networks with weights of one's own; None: 1000.

    Raises:
        InputError: a text names no network, or two name the same.
    """
    networks = [_with_outputs(_network(text), outputs) for text in texts]
    keys = [network.key for network in networks]
    for text, key in zip(texts, keys, strict=True):
        if keys.count(key) > 1:
            raise InputError(
                f"--model={text}: two networks are called {key}; give each once, or rename the file or "
                "folder."
            )
    return ["model=[]", *(line for network in networks for line in network.overrides())]


def _network(text: str) -> Network:
    for kind in _KINDS:
        network = kind(text)
        if network is not None:
            return network
    if is_weights_file(text):
        raise InputError(
            f"--model={text} holds weights, but not which network they belong to; give its name too, "
            f"for example --model resnet18={text}."
        )
    known = [*configured_networks(), *library_networks("torchvision"), *library_networks("timm")]
    similar = difflib.get_close_matches(text.split(":")[-1], dict.fromkeys(known), n=5, cutoff=0.5)
    hint = f"similar are {', '.join(similar)}" if similar else "for example resnet50"
    raise InputError(
        f"--model={text} is neither a network of torchvision or timm, nor a folder of a saved network or of "
        f"Hugging Face's transformers, nor an ONNX file; "
        f"{hint}."
    )


def _with_outputs(network: Network, outputs: int | None) -> Network:
    """Published weights have the outputs that they have."""
    if outputs is None or not is_weights_file(network.values.get("weights")):
        return network
    return replace(network, values=network.values | {"classes": outputs})


def _saved_network(text: str) -> Network | None:
    """A file or folder that holds a whole network."""
    path = Path(text).expanduser().absolute()
    for source, is_one in _SAVED.items():
        if is_one(path):
            name = path.name if path.is_dir() else path.stem
            return Network(source, _key(name), {"path": str(path), "label": name})
    return None


def _configured(text: str) -> Network | None:
    return Network(text, text) if text in configured_networks() else None


def _with_own_weights(text: str) -> Network | None:
    """NAME=FILE, or NAME=IMAGENET1K_V2."""
    name, _, weights = text.partition("=")
    network = _of_library(name) if weights else None
    if network is None:
        return None
    stem = Path(weights).stem
    values = network.values | {"weights": weights, "label": f"{name.split(':')[-1]} ({stem})"}
    if is_weights_file(weights):
        values["weights"] = str(Path(weights).expanduser().absolute())
    return replace(network, key=_key(f"{name}_{stem}"), values=values)


def _of_library(text: str) -> Network | None:
    """NAME, or LIBRARY:NAME where both have one; torchvision's comes first."""
    library, _, name = text.rpartition(":")
    for candidate in [library] if library else _LIBRARIES:
        if candidate in _LIBRARIES and name.split(".")[0] in library_networks(candidate):
            if candidate == "torchvision" and "." in name:
                continue
            return Network(candidate, _key(name), {"name": name})
    return None


def _key(name: str) -> str:
    """A name as a key of the configuration."""
    key = re.sub(r"\W", "_", name, flags=re.ASCII)
    return key if key[:1].isalpha() else f"network_{key}"


_KINDS: tuple[Callable[[str], Network | None], ...] = (
    _saved_network,
    _configured,
    _with_own_weights,
    _of_library,
)
"""What a text can stand for; each gives None for texts of another kind, the first that does not wins."""
