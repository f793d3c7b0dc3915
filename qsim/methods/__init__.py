"""Methods: what a worker computes, and what the server does with the sum."""

from qsim.methods.base import Exchange, Method
from qsim.methods.descent import SGD, GradientDescent
from qsim.methods.sampling import Passes, Sampling, WithReplacement

__all__ = ["SGD", "Exchange", "GradientDescent", "Method", "Passes", "Sampling", "WithReplacement"]
