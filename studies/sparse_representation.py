"""Seminar, item 3: what a sparse representation of quantized gradients saves, by all codes on the same trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import qsim
from qsim.study import STYLE, TEXT_WIDTH, Cell, Results, Settings, Study, look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (1, 4, 16)
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)
CODECS: dict[str, qsim.codecs.Codec] = {
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
    return 1 / OBJECTIVE.smoothness(qsim.datasets.load(settings.data))


def cells(settings: Settings) -> list[Cell]:
    method = qsim.GradientDescent(step=qsim.steps.Constant(step(settings)))
    return [
        Cell(
            curve(levels, name),
            qsim.Run(
                qsim.datasets.load(settings.data),
                objective=OBJECTIVE,
                method=method,
                compressor=qsim.QSGD(levels=levels),
                codec=codec,
                workers=settings.workers,
                rounds=settings.rounds,
                seed=seed,
                evaluate_every=10,
            ),
        )
        for levels in LEVELS
        for name, codec in CODECS.items()
        for seed in range(settings.seeds)
    ]


def setting(settings: Settings) -> str:
    data = qsim.datasets.load(settings.data)
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {data.name} ({data.rows:,} rows, {data.features} features),"
        f" shuffled over {settings.workers} workers; full-batch updates with step 1/L = {step(settings):.3g}, quantized"
        " by QSGD with the l2 norm and s levels. Bits up are the bytes of the packets (positions included) and of one"
        " stream header a worker; the server sends dense float32 weights back (not shown). For one s all codecs carry"
        f" the same values, so the trajectories are the same. {settings.statistics}"
    )


def answers(results: Results) -> list[str]:
    n = qsim.datasets.load(results.settings.data).features
    packets = results.settings.workers * results.settings.rounds
    dense, floats, *coded = CODECS
    costs, gains = [], []
    for levels in LEVELS:
        bits = {name: results.final(curve(levels, name), "bits_up") for name in CODECS}
        each = ", ".join(f"{name} {cost / packets:,.1f}" for name, cost in bits.items())
        costs.append(f"\n- s = {levels}: {each}")
        best = min((name for name in coded if name != "auto"), key=bits.__getitem__)
        gains.append(
            f"At s = {levels} the shortest, {best}, is {bits[dense] / bits[best]:.1f} times shorter than dense floats"
            f" and {bits[floats] / bits[best]:.1f} times shorter than floats for the non-zeros"
            f" ({bits[best] / packets / n:.2f} bits a coordinate)."
        )
    same = all(
        abs(results.samples(curve(levels, name), "loss") - results.samples(curve(levels, dense), "loss")).max() == 0
        for levels in LEVELS
        for name in CODECS
    )
    return [
        f"Bits a message (n = {n}):\n" + "".join(costs),
        " ".join(gains),
        "Yes, bit for bit." if same else "No: this is a defect.",
    ]


def draw(results: Results) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    packets = results.settings.workers * results.settings.rounds
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 2.9), layout="constrained")
        dots, lines = figure.subplots(1, 2, width_ratios=(3, 2))
        for place, levels in enumerate(LEVELS):
            bits = [results.final(curve(levels, name), "bits_up") / packets for name in CODECS]
            style = look(place) | {"linestyle": "", "markersize": 4.5}
            dots.plot(bits, range(len(CODECS)), label=f"s = {levels}", **style)
        dots.set(xscale="log", xlabel="bits a message")
        dots.set_title("(a) all codes", loc="left")
        dots.set_yticks(range(len(CODECS)), labels=list(CODECS))
        dots.invert_yaxis()
        dots.legend(loc="lower right")
        middle = LEVELS[1]
        for place, name in enumerate(OVER_TIME):
            sent = np.diff(results.band(curve(middle, name), "bits_up").mean) / np.diff(results.rounds)
            lines.plot(results.rounds[1:], sent / results.settings.workers, label=name, **look(place))
        lines.set(xlabel="iteration", ylabel="bits a message", yscale="log")
        lines.yaxis.set_major_formatter("{x:.0f}")
        lines.yaxis.set_minor_formatter("{x:.0f}")
        lines.set_title(f"(b) during training, s = {middle}", loc="left")
        figure.legend(*lines.get_legend_handles_labels(), loc="outside lower right", ncols=3, title="(b)")
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
