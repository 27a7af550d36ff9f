"""The page of a folder of results: what stands in it. How it behaves: test_page_in_a_browser.py."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments.config import settings_of
from experiments.gallery import card_of, draw_gallery
from experiments.page import page_of
from experiments.report import main
from experiments.stored import stored_runs
from pixelrobust.errors import InputError
from pixelrobust.figures.strip import Strip
from pixelrobust.report.page import Gallery, table_for_reading, table_of_csv
from tests.conftest import REPOSITORY
from tests.report.cases import BUNDLED, HOSTILE, hostile_folder, some_of_bundled

_VOID = {"meta", "input", "img"}


class Shown(HTMLParser):
    """What a page holds: all tags, texts, numbers in full, links, and ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attributes)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attributes)
        self.texts.add(given.get("data-key") or "")
        self.ids += [given["id"] or ""] if "id" in given else []
        link = given.get("href") or ""
        self.links += [link] if link and not link.startswith("data:image/png;base64,") else []

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.texts.add(data.strip())


def html_of(folder: Path) -> str:
    return page_of(folder, None, lambda line: None)


@pytest.fixture(scope="module", params=["imagenet-samples", "cifar10-sample"])
def committed(request: pytest.FixtureRequest) -> tuple[Path, str, Shown]:
    folder = REPOSITORY / "results" / str(request.param)
    html = html_of(folder)
    return folder, html, Shown(html)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of one run, and of tables beside it."""
    return html_of(some_of_bundled(tmp_path_factory.mktemp("small") / "results", "table6"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    return html_of(hostile_folder(tmp_path_factory.mktemp("hostile")))


def fields(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.glob("*.csv"):
        for column in (table := pd.read_csv(path, dtype=str, keep_default_na=False)):
            yield from ((path.name, text) for text in table[column] if text)


def test_every_number_and_every_word_of_a_committed_folder_is_in_its_page(
    committed: tuple[Path, str, Shown],
) -> None:
    """But for losses epoch by epoch, thousands of rows: the figure has them."""
    folder, _, shown = committed
    texts = shown.texts | {text.replace(",", "") for text in shown.texts}
    tables = [(name, text) for name, text in fields(folder) if not name.startswith("retraining")]
    assert [pair for pair in tables if " ".join(pair[1].split()) not in texts] == []
    words = " ".join(shown.texts)
    for path in folder.glob("outcomes/*.json"):
        manifest = json.loads(path.read_text())
        known = (manifest[key] for key in ("image_list_sha256", "caveat", "description"))
        assert all(word in words for word in (*known, *manifest["weights_sha256"].values()))


def test_every_figure_of_a_committed_folder_is_in_its_page(
    committed: tuple[Path, str, Shown],
) -> None:
    folder, html, shown = committed
    figures = {path.stem for path in folder.glob("*.png")} - {"figure1"}
    assert shown.tags.count("svg") == len(figures)
    assert {name for name in figures if f'id="{name}-' in html} == figures


def test_a_committed_page_is_small_and_well_formed(committed: tuple[Path, str, Shown]) -> None:
    _, html, shown = committed
    # With 1.1 MB of pictures, the most that there may be, 4 MB at most.
    assert len(html) < 2_900_000
    assert len(shown.ids) == len(set(shown.ids))
    assert {link.removeprefix("#") for link in shown.links} <= set(shown.ids)
    levels = [int(tag[1]) for tag in shown.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_header_says_what_was_measured_and_what_came_out(
    committed: tuple[Path, str, Shown],
) -> None:
    folder, _, shown = committed
    words = " ".join(shown.texts)
    if folder.name == "imagenet-samples":
        assert (
            "402 images (real ImageNet images, one of each of 700 classes) were shown to" in words
        )
        assert "with 4 to 64 random pixels changed, 4 times for each number of pixels." in words
        assert "18.8\N{NO-BREAK SPACE}% (15.7–22.5) of squeezenet1_1" in words
        assert "Of 31 claims, nearly all of them the paper's, 3 hold for every network" in words
    else:
        assert "(95 % interval) went from" in words


def test_a_page_of_one_run_says_what_it_holds(small: str) -> None:
    texts = Shown(small).texts
    words = " ".join(texts)
    assert "1 holds for every network here, 28 are not decided" in words
    assert {"✓", "✕", "○", "holds", "does not hold", "not decided"} <= texts
    assert any(text.startswith("Test: slopes of single images over log2(num)") for text in texts)
    assert "Wrong predictions in percent, with 95 % intervals in parentheses." in words
    assert "Leaderboard" not in words
    for title in ("Table 1: the networks", "Losses while retraining", "The paper's numbers"):
        assert title in texts
    assert any("No record of a run lies beside it." in text for text in texts)


def test_descriptions_read_as_they_were_written(small: str) -> None:
    texts = Shown(small).texts
    row = (BUNDLED / "table1.md").read_text().splitlines()[4]
    assert {cell.strip().replace("\\", "") for cell in row.split("|")} - {""} <= texts


def test_the_same_folder_gives_the_same_bytes(small: str, tmp_path: Path) -> None:
    assert html_of(some_of_bundled(tmp_path / "results", "table6")) == small


def test_no_address_is_in_the_page(small: str) -> None:
    assert "Content-Security-Policy\" content=\"default-src 'none'" in small
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", small)


def test_untrusted_names_are_texts(hostile: str) -> None:
    shown = Shown(hostile)
    assert shown.tags.count("script") == 1
    assert shown.tags.count("style") == 1
    assert "img" not in shown.tags
    assert HOSTILE in shown.texts
    assert not any("javascript" in link for link in shown.links)
    for found in re.finditer("onerror", hostile):
        assert "<img" not in hostile[found.start() : found.start() + 200]


def test_networks_that_are_not_told_apart_are_said(hostile: str) -> None:
    """Four images of four, flipped by one network alone: McNemar gives 2 / 2^4 = 0.125."""
    texts = Shown(hostile).texts
    assert any("1 of 1 pairs of networks are not told apart" in text for text in texts)
    assert any("This ranks networks on these images only." in text for text in texts)


def test_runs_on_different_images_have_tables_of_their_own(tmp_path: Path) -> None:
    path = hostile_folder(tmp_path) / "outcomes" / "table8.json"
    path.write_text(path.read_text().replace('"image_list_sha256": "', '"image_list_sha256": "0'))
    texts = Shown(html_of(tmp_path)).texts
    assert "Table 8: wrong predictions over the area of the change" in texts
    assert not any("This ranks networks" in text for text in texts)


def test_without_outcomes_tables_stay(tmp_path: Path) -> None:
    shutil.copy(BUNDLED / "table6.csv", tmp_path)
    shutil.copy(BUNDLED / "table6.csv", tmp_path / "mine.csv")
    texts = Shown(html_of(tmp_path)).texts
    assert "Table 6: wrong predictions after random changes of a few pixels" in texts
    assert {"mine", "efficientnet_lite0"} <= texts
    assert any("No record of a run lies beside it." in text for text in texts)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("table6.csv", "a,b\n1\n", "rows of several lengths"),
        ("table1.csv", "", "cannot be read"),
        ("claims.csv", "claim,verdict\nmore-pixels,maybe\n", "does not hold findings"),
        ("outcomes/table6.json", "{", "manifest"),
        ("outcomes/table6.json", "[1]", "cannot be read"),
        ("outcomes/table6.parquet", "PAR", "cannot be read"),
    ],
)
def test_a_broken_file_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, words: str
) -> None:
    folder = some_of_bundled(tmp_path / "results", "table6")
    (folder / name).write_text(content)
    assert main([str(folder), "--html"]) == 2
    assert words in capsys.readouterr().err
    assert not (folder / "report.html").exists()


def test_a_folder_without_results_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--html"]) == 2
    assert "holds no results; run `make reproduce-table6` first" in capsys.readouterr().err


def test_files_outside_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret.csv").write_text("secret\n1\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "own.csv").symlink_to(tmp_path / "secret.csv")
    assert main([str(tmp_path / "results"), "--html"]) == 2
    assert "leads out of" in capsys.readouterr().err


def test_without_the_images_the_page_has_no_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = some_of_bundled(tmp_path / "results")
    arguments = ["profile=imagenet-samples", f"dataset.root={tmp_path}/none"]
    assert main([str(folder), "--html", "--images", *arguments]) == 0
    told = capsys.readouterr()
    assert "the page shows no pictures: " in told.err
    assert f"written to {folder / 'report.html'} (" in " ".join(told.out.split())
    html = (folder / "report.html").read_text()
    assert "the images that these runs saw are not at hand" in html
    assert str(tmp_path) not in html


def test_torch_is_not_needed(tmp_path: Path) -> None:
    folder = some_of_bundled(tmp_path / "results", "table6")
    program = (
        "import sys; from experiments.report import main\n"
        f"sys.exit(main([{str(folder)!r}, '--html']) or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True)


# The gallery


@pytest.fixture(scope="module")
def gallery(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    folder = tmp_path_factory.mktemp("gallery") / "results"
    runs = stored_runs(some_of_bundled(folder, "table6", "breakdown"))
    settings = settings_of("profile=bundled", f"paths.cache={cache}")
    return draw_gallery(folder, runs, settings)[0]


def test_the_gallery_shows_stored_predictions_alone(gallery: Gallery) -> None:
    """Right and wrong, of each network and num: as in the outcomes of the first draw."""
    stored = pd.concat(
        [
            pd.read_parquet(BUNDLED / "outcomes" / f"{run}.parquet")
            for run in ("table6", "breakdown")
        ]
    ).drop_duplicates(["model", "image", "num", "draw"])
    stored = stored[stored["draw"] == 0].astype({"image": str, "model": str})
    profiles = {
        tuple(rows.sort_values(["num", "model"])["wrong"]) for _, rows in stored.groupby("image")
    }
    stops = ["0", "4", "8", "16", "32", "64", "256", "1,024", "4,096", "16,384"]
    assert list(gallery.stops) == stops
    assert len(gallery.cards) >= 3
    for card in gallery.cards:
        predictions = [sorted(stop) for stop in card.predictions]
        assert tuple(not right for stop in predictions for _, _, right in stop) in profiles
        assert all(right == (word == card.title) for stop in predictions for _, word, right in stop)
    assert any(not right for card in gallery.cards for _, _, right in card.predictions[-1])
    assert sum(len(layer) for card in gallery.cards for layer in card.layers) < 1_100_000


@pytest.mark.parametrize("channels", [1, 3])
def test_layers_upon_each_other_are_the_pictures(channels: int) -> None:
    """Pixel by pixel; where a pixel becomes what it was before, too."""
    images = np.random.default_rng(0).integers(0, 256, (3, channels, 9, 7), dtype=np.uint8)
    images[1, :, :, 2:] = images[0, :, :, 2:]
    images[2, :, :4] = images[0, :, :4]
    strip = Strip("a", "cat", (0, 4, 8), images, {"net": ("cat", "cat", "dog")})
    card = card_of(strip)
    shown = np.zeros((9, 7, 3), dtype=np.uint8)
    for layer, picture in zip(card.layers, images, strict=True):
        file = io.BytesIO(base64.b64decode(layer.removeprefix("data:image/webp;base64,")))
        pixels = np.asarray(Image.open(file).convert("RGBA"))
        assert set(pixels[..., 3].ravel()) <= {0, 255}
        shown = np.where(pixels[..., 3:] == 255, pixels[..., :3], shown)
        np.testing.assert_array_equal(shown, np.broadcast_to(picture, (3, 9, 7)).transpose(1, 2, 0))
    assert card.predictions[2] == [("net", "dog", False)]


def test_other_images_are_refused(cache: Path, tmp_path: Path) -> None:
    folder = some_of_bundled(tmp_path / "results", "table6")
    path = folder / "outcomes" / "table6.json"
    path.write_text(path.read_text().replace('"image_list_sha256": "', '"image_list_sha256": "0'))
    settings = settings_of("profile=bundled", f"paths.cache={cache}")
    with pytest.raises(InputError, match="their pixels, labels or order differ"):
        draw_gallery(folder, stored_runs(folder), settings)


# Tables


def test_entries_are_sorted_by_their_numbers() -> None:
    rows = [
        ["4 (0.008 %)", "1.7 (1.1–2.8); +7.0", "140 × 140", "5ce63a"],
        ["1,024", "missing", "", "2nd"],
        ["< 1e-05", "-0.5", "±10", "third"],
    ]
    table = table_for_reading(pd.DataFrame(rows, columns=["Num", "Rate", "P", "Who"]), "label")
    assert [numeric for _, numeric in table.columns] == [True, True, True, False]
    assert [entry.key for entry in table.rows[0]] == ["4", "1.7", "140", "5ce63a"]
    assert (table.rows[0][1].text, table.rows[0][1].rest) == ("1.7", "(1.1–2.8); +7.0")
    assert [entry.key for entry in table.rows[1]] == ["1024", "", "", "2nd"]
    assert [entry.key for entry in table.rows[2]] == ["1e-05", "-0.5", "10", "third"]


def test_long_tables_are_cut_and_say_so(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("n\n" + "\n".join(map(str, range(1234))) + "\n")
    table = table_of_csv(tmp_path / "long.csv")
    assert (len(table.rows), table.more) == (1000, 234)
    assert "234 more rows stand in the file." in Shown(html_of(tmp_path)).texts
