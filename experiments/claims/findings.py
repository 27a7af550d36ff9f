"""Claims, findings, and how a finding is decided."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from experiments.paper import FIVE_NETWORKS
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.paired import (
    MARGIN,
    Equivalence,
    difference_interval,
    equivalence,
    holm,
    images_to_exclude,
    mean_interval,
    paired_test,
    sign_flip_test,
)
from pixelrobust.statistics.rates import CONFIDENCE, Interval, WrongShares, effective_sample_size

Verdict = Literal["holds", "does not hold", "not decided"]

LEVEL = 0.05
# Torchvision had no others in 2021.
_PAPERS_WEIGHTS = "IMAGENET1K_V1"


@dataclass(frozen=True)
class Finding:
    """Hold what one comparison says of a claim.

    Attributes:
        subject: the network, or networks, it is about.
        condition: in which cells; empty where the claim says it.
        estimate, low, high: in the claim's unit; NaN where there is none. The interval is a 95 %
            one beside a p-value, else the one that decides.
        p: two-sided p-value, after Holm's correction; NaN where an interval decides.
        verdict: on the claim, for this subject and condition; open until it is decided.
        images_needed: how many images could decide it where these could not, even if none of them
            differed; NaN where these could.
    """

    subject: str
    condition: str
    estimate: float
    low: float
    high: float
    p: float
    verdict: Verdict = "not decided"
    images_needed: float = np.nan


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and every finding about it.

    Attributes:
        key: a short name.
        sentence: the claim, in our words.
        where: the paper's section, table or figure.
        published: the paper's number; empty where it gives none.
        unit: what the findings' numbers are.
        test: what decides.
        findings: none where the runs that could decide are not there.
    """

    key: str
    sentence: str
    where: str
    published: str
    unit: str
    test: str
    findings: tuple[Finding, ...] = ()


def difference_finding(
    table: WrongShares,
    subject: str,
    first: tuple[str, Cell],
    second: tuple[str, Cell],
    sign: int = 1,
) -> Finding:
    """Compare first with second (or the reverse): the difference, which the claim says is above 0."""
    one, two = (table.of(*side) for side in ((first, second) if sign > 0 else (second, first)))
    interval = difference_interval(one, two)
    p = paired_test(one, two, table.draws)
    estimate = float((one - two).mean())
    return Finding(subject, "", estimate, interval.low, interval.high, p)


def mean_finding(
    subject: str, condition: str, values: NDArray[np.float64], limit: float
) -> Finding:
    """Test a mean over images, which the claim says is above 0."""
    interval = mean_interval(values, limit=limit) if len(values) > 1 else Interval(-limit, limit)
    p = sign_flip_test(values)
    return Finding(subject, condition, float(values.mean()), interval.low, interval.high, p)


def tested(claim: Claim, findings: Sequence[Finding]) -> Claim:
    """Return the claim with its findings, p-values corrected, decided by test and interval."""
    adjusted = holm([finding.p for finding in findings])
    decided = [
        signed(replace(finding, p=float(p)), 1)
        for finding, p in zip(findings, adjusted, strict=True)
    ]
    return replace(claim, findings=tuple(decided))


def signed(finding: Finding, sign: int) -> Finding:
    """Decide a finding: it holds where test, and interval if any, have the estimate on this side of 0."""
    low, high = (
        (finding.estimate, finding.estimate)
        if np.isnan(finding.low)
        else (finding.low, finding.high)
    )
    if not finding.p < LEVEL or low <= 0 <= high:
        return replace(finding, verdict="not decided")
    return replace(finding, verdict="holds" if finding.estimate * sign > 0 else "does not hold")


def in_times(claim: Claim) -> Claim:
    """Return a claim whose findings are decided logarithms with these as multiples."""
    return replace(
        claim,
        findings=tuple(
            replace(f, estimate=math.exp(f.estimate), low=math.exp(f.low), high=math.exp(f.high))
            for f in claim.findings
        ),
    )


def near(
    subject: str,
    condition: str,
    wrong: NDArray[np.float64],
    interval: tuple[float, float],
    published: float,
) -> Finding:
    """Find whether a rate is the published one, within the margin."""
    low, high = interval
    verdict: Verdict = "not decided"
    if published - MARGIN <= low and high <= published + MARGIN:
        verdict = "holds"
    elif high < published - MARGIN or low > published + MARGIN:
        verdict = "does not hold"
    return Finding(subject, condition, float(wrong.mean()), low, high, np.nan, verdict)


