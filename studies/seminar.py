"""The published classroom setting, to the letter: 16 features, 32 workers, one sample a worker and step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qsim
from qsim.study import Cell, Panel, Results, Settings, Study, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (1, 2, 3, 4)
UNCOMPRESSED = "uncompressed"
STEP = 0.2
OBJECTIVE = qsim.LogisticRegression(l2=0.0)


def cells(settings: Settings) -> list[Cell]:
    compressors: dict[str, qsim.compressors.Compressor] = {UNCOMPRESSED: qsim.Identity()}
    compressors |= {f"s = {s}": qsim.QSGD(levels=s) for s in LEVELS}
    return [
        Cell(
            curve,
            qsim.Run(
                qsim.datasets.load(settings.data),
                objective=OBJECTIVE,
                method=qsim.SGD(step=qsim.steps.Constant(STEP), batch=1),
                compressor=compressor,
                workers=settings.workers,
                partition=qsim.datasets.Contiguous(),
                weighting="workers",
                rounds=settings.rounds,
                start=qsim.starts.Uniform(1.0),
                seed=seed,
                optimum=False,
            ),
        )
        for curve, compressor in compressors.items()
        for seed in range(settings.seeds)
    ]


def setting(settings: Settings) -> str:
    data = qsim.datasets.load(settings.data)
    return (
        f"Logistic regression without regulariser on {data.name} ({data.rows} rows, {data.features} features), in"
        f" contiguous parts on {settings.workers} workers. Every iteration each worker draws one of its rows at random;"
        f" the plain mean over workers of the quantized updates is taken, step {STEP}, {settings.rounds} iterations"
        f" from a start uniform in [-1, 1]^{data.features}. Means of {settings.seeds} seeds, which set start, samples"
        " and quantization; bands are 95% t-intervals."
    )


def answers(results: Results) -> list[str]:
    curves = [curve for curve in results.curves if curve != UNCOMPRESSED]

    def against(quantity: str) -> str:
        return " ".join(
            f"{curve}: {results.final(curve, quantity):.4f}, {results.difference(curve, UNCOMPRESSED, quantity)}."
            for curve in curves
        )

    sent = {curve: results.final(curve, "nonzeros") for curve in results.curves}
    shares = ", ".join(f"{curve} {100 * sent[curve] / sent[UNCOMPRESSED]:.0f}%" for curve in curves)
    return [
        f"Uncompressed: {results.final(UNCOMPRESSED, 'loss'):.4f}. Paired with it, {against('loss')}",
        f"Uncompressed: {results.final(UNCOMPRESSED, 'train_error'):.4f}. Paired with it, {against('train_error')}",
        f"{sent[UNCOMPRESSED]:,.0f} uncompressed; of these {shares}.",
    ]


def draw(results: Results) -> Figure:
    return panels(
        results,
        Panel("round", "loss", "loss"),
        Panel("round", "loss", "minus uncompressed", minus=UNCOMPRESSED),
        Panel("round", "train_error", "error rate"),
        Panel("round", "nonzeros", "non-zeros"),
    )


study = Study(
    title="The seminar's experiment: quantized SGD with 32 workers",
    questions=(
        "How does the final loss change with s, and is the change beyond the seed noise?",
        "And the error rate?",
        "How many non-zeros are sent?",
    ),
    defaults=Settings(data="spark_sample", workers=32, rounds=150, seeds=40),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
)
