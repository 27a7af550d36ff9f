"""All of it, in an order in which one would mend it."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from experiments.doctor.findings import Finding, Look, found_by
from experiments.doctor.login import look_at_tracking
from experiments.doctor.machine import (
    look_at_folder,
    look_at_gpus,
    look_at_memory,
    look_at_openvino,
    look_at_processor,
)
from experiments.doctor.material import (
    look_at_images,
    look_at_network,
    look_at_published,
    network_name,
)
from experiments.doctor.software import look_at_extras, look_at_packages, look_at_python
from pixelrobust.settings import RunSettings


def examine(settings: RunSettings, asked: bool) -> Iterator[Finding]:
    """Everything that a run with these settings needs.

    Args:
        settings: of the run.
        asked: whether somebody asked for these images and networks: else what is wrong with them is
            no more than a warning.
    """
    for name, look in _looks(settings):
        yield from found_by(name, look)
    for name, look in _looks_at_material(settings):
        for finding in found_by(name, look):
            is_mild = not asked and finding.level == "problem"
            yield replace(finding, level="warning") if is_mild else finding


def _looks(settings: RunSettings) -> list[tuple[str, Look]]:
    results, cache = settings.paths.results, settings.paths.cache
    return [
        ("Python", look_at_python),
        ("packages", look_at_packages),
        ("extras", look_at_extras),
        ("processor", look_at_processor),
        ("GPU", partial(look_at_gpus, str(settings.engine.devices))),
        ("OpenVINO", look_at_openvino),
        ("memory", look_at_memory),
        ("cache", partial(look_at_folder, "cache", cache, "PIXELROBUST_CACHE")),
        ("results", partial(look_at_folder, "results", results, "--out")),
        ("torch's cache", look_at_published),
        ("tracking", look_at_tracking),
    ]


def _looks_at_material(settings: RunSettings) -> list[tuple[str, Look]]:
    networks: list[tuple[str, Look]] = [
        (network_name(key, model), partial(look_at_network, key, model))
        for key, model in settings.models.items()
    ]
    return [("images", partial(look_at_images, settings)), *networks]
