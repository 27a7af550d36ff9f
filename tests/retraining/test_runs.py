"""Retraining through the command line: tiny networks and images, from config to tables and figures."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from experiments.present import present, stored_runs
from pixelrobust import distributed
from pixelrobust.models.saved import load_model
from tests.conftest import Ended, Run
from tests.retraining.cases import FORKING

# Besides what processes of other tests import: what a whole run does.
FORKING.set_forkserver_preload(
    ["pixelrobust.retraining", "tests.retraining.cases", "experiments.pipeline"]
)

NETWORK = "test_convnext2"
SIDE = 32
# Output of the network by class: not all of them are in the data set, nor in alphabetical order.
OUTPUTS = ["grey", "red", "black", "green", "blue"]
CLASSES = ["blue", "green", "red"]
LABELS = [OUTPUTS.index(name) for name in CLASSES]
EACH = 12
TOTAL = EACH * len(CLASSES)


def pictures(root: Path, seed: int) -> Path:
    """Noise that is a little brighter in one channel, as the folder's name says."""
    rng = np.random.default_rng(seed)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for index in range(EACH):
            pixels = rng.integers(0, 160, (SIDE, SIDE, 3))
            pixels[..., ["red", "green", "blue"].index(name)] += rng.integers(10, 60)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{index:02}.png")
    return root


def read(root: Path) -> tuple[torch.Tensor, torch.Tensor]:
    paths = sorted(root.glob("*/*.png"))
    pixels = np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in paths])
    labels = torch.tensor([OUTPUTS.index(path.parent.name) for path in paths])
    return torch.tensor(pixels) / 255, labels


def fitted(images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Random features, and a last layer that tells the classes apart (ridge regression)."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = timm.create_model(NETWORK, num_classes=len(OUTPUTS)).eval()
        features = network.forward_head(
            network.forward_features(2 * images - 1), pre_logits=True
        ).double()
        inputs = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        targets = torch.nn.functional.one_hot(labels, len(OUTPUTS)).double()
        ridge = 1e-3 * len(inputs) * torch.eye(inputs.shape[1])
        weight = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ targets)
        head = network.get_classifier()
        head.weight.copy_(10 * weight[:-1].T)
        head.bias.copy_(10 * weight[-1])
    return network.state_dict()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


def make_world(root: Path) -> Path:
    """A folder of training and test images, class names, and a network's weights."""
    pictures(root / "test", 1)
    images, labels = read(pictures(root / "train", 0))
    save_file(fitted(images, labels), root / "net.safetensors")
    (root / "classes.txt").write_text("\n".join(OUTPUTS))
    return root


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def retrain(run: Run, world: Path) -> Run:
    """The command line, on these images and this network, with a short retraining."""

    def call(*arguments: str) -> Ended:
        return run(*data(world), *network(world), *SHORT, *arguments)

    return call


SHORT = (
    "retrain.num=[4,64]", "retrain.controls=[unchanged,noise]", "retrain.epochs=2",
    "retrain.learning_rate=0.05", "perturbation.num=[4,64]",
)  # fmt: skip


def data(world: Path, *, train: bool = True) -> tuple[str, ...]:
    return (
        "dataset=imagefolder", f"dataset.root={world / 'test'}",
        *((f"dataset.train_root={world / 'train'}",) if train else ()),
        f"dataset.classes={world / 'classes.txt'}", f"dataset.preprocessing.resize={SIDE}",
        f"dataset.preprocessing.crop={SIDE}",
    )  # fmt: skip


def network(world: Path) -> tuple[str, ...]:
    return (
        "model=timm", f"models.timm.name={NETWORK}", "models.timm.label=small",
        f"models.timm.weights={world / 'net.safetensors'}", f"models.timm.classes={len(OUTPUTS)}",
        "models.timm.mean=[0.5,0.5,0.5]", "models.timm.std=[0.5,0.5,0.5]",
    )  # fmt: skip


