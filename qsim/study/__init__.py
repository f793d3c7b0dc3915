"""Studies: many runs, questions asked of the numbers, and a figure. `python -m qsim.study` is the command line."""

from qsim.study.figures import STYLE, TEXT_WIDTH, Panel, look, panels
from qsim.study.results import Results
from qsim.study.study import Cell, Settings, Study

__all__ = ["STYLE", "TEXT_WIDTH", "Cell", "Panel", "Results", "Settings", "Study", "look", "panels"]
