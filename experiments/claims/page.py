"""The page of claims: what the paper says, what was found, and whether it holds."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd

from experiments import claims as rules
from experiments.captions import images_notes
from experiments.claims import Claim, Finding
from experiments.paper import CLAIMS
from experiments.writing import Presented
from pixelrobust.errors import escape_markdown, escape_paragraph
from pixelrobust.files import write_text
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.tables.rates import significant, write_csv
from pixelrobust.tables.survival import readable_p

_TITLE = "Which of the paper's claims hold"
_CSV_COLUMNS = ["claim", *(field.name for field in fields(Finding)), "unit", "test"]
_PERCENT_UNITS = ("%", "points")
_NOTHING_STORED = "not decided"


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
    notes = claims_notes(manifest)
    rows = [_row(claim) for claim in claims]
    table = pd.DataFrame(rows, columns=["Claim", "Paper", "Here", "Test", "Verdict"])
    verdicts = table[["Claim", "Paper", "Verdict"]]
    parts = [
        f"# {_TITLE}",
        _markdown(verdicts),
        *map(escape_paragraph, notes),
        "## What decided",
        _markdown(table[["Claim", "Here", "Test"]]),
    ]
    write_text(directory / f"{CLAIMS}.md", "\n\n".join(parts) + "\n")
    return Presented(_TITLE, verdicts, notes)


def claims_notes(manifest: Manifest) -> list[str]:
    """Return how claims are decided, and the images of the run that their captions name."""
    return [" ".join((rules.__doc__ or "").split()), *images_notes(manifest, None)]


def _markdown(table: pd.DataFrame) -> str:
    """A table whose cells may have several lines."""
    cells = table.map(lambda text: "<br>".join(escape_markdown(line) for line in text.splitlines()))
    return str(cells.to_markdown(index=False, disable_numparse=True))


def _row(claim: Claim) -> tuple[str, str, str, str, str]:
    paper = ": ".join(text for text in (claim.where, claim.published) if text)
    if not claim.findings:
        return claim.sentence, paper, "not measured in these runs", claim.test, _NOTHING_STORED
    found = [f"{subject}: {_numbers(claim, own)}" for subject, own in _by_subject(claim)]
    return (
        claim.sentence,
        paper,
        "\n".join([f"{claim.unit}:", *found]),
        claim.test,
        _verdict(claim),
    )


def _by_subject(claim: Claim) -> list[tuple[str, list[Finding]]]:
    groups: dict[str, list[Finding]] = {}
    for finding in claim.findings:
        groups.setdefault(finding.subject, []).append(finding)
    return list(groups.items())


def _numbers(claim: Claim, findings: list[Finding]) -> str:
    return "; ".join(_number(claim, finding) for finding in findings)


def _number(claim: Claim, finding: Finding) -> str:
    estimate, interval, p = finding_numbers(claim, finding)
    text = f"{finding.condition}: {estimate}" if finding.condition else estimate
    if interval:
        text += f" ({interval})"
    if not p:
        return text
    return f"{text}, p {p}" if p.startswith("<") else f"{text}, p = {p}"


def finding_numbers(claim: Claim, finding: Finding) -> tuple[str, str, str]:
    """Estimate, interval and p-value as text, in the claim's unit; empty where there is none."""
    scale = 100 if any(unit in claim.unit for unit in _PERCENT_UNITS) else 1
    estimate, low, high = (
        significant(scale * value) for value in (finding.estimate, finding.low, finding.high)
    )
    interval = "" if np.isnan(finding.low) else f"{low} to {high}"
    return estimate, interval, "" if np.isnan(finding.p) else readable_p(finding.p)


def _verdict(claim: Claim) -> str:
    """One word where all findings agree, else who says what."""
    return "\n".join(f"{word}: {who}" if who else word for word, who in verdicts_by_subject(claim))


def verdicts_by_subject(claim: Claim) -> list[tuple[str, str]]:
    """Each verdict of a claim's findings, and of whom it is; of nobody where all findings agree."""
    said: dict[str, dict[str, list[str]]] = {}
    for finding in claim.findings:
        said.setdefault(finding.verdict, {}).setdefault(finding.subject, []).append(
            finding.condition
        )
    if len(said) <= 1:
        return [(next(iter(said), _NOTHING_STORED), "")]
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
