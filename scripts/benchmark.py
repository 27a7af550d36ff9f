"""How fast this software is, beside scripts that do the same, and beside forward passes alone.

    python -m scripts.benchmark
    python -m scripts.benchmark --full --images /data/imagenet/val

Four arms alternate, each run a process of its own: (a) a script of an afternoon, (b) a competent
one, (c) this software, (d) forward passes alone. Writes benchmark.csv and benchmark.md.
"""

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.config import options
from experiments.exits import REPOSITORY, exit_code
from pixelrobust.errors import InputError
from pixelrobust.settings import EngineSettings
from scripts.benchmarking.records import Plan, Request

_MODELS = "squeezenet1_1,efficientnet_lite0,resnet101"
_ARMS = "a,b,c,d"
_ENGINE_KEY = re.compile(r"engine(\.(?P<field>\w+))?=(?P<value>[\w.:]+)")


class _Size(NamedTuple):
    """See `Plan`."""

    rounds: int | None
    minutes: float | None
    seconds: float
    trial_images: int


_QUICK = _Size(rounds=None, minutes=8, seconds=5, trial_images=64)
_FULL = _Size(rounds=5, minutes=None, seconds=30, trial_images=256)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code."""
    given = _parser().parse_args(arguments)

    def work() -> int:
        plan = make_plan(given)
        # Imported late, since it loads torch: wrong values answer at once.
        from scripts.benchmarking.rounds import run_plan

        print(run_plan(plan))
        return 0

    return exit_code(work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="The quick size, without --full, ends in eight minutes on two cores.",
    )
    add = parser.add_argument
    add("--models", default=_MODELS, help=f"of configs/model, with commas; {_MODELS}")
    add(
        "--weights",
        action="append",
        default=[],
        metavar="MODEL=FILE",
        help="of a network; one whose weights are not on this machine gets random ones",
    )
    add(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="of images, at any depth; else those of the foolbox package",
    )
    add(
        "--count",
        type=_count,
        help="of images; else as many as suit the machine, or all (--full)",
    )
    add("--arms", default=_ARMS, help=f"letters with commas; {_ARMS}")
    add("--full", action="store_true", help="five rounds, all images, half a minute for each run")
    add("--rounds", type=_count, help="runs of each arm; else as many as fit, or five (--full)")
    add(
        "--minutes",
        type=_duration,
        help="begin no round that would not end in them; 8, or no limit (--full)",
    )
    add("--seconds", type=_duration, help="of forward passes in each run, about; 5, or 30 (--full)")
    add("--draws", type=_count, help="of each image in (c); else enough for --seconds")
    add(
        "--output",
        type=Path,
        default=REPOSITORY / "results",
        metavar="FOLDER",
        help="for benchmark.csv and benchmark.md; results",
    )
    add(
        "keys",
        nargs="*",
        metavar="engine=…",
        help="keys of the configuration for (c), and with it (d): engine=eager engine.precision=bf16",
    )
    return parser  # fmt: skip


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is wrong; give a whole number of at least 1")
    return int(text)


def _duration(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is wrong; give a number greater than 0")
    return value


def make_plan(given: argparse.Namespace) -> Plan:
    """The plan that a command line stands for.

    Raises:
        InputError: a value is wrong.
    """
    size = _FULL if given.full else _QUICK
    seconds = given.seconds or size.seconds
    models = _checked_models(given.models)
    weights = _checked_weights(given.weights, models)
    keys = _checked_keys(given.keys)
    requests = tuple(
        Request(
            model=model,
            weights=weights.get(model),
            images=None if given.images is None else str(given.images.resolve()),
            count=given.count,
            every=given.full,
            draws=given.draws,
            seconds=seconds,
            engine_keys=keys,
        )
        for model in models
    )
    return Plan(
        requests=requests,
        arms=_checked_arms(given.arms),
        rounds=given.rounds or size.rounds,
        minutes=given.minutes or (None if given.rounds else size.minutes),
        seconds=seconds,
        trial_images=size.trial_images,
        output=given.output.resolve(),
    )


def _checked_models(text: str) -> list[str]:
    models = list(dict.fromkeys(text.split(",")))
    known = [name for name in options("model") if name != "base"]
    for model in models:
        if model not in known:
            raise InputError(f"--models={model} is unknown; choose from {', '.join(known)}.")
    return models


def _checked_weights(entries: Sequence[str], models: Sequence[str]) -> dict[str, str]:
    """The file of each model that has one."""
    weights = {}
    for entry in entries:
        model, _, file = entry.partition("=")
        if model not in models:
            raise InputError(
                f"--weights={entry} names none of the models ({', '.join(models)}); "
                "write MODEL=FILE, with a model of --models."
            )
        if not Path(file).is_file():
            raise InputError(f"--weights={entry} names no file; give the path of an existing one.")
        weights[model] = str(Path(file).resolve())
    return weights


def _checked_arms(text: str) -> str:
    letters = set(text.split(","))
    if not letters <= set(_ARMS.split(",")):
        raise InputError(f"--arms={text} is wrong; give some of {_ARMS}.")
    if "d" in letters and "c" not in letters:
        raise InputError(f"--arms={text} lacks c, whose engine d runs; add it.")
    return "".join(sorted(letters))


def _checked_keys(keys: Sequence[str]) -> tuple[str, ...]:
    fields = EngineSettings.model_fields
    for key in keys:
        match = _ENGINE_KEY.fullmatch(key)
        if match and match["field"] is None and match["value"] in options("engine"):
            continue
        if match and match["field"] in fields:
            continue
        raise InputError(
            f"{key} is not a key of the engine; give engine=eager, compile, openvino or auto, or "
            f"engine.KEY=VALUE with one of {', '.join(fields)}."
        )
    return tuple(keys)


if __name__ == "__main__":
    sys.exit(main())
