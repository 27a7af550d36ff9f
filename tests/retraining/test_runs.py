"""Retraining through the command line: tiny networks and images, from config to tables and figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments import pipeline
from experiments.config import settings_of
from experiments.present import present
from experiments.stored import outcomes_file, stored_runs
from pixelrobust import distributed
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.models.saved import load_model
from pixelrobust.settings import RunSettings
from tests.conftest import Ended, Run
from tests.retraining.cases import FORKING
from tests.retraining.world import (
    CLASSES,
    LABELS,
    SHORT,
    SIDE,
    TOTAL,
    data,
    files,
    network,
    only,
    pictures,
    predicted,
    read,
    rows_of,
)

# Besides what processes of other tests import: what a whole run does.
FORKING.set_forkserver_preload(
    ["tests.retraining.cases", "experiments.pipeline", "foolbox", "timm"]
)

pytestmark = pytest.mark.usefixtures("one_thread")
ONE = ("retrain.num=4", "retrain.controls=[]")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def succeed(run: Run) -> Run:
    """The command line, for commands that succeed."""

    def call(*arguments: str) -> Ended:
        ended = run(*arguments)
        assert ended.code == 0, ended.err
        return ended

    return call


@pytest.fixture
def retrain(succeed: Run, world: Path) -> Run:
    """The same, on these images and this network, with a short retraining."""
    return lambda *arguments: succeed(*data(world), *network(world), *SHORT, *arguments)


def sentence(ended: Ended) -> str:
    """The one sentence that a command which fails ends with."""
    assert ended.code == 2, ended.out
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1, ended.err
    return ended.err


@pytest.fixture
def fail(run: Run, world: Path) -> Callable[..., str]:
    """The same, for commands that fail: their sentence."""
    return lambda *arguments: sentence(run(*data(world), *network(world), *SHORT, *arguments))


# --- Table 10 ---------------------------------------------------------------------------------


def test_table_10_end_to_end(retrain: Run, world: Path, results: Path, tmp_path: Path) -> None:
    ended = retrain("experiment=table10")
    folder = only(results, "table10")
    assert {path.name for path in folder.iterdir()} >= {
        "table10.csv", "table10.md", "table10.tex", "table10.png", "table10.pdf",
        "retraining.csv", "retraining.png", "outcomes",
    }  # fmt: skip
    table = pd.read_csv(folder / "table10.csv")
    names = ["small (original)", "small-unchanged", "small-noise", "small-4", "small-64"]
    for kind in ("same", "heldout"):
        own = table[table["images_are"] == kind]
        assert own["model"].tolist() == [name for name in names for _ in range(3)]
        assert own["num"].tolist() == [0, 4, 64] * 5
        assert (own["images"] == TOTAL).all()

    # The original, restricted to the classes: its largest logit among theirs.
    rows = rows_of(results, "table10")
    for kind, split in (("same", "train"), ("heldout", "test")):
        own = rows[(rows["images_are"] == kind) & (rows["num"] == 0)]
        own = own[own["model"] == "small (original)"].sort_values("image")
        expected = np.array(sorted(LABELS))[predicted(world, split)[:, sorted(LABELS)].argmax(1)]
        assert own["prediction"].tolist() == expected.tolist()
        assert own["label"].tolist() == read(world / split)[1].tolist()
    assert set(rows["prediction"]) <= set(LABELS)

    # Selected for being recognised; others are not, so that the baseline errs on some.
    clean = table[(table["num"] == 0) & (table["model"] == "small (original)")]
    assert clean["wrong"].tolist()[0] == 0
    assert 0 < clean["wrong"].tolist()[1] < TOTAL / 2
    # Chance is 2 of 3: what was retrained has learnt, and losses fall.
    trained = table[(table["images_are"] == "same") & (table["num"] == 0)]
    assert (trained["wrong_rate"] < 0.5).all()
    history = pd.read_csv(folder / "retraining.csv")
    assert history["model"].unique().tolist() == names[1:]
    losses = history.pivot_table(index="model", columns="epoch", values="loss")
    assert (losses[1] < losses[0]).all()

    markdown = (folder / "table10.md").read_text()
    for sentence in (
        f"Trained on: {TOTAL} images of 3 classes that small classifies correctly",
        f"Held out: {TOTAL} others",
        "## Points more than small (original)",
        "## Points more than small-unchanged",
    ):
        assert sentence in markdown
    with Image.open(folder / "table10.png") as picture:
        assert min(picture.size) > 400
    assert "heldout" in ended.out

    # Again, from the cache: no epoch is trained, and not a byte differs.
    first = files(folder)
    retrain("experiment=table10")
    assert files(folder) == first
    again = pd.read_csv(folder / "retraining.csv")
    assert again["seconds"].tolist() == history["seconds"].tolist()
    present(tmp_path / "again", *stored_runs(folder)["table10"])
    assert (tmp_path / "again" / "table10.md").read_text() == markdown


def test_test_images_that_were_trained_on_are_not_held_out(
    retrain: Run, world: Path, results: Path, tmp_path: Path
) -> None:
    """Half of the test images are copies, under other names."""
    images = tmp_path / "mixed"
    for name in CLASSES:
        (images / name).mkdir(parents=True)
        for index in range(4):
            for split, prefix in (("train", "copy"), ("test", "new")):
                source = world / split / name / f"{index:02}.png"
                (images / name / f"{prefix}{index}.png").write_bytes(source.read_bytes())
    retrain("experiment=table10", *ONE, f"dataset.root={images}")
    rows = rows_of(results, "table10")
    held = rows.loc[rows["images_are"] == "heldout", "image"].unique().tolist()
    assert len(held) == 12
    assert all("/new" in key for key in held)
    # These are other held-out images: another run.
    (first,) = results.glob("table10-*")
    retrain("experiment=table10", *ONE, f"dataset.root={world / 'train'}")
    (second,) = set(results.glob("table10-*")) - {first}
    assert set(pd.read_csv(second / "table10.csv")["images_are"]) == {"same"}


def test_everything_may_be_trained(retrain: Run, results: Path, tmp_path: Path) -> None:
    stems = []
    for trainable in ("all", "last"):
        networks = tmp_path / trainable
        saving = (f"retrain.trainable={trainable}", f"retrain.save={networks}")
        retrain("experiment=table10", *ONE, "retrain.seeds=[1,2]", *saving)
        assert {path.name for path in networks.iterdir()} == {"small-4", "small-4-seed2"}
        stems.append(load_model(networks / "small-4").module.state_dict()["1.stem.0.weight"])
    assert not stems[0].equal(stems[1])
    for folder in results.glob("table10-*"):
        seeds = pd.read_csv(folder / "table10.csv").groupby("model")["training_seeds"].first()
        assert seeds.to_dict() == {"small (original)": 1, "small-4": 2}
        assert "2 retrainings of each kind" in (folder / "table10.md").read_text()


def test_classes_of_ones_own_have_no_original(retrain: Run, results: Path, tmp_path: Path) -> None:
    """Classes of which the network knows none, of which the test images lack one."""
    images = pictures(tmp_path / "images", 5)
    for path in (images / "blue").iterdir():
        path.unlink()
    own = ("dataset.classes=folders", "retrain.selected=false", f"dataset.root={images}")
    retrain("experiment=table10", *own, "retrain.images=30")
    rows = rows_of(results, "table10")
    assert "small (original)" not in set(rows["model"])
    names = rows["image"].astype(str).str.split("/").str[0]
    assert (rows["label"] == names.map({"blue": 0, "green": 1, "red": 2})).all()
    assert set(names[rows["images_are"] == "heldout"]) == {"green", "red"}
    markdown = (only(results, "table10") / "table10.md").read_text()
    assert "Trained on: 30 images of 3 classes, out of 36" in markdown
    assert "small-unchanged" in markdown
    assert "## Points more than small (original)" not in markdown


# --- Table 11 ---------------------------------------------------------------------------------


def test_table_11_end_to_end(retrain: Run, world: Path, results: Path) -> None:
    command = ("experiment=table11", "attack.epsilon=[minimal,2]", "retrain.learning_rate=0.2")
    ended = retrain(*command)
    folder = only(results, "table11")
    assert {path.name for path in folder.iterdir()} >= {
        "table11.csv", "table11.md", "table11.tex", "waterfall.png", "waterfall.pdf",
        "retraining.csv",
    }  # fmt: skip
    table = pd.read_csv(folder / "table11.csv").astype({"epsilon": str})
    original = table[(table["against"] == "original") & (table["model"] == "small (all classes)")]
    assert original.loc[~original["rounded"], "fooled_rate"].tolist() == [1, 1]
    # Only images that the original is right about, of the held-out ones, are attacked.
    right = predicted(world, "test").argmax(1) == read(world / "test")[1].numpy()
    rows = rows_of(results, "table11")
    paths = sorted((world / "test").glob("*/*"))
    names = [path.relative_to(world / "test").as_posix() for path in paths]
    eligible = {name for name, fine in zip(names, right, strict=True) if fine}
    minimal = rows[(rows["epsilon"] == "minimal") & (rows["against"] == "original")]
    assert set(minimal["image"]) == eligible
    assert set(rows["image"]) <= eligible
    # The classes that nobody was trained for are gone from all but the original.
    assert set(rows.loc[rows["model"] != "small (all classes)", "prediction"]) <= set(LABELS)
    assert (rows["wrong"] == (rows["prediction"] != rows["label"])).all()
    # Against itself every image counts, fooled or not, whatever the epsilon.
    itself = rows[(rows["against"] == "itself") & ~rows["rounded"]]
    counts = itself.groupby(["model", "epsilon"], observed=True)["image"].nunique()
    assert counts.xs("minimal", level=1).tolist() == counts.xs("2", level=1).tolist()
    assert counts["small (original)", "2"] == len(eligible)
    spared = itself[~itself["wrong"]]
    assert len(spared) > 0
    assert (spared["size"] == 0).all()
    rates = table[(table["against"] == "itself") & (table["epsilon"] == "2") & ~table["rounded"]]
    assert ((rates["fooled_rate"] > 0) & (rates["fooled_rate"] < 1)).all()

    markdown = (folder / "table11.md").read_text()
    assert "## Why adversarial images stop fooling, cause by cause" in markdown
    assert f"The {len(eligible)} images that fool the original" in markdown
    assert "retrained with changed pixels, small-4" in ended.out
    with Image.open(folder / "waterfall.png") as picture:
        assert min(picture.size) > 400
    first = files(folder)
    retrain(*command)
    assert files(folder) == first


def test_so_many_images_as_are_wanted(retrain: Run, results: Path) -> None:
    retrain("experiment=table11", *ONE, "attack.epsilon=8", "attack.wanted=5")
    rows = rows_of(results, "table11")
    counts = rows.groupby(["against", "model"], observed=True)["image"].nunique()
    assert counts["original"].tolist() == [5, 5, 5]
    assert counts["itself"].tolist() == [5, 5]
    # Not five of the first class.
    assert set(rows.loc[rows["against"] == "itself", "label"]) == set(LABELS)
    # Without a control there is no waterfall, but a table.
    assert not list(results.glob("*/waterfall.png"))


# --- distances --------------------------------------------------------------------------------


def test_distances_end_to_end(retrain: Run, results: Path) -> None:
    ended = retrain("experiment=distances", "retrain.measured=6", "retrain.num=4")
    folder = only(results, "distances")
    names = {"distances.csv", "distances.md", "distances.tex", "distances.png", "retraining.png"}
    assert {path.name for path in folder.iterdir()} >= names
    table = pd.read_csv(folder / "distances.csv")
    assert table["images_are"].tolist() == ["same"] * 4 + ["heldout"] * 4
    assert (table["images"] == TOTAL).all()
    assert (table["measured"] == 6).all()
    rows = rows_of(results, "distances")
    # Selected as recognised: on the inner side of the boundary, all of them.
    same = rows[(rows["images_are"] == "same") & (rows["model"] == "small (original)")]
    assert (same["distance"] > 0).all()
    # DeepFool finds fooling images about as far as the tangents say, a little beyond them.
    both = same.dropna()
    np.testing.assert_allclose(both["measured"], both["distance"], rtol=0.3)
    wide = rows.pivot_table(
        index=["images_are", "image"], columns="model", values="distance", observed=True
    )
    changes = (wide["small-4"] - wide["small (original)"]).loc["heldout"]
    row = table[(table["model"] == "small-4") & (table["images_are"] == "heldout")].iloc[0]
    assert row["baseline_change"] == pytest.approx(changes.mean())
    assert row["baseline_grown"] == pytest.approx((changes > 0).mean())
    # Headings have several lines in a terminal.
    assert "DeepFool" in ended.out
    assert "Rank correlation with DeepFool" in (folder / "distances.md").read_text()


def test_the_likeliest_classes_bound_the_distance_from_above(retrain: Run, results: Path) -> None:
    few = ("experiment=distances", "retrain.measured=0", "retrain.num=[]", "retrain.controls=[]")
    found = {}
    for boundaries in ("1", "2", "null"):
        retrain(*few, f"retrain.boundaries={boundaries}")
        found[boundaries] = rows_of(results, "distances")["distance"]
        results.rename(results.with_name(f"results-{boundaries}"))
    assert (found["1"] >= found["2"]).all()
    # Of three classes there are no more than two others.
    assert (found["2"] == found["null"]).all()


# --- saved networks ---------------------------------------------------------------------------


def test_a_saved_network_predicts_as_it_did(
    retrain: Run, run: Run, world: Path, results: Path, tmp_path: Path
) -> None:
    """Evaluated as any other, with the same changes of the same images."""
    networks = tmp_path / "networks"
    few = ("retrain.num=64", "retrain.controls=[noise]")
    retrain("experiment=table10", f"retrain.save={networks}", *few)
    assert {path.name for path in networks.iterdir()} == {"small-64", "small-noise"}
    saved = ("model=checkpoint", f"models.checkpoint.path={networks / 'small-64'}")
    ended = run(*data(world, train=False), *saved, "experiment=table6", "perturbation.num=[4,64]")
    assert ended.code == 0, ended.err
    before, after = rows_of(results, "table10"), rows_of(results, "table6")
    before = before[(before["model"] == "small-64") & (before["images_are"] == "heldout")]
    one, two = (
        rows.astype({"image": str})
        .set_index(["image", "num", "draw"])[["label", "prediction"]]
        .sort_index()
        for rows in (before, after)
    )
    # Only images that it recognises take part.
    assert len(two) > len(one) / 2
    pd.testing.assert_frame_equal(two, one.loc[two.index])
    assert two["prediction"].nunique() == 3
    again = run(*data(world), *saved, "experiment=table10", "retrain.num=4")
    assert "cannot be told" in sentence(again)


# --- several processes ------------------------------------------------------------------------


PLAIN = ("draws=2", "perturbation.num=[4,256]")
# 36 images in batches of 4, which two processes cannot share evenly.
TOGETHER = {
    "table6": PLAIN,
    "table9": (*PLAIN, "attack.epsilon=[minimal,8]"),
    "table9 attack=pgd": (*PLAIN, "attack.epsilon=4", "attack.wanted=7"),
    "table9 attack=carlini_wagner": (
        *PLAIN, "attack.arguments.steps=9", "attack.arguments.stepsize=0.01", "attack.wanted=9",
    ),
    "overshoot": (*PLAIN, "attack.epsilon=[1.5x,4x]", "attack.wanted=9"),
    "amplification": ("perturbation.num=[4,256]",),
    "worst-case": ("draws=3", "queries=12", "perturbation.num=[4,64]"),
    "table10": (*SHORT, *ONE),
    "table11": (*SHORT, *ONE, "attack.epsilon=[minimal,2]", "attack.wanted=11"),
    "distances": (*SHORT, *ONE, "retrain.measured=18"),
}  # fmt: skip


def measure(context: Context, runs: dict[str, RunSettings]) -> dict[str, pd.DataFrame]:
    """Do runs without drawing anything; return their rows, in the process that writes."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.present.present", lambda *of_run: [])
        patch.setattr("experiments.present.present_histories", lambda *of_run: None)
        for name, settings in runs.items():
            directory, _ = pipeline.run(context, settings, False)
            if context.is_main:
                found[name] = pd.read_parquet(outcomes_file(directory, settings.name))
    return found


