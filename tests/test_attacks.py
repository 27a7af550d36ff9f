"""Attacks on small networks whose weak points are known."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor, nn

from pixelrobust import attacks
from pixelrobust.attacks import (
    Adversarial,
    build_attack,
    check_attack,
    craft,
    is_straight,
    round_to_8_bits,
)
from pixelrobust.errors import InputError
from pixelrobust.settings import MINIMAL, AttackSettings, attack_settings
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.usefixtures("one_thread")

fgsm = partial(attack_settings, name="FGSM")
FGSM = fgsm()
PGD = attack_settings(name="PGD", arguments={"steps": 3, "rel_stepsize": 0.5})
DEEPFOOL = attack_settings(name="L2DeepFoolAttack")
CARLINI_WAGNER = attack_settings(
    name="L2CarliniWagnerAttack",
    arguments={"binary_search_steps": 5, "steps": 100, "initial_const": 1.0},
)
EVERY = pytest.mark.parametrize(
    "attack", [FGSM, PGD, DEEPFOOL, CARLINI_WAGNER], ids=lambda a: a.name
)
SIDE = 3
PIXELS = 3 * SIDE * SIDE


class Linear(nn.Module):
    """Network of class 1 where w · (x - centre) > bias, else class 0."""

    def __init__(self, weight: Tensor, bias: float, centre: float = 128 / 255) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.flatten().float())
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.centre = centre

    def forward(self, images: Tensor) -> Tensor:
        score = (images - self.centre).flatten(1) @ self.weight - self.bias
        return torch.stack([-score, score], dim=1)


def weights() -> Tensor:
    """Return weights of both signs, none of them zero."""
    values = torch.linspace(0.5, 2, PIXELS)
    values[::2] *= -1
    return values.reshape(3, SIDE, SIDE)


def linear(epsilon: float) -> Linear:
    """Grey images are class 0, at an L-infinity distance of epsilon / 255 from class 1."""
    return Linear(weights(), epsilon / 255 * float(weights().abs().sum())).eval()


def grey(count: int = 1, value: int = 128) -> Tensor:
    return torch.full((count, 3, SIDE, SIDE), value, dtype=torch.uint8)


def zeros(count: int = 1) -> Tensor:
    return torch.zeros(count, dtype=torch.int64)


def small_network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)
        ).eval()


@pytest.fixture
def network() -> nn.Module:
    """Random, with batch normalisation, one parameter frozen and one with a gradient."""
    made = small_network()
    first, second, *_ = made.parameters()
    first.requires_grad_(False)
    second.grad = torch.ones_like(second)
    return made


@pytest.fixture
def noise() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(60, 190, (6, 3, 8, 8), dtype=torch.uint8, generator=generator)


def predict(module: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return module(images).argmax(dim=1)


@settings(max_examples=25, deadline=None)
@given(margin=st.floats(0.05, 6), step=st.sampled_from([0.1, 0.255, 1.0]))
def test_the_search_ends_at_the_first_step_beyond_the_margin(margin: float, step: float) -> None:
    """Leave a linear classifier with weights w, which FGSM does at exactly margin / sum(|w|)."""
    near_a_step = abs(margin / step - round(margin / step)) < 1e-3
    result = craft(linear(margin), grey(), zeros(), fgsm(step=step), "minimal")
    assert result.fooled.all()
    if not near_a_step:
        assert float(result.epsilon) == pytest.approx(math.ceil(margin / step) * step, rel=1e-4)
    direction = (result.images - 128 / 255).sign()[0]
    assert torch.equal(direction, weights().sign())


@settings(max_examples=25, deadline=None)
@given(margin=st.floats(0.01, 6))
def test_the_refined_search_begins_again_below_an_early_success(margin: float) -> None:
    """In steps of 0.255 it ends at the n-th; up to the 20th, at the first twentieth of n steps beyond."""
    steps = math.ceil(margin / 0.255)
    refined = steps * 0.255 / 20 if steps <= 20 else 0.255
    near_a_step = any(abs(margin / step - round(margin / step)) < 5e-3 for step in (0.255, refined))
    result = craft(linear(margin), grey(), zeros(), fgsm(refine=True), "minimal")
    assert result.fooled.all()
    if not near_a_step:
        assert float(result.epsilon) == pytest.approx(
            # Images in float32 are no more exact.
            math.ceil(margin / refined) * refined,
            abs=3e-5,
            rel=1e-4,
        )


def search_by_hand(module: nn.Module, image: Tensor, label: int) -> float | None:
    """What foolbox 1 and 2 did for one image: 1,000 sizes up to the value range, then 20."""
    x = (image.double() / 255).requires_grad_()
    module = module.double()
    nn.functional.cross_entropy(module(x[None]), torch.tensor([label])).backward()
    direction = x.grad.sign()

    def first(sizes: np.ndarray) -> int | None:
        for place, size in enumerate(sizes):
            changed = (x.detach() + size * direction).clamp(0, 1)
            if int(module(changed[None]).argmax()) != label:
                return place
        return None

    sizes = np.linspace(0, 1, 1001)[1:]
    place = first(sizes)
    if place is None:
        return None
    if place >= 20:
        return 255 * sizes[place]
    finer = np.linspace(0, sizes[place], 21)[1:]
    return 255 * finer[first(finer)]


def test_the_refined_search_is_that_of_old_foolbox_on_a_small_network(noise: Tensor) -> None:
    module = small_network()
    labels = predict(module, noise / 255)
    result = craft(module, noise, labels, fgsm(refine=True), "minimal")
    expected = [
        search_by_hand(small_network(), image, int(label))
        for image, label in zip(noise, labels, strict=True)
    ]
    # Some of either kind, or this would show little.
    assert min(expected) < 20 * 0.255 < max(expected)
    np.testing.assert_allclose(result.epsilon, expected, rtol=1e-4)


def test_single_steps_in_another_norm_are_refined_too() -> None:
    """To leave a linear classifier takes an L2 change of bias / norm(w) along w: 1.1 steps of 255ths."""
    module = linear(2)
    distance = 255 * float(module.bias.detach()) / float(weights().norm())
    attack = attack_settings(name="FGM", step=distance / 1.1, refine=True)
    result = craft(module, grey(2), zeros(2), attack, "minimal")
    # The second step, then twentieths of two steps: 1.1 of them lie at the eleventh.
    norms = 255 * (result.images - 128 / 255).flatten(1).norm(dim=1)
    assert norms.tolist() == pytest.approx([distance] * 2, rel=0.1)
    assert (norms >= distance * (1 - 1e-3)).all()
    assert (norms <= distance * 12 / 11 * (1 + 1e-3)).all()


@pytest.mark.parametrize("name", ["PGD", "LinfBasicIterativeAttack", "L2DeepFoolAttack"])
def test_what_takes_several_steps_is_not_refined(name: str) -> None:
    with pytest.raises(InputError, match=rf"attack\.refine=true is for .*attack\.name={name}"):
        craft(linear(1), grey(), zeros(), attack_settings(name=name, refine=True), "minimal")


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("margin", [0.003, 0.1, 0.7, 9.3])
def test_a_multiple_is_of_the_bisected_margin(margin: float, refine: bool) -> None:
    """The step around it is halved 12 times; 1x is the upper end, which fools."""
    attack = fgsm(refine=refine)
    for text, times in (("1x", 1), ("1.01x", 1.01), ("2.5x", 2.5), ("10x", 10)):
        result = craft(linear(margin), grey(), zeros(), attack, text)
        assert result.fooled.all()
        size = float(result.epsilon) / times
        assert margin * (1 - 1e-3) <= size <= margin + 0.255 / 2**12 + 1e-4


def test_a_multiple_may_lie_beyond_max_epsilon_its_unit_may_not() -> None:
    images = torch.cat([grey(), grey(value=100)])
    module = Linear(torch.ones(3, SIDE, SIDE), 3.5 / 255 * PIXELS).eval()
    result = craft(module, images, zeros(2), fgsm(step=1, max_epsilon=4), "3x")
    assert result.fooled.tolist() == [True, False]
    assert float(result.epsilon[0]) == pytest.approx(10.5, rel=1e-3)
    assert torch.equal(result.images[1], images[1] / 255)


class Band(Linear):
    """Class 1 only up to 4/255 beyond the boundary."""

    def forward(self, images: Tensor) -> Tensor:
        score = super().forward(images)[:, 1] * 255 / PIXELS
        return torch.stack([torch.zeros_like(score), torch.minimum(score, 4 - score)], dim=1)


def test_an_image_that_a_multiple_does_not_fool_comes_back_unchanged() -> None:
    module = Band(torch.ones(3, SIDE, SIDE), 2 / 255 * PIXELS).eval()
    twice, ten_times = (craft(module, grey(), zeros(), FGSM, text) for text in ("2x", "10x"))
    assert float(twice.epsilon) == pytest.approx(4, rel=1e-3)
    assert ten_times.fooled.tolist() == [False]
    assert torch.equal(ten_times.images, grey() / 255)


def test_the_smallest_epsilon_of_an_image_is_searched_for_once() -> None:
    """Of all multiples together, by the image's key, with the images that each would give alone."""
    images = torch.cat([grey(value=value) for value in (120, 138, 255, 128)])
    module = Linear(torch.ones(3, SIDE, SIDE), 10.5 / 255 * PIXELS).eval()
    forward, shown = module.forward, list[int]()

    def counted(batch: torch.Tensor) -> torch.Tensor:
        shown.append(len(batch))
        return forward(batch)

    module.forward = counted  # type: ignore[method-assign]
    smallest: dict[str, float] = {}
    for order, text in (([0, 1, 2, 3], "2x"), ([3, 1], "3x"), ([2, 0], "1.5x")):
        keys = [f"image {at}" for at in order]
        shown.clear()
        alone = craft(module, images[order], zeros(len(order)), FGSM, text, keys=keys)
        searching = len(shown)
        shown.clear()
        made = craft(
            module, images[order], zeros(len(order)), FGSM, text, keys=keys, smallest=smallest
        )
        assert torch.equal(made.images, alone.images)
        assert made.fooled.tolist() == alone.fooled.tolist()
        assert len(shown) == searching if text == "2x" else len(shown) < searching / 4
    assert smallest["image 2"] == 0
    assert set(smallest) == {f"image {at}" for at in range(4)}


