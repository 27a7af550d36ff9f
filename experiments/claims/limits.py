"""Whether it matters how far values move, and where: Experiments 2 and 3."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from experiments.claims.findings import (
    Claim,
    Finding,
    Verdict,
    difference_finding,
    mean_finding,
    simultaneous,
    tested,
)
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.paired import MARGIN, Equivalence, difference_interval, equivalence
from pixelrobust.statistics.rates import Interval, WrongShares


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
            if table.has(model, Cell(num, small), Cell(num, large))
        ],
    )


def area_hardly_matters(shares: Mapping[str, WrongShares]) -> Claim:
    claim = Claim(
        "area-hardly-matters",
        "Below 64 changed pixels, where they lie plays no significant role",
        "Section 6.1.3, Table 8, Figure 10",
        "",
        "points of wrong rate in the largest area minus in another, the one furthest from it",
        "equivalence within one point (two one-sided tests in pairs of images), each num apart, the "
        "largest area against each other; an interval wholly beyond one point refutes; both "
        "Bonferroni-corrected",
    )
    table = shares.get("table8")
    if table is None or len(table.areas) < 2:
        return claim
    nums = [num for num in table.nums if num < 64]
    cells = {num: [Cell(num, area=area) for area in table.areas] for num in nums}
    measured = [
        (model, num) for model in table.models for num in nums if table.has(model, *cells[num])
    ]
    findings = [
        _areas(model, f"{num} px", table.over(model, cells[num]), len(measured))
        for model, num in measured
    ]
    return replace(claim, findings=tuple(findings))


def _areas(model: str, condition: str, shares: NDArray[np.float64], findings: int) -> Finding:
    """All areas hold together or not; the one furthest from the largest, the last, is shown.

    Args:
        model, condition: what the finding is about.
        shares: (N, areas).
        findings: how many there are of the claim.
    """
    *others, largest = shares.T
    pairs = [equivalence(largest, other, MARGIN, simultaneous(findings)) for other in others]
    # Any one of many areas may be found different by chance; found equivalent, all must be.
    confidence = simultaneous(findings * len(others))
    intervals = [difference_interval(largest, other, confidence) for other in others]
    widest = int(np.argmax([abs(pair.difference) for pair in pairs]))
    beyond = [_distance_from_0(interval) > MARGIN for interval in intervals]
    shown: Equivalence | Interval = pairs[widest]
    verdict: Verdict = "not decided"
    if all(pair.verdict == "equivalent" for pair in pairs):
        verdict = "holds"
    elif any(beyond):
        verdict = "does not hold"
        widest = int(np.argmax([_distance_from_0(interval) for interval in intervals]))
        shown = intervals[widest]
    difference = pairs[widest].difference
    return Finding(model, condition, difference, shown.low, shown.high, np.nan, verdict)


def _distance_from_0(interval: Interval) -> float:
    return max(interval.low, -interval.high, 0)


def amplitude_over_position(shares: Mapping[str, WrongShares]) -> Claim:
    claim = Claim(
        "amplitude-over-position",
        "How far values move matters more than where the changed pixels lie",
        "Section 6.1.4",
        "",
        "points: effect of the largest amplitude against the smallest, minus size of the effect of the "
        "largest area against the smallest, at the largest num",
        "sign-flip tests over images that both (effect of amplitude - effect of area) and their sum are "
        "above 0: the larger p-value counts; twice the smaller one's p-value refutes",
    )
    by_amplitude, by_area = shares.get("table7"), shares.get("table8")
    if by_amplitude is None or by_area is None:
        return claim
    if len(by_amplitude.amplitudes) < 2 or len(by_area.areas) < 2:
        return claim
    num = min(by_amplitude.nums[-1], by_area.nums[-1])
    amplitudes = [Cell(num, by_amplitude.amplitudes[end]) for end in (0, -1)]
    areas = [Cell(num, area=by_area.areas[end]) for end in (0, -1)]
    findings = [
        _effects(
            model,
            f"{num} pixels",
            np.diff(by_amplitude.over(model, amplitudes))[:, 0],
            np.diff(by_area.over(model, areas))[:, 0],
        )
        for model in by_amplitude.models
        if by_amplitude.has(model, *amplitudes) and by_area.has(model, *areas)
    ]
    return tested(claim, findings)


def _effects(
    model: str, condition: str, amplitude: NDArray[np.float64], area: NDArray[np.float64]
) -> Finding:
    """Amplitude minus size of area; the effects are (N,), of each image."""
    smaller, larger = sorted(
        (mean_finding(model, condition, amplitude + sign * area, 2.0) for sign in (-1, 1)),
        key=lambda finding: finding.estimate,
    )
    # Above 0 both must be; below 0 any one of the two suffices, so it has two chances to be so.
    p = max(smaller.p, larger.p) if smaller.estimate > 0 else min(2 * smaller.p, 1)
    return replace(smaller, p=p)
