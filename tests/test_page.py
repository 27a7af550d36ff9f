"""The page of a folder of results: what stands in it. How it behaves: test_page_in_a_browser.py."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from experiments.config import settings_of
from experiments.page import page_of
from experiments.page.folder import read_folder
from experiments.page.gallery import draw_gallery
from experiments.report import main
from pixelrobust.errors import InputError
from pixelrobust.report import Gallery, csv_grid, text_grid
from pixelrobust.report.plots import literal
from tests.conftest import REPOSITORY
from tests.page_cases import BUNDLED, HOSTILE, hostile_folder, some_of_bundled

_VOID = {"meta", "input", "img"}


class Shown(HTMLParser):
    """What a page holds: all tags, texts, the values of <data>, links, and ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attributes)
        if tag == "data":
            self.texts.add(given["value"] or "")
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.texts.add(data.strip())


def html_of(folder: Path) -> str:
    return page_of(folder, None, lambda line: None)


def without_library(html: str) -> str:
    """The page but for Plotly, in which about every word occurs."""
    return re.sub(r"<script>/\*\*.*?</script>", "", html, flags=re.DOTALL)


@pytest.fixture(scope="module", params=["bundled", "imagenet-samples", "cifar10-sample"])
def committed(request: pytest.FixtureRequest) -> tuple[Path, Shown]:
    folder = REPOSITORY / "results" / str(request.param)
    return folder, Shown(html_of(folder))


