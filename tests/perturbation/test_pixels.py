"""The change itself: its laws, and every bit against an independent implementation."""

import hashlib
import itertools
import math
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch import Tensor

from pixelrobust import InputError, PixelChange
from pixelrobust.perturbation import pixels
from pixelrobust.perturbation.grid import Cell, Manner
from pixelrobust.perturbation.pixels import (
    ChangeRandomness,
    _candidates_needed,
    _coupon_bound,
    apply_change,
    as_floats,
    image_keys,
    unit_floats,
)
from tests.perturbation import reference

GREY = 128


def grey(batch: int, side: int = 32) -> Tensor:
    return torch.full((batch, 3, side, side), GREY, dtype=torch.uint8)


def noise(batch: int, height: int = 20, width: int = 24, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (batch, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def names(batch: int) -> list[str]:
    return [f"n01440764/{index}.JPEG" for index in range(batch)]


def positions(images: Tensor, num: int, area: int | None = None, seed: int = 0) -> Tensor:
    """Return (B, num) flat positions, from the words that the change is made of."""
    keys = image_keys(names(len(images)), seed)
    draws = torch.zeros(len(images), dtype=torch.int64)
    return ChangeRandomness(keys, draws, images.shape[1:]).positions(num, area)


@settings(max_examples=60, deadline=None)
@given(
    num=st.integers(0, 60),
    amplitude=st.none() | st.integers(0, 255),
    area=st.none() | st.integers(8, 20),
    seed=st.integers(0, 2**70),
    draw=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 5),
    key=st.text(max_size=20),
    manner=st.builds(
        Manner,
        st.sampled_from(["apart", "together"]),
        st.booleans(),
        st.sampled_from(["uniform", "extreme"]),
    )
    | st.builds(
        Manner, st.just("scattered"), st.just(False), st.sampled_from(["uniform", "extreme"])
    ),
)
@example(1, None, None, 0, 0, 1, "a", Manner())
@example(1, 0, 8, 1, 2**32 - 1, 2, "b", Manner())
@example(60, 255, None, 0, 1, 3, "c", Manner("together"))
# Sixty draws of 64 positions hold some again.
@example(60, None, 8, 0, 1, 3, "d", Manner(repetition=True))
@example(60, 40, 8, 0, 1, 3, "e", Manner("together", True, "extreme"))
@example(60, 40, 11, 0, 1, 3, "f", Manner("scattered"))
@example(60, None, None, 0, 1, 3, "g", Manner("scattered", values="extreme"))
def test_every_bit_agrees_with_an_independent_implementation(
    num: int,
    amplitude: int | None,
    area: int | None,
    seed: int,
    draw: int,
    channels: int,
    key: str,
    manner: Manner,
) -> None:
    images = noise(2, channels=channels)
    change = PixelChange(num, amplitude, area, seed, *manner)
    result = change(images, ["other", key], draw=draw)
    expected = reference.changed(
        images[1].numpy(), key, draw, num, amplitude, area, seed, manner.channels == "together",
        manner.repetition, manner.values == "extreme", manner.channels == "scattered",
    )  # fmt: skip
    assert np.array_equal(result[1].numpy(), expected)


@settings(max_examples=40, deadline=None)
@given(
    num=st.integers(1, 256),
    amplitude=st.integers(0, 255),
    area=st.none() | st.integers(16, 32),
    seed=st.integers(0, 99),
)
def test_num_distinct_pixels_inside_the_area_move_by_no_more_than_the_amplitude(
    num: int, amplitude: int, area: int | None, seed: int
) -> None:
    images = grey(2)
    side = area or 32
    top = left = (32 - side) // 2
    assert all(len(set(row)) == num for row in positions(images, num, area, seed).tolist())
    moved = PixelChange(num, amplitude, area, seed)(images, names(2)).int() - GREY
    assert moved.abs().max() <= amplitude
    assert ((moved != 0).any(dim=1).sum(dim=(1, 2)) <= num).all()
    moved[..., top : top + side, left : left + side] = 0
    assert not moved.any()


def test_changes_are_nested() -> None:
    images = noise(4)
    few = PixelChange(num=4)(images, names(4))
    many = PixelChange(num=64)(images, names(4))
    touched = few != images
    assert torch.equal(few[touched], many[touched])
    assert torch.equal(positions(images, 4), positions(images, 64)[:, :4])


@pytest.mark.parametrize("amplitude", [None, 90])
def test_channels_together_move_alike(amplitude: int | None) -> None:
    moved = PixelChange(64, amplitude, channels="together")(grey(4), names(4)).int() - GREY
    assert torch.equal(moved, moved[:, :1].expand_as(moved))
    apart = PixelChange(64, amplitude)(grey(4), names(4)).int() - GREY
    assert torch.equal(moved[:, 0], apart[:, 0])


def test_repeated_positions_keep_their_first_change() -> None:
    """64 draws of 64 positions meet 64 (1 - (63 / 64)^64) = 40.6 of them on average."""
    images = grey(200)
    repeated = PixelChange(64, area=8, repetition=True)(images, names(200))
    counts = (repeated != images).any(dim=1).flatten(1).sum(dim=1).double()
    assert abs(float(counts.mean()) - 40.6) < 1
    few = PixelChange(4, area=8, repetition=True)(images, names(200))
    touched = few != images
    assert torch.equal(few[touched], repeated[touched])


def test_scattered_extreme_values_are_the_impulse_noise_of_imagenet_c() -> None:
    """Each value with the same chance, apart from all others; half of them become 0, half 255.

    Severity 1 takes a share of 0.03 of all values (Hendrycks & Dietterich 2019), as many as 30.72 of 32 x
    32 pixels have.
    """
    images = grey(400)
    change = PixelChange(31, channels="scattered", values="extreme")
    noisy = change(images, names(400))
    hit = noisy != images
    share = 31 / 32**2
    assert abs(float(hit.double().mean()) - share) < 4 * (share / hit.numel()) ** 0.5
    assert set(noisy[hit].tolist()) == {0, 255}
    assert abs(float((noisy[hit] == 255).double().mean()) - 0.5) < 0.02
    # Channels are hit apart: all three of a pixel as seldom as chance has it.
    assert float(hit.all(dim=1).double().mean()) < 3 * share**3
    counts = hit.flatten(1).sum(dim=1).double()
    assert float(counts.var()) == pytest.approx(3 * 32**2 * share * (1 - share), rel=0.25)
    more = PixelChange(100, channels="scattered", values="extreme")(images, names(400))
    assert torch.equal(noisy[hit], more[hit])


def test_extreme_values_are_the_ends_of_the_amplitude() -> None:
    images = grey(20)
    moved = PixelChange(64, 40, values="extreme")(images, names(20)).int() - GREY
    assert set(moved.unique().tolist()) == {-40, 0, 40}
    free = PixelChange(64, values="extreme")(images, names(20))
    assert set(free.unique().tolist()) == {0, GREY, 255}
    # At the same positions as any other change.
    usual = PixelChange(64)(images, names(20))
    assert not ((usual != images) & (free == images)).any()


def test_amplitudes_scale_the_same_values() -> None:
    images = grey(4)
    small = PixelChange(num=64, amplitude=40)(images, names(4)).int() - GREY
    large = PixelChange(num=64, amplitude=120)(images, names(4)).int() - GREY
    assert ((large - 3 * small).abs() <= 3).all()
    assert large.abs().max() > 100


def test_areas_move_the_same_values_elsewhere() -> None:
    images = grey(1)
    whole = PixelChange(num=20)(images, names(1))[0]
    centre = PixelChange(num=20, area=16)(images, names(1))[0]
    values = [
        sorted(map(tuple, image[:, (image != GREY).any(0)].T.tolist())) for image in (whole, centre)
    ]
    assert values[0] == values[1]
    assert not torch.equal(whole, centre)
    assert torch.equal(PixelChange(num=20, area=32)(images, names(1))[0], whole)


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_batches_and_order_do_not_matter(batch: int) -> None:
    images, keys, change = noise(7), names(7), PixelChange(num=16)
    whole = change(images, keys, draw=3)
    pieces = [
        change(images[start : start + batch], keys[start : start + batch], draw=3)
        for start in range(0, 7, batch)
    ]
    assert torch.equal(torch.cat(pieces), whole)
    assert torch.equal(change(images.flip(0), keys[::-1], draw=3).flip(0), whole)


def test_seeds_draws_and_keys_all_matter() -> None:
    image = grey(1)
    variants = [
        PixelChange(num=16, seed=seed)(image, [key], draw=draw)
        for seed in (0, 1)
        for key in ("a", "b")
        for draw in (0, 1)
    ]
    assert len({variant.numpy().tobytes() for variant in variants}) == 8
    assert torch.equal(PixelChange(num=16)(image, ["a"]), variants[0])


def test_composed_and_decomposed_names_are_one_key() -> None:
    change = PixelChange(num=16)
    assert torch.equal(change(grey(1), ["caf\u00e9.jpg"]), change(grey(1), ["cafe\u0301.jpg"]))


def test_names_that_are_no_unicode_are_hashed_as_their_bytes() -> None:
    """Bytes that the file system cannot decode come as surrogates."""
    digest = hashlib.blake2b(b"1\x000\0\xff.jpg", digest_size=8).digest()
    words = [int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")]
    assert image_keys(["\udcff.jpg"], 0).tolist() == [words]


@pytest.mark.parametrize("amplitude", [None, 10])
def test_no_images_give_none(amplitude: int | None) -> None:
    change = PixelChange(num=4, amplitude=amplitude)
    for images in (grey(0), grey(0).double()):
        assert torch.equal(change(images, []), images)
    keys = image_keys([], 0)
    assert (keys.shape, keys.dtype) == ((0, 2), torch.int64)


@pytest.mark.parametrize("cell", [Cell(4), Cell(64, 40, 12)])
def test_everything_lies_on_the_device_of_the_images(cell: Cell) -> None:
    """On a device without data, which refuses tensors of others as every device does."""
    images = noise(3).to("meta")
    change = PixelChange(cell.num, cell.amplitude, cell.area)
    result = change(images, names(3))
    assert (result.device, result.shape, result.dtype) == (
        images.device, images.shape, images.dtype,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_point_images_keep_their_dtype_and_precision(dtype: torch.dtype) -> None:
    images = (noise(2).double() / 255).to(dtype)
    for amplitude in (None, 30):
        result = PixelChange(num=40, amplitude=amplitude)(images, names(2))
        assert result.dtype == dtype
        exact = PixelChange(num=40, amplitude=amplitude)(noise(2), names(2)).double() / 255
        # Of the image, the step and their sum each is rounded.
        assert (result.double() - exact).abs().max() <= 2 * torch.finfo(dtype).eps


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("integers", [torch.uint8, torch.int16, torch.int64])
def test_bytes_become_the_nearest_floats_on_every_device(
    device: str, dtype: torch.dtype, integers: torch.dtype
) -> None:
    """Found among the floats around a quotient by exact arithmetic."""
    values = torch.arange(256, device=device).to(integers)
    found = unit_floats(values, dtype).cpu()
    assert found.dtype == dtype
    for value, float_ in enumerate(found):
        around = [torch.nextafter(float_, torch.tensor(end, dtype=dtype)) for end in (-1.0, 2.0)]
        errors = [abs(Fraction(float(one)) - Fraction(value, 255)) for one in (float_, *around)]
        assert errors[0] == min(errors), value


@pytest.mark.parametrize("dtype", FLOATS[:3])
def test_an_error_of_float64_does_not_show(dtype: torch.dtype) -> None:
    """Compilers may multiply by 1/255, and be off by a bit or two; see `unit_floats`."""
    values = torch.arange(256)
    for bits in (-2, -1, 0, 1, 2):
        quotients = values.double() * (1 / 255 * (1 + bits * torch.finfo(torch.float64).eps))
        assert torch.equal(quotients.to(dtype), unit_floats(values, dtype))


@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS])
def test_images_of_every_dtype_become_the_same_float32(dtype: torch.dtype) -> None:
    images = noise(3) if dtype == torch.uint8 else unit_floats(noise(3), dtype)
    expected = images.numpy() / np.float32(255) if dtype == torch.uint8 else images.float().numpy()
    found = as_floats(images)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("amplitude", [None, 30])
@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS])
def test_a_gpu_changes_images_as_the_cpu_does(dtype: torch.dtype, amplitude: int | None) -> None:
    images = noise(5) if dtype == torch.uint8 else unit_floats(noise(5), dtype)
    change = PixelChange(num=40, amplitude=amplitude, area=20)
    expected, found = (change(images.to(device), names(5)) for device in ("cpu", "cuda"))
    assert torch.equal(found.cpu(), expected)
    assert torch.equal(as_floats(found).cpu(), as_floats(expected))


