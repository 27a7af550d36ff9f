"""A results page in one file: what it is made of, and how it is written. Nothing here needs torch."""

from pixelrobust.report.blocks import (
    Block,
    Card,
    Disclosure,
    Facts,
    Figure,
    Gallery,
    Heading,
    Line,
    Note,
    Page,
    Part,
    Section,
    Stop,
    TableBlock,
    Text,
    Verdict,
    Verdicts,
    anchor_of,
)
from pixelrobust.report.documents import Document, read_document
from pixelrobust.report.grids import Column, Entry, Grid, csv_grid, text_grid
from pixelrobust.report.page import render

__all__ = [
    "Block",
    "Card",
    "Column",
    "Disclosure",
    "Document",
    "Entry",
    "Facts",
    "Figure",
    "Gallery",
    "Grid",
    "Heading",
    "Line",
    "Note",
    "Page",
    "Part",
    "Section",
    "Stop",
    "TableBlock",
    "Text",
    "Verdict",
    "Verdicts",
    "anchor_of",
    "csv_grid",
    "read_document",
    "render",
    "text_grid",
]
