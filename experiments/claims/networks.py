"""Which networks are robust, and what the Pixel-index says of them: Tables 5 and 6."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy import stats

from experiments.claims.findings import (
    LEVEL,
    Claim,
    Finding,
    Run,
    difference_finding,
    mean_finding,
    only_of_the_five,
    signed,
    tested,
)
from pixelrobust.grid import Cell
from pixelrobust.pixel_index import pixel_index
from pixelrobust.shares import WrongShares


def extreme_network(shares: Mapping[str, WrongShares], network: str, best: bool) -> Claim:
    claim = Claim(
        f"{'most' if best else 'least'}-robust",
        f"{network} is the {'most' if best else 'least'} robust of the five networks",
        "Table 6",
        "",
        "points of wrong rate more than each other network, at the largest num",
        "tests in pairs of images (McNemar, or sign-flip over draws); decided by the paper's five networks only",
    )
    table = shares.get("table6")
    if table is None or network not in table.models or len(table.models) < 2:
        return claim
    cell = Cell(table.nums[-1])
    findings = [
        difference_finding(
            table, f"{network} and {other}", (network, cell), (other, cell), sign=-1 if best else 1
        )
        for other in table.models
        if other != network
    ]
    return replace(
        claim,
        findings=tuple(only_of_the_five(f, table) for f in tested(claim, findings).findings),
    )


def index_follows_accuracy(shares: Mapping[str, WrongShares], runs: Mapping[str, Run]) -> Claim:
    claim = Claim(
        "index-follows-accuracy",
        "Networks of smaller Pixel-index are the more accurate ones",
        "Section 5, Table 5",
        "",
        "Kendall's tau of wrong rate at the largest num with accuracy (the claim: -1)",
        "exact test of Kendall's tau over networks; four networks or fewer can decide nothing",
    )
    if "table6" not in shares:
        return claim
    table, manifest = shares["table6"], runs["table6"][0]
    models = [model for model in table.models if model in manifest.rejected]
    if len(models) < 2:
        return claim
    rates = [table.of(model, Cell(table.nums[-1])).mean() for model in models]
    tau, p = stats.kendalltau(rates, [-manifest.rejected[model] for model in models])
    finding = Finding(
        f"{len(models)} networks", "", float(tau), np.nan, np.nan, float(p), "not decided"
    )
    return replace(claim, findings=(signed(finding, -1),))


def index_is_a_property(shares: Mapping[str, WrongShares], runs: Mapping[str, Run]) -> Claim:
    claim = Claim(
        "index-is-a-property",
        "The Pixel-index measures the network, whatever was changed",
        "Section 5, Eq. 7",
        "",
        "Pixel-index in the first cell minus that in the second (the claim: 0)",
        "sign-flip test over images; equality is not tested, so the claim can only fail",
    )
    findings = []
    for name, pair in _extreme_cells(shares).items():
        manifest = runs[name][0]
        weights = [
            pixel_index(
                1.0,
                cell.num,
                cell.amplitude,
                cell.area,
                manifest.image_size,
                manifest.amplitude_share,
            )
            for cell in pair
        ]
        condition = " and ".join(map(_limits, pair))
        for model in shares[name].models:
            contributions = shares[name].over(model, pair) * weights
            difference = contributions[:, 0] - contributions[:, 1]
            findings.append(mean_finding(model, condition, difference, max(weights)))
    return replace(
        claim,
        findings=tuple(
            replace(f, verdict="does not hold" if f.p < LEVEL else "not decided")
            for f in tested(claim, findings).findings
        ),
    )


def _extreme_cells(shares: Mapping[str, WrongShares]) -> dict[str, tuple[Cell, Cell]]:
    """By experiment, the two cells furthest apart in what it varies."""
    found = {}
    for name, table in shares.items():
        if name == "table6" and len(table.nums) > 1:
            found[name] = (Cell(table.nums[0]), Cell(table.nums[-1]))
        if name == "table7" and len(table.amplitudes) > 1:
            smallest, *_, largest = (Cell(table.nums[-1], k) for k in table.amplitudes)
            found[name] = (smallest, largest)
        if name == "table8" and len(table.areas) > 1:
            smallest, *_, largest = (Cell(table.nums[-1], area=side) for side in table.areas)
            found[name] = (smallest, largest)
    return found


def _limits(cell: Cell) -> str:
    """What distinguishes a cell of one of the experiments."""
    if cell.amplitude is not None:
        return f"±{cell.amplitude}"
    return f"{cell.num} px" if cell.area is None else f"{cell.area} × {cell.area}"
