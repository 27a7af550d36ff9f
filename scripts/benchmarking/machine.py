"""What a benchmark ran on; nothing that identifies the machine."""

import os
import platform
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "torchvision", "openvino", "timm", "numpy", "pillow")


def describe_machine(gpu: str | None) -> str:
    """Processor, cores, memory, and the GPU where one was used."""
    processor = _field("/proc/cpuinfo", "model name") or platform.processor() or "processor unknown"
    parts = [f"{processor}, {os.cpu_count()} cores"]
    memory = _field("/proc/meminfo", "MemTotal")
    if memory:
        parts.append(f"{int(memory.split()[0]) * 1024 / 1e9:.0f} GB of memory")
    if gpu:
        parts.append(gpu)
    return ", ".join([*parts, f"{platform.system()} {platform.machine()}"])


def describe_versions(software: dict[str, Any]) -> str:
    """Versions of what computes, and the commit, out of `describe_software`."""
    names = [f"Python {software['python']}"]
    names += [f"{package} {software[package]}" for package in _PACKAGES if software[package]]
    if software["commit"]:
        changed = " with uncommitted changes" if software["uncommitted_changes"] else ""
        names.append(f"commit {software['commit'][:10]}{changed}")
    return ", ".join(names)


def _field(path: str, name: str) -> str | None:
    """The first value of this name in a file of `name : value` lines; None where there is none."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(values, None)
