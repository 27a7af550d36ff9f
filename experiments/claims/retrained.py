"""What retraining on images with changed pixels buys: Section 6.2, Eq. 6, Tables 10 and 11."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.claims.findings import (
    Claim,
    Finding,
    alike,
    images_needed,
    mean_finding,
    near,
    only_of_the_paper,
    rate_interval,
    simultaneous,
    tested,
)
from experiments.paper import PAPERS_NUMS, PAPERS_RETRAINED, STILL_FOOL, within_paper
from experiments.stored import Run
from pixelrobust.outcomes.kinds import HELDOUT, ORIGINAL, SAME
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.paired import MARGIN, compare_pairs, unseen_bound
from pixelrobust.statistics.rates import CONFIDENCE, WrongShares
from pixelrobust.tables.retraining import (
    Contrast,
    SeedShares,
    changes_by_image,
    contrast,
    contrast_of_rises,
    find_references,
    fooled_shares,
    most_telling,
    of_the_smallest_epsilon,
    pool_seeds,
    retrained_on_pixels,
)

_NUM = PAPERS_NUMS[-1]
_MEASURES = (
    "once on images that all compared networks are right about unchanged, once as the difference in "
    "differences (wrong there minus wrong unchanged)"
)
_IMAGES = {SAME: "the {} images trained on", HELDOUT: "{} held-out images"}
_OVER_SEEDS = (
    "and the interval over images, and over seeds where there are several, on one side of 0"
)
# How the paper's network of Table 11 is called, ResNet101-4.
_FOUR = "-4"


def retraining(runs: Mapping[str, Run]) -> list[Claim]:
    """Decide the claims on Table 10, in Section 6.2, and that of the abstract on other augmentation."""
    unharmed = Claim(
        "retraining-unharmed",
        "Retraining does not change the recognition of unchanged images",
        "Section 6.2",
        "",
        "points of wrong rate on unchanged images more than the original network with the same classes; "
        "where that has other classes, than the one retrained on unchanged images",
        "equivalence within one point (two one-sided tests in pairs of images); an interval wholly "
        "beyond one point refutes; both Bonferroni-corrected, for networks of just these seeds",
    )
    robust = Claim(
        "retraining-robust",
        "Retraining on images with changed pixels makes networks more robust to changed pixels",
        "Section 6.2, Table 10",
        "",
        f"points of wrong rate at {_NUM} pixels less than after retraining on unchanged images, {_MEASURES}",
        f"tests in pairs of images, {_OVER_SEEDS}",
    )
    robust_all = replace(
        robust, key="retraining-robust-all", sentence="The same where all layers are retrained"
    )
    fewer = Claim(
        "fewer-pixels-better",
        "Networks retrained on fewer changed pixels recognise better than those on more",
        "Section 6.2, Table 10",
        "",
        "points of wrong rate, mean of all test nums, of the network of most pixels minus fewest, "
        f"{_MEASURES}",
        f"tests in pairs of images (sign-flip), {_OVER_SEEDS}",
    )
    traditional = Claim(
        "traditional-no-effect",
        "Traditional augmentation has no obvious effect on minor pixel changes: it makes networks no more "
        "robust to them",
        "Abstract, Section 1",
        "",
        f"points of wrong rate at {_NUM} pixels less than after retraining on unchanged images, {_MEASURES}",
        "interval in pairs of images, and over seeds where there are several, wholly below one point "
        "(one-sided); wholly above refutes; both Bonferroni-corrected",
    )
    if "table10-all" in runs:
        robust_all = _robust(robust_all, _Trained(runs["table10-all"][1]))
    if "table10" not in runs:
        return [unharmed, robust, robust_all, fewer, traditional]
    trained = _Trained(runs["table10"][1])
    return [
        _unharmed(unharmed, trained),
        _robust(robust, trained),
        robust_all,
        _fewer(fewer, trained),
        _traditional(traditional, trained),
    ]


def transfer(runs: Mapping[str, Run]) -> list[Claim]:
    """Decide the claims on Table 11, in Section 6.2."""
    still = Claim(
        "still-fool",
        "Of FGSM images made against the original network, 24.9 % still fool one retrained on images "
        "with 4 changed pixels",
        "Section 6.2, Table 11",
        f"{100 * STILL_FOOL:g} %",
        "adversarial images that still fool, in %, at the smallest epsilon",
        "exact interval within, or outside, one point of the published share; decided by the paper's "
        "network on ImageNet images only",
    )
    because = Claim(
        "fool-less-because-of-pixels",
        "That is what the changed pixels do, rather than any retraining",
        "Section 6.2, Table 11",
        "",
        "points of images that still fool, less than after retraining on unchanged images, at the "
        "smallest epsilon",
        "tests in pairs of images",
    )
    if "table11" not in runs:
        return [still, because]
    manifest = runs["table11"][0]
    rows = of_the_smallest_epsilon(runs["table11"][1])
    control = find_references(rows).get("unchanged")
    # The paper's number, and its claim, are of the network of so few pixels.
    model = next((name for name in retrained_on_pixels(rows) if name.endswith(_FOUR)), None)
    if model is None:
        return [still, because]
    findings, differences = [], []
    for rounded in (False, True):
        condition = "rounded to 8 bits" if rounded else "not rounded"
        of_kind = rows[rows["rounded"] == rounded]
        shares, seeds = fooled_shares(of_kind, model)
        interval = rate_interval(shares, seeds, simultaneous(2))
        finding = near(model, condition, shares, interval, STILL_FOOL)
        original = model.removesuffix(_FOUR)
        if original != PAPERS_RETRAINED:
            finding = replace(finding, verdict="not decided")
        findings.append(only_of_the_paper(finding, manifest, [original], [original]))
        if control:
            other, _ = fooled_shares(of_kind, control)
            differences.append(_less(model, condition, other, shares))
    return [replace(still, findings=tuple(findings)), tested(because, differences)]


def distances(runs: Mapping[str, Run]) -> list[Claim]:
    """Decide the claims on distances to the boundary (Eq. 6)."""
    grows = Claim(
        "distance-grows",
        "Retraining on images with changed pixels increases the distance r of images to the boundary (of "
        "held-out ones where there are any, else of those trained on)",
        "Section 4, Eq. 6",
        "r' > r",
        "change of r (L2, pixels in [0, 1]), mean over images",
        "sign-flip test over images, t interval",
    )
    beyond = Claim(
        "distance-grows-because-of-pixels",
        "It increases more, and not less, than by retraining on unchanged images (a control)",
        "not in the paper",
        "",
        "change of r (L2, pixels in [0, 1]), mean over images",
        "sign-flip test over images, t interval",
    )
    if "distances" not in runs:
        return [grows, beyond]
    rows = runs["distances"][1]
    kind = most_telling(rows)
    own = rows[rows["images_are"] == kind]
    references = find_references(rows)
    claims = []
    for claim, reference in ((grows, "baseline"), (beyond, "unchanged")):
        name = references.get(reference)
        changes = {
            model: np.asarray(changes_by_image(own, model, name), dtype=np.float64)
            for model in retrained_on_pixels(rows)
            if name
        }
        found = [
            mean_finding(model, _IMAGES[kind].format(len(values)), values, math.inf)
            for model, values in changes.items()
            if len(values)
        ]
        claims.append(_say_less(tested(claim, found)))
    return claims


def _say_less(claim: Claim) -> Claim:
    """Say of findings against the claim that distances are less, not just no larger."""
    return replace(
        claim,
        findings=tuple(
            replace(each, condition=f"{each.condition}, less")
            if each.verdict == "does not hold"
            else each
            for each in claim.findings
        ),
    )


class _Trained:
    """Rows of Table 10, of the test images that say most.

    Attributes:
        kind: which test images these are.
        rows: of them.
        nums: of changed pixels without limits, rising, as far as the paper's go.
        networks: retrained on changed pixels, from the fewest to the most.
        references: see `find_references`.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self.kind = most_telling(rows)
        self.rows = within_paper(rows[rows["images_are"] == self.kind])
        self.nums = WrongShares(self.rows).nums
        self.networks = retrained_on_pixels(rows)
        self.references = find_references(rows)

    @property
    def compared(self) -> list[str]:
        """Return the networks that must be right about an image unchanged."""
        return [*self.references.values(), *self.networks]


