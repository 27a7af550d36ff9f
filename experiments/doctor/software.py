"""Python, and the packages that pixelrobust needs or can use."""

import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from experiments.doctor.findings import Finding

_OLDEST = (3, 11)
_PACKAGE = "pixelrobust"
# Extras that change or check the software itself.
_FOR_DEVELOPERS = ("dev", "docs")


def look_at_python() -> Iterator[Finding]:
    """Its version."""
    version = platform.python_version()
    if sys.version_info < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        yield Finding("Python", "problem", version, f"Install Python {oldest} or newer.")
    else:
        yield Finding("Python", "ok", version)


def look_at_packages() -> Iterator[Finding]:
    """Those that are always needed, by their versions."""
    required = _requirements("")
    faults = [fault for fault in map(_fault, required) if fault]
    if faults:
        names = " ".join(f"'{requirement}'" for requirement in required if _fault(requirement))
        yield Finding("packages", "problem", "; ".join(faults), f"pip install {names}")
    else:
        torch = metadata.version("torch")
        yield Finding("packages", "ok", f"all {len(required)} are there; torch {torch}")


def look_at_extras() -> Iterator[Finding]:
    """Those that only some uses need."""
    extras = metadata.metadata(_PACKAGE).get_all("Provides-Extra") or []
    for extra in extras:
        if extra in _FOR_DEVELOPERS:
            continue
        faults = [fault for fault in map(_fault, _requirements(extra)) if fault]
        if faults:
            text = f"not installed, for those who want it ({'; '.join(faults)})"
            yield Finding(f"extra {extra}", "ok", text, f"pip install 'pixelrobust[{extra}]'")
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def _requirements(extra: str) -> list[Requirement]:
    """Of an extra alone, or, for an empty name, of everything."""
    found = []
    for line in metadata.requires(_PACKAGE) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always if not extra else not always and marker and marker.evaluate({"extra": extra}):
            requirement.marker = None
            found.append(requirement)
    return found


def _fault(requirement: Requirement) -> str:
    """What is wrong with it here; empty where it is there as required."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} {version} is not {requirement.specifier}"
