"""Sources: options that know how to make a data set, so that a run can be printed and evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qsim.datasets.dataset import Dataset


class Source(ABC):
    """Base class of sources: options that know how to make a data set, so that a run can be printed and evaluated.

    A subclass is an option (`qsim.option`), has a `name`, and loads.

    Attributes
    ----------
    name : str
        What figures call the data.

    Examples
    --------
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
        """Return the data set; a source that was loaded lately is not loaded again.

        Returns
        -------
        Dataset
            The data set, whose `source` is this option.
        """