@pytest.fixture(scope="module")
def shared(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Rows of every kind by two processes; what is retrained is kept where one process finds it."""
    runs = runs_of(world, tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("shared"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "_START_METHOD", FORKING.get_start_method())
        return {"runs": runs, "rows": distributed.start(measure, ["cpu", "cpu"], runs)}


def runs_of(world: Path, results: Path, cache: Path) -> dict[str, RunSettings]:
    found = {}
    for experiment, keys in TOGETHER.items():
        name, *attack = experiment.split()
        found[experiment] = settings_of(
            *data(world, train=SHORT[0] in keys), *network(world), f"experiment={name}", *attack,
            *keys, "engine.batch_size=4", f"paths.results={results}", f"paths.cache={cache}",
        )  # fmt: skip
    return found


@pytest.mark.parametrize("experiment", TOGETHER)
def test_two_processes_give_the_rows_of_one(
    shared: dict[str, Any], tmp_path: Path, experiment: str
) -> None:
    settings = shared["runs"][experiment]
    paths = settings.paths.model_copy(update={"results": tmp_path})
    alone = measure(SINGLE, {experiment: settings.model_copy(update={"paths": paths})})[experiment]
    pd.testing.assert_frame_equal(shared["rows"][experiment], alone, check_exact=True)
    # Those of more than one batch, so that both have done something.
    assert alone["image"].nunique() > 4
    if settings.attack and settings.measure == "outcomes":
        assert alone["prediction"].nunique() > 1


@pytest.mark.slow
def test_two_processes_retrain_as_one_does(
    retrain: Run, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "_START_METHOD", FORKING.get_start_method())
    losses = {}
    for devices in ("cpu", "2"):
        # A cache of its own, or the second would find what the first has trained.
        cache = results.with_name(f"cache-{devices}")
        monkeypatch.setenv("PIXELROBUST_CACHE", str(cache))
        retrain("experiment=table10", *ONE, "engine.batch_size=4", f"engine.devices={devices}")
        assert list(cache.glob("retrained/*"))
        losses[devices] = pd.read_csv(only(results, "table10") / "retraining.csv")
        results.rename(results.with_name(f"results-{devices}"))
    np.testing.assert_allclose(losses["cpu"]["loss"], losses["2"]["loss"], rtol=1e-4)


# --- wrong values -----------------------------------------------------------------------------

WRONG = {
    "dataset.classes=folders": "set retrain.selected=false",
    "retrain.categories=1": "1 class is left to train on",
    "retrain.model=large": "retrain.model=large is not among the models (timm)",
    "measure=transfer": "measure=transfer needs an attack; set attack=fgsm",
    "experiment=table11 dataset.classes=folders retrain.selected=false": "that it does not",
    # Before any folder is looked into.
    "experiment=table11 attack.name=PGD attack.refine=true dataset.root=/nowhere": "attack.refine=true is for attacks of a",
    "experiment=table9 attack.name=GenAttack attack.refine=false dataset.root=/nowhere": "unsupported",
    "experiment=overshoot attack=pgd attack.epsilon=2x dataset.root=/nowhere": "goes straight on",
    "attack=fgsm": "measure=retraining takes images as they are; set attack=none",
    "retrain.save=/dev/null/networks": "retrain.save=/dev/null/networks cannot be written to",
    "retrain.num=2000": "retrain.num=2000 is more than the 1024 pixels",
    "retrain.seeds=[]": "retrain.seeds=",
    "retrain.controls=[mixup]": "retrain.controls='mixup'",
    "retrain.batch_norm=train engine.devices=2": "retrain.batch_norm=train needs whole batches",
    "retrain.precision=bf16": "retrain.precision=bf16 needs a GPU",
    "retrain.learning_rate=1e38": "smaller retrain.learning_rate",
    "dataset.train_root=/nowhere": "dataset.train_root=/nowhere is not a folder",
    "dataset.classes=folders retrain.selected=false retrain.num=[] retrain.controls=[]": (
        "there is nothing to retrain"
    ),
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_value_is_one_sentence(
    fail: Callable[..., str], monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    if "devices=2" in arguments:
        monkeypatch.setattr(distributed, "_START_METHOD", FORKING.get_start_method())
    before = () if "experiment=" in arguments else ("experiment=table10",)
    assert WRONG[arguments] in fail(*before, *arguments.split())


def test_test_images_of_other_classes_are_refused(fail: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "images" / "grey").mkdir(parents=True)
    Image.new("RGB", (SIDE, SIDE), "grey").save(tmp_path / "images" / "grey" / "a.png")
    said = fail("experiment=table10", f"dataset.root={tmp_path / 'images'}")
    assert "holds no image of the classes that are trained on" in said


def test_an_attack_that_fools_no_network_is_one_sentence(fail: Callable[..., str]) -> None:
    said = fail("experiment=table11", *ONE, "attack.epsilon=1e-6")
    assert "no image fools small at any of attack.epsilon=['1e-06']" in said
