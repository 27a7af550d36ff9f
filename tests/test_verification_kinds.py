"""What is not a plain outcome is computed again too: of attacked images, layers, retrained networks."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from tests.conftest import Run
from tests.fault_cases import sentence
from tests.retraining.world import data, make_world, network
from tests.test_verification import Verify, call_verify

SAID = {
    "a manifest that does not say how images were attacked": "does not hold outcomes, of kind outcomes",
    "a manifest whose attack is another program": "attack.name='os.system' is not an attack that can be used",
    "a manifest with a limit that is none": "the manifest's dataset.candidates or dataset.limit is no number",
    "a manifest that does not say how networks were retrained": "the manifest of table10 has no retrain, which its rows need",
}
"""What the sentence about each case says, by the case's id."""

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = (
    "retrain.num=64", "retrain.controls=[unchanged]", "retrain.epochs=1",
    "retrain.learning_rate=0.05", "perturbation.num=[4,64]",
)  # fmt: skip


class Kind(NamedTuple):
    """A run whose rows are of some kind.

    Attributes:
        words: what it found.
        arguments: how it is run.
    """

    words: str
    arguments: tuple[str, ...]

    def results(self) -> str:
        """What their folder's name begins with."""
        return self.arguments[0].removeprefix("experiment=")


ATTACKED = Kind("attacked images", ("experiment=table9", "draws=2", "attack.epsilon=[minimal,2]"))
RANDOM = Kind(
    "images attacked from random starts", ("experiment=table9", "draws=1", "attack=pgd", "attack.epsilon=2")
)  # fmt: skip
LAYERS = Kind("activations", ("experiment=amplification",))
RETRAINED = Kind("retrained networks", ("experiment=table10", "draws=2"))
TRANSFER = Kind(
    "attacks on retrained networks", ("experiment=table11", "attack.epsilon=[minimal,2]")
)
DISTANCES = Kind("distances to boundaries", ("experiment=distances", "retrain.measured=4"))
KINDS = (ATTACKED, RANDOM, LAYERS, RETRAINED, TRANSFER, DISTANCES)


