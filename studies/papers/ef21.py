"""EF21 against error feedback, Top-4, nonconvex logistic regression on a9a (NeurIPS 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

import qsim
from qsim.compressors import Compressor, ErrorFeedback, TopK
from qsim.methods import EF21, GradientDescent, Method, Richtarik2021
from qsim.study import (
    Cell,
    Choice,
    Claim,
    LeastFinal,
    Panel,
    PaperStudy,
    Results,
    Settings,
    Tuning,
    Value,
    each_seed,
    panels,
    powers_of_two,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHT = 0.1
OBJECTIVE = qsim.objectives.WithRegulariser(qsim.objectives.NonconvexLogistic(weight=WEIGHT))
NAMES = ("EF21", "EF")
BORROWED = "EF21, EF's step"
PUBLISHED, KEPT, MULTIPLE = ("EF21, 64 times", "EF, 64 times"), 4, 64.0
"""The curves of the panel of a9a that the authors print, with this k and multiple for both."""
TARGET, LAST = 1e-7, 380
"""The squared gradient norm at which the curve of EF21 ends in the panel, and about the round at which EF's does."""
START = "another start: normal there, uniform of the same variance here, and one run there"


def bare(settings: Settings, method: Method, compressor: Compressor, seed: int) -> qsim.Run:
    return qsim.Run(
        settings.load(),
        objective=OBJECTIVE,
        method=method,
        compressor=compressor,
        workers=settings.workers,
        partition=qsim.datasets.Contiguous(),
        rounds=settings.rounds,
        start=qsim.starts.Uniform(3**0.5),
        seed=seed,
        evaluate_every=max(1, settings.rounds // 100),
        optimum=False,
    )


@lru_cache(maxsize=4)
def unit(settings: Settings) -> float:
    """Return the first step of EF21's theory, which the paper multiplies for both methods."""
    run = bare(settings, EF21(step=Richtarik2021()), TopK(KEPT), 0)
    step = run.method.resolved(run.problem()).step  # type: ignore[attr-defined]
    return float(step(0))


def run(settings: Settings, name: str, multiple: float, seed: int) -> qsim.Run:
    step = multiple * unit(settings)
    if name == "EF21":
        return bare(settings, EF21(step=step, shifts="gradient"), TopK(KEPT), seed)
    return bare(settings, GradientDescent(step=step), ErrorFeedback(TopK(KEPT)), seed)


def cells(settings: Settings, choices: Mapping[str, Choice]) -> list[Cell]:
    best = {name: float(choices[name].value) for name in NAMES}  # type: ignore[arg-type]
    shown = {f"{name}, tuned": (name, best[name]) for name in NAMES} | {BORROWED: ("EF21", best["EF"])}
    shown |= {curve: (name, MULTIPLE) for curve, name in zip(PUBLISHED, NAMES, strict=True)}
    return each_seed(settings, shown, lambda way, seed: run(settings, *way, seed))


def rounds_to_target(trace: qsim.Trace) -> float:
    """Return the round at which the squared gradient norm is at the target, linear in its logarithm."""
    at, norms = trace.axis("round"), 2 * np.log(trace.axis("gradient_norm"))
    seen = np.isfinite(norms)
    at, norms = at[seen], norms[seen]
    first = int((norms <= np.log(TARGET)).argmax())
    if norms[first] > np.log(TARGET):
        return float("inf")
    if first == 0:
        return float(at[0])
    return float(np.interp(-np.log(TARGET), -norms[first - 1 : first + 1], at[first - 1 : first + 1]))


def values(results: Results) -> list[Value]:
    """Return what the panel of a9a has, read off the vector graphics of the authors' poster."""
    reached = [rounds_to_target(trace) for trace in results.traces[PUBLISHED[0]]]
    floors = []
    for trace in results.traces[PUBLISHED[1]]:
        norms = trace.axis("gradient_norm")
        last = min(LAST, results.settings.rounds)
        floors.append(norms[np.isfinite(norms) & (trace.axis("round") <= last)][-1] ** 2)
    source = "panel of a9a, read off the vector graphics of the authors' poster"
    found = [Value("EF's squared gradient norm, round 380", 1.78e-5, geometric(floors), source, START, 0.1)]
    if np.isfinite(reached).all():
        found.append(Value("EF21's rounds to a squared norm of 1e-7", 247, float(np.mean(reached)), source, START, 0.1))
    for name, choice in ({} if results.tuned is None else results.tuned.choices).items():
        why = "tuned for the end of the runs here, by a rule that the paper does not say there"
        found.append(Value(f"tuned multiple of {name}", MULTIPLE, float(choice.value), source, why))  # type: ignore[arg-type]
    return found


def geometric(numbers: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(numbers))))


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression with the nonconvex regulariser {WEIGHT:g} sum w^2/(1 + w^2) on"
        f" {settings.dataset}, cut into {settings.workers} parts as it comes, a worker each, with full gradients;"
        f" Top-{KEPT}, {settings.rounds} rounds from a random start of unit variance. Steps are multiples of EF21's"
        " step of 2021 for both methods: those which tuning chose, that of EF for EF21, too, and those of the paper, 64"
        " for both. EF21 begins at exact gradients, which are counted. The server sends dense weights."
        f" {settings.statistics}"
    )