def only(results: Path, pattern: str) -> Path:
    (folder,) = results.glob(pattern)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """All that is written but what says when and how long."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.rglob("*.*"))
        if path.suffix != ".json"
    }


def predicted(world: Path, split: str) -> np.ndarray:
    """The original network's logits, without anything of this project."""
    model = timm.create_model(NETWORK, num_classes=len(OUTPUTS)).eval()
    model.load_state_dict(load_file(world / "net.safetensors"))
    with torch.no_grad():
        return model(2 * read(world / split)[0] - 1).numpy()


# Table 10


def test_table_10_end_to_end(retrain: Run, world: Path, tmp_path: Path) -> None:
    ended = retrain("experiment=table10")
    assert ended.code == 0, ended.err
    folder = only(tmp_path / "results", "table10-*")
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
    rows = pd.read_parquet(folder / "outcomes" / "table10.parquet")
    for kind, split in (("same", "train"), ("heldout", "test")):
        own = rows[(rows["images_are"] == kind) & (rows["num"] == 0)]
        own = own[own["model"] == "small (original)"].sort_values("image")
        labels = read(world / split)[1].numpy()
        expected = np.array(sorted(LABELS))[predicted(world, split)[:, sorted(LABELS)].argmax(1)]
        assert own["prediction"].tolist() == expected.tolist()
        assert own["label"].tolist() == labels.tolist()
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
    assert f"Trained on: {TOTAL} images of 3 classes that small classifies correctly" in markdown
    assert f"Held out: {TOTAL} others" in markdown
    assert "## Points more than small (original)" in markdown
    assert "## Points more than small-unchanged" in markdown
    with Image.open(folder / "table10.png") as picture:
        assert min(picture.size) > 400
    assert "heldout" in ended.out

    # Again, from the cache: no epoch is trained, and not a byte differs.
    first = files(folder)
    seconds = history["seconds"].tolist()
    assert retrain("experiment=table10").code == 0
    assert files(folder) == first
    assert pd.read_csv(folder / "retraining.csv")["seconds"].tolist() == seconds
    manifest, outcomes = stored_runs(folder)["table10"]
    present(tmp_path / "again", manifest, outcomes)
    assert (tmp_path / "again" / "table10.md").read_text() == markdown


def test_test_images_that_were_trained_on_are_not_held_out(
    run: Run, world: Path, tmp_path: Path
) -> None:
    """Half of the test images are copies, under other names."""
    images = tmp_path / "mixed"
    for name in CLASSES:
        (images / name).mkdir(parents=True)
        for index in range(4):
            for split, prefix in (("train", "copy"), ("test", "new")):
                source = world / split / name / f"{index:02}.png"
                (images / name / f"{prefix}{index}.png").write_bytes(source.read_bytes())
    arguments = (*data(world), *network(world), *SHORT, "experiment=table10", "retrain.num=4")
    ended = run(*arguments, f"dataset.root={images}", "retrain.controls=[]")
    assert ended.code == 0, ended.err
    rows = pd.read_parquet(only(tmp_path / "results", "table10-*") / "outcomes" / "table10.parquet")
    held = rows.loc[rows["images_are"] == "heldout", "image"].unique().tolist()
    assert len(held) == 12
    assert all("/new" in key for key in held)
    ended = run(*arguments, f"dataset.root={world / 'train'}", "retrain.controls=[]")
    assert ended.code == 0, ended.err
    assert "heldout" not in ended.out


