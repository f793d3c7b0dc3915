"""Studies: many runs, questions asked of the numbers, and a figure. `python -m qsim.study` is the command line."""

from qsim.study.figures import Panel, panels
from qsim.study.results import Results
from qsim.study.study import Cell, Settings, Study

__all__ = ["Cell", "Panel", "Results", "Settings", "Study", "panels"]
