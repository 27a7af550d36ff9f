"""The Pixel-index: the paper's worked example, and what the formula implies."""

import math
from typing import Any

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


def test_the_range_is_what_counts_unless_asked_otherwise() -> None:
    assert pixel_index(0.5, 10, 51, None, (10, 10)) == pytest.approx(0.5 / (0.1 * 0.4))


def test_all_wrong_is_a_share_too() -> None:
    """Of 10 x 20 pixels 5 are changed, drawn from 4 x 4: 1 / (1/40 * 16/200)."""
    assert pixel_index(1.0, 5, None, 4, (10, 20)) == pytest.approx(500)


def test_no_wrong_outcomes_give_zero_and_no_change_gives_nan() -> None:
    assert pixel_index(0.0, 4) == 0.0
    assert math.isnan(pixel_index(0.0, 0))
    assert math.isnan(pixel_index(0.0, 4, amplitude=0))


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(InputError, match="wrong_rate"):
        pixel_index(rate, 4)


def test_an_unknown_share_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        pixel_index(0.1, 4, 10, amplitude_share="third")
    assert str(refused.value) == (
        "pixel_index.amplitude_share='third' is unknown; give 'range' (2k/255, at most 1) or 'half' "
        "(k/255)."
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num": -1}, "num=-1"),
        ({"num": 4, "amplitude": 256}, "amplitude=256"),
        ({"num": 4, "area": 0}, "area=0"),
        ({"num": 4, "area": 225}, "area=225 is larger than the image"),
        ({"num": 5, "area": 2}, "num=5 is more than the 4 pixels"),
        ({"num": 101, "image_size": (10, 10)}, "num=101 is more than the 100 pixels"),
    ],
)
def test_what_no_change_can_be_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        pixel_index(0.1, **arguments)
