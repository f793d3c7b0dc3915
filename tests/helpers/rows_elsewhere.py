"""Data in many files, and the same rows in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import vstack

import qsim
from qsim.datasets import Dataset, HashedText, Parts, save_clicks, save_npz
from qsim.testing.training import Sizes

WORKERS = 7
LOGISTIC = qsim.LogisticRegression(0.01)


def click_parts(folder: Path, sizes: tuple[int, ...] = (30, 47, 11), features: int = 2**8) -> Parts:
    for part, rows in enumerate(sizes):
        save_clicks(folder / f"day-{part}.tsv.gz", rows, part=part)
    return Parts(HashedText(folder / "day-*.tsv.gz", features))


def npz_parts(folder: Path, kind: Any, features: int = 12) -> Parts:
    """Three files of random rows with labels of a kind."""
    random = np.random.default_rng(5)
    for part, rows in enumerate((9, 21, 14)):
        dense = random.standard_normal((rows, features)) * (random.random((rows, features)) < 0.4)
        labels = random.integers(0, 3, rows) if kind == "classes" else random.standard_normal(rows)
        classes = 3 if kind == "classes" else None
        save_npz(folder / f"{part}.npz", Dataset.from_arrays(dense, labels, empty="keep", kind=kind, classes=classes))
    return Parts(folder / "*.npz")


def together(parts: Parts, workers: int = WORKERS) -> tuple[Dataset, Sizes]:
    """All rows in one place, and who holds them."""
    known: Any = parts.load()
    pieces = [source.load() for source in parts.sources(parts.files())]
    matrix, labels = vstack([piece.to_scipy() for piece in pieces]), np.concatenate([piece.labels for piece in pieces])
    sizes = tuple(known.shared_out(workers, 1).sizes.tolist())
    return Dataset.from_arrays(matrix, labels, empty="keep", kind=known.kind), Sizes(sizes)


def run_of(data: Any, **options: Any) -> qsim.Run:
    settings: dict[str, Any] = {"objective": LOGISTIC, "workers": WORKERS, "rounds": 6, "optimum": False, "seed": 3}
    return qsim.Run(data, **settings | options)


def require_same(trace: qsim.Trace, other: qsim.Trace, evaluations: float = 0.0) -> None:
    """Refuse traces that are not the same to the last bit; evaluations may be off by so much of them."""
    assert np.array_equal(trace.weights, other.weights)
    for name, column in trace.columns.items():
        if name in ("loss", "gradient_norm", "train_error", "test_loss", "test_error"):
            np.testing.assert_allclose(column, other.columns[name], rtol=evaluations)
        else:
            np.testing.assert_array_equal(column, other.columns[name])
