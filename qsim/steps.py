"""Step-size rules: the step of round t = 0, 1, 2, ... (of `LocalSGD`: of local step t).

Wherever a method takes a rule, a number stands for a constant step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from math import sqrt
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from qsim.arrays import reals
from qsim.options import number, option, shown


def _at_the_door(step: Callable[[Any, int], Any]) -> Callable[[Any, int], float]:
    """Check the steps of a rule of one's own."""

    @wraps(step)
    def checked(self: Step, t: int) -> float:
        return number(f"the step of round {t} by {self!r}", step(self, t), least=0)

    return checked


def _many_at_the_door(many: Callable[[Any, int, int], Any]) -> Callable[[Any, int, int], NDArray[np.float64]]:
    @wraps(many)
    def checked(self: Step, first: int, count: int) -> NDArray[np.float64]:
        name = f"the steps from round {first} on by {self!r}"
        steps = reals(name, many(self, first, count), (count,)).astype(np.float64, copy=False)
        for step in steps[~((steps >= 0) & (steps < np.inf))].tolist():
            raise ValueError(f"{name} must be finite numbers of at least 0, found {step}")
        return steps

    return checked


class Step(ABC):
    """Base class of step-size rules."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Have the steps of a user's own rule checked."""
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] != "qsim":
            for name, door in (("__call__", _at_the_door), ("many", _many_at_the_door)):
                if name in vars(cls):
                    setattr(cls, name, door(vars(cls)[name]))

    @abstractmethod
    def __call__(self, t: int) -> float:
        """Return the step size of a round.

        Parameters
        ----------
        t : int
            The round, counted from 0 (of `LocalSGD`: the local step).

        Returns
        -------
        float
            The step size, above 0.
        """

    def many(self, first: int, count: int) -> NDArray[np.float64]:
        """Return the step sizes of consecutive rounds.

        Parameters
        ----------
        first : int
            The first of them.
        count : int
            How many.

        Returns
        -------
        ndarray of float64, shape (count,)
            The step sizes.

        Examples
        --------
        >>> import qsim
        >>> qsim.steps.InverseTime(0.5, halving=2).many(0, 3).round(3).tolist()
        [0.5, 0.333, 0.25]
        """
        return np.array([self(t) for t in range(first, first + count)], np.float64)


@final
@option
class Constant(Step):
    r"""A constant step.

    :math:`a_t = \mathrm{step}`.

    Parameters
    ----------
    step : float
        The step size, above 0.

    Raises
    ------
    ValueError
        If `step` is not above 0.

    Examples
    --------
    >>> import qsim
    >>> qsim.steps.Constant(0.5)(100)
    0.5
    """

    step: float

    def __post_init__(self) -> None:
        number("step", self.step, above=0)

    @property
    def as_number(self) -> float:
        """The number that stands for the rule where a method takes a step."""
        return self.step

    def __call__(self, t: int) -> float:
        return float(self.step)

    def many(self, first: int, count: int) -> NDArray[np.float64]:
        return np.full(count, float(self.step))


@final
@option
class InverseTime(Step):
    r"""A step that decreases as 1/t.

    :math:`a_t = \mathrm{step} / (1 + t / \mathrm{halving})`.

    Parameters
    ----------
    step : float
        The first step size, above 0.
    halving : float, default 1.0
        The number of rounds after which it is half of that, above 0.

    Raises
    ------
    ValueError
        If one of them is not above 0.

    Examples
    --------
    >>> import qsim
    >>> qsim.steps.InverseTime(0.5, halving=10)(10)
    0.25
    """

    step: float
    halving: float = 1.0

    def __post_init__(self) -> None:
        number("step", self.step, above=0)
        number("halving", self.halving, above=0)

    def __call__(self, t: int) -> float:
        return float(self.step) / (1.0 + t / self.halving)

    def many(self, first: int, count: int) -> NDArray[np.float64]:
        return np.asarray(float(self.step) / (1.0 + np.arange(first, first + count) / self.halving))


@final
@option
class InverseSqrt(Step):
    r"""A step that decreases as the inverse square root, the rule for convex SGD.

    :math:`a_t = \mathrm{step} / \sqrt{1 + t / \mathrm{scale}}`.

    Parameters
    ----------
    step : float
        The first step size, above 0.
    scale : float, default 1.0
        The number of rounds for which it stays near that, above 0.

    Raises
    ------
    ValueError
        If one of them is not above 0.

    Examples
    --------
    >>> import qsim
    >>> qsim.steps.InverseSqrt(0.5)(3)
    0.25
    """

    step: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        number("step", self.step, above=0)
        number("scale", self.scale, above=0)

    def __call__(self, t: int) -> float:
        return float(self.step) / sqrt(1.0 + t / self.scale)


