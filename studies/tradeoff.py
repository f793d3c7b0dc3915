"""The trade-off between iterations and communication: iterations to a target, bits an iteration, and their product."""

from __future__ import annotations

from functools import lru_cache
from math import log2, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

import qsim
from qsim.study import STYLE, TEXT_WIDTH, Cell, Results, Settings, Study, look

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LEVELS = (1, 2, 4, 8, 16, 32)
MULTIPLES = (1, 2, 4)
"""The steps that are tried: so many times what theory gives."""
TARGET = 0.01
OBJECTIVE = qsim.LogisticRegression(l2=1e-3)
UNCOMPRESSED = "uncompressed"


def fleets(settings: Settings) -> list[int]:
    """Return the numbers of workers: one, and those of the settings."""
    return sorted({1, settings.workers})


def theory_step(settings: Settings, levels: int | None, workers: int) -> float:
    """Return 1/(L (1 + omega/W)): with it gradient descent falls for every W and omega (no levels: omega = 0)."""
    data = qsim.datasets.load(settings.data)
    omega = qsim.QSGD(levels).variance(data.features) if levels else 0.0
    return 1 / (_smoothness(settings.data) * (1 + omega / workers))


@lru_cache
def _smoothness(data: str) -> float:
    return OBJECTIVE.smoothness(qsim.datasets.load(data))


def curve(levels: int | None, workers: int, multiple: int) -> str:
    name = f"s = {levels}" if levels else UNCOMPRESSED
    return f"{name}, W = {workers}, step x {multiple}"


def cells(settings: Settings) -> list[Cell]:
    data = qsim.datasets.load(settings.data)
    return [
        Cell(
            curve(levels, workers, multiple),
            qsim.Run(
                data,
                objective=OBJECTIVE,
                method=qsim.GradientDescent(
                    step=qsim.steps.Constant(multiple * theory_step(settings, levels, workers))
                ),
                compressor=qsim.QSGD(levels) if levels else qsim.Identity(),
                workers=workers,
                rounds=settings.rounds,
                seed=seed,
                evaluate_every=4,
                until=qsim.until.Suboptimality(TARGET),
            ),
        )
        for workers in fleets(settings)
        for levels in (None, *LEVELS)
        for multiple in MULTIPLES
        for seed in range(settings.seeds)
    ]


def setting(settings: Settings) -> str:
    data = qsim.datasets.load(settings.data)
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {data.name} ({data.rows:,} rows, {data.features} features),"
        f" shuffled over W workers; full-batch updates quantized by QSGD with the l2 norm and s levels in the varint"
        f" code. Iterations until the loss is within {TARGET:g} of its minimum, the mean over {settings.seeds} seeds;"
        f' a run that needs more than {settings.rounds:,} iterations counts as not reaching it. "Theory\'s step" is'
        ' 1/(L (1 + omega/W)), omega the variance bound of QSGD; "best step" is the one of'
        f" {', '.join(map(str, MULTIPLES))} times it with the fewest iterations: every s gets the same number of tries."
        " Theory's curves: iterations grow as 1 + omega/W, from those of the uncompressed run with step 1/L; bits an"
        " iteration are at most (3 + 3/2 log2(2 (s^2 + n)/(s (s + sqrt n)))) s (s + sqrt n) + 32 (Alistarh et al. 2017,"
        " Theorem 3.2, without its o(1) term: drawn for comparison, not a bound that holds at this n). Bits are of one"
        " worker, way up, without the stream header."
    )


def numbers(results: Results) -> pd.DataFrame:
    """Return for each W, s and step: iterations to the target (infinite: not reached), bits of each, their product."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for workers in fleets(results.settings):
        for levels in (None, *LEVELS):
            for multiple in MULTIPLES:
                traces = results.traces[curve(levels, workers, multiple)]
                reached = all(trace.columns["suboptimality"][-1] <= TARGET for trace in traces)
                iterations = [trace.columns["round"][-1] for trace in traces]
                bits = [trace.columns["bits_up"][2:].mean() / workers for trace in traces]  # round 1 has the headers
                mean = float(np.mean(iterations)) if reached else float("inf")
                half = float(2 * np.std(iterations, ddof=1) / sqrt(len(traces))) if reached and len(traces) > 1 else 0.0
                rows.append(
                    {
                        "workers": workers,
                        "s": levels or 0,
                        "multiple": multiple,
                        "iterations": mean,
                        "two standard errors": half,
                        "bits an iteration": float(np.mean(bits)),
                        "bits to the target": mean * float(np.mean(bits)),
                    }
                )
    return pd.DataFrame(rows)


def best(table: pd.DataFrame, workers: int, levels: int) -> Any:
    """Return the row of the step with the fewest iterations."""
    rows = table[(table["workers"] == workers) & (table["s"] == levels)]
    return rows.loc[rows["iterations"].idxmin()]


def by_theory(table: pd.DataFrame, workers: int, levels: int) -> Any:
    """Return the row of theory's step."""
    rows = table[(table["workers"] == workers) & (table["s"] == levels) & (table["multiple"] == 1)]
    return rows.iloc[0]


