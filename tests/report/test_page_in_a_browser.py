"""The page in a browser: it loads nothing, sorts, answers the pointer and the keyboard, and adapts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from experiments.page import keys_gallery, write_page
from tests.conftest import from_setup_dev
from tests.report.cases import BUNDLED, HOSTILE, hostile_folder, some_of_bundled

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

playwright = from_setup_dev("playwright.sync_api")
axe = from_setup_dev("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A page with a piece of every kind, the gallery among them."""
    runs = ("table6", "table7", "table8", "breakdown")
    folder = some_of_bundled(tmp_path_factory.mktemp("page") / "results", *runs)
    told: list[str] = []
    path = write_page(
        folder, keys_gallery(["profile=bundled", f"paths.cache={cache}"]), told.append
    )
    assert told == []
    return path


class Seen:
    """What a page asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.words: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.words.append(message.text))
        page.on("pageerror", lambda error: self.words.append(str(error)))
        page.on("dialog", lambda dialog: self.words.append(dialog.message))


def opened(
    browser: Browser, path: Path, width: int = 1280, scheme: str = "light"
) -> tuple[Page, Seen]:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    seen = Seen(page)
    page.goto(path.as_uri())
    return page, seen


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    page, _ = opened(browser, report)
    yield page
    page.close()


def column(table: Locator, index: int) -> list[str]:
    return table.locator(f"tbody tr td:nth-child({index + 1})").all_inner_texts()


def all_columns_of_breakdown(page: Page) -> Locator:
    part = page.locator("article[aria-labelledby=part-breakdown]")
    part.locator("summary", has_text="of breakdown.csv").click()
    return part.locator("table", has_text="wrong_rate")


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent.trim()"))


def tab_to(page: Page, selector: str, most: int = 400) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached by the Tab key")


def test_nothing_is_loaded_and_nothing_complains(browser: Browser, report: Path) -> None:
    page, seen = opened(browser, report)
    page.close()
    assert [url for url in seen.requests if not url.startswith(("data:", "blob:"))] == [
        report.as_uri()
    ]
    assert seen.words == []


def test_the_page_may_load_nothing(page: Page) -> None:
    """Whatever would get into it: the browser itself refuses."""
    tried = "fetch('https://localhost:9/').then(() => 'loaded', error => error.name)"
    assert page.evaluate(tried) == "TypeError"
    image = "new Promise(end => { const image = new Image(); image.onload = () => end('loaded'); image.onerror = () => end('refused'); image.src = 'file:///etc/hostname'; })"
    assert page.evaluate(image) == "refused"
    script = "(() => { const own = document.createElement('script'); own.textContent = 'window.ran = 1'; document.body.append(own); return window.ran ?? 0; })()"
    assert page.evaluate(script) == 0


def test_a_click_on_a_header_sorts(page: Page) -> None:
    table = all_columns_of_breakdown(page)
    header = table.locator("th", has=page.locator("button", has_text=re.compile("^wrong_rate")))
    index = int(header.evaluate("th => th.cellIndex"))
    rates = sorted(pd.read_csv(BUNDLED / "breakdown.csv")["wrong_rate"])
    assert [float(text) for text in column(table, index)] != pytest.approx(rates, abs=1e-3)
    for order, wanted in (("ascending", rates), ("descending", rates[::-1])):
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == order
        assert [float(text) for text in column(table, index)] == pytest.approx(wanted, abs=1e-3)
    assert table.locator("th[aria-sort=descending]").count() == 1


def test_missing_numbers_stay_last(page: Page) -> None:
    table = all_columns_of_breakdown(page)
    header = table.locator("th", has_text="pixel_index")
    index = int(header.evaluate("th => th.cellIndex"))
    for _ in range(2):
        header.locator("button").click()
        texts = column(table, index)
        filled = [text for text in texts if text.strip()]
        assert 0 < len(filled) < len(texts)
        assert texts[: len(filled)] == filled


def test_the_keyboard_sorts(page: Page) -> None:
    tab_to(page, "article[aria-labelledby=part-table6] th:nth-child(2) button")
    table = page.locator("article[aria-labelledby=part-table6] table").first
    assert focused(page).startswith("squeezenet_caffe")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert table.locator("th").first.get_attribute("aria-sort") == "descending"
    nums = ["16384", "4096", "1024", "256", "64", "32", "16", "8", "4", "0"]
    assert [text.split()[0] for text in column(table, 0)] == nums


def test_the_first_stop_of_the_keyboard_skips_to_the_results(page: Page) -> None:
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the results"
    assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_figures_are_drawn(page: Page) -> None:
    """At their full width, with curves, and words that can be selected."""
    drawing = page.locator("article[aria-labelledby=part-breakdown] svg").first
    assert drawing.bounding_box()["width"] > 600  # type: ignore[index]
    assert drawing.locator("path").count() > 20
    words = drawing.locator("text").all_text_contents()
    assert {"efficientnet_lite0", "accuracy (%)", "16,384"} <= set(words)


def test_arrow_keys_on_the_slider_change_pictures_and_predictions(page: Page) -> None:
    tab_to(page, "input[type=range]")
    pictures = page.locator(".card:first-child img:visible")
    words = page.locator(".card").all_inner_texts()
    assert pictures.count() == 1
    assert pictures.first.get_attribute("alt") == page.locator(".card-title").first.inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator(".slider output").inner_text() == "4"
    assert page.locator("input[type=range]").get_attribute("aria-valuetext") == "4"
    assert pictures.count() == 2
    page.keyboard.press("End")
    assert page.locator(".slider output").inner_text() == "16,384"
    assert page.locator(".card").all_inner_texts() != words
    assert pictures.count() == 10
    places = "own => new Set(own.map(one => `${one.offsetLeft} ${one.offsetTop}`)).size"
    assert pictures.evaluate_all(places) == 1
    assert page.locator(".predictions .wrong:visible").count() > 0
    loaded = "[...document.querySelectorAll('.card img')].every(i => i.naturalWidth === 224)"
    assert page.evaluate(loaded)


def test_claims_open_by_keyboard(page: Page) -> None:
    tab_to(page, ".verdict summary")
    page.keyboard.press("Enter")
    details = page.locator(".verdict").first
    assert details.get_attribute("open") is not None
    assert "Test: " in details.inner_text()
    assert details.locator("table").is_visible()


@pytest.mark.parametrize("hostile", [False, True])
def test_a_phone_scrolls_tables_not_the_page(
    browser: Browser, report: Path, tmp_path: Path, hostile: bool
) -> None:
    path = write_page(hostile_folder(tmp_path), None, print) if hostile else report
    page, _ = opened(browser, path, width=360)
    page.evaluate("document.querySelectorAll('details').forEach(own => { own.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = "[...document.querySelectorAll('.scroll')].filter(own => own.scrollWidth > own.clientWidth).length"
    assert page.evaluate(wide) > 0
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_axe_finds_nothing(browser: Browser, report: Path, width: int, scheme: str) -> None:
    page, _ = opened(browser, report, width, scheme)
    page.evaluate("document.querySelector('.verdict').open = true")
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]})
    page.close()
    assert found.violations_count == 0, found.generate_report()


def test_the_dark_scheme_is_dark_and_figures_follow(page: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    drawing = page.locator("article[aria-labelledby=part-breakdown] svg").first
    axis = drawing.locator("path[style*='stroke: currentColor']").first
    curve = drawing.locator("path[style*='stroke: var(--series-0)']").first
    stroke = "own => getComputedStyle(own).stroke"
    letters = "own => getComputedStyle(own.querySelector('text')).fill"
    light, before = page.evaluate(background), curve.evaluate(stroke)
    assert max(numbers(axis.evaluate(stroke))) < 60
    assert numbers(before) == [0, 114, 178]
    page.emulate_media(color_scheme="dark")
    assert min(numbers(light)) > 230
    assert max(numbers(page.evaluate(background))) < 50
    assert min(numbers(axis.evaluate(stroke))) > 200
    assert min(numbers(drawing.evaluate(letters))) > 200
    assert curve.evaluate(stroke) != before


def numbers(colour: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", colour)[:3]]


def test_untrusted_names_do_nothing(browser: Browser, tmp_path: Path) -> None:
    path = write_page(hostile_folder(tmp_path), None, print)
    page, seen = opened(browser, path)
    part = page.locator("article[aria-labelledby=part-table6]")
    assert HOSTILE in part.locator("th").all_inner_texts()
    assert HOSTILE in part.locator("svg").first.locator("text").all_text_contents()
    assert (
        page.locator("main img, main a[href^=javascript], main script, main [onclick]").count() == 0
    )
    page.close()
    assert seen.requests == [path.as_uri()]
    assert seen.words == []
