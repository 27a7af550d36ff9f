"""Notebooks are committed without output, name no machine, and use what anybody can import."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
    """No output, no place of one machine, and ids that say what a cell does."""
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in content["cells"]:
        # Eight random hexadecimal digits are what editors put there.
        assert re.fullmatch(r"(?![0-9a-f]{8}$)[a-z][a-z0-9]*(-[a-z0-9]+)*", cell["id"])
        assert not cell.get("outputs"), f"cell {cell['id']} holds output; clear it"
        assert cell.get("execution_count") is None, cell["id"]
        assert not cell["metadata"], cell["id"]
        assert not re.search(r"""["'`](/\w|[A-Za-z]:[\\/])""", "".join(cell["source"])), cell["id"]


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
