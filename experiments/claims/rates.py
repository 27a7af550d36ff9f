"""How often predictions become wrong, and right again: Sections 3 and 6.1, Experiments 1 to 4."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from experiments.claims.findings import (
    Claim,
    Finding,
    above,
    alike,
    in_times,
    mean_finding,
    near,
    only_of_the_paper,
    rate_interval,
    simultaneous,
    tested,
    the_five,
)
from experiments.paper import FIVE_NETWORKS, PAPERS_NUMS
from experiments.stored import Run
from pixelrobust.outcomes.kinds import CELL_COLUMNS, RANDOM
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.paired import image_slopes, largest_slope
from pixelrobust.statistics.rates import CONFIDENCE, WrongShares
from pixelrobust.tables.adversarial import is_restored, still_fooling
from pixelrobust.tables.amplification import (
    Estimate,
    amplification_verdict,
    augmentation_ratios,
)

# So many random changes anyone can try.
_TRIES = 100

CONSIDERABLE = 0.10
"""The share from which on a proportion is "considerable"."""

FAR = 10
"""From so many times the share of changed pixels on, a wrong rate "far exceeds" it."""

# Of 224 x 224 pixels these are the 0.12 % that the paper speaks of.
_NUM = PAPERS_NUMS[-1]
# From 1/255 on an attack survives rounding to 8 bits: such images can be kept as files.
_FILE_EPSILON = 1.0


def more_pixels(shares: Mapping[str, WrongShares]) -> Claim:
    """Decide whether wrong predictions grow with num (Figure 8)."""
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
    findings = [
        mean_finding(
            model, "", image_slopes(table.over(model, cells), table.nums), largest_slope(table.nums)
        )
        for model in models
    ]
    return tested(claim, findings)


def far_more_than_changed(shares: Mapping[str, WrongShares], runs: Mapping[str, Run]) -> Claim:
    """Decide whether the wrong rate far exceeds the share of changed pixels (Section 1)."""
    claim = Claim(
        "far-more-than-changed",
        "The share of misclassified images far exceeds the share of changed pixels",
        "Section 1",
        "3.5 to 14 % of images at 0.12 % of pixels",
        f"times: wrong rate over the share of changed pixels, at {_NUM} pixels",
        f"exact interval, Bonferroni-corrected, above or below {FAR} times: how much is far, the paper "
        "does not say",
    )
    if "table6" not in shares:
        return claim
    table = shares["table6"]
    height, width = runs["table6"][0].image_size
    models = [model for model in table.models if table.has(model, Cell(_NUM))]
    findings = []
    for model in models:
        wrong = table.of(model, Cell(_NUM))
        interval = rate_interval(wrong, table.draws, simultaneous(len(models)))
        changed = _NUM / (height * width)
        rate, low, high = (value / changed for value in (float(wrong.mean()), *interval))
        verdict = above(low - FAR, high - FAR)
        findings.append(Finding(model, f"{_NUM} pixels", rate, low, high, np.nan, verdict))
    return replace(claim, findings=tuple(findings))


def published_rate(
    row: dict[Any, Any], shares: Mapping[str, WrongShares], runs: Mapping[str, Run]
) -> Claim:
    """Decide whether a rate is the published one, a row of `published_rates` (Table 6)."""
    model, num, rate = str(row["model"]), int(row["num"]), float(row["published_wrong_rate"])
    claim = Claim(
        f"rate-{model}-{num}",
        f"Images that {model} misclassifies at {num} changed pixels: {row['wording']}",
        str(row["source"]),
        f"{100 * rate:g} %",
        "wrong rate in %",
        "exact interval within, or outside, one point of the published rate; decided by the paper's "
        "network, ImageNet images and selection only",
    )
    table = shares.get("table6")
    if table is None or not table.has(model, Cell(num)):
        return claim
    wrong = table.of(model, Cell(num))
    interval = rate_interval(wrong, table.draws)
    finding = near(model, "", wrong, interval, rate)
    finding = only_of_the_paper(finding, runs["table6"][0], [model], FIVE_NETWORKS)
    return replace(claim, findings=(finding,))


def ten_percent(shares: Mapping[str, WrongShares], runs: Mapping[str, Run]) -> Claim:
    """Decide whether 64 changed pixels break a tenth of the images (Section 4)."""
    claim = Claim(
        "ten-percent",
        "Changing 0.12 % of the pixels misclassifies 10 % of images (elsewhere the paper says 3.5 to 14 %)",
        "Section 4",
        "10 %",
        f"wrong rate in %, mean of the networks, at {_NUM} pixels",
        "exact interval over images within, or outside, one point; decided by the paper's five networks, "
        "ImageNet images and selection only",
    )
    if "table6" not in shares:
        return claim
    table, cell = shares["table6"], Cell(_NUM)
    models = [model for model in the_five(table) if table.has(model, cell)]
    if not models or len(models) < len(the_five(table)):
        return claim
    mean = np.mean([table.of(model, cell) for model in models], axis=0)
    # To an image's mean, networks are what draws are to its share: never independent of each other.
    interval = rate_interval(mean, table.draws * len(models))
    finding = near(f"mean of {len(models)}", "", mean, interval, 0.1)
    finding = only_of_the_paper(finding, runs["table6"][0], FIVE_NETWORKS, FIVE_NETWORKS)
    return replace(claim, findings=(finding,))


def attackers(runs: Mapping[str, Run]) -> Claim:
    """Decide whether changes that nobody calculated mislead networks where some may be tried (Section 1)."""
    claim = Claim(
        "attackers",
        "Malicious people can easily generate a batch of images that mislead, without careful calculation: "
        f"of {_TRIES} random changes of {_NUM} pixels one breaks a considerable proportion of images",
        "Section 1",
        "easily",
        f"% of images that the worst of {_TRIES} random changes breaks",
        f"exact intervals over images, Bonferroni-corrected; considerable: {CONSIDERABLE:.0%} and more",
    )
    if "worst-case" not in runs:
        return claim
    rows = runs["worst-case"][1]
    random = rows[(rows["method"] == RANDOM) & (rows["num"] == _NUM) & (rows["draw"] < _TRIES)]
    if random["draw"].nunique() < _TRIES or random[["amplitude", "area"]].notna().any(axis=None):
        return claim
    findings = []
    groups = random.groupby("model", observed=True, sort=False)
    for model, own in groups:
        broken = np.asarray(own.groupby("image", observed=True)["wrong"].any(), dtype=np.float64)
        low, high = rate_interval(broken, 1, simultaneous(groups.ngroups))
        verdict = above(low - CONSIDERABLE, high - CONSIDERABLE)
        rate = float(broken.mean())
        findings.append(
            Finding(str(model), f"{len(broken)} images", rate, low, high, np.nan, verdict)
        )
    return replace(claim, findings=tuple(findings))


def amplitude_matters(shares: Mapping[str, WrongShares]) -> Claim:
    """Decide whether wrong predictions grow with the amplitude (Table 7)."""
    claim = Claim(
        "amplitude-matters",
        "The further values move, the more images are misclassified",
        "Section 6.1.2, Table 7, Figure 9",
        "",
        "points of wrong rate at each doubling of the amplitude",
        "trend: slopes of single images over log2(amplitude), each num apart; sign-flip test, t interval",
    )
    table = shares.get("table7")
    # At amplitude 0 nothing changes; it has no logarithm.
    amplitudes = [k for k in table.amplitudes if k > 0] if table else []
    return _trend(claim, table, amplitudes, lambda num, k: Cell(num, k))


def area_matters(shares: Mapping[str, WrongShares]) -> Claim:
    """Decide whether wrong predictions grow with the area, as Section 5 has it (Table 8)."""
    claim = Claim(
        "area-matters",
        "The larger the range of positions, the more images are misclassified (Section 5's definition, which "
        "contradicts what Section 6.1.3 finds: the next claim)",
        "Section 5 against Section 6.1.3",
        "",
        "points of wrong rate at each doubling of the area's side",
        "trend: slopes of single images over log2(side), each num apart; sign-flip test, t interval",
    )
    table = shares.get("table8")
    areas = table.areas if table else []
    return _trend(claim, table, areas, lambda num, side: Cell(num, area=side))


def _trend(
    claim: Claim,
    table: WrongShares | None,
    values: Sequence[int],
    cell: Callable[[int, int], Cell],
) -> Claim:
    """Decide by slopes of single images over log2 of values, each num apart.

    Args:
        claim: without findings.
        table: None: there is none, and nothing is found.
        values: amplitudes or areas, above 0.
        cell: returns the cell of a num and a value.
    """
    if table is None or len(values) < 2:
        return claim
    cells = {num: [cell(num, value) for value in values] for num in table.nums}
    slope = largest_slope(values)
    return tested(
        claim,
        [
            mean_finding(
                model, f"{num} px", image_slopes(table.over(model, cells[num]), values), slope
            )
            for model in table.models
            for num in table.nums
            if table.has(model, *cells[num])
        ],
    )


def area_hardly_matters(shares: Mapping[str, WrongShares]) -> Claim:
    """Decide whether wrong rates are the same in all areas (Table 8)."""
    claim = Claim(
        "area-hardly-matters",
        f"Below {_NUM} changed pixels, where they lie plays no significant role",
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
    nums = [num for num in table.nums if num < _NUM]
    cells = {num: [Cell(num, area=area) for area in table.areas] for num in nums}
    measured = [
        (model, num) for model in table.models for num in nums if table.has(model, *cells[num])
    ]
    findings = []
    for model, num in measured:
        *others, largest = table.over(model, cells[num]).T
        findings.append(alike(model, f"{num} px", largest, others, len(measured)))
    return replace(claim, findings=tuple(findings))


def amplitude_over_position(shares: Mapping[str, WrongShares]) -> Claim:
    """Decide whether amplitude has more of an effect than area (Section 6.1.4)."""
    claim = Claim(
        "amplitude-over-position",
        "How far values move matters more than where the changed pixels lie",
        "Section 6.1.4",
        "",
        "points: effect of the largest amplitude against the smallest, minus size of the effect of the "
        f"largest area against the smallest, at {_NUM} pixels",
        "sign-flip tests over images that both (effect of amplitude - effect of area) and their sum are "
        "above 0: the larger p-value counts; twice the smaller one's p-value refutes",
    )
    by_amplitude, by_area = shares.get("table7"), shares.get("table8")
    if by_amplitude is None or by_area is None:
        return claim
    if len(by_amplitude.amplitudes) < 2 or len(by_area.areas) < 2:
        return claim
    amplitudes = [Cell(_NUM, by_amplitude.amplitudes[end]) for end in (0, -1)]
    areas = [Cell(_NUM, area=by_area.areas[end]) for end in (0, -1)]
    findings = [
        _effects(
            model,
            f"{_NUM} pixels",
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
    """Compare effects (N,) of amplitude, and of area in either direction, on each image."""
    smaller, larger = sorted(
        (mean_finding(model, condition, amplitude + sign * area, 2.0) for sign in (-1, 1)),
        key=lambda finding: finding.estimate,
    )
    # Above 0 both must be; below 0 any one of the two suffices, so it has two chances to be so.
    p = max(smaller.p, larger.p) if smaller.estimate > 0 else min(2 * smaller.p, 1)
    return replace(smaller, p=p)


def returns(runs: Mapping[str, Run]) -> list[Claim]:
    """Decide how many adversarial images changed pixels recover (Table 9)."""
    where, published = "Section 6.1.4, Table 9", "a considerable proportion"
    unit = f"adversarial images back in their true class, in %, at {_NUM} pixels"
    test = "exact interval, Bonferroni-corrected, above or below 10 %"
    minimal = Claim(
        "returns-minimal",
        "A few changed pixels return a considerable proportion of FGSM images to their true class: "
        "at the smallest epsilon that fools the network, not rounded",
        where, published, unit, test,
    )  # fmt: skip
    larger = Claim(
        "returns-larger",
        "The same for epsilons of 1/255 and above: of each network, the epsilon of which most return",
        where, published, unit, f"{test}; corrected for the choice of the epsilon too",
    )  # fmt: skip
    rounding = Claim(
        "returns-by-rounding",
        "At the smallest epsilon, rounding to 8 bits alone returns a considerable proportion (a control): of "
        "the images that it does not turn back into the original, bit for bit",
        "not in the paper", "", "adversarial images back in their true class, in %, unchanged", test,
    )  # fmt: skip
    rounded = Claim(
        "returns-beyond-rounding",
        "A few changed pixels return a considerable proportion at the smallest epsilon, rounded to 8 bits, "
        "as a file holds them: of the images that still fool the network then",
        where, published, unit, test,
    )  # fmt: skip
    if "returns" in runs:
        outcomes = runs["returns"][1]
        # Multiples of the smallest epsilon are no sizes.
        sizes = pd.to_numeric(outcomes["epsilon"].astype(str), errors="coerce")
        large = ~outcomes["rounded"] & (sizes >= _FILE_EPSILON)
        sized = _considerable(outcomes[large & (outcomes["num"] == _NUM)])
        most = {f.subject: f for f in sorted(sized, key=lambda finding: finding.estimate)}
        models = dict.fromkeys(finding.subject for finding in sized)
        larger = replace(larger, findings=tuple(most[model] for model in models))
    if "table9" in runs and (runs["table9"][1]["num"] > 0).any():
        outcomes = runs["table9"][1]
        at_minimal = outcomes[outcomes["epsilon"] == "minimal"]
        unrounded, files = (at_minimal[at_minimal["rounded"] == kind] for kind in (False, True))
        smallest = _considerable(unrounded[unrounded["num"] == _NUM])
        alone = _considerable(files[~is_restored(files) & (files["num"] == 0)])
        fooling = still_fooling(files)
        beyond = _considerable(fooling[fooling["num"] == _NUM])
        minimal = replace(minimal, findings=tuple(smallest))
        rounding = replace(rounding, findings=tuple(alone))
        rounded = replace(rounded, findings=tuple(beyond))
    return [minimal, larger, rounding, rounded]


def _considerable(outcomes: pd.DataFrame) -> list[Finding]:
    """Return a finding for each model, epsilon and cell, with intervals that hold for all together."""
    keys = ["model", "epsilon", *CELL_COLUMNS]
    groups = [rows for _, rows in outcomes.groupby(keys, observed=True, dropna=False, sort=False)]
    findings = []
    for rows in groups:
        returned = 1 - rows.groupby(rows["image"].astype(str))["wrong"].mean().to_numpy()
        draws = len(rows) // len(returned)
        low, high = rate_interval(returned, draws, simultaneous(len(groups)))
        first = rows.iloc[0]
        findings.append(
            Finding(
                str(first["model"]),
                f"epsilon {first['epsilon']}, {len(returned)} images",
                float(returned.mean()),
                low,
                high,
                np.nan,
                above(low - CONSIDERABLE, high - CONSIDERABLE),
            )
        )
    return findings


def magnified_inside(runs: Mapping[str, Run]) -> Claim:
    """Decide whether changes grow inside networks, more than noise of their size does (Section 3)."""
    claim = Claim(
        "magnified",
        "Differences of a few pixels are magnified inside the network: more than Gaussian noise of the "
        "same L2 norm, the control",
        "Sections 3 and 6.1.4",
        "",
        "times: relative change of the logits over that of the input, by changed pixels over by noise, "
        "geometric mean",
        "t test of the mean logarithm of the ratio, in pairs of one image each; an amplification above 1 "
        "alone decides nothing, since it depends on where 0 lies",
    )
    if "amplification" not in runs:
        return claim
    by = ["model", *CELL_COLUMNS]
    groups = runs["amplification"][1].groupby(by, observed=True, dropna=False, sort=False)
    findings = []
    for (model, num, *_), rows in groups:
        found = amplification_verdict(rows)
        ratio = found.log_ratio
        findings.append(
            Finding(str(model), f"{num} pixels", ratio.value, ratio.low, ratio.high,
                    _p(ratio, found.images))
        )  # fmt: skip
    return in_times(tested(claim, findings))


def augmented_differ(runs: Mapping[str, Run]) -> Claim:
    """Decide whether augmented images differ inside networks more than small-distance samples."""
    claim = Claim(
        "augmented-differ",
        "Images of traditional augmentation do not look like their originals inside the network, "
        "small-distance samples do: they lie further from them",
        "Section 4",
        "",
        "times: relative change of the logits by the augmentation over by changed pixels, geometric mean",
        "t test of the mean logarithm of the ratio, in pairs of one image each",
    )
    if "amplification" not in runs:
        return claim
    by = ["model", *CELL_COLUMNS]
    groups = runs["amplification"][1].groupby(by, observed=True, dropna=False, sort=False)
    findings = [
        Finding(str(model), f"{name}, {num} pixels, {images} images", log.value, log.low, log.high,
                _p(log, images))
        for (model, num, *_), rows in groups
        for name, (log, images) in augmentation_ratios(rows).items()
    ]  # fmt: skip
    return in_times(tested(claim, findings))


def _p(mean: Estimate, images: int) -> float:
    """Return the two-sided p-value that the mean is 0, from its t interval; 1 without one."""
    half_width = mean.high - mean.value
    if not half_width > 0:
        return 1.0
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, images - 1))
    return float(2 * stats.t.sf(abs(mean.value) * quantile / half_width, images - 1))
