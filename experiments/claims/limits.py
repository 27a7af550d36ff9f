"""Whether it matters how far values move, and where: Experiments 2 and 3."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from experiments.claims.findings import (
    LEVEL,
    Claim,
    Finding,
    Verdict,
    difference_finding,
    mean_finding,
    tested,
)
from pixelrobust.comparisons import MARGIN, equivalence
from pixelrobust.grid import Cell
from pixelrobust.shares import WrongShares


def amplitude_matters(shares: Mapping[str, WrongShares]) -> Claim:
    claim = Claim(
        "amplitude-matters",
        "The further values move, the more images are misclassified",
        "Section 6.1.2, Table 7, Figure 9",
        "",
        "points of wrong rate at the largest amplitude minus at the smallest",
        "tests in pairs of images, each num apart",
    )
    table = shares.get("table7")
    if table is None or len(table.amplitudes) < 2:
        return claim
    small, large = table.amplitudes[0], table.amplitudes[-1]
    return tested(
        claim,
        [
            difference_finding(
                table, model, (model, Cell(num, large)), (model, Cell(num, small)), f"{num} px"
            )
            for model in table.models
            for num in table.nums
        ],
    )


def area_hardly_matters(shares: Mapping[str, WrongShares]) -> Claim:
    claim = Claim(
        "area-hardly-matters",
        "Below 64 changed pixels, where they lie plays no significant role",
        "Section 6.1.3, Table 8, Figure 10",
        "",
        "points of wrong rate between two areas, the pair furthest apart",
        "equivalence within one point (two one-sided tests in pairs of images), each num apart, the "
        "largest area against each other; a difference of more, Bonferroni-corrected, refutes",
    )
    table = shares.get("table8")
    if table is None or len(table.areas) < 2:
        return claim
    nums = [num for num in table.nums if num < 64]
    # Any one of many may be found different by chance; found equivalent, all must be.
    strict = LEVEL / (len(table.models) * len(nums) * (len(table.areas) - 1)) if nums else LEVEL
    return replace(
        claim,
        findings=tuple(_areas(table, model, num, strict) for model in table.models for num in nums),
    )


def _areas(table: WrongShares, model: str, num: int, strict_level: float) -> Finding:
    """All areas hold together or not; the widest apart is shown."""
    *others, largest = (table.of(model, Cell(num, area=area)) for area in table.areas)
    pairs = [equivalence(largest, other, MARGIN) for other in others]
    strict = [equivalence(largest, other, MARGIN, 1 - strict_level) for other in others]
    widest = max(pairs, key=lambda pair: abs(pair.difference))
    verdict: Verdict = "not decided"
    if all(pair.verdict == "equivalent" for pair in pairs):
        verdict = "holds"
    elif any(pair.verdict == "different" for pair in strict):
        verdict = "does not hold"
    return Finding(model, f"{num} px", widest.difference, widest.low, widest.high, np.nan, verdict)


def amplitude_over_position(shares: Mapping[str, WrongShares]) -> Claim:
    claim = Claim(
        "amplitude-over-position",
        "How far values move matters more than where the changed pixels lie",
        "Section 6.1.4",
        "",
        "points: effect of the amplitude minus size of the effect of the area, at the largest num",
        "sign-flip test over images that both (effect of amplitude - effect of area) and their sum are "
        "above 0; the larger p-value counts",
    )
    by_amplitude, by_area = shares.get("table7"), shares.get("table8")
    if by_amplitude is None or by_area is None:
        return claim
    if len(by_amplitude.amplitudes) < 2 or len(by_area.areas) < 2:
        return claim
    num = min(by_amplitude.nums[-1], by_area.nums[-1])
    models = [model for model in by_amplitude.models if model in by_area.models]
    return tested(claim, [_effects(by_amplitude, by_area, model, num) for model in models])


def _effects(by_amplitude: WrongShares, by_area: WrongShares, model: str, num: int) -> Finding:
    small, *_, large = by_amplitude.amplitudes
    amplitude = by_amplitude.of(model, Cell(num, large)) - by_amplitude.of(model, Cell(num, small))
    narrow, *_, wide = by_area.areas
    area = by_area.of(model, Cell(num, area=wide)) - by_area.of(model, Cell(num, area=narrow))
    candidates = [
        mean_finding(model, f"{num} pixels", amplitude + sign * area, 2.0) for sign in (-1, 1)
    ]
    return max(candidates, key=lambda finding: (finding.p, -finding.estimate))
