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
from experiments.command.app import main
main()
"""

BASH = """
eval "$(_PIXELROBUST_COMPLETE=source_bash pixelrobust)"
read -r -a COMP_WORDS <<< "$1"
[[ "$1" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
function=$(complete -p pixelrobust | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
"$function" pixelrobust
printf '%s\\n' "${COMPREPLY[@]}"
"""

# Prints what zsh would show: without a terminal its own functions for that are not there.
ZSH = """
compdef() { function=$1 }
_arguments() { print -r -- "$@" }
_files() { print -r -- files }
eval "$(_PIXELROBUST_COMPLETE=source_zsh pixelrobust)"
words=(${(z)1})
[[ "$1" == *" " ]] && words+=("")
CURRENT=${#words}
$function
"""

FISH = """
_PIXELROBUST_COMPLETE=source_fish pixelrobust | source
complete -C "$argv[1]"
"""

Complete = Callable[[str], str]


@pytest.fixture(params=["bash", "zsh", "fish"])
def complete(request: pytest.FixtureRequest, tmp_path: Path) -> Complete:
    """What a shell offers for a command line that is being typed, as it prints it."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "pixelrobust"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    script = tmp_path / "script"
    script.write_text({"bash": BASH, "zsh": ZSH, "fish": FISH}[shell])
    plain = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    def offered(line: str) -> str:
        ended = subprocess.run(
            [shell, *plain, str(script), line], capture_output=True, text=True, cwd=tmp_path,
            env=os.environ | {"PATH": path, "HOME": str(tmp_path)},
        )  # fmt: skip
        assert ended.stderr == ""
        return ended.stdout

    return offered


def test_subcommands_options_and_networks_are_offered(complete: Complete) -> None:
    assert "evaluate" in complete("pixelrobust ev")
    options = complete("pixelrobust evaluate --a")
    assert all(option in options for option in ("--amplitude", "--area"))
    assert "--num" not in options
    networks = complete("pixelrobust evaluate --model squeezenet")
    assert "squeezenet1_0" in networks
    assert "squeezenet1_1" in networks
    assert "resnet" not in networks


def test_weights_of_timm_are_offered_after_the_dot(complete: Complete) -> None:
    offered = complete("pixelrobust evaluate --model resnet18.")
    assert "resnet18.a1_in1k" in offered
    assert "resnet18d" not in offered


def test_data_sets_and_profiles_are_offered(complete: Complete) -> None:
    assert "bundled" in complete("pixelrobust evaluate --images b")
    assert "imagenette" in complete("pixelrobust doctor --profile imagene")
