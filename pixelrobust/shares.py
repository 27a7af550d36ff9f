"""Wrong shares image by image: what paired comparisons of cells and models are made of."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.errors import InputError
from pixelrobust.grid import Cell

# No amplitude and no area, which may be 0 and 1.
_UNLIMITED = -1


class WrongShares:
    """For every model and cell, each image's share of draws that were wrong.

    Args:
        outcomes: columns `outcomes.COLUMNS`, of the same images for every model and cell.

    Attributes:
        models: their names, in the order of the outcomes.
        nums, amplitudes, areas: of the changed cells, rising; unlimited amplitudes and areas, None,
            are left out.
        draws: of each image in the changed cells; 1 where there are none.
    """

    def __init__(self, outcomes: pd.DataFrame) -> None:
        changed = outcomes[outcomes["num"] > 0]
        self.models = [str(model) for model in outcomes["model"].unique()]
        self.nums = _values(changed["num"])
        self.amplitudes = _values(changed["amplitude"])
        self.areas = _values(changed["area"])
        self.draws = int(changed["draw"].max()) + 1 if len(changed) else 1
        keys = outcomes[["model", "num", "image"]].astype({"model": str, "image": str})
        limits = outcomes[["amplitude", "area"]].astype("Int64").fillna(_UNLIMITED)
        rows = pd.concat([keys, limits, outcomes["wrong"]], axis=1)
        shares = rows.groupby(["model", "num", "amplitude", "area", "image"], sort=True)["wrong"]
        self._shares = shares.mean()
        self._images = sorted(set(keys["image"]))

    def has(self, model: str, *cells: Cell) -> bool:
        """Whether the outcomes hold this model in all these cells."""
        return all(_key(model, cell) in self._shares.index for cell in cells)

    def of(self, model: str, cell: Cell) -> NDArray[np.float64]:
        """(N,) shares in 0..1, images in the order of their keys.

        Raises:
            InputError: the outcomes lack this model in this cell, or some of its images.
        """
        if not self.has(model, cell):
            raise InputError(f"there are no outcomes of {model} in {cell}.")
        shares = self._shares.loc[_key(model, cell)]
        if list(shares.index) != self._images:
            raise InputError(
                f"{model} has outcomes of {len(shares)} of {len(self._images)} images in {cell}; "
                "images are compared in pairs, so every model and cell needs the same."
            )
        return np.asarray(shares.to_numpy(dtype=float))

    def over(self, model: str, cells: Sequence[Cell]) -> NDArray[np.float64]:
        """(N, len(cells)) shares, a column a cell.

        Raises:
            InputError: as for `of`.
        """
        return np.stack([self.of(model, cell) for cell in cells], axis=1)


def _key(model: str, cell: Cell) -> tuple[str, int, int, int]:
    amplitude, area = (
        _UNLIMITED if limit is None else limit for limit in (cell.amplitude, cell.area)
    )
    return model, cell.num, amplitude, area


def _values(column: "pd.Series[int]") -> list[int]:
    return sorted(int(value) for value in column.dropna().unique())
