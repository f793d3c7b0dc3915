"""Bits of messages by the formulas that papers count with, to be put beside the bytes that are sent.

A published curve over bits is drawn over a formula. `Trace.axis("formula_bits_up")` is that axis, by the formulas here;
`docs/formulas.md` holds them against bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil, log2, sqrt
from typing import Any, Literal

from qsim.compressors import (
    DRIVE,
    EDEN,
    NUQSGD,
    QSGD,
    QUICFL,
    Bernoulli,
    Bucketed,
    CompK,
    Compose,
    Compressor,
    CorrelatedQuantization,
    CountSketch,
    ErrorFeedback,
    HardThreshold,
    Identity,
    Kashin,
    MixK,
    NaturalCompression,
    NaturalDithering,
    OneBit,
    PerLayer,
    PermK,
    Philox,
    PowerSGD,
    RandK,
    RandSeqK,
    RankR,
    RoundedFloats,
    Scaled,
    ScaledSign,
    Sign,
    SubtractiveDither,
    SymmetricRankR,
    TernGrad,
    ThreePCv2,
    TopK,
    TopLEK,
    Wangni,
)
from qsim.compressors.sparsifier import kept_of
from qsim.options import number, whole

FLOAT = 32
"""The bits of a number."""


@dataclass(frozen=True)
class Formula:
    """A formula for the bits of a message, and who counts so.

    Parameters
    ----------
    text : str
        The formula, of vectors of length :math:`n`.
    source : str
        The paper, or how it is counted where none is named.
    bits : callable
        Takes the compressor and :math:`n`; returns the bits.
    known : {"read", "counted here", "from memory"}
        How the formula is known: read, in the paper or in code of authors of it, as `source` says; counted here from
        what a message holds; or quoted from memory and not checked.

    Examples
    --------
    >>> import qsim
    >>> qsim.formulas.FORMULAS[qsim.NaturalCompression].text
    '9 n'
    """

    text: str
    source: str
    bits: Callable[[Any, int], float]
    known: Literal["read", "counted here", "from memory"]


def theorem_bits(n: int, levels: int) -> float:
    r"""Return the bits of QSGD's code for sparse levels: an expected length, by its theorem without the o(1).

    .. math::

        \left(3 + \frac{3}{2} \log_2 \frac{2 (s^2 + n)}{s (s + \sqrt{n})}\right) s (s + \sqrt{n}) + 32

    Parameters
    ----------
    n : int
        The length of the vector.
    levels : int
        The number :math:`s` of levels above zero.

    Returns
    -------
    float
        Bits.

    Raises
    ------
    ValueError
        If one of them is below 1.

    Notes
    -----
    The theorem is about :math:`s^2 + \sqrt{n} \leq n/2`, and its :math:`o(1)` is not zero at practical :math:`n`.

    References
    ----------
    .. [1] Alistarh, Grubic, Li, Tomioka, Vojnovic, "QSGD", NeurIPS 2017, Theorem 3.2.

    Examples
    --------
    >>> round(theorem_bits(10_000, 1))
    1491
    """
    n, s = whole("n", n, least=1), whole("levels", levels, least=1)
    kept = s * (s + sqrt(n))
    return (3 + 1.5 * log2(2 * (s**2 + n) / kept)) * kept + FLOAT


def fixed_width_bits(n: int, levels: int) -> float:
    """Return n (1 + ceil(log2(s + 1))) + 32: a sign and a level of fixed width for each coordinate, and the norm.

    Parameters
    ----------
    n : int
        The length of the vector.
    levels : int
        The number :math:`s` of levels above zero.

    Returns
    -------
    float
        Bits.

    Raises
    ------
    ValueError
        If one of them is below 1.

    Examples
    --------
    >>> fixed_width_bits(100, 7)
    432.0
    """
    n, s = whole("n", n, least=1), whole("levels", levels, least=1)
    return float(n * (1 + ceil(log2(s + 1))) + FLOAT)


def sparse_bits(n: int, k: float, positions: bool = True) -> float:
    """Return k (32 + ceil(log2 n)): k numbers with their positions; without positions 32 k.

    Parameters
    ----------
    n : int
        The length of the vector.
    k : float
        How many numbers there are, perhaps on average.
    positions : bool, default True
        Whether positions are counted. The scripts of EF21 and of DASHA do not count them.

    Returns
    -------
    float
        Bits.

    Raises
    ------
    ValueError
        If `n` is below 1, or `k` not from 0 to :math:`n`.

    Examples
    --------
    >>> sparse_bits(1000, 10), sparse_bits(1000, 10, positions=False)
    (420.0, 320.0)
    """
    n, k = whole("n", n, least=1), number("k", k, least=0)
    if k > n:
        raise ValueError(f"k must be at most n = {n}, found {k}")
    return float(k * (FLOAT + positions * ceil(log2(n))))


def message_bits(compressor: Compressor, n: int) -> float | None:
    """Return the bits of a message by the formula of a compressor.

    Parameters
    ----------
    compressor : Compressor
        The compressor. One of your own may have its formula in a method `formula_bits(n)`.
    n : int
        The length of the vectors.

    Returns
    -------
    float or None
        Bits; None if there is no formula.

    Raises
    ------
    ValueError
        If `n` is below 1.

    Examples
    --------
    >>> import qsim
    >>> qsim.formulas.message_bits(qsim.TopK(10), 1000)
    420.0
    """
    whole("n", n, least=1)
    if hasattr(compressor, "formula_bits"):
        return float(compressor.formula_bits(n))
    if isinstance(compressor, (ErrorFeedback, Scaled, Philox)):
        return message_bits(compressor.compressor, n)
    if isinstance(compressor, Bucketed):
        part = message_bits(compressor.compressor, min(n, compressor.size))
        return None if part is None else part * ceil(n / compressor.size)
    if isinstance(compressor, PerLayer):
        pairs = zip(compressor.compressors, compressor.sizes(n), strict=True)
        parts = [message_bits(layer, size) for layer, size in pairs]
        return None if None in parts else sum(part for part in parts if part is not None)
    if isinstance(compressor, Compose):
        return _composed(compressor, n)
    if isinstance(compressor, ThreePCv2):
        parts = [message_bits(part, n) for part in (compressor.first, compressor.second)]
        return None if None in parts else sum(part for part in parts if part is not None)
    formula = FORMULAS.get(type(compressor))
    return None if formula is None else float(formula.bits(compressor, n))


def _composed(compressor: Compose, n: int) -> float | None:
    """Return the bits of the second's message about the k numbers that the first keeps, and of their positions."""
    first, second = compressor.first, compressor.second
    if not isinstance(first, (TopK, RandK, CompK, MixK)):
        return None
    k = first.most_kept(n)
    part = message_bits(second, k)
    return None if part is None else part + k * ceil(log2(n))


