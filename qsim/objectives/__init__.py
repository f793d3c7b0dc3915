"""Objectives: what is minimised. Values and gradients in float64 for the driver, in float32 for the workers."""

from qsim.objectives.base import Objective
from qsim.objectives.hinge import Hinge, SquaredHinge
from qsim.objectives.intercept import WithIntercept
from qsim.objectives.l1 import WithL1
from qsim.objectives.linear import LinearModel, MarginModel
from qsim.objectives.logistic import LogisticRegression
from qsim.objectives.mean import MeanLoss
from qsim.objectives.multinomial import MultinomialLogistic
from qsim.objectives.nonconvex import WithNonconvex
from qsim.objectives.optimum import NoOptimumError, NoSmoothnessError, Optimum
from qsim.objectives.others import LeastSquares, NonconvexLogistic
from qsim.objectives.poisson import Poisson
from qsim.objectives.regularised import WithRegulariser

__all__ = [
    "Hinge",
    "LeastSquares",
    "LinearModel",
    "LogisticRegression",
    "MarginModel",
    "MeanLoss",
    "MultinomialLogistic",
    "NoOptimumError",
    "NoSmoothnessError",
    "NonconvexLogistic",
    "Objective",
    "Optimum",
    "Poisson",
    "SquaredHinge",
    "WithIntercept",
    "WithL1",
    "WithNonconvex",
    "WithRegulariser",
]


def __dir__() -> list[str]:
    return __all__
