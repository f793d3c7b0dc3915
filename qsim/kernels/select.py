"""Which coordinates are sent: so many at random, the largest, those above a threshold, each with a probability.

A batch is as in `quantize`. The same vector selects the same coordinates dense and sparse; what is zero is never sent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import inlined, kernel
from qsim.kernels.bits import MAGNITUDE, trailing_zeros
from qsim.kernels.hashing import fold
from qsim.kernels.simd import STRIP, at_least

_SAMPLE = 4096  # entries that a threshold is guessed from
_SMALL = 16  # so many are kept in order as they come
_BITS_EACH = 128  # with up to so many coordinates for each that is drawn, bits are faster than a table
_NEAR = 4096  # entries that are searched at a time, so that what was found is still near


@kernel
def first_of_rows_at_least(offsets: NDArray[np.int64], value: NDArray[np.float32], bound: np.int32) -> int:
    """Return the place of the first of the rows' entries whose magnitude has bits of at least `bound`, or -1."""
    return first_at_least(value[: offsets[-1]], bound)


@kernel
def first_at_least(value: NDArray[np.float32], bound: np.int32) -> int:
    """Return the first place where the bits of the magnitude are at least `bound`, or -1."""
    bits = value.view(np.int32)
    whole = bits.size - bits.size % STRIP
    for start in range(0, whole, STRIP):
        found = at_least(bits, start, bound)
        if found != np.uint64(0):
            return start + int(trailing_zeros(found))
    for place in range(whole, bits.size):
        if bits[place] & MAGNITUDE >= bound:
            return place
    return -1


@inlined
def scaled_up(word: np.uint64, size: np.uint64) -> np.uint64:
    """Return word * size / 2^64, rounded down: each number below `size` with probability 1/size to within 2^-64."""
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    right = (word & low) * (size & low)
    across = (word >> half) * (size & low) + (right >> half)
    other = (word & low) * (size >> half) + (across & low)
    return (word >> half) * (size >> half) + (across >> half) + (other >> half)


@kernel
def draw_positions(keys: NDArray[np.uint64], n: int, k: int, out: NDArray[np.signedinteger]) -> None:
    """Write k different coordinates below n for every row, rising: each set of k with the same probability.

    Floyd's algorithm: for j from n - k to n - 1 draw t up to j, and take t, or j if t is taken. Draw number i uses
    fold(key, i). O(k) time and memory, whatever n.
    """
    if n <= _BITS_EACH * k:
        marks = np.empty((n + 63) // 64, np.uint64)
        for row in range(keys.size):
            _draw_marking(np.uint64(keys[row]), n, k, marks, out[row * k : (row + 1) * k])
    else:
        table = np.empty(3 * k + 2, np.int64)  # up to k places behind the last one that a coordinate points to
        for row in range(keys.size):
            _draw_sorted(np.uint64(keys[row]), n, k, table, out[row * k : (row + 1) * k])


@inlined
def _draw_up_to(key: np.uint64, draw: int, last: int) -> np.int64:
    """Draw a number from 0 to `last`."""
    return np.int64(scaled_up(fold(key, np.uint64(draw)), np.uint64(last + 1)))


@kernel
def _draw_marking(key: np.uint64, n: int, k: int, marks: NDArray[np.uint64], out: NDArray[np.signedinteger]) -> None:
    """As `draw_positions`, for one row: what is taken is marked, by a bit for every coordinate."""
    low, written = np.uint64(63), np.uint64(0)
    marks[:] = 0
    for draw in range(k):
        last = n - k + draw
        place = np.uint64(_draw_up_to(key, draw, last))
        if marks[place >> np.uint64(6)] >> (place & low) & np.uint64(1):
            place = np.uint64(last)
        marks[place >> np.uint64(6)] |= np.uint64(1) << (place & low)
    for word in range(marks.size):
        left = marks[word]
        while left != np.uint64(0):
            out[written] = 64 * word + np.int64(trailing_zeros(left))
            written += np.uint64(1)
            left &= left - np.uint64(1)


@kernel
def _draw_sorted(key: np.uint64, n: int, k: int, table: NDArray[np.int64], out: NDArray[np.signedinteger]) -> None:
    """As `draw_positions`, for one row: what is taken stands in a table of cells, sorted, near cell t 2k/n.

    As the set is uniform, few steps lead to a place, and nothing is left to sort.
    """
    cells, written = np.float64(2 * k) / np.float64(n), np.uint64(0)
    table[:] = -1
    for draw in range(k):
        last = n - k + draw
        if not _insert(table, cells, _draw_up_to(key, draw, last)):
            _insert(table, cells, np.int64(last))
    for place in range(table.size):
        if table[place] >= 0:
            out[written] = table[place]
            written += np.uint64(1)


@kernel
def _insert(table: NDArray[np.int64], cells: float, number: np.int64) -> bool:
    """Put a number into the sorted table (-1: a free cell), unless it is there; tell whether it was put."""
    place = np.uint64(np.float64(number) * cells)
    while table[place] >= 0 and table[place] < number:
        place += np.uint64(1)
    if table[place] == number:
        return False
    while table[place] >= 0:  # make room
        table[place], number = number, table[place]
        place += np.uint64(1)
    table[place] = number
    return True


@kernel
def take_positions(
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger] | None,
    value: NDArray[np.floating],
    positions: NDArray[np.signedinteger],
    scale: float,
    out: NDArray[np.floating],
) -> None:
    """Write scale times what every row has at its positions, rounded once; 0 where it has no entry."""
    k = positions.size // (offsets.size - 1)
    for row in range(offsets.size - 1):
        here, last = offsets[row], offsets[row + 1]
        for place in range(row * k, (row + 1) * k):
            x = value.dtype.type(0)
            if index is None:
                x = value[np.uint64(here + positions[place])]
            else:
                while here < last and index[here] < positions[place]:
                    here += 1
                if here < last and index[here] == positions[place]:
                    x = value[here]
            out[place] = np.float64(x) * scale + 0.0  # a negative zero becomes a positive one


