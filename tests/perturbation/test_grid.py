"""Cells, areas and grids, and the Pixel-index of a cell."""

import math
from typing import Any

import pytest

from pixelrobust import InputError, pixel_index
from pixelrobust.perturbation.grid import Cell, Region, build_grid, region


def test_the_grid_is_led_by_one_control_and_ordered() -> None:
    assert build_grid([8, 0, 4, 8], amplitude=[10, None], area=220) == [
        Cell(0), Cell(4, 10, 220), Cell(8, 10, 220), Cell(4, None, 220), Cell(8, None, 220),
    ]  # fmt: skip
    assert build_grid(4) == [Cell(0), Cell(4)]
    assert build_grid(0) == [Cell(0)]


def test_areas_are_centred() -> None:
    assert region(200, (224, 224)) == Region(12, 12, 200, 200)
    assert region(3, (6, 9)) == Region(1, 3, 3, 3)
    assert region(None, (6, 9)) == Region(0, 0, 6, 9)
    assert region(200, (224, 224)).pixels == 40_000


def test_cells_must_fit_the_image() -> None:
    Cell(9, None, 3).check_fits((6, 9))
    for cell, words in (
        (Cell(10, None, 3), "9 pixels that an area of side 3 holds"),
        (Cell(55), "54 pixels that the image holds"),
        (Cell(1, None, 7), "area=7 is larger than the image"),
    ):
        with pytest.raises(InputError, match=words):
            cell.check_fits((6, 9))


def test_the_papers_pixel_index() -> None:
    """Eq. 8-12: 1,000 of 10,000 wrong at 64 pixels within 200 x 200 of 224 x 224.

    w / (p r a) = 0.1 * 50176^2 / (64 * 40000) = 98.345; the paper rounds p and a first: 98.30.
    """
    value = pixel_index(wrong_rate=0.1, num=64, area=200, image_size=(224, 224))
    assert value == pytest.approx(0.1 * 50176**2 / (64 * 40_000), rel=1e-12)
    assert round(value, 3) == 98.345


@pytest.mark.parametrize(
    ("amplitude", "share", "r"),
    [
        (None, {}, 1.0),
        (10, {}, 20 / 255),
        (127, {"amplitude_share": "range"}, 254 / 255),
        (128, {}, 1.0),
        (255, {}, 1.0),
        (127, {"amplitude_share": "half"}, 127 / 255),
        (None, {"amplitude_share": "half"}, 1.0),
    ],
)
def test_the_value_range_enters_as_its_share(
    amplitude: int | None, share: dict[str, Any], r: float
) -> None:
    value = pixel_index(0.5, 10, amplitude, None, (10, 10), **share)
    assert value == pytest.approx(0.5 / (0.1 * r))


def test_all_wrong_none_wrong_and_no_change() -> None:
    """Five of 10 x 20 pixels are changed, drawn from 4 x 4: 1 / (1/40 * 16/200)."""
    assert pixel_index(1.0, 5, None, 4, (10, 20)) == pytest.approx(500)
    assert pixel_index(0.0, 4) == 0.0
    assert math.isnan(pixel_index(0.0, 0))
    assert math.isnan(pixel_index(0.0, 4, amplitude=0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"wrong_rate": -0.1}, "wrong_rate=-0.1"),
        ({"wrong_rate": 1.1}, "wrong_rate=1.1"),
        ({"wrong_rate": math.nan}, "wrong_rate=nan"),
        ({"num": -1}, "num=-1"),
        ({"amplitude": 256}, "amplitude=256"),
        ({"area": 0}, "area=0"),
        ({"area": 225}, "area=225 is larger than the image"),
        ({"num": 5, "area": 2}, "num=5 is more than the 4 pixels"),
        ({"num": 101, "image_size": (10, 10)}, "num=101 is more than the 100 pixels"),
        ({"amplitude": 10, "amplitude_share": "third"}, "'third' is unknown; give 'range'"),
    ],
)
def test_a_pixel_index_of_what_cannot_be_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        pixel_index(**{"wrong_rate": 0.1, "num": 4, **arguments})
