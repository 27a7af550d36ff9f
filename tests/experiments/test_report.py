"""Stored runs are printed and rebuilt without computing anything."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.report import main
from tests.conftest import REPOSITORY

BUNDLED = REPOSITORY / "results" / "bundled"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLED, tmp_path / "copy"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_without_a_folder_all_runs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys)
    for path in BUNDLED.glob("outcomes/*.json"):
        assert path.stem in out


def test_a_folder_prints_every_table_with_its_provenance(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = printed(capsys, str(BUNDLED))
    assert out.index("Table 1") < out.index("Table 6:") < out.index("Table 9:")
    assert "table6: seed 0, draws 10, torch " in out


def test_only_the_wanted_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, str(BUNDLED), "table7")
    assert "Table 7" in out
    assert "Table 6" not in out


def test_rebuilding_gives_the_same_files_without_torch(copy: Path) -> None:
    texts = {
        path.name: path.read_text()
        for pattern in ("*.md", "*.csv", "*.tex")
        for path in copy.glob(pattern)
        # No outcomes are behind descriptions of what is installed, nor behind losses.
        if path.stem not in ("table1", "table2", "table3", "table4", "retraining")
    }
    for name in texts:
        (copy / name).unlink()
    program = (
        "import sys; from experiments.report import main\n"
        f"sys.exit(main([{str(copy)!r}, '--rebuild']) or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True)
    assert {name: (copy / name).read_text() for name in texts} == texts


def test_only_the_wanted_tables_are_rebuilt(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in copy.glob("*.*"):
        path.unlink()
    printed(capsys, str(copy), "claims", "--rebuild")
    assert "claims.md" in {path.name for path in copy.iterdir()}
    assert not (copy / "table6.md").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere holds no table"),
        ([str(BUNDLED), "table77"], "holds no table table77; it holds table1, "),
    ],
)
def test_what_is_not_there_is_said(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_broken_manifest_is_a_sentence(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "outcomes" / "table6.json").write_text("{")
    assert main([str(copy), "table6"]) == 2
    assert "manifest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: [record], "cannot be read"),
        (lambda record: record | {"images": "many"}, "is of another form (images)"),
        (lambda record: record | {"seconds": {"all": "long"}}, "(rejected or seconds)"),
    ],
    ids=["a list", "a count that is none", "times that are none"],
)
def test_a_manifest_of_another_form_is_a_sentence(
    change: Callable[[dict[str, Any]], Any],
    words: str,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = copy / "outcomes" / "table6.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    assert main([str(copy), "table6"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: manifest ")
    assert words in error