def test_other_heldout_images_are_another_run(run: Run, world: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        pictures(tmp_path / name, seed=len(name) + ord(name[0]))
        few = (*SHORT, "experiment=table10", "retrain.num=4", "retrain.controls=[]")
        ended = run(*data(world), *network(world), *few, f"dataset.root={tmp_path / name}")
        assert ended.code == 0, ended.err
    assert len(list((tmp_path / "results").glob("table10-*"))) == 2


def test_everything_may_be_trained(retrain: Run, tmp_path: Path) -> None:
    few = ("retrain.num=4", "retrain.controls=[]", "retrain.seeds=[1,2]")
    save = f"retrain.save={tmp_path / 'networks'}"
    for trainable in ("all", "last"):
        ended = retrain(
            "experiment=table10", f"retrain.trainable={trainable}", *few, f"{save}/{trainable}"
        )
        assert ended.code == 0, ended.err
    stems = {
        name: load_model(tmp_path / "networks" / name / "small-4").module.state_dict()[
            "1.stem.0.weight"
        ]
        for name in ("all", "last")
    }
    assert not torch.equal(stems["all"], stems["last"])
    both = {path.name for path in (tmp_path / "networks" / "all").iterdir()}
    assert both == {"small-4", "small-4-seed2"}
    for folder in (tmp_path / "results").glob("table10-*"):
        table = pd.read_csv(folder / "table10.csv")
        assert table.groupby("model")["training_seeds"].first().to_dict() == {
            "small (original)": 1, "small-4": 2,
        }  # fmt: skip
        assert "2 retrainings of each kind" in (folder / "table10.md").read_text()


def test_classes_of_ones_own_have_no_original(run: Run, world: Path, tmp_path: Path) -> None:
    """Classes of which the network knows none, of which the test images lack one."""
    images = pictures(tmp_path / "images", 5)
    for path in (images / "blue").iterdir():
        path.unlink()
    own = ("dataset.classes=folders", "retrain.selected=false", f"dataset.root={images}")
    ended = run(
        *data(world), *network(world), *SHORT, "experiment=table10", *own, "retrain.images=30"
    )
    assert ended.code == 0, ended.err
    folder = only(tmp_path / "results", "table10-*")
    rows = pd.read_parquet(folder / "outcomes" / "table10.parquet")
    assert "small (original)" not in set(rows["model"])
    names = rows["image"].astype(str).str.split("/").str[0]
    assert (rows["label"] == names.map({"blue": 0, "green": 1, "red": 2})).all()
    assert set(names[rows["images_are"] == "heldout"]) == {"green", "red"}
    markdown = (folder / "table10.md").read_text()
    assert "Trained on: 30 images of 3 classes, out of 36" in markdown
    assert "small-unchanged" in markdown
    assert "## Points more than small (original)" not in markdown


# Table 11


def test_table_11_end_to_end(retrain: Run, world: Path, tmp_path: Path) -> None:
    pytest.importorskip("foolbox")
    ended = retrain("experiment=table11", "attack.epsilon=[minimal,2]", "retrain.learning_rate=0.2")
    assert ended.code == 0, ended.err
    folder = only(tmp_path / "results", "table11-*")
    assert {path.name for path in folder.iterdir()} >= {
        "table11.csv", "table11.md", "table11.tex", "waterfall.png", "waterfall.pdf",
        "retraining.csv",
    }  # fmt: skip
    table = pd.read_csv(folder / "table11.csv").astype({"epsilon": str})
    original = table[(table["against"] == "original") & (table["model"] == "small (all classes)")]
    unrounded = original[~original["rounded"]]
    assert unrounded["fooled_rate"].tolist() == [1, 1]
    # Only images that the original is right about, of the held-out ones, are attacked.
    right = predicted(world, "test").argmax(1) == read(world / "test")[1].numpy()
    rows = pd.read_parquet(folder / "outcomes" / "table11.parquet")
    names = [
        path.relative_to(world / "test").as_posix() for path in sorted((world / "test").glob("*/*"))
    ]
    eligible = {name for name, fine in zip(names, right, strict=True) if fine}
    minimal = rows[(rows["epsilon"] == "minimal") & (rows["against"] == "original")]
    assert set(minimal["image"]) == eligible
    assert set(rows["image"]) <= eligible
    # The classes that nobody was trained for are gone from all but the original.
    theirs = rows[rows["model"] != "small (all classes)"]
    assert set(theirs["prediction"]) <= set(LABELS)
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
    assert (
        retrain(
            "experiment=table11", "attack.epsilon=[minimal,2]", "retrain.learning_rate=0.2"
        ).code
        == 0
    )
    assert files(folder) == first


def test_so_many_images_as_are_wanted(retrain: Run, tmp_path: Path) -> None:
    pytest.importorskip("foolbox")
    few = ("retrain.num=4", "retrain.controls=[]", "attack.epsilon=8", "attack.wanted=5")
    ended = retrain("experiment=table11", *few)
    assert ended.code == 0, ended.err
    rows = pd.read_parquet(only(tmp_path / "results", "table11-*") / "outcomes" / "table11.parquet")
    counts = rows.groupby(["against", "model"], observed=True)["image"].nunique()
    assert counts["original"].tolist() == [5, 5, 5]
    assert counts["itself"].tolist() == [5, 5]
    # Not five of the first class.
    tried = rows.loc[rows["against"] == "itself", "label"]
    assert set(tried) == set(LABELS)
    # Without a control there is no waterfall, but a table.
    assert not list((tmp_path / "results").glob("*/waterfall.png"))


# Distances


def test_distances_end_to_end(retrain: Run, tmp_path: Path) -> None:
    pytest.importorskip("foolbox")
    ended = retrain("experiment=distances", "retrain.measured=6", "retrain.num=4")
    assert ended.code == 0, ended.err
    folder = only(tmp_path / "results", "distances-*")
    names = {"distances.csv", "distances.md", "distances.tex", "distances.png", "retraining.png"}
    assert {path.name for path in folder.iterdir()} >= names
    table = pd.read_csv(folder / "distances.csv")
    assert table["images_are"].tolist() == ["same"] * 4 + ["heldout"] * 4
    assert (table["images"] == TOTAL).all()
    assert (table["measured"] == 6).all()
    rows = pd.read_parquet(folder / "outcomes" / "distances.parquet")
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
    assert "Rank correlation with DeepFool" in ended.out


def test_the_likeliest_classes_bound_the_distance_from_above(retrain: Run, tmp_path: Path) -> None:
    few = ("experiment=distances", "retrain.measured=0", "retrain.num=[]", "retrain.controls=[]")
    found = {}
    for boundaries in ("1", "2", "null"):
        ended = retrain(*few, f"retrain.boundaries={boundaries}")
        assert ended.code == 0, ended.err
    for folder in (tmp_path / "results").glob("distances-*"):
        record = json.loads((folder / "outcomes" / "distances.json").read_text())
        rows = pd.read_parquet(folder / "outcomes" / "distances.parquet")
        found[record["config"]["retrain"]["boundaries"]] = rows["distance"]
    assert (found[1] >= found[2]).all()
    # Of three classes there are no more than two others.
    assert (found[2] == found[None]).all()


# Saved networks


def test_a_saved_network_predicts_as_it_did(
    retrain: Run, run: Run, world: Path, tmp_path: Path
) -> None:
    """Evaluated as any other, with the same changes of the same images."""
    save = f"retrain.save={tmp_path / 'networks'}"
    ended = retrain("experiment=table10", save, "retrain.num=64", "retrain.controls=[noise]")
    assert ended.code == 0, ended.err
    assert {path.name for path in (tmp_path / "networks").iterdir()} == {"small-64", "small-noise"}
    saved = f"models.checkpoint.path={tmp_path / 'networks' / 'small-64'}"
    using = ("model=checkpoint", saved, "experiment=table6", "perturbation.num=[4,64]")
    ended = run(*data(world, train=False), *using)
    assert ended.code == 0, ended.err
    results = tmp_path / "results"
    before = pd.read_parquet(only(results, "table10-*") / "outcomes" / "table10.parquet")
    after = pd.read_parquet(only(results, "table6-*") / "outcomes" / "table6.parquet")
    before = before[(before["model"] == "small-64") & (before["images_are"] == "heldout")]
    keys = ["image", "num", "draw"]
    one, two = (
        rows.astype({"image": str}).set_index(keys)[["label", "prediction"]].sort_index()
        for rows in (before, after)
    )
    # Only images that it recognises take part.
    assert len(two) > len(one) / 2
    pd.testing.assert_frame_equal(two, one.loc[two.index])
    assert two["prediction"].nunique() == 3
    again = run(*data(world), *using[:2], "experiment=table10", "retrain.num=4")
    assert again.code == 2
    assert "cannot be told" in again.err
    assert again.err.count("\n") == 1


# Several processes


def test_several_processes_give_the_same(
    retrain: Run, run: Run, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "_START_METHOD", FORKING.get_start_method())
    tables, losses = {}, {}
    for devices in ("cpu", "2"):
        # A cache of its own, or the second would find what the first has trained.
        cache = tmp_path / f"cache-{devices}"
        monkeypatch.setenv("PIXELROBUST_CACHE", str(cache))
        own = ("engine.batch_size=4", f"engine.devices={devices}")
        plain = (*data(world, train=False), *network(world), "experiment=table6", "draws=2")
        for ended in (
            run(*plain, "perturbation.num=[4,256]", *own),
            retrain("experiment=table10", "retrain.num=4", "retrain.controls=[]", *own),
        ):
            assert ended.code == 0, ended.err
        assert list(cache.glob("retrained/*"))
        results = tmp_path / "results"
        tables[devices] = pd.read_parquet(only(results, "table6-*") / "outcomes" / "table6.parquet")
        losses[devices] = pd.read_csv(only(results, "table10-*") / "retraining.csv")
        results.rename(tmp_path / f"results-{devices}")
    pd.testing.assert_frame_equal(tables["cpu"], tables["2"])
    assert tables["cpu"]["wrong"].any()
    np.testing.assert_allclose(losses["cpu"]["loss"], losses["2"]["loss"], rtol=1e-4)


# What is wrong

WRONG = {
    "dataset.classes=folders": "set retrain.selected=false",
    "retrain.categories=1": "1 class is left to train on",
    "retrain.model=large": "retrain.model=large is not among the models (timm)",
    "measure=transfer": "measure=transfer needs an attack; set attack=fgsm",
    "experiment=table11 dataset.classes=folders retrain.selected=false": "that it does not",
    "experiment=distances engine.devices=2": "several devices share outcomes of plain images",
    "experiment=table11 engine.devices=2": "several devices share outcomes of plain images",
    "experiment=table9 engine.devices=2": "several devices share outcomes of plain images",
    "attack=fgsm": "measure=retraining takes images as they are; set attack=none",
    "retrain.save=/dev/null/networks": "retrain.save=/dev/null/networks cannot be written to",
    "retrain.num=-4": "retrain.num=-4 is wrong",
    "retrain.num=2000": "retrain.num=2000 is more than the 1024 pixels",
    "retrain.seeds=[-1]": "retrain.seeds=-1 is wrong",
    "retrain.seeds=[]": "retrain.seeds=",
    "retrain.epochs=0": "retrain.epochs=0",
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
    retrain: Run, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    if "devices=2" in arguments:
        monkeypatch.setattr(distributed, "_START_METHOD", FORKING.get_start_method())
    before = () if "experiment=" in arguments else ("experiment=table10",)
    ended = retrain(*before, *arguments.split())
    assert ended.code == 2, ended.out
    assert WRONG[arguments] in ended.err
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1, ended.err
    assert "Traceback" not in ended.err


def test_test_images_of_other_classes_are_refused(run: Run, world: Path, tmp_path: Path) -> None:
    images = tmp_path / "images" / "grey"
    images.mkdir(parents=True)
    Image.new("RGB", (SIDE, SIDE), "grey").save(images / "a.png")
    ended = run(
        *data(world), *network(world), *SHORT, "experiment=table10", f"dataset.root={images.parent}"
    )
    assert ended.code == 2
    assert "holds no image of the classes that are trained on" in ended.err
    assert ended.err.count("\n") == 1


def test_an_attack_that_fools_nobody_is_one_sentence(retrain: Run) -> None:
    pytest.importorskip("foolbox")
    few = ("retrain.num=4", "retrain.controls=[]", "attack.epsilon=1e-6")
    ended = retrain("experiment=table11", *few)
    assert ended.code == 2
    assert "no image fools small at any of attack.epsilon=['1e-06']" in ended.err
    assert ended.err.count("\n") == 1
