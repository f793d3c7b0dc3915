"""The effect of the number of quantization levels s on loss, non-zeros and bits, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import qsim
from qsim.compressors import Compressor
from qsim.downlinks import Downlink
from qsim.study import (
    AxisSpec,
    Cell,
    Panel,
    Results,
    Settings,
    Study,
    draw,
    draw_comparisons,
    each_seed,
    figure_grid,
    legend_below,
    look,
    no_winner,
    panel_letters,
    reach_table,
    significance,
    table,
    winner,
)
from qsim.study.downlinks import DOWNLINKS, EXPLAINED, by_downlink, effect_of_downlink, savings
from qsim.study.noise import excess, hessian, noise

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = (1, 2, 4, 8, 16, 64)
UNCOMPRESSED = "uncompressed"
COMPRESSORS: dict[str, Compressor] = {
    UNCOMPRESSED: qsim.Identity(),
    **{f"s = {s}": qsim.QSGD(levels=s) for s in LEVELS},
}
SORTED = "; sorted by label"
"""What the names of curves end in whose rows are sorted by label over a quarter of the workers."""
DOWN_TOO = (UNCOMPRESSED, "s = 1")
"""Which of the curves are also run with compressed downlinks."""
TARGETS = (0.1, 0.05, 0.02)
EVERY = 5
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)


class Way(NamedTuple):
    """What a curve stands for."""

    compressor: Compressor
    by_label: bool = False
    downlink: Downlink = qsim.downlinks.DenseWeights()


def step(settings: Settings) -> float:
    """Return 1/L, the step at which gradient descent is sure to fall."""
    return 1 / OBJECTIVE.smoothness(settings.load())


def few(settings: Settings) -> int:
    """Return how many workers hold the rows that are sorted by label."""
    return max(1, settings.workers // 4)


def cells(settings: Settings) -> list[Cell]:
    data, method = settings.load(), qsim.GradientDescent(step=qsim.steps.Constant(step(settings)))

    def run(way: Way, seed: int) -> qsim.Run:
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=method,
            compressor=way.compressor,
            codec=qsim.codecs.Varint() if isinstance(way.compressor, qsim.QSGD) else None,
            downlink=way.downlink,
            workers=few(settings) if way.by_label else settings.workers,
            partition=qsim.datasets.ByLabel() if way.by_label else qsim.datasets.Shuffled(),
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=EVERY,
        )

    ways = {name: Way(compressor) for name, compressor in COMPRESSORS.items()}
    ways |= {name + SORTED: Way(compressor, by_label=True) for name, compressor in COMPRESSORS.items()}
    for suffix, downlink in DOWNLINKS.items():
        ways |= {name + suffix: Way(COMPRESSORS[name], downlink=downlink) for name in DOWN_TOO}
    return each_seed(settings, ways, run)


def setting(settings: Settings) -> str:
    dots = "dots with joint intervals" if settings.seeds > 1 else "dots"
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset}. Every iteration each worker sends the"
        f" update"
        f" of its whole partition, step 1/L = {step(settings):.3g}, quantized by QSGD with the l2 norm and s levels,"
        f" in the"
        " varint code (uncompressed: float32 for every coordinate). (a) Rows sorted by label over"
        f" {few(settings)} workers: no worker's gradient vanishes at the minimum. (b) Rows shuffled over"
        f" {settings.workers} workers. (a, b) are cut above. (c) The final loss minus that of the uncompressed run of"
        f" the"
        f" same setting: {dots}; crosses are what the variance of the quantizer predicts (see the"
        f" second answer); the axis is linear within 10^-4 of 0. (d-f) The setting of (b). Bits are those of all"
        f" workers. {EXPLAINED} {settings.statistics} (e, f) put every seed on the same numbers of bits, by linear"
        " interpolation in logarithms."
    )


def named(results: Results, suffix: str) -> list[str]:
    """Return the curves of a setting, uncompressed first: those whose names end so, or (of nothing) have no ending."""
    return [name for name in results.curves if (name.endswith(suffix) if suffix else "; " not in name)]


class Cause(NamedTuple):
    """Why a curve ends above the uncompressed one: the variance of the mean message over its step, and what follows."""

    omega: float
    squares: float
    start: float
    end: float
    predicted: float


def causes(results: Results) -> dict[str, Cause]:
    """Return for each compressed curve of both settings what its quantizer adds, for the first seed's partition."""
    found = {}
    for suffix in (SORTED, ""):
        plain = results.traces[UNCOMPRESSED + suffix][0]
        runs = {cell.curve: cell.run for cell in reversed(results.cells)}
        curvature = hessian(runs[UNCOMPRESSED], plain.weights)
        for name in named(results, suffix)[1:]:
            run = runs[name]
            start, end = (noise(run, w) for w in (np.zeros(plain.weights.size), plain.weights))
            omega = run.compressor.variance(plain.weights.size)
            found[name] = Cause(
                float("nan") if omega is None else omega,
                end.squares,
                float(start.variance.sum()),
                float(end.variance.sum()),
                excess(curvature, end.variance, step(results.settings), results.settings.rounds),
            )
    return found


