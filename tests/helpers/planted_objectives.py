"""Objectives with a known mistake, and the promises that it breaks."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from helpers.honest_objectives import Hinge, Huber, Logistic, Softmax, Squares
from qsim.objectives import Optimum
from qsim.options import option


class SlopeUphill(Logistic):
    """The sign of the slope."""

    def slope(self, margins, labels):
        return -super().slope(margins, labels)


class SlopeTwice(Logistic):
    """A factor of two."""

    def slope(self, margins, labels):
        return 2 * super().slope(margins, labels)


class SlopeNearlyRight(Logistic):
    """One part in 10,000."""

    def slope(self, margins, labels):
        return 1.0001 * super().slope(margins, labels)


class OneSideOnly(Logistic):
    """Right for one label only."""

    def slope(self, margins, labels):
        return np.where(labels > 0, super().slope(margins, labels), -0.5 * margins)


class ZeroAndOne(Logistic):
    """Takes labels for 0 and 1 in the slope."""

    def slope(self, margins, labels):
        return 1 / (1 + np.exp(-np.clip(margins, -80, 80))) - labels


class Clipped(Logistic):
    """A slope that is clipped, where the loss is not."""

    def slope(self, margins, labels):
        return np.clip(super().slope(margins, labels), -0.8, 0.8)


class TailTwice(Huber):
    """Wrong for large residuals only."""

    def slope(self, margins, labels):
        return np.where(np.abs(margins - labels) < 20, super().slope(margins, labels), 2 * np.sign(margins - labels))


class LossOverflows(Logistic):
    """exp of a large number."""

    def loss(self, margins, labels):
        return np.log(1 + np.exp(-labels * margins))


class SlopeOverflows(Logistic):
    """Infinity over infinity."""

    def slope(self, margins, labels):
        return -labels * np.exp(-labels * margins) / (1 + np.exp(-labels * margins))


class LogOfZero(Logistic):
    """The logarithm of a probability that is zero."""

    def loss(self, margins, labels):
        return -np.log(0.5 * (1 + np.tanh(labels * margins / 2)))


class CurvedTwice(Logistic):
    """The wrong second derivative."""

    def curvature(self, margins, labels):
        return 2 * super().curvature(margins, labels)


class NeverCurved(Logistic):
    """None at all."""

    def curvature(self, margins, labels):
        return np.zeros_like(margins)


class DiagonalOnly(Softmax):
    """Leaves out how the classes act on each other."""

    def margin_hvp(self, margins, along, labels):
        chances = self.chances(margins)
        return chances * (1 - chances) * along


class AffineHessian(Softmax):
    """No linear map."""

    def margin_hvp(self, margins, along, labels):
        return super().margin_hvp(margins, along, labels) + 0.1


class TooSmooth(Logistic):
    """Claims a little too small an L."""

    def curvature_bound(self):
        return 0.245


class TooSmoothClasses(Softmax):
    """The bound of two classes for three."""

    def curvature_bound(self):
        return 0.35


class SmoothHinge(Hinge):
    """A kink, and a finite L."""

    def curvature_bound(self):
        return 1.0


class OneForAll(Logistic):
    """The L of all rows for every worker."""

    def worker_smoothness(self, shards):
        return np.full(shards.workers, self.smoothness(shards.dataset))


class MeanRow(Logistic):
    """The mean L of the rows for the largest."""

    def row_smoothness(self, shards):
        return self.l2 + 0.25 * float((shards.dataset.to_scipy().astype(float) ** 2).sum()) / shards.dataset.rows


class NegativeSmoothness(Logistic):
    """No bound."""

    def curvature_bound(self):
        return -1.0


class TooConvex(Logistic):
    """Claims a mu that the data do not give."""

    def strong_convexity(self, data):
        return self.l2 + 0.05


class NotConvex(Squares):
    """Claims l2, as a convex loss could."""

    def strong_convexity(self, data):
        return self.l2


class SinglePrecision(Logistic):
    """The driver's numbers in float32."""

    def loss(self, margins, labels):
        return super().loss(margins.astype(np.float32), labels)


class SinglePrecisionSlope(Logistic):
    """The same of the slope."""

    def slope(self, margins, labels):
        return super().slope(margins.astype(np.float32), labels)


