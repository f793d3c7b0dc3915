"""Conformance checks that you run on parts of your own, to see that they keep the promises of the shipped ones."""

from qsim.testing.compressor import check_compressor
from qsim.testing.engine import check_engine
from qsim.testing.method import check_method
from qsim.testing.objective import check_objective
from qsim.testing.report import Finding, Report

__all__ = ["Finding", "Report", "check_compressor", "check_engine", "check_method", "check_objective"]


def __dir__() -> list[str]:
    return __all__
