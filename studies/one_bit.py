"""The lecture's story of one bit: biased compressors stall, error feedback mends them, and two counterexamples."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.batch import Support, Vectors, dense_offsets
from qsim.compressors import QSGD, Compressor, ErrorFeedback, Identity, OneBit, ScaledSign, Sign, TopK
from qsim.study import (
    Band,
    Cell,
    On,
    Panel,
    Results,
    Settings,
    Study,
    compare,
    draw,
    draw_band,
    each_seed,
    legend_beside,
    letters,
    listed,
    reach_table,
    sheet,
)
from qsim.study.statistics import band

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OBJECTIVE = qsim.LogisticRegression(l2=1e-3)
WAYS: dict[str, Compressor] = {
    "uncompressed": Identity(),
    "1-bit": OneBit(),
    "1-bit, EF": ErrorFeedback(OneBit()),
    "Top-6": TopK(6),
    "Top-6, EF": ErrorFeedback(TopK(6)),
    "QSGD, s = 1": QSGD(1),
}
SIGNS: dict[str, Compressor] = {
    "sign": Sign(),
    "scaled sign": ScaledSign(),
    "scaled sign, EF": ErrorFeedback(ScaledSign()),
}
TAIL = 100  # the last steps, over which f is averaged: it goes up and down around the minimum
STEPS, EPSILON, GAMMA = 1000, 0.5, 0.01
THIN = 10  # of the paths every so many steps are drawn and written
TARGETS = (0.1, 0.05, 0.01)
EVERY = 5

Point = NDArray[np.float64]


def step(settings: Settings) -> float:
    """Return 1/L, the step at which gradient descent is sure to fall."""
    return 1 / OBJECTIVE.smoothness(settings.load())


def cells(settings: Settings) -> list[Cell]:
    data, method = settings.load(), qsim.GradientDescent(step=qsim.steps.Constant(step(settings)))

    def run(compressor: Compressor, seed: int) -> qsim.Run:
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=method,
            compressor=compressor,
            workers=settings.workers,
            partition=qsim.datasets.Dirichlet(alpha=0.1),
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=EVERY,
        )

    return each_seed(settings, WAYS, run)


def setting(settings: Settings) -> str:
    return (
        f"(a, b) Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset} over {settings.workers} workers"
        " whose labels differ (Dirichlet, alpha = 0.1), so that the workers' gradients do not vanish at the optimum: a"
        f" setting where bias shows. Full-batch updates, step 1/L = {step(settings):.3g} for all; EF is error feedback;"
        f" bits of all workers, way up. {settings.statistics} A seed sets partition and quantization; (b) puts every"
        " seed on the same numbers of bits, by linear interpolation in logarithms."
        " (c, d) Counterexamples of Karimireddy et al. 2019: (c) f(x) = x/4 on [-1, 1] from 0, gradient 4 with"
        f" probability 1/4, else -1, step {GAMMA:g} (in one dimension scaled sign is exact, and so plain SGD), the same"
        f" gradients for all, a path for each seed;"
        f" (d) f = eps |x1 + x2| + |x1 - x2|, eps = {EPSILON:g}, from (1, 1), subgradient with sign(0) = +1, step"
        f" {GAMMA:g}, without randomness. Sign compresses the gradient and is then multiplied by the step. Drawn every"
        f" {THIN} steps."
    )


def descend(compressor: Compressor, gradient: Callable[[Point, int], Point], start: Point, box: float) -> Point:
    """Return f's arguments x(0), x(1), ...: x moves by the compressed update, and stays in [-box, box]."""
    n = start.size
    memory = compressor.memory(Support(n, dense_offsets(1, n), None))
    path = [start]
    unit = GAMMA if isinstance(compressor, Sign) else 1.0  # sign loses the size, so the step comes after it
    for t in range(STEPS):
        keys = qsim.Key(0).fold(t).words(0, 1)
        update = Vectors.dense((gradient(path[-1], t) * GAMMA / unit)[None].astype(np.float32))
        sent = compressor.decompress(compressor.compress(update, keys, memory), keys)
        if memory is not None:
            compressor.settle(memory, sent)
        path.append(np.clip(path[-1] - unit * sent.to_dense()[0], -box, box))
    return np.array(path)


@lru_cache
def linear(compressor: Compressor, seed: int = 0) -> Point:
    """Return f(x) along the way for x/4 with a stochastic gradient whose mean is 1/4."""
    rare = np.random.default_rng(seed).random(STEPS) < 0.25
    x = descend(compressor, lambda _, t: np.array([4.0 if rare[t] else -1.0]), np.zeros(1), 1.0)
    return np.asarray(x[:, 0] / 4)


