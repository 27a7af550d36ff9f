"""Retraining in one process: order, dropout, frozen parts, and what is trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from pixelrobust import InputError
from pixelrobust.datasets.decoded import PixelRows
from pixelrobust.models.build import weights_digest
from pixelrobust.models.heads import Normalize, replace_head
from pixelrobust.perturbation.augmentations import Unchanged
from pixelrobust.perturbation.pixels import image_keys
from pixelrobust.retraining import (
    HISTORY_COLUMNS,
    Retrained,
    count_samples,
    recipe_settings,
    retrain,
    trainer,
)
from pixelrobust.retraining.samples import Samples, epoch_order
from pixelrobust.retraining.stochastic import KeyedDropout
from pixelrobust.retraining.trainer import split_frozen
from tests.retraining.cases import CHANGE, CLASSES, SIDE, classifier, images, keys, train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def no_global_randomness() -> Any:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def close(one: nn.Module, other: nn.Module) -> None:
    states = dict(other.state_dict()), dict(one.state_dict())
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)


# --- order ------------------------------------------------------------------------------------


def test_orders_are_permutations_of_seed_and_epoch() -> None:
    orders = [epoch_order(50, seed, epoch).tolist() for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] not in orders[1:]
    assert epoch_order(50, 0, 0).tolist() == orders[0]
    # The same on every machine.
    assert epoch_order(8, 0, 0).tolist() == [2, 5, 1, 6, 7, 0, 3, 4]


# --- samples ----------------------------------------------------------------------------------


def make_samples(**options: Any) -> Samples:
    targets = np.arange(5, dtype=np.int64)
    recipe = recipe_settings(**options)
    return Samples(images(5), keys(5), targets, CHANGE, recipe, 0, torch.device("cpu"))


def test_samples_are_changed_images_and_originals() -> None:
    samples = make_samples(originals=True)
    assert len(samples) == 10
    order = np.array([7, 2, 0, 5])
    batch = samples.pixels(order, 4)
    clean = torch.tensor(images(5)) / 255
    assert torch.equal(batch[[0, 3]], clean[[2, 0]])
    changed = CHANGE.apply(torch.tensor(images(5)[[2, 0]]), [keys(5)[2], keys(5)[0]], 0, 0)
    assert torch.equal(batch[[1, 2]], changed / 255)
    facts = samples.facts(order)
    assert facts.targets.tolist() == [2, 2, 0, 0]
    assert facts.copies.tolist() == [1, 0, 0, 1]
    assert torch.equal(facts.philox_keys, image_keys(keys(5), 0)[[2, 2, 0, 0]])


@pytest.mark.parametrize("redraw", [False, True])
def test_changes_are_drawn_once_or_in_every_epoch(redraw: bool) -> None:
    samples = make_samples(redraw=redraw)
    first, later = (samples.pixels(np.arange(5), epoch) for epoch in (0, 1))
    assert torch.equal(first, later) != redraw


# --- dropout ----------------------------------------------------------------------------------


class Recording(nn.Module):
    """Two layers that drop, one of them called twice."""

    def __init__(self, layer: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.layer, self.second = layer, second

    def forward(self, values: Tensor) -> Tensor:
        return torch.stack((self.layer(values), self.layer(values), self.second(values)), dim=1)


def dropped(
    layer: Any, rows: list[int], *, epoch: int = 0, seed: int = 0, copies: int = 0, size: int = 64
) -> Tensor:
    """(B, 3, 2, size) from inputs of ones, for images of these numbers."""
    network = Recording(layer(), layer()).eval()
    dropout = KeyedDropout(network)
    philox_keys = image_keys([keys(20)[row] for row in rows], seed)
    with dropout.active():
        dropout.begin(philox_keys, torch.full((len(rows),), copies), epoch)
        return network(torch.ones(len(rows), 2, size))


LAYERS = {
    "value": lambda: nn.Dropout(0.25),
    "channel": lambda: nn.Dropout1d(0.25),
    "path": lambda: timm.layers.DropPath(0.25),
    "row": lambda: torchvision.ops.StochasticDepth(0.25, "row"),
}
ALL = list(range(20))


@pytest.mark.parametrize("kind", LAYERS)
def test_masks_hang_on_the_image_and_not_on_the_batch(kind: str) -> None:
    layer = LAYERS[kind]
    whole = dropped(layer, ALL)
    assert torch.equal(dropped(layer, [13, 2]), whole[[13, 2]])
    assert torch.equal(dropped(layer, [4])[0], whole[4])
    # They differ by everything else.
    for options in ({"epoch": 1}, {"seed": 1}, {"copies": 1}):
        assert not torch.equal(dropped(layer, ALL, **options), whole)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(whole[:, one], whole[:, other])


def test_units_that_are_dropped_together() -> None:
    values, channels, paths = (dropped(LAYERS[kind], ALL) for kind in ("value", "channel", "path"))
    assert values.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert (channels == channels[..., :1]).all()
    assert (channels[:, :, 0] != channels[:, :, 1]).any()
    assert (paths == paths[:, :, :1, :1]).all()


def test_dropout_is_as_likely_as_it_should_be() -> None:
    zeros = dropped(lambda: nn.Dropout(0.3), ALL, size=2000) == 0
    assert abs(float(zeros.double().mean()) - 0.3) < 4 * (0.21 / zeros.numel()) ** 0.5
    assert (dropped(lambda: nn.Dropout(1.0), [0]) == 0).all()
    assert (dropped(lambda: timm.layers.DropPath(0.5, scale_by_keep=False), [0, 1]) <= 1).all()


@pytest.mark.parametrize(
    "layer",
    [
        nn.AlphaDropout(0.5), torchvision.ops.StochasticDepth(0.5, "batch"), nn.Dropout(0),
        timm.layers.DropPath(0.0),
    ],
)  # fmt: skip
def test_layers_that_are_not_keyed_stay_off(layer: nn.Module) -> None:
    assert KeyedDropout(layer).names == set()
    assert (dropped(lambda: layer, [0, 1]) == 1).all()


def test_dropout_that_cannot_tell_images_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(0, 1), nn.Dropout(0.5)).eval()
    dropout = KeyedDropout(network)
    with dropout.active():
        dropout.begin(image_keys(keys(3), 0), torch.zeros(3, dtype=torch.int64), 0)
        with pytest.raises(InputError, match=r"layer 1 drops .* shape \(6, 4\)"):
            network(torch.ones(3, 2, 4))


def test_hooks_are_gone_afterwards() -> None:
    network = nn.Dropout(0.5).eval()
    dropout = KeyedDropout(network)
    with dropout.active():
        assert (network(torch.ones(3, 9)) == 1).all()
        dropout.begin(image_keys(keys(3), 0), torch.zeros(3, dtype=torch.int64), 0)
        assert (network(torch.ones(3, 9)) == 0).any()
    assert (network(torch.ones(3, 9)) == 1).all()


# --- frozen parts -----------------------------------------------------------------------------


CLASSIFIER = {f"1.classifier.{index}" for index in range(7)}


@pytest.mark.parametrize(
    ("build", "name", "side", "head", "left"),
    [
        (torchvision.models.get_model, "resnet18", 32, "1.fc", {"1.fc"}),
        (torchvision.models.get_model, "alexnet", 64, "1.classifier.6", CLASSIFIER),
        (
            torchvision.models.get_model, "squeezenet1_1", 32, "1.classifier.1",
            {f"1.classifier.{index}" for index in range(4)},
        ),
        (torchvision.models.get_model, "densenet121", 32, "1.classifier", {"1.classifier"}),
        (timm.create_model, "tf_efficientnet_lite0", 32, "1.classifier", {"1.classifier"}),
    ],
)  # fmt: skip
def test_what_comes_before_the_trained_or_dropping_layers_is_frozen(
    build: Any, name: str, side: int, head: str, left: set[str]
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(name, num_classes=4)
    module = nn.Sequential(Normalize([0.5] * 3, [0.25] * 3), network).eval()
    module = replace_head(module, [0, 1, 2], "random").requires_grad_(False)
    module.get_submodule(head).requires_grad_(True)
    few = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    parts = split_frozen(module, KeyedDropout(module).names, few)
    assert parts is not None
    frozen, rest = parts
    assert {name for name, part in rest.named_modules() if not [*part.children()]} == left
    assert torch.allclose(rest(*frozen(few)), module(few), atol=1e-5)
    assert rest.get_submodule(head) is module.get_submodule(head)


class Mixing(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.mean((2, 3)) - values.mean()


class Deciding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, values: Tensor) -> Tensor:
        return self.head(values.mean((2, 3)) * (2 if float(values.sum()) > 0 else 3))


@pytest.mark.parametrize("network", [nn.Sequential(Mixing(), nn.Linear(3, 2)), Deciding()])
def test_networks_that_are_not_taken_apart(network: nn.Module) -> None:
    network.requires_grad_(False).eval()
    network.get_submodule("1" if isinstance(network, nn.Sequential) else "head").requires_grad_()
    few = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert split_frozen(network, set(), few) is None


@pytest.mark.parametrize(
    ("options", "dropout"),
    [
        ({}, (0.0, 0.0)),
        ({"originals": True}, (0.4, 0.0)),
        ({"optimizer": "adam", "learning_rate": 0.01}, (0.4, 0.3)),
    ],
)
def test_features_computed_once_give_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, dropout: tuple[float, float]
) -> None:
    def trained(folder: str) -> tuple[Retrained, int]:
        module, calls = classifier(*dropout), list[int]()
        module[1][0].register_forward_hook(lambda *_: calls.append(1))
        result = train(tmp_path / folder, module=module, trainable="last", epochs=6, **options)
        return result, len(calls)

    fast, few_calls = trained("fast")
    with monkeypatch.context() as changed:
        changed.setattr(trainer, "split_frozen", lambda *_: None)
        slow, many_calls = trained("slow")
    close(fast.module, slow.module)
    np.testing.assert_allclose(fast.history["loss"], slow.history["loss"], rtol=1e-5)
    assert (fast.history["accuracy"] == slow.history["accuracy"]).all()
    assert few_calls * 3 < many_calls
    # Features that are too many for memory are not kept.
    monkeypatch.setattr(trainer, "_MAX_FROZEN_BYTES", 100)
    uncut, uncut_calls = trained("uncut")
    close(uncut.module, slow.module)
    assert uncut_calls > few_calls * 3


# --- retraining -------------------------------------------------------------------------------


def test_it_learns_and_says_so(tmp_path: Path) -> None:
    before = classifier(0, 0)
    digest = weights_digest(before)
    done: list[int] = []
    result = train(
        tmp_path, module=before, epochs=30, learning_rate=0.05, advance=done.append,
        augmentation=Unchanged(),
    )  # fmt: skip
    assert weights_digest(before) == digest
    history = result.history
    assert list(history.columns) == HISTORY_COLUMNS
    assert history["epoch"].tolist() == list(range(30))
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] / 1.2
    assert history["accuracy"].iloc[-1] > history["accuracy"].iloc[0]
    assert (history["seconds"] > 0).all()
    np.testing.assert_allclose(history["images_per_second"] * history["seconds"], 13)
    assert sum(done) == 13 * 30 == count_samples(13, recipe_settings(epochs=30))
    assert not any(part.training for part in result.module.modules())
    assert all(p.requires_grad and p.grad is None for p in result.module.parameters())
    assert result.module(torch.zeros(1, 3, SIDE, SIDE)).shape == (1, len(CLASSES))


def test_one_step_is_the_step_of_torch(tmp_path: Path) -> None:
    module = classifier(0, 0)
    options = {"epochs": 1, "batch_size": 99, "weight_decay": 0.1, "seed": 4}
    result = train(tmp_path, module=module, **options)
    expected = replace_head(module, CLASSES, "random", 4)
    optimizer = torch.optim.SGD(expected.parameters(), 0.05, momentum=0.9, weight_decay=0.1)
    batch = CHANGE.apply(torch.tensor(images(13)), keys(13), 4, 0) / 255
    logits, targets = expected(batch), torch.arange(13) % 3
    loss = nn.functional.cross_entropy(logits, targets)
    loss.backward()
    optimizer.step()
    close(expected, result.module)
    assert result.history["loss"][0] == pytest.approx(float(loss.detach()), rel=1e-5)
    accuracy = float((logits.argmax(dim=1) == targets).double().mean())
    assert result.history["accuracy"][0] == pytest.approx(accuracy)


@pytest.mark.parametrize("trainable", ["last", "all"])
@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_what_is_trained(tmp_path: Path, trainable: str, batch_norm: str) -> None:
    module = classifier()
    result = train(tmp_path, module=module, trainable=trainable, batch_norm=batch_norm)
    start = replace_head(module, CLASSES, "random", 0).state_dict()
    moved = {n for n, tensor in result.module.state_dict().items() if not tensor.equal(start[n])}
    head = {"1.11.weight", "1.11.bias"}
    statistics = {f"1.1.{kind}" for kind in ("running_mean", "running_var", "num_batches_tracked")}
    parameters = {name for name, _ in module.named_parameters()}
    expected = head if trainable == "last" else parameters
    assert moved == expected | (statistics if batch_norm == "train" else set())


def test_the_same_twice_and_another_by_seed(tmp_path: Path) -> None:
    results = [train(tmp_path / str(i), seed=seed).module for i, seed in enumerate([1, 1, 2])]
    first, again, other = map(weights_digest, results)
    assert first == again != other


def test_losses_do_not_hang_on_what_else_is_in_a_batch(tmp_path: Path) -> None:
    """With steps too small to matter, batches of any size give the same losses, dropout included."""
    losses = [
        train(tmp_path / str(size), batch_size=size, learning_rate=1e-12, originals=True).history
        for size in (1, 4, 26)
    ]
    for other in losses[1:]:
        np.testing.assert_allclose(losses[0]["loss"], other["loss"], rtol=1e-5)
    assert losses[0]["loss"].nunique() == 3


def test_images_from_anywhere(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images(20)[::-1])
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    rows = PixelRows(mapped, np.arange(20)[::-1][:13])
    kinds = [images(13), torch.tensor(images(13)), rows]
    digests = {
        weights_digest(train(tmp_path / str(index), images=kind, epochs=1).module)
        for index, kind in enumerate(kinds)
    }
    assert len(digests) == 1


def test_auxiliary_classifiers_are_left_alone(tmp_path: Path) -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.auxiliary = nn.Linear(3, 9)
            self.head = nn.Linear(3, 9)

        def forward(self, values: Tensor) -> Tensor:
            assert not self.training
            return self.head(values.mean((2, 3)))

    with torch.random.fork_rng(devices=[]):
        module = Auxiliary().eval()
    result = train(tmp_path, module=module, weight_decay=0.5, head="copied")
    assert torch.equal(result.module.auxiliary.weight, module.auxiliary.weight)
    assert result.module.auxiliary.weight.requires_grad


@pytest.mark.filterwarnings("ignore:overflow")
def test_losses_that_are_not_finite(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not finite.*retrain\.learning_rate"):
        train(tmp_path, learning_rate=1e30)


def test_arguments_that_are_wrong(tmp_path: Path) -> None:
    module = classifier()
    good = (module, CLASSES, images(3), keys(3), [5, 2, 7], CHANGE, recipe_settings())
    for index, value, message in [
        (1, [5, 2], "label 7 is not among the 2 classes"),
        (1, [5, 2, 7, 7], "classes="),
        (2, images(2), "2 images came with 3 different keys"),
        (2, images(3).astype(np.float32), "dtype torch.float32"),
        (3, ["a", "a", "b"], "2 different keys"),
        (4, [5], "1 labels"),
        (6, recipe_settings(precision="bf16"), "precision=bf16 needs a GPU"),
        (0, nn.Flatten(), "cannot be told"),
    ]:
        arguments = [*good[:index], value, *good[index + 1 :]]
        with pytest.raises(InputError, match=message):
            retrain(*arguments, directory=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="seed=-1"):
        retrain(*good, seed=-1, directory=tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
