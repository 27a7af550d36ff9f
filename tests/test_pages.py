"""Pages: links lead somewhere, code is code, and the site is built from all of them."""

import ast
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

import pixelrobust
from scripts.docstrings import split_names
from scripts.links import anchors, broken, links, local_files
from scripts.site import build, navigation, pages
from tests.conftest import REPOSITORY

PAGES = pages()
each_page = pytest.mark.parametrize("page", PAGES, ids=str)
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


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken(REPOSITORY / page)) == []


def test_what_shows_that_faults_are_told_is_there() -> None:
    page = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+\.py)`", page))
    assert named
    there = {path.name for path in (REPOSITORY / "tests").rglob("test_*.py")}
    assert named <= there


@each_page
def test_what_a_page_links_belongs_to_the_repository(page: Path) -> None:
    for file in local_files(REPOSITORY / page):
        ignored = ["git", "check-ignore", "--quiet", "--no-index", str(file)]
        assert subprocess.run(ignored, cwd=REPOSITORY).returncode == 1, file


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
        assert set(languages) <= {"python", "bash", "shell", "text"}, page


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


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
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
    words = re.sub(r"<[^>]+>", "", reference.split('id="pixelrobust.load_network"')[1])
    assert re.search(r"\bstd\s*\(\s*Sequence\[float\] \| None", words)


def test_names_that_share_a_line_get_entries_of_their_own() -> None:
    before = "Says.\n\nArgs:\n    low, high: ends,\n        in 0..1.\n    n: a, b: c.\n\nReturns:\n    x, y: no."
    assert split_names(before).splitlines()[3:8] == [
        "    low: ends,", "        in 0..1.", "    high: ends,", "        in 0..1.", "    n: a, b: c.",
    ]  # fmt: skip
    assert split_names("Plain a, b: c.") == "Plain a, b: c."


def test_every_page_is_in_the_menu_once() -> None:
    found = re.findall(r"[\w./-]+\.md", str(navigation(PAGES)))
    assert sorted(found) == sorted(map(str, PAGES))


# Links themselves


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# One `two`: three!\n\n## A-b c\n")
    (tmp_path / "page.md").write_text(
        "# Top\n[good](docs/other.md#one-two-three) [own](#top) [web](https://doi.org/10.1/x)\n"
        "![split\nwords](docs/other.md)\n`[code](nowhere.md)`\n"
        "```text\n[fenced](nowhere.md)\n```\n"
        "[gone](docs/none.md) [anchor](docs/other.md#four) [plain](http://example.org)\n"
    )
    return tmp_path / "page.md"


def test_links_are_found_outside_code(page: Path) -> None:
    assert "nowhere.md" not in links(page.read_text())
    assert links('[a](b.md "title") [c](<d.md>) [e\nf](g.md)') == ["b.md", "d.md", "g.md"]


def test_broken_links_are_told(page: Path) -> None:
    assert list(broken(page)) == [
        "docs/none.md is no file",
        "docs/other.md#four: other.md has no such heading",
        "http://example.org is no address that begins with https://",
    ]


def test_anchors_are_those_of_headings(page: Path) -> None:
    assert anchors(page.parent / "docs" / "other.md") == {"one-two-three", "a-b-c"}
