"""Names from data sets and configs stay text: in Markdown, LaTeX, CSV, figures and the terminal."""

import csv
import io
import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.text import Text
from rich.console import Console

from experiments.report import main as report
from experiments.report import show
from experiments.session import Progress
from experiments.writing import Presented
from pixelrobust import InputError
from pixelrobust.errors import (
    escape_cell,
    escape_latex,
    escape_markdown,
    escape_paragraph,
    printable,
)
from pixelrobust.figures import write_figure
from pixelrobust.figures.curves import rate_curves
from pixelrobust.figures.retraining import loss_curves, retraining_matrix
from pixelrobust.settings.schema import is_plain_name
from pixelrobust.tables.rates import markdown_table, summarize, write_csv, write_latex
from tests.conftest import Run
from tests.fault_cases import share

NASTY = (
    "[text](https://nowhere.invalid)", "![x](https://nowhere.invalid/x.png)", "<script>alert(1)</script>",
    "<https://nowhere.invalid>", "&copy; &#60;b&#62;", "**bold** _it_ `code` ~~gone~~", "a | b", "# heading",
    "- item", "+ item", "1. item", "2) item", "=====", "-----", "> quote", "    code", "[x]: https://nowhere.invalid",
    "$x^2$", "$$x$$", "a\nb\n\nc", "\\[ \\] \\( \\)", "[red]text[/red]", "[link=file:///etc]x[/link]",
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "a\rb", "\u202etxt.exe", "\udcff.jpg", "=1+1", "+1", "-1", "@sum",
    "\\input{/etc/passwd}", "%", "^ ~ # & { }", "[1] *", "*", "\x00",
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=30),
    st.text(alphabet="[]()!<>&;#x*_`~|\\$-+=.1 \n:/a{}^%\x1b", max_size=30),
)


# Frames hold Unicode only.
HELD = TEXTS.filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))


