"""Classes of numbers, and the tables of their frequencies that `RANS` packets begin with.

Numbers below 8 are classes of their own; larger ones share four classes an octave, and the bits below are plain bits. A
symbol is a class, counted from 0, or for levels 2 * class + sign. The frequencies of a table sum to 2^p at most.
`docs/wire-format.md` is the specification.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bits import leading_zeros, store
from qsim.kernels.bits import window as look

SYMBOLS = 256
"""The size of a table. Gaps up to 2^48 have 188 symbols, levels below 2^31 have 238."""

NO_SYMBOL = np.uint32(255)
"""The symbol of slots that no symbol has."""

MOST_BITS = 12
"""The largest p."""

_ONE, _64 = np.uint64(1), np.uint64(64)


@inlined
def precision(k: np.uint64) -> np.uint64:
    """Return p for k entries."""
    return min(_64 - leading_zeros(k) + np.uint64(2), np.uint64(MOST_BITS))


@inlined
def class_of(number: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the class of a number from 1, counted from 0, and how many plain bits it has."""
    plain = np.uint64(61) - leading_zeros(number | np.uint64(4))
    return (plain << np.uint64(2)) + (number >> plain) - _ONE, plain


@inlined
def plain_bits(order: int) -> int:
    """Return how many plain bits the numbers of a class have."""
    return max((order + 1) >> 2, 1) - 1


@kernel
def to_frequencies(counts: NDArray[np.int64], k: int, p: int) -> None:
    """Turn counts that sum to k into frequencies that sum to 2^p: one for each symbol used, the rest in proportion."""
    used = 0
    for count in counts:
        used += count > 0
    free = (1 << p) - used
    seen, before = np.int64(0), np.int64(0)
    for symbol in range(counts.size):
        if counts[symbol] > 0:
            seen += counts[symbol]
            here = seen * free // k
            counts[symbol] = 1 + here - before
            before = here


@inlined
def highest_shared(p: np.uint64) -> np.int64:
    """Return what a frequency may be at most in one of the two tables, so that every entry takes some bits."""
    return np.int64((_ONE << p) - max(_ONE, (_ONE << p) >> np.uint64(8)))


@inlined
def _append(data: NDArray[np.uint8], at: np.uint64, word: np.uint64, length: np.uint64) -> np.uint64:
    """Write up to 56 bits at bit `at`; the bits of its byte behind it are zero. Returns the bit behind them."""
    kept = np.uint64(data[at >> np.uint64(3)]) << np.uint64(56)
    store(data, at >> np.uint64(3), kept | word << (_64 - length - (at & np.uint64(7))))
    return at + length


@inlined
def _append_gamma(data: NDArray[np.uint8], at: np.uint64, number: np.uint64) -> np.uint64:
    """Write the gamma code word of a number from 1."""
    size = _64 - leading_zeros(number)
    return _append(data, at, number, size + size - _ONE)


@inlined
def _length_before(frequencies: NDArray[np.int64], symbol: int, stride: int) -> np.int64:
    """Return the number of bits of the frequency `stride` symbols before; 0 if there is none."""
    before = np.uint64(frequencies[symbol - stride]) if symbol >= stride else np.uint64(0)
    return np.int64(_64 - leading_zeros(before))


@kernel
def write_table(
    data: NDArray[np.uint8], at: np.uint64, frequencies: NDArray[np.int64], plain: bool, stride: int
) -> np.uint64:
    """Write a table at bit `at` of the data, all zeros behind it in its byte; return the bit behind the table."""
    first, last = np.int64(SYMBOLS), np.int64(0)
    for symbol in range(SYMBOLS):
        if frequencies[symbol] > 0:
            first, last = min(first, np.int64(symbol)), np.int64(symbol)
    at = _append(data, at, np.uint64(plain), _ONE)
    at = _append_gamma(data, at, np.uint64(first + 1))
    at = _append_gamma(data, at, np.uint64(last + 1 - first))
    for symbol in range(first, last + 1):
        frequency = np.uint64(frequencies[symbol])
        length = _64 - leading_zeros(frequency)
        change = np.int64(length) - _length_before(frequencies, symbol, stride)
        at = _append_gamma(data, at, np.uint64(2 * change + 1 if change >= 0 else -2 * change))
        if length > _ONE:
            at = _append(data, at, frequency ^ (_ONE << (length - _ONE)), length - _ONE)
    return at


