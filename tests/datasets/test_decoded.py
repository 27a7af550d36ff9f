"""From image files to uint8 crops, decoded once and kept."""

import hashlib
import io
import itertools
import os
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable
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
from tests.datasets.cases import encoded
from tests.fault_cases import folder_of, picture

SMALL = PreprocessingSettings(resize=16, crop=12, interpolation="bilinear")


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def channels_first(image: Image.Image) -> NDArray[np.uint8]:
    return np.array(image).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("size", "resized", "corner", "resize", "crop", "interpolation"),
    [
        ((500, 300), (426, 256), (101, 16), 256, 224, "bilinear"),
        ((300, 500), (256, 426), (16, 101), 256, 224, "bilinear"),
        ((256, 256), (256, 256), (16, 16), 256, 224, "bilinear"),
        ((100, 80), (320, 256), (48, 16), 256, 224, "bilinear"),
        ((400, 200), (200, 100), (70, 20), 100, 60, "bicubic"),
        ((400, 200), (200, 100), (70, 20), 100, 60, "nearest"),
    ],
)
def test_the_short_side_is_resized_and_the_centre_cropped(
    tmp_path, size, resized, corner, resize, crop, interpolation
):
    image, (left, top) = picture(0, *size), corner
    larger = image.resize(resized, Image.Resampling[interpolation.upper()])
    expected = larger.crop((left, top, left + crop, top + crop))
    settings = PreprocessingSettings(resize=resize, crop=crop, interpolation=interpolation)
    pixels = decode(saved(image, tmp_path / "a.png"), settings)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, channels_first(expected))


