"""The committed results are what the committed outcomes say."""

from pathlib import Path

import pandas as pd
import pytest

from experiments.configuration import preset_settings
from experiments.paper import beside_published, published_rates
from experiments.presentation import load_run, present
from pixelrobust import InputError
from pixelrobust.manifest import Manifest, merge_manifests
from pixelrobust.tables import summarize
from tests.conftest import REPOSITORY

BUNDLED = REPOSITORY / "results" / "bundled"
COMMITTED = sorted(path.stem for path in BUNDLED.glob("outcomes/*.json"))


def test_the_main_table_is_committed() -> None:
    assert "table6" in COMMITTED


@pytest.mark.parametrize("name", COMMITTED)
def test_tables_are_rebuilt_from_their_outcomes(name: str, tmp_path: Path) -> None:
    present(tmp_path, *load_run(BUNDLED, name))
    rebuilt = sorted(path for path in tmp_path.iterdir() if path.suffix in (".csv", ".md", ".tex"))
    assert len(rebuilt) == 3
    for path in rebuilt:
        assert path.read_text() == (BUNDLED / path.name).read_text()


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_outcomes_are_complete_and_unmodified_presets(name: str) -> None:
    manifest, outcomes = load_run(BUNDLED, name)
    preset = preset_settings(name, "bundled")
    assert preset is not None
    assert manifest.config == preset.identity()
    cells = outcomes.groupby(["model", "num"], observed=True).size()
    assert set(cells[:, 0]) == {manifest.images}
    assert set(cells.drop(0, level="num")) == {manifest.images * manifest.draws}
    assert len(cells) == len(preset.models) * len(preset.perturbation.cells())


def test_no_machine_is_named_in_what_is_committed() -> None:
    for path in BUNDLED.rglob("*.json"):
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
