"""What follows from several runs, and what becomes of the jobs of a sweep."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.config import JobRecord
from experiments.page import page_of
from experiments.present import derive, present, tables_of
from experiments.stored import Run, load_run, store_run, stored_runs
from experiments.sweep import finish, read_jobs
from experiments.writing import Presented
from pixelrobust import InputError
from pixelrobust.perturbation.grid import Cell
from tests.experiments.claim_cases import (
    AREAS,
    NUMS,
    by_amplitude,
    by_area,
    by_num,
    manifest,
    outcomes,
    with_beyond,
    wrong_first,
)

TABLE_5_FILES = [
    "pixel-index.pdf", "pixel-index.png",
    "table5-ranking.csv", "table5.csv", "table5.md", "table5.tex",
]  # fmt: skip
CLAIM_FILES = ["claims.csv", "claims.md"]


def three_runs() -> dict[str, Run]:
    tables = {
        "table6": by_num(40, {"net": [1, 2, 3, 4, 5]}),
        "table7": by_amplitude(40, [0, 1, 2, 3, 4], nums=NUMS),
        "table8": by_area(40, {num: [5] * len(AREAS) for num in NUMS}),
    }
    return {name: (manifest(name=name), table) for name, table in tables.items()}


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_file())


def titles(presented: list[Presented]) -> list[str]:
    return [each.title.split(":")[0] for each in presented]


# What several runs allow


def test_three_experiments_give_table_5_and_the_claims(tmp_path: Path) -> None:
    presented = derive(tmp_path, three_runs())
    assert files(tmp_path) == sorted(CLAIM_FILES + TABLE_5_FILES)
    assert titles(presented) == [
        "Table 5",
        "Networks by accuracy and by Pixel-index",
        "Which of the paper's claims hold",
    ]
    table = pd.read_csv(tmp_path / "table5.csv")
    assert len(table) == 3 * len(NUMS) - len(NUMS) * 2 + 5 * len(NUMS) * 2
    ranking = pd.read_csv(tmp_path / "table5-ranking.csv")
    # 300 of 1000 candidates are rejected; 5 of 40 images are wrong at 64 pixels.
    assert ranking["accuracy"].tolist() == pytest.approx([0.7])
    assert ranking["pixel_index"].tolist() == pytest.approx([5 / 40 / (64 / 50176)])


def test_table_5_and_the_ranking_go_by_the_papers_numbers_of_pixels(tmp_path: Path) -> None:
    """Whatever else a run holds."""
    plain, wider = tmp_path / "plain", tmp_path / "wider"
    runs = three_runs()
    derive(plain, runs)
    derive(wider, {name: (own, with_beyond(rows)) for name, (own, rows) in runs.items()})
    names = [name for name in files(plain) if name.endswith((".csv", ".md", ".tex"))]
    assert "table5-ranking.csv" in names
    for name in names:
        assert (plain / name).read_bytes() == (wider / name).read_bytes(), name


def test_table_6_goes_on_below_a_line_and_figure_8_ends_at_64_pixels() -> None:
    record, rows = three_runs()["table6"]
    plain, _ = tables_of(record, rows)
    wider, flips = tables_of(record, with_beyond(rows))
    assert plain.lines == {}
    assert wider.lines == {6: "beyond the paper's 64 pixels"}
    assert wider.table["Num"].tolist()[5:] == ["64 (0.13 %)", "16384 (33 %)"]
    for table in (plain, wider):
        drawn = table.figures["figure8"].axes[0].lines[0].get_xdata()
        assert list(drawn) == [0, *NUMS]
    # Of 40 images 5 flip by 64 pixels, and all by 16,384.
    assert flips.numbers["flipped"].tolist() == [40]


def test_a_page_is_headed_and_ranked_by_the_papers_64_pixels(tmp_path: Path) -> None:
    for own, rows in three_runs().values():
        store_run(tmp_path, own, with_beyond(rows))
        present(tmp_path, own, with_beyond(rows))
    derive(tmp_path, stored_runs(tmp_path))
    page = page_of(tmp_path, None, print)
    assert "4 to 16,384 random pixels" in page
    assert "With 64 pixels changed, the share of wrong predictions" in page
    assert "By the Pixel-index at 64 changed pixels" in page


def test_rows_of_other_experiments_have_no_line() -> None:
    _, rows = three_runs()["table6"]
    assert tables_of(manifest(name="breakdown"), with_beyond(rows))[0].lines == {}
    of_areas = with_beyond(by_area(40, {64: [5] * len(AREAS)}))
    assert tables_of(manifest(name="table8"), of_areas)[0].lines == {}


def test_a_zero_says_what_it_leaves_open() -> None:
    """Wilson's upper bound of 0 of 40 is z^2 / (40 + z^2) = 8.76 %, and it is said once."""
    rows = by_num(40, {"net": [0, 0, 3, 4, 5]})
    told = " ".join(tables_of(manifest(name="table6"), rows)[0].notes)
    assert told.count("40 images cannot exclude rates up to 8.8 %") == 1
    every = by_num(40, {"net": [1, 2, 3, 4, 5]})
    assert "cannot exclude" not in " ".join(tables_of(manifest(name="table6"), every)[0].notes)


