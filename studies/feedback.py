"""Memory: error feedback, EF21, DIANA and MARINA against plain compression, and one coordinate with memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.compressors import QSGD, Compressor, ErrorFeedback, Identity, TopK
from qsim.datasets import ByLabel, Partition, Shuffled, Source, Synthetic
from qsim.downlinks import DenseWeights, Downlink, SparseSum
from qsim.methods import DIANA, EF21, MARINA, SGD, Averaged, GradientDescent, Method
from qsim.steps import InverseTime
from qsim.study import (
    AxisSpec,
    Cell,
    Panel,
    Results,
    Settings,
    Study,
    bullets,
    compare,
    draw,
    draw_bound,
    each_seed,
    figure_grid,
    legend_beside,
    panel_letters,
    reach_table,
    table,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OBJECTIVE = qsim.LogisticRegression(l2=0.1)
KEPT, LEVELS = 12, 2
QUANTIZED, TOP = f"QSGD, s = {LEVELS}", f"Top-{KEPT}"
PLAIN = "uncompressed"
SHARDS: dict[str, Partition] = {"iid": Shuffled(), "by label": ByLabel()}
EVERY = 10
TARGETS = (1e-2, 1e-4, 1e-6)

DENSE: Source = Synthetic(rows=1000, features=400, nonzeros_per_row=200, exponent=0.5, values="tfidf")
STEPS_A_ROUND = 10  # of SGD, for each round of the settings
FIRST_STEP, QUADRATIC = 2.0, 2.0
SGD_WAYS: dict[str, Compressor] = {
    "SGD": Identity(),
    "top-1 with memory": ErrorFeedback(TopK(1)),
    **{f"SGD, QSGD, s = {s}": QSGD(s) for s in (4, 16, 256)},
}
SGD_TARGETS = (0.05, 0.02, 0.01)
Way = tuple[Method, Compressor]


def ways(settings: Settings) -> dict[str, Way]:
    """Return what goes over both kinds of shards; without a step, a method takes that of its theory."""
    unit = qsim.steps.Constant(1 / OBJECTIVE.smoothness(settings.load()))
    return {
        PLAIN: (GradientDescent(), Identity()),
        QUANTIZED: (GradientDescent(), QSGD(LEVELS)),
        TOP: (GradientDescent(unit), TopK(KEPT)),
        f"{TOP}, EF": (GradientDescent(unit), ErrorFeedback(TopK(KEPT))),
        f"EF21, {TOP}": (EF21(), TopK(KEPT)),
        f"EF21, {TOP}, 1/L": (EF21(unit), TopK(KEPT)),
        f"DIANA, {QUANTIZED}": (DIANA(), QSGD(LEVELS)),
        f"MARINA, {QUANTIZED}": (MARINA(), QSGD(LEVELS)),
    }


def down(compressor: Compressor) -> Downlink:
    """Return what loses nothing and is short: the sum of the messages, or where these are dense the weights."""
    return DenseWeights() if isinstance(compressor, Identity) else SparseSum()


def cells(settings: Settings) -> list[Cell]:
    data = settings.load()

    def run(way: tuple[Partition, Way], seed: int) -> qsim.Run:
        partition, (method, compressor) = way
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=method,
            compressor=compressor,
            downlink=down(compressor),
            workers=settings.workers,
            partition=partition,
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=EVERY,
        )

    def single(compressor: Compressor, seed: int) -> qsim.Run:
        rows, features = DENSE.load().rows, DENSE.load().features
        l2, rounds = 1 / rows, STEPS_A_ROUND * settings.rounds
        return qsim.Run(
            DENSE,
            objective=qsim.LogisticRegression(l2=l2),
            method=Averaged(SGD(InverseTime(FIRST_STEP / (l2 * features), features), batch=1), power=QUADRATIC),
            compressor=compressor,
            downlink=down(compressor),
            workers=1,
            rounds=rounds,
            seed=seed,
            evaluate_every=max(1, rounds // 60),
        )

    spread = {
        curve(shards, name): (partition, way)
        for shards, partition in SHARDS.items()
        for name, way in ways(settings).items()
    }
    return [*each_seed(settings, spread, run), *each_seed(settings, SGD_WAYS, single)]


def curve(shards: str, name: str) -> str:
    return f"{shards}: {name}"


def label(shown: str) -> str:
    return shown.split(": ")[-1]


def setting(settings: Settings) -> str:
    dense = DENSE.load()
    features = dense.features
    return (
        f"(a, b) Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset} over {settings.workers} workers,"
        " whose rows are shuffled (a) or sorted by label (b), so that at the optimum the workers' gradients cancel but"
        " do not vanish. Full gradients; every method has the step of its theory, but for Top-k alone, with error"
        " feedback (EF), and EF21 where it says so, which have 1/L. The shifts of EF21 and DIANA start at zero, and"
        " the regulariser stays outside of what is compressed. Dashed: the bound that theory gives for the expected"
        " suboptimality, from each run's own constants, in the colour of its curve. (c, d) One worker, batches of one"
        f" row, after the example of Stich et al. (2018), with data of our own: {dense.name} (rows of unit length, half"
        f" of the entries not zero), l2 = 1/rows, step {FIRST_STEP:g}/(l2 (t + {features})), averages of iterates with"
        f" weights that grow as t^{QUADRATIC:g}; an uncompressed message is float32 for every coordinate. Bits are of"
        " all workers, uplink and downlink: the server sends back the sum of the messages as sparse floats"
        f" (uncompressed: the weights as float32), which loses nothing. {settings.statistics} All seeds are put on the"
        " same numbers of bits, by linear interpolation in logarithms."
    )


def ends(results: Results, shown: str) -> NDArray[np.float64]:
    """Return the suboptimality at the end of each seed's run."""
    return np.array([trace.axis("suboptimality")[-1] for trace in results.traces[shown]])


