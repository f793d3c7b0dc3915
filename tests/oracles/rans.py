"""`RANS`, encoder and decoder."""

from __future__ import annotations

import struct

from oracles import bits, frequencies, varint

LOWEST = 2**15


def push(state: int, symbol: int, table: dict[int, int], p: int, words: list[int]) -> int:
    frequency, start = table[symbol], sum(f for other, f in table.items() if other < symbol)
    if state >= frequency * 2 ** (31 - p):
        words.append(state % 2**16)
        state >>= 16
    return state // frequency * 2**p + start + state % frequency


def packet(floats: list[float], entries: dict[int, int | float], s: int) -> bytes:
    prefix = b"".join(struct.pack("<f", x) for x in floats)
    if not entries:
        return prefix
    places = sorted(entries)
    gaps = [frequencies.split(here - before) for here, before in zip(places, [-1, *places], strict=False)]
    levels = [(0, "")] * len(gaps)
    if s:
        levels = [frequencies.split(abs(int(entries[i]))) for i in places]
        levels = [(2 * order + (entries[i] < 0), low) for i, (order, low) in zip(places, levels, strict=True)]
    p, kinds = frequencies.precision(len(places)), [gaps, levels] if s else [gaps]
    tables = [frequencies.to_frequencies([symbol for symbol, _ in kind], p) for kind in kinds]
    most = 2**p - max(1, 2**p // 256)
    if s and min(max(table.values()) for table in tables) > most:
        largest = max(tables[0], key=lambda symbol: tables[0][symbol])
        tables[0][largest] = most
    plain = [any("1" in low for _, low in kind) for kind in kinds]
    body = varint.leb128(len(places)) + bits.filled(
        "".join(frequencies.table_bits(*table) for table in zip(tables, plain, (1, 2), strict=False))
    )
    words: list[int] = []
    states = [LOWEST] * len(kinds)
    for i in reversed(range(len(places))):
        for kind in reversed(range(len(kinds))):
            states[kind] = push(states[kind], kinds[kind][i][0], tables[kind], p, words)
    body += b"".join(struct.pack("<I", state) for state in states)
    if s == 0:
        body += b"".join(struct.pack("<f", entries[i]) for i in places)
    low = (kind[i][1] for i in range(len(places)) for kind, has in zip(kinds, plain, strict=True) if has)
    return prefix + body + bits.filled("".join(low)) + b"".join(struct.pack("<H", word) for word in words)


def unpacket(data: bytes, floats: int, s: int) -> dict[int, int | float]:
    """The entries of a good packet that begins with so many floats."""
    body = bits.Reader(data[4 * floats :])
    if not body.data:
        return {}
    k, shift = 0, 0
    while True:
        byte = body.take(8)
        k, shift = k | byte % 128 << shift, shift + 7
        if byte < 128:
            break
    p = frequencies.precision(k)
    tables = [frequencies.read_table(body, stride) for stride in ((1, 2) if s else (1,))]
    body.fill()
    assert all(sum(table.values()) <= 2**p for _, table in tables)
    states = [int.from_bytes(body.take(32).to_bytes(4, "big"), "little") for _ in tables]
    values = [struct.unpack("<f", body.take(32).to_bytes(4, "big"))[0] for _ in range(0 if s else k)]
    entries: dict[int, int | float] = {}
    place = -1
    for i in range(k):
        numbers = []
        for kind, (plain, table) in enumerate(tables):
            slot, start = states[kind] % 2**p, 0
            for symbol in sorted(table):
                if slot < start + table[symbol]:
                    break
                start += table[symbol]
            states[kind] = table[symbol] * (states[kind] >> p) + slot - start
            if states[kind] < LOWEST:
                states[kind] = states[kind] << 16 | body.word()
            number, low = frequencies.least(symbol >> kind)
            numbers.append((symbol, number + (body.take(low) if plain else 0)))
        place += numbers[0][1]
        entries[place] = numbers[1][1] * (-1 if numbers[1][0] % 2 else 1) if s else values[i]
    body.fill()
    assert body.at == 8 * len(body.data)
    assert states == [LOWEST] * len(tables)
    return entries
