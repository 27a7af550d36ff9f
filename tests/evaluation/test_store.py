"""The store: answers and rows come back as they were kept, whatever happens to their files."""

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from filelock import FileLock, Timeout

from pixelrobust.evaluation.store import UNKNOWN, Answers, AnswerStore, RowStore, cell_name
from pixelrobust.files import replacing
from pixelrobust.perturbation.grid import Cell

CELLS = [Cell(4), Cell(8)]


def answers_of(values: list[int]) -> Answers:
    return Answers(np.array(values), np.array(values, dtype=np.float32) / 2)


def kept(folder: Path, images: int, draws: int) -> AnswerStore:
    """A store in which draw d of image i is taken for class 10 i + d, a part for each image."""
    store = AnswerStore(folder, print, range(images))
    for image in range(images):
        values = [10 * image + draw for draw in range(draws)]
        store.keep(CELLS[0], np.full(draws, image), np.arange(draws), answers_of(values))
    return store


def parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def damage(part: Path) -> None:
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


class OtherRun(threading.Thread):
    """Holds a lock until some seconds after it is told to end."""

    def __init__(self, lock: Path, seconds: float) -> None:
        super().__init__(daemon=True)
        self.has_worked = False
        self._lock, self._seconds = lock, seconds
        self._begun, self._ending = threading.Event(), threading.Event()

    def run(self) -> None:
        with FileLock(self._lock):
            self._begun.set()
            self._ending.wait()
            time.sleep(self._seconds)
            self.has_worked = True

    def begin(self) -> None:
        self.start()
        self._begun.wait()

    def end(self) -> None:
        self._ending.set()


def is_free(lock: Path) -> bool:
    try:
        with FileLock(lock).acquire(timeout=0):
            return True
    except Timeout:
        return False


def test_answers_come_back_where_they_belong(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, print, range(3))
    store.keep(CELLS[0], np.array([0, 2]), np.array([1, 0]), answers_of([7, 8]))
    store.keep(CELLS[0], np.array([1]), np.array([5]), answers_of([9]))
    found = store.load(CELLS[0], 2)
    assert found.classes.tolist() == [[UNKNOWN, 7], [UNKNOWN, UNKNOWN], [8, UNKNOWN]]
    assert found.margins[0, 1] == 3.5
    assert np.isnan(found.margins[1]).all()
    assert store.load(CELLS[0], 6).classes[1, 5] == 9
    assert (store.load(CELLS[1], 2).classes == UNKNOWN).all()
    assert (store.count(CELLS[0]), store.count(CELLS[1])) == (3, 0)
    # Another process may have the last two images.
    shard = store.shard(slice(1, 3))
    assert shard.load(CELLS[0], 1).classes.tolist() == [[UNKNOWN], [8]]
    shard.keep(CELLS[1], np.array([0]), np.array([0]), answers_of([4]))
    assert store.load(CELLS[1], 1).classes.tolist() == [[UNKNOWN], [4], [UNKNOWN]]
    store.forget([CELLS[0]])
    assert (store.count(CELLS[0]), store.count(CELLS[1])) == (0, 1)


def test_a_shard_sees_its_own_images_and_as_many_draws_as_it_asks_for(tmp_path: Path) -> None:
    shard = kept(tmp_path, images=5, draws=3).shard(slice(1, 3))
    assert shard.load(CELLS[0], 3).classes.tolist() == [[10, 11, 12], [20, 21, 22]]
    assert shard.load(CELLS[0], 2).classes.tolist() == [[10, 11], [20, 21]]
    # A shard of a shard, too.
    assert shard.shard(slice(1, 2)).load(CELLS[0], 1).classes.tolist() == [[20]]


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, lambda sentence: pytest.fail(sentence), range(2))
    store.keep(CELLS[0], np.array([0]), np.array([0]), answers_of([7]))
    (part,) = parts(tmp_path)
    with replacing(part.with_name("another.parquet")) as unfinished:
        unfinished.write_bytes(b"half of it")
        assert store.load(CELLS[0], 1).classes.tolist() == [[7], [UNKNOWN]]
        assert store.count(CELLS[0]) == 1
        store.forget([CELLS[0]])
        assert unfinished.exists()
    assert [path.name for path in parts(tmp_path)] == ["another.parquet"]


def test_answers_have_the_types_that_they_were_given_with(tmp_path: Path) -> None:
    found = kept(tmp_path, images=1, draws=2).load(CELLS[0], 2)
    assert (found.classes.dtype, found.margins.dtype) == (np.int64, np.float32)
    (part,) = parts(tmp_path)
    assert [str(column.type) for column in pq.read_schema(part)] == [
        "int32", "int32", "int32", "float",
    ]  # fmt: skip


