"""From image files to uint8 crops, decoded once and kept."""

import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import pixelrobust.datasets.decoded
from pixelrobust.datasets.decoded import ImageSet, PixelRows, decode, load_images
from pixelrobust.datasets.lists import ImageList, make_image_list
from pixelrobust.errors import InputError
from pixelrobust.settings import PreprocessingSettings

STANDARD = PreprocessingSettings(resize=256, crop=224, interpolation="bilinear")
SMALL = PreprocessingSettings(resize=16, crop=12, interpolation="bilinear")


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values)


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def channels_first(image: Image.Image) -> NDArray[np.uint8]:
    return np.array(image).transpose(2, 0, 1)


def standard_crop(image: Image.Image) -> NDArray[np.uint8]:
    """The standard crop of a 400 x 400 RGB image, by PIL alone."""
    return channels_first(
        image.resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
    )


# Decoding


@pytest.mark.parametrize(
    ("size", "resized", "left_top"),
    [
        ((500, 300), (426, 256), (101, 16)),
        ((300, 500), (256, 426), (16, 101)),
        ((256, 256), (256, 256), (16, 16)),
        ((100, 80), (320, 256), (48, 16)),
    ],
    ids=["landscape", "portrait", "as it is", "enlarged"],
)
def test_the_short_side_is_resized_and_the_centre_cropped(tmp_path, size, resized, left_top):
    image = noise(*size)
    left, top = left_top
    expected = image.resize(resized, Image.Resampling.BILINEAR).crop(
        (left, top, left + 224, top + 224)
    )
    pixels = decode(saved(image, tmp_path / "a.png"), STANDARD)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, channels_first(expected))


@pytest.mark.parametrize(
    ("interpolation", "method"),
    [("bicubic", Image.Resampling.BICUBIC), ("nearest", Image.Resampling.NEAREST)],
)
def test_resize_crop_and_interpolation_are_those_asked_for(tmp_path, interpolation, method):
    settings = PreprocessingSettings(resize=100, crop=60, interpolation=interpolation)
    image = noise(400, 200)
    expected = image.resize((200, 100), method).crop((70, 20, 130, 80))
    pixels = decode(saved(image, tmp_path / "a.png"), settings)
    np.testing.assert_array_equal(pixels, channels_first(expected))


def test_a_jpeg_gives_the_pixels_that_pil_gives(tmp_path):
    path = saved(noise(400, 400), tmp_path / "a.jpg")
    np.testing.assert_array_equal(
        decode(path, STANDARD), standard_crop(Image.open(path).convert("RGB"))
    )


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA"])
def test_other_modes_become_rgb(tmp_path, mode):
    image = noise(400, 400).convert(mode)
    pixels = decode(saved(image, tmp_path / "a.png"), STANDARD)
    assert pixels.shape == (3, 224, 224)
    np.testing.assert_array_equal(pixels, standard_crop(image.convert("RGB")))


def test_grey_images_have_three_equal_channels(tmp_path):
    pixels = decode(saved(noise(400, 400).convert("L"), tmp_path / "a.png"), STANDARD)
    np.testing.assert_array_equal(pixels[0], pixels[1])
    np.testing.assert_array_equal(pixels[0], pixels[2])


def test_transparency_is_dropped(tmp_path):
    image = noise(400, 400)
    transparent = image.copy()
    transparent.putalpha(noise(400, 400).getchannel(0))
    np.testing.assert_array_equal(
        decode(saved(transparent, tmp_path / "a.png"), STANDARD), standard_crop(image)
    )


def test_cmyk_photographs_become_rgb(tmp_path):
    path = saved(Image.new("RGB", (400, 400), (200, 100, 50)).convert("CMYK"), tmp_path / "a.jpg")
    pixels = decode(path, STANDARD).astype(int)
    assert pixels.shape == (3, 224, 224)
    assert np.abs(pixels - np.array([200, 100, 50])[:, None, None]).max() <= 3


def test_one_pixel_fills_the_crop(tmp_path):
    pixels = decode(saved(Image.new("RGB", (1, 1), (10, 20, 30)), tmp_path / "a.png"), STANDARD)
    assert pixels.shape == (3, 224, 224)
    assert [np.unique(channel).tolist() for channel in pixels] == [[10], [20], [30]]