def _qsgd(compressor: QSGD, n: int) -> float:
    s = compressor.levels
    if compressor.norm == "l2" and s**2 + sqrt(n) <= n / 2:
        return theorem_bits(n, s)
    return fixed_width_bits(n, s)


def _kept(compressor: Any, n: int) -> float:
    return sparse_bits(n, compressor.most_kept(n))


def _drawn(compressor: Any, n: int) -> float:
    return sparse_bits(n, compressor.most_kept(n), positions=False)


def _rand_k(compressor: RandK, n: int) -> float:
    return _drawn(compressor, n) if compressor.positions == "drawn" else _kept(compressor, n)


def _each(bits: float, more: float, compressor: Any, n: int) -> float:
    return bits * n + more


def _bits_each(compressor: EDEN | CorrelatedQuantization, n: int) -> float:
    return compressor.bits * n + FLOAT


def _levels(more: int, compressor: Any, n: int) -> float:
    return fixed_width_bits(n, compressor.levels + more)


def _on_average(compressor: Bernoulli | Wangni, n: int) -> float:
    return sparse_bits(n, compressor.p * n if isinstance(compressor, Bernoulli) else kept_of(compressor.k, n))


def _kashin(compressor: Kashin, n: int) -> float:
    return 2 * compressor.bits * n + FLOAT * ceil(n / compressor.chunk)


def _sketch(compressor: CountSketch, n: int) -> float:
    return float(FLOAT * min(n, compressor.tables * compressor.cells))


def _eigenpairs(compressor: SymmetricRankR, n: int) -> float:
    d, r = compressor.shape(n)
    return float(FLOAT * min(n, r * (d + 1)))


def _factors(compressor: RankR | PowerSGD, n: int) -> float:
    rows, columns, rank = compressor.shape(n)
    return float(FLOAT * min(n, rank * (rows + columns)))


_FIXED = "n (1 + ceil(log2(s + 1))) + 32"
_WIDTH = "a sign and a level for each coordinate, and the norm"
_SPARSE = "k (32 + ceil(log2 n))"

