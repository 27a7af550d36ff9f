"""The change itself: a few random pixels get random values (the paper's Algorithm 7).

A change is a pure function of (seed, image key, draw, num, amplitude, area). Random words come from
a counter-based generator whose key is a hash of (seed, image key) and whose counter holds the draw,
so neither batch size nor order, worker, process or device can matter.

Changes share their randomness wherever that makes comparisons sharper:

* positions depend on (seed, key, draw, area), and are the first ``num`` distinct pixels of one
  stream: the change of 4 pixels is the beginning of the change of 64;
* new values depend on (seed, key, draw, rank of the pixel, channel): amplitudes scale the same
  underlying words, and areas move the same values elsewhere.
"""

import copy
import functools
import hashlib
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pixelrobust.errors import InputError
from pixelrobust.perturbation.grid import (
    PROTOCOL_VERSION,
    Cell,
    Channels,
    Manner,
    Region,
    Values,
    as_plain,
    is_integer,
    region,
)
from pixelrobust.perturbation.philox import WORD, WORDS_PER_BLOCK, philox

_POSITION_STREAM = 0
_VALUE_STREAM = 1
# Of values that are drawn one by one: whether they change, and to what.
_CHOICE_STREAM = 2
_SCATTERED_STREAM = 3
# Of changes of changes: which pixels are given up, which are taken instead, and their values.
_LEFT_STREAM, _TAKEN_STREAM, _SWAPPED_STREAM = 4, 5, 6
_MAX_DRAW = WORD
_NATS = 35
# Of anything that is taken for an image.
_MOST_CHANNELS = 4


@dataclass(frozen=True)
class PixelChange:
    """Change ``num`` random pixels of each image.

    Args:
        num: distinct pixel positions to change (paper: Num).
        amplitude: None: every channel becomes a uniform integer in 0..255. k: a uniform integer in
            -k..k, independent for each channel, is added and the sum clipped to 0..255 (paper: R).
        area: side of the centred square that positions are drawn from; None: the whole image
            (paper: P).
        seed: any integer of 0 or more.
        channels, repetition, values: see `pixelrobust.perturbation.grid.Manner`.

    Raises:
        InputError: a value is out of its range.
    """

    num: int
    amplitude: int | None = None
    area: int | None = None
    seed: int = 0
    channels: Channels = "apart"
    repetition: bool = False
    values: Values = "uniform"

    def __post_init__(self) -> None:
        for name, value in vars(Cell(self.num, self.amplitude, self.area)).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "seed", check_seed(self.seed))
        Manner(self.channels, self.repetition, self.values).check()

    def __call__(self, images: Tensor, keys: Sequence[str], draw: int = 0) -> Tensor:
        """Return changed copies of a batch of images.

        Args:
            images: (B, C, H, W), uint8, or floating point in [0, 1].
            keys: B image keys.
            draw: which of the independent changes of these images, 0 or more.

        Returns:
            A tensor of the same shape, dtype and device; the input is left as it was.

        Raises:
            InputError: shapes do not match, values leave [0, 1], or num pixels do not fit.
        """
        check_images(images)
        check_keys(keys, images)
        if images.is_floating_point():
            check_unit_range(images)
        cell = Cell(self.num, self.amplitude, self.area)
        cell.check_fits((images.shape[-2], images.shape[-1]))
        philox_keys = image_keys(keys, self.seed, images.device)
        draws = torch.full((len(keys),), check_draw(draw), device=images.device)
        manner = Manner(self.channels, self.repetition, self.values)
        randomness = ChangeRandomness(philox_keys, draws, images.shape[1:], manner)
        return apply_change(images, randomness, cell)


