"""What a page concludes: the paper's claims, each with what decided, and networks side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import get_args

import pandas as pd

from experiments.claims import Claim, Finding, decide_claims
from experiments.claims.findings import LEVEL, Run
from experiments.claims.findings import Verdict as Word
from experiments.claims.page import claims_notes, finding_numbers, verdicts_by_subject
from experiments.paper import CLAIMS, TABLE_5, TABLE_5_SOURCES
from experiments.writing import Presented
from pixelrobust.errors import InputError
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.perturbation.grid import Cell
from pixelrobust.report.page import (
    Block,
    Disclosure,
    Heading,
    Section,
    Text,
    Verdict,
    Verdicts,
    table_for_reading,
    table_of_csv,
)
from pixelrobust.statistics.paired import holm, paired_test
from pixelrobust.statistics.rates import WrongShares
from pixelrobust.tables.rates import significant

_WORDS: tuple[Word, ...] = get_args(Word)
_MIXED = "differs by network"
# Of one claim, and of several.
_PHRASES = {
    "holds": ("holds for every network here", "hold for every network here"),
    "does not hold": ("does not", "do not"),
    "not decided": (
        "is not decided by these images and networks",
        "are not decided by these images and networks",
    ),
    _MIXED: (
        "comes out differently for different networks",
        "come out differently for different networks",
    ),
}
_HEADER = ("Network", "Where", "Estimate", "Interval", "p", "Verdict")
_LEADERBOARD = "Leaderboard: networks by Pixel-index"
_LIMITS_OF_IT = (
    "This ranks networks on these images only. Do not conclude that a network is better where the two are "
    "not told apart, nor that a Pixel-index here is a property of the network: it is that of one cell, and "
    "the column over cells says how far the others are from it. Networks of other runs, or other images, "
    "have no place in this ranking."
)


def stored_claims(path: Path | None) -> list[Claim]:
    """Return every claim with the findings that `claims.csv` holds; none without such a file.

    Raises:
        InputError: the file does not hold findings.
    """
    if path is None:
        return []
    findings: dict[str, list[Finding]] = {}
    try:
        for row in pd.read_csv(path).to_dict("records"):
            named = {str(name): value for name, value in row.items()}
            findings.setdefault(str(named["claim"]), []).append(_finding(named))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} does not hold findings; rebuild it.") from error
    claims = decide_claims({})
    return [replace(claim, findings=tuple(findings.get(claim.key, ()))) for claim in claims]


def said_of_claims(claims: Sequence[Claim]) -> list[str]:
    """Return a sentence on how many claims hold; nothing where there are none."""
    if not claims:
        return []
    counts = _count(claims)
    *others, last = [
        f"{count} {_PHRASES[word][count > 1]}" for word, count in counts.items() if count
    ]
    words = f"{', '.join(others)} and {last}" if others else last
    return [f"Of {len(claims)} claims, nearly all of them the paper's, {words}."]


def claims_section(
    claims: Sequence[Claim], path: Path, manifest: Manifest | None, sources: Sequence[Block]
) -> Section:
    """Return the claims, each of which opens to what decided it.

    Args:
        claims: with their findings.
        path: of the file that holds them.
        manifest: of the run whose images the captions name.
        sources: the runs behind.
    """
    verdicts = [
        Verdict(
            claim.sentence,
            ": ".join(text for text in (claim.where, claim.published) if text),
            verdicts_by_subject(claim),
            _details(claim),
        )
        for claim in claims
    ]
    counts = [(word, count) for word, count in _count(claims).items() if count]
    blocks: list[Block] = [
        Text("Open a claim to see every estimate, interval and test."),
        Verdicts(verdicts, counts),
    ]
    if manifest:
        notes = [Text(note) for note in claims_notes(manifest)]
        blocks.append(Disclosure("How claims are decided, and on which images", notes))
    blocks += [
        Disclosure(f"All findings, as in {CLAIMS}.csv", [table_of_csv(path)]),
        Disclosure("Runs behind the claims", sources),
    ]
    return Section("claims", "Which of the paper's claims hold", blocks)


def leaderboard(presented: Presented, runs: Mapping[str, Run]) -> list[Block]:
    """Return networks ranked by Pixel-index, and which of them these images do not tell apart.

    Args:
        presented: Table 5.
        runs: those that it was made of, by the experiment's name.
    """
    ranking = presented.beside.get(f"{TABLE_5.table}-ranking")
    if ranking is None:
        return []
    indices = presented.numbers
    unlimited = indices[indices["amplitude"].isna() & indices["area"].isna()]
    cell = Cell(int(unlimited["num"].max()))
    alike = _not_told_apart(cell, runs)
    ranking = ranking.sort_values("pixel_index", kind="stable")
    rows = [
        {
            "Place": f"{row['pi_rank']:.0f}",
            "Network": str(row["model"]),
            "Pixel-index (95 %)": (
                f"{significant(row['pixel_index'])} "
                f"({significant(row['pi_low'])}–{significant(row['pi_high'])})"
            ),
            "Accuracy (%)": f"{100 * row['accuracy']:.1f}",
            "Pi over cells": f"{significant(row['smallest'])} to {significant(row['largest'])}",
            "Not told apart from": ", ".join(alike.get(str(row["model"]), [])) or "none",
        }
        for _, row in ranking.iterrows()
    ]
    count, pairs = sum(map(len, alike.values())) // 2, len(alike) * (len(alike) - 1) // 2
    return [
        Heading(_LEADERBOARD),
        Text(
            f"By the Pixel-index at {cell.num:,} changed pixels anywhere in the image, of any value; "
            "smaller is more robust. Accuracy is on all candidates, unchanged."
        ),
        table_for_reading(pd.DataFrame(rows), _LEADERBOARD),
        Text(
            f"{count} of {pairs} pairs of networks are not told apart: paired tests of their wrong "
            f"predictions on the same images, p {LEVEL:g} or more after Holm's correction."
        ),
        Text(_LIMITS_OF_IT, marked=True),
        Heading("Every cell"),
    ]


def _not_told_apart(cell: Cell, runs: Mapping[str, Run]) -> dict[str, list[str]]:
    """Return, for each network, those whose wrong rates in this cell could be the same."""
    tables = (WrongShares(runs[name][1]) for name in TABLE_5_SOURCES)
    shares = next(own for own in tables if any(own.has(model, cell) for model in own.models))
    models = [model for model in shares.models if shares.has(model, cell)]
    pairs = list(combinations(models, 2))
    adjusted = holm(
        [paired_test(shares.of(one, cell), shares.of(two, cell), shares.draws) for one, two in pairs]
    )  # fmt: skip
    alike: dict[str, list[str]] = {model: [] for model in models}
    for (one, two), p in zip(pairs, adjusted, strict=True):
        if p >= LEVEL:
            alike[one].append(two)
            alike[two].append(one)
    return alike


def _count(claims: Sequence[Claim]) -> dict[str, int]:
    """Return how many claims hold, do not, are not decided, or differ by network."""
    counts = dict.fromkeys((*_WORDS, _MIXED), 0)
    for claim in claims:
        words = {finding.verdict for finding in claim.findings} or {"not decided"}
        counts[next(iter(words)) if len(words) == 1 else _MIXED] += 1
    return counts


def _details(claim: Claim) -> list[Block]:
    if not claim.findings:
        return [Text("Not measured in these runs."), Text(f"Test: {claim.test}.")]
    rows = [
        (finding.subject, finding.condition, *finding_numbers(claim, finding), finding.verdict)
        for finding in claim.findings
    ]
    table = pd.DataFrame(rows, columns=[*_HEADER])
    held = table.loc[:, (table != "").any()]
    return [
        Text(f"In {claim.unit}."), table_for_reading(held, f"Findings: {claim.sentence}"),
        Text(f"Test: {claim.test}."),
    ]  # fmt: skip


def _finding(row: dict[str, object]) -> Finding:
    verdict = _WORDS[_WORDS.index(row["verdict"])]
    estimate, low, high, p = (float(str(row[key])) for key in ("estimate", "low", "high", "p"))
    condition = "" if pd.isna(row["condition"]) else str(row["condition"])  # type: ignore[call-overload]
    return Finding(str(row["subject"]), condition, estimate, low, high, p, verdict)
