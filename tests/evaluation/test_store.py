"""The store: predictions and rows come back as they were kept, whatever happens to their files."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from filelock import FileLock, Timeout

from pixelrobust.evaluation.forward import PredictedChange
from pixelrobust.evaluation.store import UNKNOWN, PredictionStore, RowStore, cell_name
from pixelrobust.files import replacing
from pixelrobust.perturbation.grid import Cell

CELL, OTHER = CELLS = [Cell(4), Cell(8)]


def keep(store: PredictionStore, image: list[int], draw: list[int], classes: list[int]) -> None:
    margins = np.array(classes, dtype=np.float32) / 2
    found = PredictedChange(np.array(classes), margins, margins)
    store.keep(CELL, np.array(image), np.array(draw), found)


def kept(folder: Path, images: int, draws: int) -> PredictionStore:
    """A store in which draw d of image i is taken for class 10 i + d, a part for each image."""
    store = PredictionStore(folder, pytest.fail, range(images))
    for image in range(images):
        values = [10 * image + draw for draw in range(draws)]
        keep(store, [image] * draws, list(range(draws)), values)
    return store


def parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def damage(part: Path) -> None:
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def is_free(lock: Path) -> bool:
    try:
        with FileLock(lock).acquire(timeout=0):
            return True
    except Timeout:
        return False


@contextmanager
def other_run(lock: Path, seconds: float) -> Iterator[threading.Event]:
    """Hold a lock in another thread, until so long after the event that is yielded is set."""
    begun, ending = threading.Event(), threading.Event()

    def hold() -> None:
        with FileLock(lock):
            begun.set()
            ending.wait()
            time.sleep(seconds)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    begun.wait()
    yield ending
    ending.set()
    thread.join()


def test_predictions_come_back_where_they_belong(tmp_path: Path) -> None:
    store = PredictionStore(tmp_path, pytest.fail, range(3))
    keep(store, [0, 2], [1, 0], [7, 8])
    keep(store, [1], [5], [9])
    assert store.load(CELL, 2).classes.tolist() == [[UNKNOWN, 7], [UNKNOWN, UNKNOWN], [8, UNKNOWN]]
    assert store.load(CELL, 6).classes[1, 5] == 9
    assert (store.load(OTHER, 2).classes == UNKNOWN).all()
    assert (store.count(CELL), store.count(OTHER)) == (3, 0)
    store.forget(CELLS)
    assert store.count(CELL) == 0


def test_a_shard_has_its_own_images_and_as_many_draws_as_it_asks_for(tmp_path: Path) -> None:
    store = kept(tmp_path, images=5, draws=3)
    shard = store.shard(slice(1, 3))
    assert shard.load(CELL, 3).classes.tolist() == [[10, 11, 12], [20, 21, 22]]
    assert shard.load(CELL, 2).classes.tolist() == [[10, 11], [20, 21]]
    assert shard.shard(slice(1, 2)).load(CELL, 1).classes.tolist() == [[20]]
    keep(shard, [0], [3], [4])
    assert store.load(CELL, 4).classes[:, 3].tolist() == [UNKNOWN, 4, UNKNOWN, UNKNOWN, UNKNOWN]


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    store = kept(tmp_path, images=1, draws=1)
    (part,) = parts(tmp_path)
    with replacing(part.with_name("another.parquet")) as unfinished:
        unfinished.write_bytes(b"half of it")
        assert store.load(CELL, 1).classes.tolist() == [[0]]
        assert store.count(CELL) == 1
        store.forget([CELL])
        assert unfinished.exists()
    assert [path.name for path in parts(tmp_path)] == ["another.parquet"]


def test_parts_are_named_by_their_contents_and_have_fixed_types(tmp_path: Path) -> None:
    kept(tmp_path / "store", images=1, draws=8)
    rows = pd.DataFrame({"a": [1, 2, 3]}, index=[4, 7, 5])
    RowStore(tmp_path / "rows", pytest.fail).rows("a name", lambda: rows)
    row, predictions = parts(tmp_path)
    named = {predictions: "", row: hashlib.sha256(b"a name").hexdigest()[:16] + "-"}
    for part, before in named.items():
        assert part.stem == before + hashlib.sha256(part.read_bytes()).hexdigest()[:32]
        assert pq.read_metadata(part).row_group(0).column(0).compression == "ZSTD"
    assert predictions.parent.name == "n4-rfull-pwhole"
    assert pq.read_schema(row).names == ["a"]
    schema = pq.read_schema(predictions)
    assert schema.names == ["image", "draw", "class", "margin", "gap"]
    assert list(map(str, schema.types)) == ["int32", "int32", "int32", "float", "float"]
    assert pd.read_parquet(predictions)["margin"].tolist() == [d / 2 for d in range(8)]


def test_cells_have_folders_that_tell_them_apart() -> None:
    cells = [Cell(64), Cell(64, 10), Cell(64, None, 220), Cell(64, 0, 1)]
    assert [cell_name(cell) for cell in cells] == [
        "n64-rfull-pwhole", "n64-r10-pwhole", "n64-rfull-p220", "n64-r0-p1",
    ]  # fmt: skip


def test_of_damaged_parts_only_their_own_predictions_are_lost(tmp_path: Path) -> None:
    kept(tmp_path, images=4, draws=1)
    first, *_ = parts(tmp_path)
    (lost,) = pd.read_parquet(first)["image"]
    damage(first)
    said: list[str] = []
    found = PredictionStore(tmp_path, said.append, range(4)).load(CELL, 1).classes
    assert found[:, 0].tolist() == [10 * image if image != lost else UNKNOWN for image in range(4)]
    assert said == [f"{first} is damaged; what was in it is computed again"]
    assert not first.exists()


def test_damaged_rows_are_told_and_computed_again(tmp_path: Path) -> None:
    said: list[str] = []
    store, rows = RowStore(tmp_path, said.append), pd.DataFrame({"a": [1]})
    store.rows("x", lambda: rows)
    (part,) = parts(tmp_path)
    damage(part)
    again = pd.DataFrame({"a": [2]})
    pd.testing.assert_frame_equal(store.rows("x", lambda: again), again)
    assert said == [f"{part} is damaged; what was in it is computed again"]
    pd.testing.assert_frame_equal(store.rows("x", lambda: rows), again)


def test_parts_that_another_process_removes_first_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path / "store", images=1, draws=1)
    RowStore(tmp_path / "rows", pytest.fail).rows("x", lambda: pd.DataFrame({"a": [1]}))
    for part in parts(tmp_path):
        damage(part)

    def removing(sentence: str) -> None:
        Path(sentence.partition(" is damaged")[0]).unlink()

    predictions = PredictionStore(tmp_path / "store", removing, range(1))
    rows = RowStore(tmp_path / "rows", removing)
    assert predictions.load(CELL, 1).classes.tolist() == [[UNKNOWN]]
    assert len(rows.rows("x", lambda: pd.DataFrame({"a": [1, 2]}))) == 2
    # Between the look into the folder and the look at the file.
    gone = tmp_path / "gone.parquet"
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: iter([gone]))
    rows.forget()
    predictions.forget(CELLS)
    assert predictions.load(CELL, 1).classes.tolist() == [[UNKNOWN]]


def test_cells_that_another_run_works_on_come_last(tmp_path: Path) -> None:
    said: list[str] = []
    store = PredictionStore(tmp_path / "new" / "store", said.append, range(2))
    assert list(store.locked(CELLS)) == [CELLS]
    (lock,) = tmp_path.rglob("n4-*/*.lock")
    with other_run(lock, seconds=0.5) as ending:
        groups = store.locked(CELLS)
        start = time.monotonic()
        assert next(groups) == [OTHER]
        assert time.monotonic() - start < 2
        assert not said
        ending.set()
        start = time.monotonic()
        assert next(groups) == [CELL]
        assert time.monotonic() - start > 0.3
    assert said == ["waiting for another run that evaluates n4-rfull-pwhole too"]
    assert next(groups, None) is None


def test_cells_stay_locked_until_the_next_are_asked_for(tmp_path: Path) -> None:
    store = PredictionStore(tmp_path, print, range(2))
    groups = store.locked(CELLS)
    assert next(groups) == CELLS
    locks = sorted(tmp_path.rglob("*.lock"))
    assert [lock.name for lock in locks] == ["0-2.lock"] * 2
    assert not any(is_free(lock) for lock in locks)
    assert next(groups, None) is None
    assert all(is_free(lock) for lock in locks)
    # Those that are waited for are locked, too.
    with other_run(locks[0], seconds=0.1) as ending:
        ending.set()
        groups = store.locked([CELL])
        assert next(groups) == [CELL]
    assert not is_free(locks[0])
    assert next(groups, None) is None
    assert is_free(locks[0])


def test_rows_are_computed_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> pd.DataFrame:
        calls.append(1)
        return pd.DataFrame({"a": [1, 2], "b": pd.Categorical(["x", "y"])})

    store = RowStore(tmp_path / "new" / "parts", pytest.fail)
    first = store.rows("epsilon 1/255: a|b", compute)
    pd.testing.assert_frame_equal(first, store.rows("epsilon 1/255: a|b", compute))
    assert len(calls) == 1
    store.rows("another", compute)
    store.forget()
    store.rows("another", compute)
    assert len(calls) == 3
