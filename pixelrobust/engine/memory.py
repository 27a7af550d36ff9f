"""Keeping freed memory, so that every batch does not fetch its memory anew from the system."""

import ctypes
import functools
import sys
from typing import Any

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1


@functools.cache
def keep_freed_memory() -> None:
    """Tell glibc's allocator not to hand freed blocks back to the system.

    Activations of tens of megabytes are allocated and freed for every layer. By default each is
    mapped afresh, and the system zeroes it page by page, which can take as long as the layer.
    Elsewhere than under glibc this does nothing.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


def release_freed_memory() -> None:
    """Hand what is free back after all: batches of many sizes leave holes that nothing fits."""
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _glibc(name: str) -> Any:
    """A function of glibc; None elsewhere."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