def _unharmed(claim: Claim, trained: _Trained) -> Claim:
    reference = next(iter(trained.references.values()), None)
    if reference is None:
        return claim
    table, cell = WrongShares(pool_seeds(trained.rows)), Cell(0)
    against = "" if reference.endswith(ORIGINAL) else f", against {reference}"
    findings = [
        alike(
            model,
            f"{trained.kind} images{against}",
            table.of(model, cell),
            [table.of(reference, cell)],
            len(trained.networks),
        )
        for model in trained.networks
        if table.has(model, cell) and table.has(reference, cell)
    ]
    return replace(claim, findings=tuple(findings))


def _robust(claim: Claim, trained: _Trained) -> Claim:
    control = trained.references.get("unchanged")
    if not control or _NUM not in trained.nums:
        return claim
    cell = Cell(_NUM)
    pairs = [(model, control) for model in trained.networks]
    where = f"{trained.kind} images, {cell.num} pixels"
    found = _contrasts(trained, trained.compared, pairs, [cell], where)
    return tested(claim, [each.finding for each in found])


def _fewer(claim: Claim, trained: _Trained) -> Claim:
    networks = trained.networks
    if len(networks) < 2 or not trained.nums:
        return claim
    cells, ends = [Cell(num) for num in trained.nums], (networks[0], networks[-1])
    found = _contrasts(trained, trained.compared, [ends], cells, f"{trained.kind} images")
    return tested(claim, [replace(each.finding, subject=" and ".join(ends)) for each in found])


