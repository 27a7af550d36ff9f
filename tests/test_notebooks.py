"""Notebooks are committed without output, name no machine, and use what anybody can import."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.check_notebooks import faults
from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of everything that a notebook imports from the project."""
    for cell in cells(path, "code"):
        code = re.sub(r"^%.*$", "", "".join(cell["source"]), flags=re.MULTILINE)
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                yield from ((str(node.module), alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from ((alias.name, "") for alias in node.names)


def test_there_are_four() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04"]


@each_notebook
def test_it_is_clean(path: Path) -> None:
    assert faults(path) == []


@each_notebook
def test_it_uses_the_public_interface_only(path: Path) -> None:
    """What it imports from the project is in the API reference."""
    reference = "".join(
        page.read_text(encoding="utf-8") for page in (REPOSITORY / "docs" / "api").glob("*.md")
    )
    documented = set(re.findall(r"^::: (\S+)$", reference, re.MULTILINE))
    used = [(module, name) for module, name in imports(path) if module.startswith("pixelrobust")]
    assert used
    for module, name in used:
        assert not name.startswith("_")
        assert hasattr(importlib.import_module(module), name)
        assert module == "pixelrobust" or module in documented, module
    assert not any(module.startswith(("experiments", "tests")) for module, _ in imports(path))


@each_notebook
def test_numbers_are_computed_and_not_typed(path: Path) -> None:
    """Words state settings, never results: no percentages with decimals, no p-values."""
    for cell in cells(path, "markdown"):
        assert not re.search(r"\d+\.\d+ ?%|p ?[<=] ?0", "".join(cell["source"])), cell["id"]


def broken(path: Path, tmp_path: Path, change: str) -> list[str]:
    """Faults of a notebook after one change."""
    content = json.loads(path.read_text(encoding="utf-8"))
    cell = next(cell for cell in content["cells"] if cell["cell_type"] == "code")
    if change == "output":
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["1"]}]
    elif change == "count":
        cell["execution_count"] = 3
    elif change == "path":
        cell["source"] = ["folder = '/home/somebody/images'"]
    elif change == "id":
        cell["id"] = "0f6b1c2d"
    elif change == "twice":
        content["cells"].append(cell)
    elif change == "kernel":
        content["metadata"]["kernelspec"]["name"] = "my-env"
    elif change == "metadata":
        cell["metadata"] = {"collapsed": True}
    copy = tmp_path / "copy.ipynb"
    copy.write_text(json.dumps(content), encoding="utf-8")
    return faults(copy)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("output", "holds output"),
        ("count", "holds output"),
        ("path", "names a place of one machine: /home/somebody/images"),
        ("id", "is no name"),
        ("twice", "is there twice"),
        ("kernel", "kernel"),
        ("metadata", "metadata"),
    ],
)
def test_every_fault_is_found(change: str, fault: str, tmp_path: Path) -> None:
    (found,) = broken(NOTEBOOKS[0], tmp_path, change)
    assert fault in found


def test_the_check_is_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.check_notebooks"]
    assert subprocess.run([*command, *map(str, NOTEBOOKS)], cwd=REPOSITORY).returncode == 0
    damaged = tmp_path / "damaged.ipynb"
    damaged.write_text("{", encoding="utf-8")
    ended = subprocess.run([*command, str(damaged)], cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "is no notebook" in ended.stdout
