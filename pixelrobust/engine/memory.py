"""Keeping freed memory, so that every batch does not fetch its memory anew from the system."""

import ctypes
import functools
import sys

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
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
