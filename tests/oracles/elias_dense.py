"""An Elias code word for every coordinate, written from docs/wire-format.md."""

from __future__ import annotations

from oracles import bitcodes, bits


def body(code: str, n: int, entries: dict[int, int]) -> bytes:
    number = {"gamma": bitcodes.gamma, "delta": bitcodes.delta, "omega": bitcodes.omega}[code]
    out = ""
    for c in range(n):
        level = entries.get(c, 0)
        out += number(abs(level) + 1) + ("" if level == 0 else "01"[level < 0])
    return bits.filled(out)
