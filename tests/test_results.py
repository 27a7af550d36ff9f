"""The committed results are what the committed outcomes say."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest

from experiments.configuration import preset_settings
from experiments.paper import beside_published, published_rates
from experiments.present import derive, load_run, present, stored_runs
from pixelrobust import InputError
from pixelrobust.manifest import Manifest, merge_manifests
from pixelrobust.outcomes import CELL_COLUMNS, COLUMNS
from pixelrobust.tables import summarize
from tests.conftest import REPOSITORY

RESULTS = REPOSITORY / "results"
PROFILES = ("bundled", "imagenet-samples")
ALL_PROFILES = (*PROFILES, "cifar10-sample")
RUNS = [
    (profile, path.stem)
    for profile in ALL_PROFILES
    for path in sorted((RESULTS / profile / "outcomes").glob("*.json"))
]
EVALUATION = {"table6", "table7", "table8", "table9", "amplification", "breakdown"}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_whole_evaluation_is_committed(profile: str) -> None:
    assert {name for own, name in RUNS if own == profile} >= EVALUATION
    files = {path.name for path in (RESULTS / profile).iterdir()}
    tables = {*(f"table{number}" for number in range(1, 10)), "pixels-to-flip", "amplification"}
    assert files >= {f"{table}.{end}" for table in tables for end in ("csv", "md", "tex")}
    figures = {"figure8", "figure9", "figure10", "returns", "pixel-index", "pixels-to-flip"}
    assert files >= {f"{figure}.{end}" for figure in figures for end in ("png", "pdf")}
    assert "claims.md" in files
    # Its pictures show images that are not free to pass on.
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", f"results/{profile}/figure1.png"], cwd=REPOSITORY
    )
    assert ignored.returncode == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_the_retraining_is_committed(profile: str) -> None:
    assert {name for own, name in RUNS if own == profile} >= {"table10", "table11"}
    files = {path.name for path in (RESULTS / profile).iterdir()}
    assert files >= {"table10.md", "table11.md", "waterfall.png", "table10.png", "retraining.png"}


@pytest.mark.parametrize("profile", ALL_PROFILES)
def test_tables_are_rebuilt_from_their_outcomes(profile: str, tmp_path: Path) -> None:
    runs = stored_runs(RESULTS / profile)
    for run in runs.values():
        present(tmp_path, *run)
    derive(tmp_path, runs)
    rebuilt = sorted(path for path in tmp_path.iterdir() if path.suffix in (".csv", ".md", ".tex"))
    assert len(rebuilt) > 3 * len(runs)
    for path in rebuilt:
        assert path.read_text() == (RESULTS / profile / path.name).read_text(), path.name


@pytest.mark.parametrize(("profile", "name"), RUNS)
def test_committed_outcomes_are_complete_and_unmodified_presets(profile: str, name: str) -> None:
    manifest, rows = load_run(RESULTS / profile, name)
    preset = preset_settings(name, profile)
    assert preset is not None
    assert manifest.config == preset.identity()
    assert not manifest.software["uncommitted_changes"]
    if list(rows.columns) == COLUMNS:
        cells = rows.groupby(["model", *CELL_COLUMNS], observed=True, dropna=False).size()
        changed = cells.index.get_level_values("num") > 0
        assert set(cells[changed]) == {manifest.images * manifest.draws}
        assert set(cells[~changed]) == {manifest.images}
        assert len(cells) == len(preset.models) * len(preset.perturbation.cells())
    elif "epsilon" in rows and "num" in rows:
        assert preset.attack
        epsilons = {str(epsilon).removesuffix(".0") for epsilon in preset.attack.epsilon}
        assert set(rows["epsilon"]) == epsilons
        assert (
            rows.groupby(["model", "epsilon"], observed=True)["image"]
            .nunique()
            .le(min(manifest.images, preset.attack.wanted))
            .all()
        )


def test_no_machine_is_named_in_what_is_committed() -> None:
    for profile in PROFILES:
        for path in (RESULTS / profile).rglob("*.json"):
            assert str(Path.home()) not in path.read_text()
            assert '"/' not in path.read_text()


def test_published_rates_stand_beside_ours() -> None:
    assert published_rates("table6").set_index(["model", "num"]).loc[("resnet101", 64)][
        "published_wrong_rate"
    ] == pytest.approx(0.05)
    outcomes = pd.DataFrame(
        {"model": ["resnet101"] * 4, "num": [64] * 4, "amplitude": [pd.NA] * 4, "area": [pd.NA] * 4,
         "image": list("abcd"), "draw": [0] * 4, "wrong": [True, False, False, False]}
    )  # fmt: skip
    row = beside_published(summarize(outcomes), "table6").iloc[0]
    assert row["difference"] == pytest.approx(0.25 - 0.05)


def manifest(**changes: object) -> Manifest:
    values = {
        "name": "run", "config": {"seed": 0}, "draws": 1, "image_size": (4, 4),
        "amplitude_share": "range", "description": "x", "caveat": "", "candidates": 3,
        "survivors": 2, "images": 2, "rejected": {}, "image_list_sha256": "a",
        "weights_sha256": {"m": "w"},
    }  # fmt: skip
    return Manifest(**(values | changes))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"image_list_sha256": "b", "images": 5}, r"different image lists \(2 and 5 images\)"),
        ({"draws": 2}, "different draws"),
        ({"image_size": (5, 5)}, "different image_size"),
        ({"config": {"seed": 1}}, "different seeds"),
        (
            {"config": {"seed": 0, "evaluation": "adaptive"}},
            "evaluation=census and evaluation=adaptive",
        ),
    ],
)
def test_what_cannot_be_compared_is_not_merged(change: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        merge_manifests([manifest(), manifest(**change)])


def test_merged_runs_have_an_address_of_their_own() -> None:
    other = manifest(weights_sha256={"n": "v"})
    merged = merge_manifests([manifest(), other])
    assert merged.weights_sha256 == {"m": "w", "n": "v"}
    assert len({merged.address(), other.address(), manifest().address()}) == 3
    assert merge_manifests([other, manifest()]).address() == merged.address()