def fields(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.glob("*.csv"):
        for column in (table := pd.read_csv(path, dtype=str, keep_default_na=False)):
            yield from ((path.name, text) for text in table[column] if text)


def test_every_number_of_every_table_is_in_the_page(committed: tuple[Path, Shown]) -> None:
    """But for losses epoch by epoch, thousands of rows: the figure has them."""
    folder, shown = committed
    texts = shown.texts | {text.replace(",", "") for text in shown.texts}
    tables = [(name, text) for name, text in fields(folder) if not name.startswith("retraining")]
    lacking = [(name, text) for name, text in tables if " ".join(text.split()) not in texts]
    assert lacking == []


def test_every_caption_is_in_the_page(committed: tuple[Path, Shown]) -> None:
    folder, shown = committed
    words = " ".join(shown.texts)
    for path in folder.glob("outcomes/*.json"):
        manifest = json.loads(path.read_text())
        assert manifest["image_list_sha256"] in words
        assert manifest["caveat"] in words
        assert manifest["description"] in words
        for digest in manifest["weights_sha256"].values():
            assert digest in words


def test_every_link_leads_to_a_place_on_the_page(committed: tuple[Path, Shown]) -> None:
    _, shown = committed
    assert len(shown.ids) == len(set(shown.ids))
    assert shown.links
    assert {link.removeprefix("#") for link in shown.links} <= set(shown.ids)


def test_headings_descend_one_by_one(committed: tuple[Path, Shown]) -> None:
    levels = [int(tag[1]) for tag in committed[1].tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_header_says_what_was_measured_and_what_came_out() -> None:
    words = " ".join(Shown(html_of(REPOSITORY / "results" / "imagenet-samples")).texts)
    assert "402 images (real ImageNet images, one of each of 700 classes) were shown to" in words
    assert "with 4 to 64 random pixels changed, 4 times for each number of pixels." in words
    assert "18.8\N{NO-BREAK SPACE}% (15.7–22.5) of squeezenet1_1" in words
    assert re.search(
        r"Of 26 claims, nearly all of them the paper's, 3 hold for every network", words
    )


def test_one_claim_is_spoken_of_as_one() -> None:
    words = " ".join(Shown(html_of(BUNDLED)).texts)
    assert "2 hold for every network here, 1 does not and 23 are not decided" in words


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = some_of_bundled(tmp_path / "results")
    assert html_of(folder) == html_of(folder)


def test_no_address_is_in_the_page(tmp_path: Path) -> None:
    html = without_library(html_of(some_of_bundled(tmp_path / "results")))
    assert "Content-Security-Policy\" content=\"default-src 'none'" in html
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", html)


def test_names_from_strangers_are_texts(tmp_path: Path) -> None:
    html = html_of(hostile_folder(tmp_path))
    shown = Shown(html)
    assert shown.tags.count("script") == 3
    assert shown.tags.count("style") == 1
    assert "img" not in shown.tags
    assert HOSTILE in shown.texts
    assert not any("javascript" in link for link in shown.links)
    assert not any(
        "<img" in html[m.start() : m.start() + 200] for m in re.finditer("onerror", html)
    )
    assert literal("<b>a & b</b>") == "&lt;b&gt;a &amp; b&lt;/b&gt;"


def test_networks_that_are_not_told_apart_are_said(tmp_path: Path) -> None:
    """Four images of four, flipped by one network alone: McNemar gives 2 / 2^4 = 0.125."""
    shown = Shown(html_of(hostile_folder(tmp_path)))
    assert any("1 of 1 pairs of networks are not told apart" in text for text in shown.texts)


def test_claims_have_a_badge_and_their_findings(tmp_path: Path) -> None:
    texts = Shown(html_of(some_of_bundled(tmp_path / "results"))).texts
    assert {"✓", "✕", "○", "holds", "does not hold", "not decided"} <= texts
    assert any(text.startswith("Test: slopes of single images over log2(num)") for text in texts)


def test_a_folder_of_one_table_is_a_page(tmp_path: Path) -> None:
    shutil.copy(BUNDLED / "table1.md", tmp_path)
    texts = Shown(html_of(tmp_path)).texts
    assert "Table 1: the networks" in texts
    assert "efficientnet_lite0" in texts
    assert any(text.startswith("Networks are ranked where Tables 6, 7 and 8") for text in texts)


def test_without_outcomes_tables_stay(tmp_path: Path) -> None:
    folder = some_of_bundled(tmp_path / "results")
    shutil.rmtree(folder / "outcomes")
    texts = Shown(html_of(folder)).texts
    assert any("No record of a run lies beside it." in text for text in texts)
    assert any("Whether networks differ is not known" in text for text in texts)
    assert "Table 6: wrong predictions after random changes of a few pixels" in texts


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("table6.csv", "a,b\n1\n", "rows of several lengths"),
        ("claims.csv", "claim,verdict\nmore-pixels,maybe\n", "does not hold findings"),
        ("outcomes/table6.json", "{", "manifest"),
        (
            "outcomes/table6.json",
            '{"seconds": {"all": "long"}}',
            "another form (rejected or seconds)",
        ),
        ("outcomes/table6.json", '{"images": "many"}', "is of another form (images)"),
        ("outcomes/table6.parquet", "PAR", "cannot be read"),
    ],
)
def test_a_broken_file_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, words: str
) -> None:
    folder = some_of_bundled(tmp_path / "results")
    if content.startswith('{"'):
        content = json.dumps(json.loads((folder / name).read_text()) | json.loads(content))
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
    (tmp_path / "secret.md").write_text("# A secret\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "own.md").symlink_to(tmp_path / "secret.md")
    assert main([str(tmp_path / "results"), "--html"]) == 2
    assert "leads out of" in capsys.readouterr().err


def test_the_command_says_where_the_page_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = some_of_bundled(tmp_path / "results")
    assert main([str(folder), "--html"]) == 0
    assert f"written to {folder / 'report.html'} (" in capsys.readouterr().out
    assert any("Left out: no images were given" in t for t in Shown((folder / "report.html").read_text()).texts)  # fmt: skip


def test_without_the_images_the_page_has_no_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = some_of_bundled(tmp_path / "results")
    arguments = ["profile=imagenet-samples", f"dataset.root={tmp_path}/none"]
    assert main([str(folder), "--html", "--images", *arguments]) == 0
    assert "the page shows no pictures: dataset.root=" in capsys.readouterr().err
    html = (folder / "report.html").read_text()
    assert "the images that these runs saw are not at hand" in html
    assert str(tmp_path) not in html


def test_torch_is_not_needed(tmp_path: Path) -> None:
    folder = some_of_bundled(tmp_path / "results")
    program = (
        "import sys; from experiments.report import main\n"
        f"sys.exit(main([{str(folder)!r}, '--html']) or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True)


@pytest.fixture(scope="module")
def gallery(cache: Path) -> Gallery:
    settings = settings_of("profile=bundled", f"paths.cache={cache}")
    return draw_gallery(read_folder(BUNDLED), settings)[0]


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
        answers = [sorted(stop.answers) for stop in card.stops]
        assert tuple(not right for stop in answers for _, _, right in stop) in profiles
        assert all(right == (word == card.title) for stop in answers for _, word, right in stop)
    assert any(not right for card in gallery.cards for _, _, right in card.stops[-1].answers)


def test_the_gallery_leaves_room(gallery: Gallery) -> None:
    assert sum(len(stop.picture) for card in gallery.cards for stop in card.stops) < 7e6


def test_other_images_are_refused(cache: Path, tmp_path: Path) -> None:
    folder = some_of_bundled(tmp_path / "results")
    path = folder / "outcomes" / "table6.json"
    path.write_text(path.read_text().replace('"image_list_sha256": "', '"image_list_sha256": "0'))
    settings = settings_of("profile=bundled", f"paths.cache={cache}")
    with pytest.raises(InputError, match="their pixels, labels or order differ"):
        draw_gallery(read_folder(folder), settings)


def test_entries_are_sorted_by_their_numbers() -> None:
    grid = text_grid(
        ["Num", "Rate", "P", "Who"],
        [
            ["4 (0.008 %)", "1.7 (1.1–2.8); +7.0", "140 × 140", "first"],
            ["1,024", "missing", "", "2nd"],
            ["< 0.001", "-0.5", "±10", "third"],
        ],
    )
    assert [column.numeric for column in grid.columns] == [True, True, True, False]
    assert [entry.key for entry in grid.rows[0]] == ["4", "1.7", "140", "first"]
    assert (grid.rows[0][1].text, grid.rows[0][1].rest) == ("1.7", "(1.1–2.8); +7.0")
    assert [entry.key for entry in grid.rows[1]] == ["1024", "", "", "2nd"]
    assert [entry.key for entry in grid.rows[2]] == ["0.001", "-0.5", "10", "third"]


def test_long_tables_are_cut_and_say_so(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("n\n" + "\n".join(map(str, range(1234))) + "\n")
    grid = csv_grid(tmp_path / "long.csv")
    assert (len(grid.rows), grid.more) == (1000, 234)
    assert "234 more rows stand in the file." in Shown(html_of(tmp_path)).texts


def test_templates_and_styles_are_part_of_the_package() -> None:
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    patterns = declared["tool"]["setuptools"]["package-data"]["pixelrobust"]
    root = REPOSITORY / "pixelrobust"
    packed = {path for pattern in patterns for path in root.glob(pattern)}
    assert {path for path in (root / "report").glob("*/*.*") if path.suffix != ".pyc"} <= packed
