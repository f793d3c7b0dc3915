"""Iterations against communication: how much is due to the step rule, and how much to the quantizer's noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import log2, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.downlinks import DenseWeights, SparseSum
from qsim.study import (
    Cell,
    Choice,
    Comparison,
    FewestRounds,
    Results,
    Settings,
    Study,
    Tuning,
    compare,
    figure_grid,
    legend_below,
    log_axes,
    look,
    no_winner,
    panel_letters,
    table,
    winner,
)
from qsim.study.statistics import Band, band

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = (1, 2, 4, 8, 16)
MULTIPLES = (1.4, 2.0, 2.8, 4.0, 5.6)
"""The steps that are tried, as multiples of 1/L."""
TARGET = 0.01
OBJECTIVE = qsim.LogisticRegression(l2=1e-3)
THEORY, TUNED = "theory's step", "tuned step"
EVERY = 2  # iterations between two looks at the loss
STEPS = (THEORY, TUNED)
DASHES = {THEORY: "--", TUNED: "-"}
EXACT = ", no quantizer"
"""The same step without a quantizer: gradient descent, which has no noise, so one seed says it all."""
Case = tuple[int, int]
"""The number of levels (0: uncompressed) and of workers."""


def fleets(settings: Settings) -> list[int]:
    """Return the numbers of workers: one, those of the settings, and some in between."""
    return sorted({1, min(8, settings.workers), settings.workers})


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
        codec=qsim.codecs.Varint() if levels else None,
        downlink=SparseSum() if levels else DenseWeights(),
        workers=workers,
        rounds=settings.rounds,
        seed=seed,
        evaluate_every=EVERY,
        until=qsim.stopping.Suboptimality(TARGET),
    )


def to_choose(settings: Settings, case: str, multiple: float, seed: int) -> qsim.Run:
    """Return a run with 1/(4 m) of the iterations: a step m times as long should take 1/m of them."""
    found = run(settings, cases(settings)[case], multiple * full_step(settings), seed)
    return replace(found, rounds=int(settings.rounds / (4 * multiple)) + 1)


def cells(settings: Settings, choices: Mapping[str, Choice]) -> list[Cell]:
    found = []
    for case_name, (levels, workers) in cases(settings).items():
        lengths = {
            THEORY: theory_step(settings, levels, workers),
            TUNED: choices[case_name].value * full_step(settings),
        }
        for step, length in lengths.items():
            shown = f"{case_name}, {step}"
            found += [Cell(shown, run(settings, (levels, workers), length, s)) for s in range(settings.seeds)]
            if levels:
                found.append(Cell(shown + EXACT, run(settings, (0, workers), length, 0)))
    return found


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset}, shuffled over W workers; full-batch"
        " updates quantized by QSGD with the l2 norm and s levels in the varint code; the server sends the sum back as"
        f" sparse floats, which loses nothing. Iterations to the first evaluated one (every {EVERY},"
        f" so that ratios are known to as many) with a loss within {TARGET:g} of its minimum; a run that"
        " needs more than"
        f' {settings.rounds:,} does not reach it. "{THEORY.capitalize()}" is 1/(L (1 + omega/W)), omega the variance'
        f' bound of QSGD; the "{TUNED}" is a multiple m of 1/L, chosen for each s and W with the same budget (last'
        f" answer; to choose, m is given 1/(4 m) of the {settings.rounds:,} iterations). No quantizer: gradient descent"
        " with the very same step, the same for all seeds but for rounding. Theory's curves: iterations grow as 1 +"
        " omega/W, from those of the uncompressed run with step 1/L; bits of a message are at most (3 + 3/2 log2(2"
        " (s^2 + n)/(s (s + sqrt n)))) s (s + sqrt n) + 32 (Alistarh et al. 2017, Theorem 3.2, without its o(1) term:"
        " drawn for comparison, not a bound that holds at this n; of the uplink). Bits are of one worker, uplink and"
        f" downlink together unless it says uplink. {settings.statistics} Here all means are geometric, with the"
        " intervals of logarithms."
    )


def spent(results: Results, shown: str, axis: str, per: int = 1) -> NDArray[np.float64]:
    """Return what each seed spends to the target; infinite: it never gets there."""
    return results.reach(shown, TARGET, axis=axis, per=per).costs


def noise(results: Results, levels: int, workers: int, step: str) -> NDArray[np.float64]:
    """Return for each seed the iterations over those of gradient descent with the same step: what the noise costs."""
    shown = curve(levels, workers, step)
    exact = spent(results, shown + EXACT, "round")[0]
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(exact), spent(results, shown, "round") / exact, np.nan)


def rule(results: Results, levels: int, workers: int, step: str) -> float:
    """Return the iterations of gradient descent with a step over those with its own best: what the step rule costs."""
    exact = spent(results, curve(levels, workers, step) + EXACT, "round")[0]
    best = spent(results, curve(0, workers, TUNED), "round")[0]
    return float(exact / best) if np.isfinite([exact, best]).all() else float("nan")


def bits_per_iteration(results: Results, levels: int, workers: int, step: str, axis: str = "bits") -> float:
    """Return the mean bits of a worker in an iteration, the streams' headers included, over all seeds."""
    traces = results.traces[curve(levels, workers, step)]
    sent = sum(trace.axis(axis)[-1] for trace in traces)
    return float(sent / workers / sum(trace.axis("round")[-1] for trace in traces))


