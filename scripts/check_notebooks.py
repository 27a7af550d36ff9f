"""Say what is wrong with notebooks that are about to be committed.

usage: python -m scripts.check_notebooks NOTEBOOK…
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Words joined by hyphens; eight random hexadecimal digits are what editors put there.
_ID = re.compile(r"(?![0-9a-f]{8}$)[a-z][a-z0-9]*(-[a-z0-9]+)*")
# A quoted path from a root or a drive.
_MACHINE_PATH = re.compile(r"""(?<=["'`])(?:/\w|[A-Za-z]:[\\/])[^"'`]*""")


def faults(path: Path) -> list[str]:
    """One sentence for each fault: output, places of one machine, ids that are not stable names."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [f"{path.name}: {fault}." for fault in _faults(content)]
    except (OSError, ValueError, LookupError, TypeError) as error:
        return [f"{path.name} is no notebook ({type(error).__name__})."]


def _faults(content: dict[str, Any]) -> Iterator[str]:
    kernel = content["metadata"]["kernelspec"]["name"]
    if kernel != "python3":
        yield f"its kernel is {kernel!r}, not 'python3'"
    seen: set[str] = set()
    for cell in content["cells"]:
        name = str(cell["id"])
        if not _ID.fullmatch(name):
            yield f"the id {name!r} of a cell is no name; give one that says what it does"
        if name in seen:
            yield f"the id {name!r} is there twice"
        seen.add(name)
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield f"cell {name!r} holds output; clear it"
        if cell["metadata"]:
            yield f"cell {name!r} holds metadata of an editor; clear it"
        for place in _MACHINE_PATH.findall("".join(cell["source"])):
            yield f"cell {name!r} names a place of one machine: {place}"


if __name__ == "__main__":
    found = [fault for name in sys.argv[1:] for fault in faults(Path(name))]
    for fault in found:
        print(fault)
    sys.exit(bool(found))