@pytest.mark.parametrize("missing", ["table6", "table7", "table8"])
def test_two_experiments_give_the_claims_alone(missing: str, tmp_path: Path) -> None:
    runs = three_runs()
    del runs[missing]
    assert titles(derive(tmp_path, runs)) == ["Which of the paper's claims hold"]
    assert files(tmp_path) == CLAIM_FILES


def test_other_experiments_give_nothing(tmp_path: Path) -> None:
    other = {"breakdown": (manifest(name="breakdown"), by_num(40, {"net": [0] * 5}))}
    assert derive(tmp_path, other) == derive(tmp_path, {}) == []
    assert files(tmp_path) == []


def test_runs_on_different_images_are_refused(tmp_path: Path) -> None:
    runs = three_runs()
    runs["table8"] = (manifest(name="table8", image_list_sha256="b"), runs["table8"][1])
    with pytest.raises(InputError, match="table6, table7, table8 were run on different images"):
        derive(tmp_path, runs)
    assert files(tmp_path) == []


def test_what_is_not_compared_image_by_image_may_see_others(tmp_path: Path) -> None:
    runs = three_runs()
    breakdown = (manifest(name="breakdown", image_list_sha256="b"), runs["table6"][1])
    assert len(derive(tmp_path, runs | {"breakdown": breakdown})) == 3


# The jobs of a sweep


def job(directory: Path, name: str, table: pd.DataFrame, **changes: object) -> JobRecord:
    model = str(table["model"].iloc[0])
    values = {
        "name": name,
        "config": {"seed": 0, "perturbation": {"job": str(directory)}},
        "weights_sha256": {model: "w"},
    }
    store_run(directory, manifest(**(values | changes)), table)
    return JobRecord(name, (f"experiment={name}",), str(directory))


def finished(jobs: list[JobRecord], results: Path) -> tuple[Path, list[Presented]]:
    """Return what is written of jobs, which is something."""
    found = finish(jobs, results, print)
    assert found
    return found


def one_num(model: str, num: int, wrong: int) -> pd.DataFrame:
    return outcomes({model: {Cell(num): wrong_first(wrong, 20)}})


def test_jobs_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        JobRecord("table6", (f"num={number}",), error="why").write(tmp_path / str(number))
    jobs = read_jobs(tmp_path)
    assert [record.overrides for record in jobs] == [("num=0",), ("num=2",), ("num=10",)]
    assert jobs[0] == JobRecord("table6", ("num=0",), error="why")


def test_nothing_is_written_of_no_jobs_or_descriptions(tmp_path: Path) -> None:
    table1 = JobRecord("table1", ("experiment=table1",), str(tmp_path / "x"), measured=False)
    assert finish([], tmp_path, print) is finish([table1], tmp_path, print) is None
    assert list(tmp_path.iterdir()) == []