@pytest.mark.parametrize("attack", [PGD, DEEPFOOL, fgsm(arguments={"random_start": True})])
def test_multiples_need_an_attack_that_goes_straight_on(attack: AttackSettings) -> None:
    with pytest.raises(InputError, match=r"attack\.epsilon=2x needs an attack that goes straight"):
        craft(linear(1), grey(), zeros(), attack, "2x")


def test_images_of_different_margins_are_searched_apart() -> None:
    """Grey of 128 + k, moved along one weight sign only, has its own distance."""
    module = Linear(torch.ones(3, SIDE, SIDE), 10.5 / 255 * PIXELS).eval()
    images = torch.cat([grey(value=value) for value in (120, 138, 130, 128)])
    result = craft(module, images, zeros(4), fgsm(step=1), "minimal")
    np.testing.assert_allclose(result.epsilon, [19, 1, 9, 11], rtol=1e-4)
    together = result.images
    alone = [craft(module, image[None], zeros(), fgsm(step=1), "minimal") for image in images]
    assert torch.equal(together, torch.cat([one.images for one in alone]))


def test_beyond_max_epsilon_the_image_comes_back_unchanged() -> None:
    images = torch.cat([grey(), grey(value=100)])
    labels = torch.tensor([0, 0])
    module = Linear(torch.ones(3, SIDE, SIDE), 3.5 / 255 * PIXELS).eval()
    result = craft(module, images, labels, fgsm(step=1, max_epsilon=4), "minimal")
    assert result.fooled.tolist() == [True, False]
    assert float(result.epsilon[0]) == pytest.approx(4, rel=1e-4)
    assert math.isnan(result.epsilon[1])
    assert torch.equal(result.images[1], images[1] / 255)


