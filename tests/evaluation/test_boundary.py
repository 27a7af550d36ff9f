"""Distances to boundaries that are known by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust import InputError
from pixelrobust.evaluation.boundary import linearized_distances, measured_distances
from pixelrobust.models.build import weights_digest
from pixelrobust.models.heads import Normalize

SIDE = 4
PIXELS = 3 * SIDE * SIDE
Measure = Callable[..., NDArray[np.float64]]
both_measures = pytest.mark.parametrize("measure", [linearized_distances, measured_distances])
# DeepFool goes 2 % and 0.0001 beyond the boundary.
OVERSHOOT = 0.03


pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(weight: Tensor, bias: Tensor) -> nn.Module:
    """Logits weight @ (pixels - 0.5) + bias."""
    layer = nn.Linear(PIXELS, len(bias))
    layer.weight.data, layer.bias.data = weight, bias
    return nn.Sequential(Normalize([0.5] * 3, [1.0] * 3), nn.Flatten(), layer).eval()


def axes(bias: list[float]) -> nn.Module:
    """Class k's logit grows by 1 with pixel value k, so that gradients of differences are √2."""
    return linear(torch.eye(len(bias), PIXELS), torch.tensor(bias))


def grey() -> Tensor:
    """Floats, for 8 bits have no middle."""
    return torch.full((1, 3, SIDE, SIDE), 0.5)


def from_grey(module: nn.Module, label: int, **options: Any) -> float:
    """The linearised distance of the grey image."""
    (distance,) = linearized_distances(module, grey(), torch.tensor([label]), **options)
    return float(distance)


