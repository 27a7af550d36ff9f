"""From a folder of results to its page."""

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.page.figures import figures_of
from experiments.page.folder import Stored, read_folder
from experiments.page.leaderboard import leaderboard_section
from experiments.page.provenance import provenance_section, runs_behind, source_lines
from experiments.page.summary import lead, main_run
from experiments.page.verdicts import claims_section, stored_claims
from experiments.paper import CLAIMS, DESCRIPTIONS
from pixelrobust.errors import InputError
from pixelrobust.files import write_text
from pixelrobust.report import (
    Block,
    Disclosure,
    Document,
    Gallery,
    Heading,
    Page,
    Part,
    Section,
    TableBlock,
    Text,
    anchor_of,
    render,
    text_grid,
)

PAGE = "report.html"

_TITLE = "How easily do a few random pixels break these networks?"
_SECTIONS = (
    ("pixels", "How many changed pixels it takes",
     ("table6", "table", "pixels-to-flip", "breakdown", "breakdown-pixels-to-flip")),
    ("limits", "How far values move, and where pixels lie", ("table7", "table8")),
    ("index", "The Pixel-index of every cell", ("table5",)),
    ("adversarial", "Adversarial images", ("table9",)),
    ("inside", "Inside the networks", ("amplification",)),
    ("retrained", "After retraining",
     ("table10", "retraining", "table10-all", "retraining-all", "table11", "distances")),
    ("used", "What was used", tuple(DESCRIPTIONS)),
)  # fmt: skip
_OTHERS = ("others", "Further pages of the folder")
_UNTITLED = {
    "retraining": "Losses while retraining",
    "retraining-all": "Losses while all layers are retrained",
}
_GALLERY = "Images that flip"
_FOOTER = (
    "Made by pixelrobust from stored results. This page is one file and loads nothing from anywhere. "
    "Its pictures, if any, belong to the data set: whether the page may be passed on with them is for "
    "their licence to say."
)

MakeGallery = Callable[[Stored], tuple[Gallery, list[str]]]


def write_page(folder: Path, make_gallery: MakeGallery | None, tell: Callable[[str], None]) -> Path:
    """Write `report.html` into a folder of results; see `page_of`."""
    path = folder / PAGE
    write_text(path, page_of(folder, make_gallery, tell))
    return path


def page_of(folder: Path, make_gallery: MakeGallery | None, tell: Callable[[str], None]) -> str:
    """The page of a folder of results, as HTML; a pure function of its files and of the pictures.

    Args:
        folder: of anyone's results.
        make_gallery: pictures and their captions, which need the images; None: no images at hand.
        tell: is told why there are no pictures.

    Raises:
        InputError: there are no results, or they cannot be read.
    """
    stored = read_folder(folder)
    return render(_page(stored, _gallery_section(stored, make_gallery, tell)))


def _page(stored: Stored, gallery: Section) -> Page:
    claims = stored_claims(stored)
    run = main_run(stored)
    sections = [leaderboard_section(stored)]
    if claims:
        sections.append(claims_section(stored, claims))
    sections += [gallery, *_tables(stored), provenance_section(stored)]
    name = stored.folder.resolve().name
    caveat = stored.manifests[run].caveat if run else ""
    return Page(name, _TITLE, lead(stored, claims), caveat, sections, _FOOTER)


def _gallery_section(
    stored: Stored, make_gallery: MakeGallery | None, tell: Callable[[str], None]
) -> Section:
    why = "no images were given"
    if make_gallery is not None:
        try:
            gallery, captions = make_gallery(stored)
            return Section("gallery", _GALLERY, [*map(Text, captions), gallery])
        except InputError as error:
            tell(f"the page shows no pictures: {error}")
            why = "the images that these runs saw are not at hand"
    sentence = (
        f"Left out: {why}. Pictures are changed again, pixel for pixel, from the images of the runs: "
        "`make report`, or `python -m experiments.report FOLDER --html --images`, with the keys that "
        "say where they lie, shows them."
    )
    return Section("gallery", _GALLERY, [Text(sentence)])


def _tables(stored: Stored) -> list[Section]:
    """A section for each subject of which there is a table."""
    held = set(stored.documents) | set(stored.tables)
    companions = {stem: _parent(stem, stored) for stem in held if stem not in stored.documents}
    own = {stem for stem in held if not companions.get(stem)} - {CLAIMS}
    sections = []
    for anchor, title, stems in _SECTIONS:
        parts = [_part(stored, stem, companions) for stem in stems if stem in own]
        own -= set(stems)
        if parts:
            sections.append(Section(anchor, title, (), parts))
    if own:
        rest = [_part(stored, stem, companions) for stem in sorted(own)]
        sections.append(Section(*_OTHERS, (), rest))
    return sections


def _parent(stem: str, stored: Stored) -> str:
    """The page that a table without one belongs to: table5-ranking to table5."""
    longer = [page for page in stored.documents if stem.startswith(f"{page}-")]
    return max(longer, key=len, default="") if stem not in _UNTITLED else ""


def _part(stored: Stored, stem: str, companions: dict[str, str]) -> Part:
    document = stored.documents.get(stem, Document(_UNTITLED.get(stem, stem), ()))
    run = next(iter(runs_behind(stored, stem)), None)
    blocks: list[Block] = [*figures_of(stored, stem, run), *_blocks_of(document)]
    own = [stem] if stem in stored.tables else []
    own += sorted(child for child, parent in companions.items() if parent == stem)
    for name in own:
        grid = stored.grid(name)
        summary = f"All columns of {name}.csv, {len(grid.rows) + grid.more:,} rows"
        blocks.append(Disclosure(summary, [TableBlock(grid, f"{name}.csv")]))
    known = [other for other, page in stored.documents.items() if page.title == document.title]
    title = (
        document.title
        if stem == min(known, key=len, default=stem)
        else f"{document.title} ({stem})"
    )
    return Part(anchor_of("part", stem), title, [*blocks, *source_lines(stored, stem)])


def _blocks_of(document: Document) -> list[Block]:
    blocks: list[Block] = []
    label = document.title
    for piece in document.pieces:
        if piece.kind == "table":
            header, *rows = piece.table
            blocks.append(TableBlock(text_grid(header, rows), label))
        elif piece.kind == "heading":
            label = piece.text
            blocks.append(Heading(piece.text))
        else:
            blocks.append(Text(piece.text))
    return blocks


def keys_gallery(keys: Sequence[str]) -> MakeGallery:
    """What makes a gallery of the images that configuration keys name; loads torch when called."""

    def make(stored: Stored) -> tuple[Gallery, list[str]]:
        from experiments.config import settings_of

        settings = settings_of(*keys)
        from experiments.page.gallery import draw_gallery

        return draw_gallery(stored, settings)

    return make
