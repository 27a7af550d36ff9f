"""The grid of an experiment: numbers of pixels, amplitudes, areas; and the Pixel-index of its cells."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple, get_args

from pixelrobust.errors import InputError

MAX_AMPLITUDE = 255
AmplitudeShare = Literal["range", "half"]
Channels = Literal["apart", "together", "scattered"]
Values = Literal["uniform", "extreme"]
PROTOCOL_VERSION = 1
"""Changes whenever the same cell, seed and image would give another change."""


class Manner(NamedTuple):
    """Say how pixels are drawn and changed, where the paper leaves it open.

    Attributes:
        channels: "apart": each channel of a changed pixel has a random number of its own;
            "together": all have that of the first; "scattered": not pixels are drawn but values of
            the image, each with the same chance and apart from all others, on average as many as
            num pixels have.
        repetition: whether a position may be drawn again; its first change stands, so that fewer
            than num pixels can differ. Else num positions are distinct.
        values: what becomes of a changed value: "uniform": any that the amplitude allows, with the
            same chance; "extreme": one of its two ends.
    """

    channels: Channels = "apart"
    repetition: bool = False
    values: Values = "uniform"

    @property
    def words(self) -> str:
        """Return what differs from the default, as arguments behind others."""
        given = self._asdict().items() - Manner()._asdict().items()
        return "".join(f", {name}={value!r}" for name, value in sorted(given))

    def check(self) -> None:
        """Raise InputError unless all are of their kind."""
        if self.channels not in get_args(Channels):
            raise InputError(
                f"perturbation.channels={self.channels!r} is unknown; give 'apart' (a random number for "
                "each channel), 'together' (one for all) or 'scattered' (single values, not pixels)."
            )
        if not isinstance(self.repetition, bool):
            raise InputError(
                f"perturbation.repetition={self.repetition!r} is neither true nor false; give true where "
                "positions may be drawn again."
            )
        if self.values not in get_args(Values):
            raise InputError(
                f"perturbation.values={self.values!r} is unknown; give 'uniform' (any value) or 'extreme' "
                "(the smallest or the largest)."
            )
        if self.channels == "scattered" and self.repetition:
            raise InputError(
                "perturbation.repetition=true means nothing to perturbation.channels=scattered, which "
                "draws no positions; leave it out."
            )


@dataclass(frozen=True)
class Region:
    """Centred rectangle that positions are drawn from, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Count the pixels inside."""
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return its rows and its columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Cell:
    """Combination of the paper's Num, R and P (Section 4); numbers of any library become Python's.

    Attributes:
        num: distinct pixel positions changed (Num); 0 is the unchanged image.
        amplitude: None replaces every channel by a uniform value in 0..255; k adds a uniform
            integer in -k..k (R).
        area: side of the centred square that positions are drawn from, in pixels (P); None is the
            whole image.
    """

    num: int
    amplitude: int | None = None
    area: int | None = None

    def __post_init__(self) -> None:
        for name in ("num", "amplitude", "area"):
            object.__setattr__(self, name, as_plain(getattr(self, name)))
        check_num(self.num)
        check_amplitude(self.amplitude)
        check_area(self.area)

    def check_fits(self, image_size: tuple[int, int]) -> None:
        """Raise InputError where an image of (height, width) has no room for this cell."""
        room = region(self.area, image_size).pixels
        if self.num > room:
            where = "the image" if self.area is None else f"an area of side {self.area}"
            raise InputError(
                f"perturbation.num={self.num} is more than the {room} pixels that {where} holds; "
                "choose a smaller num or a larger area."
            )


def check_num(num: Any, key: str = "perturbation.num") -> None:
    """Raise InputError, which names the key, unless num is an integer of at least 0."""
    if not is_integer(num) or num < 0:
        raise InputError(f"{key}={num!r} is not a number of pixels; give an integer of 0 or more.")


def check_amplitude(amplitude: Any) -> None:
    """Raise InputError unless amplitude is None or an integer in 0..255."""
    if amplitude is None:
        return
    if not is_integer(amplitude) or not 0 <= amplitude <= MAX_AMPLITUDE:
        raise InputError(
            f"perturbation.amplitude={amplitude!r} is not an amplitude; give an integer in "
            f"0..{MAX_AMPLITUDE}, or null for a change to any value."
        )


def check_area(area: Any) -> None:
    """Raise InputError unless area is None or an integer of at least 1."""
    if area is None:
        return
    if not is_integer(area) or area < 1:
        raise InputError(
            f"perturbation.area={area!r} is not the side of a square; give an integer of 1 or "
            "more, or null for the whole image."
        )


def region(area: int | None, image_size: tuple[int, int]) -> Region:
    """Return the rectangle of an area in images of (height, width).

    Where the margin is odd the square lies half a pixel towards the top left.

    Raises:
        InputError: the area is larger than the image.
    """
    height, width = image_size
    if area is None:
        return Region(0, 0, height, width)
    if area > min(height, width):
        raise InputError(
            f"perturbation.area={area} is larger than the image ({height} x {width}); "
            f"give a side of at most {min(height, width)}, or null for the whole image."
        )
    return Region((height - area) // 2, (width - area) // 2, area, area)


def build_grid(
    num: int | Iterable[int],
    amplitude: int | Iterable[int | None] | None = None,
    area: int | Iterable[int | None] | None = None,
) -> list[Cell]:
    """Combine all values, areas outermost, num innermost, led by the control.

    The control is ``Cell(0, None, None)``: without changed pixels, amplitude and area mean
    nothing, so it stands once for all of them, whether 0 is among the nums or not.
    """
    given = [as_tuple(values) for values in (num, amplitude, area)]
    checks: tuple[Callable[[Any], None], ...] = (check_num, check_amplitude, check_area)
    for check, values in zip(checks, given, strict=True):
        for value in values:
            check(value)
    nums = sorted(set(given[0]) - {0})
    amplitudes, areas = map(dict.fromkeys, given[1:])
    cells = [Cell(n, a, p) for p, a, n in product(areas, amplitudes, nums)]
    return [Cell(0), *cells]


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return a scalar (None included) as a tuple of one, any other iterable as a tuple; numbers as plain ones."""
    value = as_plain(value)
    if value is None or isinstance(value, str) or not isinstance(value, Iterable):
        return (value,)
    return tuple(map(as_plain, value))


