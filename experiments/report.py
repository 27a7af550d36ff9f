"""Stored runs, printed: `python -m experiments.report results/bundled`; with `--html` as a page.

Nothing here needs torch, but for the pictures of a page.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from experiments.config import JobRecord
from experiments.exits import default_results, exit_code, short
from experiments.page import keys_gallery, provenance, write_page
from experiments.paper import CLAIMS, FIGURE_1, TABLE_5, experiment_called
from experiments.present import derive, present, rebuild_histories
from experiments.stored import stored_runs
from experiments.writing import Presented
from pixelrobust.errors import InputError, printable
from pixelrobust.outcomes.manifest import read_manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what the command line asks for, and return the exit code."""
    options = _parser().parse_intermixed_args(arguments)

    def work() -> int:
        if options.folder is None:
            _list_runs(default_results())
        elif options.html:
            _write_page(options.folder, options.images)
        else:
            _print_folder(options.folder, options.tables, options.rebuild)
        return 0

    return exit_code(work)


def show(presented: Sequence[Presented], directory: Path, pictures: bool = False) -> None:
    """Print tables, where they lie, and which pictures to look at; `pictures`: whether Figure 1 was drawn."""
    console = Console()
    for each in presented:
        title = Text(printable(each.title), "table.title")
        shown = Table(box=box.SIMPLE, title=title, title_justify="left")
        for column in each.table.columns:
            shown.add_column(_literal(column), overflow="fold")
        for row in each.table.itertuples(index=False):
            shown.add_row(*map(_literal, row))
        console.print(shown)
    lines = [f"written to {printable(short(directory))}"]
    lines += [
        f"{what}: {printable(short(path))}"
        for what, path in to_look_at(presented, directory, pictures)
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True, highlight=False)


def to_look_at(
    presented: Sequence[Presented], directory: Path, pictures: bool
) -> list[tuple[str, Path]]:
    """Return what to call each figure that was drawn with tables, and its file.

    Args:
        presented: the tables.
        directory: where they lie.
        pictures: whether pictures of images that flip were drawn too.
    """
    found = [("figure", name) for each in presented for name in each.figures]
    if pictures:
        found.append(("pictures of images that flip", FIGURE_1))
    files = [(what, directory / f"{name}.png") for what, name in found]
    # Merged results of several runs may lie elsewhere.
    return [(what, path) for what, path in files if path.is_file()]


def _literal(value: object) -> Text:
    """Return a name that is shown as it is, whatever brackets it holds."""
    return Text(printable(value))


def show_jobs(jobs: Sequence[JobRecord]) -> None:
    """Print what became of each job of a sweep."""
    table = Table("Job", "Run", "Ended", "Where, or why", box=box.SIMPLE)
    for job in jobs:
        table.add_row(
            Text(printable(" ".join(job.overrides))), Text(job.name or "?"),
            "failed" if job.error else "well",
            Text(printable(job.error) if job.error else short(Path(job.directory))),
        )  # fmt: skip
    Console().print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report", description="Print stored runs."
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, help="of results; without it all are listed"
    )
    parser.add_argument("tables", nargs="*", help="only these, for example table6 claims")
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="first write tables and figures anew from the outcomes",
    )
    parser.add_argument(
        "--html", action="store_true", help="write everything as one page, report.html"
    )
    parser.add_argument(
        "--images",
        nargs="*",
        metavar="KEY=VALUE",
        help="where the images lie that the page shows, for example profile=bundled; without it, none",
    )
    return parser


def _write_page(folder: Path, keys: Sequence[str] | None) -> None:
    """Write one page of everything, and say where it lies."""
    gallery = None if keys is None else keys_gallery(keys)
    path = write_page(folder, gallery, lambda line: print(printable(line), file=sys.stderr))
    print(f"written to {printable(short(path))} ({path.stat().st_size / 1e6:.1f} MB)")


def _list_runs(results: Path) -> None:
    table = Table("Folder", "Run", "Models", "Images", "Draws", "Device", box=box.SIMPLE)
    for path in sorted(results.glob("[!.]*/outcomes/[!.]*.json")):
        run = read_manifest(path)
        device = run.hardware.get("gpu") or run.hardware.get("device") or ""
        row = (
            short(path.parent.parent), run.name, ", ".join(run.weights_sha256), f"{run.images:,}",
            run.draws, device,
        )  # fmt: skip
        table.add_row(*map(_literal, row))
    if not table.row_count:
        raise InputError(
            f"no run is stored below {results}; evaluate something first, or give a folder."
        )
    Console().print(table)


def _print_folder(folder: Path, wanted: Sequence[str], rebuild: bool) -> None:
    if rebuild:
        _rebuild(folder, wanted)
    manifests = {path.stem: read_manifest(path) for path in folder.glob("outcomes/[!.]*.json")}
    pages = {page.stem: page for page in sorted(folder.glob("[!.]*.md"), key=_order)}
    missing = [name for name in wanted if name not in pages]
    if missing or not pages:
        raise InputError(
            f"{folder} holds no table {', '.join(missing)}; it holds {', '.join(pages) or 'none'}."
        )
    console = Console()
    for name in wanted or pages:
        lines = pages[name].read_text(encoding="utf-8").replace("<br>", "; ").splitlines()
        console.print(Markdown("\n".join(map(printable, lines)), hyperlinks=False))
        if name in manifests:
            console.print(
                printable(provenance(manifests[name])), style="dim", markup=False, highlight=False
            )
        console.print()


def _rebuild(folder: Path, wanted: Sequence[str]) -> None:
    """Write tables and figures from the outcomes, all or the wanted ones."""
    runs = stored_runs(folder)
    for name, run in runs.items():
        experiment = experiment_called(name)
        if not wanted or {experiment.table, experiment.flips} & set(wanted):
            present(folder, *run)
    if not wanted or {TABLE_5.table, CLAIMS} & set(wanted):
        derive(folder, runs)
    if not wanted:
        rebuild_histories(folder)


def _order(page: Path) -> tuple[int, int, str]:
    """Order tables by their numbers, then the rest."""
    number = page.stem.removeprefix("table")
    return (0, int(number), "") if number.isdigit() else (1, 0, page.stem)


if __name__ == "__main__":
    sys.exit(main())
