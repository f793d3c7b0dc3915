"""Seminar, item 2: how the number of quantization levels s changes loss, non-zeros and bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qsim
from qsim.study import Cell, Panel, Results, Settings, Study, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (1, 2, 4, 8, 16, 64)
UNCOMPRESSED = "uncompressed"
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)


def step(settings: Settings) -> float:
    """Return 1/L, the step at which gradient descent is sure to fall."""
    return 1 / OBJECTIVE.smoothness(qsim.datasets.load(settings.data))


def cells(settings: Settings) -> list[Cell]:
    compressors: dict[str, qsim.compressors.Compressor] = {UNCOMPRESSED: qsim.Identity()}
    compressors |= {f"s = {s}": qsim.QSGD(levels=s) for s in LEVELS}
    method = qsim.GradientDescent(step=qsim.steps.Constant(step(settings)))
    return [
        Cell(
            curve,
            qsim.Run(
                qsim.datasets.load(settings.data),
                objective=OBJECTIVE,
                method=method,
                compressor=compressor,
                workers=settings.workers,
                rounds=settings.rounds,
                seed=seed,
                evaluate_every=5,
            ),
        )
        for curve, compressor in compressors.items()
        for seed in range(settings.seeds)
    ]


def setting(settings: Settings) -> str:
    data = qsim.datasets.load(settings.data)
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {data.name} ({data.rows:,} rows, {data.features} features),"
        f" shuffled over {settings.workers} workers. Every iteration each worker sends the update of its whole"
        f" partition, step 1/L = {step(settings):.3g}, quantized by QSGD with the l2 norm and s levels; messages are"
        " counted as the bytes of the varint code (uncompressed: float32 for every coordinate), way up only. The server"
        f" sends dense float32 weights back, which is the same for all. Means of {settings.seeds} seeds; bands are 95%"
        " t-intervals, and bits and non-zeros are means over the seeds."
    )


def answers(results: Results) -> list[str]:
    curves = [curve for curve in results.curves if curve != UNCOMPRESSED]
    loss = [
        f"Against uncompressed, {curve} ends at a loss of {results.final(curve, 'loss'):.5f},"
        f" a difference of {results.difference(curve, UNCOMPRESSED, 'loss')}."
        for curve in curves
    ]
    dense = results.final(UNCOMPRESSED, "bits_up")
    bits = [
        f"{curve}: {results.final(curve, 'nonzeros'):,.0f} non-zeros in {results.final(curve, 'bits_up'):,.0f} bits,"
        f" {dense / results.final(curve, 'bits_up'):.1f} times fewer bits than uncompressed."
        for curve in curves
    ]
    cheapest = min(results.curves, key=lambda curve: bits_to(results, curve))
    reached = {curve: bits_to(results, curve) for curve in results.curves}
    cost = ", ".join(
        f"{curve} {bits:,.0f}" if bits < float("inf") else f"{curve} never" for curve, bits in reached.items()
    )
    return [
        f"The uncompressed run ends at {results.final(UNCOMPRESSED, 'loss'):.5f}. " + " ".join(loss),
        " ".join(bits),
        f"To fall to within 1% of the uncompressed run's final loss takes, in bits up: {cost}. The fewest: {cheapest}.",
    ]


def bits_to(results: Results, curve: str) -> float:
    """Return the mean bits up at the first evaluated round with a mean loss within 1% of the uncompressed final one."""
    target = 1.01 * results.final(UNCOMPRESSED, "loss")
    reached = results.band(curve, "loss").mean <= target
    return float(results.band(curve, "bits_up").mean[reached.argmax()]) if reached.any() else float("inf")


def draw(results: Results) -> Figure:
    return panels(
        results,
        Panel("round", "loss", "loss"),
        Panel("round", "loss", "minus uncompressed", minus=UNCOMPRESSED),
        Panel("round", "nonzeros", "non-zeros", y_scale="log"),
        Panel("bits_up", "loss", "loss for bits", x_scale="log"),
    )


study = Study(
    title="Levels of quantization: loss, non-zeros and bits",
    questions=(
        "How does the loss change with s, and is the change beyond the seed noise?",
        "How many non-zeros and bits are sent for each s?",
        "Which s reaches a given loss with the fewest bits?",
    ),
    defaults=Settings(data="adult", workers=32, rounds=150, seeds=5),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
)
