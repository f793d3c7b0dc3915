"""Seminar, item 2: how the number of quantization levels s changes loss, non-zeros and bits."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import qsim
from qsim.compressors import Compressor
from qsim.study import (
    Cell,
    On,
    Panel,
    Results,
    Settings,
    Study,
    beyond,
    draw,
    draw_comparisons,
    each_seed,
    leads,
    legend_below,
    letters,
    listed,
    reach_table,
    sheet,
    unled,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LEVELS = (1, 2, 4, 8, 16, 64)
UNCOMPRESSED = "uncompressed"
COMPRESSORS: dict[str, Compressor] = {
    UNCOMPRESSED: qsim.Identity(),
    **{f"s = {s}": qsim.QSGD(levels=s) for s in LEVELS},
}
TARGETS = (0.1, 0.05, 0.02)
EVERY = 5
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)


def step(settings: Settings) -> float:
    """Return 1/L, the step at which gradient descent is sure to fall."""
    return 1 / OBJECTIVE.smoothness(settings.load())


def cells(settings: Settings) -> list[Cell]:
    data, method = settings.load(), qsim.GradientDescent(step=qsim.steps.Constant(step(settings)))

    def run(compressor: Compressor, seed: int) -> qsim.Run:
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=method,
            compressor=compressor,
            workers=settings.workers,
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=EVERY,
        )

    return each_seed(settings, COMPRESSORS, run)


def setting(settings: Settings) -> str:
    joint = " (b) shows the joint intervals;" if settings.seeds > 1 else ""
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset}, shuffled over {settings.workers} workers."
        f" Every iteration each worker sends the update of its whole partition, step 1/L = {step(settings):.3g},"
        " quantized by QSGD with the l2 norm and s levels; messages are counted as the bytes of the varint code"
        " (uncompressed: float32 for every coordinate), of all workers, way up only. The server sends dense float32"
        f" weights back, the same for all. {settings.statistics}{joint} (d) puts every seed on"
        " the same numbers of bits, by linear interpolation in logarithms."
    )


def answers(results: Results) -> list[str]:
    curves = [curve for curve in results.curves if curve != UNCOMPRESSED]
    losses = results.compare(curves, UNCOMPRESSED, "loss")
    levels = [f"s = {s}" for s in LEVELS]  # compressors of one's own come behind
    few, many = levels[0], levels[-1]
    noise = (losses[few].high - losses[few].low) / max(losses[many].high - losses[many].low, 1e-300)
    spread = f" The interval at {few} is {noise:.3g} times as wide as at {many}." if results.settings.seeds > 1 else ""
    finals = listed(f"{curve}: {results.final(curve, 'loss'):.6f}, {losses[curve]}" for curve in curves)

    dense = results.final(UNCOMPRESSED, "bits_up")
    gains = {curve: dense / results.final(curve, "bits_up") for curve in results.curves}
    growth = [results.compare([more], fewer, "bits_up")[more].beyond_noise for fewer, more in pairwise(levels)]
    if results.settings.seeds == 1:
        grow = "With one seed the noise is not known; bits go"
    else:
        grow = "Bits grow from each s to the next" if all(growth) else "Not every step of s changes the bits"
        grow += " beyond the seed noise,"
    sent = listed(
        f"{curve}: {results.final(curve, 'nonzeros'):,.0f} non-zeros, {results.final(curve, 'bits_up'):,.0f} bits,"
        f" {gains[curve]:.1f} times fewer than uncompressed"
        for curve in results.curves
    )
    winners = [
        f"To {target:g}: {leads(*found) if found else unled(results, results.curves, target)}."
        for target in TARGETS
        for found in [results.cheapest(results.curves, target)]
    ]
    return [
        f"The uncompressed run ends at {results.final(UNCOMPRESSED, 'loss'):.6f}; final losses and differences are"
        f" listed below. {beyond(losses)}{spread}{finals}",
        f"{grow} from {gains[few]:.1f} times fewer than uncompressed at {few} to"
        f" {gains[many]:.1f} times fewer at {many}.{sent}",
        f"{' '.join(winners)} Bits up to the first evaluated iteration (every {EVERY}) with a suboptimality at or below"
        f" the target, geometric means with intervals:{reach_table(results, results.curves, TARGETS)}",
    ]


def figure(results: Results) -> Figure:
    labels = results.curves
    with sheet(1, 4, height=2.5) as (found, axes):
        loss, final, sent, cost = axes[0]
        draw(results, Panel("round", "suboptimality", y_scale="log"), loss, labels)
        others = [curve for curve in labels if curve != UNCOMPRESSED]
        losses = results.compare(others, UNCOMPRESSED, "loss")
        draw_comparisons(final, losses, {curve: labels.index(curve) for curve in others})
        final.set_xlabel("final loss, difference")
        draw(results, Panel("round", "nonzeros", y_scale="log"), sent, labels)
        draw(results, Panel("bits_up", "suboptimality", x_scale="log", y_scale="log"), cost, labels)
        letters(axes[0], ("suboptimality", "minus uncompressed", "non-zeros", "for bits"))
        legend_below(found, axes[0], labels)
    return found


def numbers(results: Results) -> pd.DataFrame:
    return results.numbers(On("bits_up"))


study = Study(
    title="Levels of quantization: loss, non-zeros and bits",
    questions=(
        "How does the loss change with s, and is the change beyond the seed noise?",
        "How many non-zeros and bits are sent for each s?",
        "Which s reaches a given suboptimality with the fewest bits?",
    ),
    defaults=Settings(data="adult", workers=32, rounds=150, seeds=5),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
    carrier=UNCOMPRESSED,
)
