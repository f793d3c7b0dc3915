"""The savings of a sparse representation of quantized gradients, by all codes on the same trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import qsim
from qsim.codecs import Codec
from qsim.downlinks import Downlink
from qsim.study import (
    Cell,
    Results,
    Settings,
    Study,
    each_seed,
    figure_grid,
    legend_below,
    log_axes,
    look,
    panel_letters,
    table,
    winner,
)
from qsim.study.downlinks import DOWNLINKS, EXPLAINED, savings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = (1, 4, 16)
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)
CODECS: dict[str, Codec] = {
    "dense float32": qsim.codecs.Dense("float32"),
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
OVER_TIME = ("float32 for non-zeros", "bitmap", "varint", "Elias gamma", "Golomb-Rice", "auto")
"""The codes whose bits are drawn for every round."""


DOWN_BY = "Elias gamma"
"""The code of the curves that are also run with compressed downlinks."""


def curve(levels: int, codec: str) -> str:
    return f"s = {levels}, {codec}"


def step(settings: Settings) -> float:
    """Return 1/L, the step at which gradient descent is sure to fall."""
    return 1 / OBJECTIVE.smoothness(settings.load())


def cells(settings: Settings) -> list[Cell]:
    data, method = settings.load(), qsim.GradientDescent(step=qsim.steps.Constant(step(settings)))

    def run(way: tuple[int, Codec, Downlink], seed: int) -> qsim.Run:
        levels, codec, downlink = way
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=method,
            compressor=qsim.QSGD(levels=levels),
            codec=codec,
            downlink=downlink,
            workers=settings.workers,
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=10,
        )

    ways: dict[str, tuple[int, Codec, Downlink]] = {
        curve(levels, name): (levels, codec, DOWNLINKS[""]) for levels in LEVELS for name, codec in CODECS.items()
    }
    for suffix, downlink in DOWNLINKS.items():
        ways |= {curve(levels, DOWN_BY) + suffix: (levels, CODECS[DOWN_BY], downlink) for levels in LEVELS}
    return each_seed(settings, ways, run)


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset}, shuffled over {settings.workers} workers;"
        f" full-batch updates with step 1/L = {step(settings):.3g}, quantized by QSGD with the l2 norm and s levels."
        " Uplink bits are the bytes of the packets (positions included) and of one stream header per worker; the server"
        f" sends dense float32 weights back, 32 bits for a coordinate and worker, but for the last answer. {EXPLAINED}"
        f" For"
        " one s all codecs carry the same values, so the trajectories are"
        f" the same. (c) By the {DOWN_BY} code. {settings.statistics}"
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
            f"At s = {levels} the shortest is {winner(best, near)}; it is {bits[dense] / bits[best]:.1f} times shorter"
            f" than dense floats and {bits[floats] / bits[best]:.1f} times shorter than floats for the non-zeros"
            f" ({bits[best] / packets / n:.2f} bits per coordinate)."
        )
    same = all(
        abs(results.samples(curve(levels, name), "loss") - results.samples(curve(levels, dense), "loss")).max() == 0
        for levels in LEVELS
        for name in CODECS
    )
    return [
        f"Uplink bits per message (n = {n}):{table([f's = {levels}' for levels in LEVELS], costs)}",
        " ".join(gains),
        "Yes, bit for bit." if same else "No: this is a defect.",
        "Dense weights down cost as much as dense floats up, so counted in both directions no code saves more than 2"
        f" times; the downlink has to be compressed too. With the {DOWN_BY} code, against dense floats with dense"
        f" weights:"
        f"{savings(results, [curve(levels, DOWN_BY) for levels in LEVELS], curve(LEVELS[0], dense))}\n\nThat losses are"
        " lower with Top-6 weights is the downlink's effect: so they are without a quantizer (study s_sweep).",
    ]


def draw(results: Results) -> Figure:
    packets = results.settings.workers * results.settings.rounds
    with figure_grid(1, 3, height=3.3, width_ratios=(3, 3, 3)) as (figure, axes):
        dots, lines, both = axes[0]
        for place, levels in enumerate(LEVELS):
            bits = [results.final(curve(levels, name), "bits_up") / packets for name in CODECS]
            style = look(place) | {"linestyle": "", "markersize": 4.5}
            dots.plot(bits, range(len(CODECS)), label=f"s = {levels}, in (a)", **style)
        dots.set(xscale="log", xlabel="bits per message")
        dots.set_yticks(range(len(CODECS)), labels=list(CODECS))
        dots.tick_params(axis="y", labelsize=6)
        dots.invert_yaxis()
        middle = LEVELS[1]
        for place, name in enumerate(OVER_TIME, len(LEVELS)):
            sent = np.diff(results.band(curve(middle, name), "bits_up").mean) / np.diff(results.rounds)
            lines.plot(results.rounds[1:], sent / results.settings.workers, label=name, **look(place))
        lines.set(xlabel="round", ylabel="bits per message")
        log_axes(lines, "y")
        _both_ways(results, both)
        panel_letters(axes[0], ("uplink bits", f"in training, s = {middle}", "uplink + downlink"))
        legend_below(figure, axes[0])
    return figure


def _both_ways(results: Results, ax: Axes) -> None:
    """Draw uplink and downlink bits per worker and round, stacked, for each s and downlink."""
    packets, rows = results.settings.workers * results.settings.rounds, []
    for levels in LEVELS:
        for suffix in DOWNLINKS:
            name = curve(levels, DOWN_BY) + suffix
            up, down = (results.final(name, quantity) / packets for quantity in ("bits_up", "bits_down"))
            ax.barh(len(rows), up, color="0.25", label=None if rows else "uplink, in (c)")
            ax.barh(len(rows), down, left=up, color="0.75", label=None if rows else "downlink, in (c)")
            rows.append(f"s = {levels}, {suffix.removeprefix('; ') or 'dense'}")
    ax.set_yticks(range(len(rows)), labels=rows)
    ax.tick_params(axis="y", labelsize=6)
    ax.invert_yaxis()
    ax.set_xlabel("bits per worker and round")


study = Study(
    title="Sparse messages: bits for the same trajectory in all codes",
    questions=(
        "How many bits does a message take?",
        "How much does the sparse representation save?",
        "Are the losses of all representations the same?",
        "What is saved when the downlink is counted, and when it is compressed too?",
    ),
    defaults=Settings(data="adult", workers=32, rounds=100, seeds=3),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
)
