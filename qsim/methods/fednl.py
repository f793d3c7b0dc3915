"""FedNL: Newton's method with Hessians that are learnt from compressed differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors, dense_offsets, inner
from qsim.block import Block
from qsim.compressors.triangles import column_starts, matrix_of, sizes, triangle_length
from qsim.methods.base import Exchange, Method, Task, refuse_absences, refuse_unfit
from qsim.objectives import LinearModel, Objective
from qsim.options import number, one_of, option
from qsim.problem import Problem, TheoryError
from qsim.weights import Replica, Weights

_MOST = 2048
_AT_ONCE = 2**23  # entries of Hessians in one product of sparse matrices
_HALVINGS, _SUFFICIENT, _ROUNDING = 30, 0.5, 1e-15


@final
@option
class FedNL(Method):
    r"""FedNL: Newton's method with Hessians that are learnt from compressed differences.

    Every round workers send their gradients exactly, and :math:`S_i = C(\nabla^2 f_i(w) - H_i)`,
    :math:`H_i \leftarrow H_i + \mathrm{shift}\, S_i`. The server takes :math:`w \leftarrow w - M^{-1} \nabla F(w)`,
    where :math:`M` is the mean :math:`H` of the :math:`H_i` as they were before, made positive definite: its
    eigenvalues below `floor` are raised to it, or the mean of :math:`\|\nabla^2 f_i(w) - H_i\|` (Frobenius) is added to
    all.

    Parameters
    ----------
    shift : float, optional
        The step of the :math:`H_i`, in (0, 1]; by default :math:`1/(1 + \omega)` of an unbiased :math:`C`, and 1 of a
        contraction.
    correction : {"projection", "distance"}, default "projection"
        How :math:`M` is made of :math:`H`: by raising eigenvalues, or by adding the mean distance, which each worker
        sends as a number.
    floor : float, optional
        The least eigenvalue of :math:`M` for "projection", above 0; by default :math:`\mu`.
    hessians : {"exact", "zero"}, default "exact"
        The :math:`H_i` of round 0: :math:`\nabla^2 f_i(w_0)`, which all send exactly as dense float32, or zero.
    line_search : bool, default False
        Whether steps are halved until :math:`F` falls by half of what the gradient promises (FedNL-LS), with a loss
        exchanged for every trial.

    Raises
    ------
    ValueError
        If a number is out of range, and in the simulation for a compressor with a memory, for `Sign`, for clients who
        sit out rounds, for more than 2,048 weights, and without a shift for a compressor that states neither a
        variance nor a contraction.
    TheoryError
        In the simulation, if :math:`F` is not strongly convex and no floor is given.

    Notes
    -----
    What is compressed is the upper triangle as a vector of :math:`n (n + 1)/2` numbers, those off the diagonal times
    :math:`\sqrt{2}`, so that its norm is the Frobenius norm and the certificates of :math:`C` hold for matrices.
    (Without the :math:`\sqrt{2}`, as in the authors' code, Top-k is a contraction with :math:`k/n^2` only.)
    `SymmetricRankR` is the paper's Rank-R. The regulariser's Hessian stays on the server.

    Near the optimum it converges linearly, with a factor that does not depend on the condition number, and in the end
    superlinearly (the paper, from memory). No bound is stated. Without a line search it may diverge from far away.

    A round costs a worker its Hessian, :math:`O(r z^2)` for :math:`r` rows of :math:`z` non-zeros (of other losses than
    those of a margin :math:`n` products with the Hessian, :math:`O(n r z)`), and the server :math:`O(n^3)`, by LAPACK.
    Gradients are float64, and so are the weights that come down for them.

    References
    ----------
    .. [1] Safaryan, Islamov, Qian, Richtarik, "FedNL: making Newton-type methods applicable to federated learning",
           ICML 2022.

    Examples
    --------
    >>> import qsim
    >>> qsim.FedNL(shift=1.0, line_search=True)
    qsim.FedNL(shift=1.0, line_search=True)
    """

    shift: float | None = None
    correction: Literal["projection", "distance"] = "projection"
    floor: float | None = None
    hessians: Literal["exact", "zero"] = "exact"
    line_search: bool = False

    def __post_init__(self) -> None:
        if self.shift is not None:
            number("shift", self.shift, above=0)
            if self.shift > 1:
                raise ValueError(f"shift must be at most 1, found {self.shift!r}")
        one_of("correction", self.correction, ("projection", "distance"))
        if self.floor is not None:
            number("floor", self.floor, above=0)
        one_of("hessians", self.hessians, ("exact", "zero"))

    def resolved(self, problem: Problem) -> Self:
        refuse_absences(self, problem, "a Newton step needs the gradient of F")
        refuse_unfit(self, problem)
        if problem.n > _MOST:
            raise ValueError(
                f"FedNL keeps n (n + 1)/2 numbers per worker, for n <= {_MOST:,} weights, found {problem.n:,}"
            )
        length, shift, floor = triangle_length(problem.n), self.shift, self.floor
        if shift is None:
            omega = problem.compressor.variance(length)
            if omega is None and problem.compressor.contraction(length) is None:
                raise ValueError(f"nothing is known of {problem.compressor!r}, so no shift follows: give FedNL a shift")
            shift = 1.0 if omega is None else 1 / (1 + omega)
        if floor is None and self.correction == "projection":
            floor = problem.strong_convexity
            if not floor:
                raise TheoryError(f"{problem.objective!r} is not strongly convex: give FedNL a floor")
        return replace(self, shift=shift, floor=floor)

    def start(self, w: Weights) -> Arrays:
        return {"hessian": np.zeros(triangle_length(w.vector.size))}

    def memory(self, block: Block, support: Support) -> Memory:
        length = triangle_length(block.n)
        triangles = Support(length, dense_offsets(block.workers, length), None)
        kept = Memory.zeros(triangles, "hessian", dtype=np.float64)
        kept.arrays["distance"] = np.zeros(block.workers)
        return kept

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        rows = block.all_rows()
        if task.name == "loss":
            return objective.losses(block, rows, task.weights)
        if task.name == "gradient":
            return objective.update(block, rows, task.weights, 1.0)
        if task.name == "distance":
            return Vectors.dense(memory.arrays["distance"][:, None])
        found = _hessians(objective, block, task.weights)
        found *= sizes(block.n)
        found -= memory.arrays["hessian"].reshape(found.shape)
        memory.arrays["distance"][:] = np.sqrt((found**2).sum(axis=1))
        return Vectors.dense(found.astype(task.weights.vector.dtype))

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        assert self.shift is not None
        if task.name in ("hessian", "begin"):
            memory.add("hessian", arrived, 1.0 if task.name == "begin" else self.shift)

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        assert self.shift is not None
        gradient = exchange.objective.regulariser(w.dense())[1]
        exchange("gradient", w, exact="float64").vector.add_to(gradient)
        learnt, length = state["hessian"], state["hessian"].size
        begins = self.hessians == "exact" and exchange.round == 0
        if begins:
            exchange("begin", w, exact="float32", length=length).vector.add_to(learnt)
        else:
            received = exchange("hessian", w, length=length)
        matrix = matrix_of(learnt, w.vector.size) + _of_regulariser(exchange.objective, w.dense())
        if self.correction == "projection":
            assert self.floor is not None
            values, vectors = np.linalg.eigh(matrix)
            direction = -vectors @ ((gradient @ vectors) / np.maximum(values, self.floor))
        else:
            far = 0.0 if begins else float(exchange("distance", w, exact="float64", length=1).vector.value[0])
            direction = -np.linalg.solve(matrix + far * np.eye(gradient.size), gradient)
        if not begins:
            received.vector.add_to(learnt, self.shift * received.share)
        self._move(w, direction, gradient, exchange)

    def _move(
        self, w: Weights, direction: NDArray[np.float64], gradient: NDArray[np.float64], exchange: Exchange
    ) -> None:
        """Go along a direction, as far as F falls if there is a line search."""
        if not self.line_search:
            w.move(direction)
            return
        here, slope, before = w.dense(), inner(direction, gradient), _value(w, exchange)
        for halving in range(_HALVINGS):
            trial = Weights(here + 0.5**halving * direction)
            if _value(trial, exchange) <= before + _SUFFICIENT * 0.5**halving * slope + _ROUNDING * abs(before):
                w.become(trial)
                return

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(floor=0.05), cls(correction="distance", hessians="zero", line_search=True)


def _hessians(objective: Objective, block: Block, weights: Replica) -> NDArray[np.float64]:
    """Return the upper triangles of the Hessians of the workers' losses, column by column: a row for each worker.

    X^T D X of rows X with second derivatives D, by SciPy, where the loss is of one margin a row; else products of the
    Hessian with the unit vectors.
    """
    rows, found = block.all_rows(), np.zeros((block.workers, triangle_length(block.n)))
    if isinstance(objective, LinearModel) and type(objective).hvp is LinearModel.hvp and block.width == 1:
        margins = block.margins(rows, weights)
        second = np.asarray(objective.margin_hvp(margins, np.ones_like(margins), block.labels[rows.index]), np.float64)
        second /= np.repeat(np.diff(rows.offsets), np.diff(rows.offsets))
        most = max(1, _AT_ONCE // block.n**2)
        for low in range(0, block.workers, most):
            high = min(low + most, block.workers)
            some = slice(rows.offsets[low], rows.offsets[high])
            if some.start < some.stop:
                x = block.data.take(rows.index[some]).to_scipy().astype(np.float64)
                worker = np.repeat(np.arange(high - low), np.diff(rows.offsets[low : high + 1]))
                _add_triangles(x, second[some], worker, found[low:high])
        return found
    begins = column_starts(block.n)
    for j in range(block.n):
        column = objective.hvp(block, rows, weights, np.eye(1, block.n, j, weights.vector.dtype)[0])
        found[:, begins[j] : begins[j] + j + 1] = column.to_dense()[:, : j + 1]
    return found


def _add_triangles(x: Any, second: NDArray[np.float64], worker: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """Write the upper triangles of X_i^T D_i X_i for the rows X_i of each worker: one product of sparse matrices."""
    from scipy.sparse import csr_array

    workers, n = out.shape[0], x.shape[1]
    entries = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    apart = csr_array((x.data * second[entries], x.indices + n * worker[entries], x.indptr), (x.shape[0], workers * n))
    product = (apart.T @ x).tocoo()
    row, column = product.row % n, product.col
    upper = row <= column
    out[(product.row // n)[upper], (column_starts(n)[column] + row)[upper]] = product.data[upper]


def _value(w: Weights, exchange: Exchange) -> float:
    """Return F."""
    loss = exchange("loss", w, exact="float64", length=1).vector.to_dense()
    return float(loss[0, 0]) + exchange.objective.regulariser(w.dense())[0]


def _of_regulariser(objective: Objective, w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Hessian of the regulariser."""
    if type(objective).regulariser_hvp is Objective.regulariser_hvp:
        return float(objective.l2) * np.eye(w.size)
    return np.array([objective.regulariser_hvp(w, one) for one in np.eye(w.size)])
