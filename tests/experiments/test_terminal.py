"""What a terminal shows: words and numbers stay whole at 80 columns, and every table has its caption."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from experiments.report import main as report
from experiments.report import show
from experiments.session import Progress
from experiments.status import main as status
from experiments.terminal import duration, laid_out
from experiments.writing import Presented
from tests.conftest import REPOSITORY, Run

RESULTS = REPOSITORY / "results"
NAMES = ["squeezenet1_1", "tf_efficientnet_lite0", "densenet121", "resnet101", "vgg16"]
NUMS = ["0 (0 %)", "4 (0.008 %)", "64 (0.13 %)", "16384 (33 %)"]
FEW = ("profile=bundled", "model=efficientnet_lite0", "selection.models=null", "draws=1")


def of_five_networks() -> pd.DataFrame:
    """A table of wrong rates, no two of which are the same."""
    rates = {
        name: [f"{10 * at + row}.{at} ({at}.{row}–{60 + at}.{row})" for row in range(len(NUMS))]
        for at, name in enumerate(NAMES)
    }
    return pd.DataFrame({"Num": NUMS, **rates})


def lines_of(table: pd.DataFrame, width: int, lines: dict[int, str] | None = None) -> list[str]:
    return [line for line, _ in laid_out(table, width, lines)]


def whole(text: str) -> set[str]:
    """The words, numbers and intervals of a text."""
    return set(re.findall(r"[^\s;]+", text))


def too_long(lines: list[str], width: int = 80) -> list[str]:
    """The lines beyond the width, but for a path that stands alone."""
    return [line for line in lines if len(line) > width and not re.fullmatch(r"\s*\S*/\S*", line)]


@pytest.mark.parametrize("width", [40, 80, 100, 140, 200])
def test_no_word_and_no_number_is_broken(width: int) -> None:
    table = of_five_networks()
    lines = lines_of(table, width)
    assert not too_long(lines, width)
    words = whole(" ".join([*table.columns, *table.astype(str).to_numpy().ravel()]))
    assert words <= whole("\n".join(lines))


def test_five_networks_with_long_names_stand_side_by_side_at_80_columns() -> None:
    lines = lines_of(of_five_networks(), 80)
    (rates,) = (at for at, line in enumerate(lines) if line.startswith(" 4") or "4 (0.008" in line)
    assert re.findall(r"\d+\.\d(?= |$)", lines[rates]) == ["1.0", "11.1", "21.2", "31.3", "41.4"]
    assert lines[rates + 1].split() == [f"({at}.1–{60 + at}.1)" for at in range(5)]
    # Each name stands above its column.
    for at, name in enumerate(NAMES):
        (header,) = (line for line in lines if name in line)
        start = header.index(name)
        assert lines[rates + 1][start:].startswith(f"({at}.1")


def test_wide_terminals_show_one_line_a_row() -> None:
    lines = lines_of(of_five_networks(), 140)
    assert len(lines) == 2 + len(NUMS)
    assert lines[0].split() == ["Num", *NAMES]


def test_a_line_stands_above_the_row_at_its_position() -> None:
    for width in (80, 140):
        lines = lines_of(of_five_networks(), width, {3: "beyond the paper's 64 pixels"})
        (at,) = (at for at, line in enumerate(lines) if "beyond the paper's 64 pixels" in line)
        assert "16384" in lines[at + 1]


def test_what_many_rows_share_becomes_their_heading() -> None:
    table = pd.DataFrame(
        {
            "Images": ["unrounded, still fooling"] * 4 + ["rounded"] * 4,
            "Num": ["0", "4", "8", "16"] * 2,
            **{name: [f"1{row}.5 (1.0–99.5)" for row in range(8)] for name in NAMES},
        }
    )
    lines = lines_of(table, 80)
    assert lines.count("Images: unrounded, still fooling") == lines.count("Images: rounded") == 1
    assert lines.index("Images: rounded") > lines.index("Images: unrounded, still fooling") + 4


def test_long_texts_become_lists() -> None:
    sentence = "The more pixels change, the more images are misclassified by 3.5 % at least " * 2
    table = pd.DataFrame(
        {"Claim": [sentence], "Paper": ["Section 6"], "Verdict": ["holds\nor not"]}
    )
    lines = lines_of(table, 80)
    assert not too_long(lines)
    assert lines[-3:] == ["  Paper    Section 6", "  Verdict  holds", "           or not"]
    # A number stands with its sign.
    assert not any(line.startswith("%") for line in lines)


@pytest.mark.parametrize("profile", ["bundled", "imagenet-samples", "cifar10-sample"])
def test_every_stored_table_is_whole_at_80_columns(
    profile: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("COLUMNS", "80")
    assert report([f"results/{profile}"]) == 0
    out = capsys.readouterr().out
    assert not too_long(out.splitlines())
    assert "…" not in out
    # All intervals of the pages are there, none of them broken.
    pages = " ".join(path.read_text() for path in (RESULTS / profile).glob("*.md"))
    interval = re.compile(r"\([-+]?[\d.,]+(?:–| to )[-+]?[\d.,]+\)")
    assert set(interval.findall(pages)) <= set(interval.findall(out))


def test_without_a_terminal_lines_are_80_characters_long() -> None:
    command = [sys.executable, "-m", "experiments.report", "results/bundled", "table6", "claims"]
    ended = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert 70 < max(map(len, ended.stdout.splitlines())) <= 80


def test_folders_that_are_listed_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("COLUMNS", "40")
    assert report([]) == 0
    listed = [line for line in capsys.readouterr().out.splitlines() if "/" in line]
    assert listed == ["results/bundled", "results/cifar10-sample", "results/imagenet-samples"]


def test_a_run_at_80_columns(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its caption is there, a line for its network, and folders that can be copied."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    two = ("model=[efficientnet_lite0,efficientnet_lite1]", "perturbation.num=[4,64]")
    ended = run("experiment=table6", *FEW, "dataset.limit=4", *two)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert not too_long(lines)
    for name in ("efficientnet_lite0", "efficientnet_lite1"):
        assert sum(line.startswith(f"{name}: ") for line in lines) == 1
    assert sum("PyTorch (fp32)" in line for line in lines) == 1
    text = " ".join(lines)
    for words in ("95 % intervals in parentheses", "Images: 4 of 20", "One random change of each"):
        assert words in text
    (folder,) = (line.removeprefix("results are in ") for line in lines if "results are in" in line)
    assert (tmp_path / folder / "table6.md").is_file()
    assert status(["results"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert not too_long(told)
    assert Path(told[0]).is_dir()
    assert f"  results in {folder}" in told
    assert any("done, 4 of 4 cells" in line for line in told)


def test_a_sweep_at_80_columns(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line a job, and one table."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    ended = run("-m", *FEW, "dataset.limit=3", "perturbation.num=4,8")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert not too_long(lines)
    assert ended.out.count("\nNum ") == ended.out.count("Images: 3 of 20") == 1
    assert "efficientnet_lite0: " not in ended.out
    jobs = [line for line in lines if line.startswith("perturbation.num=")]
    assert [line.split(": done in ")[0] for line in jobs] == [
        "perturbation.num=4", "perturbation.num=8",
    ]  # fmt: skip
    assert all((tmp_path / line.split(", ")[-1]).is_dir() for line in jobs)


def test_tables_that_stand_apart_are_all_shown(run: Run) -> None:
    ended = run("-m", *FEW, "dataset.limit=3", "perturbation.num=4", "seed=0,1")
    assert ended.code == 0, ended.err
    assert "(seed=0)" in ended.out
    assert "(seed=1)" in ended.out


@pytest.fixture
def stored(run: Run, tmp_path: Path) -> tuple[Path, tuple[str, ...]]:
    command = ("experiment=table6", *FEW, "dataset.limit=3", "perturbation.num=4")
    assert run(*command).code == 0
    (folder,) = (tmp_path / "results").glob("table6-*")
    return folder, command


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*.*")}


def test_equal_numbers_leave_all_files_as_they_are(
    stored: tuple[Path, tuple[str, ...]], run: Run
) -> None:
    """Though the record says when, and by which versions, they were found first."""
    folder, command = stored
    record = folder / "outcomes" / "table6.json"
    record.write_text(record.read_text().replace('"torch": "', '"torch": "0.'))
    before = bytes_of(folder)
    ended = run(*command)
    assert "the same numbers as stored; nothing was written" in ended.out
    assert bytes_of(folder) == before
    ended = run(*command, "recompute=true")
    assert "nothing was written" not in ended.out
    assert record.read_bytes() != before[record]


def test_other_numbers_and_missing_files_are_written(
    stored: tuple[Path, tuple[str, ...]], run: Run
) -> None:
    folder, command = stored
    before = bytes_of(folder)
    (folder / "table6.md").unlink()
    assert "nothing was written" not in run(*command).out
    assert bytes_of(folder) == before
    path = folder / "outcomes" / "table6.parquet"
    rows = pd.read_parquet(path)
    rows.assign(prediction=rows["prediction"] + 1).to_parquet(path)
    assert "nothing was written" not in run(*command).out
    assert bytes_of(folder)[path] == before[path]


def test_bars_vanish_and_leave_one_line_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(Console(width=80))
    for network in ("one", "two"):
        for words in ("same", "heldout"):
            with progress.task(words, 3, network) as advance:
                advance(3)
    progress.end_line()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["one", "two"]


def test_times_are_in_words() -> None:
    times = [duration(seconds) for seconds in (0.21, 35.4, 200, 7260)]
    assert times == ["0.2 s", "35 s", "3 min 20 s", "2 h 1 min"]


def test_captions_stand_below_every_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    note = "Wrong predictions in percent, with 95 % intervals in parentheses. " * 2
    show([Presented("A table", of_five_networks(), [note])], Path("results"))
    out = capsys.readouterr().out
    assert " ".join(note.split()) in " ".join(out.split())
    assert not too_long(out.splitlines())


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_results_go_to_the_current_folder_outside_the_repository(
    where: str, tmp_path: Path
) -> None:
    folder = REPOSITORY / "docs" if where == "inside" else tmp_path
    expected = REPOSITORY / "results" if where == "inside" else tmp_path / "pixelrobust-results"
    code = (
        "from experiments.config import settings_of; from experiments.exits import default_results\n"
        "print(settings_of().paths.results); print(default_results())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{code}"],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout.split() == [str(expected)] * 2
