"""Seminar, item 2: how the number of quantization levels s changes loss, non-zeros and bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
        f" sends dense float32 weights back, the same for all. {settings.statistics}"
    )


def answers(results: Results) -> list[str]:
    curves = [curve for curve in results.curves if curve != UNCOMPRESSED]
    losses = results.differences(curves, UNCOMPRESSED, "loss")
    beyond = [curve for curve in curves if losses[curve].beyond_noise]
    verdict = f"Beyond the seed noise: {', '.join(beyond)}." if beyond else "None is beyond the seed noise."
    few, many = (f"s = {levels}" for levels in (LEVELS[0], LEVELS[-1]))
    noise = (losses[few].high - losses[few].low) / max(losses[many].high - losses[many].low, 1e-300)
    spread = f" What s changes is the noise: the interval at {few} is {noise:.0f} times as wide as at {many}."
    listed = "".join(f"\n- {curve}: {results.final(curve, 'loss'):.6f}, {losses[curve]}" for curve in curves)

    dense = results.final(UNCOMPRESSED, "bits_up")
    gains = {curve: dense / results.final(curve, "bits_up") for curve in results.curves}
    sent = "".join(
        f"\n- {curve}: {results.final(curve, 'nonzeros'):,.0f} non-zeros, {results.final(curve, 'bits_up'):,.0f} bits,"
        f" {gains[curve]:.1f} times fewer than uncompressed"
        for curve in results.curves
    )
    reached = {curve: bits_to(results, curve) for curve in results.curves}
    costs = "".join(
        f"\n- {curve}: {f'{bits:,.0f} bits' if np.isfinite(bits) else 'not reached'}" for curve, bits in reached.items()
    )
    return [
        f"The uncompressed run ends at {results.final(UNCOMPRESSED, 'loss'):.6f}; final losses and differences are"
        f" listed below. {verdict}{spread if results.settings.seeds > 1 else ''}\n{listed}",
        f"Both grow with s: from {gains[few]:.1f} times fewer bits than uncompressed at {few} to {gains[many]:.1f}"
        f" times fewer at {many}.\n{sent}",
        f"{min(reached, key=reached.__getitem__)}. To fall to within 1% of the uncompressed run's final loss takes, in"
        f" bits up:\n{costs}",
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
        Panel("round", "loss", "minus uncompressed", minus=UNCOMPRESSED, y_scale="symlog"),
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
    carrier=UNCOMPRESSED,
)
