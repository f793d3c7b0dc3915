"""Findings in words: lists, tables, and what the noise allows to say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qsim.study.comparisons import Comparison
from qsim.study.results import Results
from qsim.trace import LABELS


def bullets(lines: Iterable[str]) -> str:
    r"""Return a Markdown list, to stand at the end of an answer.

    Parameters
    ----------
    lines : iterable of str
        The items.

    Returns
    -------
    str
        The list.

    Examples
    --------
    >>> bullets(["one", "two"])
    '\n\n- one\n- two'
    """
    return "\n" + "".join(f"\n- {line}" for line in lines)


def table(columns: Sequence[str], rows: Mapping[str, Sequence[object]], corner: str = "") -> str:
    """Return a Markdown table, to stand at the end of an answer.

    Parameters
    ----------
    columns : sequence of str
        The heads of the columns.
    rows : mapping of str to sequence
        What stands in each row, by its name.
    corner : str, default ""
        The head of the names.

    Returns
    -------
    str
        The table.

    Examples
    --------
    >>> print(table(["bits"], {"s = 1": [48]}).strip())
    | | bits |
    | --- | --- |
    | s = 1 | 48 |
    """
    lines = [f"| {corner} | ".replace("  ", " ") + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    lines += [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in rows.items()]
    return "\n\n" + "\n".join(lines)


def significance(found: Mapping[str, Comparison]) -> str:
    """Say of a list of comparisons which differ beyond the seed noise, and what would have been found in the others.

    Parameters
    ----------
    found : mapping of str to Comparison
        The comparisons, by curve.

    Returns
    -------
    str
        One or more sentences.

    Examples
    --------
    >>> one, two = Comparison(0.1, 0.05, 0.15, 0.001, 5), Comparison(0.1, -0.2, 0.4, 0.8, 5, detectable=0.41)
    >>> significance({"s = 1": one, "s = 2": two})
    'Beyond the seed noise: s = 1. No difference found: s = 2 (one of 0.41 would have been).'
    """
    if all(comparison.kind == "one seed" for comparison in found.values()):
        return "With one seed the noise is not known."
    named = {
        "Beyond the seed noise": [name for name, c in found.items() if c.kind == "beyond"],
        "Different by the same for all seeds": [n for n, c in found.items() if c.kind != "beyond" and c.beyond_noise],
        "Equal for all seeds": [n for n, c in found.items() if c.kind == "deterministic" and not c.beyond_noise],
        "Not defined": [name for name, c in found.items() if c.kind == "not defined"],
    }
    parts = [
        f"{text}: {'all' if len(names) == len(found) > 1 else '; '.join(names)}."
        for text, names in named.items()
        if names
    ]
    near = _not_found(found)
    if near:
        names = "any" if len(near) == len(found) > 1 else "; ".join(near)
        parts.insert(1 if named["Beyond the seed noise"] else 0, f"No difference found: {names} ({_would(near)}).")
    return " ".join(parts)


def winner(best: str, others: Mapping[str, Comparison]) -> str:
    """Say of a winner whether its lead over the others is beyond the seed noise.

    Parameters
    ----------
    best : str
        The winner.
    others : mapping of str to Comparison
        The comparisons of the others with it.

    Returns
    -------
    str
        A phrase.

    Examples
    --------
    >>> winner("s = 1", {"s = 2": Comparison(1.1, 0.9, 1.3, 0.2, 5, ratio=True, detectable=1.32)})
    's = 1; no difference found to s = 2 (one of 1.32 times would have been)'
    """
    if not others:
        return f"{best}, the only one"
    if all(comparison.kind == "one seed" for comparison in others.values()):
        return f"{best} (one seed: the noise is not known)"
    near = _not_found(others)
    equal = [name for name, c in others.items() if c.kind == "deterministic" and not c.beyond_noise]
    unknown = [name for name, c in others.items() if c.kind == "not defined"]
    said = [f"no difference found to {'; '.join(near)} ({_would(near)})"] if near else []
    said += [f"equal for all seeds: {'; '.join(equal)}"] if equal else []
    said += [f"not to be compared: {'; '.join(unknown)}"] if unknown else []
    return "; ".join([best, *said]) if said else f"{best}, beyond the seed noise"


def _not_found(found: Mapping[str, Comparison]) -> dict[str, Comparison]:
    return {name: comparison for name, comparison in found.items() if comparison.kind == "not found"}


def _would(near: Mapping[str, Comparison]) -> str:
    """Say which differences would have been found, from the least to the largest."""
    sizes = [comparison.least for comparison in sorted(near.values(), key=lambda c: c.detectable)]
    return f"one of {sizes[0]}{f' to {sizes[-1]}' if sizes[-1] != sizes[0] else ''} would have been"


def no_winner(results: Results, curves: Sequence[str], target: float, *, axis: str = "bits") -> str:
    """Say why `Results.cheapest` names no curve: the target costs nothing, or is not reached by all seeds of any curve.

    Parameters
    ----------
    results : Results
        The results.
    curves : sequence of str
        The curves.
    target : float
        The target.
    axis : str, default "bits"
        What is spent.

    Returns
    -------
    str
        A phrase.

    Examples
    --------
    >>> from qsim.study import Settings, catalog, run_study
    >>> _, study = catalog.find("seminar")
    >>> results = run_study(study, Settings("spark_sample", workers=4, rounds=5, seeds=2), cache=False)
    >>> isinstance(no_winner(results, results.curves, target=1e-9), str)
    True
    """
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
    axis: str = "bits",
    per: float = 1.0,
    unit: str | None = None,
) -> str:
    """Return a Markdown table of what each curve spends to reach each target.

    Parameters
    ----------
    results : Results
        The results.
    curves : sequence of str
        The rows.
    targets : sequence of float
        The columns.
    quantity : str, default "suboptimality"
        An axis of `Trace`.
    axis : str, default "bits"
        What is spent; by default what is sent on uplink and downlink.
    per : float, default 1.0
        Costs are divided by this, such as the number of workers.
    unit : str, optional
        What the axis is called.

    Returns
    -------
    str
        The table. Cells are geometric means over seeds with 95% intervals, to the first evaluated round at or below the
        target; if not all seeds reach it, the cell says how many do, and no mean is given.

    Examples
    --------
    >>> from qsim.study import Settings, catalog, run_study
    >>> _, study = catalog.find("seminar")
    >>> results = run_study(study, Settings("spark_sample", workers=4, rounds=5, seeds=2), cache=False)
    >>> text = reach_table(results, ["s = 1"], [0.5], "loss")
    >>> text.count("|") > 4
    True
    """
    columns = [f"{LABELS.get(quantity, quantity)} <= {target:g}" for target in targets]
    return table(
        columns,
        {curve: [results.reach(curve, target, quantity, axis=axis, per=per) for target in targets] for curve in curves},
        unit or LABELS.get(axis, axis),
    )
