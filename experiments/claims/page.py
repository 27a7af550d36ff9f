"""Claims as they are shown: `claims.md` and `claims.csv`, and their section of a results page."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from experiments import claims as rules
from experiments.captions import images_notes
from experiments.claims import Claim, Finding, decide_claims
from experiments.claims.findings import Verdict
from experiments.paper import CLAIMS
from experiments.writing import Presented, words_as_markdown
from pixelrobust.errors import InputError, escape_paragraph
from pixelrobust.files import write_text
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.report.page import (
    Block,
    Disclosure,
    Judged,
    Section,
    Text,
    Verdicts,
    table_for_reading,
    table_of_csv,
)
from pixelrobust.tables.rates import significant, write_csv
from pixelrobust.tables.survival import readable_p

_TITLE = "Which of the paper's claims hold"
_CSV_COLUMNS = ["claim", *(field.name for field in fields(Finding)), "unit", "test"]
_PERCENT_UNITS = ("%", "points")
_OPEN: Verdict = "not decided"
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


def write_claims(directory: Path, manifest: Manifest, claims: Sequence[Claim]) -> Presented:
    """Write `claims.md`, a row a claim, and `claims.csv`, a row a finding.

    Args:
        directory: where to.
        manifest: of the run whose images the captions name.
        claims: from `experiments.claims.decide_claims`.
    """
    findings = [
        {"claim": claim.key, **asdict(finding), "unit": claim.unit, "test": claim.test}
        for claim in claims
        for finding in claim.findings
    ]
    write_csv(pd.DataFrame(findings, columns=_CSV_COLUMNS), directory / f"{CLAIMS}.csv")
    notes = _notes(manifest)
    rows = [_row(claim) for claim in claims]
    table = pd.DataFrame(rows, columns=["Claim", "Paper", "Here", "Test", "Verdict"])
    verdicts = table[["Claim", "Paper", "Verdict"]]
    parts = [
        f"# {_TITLE}",
        words_as_markdown(verdicts),
        *map(escape_paragraph, notes),
        "## What decided",
        words_as_markdown(table[["Claim", "Here", "Test"]]),
    ]
    write_text(directory / f"{CLAIMS}.md", "\n\n".join(parts) + "\n")
    return Presented(_TITLE, verdicts, notes)


def _notes(manifest: Manifest) -> list[str]:
    """Return how claims are decided, and the images of the run that their captions name."""
    return [" ".join((rules.__doc__ or "").split()), *images_notes(manifest, None)]


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
    judged = [
        Judged(
            claim.sentence,
            ": ".join(text for text in (claim.where, claim.published) if text),
            _verdicts_by_subject(claim),
            _details(claim),
        )
        for claim in claims
    ]
    counts = [(word, count) for word, count in _count(claims).items() if count]
    blocks: list[Block] = [
        Text("Open a claim to see every estimate, interval and test."),
        Verdicts(judged, counts),
    ]
    if manifest:
        notes = [Text(note) for note in _notes(manifest)]
        blocks.append(Disclosure("How claims are decided, and on which images", notes))
    blocks += [
        Disclosure(f"All findings, as in {CLAIMS}.csv", [table_of_csv(path)]),
        Disclosure("Runs behind the claims", sources),
    ]
    return Section("claims", _TITLE, blocks)


def _row(claim: Claim) -> tuple[str, str, str, str, str]:
    paper = ": ".join(text for text in (claim.where, claim.published) if text)
    if not claim.findings:
        return claim.sentence, paper, "not measured in these runs", claim.test, _OPEN
    found = [
        f"{subject}: {'; '.join(_number(claim, f) for f in own)}"
        for subject, own in _by_subject(claim)
    ]
    verdicts = [f"{word}: {who}" if who else word for word, who in _verdicts_by_subject(claim)]
    here = "\n".join([f"{claim.unit}:", *found])
    return claim.sentence, paper, here, claim.test, "\n".join([*verdicts, *_too_few(claim)])


def _too_few(claim: Claim) -> list[str]:
    """Return a sentence where images are too few to decide even the clearest case; else nothing."""
    needed = [f.images_needed for f in claim.findings if not np.isnan(f.images_needed)]
    if not needed:
        return []
    some = "" if len(needed) == len(claim.findings) else "some of "
    return [
        f"Even if no image differed, these could not decide {some}it: that takes {max(needed):,.0f}."
    ]


def _by_subject(claim: Claim) -> list[tuple[str, list[Finding]]]:
    groups: dict[str, list[Finding]] = {}
    for finding in claim.findings:
        groups.setdefault(finding.subject, []).append(finding)
    return list(groups.items())


def _number(claim: Claim, finding: Finding) -> str:
    estimate, interval, p = _finding_numbers(claim, finding)
    text = f"{finding.condition}: {estimate}" if finding.condition else estimate
    text += f" ({interval})" if interval else ""
    return text + (f", p {p}" if p.startswith("<") else f", p = {p}" if p else "")


def _finding_numbers(claim: Claim, finding: Finding) -> tuple[str, str, str]:
    """Return estimate, interval and p-value as text, in the claim's unit; empty where there is none."""
    scale = 100 if any(unit in claim.unit for unit in _PERCENT_UNITS) else 1
    estimate, low, high = (
        significant(scale * value) for value in (finding.estimate, finding.low, finding.high)
    )
    interval = "" if np.isnan(finding.low) else f"{low} to {high}"
    return estimate, interval, "" if np.isnan(finding.p) else readable_p(finding.p)