def alike(
    subject: str,
    condition: str,
    own: NDArray[np.float64],
    others: Sequence[NDArray[np.float64]],
    findings: int,
) -> Finding:
    """Find whether a rate is the same as all others within the margin; the furthest is shown.

    Args:
        subject, condition: what the finding is about.
        own: (N,) shares of images.
        others: the same in other conditions.
        findings: how many there are of the claim.
    """
    pairs = [equivalence(own, other, MARGIN, simultaneous(findings)) for other in others]
    # Any one of many may be found different by chance; found equivalent, all must be.
    confidence = simultaneous(findings * len(others))
    intervals = [difference_interval(own, other, confidence) for other in others]
    distances = [max(interval.low, -interval.high, 0) for interval in intervals]
    widest = int(np.argmax([abs(pair.difference) for pair in pairs]))
    shown: Equivalence | Interval = pairs[widest]
    verdict: Verdict = "not decided"
    if all(pair.verdict == "equivalent" for pair in pairs):
        verdict = "holds"
    elif max(distances) > MARGIN:
        verdict, widest = "does not hold", int(np.argmax(distances))
        shown = intervals[widest]
    difference = pairs[widest].difference
    needed = images_needed(len(own), findings) if verdict == "not decided" else np.nan
    return Finding(subject, condition, difference, shown.low, shown.high, np.nan, verdict, needed)


def images_needed(images: int, findings: int, margin: float = MARGIN) -> float:
    """Return how many images could bound a difference if none differed; NaN where so many suffice."""
    needed = images_to_exclude(margin, 2 * simultaneous(findings) - 1)
    return needed if images < needed else np.nan


def the_five(table: WrongShares) -> list[str]:
    """Return the paper's five networks where all are there, else the models that are."""
    return list(FIVE_NETWORKS) if set(FIVE_NETWORKS) <= set(table.models) else table.models


def only_of_the_paper(
    finding: Finding, manifest: Manifest, networks: Sequence[str], selection: Sequence[str]
) -> Finding:
    """Leave open what a number of the paper says where something else was measured.

    Args:
        finding: about the number.
        manifest: of the run.
        networks: that the number is of; their weights must be those of the paper's time.
        selection: the networks by which the paper selected its images, of ImageNet.
    """
    config = manifest.config
    models = config.get("models", {})
    weights = [models.get(network, {}).get("weights") for network in networks]
    own = (
        config.get("dataset", {}).get("kind") == "imagenet"
        and set(manifest.rejected) == set(selection)
        and all(each == _PAPERS_WEIGHTS for each in weights)
    )
    return finding if own else replace(finding, verdict="not decided")


def only_of_the_five(finding: Finding, table: WrongShares) -> Finding:
    """Leave open, where others were measured, what is said of the paper's five networks."""
    if set(FIVE_NETWORKS) <= set(table.models):
        return finding
    return replace(finding, verdict="not decided")


def above(low: float, high: float) -> Verdict:
    """Decide by an interval whether what it is of is above 0."""
    return "holds" if low > 0 else "does not hold" if high < 0 else "not decided"


def simultaneous(findings: int) -> float:
    """Return the confidence of each of so many intervals that all hold at 95 % (Bonferroni)."""
    return 1 - LEVEL / max(findings, 1)


def rate_interval(
    wrong: NDArray[np.float64], draws: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the exact interval (Clopper & Pearson 1934) of a rate, on the effective sample size.

    Wilson's, which the tables have, excludes small rates too soon: one wrong image of a hundred would
    make 0.1 % too few.

    Args:
        wrong: (N,) the share of each image's draws.
        draws: of each image.
        confidence: in 0..1.
    """
    shares = np.round(wrong * draws) / draws
    images = effective_sample_size(shares, draws, confidence)
    count = float(shares.mean()) * images
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low = 0.0 if count <= 0 else float(stats.beta.ppf(tails[0], count, images - count + 1))
    high = 1.0 if count >= images else float(stats.beta.ppf(tails[1], count + 1, images - count))
    return low, high
