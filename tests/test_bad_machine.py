"""Machines that lack rights, room on disks, or memory.

Nothing is pretended: as root, runs are made as a user without rights; full disks are small file systems
in a mount namespace of their own; memory is limited by the system. Where the system does not let a test
do so, it is skipped.

As a module, `unshare --mount python -m tests.test_bad_machine FOLDER`, this runs on full disks and with
too little memory, and prints how each case ended, as JSON, on the last line.
"""

import contextlib
import io
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.run import main
from tests.conftest import REPOSITORY, Run
from tests.fault_cases import (
    Ended,
    folder_of,
    images,
    manifest,
    network,
    saved,
    sentence,
    state,
)

pytestmark = pytest.mark.usefixtures("one_thread")

_NOBODY = 65534


@pytest.fixture
def shelf() -> Iterator[Path]:
    """Make a folder that every user can reach and write to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def without_rights() -> Iterator[None]:
    """Be a user whom permissions bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        if not os.access(REPOSITORY / "configs" / "config.yaml", os.R_OK, effective_ids=True):
            pytest.skip("a user without rights cannot read this checkout")
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def limited(run: Run, shelf: Path) -> Callable[..., Ended]:
    """Return the command line by a user without rights, over two images in a folder of theirs."""
    root = folder_of(shelf / "images", "cat/a.png", "cat/b.png")
    weights = saved(state(), shelf / "w.safetensors")
    weights.chmod(0o644)
    usual = [*images(root), *network(weights), f"paths.cache={shelf / 'cache'}"]
    # What is imported when it is needed first may be where others cannot read: decoding images, then
    # taking them from the cache.
    for _ in range(2):
        assert run(*usual, f"paths.cache={shelf / 'first'}").code == 0

    def call(*arguments: str) -> Ended:
        with without_rights():
            return run(*arguments, *usual, results=shelf / "results")

    return call


def test_an_image_that_may_not_be_read(limited: Callable[..., Ended], shelf: Path) -> None:
    (shelf / "images" / "cat" / "b.png").chmod(0)
    stopped = sentence(limited(), shelf)
    assert limited("dataset.unreadable=skip").code == 0
    assert manifest(shelf / "results")["unreadable"] == ["cat/b.png"]
    # Neither size nor time of the file change by this. Another seed, since runs of one process share
    # their images.
    (shelf / "images" / "cat" / "b.png").chmod(0o644)
    shutil.rmtree(shelf / "results")
    assert limited("dataset.unreadable=skip", "seed=1").code == 0
    assert manifest(shelf / "results")["images"] == 2
    assert "b.png cannot be read (Permission denied)" in stopped


def test_a_class_folder_that_may_not_be_read(limited: Callable[..., Ended], shelf: Path) -> None:
    (shelf / "images" / "cat").chmod(0)
    assert "Permission denied)" in sentence(limited("dataset.unreadable=skip"), shelf)


@pytest.mark.parametrize(
    ("name", "extra", "words"),
    [
        ("results", (), "cannot be written to"),
        ("results", ("-m", "draws=1,2"), "the records of jobs cannot be written to"),
        ("cache", (), "cannot be written to"),
    ],
    ids=["results", "results of a sweep", "cache"],
)
def test_a_folder_that_may_not_be_written_to(
    name: str, extra: tuple[str, ...], words: str, limited: Callable[..., Ended], shelf: Path
) -> None:
    (shelf / name).mkdir(mode=0o555)
    ended = limited(*extra)
    assert not list((shelf / name).iterdir())
    assert words in sentence(ended, shelf)


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
    # The run above is never wrong, so that there is nothing to draw.
    "no space for a figure": ("paths.results", 68, RETRAINING),
    "no space for a figure in PDF": ("paths.results", 92, RETRAINING),
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
    # Once everything is imported, and in a process of its own: what other runs free is memory to have.
    command(*usual, *own)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        of_memory = pool.apply(with_little_memory, ([*usual, *own],))
    ended = {
        name: on_full_disk(
            folder / f"small{number}",
            key,
            size,
            [*extra, *usual, *(each for each in own if not each.startswith(key))],
        )
        for number, (name, (key, size, extra)) in enumerate(FULL.items())
    }
    return ended | {NO_MEMORY: of_memory}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Run all cases in a process of its own, and return how each ended."""
    namespace = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    folder = tmp_path_factory.mktemp("full")
    # Whether this system lets one do so.
    trial = [*namespace, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    if not shutil.which("unshare") or subprocess.run(trial, capture_output=True).returncode:
        pytest.skip("this system does not let a small file system be mounted")
    finished = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.test_bad_machine", str(folder)],
        capture_output=True, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    cases = json.loads(finished.stdout.splitlines()[-1])
    return {name: case | {"folder": str(folder)} for name, case in cases.items()}


@pytest.mark.parametrize("name", FULL, ids=FULL)
def test_a_full_disk_ends_a_run_with_a_sentence_and_nothing_half_written(
    name: str, ended: dict[str, dict[str, object]]
) -> None:
    case = ended[name]
    told = sentence(Ended(case["code"], case["out"], case["err"]), Path(str(case["folder"])))
    assert "No space left on device" in told
    assert case["left"] == []


def test_memory_that_does_not_hold_one_image_is_told(ended: dict[str, dict[str, object]]) -> None:
    case = ended[NO_MEMORY]
    assert "there is not enough memory on cpu for one image" in sentence(
        Ended(case["code"], case["out"], case["err"])
    )


if __name__ == "__main__":
    print(json.dumps(all_cases(Path(sys.argv[1]))))