@pytest.mark.parametrize(("max_epsilon", "fooled"), [(0.765, True), (0.76, False)])
def test_max_epsilon_itself_is_tried(max_epsilon: float, fooled: bool) -> None:
    result = craft(linear(0.7), grey(), zeros(), fgsm(max_epsilon=max_epsilon), "minimal")
    assert result.fooled.tolist() == [fooled]


@EVERY
def test_an_image_that_is_wrong_already_has_epsilon_zero(attack: AttackSettings) -> None:
    images = grey(2)
    result = craft(linear(2), images, torch.tensor([1, 0]), attack, "minimal")
    assert result.fooled.tolist() == [True, True]
    assert float(result.epsilon[0]) == 0
    assert torch.equal(result.images[0], images[0] / 255)
    assert float(result.epsilon[1]) > 0


class CountsPasses(Linear):
    passed = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passed += len(images)
        return super().forward(images)


def test_only_images_that_are_not_fooled_yet_are_tried_again() -> None:
    module = CountsPasses(torch.ones(3, SIDE, SIDE), 10.5 / 255 * PIXELS).eval()
    images = torch.cat([grey(9, value=138), grey(value=128)])
    craft(module, images, zeros(10), fgsm(step=1), "minimal")
    # Before; the direction (its gradient, and foolbox's check); all once, one ten times more; after.
    assert module.passed == 10 + 2 * 10 + 10 + 10 * 1 + 10


