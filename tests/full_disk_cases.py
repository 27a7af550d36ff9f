"""Runs on file systems that are full, and with too little memory, in a process of its own.

Usage: unshare --mount python -m tests.full_disk_cases FOLDER. Each case has a small tmpfs of its own,
which nobody else sees and which ends with the process. Prints how each ended, as JSON, on the last line.
"""

import contextlib
import io
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from experiments.run import main
from tests.fault_cases import folder_of, images, network, saved, state

RETRAINING = (
    "experiment=table10", "retrain.num=[4]", "retrain.controls=[]", "retrain.selected=false",
    "retrain.epochs=1",
)  # fmt: skip
FULL: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "no space for the record of a run": ("paths.results", 8, ()),
    "no space for the predictions of a network": ("paths.results", 12, ()),
    "no space for outcomes": ("paths.results", 20, ()),
    "no space for the manifest": ("paths.results", 24, ()),
    "no space for a table": ("paths.results", 28, ()),
    "no space for a figure": ("paths.results", 64, ()),
    "no space for a figure in PDF": ("paths.results", 144, ()),
    "no space for decoded images": ("paths.cache", 8, ()),
    "no space for predictions of unchanged images": ("paths.cache", 20, ()),
    "no space for a retrained network": ("retrain.save", 1024, RETRAINING),
    "no space for checkpoints of retraining": ("paths.cache", 32, RETRAINING),
}
"""By what is tried: the key of the folder that is small, its size in KiB, and other arguments."""

NO_MEMORY = "no memory for one image"
# So much, in bytes, beyond what the process has; the first layer alone wants more for an image
# of 1024 x 1024.
_MEMORY_LEFT = 64 * 2**20


def command(*arguments: str) -> dict[str, Any]:
    """Run the command line, and return how it ends."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["experiments.run", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main()
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def on_full_disk(folder: Path, key: str, kibibytes: int, arguments: list[str]) -> dict[str, Any]:
    """Run with one small folder; return how it ends, and which hidden files it leaves there."""
    folder.mkdir()
    size = f"size={kibibytes}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    # The last one of a key counts.
    ended = command(*arguments, f"{key}={folder}")
    return ended | {"left": [str(path) for path in folder.rglob(".*")]}


def with_little_memory(arguments: list[str]) -> dict[str, Any]:
    """Run in a process that can have hardly more memory than it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    most = pages * resource.getpagesize() + _MEMORY_LEFT
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    large = ["dataset.preprocessing.resize=1024", "dataset.preprocessing.crop=1024"]
    return command(*arguments, *large)


def all_cases(folder: Path) -> dict[str, dict[str, Any]]:
    torch.set_num_threads(1)
    weights = saved(state(), folder / "w.safetensors")
    root = folder_of(folder / "images", "cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png")
    usual = [*images(root), *network(weights), "perturbation.num=[4,64]"]
    own = [f"paths.results={folder / 'results'}", f"paths.cache={folder / 'cache'}"]
    ended = {
        name: on_full_disk(
            folder / f"small{number}",
            key,
            size,
            [*extra, *usual, *(each for each in own if not each.startswith(key))],
        )
        for number, (name, (key, size, extra)) in enumerate(FULL.items())
    }
    ended[NO_MEMORY] = with_little_memory([*usual, *own])
    return ended


if __name__ == "__main__":
    print(json.dumps(all_cases(Path(sys.argv[1]))))
