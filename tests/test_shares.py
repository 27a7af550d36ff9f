"""Shares of wrong draws, image by image: counted by hand."""

import numpy as np
import pandas as pd
import pytest

from pixelrobust.errors import InputError
from pixelrobust.outcomes.rows import concatenate, make_outcomes
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.rates import WrongShares

LABELS = np.array([7, 7])


def outcomes(model: str = "net") -> pd.DataFrame:
    """Image b.png comes first; 7 is right."""
    predictions = {
        Cell(0): np.array([[7], [7]]),
        Cell(4): np.array([[1, 7, 1, 7], [7, 7, 7, 1]]),
        Cell(64): np.array([[1, 1, 1, 1], [7, 7, 7, 7]]),
        Cell(64, 10): np.array([[7, 7, 7, 1], [7, 7, 1, 1]]),
        Cell(64, 0): np.array([[7, 7, 7, 7], [7, 7, 7, 7]]),
        Cell(64, None, 220): np.array([[1, 1, 1, 7], [7, 1, 1, 1]]),
    }
    return make_outcomes(model, ["b.png", "a.png"], LABELS, predictions)


@pytest.mark.parametrize(
    ("cell", "shares"),
    [
        (Cell(0), [0, 0]),
        (Cell(4), [0.25, 0.5]),
        (Cell(64), [0, 1]),
        (Cell(64, 10), [0.5, 0.25]),
        (Cell(64, 0), [0, 0]),
        (Cell(64, None, 220), [0.75, 0.75]),
    ],
)
def test_shares_are_those_of_the_cell_by_image_key(cell: Cell, shares: list[float]) -> None:
    """An amplitude of 0 is not the same as none."""
    assert WrongShares(outcomes()).of("net", cell).tolist() == shares


def test_what_varies_is_listed() -> None:
    table = WrongShares(concatenate([outcomes("zebra"), outcomes("ant")]))
    assert table.models == ["zebra", "ant"]
    assert (table.nums, table.amplitudes, table.areas) == ([4, 64], [0, 10], [220])
    assert table.draws == 4


def test_without_changed_cells_nothing_varies() -> None:
    rows = outcomes()
    table = WrongShares(rows[rows["num"] == 0])
    assert (table.nums, table.amplitudes, table.areas, table.draws) == ([], [], [], 1)


def test_several_cells_are_columns() -> None:
    shares = WrongShares(outcomes()).over("net", [Cell(64), Cell(4)])
    assert shares.tolist() == [[0, 0.25], [1, 0.5]]


def test_the_order_of_rows_does_not_matter() -> None:
    shuffled = outcomes().sample(frac=1, random_state=0)
    assert WrongShares(shuffled).of("net", Cell(4)).tolist() == [0.25, 0.5]


def test_what_is_there_can_be_asked() -> None:
    table = WrongShares(outcomes())
    assert table.has("net", Cell(4), Cell(64, 10))
    assert not table.has("net", Cell(4), Cell(64, 40))
    assert not table.has("other", Cell(4))
    with pytest.raises(InputError, match="no outcomes of other"):
        table.of("other", Cell(4))
    with pytest.raises(InputError, match=r"no outcomes of net in Cell\(num=5"):
        table.over("net", [Cell(4), Cell(5)])


def test_images_that_cannot_be_paired_are_refused() -> None:
    rows = outcomes()
    part = rows[(rows["num"] != 4) | (rows["image"] == "a.png")]
    with pytest.raises(InputError, match="1 of 2 images"):
        WrongShares(part).of("net", Cell(4))
    other = make_outcomes("other", ["b.png", "c.png"], LABELS, {Cell(4): np.array([[7], [7]])})
    with pytest.raises(InputError, match="2 of 3 images"):
        WrongShares(concatenate([outcomes(), other])).of("net", Cell(4))
