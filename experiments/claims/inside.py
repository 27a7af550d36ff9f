"""Whether differences are magnified inside networks: Section 3."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from experiments.claims.findings import Claim, Finding, Run, Verdict
from pixelrobust.amplification import tabulate_verdicts


def magnified_inside(runs: Mapping[str, Run]) -> list[Claim]:
    magnified = Claim(
        "magnified",
        "Differences of a few pixels are magnified inside the network",
        "Sections 3 and 6.1.4",
        "",
        "times: relative change of the logits over that of the input, median",
        "t interval of the mean logarithm over images",
    )
    beyond = Claim(
        "magnified-beyond-noise",
        "They are magnified more than Gaussian noise of the same L2 norm (a control)",
        "not in the paper",
        "",
        "times: amplification of changed pixels over that of noise, geometric mean",
        "t interval of the mean logarithm of the ratio, in pairs of one image each",
    )
    if "amplification" not in runs:
        return [magnified, beyond]
    words: dict[str, Verdict] = {"yes": "holds", "no": "does not hold"}
    claims = []
    table = tabulate_verdicts(runs["amplification"][1]).to_dict("records")
    for claim, value, decision in (
        (magnified, "pixels", "magnified"),
        (beyond, "ratio", "exceeds_noise"),
    ):
        findings = tuple(
            Finding(
                row["model"], f"{row['num']} pixels", row[value], row[f"{value}_low"],
                row[f"{value}_high"], np.nan, words.get(row[decision], "not decided"),
            )
            for row in table
        )  # fmt: skip
        claims.append(replace(claim, findings=findings))
    return claims
