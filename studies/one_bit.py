"""One bit per coordinate: biased compressors stall, error feedback mends them; two counterexamples of sign descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.batch import Support, Vectors, dense_offsets
from qsim.compressors import QSGD, Compressor, ErrorFeedback, Identity, OneBit, ScaledSign, Sign, TopK
from qsim.downlinks import Downlink
from qsim.study import (
    AxisSpec,
    Band,
    Cell,
    Comparison,
    Panel,
    Results,
    Settings,
    Study,
    bullets,
    compare,
    draw,
    draw_band,
    each_seed,
    figure_grid,
    legend_below,
    log_axes,
    look,
    panel_letters,
    reach_table,
    significance,
    table,
)
from qsim.study.downlinks import DOWNLINKS, by_downlink, savings
from qsim.study.noise import excess, hessian, noise
from qsim.study.statistics import band

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWS = 400
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
DOWN_TOO = ("uncompressed", "1-bit, EF", "QSGD, s = 1")
"""Which of the curves are also run with a compressed downlink; the sum of 1-bit messages is not sparse."""
DOWN = "; Top-6 weights"
BIASED = ("1-bit", "Top-6")
UNBIASED = "QSGD, s = 1"
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

    def run(way: tuple[Compressor, Downlink], seed: int) -> qsim.Run:
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=method,
            compressor=way[0],
            downlink=way[1],
            workers=settings.workers,
            partition=qsim.datasets.Dirichlet(alpha=0.1),
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=EVERY,
        )

    ways = {name: (compressor, DOWNLINKS[""]) for name, compressor in WAYS.items()}
    ways |= {name + DOWN: (WAYS[name], DOWNLINKS[DOWN]) for name in DOWN_TOO}
    return each_seed(settings, ways, run)


def dense(results: Results) -> list[str]:
    """Return the curves whose downlink is not compressed."""
    return [name for name in results.curves if "; " not in name]


def setting(settings: Settings) -> str:
    return (
        f"(a, b) Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset} over {settings.workers} workers"
        " whose labels differ (Dirichlet, alpha = 0.1), so that the workers' gradients do not vanish at the optimum: a"
        f" setting where bias shows. Full-batch updates, step 1/L = {step(settings):.3g} for all; EF is error feedback;"
        " bits of all workers; the server sends dense float32 weights back, or (Top-6 weights) their change by Top-6"
        " with a"
        f" memory of its own. {settings.statistics} A seed sets partition and quantization; (b, c) put every seed on"
        f" the"
        " same numbers of bits, by linear interpolation in logarithms. (d) At the last weights of each"
        " seed's run: the norm of the bias E Q(v) - v of the mean message, of the compressor alone (of EF: without its"
        " memory), against the norm of the gradient; on the line the two are equal."
        " (e, f) Counterexamples of Karimireddy et al. 2019: (e) f(x) = x/4 on [-1, 1]"
        f" from 0, gradient 4 with probability 1/4, else -1, step {GAMMA:g} (in one dimension scaled sign is"
        " exact, and so plain SGD), the same gradients for all, a path for each seed;"
        f" (f) f = eps |x1 + x2| + |x1 - x2|, eps = {EPSILON:g}, from (1, 1), subgradient with sign(0) = +1, step"
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
            compressor.on_delivered(memory, sent)
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

    parts: list[Any] = [results.numbers(AxisSpec("bits"), AxisSpec("bits_up"))]
    for problem, found in paths(results.settings).items():
        for name, f in found.items():
            seen = thinned(f, results.settings)
            columns: dict[str, Any] = {"curve": f"{problem}: {name}", "axis": "round", "seeds": len(f)}
            columns |= {"round": seen.at, "loss": seen.mean, "loss_low": seen.low, "loss_high": seen.high}
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def mended(results: Results) -> dict[str, Comparison]:
    """Compare where biased compressors end with where they end with error feedback."""
    ends = {
        name: [results.samples(f"{name}{ending}", "suboptimality")[:, -1] for ending in ("", ", EF")] for name in BIASED
    }
    ratios = {name: alone / memory for name, (alone, memory) in ends.items()}  # one list
    return compare(ratios, np.ones(results.settings.seeds), results.settings.bands, ratio=True)


def answers(results: Results) -> list[str]:
    settings = results.settings
    others = [name for name in dense(results) if name != "uncompressed"]
    ratios = results.compare(others, "uncompressed", "suboptimality")
    fewer = results.compare(others, "uncompressed", "bits_up")
    gains = mended(results)
    return [
        "Without error feedback the suboptimality at the end is, against the same compressor with it: "
        + "; ".join(f"{name} {gain}" for name, gain in gains.items())
        + f". After {settings.rounds} iterations, and as a ratio to the uncompressed run's"
        f" {results.final('uncompressed', 'suboptimality'):.3g}:"
        + bullets(f"{name}: {results.final(name, 'suboptimality'):.3g}, {ratios[name]}" for name in others),
        explained(results),
        f"After as many iterations, against uncompressed messages with dense weights:"
        f"{savings(results, dense(results), 'uncompressed')}\n\nUplink bits against uncompressed: {significance(fewer)}"
        f" Bits of"
        f" both directions to the first evaluated iteration (every {EVERY}) at or below a suboptimality, geometric"
        f" means"
        f" with intervals:{reach_table(results, results.curves, TARGETS)}",
        f"Mean of f over the last {TAIL} of {STEPS:,} steps; (e), minimum -0.25: {tails('x/4', settings)}; (f), minimum"
        f" 0: {tails('ridge', settings)}.",
    ]


def floors(results: Results) -> dict[str, NDArray[np.float64]]:
    """Return for each biased compressor, with and without memory, the bias's norm at each seed's last weights."""
    found = {}
    for name in (*BIASED, *(f"{name}, EF" for name in BIASED)):
        runs = [cell.run for cell in results.cells if cell.curve == name]
        alone = [replace(run, compressor=WAYS[name.removesuffix(", EF")]) for run in runs]
        pairs = zip(alone, results.traces[name], strict=True)
        found[name] = np.array([np.linalg.norm(noise(run, trace.weights, draws=1).bias) for run, trace in pairs])
    return found


def added(results: Results) -> NDArray[np.float64]:
    """Return the loss that the variance of QSGD adds by prediction, for each seed's partition, at the minimum."""
    settings, best = results.settings, OBJECTIVE.optimum(results.settings.load()).weights
    runs = [cell.run for cell in results.cells if cell.curve == UNBIASED]
    curvature = hessian(runs[0], best)
    variances = [noise(run, best, draws=DRAWS).variance for run in runs]
    return np.array([excess(curvature, variance, step(settings), settings.rounds) for variance in variances])