@kernel
def take_entries(
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger] | None,
    value: NDArray[np.float64],
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.signedinteger],
    scale: float,
    out: NDArray[np.float64],
) -> None:
    """Write scale times what every row has at the coordinates of its part of `out_index`, which it has entries at."""
    for row in range(offsets.size - 1):
        here = offsets[row]
        for place in range(out_offsets[row], out_offsets[row + 1]):
            if index is None:
                out[place] = value[offsets[row] + np.int64(out_index[place])] * scale
            else:
                while index[here] < out_index[place]:
                    here += 1
                out[place] = value[here] * scale


@kernel
def without_zeros(
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger],
    value: NDArray[np.floating],
    out_offsets: NDArray[np.int64],
) -> int:
    """Move the entries that are not zero to the front, row by row; return how many there are."""
    kept = np.uint64(0)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        for k in range(offsets[row], offsets[row + 1]):
            coordinate, x = index[k], value[k]  # read before anything is written, which may be there
            index[kept], value[kept] = coordinate, x
            kept += np.uint64(x != 0)
        out_offsets[row + 1] = kept
    return int(kept)


@kernel
def keep_largest(
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger] | None,
    value: NDArray[np.float32],
    k: int,
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.signedinteger],
    out_value: NDArray[np.float32],
) -> tuple[int, np.int32]:
    """Keep the k entries of every row with the largest magnitudes, of equal ones the first.

    One pass collects candidates: what reaches a bound that is guessed from a sample, a little low. (All non-zeros, in
    a second pass, if these are fewer than k.) The k-th largest of them is found exactly, by its bits. For a small k, in
    a short row, the k largest so far are kept in order instead.

    Returns how many are kept, and the bits of the largest magnitude.
    """
    longest = np.int64(0)
    for row in range(offsets.size - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    places, magnitudes = np.empty(longest, np.int64), np.empty(longest, np.int32)
    sample, counts = np.empty(_SAMPLE, np.int32), np.empty(256, np.int64)
    kept, largest = np.uint64(0), np.int32(0)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        first = offsets[row]
        bits = value[first : offsets[row + 1]].view(np.int32)
        if k <= _SMALL and bits.size <= _SAMPLE:
            found = _largest_so_far(bits, k, places, magnitudes)
        else:
            bound = _guess(bits, k, sample, counts)
            found = collect(bits, bound, places)
            if found < k and bound > 1:
                found = collect(bits, np.int32(1), places)
        least, ties = np.int32(1), found
        if found > k:
            for i in range(found):
                magnitudes[i] = bits[np.uint64(places[i])] & MAGNITUDE
            least, ties = _kth_largest(magnitudes[:found], k, counts)
        for i in range(found):
            place = np.uint64(places[i])
            magnitude = np.int32(bits[place] & MAGNITUDE)
            if magnitude >= least and (magnitude > least or ties > 0):
                ties -= magnitude == least
                largest = max(largest, magnitude)
                out_index[kept] = places[i] if index is None else index[np.uint64(first) + place]
                out_value[kept] = value[np.uint64(first) + place]
                kept += np.uint64(1)
        out_offsets[row + 1] = kept
    return int(kept), largest


@kernel
def _largest_so_far(bits: NDArray[np.int32], k: int, places: NDArray[np.int64], magnitudes: NDArray[np.int32]) -> int:
    """Write the places, rising, of the k largest magnitudes but zeros, of equal ones the first; return how many.

    magnitudes: scratch, for those so far, the largest first.
    """
    found, bound = 0, np.int32(1)
    whole = bits.size - bits.size % STRIP
    for start in range(0, bits.size, STRIP):
        left = np.uint64(0)
        if start < whole:
            left = at_least(bits, start, bound)
        else:
            for j in range(bits.size - whole):
                left |= np.uint64(bits[whole + j] & MAGNITUDE >= bound) << np.uint64(j)
        while left != np.uint64(0):
            place = start + np.int64(trailing_zeros(left))
            left &= left - np.uint64(1)
            magnitude = np.int32(bits[place] & MAGNITUDE)
            if magnitude < bound:  # it has risen since
                continue
            here = min(found, k - 1)
            while here > 0 and magnitudes[here - 1] < magnitude:
                magnitudes[here], places[here] = magnitudes[here - 1], places[here - 1]
                here -= 1
            magnitudes[here], places[here] = magnitude, place
            found = min(found + 1, k)
            if found == k:
                bound = np.int32(magnitudes[k - 1] + 1)
    for i in range(1, found):  # by place
        place, here = places[i], i
        while here > 0 and places[here - 1] > place:
            places[here] = places[here - 1]
            here -= 1
        places[here] = place
    return found


@kernel
def keep_at_least(
    offsets: NDArray[np.int64],
    index: NDArray[np.signedinteger] | None,
    value: NDArray[np.float32],
    bound: np.int32,
    out_offsets: NDArray[np.int64],
    out_index: NDArray[np.signedinteger],
    out_value: NDArray[np.float32],
) -> tuple[int, np.int32]:
    """Keep the entries whose magnitude has bits of at least `bound`; return how many are kept, and the largest bits."""
    kept, largest = np.uint64(0), np.int32(0)
    places = np.empty(_NEAR, np.int64)
    out_offsets[0] = 0
    for row in range(offsets.size - 1):
        first, last = offsets[row], offsets[row + 1]
        for start in range(first, last, _NEAR):
            bits = value[start : min(start + _NEAR, last)].view(np.int32)
            for i in range(collect(bits, bound, places)):
                place = np.uint64(start + places[i])
                out_index[kept] = np.int64(place) - first if index is None else index[place]
                out_value[kept] = value[place]
                largest = max(largest, np.int32(bits[np.uint64(places[i])] & MAGNITUDE))
                kept += np.uint64(1)
        out_offsets[row + 1] = kept
    return int(kept), largest


@kernel
def collect(bits: NDArray[np.int32], bound: np.int32, places: NDArray[np.int64]) -> int:
    """Write the places, rising, of magnitudes of at least `bound`; return how many there are."""
    found = np.uint64(0)
    whole = bits.size - bits.size % STRIP
    for start in range(0, whole, STRIP):
        left = at_least(bits, start, bound)
        for _ in range(3):  # few strips have more: what is written unasked costs less than a wrong guess
            places[found] = start + np.int64(trailing_zeros(left))
            found += np.uint64(left != np.uint64(0))
            left &= left - np.uint64(1)
        while left != np.uint64(0):
            places[found] = start + np.int64(trailing_zeros(left))
            found += np.uint64(1)
            left &= left - np.uint64(1)
    for place in range(whole, bits.size):
        if bits[place] & MAGNITUDE >= bound:
            places[found] = place
            found += np.uint64(1)
    return int(found)


@kernel
def _guess(bits: NDArray[np.int32], k: int, sample: NDArray[np.int32], counts: NDArray[np.int64]) -> np.int32:
    """Return a bound, at least 1, that about k magnitudes or some more reach, guessed from evenly spaced ones."""
    if bits.size < 4 * _SAMPLE:
        return np.int32(1)
    step = bits.size // _SAMPLE
    for i in range(_SAMPLE):
        sample[i] = bits[np.uint64(i * step)] & MAGNITUDE
    share = np.float64(k) * _SAMPLE / bits.size
    rank = int(share + 4.0 * np.sqrt(share) + 4.0)
    if rank >= _SAMPLE:
        return np.int32(1)
    return max(np.int32(1), _kth_largest(sample, rank, counts)[0])


@kernel
def _kth_largest(magnitudes: NDArray[np.int32], k: int, counts: NDArray[np.int64]) -> tuple[np.int32, int]:
    """Return the k-th largest number, k from 1 to their size, and how many equal to it are among the k largest.

    Digit by digit, the exponent first: the digit is known from counts, then only numbers that have it are left. What
    was in `magnitudes` is lost.
    """
    left, shift = magnitudes.size, 23
    while shift >= 0:
        differing = np.int32(0)
        for i in range(left):
            differing |= magnitudes[i] ^ magnitudes[0]
        if differing == 0:
            break
        if (differing >> shift) & 255 != 0:
            counts[:] = 0
            for i in range(left):
                counts[np.uint64((magnitudes[i] >> shift) & 255)] += 1
            digit = 255
            while counts[digit] < k:
                k -= counts[digit]
                digit -= 1
            remaining = np.uint64(0)
            for i in range(left):
                number = magnitudes[i]
                magnitudes[remaining] = number
                remaining += np.uint64(((number >> shift) & 255) == digit)
            left = int(remaining)
        shift = 0 if shift == 7 else shift - 8
    return magnitudes[0], k
