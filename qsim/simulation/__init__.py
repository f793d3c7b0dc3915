"""Simulation: what a run is, and the loop over rounds that carries it out.

`run` says what is simulated; `loop` runs it with a `Training`, to which a progress bar, checkpoints and a user's
callback listen; a round goes through an `exchange`.
"""

from qsim.simulation.checkpoint import CheckpointError
from qsim.simulation.loop import simulate
from qsim.simulation.run import Run

__all__ = ["CheckpointError", "Run", "simulate"]


def __dir__() -> list[str]:
    return __all__