def test_orientation_tags_are_ignored(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    image = noise(60, 40)
    plain = decode(saved(image, tmp_path / "plain.jpg"), SMALL)
    tagged = decode(saved(image, tmp_path / "tagged.jpg", exif=turned), SMALL)
    np.testing.assert_array_equal(plain, tagged)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    noise(400, 400).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"not an image\n", encoded("JPEG")[:5000], encoded("PNG")[:5000], encoded("JPEG")[:20]],
    ids=["zero bytes", "text", "truncated JPEG", "truncated PNG", "a JPEG's first bytes"],
)
def test_an_unreadable_image_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.jpg"):
        decode(path, STANDARD)


# The cache


COLOURS = {"a.bmp": (1, 2, 3), "b.bmp": (40, 50, 60), "c.bmp": (250, 251, 252)}
"""Uncompressed images of one size: their files are equally long."""


@pytest.mark.parametrize(
    "values", [np.full((8, 8), 40_000, np.uint16), np.full((8, 8), 0.5, np.float32)]
)
def test_images_of_more_than_8_bits_are_refused_not_clipped(tmp_path, values):
    path = saved(Image.fromarray(values), tmp_path / "wide.tiff")
    with pytest.raises(InputError, match=r"wide\.tiff .*more than 8 bits"):
        decode(path, STANDARD)


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    root = tmp_path / "images"
    root.mkdir()
    paths = [saved(Image.new("RGB", (20, 20), COLOURS[name]), root / name) for name in COLOURS]
    return make_image_list(root, paths, [7, 8, 9])


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A fresh cache for each test."""
    return tmp_path / "cache"


def load(images: ImageList, cache: Path, settings: PreprocessingSettings = SMALL) -> ImageSet:
    return load_images(images, settings, cache, lambda count: None)


def colours(pixels: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """The colour of each image, after checking that it has only one."""
    for image in pixels:
        assert (image == image[:, :1, :1]).all()
    return [tuple(image[:, 0, 0].tolist()) for image in pixels]


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("decodes again")

    monkeypatch.setattr(pixelrobust.datasets.decoded, "decode", refuse)


def test_pixels_keys_and_labels_belong_together(images, cache):
    found = load(images, cache)
    assert found.pixels.shape == (3, 3, 12, 12)
    assert found.pixels.dtype == np.uint8
    assert found.image_size == (12, 12)
    assert len(found) == 3
    assert dict(zip(found.keys, colours(found.pixels), strict=True)) == COLOURS
    assert found.labels.tolist() == [7, 8, 9]


def test_pixels_are_memory_mapped_and_cannot_be_changed(images, cache):
    pixels = load(images, cache).pixels
    assert isinstance(pixels, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0, 0, 0] = 0


def test_digests_are_those_of_each_crops_bytes(images, cache):
    found = load(images, cache)
    for image, digest in zip(found.pixels, found.digests, strict=True):
        assert digest == hashlib.sha256(image.tobytes()).hexdigest()[:32]
    by_hand = bytes([1]) * 144 + bytes([2]) * 144 + bytes([3]) * 144
    assert found.digests[0] == hashlib.sha256(by_hand).hexdigest()[:32]


def test_images_are_decoded_once(images, cache, monkeypatch):
    first = load(images, cache)
    forbid_decoding(monkeypatch)
    second = load(images, cache)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert (first.keys, first.digests) == (second.keys, second.digests)


@pytest.mark.parametrize("name", ["pixels.npy", "digests.json"])
def test_a_damaged_entry_is_built_anew(images, cache, name):
    expected = colours(load(images, cache).pixels)
    (path,) = cache.rglob(name)
    path.write_bytes(path.read_bytes()[:-20])
    assert colours(load(images, cache).pixels) == expected


def test_progress_counts_decoded_images(images, cache):
    counts: list[int] = []
    load_images(images, SMALL, cache, counts.append)
    assert sum(counts) == 3
    load_images(images, SMALL, cache, counts.append)
    assert sum(counts) == 3


def test_a_file_of_the_same_size_but_a_later_time_is_decoded_again(images, cache):
    load(images, cache)
    path = images.paths[1]
    before = path.stat()
    saved(Image.new("RGB", (20, 20), (90, 91, 92)), path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    assert colours(load(images, cache).pixels) == [(1, 2, 3), (90, 91, 92), (250, 251, 252)]


def test_a_file_of_the_same_time_but_another_size_is_decoded_again(images, cache):
    load(images, cache)
    path = images.paths[1]
    before = path.stat()
    saved(Image.new("RGB", (30, 30), (90, 91, 92)), path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert colours(load(images, cache).pixels) == [(1, 2, 3), (90, 91, 92), (250, 251, 252)]


@pytest.mark.parametrize(
    "other",
    [
        PreprocessingSettings(resize=16, crop=8, interpolation="bilinear"),
        PreprocessingSettings(resize=24, crop=12, interpolation="bilinear"),
        PreprocessingSettings(resize=16, crop=12, interpolation="nearest"),
    ],
    ids=["crop", "resize", "interpolation"],
)
def test_other_preprocessing_gives_its_own_pixels(tmp_path, cache, other):
    path = saved(noise(40, 50), tmp_path / "a.png")
    images = make_image_list(tmp_path, [path], [0])
    standard = load(images, cache)
    np.testing.assert_array_equal(load(images, cache, other).pixels[0], decode(path, other))
    np.testing.assert_array_equal(load(images, cache).pixels, standard.pixels)


def test_a_sub_list_gets_its_own_images_in_its_own_order(images, cache):
    load(images, cache)
    found = load(images.take([2, 0]), cache)
    assert found.keys == ("c.bmp", "a.bmp")
    assert colours(found.pixels) == [(250, 251, 252), (1, 2, 3)]
    assert found.labels.tolist() == [9, 7]


def test_the_same_images_under_other_labels_are_not_confused(images, cache):
    load(images, cache)
    relabelled = make_image_list(images.root, images.paths, [0, 1, 2])
    assert load(relabelled, cache).labels.tolist() == [0, 1, 2]


def test_a_bad_image_leaves_nothing_behind_and_the_next_attempt_works(images, cache):
    good = images.paths[2].read_bytes()
    images.paths[2].write_bytes(good[:100])
    for _ in range(2):
        with pytest.raises(InputError, match=r"c\.bmp"):
            load(images, cache)
        assert not [path for path in cache.rglob("*") if path.is_dir() and path.name != "images"]
    images.paths[2].write_bytes(good)
    assert colours(load(images, cache).pixels) == list(COLOURS.values())


def test_an_interrupted_build_leaves_nothing_behind_and_the_next_attempt_works(images, cache):
    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_images(images, SMALL, cache, interrupt)
    assert not [path for path in cache.rglob("*") if path.is_dir() and path.name != "images"]
    assert colours(load(images, cache).pixels) == list(COLOURS.values())


def test_a_vanished_image_is_refused_by_name(images, cache):
    images.paths[0].unlink()
    with pytest.raises(InputError, match=r"a\.bmp"):
        load(images, cache)


def test_runs_that_build_at_once_share_one_build(images, cache):
    start = threading.Barrier(4)
    counts: list[int] = []

    def run(_: int) -> ImageSet:
        start.wait()
        return load_images(images, SMALL, cache, counts.append)

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(run, range(4)):
            assert colours(found.pixels) == list(COLOURS.values())
    assert sum(counts) == 3


def test_a_cache_that_cannot_be_written_is_refused_by_path(images, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cache .*file.*cannot be used.*paths\.cache"):
        load(images, tmp_path / "file" / "cache")


# Rows


def test_rows_show_the_chosen_images_only(images, cache):
    rows = PixelRows(load(images, cache).pixels, np.array([2, 0]))
    assert len(rows) == 2
    assert rows.shape == (2, 3, 12, 12)
    assert colours(rows[np.array([0, 1])]) == [COLOURS["c.bmp"], COLOURS["a.bmp"]]
    assert colours(rows[np.array([1, 1, 0])]) == [
        COLOURS["a.bmp"],
        COLOURS["a.bmp"],
        COLOURS["c.bmp"],
    ]
    assert rows[np.array([1])].shape == (1, 3, 12, 12)


def test_some_of_some_rows_are_those_at_these_positions(images, cache):
    rows = PixelRows(load(images, cache).pixels, np.array([2, 0, 1]))
    some = rows.take(np.array([2, 0]))
    assert (len(some), some.shape) == (2, (2, 3, 12, 12))
    assert colours(some[np.array([0, 1])]) == [COLOURS["b.bmp"], COLOURS["c.bmp"]]
    assert colours(some.take(np.array([1]))[np.array([0])]) == [COLOURS["c.bmp"]]
    assert len(rows.take(np.array([], dtype=np.int64))) == 0
