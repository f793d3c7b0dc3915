"""Perm-K: workers share out the coordinates by a random permutation that they have in common."""

from __future__ import annotations

from math import gcd
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Message, SharedSupport, Vectors, dense_offsets
from qsim.compressors.drawn import Call, Drawn
from qsim.keys import NUMBER_BITS
from qsim.options import option, whole


@final
@option
class PermK(Drawn):
    r"""Workers share out the coordinates at random, so that each coordinate is sent by one of them, or by some.

    :math:`Q_i(v)_j = (W/c) v_j` if coordinate :math:`j` is one of those that worker :math:`i` of :math:`W` gets, and 0
    otherwise. All draw together who gets what: each coordinate goes to :math:`c` workers, any :math:`c` of them with
    the same probability, and each worker gets as many, :math:`k = \min(n, \lceil n g/W \rceil c/g)`, with :math:`g` the
    greatest common divisor of :math:`W` and :math:`c` (the last ones are padded with zeros).

    The mean of the messages is that over the :math:`c` workers that a coordinate has, and exact for equal vectors. With
    the errors of the workers correlated, and with a bar for the mean over the workers,
    :math:`\mathbb{E} \|\bar Q - \bar v\|^2 = A (\frac{1}{W} \sum_i \|v_i\|^2 - \|\bar v\|^2)`, what the vectors differ
    by times :math:`A = (W - c)/(c (W - 1))`, whatever :math:`n`, :math:`W` and :math:`c` are. Alone, each message is
    unbiased with variance :math:`\omega = W/c - 1`, attained by every :math:`v`.

    Parameters
    ----------
    workers : int
        The number :math:`W` of workers, from 1 to :math:`2^{24}`: that of the run, or that which `SampledClients` draws
        for a round.
    copies : int, default 1
        The number :math:`c` of workers that get a coordinate, from 1 to :math:`W`.

    Raises
    ------
    ValueError
        For any other numbers.

    Notes
    -----
    A message holds :math:`k` values alone: both ends know who gets what and the number of the worker. Messages of
    different workers have different coordinates, so they are not summed in flight.

    With weights :math:`p_i` in the sum, a worker's message still is unbiased, and the error of the weighted mean is
    :math:`A (W \sum_i p_i^2 \|v_i\|^2 - \|\sum_i p_i v_i\|^2)`. So it is for clients who sit out a round, or whose
    messages are late: their :math:`p_i` is 0, and the coordinates they would have sent are missing. If :math:`W` is the
    number of clients that are drawn for a round, those that are there share out all coordinates, by their order.

    Precision: :math:`(W/c) v_j` is rounded once to float32. A vector for which this may overflow is refused.

    A batch costs :math:`O(c n)` for the draw, once for all its rows, and :math:`O(k + \mathrm{entries})` per row. A
    sparse vector stays sparse. `MARINA` takes the longer step that one copy allows, and `TAMUNA` needs two copies or
    more.

    References
    ----------
    .. [1] Szlendak, Tyurin, Richtarik, "Permutation compressors for provably faster distributed nonconvex
           optimization", ICLR 2022 (errors for any n, W, weights and copies derived here).
    .. [2] Condat, Agarsky, Richtarik, "Provably doubly accelerated federated learning: the first theoretically
           successful combination of local training and communication compression", arXiv 2210.13277, 2022 (copies).

    Examples
    --------
    >>> import numpy as np, qsim
    >>> perm, v = qsim.PermK(workers=3), np.float32([1, 2, 3, 4, 5])
    >>> keys = qsim.Key(0).numbered.words(0, 3)
    >>> rows = qsim.batch.Vectors.dense(np.stack([v, v, v]))
    >>> sent = perm.decompress(perm.compress(rows, keys), keys).to_dense()
    >>> sent.tolist()
    [[0.0, 6.0, 0.0, 0.0, 15.0], [3.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9.0, 12.0, 0.0]]
    >>> sent.mean(axis=0)
    array([1., 2., 3., 4., 5.], dtype=float32)
    """

    workers: int
    copies: int = 1

    def __post_init__(self) -> None:
        whole("workers", self.workers, least=1, most=1 << NUMBER_BITS)
        whole("copies", self.copies, least=1, most=self.workers)

    @property
    def correlated(self) -> int:
        """The number W of workers, who draw together."""
        return self.workers

    def most_kept(self, n: int) -> int:
        common = gcd(self.workers, self.copies)
        return min(n, -(-n * common // self.workers) * self.copies // common)

    def factor(self, n: int) -> float:
        """Return W/c: each coordinate has c workers."""
        return self.workers / self.copies

    def joint_variance(self, n: int) -> tuple[float, float]:
        """Return A = B = (W - c)/(c (W - 1)), which is exact."""
        part = (self.workers - self.copies) / (self.copies * max(1, self.workers - 1))
        return part, part

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return the vectors of a message made with these keys. Raises ValueError if the padding is not zero."""
        found = super().decompress(message, keys)
        assert found.index is not None
        if found.index.size and found.index.max() >= found.n:
            raise ValueError(f"{self!r} sends zeros for coordinates behind the last, the message has other numbers")
        return found

    def _message(self, call: Call, v: Vectors, keys: NDArray[np.uint64]) -> Message:
        from qsim.kernels.drawn import take_dealt

        k, positions = self.most_kept(v.n), self._drawn(call, v.n, keys)
        value = np.empty(v.rows * k, v.value.dtype)
        call(take_dealt, v.offsets, v.index, v.value, v.n, positions, self.factor(v.n), value)
        return SharedSupport(v.n, dense_offsets(v.rows, k), k, value)

    def _draw(self, call: Call, n: int, keys: NDArray[np.uint64], positions: NDArray[Any]) -> None:
        from qsim.kernels.drawn import deal

        call(deal, keys, self.workers, self.copies, n, positions)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(workers=8), cls(workers=6, copies=4))
