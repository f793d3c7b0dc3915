"""The check of an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qsim.datasets import Dataset
from qsim.keys import Key
from qsim.objectives import Objective
from qsim.testing import constants, gradients, proximal, sums
from qsim.testing.cases import ObjectiveUnderTest
from qsim.testing.parts import carried_out, prints_as_code
from qsim.testing.report import Finding, Report

CHECKS: dict[str, Callable[[ObjectiveUnderTest], Finding]] = {
    "labels of the kinds that it takes": gradients.labels,
    "finite at large margins": gradients.finite,
    "a pure function of data and weights": gradients.pure,
    "in float64 for the driver": gradients.in_float64,
    "the gradient is that of the value": gradients.gradient,
    "the Hessian is that of the gradient": gradients.hessian,
    "the regulariser": gradients.regulariser,
    "a mean over rows": sums.rows,
    "workers add up to the whole": sums.workers,
    "zero where rows are": sums.support,
    "steps of SGD": sums.local_steps,
    "smoothness": constants.smoothness,
    "strong convexity": constants.strong_convexity,
    "proximal steps": proximal.steps,
    "optimum": gradients.optimum,
    "error": gradients.error,
    "pickling": gradients.pickles,
    "prints as the code that makes it": lambda subject: prints_as_code(subject.whole),
}
"""The promises of an objective, and how each is checked."""


def check_objective(objective: Objective, data: Dataset | None = None, seed: int = 0) -> Report:
    r"""Check that an objective keeps the promises that all objectives make, and those that it makes itself.

    Parameters
    ----------
    objective : Objective
        The objective.
    data : Dataset, optional
        Data of which up to 256 rows are used; by default two small data sets for each kind of labels in `takes`.
    seed : int, default 0
        The seed of all random weights and directions.

    Returns
    -------
    Report
        What was found.

    Raises
    ------
    TypeError
        If it is not an objective, or `data` is not a data set.

    Notes
    -----
    Among the promises: the gradient is the derivative of the value, the product with the Hessian that of the gradient
    (against central differences of several steps, of which the best comes to about 1e-9 of the derivative; 1e-6 is let
    pass, so that nothing correct is called broken); :math:`F` is a mean over rows, and what workers compute of theirs
    adds up to it, in float64 and float32; :math:`L`, :math:`L_i` and :math:`\mu` hold, if they are stated, for the
    curvature that is found. Of an objective with a nonsmooth part :math:`h` all this is about the rest, and besides,
    :math:`F` has :math:`h` once, its gradient is the subgradient of least norm, and proximal steps end where they
    should.

    Examples
    --------
    >>> import qsim
    >>> report = qsim.testing.check_objective(qsim.LogisticRegression(l2=0.01))
    >>> report.good
    True
    >>> report.findings["strong convexity"].claimed
    0.01
    """
    return Report(repr(objective), dict(findings(objective, data, seed)))


def findings(objective: Objective, data: Dataset | None = None, seed: int = 0) -> Iterator[tuple[str, Finding]]:
    """Check one promise after the other; see `check_objective`."""
    if not isinstance(objective, Objective):
        raise TypeError(
            f"only an Objective can be checked, such as qsim.LogisticRegression(l2=1e-4); found {objective!r}"
        )
    if not isinstance(data, (Dataset, type(None))):
        raise TypeError(f'data must be a Dataset, such as qsim.datasets.load("adult"); found {data!r}')
    return carried_out(CHECKS, ObjectiveUnderTest(objective, Key(seed), data))