class ChangeRandomness:
    """Positions and words of a batch of changes, drawn once and shared by all its cells.

    Args:
        philox_keys: (B, 2) int64, from `image_keys`.
        draws: (B,) int64.
        image_shape: (C, H, W).
        manner: how positions and words are drawn.
    """

    def __init__(
        self,
        philox_keys: Tensor,
        draws: Tensor,
        image_shape: Sequence[int],
        manner: Manner = Manner(),  # noqa: B008
    ) -> None:
        self.manner = manner
        self._keys = philox_keys
        self._draws = draws
        self._channels, height, width = image_shape
        self._image_size = (height, width)
        self._positions: dict[int | None, Tensor] = {}
        self._words = philox_keys.new_empty((len(philox_keys), 0))

    def take(self, part: slice) -> "ChangeRandomness":
        """Return the randomness of some of the changes: what has been drawn, for them."""
        taken = copy.copy(self)
        taken._keys, taken._draws, taken._words = (
            table[part] for table in (self._keys, self._draws, self._words)
        )
        taken._positions = {area: known[part] for area, known in self._positions.items()}
        return taken

    def positions(self, num: int, area: int | None) -> Tensor:
        """Return (B, num) int64 flat indices row * W + column, distinct in each row or as drawn."""
        known = self._positions.get(area)
        if known is None or known.shape[1] < num:
            rectangle = region(area, self._image_size)
            draw = _ranks if self.manner.repetition else _distinct
            ranks = draw(self._keys, self._draws, rectangle, num)
            known = self._positions[area] = _positions_of(ranks, rectangle, self._image_size[1])
        return known[:, :num]

    def words(self, num: int) -> Tensor:
        """Return (B, num, C) int64: the 32-bit words behind the new values of each changed pixel."""
        needed = num * self._channels
        if self._words.shape[1] < needed:
            self._words = _stream(self._keys, self._draws, _VALUE_STREAM, 0, needed)
        words = self._words[:, :needed].reshape(len(self._keys), num, self._channels)
        if self.manner.channels == "together":
            words = words[:, :, :1].expand(-1, -1, self._channels)
        return words

    def words_at(self, positions: Tensor) -> Tensor:
        """Return (B, num, C) int64: the words of pixels at these positions (B, num), from `positions`."""
        words = self.words(positions.shape[1])
        if not self.manner.repetition:
            return words
        # All changes of one position are alike, or the device would choose which of them stands.
        rank = _first_appearance(positions)
        return words.gather(1, rank[:, :, None].expand_as(words))

    def scattered(self, num: int, rectangle: Region) -> tuple[Tensor, Tensor]:
        """Draw which values of a rectangle change, bool, and the words behind them, int64; (B, C, h, w)."""
        shape = self._channels, rectangle.height, rectangle.width
        variant = (rectangle.height << 16) + rectangle.width
        chance, words = (
            _stream(self._keys, self._draws, stream, variant, math.prod(shape)).view(-1, *shape)
            for stream in (_CHOICE_STREAM, _SCATTERED_STREAM)
        )
        return chance < (num << 32) // rectangle.pixels, words

    def reserve(self, cells: Sequence[Cell]) -> None:
        """Draw positions and words of some cells once, at the largest num of each area."""
        if self.manner.channels == "scattered":
            return
        largest: dict[int | None, int] = {}
        for cell in cells:
            largest[cell.area] = max(cell.num, largest.get(cell.area, 0))
        for area, num in largest.items():
            if num:
                self.positions(num, area)
        self.words(max(largest.values()))


def apply_change(images: Tensor, randomness: ChangeRandomness, cell: Cell) -> Tensor:
    """Return changed copies of images (B, C, H, W) for one cell; dtypes as in `PixelChange`."""
    is_channels_last = images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if is_channels_last else torch.contiguous_format
    changed = images.clone(memory_format=layout)
    if cell.num == 0:
        return changed
    values = randomness.manner.values
    if randomness.manner.channels == "scattered":
        rectangle = region(cell.area, (images.shape[2], images.shape[3]))
        rows, columns = rectangle.slices
        inside = changed[:, :, rows, columns]
        chosen, words = randomness.scattered(cell.num, rectangle)
        new = _new_values(words, inside, cell.amplitude, values)
        inside.copy_(torch.where(chosen, new, inside))
        return changed
    positions = randomness.positions(cell.num, cell.area)
    return _changed_at(changed, positions, randomness.words_at(positions), cell.amplitude, values)


