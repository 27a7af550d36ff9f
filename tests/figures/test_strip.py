"""Picture strips: which images are chosen, what is drawn where, and that nothing overlaps."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from pixelrobust.errors import InputError
from pixelrobust.figures import COLOURS
from pixelrobust.figures.strip import (
    CROSS,
    ELLIPSIS,
    Strip,
    flipping_examples,
    picture_strip,
    shortened,
    strips_from_outcomes,
)
from pixelrobust.outcomes.rows import concatenate, make_outcomes
from pixelrobust.perturbation.grid import Cell

NUMS = (0, 4, 8)
NAMES = (("tench", "Tinca tinca"), ("crane",), ("crane", "derrick"), ("fox",))
Predictions = dict[str, list[list[int]]]


def outcomes_of(predictions: Predictions, labels: list[int]) -> pd.DataFrame:
    """Outcomes of draw 0: for each model, for each num, the classes predicted for the images."""
    keys = [f"{index}.png" for index in range(len(labels))]
    return concatenate(
        [
            make_outcomes(
                model,
                keys,
                np.array(labels, dtype=np.int64),
                {Cell(num): np.array(row)[:, None] for num, row in zip(NUMS, table, strict=True)},
            )
            for model, table in predictions.items()
        ]
    )


def strip(key: str = "a", label: str = "cat", size: tuple[int, int] = (32, 32)) -> Strip:
    """Model one flips at 4 and returns; model two flips at 8."""
    return Strip(
        key,
        label,
        NUMS,
        np.zeros((3, 3, *size), dtype=np.uint8),
        {"one": (label, "dog", label), "two": (label, label, "owl")},
    )


def test_a_strip_of_many_nums_keeps_those_that_say_most() -> None:
    """Models flip at 8 and at 4,096; the rest comes from the largest down."""
    nums = (0, 4, 8, 16, 32, 64, 256, 1024, 4096, 16384)
    images = np.arange(len(nums), dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 3, 4, 4), np.uint8
    )
    names = {
        "one": ("cat",) * 2 + ("dog",) * 8,
        "two": ("cat",) * 8 + ("owl",) * 2,
    }
    (short,) = shortened([Strip("a", "cat", nums, images, names)])
    assert short.nums == (0, 8, 256, 1024, 4096, 16384)
    assert short.images[:, 0, 0, 0].tolist() == [0, 2, 6, 7, 8, 9]
    assert short.flips() == [[], ["one"], [], [], ["two"], []]
    assert shortened([strip()])[0].nums == strip().nums


def drawn(figure: Figure) -> dict[Text, Bbox]:
    """The texts of a figure and where they stand, in dots."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return {text: text.get_window_extent(canvas.get_renderer()) for text in figure.texts}


def boxes(figure: Figure) -> list[Bbox]:
    """The frames of a figure, in dots, from left to right."""
    extents = [part.get_window_extent() for part in figure.artists if isinstance(part, Rectangle)]
    return sorted(extents, key=lambda extent: extent.x0)


# Which images


def test_the_fewest_pixels_then_the_most_models_then_the_order_decide() -> None:
    # Images 0..5 flip: never; at 8 by a; at 8 by both; at 4 by b; at 8 by a; at 4 by b, a later.
    a = [[0] * 6, [0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 1]]
    b = [[0] * 6, [0, 0, 0, 1, 0, 1], [0, 0, 1, 1, 0, 0]]
    outcomes = outcomes_of({"a": a, "b": b}, [0] * 6)
    ranked = ["5.png", "3.png", "2.png", "1.png", "4.png", "0.png"]
    for count in (2, 6, 9):
        assert flipping_examples(outcomes, count) == ranked[:count]
    with pytest.raises(InputError, match="give 1 or more"):
        flipping_examples(outcomes, 0)


def test_images_that_never_flip_fill_up_in_their_order() -> None:
    outcomes = outcomes_of({"a": [[0] * 4, [0, 0, 1, 0], [0] * 4]}, [0] * 4)
    # The order is that of the rows, not that of the categories.
    outcomes["image"] = outcomes["image"].cat.reorder_categories(
        ["3.png", "2.png", "1.png", "0.png"]
    )
    assert flipping_examples(outcomes, 3) == ["2.png", "0.png", "1.png"]


def test_a_model_wrong_from_the_start_has_nothing_to_flip() -> None:
    outcomes = outcomes_of({"a": [[1, 0], [1, 0], [1, 1]]}, [0, 0])
    assert flipping_examples(outcomes, 1) == ["1.png"]


def test_each_draw_has_its_own_examples() -> None:
    truth, keys = np.zeros(2, dtype=np.int64), ["0.png", "1.png"]
    table = {Cell(0): np.array([[0], [0]]), Cell(4): np.array([[1, 0], [0, 1]])}
    outcomes = make_outcomes("a", keys, truth, table)
    assert flipping_examples(outcomes, 1) == ["0.png"]
    assert flipping_examples(outcomes, 1, draw=1) == ["1.png"]


