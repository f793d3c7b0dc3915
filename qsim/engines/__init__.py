"""Engines: where the workers run. Every engine gives the same bits."""

import sys

if sys.platform == "win32":  # multiprocessing passes no file descriptors there
    raise ImportError("qsim does not run on Windows: install it in WSL, the Windows Subsystem for Linux")

from qsim.engines.base import Engine, Session
from qsim.engines.processes import Processes
from qsim.engines.ray import Ray
from qsim.engines.recovery import EngineError
from qsim.engines.serial import Serial
from qsim.engines.spark import Spark

__all__ = ["Engine", "EngineError", "Processes", "Ray", "Serial", "Session", "Spark"]


def __dir__() -> list[str]:
    return __all__
