"""Rand-k: k coordinates, drawn at random."""

from __future__ import annotations

from typing import Any, Literal, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Message, SharedSupport, Vectors, dense_offsets
from qsim.compressors.drawn import Call, Drawn
from qsim.compressors.sparsifier import kept_of, take_kept
from qsim.options import one_of, option


@final
@option
class RandK(Drawn):
    r"""A fixed number of coordinates, drawn at random without replacement.

    With :math:`k` coordinates of :math:`n`, :math:`Q(v)_i = (n/k) v_i` if :math:`i` is drawn, and 0 otherwise.
    Unbiased, with variance :math:`\omega = n/k - 1`, attained by every :math:`v`. For :math:`k \geq n` everything is
    sent unchanged.

    Parameters
    ----------
    k : int or float
        The number of coordinates (an int of at least 1), or the fraction of them (a float in (0, 1)), which stands for
        :math:`\max(1, \operatorname{round}(k n))`.
    positions : {"sent", "drawn"}, default "sent"
        With "sent" the message holds the coordinates and values of the non-zeros. With "drawn" it holds the :math:`k`
        values alone: both ends draw the coordinates from the row's key, so they cost no bits, and messages made with
        one key can be summed in flight. Both stand for the same vector.

    Raises
    ------
    ValueError
        If `k` is an int below 1 or a float outside (0, 1), or `positions` is another word.

    Notes
    -----
    Precision: :math:`(n/k) v_i` is rounded once to float32. A vector for which this may overflow is refused.

    A row costs :math:`O(k + \mathrm{entries})`, for :math:`n` up to :math:`2^{53}`. A sparse vector stays sparse.

    References
    ----------
    .. [1] Stich, Cordonnier, Jaggi, "Sparsified SGD with memory", NeurIPS 2018, Section 2.
    .. [2] R. W. Floyd's algorithm for the sample: Bentley and Floyd, Communications of the ACM 30, 1987.

    Examples
    --------
    >>> import qsim
    >>> qsim.compressors.RandK(2).quantize([1.0, 2.0, 3.0, 4.0], qsim.Key(1)).vectors().to_dense()
    array([[0., 4., 0., 8.]], dtype=float32)
    >>> qsim.compressors.RandK(2, positions="drawn").quantize([1.0, 2.0, 3.0, 4.0], qsim.Key(1)).value
    array([4., 8.], dtype=float32)
    """

    k: int | float
    positions: Literal["sent", "drawn"] = "sent"

    def __post_init__(self) -> None:
        take_kept(self)
        one_of("positions", self.positions, ("sent", "drawn"))

    @property
    def emits(self) -> type[Message]:
        return Floats if self.positions == "sent" else SharedSupport

    @property
    def summable(self) -> bool:
        """Whether messages made with one key can be summed in flight: drawn ones can."""
        return self.positions == "drawn"

    def most_kept(self, n: int) -> int:
        return kept_of(self.k, n)

    def _message(self, call: Call, v: Vectors, keys: NDArray[np.uint64]) -> Message:
        from qsim.kernels.select import take_positions

        k = self.most_kept(v.n)
        positions, value = self._drawn(call, v.n, keys), np.empty(v.rows * k, v.value.dtype)
        call(take_positions, v.offsets, v.index, v.value, positions, self.factor(v.n), value)
        drawn = SharedSupport(v.n, dense_offsets(v.rows, k), k, value)
        return drawn if self.positions == "drawn" else Floats.of(self._placed(call, drawn, positions))

    def _draw(self, call: Call, n: int, keys: NDArray[np.uint64], positions: NDArray[Any]) -> None:
        from qsim.kernels.select import draw_positions

        call(draw_positions, keys, n, self.most_kept(n), positions)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(k=10), cls(k=10, positions="drawn"))
