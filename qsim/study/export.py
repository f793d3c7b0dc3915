"""All cells of a study as one table: a row for each cell and round, with what the cell was run with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsim.simulation import Run
from qsim.storage import replacing
from qsim.study.catalog import RequestError
from qsim.study.cells import Cell
from qsim.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

_ALWAYS = ("compressor", "workers", "seed")
_OTHER_NAMES = {"rounds": "rounds of the run", "test": "test data"}


def frame(name: str, cells: Sequence[Cell], traces: Sequence[Trace]) -> pd.DataFrame:
    """Return the rounds of all cells: study, curve, parameters, and the columns of `Trace.frame`.

    Parameters are the compressor, the number of workers, the seed, and every other argument of `Run` that is not the
    same in all cells; options stand as the code that makes them.
    """
    import pandas as pd

    wanted = [field.name for field in fields(Run) if field.name in _ALWAYS or _differs(cells, field.name)]
    parts = []
    for cell, trace in zip(cells, traces, strict=True):
        given = {_OTHER_NAMES.get(field, field): _plain(getattr(cell.run, field)) for field in wanted}
        parts.append(pd.DataFrame({"study": name, "curve": cell.curve, **given, **trace.columns}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def require(kind: str) -> None:
    """Refuse Parquet where there is nothing to write it with. Raises RequestError."""
    if kind == "parquet" and find_spec("pyarrow") is None:
        raise RequestError("Parquet needs the package pyarrow: pip install pyarrow; or write --format csv")


def write(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as .csv or .parquet, by the suffix of the path; returns the path."""
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, engine="pyarrow", index=False)
        else:
            table.to_csv(temporary, index=False, lineterminator="\n")
    return path


def _differs(cells: Sequence[Cell], field: str) -> bool:
    return len({repr(getattr(cell.run, field)) for cell in cells}) > 1


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else repr(value)
