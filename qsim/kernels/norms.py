"""Norms of every row: the largest magnitude, l1, l2, and l_p for any p >= 1.

Sums run in float64, in lanes that are added in halves, so that they have one order: coordinate i is in lane i % 32. The
l1 norm is of rows that are dense, or whose zeros are left out; it takes entry k in lane k % 32. On dense rows it is
that of `lp_norms` with p = 1, bit by bit, in less time where rows are short.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.bits import MAGNITUDE
from qsim.kernels.simd import LANES, add_magnitudes, add_squares, fused, lanes_total
from qsim.kernels.tiles import RUN

_LOG = tuple(2 / (math.log(2) * (2 * k + 1)) for k in range(10))
_EXP = tuple(math.log(2) ** k / math.factorial(k) for k in range(13))
_ROOT = int(np.float64(0.5**0.5).view(np.int64))  # the bits of the least number whose logarithm is taken as it is


@kernel
def max_norms(offsets: NDArray[np.int64], value: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the largest magnitude in every row (of its bit pattern: NaN counts as larger than infinity)."""
    norms = np.empty(offsets.size - 1, np.float64)
    for row in range(norms.size):
        largest, bits = np.int32(0), value[offsets[row] : offsets[row + 1]].view(np.int32)
        for k in range(bits.size):
            largest = max(largest, np.int32(bits[k] & MAGNITUDE))
        norms[row] = np.int32(largest).view(np.float32)
    return norms


@kernel
def l1_norms(offsets: NDArray[np.int64], value: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the sum of magnitudes of every row; it is finite if and only if all entries are."""
    norms = np.empty(offsets.size - 1, np.float64)
    lanes = np.empty(LANES, np.float64)
    for row in range(norms.size):
        lanes[:] = 0.0
        entries = value[offsets[row] : offsets[row + 1]]
        added = add_magnitudes(entries, lanes)
        for k in range(added, entries.size):
            lanes[k - added] += np.float64(abs(entries[k]))
        norms[row] = lanes_total(lanes)
    return norms


@kernel
def l2_norms(
    offsets: NDArray[np.int64], index: NDArray[np.int32] | None, value: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the l2 norm of every row. Squares of float32 are exact in float64, so only the sums round."""
    norms = np.empty(offsets.size - 1, np.float64)
    lanes = np.empty(LANES, np.float64)
    for row in range(norms.size):
        lanes[:] = 0.0
        entries = value[offsets[row] : offsets[row + 1]]
        if index is None:
            added = add_squares(entries, lanes)
            for k in range(added, entries.size):
                lanes[k - added] += np.float64(entries[k]) ** 2
        else:
            coordinates = index[offsets[row] : offsets[row + 1]]
            for k in range(entries.size):
                lanes[coordinates[k] & (LANES - 1)] += np.float64(entries[k]) ** 2
        norms[row] = math.sqrt(lanes_total(lanes))
    return norms


@kernel
def lp_norms(
    offsets: NDArray[np.int64], index: NDArray[np.signedinteger] | None, value: NDArray[np.float32], p: float
) -> NDArray[np.float64]:
    """Return M (sum_i (|x_i| / M)^p)^(1/p), M the largest magnitude, so that nothing overflows or vanishes.

    In float64, summed in lanes by coordinate and the lanes in halves, as in `l2_norms`. For p = 1 it is the sum of the
    |x_i|. The norm of a row with NaN or infinity is M.
    """
    norms = max_norms(offsets, value) if p != 1.0 else np.ones(offsets.size - 1, np.float64)
    power, lanes = np.empty(RUN, np.float64), np.empty(LANES, np.float64)
    for row in range(norms.size):
        largest = norms[row]
        if largest > 0.0 and math.isfinite(largest):
            lanes[:] = 0.0
            first, last = offsets[row], offsets[row + 1]
            for start in range(first, last, RUN):
                x = value[start : min(start + RUN, last)]
                added = add_magnitudes(x, lanes) if p == 1.0 and index is None else 0
                if added < x.size:
                    power[x.size :] = 0.0
                    _raise_to(x, 1.0 / largest, p, power)
                if index is None:
                    for strip in range(added, x.size, LANES):
                        for lane in range(LANES):
                            lanes[lane] += power[np.uint64(strip + lane)]
                else:
                    for k in range(x.size):
                        lanes[np.uint64(index[start + k] & (LANES - 1))] += power[k]
            norms[row] = largest * lanes_total(lanes) ** (1.0 / p)
    return norms


@kernel
def rounded_up(norms: NDArray[np.float64]) -> tuple[NDArray[np.float32], bool]:
    """Return the norms as float32, rounded up (to infinity beyond its range; NaN stays), and whether all are finite."""
    scale, finite = np.empty(norms.size, np.float32), True
    bits = scale.view(np.int32)
    for row in range(norms.size):
        scale[row] = norms[row]
        if np.float64(scale[row]) < norms[row]:
            bits[row] += 1  # the next float32
        finite = finite and math.isfinite(scale[row])
    return scale, finite


@kernel
def l2_scales(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32] | None,
    value: NDArray[np.float32],
    out: NDArray[np.float32],
) -> int:
    """Write the l2 norm of every row, rounded up to float32; return 0 if all are finite, else 1."""
    scale, finite = rounded_up(l2_norms(offsets, index, value))
    out[:] = scale
    return 0 if finite else 1