@lru_cache
def ridge(compressor: Compressor) -> Point:
    """Return f(x) along the way for eps |x1 + x2| + |x1 - x2|."""

    def gradient(x: Point, _: int) -> Point:
        along, across = (1.0 if z >= 0 else -1.0 for z in (x[0] + x[1], x[0] - x[1]))
        return EPSILON * along * np.array([1.0, 1.0]) + across * np.array([1.0, -1.0])

    x = descend(compressor, gradient, np.ones(2), np.inf)
    return np.asarray(EPSILON * abs(x[:, 0] + x[:, 1]) + abs(x[:, 0] - x[:, 1]))


def paths(settings: Settings) -> dict[str, dict[str, Point]]:
    """Return f along the way of both counterexamples, of shape (seeds, steps), by problem and compressor."""
    return {
        "x/4": {name: np.stack([linear(c, seed) for seed in range(settings.seeds)]) for name, c in SIGNS.items()},
        "ridge": {name: ridge(compressor)[None] for name, compressor in SIGNS.items()},
    }


def thinned(f: Point, settings: Settings) -> Band:
    """Return the band of f over seeds, every so many steps."""
    return band(THIN * np.arange(f[0, ::THIN].size, dtype=float), f[:, ::THIN], settings.bands)


def numbers(results: Results) -> pd.DataFrame:
    """Return the frame of the runs, and below it f along the way of both counterexamples."""
    import pandas as pd

    parts: list[Any] = [results.numbers(On("bits_up"))]
    for problem, found in paths(results.settings).items():
        for name, f in found.items():
            seen = thinned(f, results.settings)
            columns: dict[str, Any] = {"curve": f"{problem}: {name}", "axis": "round", "seeds": len(f)}
            columns |= {"round": seen.at, "loss": seen.mean, "loss_low": seen.low, "loss_high": seen.high}
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def answers(results: Results) -> list[str]:
    settings = results.settings
    others = [name for name in results.curves if name != "uncompressed"]
    ratios = results.compare(others, "uncompressed", "suboptimality")
    fewer = results.compare(others, "uncompressed", "bits_up")
    alone = {name: results.samples(name, "suboptimality")[:, -1] for name in ("1-bit", "Top-6")}
    mended = {
        name: ends / results.samples(f"{name}, EF", "suboptimality")[:, -1] for name, ends in alone.items()
    }  # as ratios to 1, so that both are one list
    gains = compare(mended, np.ones(settings.seeds), settings.bands, ratio=True)
    dense = results.final("uncompressed", "bits_up")
    return [
        "Without error feedback the suboptimality at the end is, against the same compressor with it: "
        + "; ".join(f"{name} {gain}" for name, gain in gains.items())
        + f". After {settings.rounds} iterations, and as a ratio to the uncompressed run's"
        f" {results.final('uncompressed', 'suboptimality'):.3g}:"
        + listed(f"{name}: {results.final(name, 'suboptimality'):.3g}, {ratios[name]}" for name in others),
        "Times fewer bits than uncompressed after as many iterations: "
        + "; ".join(f"{name} {dense / results.final(name, 'bits_up'):.0f} ({fewer[name].verdict})" for name in others)
        + f". Bits to the first evaluated iteration (every {EVERY}) at or below a suboptimality, geometric means with"
        f" intervals:{reach_table(results, results.curves, TARGETS)}",
        f"Mean of f over the last {TAIL} of {STEPS:,} steps; (c), minimum -0.25: {tails('x/4', settings)}; (d), minimum"
        f" 0: {tails('ridge', settings)}.",
    ]


def tails(problem: str, settings: Settings) -> str:
    """Say where f ends."""
    ends = []
    for name, f in paths(settings)[problem].items():
        last = band(np.zeros(1), f[:, -TAIL:].mean(axis=1, keepdims=True), settings.bands)
        span = f" ({last.low[0]:.3g} to {last.high[0]:.3g})" if len(f) > 1 else ""
        ends.append(f"{name} {last.mean[0]:.3g}{span}")
    return ", ".join(ends)


def figure(results: Results) -> Figure:
    with sheet(2, 2, height=4.2) as (found, axes):
        show = partial(draw, results, labels=results.curves)
        show(Panel("round", "suboptimality", y_scale="log"), axes[0, 0])
        show(Panel("bits_up", "suboptimality", x_scale="log", y_scale="log"), axes[0, 1])
        for ax, solved in zip(axes[1], paths(results.settings).values(), strict=True):
            for place, (name, f) in enumerate(solved.items()):
                draw_band(ax, thinned(f, results.settings), place, name)
            ax.set(xlabel="iteration", ylabel="f(x)")
        legend_beside(axes[0, 1])
        legend_beside(axes[1, 1])
        letters(axes.flat, ("", "", "x/4, noisy", "ridge"))
    return found


study = Study(
    title="One bit: bias, error feedback, and the counterexamples of sign descent",
    questions=(
        "Do 1-bit and Top-k alone come to the minimum, and do they with error feedback?",
        "How many bits are saved?",
        "What becomes of the counterexamples?",
    ),
    defaults=Settings(data="adult", workers=8, rounds=300, seeds=5),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
    carrier="uncompressed",
)