@given(text=TEXTS)
def test_printable_text_is_one_line_that_can_be_seen(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    categories = {unicodedata.category(character) for character in shown}
    assert not categories & {"Cc", "Cs", "Zl", "Zp"}
    shown.encode()
    assert printable(shown) == shown


@given(text=st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_what_can_be_seen_is_left_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_errors_do_nothing_to_a_terminal() -> None:
    error = InputError("a\x1b[2Jb\nc", "second")
    assert str(error) == "a\\x1b[2Jb c\nsecond"
    assert str(InputError(*error.args)) == str(error)


def test_a_file_name_does_nothing_to_a_terminal(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "images" / "n01440764"
    folder.mkdir(parents=True)
    (folder / "a\x1b]0;title\x07\x1b[2J\n.png").write_bytes(b"no picture")
    ended = run("dataset=imagefolder", f"dataset.root={folder.parent}")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert ended.err[:-1].isprintable()
    assert "a\\x1b]0;title\\x07\\x1b[2J .png" in ended.err


@pytest.mark.parametrize("name", [name for name in NASTY if not set(name) & set("\x00\udcff")])
def test_names_are_no_markup_of_the_terminal(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    table = pd.DataFrame({"Num": ["4"], name: [name]})
    show([Presented(name, table, [])], Path(name))
    progress = Progress(Console())
    progress.say(name)
    with progress.task("words", 1, name) as advance:
        advance.note(name)
    progress.end_line()
    out = capsys.readouterr().out
    assert out.count(printable(name).strip()) >= 5
    assert all(line.isprintable() for line in out.splitlines())
    with Progress(Console(force_terminal=True)).task(name, 1) as advance:
        advance(1)
    assert printable(name).strip() in capsys.readouterr().out


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
LITERAL = {"text", "text_special", "softbreak"}


def shown_by_markdown(source: str) -> tuple[set[str], str]:
    """Return the kinds of what Markdown makes of a source, and the text that a reader sees."""
    blocks = MARKDOWN.parse(source)
    inline = [child for block in blocks for child in block.children or []]
    kinds = {block.type for block in blocks} | {child.type for child in inline}
    return kinds, "".join(child.content for child in inline)


@given(text=TEXTS)
@example(text="&amp;lt;")
@example(text="a](b")
def test_markdown_shows_a_paragraph_as_it_is(text: str) -> None:
    kinds, seen = shown_by_markdown(escape_paragraph(text))
    assert kinds <= {"paragraph_open", "paragraph_close", "inline", *LITERAL}
    assert seen.split() == printable(text).split()


@given(first=HELD, second=HELD)
def test_markdown_shows_a_tables_cells_as_they_are(first: str, second: str) -> None:
    table = pd.DataFrame({f"a{first}": [second, "x"], "b": ["y", first]})
    kinds, seen = shown_by_markdown(markdown_table(table))
    parts = [
        f"{part}_{end}"
        for part in ("table", "thead", "tbody", "tr", "th", "td")
        for end in ("open", "close")
    ]
    assert kinds <= {*parts, "inline", *LITERAL}
    expected = "".join(
        printable(cell).strip() for cell in (f"a{first}", "b", second, "y", "x", first)
    )
    assert "".join(seen.split()) == "".join(expected.split())


def test_what_needs_no_escape_stays() -> None:
    text = "95 % (0.1–0.2); r & a; [0, 1]; a^b; 'x' \"y\"; 1.50"
    assert escape_markdown(text) == escape_paragraph(text) == text
    assert [escape_cell(value) for value in (-1, -0.5, None, "net")] == [-1, -0.5, None, "net"]


@given(text=TEXTS)
def test_latex_gets_no_command_of_a_name(text: str) -> None:
    escaped = escape_latex(text)
    own = r"\\textbackslash\{\}|\\textasciitilde\{\}|\\textasciicircum\{\}|\\[&%$#_{}]|\$\\(?:pm|times)\$"
    rest = re.sub(own, "", escaped.removeprefix("{}"))
    assert not set(rest) & set("\\&%$#_{}~^\n\r")
    # Behind the \\ that ends a row of a table these would be its arguments.
    assert not escaped.lstrip().startswith(("[", "*"))


def test_a_latex_tables_rows_begin_with_no_argument(tmp_path: Path) -> None:
    table = pd.DataFrame({"Model": ["[10cm]", "*"], "b": ["1", "2"]})
    write_latex(table, "Title", [], "t", tmp_path / "t.tex")
    rows = (tmp_path / "t.tex").read_text().splitlines()
    assert "{}[10cm] & 1 \\\\" in rows
    assert "{}* & 2 \\\\" in rows


@given(texts=st.lists(HELD, min_size=1, max_size=4))
def test_spreadsheets_compute_nothing(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "formulas.csv"
    write_csv(pd.DataFrame({"model": texts, "rate": [-0.5] * len(texts)}), path)
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert rows[0] == ["model", "rate"]
    for text, row in zip(texts, rows[1:], strict=True):
        assert not row[0].lstrip().startswith(("=", "+", "-", "@"))
        assert row[0] in (printable(text), f"'{printable(text)}")
        assert row[1] == "-0.5"


FORMULAS = ["$x^2$", "a$b$c", "$\\frac{1$", "$", "\\$5", "[red]", "\x1b[31m"]


def test_dollars_in_figures_are_dollars(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "model": np.repeat(FORMULAS, 2), "num": [0, 4] * len(FORMULAS),
            "image": "a", "draw": 0, "label": 1, "prediction": 2, "wrong": True,
            "amplitude": pd.array([None] * 2 * len(FORMULAS), "Int16"),
            "area": pd.array([None] * 2 * len(FORMULAS), "Int32"),
        }
    )  # fmt: skip
    summary = summarize(rows, 224)
    history = pd.DataFrame(
        {"epoch": 0, "loss": 1.0, "accuracy": 0.1, "model": FORMULAS, "training_seed": 0}
    )
    title, caption = "title $x^2$", "caption $\\frac{1$"
    figures = [
        rate_curves(summary, "model", title, caption),
        rate_curves(summary, "amplitude", title, caption),
        retraining_matrix(summary.assign(images_are="same"), title, caption),
        loss_curves(history, title, caption),
    ]
    for index, figure in enumerate(figures):
        # Wrong formulas would raise when they are drawn.
        write_figure(figure, tmp_path / str(index))
        texts = {text.get_text(): text.get_parse_math() for text in figure.findobj(Text)}
        assert not any(texts[name] for name in (*FORMULAS, title, caption))


@given(name=TEXTS)
def test_a_plain_name_is_a_name_everywhere(name: str) -> None:
    if not is_plain_name(name):
        return
    assert printable(name) == name
    assert escape_cell(name) == name
    assert Path(name).name == name
    assert Path("folder", name).parent == Path("folder")


def test_usual_names_are_plain_and_others_are_not() -> None:
    usual = ("ResNet-101 (V1)", "b0 @ 224", "résnet", "网络", "4 px [a]", "x$y$")
    assert all(map(is_plain_name, usual))
    others = ("", ".", "..", "a/b", "a\\b", "=x", "-x", "@x", "_x", "a\nb", "x" * 101)
    assert not any(map(is_plain_name, others))


def test_from_a_shared_config_to_every_file(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Show words of a data set, and a label, that mean something everywhere."""
    caveat = "# [x](https://nowhere.invalid) $a$ \\input{x} <b>\x1b[31m"
    content = {
        "dataset": {"description": "$x$ [red] | <i>", "caveat": caveat},
        "models": {"efficientnet_lite0": {"label": "b0 [red]$x$|<b>_#1"}},
    }
    small = ("model=efficientnet_lite0", "selection.models=null", "draws=1")
    ended = run(*share(tmp_path, content), *small, "perturbation.num=[4,8]")
    assert ended.code == 0, ended.err
    assert "b0 [red]$x$|<b>_#1" in ended.out
    (folder,) = (tmp_path / "results").glob("run-*")
    markdown = (folder / "table.md").read_text()
    kinds, seen = shown_by_markdown(markdown)
    assert not kinds & {"link_open", "html_inline", "html_block", "image"}
    assert printable(caveat) in seen
    assert "b0 [red]$x$|<b>_#1" in seen
    latex = (folder / "table.tex").read_text()
    assert r"b0 [red]\$x\$|<b>\_\#1" in latex
    assert r"\textbackslash{}input\{x\}" in latex
    assert report([str(folder)]) == 0
    assert "\x1b[31m" not in capsys.readouterr().out
