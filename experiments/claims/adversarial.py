"""Whether changed pixels undo adversarial images: Experiment 4."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.claims.findings import Claim, Finding, Run, above, tested
from pixelrobust.returns import summarize_returns

CONSIDERABLE = 0.10
"""The share from which on a proportion is "considerable"."""

# From 1/255 on an attack survives rounding to 8 bits: such images can be kept as files.
_FILE_EPSILON = 1.0


def returns(runs: Mapping[str, Run]) -> list[Claim]:
    where, published = "Section 6.1.4, Table 9", "a considerable proportion"
    unit = "adversarial images back in their true class, in %, at the largest num"
    test = "interval above, or below, 10 %"
    minimal = Claim(
        "returns-minimal",
        "A few changed pixels return a considerable proportion of FGSM images to their true class: "
        "at the smallest epsilon that fools the network, not rounded",
        where, published, unit, test,
    )  # fmt: skip
    larger = Claim(
        "returns-larger",
        "The same for epsilons of 1/255 and above: of each network, the epsilon of which most return",
        where, published, unit, test,
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
    if "table9" not in runs:
        return [minimal, larger, rounded]
    manifest, outcomes = runs["table9"]
    summary = summarize_returns(outcomes, manifest.image_size, manifest.amplitude_share)
    last = summary[summary["num"] == summary["num"].max()]
    smallest = last[last["epsilon"] == "minimal"]
    sized = last[(last["epsilon"] != "minimal") & (last["images_are"] == "unrounded")]
    sized = sized[
        sized["epsilon"].where(sized["epsilon"] != "minimal").astype(float) >= _FILE_EPSILON
    ]
    most = sized.sort_values("return_rate", kind="stable").groupby("model", sort=False).tail(1)
    unrounded = smallest[smallest["images_are"] == "unrounded"]
    return [
        replace(minimal, findings=tuple(map(_considerable, unrounded.to_dict("records")))),
        replace(larger, findings=tuple(map(_considerable, most.to_dict("records")))),
        tested(
            rounded,
            [
                Finding(row["model"], f"{row['images']} images", row["gain"], row["gain_low"],
                        row["gain_high"], row["gain_p"], "not decided")
                for row in smallest[smallest["images_are"] == "rounded"].to_dict("records")
            ],
        ),
    ]  # fmt: skip


def _considerable(row: dict[Any, Any]) -> Finding:
    rate, low, high = (float(row[key]) for key in ("return_rate", "ci_low", "ci_high"))
    verdict = above(low - CONSIDERABLE, high - CONSIDERABLE)
    condition = f"epsilon {row['epsilon']}, {row['images']} images"
    return Finding(str(row["model"]), condition, rate, low, high, np.nan, verdict)
