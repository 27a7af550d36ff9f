"""Philox4x32-10, a counter-based random number generator, on torch tensors.

Salmon, Moraes, Dror & Shaw (2011), "Parallel Random Numbers: As Easy as 1, 2, 3". Every output is a
function of a 128-bit counter and a 64-bit key alone: there is no state to carry, so any element of
any stream can be computed anywhere, in any order.

32-bit words are held in int64 tensors. Products are assembled from 16-bit halves, so no
intermediate value leaves the range of int64 and every device gives the same bits.
"""

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
WORDS_PER_BLOCK = 4

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> Tensor:
    """Compute the four output words of each counter.

    Args:
        counter: four int64 tensors of words in 0..2^32-1, broadcastable to one shape S.
        key: two int64 tensors of words in 0..2^32-1, broadcastable to S.

    Returns:
        int64 tensor (*S, 4) of words in 0..2^32-1.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(_MULTIPLIERS[0], c0)
        high1, low1 = _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 = (k0 + _KEY_INCREMENTS[0]) & WORD
        k1 = (k1 + _KEY_INCREMENTS[1]) & WORD
    # Every round mixes all words, so all four have the broadcast shape by now.
    return torch.stack((c0, c1, c2, c3), dim=-1)


def _multiply(constant: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """Return the high and low words of the 64-bit product of two words."""
    upper = constant * (word >> 16)
    lower = constant * (word & 0xFFFF)
    high = (upper + (lower >> 16)) >> 16
    low = ((upper << 16) + lower) & WORD
    return high, low
