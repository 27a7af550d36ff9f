"""Nothing is sent anywhere: evaluating, retraining and reporting open no connection."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.datasets.cases import mnist, noise
from tests.fault_cases import folder_of
from tests.models.cases import checkpoint

# Python runs this at its start, in every process that a process starts too.
WATCH = """
import os, sys
LOCAL = ("127.0.0.1", "::1", "localhost")
def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        address = arguments
    else:
        return
    # Others than tuples are of this machine's own kinds.
    if isinstance(address, tuple) and str(address[0]) not in LOCAL:
        with open(os.environ["WATCHED"], "a") as log:
            log.write(f"{event} {address[0]}\\n")
sys.addaudithook(watch)
"""

COMMANDS = """
import sys
from pathlib import Path
from experiments.report import main as report
from experiments.run import main
for command in sys.argv[1].split(";"):
    sys.argv = ["experiments.run", *command.split()]
    assert main() == 0, command
for folder in Path(sys.argv[-1].partition("=")[2]).glob("*-*"):
    assert report([str(folder), "--rebuild"]) == 0
"""


@pytest.fixture
def watched(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Note connections of processes that are started from now on in a file, and return it."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{REPOSITORY}")
    monkeypatch.setenv("WATCHED", str(tmp_path / "watched.txt"))
    monkeypatch.setenv("PIXELROBUST_CACHE", str(cache))
    # Somebody who has never said whether reports may be sent, on a machine that tests nothing.
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for variable in ("CI", "TF_BUILD", "JENKINS_URL", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "watched.txt"


def test_connections_would_be_seen(watched: Path) -> None:
    code = "import socket; socket.create_connection(('nowhere.invalid', 80), timeout=1)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    subprocess.run([sys.executable, "-c", child], stderr=subprocess.DEVNULL)
    assert watched.read_text() == "socket.getaddrinfo nowhere.invalid\n"


def test_evaluating_and_retraining_send_nothing(watched: Path, tmp_path: Path) -> None:
    folder_of(tmp_path / "images", "n01440764/picture.png", "n02123045/picture.png")
    small = f"model=efficientnet_lite0 perturbation.num=4 draws=1 dataset.limit=4 paths.results={tmp_path}/results"
    evaluating = f"selection.models=null engine=openvino {small}"
    retraining = (
        f"experiment=table10 dataset=imagefolder dataset.root={tmp_path}/images retrain.num=[4] "
        f"retrain.controls=[] retrain.selected=false retrain.epochs=1 engine=eager "
        f"dataset.preprocessing.resize=64 dataset.preprocessing.crop=64 {small}"
    )
    # A data set of torchvision, and a Hugging Face folder.
    mnist(tmp_path, noise(2, 28, 28), [0, 1])
    folder = checkpoint(tmp_path / "network", labels=[f"{digit}" for digit in range(10)])
    others = (
        f"model=huggingface models.huggingface.path={folder} dataset=torchvision dataset.name=MNIST "
        f"dataset.root={tmp_path} perturbation.num=4 paths.results={tmp_path}/results"
    )
    commands = ";".join([evaluating, retraining, others])
    ended = subprocess.run(
        [sys.executable, "-c", COMMANDS, commands], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "on OpenVINO (fp32)" in ended.stdout
    assert not watched.exists(), watched.read_text()
    # OpenVINO's reports would leave a number by which they know the machine.
    assert list((tmp_path / "home").rglob("openvino*")) == []