@final
@option
class Noisy(Step):
    r"""The step for a smooth convex F with noisy gradients.

    :math:`a_t = 1 / (\mathrm{smoothness} + \mathrm{noise}\, \sqrt{t + 1})`.

    Parameters
    ----------
    smoothness : float
        :math:`L` of :math:`F`, above 0.
    noise : float
        :math:`\sigma/R`, with :math:`\mathbb{E} \|g - \nabla F\|^2 \leq \sigma^2` and :math:`R` at least the distance
        from the start to the minimiser, at least 0.

    Raises
    ------
    ValueError
        If `smoothness` is not above 0, or `noise` is negative.

    Notes
    -----
    The average of :math:`t` iterates (`qsim.methods.Averaged`) is within :math:`O(\sigma R/\sqrt{t} + L R^2/t)` of the
    minimum. For batches of :math:`b` rows of :math:`W` workers, :math:`\sigma^2` is about
    `Problem.row_noise(w) / (b W)` at the start :math:`w`, and :math:`R^2` is `Problem.square_distance`.

    References
    ----------
    .. [1] Bubeck, "Convex optimization: algorithms and complexity", Foundations and Trends in Machine Learning 8, 2015,
           Theorem 6.3 (there with the number of rounds, known beforehand, for t).

    Examples
    --------
    >>> import qsim
    >>> qsim.steps.Noisy(smoothness=2.0, noise=3.0)(3)
    0.125
    """

    smoothness: float
    noise: float

    def __post_init__(self) -> None:
        number("smoothness", self.smoothness, above=0)
        number("noise", self.noise, least=0)

    def __call__(self, t: int) -> float:
        return 1.0 / (float(self.smoothness) + self.noise * sqrt(t + 1.0))


class TheoryStep(Step):
    """Base class of the constant steps of theorems, which follow from the constants of the problem.

    A method that is given one takes the step of that theorem; without a step it takes that of the best theorem known.

    Attributes
    ----------
    method : str
        The name of the method that the theorem is about, or names with " and " between; any other refuses it.
    """

    method: ClassVar[str]

    @abstractmethod
    def longest(self, method: Any, problem: Any) -> float:
        """Return the longest step that the theorem allows.

        Parameters
        ----------
        method : Method
            The method, with its other parameters.
        problem : Problem
            The constants of the run.

        Returns
        -------
        float
            The step, above 0.
        """

    def __call__(self, t: int) -> float:
        raise ValueError(f"{self!r} is known for a run only: look at the step of run.method.resolved(run.problem())")


@final
@option
class TimesTheory(Step):
    r"""A multiple of the constant step that theory gives to a method, as in experiments of papers.

    :math:`a_t = \mathrm{multiple} \cdot a`, :math:`a` the step of theory.

    Parameters
    ----------
    multiple : float
        The multiple, above 0; above 1 no theorem covers the step, and no bound is stated.
    theorem : TheoryStep, optional
        The theorem; by default the one whose step the method takes without `step`.

    Raises
    ------
    ValueError
        If `multiple` is not above 0.
    TypeError
        If `theorem` is none.

    Notes
    -----
    `LocalSGD` and `SignSGD`, whose steps of theory fall, refuse it in the simulation.

    Examples
    --------
    >>> import qsim
    >>> method = qsim.GradientDescent(step=qsim.steps.TimesTheory(4))
    >>> run = qsim.Run("spark_sample", qsim.LogisticRegression(l2=0.1), method, rounds=2)
    >>> step, once = (run.method.resolved(run.problem()).step, qsim.GradientDescent().resolved(run.problem()).step)
    >>> float(step(0) / once(0))
    4.0
    """

    multiple: float
    theorem: TheoryStep | None = None

    def __post_init__(self) -> None:
        number("multiple", self.multiple, above=0)
        if not isinstance(self.theorem, (TheoryStep, type(None))):
            raise TypeError(f"theorem must be None or the step of a theorem, found {shown(self.theorem)}")

    def __call__(self, t: int) -> float:
        raise ValueError(
            f"{self!r} is known for a run only, of a method whose step of theory is constant: look at the step of"
            " run.method.resolved(run.problem())"
        )


def take_step(method: Any) -> None:
    """Turn a number in the field `step` of an option into the constant rule that it stands for.

    Raises ValueError for a number that is no step, TypeError for what is neither a number nor a rule, and for a theorem
    about another method; None stands for the step of theory.
    """
    step, name = method.step, type(method).__name__
    theorem = step.theorem if isinstance(step, TimesTheory) else step
    if isinstance(step, float):
        object.__setattr__(method, "step", Constant(step))
    elif isinstance(theorem, TheoryStep) and name not in theorem.method.split(" and "):
        raise TypeError(
            f"{theorem!r} is a theorem about {theorem.method}, found as the step of {name}: leave the step out"
        )
    elif not isinstance(step, (Step, type(None))):
        raise TypeError(f"step must be a number, or a rule such as qsim.steps.InverseTime(0.5), found {shown(step)}")


def take_given_step(method: Any) -> None:
    """Do what `take_step` does, for a method without a step of theory: raise ValueError for None, too."""
    if method.step is None:
        raise ValueError(f"{type(method).__name__} has no step of theory: give the step, such as 0.1")
    take_step(method)


__all__ = ["Constant", "InverseSqrt", "InverseTime", "Noisy", "Step", "TheoryStep", "TimesTheory"]


def __dir__() -> list[str]:
    return __all__
