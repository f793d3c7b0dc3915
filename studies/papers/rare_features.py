"""EF21's step by quadratic mean, arithmetic mean and rare features, Top-1 (NeurIPS 2021, ICLR 2024, and 2305.15264)."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

import qsim
from qsim.codecs import Codec, SparseFloats
from qsim.compressors import Compressor, Identity, TopK
from qsim.datasets import Contiguous, Quadratics, Source, Synthetic
from qsim.methods import EF21, GradientDescent, Method, RareFeatures, Richtarik2021, Richtarik2024
from qsim.steps import TimesTheory
from qsim.study import Cell, Claim, Panel, PaperStudy, Results, Settings, each_seed, panels, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPREAD = 1.5
LEAST = 0.1
SMOOTHNESS = tuple(float(LEAST + L) for L in np.exp(SPREAD * np.random.default_rng(0).standard_normal(50)))
QUADRATICS: Source = Quadratics(SMOOTHNESS, mu=LEAST, heterogeneity=1.0)
RARE: Source = Synthetic(rows=1000, features=4000, nonzeros_per_row=5, exponent=0.0, seed=1)
OWNERS = 50
OBJECTIVES: dict[str, qsim.objectives.Objective] = {
    "quadratics": qsim.objectives.LeastSquares(l2=0.0),
    "rare": qsim.LogisticRegression(l2=1e-4),
}
QUADRATIC, ARITHMETIC = "quadratic mean", "arithmetic mean"
OURS, PAPERS = "sum over owners", "rare features, paper"
HERE, TUNED = "rare features, here", "rare features, here, x 16"
GD = "gradient descent"
LONG = 50  # rounds of EF21 for one of gradient descent, whose messages are longer
Way = tuple[str, Method, Compressor, Codec | None]


def bare(data: str, method: Method) -> qsim.Run:
    """Return the run of a method over the workers of a data set, by which its constants are measured."""
    workers = len(SMOOTHNESS) if data == "quadratics" else OWNERS
    source = QUADRATICS if data == "quadratics" else RARE
    return qsim.Run(source, OBJECTIVES[data], method, TopK(1), workers=workers, partition=Contiguous())


@lru_cache(maxsize=4)
def rare_step(rare: Source) -> tuple[float, dict[str, float]]:
    """Return the step of the paper on rare features, and the constants that make it.

    1/(L + sqrt(c/W min(c/W max L_i^2, mean L_i^2)) sqrt(beta/theta)) with delta = k/r: a vector of at most r non-zeros
    is contracted by 1 - k/r, however long it is. c is the most workers that own a feature, r the most features of one.
    """
    problem = qsim.Run(rare, OBJECTIVES["rare"], EF21(), TopK(1), workers=OWNERS, partition=Contiguous()).problem()
    owners = int(np.bincount(problem.shards.support).max())
    owned = int(np.diff(problem.shards.support_offsets).max())
    each, share = problem.sent_smoothness, owners / problem.workers
    shared = sqrt(share * min(share * each.max() ** 2, float(np.mean(each**2))))
    theta = 1 - sqrt(1 - 1 / owned)
    step = 1 / (problem.smoothness + shared * sqrt(1 - 1 / owned) / theta)
    return step, {"c": owners, "r": owned, "L": problem.smoothness, "L_i, mean": problem.mean_smoothness} | {
        "of rare features": shared,
        "sum over owners": problem.feature_smoothness,
    }


def ways() -> dict[str, Way]:
    step = rare_step(RARE)[0]
    named: dict[str, Method] = {QUADRATIC: EF21(step=Richtarik2021()), ARITHMETIC: EF21(step=Richtarik2024())}
    found: dict[str, Way] = {f"quadratics: {name}": ("quadratics", m, TopK(1), None) for name, m in named.items()}
    named |= {OURS: EF21(), PAPERS: EF21(step=step), HERE: EF21(step=RareFeatures())}
    named[TUNED] = EF21(step=TimesTheory(16, RareFeatures()))
    found |= {f"rare: {name}": ("rare", m, TopK(1), None) for name, m in named.items()}
    return found | {f"rare: {GD}": ("rare", GradientDescent(), Identity(), SparseFloats())}


def cells(settings: Settings) -> list[Cell]:
    def run(way: Way, seed: int) -> qsim.Run:
        data, method, compressor, codec = way
        found = bare(data, method)
        rounds = max(1, settings.rounds // LONG) if isinstance(method, GradientDescent) else settings.rounds
        return qsim.Run(
            found.data,
            found.objective,
            method,
            compressor,
            codec,
            workers=found.workers,
            partition=found.partition,
            rounds=rounds,
            start=qsim.starts.Uniform(0.1),
            seed=seed,
            evaluate_every=max(1, rounds // 100),
        )

    return each_seed(settings, ways(), run)


def setting(settings: Settings) -> str:
    return (
        f"(a) {len(SMOOTHNESS)} workers with a quadratic each, whose L_i are lognormal (spread {SPREAD:g}). (b)"
        f" Logistic regression (l2 = {OBJECTIVES['rare'].l2:g}) on {RARE.load().name} over {OWNERS} workers,"
        f" contiguous rows, where few workers own a feature. EF21 with Top-1, shifts from zero, {settings.rounds}"
        " rounds; gradient descent sends the non-zeros of its gradients with their positions, for"
        f" {settings.rounds // LONG} rounds. A seed sets the start, uniform in [-0.1, 0.1]. {settings.statistics}"
    )


def differs(results: Results) -> list[str]:
    problem = bare("quadratics", EF21()).problem()
    means = problem.mean_square_smoothness / problem.mean_smoothness
    rows: dict[str, list[object]] = {name: [f"{value:.3g}"] for name, value in rare_step(RARE)[1].items()}
    adult = qsim.Run("adult", OBJECTIVES["rare"], EF21(), TopK(1), workers=100).problem()
    alike = adult.mean_square_smoothness / adult.mean_smoothness
    tuned = Claim("", f"rare: {TUNED}", f"rare: {GD}").alone(results)
    steps: dict[str, list[object]] = {}
    for curve in results.curves:
        run = next(cell.run for cell in results.cells if cell.curve == curve)
        constants = run.problem()
        step = run.method.resolved(constants).step  # type: ignore[attr-defined]
        steps[curve] = [f"{step(0):.3g}", f"{step(0) * constants.smoothness:.3g}"]
    return [
        "Both ways: dense weights come down in every round, at which rounds with few features sent save nothing: over"
        " bits both ways gradient descent, which needs the fewest rounds, is far ahead of EF21 with any step here.",
        "Data: the papers have six LIBSVM sets over 1,000 clients, and synthetic regression of n = 2,000. Here the"
        f" L_i are drawn, so that their quadratic mean is {means:.3g} times the arithmetic. On Adult, shuffled over"
        f" 100 workers, it is {alike:.3f} times, and there is nothing to gain.",
        "Losses: convex here, so that the distance to the minimum can be drawn; the papers have a nonconvex"
        " regulariser.",
        "EF21-W, which has the weights in the algorithm, equals EF21 for Top-1: a compressor with C(t v) = t C(v).",
        "The default here (sum over owners) takes delta = k/n, the paper on rare features k/r, r the most features of a"
        " worker. `RareFeatures()` (here) has k over the features of each worker, and the sum over owners, so that what"
        " stands beside L is never above the paper's; for mu > 0 it is times sqrt(2), for a linear rate.",
        "Bits of gradient descent are counted by its non-zeros, r floats and positions per round, as in the paper's r"
        " L against L + r M. By these formulas EF21 never needs fewer: changes of the gradient are at most M times"
        " those of the weights (docs/theory.md), so L is at most M, if it is exact. In practice EF21 takes far"
        f" longer steps: with 16 times that of `RareFeatures()` it ends at {tuned} what gradient descent has left at"
        " its own bits."
        f" Steps, and times L:{table(['step', 'step x L'], steps)}\n\nConstants of (b):{table(['value'], rows)}",
    ]


def draw(results: Results) -> Figure:
    def shown(data: str) -> list[str]:
        return [curve for curve in results.curves if curve.startswith(data)]

    def label(curve: str) -> str:
        return curve.split(": ")[1]

    scales = {"x_scale": "log", "y_scale": "log", "label": label}
    return panels(
        results,
        Panel("bits_up", "suboptimality", "quadratics, uplink", curves=shown("quadratics"), **scales),  # type: ignore[arg-type]
        Panel("bits_up", "suboptimality", "rare features, uplink", curves=shown("rare"), **scales),  # type: ignore[arg-type]
        Panel("bits", "suboptimality", "rare features, both ways", curves=shown("rare"), **scales),  # type: ignore[arg-type]
        height=2.9,
    )


study = PaperStudy(
    title="EF21's step: quadratic mean, arithmetic mean, rare features",
    paper=(
        "Richtarik, Gasanov, Burlachenko, *Error feedback reloaded: from quadratic to arithmetic mean of smoothness"
        " constants*, ICLR 2024 (2402.10774), and *Error feedback shines when features are rare*, 2023 (2305.15264)."
    ),
    claims=(
        Claim(
            "The arithmetic mean's step gets further where L_i differ",
            f"quadratics: {ARITHMETIC}",
            f"quadratics: {QUADRATIC}",
        ),
        Claim("The step for rare features gets further than both", f"rare: {PAPERS}", f"rare: {ARITHMETIC}"),
        Claim(
            "With it, EF21 needs fewer bits than gradient descent",
            f"rare: {PAPERS}",
            f"rare: {GD}",
            source='abstract, read (that it "can" need fewer)',
        ),
    ),
    differs=differs,
    defaults=Settings(data="spark_sample", workers=50, rounds=8000, seeds=5),
    takes=("rounds", "seeds"),
    cells=cells,
    setting=setting,
    draw=draw,
)
