"""Quantized SGD on 16 features: 32 workers, one sample per worker and step, no regulariser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import qsim
from qsim.compressors import Compressor
from qsim.downlinks import Downlink
from qsim.study import Cell, Panel, Results, Settings, Study, bullets, each_seed, panels, significance, table
from qsim.study.downlinks import DOWNLINKS, EXPLAINED, TOP, by_downlink, effect_of_downlink, savings
from qsim.study.noise import excess, hessian, noise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (1, 2, 3, 4)
UNCOMPRESSED = "uncompressed"
COMPRESSORS: dict[str, Compressor] = {
    UNCOMPRESSED: qsim.Identity(),
    **{f"s = {s}": qsim.QSGD(levels=s) for s in LEVELS},
}
DOWN_TOO = "s = 1"
"""The curve that is also run with compressed downlinks."""
STEP = 0.2
OBJECTIVE = qsim.LogisticRegression(l2=0.0)


def cells(settings: Settings) -> list[Cell]:
    data = settings.load()

    def run(way: tuple[Compressor, Downlink], seed: int) -> qsim.Run:
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=qsim.SGD(step=qsim.steps.Constant(STEP), batch=1),
            compressor=way[0],
            codec=qsim.codecs.Varint() if isinstance(way[0], qsim.QSGD) else None,
            downlink=way[1],
            workers=settings.workers,
            partition=qsim.datasets.Contiguous(),
            weighting="workers",
            rounds=settings.rounds,
            start=qsim.starts.Uniform(1.0),
            seed=seed,
            optimum=False,
        )

    ways = {name: (compressor, DOWNLINKS[""]) for name, compressor in COMPRESSORS.items()}
    ways |= {DOWN_TOO + suffix: (COMPRESSORS[DOWN_TOO], downlink) for suffix, downlink in DOWNLINKS.items()}
    ways[UNCOMPRESSED + TOP] = (COMPRESSORS[UNCOMPRESSED], DOWNLINKS[TOP])
    return each_seed(settings, ways, run)


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression without regulariser on {settings.dataset}, in contiguous parts on {settings.workers}"
        " workers. Every iteration each worker draws one of its rows at random; its update is quantized by QSGD with"
        f" the l2 norm and s levels, and the plain mean over workers is taken: step {STEP}, {settings.rounds}"
        f" iterations from a start uniform in [-1, 1]^{settings.load().features}. The server sends dense float32"
        f" weights back, but for the last answer. {EXPLAINED} {settings.statistics} A seed sets start, samples and"
        " quantization."
    )


def dense(results: Results) -> list[str]:
    """Return the curves whose downlink is not compressed."""
    return [curve for curve in results.curves if "; " not in curve]


def predictions(results: Results) -> dict[str, tuple[float, float]]:
    """Return for each compressed curve the variance that its quantizer adds at the end, and the loss that follows."""
    runs = {cell.curve: cell.run for cell in reversed(results.cells)}
    end = np.mean([trace.weights for trace in results.traces[UNCOMPRESSED]], axis=0)
    curvature, found = hessian(runs[UNCOMPRESSED], end), {}
    for curve in dense(results):
        if curve != UNCOMPRESSED:
            variance = noise(runs[curve], end, by_row=True).variance
            found[curve] = float(variance.sum()), excess(curvature, variance, STEP, results.settings.rounds)
    return found


def answers(results: Results) -> list[str]:
    curves = [curve for curve in dense(results) if curve != UNCOMPRESSED]

    def against(quantity: str) -> str:
        found = results.compare(curves, UNCOMPRESSED, quantity)
        return (
            f"Uncompressed ends at {results.final(UNCOMPRESSED, quantity):.4f}. {significance(found)} Final values and"
            " differences:"
            + bullets(f"{curve}: {results.final(curve, quantity):.4f}, {found[curve]}" for curve in curves)
        )

    predicted, losses = results.once(predictions), results.compare(curves, UNCOMPRESSED, "loss")
    omegas = {curve: COMPRESSORS[curve].variance(results.settings.load().features) for curve in COMPRESSORS}
    first, *_, last = [f"s = {s}" for s in LEVELS]
    inside = [curve for curve in curves if losses[curve].low <= predicted[curve][1] <= losses[curve].high]
    sent = {curve: results.final(curve, "nonzeros") for curve in dense(results)}
    fewer = results.compare(curves, UNCOMPRESSED, "nonzeros")
    shares = ", ".join(f"{curve} {100 * sent[curve] / sent[UNCOMPRESSED]:.1f}%" for curve in curves)
    return [
        against("loss"),
        "The quantizer is unbiased and adds its variance V to that of the drawn rows; on a quadratic that adds at most"
        f" step/2 V to the loss (`qsim.study.noise`). V is at most omega/{results.settings.workers} times the mean of"
        f" ||g||^2 over rows, with omega = sqrt(n)/s - 1 (n/(4 s^2) from s = sqrt(n)/2 on), from {omegas[first]:.3g}"
        f" at {first} to"
        f" {omegas[last]:.3g} at {last}: {first} stands out since its V is"
        f" {predicted[first][0] / predicted[last][0]:.3g} times that of {last}. The prediction, tr(H S)/2 after"
        f" {results.settings.rounds} iterations with H and V at the mean of the uncompressed runs' last weights, lies"
        f" in"
        f" the interval of {', '.join(inside) if inside else 'none'}; where intervals overlap, as those of"
        f" neighbouring s"
        " do, a difference that is found for one and not for the other tells nothing of their order."
        + table(
            ("omega", "V, 200 draws", "predicted", "measured"),
            {
                curve: (
                    f"{omega:.3g}" if (omega := omegas.get(curve)) is not None else "",
                    f"{predicted[curve][0]:.2g}",
                    f"{predicted[curve][1]:.2g}",
                    losses[curve],
                )
                for curve in curves
            },
        ),
        against("train_error"),
        f"{sent[UNCOMPRESSED]:,.0f} uncompressed; of these {shares}. Against uncompressed: {significance(fewer)}",
        f"Against uncompressed updates with dense weights:{savings(results, dense(results), UNCOMPRESSED)}\n\n"
        + effect_of_downlink(results, UNCOMPRESSED, DOWN_TOO),
    ]


def draw(results: Results) -> Figure:
    shown = dense(results)
    both = [*shown, *(curve for curve in results.curves if curve not in shown)]
    return panels(
        results,
        Panel("round", "loss", "training loss", curves=shown),
        Panel("round", "loss", "loss minus uncompressed", minus=UNCOMPRESSED, curves=shown),
        Panel("round", "train_error", "training error", curves=shown),
        Panel("round", "nonzeros", "non-zeros sent", curves=shown),
        Panel("bits_up", "loss", "loss against uplink bits", x_scale="log", curves=shown),
        Panel("bits", "loss", "loss against bits both ways", x_scale="log", curves=both, style=by_downlink(shown)),
        columns=3,
        height=2.2,
    )


study = Study(
    title="Quantized SGD on few features: one sample per worker and step",
    questions=(
        "How does the final loss change with s, and is the change beyond the seed noise?",
        "Why?",
        "And the error rate?",
        "How many non-zeros are sent?",
        "What is saved when the downlink is counted, and when it is compressed too?",
    ),
    defaults=Settings(data="spark_sample", workers=32, rounds=150, seeds=40),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    template=UNCOMPRESSED,
)