FORMULAS: dict[type[Compressor], Formula] = {
    Identity: Formula("32 n", "float32", partial(_each, 32, 0), "counted here"),
    QSGD: Formula(
        "(3 + (3/2) log2(2 (s^2 + n)/(s (s + sqrt n)))) s (s + sqrt n) + 32 for l2 and s^2 + sqrt n <= n/2; else "
        + _FIXED,
        "Alistarh et al., NeurIPS 2017, Theorem 3.2 without its o(1); else "
        + _WIDTH
        + ", which is counted here (2.8 n + 32 at s = sqrt n in the code of FedNL)",
        _qsgd,
        "read",
    ),
    TernGrad: Formula(
        "2 n + 32",
        "Wen et al., NeurIPS 2017: log2(3) per coordinate, for which two bits are taken here",
        partial(_each, 2, 32),
        "from memory",
    ),
    NaturalCompression: Formula(
        "9 n",
        "Horvath et al., MSML 2022: the sign and 8 bits of exponent of a float32 (so in the code of MARINA and FedNL)",
        partial(_each, 9, 0),
        "read",
    ),
    NaturalDithering: Formula(
        _FIXED,
        _WIDTH + "; n (1 + ceil(log2 s)) in the code of MARINA, without level 0 and the norm",
        partial(_levels, 0),
        "counted here",
    ),
    NUQSGD: Formula("n (1 + ceil(log2(s + 2))) + 32", _WIDTH, partial(_levels, 1), "counted here"),
    SubtractiveDither: Formula(_FIXED, _WIDTH, partial(_levels, 0), "counted here"),
    CorrelatedQuantization: Formula("b n + 32", "b bits for each coordinate, and the norm", _bits_each, "counted here"),
    TopK: Formula(
        _SPARSE,
        "numbers and positions; 32 k in the code of EF21, DASHA and FedNL, 64 k in that of PowerSGD",
        _kept,
        "counted here",
    ),
    RandK: Formula(
        _SPARSE + "; 32 k if positions are drawn",
        "as Top-k; 32 k in the code of MARINA and FedNL",
        _rand_k,
        "counted here",
    ),
    RandSeqK: Formula("32 k", "numbers alone: positions are drawn", _drawn, "counted here"),
    PermK: Formula("32 k", "numbers alone: positions are drawn", _drawn, "counted here"),
    CompK: Formula(_SPARSE, "as Top-k", _kept, "counted here"),
    MixK: Formula("(k + k') (32 + ceil(log2 n))", "as Top-k", _kept, "counted here"),
    Bernoulli: Formula("p n (32 + ceil(log2 n))", "as Top-k, on average", _on_average, "counted here"),
    Wangni: Formula(_SPARSE, "as Top-k, on average", _on_average, "counted here"),
    Sign: Formula("n", "Bernstein et al., ICML 2018 (so in the code of PowerSGD)", partial(_each, 1, 0), "read"),
    ScaledSign: Formula(
        "n + 32",
        "Karimireddy et al., ICML 2019 (so in the code of PowerSGD, by a part of its authors)",
        partial(_each, 1, 32),
        "read",
    ),
    OneBit: Formula("n + 64", "Seide et al., Interspeech 2014: two means", partial(_each, 1, 64), "from memory"),
    DRIVE: Formula(
        "n + 32",
        "Vargaftik et al., NeurIPS 2021: n (1 + o(1)), for which a scale is taken",
        partial(_each, 1, 32),
        "read",
    ),
    EDEN: Formula(
        "b n + 32",
        "Vargaftik et al., ICML 2022 (in its code b bits for each coordinate, and a scale)",
        _bits_each,
        "read",
    ),
    Kashin: Formula(
        "2 b n + 32 ceil(n/c)",
        "two coefficients of b bits for each coordinate, and the largest of every c coordinates",
        _kashin,
        "counted here",
    ),
    CountSketch: Formula("32 min(n, k)", "the k sums of all tables", _sketch, "counted here"),
    RankR: Formula(
        "32 min(n, R (d + m))",
        "factors of d rows and m columns; 32 R d in the code of FedNL, whose matrices are symmetric",
        _factors,
        "counted here",
    ),
    SymmetricRankR: Formula(
        "32 min(n, R (d + 1))", "eigenpairs of d rows; 32 R d in the code of FedNL", _eigenpairs, "counted here"
    ),
    PowerSGD: Formula("32 min(n, r (d + m))", "Vogels et al., NeurIPS 2019 (so in its code)", _factors, "read"),
    QUICFL: Formula(
        "(b + 64/512) n + 32",
        "Ben Basat et al., ICML 2024: b bits for each coordinate, 64 for each of n/512 outliers, and the norm",
        lambda compressor, n: (compressor.bits + 64 / 512) * n + 32,
        "read",
    ),
    RoundedFloats: Formula("16 n", "the format", partial(_each, 16, 0), "counted here"),
}
"""The formula of each compressor, who counts so, and how that is known.

`Scaled`, `ErrorFeedback` and `Philox` have that of what is inside, `Bucketed` that of every bucket, `PerLayer` the sum
over the blocks, `ThreePCv2` that of both, and `Compose` of Top-k, Rand-k, comp or mix that of the second on k numbers,
and k ceil(log2 n).
"""

WITHOUT: dict[type[Compressor], str] = {
    HardThreshold: "how many numbers reach the threshold is the vector's",
    TopLEK: "how many numbers take the share of the energy is the vector's; at most what Top-k takes",
}
"""The compressors that have no formula, and why: their messages are as long as the vector says."""


__all__ = ["FORMULAS", "WITHOUT", "Formula", "fixed_width_bits", "message_bits", "sparse_bits", "theorem_bits"]


def __dir__() -> list[str]:
    return __all__
