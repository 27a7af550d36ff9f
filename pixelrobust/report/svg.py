"""Figures inside a page, as SVG in the page's own letters and colours."""

import io
import re
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib as mpl
from matplotlib.figure import Figure

from pixelrobust.errors import printable
from pixelrobust.figures import CAPTION, COLOURS, LEVELS, ON_COLOUR, TITLE

_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
# Style sheets give the page's own values of these, for light and for dark screens.
_COLOURS = {
    **{colour.lower(): f"var(--series-{place})" for place, colour in enumerate(COLOURS)},
    **{colour.lower(): f"var(--level-{place})" for place, colour in enumerate(LEVELS)},
    "#000000": "currentColor",
    "#808080": "var(--muted)",
    "#b0b0b0": "var(--edge)",
}
_FONT = re.compile(r"font-family: [^;]*;? ?")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_DECIMAL = re.compile(r"-?\d+\.\d+")
_UPRIGHT = re.compile(r" ?rotate\(-?0 [^)]*\)")
# Points, which figures are measured in, of which 72 are an inch, as 96 pixels of a page are.
_PIXELS_A_POINT = 96 / 72
# How far figures shrink before they scroll.
_LEAST = 0.65


def inline_svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element for an HTML page; equal figures give equal texts.

    Title and caption, which a page shows as text, are left out. The figure must not be used again.

    Args:
        figure: from one of `pixelrobust.figures`.
        name: of the figure, of its own on the page: all ids begin with it.
    """
    for text in figure.texts:
        if text.get_gid() in (TITLE, CAPTION):
            text.set_visible(False)
            text.set_in_layout(False)
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    drawn = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
    root = ElementTree.fromstring("\n".join(map(printable, drawn.getvalue().splitlines())))
    for part in ("metadata", "defs"):
        root.remove(root.find(f"{_SVG}{part}"))  # type: ignore[arg-type]
    _own_the_ids(root, name)
    _take_the_pages_style(root)
    _unwrap(root)
    width, height = (float(end) for end in root.attrib["viewBox"].split()[2:])
    # The first three as matplotlib's own style sheet has them, which would hold for the whole page.
    root.attrib |= {
        "width": f"{_PIXELS_A_POINT * width:.0f}",
        "height": f"{_PIXELS_A_POINT * height:.0f}",
        "style": "stroke-linejoin: round; stroke-linecap: butt; fill: currentColor; "
        f"width: 100%; height: auto; max-width: {_PIXELS_A_POINT * width:.0f}px; "
        f"min-width: {_LEAST * _PIXELS_A_POINT * width:.0f}px",
    }
    return _as_html(root)


def _own_the_ids(root: Element, name: str) -> None:
    """Let ids begin with a name, and drop those that nothing refers to."""
    used = set(_references(root))
    for part in root.iter():
        if part.get("id") in used:
            part.set("id", f"{name}-{part.attrib['id']}")
        elif part.get("id") != ON_COLOUR:
            part.attrib.pop("id", None)
        for key, value in part.attrib.items():
            part.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))
        if part.get(_LINK, "").startswith("#"):
            part.set(_LINK, f"#{name}-{part.attrib[_LINK][1:]}")


def _references(root: Element) -> Iterator[str]:
    for part in root.iter():
        yield part.get(_LINK, "")[1:]
        for value in part.attrib.values():
            yield from _REFERENCE.findall(value)


def _take_the_pages_style(root: Element) -> None:
    """Replace letters and colours by those of the page, and round numbers to a hundredth of a point."""
    for part in root.iter():
        for key in ("d", "x", "y", "width", "height", "viewBox", "transform", "points"):
            if key in part.attrib:
                short = _DECIMAL.sub(
                    lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."),
                    part.attrib[key],
                )
                part.set(key, _UPRIGHT.sub("", " ".join(short.split())))
        style = _FONT.sub("", part.get("style", "")).rstrip("; ")
        for colour, own in _COLOURS.items():
            style = style.replace(colour, own)
        part.set("style", style)
        for empty in [key for key, value in part.attrib.items() if not value]:
            del part.attrib[empty]
    # Letters on coloured fields stay black or white, as the fields stay as they are.
    for field in root.iterfind(f".//*[@id='{ON_COLOUR}']"):
        del field.attrib["id"]
        field.set("style", "fill: #000")


def _unwrap(part: Element) -> None:
    """Put what stands in groups that say nothing in their place."""
    children: list[Element] = []
    for child in part:
        _unwrap(child)
        says_nothing = child.tag == f"{_SVG}g" and not child.attrib
        children.extend(child if says_nothing else [child])
    part[:] = children


def _as_html(root: Element) -> str:
    """Return the element in HTML's syntax, which knows SVG without its namespaces."""
    for part in root.iter():
        part.tag = part.tag.removeprefix(_SVG)
        part.text, part.tail = (part.text or "").strip(), ""
        if _LINK in part.attrib:
            part.set("href", "".join(part.attrib.pop(_LINK).split()))
    return ElementTree.tostring(root, encoding="unicode")
