"""Studies: many runs, questions asked of the numbers, and a figure. `qsim study` is the command line."""

from qsim.plotting import STYLE
from qsim.study.cells import Cell, Settings, each_seed
from qsim.study.comparisons import Comparison, compare
from qsim.study.figures import (
    COLUMN_WIDTH,
    TEXT_WIDTH,
    draw_band,
    draw_comparisons,
    figure_grid,
    legend_below,
    legend_beside,
    log_axes,
    look,
    note_coinciding,
    panel_letters,
)
from qsim.study.panel import BOUND_LABEL, Panel, draw, draw_bound, panels
from qsim.study.papers import Claim, PaperStudy, Value
from qsim.study.report_text import bullets, no_winner, reach_table, significance, table, winner
from qsim.study.results import AxisSpec, Results
from qsim.study.runner import CellsFailedError, run_study
from qsim.study.statistics import (
    Band,
    Bands,
    Bootstrap,
    Reach,
    StudentT,
    reach,
    resample,
)
from qsim.study.store import Store, StoreError
from qsim.study.study import Study
from qsim.study.tuning import Candidate, Choice, FewestRounds, LeastFinal, Rule, Tuned, Tuning, powers_of_two

__all__ = [
    "BOUND_LABEL",
    "COLUMN_WIDTH",
    "STYLE",
    "TEXT_WIDTH",
    "AxisSpec",
    "Band",
    "Bands",
    "Bootstrap",
    "Candidate",
    "Cell",
    "CellsFailedError",
    "Choice",
    "Claim",
    "Comparison",
    "FewestRounds",
    "LeastFinal",
    "Panel",
    "PaperStudy",
    "Reach",
    "Results",
    "Rule",
    "Settings",
    "Store",
    "StoreError",
    "StudentT",
    "Study",
    "Tuned",
    "Tuning",
    "Value",
    "bullets",
    "compare",
    "draw",
    "draw_band",
    "draw_bound",
    "draw_comparisons",
    "each_seed",
    "figure_grid",
    "legend_below",
    "legend_beside",
    "log_axes",
    "look",
    "no_winner",
    "note_coinciding",
    "panel_letters",
    "panels",
    "powers_of_two",
    "reach",
    "reach_table",
    "resample",
    "run_study",
    "significance",
    "table",
    "winner",
]


def __dir__() -> list[str]:
    return __all__
