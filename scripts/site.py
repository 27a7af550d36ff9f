"""Build the site: README, docs, results and the API reference as pages.

usage: python -m scripts.site [FOLDER]

Pages stand in several folders, and link each other as they do on a code host. So they are copied,
with all that they link, into a folder of the same shape, which MkDocs then reads.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scripts.links import local_files

REPOSITORY = Path(__file__).resolve().parent.parent
_CONFIG = REPOSITORY / "docs" / "mkdocs.yml"
_PROJECT = ("CONTRIBUTING.md", "CHANGELOG.md")


def pages() -> list[Path]:
    """All Markdown files that belong to the repository, except hidden ones; relative to it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = sorted({Path(name) for name in listed.stdout.split("\0") if name}, key=_natural)
    return [path for path in found if path.parts[0][0] != "." and (REPOSITORY / path).is_file()]


def navigation(found: list[Path]) -> list[dict[str, Any]]:
    """What stands in the menu, as MkDocs wants it: titles are the pages' first headings."""
    names = [path.as_posix() for path in found]
    results = sorted({name.split("/")[1] for name in names if re.match("results/.*/", name)})
    single = [name for name in names if name.startswith("results/") and name.count("/") == 1]
    reference = [name for name in names if name.startswith("docs/api/")]
    sections: list[tuple[str, list[Any]]] = [
        ("Guide", [name for name in names if name.startswith("docs/") and name.count("/") == 1]),
        (
            "API reference",
            sorted(reference, key=lambda name: (not name.endswith("/index.md"), name)),
        ),
        ("Results", [*single, *({folder: _below(names, folder)} for folder in results)]),
        ("Project", [name for name in _PROJECT if name in names]),
    ]
    return [{"Home": "README.md"}, *({title: entries} for title, entries in sections if entries)]


def stage(found: list[Path], folder: Path) -> None:
    """Copy pages and all files that they link into a folder of the same shape."""
    linked = {file for path in found for file in local_files(REPOSITORY / path)}
    extra = [REPOSITORY / "docs" / "site.css"]
    for source in {*(REPOSITORY / path for path in found), *linked, *extra}:
        if source.is_file() and source.is_relative_to(REPOSITORY):
            target = folder / source.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def build(site: Path) -> int:
    """Build the site into a folder; what is there is replaced. Returns MkDocs' exit code."""
    found = pages()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stage(found, folder / "pages")
        extensions = [str(REPOSITORY / "scripts" / "docstrings.py")]
        python = {"paths": [str(REPOSITORY)], "options": {"extensions": extensions}}
        config = {
            "INHERIT": str(_CONFIG),
            "docs_dir": "pages",
            "site_dir": str(site.resolve()),
            "nav": navigation(found),
            "plugins": {"mkdocstrings": {"handlers": {"python": python}}},
        }
        # JSON is YAML.
        (folder / "mkdocs.yml").write_text(json.dumps(config), encoding="utf-8")
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file"]
        # Material for MkDocs tells of its future at every build.
        environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
        return subprocess.run([*command, str(folder / "mkdocs.yml")], env=environment).returncode


def _natural(path: Path) -> list[tuple[int, str]]:
    """Table 2 comes before Table 10."""
    return [
        (int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", str(path))
    ]


def _below(names: list[str], folder: str) -> list[str]:
    return [name for name in names if name.startswith(f"results/{folder}/")]


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "site"
    sys.exit(build(place))
