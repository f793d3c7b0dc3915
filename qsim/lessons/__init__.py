"""The exercise on quantized gradients: checks for notebooks, and the figures of the slides.

`qsim mark` marks a folder of students' files. docs/lessons.md is for teachers.
"""

from qsim.lessons.checks import Report, check, written
from qsim.lessons.figures import lazy_regularisation, sparse_gradients, stochastic_quantization, timeouts, two_means
from qsim.lessons.tasks import TASKS, Task, Verdict

__all__ = [
    "TASKS",
    "Report",
    "Task",
    "Verdict",
    "check",
    "lazy_regularisation",
    "sparse_gradients",
    "stochastic_quantization",
    "timeouts",
    "two_means",
    "written",
]


def __dir__() -> list[str]:
    return __all__
