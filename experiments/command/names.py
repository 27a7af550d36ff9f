"""Names of networks, read off the libraries' files: importing the libraries takes seconds."""

import re
from collections.abc import Iterator
from functools import cache

import yaml

from experiments.places import CONFIGS
from pixelrobust.packages import package_folder

_NETWORK = re.compile(r"^@register_model\b.*\n(?:[@ )].*\n)*def (\w+)\(", re.MULTILINE)
# Published weights of a network of timm, such as resnet18.a1_in1k.
_WEIGHTS = re.compile(r"""^ +['"](\w+\.\w+)['"]: ?_\w*cfg\w*\(""", re.MULTILINE)


@cache
def configured_networks() -> tuple[str, ...]:
    """Those that have a config of their own, with weights."""
    sources = {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))["source"]
        for path in sorted((CONFIGS / "model").glob("*.yaml"))
    }
    # The others stand for any network of a source, whose name they bear.
    return tuple(name for name, source in sources.items() if source not in (name, "???"))


@cache
def library_networks(library: str) -> tuple[str, ...]:
    """The classifiers of timm or torchvision; none where it is not installed."""
    return tuple(sorted({name for text in _sources(library) for name in _NETWORK.findall(text)}))


@cache
def timm_weights() -> tuple[str, ...]:
    """Networks of timm with the name of their weights."""
    return tuple(sorted({name for text in _sources("timm") for name in _WEIGHTS.findall(text)}))


def _sources(library: str) -> Iterator[str]:
    folder = package_folder(library)
    for path in sorted((folder / "models").glob("*.py")) if folder else ():
        yield path.read_text(encoding="utf-8")