def test_input_is_left_alone_and_num_0_copies() -> None:
    images = noise(2)
    before = images.clone()
    result = PixelChange(num=0)(images, names(2))
    PixelChange(num=50)(images, names(2))
    assert torch.equal(images, before)
    assert torch.equal(result, before)
    result.zero_()
    assert torch.equal(images, before)


def test_every_pixel_can_change() -> None:
    images = noise(2)
    assert sorted(positions(images, 480)[0].tolist()) == list(range(480))
    white = torch.ones(1, 3, 20, 24)
    # Of 1,440 values some 6 become white again.
    assert (PixelChange(num=480)(white, ["a"]) < 1).sum() > 1400


def test_an_odd_margin_leans_to_the_top_left() -> None:
    images = grey(1, side=7)
    assert sorted(positions(images, 4, area=2)[0].tolist()) == [16, 17, 23, 24]


ROOMS = [(1, 1), (4, 2), (4, 4), (100, 1), (100, 50), (480, 480), (50176, 4), (50176, 300)]


@pytest.mark.parametrize(("room", "num"), ROOMS)
def test_so_many_candidates_that_they_do_not_fall_short(room: int, num: int) -> None:
    """Follow the chance that fewer than num values are seen, from one candidate to the next."""
    known = np.arange(num) / room
    seen = np.zeros(num)
    seen[0] = 1.0
    for _ in range(_candidates_needed(room, num)):
        fresh = seen * (1 - known)
        seen = seen * known
        seen[1:] += fresh[:-1]
    assert seen.sum() < math.exp(-35)