class Stored(NamedTuple):
    """Results of a run, and the keys that say where its images, weights and networks lie."""

    folder: Path
    keys: tuple[str, ...]

    @property
    def rows(self) -> Path:
        (path,) = self.folder.glob("outcomes/*.parquet")
        return path

    def change(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        change(pd.read_parquet(self.rows)).to_parquet(self.rows, index=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("foolbox")
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where results lie that several tests begin with."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def store(run: Run, world: Path, cache: Path, made: Path, tmp_path: Path) -> Callable[..., Stored]:
    """Runs a kind, once for all tests, and gives each results of its own."""

    def call(kind: Kind, *more: str) -> Stored:
        keys = (*data(world), *network(world))
        results = made / kind.words.replace(" ", "-")
        if not results.exists():
            ended = run(*more, *keys, *SHORT, *kind.arguments, results=results)
            assert ended.code == 0, ended.err
        (found,) = results.glob("*-sweep-*" if more else f"{kind.results()}-*")
        folder = shutil.copytree(found, tmp_path / "results" / found.name)
        return Stored(folder, (*keys, f"paths.cache={cache}"))

    return call


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    return call_verify(capsys)


@pytest.mark.parametrize("kind", KINDS, ids=[f"sound results of {kind.words}" for kind in KINDS])
def test_all_kinds_are_confirmed(kind: Kind, store: Callable[..., Stored], verify: Verify) -> None:
    stored = store(kind)
    ended = verify(stored.folder, *stored.keys, "--share", "1")
    assert ended.code == 0, ended.err + ended.out
    counted = re.search(r"Of ([\d,]+) stored outcomes of \w+, ([\d,]+) were recomputed", ended.out)
    assert counted, ended.out
    count = len(pd.read_parquet(stored.rows))
    assert [int(one.replace(",", "")) for one in counted.groups()] == [count, count]
    assert "0 differ where two logits are" in ended.out


def test_images_are_selected_again_where_no_run_names_them_all(
    store: Callable[..., Stored], verify: Verify
) -> None:
    """Not every image fools; without knowing all, batches of random attacks would be others."""
    stored = store(RANDOM)
    (manifest,) = stored.folder.glob("outcomes/*.json")
    count = json.loads(manifest.read_text())["images"]
    assert 0 < pd.read_parquet(stored.rows)["image"].nunique() < count
    ended = verify(stored.folder, *stored.keys, "--share", "0.5")
    assert ended.code == 0, ended.err + ended.out


def test_batches_are_those_of_the_run(store: Callable[..., Stored], verify: Verify) -> None:
    """Random attacks on retrained networks hang on them."""
    noise = "attack.name=LinfAdditiveUniformNoiseAttack"
    random = ("experiment=table11", noise, "attack.epsilon=60", "engine.batch_size=5")
    stored = store(Kind("random attacks in small batches", random))
    ended = verify(stored.folder, *stored.keys, "--share", "1")
    assert ended.code == 0, ended.err + ended.out


def test_a_share_is_at_least_one_image(store: Callable[..., Stored], verify: Verify) -> None:
    """Of each network and epsilon, with all that was found of it."""
    stored = store(ATTACKED)
    rows = pd.read_parquet(stored.rows)
    ended = verify(stored.folder, *stored.keys, "--share", "0.01")
    each = 2 * (1 + 2 * 2)  # unrounded and rounded: the control, and two cells of two draws
    assert f"{each * rows['epsilon'].nunique()} were recomputed" in ended.out


def other_class(rows: pd.DataFrame, index: int) -> pd.DataFrame:
    """One prediction is another class, and wrong follows from it."""
    label, prediction = rows.loc[index, ["label", "prediction"]]
    new = next(one for one in rows["label"].unique() if one not in (prediction,))
    rows.loc[index, ["prediction", "wrong"]] = [new, new != label]
    return rows


def changed(rows: pd.DataFrame, wanted: "pd.Series[bool]", **values: object) -> pd.DataFrame:
    """The first of the wanted rows has other values."""
    index = rows.index[wanted][0]
    for column, value in values.items():
        rows.loc[index, column] = value(rows.loc[index, column]) if callable(value) else value
    return rows


Tamper = Callable[[pd.DataFrame], pd.DataFrame]
TAMPERS: dict[str, tuple[Kind, Tamper, str]] = {
    "one prediction of an attacked image changed": (
        ATTACKED, lambda rows: other_class(rows, rows.index[rows["num"] == 64][3]), "prediction",
    ),
    "the size of one attack changed": (
        ATTACKED, lambda rows: changed(rows, rows["epsilon"] == "minimal", size=lambda size: size + 1),
        "attack",
    ),
    "the adversarial class of one outcome changed": (
        ATTACKED, lambda rows: changed(rows, rows["num"] == 64, adversarial=lambda one: one + 1),
        "adversarial",
    ),
    "one outcome of an attacked image left out": (
        ATTACKED, lambda rows: rows.drop(index=rows.index[rows["num"] == 64][0]), "count",
    ),
    "one activation's change made 5 % larger": (
        LAYERS, lambda rows: changed(rows, rows["layer"] == "logits", relative_change=lambda x: x * 1.05),
        "value",
    ),
    "one noise called matched that is not": (
        LAYERS, lambda rows: changed(rows, rows["depth"] == 2, norm_mismatch=0.5), "value",
    ),
    "one prediction of a retrained network changed": (
        RETRAINED, lambda rows: other_class(rows, rows.index[rows["model"] == "small-64"][5]),
        "prediction",
    ),
    "one outcome of a retrained network there twice": (
        RETRAINED, lambda rows: pd.concat([rows, rows.iloc[7:8]]), "count",
    ),
    "one prediction for another network's adversarial image changed": (
        TRANSFER, lambda rows: other_class(
            rows, rows.index[(rows["against"] == "original") & (rows["model"] == "small-64")][0]
        ), "prediction",
    ),
    "an attack called failed that fooled": (
        TRANSFER, lambda rows: changed(
            rows, (rows["against"] == "itself") & (rows["size"] > 0), size=0.0
        ), "attack",
    ),
    "one distance made 5 % larger": (
        DISTANCES, lambda rows: changed(rows, rows["distance"] > 0, distance=lambda one: one * 1.05),
        "value",
    ),
    "one measured distance made 5 % larger": (
        DISTANCES, lambda rows: changed(rows, rows["measured"] > 0, measured=lambda one: one * 1.05),
        "value",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", TAMPERS, ids=str)
def test_tampering_is_found_in_all_kinds(
    fault: str, store: Callable[..., Stored], verify: Verify
) -> None:
    kind, tamper, what = TAMPERS[fault]
    stored = store(kind)
    stored.change(tamper)
    ended = verify(stored.folder, *stored.keys, "--share", "1")
    assert ended.code == 1, ended.err + ended.out
    listed = [
        line for line in ended.out.splitlines() if line.startswith(("| table", "| ampl", "| dist"))
    ]
    assert len(listed) == 1, ended.out
    assert listed[0].rstrip(" |").endswith(what)


def without_attack(config: dict[str, Any]) -> None:
    del config["attack"]


def another_attack(config: dict[str, Any]) -> None:
    config["attack"]["target"] = "os.system"


def saved_elsewhere(config: dict[str, Any]) -> None:
    config["retrain"]["save"] = "/tmp/elsewhere"


def without_retraining(config: dict[str, Any]) -> None:
    del config["retrain"]


def of_no_size(config: dict[str, Any]) -> None:
    config["dataset"]["limit"] = "all"


MANIFESTS: dict[str, tuple[Kind, Callable[[dict[str, Any]], None]]] = {
    "a manifest that does not say how images were attacked": (RANDOM, without_attack),
    "a manifest whose attack is another program": (RANDOM, another_attack),
    "a manifest with a limit that is none": (RANDOM, of_no_size),
    "a manifest that does not say how networks were retrained": (RETRAINED, without_retraining),
}


def change_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    (path,) = folder.glob("outcomes/*.json")
    manifest = json.loads(path.read_text())
    change(manifest["config"])
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("fault", MANIFESTS, ids=str)
def test_configs_that_no_run_has_are_told(
    fault: str, store: Callable[..., Stored], verify: Verify, tmp_path: Path, words: str
) -> None:
    kind, change = MANIFESTS[fault]
    stored = store(kind)
    change_config(stored.folder, change)
    assert words in sentence(verify(stored.folder, *stored.keys), tmp_path)


def test_a_manifest_does_not_say_where_networks_are_saved(
    store: Callable[..., Stored], verify: Verify
) -> None:
    stored = store(RETRAINED)
    change_config(stored.folder, saved_elsewhere)
    assert verify(stored.folder, *stored.keys).code == 0
    assert not Path("/tmp/elsewhere").exists()


def test_networks_are_retrained_only_if_asked_for(
    store: Callable[..., Stored], verify: Verify, tmp_path: Path
) -> None:
    stored = store(RETRAINED)
    elsewhere = (*stored.keys, f"paths.cache={tmp_path / 'empty'}")
    said = sentence(verify(stored.folder, *elsewhere, "--share", "1"), tmp_path)
    assert "2 of its retrained networks are not kept here" in said
    ended = verify(stored.folder, *elsewhere, "--share", "1", "--retrain")
    assert ended.code == 0, ended.err + ended.out
    assert "No outcome is contradicted" in ended.out


def test_runs_whose_networks_are_not_kept_are_left_out(
    store: Callable[..., Stored], verify: Verify, tmp_path: Path
) -> None:
    """The others of the folder are verified."""
    stored, layers = store(RETRAINED), store(LAYERS)
    for path in layers.folder.glob("outcomes/*"):
        (stored.folder / "outcomes" / path.name).write_bytes(path.read_bytes())
    ended = verify(stored.folder, *stored.keys, f"paths.cache={tmp_path / 'empty'}")
    assert ended.code == 0, ended.err
    assert "stored outcomes of amplification, " in ended.out
    assert "Left out: table10: 2 of its retrained networks are not kept here" in ended.out


@pytest.mark.parametrize("kind", [RANDOM, RETRAINED], ids=lambda kind: kind.words)
def test_another_selection_is_told(
    kind: Kind, store: Callable[..., Stored], verify: Verify, world: Path, tmp_path: Path
) -> None:
    """Images of other names are others."""
    stored = store(kind)
    (tmp_path / "other").mkdir()
    for split in ("test", "train"):
        target = tmp_path / "other" / split
        for path in sorted((world / split).glob("*/*")):
            (target / path.parent.name).mkdir(parents=True, exist_ok=True)
            (target / path.parent.name / f"new-{path.name}").write_bytes(path.read_bytes())
    keys = [f"dataset.root={tmp_path}/other/test", f"dataset.train_root={tmp_path}/other/train"]
    assert "other images are selected now" in sentence(verify(stored.folder, *stored.keys, *keys))


def test_merged_results_are_verified(store: Callable[..., Stored], verify: Verify) -> None:
    stored = store(Kind("a sweep", ("draws=2", "perturbation.num=4,64")), "-m")
    ended = verify(stored.folder, *stored.keys, "--share", "1")
    assert ended.code == 0, ended.err + ended.out
    assert "No outcome is contradicted" in ended.out


def test_a_sweep_over_attacks_is_verified(store: Callable[..., Stored], verify: Verify) -> None:
    stored = store(Kind("a sweep over attacks", ("experiment=table9", "attack.epsilon=1,2")), "-m")
    ended = verify(stored.folder, *stored.keys, "--share", "1")
    assert ended.code == 0, ended.err + ended.out
    assert "No outcome is contradicted" in ended.out
