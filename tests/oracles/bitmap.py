"""A map with a bit for every coordinate, then the fields of the entries, written from docs/wire-format.md."""

from __future__ import annotations

import struct

from oracles import bits


def body(n: int, entries: dict[int, int | float], s: int) -> bytes:
    width = 0
    while s and 2**width < s:
        width += 1
    fields = ""
    for c in sorted(entries):
        if s == 0:
            fields += "".join(f"{byte:08b}" for byte in struct.pack(">f", entries[c]))
        else:
            fields += "01"[entries[c] < 0] + (f"{abs(int(entries[c])) - 1:b}".zfill(width) if width else "")
    return bits.filled("".join("01"[c in entries] for c in range(n))) + bits.filled(fields)
