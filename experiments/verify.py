"""Recomputes a random share of stored outcomes: `python -m experiments.verify results/bundled`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.config import settings_of
from experiments.exits import exit_code
from pixelrobust.errors import InputError

EXIT_CONTRADICTED = 1
_SHARE = 0.01


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify a folder of results; the exit code, 1 where an outcome is contradicted."""
    given = _parser().parse_intermixed_args(arguments)
    return exit_code(lambda: _verify(given))


def _verify(given: argparse.Namespace) -> int:
    if not 0 < given.share <= 1:
        raise InputError(f"--share={given.share} is wrong; give a number above 0, and at most 1.")
    wanted = [name for name in given.runs.split(",") if name]
    # Loads torch: what is wrong with the config is told before.
    settings = settings_of(*given.keys)
    from experiments.verification import verify_folder

    report = verify_folder(given.folder, wanted, settings, given.share, given.seed, given.retrain)
    print(report.text)
    return EXIT_CONTRADICTED if report.contradicted else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.verify",
        description="Recompute a random share of stored outcomes, and compare.",
        epilog="Keys say where images and weights lie here, for example profile=bundled, or "
        "dataset=imagenet dataset.root=/data/imagenet/val.",
    )
    add = parser.add_argument
    add("folder", type=Path, help="of results, of anyone's")
    add("keys", nargs="*", metavar="KEY=VALUE", help="of the configuration")
    add("--runs", default="", metavar="NAMES", help="only these, with commas: table6,table7")
    add("--share", type=float, default=_SHARE, help=f"of the outcomes; {_SHARE}")
    add("--retrain", action="store_true", help="train networks again that are not kept here")
    add("--seed", type=int, default=0, help="decides which; 0")
    return parser


if __name__ == "__main__":
    sys.exit(main())
