"""Kernels over their whole range: code words of all lengths at all places, sizes of arrays, magnitudes, tables."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from itertools import accumulate, pairwise, product

import numpy as np
import pytest

import qsim
from oracles import bitcodes, bits, frequencies, quantize
from qsim.batch import Floats, Levels, Message, Packets, Signs, Vectors, index_type
from qsim.codecs import RANS, Bitmap, DecodeError, Elias, EliasDense, FixedWidth, GolombRice, Varint
from qsim.codecs.base import leb128, read_header
from qsim.codecs.entries import Entries, EntryCodec
from qsim.datasets import LibSVM
from qsim.datasets.libsvm import read
from qsim.kernels import frequencies as tables
from qsim.kernels.thinning import BLOCK, LEAST, largest_of_many, next_block

CODES = {"gamma": Elias("gamma"), "delta": Elias("delta"), "omega": Elias("omega"), "rice": GolombRice()}
SPARSE: list[EntryCodec] = [Varint(), *CODES.values(), RANS()]
DENSE: list[EntryCodec] = [FixedWidth(), Bitmap(), *map(EliasDense, ("gamma", "delta", "omega"))]

# Code words.

LARGEST = 2**31 - 1
N = 2**48


@cache
def rows_of_levels(n: int, s: int, tail: int) -> tuple[tuple[list[int], list[int]], ...]:
    """Coordinates and levels of rows with a gap of every length, then a level of every length, at every bit of a byte.

    Short entries before them move them on, and `tail` short ones follow.
    """
    rng, rows = random.Random(tail), []
    for gap_bits, level_bits, before in product(range((n - 1).bit_length() - 2), range(s.bit_length()), range(8)):
        gap, level = (2**bits + rng.randrange(2**bits) for bits in (gap_bits, level_bits))
        ends = list(accumulate([*(1 + (k % 3 == 2) for k in range(before)), gap, *[1] * tail]))
        if ends[-1] <= n:
            rows.append(([end - 1 for end in ends], [1] * before + [rng.choice([-1, 1]) * level] + [1] * tail))
    return tuple(rows)


@cache
def levels_everywhere(n: int, s: int, tail: int) -> Levels:
    rows = rows_of_levels(n, s, tail)
    offsets = np.cumsum([0, *(len(levels) for _, levels in rows)])
    index = np.array([place for coordinates, _ in rows for place in coordinates], index_type(n))
    level = np.array([level for _, levels in rows for level in levels], np.int32)
    return Levels(n, offsets, index, level, np.ones(len(rows), np.float32), s)


@pytest.mark.parametrize("tail", [0, 12])
@pytest.mark.parametrize("code", CODES)
def test_long_gaps_and_long_levels_at_every_bit(code: str, tail: int) -> None:
    """About 10,000 rows: what a decoder has in its window may end in the gap, in the level, or behind them."""
    codec = CODES[code]
    for n in (2**12, 2**27, N):
        rows, message = rows_of_levels(n, LARGEST, tail), levels_everywhere(n, LARGEST, tail)
        packets = codec.encode(message)
        assert codec.decode(packets, codec.header(message)) == message
        assert codec.size(message).tolist() == [8 * len(packets[row]) for row in range(len(rows))]
        for row in random.Random(n).sample(range(len(rows)), 40):
            entries = dict(zip(*rows[row], strict=True))
            assert packets[row] == bitcodes.packet(code, n, [1.0], entries, LARGEST)


@pytest.mark.parametrize("code", CODES)
def test_the_longest_levels_behind_gaps_of_every_length_at_every_bit(code: str) -> None:
    """Of every s that is 2^b - 1: what a decoder still takes from the window behind a gap depends on s."""
    codec, rng = CODES[code], random.Random(0)
    for n, s in product((2**12, 2**27, N), (2**b - 1 for b in range(1, 32))):
        index, level, ends = [], [], [0]
        for gap_bits, before in product(range((n - 1).bit_length() - 2), range(8)):
            gap = 2**gap_bits + rng.randrange(2**gap_bits)
            places = accumulate([*(1 + (k % 3 == 2) for k in range(before)), gap, 1])
            row = [place - 1 for place in places if place <= n]
            index += row
            level += ([1] * before + [rng.choice([-1, 1]) * s, 1])[: len(row)]
            ends.append(len(index))
        rows = len(ends) - 1
        arrays = np.array(ends), np.array(index, index_type(n)), np.array(level, np.int32)
        message = Levels(n, *arrays, np.ones(rows, np.float32), s)
        packets = codec.encode(message)
        assert codec.decode(packets, codec.header(message)) == message
        row = rng.randrange(rows)
        at = slice(*ends[row : row + 2])
        assert packets[row] == bitcodes.packet(code, n, [1.0], dict(zip(index[at], level[at], strict=True)), s)


@pytest.mark.parametrize("code", CODES)
def test_long_gaps_at_every_bit_before_signs_and_floats(code: str) -> None:
    """The last bit of every float is one, so that none is lost unseen."""
    codec, rng = CODES[code], np.random.default_rng(0)
    for n in (2**12, 2**27, 2**31, N):
        rows, signs = rows_of_levels(n, 1, 1), levels_everywhere(n, 1, 1)
        assert codec.decode(codec.encode(signs), codec.header(signs)) == signs
        value = (rng.integers(0x3F000000, 0x40000000, signs.index.size) | 1).astype(np.uint32).view(np.float32)
        floats = Floats(n, signs.offsets, signs.index, value)
        packets = codec.encode(floats)
        assert codec.decode(packets, codec.header(floats)) == floats
        for row in rng.choice(len(rows), 20, replace=False):
            at = slice(*floats.offsets[row : row + 2])
            entries = dict(zip(floats.index[at].tolist(), floats.value[at].tolist(), strict=True))
            assert packets[row] == bitcodes.packet(code, n, [], entries, 0)


# What is reserved.


def extreme_messages() -> Iterator[Message]:
    """Messages whose entries are as short, or as long, as they can be: one, few and many rows."""
    for rows in (1, 50):
        for n in (1, 2, 9, 300):
            everything = np.tile(np.arange(n, dtype=np.int32), rows)
            offsets = np.arange(rows + 1) * n
            ones = np.ones(everything.size, np.int32)
            for s in (1, 2, 3, 7, 15, 127, 2**20, LARGEST):
                for level in (ones, ones * s):
                    yield Levels(n, offsets, everything, level, np.ones(rows, np.float32), s)
            yield Signs(n, offsets, None, ones > 0, -np.ones(rows, np.float32), np.ones(rows, np.float32))
            yield Floats(n, offsets, everything, ones.astype(np.float32))
        for n in (2**31 - 1, 2**40, N):
            for count in (1, 2, 40):
                each = np.linspace(n // 2, n - 1, count).astype(index_type(n))
                offsets, index = np.arange(rows + 1) * count, np.tile(each, rows)
                level = np.tile(np.geomspace(1, 2**23 - 1, count).astype(np.int32), rows)
                for s in (1, 2**23 - 1):
                    yield Levels(n, offsets, index, np.minimum(level, s), np.ones(rows, np.float32), s)
                yield Floats(n, offsets, index, level.astype(np.float32))
            ends = np.tile(np.array([0, n - 1], index_type(n)), rows)
            words = np.tile(np.array([1, -LARGEST], np.int32), rows)
            yield Levels(n, np.arange(rows + 1) * 2, ends, words, np.ones(rows, np.float32), LARGEST)
            alone = (np.arange(rows + 1), ends[1::2], words[1::2])
            yield Levels(n, *alone, np.ones(rows, np.float32), LARGEST)


def carried(codec: EntryCodec) -> Iterator[tuple[Message, Entries, Packets]]:
    for message in extreme_messages():
        if codec in DENSE and message.n > 1000:
            continue
        if type(message) not in codec.carries:
            continue
        entries = Entries.of(message)
        bits = (message.n - 1).bit_length() + (entries.s - 1).bit_length() + 1 if entries.s else 0
        if isinstance(codec, Varint) and bits > 64:  # refused
            continue
        yield message, entries, codec.encode(message)


@pytest.mark.parametrize("codec", [*SPARSE, *DENSE], ids=repr)
def test_arrays_hold_the_longest_packets_and_the_most_entries(codec: EntryCodec) -> None:
    """An encoder writes, and a decoder fills, arrays of a size that is told beforehand: enough, and not far too large.

    Room are 24 bytes per entry and 128 per row, and where every coordinate has its bits, 5 bytes for each.
    """
    for message, entries, packets in carried(codec):
        prefix = 4 * entries.stream.floats
        bodies = np.diff(packets.offsets) - prefix
        room = 24 * entries.index.size + 128 * entries.rows + 5 * message.n * entries.rows * (codec in DENSE)
        assert bodies.sum() <= codec._most_bytes(entries) <= room, message
        most = codec._most_entries(packets, prefix, message.n, entries.s)
        assert most >= entries.index.size, message
        assert codec.decode(packets, codec.header(message)) == message


# Magnitudes.


@pytest.mark.parametrize("norm", ["l2", "max"])
@pytest.mark.parametrize("s", [1, 5, 2**23])
def test_every_power_of_two_is_quantized_as_the_oracle_does(norm: str, s: int) -> None:
    """From the smallest number of float32 to the largest, also where s / scale is beyond float32."""
    exponents = range(-149, 126)
    shape = np.array([1, 0.6, -0.03, 0.0101, -0.99, 0.5])
    v = (shape * 2.0 ** np.array(exponents, float)[:, None]).astype(np.float32)
    keys = [qsim.Key(7).fold(row) for row in range(len(exponents))]
    words = np.array([key.word for key in keys], np.uint64)
    message = qsim.QSGD(s, norm).compress(Vectors.dense(v), words)
    for row, word in enumerate(words.tolist()):
        scale, expected = quantize.qsgd(list(range(shape.size)), v[row], s, word, norm)
        at = slice(*message.offsets[row : row + 2])
        assert message.scale[row] == scale, exponents[row]
        found = dict(zip(message.index[at].tolist(), message.level[at].tolist(), strict=True))
        assert found == expected, exponents[row]


def test_levels_of_tiny_rows_are_not_all_the_largest() -> None:
    """Between 2^-61 and 1e-37, where levels / norm overflows: the levels are in proportion all the same."""
    v = np.float32([1e-32, 1e-33, -3e-34])
    found = qsim.QSGD(2**23, "max").quantize(v, qsim.Key(0)).level
    assert np.abs(found / 2**23 - v.astype(float) / 1e-32).max() < 2**-22


# Blocks that are thinned.


@pytest.mark.parametrize("entries", [LEAST - 1, LEAST, LEAST + 1, BLOCK])
@pytest.mark.parametrize("before", [0, 1, LEAST // 2 - 1, LEAST // 2, LEAST - 1])
@pytest.mark.parametrize("behind", [0, 3])
def test_blocks_with_exactly_enough_entries_are_found(entries: int, before: int, behind: int) -> None:
    """One block of so many entries, others of fewer before and behind it."""
    rng = np.random.default_rng(entries + before)
    parts = [rng.choice(BLOCK, before, replace=False), BLOCK + rng.choice(BLOCK, entries, replace=False)]
    parts.append(2 * BLOCK + rng.choice(BLOCK, behind, replace=False))
    index = np.sort(np.concatenate(parts)).astype(np.int32)
    there = (before, before + entries) if entries >= LEAST else (index.size, index.size)
    assert next_block(index, 0, index.size) == there
    if entries >= LEAST:
        assert next_block(index, before + entries, index.size) == (index.size, index.size)


def test_dense_blocks_and_their_largest() -> None:
    for left in (1, LEAST - 1, LEAST, LEAST + 1, BLOCK, BLOCK + 1, 5000):
        expected = (100, 100 + min(left, BLOCK)) if left >= LEAST else (100 + left, 100 + left)
        assert next_block(None, 100, 100 + left) == expected
    for nonzeros in (0, LEAST - 1, LEAST, LEAST + 1, BLOCK):
        v = np.zeros(BLOCK, np.float32)
        v[:nonzeros] = -0.25
        v[: nonzeros // 2] = 0.125
        assert largest_of_many(v.view(np.int32)) == (0.25 if nonzeros >= LEAST else np.inf)


# Tables of frequencies.


def counts_of(rng: np.random.Generator, kind: str, k: int) -> np.ndarray:
    """Counts of symbols that sum to k."""
    symbols = int(rng.integers(1, 239))
    weight = {"even": np.ones(symbols), "falling": 2.0 ** -np.arange(symbols), "wild": rng.pareto(0.3, symbols) + 1e-9}
    counts = np.zeros(tables.SYMBOLS, np.int64)
    used = rng.permutation(238)[:symbols]
    counts[used] = rng.multinomial(k, weight[kind] / weight[kind].sum())
    return counts


@pytest.mark.parametrize("kind", ["even", "falling", "wild"])
def test_tables_are_the_oracles_and_are_read_back(kind: str) -> None:
    """From one entry to 2^40 of them: shares, bits, and what is read again."""
    rng = np.random.default_rng(len(kind))
    for k in [1, 2, 3, 5, 17, 100, 1023, 1024, 5000, *(int(2**e) for e in rng.uniform(13, 40, 30))]:
        counts = counts_of(rng, kind, k)
        p, used = frequencies.precision(k), np.flatnonzero(counts)
        if used.size > 2**p:
            continue
        expected = np.zeros_like(counts)
        free, seen = 2**p - used.size, 0
        for symbol in used.tolist():
            before, seen = seen, seen + int(counts[symbol])
            expected[symbol] = 1 + seen * free // k - before * free // k
        tables.to_frequencies(counts, k, p)
        assert counts.tolist() == expected.tolist()
        assert counts.sum() == 2**p
        for stride, plain, first in ((1, False, 0), (2, True, 5)):
            data = np.zeros(1000, np.uint8)
            end = int(tables.write_table(data, np.uint64(first), counts, plain, stride))
            table = {symbol: int(counts[symbol]) for symbol in used.tolist()}
            written = "0" * first + frequencies.table_bits(table, plain, stride)
            assert end == len(written)
            assert data.tobytes().startswith(bits.filled(written))
            assert not data[-(-end // 8) :].any() or end % 8
            again = np.empty_like(counts)
            found = tables.read_table(data, np.uint64(first), np.uint64(end), p, 238, stride, again)
            assert (int(found[0]), found[1]) == (end, plain)
            assert again.tolist() == counts.tolist()
            short = tables.read_table(data, np.uint64(first), np.uint64(end - 1), p, 238, stride, again)
            assert int(short[0]) == 0, "a table past the packet's end"


def test_every_frequency_divides_every_state() -> None:
    """x // frequency by a product and a shift: around all multiples where a rounded reciprocal would slip first."""
    p = tables.MOST_BITS
    slots = np.uint64(2) ** np.uint64(31)
    for frequency in range(1, 2**p):
        counts = np.zeros(tables.SYMBOLS, np.int64)
        counts[3], counts[7] = frequency, 2**p - frequency
        divisors = np.zeros(4 * tables.SYMBOLS, np.uint64)
        tables.to_divisors(counts, np.uint64(p), divisors)
        for symbol, start in ((3, 0), (7, frequency)):
            f = int(counts[symbol])
            reciprocal, packed, limit, rest = (int(word) for word in divisors[4 * symbol : 4 * symbol + 4])
            assert (packed >> 8, limit, rest) == (start, f << 31 - p, 2**p - f)
            last = (int(slots) - 1) // f * f
            for x in (0, 1, f - 1, f, last - 1, last, int(slots) - 1):
                assert x * reciprocal >> (packed & 255) == x // f, (x, f)


