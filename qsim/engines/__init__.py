"""Engines: where the workers run. Every engine gives the same bits."""

from qsim.engines.base import Engine, Session
from qsim.engines.processes import EngineError, Processes
from qsim.engines.serial import Serial

__all__ = ["Engine", "EngineError", "Processes", "Serial", "Session"]


def __dir__() -> list[str]:
    return __all__
