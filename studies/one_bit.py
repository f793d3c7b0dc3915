"""The lecture's story of one bit: biased compressors stall, error feedback mends them, and two counterexamples."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.batch import Support, Vectors, dense_offsets
from qsim.compressors import QSGD, Compressor, ErrorFeedback, Identity, OneBit, ScaledSign, Sign, TopK
from qsim.study import STYLE, TEXT_WIDTH, Cell, Results, Settings, Study, look

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

Point = NDArray[np.float64]


def step(settings: Settings) -> float:
    """Return 1/L, the step at which gradient descent is sure to fall."""
    return 1 / OBJECTIVE.smoothness(qsim.datasets.load(settings.data))


def cells(settings: Settings) -> list[Cell]:
    method = qsim.GradientDescent(step=qsim.steps.Constant(step(settings)))
    return [
        Cell(
            curve,
            qsim.Run(
                qsim.datasets.load(settings.data),
                objective=OBJECTIVE,
                method=method,
                compressor=compressor,
                workers=settings.workers,
                partition=qsim.datasets.Dirichlet(alpha=0.1),
                rounds=settings.rounds,
                seed=seed,
                evaluate_every=5,
            ),
        )
        for curve, compressor in WAYS.items()
        for seed in range(settings.seeds)
    ]


def setting(settings: Settings) -> str:
    data = qsim.datasets.load(settings.data)
    return (
        f"(a, b) Logistic regression (l2 = {OBJECTIVE.l2:g}) on {data.name} ({data.rows:,} rows, {data.features}"
        f" features) over {settings.workers} workers whose labels differ (Dirichlet, alpha = 0.1), so that the workers'"
        f" gradients do not vanish at the optimum: a setting where bias shows. Full-batch updates, step 1/L ="
        f" {step(settings):.3g} for all; EF is error feedback; bits of all workers, way up. {settings.statistics}"
        " (c, d) Counterexamples of Karimireddy et al. 2019: (c) f(x) = x/4 on [-1, 1] from 0, gradient 4 with"
        f" probability 1/4, else -1, step {GAMMA:g} (in one dimension scaled sign is exact, and so plain SGD);"
        f" (d) f = eps |x1 + x2| + |x1 - x2|, eps = {EPSILON:g}, from (1, 1), subgradient with sign(0) = +1, step"
        f" {GAMMA:g}. Sign compresses the gradient and is then multiplied by the step; one path each, seed 0 in (c)."
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
def linear(compressor: Compressor) -> Point:
    """Return f(x) along the way for x/4 with a stochastic gradient whose mean is 1/4."""
    rare = np.random.default_rng(0).random(STEPS) < 0.25
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


def numbers(results: Results) -> pd.DataFrame:
    """Return the frame of the runs, and below it f along the way of both counterexamples."""
    import pandas as pd

    parts: list[Any] = [results.numbers()]
    for problem, solve in (("x/4", linear), ("ridge", ridge)):
        for name, compressor in SIGNS.items():
            f = solve(compressor)[::10]
            parts.append(pd.DataFrame({"curve": f"{problem}: {name}", "round": 10 * np.arange(f.size), "loss": f}))
    return pd.concat(parts, ignore_index=True)


def answers(results: Results) -> list[str]:
    others = [name for name in results.curves if name != "uncompressed"]
    differences = results.differences(others, "uncompressed", "suboptimality")
    ends = "".join(f"\n- {name}: {results.final(name, 'suboptimality'):.3g}, {differences[name]}" for name in others)
    dense = results.final("uncompressed", "bits_up")
    gains = ", ".join(f"{name} {dense / results.final(name, 'bits_up'):.0f}" for name in others)
    found = {
        title: ", ".join(f"{name} {solve(compressor)[-TAIL:].mean():.3g}" for name, compressor in SIGNS.items())
        for title, solve in (("(c)", linear), ("(d)", ridge))
    }
    return [
        f"Suboptimality at the end, and the difference to the uncompressed run's"
        f" {results.final('uncompressed', 'suboptimality'):.3g}:\n{ends}",
        f"Times fewer bits than uncompressed: {gains}.",
        f"Mean of f over the last {TAIL} of {STEPS:,} steps: (c), minimum -0.25: {found['(c)']}; (d), minimum 0:"
        f" {found['(d)']}.",
    ]


def draw(results: Results) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 4.6), layout="constrained")
        grid = figure.subplots(2, 2)
        for ax, quantity, label in zip(grid[0], ("round", "bits_up"), ("iteration", "bits up"), strict=True):
            for place, name in enumerate(results.curves):
                across, band = results.band(name, quantity).mean[1:], results.band(name, "suboptimality")
                mean, low, high = band.mean[1:], band.low[1:], band.high[1:]
                ax.plot(across, mean, label=name, markevery=(place, 12), **look(place))
                ax.fill_between(
                    across, np.maximum(low, mean / 10), high, alpha=0.2, linewidth=0, color=look(place)["color"]
                )
            ax.set(
                xlabel=label, ylabel="suboptimality", yscale="log", xscale="log" if quantity != "round" else "linear"
            )
        for ax, solve in zip(grid[1], (linear, ridge), strict=True):
            for place, (name, compressor) in enumerate(SIGNS.items()):
                ax.plot(solve(compressor), label=name, markevery=(100 + 80 * place, 400), **look(place))
            ax.set(xlabel="iteration", ylabel="f(x)")
        titles = ("", "", "x/4, noisy", "ridge")
        for ax, letter, title in zip(grid.flat, "abcd", titles, strict=True):
            ax.set_title(f"({letter}) {title}".rstrip(), loc="left")
        grid[0, 1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        grid[1, 1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


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
    draw=draw,
    numbers=numbers,
    carrier="uncompressed",
)
