"""The simple quantizer (QSGD with one level): training without and with the simple quantizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import qsim
from qsim.compressors import Compressor
from qsim.downlinks import Downlink
from qsim.study import Cell, Panel, Results, Settings, Study, bullets, each_seed, panels
from qsim.study.downlinks import DOWNLINKS, EXPLAINED, TOP, by_downlink, effect_of_downlink, savings
from qsim.study.noise import excess, hessian, noise

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

    def run(way: tuple[Compressor, Downlink], seed: int) -> qsim.Run:
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=method,
            compressor=way[0],
            codec=qsim.codecs.Varint() if isinstance(way[0], qsim.QSGD) else None,
            downlink=way[1],
            workers=settings.workers,
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=5,
        )

    ways = {name: (compressor, DOWNLINKS[""]) for name, compressor in COMPRESSORS.items()}
    ways |= {SIMPLE + suffix: (COMPRESSORS[SIMPLE], downlink) for suffix, downlink in DOWNLINKS.items()}
    ways[UNCOMPRESSED + TOP] = (COMPRESSORS[UNCOMPRESSED], DOWNLINKS[TOP])
    return each_seed(settings, ways, run)


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset}, shuffled over {settings.workers} workers."
        " Every iteration each worker computes the gradient of its whole partition and sends the update (step 1/L ="
        f" {step(settings):.3g}), as it is or quantized by QSGD with the l2 norm and s = 1 (each coordinate to 0 or +-"
        f" the norm); the server sends dense float32 weights back, but where a curve's name says otherwise. {EXPLAINED}"
        f" {settings.statistics}"
    )


def dense(results: Results) -> list[str]:
    """Return the curves whose downlink is not compressed."""
    return [curve for curve in results.curves if "; " not in curve]


def why(results: Results) -> str:
    """Explain the difference in loss by the variance of the quantizer."""
    settings, runs = results.settings, {cell.curve: cell.run for cell in reversed(results.cells)}
    end = results.traces[UNCOMPRESSED][0].weights
    start, last = (noise(runs[SIMPLE], w) for w in (np.zeros(end.size), end))
    omega = qsim.QSGD(1).variance(end.size)
    bound = step(settings) / 2 * last.variance.sum()
    predicted = excess(hessian(runs[UNCOMPRESSED], end), last.variance, step(settings), settings.rounds)
    return (
        f"The messages are unbiased, and a single one is far off: its variance may be omega = sqrt(n) - 1 = {omega:.3g}"
        f" times"
        f" the squared norm of the gradient. But the server averages {settings.workers} independent ones, and the"
        f" gradients"
        f" vanish at the minimum because the rows are shuffled: the variance V of the mean message falls from"
        f" {start.variance.sum():.2g} at the start to {last.variance.sum():.2g} at the end (200 draws). On a quadratic"
        f" with"
        f" that V the quantizer adds at most step/2 V = {bound:.2g} to the loss, and after {settings.rounds} iterations"
        f" tr(H S)/2 = {predicted:.2g} (derived in `qsim.study.noise`; noise of the start that has not died out yet"
        f" comes"
        " on top). Where gradients do not vanish, as with rows sorted by label, it matters: see the study s_sweep."
    )


def _fewer(times: float) -> str:
    return "as many" if times == 1 else f"{times:.1f} times fewer"


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
        + bullets(f"{curve}: {results.final(curve, 'loss'):.5f}, {losses[curve]}" for curve in others),
        why(results),
        f"{sent[UNCOMPRESSED]:,.0f} {UNCOMPRESSED}. At most sqrt(n) = {n**0.5:.1f} of n = {n} coordinates in a message"
        " are expected of the simple quantizer, whatever the gradient. On average there are:"
        + bullets(
            f"{curve}: {sent[curve] / messages:.2f} in a message, {sent[curve]:,.0f} in all,"
            f" {_fewer(sent[UNCOMPRESSED] / max(sent[curve], 1))} ({fewer[curve].verdict})"
            for curve in others
        ),
        f"Against updates {UNCOMPRESSED} and dense weights:{savings(results, dense(results), UNCOMPRESSED)}\n\n"
        + effect_of_downlink(results, UNCOMPRESSED, SIMPLE),
    ]


def draw(results: Results) -> Figure:
    shown = dense(results)
    style = by_downlink(shown)
    return panels(
        results,
        Panel("round", "loss", "training loss", style=style),
        Panel("round", "loss", "loss with minus without", minus=UNCOMPRESSED, y_scale="symlog", style=style),
        Panel("round", "nonzeros", "non-zeros sent", y_scale="log", curves=shown),
        Panel(
            "bits_up",
            "suboptimality",
            "suboptimality against uplink",
            x_scale="log",
            y_scale="log",
            curves=dense(results),
        ),
        Panel("bits", "suboptimality", "against bits both ways", x_scale="log", y_scale="log", style=style),
        columns=3,
        height=2.2,
    )


study = Study(
    title="The simple quantizer: loss and non-zeros",
    questions=(
        "What does the simple quantizer do to the training loss, and is it beyond the seed noise?",
        "Why so little?",
        "How many non-zeros are sent?",
        "What is saved when the downlink is counted, and when it is compressed too?",
    ),
    defaults=Settings(data="adult", workers=32, rounds=200, seeds=10),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    template=UNCOMPRESSED,
)