@kernel
def lp_scales(
    offsets: NDArray[np.int64],
    index: NDArray[np.int32] | None,
    value: NDArray[np.float32],
    p: float,
    out: NDArray[np.float32],
) -> int:
    """Write the lp norm of every row, rounded up to float32; return 0 if all are finite, else 1."""
    scale, finite = rounded_up(lp_norms(offsets, index, value, p))
    out[:] = scale
    return 0 if finite else 1


@kernel
def max_scales(offsets: NDArray[np.int64], value: NDArray[np.float32], out: NDArray[np.float32]) -> int:
    """Write the largest magnitude in every row; return 0 if all are finite, else 1."""
    scale, finite = rounded_up(max_norms(offsets, value))
    out[:] = scale
    return 0 if finite else 1


@kernel
def _raise_to(x: NDArray[np.float32], inverse: float, p: float, out: NDArray[np.float64]) -> None:
    """Write (|x| inverse)^p, which is at most 1: by products and a root if p is a multiple of 1/2 up to 16."""
    whole = math.floor(p)
    for k in range(x.size):
        out[k] = abs(np.float64(x[k])) * inverse
    if p > 16.0 or (p != whole and p != whole + 0.5):
        _to_powers(out[: x.size], p)
        return
    if p != whole:
        for k in range(x.size):
            out[k] *= math.sqrt(out[k])
    for _ in range(int(whole) - 1):
        for k in range(x.size):
            out[k] *= abs(np.float64(x[k])) * inverse


@kernel
def _to_powers(x: NDArray[np.float64], p: float) -> None:
    """Replace every x from 0 to 1 by x^p = 2^(p log2 x), right to within (1.5 p |log2 x| + 3) 2^-52 of itself.

    By series, of log2 m = 2/ln 2 artanh((m - 1)/(m + 1)) for x = 2^e m, 1/2 <= m^2 < 2, and of 2^f, |f| <= 1/2, as far
    as float64 shows; below 2^-1000 it is taken as 2^-1000. That the compiler makes vectors of, as it does not of `**`.
    """
    bits = x.view(np.int64)
    for k in range(x.size):
        word = bits[k]
        exponent = (word - _ROOT) >> 52
        bits[k] = word - (exponent << 52)
        ratio = (x[k] - 1.0) / (x[k] + 1.0)
        log = 0.0
        for i in range(len(_LOG)):
            log = fused(log, ratio * ratio, _LOG[len(_LOG) - 1 - i])
        y = max(p * fused(log, ratio, np.float64(np.int32(exponent))), -1000.0)
        near = np.floor(y + 0.5)
        power = 0.0
        for i in range(len(_EXP)):
            power = fused(power, y - near, _EXP[len(_EXP) - 1 - i])
        x[k] = power
        bits[k] = bits[k] + (np.int64(np.int32(near)) << 52) if word != 0 else 0
