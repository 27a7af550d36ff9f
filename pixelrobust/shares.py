"""Wrong shares image by image: what paired comparisons of cells and models are made of."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.errors import InputError
from pixelrobust.grid import Cell

_UNLIMITED = 0


class WrongShares:
    """For every model and cell, each image's share of draws that were wrong.

    Args:
        outcomes: columns `outcomes.COLUMNS`.

    Attributes:
        models: their names, in the order of the outcomes.
        nums, amplitudes, areas: of the changed cells, rising; unlimited amplitudes and areas, None,
            are left out.
        draws: of each image in the changed cells.
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

    def of(self, model: str, cell: Cell) -> NDArray[np.float64]:
        """(N,) shares in 0..1, images in the order of their keys.

        Raises:
            InputError: the outcomes lack this model in this cell.
        """
        key = (model, cell.num, cell.amplitude or _UNLIMITED, cell.area or _UNLIMITED)
        try:
            return np.asarray(self._shares.loc[key].to_numpy(dtype=float))
        except KeyError as error:
            raise InputError(f"there are no outcomes of {model} in {cell}.") from error

    def over(self, model: str, cells: Sequence[Cell]) -> NDArray[np.float64]:
        """(N, len(cells)) shares, a column a cell."""
        return np.stack([self.of(model, cell) for cell in cells], axis=1)


def _values(column: "pd.Series[int]") -> list[int]:
    return sorted(int(value) for value in column.dropna().unique())
