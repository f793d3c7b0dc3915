"""Seminar, item 3: what a sparse representation of quantized gradients saves, by all codes on the same trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import qsim
from qsim.codecs import Codec
from qsim.study import (
    Cell,
    Results,
    Settings,
    Study,
    each_seed,
    leads,
    legend_beside,
    letters,
    look,
    sheet,
    table,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (1, 4, 16)
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)
CODECS: dict[str, Codec] = {
    "float32 a coordinate": qsim.codecs.Dense("float32"),
    "float32 for non-zeros": qsim.codecs.SparseFloats(),
    "fixed width": qsim.codecs.FixedWidth(),
    "bitmap": qsim.codecs.Bitmap(),
    "varint": qsim.codecs.Varint(),
    "Elias gamma": qsim.codecs.Elias("gamma"),
    "Elias delta": qsim.codecs.Elias("delta"),
    "Elias omega": qsim.codecs.Elias("omega"),
    "Elias gamma, dense": qsim.codecs.EliasDense("gamma"),
    "Elias delta, dense": qsim.codecs.EliasDense("delta"),
    "Elias omega, dense": qsim.codecs.EliasDense("omega"),
    "Golomb-Rice": qsim.codecs.GolombRice(),
    "rANS": qsim.codecs.RANS(),
    "auto": qsim.codecs.Auto(),
}
OVER_TIME = ("float32 for non-zeros", "bitmap", "varint", "Elias omega", "Golomb-Rice", "auto")
"""The codes whose bits are drawn for every iteration."""


def curve(levels: int, codec: str) -> str:
    return f"s = {levels}, {codec}"


def step(settings: Settings) -> float:
    """Return 1/L, the step at which gradient descent is sure to fall."""
    return 1 / OBJECTIVE.smoothness(settings.load())


def cells(settings: Settings) -> list[Cell]:
    data, method = settings.load(), qsim.GradientDescent(step=qsim.steps.Constant(step(settings)))

    def run(way: tuple[int, Codec], seed: int) -> qsim.Run:
        levels, codec = way
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=method,
            compressor=qsim.QSGD(levels=levels),
            codec=codec,
            workers=settings.workers,
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=10,
        )

    ways = {curve(levels, name): (levels, codec) for levels in LEVELS for name, codec in CODECS.items()}
    return each_seed(settings, ways, run)


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset}, shuffled over {settings.workers} workers;"
        f" full-batch updates with step 1/L = {step(settings):.3g}, quantized by QSGD with the l2 norm and s levels."
        " Bits up are the bytes of the packets (positions included) and of one stream header a worker; the server sends"
        " dense float32 weights back (not shown). For one s all codecs carry the same values, so the trajectories are"
        f" the same. {settings.statistics}"
    )


def answers(results: Results) -> list[str]:
    n = results.settings.load().features
    packets = results.settings.workers * results.settings.rounds
    dense, floats, *coded = CODECS
    costs: dict[str, list[str]] = {name: [] for name in CODECS}
    gains = []
    for levels in LEVELS:
        bits = {name: results.final(curve(levels, name), "bits_up") for name in CODECS}
        for name, cost in bits.items():
            costs[name].append(f"{cost / packets:,.1f}")
        best = min((name for name in coded if name != "auto"), key=bits.__getitem__)
        others = [curve(levels, name) for name in CODECS if name not in (best, "auto")]
        ratios = results.compare(others, curve(levels, best), "bits_up")
        near = {name.split(", ", 1)[1]: found for name, found in ratios.items()}
        gains.append(
            f"At s = {levels} the shortest is {leads(best, near)}; it is {bits[dense] / bits[best]:.1f} times shorter"
            f" than dense floats and {bits[floats] / bits[best]:.1f} times shorter than floats for the non-zeros"
            f" ({bits[best] / packets / n:.2f} bits a coordinate)."
        )
    same = all(
        abs(results.samples(curve(levels, name), "loss") - results.samples(curve(levels, dense), "loss")).max() == 0
        for levels in LEVELS
        for name in CODECS
    )
    return [
        f"Bits a message (n = {n}):{table([f's = {levels}' for levels in LEVELS], costs)}",
        " ".join(gains),
        "Yes, bit for bit." if same else "No: this is a defect.",
    ]


def draw(results: Results) -> Figure:
    packets = results.settings.workers * results.settings.rounds
    with sheet(1, 2, height=2.6, width_ratios=(3, 2)) as (figure, axes):
        dots, lines = axes[0]
        for place, levels in enumerate(LEVELS):
            bits = [results.final(curve(levels, name), "bits_up") / packets for name in CODECS]
            style = look(place) | {"linestyle": "", "markersize": 4.5}
            dots.plot(bits, range(len(CODECS)), label=f"s = {levels}", **style)
        dots.set(xscale="log", xlabel="bits a message")
        dots.set_yticks(range(len(CODECS)), labels=list(CODECS))
        dots.invert_yaxis()
        legend_beside(dots)
        middle = LEVELS[1]
        for place, name in enumerate(OVER_TIME):
            sent = np.diff(results.band(curve(middle, name), "bits_up").mean) / np.diff(results.rounds)
            lines.plot(results.rounds[1:], sent / results.settings.workers, label=name, **look(place))
        lines.set(xlabel="iteration", ylabel="bits a message", yscale="log")
        lines.yaxis.set_major_formatter("{x:.0f}")
        lines.yaxis.set_minor_formatter(lambda value, _: f"{value:.0f}" if f"{value:g}"[0] in "235" else "")
        legend_beside(lines)
        letters(axes[0], ("all codes", f"during training, s = {middle}"))
    return figure


study = Study(
    title="Sparse messages: bits for the same trajectory in all codes",
    questions=(
        "How many bits does a message take?",
        "How much does the sparse representation save?",
        "Are the losses of all representations the same?",
    ),
    defaults=Settings(data="adult", workers=32, rounds=100, seeds=3),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
)