def test_one_direction_for_all_sizes_is_as_good_as_the_attack_anew(
    network: nn.Module, noise: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = predict(network, noise.float() / 255)
    once = craft(network, noise, labels, fgsm(step=0.5), "minimal")
    monkeypatch.setattr(attacks, "is_straight", lambda attack: False)
    anew = craft(network, noise, labels, fgsm(step=0.5), "minimal")
    assert anew.fooled.any()
    for attribute in ("images", "fooled", "epsilon"):
        torch.testing.assert_close(
            getattr(once, attribute), getattr(anew, attribute), rtol=0, atol=1e-6, equal_nan=True
        )


@pytest.mark.parametrize("attack", [DEEPFOOL, CARLINI_WAGNER])
def test_minimisation_attacks_come_near_the_known_distance(attack: AttackSettings) -> None:
    """Leave a linear classifier, at an L2 distance of bias / norm(w), along w."""
    module = linear(3)
    distance = float(module.bias.detach()) / float(weights().norm())
    result = craft(module, grey(2), zeros(2), attack, "minimal")
    assert result.fooled.all()
    change = (result.images - 128 / 255).flatten(1)
    assert change.norm(dim=1).tolist() == pytest.approx([distance] * 2, rel=0.05)
    assert (change.norm(dim=1) >= distance * (1 - 1e-4)).all()
    along = change[0] @ weights().flatten() / (change[0].norm() * weights().norm())
    assert float(along) > 0.99
    assert result.epsilon.tolist() == pytest.approx((change.abs().amax(1) * 255).tolist(), rel=1e-5)


def test_the_black_image_of_a_failed_optimisation_is_no_success() -> None:
    """foolbox's Carlini-Wagner gives black images where it finds nothing, here a class 1."""
    module = Linear(-torch.ones(3, SIDE, SIDE), 100 / 255 * PIXELS).eval()
    one_step = {"binary_search_steps": 1, "steps": 1}
    hopeless = attack_settings(name="L2CarliniWagnerAttack", arguments=one_step)
    assert predict(module, torch.zeros(1, 3, SIDE, SIDE)).tolist() == [1]
    result = craft(module, grey(), zeros(), hopeless, "minimal")
    assert result.fooled.tolist() == [False]
    assert torch.equal(result.images, grey() / 255)


def test_fgsm_adds_epsilon_times_the_sign_of_the_gradient() -> None:
    """Take the gradient of the loss at class 0, which rises along w; clip to [0, 1]."""
    images = torch.tensor([0, 2, 128, 253, 255] * 6, dtype=torch.uint8)[:PIXELS]
    images = images.reshape(1, 3, SIDE, SIDE)
    module = linear(50)
    result = craft(module, images, zeros(), FGSM, 4)
    expected = (images / 255 + 4 / 255 * weights().sign()).clamp(0, 1)
    torch.testing.assert_close(result.images, expected, rtol=0, atol=1e-7)
    assert result.images.dtype == torch.float32
    assert result.fooled.tolist() == [False]
    assert math.isnan(result.epsilon)


def test_a_given_epsilon_is_reached_and_rechecked() -> None:
    images = grey(3)
    assert craft(linear(1.9), images, zeros(3), FGSM, 2).fooled.all()
    assert not craft(linear(2.1), images, zeros(3), FGSM, 2).fooled.any()
    reached = craft(linear(1.9), images, zeros(3), FGSM, 2.0).epsilon
    np.testing.assert_allclose(reached, 2, rtol=1e-4)


def test_minimisation_attacks_are_clipped_to_a_given_epsilon() -> None:
    """Here in the L2 norm, which is DeepFool's own."""
    module = linear(3)
    distance = float(module.bias.detach()) / float(weights().norm()) * 255
    for share, fooled in ((0.9, False), (1.1, True)):
        result = craft(module, grey(), zeros(), DEEPFOOL, distance * share)
        assert result.fooled.tolist() == [fooled]
        norm = float((result.images - 128 / 255).norm()) * 255
        assert norm == pytest.approx(distance * min(share, 1.02), rel=5e-3)


def test_fooled_is_what_the_module_says(network: nn.Module, noise: Tensor) -> None:
    labels = predict(network, noise / 255)
    labels[0] = (labels[0] + 1) % 4
    for epsilon in ("minimal", 1.0, 8):
        result = craft(network, noise, labels, FGSM, epsilon)
        assert torch.equal(result.fooled, predict(network, result.images) != labels)
        assert torch.equal(result.epsilon.isnan(), ~result.fooled)
        assert float(result.images.min()) >= 0
        assert float(result.images.max()) <= 1


class NotANumber(Linear):
    """Its logits are not finite for anything but grey."""

    def forward(self, images: Tensor) -> Tensor:
        changed = (images * 255 - 128).abs().flatten(1).amax(dim=1, keepdim=True) > 0.1
        return torch.where(changed, torch.nan, super().forward(images))


def test_logits_that_are_not_finite_fool_nobody() -> None:
    module = NotANumber(weights(), 1.0).eval()
    result = craft(module, grey(), zeros(), fgsm(max_epsilon=1), "minimal")
    assert result.fooled.tolist() == [False]


def test_an_empty_batch_gives_an_empty_batch() -> None:
    for epsilon in ("minimal", 2):
        result = craft(linear(1), grey(0), zeros(0), FGSM, epsilon)
        assert result.images.shape == (0, 3, SIDE, SIDE)
        assert len(result.fooled) == len(result.epsilon) == 0


@pytest.mark.parametrize("attack", [FGSM, PGD, DEEPFOOL])
def test_the_module_is_left_as_it_was(
    network: nn.Module, noise: Tensor, attack: AttackSettings
) -> None:
    labels = predict(network, noise / 255)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    flags = [parameter.requires_grad for parameter in network.parameters()]
    gradients = [parameter.grad for parameter in network.parameters()]
    before = noise.clone()
    assert craft(network, noise, labels, attack, "minimal").fooled.any()
    assert torch.equal(noise, before)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    after = [parameter.grad for parameter in network.parameters()]
    assert all(new is old for new, old in zip(after, gradients, strict=True))
    assert torch.equal(after[1], torch.ones_like(after[1]))
    assert not network.training


def test_flags_are_put_back_after_a_failure(network: nn.Module, noise: Tensor) -> None:
    flags = [parameter.requires_grad for parameter in network.parameters()]
    with pytest.raises(InputError, match=r"attack\.name"):
        craft(network, noise, zeros(6), attack_settings(name="GenAttack"), 2)
    assert [parameter.requires_grad for parameter in network.parameters()] == flags


def test_it_works_in_inference_mode(noise: Tensor) -> None:
    network = small_network()
    with torch.inference_mode():
        images = noise.clone()
        labels = network(images / 255).argmax(dim=1)
        inside = craft(network, images, labels, PGD, 4)
        assert torch.is_inference_mode_enabled()
    outside = craft(network, noise, labels, PGD, 4)
    assert torch.equal(inside.images, outside.images)


def test_random_attacks_are_reproducible_and_leave_the_generators_alone(
    network: nn.Module, noise: Tensor
) -> None:
    labels = predict(network, noise / 255)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    first = craft(network, noise, labels, PGD, 2, seed=1)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002
    again = craft(network, noise, labels, PGD, 2, seed=1)
    other = craft(network, noise, labels, PGD, 2, seed=2)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize(
    "attack",
    [
        PGD,
        fgsm(arguments={"random_start": True}),
        attack_settings(name="L2PGD", arguments={"steps": 2}, step=15, max_epsilon=255),
        attack_settings(name="LinfAdditiveUniformNoiseAttack"),
        attack_settings(name="SaltAndPepperNoiseAttack", arguments={"steps": 20}, max_epsilon=255),
        CARLINI_WAGNER,
        DEEPFOOL,
    ],
    ids=lambda attack: attack.name,
)
def test_what_an_attack_draws_hangs_on_the_image_alone(
    network: nn.Module, noise: Tensor, attack: AttackSettings
) -> None:
    """On neither the batch nor the place in it."""
    labels, keys = predict(network, noise / 255), [f"image{row}" for row in range(len(noise))]
    together = craft(network, noise, labels, attack, "minimal", seed=3, keys=keys)
    for rows in ([4], [5, 0, 2]):
        few = [keys[row] for row in rows]
        found = craft(network, noise[rows], labels[rows], attack, "minimal", seed=3, keys=few)
        torch.testing.assert_close(found.images, together.images[rows], rtol=0, atol=1e-5)
        assert torch.equal(found.fooled, together.fooled[rows])
    assert together.fooled.any()


def test_rounding_keeps_what_8_bits_hold() -> None:
    grid = (torch.arange(256, dtype=torch.uint8).to(torch.float32) / 255).reshape(1, 1, 16, 16)
    assert torch.equal(round_to_8_bits(grid), grid)
    assert torch.equal(round_to_8_bits((grid + 0.3 / 255).clamp(max=1)), grid)
    up = round_to_8_bits((grid - 0.6 / 255).clamp(min=0))
    assert torch.equal(up.flatten()[1:], grid.flatten()[:-1])


@pytest.mark.parametrize("images", [grey(value=1), torch.full((1, 3, 2, 2), 1.5)])
def test_rounding_refuses_what_is_not_in_range(images: Tensor) -> None:
    with pytest.raises(InputError):
        round_to_8_bits(images)


@pytest.mark.parametrize(
    "name",
    ["os.system", "foolbox.attacks.FGSM", "os", "base", "base.Attack", "Attack", "SpatialAttack",
     "__builtins__", "PyTorchModel", ""],
)  # fmt: skip
def test_only_foolboxs_own_attacks_are_looked_up(name: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"attack.name={name!r}")):
        build_attack(attack_settings(name=name))


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("L2DeepFolAttack", {}, r"such as L2DeepFoolAttack\."),
        ("FGSM", {"steps": 3}, r"attack\.arguments.*'steps'.*it takes: random_start"),
        ("PGD", {"steps": "three"}, r"attack\.arguments"),
        ("L2BasicIterativeAttack", {"tensorboard": "/tmp/x"}, "tensorboard"),
        ("L2CarliniWagnerAttack", {"tensorboard": "/tmp/x"}, "would write files elsewhere"),
    ],
)
def test_an_attack_that_cannot_be_used_is_answered_with_what_can(
    name: str, arguments: dict[str, Any], words: str
) -> None:
    attack = attack_settings(name=name, arguments=arguments)
    with pytest.raises(InputError, match=words):
        craft(linear(1), grey(), zeros(), attack, 2)


