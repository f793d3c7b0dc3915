"""Second order: L-BFGS and Newton-CG against gradient descent and Nesterov, by rounds, bits and passes."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

import qsim
from qsim.compressors import QSGD, Compressor, Identity
from qsim.methods import LBFGS, GradientDescent, Method, Nesterov, NewtonCG
from qsim.study import (
    AxisSpec,
    Cell,
    Panel,
    Results,
    Settings,
    Study,
    bullets,
    compare,
    draw,
    each_seed,
    figure_grid,
    legend_below,
    no_winner,
    panel_letters,
    reach_table,
    table,
    winner,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OBJECTIVE = qsim.LogisticRegression(l2=1e-4)
LEVELS = 64
PRODUCTS = 10  # of compressed Newton-CG a round: noise keeps its residuals from ever being small enough
GD, NESTEROV = "gradient descent", "Nesterov"
QUANTIZED = f"QSGD, s = {LEVELS}"
FIRST = (GD, NESTEROV)
SECOND = ("L-BFGS", "Newton-CG")
COMPRESSED = tuple(f"{name}, {QUANTIZED}" for name in (NESTEROV, *SECOND))
TARGETS = (1e-2, 1e-4, 1e-6, 1e-8)
AXES = {"round": "rounds", "bits": "bits both ways", "passes": "passes over the data"}
Way = tuple[Method, Compressor]


@lru_cache
def constants(settings: Settings) -> tuple[float, float]:
    """Return L, and Nesterov's momentum (sqrt(L) - sqrt(mu)) / (sqrt(L) + sqrt(mu))."""
    smoothness = OBJECTIVE.smoothness(settings.load())
    return smoothness, (sqrt(smoothness) - sqrt(OBJECTIVE.l2)) / (sqrt(smoothness) + sqrt(OBJECTIVE.l2))


def ways(settings: Settings) -> dict[str, Way]:
    smoothness, beta = constants(settings)
    step = qsim.steps.Constant(1 / smoothness)
    nesterov = GradientDescent(step, Nesterov(beta))
    return {
        GD: (GradientDescent(step), Identity()),
        NESTEROV: (nesterov, Identity()),
        "L-BFGS": (LBFGS(), Identity()),
        "Newton-CG": (NewtonCG(), Identity()),
        COMPRESSED[0]: (nesterov, QSGD(LEVELS)),
        COMPRESSED[1]: (LBFGS(gradients="compressed"), QSGD(LEVELS)),
        COMPRESSED[2]: (NewtonCG(products=PRODUCTS, gradients="compressed"), QSGD(LEVELS)),
    }


def cells(settings: Settings) -> list[Cell]:
    data = settings.load()

    def run(way: Way, seed: int) -> qsim.Run:
        method, compressor = way
        if isinstance(method, GradientDescent):
            rounds = settings.rounds
        else:  # whose rounds cost more, the more so where compressed sums hold up the line search
            rounds = -(-settings.rounds // (20 if way[0].gradients == "compressed" else 4))
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=method,
            compressor=compressor,
            workers=settings.workers,
            rounds=rounds,
            until=qsim.stopping.Suboptimality(TARGETS[-1] / 10),
            seed=seed,
        )

    return each_seed(settings, ways(settings), run)


def setting(settings: Settings) -> str:
    smoothness, beta = constants(settings)
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}, condition number L/l2 = {smoothness / OBJECTIVE.l2:,.0f}) on"
        f" {settings.dataset}, shuffled over {settings.workers} workers. Full gradients; gradient descent and Nesterov"
        f" with step 1/L = {1 / smoothness:.3g} (Nesterov with momentum {beta:.3f}; neither is tuned, and a longer step"
        f" may do better) send float32 both ways. L-BFGS (10"
        " pairs) and Newton-CG sum losses (for their line searches), gradients and Hessian-vector products; what is"
        f' called exact goes as float64, "{QUANTIZED}" compresses gradients and Hessian-vector products on the uplink'
        f" (losses stay float64; at most {PRODUCTS} products per round). A round is a step of the server; bits are"
        " those"
        " of all workers, both ways. The downlink carries directions and weights, but not weights that the workers hold"
        " already (for the gradient at an accepted point, and for Hessian-vector products there). A gradient or a loss"
        " of all rows is one pass over the data, a Hessian-vector product two. Runs end at a suboptimality of"
        f" {TARGETS[-1] / 10:g}, or after"
        f" {settings.rounds:,} rounds (second order: a quarter of them, compressed a twentieth). The table of"
        f" numbers has the first 50 points of a curve, then every tenth. {settings.statistics}"
    )


def answers(results: Results) -> list[str]:
    exact = [*FIRST, *SECOND]
    tables = "".join(
        f"\n\nIn {words}:{reach_table(results, results.curves, TARGETS, axis=axis, unit=words)}"
        for axis, words in AXES.items()
    )
    winners = {
        words: [
            winner(*found) if found else no_winner(results, exact, target, axis=axis)
            for target in TARGETS
            for found in [results.cheapest(exact, target, axis=axis)]
        ]
        for axis, words in AXES.items()
    }
    return [
        f"{_saved(results)}To the first round at or below a suboptimality, geometric means with intervals.{tables}",
        f"{_pays(results)} Which takes the fewest, of those with exact sums:"
        + table([f"to {target:g}" for target in TARGETS], winners),
        _compressed(results),
    ]


