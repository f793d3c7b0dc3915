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
        " its update is quantized by QSGD with the l2 norm and s levels, and the plain mean over workers is taken: step"
        f" {STEP}, {settings.rounds} iterations from a start uniform in [-1, 1]^{data.features}. The server sends dense"
        f" float32 weights back. {settings.statistics} A seed sets start, samples and quantization."
    )


def answers(results: Results) -> list[str]:
    curves = [curve for curve in results.curves if curve != UNCOMPRESSED]

    def against(quantity: str) -> str:
        found = results.differences(curves, UNCOMPRESSED, quantity)
        beyond = [curve for curve in curves if found[curve].beyond_noise]
        verdict = f"{', '.join(beyond)} {'is' if len(beyond) == 1 else 'are'}" if beyond else "no s is"
        listed = "".join(f"\n- {curve}: {results.final(curve, quantity):.4f}, {found[curve]}" for curve in curves)
        return (
            f"Uncompressed ends at {results.final(UNCOMPRESSED, quantity):.4f}; {verdict} off beyond the seed noise."
            f" Final values and paired differences:\n{listed}"
        )

    sent = {curve: results.final(curve, "nonzeros") for curve in results.curves}
    shares = ", ".join(f"{curve} {100 * sent[curve] / sent[UNCOMPRESSED]:.0f}%" for curve in curves)
    return [
        against("loss"),
        against("train_error"),
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
    carrier=UNCOMPRESSED,
)
