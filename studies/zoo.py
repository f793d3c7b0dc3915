"""All compressors at about equal bits a message: loss against rounds, bits and non-zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import qsim
from qsim.compressors import (
    DRIVE,
    EDEN,
    NUQSGD,
    QSGD,
    Bernoulli,
    Bucketed,
    Compressor,
    ErrorFeedback,
    HardThreshold,
    Identity,
    NaturalCompression,
    NaturalDithering,
    OneBit,
    RandK,
    RoundedFloats,
    Scaled,
    ScaledSign,
    Sign,
    SubtractiveDither,
    TernGrad,
    Then,
    TopK,
    Wangni,
)
from qsim.study import STYLE, TEXT_WIDTH, Cell, Results, Settings, Study, look

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BUDGET = 256
"""Bits a message that settings were chosen for, on adult."""
TARGET = 0.005
MULTIPLES = (4, 8)
"""The steps that are tried: so many times 1/L."""
OBJECTIVE = qsim.LogisticRegression(l2=1e-3)
UNCOMPRESSED = "uncompressed"
NOT_DRAWN = "sign"
"""It moves every weight by 1 a round, whatever the step, so its loss is off every scale."""


@dataclass(frozen=True)
class Way:
    """A compressor with the code that its messages go by (none: its usual one)."""

    compressor: Compressor
    codec: qsim.codecs.Codec | None = None


_GAMMA = qsim.codecs.Elias("gamma")
FAMILIES: dict[str, dict[str, Way]] = {
    "even levels": {
        "QSGD, l2, s = 10": Way(QSGD(10), _GAMMA),
        "QSGD, max, s = 5": Way(QSGD(5, "max"), _GAMMA),
        "TernGrad, buckets of 32": Way(Bucketed(TernGrad(), 32), _GAMMA),
        "subtractive dither, s = 12": Way(SubtractiveDither(12), _GAMMA),
        "EF, scaled QSGD, s = 8": Way(ErrorFeedback(Scaled(QSGD(8))), _GAMMA),
    },
    "powers of two, pairs": {
        "NUQSGD, s = 4": Way(NUQSGD(4), _GAMMA),
        "natural dithering, max, s = 4": Way(NaturalDithering(4, "max"), _GAMMA),
        "Rand-16, natural": Way(Then(RandK(16), NaturalCompression())),
        "EF, Top-32, scaled QSGD, s = 16": Way(ErrorFeedback(Then(TopK(32), Scaled(QSGD(16)))), _GAMMA),
    },
    "sparsifiers": {
        "Rand-8, drawn": Way(RandK(8, positions="drawn")),
        "Bernoulli, p = 1/16": Way(Bernoulli(1 / 16)),
        "Wangni, k = 6": Way(Wangni(6)),
        "EF, Top-6": Way(ErrorFeedback(TopK(6))),
        "hard threshold": Way(HardThreshold(0.02)),
    },
    "signs, rotations": {
        NOT_DRAWN: Way(Sign()),
        "EF, scaled sign, buckets of 32": Way(ErrorFeedback(Bucketed(ScaledSign(), 32))),
        "EF, 1-bit": Way(ErrorFeedback(OneBit())),
        "EF, 1-bit, support": Way(ErrorFeedback(OneBit(support_only=True)), _GAMMA),
        "DRIVE, chunks of 32": Way(DRIVE(chunk=32)),
        "EDEN, 2 bits": Way(EDEN(2)),
        "bfloat16": Way(RoundedFloats("bfloat16")),
    },
}
WAYS = {UNCOMPRESSED: Way(Identity())} | {name: way for family in FAMILIES.values() for name, way in family.items()}


def step(settings: Settings) -> float:
    """Return 1/L, the step at which gradient descent is sure to fall."""
    return 1 / OBJECTIVE.smoothness(qsim.datasets.load(settings.data))


def curve(name: str, multiple: int) -> str:
    return f"{name}; step {multiple}/L"


def cells(settings: Settings) -> list[Cell]:
    data, unit = qsim.datasets.load(settings.data), step(settings)
    return [
        Cell(
            curve(name, multiple),
            qsim.Run(
                data,
                objective=OBJECTIVE,
                method=qsim.GradientDescent(step=qsim.steps.Constant(multiple * unit)),
                compressor=way.compressor,
                codec=way.codec,
                workers=settings.workers,
                rounds=settings.rounds,
                seed=seed,
                evaluate_every=2,
            ),
        )
        for name, way in WAYS.items()
        for multiple in MULTIPLES
        for seed in range(settings.seeds)
    ]


def setting(settings: Settings) -> str:
    data = qsim.datasets.load(settings.data)
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {data.name} ({data.rows:,} rows, {data.features} features),"
        f" shuffled over {settings.workers} workers; full-batch updates. Contractions run with error feedback (EF),"
        f" unbiased compressors as they are. Parameters were set for about {BUDGET} bits a message on adult; what was"
        " measured is listed below. 1-bit, bfloat16 and sign have no parameter for it; the hard threshold is far"
        " off it (see below). Each compressor gets the better, by its mean final loss, of the steps"
        f" {' and '.join(f'{m}/L' for m in MULTIPLES)}, 1/L = {step(settings):.3g}; the same seeds choose and show."
        f" Bits and non-zeros are of one worker, way up, cumulative. Not drawn: {NOT_DRAWN}, which moves weights by"
        f" 1 a round. {settings.statistics}"
    )


def names(results: Results) -> list[str]:
    """Return what is compared: the ways, and behind them compressors that were added."""
    return list(dict.fromkeys(found.rsplit("; ", 1)[0] for found in results.curves))


def best(results: Results, name: str) -> str:
    """Return the curve of the step with the least mean final suboptimality."""
    return min((curve(name, m) for m in MULTIPLES), key=lambda found: results.final(found, "suboptimality"))


def bits_to(results: Results, shown: str) -> float:
    """Return a worker's mean bits until every seed has come to the target once; infinite if one has not."""
    reached = results.samples(shown, "suboptimality") <= TARGET
    if not reached.any(axis=1).all():
        return float("inf")
    bits = results.samples(shown, "bits_up")[range(len(reached)), reached.argmax(axis=1)]
    return float(bits.mean()) / results.settings.workers


