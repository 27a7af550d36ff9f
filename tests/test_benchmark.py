"""The benchmark: its arithmetic, how it sees memory, what it refuses, and one small run."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from experiments.paper import FIVE_NETWORKS
from pixelrobust.engine.devices import fast_precision
from pixelrobust.errors import InputError
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.tables.rates import markdown_table
from scripts import benchmark
from scripts.benchmark import (
    COLUMNS,
    Measured,
    Steady,
    change_image,
    change_pixels,
    find_images,
    for_reading,
    link_images,
    main,
    run_module,
    steady_of,
    summarise,
)
from tests.conftest import REPOSITORY


def measured(arm: str, number: int, passes: int, model: str = "net") -> Measured:
    """A run of ten seconds."""
    steady = Steady(passes, 10.0, "eager", "fp32", 50, 2 if arm == "a" else None)
    return Measured(model, arm, number, steady, 15.0 + number, (number + 1) * 100_000_000)


RUNS = [
    *(measured("a", number, passes) for number, passes in enumerate((100, 200, 100))),
    *(measured("c", number, passes) for number, passes in enumerate((600, 1000, 800))),
    *(measured("d", number, passes) for number, passes in enumerate((640, 1000, 1000))),
]


def test_ratios_are_between_neighbours_in_time() -> None:
    """Of c to a 6, 5 and 8, of c to d 0.9375, 1 and 0.8."""
    table = summarise(RUNS).set_index("arm")
    assert table["images_per_second"].to_dict() == {"a": 10, "c": 80, "d": 100}
    c = table.loc["c"]
    assert (c["ratio_to_a"], c["ratio_to_a_low"], c["ratio_to_a_high"]) == (6, 5, 8)
    assert (c["ratio_to_d"], c["ratio_to_d_low"], c["ratio_to_d_high"]) == (0.9375, 0.8, 1)
    assert table["ratio_to_c"].to_dict() == {"a": 0.1667, "c": 1, "d": 1.0667}
    assert (c["images_per_second_low"], c["images_per_second_high"]) == (60, 100)
    assert table["ratio_to_a"]["a"] == table["ratio_to_d"]["d"] == 1
    assert c["peak_mb"] == 200
    assert (c["whole_process_seconds"], c["seconds"], c["passes"], c["runs"]) == (16, 10, 800, 3)


def test_what_never_ran_in_fp32_is_compared_with_itself() -> None:
    half = [
        replace(run, steady=replace(run.steady, precision="bf16")) for run in RUNS if run.arm != "a"
    ]
    table = summarise(half).set_index("arm")
    assert table["ratio_to_c"].to_dict() == {"c": 1, "d": 1.0667}


def test_the_table_has_a_row_for_each_network_and_arm() -> None:
    table = summarise([*(replace(run, model="other") for run in RUNS), *RUNS])
    assert table["model"].tolist() == ["other"] * 3 + ["net"] * 3
    assert table["arm"].tolist() == ["a", "c", "d"] * 2
    committed = pd.read_csv(REPOSITORY / "results" / "benchmark.csv")
    assert list(table.columns) == COLUMNS == list(committed.columns)


def test_what_was_not_measured_is_left_empty() -> None:
    table = summarise([replace(run, peak_bytes=None) for run in RUNS if run.arm != "d"])
    assert table["ratio_to_d"].isna().all()
    assert table["peak_mb"].isna().all()
    assert table["workers"].isna().tolist() == [False, True]
    readable = for_reading(table)
    assert "Times (d)" not in readable
    assert readable["Times (a)"].tolist() == ["1", "6 (5–8)"]


def test_rates_of_the_software_come_from_its_own_record() -> None:
    grid = {"num": [4, 8, 16, 32, 64], "amplitude": [None], "area": [None]}
    manifest = Manifest(
        "table6", {"perturbation": grid}, 3, (224, 224), "range", "", "", 20, 16, 16, {}, "", {},
        engines={"net": {"name": "openvino", "precision": "fp32", "batch_size": 4}},
        seconds={"evaluation": 2.5, "evaluation of net": 2.4},
    )  # fmt: skip
    assert steady_of(manifest, "net") == Steady(240, 2.4, "openvino", "fp32", 4)


TAKING = "import time; taken = b'x' * 100_000_000; time.sleep(1)"
STARTING = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {TAKING!r}], check=True)"
FROM_A_THREAD = (
    f"import threading; t = threading.Thread(target=exec, args=({STARTING!r},)); t.start()"
)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system has no /proc")
@pytest.mark.parametrize("code", [TAKING, STARTING, FROM_A_THREAD])
def test_memory_of_a_process_and_its_children_is_seen(code: str, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", code])
    peak = 0
    while process.poll() is None:
        peak = max(peak, benchmark.anonymous_bytes(process.pid))
        time.sleep(0.05)
    assert 100e6 < peak < 140e6


def test_the_committed_table_is_made_of_the_committed_numbers() -> None:
    table = for_reading(pd.read_csv(REPOSITORY / "results" / "benchmark.csv"))
    page = (REPOSITORY / "results" / "benchmark.md").read_text(encoding="utf-8")
    assert markdown_table(table) in page


def test_the_scripts_change_so_many_pixels_of_each_image() -> None:
    grey = np.full((224, 200, 3), 128, dtype=np.uint8)
    changed = np.asarray(change_image(Image.fromarray(grey), 16))
    # A random colour is the old one in one of 16 million cases.
    assert (changed != grey).any(axis=2).sum() == 16
    batch = torch.full((3, 3, 20, 30), 128, dtype=torch.uint8)
    change_pixels(batch, 16, np.random.default_rng(0))
    assert (batch != 128).any(dim=1).sum(dim=(1, 2)).tolist() == [16, 16, 16]


def test_every_image_lies_in_the_class_that_is_predicted_for_it(tmp_path: Path) -> None:
    for name, shade in (("dark", 0), ("light", 255)):
        Image.new("L", (8, 8), shade).save(tmp_path / f"{name}.png")
    paths = [tmp_path / "dark.png", tmp_path / "light.png"]
    root, names = link_images(paths, [7, 11], 5, 12, tmp_path)
    assert names.read_text().splitlines() == [f"{index:02}" for index in range(12)]
    folder = ImageFolder(str(root))
    assert folder.classes == ["07", "11"]
    # Three times the first, twice the second.
    assert [(np.asarray(image).mean(), label) for image, label in folder] == [
        *[(0, 0)] * 3,
        *[(255, 1)] * 2,
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--models", "resnet7"], "--models=resnet7 is unknown"),
        (["--arms", "a,f"], "give some of a,b,c,d,e"),
        (["--arms", "a,d"], "lacks c"),
        (["draws=3"], "draws=3 is not a key of the engine"),
        (["engine=fast"], "engine=fast is unknown"),
        (["engine.threads=2"], "engine.threads"),
        (["--images", "/not/there"], "--images=/not/there is not a folder"),
        (["engine.batch_size=0"], "engine.batch_size=0 is wrong"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.startswith("error: ")
    assert "Traceback" not in said


def test_images_that_a_network_is_wrong_about_do_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Not a tench, which the folder says it is.
    (tmp_path / "n01440764").mkdir()
    Image.new("RGB", (256, 256), "grey").save(tmp_path / "n01440764" / "grey.png")
    own = ["--images", str(tmp_path), "--output", str(tmp_path), "--arms", "c"]
    assert main(["--models", "efficientnet_lite0", *own]) == 2
    assert "efficientnet_lite0 is wrong about all images" in capsys.readouterr().err


def test_keys_may_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine=fast", "--count", "4", "engine.batch_size=2"]) == 2
    assert "engine=fast is unknown" in capsys.readouterr().err


def test_numbers_and_folders_that_make_no_sense_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, value in (("--count", "0"), ("--rounds", "some"), ("--seconds", "-1")):
        with pytest.raises(SystemExit):
            main([option, value])
        assert f"{value} is wrong; give a" in capsys.readouterr().err
    with pytest.raises(InputError, match="holds no images"):
        find_images(tmp_path)


def test_what_failed_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"calendar failed with exit code \d; "):
        run_module("calendar", "never")
    assert "never" in capsys.readouterr().err


@pytest.mark.slow
def test_all_arms_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--count", "4", "--rounds", "1", "--seconds", "1"]
    assert main(["--models", "efficientnet_lite0", *small, "--output", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "benchmark.csv").set_index("arm")
    assert table.index.tolist() == ["a", "b", "c", "d", "e"]
    assert table["runs"].tolist() == [1] * 5
    assert (table[["images_per_second", "ratio_to_a", "ratio_to_d"]] > 0).all(axis=None)
    assert table["passes"]["c"] % (4 * 5) == 0
    assert table["passes"]["a"] % 4 == table["passes"]["b"] % 4 == 0
    assert (table["whole_process_seconds"] > table["seconds"]).all()
    # A run of its own in the same number of passes; in fp32 where the processor has nothing faster.
    assert table["passes"]["e"] == table["passes"]["c"]
    assert table["precision"]["e"] == (
        "screened" if fast_precision(torch.device("cpu")) else "fp32"
    )
    described = ["engine", "precision", "batch_size"]
    assert table.loc["c", described].tolist() == table.loc["d", described].tolist()
    page = (tmp_path / "benchmark.md").read_text()
    assert page in capsys.readouterr().out
    assert all(name in page for name in benchmark.ARMS.values())
    assert "4 images" in page
    assert f"torch {torch.__version__.split('+')[0]}" in page


def test_the_papers_networks_on_a_gpu_are_committed() -> None:
    table = pd.read_csv(REPOSITORY / "results" / "benchmark-gpu.csv")
    assert list(table.columns) == COLUMNS
    rows = {(row.model, row.arm, row.precision) for row in table.itertuples()}
    assert rows == {
        (name, arm, precision)
        for name in FIVE_NETWORKS
        for arm in "cd"
        for precision in ("fp32", "tf32")
    } | {(name, "e", "screened") for name in ("resnet101", "squeezenet1_1")}
    page = (REPOSITORY / "results" / "benchmark-gpu.md").read_text(encoding="utf-8")
    assert markdown_table(for_reading(table)) in page