def over_seeds(results: Results, samples: NDArray[np.float64]) -> Band:
    """Return the geometric mean with its interval; NaN where not all seeds have a finite number."""
    samples = np.where(np.isfinite(samples).all() & (samples > 0), samples, np.nan)
    return band(np.zeros(1), samples[:, None], results.settings.bands, logarithmic=True)


def numbers(results: Results) -> pd.DataFrame:
    """Return for each W, s and step: iterations, bits, and what of the iterations is step and what is noise."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for workers in fleets(results.settings):
        for levels in (0, *LEVELS):
            for step in STEPS:
                shown = curve(levels, workers, step)
                costs = {
                    "iterations": spent(results, shown, "round"),
                    "bits to the target": spent(results, shown, "bits", workers),
                    "uplink bits to the target": spent(results, shown, "bits_up", workers),
                }
                row: dict[str, Any] = {"curve": shown, "workers": workers, "s": levels, "step": step}
                row |= {"seeds": results.settings.seeds, "reached": int(np.isfinite(costs["iterations"]).sum())}
                if levels:
                    costs["noise factor"] = noise(results, levels, workers, step)
                for quantity, samples in costs.items():
                    mean = over_seeds(results, samples)
                    row |= {quantity: mean.mean[0], f"{quantity}_low": mean.low[0], f"{quantity}_high": mean.high[0]}
                row |= {"bits per iteration": bits_per_iteration(results, levels, workers, step)}
                row |= {"uplink bits per iteration": bits_per_iteration(results, levels, workers, step, "bits_up")}
                rows.append(row)
                if levels:
                    iterations = spent(results, shown + EXACT, "round")[0]
                    gone = {"iterations": iterations if np.isfinite(iterations) else np.nan}
                    gone |= {"step factor": rule(results, levels, workers, step)}
                    rows.append(
                        {"curve": shown + EXACT, "workers": workers, "s": levels, "step": step, "seeds": 1} | gone
                    )
    return pd.DataFrame(rows)


def predicted(results: Results, workers: int, levels: int) -> tuple[float, float]:
    """Return theory's iterations, and its bits of a message."""
    n = results.settings.load().features
    omega = qsim.QSGD(levels).variance(n)
    iterations = spent(results, curve(0, workers, THEORY), "round")[0] * (1 + omega / workers)
    kept = levels * (levels + sqrt(n))
    return iterations, (3 + 1.5 * log2(2 * (levels**2 + n) / kept)) * kept + 32


def answers(results: Results) -> list[str]:
    return [_iterations(results), _theory(results), _bits(results), _optimum(results)]