def numbers(results: Results) -> pd.DataFrame:
    """Return for each compressor with its best step: bits and non-zeros a message, final loss, bits to the target."""
    import pandas as pd

    messages = results.settings.workers * results.settings.rounds
    rows: list[dict[str, Any]] = []
    for name in names(results):
        shown = best(results, name)
        band = results.band(shown, "suboptimality")
        rows.append(
            {
                "compressor": name,
                "curve": shown,
                "bits a message": results.final(shown, "bits_up") / messages,
                "non-zeros a message": results.final(shown, "nonzeros") / messages,
                "suboptimality": band.mean[-1],
                "low": band.low[-1],
                "high": band.high[-1],
                "bits to the target": bits_to(results, shown),
            }
        )
    return pd.DataFrame(rows)


def answers(results: Results) -> list[str]:
    table = numbers(results)
    bits = "".join(
        f"\n- {row['compressor']}: {row['bits a message']:,.0f} bits, {row['non-zeros a message']:.1f} non-zeros"
        for _, row in table.iterrows()
    )
    costs = "".join(
        f"\n- {row['compressor']} ({row['curve'].split('; ')[1]}): {_bits(row['bits to the target'])}"
        for _, row in table.sort_values("bits to the target").iterrows()
    )
    reference = best(results, UNCOMPRESSED)
    others = [best(results, name) for name in names(results) if name != UNCOMPRESSED]
    differences = results.differences(others, reference, "suboptimality")
    finals = "".join(f"\n- {shown}: {difference}" for shown, difference in differences.items())
    return [
        f"Headers of the streams included:\n{bits}",
        f"To come within {TARGET:g} of the minimum, bits of a worker (means over seeds, in order; neighbours may be"
        f" within the noise):\n{costs}",
        f"Uncompressed ({reference.split('; ')[1]}): {results.final(reference, 'suboptimality'):.3g}. Paired"
        f" differences to it:\n{finals}",
    ]


def _bits(bits: float) -> str:
    return f"{bits:,.0f} bits" if np.isfinite(bits) else "not reached by every seed"


def draw(results: Results) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    axes_of = {"round": "iteration", "bits_up": "bits of a worker", "nonzeros": "non-zeros of a worker"}
    added = [name for name in names(results) if name not in WAYS]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 7.0), layout="constrained")
        grid = figure.subplots(len(axes_of), len(FAMILIES), sharey=True, sharex="row")
        for row, (quantity, label) in zip(grid, axes_of.items(), strict=True):
            for ax, family in zip(row, FAMILIES.values(), strict=True):
                _draw(results, ax, quantity, [UNCOMPRESSED, *(name for name in family if name != NOT_DRAWN), *added])
                ax.set(yscale="log", xscale="linear" if quantity == "round" else "log", xlabel=label)
            row[0].set_ylabel("suboptimality")
        for ax, letter, title in zip(grid[0], "abcd", FAMILIES, strict=True):
            ax.set_title(f"({letter}) {title}", loc="left")
        for ax in grid[-1]:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), fontsize=6)
    return figure


def _draw(results: Results, ax: Axes, quantity: str, names: list[str]) -> None:
    for place, name in enumerate(names):
        shown = best(results, name)
        across = results.band(shown, quantity).mean / (1 if quantity == "round" else results.settings.workers)
        band = results.band(shown, "suboptimality")
        ax.plot(across[1:], band.mean[1:], label=name, markevery=(place, 8), **look(place))
        low = np.maximum(band.low, band.mean / 10)[1:]
        ax.fill_between(across[1:], low, band.high[1:], alpha=0.2, linewidth=0, color=look(place)["color"])


study = Study(
    title="All compressors at about equal bits a message",
    questions=(
        "How many bits and non-zeros does a message take?",
        "Which reaches the target with the fewest bits?",
        "How far from the uncompressed run does each end?",
    ),
    defaults=Settings(data="adult", workers=32, rounds=60, seeds=4),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
    carrier=UNCOMPRESSED,
)
