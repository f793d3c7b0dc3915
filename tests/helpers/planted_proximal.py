"""An objective of one's own with a nonsmooth part, and ones whose part is wrong."""

from __future__ import annotations

import numpy as np

from helpers.honest_objectives import Logistic
from qsim.objectives import NoOptimumError
from qsim.options import option


@option
class Sparse(Logistic):
    """The l1 norm beside logistic regression."""

    l1: float = 0.05

    @property
    def composite(self):
        return True

    @property
    def smooth_part(self):
        return Logistic(self.l2)

    def nonsmooth(self, w):
        return self.l1 * float(np.abs(w).sum())

    def proximal_step(self, w, step):
        w.replace(self.shrunk(w.dense(), step))

    def shrunk(self, v, step):
        return np.sign(v) * np.maximum(np.abs(v) - step * self.l1, 0)

    def value_and_gradient(self, w, data):
        value, gradient = self.smooth_part.value_and_gradient(w, data)
        return value + self.nonsmooth(w), self.least(w, gradient)

    def least(self, w, gradient):
        return np.where(w == 0, self.shrunk(gradient, 1), gradient + self.l1 * np.sign(w))

    def optimum(self, data):
        raise NoOptimumError("not looked for")


class ShrinksTwice(Sparse):
    """A step of twice the size."""

    def shrunk(self, v, step):
        return super().shrunk(v, 2 * step)

    def least(self, w, gradient):
        return np.where(w == 0, Sparse.shrunk(self, gradient, 1), gradient + self.l1 * np.sign(w))


class ThrowsPastZero(Sparse):
    """Without the stop at zero."""

    def proximal_step(self, w, step):
        w.replace(w.dense() - step * self.l1 * np.sign(w.dense()))


class ForgetsTheScale(Sparse):
    """The step on the vector of the weights, whatever their scale."""

    def proximal_step(self, w, step):
        w.replace(self.shrunk(w.dense() / w.scale, step) * w.scale)


class WithoutThePart(Sparse):
    """A value without it."""

    def value_and_gradient(self, w, data):
        value, gradient = super().value_and_gradient(w, data)
        return value - self.nonsmooth(w), gradient


class AnySubgradient(Sparse):
    """A subgradient that is not the least where weights are zero."""

    def least(self, w, gradient):
        return gradient + self.l1 * np.sign(w)


PROXIMAL = "proximal steps"
PLANTED = [
    (ShrinksTwice(), PROXIMAL),
    (ThrowsPastZero(), PROXIMAL),
    (ForgetsTheScale(), PROXIMAL),
    (WithoutThePart(), PROXIMAL),
    (AnySubgradient(), PROXIMAL),
]