def test_parts_are_named_by_their_contents_and_compressed(tmp_path: Path) -> None:
    kept(tmp_path / "answers", images=1, draws=1)
    rows = pd.DataFrame({"a": [1, 2, 3]}, index=[4, 7, 5])
    RowStore(tmp_path / "rows", print).rows("a name", lambda: rows)
    answers, row = parts(tmp_path)
    for part, before in ((answers, ""), (row, hashlib.sha256(b"a name").hexdigest()[:16] + "-")):
        assert part.stem == before + hashlib.sha256(part.read_bytes()).hexdigest()[:32]
        columns = pq.read_metadata(part).row_group(0)
        assert columns.column(0).compression == "ZSTD"
    assert answers.parent.name == "n4-rfull-pwhole"
    assert pq.read_schema(row).names == ["a"]


def test_cells_have_folders_that_tell_them_apart() -> None:
    cells = [Cell(64), Cell(64, 10), Cell(64, None, 220), Cell(64, 0, 1)]
    assert [cell_name(cell) for cell in cells] == [
        "n64-rfull-pwhole", "n64-r10-pwhole", "n64-rfull-p220", "n64-r0-p1",
    ]  # fmt: skip


def test_of_damaged_parts_only_their_own_answers_are_lost(tmp_path: Path) -> None:
    kept(tmp_path, images=4, draws=1)
    first, *_ = parts(tmp_path)
    (lost,) = pd.read_parquet(first)["image"]
    damage(first)
    said: list[str] = []
    shard = AnswerStore(tmp_path, said.append, range(4)).shard(slice(0, 4))
    found = shard.load(CELLS[0], 1)
    expected = [10 * image if image != lost else UNKNOWN for image in range(4)]
    assert found.classes[:, 0].tolist() == expected
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
    kept(tmp_path / "answers", images=1, draws=1)
    RowStore(tmp_path / "rows", print).rows("x", lambda: pd.DataFrame({"a": [1]}))
    answers, row = parts(tmp_path)
    for part in (answers, row):
        damage(part)

    def removing(sentence: str) -> None:
        Path(sentence.partition(" is damaged")[0]).unlink()

    found = AnswerStore(tmp_path / "answers", removing, range(1)).load(CELLS[0], 1)
    assert found.classes.tolist() == [[UNKNOWN]]
    store = RowStore(tmp_path / "rows", removing)
    assert len(store.rows("x", lambda: pd.DataFrame({"a": [1, 2]}))) == 2
    # Between the look into the folder and the look at the file.
    gone = tmp_path / "gone.parquet"
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([gone]))
    store.forget()
    answer_store = AnswerStore(tmp_path / "answers", print, range(1))
    answer_store.forget(CELLS)
    assert answer_store.load(CELLS[0], 1).classes.tolist() == [[UNKNOWN]]


def test_cells_that_another_run_works_on_come_last(tmp_path: Path) -> None:
    said: list[str] = []
    store = AnswerStore(tmp_path / "new" / "store", said.append, range(2))
    assert list(store.claims(CELLS)) == [CELLS]
    (lock,) = tmp_path.rglob("n4-*/*.lock")
    other = OtherRun(lock, seconds=1.2)
    other.begin()
    claims = store.claims(CELLS)
    assert next(claims) == [Cell(8)]
    assert not said
    other.end()
    assert next(claims) == [Cell(4)]
    assert other.has_worked
    assert said == ["waiting for another run that evaluates n4-rfull-pwhole too"]
    assert next(claims, None) is None


def test_cells_are_held_until_the_next_are_asked_for(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, print, range(2))
    claims = store.claims(CELLS)
    assert next(claims) == CELLS
    locks = sorted(tmp_path.rglob("*.lock"))
    assert [lock.name for lock in locks] == ["0-2.lock"] * 2
    assert not any(is_free(lock) for lock in locks)
    assert next(claims, None) is None
    assert all(is_free(lock) for lock in locks)
    # Those that are waited for are held, too.
    other = OtherRun(locks[0], seconds=0.1)
    other.begin()
    other.end()
    claims = store.claims(CELLS[:1])
    assert next(claims) == CELLS[:1]
    assert other.has_worked
    assert not is_free(locks[0])
    assert next(claims, None) is None
    assert is_free(locks[0])


def test_nobody_waits_before_what_is_free_is_done(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, print, range(1))
    busy = [Cell(num) for num in range(1, 5)]
    others = [FileLock(tmp_path / cell_name(cell) / "0-1.lock") for cell in busy]
    for other in others:
        Path(other.lock_file).parent.mkdir()
        other.acquire()
    start = time.monotonic()
    assert next(store.claims([*busy, Cell(8)])) == [Cell(8)]
    assert time.monotonic() - start < 2
    for other in others:
        other.release()


def test_rows_are_computed_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> pd.DataFrame:
        calls.append(1)
        return pd.DataFrame({"a": [1, 2], "b": pd.Categorical(["x", "y"])})

    store = RowStore(tmp_path / "new" / "parts", print)
    first = store.rows("epsilon 1/255: a|b", compute)
    pd.testing.assert_frame_equal(first, store.rows("epsilon 1/255: a|b", compute))
    assert len(calls) == 1
    store.rows("another", compute)
    store.forget()
    store.rows("another", compute)
    assert len(calls) == 3
