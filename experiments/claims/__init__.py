"""What the paper claims, and what stored outcomes say of it.

The rules are the same for every profile, whatever its outcomes; docs/protocol.md dates them. Level
5 % over the findings of a claim: p-values are Holm-corrected, beside 95 % intervals; intervals that
decide alone are Bonferroni-corrected, those of rates exact. A rate "is" a published one where its whole
interval lies within one point of it, and is not where the interval lies wholly outside, for the paper's own
networks, images and selection; areas "hardly matter" where two one-sided tests bound the difference of
each from the largest by one point, and matter where an interval lies wholly beyond it; a proportion is
"considerable" from 10 % on; "far" is ten times. Where a test in pairs
refutes a claim, the opposite is so: less, where it says more. Anything else is not decided.
"""

from collections.abc import Mapping

from experiments.claims.findings import Claim, Finding
from experiments.claims.networks import extreme_network, index_follows_accuracy, index_is_a_property
from experiments.claims.rates import (
    amplitude_matters,
    amplitude_over_position,
    area_hardly_matters,
    area_matters,
    attackers,
    augmented_differ,
    far_more_than_changed,
    magnified_inside,
    more_pixels,
    published_rate,
    returns,
    ten_percent,
)
from experiments.claims.retrained import distances, retraining, transfer
from experiments.paper import TABLE_5_SOURCES, published_rates, within_paper
from experiments.stored import Run
from pixelrobust.statistics.rates import WrongShares

__all__ = ["Claim", "Finding", "decide_claims"]


def decide_claims(runs: Mapping[str, Run]) -> list[Claim]:
    """Return every claim, with what stored outcomes say of it.

    Args:
        runs: manifest and rows by the experiment's name: table6, table7 and table8 of one image
            list, table9, returns, amplification, worst-case, table10, table10-all, table11 and distances; others are ignored. What
            they lack is not decided.
    """
    tables = {
        name: WrongShares(within_paper(runs[name][1])) for name in TABLE_5_SOURCES if name in runs
    }
    shares = {name: table for name, table in tables.items() if table.nums}
    claims: list[Claim] = [more_pixels(shares), far_more_than_changed(shares, runs)]
    claims += [
        published_rate(row, shares, runs) for row in published_rates("table6").to_dict("records")
    ]
    claims += [
        ten_percent(shares, runs),
        attackers(runs),
        extreme_network(shares, "densenet121", best=True),
        extreme_network(shares, "squeezenet1_1", best=False),
        index_follows_accuracy(shares, runs),
        index_is_a_property(shares, runs),
        amplitude_matters(shares),
        area_matters(shares),
        area_hardly_matters(shares),
        amplitude_over_position(shares),
        *returns(runs),
        magnified_inside(runs),
        augmented_differ(runs),
        *retraining(runs),
        *transfer(runs),
        *distances(runs),
    ]
    return claims
