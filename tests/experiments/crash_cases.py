"""Runs that are ended at random moments, each begun again, beside one that nobody disturbed.

Usage: python -m tests.experiments.crash_cases FOLDER COUNT. Runs are forked from a process that has imported
everything, so that moments fall into their work. Prints how each ended, as JSON, on the last line.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.backends.backend_agg
import matplotlib.backends.backend_pdf
import torch

import experiments.pipeline
import experiments.report
from experiments.run import main
from pixelrobust.evaluation import cells
from tests.fault_cases import folder_of, images, network, saved, state

IMPORTED = (experiments.pipeline, experiments.report, matplotlib.backends)
# So few (image, draw) pairs that there are many parts.
_BLOCK = 8
_COMPARED = (".csv", ".md", ".tex", ".parquet", ".png")


def begin(arguments: list[str], log: Path) -> int:
    """Start a run in a process of its own; its number."""
    pid = os.fork()
    if pid:
        return pid
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = file, file
        sys.argv = ["experiments.run", *arguments]
        code = 99
        try:
            code = main()
        finally:
            file.flush()
            os._exit(code)


def end(pid: int) -> int:
    """How a run ended: its exit code, or less than 0 where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def files(results: Path) -> dict[str, bytes]:
    """What tables, figures and outcomes hold, by name.

    What was being written when a run was killed has a name with a dot in front, and stays a while.
    """
    return {
        str(path.relative_to(results)): path.read_bytes()
        for path in sorted(results.rglob("[!.]*"))
        if path.suffix in _COMPARED and "store" not in path.relative_to(results).parts
    }


def parts(results: Path) -> int:
    """How many parts of predictions there are."""
    return len(list(results.glob("store/answers/*/*/[!.]*.parquet")))


def all_cases(folder: Path, count: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    cells._PAIRS_IN_BLOCK = {"cpu": _BLOCK}
    weights = saved(state(), folder / "w.safetensors")
    root = folder_of(folder / "images", *(f"cat/{number}.png" for number in range(6)))
    usual = [*images(root), *network(weights), "perturbation.num=[4,64,200]", "draws=6"]
    usual += ["engine=eager", "engine.batch_size=4", "dataset.unreadable=skip"]

    def arguments(name: str) -> list[str]:
        return [*usual, f"paths.results={folder / name}", f"paths.cache={folder / name}-cache"]

    start = time.monotonic()
    assert end(begin(arguments("whole"), folder / "whole.log")) == 0
    length = time.monotonic() - start
    whole = files(folder / "whole")
    rng = random.Random(0)
    ended = []
    for number in range(count):
        # Every fourth one is interrupted as by Ctrl-C.
        kind = signal.SIGINT if number % 4 == 3 else signal.SIGKILL
        name = f"ended{number}"
        pid = begin(arguments(name), folder / f"{name}.log")
        # A random time after the start, or, every other time, after so many parts.
        moment, wanted = rng.uniform(0.02, length), rng.randrange(1, parts(folder / "whole"))
        begun = time.monotonic()
        while time.monotonic() - begun < (moment if number % 4 < 2 else 3 * length):
            if number % 4 >= 2 and parts(folder / name) >= wanted:
                break
            time.sleep(0.002)
        os.kill(pid, kind)
        code = end(pid)
        left = parts(folder / name)
        again = end(begin(arguments(name), folder / f"{name}-again.log"))
        ended.append(
            {
                "signal": kind.name,
                "code": code,
                "said": (folder / f"{name}.log").read_text(encoding="utf-8"),
                "parts": left,
                "again": again,
                "same": files(folder / name) == whole,
                "others": sorted(
                    file
                    for file, content in files(folder / name).items()
                    if content != whole.get(file)
                ),
                "all_parts": parts(folder / name),
            }
        )
    together = [begin(arguments("both"), folder / f"both{number}.log") for number in range(2)]
    return {
        "whole_parts": parts(folder / "whole"),
        "files": sorted(whole),
        "ended": ended,
        "together": {
            "codes": [end(pid) for pid in together],
            "same": files(folder / "both") == whole,
            "parts": parts(folder / "both"),
        },
    }


if __name__ == "__main__":
    print(json.dumps(all_cases(Path(sys.argv[1]), int(sys.argv[2]))))