def test_an_attack_without_its_package_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = ModuleNotFoundError("No module named 'numba'")
    monkeypatch.setattr("foolbox.attacks.brendel_bethge.NUMBA_IMPORT_ERROR", missing)
    with pytest.raises(
        InputError, match=r"L2BrendelBethgeAttack cannot run here .*'numba'.*install"
    ):
        check_attack(attack_settings(name="L2BrendelBethgeAttack"), 10)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (attack_settings(name="GenAttack"), "unsupported criterion"),
        (attack_settings(name="DatasetAttack"), "feed"),
        (attack_settings(name="GaussianBlurAttack", epsilon=[MINIMAL, 2]), "distance"),
        (attack_settings(name="PGD", epsilon="2x"), "straight"),
        (attack_settings(name="PGD", refine=True), "refine"),
        (attack_settings(name="PGDD"), "such as PGD"),
    ],
)
def test_an_attack_that_cannot_work_is_known_without_images(
    attack: AttackSettings, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        check_attack(attack, 10)


@pytest.mark.parametrize(
    "attack",
    [fgsm(epsilon=[MINIMAL, "2x", 4]), CARLINI_WAGNER, attack_settings(name="BoundaryAttack")],
    ids=lambda attack: attack.name,
)
def test_an_attack_that_works_is_tried_no_longer_than_it_takes(
    attack: AttackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BoundaryAttack would take 25,000 steps."""
    passes = []
    monkeypatch.setattr(
        attacks._Trial, "forward", counting(attacks._Trial.forward, passes), raising=True
    )
    check_attack(attack, 10)
    assert 0 < len(passes) <= 1002 * len(attack.epsilon)


def counting(forward: Callable[..., Tensor], passes: list[int]) -> Callable[..., Tensor]:
    def counted(self: nn.Module, images: Tensor) -> Tensor:
        passes.append(len(images))
        return forward(self, images)

    return counted


def test_only_a_start_without_chance_makes_an_attack_straight() -> None:
    assert is_straight(FGSM)
    assert not is_straight(fgsm(arguments={"random_start": True}))
    assert not is_straight(PGD)


@pytest.mark.parametrize(
    "epsilon",
    [-1.0, 0, math.nan, math.inf, 256, "smallest", "2", True, "0.9x", "1001x", "x", "-2x"],
)
def test_an_epsilon_out_of_range_is_refused(epsilon: Any) -> None:
    with pytest.raises(InputError, match=r"attack\.epsilon="):
        craft(linear(1), grey(), zeros(), FGSM, epsilon)


Changed = Callable[[], Adversarial]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: craft(linear(1).train(), grey(), zeros(), FGSM, 1), "training mode"),
        (lambda: craft(linear(1), grey() / 255, zeros(), FGSM, 1), "uint8"),
        (lambda: craft(linear(1), grey()[0], zeros(), FGSM, 1), "shape"),
        (lambda: craft(linear(1), grey(2), zeros(1), FGSM, 1), "give 2 integers"),
        (lambda: craft(linear(1), grey(), zeros().float(), FGSM, 1), "give 1 integers"),
        (lambda: craft(linear(1), grey(), zeros(), FGSM, 1, seed=-1), "seed=-1"),
    ],
)
def test_other_arguments_out_of_range_are_refused(call: Changed, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


CONFIGS = REPOSITORY / "configs"
ATTACKS = sorted({path.stem for path in (CONFIGS / "attack").glob("*.yaml")} - {"base", "none"})


def attack_config(name: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONFIGS / "attack"), version_base="1.3"):
        config = OmegaConf.to_container(compose(name), throw_on_missing=name != "base")
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def test_the_papers_attack_is_among_the_configs() -> None:
    assert ATTACKS == ["bim", "carlini_wagner", "deepfool", "fgsm", "pgd"]
    assert attack_config("fgsm")["epsilon"][0] == "minimal"
    assert attack_config("fgsm")["refine"]


@pytest.mark.parametrize("name", ATTACKS)
def test_every_config_fools_a_small_network(name: str, network: nn.Module, noise: Tensor) -> None:
    attack = attack_settings(**attack_config(name))
    assert attack.round
    labels = predict(network, noise / 255)
    result = craft(network, noise, labels, attack, "minimal")
    assert result.fooled.all()
    assert bool((result.epsilon > 0).all())
    # No larger than the first step of FGSM's search that fools, which is the crudest of them.
    crudest = craft(network, noise, labels, FGSM, "minimal")
    attained = (result.images - noise / 255).flatten(1).norm(dim=1)
    bound = (crudest.images - noise / 255).flatten(1).norm(dim=1)
    assert bool((attained <= bound * 1.05).all())
    for epsilon in attack.epsilon:
        craft(network, noise[:2], labels[:2], attack, epsilon)


def test_an_attack_that_is_only_named_is_as_the_configs_have_it() -> None:
    assert attack_settings(**attack_config("base") | {"name": "FGSM"}) == FGSM
