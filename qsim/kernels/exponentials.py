"""Exponentials and logarithms that LLVM vectorises, as calls of libm are not.

Their operations are those of glibc 2.28 and later on x86 with fused multiply-add: the results are the same to the last
bit, and here they are so on every machine. The algorithms are those of Arm's optimized routines (`exp`) and of Sun's
fdlibm (`log1p`).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from qsim.kernels._jit import inlined

LARGEST = 512.0
"""`exp64` takes numbers below this magnitude."""

_CODE: Any = cgutils  # untyped


@intrinsic
def _fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Generate the code of `fma`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()] * 3)
        return builder.call(_CODE.get_or_insert_function(builder.module, kind, "llvm.fma.f64"), arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


fma = cast("Callable[[float, float, float], float]", _fma)
"""Return a b + c, rounded once."""


def _powers(size: int, shift: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the bits of 2^(k / size) less k << shift, and by which part of themselves these numbers are too small."""
    bits, short = np.empty(size, np.int64), np.empty(size)
    with localcontext() as context:
        context.prec = 50
        for k in range(size):
            power = Decimal(2) ** (Decimal(k) / size)
            rounded = Decimal(float(power))
            bits[k], short[k] = np.float64(rounded).view(np.int64) - (k << shift), float(power / rounded - 1)
    return bits, short


_BITS, _SHORT = _powers(128, 45)
_BITS_32, _ = _powers(32, 47)
_ROUND = 1.5 * 2.0**52  # what is added to it becomes whole
_PER_LN2 = float.fromhex("0x1.71547652b82fep0")  # 1 / ln 2
_LN2_HIGH, _LN2_LOW = float.fromhex("-0x1.62e42fefa0000p-8"), float.fromhex("-0x1.cf79abc9e3b39p-47")  # / 128
_E2, _E3 = float.fromhex("0x1.ffffffffffdbdp-2"), float.fromhex("0x1.555555555543cp-3")
_E4, _E5 = float.fromhex("0x1.55555cf172b91p-5"), float.fromhex("0x1.1111167a4d017p-7")
_F1, _F2 = float.fromhex("0x1.62e42ff0c52d6p-1") / 32, float.fromhex("0x1.ebfce50fac4f3p-3") / 32**2
_F3 = float.fromhex("0x1.c6af84b912394p-5") / 32**3
_BEYOND = np.float32(150.0)  # float32 has neither e^150 nor e^-150


@inlined
def exp64(x: float) -> float:
    """Return e^x, for |x| below LARGEST: 2^(k / 128) (1 + a polynomial of the rest)."""
    shifted = fma(128 * _PER_LN2, x, _ROUND)
    whole = np.float64(shifted).view(np.int64)
    k = shifted - _ROUND
    rest = fma(k, _LN2_LOW, fma(k, _LN2_HIGH, x))
    place, square = np.uint64(whole) & np.uint64(127), rest * rest
    tail = fma(square, fma(rest, _E3, _E2), _SHORT[place] + rest)
    tail = fma(square * square, fma(rest, _E5, _E4), tail)
    power = np.int64(_BITS[place] + (whole << 45)).view(np.float64)
    return fma(power, tail, power)


@inlined
def exp32(x: np.float32) -> np.float32:
    """Return e^x in float32, for any x: 2^(k / 32) times a polynomial of the rest, in float64."""
    near = min(max(x, -_BEYOND), _BEYOND) if x == x else x
    wide = np.float64(near)
    shifted = fma(32 * _PER_LN2, wide, _ROUND)
    whole = np.float64(shifted).view(np.int64)
    rest = fma(32 * _PER_LN2, wide, -(shifted - _ROUND))
    power = np.int64(_BITS_32[np.uint64(whole) & np.uint64(31)] + (whole << 47)).view(np.float64)
    return np.float32(fma(fma(_F3, rest, _F2), rest * rest, fma(_F1, rest, 1.0)) * power)


def exponential(x: Any) -> Any:
    """Return e^x in the precision of x, where `exp32` or `exp64` has it."""
    raise NotImplementedError("only kernels call it")


@overload(exponential, inline="always", strict=False)
def _exponential(x: Any) -> Any:
    return exp32.py_func if x == types.float32 else exp64.py_func


_SPLIT = np.int64(0x3FDA827A << 32).view(np.float64)  # just below sqrt(2) - 1
_LN2, _LN2_REST = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_L1, _L2, _L3 = 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01
_L4, _L5, _L6 = 2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01
_L7 = 1.479819860511658591e-01


@inlined
def log1p64(x: float) -> float:
    """Return log(1 + x), for x from 0 to 1: k ln 2 + log(1 + f), with k = 0 or 1 and f near 0."""
    u = 1.0 + x
    k = 1.0 if x >= _SPLIT else 0.0
    f = 0.5 * u - 1.0 if x >= _SPLIT else x
    lost = fma(k, _LN2_REST, k * ((x - (u - 1.0)) / u))
    half, s = 0.5 * f * f, f / (2.0 + f)
    z = s * s
    z2 = z * z
    z4 = z2 * z2
    series = fma(z4, fma(z, _L5, _L4), fma(z, _L1, z2 * fma(z, _L3, _L2)))
    series = s * (fma(z2 * z4, fma(z, _L7, _L6), series) + half)
    short = half * fma(-0.66666666666666666, f, 1.0) - lost
    rest = short if f > -(2.0**-20) else half - (lost + series)
    upper, lower = fma(k, _LN2, -(rest - f)), f - (half - series)
    tiny = x - x * x * 0.5
    found = upper if x >= _SPLIT else lower
    return tiny if x < 2.0**-29 else found


@inlined
def all_small(numbers: NDArray[np.floating]) -> bool:
    """Return whether `exponential` has e^x and e^-x for all numbers."""
    large = 0
    for k in range(numbers.size):
        large += int(not abs(numbers[k]) < numbers.dtype.type(LARGEST))
    return large == 0