# From outcomes to strips


def changed(key: str, num: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((3, 8, 8), num + int(key[0]), dtype=np.uint8)


def test_strips_hold_names_and_images_of_all_nums_and_models() -> None:
    a, b = [[0, 1], [3, 1], [0, 2]], [[0, 1], [0, 1], [3, 1]]
    outcomes = outcomes_of({"a": a, "b": b}, [0, 1])
    second, first = strips_from_outcomes(outcomes, ["1.png", "0.png"], changed, NAMES)
    assert (first.key, first.label, first.nums) == ("0.png", "tench", NUMS)
    assert dict(first.predictions) == {
        "a": ("tench", "fox", "tench"), "b": ("tench", "tench", "fox")
    }  # fmt: skip
    assert first.images.shape == (3, 3, 8, 8)
    assert first.images[:, 0, 0, 0].tolist() == [0, 4, 8]
    # Two classes are called crane; a prediction of the other one must not pass for right.
    assert second.label == "crane (1)"
    assert second.predictions["a"] == ("crane (1)", "crane (1)", "crane (2)")
    assert second.images[:, 0, 0, 0].tolist() == [1, 5, 9]


def test_strips_of_a_draw_share_the_only_unchanged_outcome() -> None:
    table = {Cell(0): np.array([[0]]), Cell(4): np.array([[1, 3]])}
    outcomes = make_outcomes("a", ["0.png"], np.zeros(1, dtype=np.int64), table)
    (only,) = strips_from_outcomes(outcomes, ["0.png"], changed, NAMES, draw=1)
    assert only.predictions == {"a": ("tench", "fox")}


def test_outcomes_that_make_no_strip_get_a_sentence() -> None:
    outcomes = outcomes_of({"a": [[0, 0]] * 3, "b": [[0, 0]] * 3}, [0, 0])
    lacking = outcomes.drop(index=outcomes.index[-1])
    other = outcomes.assign(amplitude=pd.array([7] * len(outcomes), dtype="Int16"))
    for rows, keys, names, message in (
        (outcomes, ["9.png"], NAMES, "lack image '9.png'"),
        (lacking, ["1.png"], NAMES, "lack image '1.png'"),
        (concatenate([outcomes, other]), ["0.png"], NAMES, "one amplitude and area"),
        (outcomes.assign(prediction=4), ["0.png"], NAMES, "beyond the 4 class names"),
    ):
        with pytest.raises(InputError, match=message):
            strips_from_outcomes(rows, keys, changed, names)


# What is drawn


def test_the_flip_is_the_first_wrong_prediction_after_a_right_one() -> None:
    assert strip().flips() == [[], ["one"], ["two"]]
    wrong = replace(strip(), predictions={"one": ("dog", "dog", "cat"), "two": ("cat",) * 3})
    assert wrong.flips() == [[], [], []]


def test_every_text_is_there() -> None:
    figure = picture_strip([strip(), strip("b", "hen")], "Title", "Small print.")
    texts = [text.get_text() for text in figure.texts]
    assert sorted(texts) == sorted(
        [
            "Title", "Small print.", "num = 0 (0 %)", "num = 4 (0.39 %)", "num = 8 (0.78 %)",
            *["one", "two", "one flips", "two flips", f"{CROSS} dog", f"{CROSS} owl"] * 2,
            *["cat"] * 5, *["hen"] * 5,
        ]
    )  # fmt: skip
    assert len(figure.axes) == 6


def test_crosses_stand_below_their_picture_in_the_line_of_their_model() -> None:
    figure = picture_strip([strip()], "Title", "Small print.")
    places = {text.get_text(): place for text, place in drawn(figure).items()}
    pictures = [axes.get_window_extent() for axes in figure.axes]
    for cross, column, model in ((f"{CROSS} dog", 1, "one"), (f"{CROSS} owl", 2, "two")):
        assert places[cross].x0 == pytest.approx(pictures[column].x0, abs=2)
        assert places[cross].y1 < pictures[column].y0
        assert abs(places[cross].y0 - places[model].y0) < 3
    for text in figure.texts:
        if text.get_text() == "cat" or text.get_text().startswith(CROSS):
            red, green, blue, _ = to_rgba(text.get_color())
            assert (red > 2 * max(green, blue)) == (text.get_text() != "cat")


def test_frames_surround_the_pictures_of_first_flips_alone() -> None:
    figure = picture_strip([strip()], "Title", "Small print.")
    places = {text.get_text(): place for text, place in drawn(figure).items()}
    pictures = [axes.get_window_extent() for axes in figure.axes]
    assert len(boxes(figure)) == 2
    for frame, picture, note in zip(boxes(figure), pictures[1:], ("one", "two"), strict=True):
        for inside in (picture, places[f"{note} flips"]):
            assert frame.x0 < inside.x0 < inside.x1 < frame.x1
            assert frame.y0 < inside.y0 < inside.y1 < frame.y1
    (frame, *_) = [part for part in figure.artists if isinstance(part, Rectangle)]
    assert same_color(frame.get_facecolor(), COLOURS[4])


@pytest.mark.parametrize(
    ("models", "note"),
    [(1, "m0 flips"), (2, "m0 and m1 flip"), (3, "all 3 models flip"), (4, "all 4 models flip")],
)
def test_models_that_flip_together_share_a_note(models: int, note: str) -> None:
    predictions = {f"m{index}": ("cat", "dog", "dog") for index in range(models)}
    figure = picture_strip([replace(strip(), predictions=predictions)], "Title", "Small print.")
    assert note in [text.get_text() for text in figure.texts]


def test_all_pixels_are_a_hundred_percent() -> None:
    every = replace(strip(), nums=(0, 512, 1024))
    texts = [text.get_text() for text in picture_strip([every], "Title", "").texts]
    assert {"num = 512 (50 %)", "num = 1,024 (100 %)"} < set(texts)


def test_dollars_are_no_formulas() -> None:
    figure = picture_strip([replace(strip(label="$a$"), key="$b$")], "Title", "Small print.")
    assert drawn(figure)
    assert not any(text.get_parse_math() for text in figure.texts if "$" in text.get_text())


@pytest.mark.parametrize("size", [(32, 32), (48, 32), (32, 48), (300, 300)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_keep_their_shape_and_values(size: tuple[int, int], channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, channels, *size), dtype=np.uint8)
    figure = picture_strip([replace(strip(), images=images)], "Title", "Small print.")
    for axes, image in zip(figure.axes, images, strict=True):
        (shown,) = axes.get_images()
        pixels = image[0] if channels == 1 else image.transpose(1, 2, 0)
        np.testing.assert_array_equal(shown.get_array(), pixels)
        assert shown.get_clim() == (0, 255)
        extent = axes.get_window_extent()
        assert extent.height / extent.width == pytest.approx(size[0] / size[1])


@pytest.mark.parametrize("size", [(224, 224), (96, 32), (32, 96)])
@pytest.mark.parametrize("columns", [1, 3])
def test_nothing_overlaps_or_is_cut_off(size: tuple[int, int], columns: int) -> None:
    nums = (0, 64, 3072)[:columns]
    long = "German short-haired pointer of Wolfenbüttel-Niedersachsen"
    names = ("efficientnet_lite0", "a model with a name beyond all bounds", "vgg16", "alexnet")
    flips = (1, 1, 1, 2)
    predictions = {
        name: tuple(long if k < flip else f"{long} {k}" for k in range(columns))
        for name, flip in zip(names, flips, strict=True)
    }
    images = np.zeros((columns, 3, *size), dtype=np.uint8)
    strips = [Strip(key, long, nums, images, predictions) for key in "ab"]
    figure = picture_strip(strips, "Two lines\nof title", "Small print.")
    places = {text.get_text() + str(id(text)): place for text, place in drawn(figure).items()}
    caption = next(name for name in places if name.startswith("Small print."))
    below = places.pop(caption)
    pictures = {f"picture {k}": axes.get_window_extent() for k, axes in enumerate(figure.axes)}
    whole = figure.bbox
    for one, other in combinations([*places.items(), *pictures.items()], 2):
        assert not one[1].overlaps(other[1]), (one, other)
    for name, place in [*places.items(), *pictures.items()]:
        assert whole.x0 <= place.x0 < place.x1 <= whole.x1, name
        assert below.y1 < place.y0 < place.y1 <= whole.y1, name
    for frame in boxes(figure):
        overlapped = [name for name, place in pictures.items() if frame.overlaps(place)]
        assert len(overlapped) == 1
    assert any(ELLIPSIS in name for name in places)


@pytest.mark.parametrize(
    ("strips", "message"),
    [
        ([], "no strip"),
        ([replace(strip(), nums=(4, 8, 16))], "rising, 0 first"),
        ([replace(strip(), nums=(0, 8, 8))], "rising, 0 first"),
        ([replace(strip(), nums=())], "rising, 0 first"),
        ([replace(strip(), nums=(0, 4))], "3 images for 2 nums"),
        ([replace(strip(), images=np.zeros((3, 2, 8, 8), np.uint8))], "1 or 3 channels"),
        ([replace(strip(), images=np.zeros((3, 8, 8), np.uint8))], "1 or 3 channels"),
        ([replace(strip(), images=np.zeros((3, 3, 8, 8)))], "dtype float64"),
        ([replace(strip(), predictions={"one": ("cat", "cat")})], "2 predictions of one for 3"),
        ([strip(), replace(strip("b"), nums=(0, 4, 16))], "strip 'b' has nums"),
        ([strip(), strip("b", size=(8, 8))], "give one size"),
        ([strip(), replace(strip("b"), predictions={"one": ("cat",) * 3})], "the same models"),
    ],
)
def test_strips_that_do_not_agree_get_a_sentence(strips: list[Strip], message: str) -> None:
    with pytest.raises(InputError, match=message):
        picture_strip(strips, "Title", "Small print.")
