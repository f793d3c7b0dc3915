"""Norms of rows, which levels are fractions of, and numbers too large for a format."""

from __future__ import annotations

from typing import Literal, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Vectors
from qsim.compressors.base import NotFiniteError, require_finite
from qsim.options import number, one_of
from qsim.program import Program

Norm = Literal["l2", "max"] | float
"""Which norm: "l2", "max", or a number p of at least 1 for (sum_i |v_i|^p)^(1/p)."""

FEW = 8
"""Up to this many levels of the l2 norm are few: in a dense vector most are 0, 1 or 2."""


def few_at(norm: Norm) -> bool:
    """Tell whether a norm is so large that few levels of it are reached: l2's, and larger ones."""
    return norm == "l2" or (norm != "max" and float(norm) <= 2)


def require_norm(norm: Norm) -> None:
    """Raise ValueError for what names no norm."""
    if isinstance(norm, str):
        one_of("norm", norm, ("l2", "max"))
    else:
        number("norm, if neither 'l2' nor 'max',", norm, least=1)


def row_norms(v: Vectors, norm: Norm) -> NDArray[np.float32]:
    """Return the norm of every float32 row, rounded up to float32.

    Raises NotFiniteError for NaN, infinity and a norm above float32's range.
    """
    from qsim.kernels.norms import l2_norms, lp_norms, max_norms, rounded_up

    if norm == "max":
        norms = max_norms(v.offsets, v.value)
    elif norm in ("l2", 2):
        norms = l2_norms(v.offsets, v.index, v.value)
    else:
        norms = lp_norms(v.offsets, v.index, v.value, float(norm))
    scale, finite = rounded_up(norms)
    if not finite:
        require_finite(v)
        row = int(np.argmax(norms))
        raise NotFiniteError(
            f"row {row} of the batch has norm {norms[row]:.6g}, above float32's range (3.4e38) on the wire",
            row,
        )
    return scale


def plan_norms(program: Program, v: Vectors, norm: Norm) -> NDArray[np.float32]:
    """Have a program compute the norms of rows, as `row_norms` does; return where. It ends where one is refused."""
    from qsim.kernels.norms import l2_scales, lp_scales, max_scales

    scale = np.empty(v.rows, np.float32)
    if norm == "max":
        program.call(max_scales, v.offsets, v.value, scale, stop="not zero")
    elif norm in ("l2", 2):
        program.call(l2_scales, v.offsets, v.index, v.value, scale, stop="not zero")
    else:
        program.call(lp_scales, v.offsets, v.index, v.value, float(norm), scale, stop="not zero")
    return scale


def exact_norm(v: ArrayLike, norm: Norm) -> float:
    """Return the norm of a vector in float64."""
    vector = np.asarray(v, np.float64)
    if isinstance(norm, str):
        return float(np.linalg.norm(vector, 2 if norm == "l2" else np.inf))
    largest = float(np.abs(vector).max(initial=0.0))
    return largest * float(np.linalg.norm(vector / largest, norm)) if largest > 0 else 0.0


def spread(n: int, norm: Norm) -> float:
    """Return the largest n N^2 / ||v||^2 of vectors v of length n with norm N: n^(2/p) for p < 2, and n otherwise.

    Attained by constant vectors for p <= 2, and by single entries for p >= 2.
    """
    return float(n) if isinstance(norm, str) else float(n) ** (2 / min(norm, 2))


def refuse_above(v: Vectors, most: float, why: str) -> NoReturn:
    """Raise NotFiniteError for the first NaN or infinity, else the first magnitude above `most`; there is one."""
    require_finite(v)
    place = int(np.argmax(np.abs(v.value) > most))
    row = int(np.searchsorted(v.offsets, place, side="right")) - 1
    coordinate = place - int(v.offsets[row]) if v.index is None else int(v.index[place])
    raise NotFiniteError(f"row {row} of the batch holds {v.value[place]} at coordinate {coordinate}: {why}", row)
