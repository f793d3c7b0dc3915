"""Decay of the weights by l2 in steps of SGD whose rows touch few of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

from qsim.options import option


class L2Decay(ABC):
    """Base class of ways to do u <- (1 - a l2) u - a g over many steps, where g has few coordinates.

    All agree to rounding.
    """

    @property
    @abstractmethod
    def kernel(self) -> Any:
        """The kernel of `qsim/kernels/local_sgd.py` that does so."""


@final
@option
class GlobalScale(L2Decay):
    """A scalar factor for all weights: O(non-zeros of the rows) a step.

    With u = c v, a step multiplies c, and changes v at the coordinates of its rows, divided by c.

    Notes
    -----
    Before c leaves [2^-32, 1] it is multiplied into v, which is O(support), once in 22 / (a l2) steps. c is a product
    in float64, whose relative error is at most 2 k 2^-53 after k steps: 2.2e-7 at 10^9, a few roundings of float32. (In
    1,000 rounds of 10^6 steps with a l2 = 1e-5 the weights stayed within 2e-6 of those of dense steps in float64.)

    References
    ----------
    .. [1] Bottou, "Stochastic gradient descent tricks", 2012, section 5.1.

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.LocalSGD(qsim.steps.Constant(0.1), steps=100).decay
    qsim.l2_decay.GlobalScale()
    """

    @property
    def kernel(self) -> Any:
        from qsim.kernels.local_sgd import steps_with_global_scale

        return steps_with_global_scale


@final
@option
class JustInTime(L2Decay):
    """Decay of a weight when it is next read: O(non-zeros of the rows) a step.

    A weight that was not read for K steps is multiplied by their (1 - a l2)^K when a row next reads it; at the end all
    catch up, which is O(support).

    Notes
    -----
    The factor is a quotient of two products in float64, kept for every step and begun anew before they underflow, so
    steps may differ in a. Its relative error is at most 2 K 2^-53; the weight is then rounded to float32, so a weight
    that is read so often that less than 3e-8 of it is to be shrunk away each time stays unchanged. (`GlobalScale` has
    no such limit.)

    References
    ----------
    .. [1] Lipton, Elkan, "Efficient elastic net regularization for sparse linear models", 2015 (varying steps).

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.LocalSGD(qsim.steps.Constant(0.1), decay=qsim.l2_decay.JustInTime()).steps
    8
    """

    @property
    def kernel(self) -> Any:
        from qsim.kernels.local_sgd import steps_with_lazy_decay

        return steps_with_lazy_decay


@final
@option
class EveryStep(L2Decay):
    """Decay of all weights in every step, as the formula says: O(support) a step.

    Notes
    -----
    The weights are float32, so a l2 below 3e-8 has no effect.

    Examples
    --------
    >>> import qsim
    >>> qsim.methods.LocalSGD(qsim.steps.Constant(0.1), decay=qsim.l2_decay.EveryStep()).steps
    8
    """

    @property
    def kernel(self) -> Any:
        from qsim.kernels.local_sgd import steps_with_dense_decay

        return steps_with_dense_decay


__all__ = ["EveryStep", "GlobalScale", "JustInTime", "L2Decay"]


def __dir__() -> list[str]:
    return __all__
