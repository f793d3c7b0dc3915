"""Bits as strings of zeros and ones, bytes read bit by bit, the 32 bits of a float."""

from __future__ import annotations

import struct


def filled(bits: str) -> bytes:
    """The bytes of a string of zeros and ones, the first bit highest, filled with zeros."""
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))


class Reader:
    """Bytes read from the front, a bit at a time, and from the back, two bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> int:
        assert self.at + count <= 8 * len(self.data)
        number = 0
        for _ in range(count):
            number = 2 * number + (self.data[self.at // 8] >> (7 - self.at % 8)) % 2
            self.at += 1
        return number

    def gamma(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return 1 << zeros | self.take(zeros)

    def fill(self) -> None:
        assert self.take(-self.at % 8) == 0

    def word(self) -> int:
        self.data, word = self.data[:-2], self.data[-2:]
        return int(struct.unpack("<H", word)[0])


def of_float(x: float) -> int:
    return struct.unpack("<I", struct.pack("<f", x))[0]


def as_float(word: int) -> float:
    return struct.unpack("<f", struct.pack("<I", word))[0]
