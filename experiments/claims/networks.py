"""Which networks are robust, and what the Pixel-index says of them: Tables 5 and 6."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
from scipy import stats

from experiments.claims.findings import (
    Claim,
    Finding,
    Verdict,
    difference_finding,
    only_of_the_five,
    rate_interval,
    signed,
    simultaneous,
    tested,
    the_five,
)
from experiments.paper import PAPERS_NUMS
from experiments.stored import Run
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.perturbation.grid import Cell, pixel_index
from pixelrobust.statistics.rates import WrongShares

_NUM = PAPERS_NUMS[-1]
# Networks; more have too many permutations to try them all.
_MOST_PERMUTED = 8


def extreme_network(shares: Mapping[str, WrongShares], network: str, best: bool) -> Claim:
    """Decide whether a network is the most, or the least, robust of the five (Table 6)."""
    claim = Claim(
        f"{'most' if best else 'least'}-robust",
        f"{network} is the {'most' if best else 'least'} robust of the five networks",
        "Table 6",
        "",
        f"points of wrong rate {'less' if best else 'more'} than another network, at {_NUM} pixels",
        "tests in pairs of images (McNemar, or sign-flip over draws); decided by the paper's five networks only",
    )
    table = shares.get("table6")
    if table is None:
        return claim
    cell = Cell(_NUM)
    models = [model for model in the_five(table) if table.has(model, cell)]
    if network not in models:
        return claim
    findings = [
        difference_finding(
            table, f"{network} and {other}", (network, cell), (other, cell), sign=-1 if best else 1
        )
        for other in models
        if other != network
    ]
    return replace(
        claim, findings=tuple(only_of_the_five(f, table) for f in tested(claim, findings).findings)
    )


def index_follows_accuracy(shares: Mapping[str, WrongShares], runs: Mapping[str, Run]) -> Claim:
    """Decide whether networks that are more accurate are more robust (Table 5)."""
    claim = Claim(
        "index-follows-accuracy",
        "Networks of smaller Pixel-index are the more accurate ones",
        "Section 5, Table 5",
        "",
        f"Kendall's tau of wrong rate at {_NUM} pixels with accuracy (the claim: -1)",
        "exact permutation test over networks; four networks or fewer can decide nothing",
    )
    if "table6" not in shares:
        return claim
    table, manifest = shares["table6"], runs["table6"][0]
    cell = Cell(_NUM)
    models = [
        model for model in table.models if model in manifest.rejected and table.has(model, cell)
    ]
    if len(models) < 2:
        return claim
    rates = [float(table.of(model, cell).mean()) for model in models]
    tau, p = _kendall(rates, [-manifest.rejected[model] for model in models])
    finding = Finding(f"{len(models)} networks", "", tau, np.nan, np.nan, p)
    return replace(claim, findings=(signed(finding, -1),))


def _kendall(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return Kendall's tau-b and its two-sided p-value, by all permutations where they are few.

    scipy's own p-value is an approximation where values are tied, which few networks are too few for.
    """
    tau, p = stats.kendalltau(np.round(first, 9), second)
    if len(first) > _MOST_PERMUTED or np.isnan(tau):
        return float(tau), float(p)
    one, two = (np.sign(np.subtract.outer(x, x)) for x in (np.round(first, 9), np.array(second)))
    orders = np.array(list(permutations(range(len(first)))))
    concordant = (one * two[orders[:, :, None], orders[:, None, :]]).sum(axis=(1, 2))
    return float(tau), float((np.abs(concordant) >= abs((one * two).sum())).mean())


def index_is_a_property(shares: Mapping[str, WrongShares], runs: Mapping[str, Run]) -> Claim:
    """Decide whether the Pixel-index is the same in all cells (Eq. 7)."""
    claim = Claim(
        "index-is-a-property",
        "The Pixel-index measures the network, whatever was changed",
        "implied by Section 5, Eq. 7",
        "",
        "Pixel-index in the first cell minus that in the second (the claim: 0)",
        "exact intervals of both wrong rates, Bonferroni-corrected; equality is not tested, so the claim "
        "can only fail",
    )
    compared = [
        (name, model, pair)
        for name, pair in _extreme_cells(shares).items()
        for model in shares[name].models
        if shares[name].has(model, *pair)
    ]
    findings = [
        _index_change(shares[name], runs[name][0], model, pair, simultaneous(2 * len(compared)))
        for name, model, pair in compared
    ]
    return replace(claim, findings=tuple(findings))


def _index_change(
    table: WrongShares, manifest: Manifest, model: str, pair: tuple[Cell, Cell], confidence: float
) -> Finding:
    """Compare the index in one cell with that in another, between the outer ends of both intervals.

    Images that are wrong at few pixels are rare and weigh much, so that neither a sign-flip test nor
    a t interval of an image's own difference keeps its level.
    """
    size, share = manifest.image_size, manifest.amplitude_share
    indices = []
    for cell in pair:
        wrong = table.of(model, cell)
        rates = (float(wrong.mean()), *rate_interval(wrong, table.draws, confidence))
        limits = cell.num, cell.amplitude, cell.area
        indices.append([pixel_index(rate, *limits, size, share) for rate in rates])
    (one, one_low, one_high), (two, two_low, two_high) = indices
    low, high = one_low - two_high, one_high - two_low
    verdict: Verdict = "not decided" if low <= 0 <= high else "does not hold"
    where = " and ".join(map(_limits, pair))
    return Finding(model, where, one - two, low, high, np.nan, verdict)


def _extreme_cells(shares: Mapping[str, WrongShares]) -> dict[str, tuple[Cell, Cell]]:
    """Return, by experiment, the two cells furthest apart in what it varies."""
    found = {}
    for name, table in shares.items():
        if name == "table6" and len(table.nums) > 1:
            found[name] = (Cell(table.nums[0]), Cell(_NUM))
        # At amplitude 0 nothing changes and there is no index.
        amplitudes = [k for k in table.amplitudes if k > 0]
        if name == "table7" and len(amplitudes) > 1:
            smallest, *_, largest = (Cell(_NUM, k) for k in amplitudes)
            found[name] = (smallest, largest)
        if name == "table8" and len(table.areas) > 1:
            smallest, *_, largest = (Cell(_NUM, area=side) for side in table.areas)
            found[name] = (smallest, largest)
    return found


def _limits(cell: Cell) -> str:
    """Name what distinguishes a cell of one of the experiments."""
    if cell.amplitude is not None:
        return f"±{cell.amplitude}"
    return f"{cell.num} px" if cell.area is None else f"{cell.area} × {cell.area}"
