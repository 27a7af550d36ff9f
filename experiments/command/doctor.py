"""`pixelrobust doctor`: findings printed, for people or programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.command.evaluate import in_options
from experiments.doctor.findings import Finding
from pixelrobust.errors import InputError
from pixelrobust.escaping import printable

_PROBLEM = 1
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(overrides: Sequence[str], asked: bool, as_json: bool) -> int:
    """Examine, and print what was found; the exit code, 1 where there is a problem.

    Args:
        overrides: of the configuration, that name images, networks and folders.
        asked: whether they name images or networks.
        as_json: for programs.
    """
    findings = _findings(overrides, asked)
    problems = sum(finding.level == "problem" for finding in findings)
    if as_json:
        version = metadata.version("pixelrobust")
        found = [asdict(finding) for finding in findings]
        print(json.dumps({"version": version, "ready": not problems, "findings": found}, indent=1))
        return _PROBLEM if problems else 0
    _print(findings)
    print(f"\n{problems or 'no'} problem{'' if problems == 1 else 's'}")
    return _PROBLEM if problems else 0


def _print(findings: Sequence[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        text = f"{finding.name}: {in_options(finding.text)}"
        if finding.remedy:
            text += f"\n→ {finding.remedy}"
        shown = Text("\n".join(map(printable, text.splitlines())), overflow="fold")
        table.add_row(Text(finding.level, _STYLES[finding.level]), shown)
    Console().print(table)


def _findings(overrides: Sequence[str], asked: bool) -> list[Finding]:
    # What these load may be what is broken.
    try:
        from experiments.configuration import settings_of
        from experiments.doctor.examination import examine
    except ImportError as error:
        remedy = "pip install pixelrobust, in a new environment."
        return [Finding("packages", "problem", f"cannot be loaded ({error})", remedy)]
    try:
        settings = settings_of(*overrides)
    except InputError as error:
        return [Finding("settings", "problem", sentence) for sentence in map(str, error.args)]
    return list(examine(settings, asked))
