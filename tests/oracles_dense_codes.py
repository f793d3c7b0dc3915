"""Plain-Python oracles of the codecs that spend bits on every coordinate, written from docs/wire-format.md."""

from __future__ import annotations

import struct

import oracles


def filled(bits: str) -> bytes:
    """The bytes of a string of zeros and ones, the first bit highest, filled with zeros."""
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))


def fixed_width(n: int, entries: dict[int, int], s: int) -> bytes:
    width = 1
    while 2**width < 2 * s + 1:
        width += 1
    body = filled("".join(f"{entries.get(c, 0) + s:b}".zfill(width) for c in range(n)))
    if len(entries) == n and 2 ** (width - 1) == 2 * s:  # no zero among them: one value less
        moved = [level + s - (level > 0) for _, level in sorted(entries.items())]
        body = min(body, filled("".join(f"{field:b}".zfill(width - 1) for field in moved)), key=len)
    return body


def bitmap(n: int, entries: dict[int, int | float], s: int) -> bytes:
    width = 0
    while s and 2**width < s:
        width += 1
    fields = ""
    for c in sorted(entries):
        if s == 0:
            fields += "".join(f"{byte:08b}" for byte in struct.pack(">f", entries[c]))
        else:
            fields += "01"[entries[c] < 0] + (f"{abs(int(entries[c])) - 1:b}".zfill(width) if width else "")
    return filled("".join("01"[c in entries] for c in range(n))) + filled(fields)


def elias_dense(code: str, n: int, entries: dict[int, int]) -> bytes:
    number = {"gamma": oracles.gamma, "delta": oracles.delta, "omega": oracles.omega}[code]
    bits = ""
    for c in range(n):
        level = entries.get(c, 0)
        bits += number(abs(level) + 1) + ("" if level == 0 else "01"[level < 0])
    return filled(bits)