def explained(results: Results) -> str:
    """Say where a compressor without memory stalls, and by what."""
    bands, rows = results.settings.bands, {}
    for name, biases in results.once(floors).items():
        slopes = results.samples(name, "gradient_norm")[:, -1]
        rows[name] = [_each(biases), _each(slopes), str(compare({"": slopes}, biases, bands, ratio=True)[""])]
    more, plain = results.once(added), results.samples("uncompressed", "suboptimality")[:, -1]
    expected, seen = plain + more, results.samples(UNBIASED, "suboptimality")[:, -1]
    means = [float(np.exp(np.log(each).mean())) for each in (expected, seen)]
    return (
        "Biased compressors (both deterministic) stop where what they send cancels, and there the gradient is the bias"
        " E Q(v) - v with the other sign: that both norms nearly agree, for each seed, says that a run stands still,"
        " and"
        " nothing more. That the bias holds it there is what error feedback tests, which leaves the compressor as it is"
        " and sends later what it left out. Of the suboptimality without it against that with it (first answer):"
        f" {significance(mended(results))} With it the gradient at the end does not follow the bias that the compressor"
        " alone has at the same weights. For each seed:"
        + table(("norm of the bias", "norm of the gradient", "gradient over bias"), rows)
        + "\n\nQSGD is unbiased, but its variance does not vanish, since the workers' gradients do not. On a quadratic"
        f" with the variance V at the minimum that adds tr(H S)/2 to the loss in {results.settings.rounds} iterations"
        f" (derived in `qsim.study.noise`; V over {DRAWS} draws, for each seed's partition): {_each(more)}. With the"
        f" {plain.mean():.2g} of the uncompressed run that makes {means[0]:.3g}, and {means[1]:.3g} is measured"
        f" (geometric means; measured over predicted: {compare({'': seen}, expected, bands, ratio=True)['']}). The"
        " seeds differ by so much because their partitions do. The prediction falls with a smaller step, more workers"
        " or more levels; of these, nothing is varied here."
    )