def mean(values: NDArray[np.float64]) -> float:
    """Return the geometric mean of what is above zero (rounding can leave a run at its minimum, or below)."""
    return float(np.exp(np.log(np.maximum(values, 1e-17)).mean()))


def answers(results: Results) -> list[str]:
    settings = results.settings
    names = list(ways(settings))
    rows: dict[str, list[object]] = {
        name: [
            f"{_step(results, name):.3g}",
            *(f"{mean(ends(results, curve(shards, name))):.2g}" for shards in SHARDS),
            *(f"{_bits(results, curve('by label', name), axis):,.0f}" for axis in ("bits_up", "bits")),
        ]
        for name in names
    }
    pairs = {QUANTIZED: f"DIANA, {QUANTIZED}", TOP: f"{TOP}, EF", f"{TOP}, EF": f"EF21, {TOP}, 1/L"}
    gains = compare(
        {
            f"{name} against {memory}": ends(results, curve("by label", name))
            / ends(results, curve("by label", memory))
            for name, memory in pairs.items()
        },
        np.ones(settings.seeds),
        settings.bands,
        ratio=True,
    )
    tables = "".join(
        f"\n\n{shards}:{reach_table(results, [curve(shards, name) for name in names], TARGETS, axis='bits')}"
        for shards in SHARDS
    )
    return [
        f"After {settings.rounds} rounds, over shards sorted by label, as ratios of what is left: "
        + "; ".join(f"{pair} {gain}" for pair, gain in gains.items())
        + f". {_of_step(results)} The first pair differs in the step of theory, too; the others have the same step,"
        " 1/L. Step times L (by"
        " label), suboptimality at the end, geometric means, and bits per round and worker (by label):"
        + table(["step x L", *SHARDS, "uplink bits", "bits both ways"], rows),
        f"Bits both ways to the first evaluated round (every {EVERY}) at or below a suboptimality, geometric means with"
        f" intervals.{tables}",
        _bounds(results),
        _top_one(results),
    ]


def _of_step(results: Results) -> str:
    """Say what of EF21's distance to the minimum is its step of theory."""
    theory, longer = f"EF21, {TOP}", f"EF21, {TOP}, 1/L"
    found = [mean(ends(results, curve("by label", name))) for name in (theory, longer)]
    return (
        f"EF21 ends at {found[0]:.2g} with its step of theory, {_step(results, theory):.2g}/L, and at {found[1]:.2g}"
        " with 1/L, which is longer than the theorem allows: what holds it back is the step."
    )


