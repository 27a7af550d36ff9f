"""What a run costs grows with its work; its memory does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


def cost(folder: Path, engine: str, images: int, draws: int) -> dict[str, float]:
    arguments = [str(folder), engine, str(images), str(draws)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.engine.growth_case", *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(json.loads(ended.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["eager", "openvino"])
def test_memory_does_not_grow_with_the_images(engine: str, tmp_path: Path) -> None:
    few, many = (cost(tmp_path, engine, images, 1) for images in (1_000, 20_000))
    if not few["megabytes"]:
        pytest.skip("this system does not tell how much anonymous memory a process has")
    # The images are 12 KB each: 223 MB more. Their outcomes, 40,000 rows, take some 20 MB.
    assert many["megabytes"] < few["megabytes"] + 40
