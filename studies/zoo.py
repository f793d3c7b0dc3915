"""All compressors at about equal bits a message: loss against rounds, bits and non-zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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
from qsim.study.results import CONFIDENCE, Difference

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BUDGET = 256
"""Bits a message that settings were chosen for, on adult."""
TARGET = 0.005
MULTIPLES = (2, 4, 8)
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
    "signs, rotations, 16 bits": {
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
