"""Build the site: README, docs, results and the API reference as pages.

usage: python -m scripts.site [FOLDER]

Pages stand in several folders, and link each other as they do on a code host. So the repository's files
are copied into a folder, which MkDocs then reads; a link that leads nowhere ends the build.
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

REPOSITORY = Path(__file__).resolve().parent.parent
_SHOWN = re.compile(r"(README|CONTRIBUTING|CHANGELOG)\.md|(docs|results)/.*\.md")


def files() -> list[str]:
    """List what belongs to the repository, hidden files aside, Table 2 before Table 10."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    names = {name for name in listed.stdout.split("\0") if name and name[0] != "."}
    there = (name for name in names if (REPOSITORY / name).is_file())
    return sorted(
        there, key=lambda name: re.sub(r"\d+", lambda digits: f"{int(digits[0]):09}", name)
    )


def pages() -> list[Path]:
    """List all Markdown files of the repository, relative to it."""
    return [Path(name) for name in files() if _SHOWN.fullmatch(name)]


def navigation(found: list[Path]) -> list[dict[str, Any]]:
    """Return the menu as MkDocs wants it: titles are the pages' first headings."""

    def within(folder: str) -> list[Any]:
        return [str(page) for page in found if str(page.parent) == folder]

    reference = sorted(within("docs/api"), key=lambda name: not name.endswith("/index.md"))
    folders = dict.fromkeys(page.parts[1] for page in found if str(page).count("/") == 2)
    results = [{name: within(f"results/{name}")} for name in folders if name != "api"]
    return [
        {"Home": "README.md"},
        {"Guide": within("docs")},
        {"API reference": reference},
        {"Results": [*within("results"), *results]},
        {"Project": [name for name in within(".") if name != "README.md"]},
    ]


def build(site: Path) -> int:
    """Build the site into a folder, replacing what is there, and return MkDocs' exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in files():
            target = folder / "pages" / name
            if not name.endswith(".md") or _SHOWN.fullmatch(name):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(REPOSITORY / name, target)
        config = {
            "INHERIT": str(REPOSITORY / "docs" / "mkdocs.yml"),
            "docs_dir": "pages",
            "site_dir": str(site.resolve()),
            "nav": navigation(pages()),
            "plugins": {"mkdocstrings": {"handlers": {"python": {"paths": [str(REPOSITORY)]}}}},
        }
        # JSON is YAML.
        (folder / "mkdocs.yml").write_text(json.dumps(config), encoding="utf-8")
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file"]
        # Material for MkDocs tells of its future at every build.
        environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
        return subprocess.run([*command, str(folder / "mkdocs.yml")], env=environment).returncode


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "site"))
