"""What is evaluated: a network that is shown images, and the changes that they get."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelrobust.engine import Engine
from pixelrobust.engine.feeding import Images
from pixelrobust.grid import Cell


class Task(NamedTuple):
    """A network, and images to show it.

    Attributes:
        engine: runs the network.
        images: (N, C, H, W), uint8 or floating point in [0, 1]; may be memory-mapped.
        keys: N image keys, which changes hang on.
        labels: (N,) true classes.
        name: what outcomes call the network.
    """

    engine: Engine
    images: Images
    keys: list[str]
    labels: NDArray[np.int64]
    name: str


class Design(NamedTuple):
    """The changes of every image.

    Attributes:
        cells: the grid; the control (num 0) may be among them.
        draws: independent changes of each image in each cell.
        seed: 0 or more.
    """

    cells: list[Cell]
    draws: int
    seed: int
