"""Packets of LEB128 numbers, written from docs/wire-format.md."""

from __future__ import annotations

import struct

import numpy as np


def leb128(number: int) -> bytes:
    out = []
    while True:
        out.append(number % 128 + (128 if number > 127 else 0))
        number //= 128
        if not number:
            return bytes(out)


def packet(scale: np.float32, levels: dict[int, int], s: int) -> bytes:
    out, previous, width = struct.pack("<f", scale), -1, (s - 1).bit_length()
    for c in sorted(levels):
        gap, size = c - previous, abs(levels[c])
        out += leb128((((gap - 1) * 2**width + size - 1) * 2) + (levels[c] < 0))
        previous = c
    return out


def sparse_floats_packet(values: dict[int, float], form: str = "<f") -> bytes:
    packet, previous = b"", -1
    for c in sorted(values):
        packet += leb128(c - previous - 1) + struct.pack(form, values[c])
        previous = c
    return packet


def read_doubles(body: bytes, n: int) -> tuple[list[int], list[float], str, int]:
    """The coordinates and float64 values of a body, then what is wrong with the next entry and where it begins."""
    index, value, at = [], [], 0
    while at < len(body):
        size = next((k + 1 for k, byte in enumerate(body[at:]) if byte < 128), 0)
        number = sum((byte % 128) * 128**k for k, byte in enumerate(body[at : at + size]))
        here = (index[-1] if index else -1) + 1 + number
        bits = body[at + size : at + size + 8]
        beyond = len(body) > at + 9 and min(body[at : at + 9]) > 127 and body[at + 9] > 1  # more than 64 bits
        wrong = "OVERLONG" if beyond or (size > 1 and body[at + size - 1] == 0) else ""
        wrong = wrong or ("TRUNCATED" if not size or len(bits) < 8 else "")
        if not wrong:
            (x,) = struct.unpack("<d", bits)
            wrong = "NOT_FINITE" if x - x != 0 else "ZERO" if x == 0 else "PAST_N" if here >= n else ""
        if wrong:
            return index, value, wrong, at
        index.append(here)
        value.append(x)
        at += size + 8
    return index, value, "FINE", 0


def read(body: bytes, n: int, s: int) -> tuple[list[int], list[int], str, int]:
    """The coordinates and levels of a body, then what is wrong with the next entry and the byte where it begins."""
    index, level, at, width = [], [], 0, (s - 1).bit_length()
    while at < len(body):
        size = next((k + 1 for k, byte in enumerate(body[at:]) if byte < 128), 0)
        number = sum((byte % 128) * 128**k for k, byte in enumerate(body[at : at + size]))
        here = (index[-1] if index else -1) + 1 + number // 2 ** (width + 1)
        magnitude = number // 2 % 2**width + 1
        wrong = "TRUNCATED" if not size else "OVERLONG" if size > 1 and body[at + size - 1] == 0 else ""
        wrong = wrong or ("PAST_N" if here >= n else "PAST_LEVELS" if magnitude > s else "")
        if wrong:
            return index, level, wrong, at
        index.append(here)
        level.append(-magnitude if number % 2 else magnitude)
        at += size
    return index, level, "FINE", 0
