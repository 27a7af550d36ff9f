"""How often predictions become wrong: Experiment 1."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.claims.findings import (
    Claim,
    Finding,
    Run,
    above,
    mean_finding,
    near,
    only_of_the_five,
    rate_interval,
    simultaneous,
    tested,
    the_five,
)
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.paired import image_slopes, largest_slope
from pixelrobust.statistics.rates import WrongShares

# Of 224 x 224 pixels these are the 0.12 % that the paper speaks of.
_PAPERS_LARGEST_NUM = 64


def more_pixels(shares: Mapping[str, WrongShares]) -> Claim:
    claim = Claim(
        "more-pixels",
        "The more pixels change, the more images are misclassified",
        "Section 6.1.1, Figure 8",
        "",
        "points of wrong rate at each doubling of num",
        "slopes of single images over log2(num): sign-flip test, t interval",
    )
    if "table6" not in shares or len(shares["table6"].nums) < 2:
        return claim
    table = shares["table6"]
    cells = [Cell(num) for num in table.nums]
    models = [model for model in table.models if table.has(model, *cells)]
    return tested(claim, [_slope(table, model, cells) for model in models])


def _slope(table: WrongShares, model: str, cells: list[Cell]) -> Finding:
    slopes = image_slopes(table.over(model, cells), table.nums)
    return mean_finding(model, "", slopes, largest_slope(table.nums))


def far_more_than_changed(shares: Mapping[str, WrongShares], runs: Mapping[str, Run]) -> Claim:
    claim = Claim(
        "far-more-than-changed",
        "The share of misclassified images far exceeds the share of changed pixels",
        "Section 1",
        "3.5 to 14 % of images at 0.12 % of pixels",
        "wrong rate in % minus the share of changed pixels in %, at the largest num",
        "exact interval of the wrong rate, Bonferroni-corrected, above the share of changed pixels: by how "
        "much is far, the paper does not say",
    )
    if "table6" not in shares:
        return claim
    table = shares["table6"]
    height, width = runs["table6"][0].image_size
    num = table.nums[-1]
    models = [model for model in table.models if table.has(model, Cell(num))]
    findings = []
    for model in models:
        wrong = table.of(model, Cell(num))
        interval = rate_interval(wrong, table.draws, simultaneous(len(models)))
        changed = num / (height * width)
        rate, low, high = (value - changed for value in (float(wrong.mean()), *interval))
        findings.append(Finding(model, f"{num} pixels", rate, low, high, np.nan, above(low, high)))
    return replace(claim, findings=tuple(findings))


def published_rate(row: dict[Any, Any], shares: Mapping[str, WrongShares]) -> Claim:
    model, num, rate = str(row["model"]), int(row["num"]), float(row["published_wrong_rate"])
    claim = Claim(
        f"rate-{model}-{num}",
        f"Images that {model} misclassifies at {num} changed pixels: {row['wording']}",
        str(row["source"]),
        f"{100 * rate:g} %",
        "wrong rate in %",
        "exact interval within, or outside, one point of the published rate",
    )
    table = shares.get("table6")
    if table is None or not table.has(model, Cell(num)):
        return claim
    wrong = table.of(model, Cell(num))
    interval = rate_interval(wrong, table.draws)
    return replace(claim, findings=(near(model, "", wrong, interval, rate),))


def ten_percent(shares: Mapping[str, WrongShares]) -> Claim:
    claim = Claim(
        "ten-percent",
        "Changing 0.12 % of the pixels misclassifies 10 % of images (elsewhere the paper says 3.5 to 14 %)",
        "Section 4",
        "10 %",
        f"wrong rate in %, mean of the networks, at {_PAPERS_LARGEST_NUM} pixels",
        "exact interval over images within, or outside, one point; decided by the paper's five networks only",
    )
    if "table6" not in shares:
        return claim
    table, cell = shares["table6"], Cell(_PAPERS_LARGEST_NUM)
    models = [model for model in the_five(table) if table.has(model, cell)]
    if not models or len(models) < len(the_five(table)):
        return claim
    mean = np.mean([table.of(model, cell) for model in models], axis=0)
    # To an image's mean, networks are what draws are to its share: never independent of each other.
    interval = rate_interval(mean, table.draws * len(models))
    finding = near(f"mean of {len(models)}", "", mean, interval, 0.1)
    return replace(claim, findings=(only_of_the_five(finding, table),))
