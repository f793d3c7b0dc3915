"""Checks in a notebook: a student's functions, asked and judged where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qsim.lessons.answers import Failure, ask
from qsim.lessons.tasks import TASKS, Task, Verdict
from qsim.options import nearest


@dataclass(frozen=True, repr=False)
class Report:
    """What was found about a student's function.

    Parameters
    ----------
    task : Task
        What was asked for.
    verdicts : sequence of Verdict
        What was found, criterion by criterion.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> def average(norms, levels, s):
    ...     return norms @ levels / s
    >>> print(qsim.lessons.check(average))
    average(norms, levels, s): 0 of 2 points
      no   the value: this is the sum of the 4 messages, not their mean
    """

    task: Task
    verdicts: Sequence[Verdict]

    @property
    def points(self) -> int:
        """The points that the function has."""
        return sum(verdict.points for verdict in self.verdicts if verdict.good)

    @property
    def good(self) -> bool:
        """Whether it has all of them."""
        return self.points == self.task.points

    def __repr__(self) -> str:
        lines = [f"{self.task.signature}: {self.points} of {self.task.points} points"]
        reasons = dict.fromkeys((one.good, one.reason) for one in self.verdicts)
        for good, reason in reasons:
            what = ", ".join(one.what for one in self.verdicts if (one.good, one.reason) == (good, reason))
            lines.append(f"  {'yes' if good else 'no '}  {what}: {reason}")
        return "\n".join(lines)


def task_of(function: Callable[..., Any]) -> Task:
    """Return the task of a function, by its name."""
    name = getattr(function, "__name__", str(function))
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}{nearest(name, TASKS)}; they are {', '.join(TASKS)}")
    return TASKS[name]


def check(function: Callable[..., Any], *, seed: int = 0) -> Report:
    """Check a function of the exercise, and say what is right and what is not, and why.

    The function is called with vectors and messages of all kinds, and what it returns is compared with exact values,
    with laws that hold for every correct quantizer, and with the bytes that qsim sends. It is the same check as that of
    `qsim mark`, on other vectors.

    Parameters
    ----------
    function : callable
        The function; its name says which task it is of.
    seed : int, default 0
        The vectors and draws that are used.

    Returns
    -------
    Report
        What was found; a notebook shows it as text.

    Raises
    ------
    ValueError
        If no task has this name.

    Notes
    -----
    By each criterion a correct quantizer is called wrong with a chance below 1e-10: means of 4,000 messages are held to
    Bernstein's inequality with the exact variance. A bias of 0.15 norm/s in any coordinate is found as surely.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> def simple(v, rng):
    ...     norm = np.linalg.norm(v)
    ...     return norm, np.sign(v) * (rng.random(v.size) * norm < np.abs(v))
    >>> qsim.lessons.check(simple).good
    True
    """
    task = task_of(function)
    calls = task.calls(seed)
    return Report(task, task.judge(calls, ask(function, calls)))


def written(*functions: Callable[..., Any]) -> bool:
    """Tell whether functions of the exercise are written, and print which are not.

    Cells that use them begin with it, so that a notebook with blanks runs from top to bottom.

    Parameters
    ----------
    *functions : callable
        The functions.

    Returns
    -------
    bool
        Whether none of them raises NotImplementedError.

    Examples
    --------
    >>> import qsim
    >>> def simple(v, rng):
    ...     raise NotImplementedError("yours")
    >>> qsim.lessons.written(simple)
    First write simple(v, rng).
    False
    """
    missing = []
    for function in functions:
        task = task_of(function)
        answers = ask(function, task.calls(0)[-1:])
        if isinstance(answers, Failure) and answers.why == "is not written yet":
            missing.append(task.signature)
    if missing:
        print(f"First write {' and '.join(missing)}.")
    return not missing
