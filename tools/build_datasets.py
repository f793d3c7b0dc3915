"""Build the files of the built-in data sets from their raw data: `python tools/build_datasets.py RAW_DIR [OUT_DIR]`.

RAW_DIR holds `adult/adult.data.xz`, `adult/adult.test.xz` and `adult/adult.names` of the UCI repository, and
`spark/sample_svm_data.txt` of Apache Spark. The same raw data give the same bytes.

Adult becomes indicators, like LIBSVM's a9a, in blocks in the order of the raw columns. A categorical column has one
feature for each category, in the order of `adult.names`. A numeric column is cut at the 20%, 40%, 60% and 80%
quantiles of the training split, each the smallest x of the column with at least that share of rows at or below x. A
value equal to a cut goes below it, so equal values share a feature; cuts that coincide, and a cut at the maximum, above
which nothing lies, are dropped. So every feature has a training row, and a column with many ties has fewer than five
features (capital-gain: zero, or more). An unknown value, "?", has no feature.

A file holds `feature_names`, and for each split `<split>/sizes` (entries in each row), `<split>/indices`,
`<split>/labels`, and `<split>/values` unless all are one.
"""

from __future__ import annotations

import csv
import lzma
import re
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.commands import command
from qsim.storage import replacing

_UNKNOWN = "?"
_SHARES = (0.2, 0.4, 0.6, 0.8)
_ADULT_COLUMNS = 14
_ADULT = {"train": "adult/adult.data.xz", "test": "adult/adult.test.xz"}
_ADULT_NAMES = "adult/adult.names"
_SPARK = "spark/sample_svm_data.txt"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code: 0, or 2 when the raw data are not there or not as expected."""
    parser = ArgumentParser(description="Build the built-in data sets' files.")
    parser.add_argument("raw", type=Path, metavar="RAW_DIR", help="folder with adult/ and spark/")
    default = Path(__file__).parents[1] / "qsim/datasets/data"
    parser.add_argument("out", type=Path, nargs="?", default=default, metavar="OUT_DIR", help=f"default: {default}")
    options = parser.parse_args(arguments)
    missing = [name for name in (*_ADULT.values(), _ADULT_NAMES, _SPARK) if not (options.raw / name).is_file()]
    if missing:
        print(f"error: {options.raw} has no {', '.join(missing)}", file=sys.stderr)
        return 2
    for name, build in (("adult", adult), ("spark_sample", spark_sample)):
        try:
            path = write(options.out / f"{name}.npz", build(options.raw))
        except ValueError as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            return 2
        print(f"wrote {path}: {path.stat().st_size:,} bytes")
    return 0


def write(path: Path, arrays: dict[str, NDArray[Any]]) -> Path:
    """Write arrays as a compressed .npz, whole or not at all. Returns the path."""
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    return path


def adult(raw: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of Adult's file, both splits."""
    splits = {split: _read_adult(raw / name) for split, name in _ADULT.items()}
    encoders = _encoders(raw / _ADULT_NAMES, splits["train"])
    starts = np.cumsum([0, *(len(encoder.features) for encoder in encoders)])
    arrays = {"feature_names": np.array([feature for encoder in encoders for feature in encoder.features])}
    for split, columns in splits.items():
        coded = [encoder.codes(column) for encoder, column in zip(encoders, columns[:-1], strict=True)]
        codes = np.stack(coded, axis=1)
        known = codes >= 0
        arrays[f"{split}/sizes"] = known.sum(axis=1).astype(np.uint8)
        arrays[f"{split}/indices"] = (codes + starts[:-1])[known].astype(np.uint8)
        arrays[f"{split}/labels"] = _incomes(columns[-1])
    return arrays


def spark_sample(raw: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of the Spark sample's file."""
    table = np.loadtxt(raw / _SPARK)
    rows = table[:, 1:].astype(np.float32)
    return {
        "feature_names": np.array([f"feature {j}" for j in range(1, rows.shape[1] + 1)]),
        "train/sizes": np.count_nonzero(rows, axis=1).astype(np.uint8),
        "train/indices": np.nonzero(rows)[1].astype(np.uint8),
        "train/values": rows[rows != 0],
        "train/labels": np.where(table[:, 0] == 1, 1, -1).astype(np.int8),
    }


@dataclass(frozen=True)
class _Categories:
    """One feature for each category."""

    column: str
    categories: tuple[str, ...]

    @property
    def features(self) -> list[str]:
        return [f"{self.column}={category}" for category in self.categories]

    def codes(self, values: Sequence[str]) -> NDArray[np.int64]:
        """Return the number of each value's category, -1 for an unknown value."""
        numbers = {category: number for number, category in enumerate(self.categories)} | {_UNKNOWN: -1}
        strange = set(values) - set(numbers)
        if strange:
            raise ValueError(f"column {self.column} has values that adult.names does not list: {sorted(strange)}")
        return np.array([numbers[value] for value in values])


@dataclass(frozen=True)
class _Bins:
    """One feature for each interval (cut, next cut]."""

    column: str
    cuts: tuple[int, ...]

    @classmethod
    def quintiles(cls, column: str, values: Sequence[str]) -> _Bins:
        numbers = np.array(values, np.int64)
        cuts = np.unique(np.quantile(numbers, _SHARES, method="inverted_cdf"))
        return cls(column, tuple(cuts[cuts < numbers.max()].astype(int).tolist()))

    @property
    def features(self) -> list[str]:
        inner = [f"{low}<{self.column}<={high}" for low, high in pairwise(self.cuts)]
        return [f"{self.column}<={self.cuts[0]}", *inner, f"{self.cuts[-1]}<{self.column}"]

    def codes(self, values: Sequence[str]) -> NDArray[np.int64]:
        """Return the number of each value's interval."""
        return np.searchsorted(self.cuts, np.array(values, np.int64), side="left")


def _encoders(description: Path, train: Sequence[Sequence[str]]) -> list[_Categories | _Bins]:
    """Read the columns that adult.names describes as `name: continuous.` or `name: category, category.`."""
    described = re.findall(r"^([a-z-]+): (.*)\.$", description.read_text(), re.MULTILINE)
    if len(described) != _ADULT_COLUMNS:
        raise ValueError(f"{description} should describe {_ADULT_COLUMNS} columns, found {len(described)}")
    return [
        _Bins.quintiles(name, values) if kind == "continuous" else _Categories(name, tuple(kind.split(", ")))
        for (name, kind), values in zip(described, train, strict=False)
    ]


def _read_adult(path: Path) -> list[tuple[str, ...]]:
    """Return the columns of a raw file, the labels last; blank lines and the test file's first comment are skipped."""
    with lzma.open(path, "rt", encoding="ascii") as file:
        lines = (line for line in file if line.strip() and not line.startswith("|"))
        rows = list(csv.reader(lines, skipinitialspace=True))
    for number, row in enumerate(rows):
        if len(row) != _ADULT_COLUMNS + 1:
            raise ValueError(f"{path}, row {number}: {_ADULT_COLUMNS + 1} columns expected, found {len(row)}")
    return list(zip(*rows, strict=True))


def _incomes(labels: Sequence[str]) -> NDArray[np.int8]:
    """Return +1 for `>50K`, -1 for `<=50K`; in the test file a full stop follows."""
    signs = {">50K": 1, ">50K.": 1, "<=50K": -1, "<=50K.": -1}
    strange = set(labels) - set(signs)
    if strange:
        raise ValueError(f"labels should be >50K or <=50K, found {sorted(strange)}")
    return np.array([signs[label] for label in labels], np.int8)


if __name__ == "__main__":
    sys.exit(main())
