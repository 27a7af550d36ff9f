"""Whether differences are magnified inside networks: Section 3."""

import math
from collections.abc import Mapping
from dataclasses import replace

from scipy import stats

from experiments.claims.findings import Claim, Finding, Run, tested
from pixelrobust.outcomes.kinds import CELL_COLUMNS
from pixelrobust.statistics.rates import CONFIDENCE
from pixelrobust.tables.amplification import Estimate, amplification_verdict


def magnified_inside(runs: Mapping[str, Run]) -> list[Claim]:
    magnified = Claim(
        "magnified",
        "Differences of a few pixels are magnified inside the network",
        "Sections 3 and 6.1.4",
        "",
        "times: relative change of the logits over that of the input, geometric mean",
        "t test of the mean logarithm over images; relative to what, depends on where 0 lies",
    )
    beyond = Claim(
        "magnified-beyond-noise",
        "They are magnified more than Gaussian noise of the same L2 norm (a control)",
        "not in the paper",
        "",
        "times: amplification of changed pixels over that of noise, geometric mean",
        "t test of the mean logarithm of the ratio, in pairs of one image each",
    )
    if "amplification" not in runs:
        return [magnified, beyond]
    by = ["model", *CELL_COLUMNS]
    groups = runs["amplification"][1].groupby(by, observed=True, dropna=False, sort=False)
    verdicts = {
        (str(model), f"{num} pixels"): amplification_verdict(rows)
        for (model, num, *_), rows in groups
    }
    return [
        _times(magnified, {key: (v.log_pixels, v.images) for key, v in verdicts.items()}),
        _times(beyond, {key: (v.log_ratio, v.images) for key, v in verdicts.items()}),
    ]


def _times(claim: Claim, logarithms: Mapping[tuple[str, str], tuple[Estimate, int]]) -> Claim:
    """The claim decided by logarithms, which must be above 0; they are shown as multiples.

    Args:
        claim: without findings.
        logarithms: for each subject and condition, a mean with its t interval, and how many images
            it is of.
    """
    logarithmic = tested(
        claim,
        [
            Finding(*key, log.value, log.low, log.high, _p(log, images), "not decided")
            for key, (log, images) in logarithms.items()
        ],
    )
    return replace(
        claim,
        findings=tuple(
            replace(f, estimate=math.exp(f.estimate), low=math.exp(f.low), high=math.exp(f.high))
            for f in logarithmic.findings
        ),
    )


def _p(mean: Estimate, images: int) -> float:
    """Two-sided p-value that the mean is 0, from its t interval; 1 where there is none."""
    half_width = mean.high - mean.value
    if not half_width > 0:
        return 1.0
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, images - 1))
    return float(2 * stats.t.sf(abs(mean.value) * quantile / half_width, images - 1))