def _step(results: Results, name: str) -> float:
    """Return the step of a method over shards by label, times L."""
    run = next(cell.run for cell in results.cells if cell.curve == curve("by label", name))
    problem = run.problem()
    step = run.method.resolved(problem).step  # type: ignore[attr-defined]
    return float(step(0) * problem.smoothness)


def _bits(results: Results, shown: str, axis: str) -> float:
    """Return the mean bits of a round and worker."""
    traces, workers = results.traces[shown], results.cells[0].run.workers
    return float(np.mean([trace.axis(axis)[-1] / trace.axis("round")[-1] for trace in traces])) / workers


def _bounds(results: Results) -> str:
    """Say how far below their bounds the means over seeds stay."""
    lines = []
    for shards in SHARDS:
        for name in ways(results.settings):
            found = results.bound(curve(shards, name))
            if found is None:
                continue
            traces = results.traces[curve(shards, name)]
            seen = np.mean([t.axis("suboptimality")[np.isfinite(t.axis("loss"))] for t in traces], axis=0)
            bound = found[1]
            above = int((seen > bound).sum())
            kept = "never above it" if not above else f"above it at {above} of {seen.size} evaluations"
            lines.append(f"{curve(shards, name)}: {kept}; at the end {seen[-1]:.2g}, bound {bound[-1]:.2g}")
    return (
        "The bound is on the expectation, so the arithmetic mean over seeds stands against it (the tables above have"
        f" geometric means, which are lower):{bullets(lines)}"
    )


def _top_one(results: Results) -> str:
    """Say how top-1 with memory compares with SGD and its quantized forms."""
    last = {name: ends(results, name) for name in SGD_WAYS}
    plain = last.pop("SGD")
    ratios = compare(last, plain, results.settings.bands, ratio=True)
    spent = {
        axis: {name: mean(np.array([t.axis(axis)[-1] for t in results.traces[name]])) for name in SGD_WAYS}
        for axis in ("bits", "bits_up")
    }
    saved = {name: [each["SGD"] / each[name] for each in spent.values()] for name in SGD_WAYS}
    lines = [
        f"{name}: {mean(last[name]):.3g}, {ratio}; {saved[name][0]:.3g} times fewer bits both ways"
        f" ({saved[name][1]:.3g} times on the uplink alone)"
        for name, ratio in ratios.items()
    ]
    return (
        f"SGD ends at {mean(plain):.3g}. The others, as ratios to it, and how many bits they save per step:"
        f"{bullets(lines)}\n\nBits both ways to a suboptimality:"
        + reach_table(results, list(SGD_WAYS), SGD_TARGETS, axis="bits")
    )


def figure(results: Results) -> Figure:
    with figure_grid(2, 2, height=4.9) as (found, axes):
        names = list(ways(results.settings))
        for ax, shards in zip(axes[0], SHARDS, strict=True):
            curves = [curve(shards, name) for name in names]
            _show(results, ax, curves, "bits", names)
            for place, shown in enumerate(curves):
                draw_bound(results, shown, ax, place, x="bits")
            ax.set_ylim(1e-8, 5)
        for ax, axis in zip(axes[1], ("passes", "bits"), strict=True):
            _show(results, ax, list(SGD_WAYS), axis, list(SGD_WAYS), x_scale="linear" if axis == "passes" else "log")
        for row in axes:
            legend_beside(row[1])
        panel_letters(
            axes.flat,
            (
                "shuffled shards: against bits",
                "shards sorted by label: against bits",
                "one worker: against passes",
                "one worker: against bits",
            ),
        )
    return found


def _show(results: Results, ax: Axes, curves: list[str], x: str, labels: list[str], x_scale: str = "log") -> None:
    panel = partial(Panel, x, "suboptimality", y_scale="log", curves=curves, label=label)
    draw(results, panel(x_scale="log" if x_scale == "log" else "linear"), ax, labels)


def numbers(results: Results) -> pd.DataFrame:
    return results.numbers(AxisSpec("bits"))


study = Study(
    title="Memory: error feedback, EF21, DIANA and MARINA against plain compression",
    questions=(
        "Where do the methods end, over shards that are alike and shards that differ?",
        "How many bits does each take?",
        "Do the bounds of theory hold, and how loose are they?",
        "Does one coordinate with memory keep up with SGD, at how many bits?",
    ),
    defaults=Settings(data="adult", workers=8, rounds=300, seeds=5),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
)
