"""Processor, GPUs, memory and disk."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from experiments.doctor.findings import Finding, Level
from experiments.job_places import usable_cores
from pixelrobust.errors import InputError
from pixelrobust.files import check_writable
from pixelrobust.packages import package_folder

_GB = 1e9
# Below the first nothing works, below the second little does.
_DISK = (0.5 * _GB, 5 * _GB)
_MEMORY = (1 * _GB, 3 * _GB)
_MEMORY_FILES = (Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max"))
_DRIVER = Path("/proc/driver/nvidia")


def look_at_processor() -> Iterator[Finding]:
    """Its instruction set, as far as torch uses it, and cores."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    text = f"{usable_cores()} cores, {capability}"
    if capability in ("DEFAULT", "NO AVX"):
        yield Finding(
            "processor", "warning", text, "It lacks AVX2, so expect a fraction of the usual speed."
        )
    else:
        yield Finding("processor", "ok", text)


def look_at_gpus(device: str) -> Iterator[Finding]:
    """Those that torch can use.

    Args:
        device: that is asked for.

    Raises:
        InputError: it is not there.
    """
    import torch

    from pixelrobust.engine import find_device

    if device != "auto":
        find_device(device)
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        text = f"{about.name}, {about.total_memory / _GB:.0f} GB"
        yield Finding(f"GPU {index}", "ok", text)
    if torch.cuda.device_count():
        return
    if _DRIVER.exists() or shutil.which("nvidia-smi"):
        yield Finding(
            "GPU", "warning", f"there is a driver, but torch {torch.__version__} shows no GPU",
            "Install a build of torch for this driver's CUDA version; until then the CPU is used.",
        )  # fmt: skip
    else:
        yield Finding("GPU", "ok", "none; networks run on the CPU")


def look_at_openvino() -> Iterator[Finding]:
    """The fastest engine on most CPUs."""
    if package_folder("openvino") is None:
        yield Finding(
            "OpenVINO", "ok", "not installed; it doubles the speed of most networks on a CPU",
            "pip install 'pixelrobust[openvino]'",
        )  # fmt: skip
        return
    try:
        import openvino

        devices = openvino.Core().available_devices
    # Its libraries may be broken in any way.
    except Exception as error:
        yield Finding(
            "OpenVINO", "problem", f"installed, but does not start ({error})",
            "Reinstall openvino, or give --engine eager.",
        )  # fmt: skip
        return
    yield Finding("OpenVINO", "ok", f"{openvino.__version__} on {', '.join(devices)}")


def look_at_memory() -> Iterator[Finding]:
    """What is free of it."""
    free = free_memory()
    if free is None:
        yield Finding("memory", "ok", "how much is free is not known on this system")
        return
    level = _level(free, _MEMORY)
    remedy = "Close other programs, or give a small engine.batch_size." if level != "ok" else ""
    yield Finding("memory", level, f"{free / _GB:.1f} GB free", remedy)


def look_at_folder(name: str, folder: Path, option: str) -> Iterator[Finding]:
    """Whether it can be written to, or made, and how much room there is.

    Args:
        name: what it is for.
        folder: the folder.
        option: what names another one.
    """
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        check_writable(existing, option)
        free = shutil.disk_usage(existing).free
    except (InputError, OSError) as error:
        yield Finding(name, "problem", str(error))
        return
    level = _level(free, _DISK)
    remedy = f"Make room, or give another folder: {option}." if level != "ok" else ""
    yield Finding(name, level, f"{folder}, {free / _GB:.1f} GB free", remedy)


def free_memory() -> float | None:
    """In bytes, as far as this process may use it; None where the system does not say."""
    meminfo, limit = _MEMORY_FILES
    try:
        (line,) = (
            line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:")
        )
    except (OSError, ValueError):
        return None
    free = int(line.split()[1]) * 1024.0
    try:
        return min(free, float(limit.read_text()))
    # Outside a container there is no such file, or it says "max".
    except (OSError, ValueError):
        return free


def _level(free: float, bounds: tuple[float, float]) -> Level:
    too_little, little = bounds
    return "problem" if free < too_little else "warning" if free < little else "ok"
