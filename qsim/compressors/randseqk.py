"""RandSeq-k: k coordinates in a row, from a random one on."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Message, SharedSupport, Vectors, dense_offsets
from qsim.compressors.drawn import Call, Drawn
from qsim.compressors.sparsifier import kept_of, take_kept
from qsim.options import option


@final
@option
class RandSeqK(Drawn):
    r"""A fixed number of coordinates in a row, from one on that is drawn at random.

    With :math:`k` coordinates of :math:`n`, :math:`Q(v)_i = (n/k) v_i` for :math:`i = s`, :math:`s + 1`, ...,
    :math:`s + k - 1` modulo :math:`n`, and 0 otherwise; every start :math:`s` has the same probability. Unbiased, with
    variance :math:`\omega = n/k - 1`, that of `RandK`, attained by every :math:`v`: each coordinate is drawn as often.
    For :math:`k \geq n` everything is sent unchanged.

    Parameters
    ----------
    k : int or float
        The number of coordinates (an int of at least 1), or the fraction of them (a float in (0, 1)), which stands for
        :math:`\max(1, \operatorname{round}(k n))`.

    Raises
    ------
    ValueError
        If `k` is an int below 1 or a float outside (0, 1).

    Notes
    -----
    A message holds the :math:`k` values alone: both ends draw the start from the row's key. (To a receiver without the
    key it would be :math:`\log_2(n)` bits, whatever :math:`k` is.) Messages made with one key can be summed in flight.

    Precision: :math:`(n/k) v_i` is rounded once to float32. A vector for which this may overflow is refused.

    Memory is read in its order, so a dense row costs what copying :math:`k` numbers does; a sparse one
    :math:`O(k + \mathrm{entries})`, and it stays sparse.

    References
    ----------
    .. [1] Burlachenko and Richtarik, "Unlocking FedNL: self-contained compute-optimized implementation",
           arXiv:2410.08760, 2024 (variance derived here).

    Examples
    --------
    >>> import qsim
    >>> qsim.RandSeqK(2).quantize([1.0, 2.0, 3.0, 4.0], qsim.Key(2)).value
    array([2., 4.], dtype=float32)
    """

    k: int | float

    def __post_init__(self) -> None:
        take_kept(self)

    @property
    def summable(self) -> bool:
        """Whether messages made with one key can be summed in flight: they can."""
        return True

    def most_kept(self, n: int) -> int:
        return kept_of(self.k, n)

    def _message(self, call: Call, v: Vectors, keys: NDArray[np.uint64]) -> Message:
        from qsim.kernels.drawn import take_runs

        k = self.most_kept(v.n)
        value = np.empty(v.rows * k, v.value.dtype)
        call(take_runs, keys, k, v.n, v.offsets, v.index, v.value, self.factor(v.n), value)
        return SharedSupport(v.n, dense_offsets(v.rows, k), k, value)

    def _draw(self, call: Call, n: int, keys: NDArray[np.uint64], positions: NDArray[Any]) -> None:
        from qsim.kernels.drawn import place_runs

        call(place_runs, keys, n, self.most_kept(n), positions)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(k=10),)
