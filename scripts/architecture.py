"""Draw docs/architecture.svg, and put the table of groups into docs/architecture.md.

usage: python -m scripts.architecture
"""

import ast
from html import escape
from pathlib import Path

from scripts.blocks import with_blocks
from scripts.drawing.groups import GROUPS, Group, arrows, essential, group_of
from scripts.drawing.imports import REPOSITORY, imports, modules
from scripts.drawing.layout import MARGIN, WIDTH, Box, place, way

PICTURE = REPOSITORY / "docs" / "architecture.svg"
PAGE = REPOSITORY / "docs" / "architecture.md"

_STYLE = """
  text { font-family: system-ui, sans-serif; fill: #1f2933; text-anchor: middle }
  .name { font-size: 15px; font-weight: 600 }
  .about { font-size: 11.5px; fill: #52606d }
  rect { fill: #f5f7fa; stroke: #9aa5b1; rx: 6px }
  .knows rect { fill: #fff3e0; stroke: #d99a45 }
  path { fill: none; stroke: #7b8794; stroke-width: 1.4px; stroke-linejoin: round }
  marker path { fill: #7b8794; stroke: none }
"""


def picture() -> str:
    """The picture as SVG: a box a group, an arrow from a group to one that it imports."""
    known = modules()
    drawn = [group for group in GROUPS if any(group_of(name) == group for name in known)]
    rows = sorted({group.row for group in drawn})
    places = {group.name: place(group.column, rows.index(group.row)) for group in drawn}
    height = max(box.bottom for box in places.values()) + MARGIN
    pairs = essential(arrows(imports(), known))
    lines = [
        f'<path marker-end="url(#head)" d="{way(places[above], places[below], places.values())}"/>'
        for above, below in pairs
    ]
    boxes = [_box(group, places[group.name]) for group in drawn]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="title">'
    )
    marker = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>'
    )
    title = '<title id="title">Groups of modules; arrows point to what is imported</title>'
    back = f'<rect width="{WIDTH}" height="{height}" style="fill: white; stroke: none"/>'
    return "\n".join([head, title, f"<style>{_STYLE}</style>", marker, back, *lines, *boxes, "</svg>\n"])  # fmt: skip


def page(text: str) -> str:
    """A page with the table of groups between its markers."""
    known = modules()
    rows = ["| Group | Modules |", "|:--|:--|"]
    for group in GROUPS:
        names = [name for name in known if group_of(name) == group]
        tops = sorted({_top(name) for name in names})
        if tops:
            shown = ", ".join(f"`{top}`" for top in tops)
            rows.append(f"| {group.name}: {group.about} | {shown} |")
    table = "\n".join(["", *rows, "", ""])
    return with_blocks(text, {"groups": table}.__getitem__)


def undocumented() -> list[str]:
    """Modules without a docstring."""
    return [
        name
        for name, path in modules().items()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]


def _top(module: str) -> str:
    """The file or folder that stands for a module in a table: packages count as one."""
    parts = module.split(".")
    if parts[0] != "pixelrobust":
        return f"{parts[0]}/"
    if len(parts) == 1:
        return "__init__"
    folder = REPOSITORY / "pixelrobust" / parts[1]
    return f"{parts[1]}/" if folder.is_dir() else parts[1]


def _box(group: Group, place: Box) -> str:
    kind = ' class="knows"' if group.name in ("experiments", "scripts") else ""
    words = escape(group.about.replace("`", ""))
    return (
        f'<g{kind}><rect x="{place.left:g}" y="{place.top:g}" width="{place.width:g}" '
        f'height="{place.height}"/>'
        f'<text class="name" x="{place.middle:g}" y="{place.top + 18:g}">{escape(group.name)}</text>'
        f'<text class="about" x="{place.middle:g}" y="{place.top + 35:g}">{words}</text></g>'
    )


def main(picture_path: Path = PICTURE, page_path: Path = PAGE) -> None:
    """Write both."""
    picture_path.write_text(picture(), encoding="utf-8")
    page_path.write_text(page(page_path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
