"""Every coordinate in a field of the same width, written from docs/wire-format.md."""

from __future__ import annotations

from oracles import bits


def body(n: int, entries: dict[int, int], s: int) -> bytes:
    width = 1
    while 2**width < 2 * s + 1:
        width += 1
    packed = bits.filled("".join(f"{entries.get(c, 0) + s:b}".zfill(width) for c in range(n)))
    if len(entries) == n and 2 ** (width - 1) == 2 * s:  # no zero among them: one value less
        moved = [level + s - (level > 0) for _, level in sorted(entries.items())]
        packed = min(packed, bits.filled("".join(f"{field:b}".zfill(width - 1) for field in moved)), key=len)
    return packed