def differs(results: Results) -> list[str]:
    reached = [rounds_to_target(trace) for trace in results.traces[PUBLISHED[0]]]
    there = all(map(np.isfinite, reached))
    took = f"take {min(reached):.0f} to {max(reached):.0f}" if there else "do not all get there"
    return [
        "Data: a9a alone, coded into 121 features in place of 123; the paper has more sets of LIBSVM.",
        "Numbers: the panel's curve of EF21 ends where 247 rounds of four floats of 32 bits end, at 1e-7; the seeds"
        f" here {took}. EF's curve is the floor that it does not leave.",
        "Tuning: the paper tunes k, too; EF with the multiple that is best here comes lower than with 64, and later.",
        "Bits: the paper counts 32 for a value, no positions, and not the exact gradients at the start.",
        "Float32 messages stop at a gradient norm of about 1e-8.",
        "Seeds set the start; the paper has one run per curve.",
        "Both ways: dense weights come down, the same for both methods, so over bits both ways a round of one costs as"
        " much as one of the other, and what is said of rounds holds.",
    ]


def draw(results: Results) -> Figure:
    return panels(
        results,
        Panel("bits_up", "gradient_norm", "uplink", x_scale="log", y_scale="log"),
        Panel("bits", "gradient_norm", "both ways", x_scale="log", y_scale="log"),
        height=2.7,
    )


study = PaperStudy(
    title="EF21 against error feedback, Top-4",
    paper=(
        "Richtarik, Sokolov, Fatkhullin, *EF21: a new, simpler, theoretically better, and practically faster error"
        " feedback*, NeurIPS 2021 (2106.05203)."
    ),
    claims=(
        Claim(
            "With tuned steps EF21 outperforms EF substantially (half of what is left)",
            "EF21, tuned",
            "EF, tuned",
            "gradient_norm",
            most=0.5,
        ),
        Claim("So it does with the step that is best for EF", BORROWED, "EF, tuned", "gradient_norm", most=0.5),
        Claim(
            "So it does with the multiples of the paper's panel of a9a",
            PUBLISHED[0],
            PUBLISHED[1],
            "gradient_norm",
            most=0.5,
            source="the panel, read",
        ),
    ),
    values=values,
    differs=differs,
    defaults=Settings(data="adult", workers=20, rounds=500, seeds=5),
    cells=cells,
    setting=setting,
    draw=draw,
    tuning=Tuning(
        "multiple of EF21's step of 2021",
        lambda settings: NAMES,
        run,
        powers_of_two(1, 8),
        LeastFinal("gradient_norm"),
        seeds=1,
    ),
)
