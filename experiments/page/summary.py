"""The first words of a page: what was measured, on which images, and what came out."""

from collections.abc import Sequence

import pandas as pd

from experiments.claims import Claim
from experiments.page.folder import Stored
from experiments.page.verdicts import count_verdicts
from pixelrobust.report.axes import numbers
from pixelrobust.tables import percent

_FIRST = ("table6", "table", "breakdown", "table10")
# More are summed up.
_MOST_NAMED = 4


def lead(stored: Stored, claims: Sequence[Claim]) -> list[str]:
    """At most three sentences."""
    run = main_run(stored)
    sentences = [
        _measured(stored, run) if run else "No record of a run lies in this folder.",
        _came_out(stored, run),
        _claimed(claims),
    ]
    return [sentence for sentence in sentences if sentence]


def main_run(stored: Stored) -> str | None:
    """The run that says most about the others; None where there is none."""
    known = [*_FIRST, *stored.manifests]
    return next((run for run in known if run in stored.manifests), None)


def _measured(stored: Stored, run: str) -> str:
    manifest = stored.manifests[run]
    models = list(manifest.weights_sha256) or list(manifest.rejected)
    draws = "once" if manifest.draws == 1 else f"{manifest.draws:,} times"
    return (
        f"{manifest.images:,} images ({manifest.description}) were shown to {_listing(models)} with "
        f"{_nums(stored, run)} changed, {draws} for each number of pixels."
    )


def _nums(stored: Stored, run: str) -> str:
    table = stored.table(run)
    if table is None or "num" not in table:
        return "random pixels"
    nums = numbers(table, "num")["num"]
    nums = nums[nums > 0]
    if nums.empty:
        return "no pixels"
    least, most = int(nums.min()), int(nums.max())
    return f"{least:,} random pixels" if least == most else f"{least:,} to {most:,} random pixels"


def _came_out(stored: Stored, run: str | None) -> str:
    """Wrong rates at the largest number of changed pixels."""
    table = stored.table(run) if run else None
    if table is None or not {"model", "num", "wrong_rate", "ci_low", "ci_high"} <= set(
        table.columns
    ):
        return ""
    table = numbers(table, "num", "wrong_rate", "ci_low", "ci_high")
    if "images_are" in table:
        # Of networks that were trained, others' images say most.
        table = table[table["images_are"] == table["images_are"].iloc[-1]]
    largest = table[table["num"] == table["num"].max()]
    largest = largest.sort_values("wrong_rate", ascending=False, kind="stable")
    if largest.empty:
        return ""
    num = int(largest["num"].iloc[0])
    if len(largest) <= _MOST_NAMED:
        rates = _listing([f"{_rate(row)} of {row.model}" for row in largest.itertuples()])
        return f"With {num:,} pixels changed, the share of wrong predictions (with its 95 % interval) was {rates}."
    ends = [f"{_rate(row)} of {row.model}" for row in largest.iloc[[-1, 0]].itertuples()]
    return (
        f"With {num:,} pixels changed, the share of wrong predictions (95 % interval) went from "
        f"{ends[0]} to {ends[1]}."
    )


def _rate(row: "pd._Row") -> str:  # type: ignore[name-defined]
    low, high = percent(row.ci_low), percent(row.ci_high)
    return f"{percent(row.wrong_rate)}\N{NO-BREAK SPACE}% ({low}–{high})"


def _claimed(claims: Sequence[Claim]) -> str:
    if not claims:
        return ""
    counts = count_verdicts(claims)
    words = _listing(
        [f"{count} {_PHRASES[word][count > 1]}" for word, count in counts.items() if count]
    )
    return f"Of {len(claims)} claims, nearly all of them the paper's, {words}."


# Of one claim, and of several.
_PHRASES = {
    "holds": ("holds for every network here", "hold for every network here"),
    "does not hold": ("does not", "do not"),
    "not decided": (
        "is not decided by these images and networks",
        "are not decided by these images and networks",
    ),
    "differs by network": (
        "comes out differently for different networks",
        "come out differently for different networks",
    ),
}


def _listing(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
