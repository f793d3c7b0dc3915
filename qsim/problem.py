"""The constants of a problem that theory speaks of: what step-size rules and promises are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qsim.bound import Bound as Bound
from qsim.clients import AllClients, Clients, SampledClients
from qsim.compressors import Compressor
from qsim.datasets import Dataset, Shards
from qsim.datasets.parts import Reader
from qsim.objectives import Objective, Optimum
from qsim.objectives.of_workers import hessian_variance
from qsim.objectives.of_workers import of_workers as of_workers
from qsim.options import number


class TheoryError(ValueError):
    """Raised if a constant of theory is needed that is not known: the compressor or the objective states none."""


@dataclass(frozen=True, eq=False)
class Problem:
    """The constants of a run that theory needs: L, L_i, mu, omega, ...

    `qsim.Run.problem()` makes it. The constants are properties, computed when they are first needed. :math:`f_i` is the
    loss of worker :math:`i` with the regulariser :math:`r`, :math:`g_i` the gradient of its loss without :math:`r`,
    which is what workers compress.

    Parameters
    ----------
    objective : Objective
        The objective :math:`F`.
    data : Dataset
        The rows as they were given.
    shards : Shards
        The rows of the workers, of the objective's design.
    compressor : Compressor
        The compressor of the uplink.
    weights : ndarray of float64, shape (workers,)
        The weights of the workers in the sum, :math:`n_i / n`.
    start : ndarray of float64, shape (n,)
        The weights :math:`w_0` of round 0.
    clients : Clients
        Which workers take part in a round.
    shared : bool, default False
        Whether all workers draw the same random numbers, so that their messages can be added in flight.
    reader : optional
        Who measures rows that are not here (`qsim.datasets.Parts`).
    down : Compressor, optional
        The compressor of sums on their way down (`CompressedSum`).

    Examples
    --------
    >>> import qsim
    >>> run = qsim.Run("spark_sample", qsim.LogisticRegression(l2=0.1), qsim.GradientDescent(), qsim.RandK(4))
    >>> problem = run.problem()
    >>> problem.omega, problem.strong_convexity  # 16 / 4 - 1, and l2
    (3.0, 0.1)
    """

    objective: Objective
    data: Dataset
    shards: Shards
    compressor: Compressor
    weights: NDArray[np.float64]
    start: NDArray[np.float64]
    clients: Clients
    shared: bool = False
    reader: Reader | None = None
    down: Compressor | None = None

    @property
    def n(self) -> int:
        """The length of the weight vector."""
        return self.shards.n

    @property
    def workers(self) -> int:
        """The number W of workers."""
        return self.shards.workers

    @cached_property
    def smoothness(self) -> float:
        """The smoothness constant L of F; for weights other than n_i/n the weighted mean of L_i, a bound.

        Raises
        ------
        TheoryError
            If it is zero, as for data without non-zeros and no regulariser.
        """
        if not np.array_equal(self.weights, self.shards.weights):
            return self._above_zero("L", float(self.weights @ self.worker_smoothness))
        return self._above_zero("L", self.objective.smoothness(self.data))

    @cached_property
    def worker_smoothness(self) -> NDArray[np.float64]:
        """The smoothness constants L_i of the workers' f_i, shape (workers,)."""
        found = np.asarray(self._of_workers("smoothness"), np.float64)
        if found.shape != (self.workers,):
            raise TheoryError(f"{self.objective!r} must state {self.workers} numbers L_i, found shape {found.shape}")
        return found

    @property
    def largest_smoothness(self) -> float:
        """The largest L_i.

        Raises
        ------
        TheoryError
            If it is zero.
        """
        return self._above_zero("the largest L_i", self.worker_smoothness.max())

    @property
    def mean_smoothness(self) -> float:
        """The mean of L_i, with the weights of the workers."""
        return float(self.weights @ self.worker_smoothness)

    @property
    def mean_square_smoothness(self) -> float:
        """Lt, the root of the mean of L_i^2, with the weights of the workers."""
        return float(np.sqrt(self.weights @ self.worker_smoothness**2))

    @cached_property
    def sent_smoothness(self) -> NDArray[np.float64]:
        """The smoothness constants of the workers' g_i, shape (workers,): L_i less l2, which stays on the server.

        Notes
        -----
        Where the loss may not be convex, L_i + l2: its second derivative may be as low as -L_i - l2.
        """
        l2 = float(self.objective.l2 or 0.0)
        return self.worker_smoothness + (-l2 if self.strong_convexity >= l2 else l2)

    @cached_property
    def feature_smoothness(self) -> float:
        """M, the largest sum over a feature's owners of weight times `sent_smoothness`.

        Notes
        -----
        A worker owns the features that its rows touch: on others its gradient, its messages and its shifts are zero.
        If the compressor fills in zeros, or workers send the regulariser too, each owns all, and M is the weighted mean
        of `sent_smoothness`. Changes of the g_i add up to at most M ||change of w||.
        """
        return self.largest_of_owners(self.weights * self.sent_smoothness)

    def largest_of_owners(self, parts: NDArray[np.float64]) -> float:
        """Return the largest sum, over the features, of numbers of the workers that own the feature.

        Parameters
        ----------
        parts : ndarray of float64, shape (workers,)
            A number for each worker.

        Returns
        -------
        float
            The largest sum; that over all workers where each owns all features.

        Raises
        ------
        ValueError
            For parts of another shape.
        """
        if np.shape(parts) != (self.workers,):
            raise ValueError(f"parts must have shape ({self.workers},), a number per worker, found {np.shape(parts)}")
        if not self._own_supports:
            return float(parts.sum())
        if self.reader is not None:
            return float(self.reader.total("support", np.zeros(self.n), self.n, parts).max())
        owned = np.bincount(self.shards.support, np.repeat(parts, np.diff(self.shards.support_offsets)))
        return float(owned.max(initial=0.0))

    @property
    def _own_supports(self) -> bool:
        """Whether what workers send stays on the features that they own."""
        return self.compressor.keeps_sparse and self.objective.keeps_support

    @cached_property
    def worker_contractions(self) -> NDArray[np.float64]:
        """The contraction constants delta_i of the compressor on what each worker owns, shape (workers,).

        Raises
        ------
        TheoryError
            If the compressor states no contraction.

        Notes
        -----
        Where zeros change nothing (`Compressor.ignores_zeros`), the certificate is that for vectors as long as the
        worker owns weights: k/r for the k largest of r. Otherwise all are `delta`.
        """
        found = np.full(self.workers, self.delta)
        if self._own_supports and self.compressor.ignores_zeros:
            for worker, owned in enumerate(self._of_workers("owned").astype(np.int64).tolist()):
                here = self.compressor.contraction(owned) if owned else 1.0  # nothing is sent, nothing is left
                found[worker] = max(found[worker], here or 0.0)
        return found

    @cached_property
    def hessian_variance(self) -> float:
        """L_pm: the mean of ||d_i||^2 less ||mean of d_i||^2 is at most L_pm^2 ||u - w||^2, for d_i = g_i(u) - g_i(w).

        Notes
        -----
        For `LeastSquares` with up to 500 features it is the least such number; for others `mean_square_smoothness`,
        which it never is above.
        """
        found = hessian_variance(self.objective, self.shards, self.weights)
        return self.mean_square_smoothness if found is None else min(found, self.mean_square_smoothness)

    @cached_property
    def row_smoothness(self) -> float:
        """The largest L of the loss of one row, with r: what SGD meets."""
        return self._above_zero("the largest L of a row", self._of_workers("row smoothness").max())

    @cached_property
    def strong_convexity(self) -> float:
        """The constant mu of strong convexity of F."""
        return number(f"the mu of {self.objective!r}", self.objective.strong_convexity(self.data), least=0)

    @cached_property
    def worker_convexity(self) -> float:
        """The largest constant of strong convexity that all f_i have; at most mu, and 0 if that is.

        Notes
        -----
        It is l2 if mu is, and otherwise the smallest that the objective states of a worker's rows.
        """
        mu = self.strong_convexity
        if mu <= float(self.objective.l2 or 0.0):
            return mu
        return float(min(mu, *self._of_workers("convexity")[self.weights > 0]))

    @property
    def omega(self) -> float:
        """The variance constant omega of the compressor at length n.

        Raises
        ------
        TheoryError
            If it states none.
        """
        omega = self.compressor.variance(self.n)
        if omega is None:
            raise TheoryError(f"{self.compressor!r} states no variance, so no step follows from theory: give the step")
        return omega

    @property
    def delta(self) -> float:
        """The contraction constant delta of the compressor at length n.

        Raises
        ------
        TheoryError
            If it states none.
        """
        delta = self.compressor.contraction(self.n)
        if delta is None:
            raise TheoryError(
                f"{self.compressor!r} is no contraction that is known, so no step follows from theory: give the step"
                " (an unbiased compressor becomes a contraction as qsim.Scaled(...))"
            )
        return delta

    @property
    def participation(self) -> float:
        """The probability that a worker takes part in a round.

        Raises
        ------
        TheoryError
            For clients of an unknown kind.
        """
        if isinstance(self.clients, AllClients):
            return 1.0
        if isinstance(self.clients, SampledClients):
            return min(1.0, self.clients.count / self.workers)
        raise TheoryError(f"no step follows from theory for {self.clients!r}: give the step")

    @property
    def largest_share(self) -> float:
        """The largest weight of a worker, 1/W for equal shards."""
        return float(self.weights.max())

    @property
    def unbiased_mean(self) -> bool:
        """Whether the mean over those who take part has that over all as its mean: for unequal shards it is a ratio."""
        return self.participation == 1.0 or float(np.ptp(self.weights)) == 0.0

    @property
    def spread(self) -> float:
        """The s with E ||sum of what arrives - sum_i weight_i v_i||^2 <= s sum_i weight_i ||v_i||^2.

        Raises
        ------
        TheoryError
            If it is not known.

        Notes
        -----
        It is omega/W if all of W workers with equal shards take part, and omega/k + (W - k) / (k (W - 1)) if k of them
        are drawn. Unequal shards multiply it by W times the largest weight (and if workers are drawn, the mean over
        those that take part is a ratio, whose bias is neglected). If workers share their draws (`shared`), their errors
        need not average out: omega replaces the terms with it. Of workers that draw together (`Compressor.correlated`)
        it is A (`Compressor.joint_variance`), over the share of those that take part if all of W workers are numbered.
        """
        workers = self.workers
        taking_part = self.participation * workers
        drawing = (workers - taking_part) / (taking_part * (workers - 1)) if workers > 1 else 0.0
        unequal = self.largest_share * workers
        if (joint := self.compressor.joint_variance(self.n)) is not None:
            share = self.compressor.correlated / taking_part if self.compressor.correlated else 1.0
            return unequal * (joint[0] * share + (1 - joint[1]) * drawing)
        alike = self.shared and self.compressor.correlated is None
        return (self.omega if alike else unequal * self.omega / taking_part) + unequal * drawing

    @property
    def optimum(self) -> NDArray[np.float64]:
        """The minimiser w*, shape (n,).

        Raises
        ------
        NoOptimumError
            If none is known.
        """
        return self._best.weights

    @property
    def minimum(self) -> float:
        """F* = F(w*).

        Raises
        ------
        NoOptimumError
            If none is known.
        """
        return self._best.value

    @cached_property
    def _best(self) -> Optimum:
        return self.objective.optimum(self.data)

    @cached_property
    def suboptimality(self) -> float:
        """F(w_0) - F*, at the start."""
        return self.objective.value(self.start, self.data) - self.minimum

    @property
    def rounding(self) -> float:
        """The suboptimality that rounding can leave if theory lets it fall to zero; inf for mu = 0.

        Notes
        -----
        Workers compute at weights and send gradients that are rounded to float32, u = 2^-24 in each. Near w* that moves
        the gradient by at most e = u (L ||w*|| + root mean square of ||g_i(w*)||). A step of at most 1/L with a
        gradient that is off by e leaves F - F* <= (1 - step mu) (F - F*) + step e^2/2, so e^2/(2 mu) in the long run.
        Besides, F and F* are sums in float64, of which 2^-48 abs(F*) is counted as rounding.
        """
        mu, best = self.strong_convexity, self._best
        if not mu:
            return float("inf")
        error = 2.0**-24 * (
            self.smoothness * float(np.linalg.norm(best.weights)) + float(np.sqrt(self.sent_at_optimum))
        )
        return error**2 / (2 * mu) + 2.0**-48 * abs(best.value)

    @property
    def square_distance(self) -> float:
        """||w_0 - w*||^2, from the start to the minimiser."""
        return float(np.sum((self.start - self.optimum) ** 2))

    @cached_property
    def sent_at_optimum(self) -> float:
        """The weighted mean of ||g_i(w*)||^2: what compressed gradients still have to carry there."""
        return self.mean_square_gradient(self.optimum)

    @property
    def heterogeneity(self) -> float:
        """The weighted mean of ||grad f_i(w*)||^2, the regulariser included: 0 if all workers have the same minimiser.

        Notes
        -----
        For the weights n_i/n, with which the gradients sum to zero at w*.
        """
        objective, w = self.objective, self.optimum
        pull = objective.regulariser(w)[1]
        mean = objective.smooth_part.gradient(w, self.data) if objective.composite else 0.0  # of grad f_i(w*)
        return self.sent_at_optimum + float(np.sum(2 * mean * pull - pull**2))

    def mean_square_gradient(self, w: NDArray[np.float64]) -> float:
        """Return the weighted mean of ||g_i(w)||^2 over the workers.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.

        Returns
        -------
        float
            The mean.
        """
        return float(self.weights @ self._of_workers("square norms", w))

    def sent_energy(self, w: NDArray[np.float64]) -> float:
        """Return M sum_i weight_i/l_i ||g_i(w)||^2, with M and l_i of `feature_smoothness` and `sent_smoothness`.

        At least the square of the norm of any sum of messages in proportion to the g_i.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.

        Returns
        -------
        float
            The sum. A worker whose g_i is constant counts nothing.
        """
        return self.feature_smoothness * self.scaled_energy(w, np.ones(self.workers))

    def scaled_energy(self, w: NDArray[np.float64], factors: NDArray[np.float64]) -> float:
        """Return sum_i factor_i weight_i/l_i ||g_i(w)||^2, with l_i of `sent_smoothness`.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.
        factors : ndarray of float64, shape (workers,)
            A factor for each worker.

        Returns
        -------
        float
            The sum. A worker whose g_i is constant counts nothing.
        """
        smoothness = self.sent_smoothness
        parts = np.divide(self.weights * factors, smoothness, out=np.zeros_like(smoothness), where=smoothness > 0)
        return float(parts @ self._of_workers("square norms", w))

    def mean_square_change(self) -> float:
        """Return the weighted mean of ||g_i(w_0) - g_i(w*)||^2, from the start to the minimiser."""
        return float(self.weights @ self._of_workers("square norms", self.start, self.optimum))

    def row_noise(self, w: NDArray[np.float64]) -> float:
        """Return the weighted mean over the workers of the variance of the gradient of one of their rows, drawn at w.

        Parameters
        ----------
        w : ndarray of float64, shape (n,)
            The weights.

        Returns
        -------
        float
            The variance. The noise of a batch of b rows from each of W workers with equal shards is 1/(b W) of it.
        """
        variances = self._of_workers("row square norms", w) - self._of_workers("square norms", w)
        return float(self.weights @ np.maximum(variances, 0.0))

    def _of_workers(self, task: str, *points: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.reader is not None:
            return self.reader.each(task, *points)
        return of_workers(task, self.objective, self.shards, *points)

    def _above_zero(self, name: str, constant: float) -> float:
        """Return a smoothness that steps are the inverse of."""
        if not 0 < constant < np.inf:
            raise TheoryError(
                f"{name} = {constant:g} for {self.objective!r} over {self.data!r}, so no step follows from theory: give"
                " the step" + (" (the objective is constant)" if constant == 0 else "")
            )
        return float(constant)


__all__ = ["Bound", "Problem", "TheoryError"]


def __dir__() -> list[str]:
    return __all__
