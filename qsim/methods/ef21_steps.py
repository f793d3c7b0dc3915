"""Steps of theory for EF21, by the names of their papers, and what their proofs have in common."""

from __future__ import annotations

from abc import abstractmethod
from math import sqrt
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from qsim.options import option
from qsim.problem import Problem, TheoryError
from qsim.steps import TheoryStep


class _Plain(TheoryStep):
    """A step of EF21 without momentum, which a smoothness M makes: 1 / (L + M sqrt(beta/theta))."""

    method: ClassVar[str] = "EF21"

    def longest(self, method: Any, problem: Problem) -> float:
        return plain_step(problem, self._smoothness(problem))

    @abstractmethod
    def _smoothness(self, problem: Problem) -> float:
        """Return M."""


@final
@option
class Richtarik2021(_Plain):
    """The first step of EF21, that of the default with the quadratic mean of the smoothness of the workers as M.

    References
    ----------
    .. [1] Richtarik, Sokolov, Fatkhullin, "EF21", NeurIPS 2021, Theorems 1 and 2.

    Examples
    --------
    >>> import qsim
    >>> qsim.EF21(step=qsim.methods.Richtarik2021()).step
    qsim.methods.Richtarik2021()
    """

    def _smoothness(self, problem: Problem) -> float:
        return problem.mean_square_smoothness


@final
@option
class Richtarik2024(_Plain):
    """The step of EF21 that is the default with the arithmetic mean of the smoothness of the workers as M.

    References
    ----------
    .. [1] Richtarik, Gasanov, Burlachenko, "Error feedback reloaded: from quadratic to arithmetic mean of smoothness
           constants", ICLR 2024, Theorem 3.

    Examples
    --------
    >>> import qsim
    >>> qsim.EF21(step=qsim.methods.Richtarik2024()).step
    qsim.methods.Richtarik2024()
    """

    def _smoothness(self, problem: Problem) -> float:
        return problem.mean_smoothness


@final
@option
class Fatkhullin2023(TheoryStep):
    r"""The step of EF21 with momentum in its paper.

    :math:`\min(\delta/(20 \tilde L), \eta/(7 L))`, :math:`\tilde L^2` the mean of :math:`L_i^2`: from memory of Theorem
    3. The default, which is derived here, is longer.

    References
    ----------
    .. [1] Fatkhullin, Tyurin, Richtarik, "Momentum provably improves error feedback!", NeurIPS 2023, Theorem 3.

    Examples
    --------
    >>> import qsim
    >>> qsim.EF21(momentum=0.1, step=qsim.methods.Fatkhullin2023()).step
    qsim.methods.Fatkhullin2023()
    """

    method: ClassVar[str] = "EF21"

    def longest(self, method: Any, problem: Problem) -> float:
        if method.momentum is None:
            raise ValueError(f"{self!r} is a theorem about EF21 with momentum, found none: leave the step out")
        delta = problem.delta * problem.participation
        return min(delta / (20 * problem.mean_square_smoothness), float(method.momentum) / (7 * problem.smoothness))


@final
@option
class RareFeatures(TheoryStep):
    r"""The step of EF21 where few workers have a feature: what is compressed is as long as what a worker owns.

    On the :math:`r_i` weights that the rows of worker :math:`i` touch, :math:`C` is a contraction with
    :math:`\delta_i`, which for Top-k is :math:`k/r_i`, not :math:`k/n` (`Problem.worker_contractions`). With
    :math:`\theta_i`, :math:`\beta_i` of :math:`\delta_i`, as :math:`\theta` and :math:`\beta` in the default, :math:`N`
    the largest sum, over the features, of :math:`\mathrm{weight}_i l_i \sqrt{\beta_i/\theta_i}` over the workers that
    own the feature, the step is :math:`1 / (L + N)`, and if :math:`\mu > 0` the smaller of :math:`1 / (L + \sqrt{2} N)`
    and :math:`\min_i \theta_i/(2 \mu)`. Its bound is that of the default with weights for the workers.

    Never shorter than the default, as :math:`N` is at most :math:`M \sqrt{\beta/\theta}`. Derived here, in
    `docs/theory.md`; the paper has the largest :math:`r_i`, and a larger constant in the place of :math:`M`.

    References
    ----------
    .. [1] Richtarik, Gasanov, Burlachenko, "Error feedback shines when features are rare", 2023 (the idea).

    Examples
    --------
    >>> import qsim
    >>> qsim.EF21(step=qsim.methods.RareFeatures()).step
    qsim.methods.RareFeatures()
    """

    method: ClassVar[str] = "EF21"

    def longest(self, method: Any, problem: Problem) -> float:
        if method.is_more or problem.down is not None:
            raise ValueError(
                f"{self!r} is a theorem about EF21 without momentum, an estimator or compressed sums, found {method!r}:"
                " leave the step out"
            )
        if problem.compressor.three_point(problem.n) is not None:
            raise ValueError(
                f"{self!r} is a theorem about contractions, found {problem.compressor!r}: leave the step out"
            )
        several, theta, _ = of_owners(problem)
        mu = problem.strong_convexity
        if mu > 0:
            return min(1 / (problem.smoothness + sqrt(2) * several), theta / (2 * mu))
        return 1 / (problem.smoothness + several)


def of_owners(problem: Problem) -> tuple[float, float, NDArray[np.float64]]:
    """Return N, the least theta_i and what is left of each worker's vector, the root of 1 - delta_i."""
    left = np.sqrt(1 - problem.worker_contractions * problem.participation)
    parts = problem.weights * problem.sent_smoothness * left / (1 - left)  # left/(1 - left): the root of beta/theta
    return problem.largest_of_owners(parts), float((1 - left).min()), left


def theta_of(delta: float) -> tuple[float, float]:
    """Return theta and beta/theta of a contraction: in expectation ||C(v) - v||^2 is carried on by 1 - theta."""
    theta = 1 - sqrt(1 - delta)
    return theta, (1 - delta) / theta**2


def followed(problem: Problem, share: float) -> tuple[float, float]:
    """Return A and B/A: ||h - g||^2 is after a message at most 1 - A of what it was, and B ||change of g||^2.

    share: that of the workers that take part in a round, of which a contraction is one in the mean.
    """
    constants = problem.compressor.three_point(problem.n)
    if constants is None:
        return theta_of(problem.delta * share)
    if problem.participation < 1:
        raise TheoryError(
            f"no step of theory is known for {problem.compressor!r} with clients who sit out rounds: give the step"
        )
    a, b = constants
    return a, b / a


def plain_step(problem: Problem, smoothness: float) -> float:
    """Return the longest step of EF21 without momentum, given M."""
    mu = problem.strong_convexity
    theta, ratio = followed(problem, problem.participation)
    if mu > 0:
        return min(1 / (problem.smoothness + smoothness * sqrt(2 * ratio)), theta / (2 * mu))
    return 1 / (problem.smoothness + smoothness * sqrt(ratio))
