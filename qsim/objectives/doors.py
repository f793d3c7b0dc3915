"""Checks of the labels that objectives take, and of what the methods of a user's own return to kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from qsim.arrays import reals
from qsim.batch import Vectors
from qsim.batch.checks import require_rows
from qsim.datasets import DataError, Dataset
from qsim.datasets.labels import Kind
from qsim.options import real, shown

_KINDS: dict[Kind, str] = {
    "signs": "the signs -1 and +1",
    "classes": "classes 0, 1, 2, ...",
    "targets": "targets (any numbers)",
}
_ADVICE: dict[Kind, str] = {
    "signs": "for these there are LogisticRegression(l2=...) and LeastSquares(l2=...)",
    "classes": "for these there is MultinomialLogistic(l2=..., classes=...); one class against the others are signs",
    "targets": "for these there is LeastSquares(l2=...)",
}


def refuse_labels(objective: Any, takes: tuple[Kind, ...], data: Dataset) -> None:
    """Raise DataError for labels of a kind that an objective does not take."""
    if data.kind not in takes:
        shipped = type(objective).__module__.startswith("qsim.")
        own = "" if shipped else f'; or say in its class: takes = ("{data.kind}",)'
        raise DataError(
            f"{objective!r} takes {' or '.join(map(_KINDS.__getitem__, takes))}, but the labels of {data!r} are"
            f" {_KINDS[data.kind]}; {_ADVICE[data.kind]}{own}"
        )


def _vectors_at_the_door(name: str, found: Callable[..., Vectors]) -> Callable[..., Vectors]:
    """Check the vectors that a user's own objective makes for the workers of a block."""

    @wraps(found)
    def checked(self: Any, block: Any, *args: Any, **options: Any) -> Vectors:
        vectors = found(self, block, *args, **options)
        length = 1 if name == "losses" else block.n
        require_rows(f"what {name} of {self!r} returns", vectors, block.workers, length)
        return vectors

    return checked


def _numbers_at_the_door(name: str, found: Callable[..., Any]) -> Callable[..., Any]:
    """Check the numbers that a user's own objective states."""

    @wraps(found)
    def checked(self: Any, *args: Any, **options: Any) -> Any:
        what = f"what {name} of {self!r} returns"
        numbers = found(self, *args, **options)
        if name == "worker_smoothness":
            return reals(what, numbers)
        if name not in _PARTS:
            return real(what, numbers)
        parts = _PARTS[name]
        if not isinstance(numbers, tuple) or len(numbers) != len(parts):
            raise ValueError(f"{what} must be {' and '.join(parts)}, found {shown(numbers)}")
        shape = np.shape(args[0] if args else options["w"])
        return tuple(
            reals(f"{part} that {name} of {self!r} returns", number, shape)
            if part == "the gradient"
            else real(f"{part} that {name} of {self!r} returns", number)
            for part, number in zip(parts, numbers, strict=True)
        )

    return checked


_PARTS = {
    "value_and_gradient": ("the value", "the gradient"),
    "evaluate": ("the value", "the gradient", "the error"),
    "loss_and_error": ("the loss", "the error"),
}

AT_THE_DOOR: dict[str, Callable[..., Any]] = dict.fromkeys(
    ("update", "losses", "hvp", "local_steps"), _vectors_at_the_door
) | dict.fromkeys(
    (
        "value_and_gradient",
        "evaluate",
        "loss_and_error",
        "error",
        "smoothness",
        "worker_smoothness",
        "row_smoothness",
        "strong_convexity",
        "curvature_bound",
    ),
    _numbers_at_the_door,
)
"""The methods of an objective of one's own whose results are looked at before anything is done with them."""
