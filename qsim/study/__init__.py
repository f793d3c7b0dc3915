"""Studies: many runs, questions asked of the numbers, and a figure. `python -m qsim.study` is the command line."""

from qsim.study.figures import STYLE, TEXT_WIDTH, Panel, look, panels
from qsim.study.results import Results
from qsim.study.runner import CellsFailedError, run_study
from qsim.study.store import Store, StoreError
from qsim.study.study import Cell, Settings, Study

__all__ = [
    "STYLE",
    "TEXT_WIDTH",
    "Cell",
    "CellsFailedError",
    "Panel",
    "Results",
    "Settings",
    "Store",
    "StoreError",
    "Study",
    "look",
    "panels",
    "run_study",
]
