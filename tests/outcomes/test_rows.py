"""Outcomes: rows, storage and merging."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pixelrobust import InputError, summarize
from pixelrobust.outcomes.kinds import ACTIVATIONS, OUTCOMES, faulty_columns
from pixelrobust.outcomes.rows import (
    cell_of,
    concatenate,
    correct_before,
    make_outcomes,
    read_outcomes,
    with_cell,
    write_outcomes,
)
from pixelrobust.perturbation.grid import Cell
from tests.experiments.claim_cases import manifest

PREDICTIONS = {Cell(0): np.array([[3], [5]]), Cell(4, 10, 20): np.array([[3, 4], [5, 5]])}


def outcomes(model: str = "net") -> pd.DataFrame:
    return make_outcomes(model, ["a.jpg", "b, c.jpg"], np.array([3, 5]), PREDICTIONS)


def test_one_row_for_each_cell_image_and_draw() -> None:
    table = outcomes()
    assert list(table.columns) == OUTCOMES.columns
    assert table["num"].tolist() == [0, 0, 4, 4, 4, 4]
    first, second = "a.jpg", "b, c.jpg"
    assert table["image"].tolist() == [first, second, first, first, second, second]
    assert table["draw"].tolist() == [0, 0, 0, 1, 0, 1]
    assert table["prediction"].tolist() == [3, 5, 3, 4, 5, 5]
    assert table["wrong"].tolist() == [False, False, False, True, False, False]
    assert table["amplitude"].isna().tolist() == [True, True, False, False, False, False]
    assert table["label"].tolist() == [3, 5, 3, 3, 5, 5]
    assert set(table["model"]) == {"net"}


def test_rows_take_little_room_and_keep_the_order_of_images(tmp_path: Path) -> None:
    table = make_outcomes("net", ["b.jpg", "a.jpg"], np.array([3, 5]), PREDICTIONS)
    kinds = dict.fromkeys(("num", "area", "draw", "label", "prediction"), "int32")
    kinds |= {"amplitude": "int16", "wrong": "bool", "model": "category", "image": "category"}
    assert {name: str(kind).lower() for name, kind in table.dtypes.items()} == kinds
    assert list(table["image"].cat.categories) == ["b.jpg", "a.jpg"]
    assert table.index.tolist() == list(range(6))
    # Some of them, too, and without their row numbers.
    write_outcomes(table[table["wrong"]], tmp_path / "some.parquet")
    assert pq.read_schema(tmp_path / "some.parquet").names == OUTCOMES.columns
    column = pq.read_metadata(tmp_path / "some.parquet").row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert read_outcomes(tmp_path / "some.parquet").index.tolist() == [0]


def test_parquet_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "new" / "outcomes.parquet"
    write_outcomes(outcomes(), path)
    pd.testing.assert_frame_equal(read_outcomes(path), outcomes())
    assert [file.name for file in path.parent.iterdir()] == ["outcomes.parquet"]


def test_the_size_of_images_is_found_beside_rows_and_not_written_with_them(tmp_path: Path) -> None:
    rows, paths = outcomes(), [tmp_path / f"{name}.parquet" for name in "abc"]
    write_outcomes(rows, paths[0])
    assert read_outcomes(paths[0]).attrs == {}
    rows.attrs["image_size"] = (32, 48)
    write_outcomes(rows, paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    manifest(image_size=(32, 48)).write(paths[1].with_suffix(".json"))
    assert read_outcomes(paths[1]).attrs == {"image_size": (32, 48)}
    # Somebody's own files: pandas keeps the size, and what lies beside is no record.
    rows.to_parquet(paths[2])
    paths[2].with_suffix(".json").write_text("[]")
    assert summarize(read_outcomes(paths[2]))["pixel_index"].equals(summarize(rows)["pixel_index"])


def test_merging_keeps_each_row_once() -> None:
    merged = concatenate([outcomes("one"), outcomes("two"), outcomes("one")])
    assert len(merged) == 12
    assert list(merged["model"].cat.categories) == ["one", "two"]


def test_of_rows_that_are_there_twice_the_first_is_kept() -> None:
    """Networks of other engines may take the same image for something else."""
    other = {cell: table + 1 for cell, table in PREDICTIONS.items()}
    twice = make_outcomes("one", ["a.jpg", "b, c.jpg"], np.array([3, 5]), other)
    merged = concatenate([outcomes("one"), twice, outcomes("two")])
    assert merged["prediction"].tolist() == [3, 5, 3, 4, 5, 5] * 2
    assert merged.index.tolist() == list(range(12))


def test_merged_models_and_images_keep_their_order() -> None:
    parts = [
        make_outcomes(model, [image], np.array([0]), {Cell(0): np.array([[0]])})
        for model, image in (("zebra", "b.jpg"), ("ant", "c.jpg"), ("zebra", "a.jpg"))
    ]
    merged = concatenate(parts)
    assert list(merged["model"].cat.categories) == ["zebra", "ant"]
    assert list(merged["image"].cat.categories) == ["b.jpg", "c.jpg", "a.jpg"]


def test_what_is_not_outcomes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.parquet cannot be read"):
        read_outcomes(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(InputError, match=r"text\.parquet cannot be read"):
        read_outcomes(tmp_path / "text.parquet")
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(InputError, match="does not hold outcomes"):
        read_outcomes(tmp_path / "other.parquet")


@pytest.mark.parametrize("cell", [Cell(0), Cell(4, 10), Cell(64, None, 220), Cell(8, 0, 1)])
def test_rows_are_given_a_cell(cell: Cell) -> None:
    rows = pd.DataFrame({"x": [1, 2]})
    given = with_cell(rows, cell)
    assert list(given.columns) == ["x", "num", "amplitude", "area"]
    assert {cell_of(given.iloc[[row]]) for row in range(2)} == {cell}
    assert given.dtypes.astype(str).tolist()[1:] == ["int32", "Int16", "Int32"]
    assert list(rows.columns) == ["x"]
    assert len(with_cell(rows[:0], cell)) == 0


def activations(model: str, cell: Cell) -> pd.DataFrame:
    """Changes of two images in three layers, the last of which has no size."""
    rows = [
        {
            "image": image, "change": change, "layer": layer, "depth": depth,
            "relative_change": np.nan if layer == "logits" else 0.5, "norm_mismatch": 0.01,
            "matched": True,
        }
        for change in ("pixels", "noise")
        for image in ("b.jpg", "a.jpg")
        for depth, layer in enumerate(("input", "conv", "logits"))
    ]  # fmt: skip
    return with_cell(pd.DataFrame(rows).assign(model=model), cell)[ACTIVATIONS.columns]


def test_activations_are_merged_once_each_and_read_back(tmp_path: Path) -> None:
    one, two = activations("one", Cell(4)), activations("two", Cell(4, 10))
    other = activations("one", Cell(8))
    merged = concatenate([one, two, one, other])
    assert len(merged) == 3 * 12
    assert list(merged["layer"].cat.categories) == ["input", "conv", "logits"]
    assert list(merged["change"].cat.categories) == ["pixels", "noise"]
    assert list(merged["image"].cat.categories) == ["b.jpg", "a.jpg"]
    write_outcomes(merged, tmp_path / "changes.parquet")
    back = read_outcomes(tmp_path / "changes.parquet", "activations")
    assert list(back.columns) == ACTIVATIONS.columns
    pd.testing.assert_frame_equal(back, merged)


def outcomes_of(model: str, wrong_before: list[int]) -> pd.DataFrame:
    """Three images of class 0; some are taken for class 1 before any change, all after it."""
    before = np.isin(np.arange(3), wrong_before)[:, None].astype(np.int64)
    after = np.ones((3, 2), dtype=np.int64)
    return make_outcomes(
        model, ["a", "b", "c"], np.zeros(3, np.int64), {Cell(0): before, Cell(4): after}
    )


def test_images_that_any_model_is_wrong_about_before_are_left_out() -> None:
    both = concatenate([outcomes_of("one", [0]), outcomes_of("two", [2])])
    kept = correct_before(both)
    assert set(kept["image"]) == {"b"}
    assert kept.groupby("model", observed=True).size().to_dict() == {"one": 3, "two": 3}
    assert list(kept["image"].cat.categories) == ["b"]
    assert len(both) == 18
    assert kept.index.tolist() == list(range(6))
    assert list(kept.columns) == OUTCOMES.columns


def test_no_images_or_no_control_is_a_sentence() -> None:
    with pytest.raises(InputError, match=r"no image is left.*check that labels fit"):
        correct_before(outcomes_of("one", [0, 1, 2]))
    two = outcomes_of("two", [])
    both = concatenate([outcomes_of("one", []), two[two["num"] > 0]])
    for some in (both, two[two["num"] > 0]):
        with pytest.raises(InputError, match=r"lack unchanged images \(num 0\)"):
            correct_before(some)


SOUND = {
    "num": [0, 64], "amplitude": pd.array([None, 255], dtype="Int16"),
    "area": pd.array([None, 1], dtype="Int32"), "draw": [0, 2**32 - 1], "label": [0, 999],
    "prediction": [-1, 999], "wrong": [True, False], "training_seed": [0, 2**63 - 1],
    "image": ["a", "b"], "model": pd.Categorical(["net", "net"]), "size": [0.5, float("nan")],
    "rounded": [True, True], "distance": [-1.5, 2.0],
}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("num", [-1, 4]),
        ("num", [4.0, 8.0]),
        ("num", [4, 2**31]),
        ("draw", [0, -1]),
        ("draw", [0, 2**32]),
        ("label", pd.array([1, None], dtype="Int32")),
        ("label", ["cat", "dog"]),
        ("prediction", [-2, 0]),
        ("wrong", [0, 1]),
        ("rounded", ["no", "yes"]),
        ("amplitude", [-1, 0]),
        ("amplitude", [0, 256]),
        ("area", [0, 1]),
        ("image", [1, 2]),
        ("image", ["a", None]),
        ("size", ["1", "2"]),
        ("training_seed", [0, -1]),
    ],
)
def test_a_column_with_values_that_no_run_writes_is_named(column: str, values: Any) -> None:
    assert faulty_columns(pd.DataFrame(SOUND)) == faulty_columns(pd.DataFrame(SOUND)[:0]) == []
    assert faulty_columns(pd.DataFrame(SOUND | {column: values})) == [column]


def test_files_with_other_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    keys = ["a", "b"]
    rows = make_outcomes("net", keys, np.array([0, 1]), {Cell(4): np.array([[0], [2]])})
    write_outcomes(rows, path)
    assert read_outcomes(path)["prediction"].tolist() == [0, 2]
    write_outcomes(rows.assign(draw=-1, label=1.5), path)
    with pytest.raises(
        InputError, match=r"draw and label of some rows cannot be such; run the experiment again\.$"
    ):
        read_outcomes(path)