def test_jobs_of_one_experiment_become_one_table(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path / "one", "table6", one_num("net", 4, 1)),
        job(tmp_path / "two", "table6", one_num("net", 64, 3)),
        job(tmp_path / "three", "table6", one_num("other", 64, 0)),
    ]
    directory, presented = finished(jobs, tmp_path)
    assert directory.parent == tmp_path
    assert directory.name.startswith("table6-sweep-")
    assert titles(presented)[0] == "Table 6"
    table = pd.read_csv(directory / "table6.csv")
    assert list(zip(table["model"], table["num"], table["wrong"], strict=True)) == [
        ("net", 0, 0), ("net", 4, 1), ("net", 64, 3), ("other", 0, 0), ("other", 64, 0),
    ]  # fmt: skip
    merged, _ = load_run(directory, "table6")
    assert merged.weights_sha256 == {"net": "w", "other": "w"}
    assert finished(jobs[::-1], tmp_path)[0] == directory


def test_experiments_that_share_a_folder_put_what_follows_there(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    jobs = [job(folder, name, table) for name, (_, table) in three_runs().items()]
    assert finished(jobs, tmp_path)[0] == folder
    assert set(CLAIM_FILES + TABLE_5_FILES) <= set(files(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["profile"]


def test_what_a_shared_folder_already_holds_counts_too(tmp_path: Path) -> None:
    """Table 8 was run before, Tables 6 and 7 now."""
    folder = tmp_path / "profile"
    jobs = [job(folder, name, table) for name, (_, table) in three_runs().items()]
    finish([record for record in jobs if record.name != "table8"], tmp_path, print)
    assert "table5.csv" in files(folder)
    found = pd.read_csv(folder / "claims.csv")
    assert "area-hardly-matters" in set(found["claim"])


def test_experiments_in_different_folders_get_one_for_what_follows(tmp_path: Path) -> None:
    jobs = [job(tmp_path / name, name, table) for name, (_, table) in three_runs().items()]
    directory, presented = finished(jobs, tmp_path)
    assert directory.name.startswith("evaluation-")
    assert files(directory) == sorted(CLAIM_FILES + TABLE_5_FILES)
    assert len(presented) == 3
    assert finished(jobs[::-1], tmp_path)[0] == directory


def test_several_jobs_of_several_experiments_have_their_tables_too(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path / "a", "table6", one_num("net", 4, 1)),
        job(tmp_path / "b", "table6", one_num("net", 64, 2)),
        job(tmp_path / "c", "table7", by_amplitude(20, [0] * 5)),
    ]
    directory, presented = finished(jobs, tmp_path)
    assert directory.name.startswith("evaluation-")
    assert titles(presented)[0] == "Table 6"
    assert titles(presented)[-1] == "Which of the paper's claims hold"
    (merged,) = tmp_path.glob("table6-sweep-*")
    assert "table6.csv" in files(merged)


def test_merged_tables_of_which_nothing_follows(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path / f"{name}{num}", name, one_num("net", num, 1))
        for name in ("breakdown", "other")
        for num in (4, 64)
    ]
    assert finished(jobs, tmp_path)[0] == tmp_path
    assert len(list(tmp_path.glob("breakdown-sweep-*/breakdown.csv"))) == 1
    assert len(list(tmp_path.glob("other-sweep-*/table.csv"))) == 1


def test_one_job_of_each_experiment_of_which_nothing_follows(tmp_path: Path) -> None:
    jobs = [job(tmp_path / name, name, one_num("net", 4, 1)) for name in ("breakdown", "other")]
    assert finish(jobs, tmp_path, print) is None


def test_a_cell_that_failed_does_not_stop_what_follows(tmp_path: Path) -> None:
    """Of a grid of networks and nums, one job failed."""
    grid, rejected = [("a", 4, 0), ("a", 64, 9), ("b", 4, 0)], {"a": 1, "b": 2}
    jobs = [
        job(tmp_path / f"{model}{num}", "table6", one_num(model, num, wrong), rejected=rejected)
        for model, num, wrong in grid
    ]
    jobs.append(job(tmp_path / "c", "table7", by_amplitude(20, [0] * 5, model="a")))
    found = pd.read_csv(finished(jobs, tmp_path)[0] / "claims.csv")
    assert set(found.loc[found["claim"] == "more-pixels", "subject"]) == {"a"}
    assert np.isfinite(found["estimate"]).all()