def _each(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.2g}" for value in values)


def tails(problem: str, settings: Settings) -> str:
    """Say where f ends."""
    ends = []
    for name, f in paths(settings)[problem].items():
        last = band(np.zeros(1), f[:, -TAIL:].mean(axis=1, keepdims=True), settings.bands)
        span = f" ({last.low[0]:.3g} to {last.high[0]:.3g})" if len(f) > 1 else ""
        ends.append(f"{name} {last.mean[0]:.3g}{span}")
    return ", ".join(ends)


def figure(results: Results) -> Figure:
    shown = dense(results)
    with figure_grid(2, 3, height=4.9) as (found, axes):
        show = partial(draw, results, labels=results.curves)
        style = by_downlink(results.curves)
        show(Panel("round", "suboptimality", y_scale="log", curves=shown), axes[0, 0])
        show(Panel("bits_up", "suboptimality", x_scale="log", y_scale="log", curves=shown), axes[0, 1])
        show(Panel("bits", "suboptimality", x_scale="log", y_scale="log", style=style), axes[0, 2])
        _floors(results, axes[1, 0])
        for ax, solved in zip(axes[1, 1:], paths(results.settings).values(), strict=True):
            for place, (name, f) in enumerate(solved.items()):
                draw_band(ax, thinned(f, results.settings), place, name)
            ax.set(xlabel="iteration", ylabel="f(x)")
        axes[1, 1].legend(loc="upper right", bbox_to_anchor=(1.0, 0.9))
        titles = ("against iterations", "against uplink bits", "against bits both ways")
        functions = ("f = x/4, noisy gradients", "f = |$x_1$+$x_2$|/2 + |$x_1$-$x_2$|")
        panel_letters(axes.flat, (*titles, "where runs end", *functions))
        legend_below(found, axes[0])
    return found


def _floors(results: Results, ax: Axes) -> None:
    """Draw the norm of the gradient over that of the bias at the end of each seed's run."""
    ends: list[float] = []
    for name, biases in results.once(floors).items():
        slopes = results.samples(name, "gradient_norm")[:, -1]
        ax.plot(biases, slopes, **look(results.curves.index(name)) | {"linestyle": ""})
        ends += [*biases, *slopes]
    known = [end for end in ends if end > 0]
    ax.plot([min(known), max(known)], [min(known), max(known)], color="black", linewidth=0.8, zorder=0)
    ax.set(xlabel="norm of the bias, memory left out", ylabel="norm of the gradient")
    log_axes(ax, "x", "y")


study = Study(
    title="One bit: bias, error feedback, and the counterexamples of sign descent",
    questions=(
        "Do 1-bit and Top-k alone come to the minimum, and do they with error feedback?",
        "Why do they stall?",
        "How many bits are saved?",
        "What becomes of the counterexamples?",
    ),
    defaults=Settings(data="adult", workers=8, rounds=300, seeds=5),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
    template="uncompressed",
)
