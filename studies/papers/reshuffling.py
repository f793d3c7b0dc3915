"""Reshuffled passes with compressed gradients, and the paper's table of constants (NeurIPS 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import qsim
from qsim.datasets import ByLabel
from qsim.methods import DIANA, DIANARR, SGD, Method, Passes, Sadiev2024
from qsim.steps import TimesTheory
from qsim.study import (
    Cell,
    Choice,
    Claim,
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

KEPT, KAPPA, BATCHES = 2, 1e4, 10
NAMES = ("QSGD", "Q-RR", "DIANA", "DIANA-RR")
TABLE = "the paper's table of constants for a9a, read"


@lru_cache(maxsize=4)
def objective(data: str) -> qsim.LogisticRegression:
    """Return logistic regression with the regulariser that makes L/mu the paper's."""
    bare = qsim.LogisticRegression(l2=0.0).smoothness(qsim.datasets.load(data))
    return qsim.LogisticRegression(l2=bare / (KAPPA - 1))


@lru_cache(maxsize=4)
def first_step(settings: Settings) -> float:
    """Return the step of DIANA-RR's theorem, which is for parts of one size, whatever the sizes are."""
    run = qsim.Run(
        settings.load(),
        objective(settings.data),
        DIANARR(1.0),
        qsim.RandK(KEPT),
        workers=settings.workers,
        partition=ByLabel(),
    )
    problem = run.problem()
    shift = 1 / (1 + problem.omega)
    return min(
        shift / (2 * BATCHES * problem.strong_convexity), 1 / ((1 + 6 * problem.spread) * problem.row_smoothness)
    )


def method(settings: Settings, name: str, multiple: float) -> Method:
    batch = max(1, settings.load().rows // settings.workers // BATCHES)
    if name == "QSGD":
        return SGD(step=TimesTheory(multiple), batch=batch)
    if name == "Q-RR":
        return SGD(step=TimesTheory(multiple, Sadiev2024()), batch=batch, sampling=Passes())
    if name == "DIANA":
        return DIANA(step=TimesTheory(multiple), batch=batch)
    return DIANARR(multiple * first_step(settings), parts=BATCHES)


def run(settings: Settings, name: str, multiple: float, seed: int) -> qsim.Run:
    return qsim.Run(
        settings.load(),
        objective=objective(settings.data),
        method=method(settings, name, multiple),
        compressor=qsim.RandK(KEPT),
        workers=settings.workers,
        partition=ByLabel(),
        rounds=settings.rounds,
        seed=seed,
        evaluate_every=max(1, settings.rounds // 50),
    )


def cells(settings: Settings, choices: Mapping[str, Choice]) -> list[Cell]:
    steps = {name: (name, float(choices[name].value)) for name in NAMES}  # type: ignore[arg-type]
    return each_seed(settings, steps, lambda way, seed: run(settings, *way, seed))


def setting(settings: Settings) -> str:
    data = settings.load()
    return (
        f"Logistic regression on {settings.dataset} with an l2 that makes L/mu {KAPPA:.0e}, over {settings.workers}"
        f" workers with rows sorted by label; Rand-{KEPT}, {BATCHES} batches a pass"
        f" ({data.rows // settings.workers // BATCHES} rows), {settings.rounds // BATCHES} passes. QSGD and DIANA"
        " draw rows with replacement, Q-RR and DIANA-RR go through reshuffled passes; each with the multiple of its"
        f" theory's step that tuning chose. The server sends dense float32 weights. {settings.statistics}"
    )


def values(results: Results) -> list[Value]:
    settings = results.settings
    run = results.cells[0].run
    problem, data = run.problem(), settings.load()
    other = "Adult is coded here into 121 features, a9a has 123: the numeric columns are cut elsewhere"
    mean = problem.smoothness
    return [
        Value("rows in equal parts", 32560, data.rows // settings.workers * settings.workers, TABLE),
        Value("rows of a worker", 1628, data.rows // settings.workers, TABLE),
        Value("features", 123, data.features, TABLE, other),
        Value("L", 1.57, mean, TABLE, other),
        Value(
            "L of a row, largest", 3.5, problem.row_smoothness, TABLE, "a row has 14 ones: 14/4 in both, plus mu here"
        ),
        Value("mu", 1.57e-4, problem.strong_convexity, TABLE, "L/mu is 1e4 in both, so it differs as L does"),
        Value("rows of a batch", 162, data.rows // settings.workers // BATCHES, TABLE),
    ]


def of_one_label(results: Results) -> int:
    """Return how many workers have rows with the label -1 alone."""
    shards = results.cells[0].run.problem().shards
    each = [shards.dataset.labels[shards.order[low:high]] for low, high in pairwise(shards.offsets)]
    return sum(bool((labels <= 0).all()) for labels in each)


def differs(results: Results) -> list[str]:
    settings = results.settings
    return [
        f"Length: the paper goes on for 5,000 passes, to f - f* = 1e-7; here {settings.rounds // BATCHES} passes, so"
        " the tuned steps are longer, and the floor that noise leaves is higher.",
        "Grid: the paper has theory's step times 2^-10 to 2^12 on every method, here a part of it that has the best"
        " inside; the findings below say where a choice is at an end.",
        "Methods: this is Figure 1; Figure 2, of methods with local steps, is the study reshuffling_local.",
        "Labels: Table 5 of the paper gives 1,628 rows with the label -1 to each of 14 workers and 1,328 to the next,"
        f" 24,120 in all. a9a has 24,720, and so has Adult: here {of_one_label(results)} workers have rows with the"
        " label -1 alone, and the rows of the next are 300 of the one and 1,328 of the other.",
        "Orders: the paper's DIANA-RR draws one order, before the first pass; here all methods draw one for each.",
        "DIANA-RR keeps one shift for each of ten parts of a worker's rows, which are its batches, not for each row.",
        "Q-RR's theorem is for one row per step; with batches its step is a place to begin the grid.",
        "Seeds: the paper has one run per curve.",
        "Both ways: all methods send alike messages, so counting the downlink multiplies all axes by the same.",
    ]


def draw(results: Results) -> Figure:
    return panels(
        results,
        Panel("passes", "suboptimality", "over passes", y_scale="log"),
        Panel("bits_up", "suboptimality", "over uplink bits", y_scale="log", x_scale="log"),
        height=2.7,
    )


study = PaperStudy(
    title="Compressed gradients in random reshuffling",
    paper=(
        "Sadiev, Malinovsky, Gorbunov, Sokolov, Khaled, Burlachenko, Richtarik, *Don't compress gradients in random"
        " reshuffling: compress gradient differences*, NeurIPS 2024 (2206.07021)."
    ),
    claims=(
        Claim("Reshuffling alone gains nothing: Q-RR ends where QSGD does", "Q-RR", "QSGD", least=1 / 2, most=2.0),
        Claim("Differences help: DIANA ends below QSGD", "DIANA", "QSGD"),
        Claim("Differences make reshuffling pay: DIANA-RR ends below Q-RR", "DIANA-RR", "Q-RR"),
        Claim("... and below DIANA, which draws with replacement", "DIANA-RR", "DIANA"),
    ),
    differs=differs,
    values=values,
    defaults=Settings(data="adult", workers=20, rounds=5000, seeds=5),
    cells=cells,
    setting=setting,
    draw=draw,
    tuning=Tuning("multiple of theory's step", lambda settings: NAMES, run, powers_of_two(-2, 4), seeds=1),
)
