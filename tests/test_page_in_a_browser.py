"""The page in a browser: it loads nothing, sorts, answers the pointer and the keyboard, and adapts."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from experiments.page import keys_gallery, write_page
from pixelrobust.tables import percent
from tests.page_cases import BUNDLED, HOSTILE, hostile_folder, some_of_bundled

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A page with a piece of every kind, the gallery among them."""
    folder = some_of_bundled(tmp_path_factory.mktemp("page") / "results")
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


def drawn(page: Page, part: str) -> Locator:
    """The first figure of a part, once it is drawn."""
    plot = page.locator(f"article[aria-labelledby=part-{part}] .plot").first
    plot.scroll_into_view_if_needed()
    plot.locator(".points path").first.wait_for(state="attached")
    return plot


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
    for part in ("table6", "pixels-to-flip", "breakdown", "table5"):
        drawn(page, part)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.locator(".plot:not(:has(.points))").first.wait_for(state="detached")
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
    assert focused(page).startswith("efficientnet_lite0")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert table.locator("th").first.get_attribute("aria-sort") == "descending"
    assert [text.split()[0] for text in column(table, 0)] == ["64", "32", "16", "8", "4", "0"]


def test_the_first_stop_of_the_keyboard_skips_to_the_results(page: Page) -> None:
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the results"
    assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_the_pointer_is_told_the_interval_of_the_table(page: Page) -> None:
    rows = pd.read_csv(BUNDLED / "breakdown.csv")
    model = rows["model"].iloc[0]
    row = rows[(rows["model"] == model) & (rows["num"] == 4096)].iloc[0]
    plot = drawn(page, "breakdown")
    box = plot.locator(".trace", has=page.locator(".point")).first.locator(".point").nth(4)
    box.hover(force=True)
    label = plot.locator(".hoverlayer .hovertext")
    label.wait_for()
    words = label.text_content() or ""
    share, low, high = (percent(row[key]) for key in ("wrong_rate", "ci_low", "ci_high"))
    assert f"{share} % (95 %: {low}–{high})" in words
    assert model in words
    assert "4,096 changed pixels" in words
    assert f"{row['images']} images, {row['draws']} draws" in words


def test_the_legend_hides_a_curve_by_keyboard_too(page: Page) -> None:
    plot = drawn(page, "breakdown")
    curves = plot.locator(".scatterlayer .trace:has(.point)")
    assert curves.count() == 3
    box = page.locator("article[aria-labelledby=part-breakdown] .legend input").first
    box.focus()
    page.keyboard.press("Space")
    curves.nth(2).wait_for(state="detached")
    assert curves.count() == 2
    page.keyboard.press("Space")
    curves.nth(2).wait_for(state="attached")


def test_arrow_keys_on_the_slider_change_pictures_and_predictions(page: Page) -> None:
    tab_to(page, "input[type=range]")
    picture = page.locator(".card img:visible").first
    before, words = picture.get_attribute("src"), page.locator(".card").all_inner_texts()
    page.keyboard.press("ArrowRight")
    assert page.locator(".slider output").inner_text() == "4"
    assert page.locator("input[type=range]").get_attribute("aria-valuetext") == "4"
    assert picture.get_attribute("src") != before
    page.keyboard.press("End")
    assert page.locator(".slider output").inner_text() == "16,384"
    assert page.locator(".card").all_inner_texts() != words
    assert page.locator(".card:first-child img:visible").count() == 1
    assert page.locator(".answers .wrong:visible").count() > 0
    loaded = "[...document.querySelectorAll('.card img')].every(i => i.hidden || !i.complete || i.naturalWidth === 224)"
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
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.evaluate("document.querySelectorAll('details').forEach(own => { own.open = true; })")
    page.locator(".plot:not(:has(.points))").first.wait_for(state="detached")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = "[...document.querySelectorAll('.scroll')].filter(own => own.scrollWidth > own.clientWidth).length"
    assert page.evaluate(wide) > 0
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_axe_finds_nothing(browser: Browser, report: Path, width: int, scheme: str) -> None:
    page, _ = opened(browser, report, width, scheme)
    drawn(page, "table6")
    page.evaluate("document.querySelector('.verdict').open = true")
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    page.close()
    assert found.violations_count == 0, found.generate_report()


def test_the_dark_scheme_is_dark_and_figures_follow(page: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    plot = drawn(page, "breakdown")
    line = plot.locator(".scatterlayer .trace:has(.point) .js-line").first
    light, stroke = page.evaluate(background), line.evaluate("own => own.style.stroke")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "stroke => document.querySelector('article[aria-labelledby=part-breakdown] .trace:has(.point) .js-line').style.stroke !== stroke",
        arg=stroke,
    )
    dark = page.evaluate(background)
    assert min(numbers(light)) > 230
    assert max(numbers(dark)) < 50


def numbers(colour: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", colour)[:3]]


def test_names_from_strangers_do_nothing(browser: Browser, tmp_path: Path) -> None:
    path = write_page(hostile_folder(tmp_path), None, print)
    page, seen = opened(browser, path)
    plot = drawn(page, "table6")
    assert HOSTILE in page.locator("article[aria-labelledby=part-table6] th").all_inner_texts()
    assert HOSTILE in page.locator(".legend label").first.inner_text()
    plot.locator(".trace:has(.point)").first.locator(".point").nth(2).hover(force=True)
    label = plot.locator(".hoverlayer .hovertext")
    label.wait_for()
    assert HOSTILE in (label.text_content() or "")
    assert label.locator("a").count() == 0
    assert (
        page.locator("main img, main a[href^=javascript], main script, main [onclick]").count() == 0
    )
    page.close()
    assert seen.requests == [path.as_uri()]
    assert seen.words == []
