"""Methods: what a worker computes, and what the server does with the sum."""

from qsim.methods.averaged import Averaged
from qsim.methods.base import Exchange, Method, Sum, Task
from qsim.methods.descent import SGD, GradientDescent, HeavyBall, Momentum, Nesterov
from qsim.methods.local import LocalSGD
from qsim.methods.marina import MARINA
from qsim.methods.sampling import Passes, Sampling, WithReplacement
from qsim.methods.second_order import LBFGS, NewtonCG
from qsim.methods.shifts import DIANA, EF21
from qsim.methods.vote import SignSGD

__all__ = [
    "DIANA",
    "EF21",
    "LBFGS",
    "MARINA",
    "SGD",
    "Averaged",
    "Exchange",
    "GradientDescent",
    "HeavyBall",
    "LocalSGD",
    "Method",
    "Momentum",
    "Nesterov",
    "NewtonCG",
    "Passes",
    "Sampling",
    "SignSGD",
    "Sum",
    "Task",
    "WithReplacement",
]


def __dir__() -> list[str]:
    return __all__
