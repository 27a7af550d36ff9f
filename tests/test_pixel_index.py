"""The Pixel-index: the paper's worked example, and what the formula implies."""

import math

import pytest

from pixelrobust import InputError, pixel_index


def test_the_papers_example() -> None:
    """Eq. 8-12: 1,000 of 10,000 wrong at 64 pixels within 200 x 200 of 224 x 224.

    w / (p r a) = 0.1 * 50176^2 / (64 * 40000) = 98.345; the paper rounds p and a first: 98.30.
    """
    value = pixel_index(wrong_rate=0.1, num=64, area=200, image_size=(224, 224))
    assert value == pytest.approx(0.1 * 50176**2 / (64 * 40_000), rel=1e-12)
    assert round(value, 3) == 98.345


@pytest.mark.parametrize(
    ("amplitude", "share", "r"),
    [
        (None, "range", 1.0),
        (10, "range", 20 / 255),
        (127, "range", 254 / 255),
        (128, "range", 1.0),
        (255, "range", 1.0),
        (127, "half", 127 / 255),
        (None, "half", 1.0),
    ],
)
def test_the_value_range_enters_as_its_share(amplitude: int | None, share: str, r: float) -> None:
    value = pixel_index(0.5, 10, amplitude, None, (10, 10), amplitude_share=share)
    assert value == pytest.approx(0.5 / (0.1 * r))


def test_no_wrong_outcomes_give_zero_and_no_change_gives_nan() -> None:
    assert pixel_index(0.0, 4) == 0.0
    assert math.isnan(pixel_index(0.0, 0))
    assert math.isnan(pixel_index(0.0, 4, amplitude=0))


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(InputError, match="wrong_rate"):
        pixel_index(rate, 4)


def test_an_unknown_share_is_refused() -> None:
    with pytest.raises(InputError, match="amplitude_share='third'"):
        pixel_index(0.1, 4, 10, amplitude_share="third")