def png(width: int, height: int, depth: int, colour: int, rows: Iterable[bytes]) -> bytes:
    """Return a PNG file; colour is 0 for grey, 2 for RGB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(b"\0" + row) for row in rows) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour, 0, 0, 0])
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def marked(path: Path) -> Image.Image:
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(3).save(path, "JPEG", exif=turned, quality=95)
    return Image.open(io.BytesIO(encoded(picture(3), "JPEG", quality=95)))


def kept(image: Image.Image, form: str = "PNG", **options: object) -> Callable[[Path], Image.Image]:
    """Writes it; what PIL makes of it in RGB is expected."""

    def make(path: Path) -> Image.Image:
        image.save(path, form, **options)
        return image.convert("RGB")

    return make


def animated(form: str) -> Callable[[Path], Image.Image]:
    def make(path: Path) -> Image.Image:
        options = {"lossless": True} if form == "WEBP" else {}
        picture(3).save(
            path, form, save_all=True, append_images=[picture(4), picture(5)], **options
        )
        return picture(3)

    return make


def gif(path: Path) -> Image.Image:
    frames = [picture(number).quantize() for number in (3, 4)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])
    return Image.open(io.BytesIO(encoded(frames[0], "GIF"))).convert("RGB")


def transparent(path: Path) -> Image.Image:
    image = picture(3)
    image.putalpha(picture(4).getchannel(0))
    image.save(path, "PNG")
    return picture(3)


def sixteen_bits(path: Path) -> Image.Image:
    """Write a PNG of 16 bits a channel, whose upper bytes are those of a picture."""
    values = np.asarray(picture(3)).astype(np.uint16) * 256 + 99
    height, width, _ = values.shape
    path.write_bytes(png(width, height, 16, 2, (row.astype(">u2").tobytes() for row in values)))
    return picture(3)


READABLE: dict[str, Callable[[Path], Image.Image]] = {
    "JPEG": marked,
    "CMYK": kept(picture(3).convert("CMYK"), "TIFF"),
    "palette": kept(picture(3).convert("P")),
    "RGBA": transparent,
    "grey": kept(picture(3).convert("L")),
    "grey and alpha": kept(picture(3).convert("LA")),
    "black and white": kept(picture(3).convert("1")),
    "16-bit colours": sixteen_bits,
    "1 x 1 pixel": kept(Image.new("RGB", (1, 1), (10, 20, 30))),
    "animated GIF": gif,
    "animated PNG": animated("PNG"),
    "animated WebP": animated("WEBP"),
    "TIFF of several pages": animated("TIFF"),
}
"""Each writes a file under the name of a PNG, and returns the image that is expected."""


@pytest.mark.parametrize("make", READABLE.values(), ids=READABLE)
def test_an_odd_image_is_decoded_like_its_first_frame_in_rgb(make, tmp_path):
    path = tmp_path / "odd.png"
    expected = make(path)
    expected.save(tmp_path / "plain.bmp")
    found, plain = decode(path, SMALL), decode(tmp_path / "plain.bmp", SMALL)
    assert found.shape == (3, 12, 12)
    np.testing.assert_array_equal(found, plain)
    assert found.std() > 0 or expected.size == (1, 1)


def test_a_large_image_is_decoded_without_a_warning(tmp_path, monkeypatch):
    """Pillow warns of images of more than a limit, and refuses those of more than twice as much."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 48 * 40 - 1)
    root = folder_of(tmp_path / "images", "cat/a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load(make_image_list(root, [root / "cat" / "a.png"], [0]), tmp_path)) == 1


def bomb(side: int) -> bytes:
    """Black pixels of one bit each."""
    return png(side, side, 1, 0, itertools.repeat(bytes(-(-side // 8)), side))


def wide(values: NDArray[np.generic], form: str) -> bytes:
    return encoded(Image.fromarray(values), form)


def written(content: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content()) and None


UNREADABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a JPEG cut in half": (
        written(lambda: encoded(picture(7, 400, 400), "JPEG")[:20_000]), "truncated"
    ),
    "a PNG cut in half": (written(lambda: encoded(picture(7))[:3000]), "truncated"),
    "the first bytes of a JPEG": (written(lambda: encoded(picture(7), "JPEG")[:20]), "cannot"),
    "zero bytes": (lambda path: path.touch(), "cannot identify image file"),
    "a text": (written(lambda: b"<!DOCTYPE html><p>Not Found</p>"), "cannot identify image file"),
    "a PNG with a wrong checksum": (
        written(lambda: encoded(picture(7)).replace(b"IDAT", b"IDAT\1", 1)), "broken"
    ),
    "16-bit grey": (
        written(lambda: wide(np.full((40, 48), 40_000, np.uint16), "PNG")), "more than 8 bits"
    ),
    "32-bit floating point": (
        written(lambda: wide(np.full((40, 48), 0.5, np.float32), "TIFF")), "more than 8 bits"
    ),
    "30,000 x 30,000 pixels (a decompression bomb)": (
        written(lambda: bomb(30_000)), "decompression bomb"
    ),
    "a strip of 900,000 x 1 pixels": (
        written(lambda: encoded(Image.new("RGB", (900_000, 1)))), "too narrow a strip"
    ),
    "a link to nothing": (lambda path: path.symlink_to("nowhere.png"), "No such file"),
    "a link to itself": (lambda path: path.symlink_to(path), "Too many levels"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "a pipe, which nobody writes to": (os.mkfifo, "not a regular file"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "fault"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_is_no_image_is_refused_or_left_out(make, fault, tmp_path):
    root = folder_of(tmp_path / "images", "a.png", "c.png")
    make(root / "b.png")
    listed = make_image_list(root, [root / name for name in ("a.png", "b.png", "c.png")], [0, 1, 2])
    with pytest.raises(
        InputError, match=rf"image .*b\.png cannot be read \(.*{fault}.*unreadable=skip"
    ):
        load(listed, tmp_path / "cache")
    found = load(listed, tmp_path / "cache", skip=True)
    assert (found.keys, found.labels.tolist()) == (("a.png", "c.png"), [0, 2])
    assert list(found.unreadable) == ["b.png"]


def test_files_of_which_not_one_can_be_read_are_refused_even_where_they_are_skipped(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    listed = make_image_list(tmp_path, [tmp_path / "a.png", tmp_path / "b.png"], [0, 1])
    with pytest.raises(InputError, match=r"not one of the 2 files in .* the first is 'a\.png'"):
        load(listed, tmp_path / "cache", skip=True)


@pytest.fixture
def three(tmp_path: Path) -> ImageList:
    root = folder_of(tmp_path / "images", "a.png", "b.png", "c.png")
    return make_image_list(root, sorted(root.iterdir()), [0, 1, 2])


EVERY = (("a.png", "b.png", "c.png"), [0, 1, 2], [])
WITHOUT_B = (("a.png", "c.png"), [0, 2], ["b.png"])


def taken(images: ImageList, cache: Path, skip: bool = True) -> tuple[Any, list[int], list[str]]:
    """Load images; return keys and labels, and what was left out."""
    found = load(images, cache, skip=skip)
    for key, pixels in zip(found.keys, found.pixels, strict=True):
        np.testing.assert_array_equal(pixels, decode(images.root / key, SMALL))
    return found.keys, found.labels.tolist(), list(found.unreadable)


def test_a_file_that_can_be_read_again_takes_part_again(three, cache):
    """Also where neither size nor time of the file say so."""
    file = three.paths[1]
    sound, status = file.read_bytes(), file.stat()
    file.write_bytes(b"\0" * len(sound))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    for _ in range(2):
        assert taken(three, cache) == WITHOUT_B
        with pytest.raises(InputError, match=r"b\.png cannot be read"):
            load(three, cache)
    file.write_bytes(sound)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert taken(three, cache) == taken(three, cache, skip=False) == EVERY


def test_a_file_that_comes_back_takes_part_again(three, cache):
    assert taken(three, cache, skip=False) == EVERY
    moved = three.paths[1].rename(three.root / "elsewhere.png")
    assert taken(three, cache) == WITHOUT_B
    moved.rename(three.paths[1])
    assert taken(three, cache) == EVERY


COLOURS = {"a.bmp": (1, 2, 3), "b.bmp": (40, 50, 60), "c.bmp": (250, 251, 252)}
"""Uncompressed images of one size: their files are equally long."""


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    root = tmp_path / "images"
    root.mkdir()
    paths = [saved(Image.new("RGB", (20, 20), COLOURS[name]), root / name) for name in COLOURS]
    return make_image_list(root, paths, [7, 8, 9])


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Give each test a cache of its own."""
    return tmp_path / "cache"


def load(
    images: ImageList, cache: Path, settings: PreprocessingSettings = SMALL, skip: bool = False
) -> ImageSet:
    return load_images(images, settings, cache, lambda count: None, skip)


def colours(pixels: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Return the colour of each image, after checking that it has only one."""
    for image in pixels:
        assert (image == image[:, :1, :1]).all()
    return [tuple(image[:, 0, 0].tolist()) for image in pixels]


def test_pixels_keys_and_labels_belong_together(images, cache):
    found = load(images, cache)
    assert found.pixels.shape == (3, 3, 12, 12)
    assert found.pixels.dtype == np.uint8
    assert found.image_size == (12, 12)
    assert len(found) == 3
    assert dict(zip(found.keys, colours(found.pixels), strict=True)) == COLOURS
    assert found.labels.tolist() == [7, 8, 9]
    assert isinstance(found.pixels, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.pixels[0, 0, 0, 0] = 0


def test_digests_are_those_of_each_crops_bytes(images, cache):
    by_hand = bytes([1]) * 144 + bytes([2]) * 144 + bytes([3]) * 144
    assert load(images, cache).digests[0] == hashlib.sha256(by_hand).hexdigest()[:32]


def test_images_are_decoded_once(images, cache, monkeypatch):
    counts: list[int] = []
    first = load_images(images, SMALL, cache, counts.append)
    assert sum(counts) == 3
    monkeypatch.setattr(pixelrobust.datasets.decoded, "decode", None)
    second = load_images(images, SMALL, cache, counts.append)
    assert sum(counts) == 3
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert (first.keys, first.digests) == (second.keys, second.digests)


@pytest.mark.parametrize("name", ["pixels.npy", "digests.json"])
def test_a_damaged_entry_is_built_anew(images, cache, name):
    expected = colours(load(images, cache).pixels)
    (path,) = cache.rglob(name)
    path.write_bytes(path.read_bytes()[:-20])
    assert colours(load(images, cache).pixels) == expected


@pytest.mark.parametrize(("side", "later"), [(20, 10**9), (30, 0)], ids=["time", "size"])
def test_a_file_of_another_time_or_size_is_decoded_again(images, cache, side, later):
    load(images, cache)
    path = images.paths[1]
    before = path.stat()
    saved(Image.new("RGB", (side, side), (90, 91, 92)), path)
    assert (path.stat().st_size == before.st_size) == (side == 20)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + later))
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
    path = saved(picture(0), tmp_path / "a.png")
    images = make_image_list(tmp_path, [path], [0])
    standard = load(images, cache)
    np.testing.assert_array_equal(load(images, cache, other).pixels[0], decode(path, other))
    np.testing.assert_array_equal(load(images, cache).pixels, standard.pixels)


def test_a_sub_list_and_other_labels_get_their_own(images, cache):
    load(images, cache)
    found = load(images.take([2, 0]), cache)
    assert found.keys == ("c.bmp", "a.bmp")
    assert colours(found.pixels) == [(250, 251, 252), (1, 2, 3)]
    assert found.labels.tolist() == [9, 7]
    relabelled = make_image_list(images.root, images.paths, [0, 1, 2])
    assert load(relabelled, cache).labels.tolist() == [0, 1, 2]


def test_a_build_that_fails_leaves_nothing_behind_and_the_next_attempt_works(images, cache):
    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    good = images.paths[2].read_bytes()
    images.paths[2].write_bytes(good[:100])
    for _ in range(2):
        with pytest.raises(InputError, match=r"c\.bmp"):
            load(images, cache)
        assert not [path for path in cache.rglob("*") if path.is_dir() and path.name != "images"]
    images.paths[2].write_bytes(good)
    with pytest.raises(KeyboardInterrupt):
        load_images(images, SMALL, cache, interrupt)
    assert not [path for path in cache.rglob("*") if path.is_dir() and path.name != "images"]
    assert colours(load(images, cache).pixels) == list(COLOURS.values())


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


def test_rows_show_the_chosen_images_only_and_some_of_them(images, cache):
    rows = PixelRows(load(images, cache).pixels, np.array([2, 0, 1]))
    assert (len(rows), rows.shape, rows[np.array([1])].shape) == (3, (3, 3, 12, 12), (1, 3, 12, 12))
    assert colours(rows[np.array([1, 1, 0])]) == [COLOURS[f"{name}.bmp"] for name in "aac"]
    some = rows.take(np.array([2, 0]))
    assert (len(some), some.shape) == (2, (2, 3, 12, 12))
    assert colours(some[np.array([0, 1])]) == [COLOURS["b.bmp"], COLOURS["c.bmp"]]
    assert colours(some.take(np.array([1]))[np.array([0])]) == [COLOURS["c.bmp"]]
    assert len(rows.take(np.array([], dtype=np.int64))) == 0
