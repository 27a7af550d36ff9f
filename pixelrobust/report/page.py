"""Writes a page: one HTML file that needs, and may load, nothing else."""

import base64
import hashlib
from collections.abc import Iterator
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from pixelrobust.escaping import printable
from pixelrobust.report.blocks import Block, Disclosure, Figure, Page, Verdicts
from pixelrobust.report.plots import Plot, plotly_panel, style_of

_PACKAGE = "pixelrobust.report"


def render(page: Page) -> str:
    """The page as HTML; equal pages are equal texts.

    Style, scripts, figures and pictures are inside. A content security policy lets the two scripts
    that are written here run, and nothing be loaded from anywhere.
    """
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["printable"] = printable
    environment.filters["style_of"] = style_of
    figures = _Figures()
    has_figures = any(isinstance(block, Figure) for block in _every_block(page))
    scripts = [get_plotlyjs()] if has_figures else []
    scripts.append(_static("report.js"))
    return environment.get_template("page.html").render(
        page=page,
        figures=figures,
        style=_static("report.css"),
        scripts=scripts,
        hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
    )


class _Figures:
    """The panels of all figures, numbered as they come up in the page."""

    def __init__(self) -> None:
        self.panels: list[dict[str, Any]] = []

    def add(self, plot: Plot) -> list[int]:
        """The numbers of a figure's panels."""
        first = len(self.panels)
        self.panels += [plotly_panel(plot, panel) for panel in plot.panels]
        return list(range(first, len(self.panels)))


def _every_block(page: Page) -> Iterator[Block]:
    for section in page.sections:
        for blocks in (section.blocks, *(part.blocks for part in section.parts)):
            for block in blocks:
                yield from _with_inner(block)


def _with_inner(block: Block) -> Iterator[Block]:
    yield block
    if isinstance(block, Disclosure):
        for inner in block.blocks:
            yield from _with_inner(inner)
    if isinstance(block, Verdicts):
        for verdict in block.verdicts:
            for inner in verdict.blocks:
                yield from _with_inner(inner)


def _static(name: str) -> str:
    return (resources.files(_PACKAGE) / "static" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
