"""Strips of pictures: which images to show under more and more changed pixels, and how."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from pixelrobust.errors import InputError
from pixelrobust.figures import COLOURS, add_words
from pixelrobust.perturbation.grid import as_plain
from pixelrobust.statistics.survival import pixels_to_flip

CROSS = "✗"
ELLIPSIS = "…"

_RIGHT_COLOUR = "#37474F"
_WRONG_COLOUR = "#C00020"
_FLIP_COLOUR = COLOURS[4]

_MOST_COLUMNS = 6

# Inches. At the 160 dots an inch of `write_figure`, a picture of 224 pixels is drawn pixel by pixel.
_PICTURE = 1.4
_PICTURE_DOTS = 224
_GAP = 0.15
_MARGIN = 0.05
_LONGEST_NAME = 1.5
_SHORTEST_NAME = 0.9
_FRAME = 0.035
_BELOW_PICTURE = 0.08
_BETWEEN_ROWS = 0.22
_HAIR = 1e-6
_TITLE_LINE = 0.19
_BELOW_TITLE = 0.08
_BELOW_HEADING = 0.04
# `add_words` puts the title below this share of the figure's height.
_TITLE_SHARE = 0.02

# A line's height, and its baseline below its top, as multiples of the font size.
_LINE = 1.4
_BASELINE = 1.05

# Points.
_LABEL_SIZE = 9.0
_HEADING_SIZE = 8.5
_NAME_SIZE = 7.5
_FLIP_SIZE = 7.5


@dataclass(frozen=True)
class Strip:
    """One image under more and more changed pixels.

    Attributes:
        key: the image's name.
        label: its true class, as words.
        nums: K numbers of changed pixels, rising, 0 first.
        images: (K, C, H, W) uint8, C 1 or 3, one for each num.
        predictions: for each model's short name, K predicted classes. A prediction is right if it
            equals `label`, so different classes need different words.
    """

    key: str
    label: str
    nums: tuple[int, ...]
    images: NDArray[np.uint8]
    predictions: Mapping[str, tuple[str, ...]]

    def flips(self) -> list[list[str]]:
        """Return, for each num, the models whose first wrong prediction it brings.

        A model that is wrong about the unchanged image has nothing to flip.
        """
        first = {
            model: next((k for k, name in enumerate(names) if name != self.label), 0)
            for model, names in self.predictions.items()
        }
        return [
            [model for model, index in first.items() if 0 < index == k]
            for k in range(len(self.nums))
        ]


def flipping_examples(outcomes: pd.DataFrame, count: int, draw: int = 0) -> list[str]:
    """Return images that flip at the fewest changed pixels: the most fragile, not typical ones.

    Args:
        outcomes: columns of `pixelrobust.outcomes.kinds.OUTCOMES`, of one amplitude and area.
        count: how many, 1 or more.
        draw: which draw.

    Returns:
        At most `count` image keys, by the smallest num at which any model flips, then by how many
        models flip at all, most first, then by their order in the outcomes. Images that never flip
        come last. A model that is wrong about the unchanged image has nothing to flip.

    Raises:
        InputError: count is below 1, several amplitudes or areas, or nothing of that draw above
            num 0.
    """
    count = as_plain(count)
    if count < 1:
        raise InputError(f"count={count} examples are too few; give 1 or more.")
    flips = pixels_to_flip(outcomes, draw)
    # Keys as plain strings, since categories carry an order of their own.
    flips["image"] = flips["image"].astype(object)
    flipped = flips[flips["flipped"]].groupby("image", sort=False)["num"]
    ranking = pd.DataFrame({"num": flipped.min(), "models": -flipped.size()})
    every = list(dict.fromkeys(outcomes["image"].astype(str)))
    # A stable sort keeps the images' order among ties, and puts missing nums last.
    ranked = ranking.reindex(every).sort_values(["num", "models"], kind="stable")
    return [str(key) for key in ranked.index[:count]]


def strips_from_outcomes(
    outcomes: pd.DataFrame,
    keys: Sequence[str],
    changed: Callable[[str, int], NDArray[np.uint8]],
    class_names: Sequence[Sequence[str]],
    draw: int = 0,
) -> list[Strip]:
    """Make a strip for each of some images, of all nums and models of the outcomes.

    Args:
        outcomes: columns of `pixelrobust.outcomes.kinds.OUTCOMES`, of one amplitude and area, with num 0.
        keys: the images.
        changed: image key, num -> uint8 (C, H, W), the image as it was evaluated in that draw.
        class_names: for each class, the names it goes by; the first is shown, with the class's
            index where several classes share it.
        draw: which draw; the unchanged image has one only.

    Raises:
        InputError: an outcome of an image, model and num is missing or there several times, or a
            class has no name.
    """
    rows = outcomes[(outcomes["num"] == 0) | (outcomes["draw"] == as_plain(draw))]
    rows = rows[rows["image"].isin(list(keys))].astype({"model": object, "image": object})
    if rows.duplicated(["model", "image", "num"]).any():
        raise InputError(
            "Strips need outcomes of one amplitude and area; these hold several for one image and "
            "num. Filter them first."
        )
    words = _words(class_names)
    if len(rows) and not rows[["label", "prediction"]].isin(range(len(words))).all(axis=None):
        raise InputError(
            f"The outcomes hold classes beyond the {len(words)} class names; give the names of the "
            "evaluated models' classes."
        )
    nums = tuple(sorted(int(num) for num in rows["num"].unique()))
    models = list(rows["model"].unique())
    return [
        _strip_of(rows[rows["image"] == key], key, nums, models, changed, words) for key in keys
    ]


def shortened(strips: Sequence[Strip]) -> list[Strip]:
    """Return the strips with as many nums as a printed page has room for, of all strips the same.

    Num 0 stays, and those at which models flip, from the smallest; then the largest num, and others
    from the largest down.
    """
    nums = strips[0].nums if strips else ()
    if len(nums) <= _MOST_COLUMNS:
        return list(strips)
    flips = {place for strip in strips for place, models in enumerate(strip.flips()) if models}
    preferred = dict.fromkeys([0, *sorted(flips), *range(len(nums) - 1, 0, -1)])
    kept = sorted(list(preferred)[:_MOST_COLUMNS])
    return [
        replace(
            strip,
            nums=tuple(nums[place] for place in kept),
            images=strip.images[kept],
            predictions={
                model: tuple(names[place] for place in kept)
                for model, names in strip.predictions.items()
            },
        )
        for strip in strips
    ]


def picture_strip(strips: Sequence[Strip], title: str, caption: str) -> Figure:
    """Draw a row of pictures for each image, a column for each num, and predictions below each picture.

    Args:
        strips: at least one; all of the same nums, models and image size.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure. Wrong predictions are red, bold and crossed; a picture at which models are wrong
        for the first time is framed and says which.

    Raises:
        InputError: there is no strip, or strips do not agree in themselves or with each other.
    """
    _check(strips)
    first = strips[0]
    left = _names_width(first.predictions) + _GAP
    rows = [_Row(strip) for strip in strips]
    headings = [_wrapped(heading, _PICTURE, _HEADING_SIZE) for heading in _headings(first)]
    above = _BELOW_TITLE + _BELOW_HEADING
    above += max(_height(heading, _HEADING_SIZE) for heading in headings)
    body = above + sum(row.height + _BETWEEN_ROWS for row in rows)
    height = (body + _TITLE_LINE * (1 + title.count("\n"))) / (1 - _TITLE_SHARE)
    page = _Page(left + len(first.nums) * (_PICTURE + _GAP), height)
    top = height - body + above
    for column, heading in enumerate(headings):
        centre = left + column * (_PICTURE + _GAP) + _PICTURE / 2
        page.text(centre, top - _BELOW_HEADING, heading, _HEADING_SIZE, ha="center", va="bottom")
    for row in rows:
        row.draw(page, left, top)
        top += row.height + _BETWEEN_ROWS
    add_words(page.figure, title, caption)
    return page.figure


def _words(class_names: Sequence[Sequence[str]]) -> list[str]:
    """Return one name for each class, and no name for two: ImageNet has two kinds of crane."""
    first = [names[0] for names in class_names]
    shared = Counter(first)
    return [f"{name} ({index})" if shared[name] > 1 else name for index, name in enumerate(first)]


def _strip_of(
    rows: pd.DataFrame,
    key: str,
    nums: tuple[int, ...],
    models: list[str],
    changed: Callable[[str, int], NDArray[np.uint8]],
    words: list[str],
) -> Strip:
    """Return the strip of one image from its rows."""
    predictions = rows.pivot_table(index="model", columns="num", values="prediction", sort=False)
    table = predictions.reindex(index=models, columns=nums)
    if rows.empty or table.isna().to_numpy().any():
        raise InputError(
            f"The outcomes lack image {key!r} for some model or num; choose images that all models "
            "were evaluated on."
        )
    return Strip(
        key,
        words[int(rows["label"].iloc[0])],
        nums,
        np.stack([changed(key, num) for num in nums]),
        {
            model: tuple(words[index] for index in predicted)
            for model, predicted in zip(models, table.to_numpy(dtype=np.int64), strict=True)
        },
    )


class _Page:
    """A figure that is drawn on in inches from its left and top edges."""

    def __init__(self, width: float, height: float) -> None:
        self._width, self._height = width, height
        self.figure = Figure(figsize=(width, height))
        FigureCanvasAgg(self.figure)

    def text(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        """Draw a text, with its baseline at y unless the style says otherwise; dollars are dollars."""
        x, y = x / self._width, 1 - y / self._height
        self.figure.text(x, y, text, fontsize=size, linespacing=1.15, parse_math=False, **style)

    def picture(self, x: float, y: float, image: NDArray[np.uint8], width: float) -> None:
        """Draw an image (C, H, W)."""
        channels, rows, columns = image.shape
        axes = self.figure.add_axes(self._bounds(x, y, width, width * rows / columns))
        # Smoothing would blur single pixels; but a picture with more pixels than dots needs it,
        # or it would lose some.
        smoothing = "auto" if columns > _PICTURE_DOTS else "none"
        pixels = image[0] if channels == 1 else image.transpose(1, 2, 0)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation=smoothing)
        axes.set_axis_off()

    def box(self, x: float, y: float, width: float, height: float) -> None:
        """Draw a filled box behind pictures and texts."""
        left, bottom, share_x, share_y = self._bounds(x, y, width, height)
        self.figure.add_artist(
            Rectangle((left, bottom), share_x, share_y, color=_FLIP_COLOUR, linewidth=0, zorder=-1)
        )

    def _bounds(
        self, x: float, y: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        return (
            x / self._width,
            1 - (y + height) / self._height,
            width / self._width,
            height / self._height,
        )


class _Row:
    """One strip: notes on flips, pictures, and a line of predictions a model."""

    def __init__(self, strip: Strip) -> None:
        self._strip = strip
        models = len(strip.predictions)
        self._notes = [
            _wrapped(_flip_note(flipping, models), _PICTURE, _FLIP_SIZE, "bold")
            for flipping in strip.flips()
        ]
        rows, columns = strip.images.shape[-2:]
        self._picture_height: float = _PICTURE * rows / columns
        self._above = max(_height(note, _FLIP_SIZE) for note in self._notes) + 2 * _FRAME
        self.height = (
            self._above + self._picture_height + _BELOW_PICTURE + models * _inches(_NAME_SIZE)
        )

    def draw(self, page: _Page, left: float, top: float) -> None:
        middle = top + self._above + self._picture_height / 2
        edge = left - _GAP
        label = _wrapped(self._strip.label, edge - _MARGIN, _LABEL_SIZE, "bold")
        page.text(edge, middle, label, _LABEL_SIZE, weight="bold", ha="right", va="center")
        for line, model in enumerate(self._strip.predictions):
            name = _cut(model, edge - _MARGIN, _NAME_SIZE)
            page.text(
                edge, self._line(top, line), name, _NAME_SIZE, ha="right", color=_RIGHT_COLOUR
            )
        for column in range(len(self._strip.nums)):
            self._draw_column(page, left + column * (_PICTURE + _GAP), top, column)

    def _draw_column(self, page: _Page, x: float, top: float, column: int) -> None:
        y = top + self._above
        note = self._notes[column]
        if note:
            tab = _height(note, _FLIP_SIZE) + _FRAME
            height = tab + self._picture_height + _FRAME
            page.box(x - _FRAME, y - tab, _PICTURE + 2 * _FRAME, height)
            style = {"weight": "bold", "ha": "center", "va": "center"}
            page.text(x + _PICTURE / 2, y - tab / 2, note, _FLIP_SIZE, **style)
        page.picture(x, y, self._strip.images[column], _PICTURE)
        for line, names in enumerate(self._strip.predictions.values()):
            text, style = _prediction(names[column], names[column] == self._strip.label)
            page.text(x, self._line(top, line), text, _NAME_SIZE, **style)

    def _line(self, top: float, line: int) -> float:
        """Return the baseline of the line of a model."""
        below = _BELOW_PICTURE + line * _inches(_NAME_SIZE) + _BASELINE * _NAME_SIZE / 72
        return top + self._above + self._picture_height + below


def _prediction(name: str, right: bool) -> tuple[str, dict[str, Any]]:
    """Return a predicted class as drawn, and its style."""
    width = _PICTURE + _GAP / 3
    if right:
        return _cut(name, width, _NAME_SIZE), {"color": _RIGHT_COLOUR}
    crossed = _cut(f"{CROSS} {name}", width, _NAME_SIZE, "bold")
    return crossed, {"color": _WRONG_COLOUR, "weight": "bold"}


def _headings(strip: Strip) -> list[str]:
    pixels = strip.images.shape[-2] * strip.images.shape[-1]
    return [f"num = {num:,} ({_percent(num / pixels)} %)" for num in strip.nums]


def _percent(share: float) -> str:
    """Return a share in percent in two digits, and never the 1e+02 that two digits make of 100."""
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"


def _flip_note(flipping: list[str], models: int) -> str:
    """Name the models that flip at a picture; empty where none does."""
    if not flipping:
        return ""
    if len(flipping) == models > 2:
        return f"all {models} models flip"
    *others, last = flipping
    return f"{', '.join(others)} and {last} flip" if others else f"{last} flips"


def _names_width(models: Mapping[str, object]) -> float:
    """Return the inches that the models' names take, within bounds, left of the pictures."""
    longest = max((_text_width(model, _NAME_SIZE) for model in models), default=0)
    return _MARGIN + min(max(longest, _SHORTEST_NAME), _LONGEST_NAME)


