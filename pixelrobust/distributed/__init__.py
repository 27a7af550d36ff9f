"""One function in several processes, a device each, and what they have to tell each other."""

from pixelrobust.distributed.context import SINGLE, Context
from pixelrobust.distributed.launching import device_names, is_first_process, start

__all__ = [
    "SINGLE",
    "Context",
    "device_names",
    "is_first_process",
    "start",
]
