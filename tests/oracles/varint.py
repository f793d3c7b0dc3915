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


def sparse_floats_packet(values: dict[int, float]) -> bytes:
    packet, previous = b"", -1
    for c in sorted(values):
        packet += leb128(c - previous - 1) + struct.pack("<f", values[c])
        previous = c
    return packet