def test_slots_mean_what_they_say() -> None:
    rng = np.random.default_rng(1)
    for signed in (False, True):
        counts = counts_of(rng, "wild", 10**6)
        p = 12
        tables.to_frequencies(counts, 10**6, p)
        counts[np.argmax(counts)] -= 5  # so that some slots are nobody's
        slots, meanings = np.empty(2**p, np.uint32), np.empty(tables.SYMBOLS, np.uint64)
        tables.to_slots(counts, p, True, signed, slots, meanings)
        expected = [
            (int(counts[symbol]) - 1) << 20 | place << 8 | symbol
            for symbol in range(tables.SYMBOLS)
            for place in range(counts[symbol])
        ]
        assert slots.tolist() == expected + [int(tables.NO_SYMBOL)] * 5
        for symbol in range(238 if signed else 188):  # levels below 2^31, gaps up to 2^48
            least, plain = frequencies.least(symbol >> 1 if signed else symbol)
            assert int(meanings[symbol]) == least << 8 | (symbol & 1 if signed else 0) << 7 | plain
        assert meanings[int(tables.NO_SYMBOL)] == 0


# Decimals.


def halfway_decimals() -> list[str]:
    """Decimals exactly half-way between two float64 numbers, and their neighbours, for every power of ten there is."""
    rng, found = random.Random(3), []
    for q in range(-4, 24):
        five = 5 ** abs(q)
        for _ in range(30):
            if q >= 0:
                odd = rng.randrange(2**53 // five, 2**54 // five) | 1
                if not 2**53 <= odd * five < 2**54:
                    continue
                w = odd << rng.randrange(max(1, 65 - odd.bit_length()))
            else:
                w = (rng.randrange(2**53, 2**54) | 1) * five
            if w < 2**63:
                found += [f"{w + change}e{q}" for change in (-1, 0, 1)]
    return found


def test_labels_half_way_between_two_numbers_are_rounded_to_even() -> None:
    texts = halfway_decimals()
    assert len(texts) > 1000
    rows = read(BytesIO("".join(f"{text} 1:1\n" for text in texts).encode()), LibSVM("data.svm"), 1 << 20)
    assert rows.labels.tolist() == [float(text) for text in texts]
    evens = [float(texts[at]) for at in range(1, len(texts), 3)]
    assert all(a <= b <= c for a, b, c in zip(rows.labels[::3], evens, rows.labels[2::3], strict=True))
    assert any(a != b for a, b in pairwise(evens))


# Headers.


def test_levels_are_below_2_to_the_31_in_every_header() -> None:
    head = bytes([1, Varint().number, 1]) + leb128(8)
    assert read_header(head + leb128(LARGEST) + bytes(1), Varint()).s == LARGEST
    with pytest.raises(DecodeError, match=r"s = 2147483648; levels are below 2\^31"):
        read_header(head + leb128(LARGEST + 1) + bytes(1), Varint())