def change_at(images: Tensor, positions: Tensor, words: Tensor, cell: Cell) -> Tensor:
    """Return copies of images with extreme values at given positions.

    Args:
        images: (B, C, H, W), uint8, or floating point in [0, 1].
        positions: (B, K) int64 flat indices row * W + column, distinct in each row.
        words: (B, K, C) int64, 32 bits each, the first of which decides.
        cell: its amplitude counts.
    """
    changed = images.clone(memory_format=torch.preserve_format)
    return _changed_at(changed, positions, words, cell.amplitude, "extreme")


def _changed_at(
    changed: Tensor, positions: Tensor, words: Tensor, amplitude: int | None, values: Values
) -> Tensor:
    """Change images in place, which are the caller's own, and return them."""
    count, channels, height, width = changed.shape
    index = positions[:, :, None].expand(-1, -1, channels)
    # A view, in either layout.
    pixels = changed.permute(0, 2, 3, 1).view(count, height * width, channels)
    pixels.scatter_(1, index, _new_values(words, pixels.gather(1, index), amplitude, values))
    return changed


class Swaps(NamedTuple):
    """Hold what replaces some of the changed pixels of B images.

    Attributes:
        places: (B, M) int64, which of the K pixels are given up.
        positions: (B, M) int64, those that are taken instead, none of the K.
        words: (B, M, C) int64, what their values become.
    """

    places: Tensor
    positions: Tensor
    words: Tensor


def draw_swaps(
    philox_keys: Tensor,
    query: int,
    positions: Tensor,
    area: int | None,
    image_shape: Sequence[int],
    count: int,
) -> Swaps:
    """Draw which changed pixels are given up for which others: a function of (seed, image key, query).

    Args:
        philox_keys: (B, 2) int64, from `image_keys`.
        query: which of the changes of a change, 1 or more.
        positions: (B, K) int64, the changed pixels, distinct.
        area: that others are drawn from.
        image_shape: (C, H, W).
        count: how many are to be replaced, at most K; fewer where the area has no room.
    """
    channels, height, width = image_shape
    rectangle, num = region(area, (height, width)), positions.shape[1]
    count = min(count, rectangle.pixels - num)
    draws = torch.full((len(positions),), query, device=positions.device)
    order = _stream(philox_keys, draws, _LEFT_STREAM, 0, num).argsort(dim=1, stable=True)
    ranks = _distinct(philox_keys, draws, rectangle, num + count, _TAKEN_STREAM)
    drawn = _positions_of(ranks, rectangle, width)
    is_taken = (drawn[:, :, None] == positions[:, None, :]).any(dim=2)
    # The first that are not changed already; all others go into one spare column.
    place = torch.where(is_taken, count, (~is_taken).cumsum(dim=1) - 1).clamp(max=count)
    taken = drawn.new_empty((len(drawn), count + 1)).scatter_(1, place, drawn)[:, :count]
    words = _stream(philox_keys, draws, _SWAPPED_STREAM, 0, count * channels)
    return Swaps(order[:, :count], taken, words.view(-1, count, channels))


def image_keys(keys: Sequence[str], seed: int, device: torch.device | None = None) -> Tensor:
    """Hash image keys with the seed: (B, 2) int64, two 32-bit words each.

    Keys are compared as NFC Unicode, so that one file has one key on every file system.
    """
    seed = check_seed(seed)
    digests = [_digest(seed, key) for key in keys]
    words = [[d & WORD, d >> 32] for d in digests]
    return torch.tensor(words, dtype=torch.int64, device=device).view(-1, 2)


def check_seed(seed: int) -> int:
    """Return the seed as Python's integer; InputError unless it is one of 0 or more."""
    seed = as_plain(seed)
    if not is_integer(seed) or seed < 0:
        raise InputError(f"seed={seed!r} is not a seed; give an integer of 0 or more.")
    return seed


def check_draw(draw: int) -> int:
    """Return the draw as Python's integer; InputError unless it is one in 0..2^32-1."""
    draw = as_plain(draw)
    if not is_integer(draw) or not 0 <= draw <= _MAX_DRAW:
        raise InputError(f"draw={draw!r} is not a draw; give an integer in 0..{_MAX_DRAW}.")
    return draw


