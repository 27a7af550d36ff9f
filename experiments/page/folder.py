"""What lies in a folder of results, read once; whoever wrote it."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pixelrobust.errors import InputError
from pixelrobust.files import check_inside
from pixelrobust.manifest import Manifest, read_manifest
from pixelrobust.outcomes import read_outcomes
from pixelrobust.report import Document, Grid, csv_grid, read_document


@dataclass(frozen=True)
class Stored:
    """A folder of results.

    Attributes:
        folder: where it is.
        documents: its Markdown files, by stem.
        tables: its CSV files, by stem.
        manifests: of its runs, by the stem of their outcomes.
    """

    folder: Path
    documents: Mapping[str, Document]
    tables: Mapping[str, Path]
    manifests: Mapping[str, Manifest]

    def grid(self, stem: str) -> Grid:
        """A CSV file, every number in full."""
        return csv_grid(self.tables[stem])

    def table(self, stem: str) -> pd.DataFrame | None:
        """A CSV file as a data frame; None where there is none, or where it holds no rows."""
        if stem not in self.tables:
            return None
        try:
            table = pd.read_csv(self.tables[stem])
        except (OSError, ValueError) as error:
            raise InputError(f"table {self.tables[stem]} cannot be read ({error}).") from error
        return table if len(table) else None

    def rows(self, stem: str) -> pd.DataFrame | None:
        """The outcomes of a run; None where there are none."""
        path = self.folder / "outcomes" / f"{stem}.parquet"
        return _rows(path) if path.is_file() else None


def read_folder(folder: Path) -> Stored:
    """Everything in a folder of results but its outcomes, which are read when asked for.

    Raises:
        InputError: there are no results, a file cannot be read, or is a link that leads out.
    """
    pages, tables = sorted(folder.glob("[!.]*.md")), sorted(folder.glob("[!.]*.csv"))
    records = sorted(folder.glob("outcomes/[!.]*.json"))
    if not pages and not tables:
        raise InputError(
            f"{folder} holds no results; run `make reproduce-table6` first, or give another folder."
        )
    for path in (*pages, *tables, *records, *folder.glob("outcomes/[!.]*.parquet")):
        check_inside(path, folder)
    return Stored(
        folder,
        {path.stem: read_document(path) for path in pages},
        {path.stem: path for path in tables},
        {path.stem: read_manifest(path) for path in records},
    )


@functools.lru_cache(maxsize=8)
def _rows(path: Path) -> pd.DataFrame:
    return read_outcomes(path)
