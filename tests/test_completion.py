"""Completion in shells, as they would ask for it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PROGRAM = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from experiments.run import main
sys.exit(main())
"""

BASH = """
eval "$(pixelrobust -sc install=bash)"
COMP_LINE=$1
COMP_POINT=${#1}
COMP_WORDS=($1)
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
hydra_bash_completion
printf '%s\\n' "${COMPREPLY[@]}"
"""

FISH = """
pixelrobust -sc install=fish | source
complete -C "$argv[1]"
"""

Complete = Callable[[str], str]


@pytest.fixture(params=["bash", "fish"])
def complete(request: pytest.FixtureRequest, tmp_path: Path) -> Complete:
    """Return a function: what a shell offers for a command line that is being typed, as it prints it."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "pixelrobust"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    script = tmp_path / "script"
    script.write_text({"bash": BASH, "fish": FISH}[shell])
    plain = {"bash": ["--norc"], "fish": ["--no-config"]}[shell]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    def offered(line: str) -> str:
        ended = subprocess.run(
            [shell, *plain, str(script), line], capture_output=True, text=True, cwd=tmp_path,
            env=os.environ | {"PATH": path, "HOME": str(tmp_path)},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return offered


def test_groups_options_and_keys_are_offered(complete: Complete) -> None:
    assert "experiment=" in complete("pixelrobust exper")
    tables = complete("pixelrobust experiment=table1")
    assert all(f"experiment={name}" in tables for name in ("table1", "table10", "table11"))
    assert "experiment=table6" not in tables
    keys = complete("pixelrobust dataset.li")
    assert "dataset.limit=" in keys
    assert "dataset.root=" not in keys