def predicted(results: Results, table: pd.DataFrame, workers: int, levels: int) -> tuple[float, float]:
    """Return the iterations and bits an iteration of theory."""
    n = qsim.datasets.load(results.settings.data).features
    omega = qsim.QSGD(levels).variance(n)
    iterations = by_theory(table, workers, 0)["iterations"] * (1 + omega / workers)
    kept = levels * (levels + sqrt(n))
    return iterations, (3 + 1.5 * log2(2 * (levels**2 + n) / kept)) * kept + 32


def answers(results: Results) -> list[str]:
    table = numbers(results)
    lines: dict[str, list[str]] = {"theory": [], "bits": [], "product": []}
    for workers in fleets(results.settings):
        rows = {s: best(table, workers, s) for s in LEVELS}
        given = {s: by_theory(table, workers, s) for s in LEVELS}
        few, many = LEVELS[0], LEVELS[-1]
        lines["theory"].append(
            f"\n- W = {workers}: with theory's step "
            + ", ".join(
                f"s = {s}: {_count(given[s])} (theory {predicted(results, table, workers, s)[0]:,.0f})" for s in LEVELS
            )
            + f"; with the best step {', '.join(f's = {s}: {_count(rows[s])}' for s in LEVELS)}; uncompressed"
            f" {_count(best(table, workers, 0))}."
        )
        lines["bits"].append(
            f"\n- W = {workers}: {rows[few]['bits an iteration']:,.0f} at s = {few},"
            f" {rows[many]['bits an iteration']:,.0f} at s = {many},"
            f" {best(table, workers, 0)['bits an iteration']:,.0f} uncompressed."
        )
        cheapest = min(LEVELS, key=lambda s: rows[s]["bits to the target"])
        cost = rows[cheapest]["bits to the target"]
        lines["product"].append(
            f"\n- W = {workers}: s = {cheapest}, {cost:,.0f} bits a worker;"
            f" {_times(rows[many], cost)} at s = {many}, {_times(best(table, workers, 0), cost)} without compression."
            if np.isfinite(cost)
            else f"\n- W = {workers}: no s reaches the target."
        )
    return ["\n" + "".join(part) for part in lines.values()]


def _times(row: Any, cost: float) -> str:
    bits = row["bits to the target"]
    return f"{bits / cost:.1f} times as many" if np.isfinite(bits) else "it is not reached"


def _count(row: Any) -> str:
    if not np.isfinite(row["iterations"]):
        return "not reached"
    return f"{row['iterations']:,.0f} +- {row['two standard errors']:,.0f}"


def draw(results: Results) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    table = numbers(results)
    quantities = ("iterations", "bits an iteration", "bits to the target")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 2.6), layout="constrained")
        axes = figure.subplots(1, 3)
        for place, workers in enumerate(fleets(results.settings)):
            theory = np.array([predicted(results, table, workers, s) for s in LEVELS]).T
            lines = {
                "best step": [[best(table, workers, s)[name] for s in LEVELS] for name in quantities],
                "theory's step": [[by_theory(table, workers, s)[name] for s in LEVELS] for name in quantities],
                "theory": [*theory, theory[0] * theory[1]],
            }
            for (name, values), dash in zip(lines.items(), ("-", "--", ":"), strict=True):
                style = look(place) | {"linestyle": dash} | ({"marker": ""} if name == "theory" else {})
                for ax, line in zip(axes, values, strict=True):
                    ax.plot(LEVELS, line, label=f"W = {workers}, {name}", **style)
        for ax, name in zip(axes, quantities, strict=True):
            uncompressed = best(table, results.settings.workers, 0)[name]
            ax.axhline(uncompressed, color="0.5", linewidth=0.8, label=f"W = {results.settings.workers}, uncompressed")
        reached = np.isfinite(table["iterations"]).any()
        for letter, ax, name in zip("abc", axes, quantities, strict=True):
            ax.set(xscale="log", yscale="log" if reached else "linear", xlabel="levels s", ylabel=name)
            ax.set_xticks(LEVELS, labels=[str(s) for s in LEVELS])
            ax.minorticks_off()
            ax.set_title(f"({letter})", loc="left")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


study = Study(
    title="The trade-off: iterations to a target, bits an iteration, and their product",
    questions=(
        "How do the iterations fall with s?",
        "How do the bits of an iteration grow?",
        "Which s needs the fewest bits in all (with its best step)?",
    ),
    defaults=Settings(data="adult", workers=8, rounds=1500, seeds=3),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
)
