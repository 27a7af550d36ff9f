"""How sensitive each image is, as far as the margins seen so far tell: empirical Bayes on a grid.

A change of num pixels moves an image's margin. Model: the margin under a change is

    clean margin - scale * s * (v * sqrt(num) + noise),    noise ~ Student's t, 1 + sqrt(num) df

where scale belongs to the cell, s and v to the image, whatever the cell: s is how far changes move
its margin, v in which direction on average. Both lie on a grid, whose weights, the same for all
images, are learned from all of them (Laird 1978), starting from a prior: images that were hardly
looked at are shrunk towards what is usual. The fewer pixels change, the heavier the tails, since a
single sensitive pixel decides. What was seen in other cells counts half, since s and v are nearly,
not quite, the same there.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from pixelrobust.grid import Cell

# Standard deviations of log s and of v between images, on which the prior and the grid are built.
# They hold for squeezenet1_1 and efficientnet_lite0 on real images, and are learned anew in any case.
_SPREAD, _SHIFT = 0.55, 0.28
_STEPS = 11
_REACH = 2.4
# So many imaginary images are distributed as the prior says.
_PRIOR_IMAGES = 50
_LEARNING_STEPS = 3
_OTHER_CELLS = 0.5
# Median of |z| where z has mean 0 and standard deviation 1, roughly: heavier tails lower it.
_MEDIAN_OF_NOISE = 0.7
_LEAST_VARIANCE = 0.003**2


class Sensitivity:
    """What is known of every image, over all cells of one amplitude and area.

    Args:
        clean: (N,) margins of the unchanged images.
    """

    def __init__(self, clean: NDArray[np.floating]) -> None:
        self._clean = np.asarray(clean, dtype=np.float64)
        steps = np.linspace(-_REACH, _REACH, _STEPS)
        sizes, shifts = np.meshgrid(np.exp(_SPREAD * steps), _SHIFT * steps, indexing="ij")
        self._sizes, self._shifts = sizes.ravel(), shifts.ravel()
        prior = np.exp(-0.5 * (steps[:, None] ** 2 + steps[None, :] ** 2)).ravel()
        self._prior = prior / prior.sum()
        self._weights = self._prior
        self._scales: dict[Cell, float] = {}
        self._evidence: dict[Cell, NDArray[np.float64]] = {}

    def begin(self, image: NDArray[np.int64], margins: Mapping[Cell, NDArray[np.floating]]) -> None:
        """Take the scales of all cells from first draws of some images, and count these draws.

        Of three cells and more the scale is taken to be a power of num, which few draws of each
        cell say more exactly together.

        Args:
            image: (P,) positions of images.
            margins: for each cell, (P,) of their changes.
        """
        moved = [np.median(np.abs(self._clean[image] - own)) for own in margins.values()]
        scales = np.maximum(moved, np.finfo(np.float32).tiny) / _MEDIAN_OF_NOISE
        if len(margins) > 2:
            logarithms = np.log([cell.num for cell in margins])
            scales = np.exp(np.polyval(np.polyfit(logarithms, np.log(scales), 1), logarithms))
        for cell, scale in zip(margins, scales, strict=True):
            self._scales[cell] = float(scale)
            self._evidence[cell] = np.zeros((len(self._clean), len(self._sizes)))
            self.see(cell, image, margins[cell])

    def see(self, cell: Cell, image: NDArray[np.int64], margins: NDArray[np.floating]) -> None:
        """Count further draws; an image may come several times."""
        freedom = _freedom(cell)
        sizes = self._scales[cell] * self._sizes
        moved = (self._clean[image] - margins)[:, None]
        noise = moved / sizes - self._shifts * np.sqrt(cell.num)
        density = -0.5 * (freedom + 1) * np.log1p(noise**2 / freedom) - np.log(sizes)
        np.add.at(self._evidence[cell], image, density)

    def guess(self, cell: Cell) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What to expect of a further draw of every image.

        Returns:
            (N,) the expected wrong rate, and (N,) the root of the expected variance of an outcome,
            above 0.
        """
        evidence = self._evidence[cell] + _OTHER_CELLS * self._elsewhere(cell)
        for _ in range(_LEARNING_STEPS):
            beliefs = _normalised(evidence + np.log(self._weights))
            self._weights = (beliefs.sum(axis=0) + _PRIOR_IMAGES * self._prior) / (
                len(beliefs) + _PRIOR_IMAGES
            )
        sizes = self._scales[cell] * self._sizes
        away = self._clean[:, None] / sizes - self._shifts * np.sqrt(cell.num)
        rates = stdtr(_freedom(cell), -away)
        expected = (beliefs * rates).sum(axis=1)
        variance = (beliefs * rates * (1 - rates)).sum(axis=1)
        return expected, np.sqrt(variance + _LEAST_VARIANCE)

    def _elsewhere(self, cell: Cell) -> NDArray[np.float64]:
        total = np.zeros_like(self._evidence[cell])
        for other, evidence in self._evidence.items():
            if other != cell:
                total += evidence
        return total


def _freedom(cell: Cell) -> float:
    """Degrees of freedom of the noise."""
    return 1 + float(np.sqrt(cell.num))


def _normalised(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of logarithms as rows that sum to 1."""
    values = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    normalised: NDArray[np.float64] = values / values.sum(axis=1, keepdims=True)
    return normalised


def families(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells by amplitude and area, those of the most changed pixels first, who tell the most."""
    groups: dict[tuple[int | None, int | None], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: -cell.num):
        groups.setdefault((cell.amplitude, cell.area), []).append(cell)
    return list(groups.values())
