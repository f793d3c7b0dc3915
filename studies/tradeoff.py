"""The trade-off between iterations and communication: iterations to a target, bits an iteration, and their product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import log2, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

import qsim
from qsim.study import (
    Cell,
    Choice,
    FewestRounds,
    Reach,
    Results,
    Settings,
    Study,
    Tuning,
    each_seed,
    leads,
    legend_below,
    letters,
    log_axes,
    look,
    sheet,
    table,
    unled,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LEVELS = (1, 2, 4, 8, 16, 32)
MULTIPLES = (1, 2, 4, 8)
"""The steps that are tried: so many times 1/L."""
TARGET = 0.01
EVERY = 4
OBJECTIVE = qsim.LogisticRegression(l2=1e-3)
THEORY, TUNED = "theory's step", "tuned step"
"""The steps that are shown."""
Case = tuple[int, int]
"""The number of levels (0: uncompressed) and of workers."""


def fleets(settings: Settings) -> list[int]:
    """Return the numbers of workers: one, and those of the settings."""
    return sorted({1, settings.workers})


def cases(settings: Settings) -> dict[str, Case]:
    """Return what is tuned, by name."""
    return {name(s, workers): (s, workers) for workers in fleets(settings) for s in (0, *LEVELS)}


def name(levels: int, workers: int) -> str:
    return f"{f's = {levels}' if levels else 'uncompressed'}, W = {workers}"


def curve(levels: int, workers: int, step: str) -> str:
    return f"{name(levels, workers)}, {step}"


@lru_cache
def full_step(settings: Settings) -> float:
    """Return 1/L."""
    return 1 / OBJECTIVE.smoothness(settings.load())


def theory_step(settings: Settings, levels: int, workers: int) -> float:
    """Return 1/(L (1 + omega/W)): with it gradient descent falls for every W and omega (no levels: omega = 0)."""
    omega = qsim.QSGD(levels).variance(settings.load().features) if levels else 0.0
    return full_step(settings) / (1 + omega / workers)


def run(settings: Settings, case: Case, step: float, seed: int) -> qsim.Run:
    levels, workers = case
    return qsim.Run(
        settings.load(),
        objective=OBJECTIVE,
        method=qsim.GradientDescent(step=qsim.steps.Constant(step)),
        compressor=qsim.QSGD(levels) if levels else qsim.Identity(),
        workers=workers,
        rounds=settings.rounds,
        seed=seed,
        evaluate_every=EVERY,
        until=qsim.until.Suboptimality(TARGET),
    )


def to_choose(settings: Settings, case: str, multiple: float, seed: int) -> qsim.Run:
    """Return a run with 1/(4 m) of the iterations: a step m times as long should take 1/m of them."""
    found = run(settings, cases(settings)[case], multiple * full_step(settings), seed)
    return replace(found, rounds=int(settings.rounds / (4 * multiple)) + 1)


def cells(settings: Settings, choices: Mapping[str, Choice]) -> list[Cell]:
    shown = {}
    for case_name, case in cases(settings).items():
        shown[f"{case_name}, {THEORY}"] = (case, theory_step(settings, *case))
        shown[f"{case_name}, {TUNED}"] = (case, choices[case_name].value * full_step(settings))
    return each_seed(settings, shown, lambda way, seed: run(settings, *way, seed))


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset}, shuffled over W workers; full-batch"
        " updates quantized by QSGD with the l2 norm and s levels in the varint code. Iterations to the first evaluated"
        f" one (every {EVERY}) with a loss within {TARGET:g} of its minimum; a run that needs more than"
        f' {settings.rounds:,} does not reach it. "{THEORY.capitalize()}" is 1/(L (1 + omega/W)), omega the variance'
        f' bound of QSGD; the "{TUNED}" is a multiple m of 1/L, chosen for each s and W with the same budget (last'
        f" answer; to choose, m is given 1/(4 m) of the {settings.rounds:,} iterations)."
        " Theory's curves: iterations grow as 1 + omega/W, from those of the uncompressed run with step 1/L; bits an"
        " iteration are at most (3 + 3/2 log2(2 (s^2 + n)/(s (s + sqrt n)))) s (s + sqrt n) + 32 (Alistarh et al. 2017,"
        " Theorem 3.2, without its o(1) term: drawn for comparison, not a bound that holds at this n). Bits are of one"
        f" worker, way up. {settings.statistics} Here all means are geometric, with the intervals of logarithms."
    )


def reached(results: Results, levels: int, workers: int, step: str) -> dict[str, Reach]:
    """Return the iterations and the bits of a worker to the target."""
    shown = curve(levels, workers, step)
    return {
        "iterations": results.reach(shown, TARGET, axis="round"),
        "bits to the target": results.reach(shown, TARGET, axis="bits_up", per=workers),
    }


def bits_an_iteration(results: Results, levels: int, workers: int, step: str) -> float:
    """Return the mean bits of a worker's message, the stream's header included, over all iterations of all seeds."""
    traces = results.traces[curve(levels, workers, step)]
    sent = sum(trace.axis("bits_up")[-1] for trace in traces)
    return float(sent / workers / sum(trace.axis("round")[-1] for trace in traces))


def numbers(results: Results) -> pd.DataFrame:
    """Return for each W, s and step: how many seeds reach the target, iterations and bits to it, bits an iteration."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for workers in fleets(results.settings):
        for levels in (0, *LEVELS):
            for step in (THEORY, TUNED):
                found = reached(results, levels, workers, step)
                row: dict[str, Any] = {"curve": curve(levels, workers, step), "workers": workers, "s": levels}
                row |= {"step": step, "seeds": results.settings.seeds, "reached": found["iterations"].reached}
                for quantity, reach in found.items():
                    row |= {quantity: reach.mean, f"{quantity}_low": reach.low, f"{quantity}_high": reach.high}
                rows.append(row | {"bits an iteration": bits_an_iteration(results, levels, workers, step)})
    return pd.DataFrame(rows)


