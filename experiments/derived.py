"""What follows from several stored runs together: Table 5 and the claims."""

from collections.abc import Mapping
from pathlib import Path

from experiments.claims import decide_claims
from experiments.claims.page import write_claims
from experiments.paper import CLAIM_SOURCES, TABLE_5_SOURCES
from experiments.presentation import Run, present_indices
from experiments.writing import Presented
from pixelrobust.errors import InputError


def derive(directory: Path, runs: Mapping[str, Run]) -> list[Presented]:
    """Write what these runs allow.

    Args:
        directory: where to.
        runs: manifest and rows by the experiment's name.

    Returns:
        The tables that were written: Table 5 and the ranking where Experiments 1 to 3 are all among
        the runs, and the claims where one of them is.

    Raises:
        InputError: runs that are compared image by image saw different images.
    """
    paired = {name: runs[name] for name in TABLE_5_SOURCES if name in runs}
    if len({manifest.image_list_sha256 for manifest, _ in paired.values()}) > 1:
        raise InputError(
            f"{', '.join(paired)} were run on different images and are not compared; run them again "
            "with the same settings."
        )
    presented = []
    if len(paired) == len(TABLE_5_SOURCES):
        presented += present_indices(directory, list(paired.values()))
    deciding = [runs[name][0] for name in CLAIM_SOURCES if name in runs]
    if deciding:
        manifest = deciding[0]
        presented.append(write_claims(directory, manifest, decide_claims(runs)))
    return presented