class HalfPrecision(Logistic):
    """Workers round to float16."""

    def slope(self, margins, labels):
        found = super().slope(margins, labels)
        return found.astype(np.float16) if margins.dtype == np.float32 else found


class WritesMargins(Logistic):
    """In place, to save memory."""

    def loss(self, margins, labels):
        margins *= -labels
        return np.logaddexp(0, margins)


class WritesLabels(Logistic):
    """Turns the labels."""

    def slope(self, margins, labels):
        found = super().slope(margins, labels)
        labels *= -1
        return found


class Dropout(Logistic):
    """Random, and not by a key."""

    def slope(self, margins, labels):
        return super().slope(margins, labels) * (np.random.default_rng().random(margins.shape) < 0.9)


class Remembers(Logistic):
    """Depends on how often it was called."""

    calls = 0

    def loss(self, margins, labels):
        Remembers.calls += 1
        return super().loss(margins, labels) + 1e-6 * Remembers.calls


class OfTheBatch(Logistic):
    """Margins less their mean: of which rows there are."""

    def loss(self, margins, labels):
        return super().loss(margins - margins.mean(), labels)

    def slope(self, margins, labels):
        found = super().slope(margins - margins.mean(), labels)
        return found - found.mean()


class ByPlace(Logistic):
    """Later rows count more."""

    def weights(self, labels):
        return np.linspace(0.5, 1.5, labels.size) if labels.size > 1 else np.ones(1)

    def loss(self, margins, labels):
        return self.weights(labels) * super().loss(margins, labels)

    def slope(self, margins, labels):
        return self.weights(labels) * super().slope(margins, labels)


class SumOfRows(Squares):
    """A sum for the mean."""

    def loss_and_gradient(self, w, data):
        loss, gradient = super().loss_and_gradient(w, data)
        return loss * data.rows, gradient * data.rows


class OverFeatures(Squares):
    """Divides by the number of features."""

    def loss_and_gradient(self, w, data):
        loss, gradient = super().loss_and_gradient(w, data)
        return loss * data.rows / data.features, gradient * data.rows / data.features


class Regularised(Squares):
    """l2 in the loss, to which the base class adds it once more."""

    def loss_and_gradient(self, w, data):
        loss, gradient = super().loss_and_gradient(w, data)
        return loss + self.l2 / 2 * np.sum(w**2), gradient + self.l2 * w


class LossWithoutL2(Logistic):
    """l2 in the gradient only."""

    def value_and_gradient(self, w, data):
        value, gradient = super().value_and_gradient(w, data)
        return value - self.l2 / 2 * np.sum(w**2), gradient


class GradientWithoutL2(Logistic):
    """l2 in the value only."""

    def value_and_gradient(self, w, data):
        value, gradient = super().value_and_gradient(w, data)
        return value, gradient - self.l2 * w


class TwoOverTwo(Logistic):
    """A regulariser of l2 ||w||^2 with the gradient of half of it."""

    def regulariser(self, w):
        return self.l2 * float(w @ w), self.l2 * w


class RegularisedWrong(Logistic):
    """The Hessian of r."""

    def regulariser_hvp(self, w, direction):
        return 2 * self.l2 * direction


class StepUphill(Logistic):
    """A step on r that makes the weights larger."""

    def apply_l2_step(self, w, step):
        w.shrink(1 + step * self.l2)


class OffSupport(Squares):
    """A pull on all weights that belongs to the regulariser."""

    def loss_and_gradient(self, w, data):
        loss, gradient = super().loss_and_gradient(w, data)
        return loss + 0.1 * w.sum(), gradient + 0.1


class ForgetsStep(Logistic):
    """Workers' updates are not scaled by the step."""

    def update(self, block, rows, weights, step):
        return super().update(block, rows, weights, 1.0)


class SumOfLosses(Logistic):
    """Workers send sums of losses."""

    def losses(self, block, rows, weights):
        found = super().losses(block, rows, weights)
        return replace(found, value=found.value * np.diff(rows.offsets))


class OwnMargins(Logistic):
    """Does not see what workers have moved."""

    def update(self, block, rows, weights, step):
        return super().update(block, rows, replace(weights, moved=None), step)


