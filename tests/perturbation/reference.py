"""The change of one image in plain Python integers, written from the protocol, not from the code."""

import hashlib
import unicodedata

import numpy as np
from numpy.typing import NDArray

WORD = 2**32


def philox_block(counter: tuple[int, int, int, int], key: tuple[int, int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b // WORD) ^ c[1] ^ k[0], b % WORD, (a // WORD) ^ c[3] ^ k[1], a % WORD]
        k = [(k[0] + 0x9E3779B9) % WORD, (k[1] + 0xBB67AE85) % WORD]
    return c


class Words:
    """Words of one stream, one after the other."""

    def __init__(self, seed: int, key: str, draw: int, stream: int, variant: int) -> None:
        text = f"1\0{seed}\0{unicodedata.normalize('NFC', key)}".encode()
        digest = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
        self._key = (digest % WORD, digest // WORD)
        self._rest = (variant, draw, stream)

    def __getitem__(self, index: int) -> int:
        return philox_block((index // 4, *self._rest), self._key)[index % 4]


def changed(
    image: NDArray[np.uint8],
    key: str,
    draw: int,
    num: int,
    amplitude: int | None,
    area: int | None,
    seed: int,
    together: bool = False,
    repetition: bool = False,
    extreme: bool = False,
    scattered: bool = False,
) -> NDArray[np.uint8]:
    """Change one image (C, H, W), pixel by pixel, or value by value where they are scattered."""
    channels, height, width = image.shape
    rows, columns = (height, width) if area is None else (area, area)
    top, left = (height - rows) // 2, (width - columns) // 2
    result = image.copy()

    def change(channel: int, y: int, x: int, word: int) -> None:
        old = int(image[channel, y, x])
        if amplitude is None:
            new = word * 256 // WORD if not extreme else (255 if word >= WORD // 2 else 0)
        else:
            step = word * (2 * amplitude + 1) // WORD - amplitude
            if extreme:
                step = amplitude if word >= WORD // 2 else -amplitude
            new = min(max(old + step, 0), 255)
        result[channel, y, x] = new

    if scattered:
        variant = rows * 65536 + columns
        chance, values = (Words(seed, key, draw, stream, variant) for stream in (2, 3))
        for index in range(channels * rows * columns):
            channel, rank = divmod(index, rows * columns)
            if chance[index] < num * WORD // (rows * columns):
                change(channel, top + rank // columns, left + rank % columns, values[index])
        return result
    stream = Words(seed, key, draw, stream=0, variant=rows * 65536 + columns)
    positions: list[int] = []
    index = 0
    while len(positions) < num:
        rank = stream[index] * rows * columns // WORD
        if repetition or rank not in positions:
            positions.append(rank)
        index += 1
    values = Words(seed, key, draw, stream=1, variant=0)
    for order, rank in enumerate(positions):
        if rank in positions[:order]:
            continue
        y, x = top + rank // columns, left + rank % columns
        for channel in range(channels):
            change(channel, y, x, values[order * channels + (0 if together else channel)])
    return result