def _verdicts_by_subject(claim: Claim) -> list[tuple[str, str]]:
    """Return each verdict of the findings, and whose it is; nobody's where all findings agree."""
    said: dict[str, dict[str, list[str]]] = {}
    for finding in claim.findings:
        said.setdefault(finding.verdict, {}).setdefault(finding.subject, []).append(
            finding.condition
        )
    if len(said) <= 1:
        return [(next(iter(said), _OPEN), "")]
    counts = {subject: len(own) for subject, own in _by_subject(claim)}
    parts = []
    for verdict, subjects in said.items():
        who = [
            subject
            if len(conditions) == counts[subject]
            else f"{subject} at {', '.join(conditions)}"
            for subject, conditions in subjects.items()
        ]
        parts.append((verdict, ", ".join(who)))
    return parts


def _count(claims: Sequence[Claim]) -> dict[str, int]:
    """Return how many claims hold, do not, are not decided, or differ by network."""
    counts = dict.fromkeys((*get_args(Verdict), _MIXED), 0)
    for claim in claims:
        words = {finding.verdict for finding in claim.findings} or {_OPEN}
        counts[next(iter(words)) if len(words) == 1 else _MIXED] += 1
    return counts


def _details(claim: Claim) -> list[Block]:
    if not claim.findings:
        return [Text("Not measured in these runs."), Text(f"Test: {claim.test}.")]
    rows = [
        (finding.subject, finding.condition, *_finding_numbers(claim, finding), finding.verdict)
        for finding in claim.findings
    ]
    table = pd.DataFrame(rows, columns=[*_HEADER])
    held = table.loc[:, (table != "").any()]
    return [
        Text(f"In {claim.unit}."), table_for_reading(held, f"Findings: {claim.sentence}"),
        Text(f"Test: {claim.test}."), *map(Text, _too_few(claim)),
    ]  # fmt: skip


def _finding(row: dict[str, object]) -> Finding:
    words: tuple[Verdict, ...] = get_args(Verdict)
    verdict = words[words.index(row["verdict"])]
    estimate, low, high, p = (float(str(row[key])) for key in ("estimate", "low", "high", "p"))
    condition = "" if pd.isna(row["condition"]) else str(row["condition"])  # type: ignore[call-overload]
    needed = float(str(row["images_needed"]))
    return Finding(str(row["subject"]), condition, estimate, low, high, p, verdict, needed)
