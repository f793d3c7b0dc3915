"""A run that is small, and arrays in forms that are not plain."""

from __future__ import annotations

from typing import Any

import numpy as np

import qsim
from qsim.methods import SGD
from qsim.objectives import LeastSquares
from qsim.steps import Constant

DATA = qsim.datasets.synthetic(60, 40, 4, seed=3)
STEP = Constant(0.05)


def trained(**options: Any) -> qsim.Trace:
    usual = {"objective": LeastSquares(0.1), "method": SGD(batch=2, step=STEP), "workers": 3, "rounds": 2}
    return qsim.simulate(DATA, **(usual | {"optimum": False} | options))


def masked(array: Any) -> Any:
    return np.ma.array(array, mask=np.arange(array.size) % 2 == 0)


def read_only(array: Any) -> Any:
    copy = array.copy()
    copy.flags.writeable = False
    return copy
