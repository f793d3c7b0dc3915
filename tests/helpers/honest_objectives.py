"""Objectives of a user's own that keep their promises: smooth and not, convex and not, of all kinds of labels."""

from __future__ import annotations

import numpy as np

from qsim.objectives import LinearModel, MarginModel, MeanLoss
from qsim.options import option


@option
class Logistic(LinearModel):
    """Logistic regression in plain NumPy."""

    l2: float = 0.01

    def loss(self, margins, labels):
        return np.logaddexp(0, -labels * margins)

    def slope(self, margins, labels):
        return -labels * 0.5 * (1 + np.tanh(-labels * margins / 2))

    def curvature(self, margins, labels):
        return 0.25 / np.cosh(np.clip(margins / 2, -40, 40)) ** 2

    def curvature_bound(self):
        return 0.25


@option
class SquaredHinge(Logistic):
    """Has a second derivative almost everywhere."""

    def loss(self, margins, labels):
        return np.maximum(0, 1 - labels * margins) ** 2

    def slope(self, margins, labels):
        return -2 * labels * np.maximum(0, 1 - labels * margins)

    def curvature(self, margins, labels):
        return 2.0 * (labels * margins < 1)

    def curvature_bound(self):
        return 2.0


@option
class Hinge(Logistic):
    """Not smooth: at margins of zero its gradient is no derivative for rows whose margin is 1."""

    def loss(self, margins, labels):
        return np.maximum(0, 1 - labels * margins)

    def slope(self, margins, labels):
        return np.where(labels * margins < 1, -labels, 0)

    def curvature(self, margins, labels):
        return np.zeros_like(margins)

    def curvature_bound(self):
        return np.inf


@option
class Perceptron(Hinge):
    """Its kink is where training starts: at margins of zero."""

    def loss(self, margins, labels):
        return np.maximum(0, -labels * margins)

    def slope(self, margins, labels):
        return np.where(labels * margins < 0, -labels, 0)

    def curvature_bound(self):
        raise NotImplementedError


@option
class Absolute(Hinge):
    """Least absolute deviations, of targets."""

    takes = ("targets",)

    def loss(self, margins, labels):
        return np.abs(margins - labels)

    def slope(self, margins, labels):
        return np.sign(margins - labels)


@option
class Huber(Logistic):
    """Both, of targets."""

    takes = ("targets",)

    def loss(self, margins, labels):
        off = np.abs(margins - labels)
        return np.where(off < 1, off**2 / 2, off - 0.5)

    def slope(self, margins, labels):
        return np.clip(margins - labels, -1, 1)

    def curvature(self, margins, labels):
        return (np.abs(margins - labels) < 1).astype(margins.dtype)

    def curvature_bound(self):
        return 1.0


@option
class Poisson(Logistic):
    """Grows as an exponential does: infinite at large margins, and not smooth."""

    takes = ("targets",)

    def loss(self, margins, labels):
        return np.exp(margins) - labels * margins

    def slope(self, margins, labels):
        return np.exp(margins) - labels

    def curvature(self, margins, labels):
        return np.exp(margins)

    def curvature_bound(self):
        raise NotImplementedError


@option
class Softmax(MarginModel):
    """Three classes, in plain NumPy."""

    l2: float = 0.01

    takes = ("classes",)
    width = 3
    classes = 3

    def chances(self, margins):
        out = np.exp(margins - margins.max(axis=1, keepdims=True))
        return out / out.sum(axis=1, keepdims=True)

    def loss(self, margins, labels):
        most = margins.max(axis=1)
        return np.log(np.exp(margins - most[:, None]).sum(axis=1)) + most - margins[np.arange(labels.size), labels]

    def slope(self, margins, labels):
        out = self.chances(margins)
        out[np.arange(labels.size), labels] -= 1
        return out

    def margin_hvp(self, margins, along, labels):
        chances = self.chances(margins)
        return chances * (along - (chances * along).sum(axis=1, keepdims=True))

    def curvature_bound(self):
        return 0.5

    def error(self, w, data):
        return np.mean((data.to_scipy() @ w.reshape(-1, 3)).argmax(axis=1) != data.labels)


@option
class Squares(MeanLoss):
    """Least squares of <x, w^2>, which is not convex, for all kinds of labels."""

    l2: float = 0.01

    takes = ("signs", "classes", "targets")

    def loss_and_gradient(self, w, data):
        x = data.to_scipy()
        off = x @ w**2 - data.labels
        return np.mean(off**2) / 2, x.T @ (off / off.size) * (2 * w)

    def error(self, w, data):
        return 0.5


HONEST = [
    Logistic(),
    Logistic(0.0),
    SquaredHinge(),
    Hinge(),
    Perceptron(0.0),
    Absolute(),
    Huber(),
    Poisson(),
    Softmax(),
    Squares(),
]
