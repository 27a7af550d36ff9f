"""Notebooks show what running them shows, name no machine, and use what anybody can import."""

import ast
import base64
import importlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import REPOSITORY, from_setup_dev

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
    """No place of one machine, no word of warning, and ids that say what a cell does."""
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in content["cells"]:
        # Eight random hexadecimal digits are what editors put there.
        assert re.fullmatch(r"(?![0-9a-f]{8}$)[a-z][a-z0-9]*(-[a-z0-9]+)*", cell["id"])
        assert not cell["metadata"], cell["id"]
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", cell["id"]
        assert not re.search(r"""["'`](/\w|[A-Za-z]:[\\/])""", "".join(cell["source"])), cell["id"]


def texts(cell: dict[str, Any]) -> list[str]:
    """What a cell has printed, and how its values are shown as text."""
    outputs = cell.get("outputs", [])
    shown = [text for each in outputs for kind, text in sorted(each.get("data", {}).items())
             if kind.startswith("text/") and "image/png" not in each["data"]]  # fmt: skip
    return ["".join(text) for text in [*(each.get("text", "") for each in outputs), *shown]]


def pictures(cell: dict[str, Any]) -> list[bytes]:
    return [
        base64.b64decode(output["data"]["image/png"])
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


DECIMAL = re.compile(r"-?\d+\.\d+")


def alike(text: str, other: str) -> bool:
    """Whether texts are equal but for the last digits of decimal numbers, which differ between processors."""
    words, numbers = (
        [" ".join(part.split()) for part in DECIMAL.split(text)],
        DECIMAL.findall(text),
    )
    if words != [" ".join(part.split()) for part in DECIMAL.split(other)]:
        return False
    return all(
        abs(float(one) - float(two)) < 1.5 * 10.0 ** -len(one.partition(".")[2])
        for one, two in zip(numbers, DECIMAL.findall(other), strict=True)
    )


def test_texts_are_alike_up_to_the_last_digit() -> None:
    assert alike("of 17: 0.125  (0.1)", "of 17: 0.126 (0.1)")
    assert not alike("of 17: 0.125", "of 18: 0.125")
    assert not alike("of 17: 0.125", "of 17: 0.128")
    assert not alike("0.5 right", "0.5 wrong")


@each_notebook
def test_its_pictures_are_small(path: Path) -> None:
    """Everybody who clones the repository loads them."""
    found = [picture for cell in cells(path, "code") for picture in pictures(cell)]
    assert found
    assert max(map(len, found)) < 250_000
    assert path.stat().st_size < 700_000


@pytest.mark.slow
@each_notebook
def test_running_it_shows_what_it_shows(path: Path) -> None:
    from_setup_dev("nbclient")
    from scripts.notebooks import executed

    ran = [cell for cell in executed(path)["cells"] if cell["cell_type"] == "code"]
    for cell, kept in zip(ran, cells(path, "code"), strict=True):
        told = f"cell {kept['id']} shows something else; look at it, and give `make notebooks`"
        assert len(texts(cell)) == len(texts(kept)), told
        assert all(map(alike, texts(cell), texts(kept))), told
        sizes = [
            [Image.open(io.BytesIO(picture)).size for picture in pictures(each)]
            for each in (cell, kept)
        ]
        assert sizes[0] == sizes[1], told


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
