"""Methods: what a worker computes, and what the server does with the sum."""

from qsim.methods.averaged import Averaged
from qsim.methods.base import Exchange, Method, Sum, Task
from qsim.methods.dasha import DASHA
from qsim.methods.descent import SGD, GradientDescent, HeavyBall, Momentum, Nesterov, Sadiev2024
from qsim.methods.diana import DIANA, Gorbunov2020
from qsim.methods.diana_rr import DIANARR
from qsim.methods.diloco import DiLoCo
from qsim.methods.econtrol import EControl
from qsim.methods.ef21 import EF21
from qsim.methods.ef21_steps import Fatkhullin2023, RareFeatures, Richtarik2021, Richtarik2024
from qsim.methods.ef_bv import EFBV
from qsim.methods.estimators import MVR, PAGE, Estimator
from qsim.methods.fednl import FedNL
from qsim.methods.fedprox import FedProx
from qsim.methods.local import LocalSGD
from qsim.methods.locodl import LoCoDL
from qsim.methods.marina import MARINA
from qsim.methods.nastya import DIANANASTYA, QNASTYA
from qsim.methods.sampling import Passes, Sampling, WithReplacement
from qsim.methods.scaffnew import Scaffnew
from qsim.methods.scaffold import SCAFFOLD
from qsim.methods.second_order import LBFGS, NewtonCG
from qsim.methods.server import Adagrad, Adam, Adaptive, Yogi
from qsim.methods.tamuna import TAMUNA
from qsim.methods.vote import SignSGD

__all__ = [
    "DASHA",
    "DIANA",
    "DIANANASTYA",
    "DIANARR",
    "EF21",
    "EFBV",
    "LBFGS",
    "MARINA",
    "MVR",
    "PAGE",
    "QNASTYA",
    "SCAFFOLD",
    "SGD",
    "TAMUNA",
    "Adagrad",
    "Adam",
    "Adaptive",
    "Averaged",
    "DiLoCo",
    "EControl",
    "Estimator",
    "Exchange",
    "Fatkhullin2023",
    "FedNL",
    "FedProx",
    "Gorbunov2020",
    "GradientDescent",
    "HeavyBall",
    "LoCoDL",
    "LocalSGD",
    "Method",
    "Momentum",
    "Nesterov",
    "NewtonCG",
    "Passes",
    "RareFeatures",
    "Richtarik2021",
    "Richtarik2024",
    "Sadiev2024",
    "Sampling",
    "Scaffnew",
    "SignSGD",
    "Sum",
    "Task",
    "WithReplacement",
    "Yogi",
]


def __dir__() -> list[str]:
    return __all__
