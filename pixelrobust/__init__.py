"""How easily is an image classifier broken by changing a few random pixels?

Public names that need torch or pandas are imported on first use, so that the command line can
answer `--help` at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pixelrobust.errors import InputError
from pixelrobust.perturbation.grid import pixel_index

if TYPE_CHECKING:
    from pixelrobust.datasets.collecting import collect
    from pixelrobust.evaluation.cells import evaluate
    from pixelrobust.loading import load_bundled_images, load_folder, load_network
    from pixelrobust.outcomes.rows import concatenate, correct_before, read_outcomes
    from pixelrobust.perturbation.pixels import PixelChange
    from pixelrobust.perturbation.transforms import RandomPixelChange
    from pixelrobust.tables.rates import summarize

__all__ = [
    "InputError",
    "PixelChange",
    "RandomPixelChange",
    "collect",
    "concatenate",
    "correct_before",
    "evaluate",
    "load_bundled_images",
    "load_folder",
    "load_network",
    "pixel_index",
    "read_outcomes",
    "summarize",
]

_LAZY = {
    "PixelChange": "perturbation.pixels",
    "RandomPixelChange": "perturbation.transforms",
    "collect": "datasets.collecting",
    "concatenate": "outcomes.rows",
    "correct_before": "outcomes.rows",
    "evaluate": "evaluation.cells",
    "load_bundled_images": "loading",
    "load_folder": "loading",
    "load_network": "loading",
    "read_outcomes": "outcomes.rows",
    "summarize": "tables.rates",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
