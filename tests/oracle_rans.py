"""A plain-Python `RANS`, encoder and decoder: slow, obvious, written from the specification, not from the kernels."""

from __future__ import annotations

import struct

from oracles import gamma, leb128

LOWEST = 2**15


def split(number: int) -> tuple[int, str]:
    """The class of a number from 1, and its plain bits."""
    plain = max(number.bit_length() - 3, 0)
    return 4 * plain + (number >> plain) - 1, f"{number % 2**plain:b}".zfill(plain) if plain else ""


def least(order: int) -> tuple[int, int]:
    """The least number of a class, and how many plain bits it has."""
    plain = max((order + 1) // 4, 1) - 1
    return (order + 1 - 4 * plain) << plain, plain


def precision(k: int) -> int:
    return min(k.bit_length() + 2, 12)


def frequencies(symbols: list[int], p: int) -> dict[int, int]:
    """2^p shared: one for each symbol that is used, the rest in proportion, rounded where the sums before are."""
    used, table, seen = sorted(set(symbols)), {}, 0
    free = 2**p - len(used)
    for symbol in used:
        before, seen = seen, seen + symbols.count(symbol)
        table[symbol] = 1 + seen * free // len(symbols) - before * free // len(symbols)
    return table


def table_bits(table: dict[int, int], plain: bool, stride: int) -> str:
    first, last = min(table), max(table)
    bits = f"{int(plain)}" + gamma(first + 1) + gamma(last - first + 1)
    for symbol in range(first, last + 1):
        size = table.get(symbol, 0).bit_length()
        change = size - table.get(symbol - stride, 0).bit_length()
        bits += gamma(2 * change + 1 if change >= 0 else -2 * change)
        bits += f"{table.get(symbol, 0):b}"[1:] if size else ""
    return bits


def whole_bytes(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))


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
    gaps = [split(here - before) for here, before in zip(places, [-1, *places], strict=False)]
    levels = [(0, "")] * len(gaps)
    if s:
        levels = [split(abs(int(entries[i]))) for i in places]
        levels = [(2 * order + (entries[i] < 0), low) for i, (order, low) in zip(places, levels, strict=True)]
    p, kinds = precision(len(places)), [gaps, levels] if s else [gaps]
    tables = [frequencies([symbol for symbol, _ in kind], p) for kind in kinds]
    most = 2**p - max(1, 2**p // 256)
    if s and min(max(table.values()) for table in tables) > most:
        largest = max(tables[0], key=lambda symbol: tables[0][symbol])
        tables[0][largest] = most
    plain = [any("1" in low for _, low in kind) for kind in kinds]
    body = leb128(len(places)) + whole_bytes(
        "".join(table_bits(*table) for table in zip(tables, plain, (1, 2), strict=False))
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
    return prefix + body + whole_bytes("".join(low)) + b"".join(struct.pack("<H", word) for word in words)


class Bits:
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


def read_table(bits: Bits, stride: int) -> tuple[bool, dict[int, int]]:
    plain, first, count = bool(bits.take(1)), bits.gamma() - 1, bits.gamma()
    table: dict[int, int] = {}
    for symbol in range(first, first + count):
        change = bits.gamma()
        size = table.get(symbol - stride, 0).bit_length() + (change // 2 if change % 2 else -change // 2)
        assert size >= 0
        if size:
            table[symbol] = 1 << (size - 1) | bits.take(size - 1)
    return plain, table


def unpacket(data: bytes, floats: int, s: int) -> dict[int, int | float]:
    """The entries of a good packet that begins with so many floats."""
    body = Bits(data[4 * floats :])
    if not body.data:
        return {}
    k, shift = 0, 0
    while True:
        byte = body.take(8)
        k, shift = k | byte % 128 << shift, shift + 7
        if byte < 128:
            break
    p = precision(k)
    tables = [read_table(body, stride) for stride in ((1, 2) if s else (1,))]
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
            number, low = least(symbol >> kind)
            numbers.append((symbol, number + (body.take(low) if plain else 0)))
        place += numbers[0][1]
        entries[place] = numbers[1][1] * (-1 if numbers[1][0] % 2 else 1) if s else values[i]
    body.fill()
    assert body.at == 8 * len(body.data)
    assert states == [LOWEST] * len(tables)
    return entries
