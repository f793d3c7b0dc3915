"""Decay of the weights by l2 in steps of SGD whose rows touch few of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

from qsim.options import option


class L2Decay(ABC):
    r"""Base class of ways to do many steps with a regulariser, whose gradients have few coordinates.

    :math:`u \leftarrow (1 - a \lambda) u - a g`, with :math:`\lambda` the `l2` of the objective and :math:`g` the
    sparse gradient.

    All agree to rounding.
    """

    @property
    @abstractmethod
    def kernel(self) -> Any:
        """The kernel of `qsim/kernels/local_sgd.py` that does so."""


@final
@option
class GlobalScale(L2Decay):
    r"""A scalar factor for all weights: O(non-zeros of the rows) per step.

    With :math:`u = c v`, a step multiplies :math:`c`, and changes :math:`v` at the coordinates of its rows, divided by
    :math:`c`. (:math:`a` is the step, :math:`\lambda` the `l2` of the objective.)

    Notes
    -----
    Before :math:`c` leaves :math:`[2^{-32}, 1]` it is multiplied into :math:`v`, which is :math:`O(\mathrm{support})`,
    once in :math:`22 / (a \lambda)` steps. :math:`c` is a product in float64, whose relative error is at most
    :math:`2 k 2^{-53}` after :math:`k` steps: 2.2e-7 at :math:`10^9`, a few roundings of float32. (In 1,000 rounds of
    :math:`10^6` steps with :math:`a \lambda = 10^{-5}` the weights stayed within 2e-6 of those of dense steps in
    float64.)

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
    r"""Decay of a weight when it is next read: O(non-zeros of the rows) per step.

    A weight that was not read for :math:`K` steps is multiplied by their :math:`(1 - a \lambda)^K` when a row next
    reads it; at the end all catch up, which is :math:`O(\mathrm{support})`. (:math:`a` is the step, :math:`\lambda` the
    `l2` of the objective.)

    Notes
    -----
    The factor is a quotient of two products in float64, kept for every step and begun anew before they underflow, so
    steps may differ in :math:`a`. Its relative error is at most :math:`2 K 2^{-53}`; the weight is then rounded to
    float32, so a weight that is read so often that less than 3e-8 of it is to be shrunk away each time stays unchanged.
    (`GlobalScale` has no such limit.)

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
    r"""Decay of all weights in every step, as the formula says: O(support) per step.

    Notes
    -----
    The weights are float32, so for a step :math:`a` and the `l2` of the objective as :math:`\lambda`,
    :math:`a \lambda` below 3e-8 has no effect.

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
