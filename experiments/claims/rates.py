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
    tested,
)
from pixelrobust.comparisons import image_slopes, largest_slope, mean_interval
from pixelrobust.grid import Cell
from pixelrobust.shares import WrongShares
from pixelrobust.statistics import Interval


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
    return tested(claim, [_slope(table, model) for model in table.models])


def _slope(table: WrongShares, model: str) -> Finding:
    slopes = image_slopes(table.over(model, [Cell(num) for num in table.nums]), table.nums)
    return mean_finding(model, "", slopes, largest_slope(table.nums))


def far_more_than_changed(shares: Mapping[str, WrongShares], runs: Mapping[str, Run]) -> Claim:
    claim = Claim(
        "far-more-than-changed",
        "The share of misclassified images far exceeds the share of changed pixels",
        "Section 1",
        "3.5 to 14 % of images at 0.12 % of pixels",
        "wrong rate in % minus the share of changed pixels in %, at the largest num",
        "interval of the wrong rate",
    )
    if "table6" not in shares:
        return claim
    table = shares["table6"]
    height, width = runs["table6"][0].image_size
    num = table.nums[-1]
    findings = []
    for model in table.models:
        wrong = table.of(model, Cell(num))
        interval = rate_interval(wrong, table.draws)
        changed = num / (height * width)
        rate, low, high = (value - changed for value in (float(wrong.mean()), *interval))
        findings.append(Finding(model, f"{num} pixels", rate, low, high, np.nan, above(low, high)))
    return replace(claim, findings=tuple(findings))


def published_rate(row: dict[Any, Any], shares: Mapping[str, WrongShares]) -> Claim:
    model, num, rate = str(row["model"]), int(row["num"]), float(row["published_wrong_rate"])
    claim = Claim(
        f"rate-{model}-{num}",
        f"{model} at {num} changed pixels misclassifies {row['wording']} of the images",
        str(row["source"]),
        f"{100 * rate:g} %",
        "wrong rate in %",
        "interval within, or outside, one point of the published rate",
    )
    table = shares.get("table6")
    if table is None or model not in table.models or num not in table.nums:
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
        "wrong rate in %, mean of the networks, at the largest num",
        "t interval over images within, or outside, one point; decided by the paper's five networks only",
    )
    if "table6" not in shares:
        return claim
    table = shares["table6"]
    num = table.nums[-1]
    mean = np.mean([table.of(model, Cell(num)) for model in table.models], axis=0)
    interval = mean_interval(mean, limit=1.0) if len(mean) > 1 else Interval(0.0, 1.0)
    finding = near(
        f"mean of {len(table.models)}",
        f"{num} pixels",
        mean,
        (max(interval.low, 0), interval.high),
        0.1,
    )
    return replace(claim, findings=(only_of_the_five(finding, table),))
