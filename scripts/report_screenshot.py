"""Draw docs/report.png: the page of results/imagenet-samples, without its images, in a browser.

Needs the program chromium, and the package playwright.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from experiments.page import page_of

REPOSITORY = Path(__file__).resolve().parent.parent
PICTURE = REPOSITORY / "docs" / "report.png"
_SIZE = {"width": 1140, "height": 700}
# Light on the left, dark on the right.
_PLACES = {"light": "leaderboard", "dark": "part-table7"}
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> int:
    """Write the picture; 1 where there is no browser."""
    program = shutil.which("chromium")
    if program is None:
        print("chromium is not installed; install it, for example `apt-get install chromium`.")
        return 1
    html = page_of(REPOSITORY / "results" / "imagenet-samples", None, print)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "report.html"
        path.write_text(html, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        page = browser.new_page(viewport=_SIZE)  # type: ignore[arg-type]
        page.goto(path.as_uri())
        shots = []
        for scheme, place in _PLACES.items():
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            shots.append(_shoot(page, f"[aria-labelledby={place}]", Path(folder) / f"{scheme}.png"))
        browser.close()
        _side_by_side(shots).save(PICTURE, optimize=True)
    return 0


def _shoot(page: Page, place: str, path: Path) -> Path:
    """The window at this place, once its first figure is drawn."""
    page.locator(place).evaluate("own => own.scrollIntoView({behavior: 'instant'})")
    page.locator(f"{place} .plot").first.locator(".points path").first.wait_for(state="attached")
    page.screenshot(path=path, animations="disabled")
    return path


def _side_by_side(paths: list[Path]) -> Image.Image:
    pictures = [Image.open(path).convert("RGB") for path in paths]
    width, height = pictures[0].size
    whole = Image.new("RGB", (width * len(pictures), height))
    for index, picture in enumerate(pictures):
        whole.paste(picture, (width * index, 0))
    return whole


if __name__ == "__main__":
    sys.exit(main())
