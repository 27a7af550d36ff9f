"""What runs leave in a folder of results: their rows and manifests, written and read."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from experiments.paper import experiment_called
from pixelrobust.errors import InputError
from pixelrobust.files import check_inside, remove_leftovers
from pixelrobust.outcomes.kinds import kind_of
from pixelrobust.outcomes.manifest import Manifest, read_manifest
from pixelrobust.outcomes.rows import read_outcomes, write_outcomes

Run = tuple[Manifest, pd.DataFrame]
"""A stored run: its manifest and its rows."""


def store_run(directory: Path, manifest: Manifest, outcomes: pd.DataFrame) -> None:
    """Write what a run found, and who found it where."""
    for folder in (directory, directory / "outcomes"):
        remove_leftovers(folder)
    check_inside(directory / "outcomes", directory.parent)
    path = outcomes_file(directory, manifest.name)
    write_outcomes(outcomes, path)
    manifest.write(path.with_suffix(".json"))


def is_stored(directory: Path, manifest: Manifest, outcomes: pd.DataFrame) -> bool:
    """Tell whether a folder holds these very rows of these images, networks and settings already.

    Then its record stands for them too: it says when, where and by which versions they were found first.

    Raises:
        InputError: the folder is a link that leads elsewhere.
    """
    check_inside(directory / "outcomes", directory.parent)
    try:
        stored, rows = load_run(directory, manifest.name)
    except InputError:
        return False
    what = ("config", "image_list_sha256", "weights_sha256", "draws", "images")
    if any(getattr(stored, key) != getattr(manifest, key) for key in what):
        return False
    with TemporaryDirectory() as folder:
        # Types differ between rows that were made and rows that were read.
        write_outcomes(outcomes, path := Path(folder) / "rows.parquet")
        return read_outcomes(path, kind_of(manifest.config).name).equals(rows)


def outcomes_file(directory: Path, name: str) -> Path:
    """Return where `store_run` writes the outcomes of the experiment of this name."""
    return directory / "outcomes" / f"{experiment_called(name).table}.parquet"


def load_manifest(directory: Path, name: str) -> Manifest:
    """Read the manifest that `store_run` wrote for the experiment of this name."""
    return read_manifest(outcomes_file(directory, name).with_suffix(".json"))


def load_run(directory: Path, name: str) -> Run:
    """Read what `store_run` wrote for the experiment of this name."""
    manifest = load_manifest(directory, name)
    return manifest, read_outcomes(outcomes_file(directory, name), kind_of(manifest.config).name)


def stored_runs(directory: Path) -> dict[str, Run]:
    """Read all that `store_run` wrote into a folder, by the experiment's name."""
    manifests = [read_manifest(path) for path in sorted(directory.glob("outcomes/[!.]*.json"))]
    return {manifest.name: load_run(directory, manifest.name) for manifest in manifests}
