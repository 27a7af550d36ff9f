"""Links of Markdown pages: found, and followed to files and headings."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

_FENCED = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
_EXTERNAL = re.compile(r"https://[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?(/[^\s]*)?")


def links(text: str) -> list[str]:
    """What the links and images of a page point to, code left out."""
    return _LINK.findall(_without_code(text).replace("\n", " "))


def local_files(page: Path) -> list[Path]:
    """The files, outside the network, that a page's links point to, whether they are there or not."""
    targets = [target.partition("#")[0] for target in links(page.read_text(encoding="utf-8"))]
    return [
        (page.parent / unquote(target)).resolve()
        for target in targets
        if target and ":" not in target
    ]


def broken(page: Path) -> Iterator[str]:
    """One sentence for each link that leads nowhere; addresses are judged by their form only."""
    for target in links(page.read_text(encoding="utf-8")):
        place, _, anchor = target.partition("#")
        file = (page.parent / unquote(place)).resolve() if place else page
        if ":" in place:
            if not _EXTERNAL.fullmatch(target):
                yield f"{target} is no address that begins with https://"
        elif not file.is_file():
            yield f"{target} is no file"
        elif anchor and (file.suffix != ".md" or anchor not in anchors(file)):
            yield f"{target}: {file.name} has no such heading"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCED.sub("", page.read_text(encoding="utf-8"))):
        words = re.sub(r"\]\([^)]*\)|[^\w\s-]", "", heading).strip().lower()
        found.add(re.sub(r"\s", "-", words))
    return found


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", _FENCED.sub("", text))
