"""Run stored experiments anew with engine.precision=screened, and compare every outcome with the stored one.

    python -m scripts.screening results/imagenet-samples dataset.root=/data/imagenet-samples/val

The stored ones were computed in fp32. Where an outcome differs, its image is shown again in fp32, in batches of other
sizes: sums of another order can flip a prediction that is all but a tie. Writes screening.csv and screening.md
into the folder's parent. The runs are kept in a folder that is given (--runs), and the same command goes on there.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.config import quoted, settings_of
from experiments.exits import exit_code
from experiments.measures import chosen_from
from experiments.session import Progress, Session, get_engine, image_set, rows_of
from experiments.stored import Run, load_run
from experiments.terminal import console
from pixelrobust.errors import InputError
from pixelrobust.evaluation.forward import Design, ForwardPass
from pixelrobust.files import write_text
from pixelrobust.outcomes.kinds import CELL_COLUMNS, OUTCOMES
from pixelrobust.outcomes.manifest import Screened
from pixelrobust.outcomes.rows import cell_of
from pixelrobust.settings import fingerprint, model_label
from pixelrobust.tables.rates import markdown_table, write_csv

TABLES = ("table6", "table7", "table8")
# Batches of these sizes add in other orders.
_OTHER_SIZES = (1, 7, 32)


def screened_run(name: str, profile: str, runs: Path, keys: Sequence[str]) -> Run:
    """Run an experiment of a profile with screening; return its manifest and rows."""
    results = runs / fingerprint(profile, name, *keys)[:10]
    command = [
        sys.executable, "-m", "experiments.run", f"experiment={name}", f"profile={profile}", *keys,
        "engine.precision=screened", "pictures=0", f"paths.results={quoted(results)}",
    ]  # fmt: skip
    code = subprocess.run(command, check=False, stdout=sys.stderr).returncode
    if code:
        raise InputError(f"experiment={name} failed with exit code {code}; see above.")
    (path,) = results.glob(f"{name}-*/outcomes/{name}.json")
    return load_run(path.parent.parent, name)


def differing(stored: Run, screened: Run) -> pd.DataFrame:
    """Return the rows of a screened run whose prediction is another than the stored one's.

    Raises:
        InputError: the runs do not hold the same outcomes.
    """
    manifests = stored[0], screened[0]
    by = OUTCOMES.keys
    texts = ["model", "image"]
    first, other = (rows.astype(dict.fromkeys(texts, str)) for _, rows in (stored, screened))
    both = first.merge(other, "outer", by, suffixes=("_stored", ""), indicator="found")
    if (both["found"] != "both").any() or len({one.image_list_sha256 for one in manifests}) > 1:
        raise InputError(
            f"the runs of {manifests[0].name} were of other images, networks or changes; give the data set "
            "and weights of the stored one."
        )
    return both[both["prediction"] != both["prediction_stored"]]


def flipped_by_batches(rows: pd.DataFrame, stored: Run, session: Session) -> "pd.Series[bool]":
    """Tell of which of differing rows fp32 itself takes the image for the other class, in other batches."""
    manifest, outcomes = stored
    images = image_set(session)
    chosen = chosen_from(images, rows_of(images, manifest, list(outcomes["image"].cat.categories)))
    place = {key: row for row, key in enumerate(chosen.keys)}
    design = Design([], manifest.draws, session.settings.seed, session.settings.perturbation.manner)
    keys = {model_label(key, model): key for key, model in session.settings.models.items()}
    found = pd.Series(False, index=rows.index)
    for size in _OTHER_SIZES:
        settings = session.settings.engine.model_copy(update={"batch_size": size})
        other = session.settings.model_copy(update={"engine": settings})
        for (model, *_), own in rows.groupby(["model", *CELL_COLUMNS], dropna=False):
            engine = get_engine(
                replace(session, settings=other, engines={}), keys[str(model)], images
            )
            forward, cell = ForwardPass(chosen.task(engine, str(model)), design), cell_of(own)
            image = np.array([place[key] for key in own["image"]], dtype=np.int64)
            predicted = forward.predict((image, own["draw"].to_numpy(dtype=np.int64)), [cell])
            found[own.index] |= predicted[cell].classes == own["prediction"].to_numpy()
    return found


def compare(stored: Run, screened: Run, session: Session) -> pd.DataFrame:
    """Return one row a network: how a run was screened, and how many outcomes differ from the stored ones."""
    rows = differing(stored, screened)
    flipped = rows[flipped_by_batches(rows, stored, session)] if len(rows) else rows
    table = []
    for model in map(str, stored[1]["model"].unique()):
        engine = screened[0].engines[model]
        table.append(
            {"run": stored[0].name, "model": model, "fast": engine["fast"]}
            | Screened.of(engine)._asdict()
            | {
                "differing": int((rows["model"] == model).sum()),
                "other_batches": int((flipped["model"] == model).sum()),
            }
        )
    return pd.DataFrame(table)


def page(table: pd.DataFrame) -> str:
    """Return the comparison as Markdown."""
    text = pd.DataFrame(
        {
            "Run": table["run"],
            "Model": table["model"],
            "Outcomes": [f"{value:,}" for value in table["screened"]],
            "For errors": [f"{value:,}" for value in table["calibrated"]],
            "Again in fp32 (%)": [
                f"{value:.1f}" for value in 100 * table["recomputed"] / table["screened"]
            ],
            "Corrected by it": [f"{value:,}" for value in table["flipped"]],
            "Checked": [f"{value:,}" for value in table["checked"]],
            "Largest error": [f"{value:.3f}" for value in table["error"]],
            "Bound": [f"{value:.3f}" for value in table["bound"]],
            "Widest gap corrected": [f"{value:.3f}" for value in table["widest"]],
            "Differ from fp32": [f"{value:,}" for value in table["differing"]],
            "Of these, in other batches": [f"{value:,}" for value in table["other_batches"]],
        }
    )
    differ, flips = (int(table[key].sum()) for key in ("differing", "other_batches"))
    words = (
        f"Of {int(table['screened'].sum()):,} outcomes that were found with `engine.precision=screened`, "
        f"{differ:,} differ from those stored in fp32; {flips:,} of these flip in fp32 too where batches have "
        "another size. Errors were seen on some of them, and some were checked. In logits: a gap is that "
        "between the two largest, an error how far the fast arithmetic misses it, the bound the gap below "
        "which fp32 decides."
    )
    return "\n\n".join(["# Screened beside fp32", markdown_table(text), words]) + "\n"


def run(given: argparse.Namespace) -> int:
    """Run, compare and write; return 1 where an outcome differs that other batches do not flip."""
    tables = []
    for name in given.tables.split(","):
        stored = load_run(given.folder, name)
        if stored[0].config["engine"]["precision"] != "fp32":
            raise InputError(
                f"{given.folder}/outcomes/{name} was not computed in fp32; give one that was."
            )
        keys = [f"experiment={name}", f"profile={given.folder.name}", *given.keys]
        session = Session(settings_of(*keys), Progress(console()))
        screened = screened_run(name, given.folder.name, given.runs.absolute(), given.keys)
        tables.append(compare(stored, screened, session))
        table = pd.concat(tables, ignore_index=True)
        write_csv(table, given.folder.parent / "screening.csv")
        write_text(given.folder.parent / "screening.md", page(table))
    print(page(table))
    return int((table["differing"] > table["other_batches"]).any())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.screening", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("folder", type=Path, help="of a profile's stored results")
    add("--tables", default=",".join(TABLES), help="experiments, with commas; %(default)s")
    add(
        "--runs",
        type=Path,
        default=Path("results/screened"),
        help="where screened runs go; %(default)s",
    )
    add("keys", nargs="*", metavar="KEY=VALUE", help="where images and weights are")
    given = parser.parse_intermixed_args(arguments)
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
