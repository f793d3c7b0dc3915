"""The published classroom setting, to the letter: 16 features, 32 workers, one sample a worker and step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qsim
from qsim.compressors import Compressor
from qsim.study import Cell, Panel, Results, Settings, Study, beyond, each_seed, listed, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (1, 2, 3, 4)
UNCOMPRESSED = "uncompressed"
COMPRESSORS: dict[str, Compressor] = {
    UNCOMPRESSED: qsim.Identity(),
    **{f"s = {s}": qsim.QSGD(levels=s) for s in LEVELS},
}
STEP = 0.2
OBJECTIVE = qsim.LogisticRegression(l2=0.0)


def cells(settings: Settings) -> list[Cell]:
    data = settings.load()

    def run(compressor: Compressor, seed: int) -> qsim.Run:
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=qsim.SGD(step=qsim.steps.Constant(STEP), batch=1),
            compressor=compressor,
            codec=qsim.codecs.Varint() if isinstance(compressor, qsim.QSGD) else None,
            workers=settings.workers,
            partition=qsim.datasets.Contiguous(),
            weighting="workers",
            rounds=settings.rounds,
            start=qsim.starts.Uniform(1.0),
            seed=seed,
            optimum=False,
        )

    return each_seed(settings, COMPRESSORS, run)


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression without regulariser on {settings.dataset}, in contiguous parts on {settings.workers}"
        " workers. Every iteration each worker draws one of its rows at random; its update is quantized by QSGD with"
        f" the l2 norm and s levels, and the plain mean over workers is taken: step {STEP}, {settings.rounds}"
        f" iterations from a start uniform in [-1, 1]^{settings.load().features}. The server sends dense float32"
        f" weights back. {settings.statistics} A seed sets start, samples and quantization."
    )


def answers(results: Results) -> list[str]:
    curves = [curve for curve in results.curves if curve != UNCOMPRESSED]

    def against(quantity: str) -> str:
        found = results.compare(curves, UNCOMPRESSED, quantity)
        return (
            f"Uncompressed ends at {results.final(UNCOMPRESSED, quantity):.4f}. {beyond(found)} Final values and"
            " differences:"
            + listed(f"{curve}: {results.final(curve, quantity):.4f}, {found[curve]}" for curve in curves)
        )

    sent = {curve: results.final(curve, "nonzeros") for curve in results.curves}
    fewer = results.compare(curves, UNCOMPRESSED, "nonzeros")
    shares = ", ".join(f"{curve} {100 * sent[curve] / sent[UNCOMPRESSED]:.1f}%" for curve in curves)
    return [
        against("loss"),
        against("train_error"),
        f"{sent[UNCOMPRESSED]:,.0f} uncompressed; of these {shares}. Fewer than uncompressed: {beyond(fewer)}",
    ]


def draw(results: Results) -> Figure:
    return panels(
        results,
        Panel("round", "loss", "loss"),
        Panel("round", "loss", "minus uncompressed", minus=UNCOMPRESSED),
        Panel("round", "train_error", "error rate"),
        Panel("round", "nonzeros", "non-zeros"),
        columns=2,
        height=2.1,
    )


study = Study(
    title="The seminar's experiment: quantized SGD",
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
    carrier=UNCOMPRESSED,
)
