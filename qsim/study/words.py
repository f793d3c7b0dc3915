"""Findings in words: lists, tables, and what the noise allows to say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qsim.study.results import Results
from qsim.study.statistics import Comparison
from qsim.trace import LABELS


def listed(lines: Iterable[str]) -> str:
    """Return a Markdown list, to stand at the end of an answer."""
    return "\n" + "".join(f"\n- {line}" for line in lines)


def table(columns: Sequence[str], rows: Mapping[str, Sequence[object]]) -> str:
    """Return a Markdown table, to stand at the end of an answer; rows: what stands in each, by its name."""
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    lines += [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in rows.items()]
    return "\n\n" + "\n".join(lines)


def beyond(found: Mapping[str, Comparison]) -> str:
    """Say which of a list of comparisons are beyond the seed noise.

    >>> beyond({"s = 1": Comparison(0.1, 0.05, 0.15, 0.001, 5), "s = 2": Comparison(0.1, -0.2, 0.4, 0.8, 5)})
    'Beyond the seed noise: s = 1; within it: s = 2.'
    """
    if all(comparison.seeds == 1 for comparison in found.values()):
        return "With one seed the noise is not known."
    names = [name for name, comparison in found.items() if comparison.beyond_noise]
    others = [name for name in found if name not in names]
    if not names:
        return "None is beyond the seed noise."
    if not others:
        return "All are beyond the seed noise."
    return f"Beyond the seed noise: {'; '.join(names)}; within it: {'; '.join(others)}."


def leads(best: str, others: Mapping[str, Comparison]) -> str:
    """Say of a winner whether its lead over the others is beyond the seed noise.

    >>> leads("s = 1", {"s = 2": Comparison(1.1, 0.9, 1.3, 0.2, 5, ratio=True)})
    's = 1; within the seed noise of it: s = 2'
    """
    if not others:
        return f"{best}, the only one"
    if all(comparison.seeds == 1 for comparison in others.values()):
        return f"{best} (one seed: the noise is not known)"
    near = [name for name, comparison in others.items() if not comparison.beyond_noise]
    return f"{best}; within the seed noise of it: {'; '.join(near)}" if near else f"{best}, beyond the seed noise"


def unled(results: Results, curves: Sequence[str], target: float, *, axis: str = "bits_up") -> str:
    """Say why `Results.cheapest` names no curve: the target costs nothing, or is not met by all seeds of any curve."""
    costs = [results.reach(curve, target, axis=axis).costs for curve in curves]
    if not any(cost.any() for cost in costs):
        return "all are there at the start"
    if any(np.isfinite(cost).all() for cost in costs):
        return "some seeds are there at the start"
    return "none gets there with every seed"


def reach_table(
    results: Results,
    curves: Sequence[str],
    targets: Sequence[float],
    quantity: str = "suboptimality",
    *,
    axis: str = "bits_up",
    per: float = 1.0,
) -> str:
    """Return a Markdown table of what each curve takes on an axis, over `per`, to come to each target.

    Cells are geometric means over seeds with 95% intervals, to the first evaluated round at or below the target; where
    not all seeds come there, it says how many, and no mean is given.
    """
    columns = [f"{LABELS.get(quantity, quantity)} <= {target:g}" for target in targets]
    return table(
        columns,
        {curve: [results.reach(curve, target, quantity, axis=axis, per=per) for target in targets] for curve in curves},
    )