Weight = Literal["normal", "bold"]


def _text_width(text: str, size: float, weight: Weight = "normal") -> float:
    """Return the width of a text in inches, on any canvas."""
    font = FontProperties(size=size, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


def _cut(text: str, width: float, size: float, weight: Weight = "normal") -> str:
    """Return the text, or as much of its beginning as fits, and an ellipsis."""
    # A width that was measured as this text's comes back with a rounding error.
    if _text_width(text, size, weight) <= width + _HAIR:
        return text
    kept = text
    while kept and _text_width(kept + ELLIPSIS, size, weight) > width:
        kept = kept[:-1].rstrip()
    return kept + ELLIPSIS


def _wrapped(text: str, width: float, size: float, weight: Weight = "normal") -> str:
    """Return the text in lines that fit."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _text_width(longer, size, weight) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(_cut(line, width, size, weight) for line in lines)


def _height(text: str, size: float) -> float:
    """Return the height of a text in inches; 0 without any."""
    return _inches(size) * len(text.splitlines())


def _inches(size: float) -> float:
    """Return the height in inches of a line in a font size of so many points."""
    return _LINE * size / 72


def _check(strips: Sequence[Strip]) -> None:
    if not strips:
        raise InputError("There is no strip to draw; give at least one image.")
    first = strips[0]
    for strip in strips:
        _check_strip(strip)
        if strip.nums != first.nums:
            raise InputError(
                f"strip {strip.key!r} has nums {strip.nums} and strip {first.key!r} {first.nums}; "
                "give all strips the same."
            )
        if strip.images.shape[-2:] != first.images.shape[-2:]:
            raise InputError(
                f"images of strip {strip.key!r} are {strip.images.shape[-2:]} and those of "
                f"{first.key!r} {first.images.shape[-2:]} pixels high and wide; give one size."
            )
        if list(strip.predictions) != list(first.predictions):
            raise InputError(
                f"strip {strip.key!r} has predictions of {list(strip.predictions)} and strip "
                f"{first.key!r} of {list(first.predictions)}; give all strips the same models."
            )


def _check_strip(strip: Strip) -> None:
    nums, shape = strip.nums, strip.images.shape
    if nums[:1] != (0,) or any(after <= before for before, after in pairwise(nums)):
        raise InputError(f"strip {strip.key!r} has nums {nums}; give them rising, 0 first.")
    well_shaped = len(shape) == 4 and shape[1] in (1, 3) and min(shape) > 0
    if not well_shaped or strip.images.dtype != np.uint8:
        raise InputError(
            f"images of strip {strip.key!r} have shape {shape} and dtype {strip.images.dtype}; give "
            "uint8 (nums, channels, height, width) with 1 or 3 channels."
        )
    if shape[0] != len(nums):
        raise InputError(
            f"strip {strip.key!r} has {shape[0]} images for {len(nums)} nums; give one each."
        )
    for model, names in strip.predictions.items():
        if len(names) != len(nums):
            raise InputError(
                f"strip {strip.key!r} has {len(names)} predictions of {model} for {len(nums)} "
                "nums; give one each."
            )
