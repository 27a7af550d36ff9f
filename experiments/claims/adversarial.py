"""Whether changed pixels undo adversarial images: Experiment 4."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from experiments.claims.findings import (
    Claim,
    Finding,
    Run,
    above,
    rate_interval,
    simultaneous,
    tested,
)
from pixelrobust.outcomes.kinds import CELL_COLUMNS
from pixelrobust.tables.adversarial import summarize_returns

CONSIDERABLE = 0.10
"""The share from which on a proportion is "considerable"."""

# From 1/255 on an attack survives rounding to 8 bits: such images can be kept as files.
_FILE_EPSILON = 1.0


def returns(runs: Mapping[str, Run]) -> list[Claim]:
    where, published = "Section 6.1.4, Table 9", "a considerable proportion"
    unit = "adversarial images back in their true class, in %, at the largest num"
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
    rounded = Claim(
        "returns-beyond-rounding",
        "The same at the smallest epsilon for images rounded to 8 bits, as a file holds them: pixel "
        "changes return more than rounding alone",
        where,
        published,
        "points of returned images at the largest num minus at num 0",
        "tests in pairs of images",
    )
    if "table9" not in runs or not (runs["table9"][1]["num"] > 0).any():
        return [minimal, larger, rounded]
    manifest, outcomes = runs["table9"]
    at_minimal = outcomes["epsilon"] == "minimal"
    sizes = pd.to_numeric(outcomes["epsilon"].where(~at_minimal))
    unrounded = ~outcomes["rounded"] & (outcomes["num"] == outcomes["num"].max())
    smallest = _considerable(outcomes[unrounded & at_minimal])
    sized = _considerable(outcomes[unrounded & (sizes >= _FILE_EPSILON)])
    most = {f.subject: f for f in sorted(sized, key=lambda finding: finding.estimate)}
    models = dict.fromkeys(finding.subject for finding in sized)
    gains = summarize_returns(
        outcomes[outcomes["rounded"] & at_minimal], manifest.image_size, manifest.amplitude_share
    )
    gains = gains[(gains["images_are"] == "rounded") & (gains["num"] == gains["num"].max())]
    return [
        replace(minimal, findings=tuple(smallest)),
        replace(larger, findings=tuple(most[model] for model in models)),
        tested(
            rounded,
            [
                Finding(str(row["model"]), f"{row['images']} images", row["gain"], row["gain_low"],
                        row["gain_high"], row["gain_p"], "not decided")
                for row in gains.to_dict("records")
            ],
        ),
    ]  # fmt: skip


def _considerable(outcomes: pd.DataFrame) -> list[Finding]:
    """A finding for each model, epsilon and cell, with intervals that hold for all together."""
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
