"""Outcomes: rows, storage and merging."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pixelrobust import InputError
from pixelrobust.grid import Cell
from pixelrobust.outcomes import (
    COLUMNS,
    concatenate,
    make_outcomes,
    read_outcomes,
    write_outcomes,
)

PREDICTIONS = {
    Cell(0): np.array([[3], [5]]),
    Cell(4, 10, 220): np.array([[3, 4], [5, 5]]),
}


def outcomes(model: str = "net") -> pd.DataFrame:
    return make_outcomes(model, ["a.jpg", "b, c.jpg"], np.array([3, 5]), PREDICTIONS)


def test_one_row_for_each_cell_image_and_draw() -> None:
    table = outcomes()
    assert list(table.columns) == COLUMNS
    assert table["num"].tolist() == [0, 0, 4, 4, 4, 4]
    assert table["image"].tolist() == [
        "a.jpg",
        "b, c.jpg",
        "a.jpg",
        "a.jpg",
        "b, c.jpg",
        "b, c.jpg",
    ]
    assert table["draw"].tolist() == [0, 0, 0, 1, 0, 1]
    assert table["prediction"].tolist() == [3, 5, 3, 4, 5, 5]
    assert table["wrong"].tolist() == [False, False, False, True, False, False]
    assert table["amplitude"].isna().tolist() == [True, True, False, False, False, False]


def test_parquet_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "new" / "outcomes.parquet"
    write_outcomes(outcomes(), path)
    pd.testing.assert_frame_equal(read_outcomes(path), outcomes())
    assert [file.name for file in path.parent.iterdir()] == ["outcomes.parquet"]


def test_merging_keeps_each_row_once() -> None:
    merged = concatenate([outcomes("one"), outcomes("two"), outcomes("one")])
    assert len(merged) == 12
    assert list(merged["model"].cat.categories) == ["one", "two"]


def test_what_is_not_outcomes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.parquet cannot be read"):
        read_outcomes(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(InputError, match=r"text\.parquet cannot be read"):
        read_outcomes(tmp_path / "text.parquet")
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(InputError, match="does not hold outcomes"):
        read_outcomes(tmp_path / "other.parquet")