def _iterations(results: Results) -> str:
    """Say for each W, s and step how the iterations come about."""
    costs: dict[str, dict[str, NDArray[np.float64]]] = {step: {} for step in STEPS}
    steps: dict[tuple[str, str], float] = {}
    for workers in fleets(results.settings):
        for levels in LEVELS:
            case = name(levels, workers)
            for step in STEPS:
                steps[step, case] = rule(results, levels, workers, step)
                samples = noise(results, levels, workers, step)
                if np.isfinite(samples).all():
                    costs[step][case] = samples
    ones, bands = np.ones(results.settings.seeds), results.settings.bands
    found = {step: compare(mine, ones, bands, ratio=True) for step, mine in costs.items()}
    rows: dict[str, list[object]] = {}
    for workers in fleets(results.settings):
        theirs, best = (results.reach(curve(0, workers, step), TARGET, axis="round") for step in STEPS)
        rows[name(0, workers)] = [theirs, "", "", best, "", ""]
        for levels in LEVELS:
            row: list[object] = []
            for step in STEPS:
                case = name(levels, workers)
                of_step = steps[step, case]
                row += [
                    results.reach(curve(levels, workers, step), TARGET, axis="round"),
                    f"{of_step:.3g}" if np.isfinite(of_step) else "not reached",
                    _factor(found[step].get(case)),
                ]
            rows[name(levels, workers)] = row
    said = [_noise_of(results, step, found[step]) for step in STEPS if found[step]]
    columns = [f"{step}: {what}" for step in STEPS for what in ("iterations", "step factor", "noise factor")]
    longer = [f"{case} ({of_step:.3g})" for (step, case), of_step in steps.items() if step == TUNED and of_step > 1]
    own = (
        f" A step factor above 1 at the {TUNED} means that another step was chosen with the quantizer than is the best"
        f" without one: {'; '.join(longer)}. There the noise factor is against gradient descent at that step, not at"
        " its best."
        if longer
        else ""
    )
    return (
        "Iterations = those of gradient descent with its own best step x step factor (what gradient descent pays for"
        f" the step) x noise factor (what the quantizer adds at that step; joint intervals of a column)."
        f" {' '.join(said)}{own}{table(columns, rows)}"
    )


def _noise_of(results: Results, step: str, found: dict[str, Comparison]) -> str:
    """Say what the noise does to the iterations with a step, in both directions, and what would have been found."""
    ratios = [comparison.mean for comparison in found.values()]
    beyond_it = {case: comparison for case, comparison in found.items() if comparison.beyond_noise}
    fine = {case: EVERY / exact for case, exact in _without(results, step).items()}
    told = []
    for words, sign in (("more", 1), ("fewer", -1)):
        cases_ = [case for case, c in beyond_it.items() if sign * (c.mean - 1) > 0]
        near = [case for case in cases_ if abs(found[case].mean - 1) <= fine[case]]
        far = [case for case in cases_ if case not in near]
        text = f"{words} than without a quantizer at {'; '.join(far) if far else 'none'}"
        told.append(text + (f" (and by less than the {EVERY} between two looks at {'; '.join(near)})" if near else ""))
    sizes = [c.detectable for c in found.values() if c.kind == "not found"]
    share = [f"{100 * each:.2g}%" for each in (min(fine.values()), max(fine.values()))]
    grid = f"; {EVERY} iterations, the grid of looks, are {share[0]} to {share[1]}"
    left = (
        f"; elsewhere no difference is found, one of {min(sizes):.3g} to {max(sizes):.3g} times would have been"
        if sizes
        else ""
    )
    return (
        f"With {'the ' if step == TUNED else ''}{step} the quantizer's noise multiplies the iterations by"
        f" {min(ratios):.3g} to {max(ratios):.3g}; beyond the seed noise there are {', and '.join(told)}{left}{grid}."
    )


def _without(results: Results, step: str) -> dict[str, float]:
    """Return the iterations of gradient descent at the step of each case."""
    return {
        name(levels, workers): float(spent(results, curve(levels, workers, step) + EXACT, "round")[0])
        for workers in fleets(results.settings)
        for levels in LEVELS
    }


def _factor(found: Comparison | None) -> str:
    if found is None:
        return "not known"
    if found.kind in ("deterministic", "one seed"):
        return f"{found.mean:.3g} ({'one seed' if found.kind == 'one seed' else 'all seeds'})"
    return f"{found.mean:.3g} ({found.low:.3g} to {found.high:.3g})"


