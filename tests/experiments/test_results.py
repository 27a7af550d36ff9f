"""The committed results are what the committed outcomes say."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from experiments.captions import UNDRAWN
from experiments.config import preset_settings
from experiments.paper import beside_published, published_rates
from experiments.present import derive, present
from experiments.stored import load_run, stored_runs
from pixelrobust import InputError
from pixelrobust.figures import new_figure, write_figure
from pixelrobust.outcomes.kinds import ADVERSARIAL, CELL_COLUMNS, OUTCOMES, kind_of
from pixelrobust.outcomes.manifest import merge_manifests, read_manifest, why_apart
from pixelrobust.tables.rates import summarize
from tests.conftest import REPOSITORY
from tests.experiments.claim_cases import manifest

RESULTS = REPOSITORY / "results"
PROFILES = ("bundled", "imagenet-samples")
ALL_PROFILES = (*PROFILES, "cifar10-sample")
RUNS = [
    (profile, path.stem)
    for profile in ALL_PROFILES
    for path in sorted((RESULTS / profile / "outcomes").glob("*.json"))
]
# Addresses name folders of results: a run that is asked for again must find its own.
ADDRESSES = {
    "bundled/amplification": "433075eee3",
    "bundled/breakdown": "da98e6857b",
    "bundled/impulse-noise": "df93e0dde3",
    "bundled/overshoot": "d15d871564",
    "bundled/table10": "04c620d2d1",
    "bundled/table6": "624e6fa628",
    "bundled/table7": "2afe62905b",
    "bundled/table8": "6798bb43ae",
    "bundled/table9": "368fce8ac4",
    "bundled/worst-case": "19b20d1b6d",
    "cifar10-sample/table10-all": "da23c2233e",
    "cifar10-sample/table10": "9c994ef2e8",
    "imagenet-samples/amplification": "0941fda54f",
    "imagenet-samples/breakdown": "e724373627",
    "imagenet-samples/distances": "0008b4d74b",
    "imagenet-samples/impulse-noise": "607192e63a",
    "imagenet-samples/overshoot": "59d836198a",
    "imagenet-samples/returns": "750230c334",
    "imagenet-samples/table10": "3553d2fa05",
    "imagenet-samples/table11": "0f6ea0ec89",
    "imagenet-samples/table6": "ea6610ea5e",
    "imagenet-samples/table7": "5a50970aed",
    "imagenet-samples/table8": "398823d402",
    "imagenet-samples/table9": "2e47246259",
    "imagenet-samples/worst-case": "79a8bba820",
}
EVALUATION = {
    "table6",
    "table7",
    "table8",
    "table9",
    "amplification",
    "breakdown",
    "impulse-noise",
    "overshoot",
    "worst-case",
}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_whole_evaluation_is_committed(profile: str) -> None:
    assert {name for own, name in RUNS if own == profile} >= EVALUATION
    files = {path.name for path in (RESULTS / profile).iterdir()}
    tables = {*(f"table{number}" for number in range(1, 10)), "pixels-to-flip", "amplification"}
    assert files >= {f"{table}.{end}" for table in tables for end in ("csv", "md", "tex")}
    figures = {
        "table6": "figure8", "table7": "figure9", "table8": "figure10",
        "table5": "pixel-index", "pixels-to-flip": "pixels-to-flip", "table10": "table10",
    }  # fmt: skip
    for table, figure in figures.items():
        # A figure that would show nothing is replaced by a sentence.
        is_drawn = UNDRAWN not in (RESULTS / profile / f"{table}.md").read_text()
        for end in ("png", "pdf"):
            assert (f"{figure}.{end}" in files) == is_drawn, figure
    assert "claims.md" in files
    # Its pictures show images that are not free to pass on.
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", f"results/{profile}/figure1.png"], cwd=REPOSITORY
    )
    assert ignored.returncode == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_the_retraining_is_committed(profile: str) -> None:
    runs = {name for own, name in RUNS if own == profile}
    files = {path.name for path in (RESULTS / profile).iterdir()}
    assert "table10" in runs
    assert files >= {"table10.md", "retraining.png"}
    if profile == "imagenet-samples":
        assert runs >= {"table11", "distances"}
        assert files >= {"table11.md", "waterfall.png"}


# Those of the bundled profile are rebuilt by the command that does so, in `test_report.py`.
@pytest.mark.parametrize("profile", [own for own in ALL_PROFILES if own != "bundled"])
def test_tables_are_rebuilt_from_their_outcomes(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing takes most of the time, and no figure is looked at here.
    monkeypatch.setattr("experiments.writing.write_figure", lambda figure, stem: None)
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
    kind = kind_of(manifest.config)
    if kind is OUTCOMES:
        cells = rows.groupby(["model", *CELL_COLUMNS], observed=True, dropna=False).size()
        changed = cells.index.get_level_values("num") > 0
        assert set(cells[changed]) == {manifest.images * manifest.draws}
        assert set(cells[~changed]) == {manifest.images}
        assert len(cells) == len(preset.models) * len(preset.perturbation.cells())
    elif kind is ADVERSARIAL:
        assert preset.attack
        epsilons = {str(epsilon).removesuffix(".0") for epsilon in preset.attack.epsilon}
        assert set(rows["epsilon"]) == epsilons
        images = rows.groupby(["model", "epsilon"], observed=True)["image"].nunique()
        assert images.max() <= min(manifest.images, preset.attack.wanted)


def test_addresses_of_committed_runs_stay_as_they_are() -> None:
    found = {
        f"{profile}/{name}": read_manifest(
            RESULTS / profile / "outcomes" / f"{name}.json"
        ).address()
        for profile, name in RUNS
    }
    assert found == ADDRESSES


def test_figures_do_not_depend_on_the_last_bit_of_a_layout(tmp_path: Path) -> None:
    def drawn(nudge: float, stem: Path) -> list[bytes]:
        figure = new_figure(3, 2)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1])
        layout = figure.get_layout_engine()
        solve = layout.solve

        def nudged(figure: Figure) -> None:
            solve(figure)
            axes.set_position([side + nudge for side in axes.get_position(original=True).bounds])
            axes.set_in_layout(True)

        layout.solve = nudged
        return [path.read_bytes() for path in write_figure(figure, stem)]

    exact = drawn(0.0, tmp_path / "exact")
    assert drawn(1e-15, tmp_path / "nudged") == exact
    assert drawn(1e-3, tmp_path / "moved") != exact


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
    row = beside_published(summarize(outcomes, 224), "table6").iloc[0]
    assert row["difference"] == pytest.approx(0.25 - 0.05)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"image_list_sha256": "b", "images": 5}, r"different image lists \(500 and 5 images\)"),
        ({"draws": 2}, "different draws"),
        ({"image_size": (5, 5)}, "different image_size"),
        ({"config": {"seed": 1}}, "different seeds"),
        # Rows show none of these, and would be dropped as doubled.
        ({"weights_sha256": {"net": "v"}}, "different weights of net"),
        ({"config": {"seed": 0, "engine": {"precision": "bf16"}}}, r"different engine\.precision"),
    ],
)
def test_what_cannot_be_compared_is_not_merged(change: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        merge_manifests([manifest(), manifest(**change)])


@pytest.mark.parametrize(
    "config",
    [
        {"perturbation": {"num": [64]}},
        {"dataset": {"limit": 7}},
        {"models": {"a": {}}},
    ],
)
def test_what_rows_show_may_differ(config: dict[str, object]) -> None:
    assert why_apart(manifest(), manifest(config={"seed": 0, **config})) == ""


def test_epsilons_are_merged_and_attacks_are_not() -> None:
    first, second, third = (
        manifest(config={"seed": 0, "attack": {"target": name, "epsilon": [epsilon]}})
        for name, epsilon in (("FGSM", 1), ("FGSM", 2), ("PGD", 1))
    )
    assert why_apart(first, second) == ""
    assert why_apart(first, third) == "runs with different attack.target are not merged."


def test_an_adaptive_run_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    manifest(config={"seed": 0, "evaluation": "adaptive"}).write(path)
    with pytest.raises(InputError, match=r"evaluation=adaptive.*remove it with its outcomes.*\.$"):
        read_manifest(path)


def test_merged_runs_have_an_address_of_their_own() -> None:
    other = manifest(weights_sha256={"n": "v"})
    merged = merge_manifests([manifest(), other])
    assert merged.weights_sha256 == {"net": "w", "n": "v"}
    assert len({merged.address(), other.address(), manifest().address()}) == 3
    assert merge_manifests([other, manifest()]).address() == merged.address()
