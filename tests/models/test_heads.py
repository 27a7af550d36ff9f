"""Heads of the usual architectures, found, replaced and restricted."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from pixelrobust import InputError
from pixelrobust.engine.base import known_outputs
from pixelrobust.models.build import weights_digest
from pixelrobust.models.heads import (
    ExpandedLogits,
    Normalize,
    RestrictedLogits,
    find_head,
    replace_head,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = [7, 0, 11]
OUTPUTS = 12

# name: the library, the side of the smallest image or a small one, the head behind normalisation
ARCHITECTURES = {
    "resnet18": (torchvision, 32, "1.fc"),
    "densenet121": (torchvision, 32, "1.classifier"),
    "alexnet": (torchvision, 64, "1.classifier.6"),
    "squeezenet1_1": (torchvision, 32, "1.classifier.1"),
    "tf_efficientnet_lite0": (timm, 32, "1.classifier"),
    "convnext_atto": (timm, 32, "1.head.fc"),
    "vit_tiny_patch16_224": (timm, 224, "1.head"),
    "resnetv2_50": (timm, 32, "1.head.fc"),
    "caformer_s18": (timm, 32, "1.head.fc.fc2"),
}


def seeded(build: object, *arguments: object, **options: object) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(*arguments, **options)  # type: ignore[operator]


def wrapped(network: nn.Module) -> nn.Module:
    return nn.Sequential(Normalize([0.5] * 3, [0.25] * 3), network).eval()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def known(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, str]:
    """Make a classifier, two images, and the name of its head."""
    library, side, head = ARCHITECTURES[request.param]
    build = timm.create_model if library is timm else torchvision.models.get_model
    module = wrapped(seeded(build, request.param, num_classes=OUTPUTS))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        # Some networks start with heads of zeros, and SqueezeNet's logits pass a ReLU.
        for parameter in module.get_submodule(head).parameters():
            parameter.uniform_(0, 0.1)
        return module, torch.rand(2, 3, side, side), head


def logits(module: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return module(images)


def state(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Tell where each tensor lies and how often it was written; digests of large networks take long."""
    tensors = module.state_dict(keep_vars=True)
    return {name: (tensor.data_ptr(), tensor._version) for name, tensor in tensors.items()}


def small(outputs: int = 5, *, bias: bool = True) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, outputs, bias)
        )
    ).eval()