def _theory(results: Results) -> str:
    """Hold theory's iterations against those with and without the quantizer."""
    rows, apart, without = {}, [], []
    for workers in fleets(results.settings):
        for levels in LEVELS:
            expected = predicted(results, workers, levels)[0]
            shown = curve(levels, workers, THEORY)
            exact, with_noise = spent(results, shown + EXACT, "round")[0], spent(results, shown, "round")
            if not np.isfinite([expected, exact, *with_noise]).all():
                continue
            apart.append(float(np.exp(np.log(with_noise).mean()) / expected))
            without.append(float(exact / expected))
            rows[name(levels, workers)] = [
                f"{expected:,.0f}",
                results.reach(shown, TARGET, axis="round"),
                f"{exact:,.0f}",
            ]
    if not rows:
        return "No s reaches the target with every seed."
    return (
        f"Measured over 1 + omega/W times the uncompressed: {min(apart):.3g} to {max(apart):.3g}. That the curve fits"
        " is no test of the quantizer's noise: without a quantizer the same steps take"
        f" {min(without):.3g} to {max(without):.3g} times theory's iterations, since the iterations of gradient descent"
        " go with 1/step, and theory makes the step 1 + omega/W times shorter."
        + table(("theory", "with QSGD", "no quantizer, same step"), rows)
    )


def _bits(results: Results) -> str:
    rows = {}
    for workers in fleets(results.settings):
        for levels in (0, *LEVELS):
            up, both = (bits_per_iteration(results, levels, workers, THEORY, axis) for axis in ("bits_up", "bits"))
            row: list[object] = [f"{up:,.0f}", f"{both:,.0f}"]
            row += [results.reach(curve(levels, workers, step), TARGET, axis="bits", per=workers) for step in STEPS]
            rows[name(levels, workers)] = row
    columns = ("uplink per iteration", "both ways per iteration", *(f"both ways to the target, {s}" for s in STEPS))
    return f"Bits of a worker.{table(columns, rows)}"


def _optimum(results: Results) -> str:
    """Say which s takes the fewest bits, by theory and measured, with both steps, uplink alone and both ways."""
    rows = {}
    for workers in fleets(results.settings):
        by_theory = {s: np.prod(predicted(results, workers, s)) for s in LEVELS}
        row = [f"s = {min(by_theory, key=lambda s: by_theory[s])}" if np.isfinite(min(by_theory.values())) else ""]
        for axis in ("bits_up", "bits"):
            for step in STEPS:
                shown = [curve(s, workers, step) for s in LEVELS]
                cheapest = results.cheapest(shown, TARGET, axis=axis)
                if cheapest is None:
                    row.append(no_winner(results, shown, TARGET, axis=axis))
                else:
                    best, others = cheapest
                    row.append(winner(_s(best), {_s(other): found for other, found in others.items()}))
        rows[f"W = {workers}"] = row
    columns = ["theory, uplink", *(f"{way}, {step}" for way in ("uplink", "both ways") for step in STEPS)]
    dense = []
    for workers in fleets(results.settings):
        best_of = results.cheapest([curve(s, workers, TUNED) for s in LEVELS], TARGET, axis="bits")
        plain = spent(results, curve(0, workers, TUNED), "bits", workers)
        if best_of is not None and np.isfinite(plain).all():
            found = compare(
                {"": plain / spent(results, best_of[0], "bits", workers)},
                np.ones(results.settings.seeds),
                results.settings.bands,
                ratio=True,
            )[""]
            dense.append(f"W = {workers}: {found}")
    saved = (
        " Uncompressed, with its own best step, over the cheapest s with the tuned step, bits both ways: "
        + "; ".join(dense)
        + "."
        if dense
        else ""
    )
    return f"The s with the fewest bits to the target.{saved}{table(columns, rows)}"


def _s(shown: str) -> str:
    return shown.split(", ")[0]