def differences(results: Results, suffix: str) -> dict[str, qsim.study.Comparison]:
    """Return the final losses of a setting against its uncompressed run."""
    dense, *others = named(results, suffix)
    return results.compare(others, dense, "loss")


def _order(losses: Mapping[str, qsim.study.Comparison]) -> str:
    """Say, where a finer quantizer is beyond the noise and a coarser one is not, what this does not show."""
    odd = [
        (short(coarse), short(fine))
        for (coarse, first), (fine, second) in combinations(losses.items(), 2)
        if first.kind == "not found" and second.kind == "beyond" and first.mean > second.mean
    ]
    if not odd:
        return ""
    pairs = "; ".join(f"{coarse} has the larger mean difference, and {fine} is found" for coarse, fine in odd)
    return f" ({pairs}: the differences of the coarser one spread more over seeds. It says nothing of their order.)"


def short(curve: str) -> str:
    return curve.split("; ")[0]


def answers(results: Results) -> list[str]:
    settings, found = results.settings, results.once(causes)
    levels = [f"s = {s}" for s in LEVELS]  # compressors of one's own come behind
    coarse, fine = levels[0], levels[-1]
    workers = {SORTED: few(settings), "": settings.workers}
    words = {SORTED: f"sorted by label over {workers[SORTED]} workers", "": f"shuffled over {workers['']} workers"}
    told, rows = [], {}
    for suffix in (SORTED, ""):
        losses = differences(results, suffix)
        told.append(
            f"Rows {words[suffix]}: the uncompressed run ends at {results.final(UNCOMPRESSED + suffix, 'loss'):.5f}."
            f" {significance({short(name): c for name, c in losses.items()})}{_order(losses)}"
        )
        for name, compared in losses.items():
            cause = found[name]
            rows[name.replace("; ", ", ")] = (
                f"{results.final(name, 'loss'):.5f}",
                compared,
                f"{cause.predicted:.2g}",
                f"{cause.start:.2g}",
                f"{cause.end:.2g}",
                f"{cause.omega * cause.squares / workers[suffix]:.2g}",
                f"{cause.omega:.3g}",
            )
    sharp, mild = found[coarse + SORTED], found[coarse]
    why = (
        f" The messages are unbiased, so on a quadratic the quantizer adds at most step/2 V to the loss, V the"
        f" variance"
        f" of the mean message, which is at most omega/W times the mean of ||g_i||^2 over workers (the bound below, at"
        f" the end); omega = sqrt(n)/s - 1 (n/(4 s^2)"
        f" from s = sqrt(n)/2 on) falls from {sharp.omega:.3g} at {coarse} to {found[fine].omega:.2g} at {fine}. At"
        f" the end that"
        f" mean is"
        f" {sharp.squares:.2g} where rows are sorted and {mild.squares:.2g} where they are shuffled (there every g_i"
        f" is near"
        f" the full gradient, which vanishes), and W is {workers[SORTED]} against {workers['']}: so at {coarse} V is"
        f" {sharp.end:.2g} against {mild.end:.2g}, and s matters in the first setting and not in the second."
    )

    dense = results.final(UNCOMPRESSED, "bits")
    gains = {curve: dense / results.final(curve, "bits") for curve in named(results, "")}
    growth = [results.compare([more], fewer, "bits_up")[more].beyond_noise for fewer, more in pairwise(levels)]
    if settings.seeds == 1:
        grow = "With one seed the noise is not known; uplink bits go"
    else:
        grow = (
            "Uplink bits grow from each s to the next" if all(growth) else "Not every step of s changes the uplink bits"
        )
        grow += " beyond the seed noise,"
    ups = {curve: results.final(UNCOMPRESSED, "bits_up") / results.final(curve, "bits_up") for curve in gains}
    sent = table(
        ("non-zeros", "uplink bits"),
        {c: (f"{results.final(c, 'nonzeros'):,.0f}", f"{results.final(c, 'bits_up'):,.0f}") for c in gains},
    )
    shown = [name for name in results.curves if not name.endswith(SORTED)]
    winners = [
        f"To {target:g}: {winner(*best) if best else no_winner(results, shown, target)}."
        for target in TARGETS
        for best in [results.cheapest(shown, target)]
    ]
    return [
        " ".join(told),
        f"{why.strip()} The prediction is tr(H S)/2 after {settings.rounds} iterations (derived in"
        f" `qsim.study.noise`), H the"
        " Hessian and V by coordinates as measured at the end of the uncompressed run, over 200 draws, and held for the"
        " whole run: where gradients shrink on the way, it leaves out what is left of the noise of the start."
        + table(
            ("final loss", "minus uncompressed", "predicted", "V at the start", "V at the end", "bound", "omega"), rows
        ),
        f"{grow} from {ups[coarse]:.1f} times fewer than uncompressed at {coarse} to {ups[fine]:.1f} times fewer at"
        f" {fine}."
        f" But dense weights down cost {results.final(UNCOMPRESSED, 'bits_down'):,.0f} bits whatever s is, so counted"
        f" in both"
        f" directions {coarse} saves {gains[coarse]:.3g} times, and {fine} {gains[fine]:.3g} times.{sent}",
        f"Against uncompressed updates with dense weights:{savings(results, list(gains), UNCOMPRESSED)}\n\n"
        + effect_of_downlink(results, UNCOMPRESSED, coarse),
        f"{' '.join(winners)} Bits of both directions to the first evaluated iteration (every {EVERY}) with a"
        f" suboptimality"
        f" at or below the target, geometric means with intervals:{reach_table(results, shown, TARGETS)}",
    ]


