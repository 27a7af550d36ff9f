"""The paper's claims on the page, each with what decided."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pandas as pd

from experiments.claims import Claim, Finding, decide_claims
from experiments.claims.findings import Verdict as Word
from experiments.claims.page import finding_numbers, verdicts_by_subject
from experiments.page.folder import Stored
from experiments.page.provenance import source_lines
from experiments.paper import CLAIMS
from pixelrobust.errors import InputError
from pixelrobust.report import (
    Block,
    Disclosure,
    Section,
    TableBlock,
    Text,
    Verdict,
    Verdicts,
    text_grid,
)

_WORDS: tuple[Word, ...] = get_args(Word)
_MIXED = "differs by network"
_HEADER = ("Network", "Where", "Estimate", "Interval", "p", "Verdict")


def stored_claims(stored: Stored) -> list[Claim]:
    """Every claim with the findings that `claims.csv` holds; none where there is no such file.

    Raises:
        InputError: the file does not hold findings.
    """
    if CLAIMS not in stored.tables:
        return []
    table = stored.table(CLAIMS)
    findings: dict[str, list[Finding]] = {}
    for row in [] if table is None else table.to_dict("records"):
        try:
            key, finding = str(row["claim"]), _finding({str(name): row[name] for name in row})
        except (KeyError, ValueError, TypeError) as error:
            path = stored.tables[CLAIMS]
            raise InputError(f"{path} does not hold findings; rebuild it.") from error
        findings.setdefault(key, []).append(finding)
    claims = decide_claims({})
    return [replace(claim, findings=tuple(findings.get(claim.key, ()))) for claim in claims]


def count_verdicts(claims: Sequence[Claim]) -> dict[str, int]:
    """How many claims hold, do not, are not decided, or differ by network."""
    counts = dict.fromkeys((*_WORDS, _MIXED), 0)
    for claim in claims:
        words = {finding.verdict for finding in claim.findings} or {"not decided"}
        counts[next(iter(words)) if len(words) == 1 else _MIXED] += 1
    return counts


def claims_section(stored: Stored, claims: Sequence[Claim]) -> Section:
    """The claims, each of which opens to what decided it."""
    verdicts = [
        Verdict(
            claim.sentence,
            ": ".join(text for text in (claim.where, claim.published) if text),
            verdicts_by_subject(claim),
            _details(claim),
        )
        for claim in claims
    ]
    document = stored.documents.get(CLAIMS)
    notes = [piece.text for piece in document.pieces if piece.kind == "text"] if document else []
    counts = [(word, count) for word, count in count_verdicts(claims).items() if count]
    lead = Text("Open a claim to see every estimate, interval and test.")
    rules: list[Block] = (
        [Disclosure("How claims are decided, and on which images", [*map(Text, notes)])]
        if notes
        else []
    )
    numbers = Disclosure(
        f"All findings, as in {CLAIMS}.csv", [TableBlock(stored.grid(CLAIMS), "All findings")]
    )
    blocks = [lead, Verdicts(verdicts, counts), *rules, numbers]
    sources = Disclosure("Runs behind the claims", source_lines(stored, CLAIMS))
    return Section("claims", "Which of the paper's claims hold", [*blocks, sources])


def _details(claim: Claim) -> list[Block]:
    if not claim.findings:
        return [Text("Not measured in these runs."), Text(f"Test: {claim.test}.")]
    rows = [
        (finding.subject, finding.condition, *finding_numbers(claim, finding), finding.verdict)
        for finding in claim.findings
    ]
    held = [index for index in range(len(_HEADER)) if any(row[index] for row in rows)]
    grid = text_grid([_HEADER[i] for i in held], [[row[i] for i in held] for row in rows])
    return [
        Text(f"In {claim.unit}."), TableBlock(grid, f"Findings: {claim.sentence}"),
        Text(f"Test: {claim.test}."),
    ]  # fmt: skip


def _finding(row: dict[str, object]) -> Finding:
    verdict = _WORDS[_WORDS.index(row["verdict"])]
    estimate, low, high, p = (float(str(row[key])) for key in ("estimate", "low", "high", "p"))
    condition = "" if pd.isna(row["condition"]) else str(row["condition"])  # type: ignore[call-overload]
    return Finding(str(row["subject"]), condition, estimate, low, high, p, verdict)
