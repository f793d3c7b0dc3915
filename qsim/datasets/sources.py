"""Sources: options that know how to make a data set, so that a run can be printed and evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qsim.datasets.dataset import Dataset


class Source(ABC):
    """Where a data set comes from. A subclass is an `@option`, has a `name`, and loads.

    >>> import qsim
    >>> source = qsim.datasets.load("spark_sample").source
    >>> source
    qsim.datasets.Builtin(name='spark_sample')
    >>> eval(repr(source)).load() is source.load()
    True
    """

    name: str

    @abstractmethod
    def load(self) -> Dataset:
        """Return the data set, whose `source` is this option; a source that was loaded lately is not loaded again."""
