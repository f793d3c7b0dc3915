"""Seminar, item 1: training without and with the simple quantizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qsim
from qsim.study import Cell, Panel, Results, Settings, Study, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNCOMPRESSED, SIMPLE = "without quantization", "simple quantizer"
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)


def step(settings: Settings) -> float:
    """Return 1/L, the step at which gradient descent is sure to fall."""
    return 1 / OBJECTIVE.smoothness(qsim.datasets.load(settings.data))


def cells(settings: Settings) -> list[Cell]:
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
        for curve, compressor in ((UNCOMPRESSED, qsim.Identity()), (SIMPLE, qsim.QSGD(levels=1)))
        for seed in range(settings.seeds)
    ]


def setting(settings: Settings) -> str:
    data = qsim.datasets.load(settings.data)
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {data.name} ({data.rows:,} rows, {data.features} features),"
        f" shuffled over {settings.workers} workers. Every iteration each worker computes the gradient of its whole"
        f" partition and sends the update (step 1/L = {step(settings):.3g}), as it is or quantized by"
        " QSGD with the l2 norm and s = 1 (each coordinate to 0 or +- the norm); the server sends dense float32 weights"
        f" back. {settings.statistics}"
    )


def answers(results: Results) -> list[str]:
    sent = {curve: results.final(curve, "nonzeros") for curve in results.curves}
    n = qsim.datasets.load(results.settings.data).features
    messages = results.settings.workers * results.settings.rounds
    added = [curve for curve in results.curves if curve not in (UNCOMPRESSED, SIMPLE)]
    losses = results.differences(added, UNCOMPRESSED, "loss")
    return [
        f"After {results.settings.rounds} iterations the loss is {results.final(UNCOMPRESSED, 'loss'):.5f} without and"
        f" {results.final(SIMPLE, 'loss'):.5f} with quantization, a difference of"
        f" {results.differences([SIMPLE], UNCOMPRESSED, 'loss')[SIMPLE]}."
        + "".join(f"\n- {curve}: {results.final(curve, 'loss'):.5f}, {losses[curve]}" for curve in added),
        f"{sent[UNCOMPRESSED]:,.0f} without and {sent[SIMPLE]:,.0f} with quantization,"
        f" {sent[UNCOMPRESSED] / sent[SIMPLE]:.1f} times fewer:"
        f" {sent[SIMPLE] / messages:.2f} of {n} coordinates in a message, on"
        f" average. At most sqrt(n) = {n**0.5:.1f} are expected, whatever the gradient."
        + "".join(f"\n- {curve}: {sent[curve]:,.0f}" for curve in added),
    ]


def draw(results: Results) -> Figure:
    return panels(
        results,
        Panel("round", "loss", "loss"),
        Panel("round", "loss", "with minus without", minus=UNCOMPRESSED, y_scale="symlog"),
        Panel("round", "nonzeros", "non-zeros", y_scale="log"),
    )


study = Study(
    title="The simple quantizer: loss and non-zeros",
    questions=(
        "What does the simple quantizer do to the training loss, and is it beyond the seed noise?",
        "How many non-zeros are sent?",
    ),
    defaults=Settings(data="adult", workers=32, rounds=200, seeds=10),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    carrier=UNCOMPRESSED,
)
