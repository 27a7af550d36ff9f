"""What a machine lacks: rights, room on disks, memory, a GPU.

Nothing is pretended: as root, runs are made as a user without rights; full disks are small file systems
in a mount namespace of their own; memory is limited by the system. Where the system does not let a test
do so, it is skipped.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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
    without_advice,
)
from tests.full_disk_cases import FULL, NO_MEMORY

pytestmark = pytest.mark.usefixtures("one_thread")

SAID = {
    "a results folder that is read-only": "cannot be written to",
    "the same in a sweep": "the records of jobs cannot be written to",
    "a cache that is read-only": "cannot be written to",
}
"""What the sentence about each case says, by the case's id."""
_NOBODY = 65534


# Rights


@pytest.fixture
def shelf() -> Iterator[Path]:
    """A folder that every user can reach and write to."""
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
    """The command line by a user without rights, over two images in a folder of theirs."""
    root = folder_of(shelf / "images", "cat/a.png", "cat/b.png")
    weights = saved(state(), shelf / "w.safetensors")
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
    stopped = without_advice(sentence(limited(), shelf))
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
    ("name", "extra"),
    [("results", ()), ("results", ("-m", "draws=1,2")), ("cache", ())],
    ids=["a results folder that is read-only", "the same in a sweep", "a cache that is read-only"],
)
def test_a_folder_that_may_not_be_written_to(
    name: str,
    extra: tuple[str, ...],
    limited: Callable[..., Ended],
    shelf: Path,
    words: str,
) -> None:
    (shelf / name).mkdir(mode=0o555)
    ended = limited(*extra)
    assert not list((shelf / name).iterdir())
    assert words in sentence(ended, shelf)


# Room on disks, and memory


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """How each of tests/full_disk_cases.py ended."""
    namespace = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    folder = tmp_path_factory.mktemp("full")
    # Whether this system lets one do so.
    trial = [*namespace, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    if not shutil.which("unshare") or subprocess.run(trial, capture_output=True).returncode:
        pytest.skip("this system does not let a small file system be mounted")
    finished = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.full_disk_cases", str(folder)],
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