def predicted(results: Results, workers: int, levels: int) -> tuple[float, float]:
    """Return the iterations and bits an iteration of theory."""
    n = results.settings.load().features
    omega = qsim.QSGD(levels).variance(n)
    iterations = reached(results, 0, workers, THEORY)["iterations"].mean * (1 + omega / workers)
    kept = levels * (levels + sqrt(n))
    return iterations, (3 + 1.5 * log2(2 * (levels**2 + n) / kept)) * kept + 32


def answers(results: Results) -> list[str]:
    fleet, steps = fleets(results.settings), (THEORY, TUNED)
    iterations, bits, winners, close, off = {}, [], [], 0, []
    for workers in fleet:
        for levels in (0, *LEVELS):
            expected = predicted(results, workers, levels)[0] if levels else float("nan")
            theory = f"{expected:,.0f}" if np.isfinite(expected) else ""
            measured = reached(results, levels, workers, THEORY)["iterations"]
            if theory and np.isfinite(measured.mean):
                inside = measured.low - EVERY <= expected <= measured.high + EVERY
                close += inside
                off += [] if inside else [name(levels, workers)]
            found = [str(reached(results, levels, workers, step)["iterations"]) for step in steps]
            iterations[name(levels, workers)] = [found[0], theory, found[1]]
        few, many, none = (bits_an_iteration(results, s, workers, THEORY) for s in (LEVELS[0], LEVELS[-1], 0))
        bits.append(
            f"W = {workers}: {few:,.0f} at s = {LEVELS[0]}, {many:,.0f} at s = {LEVELS[-1]}, {none:,.0f} without"
        )
        shown = [curve(s, workers, TUNED) for s in LEVELS]
        cheapest = results.cheapest(shown, TARGET)
        if cheapest is None:
            winners.append(f"W = {workers}: {unled(results, shown, TARGET)}.")
        else:
            best, others = cheapest
            winners.append(f"W = {workers}: {leads(_s(best), {_s(other): found for other, found in others.items()})}.")
    costs = {
        name(s, workers): [reached(results, s, workers, step)["bits to the target"] for step in steps]
        for workers in fleet
        for s in (0, *LEVELS)
    }
    columns = (f"with {THEORY}", f"with the {TUNED}")
    others = f"; not for {'; '.join(off)}" if off else ""
    agreement = (
        f"What theory says lies inside the interval over seeds, give or take the {EVERY} iterations between"
        f" evaluations, in {close} of the {close + len(off)} cases in which the target is reached{others}. "
        if close or off
        else ""
    )
    return [
        f"{agreement}Iterations to the target:" + table((columns[0], "as theory says", columns[1]), iterations),
        f"With {THEORY}: {'; '.join(bits)} compression.",
        f"{' '.join(winners)} Bits of a worker to the target:{table(columns, costs)}",
    ]


def _s(shown: str) -> str:
    return shown.split(", ")[0]


def draw(results: Results) -> Figure:
    quantities = ("iterations", "bits an iteration", "bits to the target")
    at = np.array(LEVELS, float)
    with sheet(1, 3, height=2.7) as (figure, axes):
        for color, workers in enumerate(fleets(results.settings)):
            for step, dash in ((TUNED, "-"), (THEORY, "--")):
                found = [reached(results, s, workers, step) for s in LEVELS]
                style = {"linestyle": dash, "color": look(color)["color"], "marker": look(color)["marker"]}
                for ax, quantity in zip(axes[0], quantities, strict=True):
                    if quantity in found[0]:
                        ends = np.array([[r[quantity].mean, r[quantity].low, r[quantity].high] for r in found]).T
                        ax.fill_between(at, ends[1], ends[2], color=style["color"], alpha=0.2, linewidth=0)
                        middle = ends[0]
                    else:
                        middle = np.array([bits_an_iteration(results, s, workers, step) for s in LEVELS])
                    ax.plot(at, middle, label=f"W = {workers}, {step}", **style)
            theory = np.array([predicted(results, workers, s) for s in LEVELS]).T
            for ax, line in zip(axes[0], (*theory, theory[0] * theory[1]), strict=True):
                ax.plot(at, line, label=f"W = {workers}, theory", color=look(color)["color"], linestyle=":")
        workers = results.settings.workers
        without = reached(results, 0, workers, TUNED)
        levels = (
            without["iterations"].mean,
            bits_an_iteration(results, 0, workers, TUNED),
            without["bits to the target"].mean,
        )
        for ax, quantity, level in zip(axes[0], quantities, levels, strict=True):
            ax.axhline(level, color="0.5", linewidth=0.8, label=f"W = {workers}, uncompressed, {TUNED}")
            ax.set(xlabel="levels s", ylabel=quantity)
            log_axes(ax, "x", "y")
            ax.set_xticks(LEVELS, labels=[str(s) for s in LEVELS])
            ax.minorticks_off()
        letters(axes[0], ("", "", ""))
        legend_below(figure, axes[0])
    return figure


study = Study(
    title="The trade-off: iterations to a target, bits an iteration, and their product",
    questions=(
        "How do the iterations fall with s?",
        "How do the bits of an iteration grow with s?",
        "Which s needs the fewest bits in all (with its tuned step)?",
    ),
    defaults=Settings(data="adult", workers=8, rounds=1500, seeds=3),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
    tuning=Tuning(
        "multiple of 1/L as step",
        lambda settings: list(cases(settings)),
        to_choose,
        MULTIPLES,
        FewestRounds(TARGET),
    ),
)