@inlined
def _read_gamma(data: NDArray[np.uint8], at: np.uint64) -> tuple[np.int64, np.uint64]:
    """Read a code word below 2^16 at bit `at`: (number, the bit behind it). The number 0 says that there is none."""
    window = look(data, at)
    zeros = leading_zeros(window)
    if zeros > np.uint64(15):
        return np.int64(0), at
    return np.int64(window >> (np.uint64(63) - zeros - zeros)), at + zeros + zeros + _ONE


@kernel
def read_table(
    data: NDArray[np.uint8],
    at: np.uint64,
    end: np.uint64,
    p: int,
    symbols: int,
    stride: int,
    frequencies: NDArray[np.int64],
) -> tuple[np.uint64, bool]:
    """Read a table at bit `at`: (the bit behind it, whether there are plain bits). The bit 0 says that it is none."""
    frequencies[:] = 0
    none = np.uint64(0), False
    plain = look(data, at) >> np.uint64(63) != np.uint64(0)
    first, at = _read_gamma(data, at + _ONE)
    count, at = _read_gamma(data, at)
    if first == 0 or count == 0 or first - 1 + count > symbols:
        return none
    total = np.int64(0)
    for symbol in range(first - 1, first - 1 + count):
        change, at = _read_gamma(data, at)
        if change == 0 or at > end:
            return none
        length = _length_before(frequencies, symbol, stride) + (change >> 1 if change & 1 else -(change >> 1))
        if length < 0 or length > p + 1:
            return none
        if length > 0:
            low = np.uint64(length - 1)
            rest = look(data, at) >> _ONE >> (np.uint64(63) - low)
            at += low
            frequencies[symbol] = np.int64(_ONE << low | rest)
            total += frequencies[symbol]
    if at > end or total == 0 or total > 1 << p:
        return none
    return at, plain


@kernel
def to_divisors(frequencies: NDArray[np.int64], p: np.uint64, divisors: NDArray[np.uint64]) -> None:
    """Write four words for each symbol, how to encode it.

    They are the reciprocal of its frequency, its start and (8 bits) a shift, the least state that is too large for it,
    and 2^p less its frequency. For every x below 2^31, x // frequency is x * reciprocal >> shift (Granlund and
    Montgomery 1994).
    """
    start = np.uint64(0)
    for symbol in range(SYMBOLS):
        frequency = np.uint64(frequencies[symbol])
        if frequency > np.uint64(0):
            shift = np.uint64(95) - leading_zeros(frequency - _ONE)
            divisors[4 * symbol] = ((_ONE << shift) + frequency - _ONE) // frequency
            divisors[4 * symbol + 1] = start << np.uint64(8) | shift
            divisors[4 * symbol + 2] = frequency << (np.uint64(31) - p)
            divisors[4 * symbol + 3] = (_ONE << p) - frequency
            start += frequency


@kernel
def to_slots(
    frequencies: NDArray[np.int64],
    p: int,
    plain: bool,
    signed: bool,
    slots: NDArray[np.uint32],
    meanings: NDArray[np.uint64],
) -> None:
    """Write the symbol of every slot, and what it means.

    A slot holds the frequency less 1, the slot's place among the symbol's, and the symbol (12, 12 and 8 bits); a
    meaning the least number of the class, the sign and how many plain bits there are (56, 1 and 7 bits).
    """
    at = 0
    for symbol in range(SYMBOLS):
        frequency = frequencies[symbol]
        for place in range(frequency):
            slots[at + place] = np.uint32((frequency - 1) << 20 | place << 8 | symbol)
        at += frequency
        order = symbol >> 1 if signed else symbol
        low = plain_bits(order)
        sign = symbol & 1 if signed else 0
        meanings[symbol] = np.uint64((order + 1 - 4 * low) << low << 8 | sign << 7 | (low if plain else 0))
    slots[at : 1 << p] = NO_SYMBOL
    meanings[NO_SYMBOL] = 0