def network(*, curvature: float = 1.0) -> nn.Module:
    """Smooth; nearly linear where the curvature is small."""

    class Curved(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.tanh(inputs * curvature) / curvature

    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(
            Normalize([0.5] * 3, [0.25] * 3),
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            Curved(),
            nn.Flatten(),
            nn.Linear(24, 5),
        ).eval()


def pictures(count: int = 12) -> Tensor:
    shape = (count, 3, SIDE, SIDE)
    return torch.randint(80, 175, shape, dtype=torch.uint8, generator=generator(1))


def predictions(module: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return module(images.float() / 255).argmax(dim=1)


# --- linear classifiers -----------------------------------------------------------------------


@pytest.mark.parametrize("bias", [0.3, -0.3])
def test_two_classes_and_a_line(bias: float) -> None:
    """The paper's case: |w · x + b| / ||w||, on either side."""
    weight = torch.randn(PIXELS, generator=generator())
    module = linear(torch.stack([torch.zeros(PIXELS), weight]), torch.tensor([0.0, bias]))
    images = torch.rand(5, 3, SIDE, SIDE, generator=generator(2))
    scores = (images - 0.5).flatten(1) @ weight + bias
    expected = (scores / weight.norm()).numpy()
    found = linearized_distances(module, images, torch.ones(5, dtype=torch.int64))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    mirrored = linearized_distances(module, images, torch.zeros(5, dtype=torch.int64))
    np.testing.assert_allclose(mirrored, -expected, rtol=1e-5, atol=1e-6)


def test_the_nearest_of_several_boundaries() -> None:
    assert from_grey(axes([0.5, 0.3, 0.1, -1.0]), 0) == pytest.approx(0.2 / 2**0.5)


def test_the_nearest_boundary_need_not_be_that_of_the_second_class() -> None:
    """A steeper difference of logits is crossed earlier."""
    weight = torch.eye(3, PIXELS)
    weight[2] *= 10
    module = linear(weight, torch.tensor([0.5, 0.4, 0.0]))
    assert from_grey(module, 0) == pytest.approx(0.5 / 101**0.5)
    assert from_grey(module, 0, candidates=1) == pytest.approx(0.1 / 2**0.5)


def test_a_wrong_image_is_below_zero_even_next_to_a_class_that_it_beats() -> None:
    """From class 1, at 0.3, classes 0 and 2 lie at -0.7 and 0.1: the latter must not decide."""
    module = axes([1.0, 0.3, 0.2])
    assert from_grey(module, 1) == pytest.approx(-0.7 / 2**0.5)
    # Over two boundaries it is at least as far as over the farther one.
    assert from_grey(module, 2) == pytest.approx(-0.8 / 2**0.5)


@pytest.mark.parametrize("label", [0, 1])
def test_ties_are_zero_without_a_sign(label: int) -> None:
    assert str(from_grey(axes([0.5, 0.5, 0.0]), label)) == "0.0"


def test_measured_sizes_of_a_linear_classifier() -> None:
    """One step and its overshoot; grey of 128 / 255 in the middle of what the change may do."""
    images = torch.full((4, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    shift = 128 / 255 - 0.5
    for bias in ([0.5, 0.2, 0.1], [0.5, -0.1, 0.1]):
        module = axes([value - shift for value in bias])
        found = measured_distances(module, images, torch.zeros(4, dtype=torch.int64))
        expected = (bias[0] - max(bias[1:])) / 2**0.5
        assert (found > expected).all()
        np.testing.assert_allclose(found, (expected + 1e-4) * 1.02, rtol=1e-3)


# --- networks ---------------------------------------------------------------------------------


def test_both_agree_on_a_nearly_linear_network() -> None:
    module, images = network(curvature=0.01), pictures()
    labels = predictions(module, images)
    lines = linearized_distances(module, images, labels)
    fooled = measured_distances(module, images, labels)
    assert (lines > 0).all()
    np.testing.assert_allclose(fooled, lines, rtol=OVERSHOOT, atol=2e-4)
    assert (fooled > lines).all()


def test_each_class_by_torchs_own_jacobian() -> None:
    module, images = network(), pictures(6)
    labels = torch.arange(6) % 5
    floats = images.float() / 255
    found = linearized_distances(module, images, labels, batch_size=4)
    for index, label in enumerate(labels.tolist()):
        jacobian = (
            torch.func.jacrev(module)(floats[index : index + 1])[0].detach().flatten(1).double()
        )
        logits = module(floats[index : index + 1])[0].detach().double()
        others = [other for other in range(5) if other != label]
        margins = logits[label] - logits[others]
        sizes = (jacobian[label] - jacobian[others]).norm(dim=1)
        assert found[index] == pytest.approx(float((margins / sizes).min()), rel=1e-4)
        assert (found[index] > 0) == (int(logits.argmax()) == label)


def test_measured_changes_do_fool_and_are_never_below_a_true_distance() -> None:
    module, images = network(), pictures()
    labels = predictions(module, images)
    found = measured_distances(module, images, labels)
    assert (found > 0).all()
    # No direction that is tried leaves the class within half the size found.
    directions = torch.randn(50, *images.shape[1:], generator=generator(3))
    directions /= directions.flatten(1).norm(dim=1)[:, None, None, None]
    for image, label, size in zip(images, labels, found, strict=True):
        around = image / 255 + directions * float(size) / 2
        assert (module(around).argmax(dim=1) == label).all()


@both_measures
def test_batches_kinds_of_arrays_and_scales_of_logits_do_not_matter(measure: Measure) -> None:
    module, images = network(), pictures()
    labels = predictions(module, images)
    expected = measure(module, images, labels)
    np.testing.assert_allclose(measure(module, images, labels, batch_size=5), expected, rtol=1e-4)
    array = images.numpy()
    array.flags.writeable = False
    np.testing.assert_allclose(measure(module, array, labels.numpy()), expected, rtol=1e-6)
    with torch.inference_mode():
        inside = measure(module, images.clone(), labels.clone())
    np.testing.assert_allclose(inside, expected, rtol=1e-6)
    assert measure(module, images[:0], labels[:0]).shape == (0,)
    if measure is linearized_distances:
        np.testing.assert_allclose(measure(module, images / 255, labels), expected, rtol=1e-6)
    module[-1].weight.data *= 8
    module[-1].bias.data *= 8
    np.testing.assert_allclose(measure(module, images, labels), expected, rtol=1e-3)


def test_fewer_candidates_never_come_nearer_and_keep_the_sign() -> None:
    module, images = network(), pictures()
    labels = torch.arange(len(images)) % 5
    found = [linearized_distances(module, images, labels, candidates=k) for k in (1, 2, 4, 99)]
    everything = linearized_distances(module, images, labels)
    assert (np.diff(found, axis=0) <= 1e-12).all()
    np.testing.assert_allclose(found[2], everything)
    np.testing.assert_allclose(found[3], everything)
    assert np.array_equal(np.sign(found[0]), np.sign(everything))


def test_candidates_of_the_measured() -> None:
    module, images = network(), pictures()
    labels = predictions(module, images)
    every, nine = (measured_distances(module, images, labels, candidates=k) for k in (None, 9))
    np.testing.assert_allclose(every, nine)
    one = measured_distances(module, images, labels, candidates=1)
    assert np.isfinite(one).all()
    assert one.mean() >= every.mean()


@both_measures
def test_nothing_of_the_callers_is_touched(measure: Measure) -> None:
    module, images = network(), pictures()
    labels = predictions(module, images)
    first, second, *_ = module.parameters()
    first.requires_grad_(False)
    second.grad = torch.ones_like(second)
    before, copies = weights_digest(module), (images.clone(), labels.clone())
    state = torch.get_rng_state()
    measure(module, images, labels)
    assert weights_digest(module) == before
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert not first.requires_grad
    assert second.requires_grad
    assert torch.equal(second.grad, torch.ones_like(second))
    assert all(other.grad is None for other in module.parameters() if other is not second)


# --- what has no distance ---------------------------------------------------------------------


def test_wrong_images_measure_zero() -> None:
    module, images = network(), pictures()
    labels = (predictions(module, images) + 1) % 5
    found = measured_distances(module, images, labels)
    assert found.tolist() == [0.0] * len(images)
    assert not np.signbit(found).any()
    assert (linearized_distances(module, images, labels) < 0).all()


def test_images_that_nothing_fools() -> None:
    """A margin that no image in [0, 1] can cross: the tangent lies outside, the search fails."""
    module = axes([9.0, 0.0])
    images = torch.full((1, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    labels = torch.tensor([0])
    assert np.isnan(measured_distances(module, images, labels)).all()
    assert linearized_distances(module, images, labels) == pytest.approx([9 / 2**0.5])


def test_vanishing_gradients_are_infinitely_far() -> None:
    flat = linear(torch.zeros(3, PIXELS), torch.tensor([1.0, 0.0, 1.0]))
    assert (from_grey(flat, 0), from_grey(flat, 1)) == (0.0, -np.inf)
    flat = linear(torch.zeros(2, PIXELS), torch.tensor([1.0, 0.0]))
    assert from_grey(flat, 0) == np.inf


def test_logits_and_gradients_that_are_not_finite_have_no_distance() -> None:
    for bad in (torch.nan, torch.inf):
        module = axes([0.5, bad, 0.0])
        assert np.isnan(from_grey(module, 0))
        images = (grey() * 255).to(torch.uint8)
        assert np.isnan(measured_distances(module, images, torch.tensor([0]))).all()

    class Root(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return (inputs - 0.5).sqrt()

    images = grey()
    images[:, 0, 0, 0] = 0.75
    module = nn.Sequential(nn.Flatten(), Root()).eval()
    assert np.isnan(linearized_distances(module, images, torch.tensor([0]))).all()


# --- wrong arguments --------------------------------------------------------------------------


class Deaf(nn.Module):
    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"images": pictures()[0]}, "give"),
    ({"images": pictures().to(torch.int64)}, "dtype torch.int64"),
    ({"labels": torch.zeros(3, dtype=torch.int64)}, "give 12 integers"),
    ({"labels": torch.zeros(12)}, "give 12 integers"),
    ({"module": network().train()}, "training mode"),
    ({"batch_size": 0}, "batch_size=0"),
    ({"candidates": 0}, "candidates=0"),
    ({"candidates": 1.5}, "candidates=1.5"),
]


@pytest.mark.parametrize(
    ("measure", "wrong", "message"),
    [
        *((linearized_distances, *case) for case in WRONG),
        *((measured_distances, *case) for case in WRONG),
        (
            linearized_distances,
            {"labels": torch.full((12,), 5)},
            r"labels lie in .* outputs 0\.\.4",
        ),
        (
            linearized_distances,
            {"labels": torch.full((12,), -1)},
            "label -1 is not the index of an output",
        ),
        (linearized_distances, {"images": pictures() / 100}, r"leave \[0, 1\]"),
        (measured_distances, {"images": pictures() / 255}, "uint8"),
        (measured_distances, {"steps": 0}, "steps=0"),
        (linearized_distances, {"module": axes([1.0])}, "two classes or more"),
        (linearized_distances, {"module": nn.Identity().eval()}, "two classes or more"),
        (linearized_distances, {"module": Deaf().eval()}, "no gradients"),
    ],
)
def test_wrong_arguments_get_a_sentence(
    measure: Measure, wrong: dict[str, Any], message: str
) -> None:
    arguments = {
        "module": network(), "images": pictures(), "labels": torch.zeros(12, dtype=torch.int64),
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        measure(**(arguments | wrong))