def small_images() -> Tensor:
    return torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def test_a_head_is_found_and_its_copy_gives_the_restricted_logits(
    known: tuple[nn.Module, Tensor, str],
) -> None:
    module, images, head = known
    assert find_head(module) == head
    assert find_head(module.get_submodule("1")) == head.removeprefix("1.")
    before = state(module)
    replaced = replace_head(module, CLASSES, "copied", 0)
    expected = logits(module, images)[:, CLASSES]
    assert expected.std() > 0
    torch.testing.assert_close(logits(replaced, images), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(logits(RestrictedLogits(module, CLASSES), images), expected)
    assert state(module) == before


def test_a_random_head_replaces_the_last_layer_only(known: tuple[nn.Module, Tensor, str]) -> None:
    module, images, head = known
    before = state(module)
    replaced = replace_head(module, CLASSES, "random", 3)
    assert logits(replaced, images).shape == (2, len(CLASSES))
    assert state(module) == before
    new = replaced.state_dict()
    for name, old in module.state_dict().items():
        assert new[name].data_ptr() != old.data_ptr()
        assert torch.equal(new[name], old) != name.startswith(f"{head}.")


def test_networks_know_their_new_number_of_classes(known: tuple[nn.Module, Tensor, str]) -> None:
    module, _, head = known
    replaced = replace_head(module, CLASSES, "copied", 0)
    for old, new in zip(module.modules(), replaced.modules(), strict=True):
        if vars(old).get("num_classes") == OUTPUTS:
            assert new.num_classes == len(CLASSES)
    layer = replaced.get_submodule(head)
    assert f"={len(CLASSES)}" in repr(layer) or f", {len(CLASSES)}," in repr(layer)
    # And a second time, from the three outputs that there are now.
    assert find_head(replaced) == head
    again = replace_head(replaced, [2], "copied", 0)
    assert again.get_submodule(head).weight.shape[0] == 1


@pytest.mark.parametrize(
    ("name", "head"),
    # The first two have auxiliary classifiers; the last is AlexNet's kind, and large.
    [("inception_v3", "1.fc"), ("googlenet", "1.fc"), ("vgg16", "1.classifier.6")],
)
def test_heads_are_found_in_large_networks_and_beside_auxiliary_classifiers(
    name: str, head: str
) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(name, init_weights=False)
    assert find_head(wrapped(network)) == head


@pytest.mark.parametrize(
    "name", ["deit_tiny_distilled_patch16_224", "repvit_m0_9", "crossvit_9_240"]
)
def test_two_heads_are_refused(name: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name)
    with pytest.raises(InputError, match="it has several"):
        find_head(wrapped(network))


def test_a_network_without_a_head_is_refused_and_one_behind_it_found() -> None:
    with torch.device("meta"):
        features = timm.create_model("convnext_atto", num_classes=0)
        module = nn.Sequential(features, nn.Linear(320, 4))
    with pytest.raises(InputError, match="cannot be told"):
        find_head(features)
    assert find_head(module) == "1"


@pytest.mark.parametrize(
    "layer", [nn.Linear(16, 5), nn.Conv2d(16, 5, 1), nn.Linear(16, 5, bias=False)]
)
def test_random_values_are_those_that_torch_draws(layer: nn.Module) -> None:
    # There may be more outputs than there were.
    replaced = replace_head(layer, range(9), "random", 6)
    fresh = copy.deepcopy(replaced)
    with torch.random.fork_rng():
        torch.manual_seed(6)
        fresh.reset_parameters()
    assert weights_digest(fresh) == weights_digest(replaced)
    assert len(fresh.weight) == 9


def test_random_values_on_every_machine() -> None:
    weight = replace_head(nn.Linear(4, 3), [0, 1], "random", 5).weight
    expected = [
        [0.3303, -0.3739, 0.4075, 0.3199],
        [0.4201, -0.3834, -0.3356, 0.2379],
    ]
    torch.testing.assert_close(weight, torch.tensor(expected), atol=5e-5, rtol=0)


def test_random_values_follow_the_seed_and_no_global_generator() -> None:
    before = torch.get_rng_state()
    first, same, other, _ = (
        weights_digest(replace_head(small(), [0, 2], "random", seed)) for seed in (1, 1, 2, 2**70)
    )
    assert first == same != other
    assert torch.equal(torch.get_rng_state(), before)


def test_mode_dtype_hooks_and_kind_of_the_layer_are_kept() -> None:
    class Doubled(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return 2 * super().forward(inputs)

    module = nn.Sequential(nn.Flatten(), Doubled(48, 5, bias=False)).double().eval()
    module.requires_grad_(False)
    module[1].register_forward_hook(lambda _module, _inputs, output: output + 1)
    images = small_images().double()
    replaced = replace_head(module, [4, 1], "copied", 0)
    torch.testing.assert_close(replaced(images), module(images)[:, [4, 1]])
    assert not replaced.training
    assert replaced[1].weight.requires_grad
    assert not module[1].weight.requires_grad
    assert replace_head(module.train(), [4, 1], "random", 0).training


def test_classes_from_arrays() -> None:
    expected = weights_digest(replace_head(small(), [3, 1], "copied", 0))
    for classes in (np.array([3, 1]), torch.tensor([3, 1]), (3, 1)):
        assert weights_digest(replace_head(small(), classes, "copied", 0)) == expected


def test_restricted_logits_share_the_module_its_mode_and_gradients() -> None:
    module = small()
    restricted = RestrictedLogits(module, [4, 2])
    assert restricted.module is module
    assert not restricted.training
    images = small_images().requires_grad_()
    assert torch.equal(restricted(images), module(images)[:, [4, 2]])
    restricted(images).sum().backward()
    assert float(images.grad.abs().sum()) > 0
    assert weights_digest(restricted) != weights_digest(RestrictedLogits(module, [2, 4]))


def test_expanded_logits_stand_where_their_classes_do() -> None:
    module = small(3)
    expanded = ExpandedLogits(module, [6, 0, 3], 8)
    assert expanded.module is module
    assert not expanded.training
    found, own = logits(expanded, small_images()), logits(module, small_images())
    assert found.shape == (2, 8)
    assert torch.equal(found[:, [6, 0, 3]], own)
    assert torch.isfinite(found).all()
    assert (found[:, [1, 2, 4, 5, 7]] < -1e20).all()
    known = [True, False, False, True, False, False, True, False]
    assert known_outputs(nn.Sequential(expanded)).tolist() == known
    assert known_outputs(RestrictedLogits(expanded, [3, 2])).tolist() == [True, False]
    assert known_outputs(RestrictedLogits(module, [2])) is None
    assert torch.equal(logits(RestrictedLogits(expanded, [6, 0, 3]), small_images()), own)


def test_unknown_classes_take_no_probability_and_no_gradient() -> None:
    module, images = small(3), small_images().requires_grad_()
    expanded = ExpandedLogits(module, [1, 4, 2], 5)
    loss = torch.nn.functional.cross_entropy(expanded(images), torch.tensor([4, 2]))
    (found,) = torch.autograd.grad(loss, images)
    own = torch.nn.functional.cross_entropy(module(images), torch.tensor([1, 2]))
    (expected,) = torch.autograd.grad(own, images)
    torch.testing.assert_close(loss, own)
    torch.testing.assert_close(found, expected)
    assert expected.abs().sum() > 0


def test_half_precision_has_room_for_unknown_classes() -> None:
    images = small_images().half().flatten(1)[:, :2]
    found = ExpandedLogits(nn.Identity(), [2, 1], 4)(images)
    assert found.isfinite().all()
    assert found.argmax(dim=1).tolist() == [[2, 1][one] for one in images.argmax(dim=1)]


def test_low_logits_stay_above_those_of_unknown_classes() -> None:
    """Even where a network gives very low ones."""

    class Low(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[-1e20, -1e25]]).repeat(len(images), 1)

    found = ExpandedLogits(Low().eval(), [2, 1], 4)(small_images())
    assert found.argmax(dim=1).tolist() == [2, 2]


@pytest.mark.parametrize("classes", [[], [1, 1], [-1], [0.5], [True], [[0]], ["a"]])
def test_classes_that_are_none(classes: list[object]) -> None:
    with pytest.raises(InputError, match="no classes to keep"):
        replace_head(small(), classes, "random", 0)
    with pytest.raises(InputError, match="no classes to keep"):
        RestrictedLogits(small(), classes)
    with pytest.raises(InputError, match="no classes to keep"):
        ExpandedLogits(small(), classes, 5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replace_head(small(), [0, 9], "copied", 0), "classes hold 9"),
        (lambda: replace_head(small(), [0], "zeros", 0), "init='zeros'"),
        (lambda: replace_head(small(), [0], "random", -1), "seed=-1"),
        (
            lambda: RestrictedLogits(small(), [1, 5])(small_images()),
            r"classes hold 5, .* 5 outputs",
        ),
        (lambda: ExpandedLogits(small(2), [1, 5], 5), r"classes hold 5, .* 5 outputs"),
        (
            lambda: ExpandedLogits(small(3), [1, 2], 5)(small_images()),
            "2 classes do not fit the classifier's 3 outputs",
        ),
    ],
)
def test_arguments_that_are_wrong(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize(
    "module",
    [
        nn.Flatten(),
        nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3)),
        nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)),
        RestrictedLogits(nn.Linear(3, 4), [1]),
        ExpandedLogits(nn.Linear(3, 4), [1, 2, 3, 4], 9),
    ],
)
def test_heads_that_cannot_be_told(module: nn.Module) -> None:
    with pytest.raises(InputError, match="cannot be told"):
        find_head(module)


def test_a_head_without_bias() -> None:
    module = small(bias=False)
    replaced = replace_head(module, [2], "copied", 0)
    assert torch.equal(logits(replaced, small_images()), logits(module, small_images())[:, [2]])
    assert replace_head(module, [2], "random", 0)[3].bias is None
