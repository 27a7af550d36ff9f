"""Pages: links lead somewhere, code is code, and the site is built from all of them."""

import ast
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

import pixelrobust
from scripts.site import build, navigation, pages
from tests.conftest import REPOSITORY, from_setup_dev

PAGES = pages()
WRITTEN = [path for path in PAGES if path.parts[0] != "results"]


def blocks(language: str) -> list[tuple[str, str]]:
    """Page and content of every code block of a language."""
    return [
        (f"{page}:{index}", block)
        for page in WRITTEN
        for index, block in enumerate(
            re.findall(
                rf"^```{language}\n(.*?)^```$",
                (REPOSITORY / page).read_text(encoding="utf-8"),
                re.MULTILINE | re.DOTALL,
            )
        )
    ]


def of(language: str) -> pytest.MarkDecorator:
    found = blocks(language)
    return pytest.mark.parametrize(
        "block", [block for _, block in found], ids=[place for place, _ in found]
    )


def test_pages_are_found() -> None:
    names = {str(page) for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/api/index.md"} <= names
    assert "results/imagenet-samples/table6.md" in names


def test_what_shows_that_faults_are_told_is_there() -> None:
    page = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+\.py)`", page))
    assert named
    there = {path.name for path in (REPOSITORY / "tests").rglob("test_*.py")}
    assert named <= there


@of("python")
def test_python_is_python(block: str) -> None:
    names = set(pixelrobust.__all__)
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "pixelrobust":
            assert {alias.name for alias in node.names} <= names
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pixelrobust."):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)


def test_code_is_in_languages_that_are_tested() -> None:
    """Commands of blocks called shell need a Slurm, which test_launchers starts for them."""
    for page in WRITTEN:
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        languages = re.findall(r"^ *```(\w+)$", text, re.MULTILINE)
        assert set(languages) <= {"python", "bash", "shell", "text", "mermaid"}, page


@of("bash")
def test_shell_commands_are_ones(block: str) -> None:
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    for line in block.splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["make"] and words[1:]:
            targets = [word for word in words[1:] if "=" not in word]
            make = ["make", "--dry-run", "BIN=/usr/bin", *targets]
            assert subprocess.run(make, cwd=REPOSITORY, capture_output=True).returncode == 0, line
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None, line


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    from_setup_dev("mkdocs")
    assert build(tmp_path / "site") == 0
    for page in PAGES:
        folder = tmp_path / "site" / page.parent
        stem = "" if page.stem in ("README", "index") else page.stem
        assert (folder / stem / "index.html").is_file(), page
    written = "".join(
        path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")
    )
    # Nothing is fetched from elsewhere: links may lead there, scripts, styles and pictures not.
    assert not re.search(r"<(script|img|iframe)\b[^>]*\bsrc=\"?(https?:)?//", written)
    assert not re.search(
        r"<link\b[^>]*rel=\"?(stylesheet|preconnect)[^>]*href=\"?(https?:)?//", written
    )
    # Markdown of code hosts nests lists by less than MkDocs does, which would then swallow them.
    words = re.sub(r"(?s)<(pre|script|style)\b.*?</\1>", "", written)
    assert re.findall(r"[^\n<>]+\n *[-*] [^\n<]+", words) == []
    reference = (tmp_path / "site" / "docs" / "api" / "index.html").read_text(encoding="utf-8")
    for name in pixelrobust.__all__:
        assert re.search(rf'id="?pixelrobust\.(pixel_index\.)?{name}\b', reference), name
    for section in ("Parameters:", "Returns:", "Raises:"):
        assert section in reference


def test_every_page_is_in_the_menu_once() -> None:
    found = re.findall(r"[\w./-]+\.md", str(navigation(PAGES)))
    assert sorted(found) == sorted(map(str, PAGES))
