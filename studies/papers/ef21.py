"""EF21 against error feedback, Top-1, nonconvex logistic regression on a9a (NeurIPS 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import qsim
from qsim.compressors import Compressor, ErrorFeedback, TopK
from qsim.datasets import ByLabel
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
    each_seed,
    panels,
    powers_of_two,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OBJECTIVE = qsim.objectives.NonconvexLogistic(weight=0.1)
NAMES = ("EF21", "EF")
BORROWED = "EF21, EF's step"


def bare(settings: Settings, method: Method, compressor: Compressor, seed: int) -> qsim.Run:
    return qsim.Run(
        settings.load(),
        objective=OBJECTIVE,
        method=method,
        compressor=compressor,
        workers=settings.workers,
        partition=ByLabel(),
        rounds=settings.rounds,
        start=qsim.starts.Uniform(1.0),
        seed=seed,
        evaluate_every=max(1, settings.rounds // 50),
        optimum=False,
    )


@lru_cache(maxsize=4)
def unit(settings: Settings) -> float:
    """Return the first step of EF21's theory, which the paper multiplies for both methods."""
    run = bare(settings, EF21(step=Richtarik2021()), TopK(1), 0)
    step = run.method.resolved(run.problem()).step  # type: ignore[attr-defined]
    return float(step(0))


def run(settings: Settings, name: str, multiple: float, seed: int) -> qsim.Run:
    step = multiple * unit(settings)
    if name == "EF21":
        return bare(settings, EF21(step=step, shifts="gradient"), TopK(1), seed)
    return bare(settings, GradientDescent(step=step), ErrorFeedback(TopK(1)), seed)


def cells(settings: Settings, choices: Mapping[str, Choice]) -> list[Cell]:
    best = {name: float(choices[name].value) for name in NAMES}  # type: ignore[arg-type]
    shown = {f"{name}, tuned": (name, best[name]) for name in NAMES} | {BORROWED: ("EF21", best["EF"])}
    return each_seed(settings, shown, lambda way, seed: run(settings, *way, seed))


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression with the nonconvex regulariser {OBJECTIVE.weight:g} sum w^2/(1 + w^2) on"
        f" {settings.dataset}, sorted by label over {settings.workers} workers with full gradients; Top-1,"
        f" {settings.rounds} rounds from a start uniform in [-1, 1]. Steps are multiples of EF21's step of 2021 for"
        " both methods, those which tuning chose; EF21 is also run with that of EF. EF21 begins at exact gradients,"
        f" which are counted. The server sends dense weights. {settings.statistics}"
    )


def differs(results: Results) -> list[str]:
    found = {} if results.tuned is None else results.tuned.choices
    chosen = ", ".join(f"{name} {choice.value:g}" for name, choice in found.items())
    return [
        "Data: a9a alone, coded into 121 features in place of 123; the paper has more sets of LIBSVM.",
        f"Tuned multiples: {chosen}. EF takes the smaller step, as its error grows with it; how small, depends on the"
        " length of the runs.",
        "Partition: sorted by label, so that the workers' gradients do not vanish where their mean does; this is"
        " what stops EF with a constant step. The authors cut the file into parts as it comes.",
        "The regulariser stays out of what is compressed here, and is inside it there.",
        "Float32 messages stop at a gradient norm of about 1e-8.",
        "Seeds set the start; the paper has one run per curve.",
    ]


def draw(results: Results) -> Figure:
    return panels(
        results,
        Panel("bits_up", "gradient_norm", "uplink", x_scale="log", y_scale="log"),
        Panel("bits", "gradient_norm", "both ways", x_scale="log", y_scale="log"),
        height=2.7,
    )


study = PaperStudy(
    title="EF21 against error feedback, Top-1",
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
    ),
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
