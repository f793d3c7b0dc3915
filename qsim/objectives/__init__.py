"""Objectives: what is minimised. Values and gradients in float64 for the driver, in float32 for the workers."""

from qsim.objectives.base import NoOptimumError, Objective, Optimum
from qsim.objectives.logistic import LogisticRegression

__all__ = ["LogisticRegression", "NoOptimumError", "Objective", "Optimum"]
