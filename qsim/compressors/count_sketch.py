"""Count sketches: few sums that are the same for all vectors, so that sketches add up."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Memory, Message, SharedSupport, Vectors, dense_offsets
from qsim.batch.planned import plan_vectors
from qsim.compressors.base import INFINITE, Compressor, NotFiniteError, as_float32, require_finite_floats
from qsim.options import option, whole
from qsim.program import NoProgram, Program


@final
@option
class CountSketch(Compressor):
    r"""Count sketch: sums of coordinates with random signs, in tables of few cells.

    In each table every coordinate :math:`i` falls into a random cell :math:`h(i)` with a random sign :math:`s(i)`, and
    a cell holds the sum of :math:`s(i) v_i` over what falls into it. :math:`Q(v)_i` is the mean over the tables of
    :math:`s(i)` times the cell of :math:`i`. With :math:`k = \mathrm{tables}` times cells numbers it is unbiased with
    variance :math:`\omega = (n - 1)/k`, attained by every :math:`v`.

    Parameters
    ----------
    tables : int
        The number of tables, from 1 to 256.
    cells : int
        Cells of a table, from 1 to :math:`2^{23}`.

    Raises
    ------
    ValueError
        For other numbers.

    Notes
    -----
    A sketch is linear in :math:`v`, so messages that are made with one key are summed in flight, and the sketch of a
    sum is the sum of sketches: no other compressor sums all coordinates in :math:`k` numbers. For one vector alone
    Rand-k has a smaller variance, :math:`n/k - 1`.

    As estimates are means, and not medians, only :math:`k` counts, and one table is the fastest. Of a vector with few
    large coordinates :math:`Q(v)` has these nearly right, so the largest of the sum of sketches are the heavy hitters
    of a sum of vectors that nobody has. Vectors with :math:`n \leq k` are sent as they are.

    Precision: sums are taken in float64 and rounded once to float32. Cells and signs are the same for all rows with one
    key. With :math:`t` tables a row of :math:`z` entries costs :math:`O(t z)`, and :math:`O(t n)` to read.

    References
    ----------
    .. [1] Charikar, Chen, Farach-Colton, "Finding frequent items in data streams", ICALP 2002 (with medians; the
           variance of the mean derived here).
    .. [2] Ivkin, Rothchild, Ullah, Braverman, Stoica, Arora, "Communication-efficient distributed SGD with sketching",
           NeurIPS 2019 (for gradients).

    Examples
    --------
    >>> import qsim
    >>> sketch, v = qsim.CountSketch(tables=1, cells=4), [0.0, 0.0, 8.0, 0.0, 0.0, 0.0]
    >>> message = sketch.quantize(v, qsim.Key(0))
    >>> message.value.tolist()
    [0.0, -8.0, 0.0, 0.0]
    """

    tables: int
    cells: int

    emits = SharedSupport
    keeps_sparse = False

    def __post_init__(self) -> None:
        whole("tables", self.tables, least=1, most=256)
        whole("cells", self.cells, least=1, most=1 << 23)

    @property
    def summable(self) -> bool:
        """Whether messages made with one key can be summed in flight: they can."""
        return True

    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        """Sketch a batch. Raises NotFiniteError for NaN, infinity, and sums above float32's range."""
        from qsim.kernels.count_sketch import sketch

        v, k = as_float32(v), self._kept(v.n)
        require_finite_floats(v)
        if k == v.n:
            return SharedSupport(v.n, dense_offsets(v.rows, k), k, v.to_dense().reshape(-1) + np.float32(0))
        sums = np.empty((v.rows, self.tables, self.cells))
        sketch(keys, v.offsets, v.index, v.value, self.tables, self.cells, sums)
        with np.errstate(over="ignore"):
            value = sums.astype(np.float32).reshape(v.rows, k)
        too_large = ~np.isfinite(value).all(axis=1)
        if too_large.any():
            row = int(np.argmax(too_large))
            raise NotFiniteError(f"row {row} of the batch has sums above float32's range (3.4e38)", row)
        return SharedSupport(v.n, dense_offsets(v.rows, k), k, value.reshape(-1))

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        from qsim.kernels.count_sketch import sketch
        from qsim.kernels.rounds import first_wrong, rounded
        from qsim.kernels.select import first_of_rows_at_least

        k = self._kept(v.n)
        if k == v.n:
            raise NoProgram
        offsets, sums = dense_offsets(v.rows, k), np.empty((v.rows, self.tables, self.cells))
        value = np.empty(v.rows * k, np.float32)
        program.call(first_of_rows_at_least, v.offsets, v.value, INFINITE, stop="not negative")
        program.call(sketch, keys, v.offsets, v.index, v.value, self.tables, self.cells, sums)
        program.call(rounded, sums.reshape(-1), value)
        program.call(first_wrong, offsets, value, stop="not negative")
        return SharedSupport(v.n, offsets, k, value)

    def plan_decompress(self, program: Program, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        from qsim.kernels.count_sketch import read_sketch

        if not isinstance(message, SharedSupport):
            return plan_vectors(program, message)
        n, out = message.n, np.empty(message.rows * message.n, np.float32)
        sums = message.value.reshape(message.rows, self.tables, self.cells)
        program.call(read_sketch, keys, n, self.tables, self.cells, sums, out)
        return Vectors(n, dense_offsets(message.rows, n), None, out)

    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return the estimates of all coordinates. Raises ValueError for a message of another size."""
        from qsim.kernels.count_sketch import read_sketch

        if not isinstance(message, SharedSupport):
            return message.vectors()
        n, k = message.n, self._kept(message.n)
        if message.k != k:
            raise ValueError(f"{self!r} makes {k} numbers per row, the message has {message.k}")
        if k == n:
            return Vectors(n, message.offsets, None, message.value)
        out = np.empty(message.rows * n, np.float32)
        sums = message.value.astype(np.float32).reshape(message.rows, self.tables, self.cells)
        read_sketch(keys, n, self.tables, self.cells, sums, out)
        return Vectors(n, dense_offsets(message.rows, n), None, out)

    def variance(self, n: int) -> float:
        """Return omega = (n - 1)/k, or 0 for n <= k."""
        return 0.0 if self._kept(n) == n else (n - 1) / (self.tables * self.cells)

    def exact_variance(self, v: ArrayLike) -> float:
        """Return E ||Q(v) - v||^2 = omega ||v||^2."""
        vector = np.asarray(v, np.float64)
        return self.variance(vector.size) * float(vector @ vector)

    def _kept(self, n: int) -> int:
        return min(n, self.tables * self.cells)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(tables=1, cells=64), cls(tables=3, cells=20))
