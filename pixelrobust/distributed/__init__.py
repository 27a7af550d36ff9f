"""One function in several processes, a device each, and what they have to tell each other."""

from pixelrobust.distributed.context import SINGLE, Context
from pixelrobust.distributed.launching import device_names, is_first_process, start
from pixelrobust.distributed.sharding import evaluate_shards, shard

__all__ = [
    "SINGLE",
    "Context",
    "device_names",
    "evaluate_shards",
    "is_first_process",
    "shard",
    "start",
]
