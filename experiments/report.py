"""Stored runs, printed: `python -m experiments.report results/bundled`; with `--html` as a page.

Nothing here needs torch, but for the pictures of a page.
"""

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from experiments.config import JobRecord
from experiments.exits import default_results, exit_code, short
from experiments.page import keys_gallery, provenance, write_page
from experiments.paper import CLAIMS, FIGURE_1, TABLE_5, experiment_called
from experiments.present import derive, present, rebuild_histories
from experiments.stored import stored_runs
from experiments.terminal import console, duration, say, say_page, say_table
from experiments.writing import Presented
from pixelrobust.errors import InputError, printable
from pixelrobust.outcomes.manifest import read_manifest

_RUN_COLUMNS = ["Run", "Networks", "Images", "Draws", "Device"]


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
    """Print tables with their captions, where they lie, and which pictures to look at.

    Args:
        presented: the tables.
        directory: where they lie.
        pictures: whether Figure 1 was drawn.
    """
    out = console()
    out.print()
    for each in presented:
        say(out, each.title, "bold")
        out.print()
        say_table(out, each.table, each.lines)
        out.print()
        for note in each.notes:
            say(out, note)
            out.print()
    say(out, f"results are in {short(directory)}")
    drawn = [("figure", name) for each in presented for name in each.figures]
    drawn += [("pictures of images that flip", FIGURE_1)] if pictures else []
    for what, name in drawn:
        path = directory / f"{name}.png"
        # Merged results of several runs may lie elsewhere.
        if path.is_file():
            say(out, f"{what}: {short(path)}")


def show_job(job: JobRecord, swept: Collection[str]) -> None:
    """Print a line on what became of a job of a sweep, whose jobs differ in these keys."""
    where = f"done in {duration(job.seconds)}, {short(Path(job.directory))}"
    words = f"failed: {job.error}" if job.error else where
    say(console(), f"{job.own(swept)}: {words}")


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
    say(console(), f"written to {short(path)} ({path.stat().st_size / 1e6:.1f} MB)")


def _list_runs(results: Path) -> None:
    folders: dict[Path, list[tuple[str, ...]]] = {}
    for path in sorted(results.glob("[!.]*/outcomes/[!.]*.json")):
        run = read_manifest(path)
        device = run.hardware.get("gpu") or run.hardware.get("device") or ""
        counts = (len(run.weights_sha256), run.images, run.draws)
        row = (run.name, *(f"{count:,}" for count in counts), str(device))
        folders.setdefault(path.parent.parent, []).append(row)
    if not folders:
        raise InputError(
            f"no run is stored below {results}; evaluate something first, or give a folder."
        )
    out = console()
    for folder, rows in folders.items():
        say(out, short(folder), "bold")
        say_table(out, pd.DataFrame(rows, columns=_RUN_COLUMNS), {})
        out.print()


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
    out = console()
    for name in wanted or pages:
        say_page(out, pages[name].read_text(encoding="utf-8"))
        if name in manifests:
            say(out, provenance(manifests[name]), "dim")
            out.print()


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