def figure(results: Results) -> Figure:
    main = named(results, "")
    labels = [*main, *(name for name in results.curves if "; " in name and not name.endswith(SORTED))]
    down = [name for name in labels if short(name) in DOWN_TOO]
    own = [name for name in main if name not in COMPRESSORS]
    with figure_grid(2, 3, height=4.9) as (found, axes):
        for ax, suffix in zip(axes[0], (SORTED, ""), strict=False):
            draw(results, Panel("round", "loss", curves=named(results, suffix), label=short), ax, labels)
            finals = [results.final(name, "loss") for name in named(results, suffix)]
            first = results.band(UNCOMPRESSED, "loss").mean[0]
            ax.set_ylim(min(finals) - 0.03 * (first - min(finals)), min(finals) + 0.4 * (first - min(finals)))
        _differences(results, axes[0, 2], labels)
        draw(results, Panel("round", "nonzeros", y_scale="log", curves=main), axes[1, 0], labels)
        style = by_downlink(main)
        both = Panel("bits", "suboptimality", x_scale="log", y_scale="log", curves=[*down, *own], style=style)
        draw(results, both, axes[1, 1], labels)
        draw(results, Panel("bits_up", "suboptimality", x_scale="log", y_scale="log", curves=main), axes[1, 2], labels)
        titles = (
            f"sorted by label, {few(results.settings)} workers",
            f"shuffled, {results.settings.workers} workers",
            "loss minus uncompressed",
            "non-zeros sent",
            "suboptimality against bits",
            "against uplink bits",
        )
        panel_letters(axes.flat, titles)
        legend_below(found, axes.flat, labels)
    return found


def _differences(results: Results, ax: Axes, labels: list[str]) -> None:
    """Draw measured differences with intervals, and what is predicted, both settings below each other."""
    from matplotlib.ticker import FixedLocator

    settings: dict[str, Callable[[str], str]] = {SORTED: lambda s: f"sorted, {s}", "": lambda s: f"shuffled, {s}"}
    shown, places, predicted = {}, {}, []
    for suffix, name in settings.items():
        for curve, compared in differences(results, suffix).items():
            shown[name(short(curve))] = compared
            places[name(short(curve))] = labels.index(short(curve))
            predicted.append(results.once(causes)[curve].predicted)
    draw_comparisons(ax, shown, places)
    ax.plot(
        predicted,
        range(len(predicted)),
        linestyle="",
        marker="x",
        color=look(0)["color"],
        label="predicted by variance",
    )
    ax.set_xscale("symlog", linthresh=1e-4)
    powers = [10.0**exponent for exponent in range(-3, 2)]
    ax.xaxis.set_major_locator(FixedLocator([*(-power for power in powers), 0, *powers]))
    ax.xaxis.set_major_formatter(lambda x, _: f"${'-' if x < 0 else ''}10^{{{round(np.log10(abs(x)))}}}$" if x else "0")
    ax.minorticks_off()
    ax.tick_params(axis="y", labelsize=6)
    ax.set_xlabel("difference of training losses")


def numbers(results: Results) -> pd.DataFrame:
    return results.numbers(AxisSpec("bits"), AxisSpec("bits_up"))


study = Study(
    title="Levels of quantization: loss, non-zeros and bits",
    questions=(
        "How is the training loss affected by s?",
        "Why, and when does s matter?",
        "How many non-zeros and bits are sent for each s?",
        "What is saved when the downlink is counted, and when it is compressed too?",
        "Which s reaches a given suboptimality with the fewest bits?",
    ),
    defaults=Settings(data="adult", workers=32, rounds=150, seeds=5),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
    template=UNCOMPRESSED,
)
