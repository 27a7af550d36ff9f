"""Figures inside a page: their letters, colours and ids are the page's own."""

import re

import pandas as pd

from pixelrobust.figures import COLOURS, add_legend, add_words, new_figure, tidy
from pixelrobust.figures.maps import heat_map
from pixelrobust.report.svg import inline_svg
from tests.report.test_page import Shown


def drawn(name: str, label: str = "net") -> str:
    """A figure of a curve in each colour, a band and a black line."""
    figure = new_figure(4, 3)
    axes = figure.subplots()
    for place, colour in enumerate(COLOURS):
        axes.plot([0, 1], [0, place], color=colour, marker="o", label=f"{label} {place}")
    axes.fill_between([0, 1], 0, 1, color=COLOURS[0], alpha=0.15)
    axes.axhline(0, color="black")
    tidy(axes)
    add_legend(figure, axes.lines)
    add_words(figure, "A title", "A caption.")
    return inline_svg(figure, name)


def test_equal_figures_are_equal_and_others_share_no_id() -> None:
    assert drawn("one") == drawn("one")
    one, two = Shown(drawn("one")), Shown(drawn("two"))
    assert one.ids
    assert all(key.startswith("one-") for key in one.ids)
    assert {link.removeprefix("#") for link in one.links} <= set(one.ids)
    assert set(one.ids).isdisjoint(two.ids)
    clips = re.findall(r"url\(#([^)]*)\)", drawn("one"))
    assert set(clips) <= set(one.ids)


def test_colours_and_letters_are_the_pages() -> None:
    svg = drawn("one")
    used = set(re.findall(r"(?:fill|stroke): ([^;\"]*)", svg))
    assert used == {
        "none",
        "currentColor",
        "var(--edge)",
        *(f"var(--series-{k})" for k in range(6)),
    }
    assert "font-family" not in svg
    assert "<g>" not in svg
    assert "font-size: 10px" in svg
    assert "<style" not in svg


def test_title_and_caption_are_left_to_the_page() -> None:
    texts = Shown(drawn("one")).texts
    assert "net 0" in texts
    assert not {"A title", "A caption."} & texts


def test_letters_on_coloured_fields_keep_their_colour() -> None:
    figure = new_figure(3, 3)
    axes = figure.subplots()
    rows = pd.DataFrame({"model": ["a", "b"], "num": 4, "rate": [0.0, 1.0]})
    heat_map(axes, rows, ("model", ["a", "b"], "rate"), 1, "{:.2f}".format)
    svg = inline_svg(figure, "map")
    assert re.search(r'<g style="fill: #000"><text [^>]*fill: #ffffff[^>]*>1.00<', svg)
    assert re.search(r'<g style="fill: #000"><text (?![^>]*fill)[^>]*>0.00<', svg)
    assert "on-colour" not in svg


def test_what_a_browser_must_not_read_is_written_out() -> None:
    texts = Shown(drawn("one", "<b>\x1b[31m\u202e&amp;")).texts
    assert "<b>\\x1b[31m\\u202e&amp; 0" in texts
