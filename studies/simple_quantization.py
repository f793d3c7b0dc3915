"""Seminar, item 1: training without and with the simple quantizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qsim
from qsim.compressors import Compressor
from qsim.study import Cell, Panel, Results, Settings, Study, each_seed, listed, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNCOMPRESSED, SIMPLE = "without quantization", "simple quantizer"
COMPRESSORS: dict[str, Compressor] = {UNCOMPRESSED: qsim.Identity(), SIMPLE: qsim.QSGD(levels=1)}
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
            codec=qsim.codecs.Varint() if isinstance(compressor, qsim.QSGD) else None,
            workers=settings.workers,
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=5,
        )

    return each_seed(settings, COMPRESSORS, run)


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset}, shuffled over {settings.workers} workers."
        " Every iteration each worker computes the gradient of its whole partition and sends the update (step 1/L ="
        f" {step(settings):.3g}), as it is or quantized by QSGD with the l2 norm and s = 1 (each coordinate to 0 or +-"
        f" the norm); the server sends dense float32 weights back. {settings.statistics}"
    )


def answers(results: Results) -> list[str]:
    sent = {curve: results.final(curve, "nonzeros") for curve in results.curves}
    others = [curve for curve in results.curves if curve != UNCOMPRESSED]  # compressors of one's own come behind
    losses = results.compare(others, UNCOMPRESSED, "loss")
    fewer = results.compare(others, UNCOMPRESSED, "nonzeros")
    n = results.settings.load().features
    messages = results.settings.workers * results.settings.rounds
    return [
        f"After {results.settings.rounds} iterations the loss is {results.final(UNCOMPRESSED, 'loss'):.5f}"
        f" {UNCOMPRESSED}; with it, and the difference:"
        + listed(f"{curve}: {results.final(curve, 'loss'):.5f}, {losses[curve]}" for curve in others),
        f"{sent[UNCOMPRESSED]:,.0f} {UNCOMPRESSED}. At most sqrt(n) = {n**0.5:.1f} of n = {n} coordinates in a message"
        " are expected of the simple quantizer, whatever the gradient. On average there are:"
        + listed(
            f"{curve}: {sent[curve] / messages:.2f} in a message, {sent[curve]:,.0f} in all,"
            f" {sent[UNCOMPRESSED] / max(sent[curve], 1):.1f} times fewer ({fewer[curve].verdict})"
            for curve in others
        ),
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
