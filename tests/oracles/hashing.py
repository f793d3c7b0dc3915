"""Random numbers from counters, in whole numbers of any length."""

from __future__ import annotations

import math

M32, M64 = (1 << 32) - 1, (1 << 64) - 1


def key(seed: int) -> int:
    """The word of a seed: mixed, and salted by the fraction of the square root of 2."""
    return mix(seed ^ math.isqrt(2 << 128) & M64)


def fold(word: int, part: int) -> int:
    return mix((word + 0x9E3779B97F4A7C15 * (part + 1)) & M64)


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def uniform24(coordinate: int, word: int) -> int:
    return draw32(coordinate, word) >> 8


def draw32(coordinate: int, word: int) -> int:
    low, high = word & M32, word >> 32
    x = (coordinate & M32) ^ low
    x ^= x >> 17
    x = (x * 0xED5AD4BB) & M32
    x ^= x >> 11
    x ^= high
    x = (x * 0xAC4C1B51) & M32
    x ^= x >> 15
    x = (x * 0x31848BAB) & M32
    return x ^ x >> 14


def philox32(coordinate: int, word: int) -> int:
    return philox([coordinate & M32, 0, 0, 0], [word & M32, word >> 32])[0]


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x32-10, as Salmon et al. 2011 give it."""
    for _ in range(10):
        one, other = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [other >> 32 ^ counter[1] ^ key[0], other & M32, one >> 32 ^ counter[3] ^ key[1], one & M32]
        key = [(key[0] + 0x9E3779B9) & M32, (key[1] + 0xBB67AE85) & M32]
    return counter


def below(word: int, size: int) -> int:
    return int((word >> 11) * 2.0**-53 * size)