def waiting_time(room: int, num: int) -> int:
    """Janson's bound, solved for the draws by Lambert's function."""
    mean = room * float(special.digamma(room + 1) - special.digamma(room - num + 1))
    exponent = 35 * room / (mean * (room - num + 1))
    return math.ceil(mean * -special.lambertw(-math.exp(-1 - exponent), -1).real)


@pytest.mark.parametrize(("room", "num"), [*ROOMS, (50176, 50176)])
def test_the_coupon_collectors_bound(room: int, num: int) -> None:
    assert _coupon_bound(room, num) == waiting_time(room, num)


def test_too_few_candidates_would_be_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for too_few in (3, 1):
        monkeypatch.setattr(pixels, "_candidates_needed", lambda room, num, k=too_few: k)
        with pytest.raises(RuntimeError):
            positions(grey(2), 4)


def test_positions_are_uniform() -> None:
    found = positions(grey(3000, side=10), 10).ravel().numpy()
    counts = np.bincount(found, minlength=100)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_values_and_steps_are_uniform_and_channels_independent() -> None:
    changed = PixelChange(num=100)(torch.zeros(300, 3, 10, 10, dtype=torch.uint8), names(300))
    counts = np.bincount(changed.ravel().numpy(), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-3
    steps = PixelChange(num=100, amplitude=10)(grey(300, side=10), names(300)).int() - GREY
    assert stats.chisquare(np.bincount((steps + 10).ravel().numpy(), minlength=21)).pvalue > 1e-3
    red, green, blue = steps.transpose(0, 1).flatten(1).double().numpy()
    assert max(abs(np.corrcoef(red, green)[0, 1]), abs(np.corrcoef(green, blue)[0, 1])) < 0.02


@pytest.mark.parametrize(
    "manner",
    [
        Manner(),
        Manner("together", repetition=True),
        Manner(values="extreme"),
        Manner("scattered", values="extreme"),
    ],
)
def test_shared_randomness_gives_what_each_cell_alone_gives(manner: Manner) -> None:
    images, cells = noise(3), [Cell(4), Cell(32, 10), Cell(16, None, 12), Cell(0)]
    draws = torch.tensor([2, 0, 5])
    shared = ChangeRandomness(image_keys(names(3), 9), draws, images.shape[1:], manner)
    for cell in cells:
        result = apply_change(images, shared, cell)
        for index, draw in enumerate(draws.tolist()):
            alone = PixelChange(cell.num, cell.amplitude, cell.area, 9, *manner)
            expected = alone(images[index : index + 1], [names(3)[index]], draw=draw)
            assert torch.equal(result[index : index + 1], expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("amplitude", [None, 40])
def test_the_layout_in_memory_does_not_matter_and_is_kept(
    dtype: torch.dtype, amplitude: int | None
) -> None:
    images = noise(4) if dtype == torch.uint8 else noise(4).to(dtype) / 255
    change = PixelChange(9, amplitude, 12)
    expected = change(images, names(4))
    laid_out = images.contiguous(memory_format=torch.channels_last)
    changed = change(laid_out, names(4))
    assert torch.equal(changed, expected)
    assert changed.is_contiguous(memory_format=torch.channels_last)
    # Neither of the two layouts.
    turned = images.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(change(turned, names(4)), expected)


@pytest.mark.parametrize("manner", [Manner(), Manner("together", True)])
def test_part_of_the_randomness_is_that_of_part_of_the_images(manner: Manner) -> None:
    images, keys = noise(7), image_keys(names(7), 3)
    draws = torch.arange(7)
    whole = ChangeRandomness(keys, draws, images.shape[1:], manner)
    whole.positions(20, None), whole.words(5)
    for part in (slice(0, 3), slice(3, 7)):
        own = ChangeRandomness(keys[part], draws[part], images.shape[1:], manner)
        for cell in (Cell(20), Cell(30, 50, 12)):
            expected = apply_change(images[part], own, cell)
            assert torch.equal(apply_change(images[part], whole.take(part), cell), expected)


def test_ten_thousand_changes_take_under_two_seconds_on_one_core(one_thread: None) -> None:
    start = time.process_time()
    draws = torch.zeros(10_000, dtype=torch.int64)
    randomness = ChangeRandomness(image_keys(names(10_000), 0), draws, (3, 224, 224))
    for num in (64, 64, 4):
        randomness.positions(num, None)
        randomness.words(num)
    assert time.process_time() - start < 2


@pytest.mark.gpu
def test_a_gpu_gives_the_same_bits() -> None:
    images = noise(7)
    cells, manners = (
        (Cell(4), Cell(64, 40), Cell(64, None, 12), Cell(480)),
        (Manner(), Manner("together", True)),
    )
    for cell, manner in itertools.product(cells, manners):
        change = PixelChange(cell.num, cell.amplitude, cell.area, 3, *manner)
        assert torch.equal(change(images.cuda(), names(7)).cpu(), change(images, names(7)))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        *(({"num": num}, f"num={num}") for num in (-1, 1.5, True)),
        *(({"amplitude": amplitude}, f"amplitude={amplitude}") for amplitude in (-1, 256)),
        ({"area": 0}, "area=0"),
        ({"channels": "all"}, "channels='all' is unknown; give 'apart'"),
        ({"repetition": 1}, "repetition=1 is neither true nor false"),
        ({"values": "corners"}, "values='corners' is unknown; give 'uniform'"),
        ({"channels": "scattered", "repetition": True}, "repetition=true means nothing"),
        *(({"seed": seed}, f"seed={seed}") for seed in (-1, 1.5, True)),
        *(
            ({"draw": draw}, rf"draw={draw} is not a draw; give an integer in 0\.\.")
            for draw in (-1, 2**32, 1.5, True)
        ),
    ],
)
def test_arguments_that_are_wrong_are_named(arguments: dict[str, Any], word: str) -> None:
    draw = arguments.pop("draw", 0)
    with pytest.raises(InputError, match=word):
        PixelChange(**{"num": 4, **arguments})(grey(1), ["a"], draw=draw)


UNSCALED = r"leave \[0, 1\]; give them before normalisation"


@pytest.mark.parametrize(
    ("images", "keys", "change", "word"),
    [
        (grey(2), ["a"], PixelChange(4), "1 keys were given for 2 images"),
        (grey(1)[0], ["a"], PixelChange(4), "shape"),
        (grey(1).int(), ["a"], PixelChange(4), "dtype"),
        (grey(1).float(), ["a"], PixelChange(4), UNSCALED),
        (grey(1).float() * float("nan"), ["a"], PixelChange(4), UNSCALED),
        (grey(1).double() * 0 + 1.001, ["a"], PixelChange(4), UNSCALED),
        (grey(1).double() * 0 - 0.001, ["a"], PixelChange(4), UNSCALED),
        (grey(1), ["a"], PixelChange(1025), "1024 pixels"),
        (noise(1), ["a"], PixelChange(481), "480 pixels"),
        (grey(1), ["a"], PixelChange(5, area=2), "4 pixels"),
        (grey(1), ["a"], PixelChange(4, area=33), "larger than the image"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    images: Tensor, keys: list[str], change: PixelChange, word: str
) -> None:
    with pytest.raises(InputError, match=word):
        change(images, keys)
