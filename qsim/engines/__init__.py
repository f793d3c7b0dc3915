"""Engines: where the workers run. Every engine gives the same bits."""

from qsim.engines.base import Engine, Session
from qsim.engines.serial import Serial

__all__ = ["Engine", "Serial", "Session"]
