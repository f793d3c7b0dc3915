"""Traces that are compared to the last bit."""

from __future__ import annotations

import qsim


def same(first: qsim.Trace, second: qsim.Trace) -> bool:
    return list(first.columns) == list(second.columns) and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(
            [*first.columns.values(), first.weights], [*second.columns.values(), second.weights], strict=True
        )
    )