def draw(results: Results) -> Figure:
    fleet = fleets(results.settings)
    at = np.array(LEVELS, float)
    theory = {workers: np.array([predicted(results, workers, s) for s in LEVELS]).T for workers in fleet}
    with figure_grid(2, 3, height=4.9) as (figure, axes):
        for place, workers in enumerate(fleet):
            here = f"W = {workers}"
            for ax, step in ((axes[0, 0], THEORY), (axes[0, 1], TUNED)):
                _line(results, ax, [spent(results, curve(s, workers, step), "round") for s in LEVELS], place, "-", here)
                exact = [spent(results, curve(s, workers, step) + EXACT, "round")[0] for s in LEVELS]
                ax.plot(at, _finite(exact), color=look(place)["color"], marker="x", linestyle="", markersize=5)
            axes[0, 0].plot(at, theory[workers][0], color=look(place)["color"], linestyle=":")
            for step, dash in DASHES.items():
                _line(
                    results,
                    axes[0, 2],
                    [noise(results, s, workers, step) for s in LEVELS],
                    place,
                    dash,
                    f"{here}, {step}",
                )
                for ax, axis in ((axes[1, 1], "bits_up"), (axes[1, 2], "bits")):
                    costs = [spent(results, curve(s, workers, step), axis, workers) for s in LEVELS]
                    _line(results, ax, costs, place, dash, f"{here}, {step}")
            sizes = [bits_per_iteration(results, s, workers, THEORY) for s in LEVELS]
            axes[1, 0].plot(at, sizes, **look(place) | {"linestyle": "-"}, label=here)
            axes[1, 1].plot(at, theory[workers][0] * theory[workers][1], color=look(place)["color"], linestyle=":")
        axes[1, 0].plot(at, theory[fleet[0]][1], color="0.4", linestyle=":")
        up = [bits_per_iteration(results, s, fleet[-1], THEORY, "bits_up") for s in LEVELS]
        axes[1, 0].plot(at, up, color="0.4", linestyle="-.")
        axes[0, 2].axhline(1, color="black", linewidth=0.8)
        grey: dict[str, Any] = {"color": "0.4"}
        keys = {
            "same step, no quantizer": {"linestyle": "", "marker": "x"},
            "theory": {"linestyle": ":"},
            "theory's step, in (c, e, f)": {"linestyle": "--"},
            "tuned step, in (c, e, f)": {"linestyle": "-"},
            "uplink alone, in (d)": {"linestyle": "-."},
        }
        for label, style in keys.items():
            axes[0, 0].plot([], [], label=label, **grey | style)
        words = ("iterations", "iterations", "times the iterations", *["bits per worker"] * 3)
        for ax, label in zip(axes.flat, words, strict=True):
            ax.set(xlabel="levels s", ylabel=label)
            log_axes(ax, *("x" if ax is axes[0, 2] else "xy"))
            ax.set_xticks(LEVELS, labels=[str(s) for s in LEVELS])
            ax.xaxis.set_minor_locator(_nowhere())
        panel_letters(
            axes.flat,
            (
                "iterations, theory's step",
                "iterations, tuned step",
                "what the noise costs",
                "bits of an iteration",
                "uplink bits to the target",
                "bits both ways to the target",
            ),
        )
        legend_below(figure, axes[0, :1], [*(f"W = {workers}" for workers in fleet), *keys])
    return figure


def _nowhere() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _finite(values: list[float]) -> NDArray[np.float64]:
    found = np.array(values, float)
    return np.where(np.isfinite(found), found, np.nan)


def _line(results: Results, ax: Axes, samples: list[NDArray[np.float64]], place: int, dash: str, label: str) -> None:
    """Draw geometric means over seeds, with their intervals, over s; label: for curves that coincide."""
    found = [over_seeds(results, each) for each in samples]
    mean, low, high = (np.array([getattr(one, end)[0] for one in found]) for end in ("mean", "low", "high"))
    ax.fill_between(LEVELS, low, high, color=look(place)["color"], alpha=0.2, linewidth=0)
    ax.plot(LEVELS, mean, **look(place) | {"linestyle": dash}, label=label)


study = Study(
    title="Iterations and bits against the number of levels: the share of the step and that of the noise",
    questions=(
        "How many of the iterations are due to the step, and how many to the quantizer's noise?",
        "Does theory's curve fit, and what does that show?",
        "How many bits does it take?",
        "Which s needs the fewest bits in all, by theory and with tuned steps?",
    ),
    defaults=Settings(data="adult", workers=32, rounds=1500, seeds=10),
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
