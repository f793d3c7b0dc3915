"""Bits that the lengths of packets are compared with. None of these is a code, and none is counted as sent."""

from __future__ import annotations

from math import lgamma, log

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Levels


def entropy_bits(message: Levels) -> NDArray[np.float64]:
    r"""Return n H for every row, with H the order-0 entropy of its levels.

    :math:`H = -\sum_l p_l \log_2 p_l` over the values :math:`l` of a level, zeros included, with :math:`p_l` the share
    of the coordinates that have it.

    Parameters
    ----------
    message : Levels
        The levels.

    Returns
    -------
    ndarray of float64, shape (rows,)
        Bits.

    Notes
    -----
    It is what an ideal coder of independent levels pays that knows the shares. The scales, and the shares themselves,
    are not included. It is no lower bound: a code of the whole vector at once can be slightly shorter.

    Examples
    --------
    >>> entropy_bits(Levels.single([0, 1, 0, -1], scale=1.0, s=1)).tolist()
    [6.0]
    """
    bits = np.zeros(message.rows)
    for row in range(message.rows):
        first, last = message.offsets[row], message.offsets[row + 1]
        counts = np.unique(message.level[first:last], return_counts=True)[1]
        counts = np.append(counts, message.n - (last - first))
        counts = counts[counts > 0]
        bits[row] = float((counts * np.log2(message.n / counts)).sum())
    return bits


def position_bits(n: int, k: int) -> float:
    r"""Return the bits that enumerative coding needs for the positions of the non-zeros: log2 of n over k.

    Parameters
    ----------
    n : int
        The number of coordinates.
    k : int
        The number of non-zeros.

    Returns
    -------
    float
        Bits.

    Raises
    ------
    ValueError
        Unless :math:`0 \leq k \leq n`.

    References
    ----------
    .. [1] Cover, "Enumerative source encoding", IEEE Transactions on Information Theory, 1973.

    Examples
    --------
    >>> round(position_bits(4, 2), 9) == round(float(np.log2(6)), 9)
    True
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must be from 0 to n = {n}, found {k}")
    return max(0.0, (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2))


__all__ = ["entropy_bits", "position_bits"]


def __dir__() -> list[str]:
    return __all__
