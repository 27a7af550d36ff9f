"""What networks answer when they are shown changed images."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -2
"""Stands among classes where there is no answer yet."""


class Answers(NamedTuple):
    """What a network takes changed images for; both of one shape.

    Attributes:
        classes: int64; -1 where logits are not finite.
        margins: float32, how far the true class's logit lies above the largest other one; negative
            where the image is misclassified.
    """

    classes: NDArray[np.int64]
    margins: NDArray[np.float32]