def _traditional(claim: Claim, trained: _Trained) -> Claim:
    control = trained.references.get("unchanged")
    others = [
        str(model) for model in trained.rows["model"].unique() if str(model) not in trained.compared
    ]
    if not control or not others or _NUM not in trained.nums:
        return claim
    cell, pairs = Cell(_NUM), [(model, control) for model in others]
    where, compared = f"{trained.kind} images, {cell.num} pixels", [control, *others]
    findings = 2 * len(others)
    confidence = simultaneous(findings)
    # Of a one-sided test at this level, and of what refutes.
    level = 2 * confidence - 1
    within, beyond = (
        _contrasts(trained, compared, pairs, [cell], where, each) for each in (level, confidence)
    )
    return replace(
        claim,
        findings=tuple(
            _no_better(inner, outer.finding, level, findings)
            for inner, outer in zip(within, beyond, strict=True)
        ),
    )


class _Compared(NamedTuple):
    """Hold what one comparison of two networks found.

    Attributes:
        finding: by how much the first is less often wrong.
        images: how many.
        largest: how many points one image can add to a hundred points of images.
    """

    finding: Finding
    images: int
    largest: int


def _no_better(inner: _Compared, outer: Finding, level: float, findings: int) -> Finding:
    """Find whether a network is less often wrong by less than the margin."""
    finding, images, largest = inner
    # As in an equivalence test: images of a kind of which there is none here may differ.
    high = max(finding.high, finding.estimate + largest * unseen_bound(images, level))
    if high < MARGIN:
        return replace(finding, high=high, p=np.nan, verdict="holds")
    if outer.low > MARGIN:
        return replace(outer, p=np.nan, verdict="does not hold")
    needed = images_needed(images, findings, MARGIN / largest)
    return replace(finding, high=high, p=np.nan, images_needed=needed)


def _contrasts(
    trained: _Trained,
    compared: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    cells: Sequence[Cell],
    where: str,
    confidence: float = CONFIDENCE,
) -> list[_Compared]:
    """Compare networks in pairs by both measures: by how much the first is less often wrong.

    Args:
        trained: the rows.
        compared: networks that must be right about an image unchanged.
        pairs: of networks.
        cells: wrong rates are means of these.
        where: the condition of the findings.
        confidence: of the intervals, over images and seeds.
    """
    right, whole = (SeedShares(trained.rows, compared, right) for right in (True, False))
    found = []
    for own, other in pairs:
        if not (whole.has(own, *cells) and whole.has(other, *cells)):
            continue
        if right.images:
            pair = contrast(right.of(other, *cells), right.of(own, *cells), confidence)
            condition = f"{where}, {pair.images} right unchanged"
            found.append(_compared(own, condition, pair, 1))
        if whole.has(own, Cell(0)) and whole.has(other, Cell(0)):
            pair = contrast_of_rises(whole, other, own, *cells, confidence=confidence)
            found.append(_compared(own, f"{where}, rise from unchanged", pair, 2))
    return found


def _compared(subject: str, condition: str, pair: Contrast, largest: int) -> _Compared:
    finding = Finding(subject, condition, pair.mean, pair.seeds_low, pair.seeds_high, pair.p)
    return _Compared(finding, pair.images, largest)


def _less(
    subject: str, condition: str, other: NDArray[np.float64], own: NDArray[np.float64]
) -> Finding:
    """Compare shares: by how much the own is below the other, which the claim says it is."""
    found = compare_pairs(other, own)
    return Finding(subject, condition, found.mean, found.low, found.high, found.p)