class WalkWithoutL2(Logistic):
    """Steps of SGD of its own, without the regulariser."""

    def local_steps(self, block, rows, batch, weights, steps, decay):
        return Logistic(0.0).local_steps(block, rows, batch, weights, steps, decay)


class NotTheMinimum(Logistic):
    """Stops early."""

    def optimum(self, data):
        w = np.zeros(data.features)
        return Optimum(w, self.value(w, data), 0.0)


class CountsErrors(Logistic):
    """How many, not which share."""

    def error(self, w, data):
        return super().error(w, data) * data.rows


class OneWord(Logistic):
    """A string for a tuple."""

    takes = "signs"


class Unknown(Logistic):
    """No kind of labels."""

    takes = ("booleans",)


class TakesAll(Logistic):
    """Does not look at the labels."""

    def design(self, data):
        return data


class Integers(Logistic):
    """Losses that are rounded to whole numbers."""

    def loss(self, margins, labels):
        return np.round(super().loss(margins, labels)).astype(int)


class DependsOnHashes(Logistic):
    """Other numbers in every process."""

    def loss(self, margins, labels):
        return super().loss(margins, labels) + hash("qsim") * 1e-20


@option
class Unpicklable(Logistic):
    """Holds a lock."""

    def __post_init__(self):
        object.__setattr__(self, "lock", threading.Lock())


class NoOption(Logistic):
    """Keeps what its repr does not say."""

    def __repr__(self):
        return "NoOption"


GRADIENT, MEAN, WORKERS = "the gradient is that of the value", "a mean over rows", "workers add up to the whole"
HESSIAN, FINITE, PURE = (
    "the Hessian is that of the gradient",
    "finite at large margins",
    "a pure function of data and weights",
)
LABELS = "labels of the kinds that it takes"

PLANTED = [
    (SlopeUphill(), GRADIENT),
    (SlopeTwice(), GRADIENT),
    (SlopeNearlyRight(), GRADIENT),
    (OneSideOnly(), GRADIENT),
    (ZeroAndOne(), GRADIENT),
    (Clipped(), GRADIENT),
    (TailTwice(), GRADIENT),
    (LossWithoutL2(), GRADIENT),
    (GradientWithoutL2(), GRADIENT),
    (Integers(), GRADIENT),
    (LossOverflows(), FINITE),
    (SlopeOverflows(), FINITE),
    (LogOfZero(), FINITE),
    (CurvedTwice(), HESSIAN),
    (NeverCurved(), HESSIAN),
    (DiagonalOnly(), HESSIAN),
    (AffineHessian(), HESSIAN),
    (TooSmooth(), "smoothness"),
    (TooSmoothClasses(), "smoothness"),
    (SmoothHinge(), "smoothness"),
    (OneForAll(), "smoothness"),
    (MeanRow(), "smoothness"),
    (NegativeSmoothness(), "smoothness"),
    (TooConvex(), "strong convexity"),
    (NotConvex(), "strong convexity"),
    (SinglePrecision(), "in float64 for the driver"),
    (SinglePrecisionSlope(), "in float64 for the driver"),
    (HalfPrecision(), WORKERS),
    (WritesMargins(), PURE),
    (WritesLabels(), PURE),
    (Dropout(), PURE),
    (Remembers(), PURE),
    (OfTheBatch(), MEAN),
    (ByPlace(), MEAN),
    (SumOfRows(), MEAN),
    (OverFeatures(), MEAN),
    (Regularised(), "the regulariser"),
    (TwoOverTwo(), "the regulariser"),
    (RegularisedWrong(), "the regulariser"),
    (StepUphill(), "the regulariser"),
    (OffSupport(), "zero where rows are"),
    (ForgetsStep(), WORKERS),
    (SumOfLosses(), WORKERS),
    (OwnMargins(), WORKERS),
    (WalkWithoutL2(), "steps of SGD"),
    (NotTheMinimum(), "optimum"),
    (CountsErrors(), "error"),
    (OneWord(), LABELS),
    (Unknown(), LABELS),
    (TakesAll(), LABELS),
    (DependsOnHashes(), "pickling"),
    (Unpicklable(), "pickling"),
    (NoOption(), "prints as the code that makes it"),
]
