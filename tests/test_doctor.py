"""`pixelrobust doctor` finds what is broken: faults are made, and must be told."""

import hashlib
import shutil
import tarfile
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from packaging.requirements import Requirement

from experiments.command.doctor import doctor
from experiments.configuration import settings_of
from experiments.doctor import login, machine, material, software
from experiments.doctor.examination import examine
from experiments.doctor.findings import Finding, found_by
from tests.fault_cases import folder_of, images, network, saved, state

pytestmark = pytest.mark.usefixtures("one_thread")


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def keys(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a small network and a folder of images, in which nothing is wrong."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    root = folder_of(tmp_path / "images", "cat/0.png", "cat/1.png", "dog/0.png")
    weights = saved(state(), tmp_path / "w.safetensors")
    paths = [f"paths.cache={cache}", f"paths.results={tmp_path / 'results'}"]
    return [*images(root), *network(weights), *paths]


def one(findings: Iterable[Finding], name: str) -> Finding:
    (found,) = (finding for finding in findings if finding.name == name)
    return found


def finding(keys: list[str], name: str) -> Finding:
    return one(examine(settings_of(*keys), asked=True), name)


def test_what_is_sound_is_ok(
    keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {finding.name: finding for finding in examine(settings_of(*keys), asked=True)}
    assert not [finding for finding in found.values() if finding.level == "problem"]
    assert found["images"].text.startswith(
        f"3 of 2 classes in {tmp_path / 'images'}; 3 were decoded"
    )
    assert found["network squeezenet1_1"].level == "ok"
    assert doctor(keys, asked=True, as_json=False) == 0
    assert capsys.readouterr().out.rstrip().endswith("no problems")
    assert not (tmp_path / "results").exists()


# Images and weights


def test_an_image_that_cannot_be_read(
    keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images" / "cat" / "1.png").write_bytes(b"no image")
    found = finding(keys, "images")
    assert found.level == "problem"
    assert "cat/1.png cannot be read" in found.text
    assert doctor(keys, asked=True, as_json=False) == 1
    assert capsys.readouterr().out.rstrip().endswith("1 problem")


def test_an_image_within_another_file_that_cannot_be_read(keys: list[str], tmp_path: Path) -> None:
    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as archive:
        archive.add(tmp_path / "images" / "cat" / "0.png", "a.png")
        (tmp_path / "label").write_text("cat")
        archive.add(tmp_path / "label", "a.cls")
    own = [key for key in keys if not key.startswith(("dataset=", "dataset.root="))]
    shards = [*own, "dataset=webdataset", f"dataset.file={shard}"]
    assert finding(shards, "images").text.startswith(f"1 of 1 classes in {shard}; 1 were decoded")
    picture = (tmp_path / "images" / "cat" / "0.png").read_bytes()
    shard.write_bytes(shard.read_bytes().replace(picture, bytes(len(picture))))
    found = finding(shards, "images")
    assert (found.level, "a.png" in found.text, "cannot be read" in found.text) == (
        "problem",
        True,
        True,
    )


def test_a_class_that_is_unknown(keys: list[str], tmp_path: Path) -> None:
    (tmp_path / "images" / "dog").rename(tmp_path / "images" / "cow")
    assert "'cow' is not among" in finding(keys, "images").text


def test_weights_that_do_not_fit(keys: list[str]) -> None:
    found = finding([*keys, "models.torchvision.name=resnet18"], "network resnet18")
    assert found.level == "problem"
    assert "do not fit the network" in found.text


def test_weights_that_are_damaged(keys: list[str], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be loaded" in finding(keys, "network squeezenet1_1").text


def test_published_weights_that_are_not_there_yet(keys: list[str]) -> None:
    published = ["models.torchvision.weights=IMAGENET1K_V1", "models.torchvision.classes=1000"]
    found = finding([*keys, *published], "network squeezenet1_1")
    assert (found.level, found.remedy.startswith("Connect to the network")) == ("warning", True)
    assert "squeezenet1_1-b8a52dc0.pth is downloaded on first use" in found.text


def test_published_weights_that_are_not_as_published(keys: list[str], tmp_path: Path) -> None:
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"something else")
    found = finding(keys, "torch's cache")
    assert found.level == "problem"
    assert "squeezenet1_1-b8a52dc0.pth is not what was published" in found.text
    assert hashlib.sha256(b"something else").hexdigest()[:8] in found.text
    published = ["models.torchvision.weights=IMAGENET1K_V1", "models.torchvision.classes=1000"]
    assert "not what was published" in finding([*keys, *published], "network squeezenet1_1").text


def test_published_weights_that_are_as_published(keys: list[str], tmp_path: Path) -> None:
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    (checkpoints / f"some_network-{digest}.pth").write_bytes(b"weights")
    assert finding(keys, "torch's cache").text.startswith("1 files of published weights")


def test_weights_of_the_hub_have_the_hash_that_names_them(tmp_path: Path) -> None:
    sound = tmp_path / hashlib.sha256(b"weights").hexdigest()
    sound.write_bytes(b"weights")
    material._check_blob(sound)
    sound.write_bytes(b"weight$")
    (found,) = found_by("hub", lambda: [material._check_blob(sound)])  # type: ignore[list-item]
    assert "is not what was downloaded" in found.text


def test_timms_weights_that_are_not_there_yet(
    keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    timm = ["model=timm", "models.timm.name=resnet18.a1_in1k"]
    kept = [key for key in keys if not key.startswith(("model=", "models."))]
    found = finding([*kept, *timm], "network resnet18.a1_in1k")
    assert (found.level, "timm/resnet18.a1_in1k of Hugging Face's hub" in found.text) == (
        "warning",
        True,
    )


def test_what_nobody_asked_for_is_no_problem(keys: list[str], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "images")
    settings = settings_of(*keys)
    assert one(examine(settings, asked=True), "images").level == "problem"
    assert one(examine(settings, asked=False), "images").level == "warning"


# The machine


def test_a_folder_that_cannot_be_written_to(keys: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, option in (("results", "--out"), ("cache", "PIXELROBUST_CACHE")):
        found = finding([*keys, f"paths.{name}={tmp_path / 'file' / 'below'}"], name)
        assert found.level == "problem"
        assert found.text.startswith(f"{option}={tmp_path / 'file'} cannot be written to")


@pytest.mark.parametrize(("free", "level"), [(1e8, "problem"), (2e9, "warning"), (1e11, "ok")])
def test_little_room_on_a_disk(
    free: float, level: str, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**12, 10**12, int(free)))
    found = finding(keys, "cache")
    assert (found.level, f"{free / 1e9:.1f} GB free" in found.text) == (level, True)
    assert bool(found.remedy) == (level != "ok")


@pytest.mark.parametrize(
    ("kilobytes", "limit", "level"),
    [
        (500_000, "max", "problem"),
        (2_000_000, "max", "warning"),
        (8_000_000, "max", "ok"),
        (8_000_000, "900000000", "problem"),
    ],
)
def test_little_memory(
    kilobytes: int, limit: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo, most = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text(f"MemTotal: 9999 kB\nMemAvailable:   {kilobytes} kB\n")
    most.write_text(f"{limit}\n")
    monkeypatch.setattr(machine, "_MEMORY_FILES", (meminfo, most))
    assert one(machine.look_at_memory(), "memory").level == level


def test_memory_that_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_MEMORY_FILES", (tmp_path / "none", tmp_path / "none"))
    assert "not known" in one(machine.look_at_memory(), "memory").text


def test_an_old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert one(machine.look_at_processor(), "processor").level == "warning"


def test_a_gpu_that_torch_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(machine, "_DRIVER", tmp_path / "none")
    assert one(machine.look_at_gpus("auto"), "GPU").level == "ok"
    monkeypatch.setattr(machine, "_DRIVER", tmp_path)
    assert "shows no GPU" in one(machine.look_at_gpus("auto"), "GPU").text


def test_a_device_that_is_not_there(keys: list[str]) -> None:
    found = finding([*keys, "engine.devices=cuda:99"], "GPU")
    assert (found.level, "cuda:99 is not there" in found.text) == ("problem", True)


def test_openvino_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")

    def broken() -> None:
        raise RuntimeError("a library is missing")

    monkeypatch.setattr(openvino, "Core", broken)
    found = one(machine.look_at_openvino(), "OpenVINO")
    assert (found.level, "a library is missing" in found.text) == ("problem", True)


# Software


def test_packages_that_are_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    required = [
        "numpy>=1000",
        "no_such_package_at_all>=2",
        "pandas",
        "wandb>=5000; extra == 'tracking'",
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: required)
    found = one(software.look_at_packages(), "packages")
    assert found.level == "problem"
    assert "no_such_package_at_all is missing" in found.text
    assert f"numpy {metadata.version('numpy')} is not >=1000" in found.text
    assert found.remedy == "pip install 'numpy>=1000' 'no_such_package_at_all>=2'"
    extra = one(software.look_at_extras(), "extra tracking")
    assert (extra.level, "not installed" in extra.text) == ("ok", True)


def test_the_requirements_are_all_looked_at() -> None:
    every = [Requirement(line) for line in metadata.requires("pixelrobust") or []]
    always = {one.name for one in every if one.marker is None or "extra" not in str(one.marker)}
    assert {one.name for one in software._requirements("")} == always
    assert "torch" in always
    assert {one.name for one in software._requirements("openvino")} == {"openvino"}


def test_a_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "_OLDEST", (99, 1))
    found = one(software.look_at_python(), "Python")
    assert (found.level, found.remedy) == ("problem", "Install Python 99.1 or newer.")


# A login

Tracking = Callable[[], Finding]


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(login, "package_folder", lambda module: tmp_path)
    return lambda: one(login.look_at_tracking(), "tracking")


NOBODY = Finding(
    "tracking", "ok", "nobody is logged in to W&B, so tracking=wandb keeps runs on this machine",
    "To send them: wandb login.",
)  # fmt: skip
SOMEBODY = Finding("tracking", "ok", "there is a login; whether it is valid shows in use")


def test_nobody_is_logged_in(tracking: Tracking, tmp_path: Path) -> None:
    assert tracking() == NOBODY
    (tmp_path / "netrc").write_text("machine other.example login user password made-up\n")
    assert tracking() == NOBODY
    (tmp_path / "netrc").write_text("what is this\n")
    assert tracking() == NOBODY


def test_somebody_is_logged_in(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password made-up\n")
    (tmp_path / "netrc").chmod(0o600)
    assert tracking() == SOMEBODY
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert tracking() == NOBODY
    monkeypatch.setenv("WANDB_API_KEY", "made-up")
    assert tracking() == SOMEBODY


def test_a_look_that_fails_is_a_problem_and_not_the_end() -> None:
    def fails() -> Iterable[Finding]:
        raise OSError("no such device")

    (found,) = found_by("something", fails)
    assert (found.name, found.level) == ("something", "problem")
    assert "OSError: no such device" in found.text


def test_wrong_settings_are_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(["foo=1"], asked=True, as_json=True) == 1
    assert "foo is not a key" in capsys.readouterr().out
