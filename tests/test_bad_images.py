"""Image files that are broken, or odd: refused with a sentence, left out and counted, or decoded."""

import io
import itertools
import os
import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixelrobust.datasets.cache import load_images
from pixelrobust.datasets.decoding import decode
from pixelrobust.datasets.image_list import make_image_list
from pixelrobust.errors import InputError
from pixelrobust.settings import PreprocessingSettings
from tests.conftest import Run
from tests.fault_cases import (
    SIDE,
    caption,
    folder_of,
    images,
    manifest,
    picture,
    sentence,
    without_advice,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = PreprocessingSettings(resize=SIDE, crop=SIDE, interpolation="bilinear")
SAID = {
    "a JPEG cut in half": "140 bytes not processed",
    "a PNG cut in half": "image file is truncated",
    "the first bytes of a JPEG": "cannot identify image file",
    "zero bytes": "cannot identify image file",
    "a text": "cannot identify image file",
    "a PNG with a wrong checksum": "broken data stream when reading image file",
    "16-bit grey": "its values have more than 8 bits, and no stated range",
    "32-bit floating point": "its values have more than 8 bits, and no stated range",
    "30,000 x 30,000 pixels (a decompression bomb)": "900000000 pixels) exceeds limit of 178956970 pixels, could be",
    "a strip of 300,000 x 1 pixels": "it has 300000 x 1 pixels, too narrow a strip to be enlarged to a",
    "a link to nothing": "No such file or directory",
    "a link to itself": "Too many levels of symbolic links",
    "a link to a device": "it is not a regular file",
    "a pipe, which nobody writes to": "it is not a regular file",
}
"""What the sentence about each case says, by the case's id."""


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


# Files that are no images


def png(width: int, height: int, depth: int, colour: int, rows: Iterable[bytes]) -> bytes:
    """A PNG file; colour is 0 for grey, 2 for RGB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(b"\0" + row) for row in rows) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour, 0, 0, 0])
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def bomb(side: int) -> bytes:
    """Black pixels of one bit each."""
    return png(side, side, 1, 0, itertools.repeat(bytes(-(-side // 8)), side))


def wide(values: NDArray[np.generic], form: str) -> bytes:
    return encoded(Image.fromarray(values), form)


def written(content: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content()) and None


def loop(path: Path) -> None:
    path.symlink_to(path)


UNREADABLE: dict[str, Callable[[Path], None]] = {
    "a JPEG cut in half": written(lambda: encoded(picture(7, 400, 400), "JPEG")[:20_000]),
    "a PNG cut in half": written(lambda: encoded(picture(7), "PNG")[:3000]),
    "the first bytes of a JPEG": written(lambda: encoded(picture(7), "JPEG")[:20]),
    "zero bytes": lambda path: path.touch(),
    "a text": written(lambda: b"<!DOCTYPE html><p>Not Found</p>"),
    "a PNG with a wrong checksum": written(
        lambda: encoded(picture(7), "PNG").replace(b"IDAT", b"IDAT\1", 1)
    ),
    "16-bit grey": written(lambda: wide(np.full((40, 48), 40_000, np.uint16), "PNG")),
    "32-bit floating point": written(lambda: wide(np.full((40, 48), 0.5, np.float32), "TIFF")),
    "30,000 x 30,000 pixels (a decompression bomb)": written(lambda: bomb(30_000)),
    "a strip of 300,000 x 1 pixels": written(
        lambda: encoded(Image.new("RGB", (300_000, 1)), "PNG")
    ),
    "a link to nothing": lambda path: path.symlink_to("nowhere.png"),
    "a link to itself": loop,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe, which nobody writes to": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("make", UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_is_no_image_stops_the_run_or_is_left_out(
    make: Callable[[Path], None],
    run: Run,
    small_network: list[str],
    tmp_path: Path,
    words: str,
) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png", "cat/b.png")
    make(root / "cat" / "bad.png")
    stopped = without_advice(sentence(run(*images(root), *small_network), tmp_path))
    assert "…/images/cat/bad.png" in stopped

    ended = run(*images(root), *small_network, "dataset.unreadable=skip")
    assert (ended.code, ended.err) == (0, "")
    assert "1 of 3 files cannot be read and are left out: 'cat/bad.png'" in ended.out
    found = manifest(tmp_path / "results")
    assert (found["unreadable"], found["files"]) == (["cat/bad.png"], 3)
    assert found["images"] == found["candidates"] == 2
    assert "1 of 3 files could not be read and were left out" in caption(tmp_path / "results")
    assert words in stopped


def test_all_files_unreadable_are_told_even_where_they_are_skipped(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "images"
    (root / "cat").mkdir(parents=True)
    for name in "ab":
        (root / "cat" / f"{name}.png").touch()
    told = sentence(run(*images(root), *small_network, "dataset.unreadable=skip"), tmp_path)
    assert told == (
        "exit code 2: not one of the 2 files in …/images can be read as an image; the first is "
        "'cat/a.png'."
    )


def test_of_many_unreadable_files_a_few_are_named_and_the_manifest_names_all(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png")
    for number in range(5):
        (root / "cat" / f"bad{number}.png").touch()
    ended = run(*images(root), *small_network, "dataset.unreadable=skip")
    named = "'cat/bad0.png', 'cat/bad1.png', 'cat/bad2.png', …"
    assert f"5 of 6 files cannot be read and are left out: {named}" in ended.out
    assert len(manifest(tmp_path / "results")["unreadable"]) == 5


def test_retraining_counts_the_files_of_both_splits(
    run: Run, small_network: list[str], tmp_path: Path
) -> None:
    root = folder_of(tmp_path / "images", "cat/a.png", "dog/a.png")
    train = folder_of(tmp_path / "train", "cat/b.png", "cat/c.png", "dog/b.png", "dog/c.png")
    (root / "cat" / "bad.png").touch()
    (train / "dog" / "worse.png").touch()
    short = ["retrain.num=[4]", "retrain.controls=[]", "retrain.epochs=1", "retrain.selected=false"]
    ended = run(
        "experiment=table10", *images(root), *small_network, *short,
        f"dataset.train_root={train}", "dataset.unreadable=skip",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    (page,) = (tmp_path / "results").glob("table10-*/table10.md")
    assert "2 of 8 files could not be read and were left out" in page.read_text(encoding="utf-8")


# Whether a file can be read may change


@pytest.mark.parametrize("first", [True, False], ids=["skip first", "sound first"])
def test_a_file_that_can_be_read_again_takes_part_again(first: bool, tmp_path: Path) -> None:
    """Also where neither size nor time of the file say so."""
    root = folder_of(tmp_path / "images", "cat/a.png", "cat/b.png", "cat/c.png")
    files = [root / "cat" / name for name in ("a.png", "b.png", "c.png")]
    listed = make_image_list(root, files, [0, 1, 2])
    sound, status = files[1].read_bytes(), files[1].stat()

    def load(skip: bool) -> tuple[tuple[str, ...], list[int], list[str]]:
        found = load_images(listed, SMALL, tmp_path / "cache", lambda done: None, skip)
        for key, pixels in zip(found.keys, found.pixels, strict=True):
            np.testing.assert_array_equal(pixels, decode(root / key, SMALL))
        return found.keys, found.labels.tolist(), list(found.unreadable)

    def write(content: bytes) -> None:
        files[1].write_bytes(content)
        os.utime(files[1], ns=(status.st_atime_ns, status.st_mtime_ns))

    every = (("cat/a.png", "cat/b.png", "cat/c.png"), [0, 1, 2], [])
    without = (("cat/a.png", "cat/c.png"), [0, 2], ["cat/b.png"])
    if not first:
        assert load(skip=False) == every
        files[1].unlink()
        assert load(skip=True) == without
        write(sound)
        assert load(skip=True) == every
        return
    write(b"\0" * len(sound))
    for _ in range(2):
        assert load(skip=True) == without
        with pytest.raises(InputError, match=r"b\.png cannot be read"):
            load(skip=False)
    write(sound)
    assert load(skip=True) == every
    assert load(skip=False) == every


# Images that are read


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


def transparent(path: Path) -> Image.Image:
    image = picture(3)
    image.putalpha(picture(4).getchannel(0))
    image.save(path, "PNG")
    return picture(3)


def sixteen_bits(path: Path) -> Image.Image:
    """A PNG of 16 bits a channel, whose upper bytes are those of a picture."""
    values = np.asarray(picture(3)).astype(np.uint16) * 256 + 99
    height, width, _ = values.shape
    path.write_bytes(png(width, height, 16, 2, (row.astype(">u2").tobytes() for row in values)))
    return picture(3)


READABLE: dict[str, Callable[[Path], Image.Image]] = {
    "CMYK": kept(picture(3).convert("CMYK"), "TIFF"),  # what Pillow converts to RGB
    "palette": kept(picture(3).convert("P")),  # its colours in RGB
    "RGBA": transparent,  # the same image without its transparency
    "grey": kept(picture(3).convert("L")),  # three equal channels
    "black and white": kept(picture(3).convert("1")),  # black and white in RGB
    "16-bit colours": sixteen_bits,  # the image of their upper 8 bits
    "EXIF-rotated": marked,  # the image as it lies, without its orientation tag
    "1 x 1 pixel": kept(Image.new("RGB", (1, 1), (10, 20, 30))),  # its colour everywhere
    # its first frame
    "animated GIF under the name of a PNG": lambda path: (
        picture(3).quantize().save(path, "GIF", save_all=True, append_images=[picture(4)])
        or Image.open(io.BytesIO(encoded(picture(3).quantize(), "GIF"))).convert("RGB")
    ),
    "animated PNG": animated("PNG"),  # its first frame
    "animated WebP": animated("WEBP"),  # its first frame
    "TIFF of several pages": animated("TIFF"),  # its first page
    # a JPEG
    "JPEG under the name of a PNG": lambda path: (
        picture(3).save(path, "JPEG")
        or Image.open(io.BytesIO(encoded(picture(3), "JPEG"))).convert("RGB")
    ),
}


@pytest.mark.parametrize("make", READABLE.values(), ids=READABLE)
def test_an_odd_image_is_decoded(make: Callable[[Path], Image.Image], tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    expected = make(path)
    expected.save(tmp_path / "plain.bmp")
    found, plain = decode(path, SMALL), decode(tmp_path / "plain.bmp", SMALL)
    np.testing.assert_array_equal(found, plain)
    assert found.std() > 0 or expected.size == (1, 1)


def test_odd_images_take_part_in_a_run(run: Run, small_network: list[str], tmp_path: Path) -> None:
    root = folder_of(tmp_path / "images", "cat/plain.png")
    for number, make in enumerate(READABLE.values()):
        make(root / "cat" / f"odd{number}.png")
    ended = run(*images(root), *small_network)
    assert (ended.code, ended.err) == (0, "")
    assert manifest(tmp_path / "results")["images"] == 1 + len(READABLE)


def test_a_large_image_is_decoded_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow warns of images of more than a limit, and refuses those of more than twice as much."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 48 * 40 - 1)
    root = folder_of(tmp_path / "images", "cat/a.png")
    listed = make_image_list(root, [root / "cat" / "a.png"], [0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_images(listed, SMALL, tmp_path / "cache", lambda done: None)
    assert len(found) == 1
