"""What is not a plain outcome is computed again too: of attacked images, layers, retrained networks."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from pixelrobust.evaluation.screening import Screen
from tests.conftest import Run
from tests.experiments.test_verification import Verify, call_verify
from tests.fault_cases import sentence
from tests.retraining.world import data, make_world, network

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = (
    "retrain.num=64", "retrain.controls=[unchanged]", "retrain.epochs=1",
    "retrain.learning_rate=0.05", "perturbation.num=[4,64]",
)  # fmt: skip


ATTACKED = ("experiment=table9", "draws=2", "attack.epsilon=[minimal,2]")
OVERSHOOT = ("experiment=overshoot", "draws=1", "attack.epsilon=[1.5x,3x]", "attack.wanted=3")
RANDOM = ("experiment=table9", "draws=1", "attack=pgd", "attack.epsilon=2")
LAYERS = ("experiment=amplification",)
SEARCHED = ("experiment=worst-case", "draws=3", "queries=9")
SCREENED = ("engine.precision=screened", "engine.screening.fast=bf16")
RETRAINED = ("experiment=table10", "draws=2")
TRANSFER = ("experiment=table11", "attack.epsilon=[minimal,2]")
DISTANCES = ("experiment=distances", "retrain.measured=4")
KINDS = {
    "attacked images": ATTACKED,
    "images beyond their smallest epsilon": OVERSHOOT,
    "images attacked from random starts": RANDOM,
    "activations": LAYERS,
    "random and searched changes": SEARCHED,
    "outcomes that are screened": ("experiment=table6", *SCREENED),
    "random changes that are screened, and searched ones": (*SEARCHED, *SCREENED),
    "retrained networks": RETRAINED,
    "attacks on retrained networks": TRANSFER,
    "distances to boundaries": DISTANCES,
}
"""Runs whose rows are of each kind, by what they found."""


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


Store = Callable[..., Stored]


@pytest.fixture
def store(run: Run, world: Path, cache: Path, made: Path, tmp_path: Path) -> Store:
    """Return what runs a command, once for all tests, and gives each results of its own."""

    def call(*arguments: str) -> Stored:
        keys = (*data(world), *network(world))
        results = made / re.sub(r"\W+", "-", "-".join(arguments))
        if not results.exists():
            ended = run(*keys, *SHORT, *arguments, results=results)
            assert ended.code == 0, ended.err
        (found,) = [
            path
            for path in results.iterdir()
            if (path / "outcomes").is_dir() and ("-sweep-" in path.name or "-m" not in arguments)
        ]
        folder = shutil.copytree(found, tmp_path / "results" / found.name)
        return Stored(folder, (*keys, f"paths.cache={cache}"))

    return call


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    return call_verify(capsys)


@pytest.mark.parametrize("kind", KINDS)
def test_sound_results_of_every_kind_are_confirmed(kind: str, store: Store, verify: Verify) -> None:
    stored = store(*KINDS[kind])
    ended = verify(stored.folder, *stored.keys, "--share", "1")
    assert ended.code == 0, ended.err + ended.out
    counted = re.search(
        r"Of ([\d,]+) stored outcomes of [\w-]+, ([\d,]+) were recomputed", ended.out
    )
    assert counted, ended.out
    count = len(pd.read_parquet(stored.rows))
    assert [int(one.replace(",", "")) for one in counted.groups()] == [count, count]
    assert "0 differ where two logits are" in ended.out


def test_what_was_screened_is_computed_again_in_fp32_alone(
    store: Store, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = store(*KINDS["outcomes that are screened"])
    (about,) = json.loads(stored.rows.with_suffix(".json").read_text())["engines"].values()
    assert (about["precision"], about["fast"]) == ("screened", "bf16")
    assert about["screened"] == sum(pd.read_parquet(stored.rows)["num"] > 0)
    monkeypatch.setattr(Screen, "add", lambda *given: pytest.fail("it is screened again"))
    assert verify(stored.folder, *stored.keys, "--share", "1").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        # Random attacks are keyed by the image.
        (
            "experiment=table11", "attack.name=LinfAdditiveUniformNoiseAttack", "attack.epsilon=60",
            "attack.refine=false",
            "engine.batch_size=5",
        ),
        ("-m", "draws=2", "perturbation.num=4,64"),
        ("-m", "experiment=table9", "attack.epsilon=1,2"),
    ],
    ids=["random attacks in small batches", "a sweep", "a sweep over attacks"],
)  # fmt: skip
def test_batches_and_sweeps_are_those_of_the_run(
    arguments: tuple[str, ...], store: Store, verify: Verify
) -> None:
    stored = store(*arguments)
    ended = verify(stored.folder, *stored.keys, "--share", "1")
    assert ended.code == 0, ended.err + ended.out
    assert "No outcome is contradicted" in ended.out


def test_images_are_selected_again_where_no_run_names_them_all(
    store: Store, verify: Verify
) -> None:
    """Not every image fools; without knowing all, batches of attacks would be others."""
    stored = store(*RANDOM)
    (manifest,) = stored.folder.glob("outcomes/*.json")
    count = json.loads(manifest.read_text())["images"]
    assert 0 < pd.read_parquet(stored.rows)["image"].nunique() < count
    ended = verify(stored.folder, *stored.keys, "--share", "0.5")
    assert ended.code == 0, ended.err + ended.out


def test_a_share_is_at_least_one_image(store: Store, verify: Verify) -> None:
    """Of each network and epsilon, with all that was found of it."""
    stored = store(*ATTACKED)
    rows = pd.read_parquet(stored.rows)
    ended = verify(stored.folder, *stored.keys, "--share", "0.01")
    each = 2 * (1 + 2 * 2)  # unrounded and rounded: the control, and two cells of two draws
    assert f"{each * rows['epsilon'].nunique()} were recomputed" in ended.out


def other_class(rows: pd.DataFrame, index: int) -> pd.DataFrame:
    """One prediction is another class, and wrong follows from it."""
    label, prediction = rows.loc[index, ["label", "prediction"]]
    new = next(one for one in rows["label"].unique() if one != prediction)
    rows.loc[index, ["prediction", "wrong"]] = [new, new != label]
    return rows


def changed(rows: pd.DataFrame, wanted: "pd.Series[bool]", **values: object) -> pd.DataFrame:
    """The first of the wanted rows has other values."""
    index = rows.index[wanted][0]
    for column, value in values.items():
        rows.loc[index, column] = value(rows.loc[index, column]) if callable(value) else value
    return rows


Tamper = Callable[[pd.DataFrame], pd.DataFrame]
TAMPERS: dict[str, tuple[tuple[str, ...], Tamper, str]] = {
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
    "one prediction of a random change changed": (
        SEARCHED, lambda rows: other_class(
            rows, rows.index[(rows["method"] == "random") & (rows["num"] == 64)][3]
        ), "prediction",
    ),
    "one prediction of an extreme change changed": (
        SEARCHED, lambda rows: other_class(rows, rows.index[rows["method"] == "extremes"][5]),
        "prediction",
    ),
    "one search called in vain that found something": (
        SEARCHED, lambda rows: changed(
            rows, (rows["method"] == "search") & rows["wrong"], wrong=False,
            prediction=lambda _: int(rows.loc[(rows["method"] == "search") & rows["wrong"], "label"].iloc[0]),
        ), "prediction",
    ),
    "one search said to have found another class": (
        SEARCHED, lambda rows: other_class(
            rows, rows.index[(rows["method"] == "search") & ~rows["wrong"]][0]
        ), "prediction",
    ),
    "one searched change without a pixel": (
        SEARCHED, lambda rows: changed(
            rows, (rows["method"] == "search") & (rows["num"] == 4),
            pixels=lambda text: " ".join(text.split(" ")[1:]),
        ), "prediction",
    ),
    "the pixels of one random change moved": (
        SEARCHED, lambda rows: changed(
            rows, (rows["method"] == "random") & (rows["pixels"] != ""), pixels="1,1:000000"
        ), "value",
    ),
    "one search left out": (
        SEARCHED, lambda rows: rows.drop(index=rows.index[rows["method"] == "search"][2]), "count",
    ),
    "one margin made larger": (
        SEARCHED, lambda rows: rows.assign(
            margin=rows["margin"].where(rows["image"] != rows["image"].iloc[0], rows["margin"] * 1.05)
        ), "value",
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
def test_tampering_is_found_in_all_kinds(fault: str, store: Store, verify: Verify) -> None:
    kind, tamper, what = TAMPERS[fault]
    stored = store(*kind)
    stored.change(tamper)
    ended = verify(stored.folder, *stored.keys, "--share", "1")
    assert ended.code == 1, ended.err + ended.out
    listed = [
        line
        for line in ended.out.splitlines()
        if line.startswith(("| table", "| ampl", "| dist", "| worst"))
    ]
    assert len(listed) == 1, ended.out
    assert listed[0].rstrip(" |").endswith(what)


def test_a_search_that_went_another_way_is_told_where_its_change_does_what_is_stored(
    store: Store, verify: Verify
) -> None:
    """Another order of sums can lead it elsewhere; the stored change is shown to the network then."""
    stored = store(*SEARCHED)
    stored.change(
        lambda rows: changed(
            rows, (rows["method"] == "search") & rows["wrong"] & (rows["num"] == 64),
            query=lambda query: query + 1,
        )
    )  # fmt: skip
    ended = verify(stored.folder, *stored.keys, "--share", "1")
    assert ended.code == 0, ended.err + ended.out
    assert "1 searches went another way now" in ended.out
    assert "No outcome is contradicted" in ended.out
    change_config(stored.folder, lambda config: config.pop("queries"))
    said = sentence(verify(stored.folder, *stored.keys))
    assert "does not say how many queries its search had" in said


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    (path,) = folder.glob("outcomes/*.json")
    manifest = json.loads(path.read_text())
    change(manifest["config"])
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (RANDOM, lambda config: config.pop("attack"), "does not hold outcomes, of kind outcomes"),
        (
            RANDOM,
            lambda config: config["attack"].update(target="os.system"),
            "attack.name='os.system' is not an attack that can be used",
        ),
        (
            RANDOM,
            lambda config: config["dataset"].update(limit="all"),
            "the manifest's dataset.candidates or dataset.limit is no number",
        ),
        (
            RETRAINED,
            lambda config: config.pop("retrain"),
            "the manifest of table10 has no retrain, which its rows need",
        ),
    ],
    ids=["no attack", "another program for an attack", "a limit of words", "no retraining"],
)
def test_configs_that_no_run_has_are_told(
    kind: tuple[str, ...],
    change: Callable[[dict[str, Any]], object],
    words: str,
    store: Store,
    verify: Verify,
    tmp_path: Path,
) -> None:
    stored = store(*kind)
    change_config(stored.folder, change)
    assert words in sentence(verify(stored.folder, *stored.keys), tmp_path)


def test_a_manifest_does_not_say_where_networks_are_saved(store: Store, verify: Verify) -> None:
    stored = store(*RETRAINED)
    change_config(stored.folder, lambda config: config["retrain"].update(save="/tmp/elsewhere"))
    assert verify(stored.folder, *stored.keys).code == 0
    assert not Path("/tmp/elsewhere").exists()


def test_networks_are_retrained_only_if_asked_for(
    store: Store, verify: Verify, tmp_path: Path
) -> None:
    stored = store(*RETRAINED)
    elsewhere = (*stored.keys, f"paths.cache={tmp_path / 'empty'}")
    said = sentence(verify(stored.folder, *elsewhere, "--share", "1"), tmp_path)
    assert "2 of its retrained networks are not kept here" in said
    ended = verify(stored.folder, *elsewhere, "--share", "1", "--retrain")
    assert ended.code == 0, ended.err + ended.out
    assert "No outcome is contradicted" in ended.out


def test_runs_whose_networks_are_not_kept_are_left_out(
    store: Store, verify: Verify, tmp_path: Path
) -> None:
    """The others of the folder are verified."""
    stored, layers = store(*RETRAINED), store(*LAYERS)
    for path in layers.folder.glob("outcomes/*"):
        (stored.folder / "outcomes" / path.name).write_bytes(path.read_bytes())
    ended = verify(stored.folder, *stored.keys, f"paths.cache={tmp_path / 'empty'}")
    assert ended.code == 0, ended.err
    assert "stored outcomes of amplification, " in ended.out
    assert "Left out: table10: 2 of its retrained networks are not kept here" in ended.out


@pytest.mark.parametrize("kind", [RANDOM, RETRAINED], ids=["attacked", "retrained"])
def test_another_selection_is_told(
    kind: tuple[str, ...], store: Store, verify: Verify, world: Path, tmp_path: Path
) -> None:
    """Images of other names are others."""
    stored = store(*kind)
    (tmp_path / "other").mkdir()
    for split in ("test", "train"):
        target = tmp_path / "other" / split
        for path in sorted((world / split).glob("*/*")):
            (target / path.parent.name).mkdir(parents=True, exist_ok=True)
            (target / path.parent.name / f"new-{path.name}").write_bytes(path.read_bytes())
    keys = [f"dataset.root={tmp_path}/other/test", f"dataset.train_root={tmp_path}/other/train"]
    assert "other images are selected now" in sentence(verify(stored.folder, *stored.keys, *keys))
