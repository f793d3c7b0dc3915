"""Classes of numbers, and the tables that `RANS` packets begin with."""

from __future__ import annotations

from oracles import bitcodes, bits


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


def to_frequencies(symbols: list[int], p: int) -> dict[int, int]:
    """2^p shared: one for each symbol that is used, the rest in proportion, rounded where the sums before are."""
    used, table, seen = sorted(set(symbols)), {}, 0
    free = 2**p - len(used)
    for symbol in used:
        before, seen = seen, seen + symbols.count(symbol)
        table[symbol] = 1 + seen * free // len(symbols) - before * free // len(symbols)
    return table


def table_bits(table: dict[int, int], plain: bool, stride: int) -> str:
    first, last = min(table), max(table)
    out = f"{int(plain)}" + bitcodes.gamma(first + 1) + bitcodes.gamma(last - first + 1)
    for symbol in range(first, last + 1):
        size = table.get(symbol, 0).bit_length()
        change = size - table.get(symbol - stride, 0).bit_length()
        out += bitcodes.gamma(2 * change + 1 if change >= 0 else -2 * change)
        out += f"{table.get(symbol, 0):b}"[1:] if size else ""
    return out


def read_table(source: bits.Reader, stride: int) -> tuple[bool, dict[int, int]]:
    plain, first, count = bool(source.take(1)), source.gamma() - 1, source.gamma()
    table: dict[int, int] = {}
    for symbol in range(first, first + count):
        change = source.gamma()
        size = table.get(symbol - stride, 0).bit_length() + (change // 2 if change % 2 else -change // 2)
        assert size >= 0
        if size:
            table[symbol] = 1 << (size - 1) | source.take(size - 1)
    return plain, table