def check_images(images: Tensor) -> None:
    """Raise InputError unless images are (B, C, H, W), uint8 or floating point."""
    _check_shape(images)
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise InputError(
            f"images have dtype {images.dtype}; give uint8, or floating point in [0, 1]."
        )


def check_uint8_images(images: Tensor) -> None:
    """Raise InputError unless images are (B, C, H, W) uint8."""
    _check_shape(images)
    if images.dtype != torch.uint8:
        raise InputError(f"images have dtype {images.dtype}; give uint8.")


def _check_shape(images: Tensor) -> None:
    shape = tuple(images.shape)
    if images.ndim != 4:
        raise InputError(f"images have shape {shape}; give (batch, channels, height, width).")
    # No image is so narrow, and none has so many channels.
    if shape[3] in (1, 3, 4) and shape[1] > _MOST_CHANNELS:
        raise InputError(
            f"images have shape {shape}, their channels last; give (batch, channels, height, width): "
            "images.permute(0, 3, 1, 2) of a tensor, images.transpose(0, 3, 1, 2) of an array."
        )


def check_keys(keys: Sequence[str], images: Tensor) -> None:
    """Raise InputError unless there are as many keys as images."""
    if len(keys) != len(images):
        raise InputError(f"{len(keys)} keys were given for {len(images)} images; give one each.")


def check_unit_range(images: Tensor) -> None:
    """Raise InputError unless every value lies in [0, 1]."""
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):
        raise InputError(
            "floating-point images leave [0, 1]; give them before normalisation, scaled to [0, 1]."
        )


