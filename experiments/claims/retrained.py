"""What retraining on images with changed pixels buys: Section 6.2, Eq. 6, Tables 10 and 11."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from experiments.claims.findings import (
    Claim,
    Finding,
    alike,
    mean_finding,
    near,
    rate_interval,
    simultaneous,
    tested,
)
from experiments.paper import STILL_FOOL
from experiments.stored import Run
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.paired import compare_pairs
from pixelrobust.statistics.rates import WrongShares
from pixelrobust.tables.retraining import (
    changes_by_image,
    find_references,
    fooled_shares,
    most_telling,
    of_the_smallest_epsilon,
    pool_seeds,
    retrained_on_pixels,
)

# How the paper's network of Table 11 is called, ResNet101-4.
_FOUR = "-4"


def retraining(runs: Mapping[str, Run]) -> list[Claim]:
    """Decide the claims on Table 10, in Section 6.2."""
    unharmed = Claim(
        "retraining-unharmed",
        "Retraining does not change the recognition of unchanged images",
        "Section 6.2",
        "",
        "points of wrong rate on unchanged images more than the original network with the same classes",
        "equivalence within one point (two one-sided tests in pairs of images); an interval wholly "
        "beyond one point refutes; both Bonferroni-corrected",
    )
    robust = Claim(
        "retraining-robust",
        "Retraining on images with changed pixels makes networks more robust to changed pixels",
        "Section 6.2, Table 10",
        "",
        "points of wrong rate at the largest num less than after retraining on unchanged images",
        "tests in pairs of images",
    )
    fewer = Claim(
        "fewer-pixels-better",
        "Networks retrained on fewer changed pixels recognise better than those on more",
        "Section 6.2, Table 10",
        "",
        "points of wrong rate, mean of all test nums, of the network of most pixels minus fewest",
        "tests in pairs of images (sign-flip)",
    )
    if "table10" not in runs:
        return [unharmed, robust, fewer]
    rows = runs["table10"][1]
    kind = most_telling(rows)
    pooled = pool_seeds(rows[rows["images_are"] == kind])
    table, references = WrongShares(pooled), find_references(rows)
    networks = retrained_on_pixels(rows)
    return [
        _unharmed(unharmed, table, networks, references.get("baseline"), kind),
        _robust(robust, table, networks, references.get("unchanged"), kind),
        _fewer(fewer, table, networks, kind),
    ]


def transfer(runs: Mapping[str, Run]) -> list[Claim]:
    """Decide the claims on Table 11, in Section 6.2."""
    still = Claim(
        "still-fool",
        "Of FGSM images made against the original network, 24.9 % still fool one retrained on images "
        "with 4 changed pixels",
        "Section 6.2, Table 11",
        f"{100 * STILL_FOOL:g} %",
        "adversarial images that still fool, in %, at the smallest epsilon",
        "exact interval within, or outside, one point of the published share",
    )
    because = Claim(
        "fool-less-because-of-pixels",
        "That is what the changed pixels do, rather than any retraining",
        "Section 6.2, Table 11",
        "",
        "points of images that still fool, less than after retraining on unchanged images, at the "
        "smallest epsilon",
        "tests in pairs of images",
    )
    if "table11" not in runs:
        return [still, because]
    rows = of_the_smallest_epsilon(runs["table11"][1])
    control = find_references(rows).get("unchanged")
    # The paper's number, and its claim, are of the network of so few pixels.
    model = next((name for name in retrained_on_pixels(rows) if name.endswith(_FOUR)), None)
    if model is None:
        return [still, because]
    findings, differences = [], []
    for rounded in (False, True):
        condition = "rounded to 8 bits" if rounded else "not rounded"
        of_kind = rows[rows["rounded"] == rounded]
        shares, seeds = fooled_shares(of_kind, model)
        interval = rate_interval(shares, seeds, simultaneous(2))
        findings.append(near(model, condition, shares, interval, STILL_FOOL))
        if control:
            other, _ = fooled_shares(of_kind, control)
            differences.append(_less(model, condition, other, shares))
    return [replace(still, findings=tuple(findings)), tested(because, differences)]


def distances(runs: Mapping[str, Run]) -> list[Claim]:
    """Decide the claims on distances to the boundary (Eq. 6)."""
    grows = Claim(
        "distance-grows",
        "Retraining on images with changed pixels increases the distance r of images to the boundary",
        "Section 4, Eq. 6",
        "r' > r",
        "change of r (L2, pixels in [0, 1]), mean over images",
        "sign-flip test over images, t interval",
    )
    beyond = Claim(
        "distance-grows-because-of-pixels",
        "It increases more than by retraining on unchanged images (a control)",
        "not in the paper",
        "",
        "change of r (L2, pixels in [0, 1]), mean over images",
        "sign-flip test over images, t interval",
    )
    if "distances" not in runs:
        return [grows, beyond]
    rows = runs["distances"][1]
    kind = most_telling(rows)
    own = rows[rows["images_are"] == kind]
    references = find_references(rows)
    claims = []
    for claim, reference in ((grows, "baseline"), (beyond, "unchanged")):
        name = references.get(reference)
        changes = {
            model: np.asarray(changes_by_image(own, model, name), dtype=np.float64)
            for model in retrained_on_pixels(rows)
            if name
        }
        found = [
            mean_finding(model, f"{kind} images", values, math.inf)
            for model, values in changes.items()
            if len(values)
        ]
        claims.append(tested(claim, found))
    return claims


def _unharmed(
    claim: Claim, table: WrongShares, networks: list[str], original: str | None, kind: str
) -> Claim:
    if not original:
        return claim
    cell = Cell(0)
    findings = [
        alike(
            model,
            f"{kind} images",
            table.of(model, cell),
            [table.of(original, cell)],
            len(networks),
        )
        for model in networks
        if table.has(model, cell) and table.has(original, cell)
    ]
    return replace(claim, findings=tuple(findings))


def _robust(
    claim: Claim, table: WrongShares, networks: list[str], control: str | None, kind: str
) -> Claim:
    if not control or not table.nums:
        return claim
    cell = Cell(table.nums[-1])
    condition = f"{kind} images, {cell.num} pixels"
    return tested(
        claim,
        [
            _less(model, condition, table.of(control, cell), table.of(model, cell))
            for model in networks
            if table.has(control, cell) and table.has(model, cell)
        ],
    )


def _fewer(claim: Claim, table: WrongShares, networks: list[str], kind: str) -> Claim:
    cells = [Cell(num) for num in table.nums]
    ends = [networks[0], networks[-1]] if len(networks) > 1 else []
    if not ends or not cells or not all(table.has(model, *cells) for model in ends):
        return claim
    fewest, most = (table.over(model, cells).mean(axis=1) for model in ends)
    return tested(claim, [_less(" and ".join(ends), f"{kind} images", most, fewest)])


def _less(
    subject: str, condition: str, other: NDArray[np.float64], own: NDArray[np.float64]
) -> Finding:
    """Compare shares: by how much the own is below the other, which the claim says it is."""
    found = compare_pairs(other, own)
    return Finding(subject, condition, found.mean, found.low, found.high, found.p)
