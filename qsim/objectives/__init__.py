"""Objectives: what is minimised. Values and gradients in float64 for the driver, in float32 for the workers."""

from qsim.objectives.base import Objective
from qsim.objectives.linear import LinearModel, MarginModel
from qsim.objectives.logistic import LogisticRegression
from qsim.objectives.mean import MeanLoss
from qsim.objectives.multinomial import MultinomialLogistic
from qsim.objectives.optimum import NoOptimumError, Optimum
from qsim.objectives.others import LeastSquares, NonconvexLogistic
from qsim.objectives.regularised import WithRegulariser

__all__ = [
    "LeastSquares",
    "LinearModel",
    "LogisticRegression",
    "MarginModel",
    "MeanLoss",
    "MultinomialLogistic",
    "NoOptimumError",
    "NonconvexLogistic",
    "Objective",
    "Optimum",
    "WithRegulariser",
]


def __dir__() -> list[str]:
    return __all__