def _digest(seed: int, key: str) -> int:
    text = f"{PROTOCOL_VERSION}\0{seed}\0{unicodedata.normalize('NFC', key)}"
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _stream(keys: Tensor, draws: Tensor, stream: int, variant: int, count: int) -> Tensor:
    """Return (B, count) int64: the first words of one random stream of each (key, draw)."""
    blocks = -(-count // WORDS_PER_BLOCK)
    block = torch.arange(blocks, device=keys.device)[None, :]
    constant = torch.tensor([[variant], [stream]], device=keys.device)
    words = philox(
        (block, constant[0], draws[:, None], constant[1]),
        (keys[:, :1], keys[:, 1:]),
    )
    return words.flatten(1)[:, :count]


def _positions_of(ranks: Tensor, rectangle: Region, width: int) -> Tensor:
    """Return the flat indices in images of this width of ranks in a rectangle."""
    rows = rectangle.top + ranks // rectangle.width
    return rows * width + rectangle.left + ranks % rectangle.width


def _ranks(
    keys: Tensor, draws: Tensor, rectangle: Region, count: int, stream: int = _POSITION_STREAM
) -> Tensor:
    """Return (B, count) int64: the first values of a stream of uniform ranks in the region."""
    variant = (rectangle.height << 16) + rectangle.width
    words = _stream(keys, draws, stream, variant, count)
    return (words * rectangle.pixels) >> 32


def _distinct(
    keys: Tensor, draws: Tensor, rectangle: Region, num: int, stream: int = _POSITION_STREAM
) -> Tensor:
    """Return (B, num) int64: the first distinct values of a stream of uniform ranks in the region.

    How many candidates are looked at does not change the result, only whether they suffice.
    A 32-bit word maps to one of n ranks with a relative bias below n / 2^32.
    """
    ranks = _ranks(keys, draws, rectangle, _candidates_needed(rectangle.pixels, num), stream)
    order = _order_of_first_appearance(ranks)
    # Unlike a look at the result, this does not wait for a GPU.
    torch._assert_async((order.amax(dim=1) >= num - 1).all())
    # Candidates past the wanted ones, and repetitions, are all thrown into one spare column.
    target = torch.where((order >= 0) & (order < num), order, num)
    return ranks.new_empty((len(ranks), num + 1)).scatter_(1, target, ranks)[:, :num]


def _order_of_first_appearance(ranks: Tensor) -> Tensor:
    """Number the first appearances of values in each row, (B, K): 0, 1, 2, …; -1 at repetitions."""
    source, is_new = _sorted(ranks)
    is_first = torch.empty_like(is_new).scatter_(1, source, is_new)
    return torch.where(is_first, is_first.cumsum(dim=1) - 1, -1)


def _first_appearance(values: Tensor) -> Tensor:
    """Return, for each value of each row, (B, K), where in the row it appears first."""
    source, is_new = _sorted(values)
    places = torch.arange(values.shape[1], device=values.device).expand_as(values)
    start = torch.where(is_new, places, 0).cummax(dim=1).values
    return torch.empty_like(source).scatter_(1, source, source.gather(1, start))


def _sorted(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return where values come from when each row is sorted, and which are the first of their kind."""
    ordered, source = values.sort(dim=1, stable=True)
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return source, is_new


@functools.cache
def _candidates_needed(room: int, num: int) -> int:
    """Return so many uniform draws from room values that num distinct ones are among them.

    They fall short less often than once in e^35 changes. Where few values are wanted, the number of
    repetitions is bounded (Chernoff, for a sum of independent trials); where nearly all are, the
    waiting time of the coupon collector (Janson 2018, Theorem 2.1).
    """
    enough = _coupon_bound(room, num)
    return next((drawn for drawn in range(num, enough) if _suffices(room, num, drawn)), enough)


def _suffices(room: int, num: int, drawn: int) -> bool:
    """Tell whether so many draws hold num distinct values, by Chernoff's bound for repetitions."""
    mean = drawn * (drawn - 1) / (2 * room)
    wanted = drawn - num + 1
    return wanted > mean and wanted * math.log(wanted / max(mean, 1e-300)) - wanted + mean > _NATS


def _coupon_bound(room: int, num: int) -> int:
    """Return the draws that suffice by P(waiting time > x mean) <= exp(-p mean (x - 1 - log x))."""
    rarest = (room - num + 1) / room
    mean = sum(room / (room - found) for found in range(num))
    low, high = 1.0, 2.0
    while rarest * mean * (high - 1 - math.log(high)) < _NATS:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        if rarest * mean * (middle - 1 - math.log(middle)) < _NATS:
            low = middle
        else:
            high = middle
    return math.ceil(high * mean)


def _new_values(words: Tensor, current: Tensor, amplitude: int | None, values: Values) -> Tensor:
    """Return what changed values become, of the images' dtype.

    Args:
        words: int64, any shape.
        current: the same shape, before the change.
        amplitude: of the change.
        values: as in `Manner`.
    """
    is_float = current.is_floating_point()
    if amplitude is None:
        new = words >> 24 if values == "uniform" else 255 * (words >> 31)
        return unit_floats(new, current.dtype) if is_float else new.to(torch.uint8)
    steps = ((words * (2 * amplitude + 1)) >> 32) - amplitude
    if values == "extreme":
        steps = amplitude * (2 * (words >> 31) - 1)
    if is_float:
        return (current + steps.sign() * unit_floats(steps.abs(), current.dtype)).clamp(0, 1)
    return (current + steps).clamp(0, 255).to(torch.uint8)


def as_floats(images: Tensor) -> Tensor:
    """Return uint8, or float in [0, 1], as float32 in [0, 1], channels last."""
    if images.is_floating_point():
        return images.to(torch.float32, memory_format=torch.channels_last)
    return unit_floats(images, memory_format=torch.channels_last)


def unit_floats(
    values: Tensor,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.preserve_format,
) -> Tensor:
    """Return integers in 0..255 divided by 255, rounded to the nearest, the same bits on every device.

    A GPU divides by a number by multiplying by its reciprocal, which rounds 126 of the 256 quotients
    to another float32; so do compilers of networks. Divided by a tensor, it rounds as the CPU does.
    """
    if values.device.type == "cpu":
        # A table of the 256 quotients would take a CPU half as long again.
        return values.to(dtype, memory_format=memory_format).div_(255)
    if torch.compiler.is_compiling():
        # The bits of a quotient repeat after 8, so none is near the middle of two floats, and an error
        # of float64 does not show.
        return (values.to(torch.float64, memory_format=memory_format) / 255).to(dtype)
    divisor = values.new_full((), 255, dtype=dtype)
    return values.to(values.dtype, memory_format=memory_format) / divisor