def as_plain(value: Any) -> Any:
    """Return numbers of NumPy, torch and pandas as Python's, also within lists and mappings.

    An array or tensor of one element is that number, one of several a list; all else stays as it is.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        return value
    if isinstance(value, Mapping):
        return {key: as_plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        plain = map(as_plain, value)
        return list(plain) if isinstance(value, list) else tuple(plain)
    return value


def is_integer(value: Any) -> bool:
    """Tell whether a value is an integer; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_image_size(image_size: Any) -> tuple[int, int]:
    """Return (height, width) in pixels, of one number those of a square; InputError where it is neither."""
    size = as_tuple(image_size)
    if len(size) not in (1, 2) or not all(is_integer(side) and side > 0 for side in size):
        raise InputError(
            f"image_size={image_size!r} is not the size of images; give (height, width) in pixels, or "
            "one number for squares."
        )
    return size[0], size[-1]


def pixel_index(
    wrong_rate: float,
    num: int,
    amplitude: int | None = None,
    area: int | None = None,
    image_size: int | tuple[int, int] = (224, 224),
    amplitude_share: AmplitudeShare = "range",
) -> float:
    """Compute Pi = w / (p r a): wrong predictions per share of the image that was changed.

    It is the paper's figure of merit (Section 5, Eq. 7 and Table 4).

    Args:
        wrong_rate: w, the share of wrong outcomes, in 0..1.
        num: changed pixels; p = num / (height * width).
        amplitude: None gives r = 1; k gives r = min(2k / 255, 1).
        area: side of the square of positions; a = area^2 / (height * width), 1 for None.
        image_size: (height, width) in pixels; one number: of squares.
        amplitude_share: "range" as above; "half" takes r = k / 255.

    Returns:
        Pi, 0 or more; smaller is more robust. NaN where num or amplitude is 0: nothing was
        changed, so the index is not defined.

    Raises:
        InputError: an argument is out of its range.
    """
    rate = as_plain(wrong_rate)
    if not isinstance(rate, int | float) or not 0.0 <= rate <= 1.0:
        raise InputError(f"wrong_rate={wrong_rate!r} is not a share; give a number in 0..1.")
    cell = Cell(num, amplitude, area)
    height, width = size = as_image_size(image_size)
    cell.check_fits(size)
    p = cell.num / (height * width)
    r = _value_range_share(cell.amplitude, amplitude_share)
    a = region(cell.area, size).pixels / (height * width)
    changed = p * r * a
    return rate / changed if changed > 0 else math.nan


def _value_range_share(amplitude: int | None, amplitude_share: AmplitudeShare) -> float:
    if amplitude is None:
        return 1.0
    if amplitude_share == "half":
        return amplitude / 255
    if amplitude_share == "range":
        return min(2 * amplitude / 255, 1.0)
    raise InputError(
        f"pixel_index.amplitude_share={amplitude_share!r} is unknown; give 'range' (2k/255, at "
        "most 1) or 'half' (k/255)."
    )
