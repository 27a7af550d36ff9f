"""What can be logged of a run, and what logs nothing of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Picture = Path | NDArray[np.uint8]
"""The file of an image, or its (H, W, 3) values."""


@dataclass(frozen=True)
class About:
    """What a run is, in W&B's words.

    Attributes:
        name: of the run.
        job_type: what kind of run it is.
        config: its settings, plain data.
    """

    name: str
    job_type: str
    config: Mapping[str, Any] = field(repr=False)


class Tracker:
    """Logs nothing. To be used in a `with` statement, whose end tells how the run ended.

    It may be handed to processes that are started inside the statement; one of them at most logs.
    """

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        """The run ends, well if there is no exception."""

    def attempt(self, describe: Callable[..., None], *arguments: Any) -> None:
        """Call `describe(tracker, *arguments)`, which logs something; not called where nothing is."""

    def log(self, values: Mapping[str, float]) -> None:
        """Add a point to curves, by name, with what they are drawn over."""

    def curves(self, over: str, *names: str) -> None:
        """Say that all curves called `<name>/…` are drawn over one of the values."""

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Keep numbers and words of the run as a whole."""

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Log a table; missing values stay missing."""

    def pictures(self, name: str, pictures: Sequence[tuple[Picture, str]]) -> None:
        """Log images, each with its caption, side by side."""

    def files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Log where files lie, with their digests; they are not copied."""


NO_TRACKER = Tracker()
"""Logs nothing."""
