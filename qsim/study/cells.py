"""Cells: the runs of a study, and its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import qsim
from qsim.datasets import Dataset
from qsim.engines import Engine, Serial
from qsim.network import Network
from qsim.options import option, whole
from qsim.simulation import Run
from qsim.study.statistics import Bands, StudentT

COMPARED = (
    "Comparisons are paired by seed. The intervals of a list hold jointly at 95% (Bonferroni), and a difference is"
    " beyond the seed noise if and only if its interval excludes none; where none is found, the text says which one"
    " would have been with a power of about 80%."
)
"""Comparisons, in words for a caption."""

_T = TypeVar("_T")
_CellT = TypeVar("_CellT", bound="Cell")


@option
class Settings:
    """The settings of a study, which the command line can change.

    Parameters
    ----------
    data : str
        What `qsim.datasets.load` takes.
    workers : int
        How many workers there are.
    rounds : int
        How many rounds a run has.
    seeds : int
        How many seeds: 0, 1, ...
    vectors : str, optional
        A .npy file of recorded vectors, for studies that take one.
    bands : Bands, default `StudentT()`
        How intervals over seeds are made.
    network : Network, optional
        A cluster for all runs to be timed on; what a figure draws over bits is then drawn over virtual seconds.

    Raises
    ------
    ValueError
        For a number below 1.
    TypeError
        For a network of another type.

    Examples
    --------
    >>> settings = Settings("spark_sample", workers=8, rounds=40, seeds=5)
    >>> settings.name
    'spark_sample'
    """

    data: str
    workers: int
    rounds: int
    seeds: int
    vectors: str | None = None
    bands: Bands = StudentT()
    network: Network | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "rounds", "seeds"):
            whole(name, getattr(self, name), least=1)
        if not isinstance(self.network, (Network, type(None))):
            raise TypeError(f"network must be None or a qsim.Network(...), found {self.network!r}")

    @property
    def name(self) -> str:
        """The name of the data set in figures: its name, or that of its file."""
        return Path(self.data).name.encode("utf-8", "backslashreplace").decode()  # tables take no other text

    def load(self) -> Dataset:
        """Return the data set."""
        return qsim.datasets.load(self.data)

    @property
    def dataset(self) -> str:
        """The data, in words for a caption."""
        data = self.load()
        return f"{data.name} ({data.rows:,} rows, {data.features} features)"

    @property
    def statistics(self) -> str:
        """Seeds and bands, in words for a caption."""
        if self.seeds == 1:
            return "One seed, so no bands."
        return (
            f"Means of {self.seeds} seeds (of suboptimality and gradient norms geometric means, with the bands of"
            f" logarithms); bands are {self.bands.words}{self._skewed}. {COMPARED}"
        )

    @property
    def _skewed(self) -> str:
        few = isinstance(self.bands, StudentT) and self.seeds <= 20
        return " (less for a skewed quantity: of 5 exponential numbers they cover the mean in 88%)" if few else ""


@dataclass(frozen=True)
class Cell:
    """One run of a study, on one curve of its figure.

    The cells of a curve differ only in the seed.

    Parameters
    ----------
    curve : str
        The name of the curve.
    run : Run
        The run.
    engine : Engine, default `Serial()`
        Where its workers run.

    Examples
    --------
    >>> import qsim
    >>> run = qsim.Run("spark_sample", qsim.LogisticRegression(l2=0.1), qsim.GradientDescent(step=0.5), seed=3)
    >>> Cell("uncompressed", run).name
    'uncompressed, seed 3'
    """

    curve: str
    run: Run
    engine: Engine = field(default_factory=Serial)

    @property
    def name(self) -> str:
        """The name of the cell: the curve and the seed."""
        return f"{self.curve}, seed {self.run.seed}"


def each_seed(settings: Settings, curves: Mapping[str, _T], run: Callable[[_T, int], Run]) -> list[Cell]:
    """Return a cell for each curve and seed.

    Parameters
    ----------
    settings : Settings
        Says how many seeds: 0, 1, ...
    curves : mapping of str to object
        What each curve stands for, by its name.
    run : callable
        Returns the `Run` of (what the curve stands for, seed).

    Returns
    -------
    list of Cell
        The cells.

    Examples
    --------
    >>> import qsim
    >>> def run(compressor, seed):
    ...     method = qsim.GradientDescent(step=0.5)
    ...     return qsim.Run("spark_sample", qsim.LogisticRegression(l2=0.1), method, compressor, seed=seed)
    >>> settings = Settings("spark_sample", workers=8, rounds=40, seeds=2)
    >>> [cell.name for cell in each_seed(settings, {"s = 1": qsim.QSGD(1)}, run)]
    ['s = 1, seed 0', 's = 1, seed 1']
    """
    return [Cell(curve, run(value, seed)) for curve, value in curves.items() for seed in range(settings.seeds)]


def timed_on(network: Network | None, cells: Sequence[_CellT]) -> list[_CellT]:
    """Return cells whose runs are timed on a network (None: the cells as they are).

    Raises ValueError if there are none, if they have networks already, or if theirs cannot be carried.
    """
    if network is None:
        return list(cells)
    if not cells or any(cell.run.network is not None for cell in cells):
        raise ValueError("this study has runs on networks of its own, or none at all: it takes no other network")
    return [replace(cell, run=replace(cell.run, network=network)) for cell in cells]
