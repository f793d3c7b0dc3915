"""All compressors at about equal bits a message: loss against rounds, bits and non-zeros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

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
from qsim.study import (
    Cell,
    Choice,
    On,
    Panel,
    Results,
    Settings,
    Study,
    Tuning,
    draw,
    each_seed,
    leads,
    letters,
    listed,
    reach_table,
    sheet,
    table,
    unled,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BUDGET = 256
"""Bits a message that settings were chosen for, on adult."""
TARGETS = (0.02, 0.005)
MULTIPLES = (2, 4, 8, 16)
"""The steps that are tried: so many times 1/L."""
EVERY = 2
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


@lru_cache
def step(settings: Settings) -> float:
    """Return 1/L, the step at which gradient descent is sure to fall."""
    return 1 / OBJECTIVE.smoothness(settings.load())


def run(settings: Settings, name: str, multiple: float, seed: int) -> qsim.Run:
    way = WAYS[name]
    return qsim.Run(
        settings.load(),
        objective=OBJECTIVE,
        method=qsim.GradientDescent(step=qsim.steps.Constant(multiple * step(settings))),
        compressor=way.compressor,
        codec=way.codec,
        workers=settings.workers,
        rounds=settings.rounds,
        seed=seed,
        evaluate_every=EVERY,
    )


def cells(settings: Settings, choices: Mapping[str, Choice]) -> list[Cell]:
    return each_seed(
        settings, {name: name for name in WAYS}, lambda name, seed: run(settings, name, choices[name].value, seed)
    )


def to_choose(settings: Settings, name: str, multiple: float, seed: int) -> qsim.Run:
    """Return a run that is only looked at when it is over."""
    return replace(run(settings, name, multiple, seed), evaluate_every=max(settings.rounds, 1))


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset}, shuffled over {settings.workers} workers;"
        f" {settings.rounds} full-batch updates. Contractions run with error feedback (EF), unbiased compressors as"
        f" they are. Parameters were set for about {BUDGET} bits a message on adult; what was measured is listed below."
        " 1-bit, bfloat16 and sign have no parameter for it; the hard threshold is far off it (see below). The step is"
        f" a multiple of 1/L = {step(settings):.3g}, tuned for each compressor with the same budget (last answer)."
        f" Bits and non-zeros are of one worker, way up, cumulative. Not drawn: {NOT_DRAWN}, which moves weights by"
        f" 1 a round. {settings.statistics} On the axes of bits and non-zeros every seed is put on the same points, by"
        " linear interpolation in logarithms; a line ends where the first of its seeds does."
    )


def numbers(results: Results) -> pd.DataFrame:
    """Return the frame of the runs on all three axes; traffic is of all workers."""
    return results.numbers(On("bits_up"), On("nonzeros"))


def by_cost(results: Results) -> list[str]:
    """Return the compressors, that with the fewest bits to the lowest target first; those that miss it come last."""
    costs = {name: [results.reach(name, target).mean for target in reversed(TARGETS)] for name in results.curves}
    return sorted(costs, key=lambda name: [cost if cost > 0 else float("inf") for cost in costs[name]])


def answers(results: Results) -> list[str]:
    messages = results.settings.workers * results.settings.rounds
    sizes = {
        name: (
            f"{results.final(name, 'bits_up') / messages:,.0f}",
            f"{results.final(name, 'nonzeros') / messages:.1f}",
        )
        for name in results.curves
    }
    winners = [
        f"To {target:g}: {leads(*found) if found else unled(results, results.curves, target)}."
        for target in TARGETS
        for found in [results.cheapest(results.curves, target)]
    ]
    others = [name for name in results.curves if name != UNCOMPRESSED]
    ratios = results.compare(others, UNCOMPRESSED, "suboptimality")
    return [
        f"Headers of the streams included:{table(('bits', 'non-zeros'), sizes)}",
        f"{' '.join(winners)} Bits of a worker to the first evaluated iteration (every {EVERY}) at or below a"
        " suboptimality, geometric means with intervals, in order of the last column:"
        + reach_table(results, by_cost(results), TARGETS, per=results.settings.workers),
        f"Uncompressed: {results.final(UNCOMPRESSED, 'suboptimality'):.3g}. Ratios to it:"
        + listed(f"{name}: {ratio}" for name, ratio in ratios.items()),
    ]


def figure(results: Results) -> Figure:
    workers = results.settings.workers
    added = [name for name in results.curves if name not in WAYS]  # compressors of one's own are in every panel
    rows = (
        Panel("round", "suboptimality", y_scale="log"),
        Panel("bits_up", "suboptimality", x_scale="log", y_scale="log", per=workers, x_label="bits of a worker"),
        Panel("nonzeros", "suboptimality", x_scale="log", y_scale="log", per=workers, x_label="non-zeros of a worker"),
    )
    with sheet(len(rows), len(FAMILIES), height=6.8, sharey=True, sharex="row") as (found, axes):
        for row, panel in zip(axes, rows, strict=True):
            for ax, family in zip(row, FAMILIES.values(), strict=True):
                names = [UNCOMPRESSED, *(name for name in family if name != NOT_DRAWN), *added]
                draw(results, replace(panel, curves=names), ax, names)
                if ax is not row[0]:
                    ax.set_ylabel("")
        for ax in axes[-1]:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), borderpad=0, handlelength=1.8, handletextpad=0.5)
        letters(axes[0], list(FAMILIES))
    return found


study = Study(
    title="All compressors at about equal bits a message",
    questions=(
        "How many bits and non-zeros does a message take?",
        "Which reaches a suboptimality with the fewest bits?",
        "How far from the uncompressed run does each end?",
    ),
    defaults=Settings(data="adult", workers=32, rounds=60, seeds=4),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
    tuning=Tuning("multiple of 1/L as step", lambda settings: list(WAYS), to_choose, MULTIPLES),
    carrier=UNCOMPRESSED,
)