def _saved(results: Results) -> str:
    """Say what it saves that weights which the workers hold already are not sent again.

    Every pass of the exact methods is a sum for which n float64 numbers would go down to each worker: the weights (a
    product with the Hessian is two passes: weights and direction).
    """
    lines = []
    for name in SECOND:
        shares = []
        for cell, trace in zip(results.cells, _in_order(results), strict=True):
            if cell.curve == name:
                sent = trace.axis("bits")[-1]
                down = 64 * trace.weights.size * cell.run.workers * trace.axis("passes")[-1]
                shares.append(1 - sent / (trace.axis("bits_up")[-1] + down))
        lines.append(f"{name} {np.mean(shares):.0%}")
    return (
        "Weights that the workers hold already are not sent again: when a gradient follows the loss at the same point,"
        " or a Hessian-vector product follows another. Of the bits both ways with all weights sent, this saves"
        f" {', '.join(lines)}. "
    )


def _in_order(results: Results) -> list[qsim.Trace]:
    """Return the traces in the order of the cells."""
    left = {curve: iter(traces) for curve, traces in results.traces.items()}
    return [next(left[cell.curve]) for cell in results.cells]


def _pays(results: Results) -> str:
    """Say how L-BFGS and Newton-CG compare with Nesterov at the last target that all of them reach."""
    for target in reversed(TARGETS):
        costs = {name: [results.reach(name, target, axis=axis).mean for axis in AXES] for name in (NESTEROV, *SECOND)}
        if all(cost > 0 for spent in costs.values() for cost in spent):
            ratios = {
                name: [cost / plain for cost, plain in zip(costs[name], costs[NESTEROV], strict=True)]
                for name in SECOND
            }
            words = "; ".join(
                f"{name} takes "
                + ", ".join(f"{ratio:.2g} times the {unit}" for ratio, unit in zip(found, AXES.values(), strict=True))
                for name, found in ratios.items()
            )
            return (
                f"Against Nesterov with the untuned step 1/L, to {target:g} (ratios of geometric means): {words}. Where"
                " a ratio is below 1, second order pays."
            )
    return "No target is reached by Nesterov and by both second-order methods."


def _compressed(results: Results) -> str:
    """Say where compressed sums end, and what they save before."""
    ends, pairs = [], {}
    for plain, name in zip((NESTEROV, *SECOND), COMPRESSED, strict=True):
        traces = results.traces[name]
        least = [trace.axis("suboptimality").min() for trace in traces]
        rounds = max(int(trace.axis("round")[-1]) for trace in traces)
        ends.append(
            f"{name} comes no lower than {min(least):.2g} within its {rounds:,} rounds (the least of all seeds)"
        )
        for target in TARGETS:
            exact, short = (results.reach(curve, target, axis="bits").costs for curve in (plain, name))
            if np.isfinite([*exact, *short]).all() and (short > 0).all():
                pairs[f"{name}, to {target:g}"] = exact / short
    saved = compare(pairs, np.ones(results.settings.seeds), results.settings.bands, ratio=True) if pairs else {}
    fewer = (
        "\n\nHow many times fewer bits both ways than with exact sums, where every seed gets there:" if saved else ""
    )
    return f"{'; '.join(ends)}.{fewer}{bullets(f'{name}: {found}' for name, found in saved.items()) if saved else ''}"


def figure(results: Results) -> Figure:
    with figure_grid(1, 3, height=2.8, sharey=True) as (found, axes):
        for ax, axis in zip(axes[0], AXES, strict=True):
            words = "round" if axis == "round" else None
            draw(results, Panel(axis, "suboptimality", x_scale="log", y_scale="log", x_label=words), ax, results.curves)
            ax.set_ylim(bottom=TARGETS[-1] / 10)
            ax.label_outer()
        panel_letters(axes[0], ("against rounds", "against bits both ways", "against passes over the data"))
        legend_below(found, axes[0], results.curves)
    return found


def numbers(results: Results) -> pd.DataFrame:
    """Return the first points of every curve and then every tenth: a thousand rounds are 1.6 MB."""
    found = results.numbers(AxisSpec("bits"), AxisSpec("passes"))
    place = found.groupby(["axis", "curve"]).cumcount()
    return found[(place <= 50) | (place % 10 == 0)].reset_index(drop=True)


study = Study(
    title="Second order: L-BFGS and Newton-CG by rounds, bits and passes",
    questions=(
        "How many rounds, bits and passes over the data does each method take?",
        "When does second order pay?",
        "What do compressed sums do to it?",
    ),
    defaults=Settings(data="adult", workers=8, rounds=1000, seeds=5),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
)
