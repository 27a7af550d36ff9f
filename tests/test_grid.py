"""Cells, areas and grids."""

import pytest

from pixelrobust import InputError
from pixelrobust.perturbation.grid import Cell, Region, build_grid, region


def test_the_grid_is_led_by_one_control_and_ordered() -> None:
    assert build_grid([8, 0, 4, 8], amplitude=[10, None], area=220) == [
        Cell(0),
        Cell(4, 10, 220),
        Cell(8, 10, 220),
        Cell(4, None, 220),
        Cell(8, None, 220),
    ]


def test_scalars_are_grids_too() -> None:
    assert build_grid(4) == [Cell(0), Cell(4)]
    assert build_grid(0) == [Cell(0)]


def test_areas_are_centred() -> None:
    assert region(200, (224, 224)) == Region(12, 12, 200, 200)
    assert region(3, (6, 9)) == Region(1, 3, 3, 3)
    assert region(None, (6, 9)) == Region(0, 0, 6, 9)
    assert region(200, (224, 224)).pixels == 40_000


def test_an_area_beyond_the_shorter_side_is_refused() -> None:
    with pytest.raises(InputError, match="area=7 is larger than the image"):
        region(7, (6, 9))


def test_num_must_fit_the_area() -> None:
    Cell(9, None, 3).check_fits((6, 9))
    with pytest.raises(InputError, match="9 pixels that an area of side 3 holds"):
        Cell(10, None, 3).check_fits((6, 9))
    with pytest.raises(InputError, match="54 pixels that the image holds"):
        Cell(55).check_fits((6, 9))
