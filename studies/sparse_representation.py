"""Seminar, item 3: what a sparse representation of the quantized gradient saves, on the same trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qsim
from qsim.study import Cell, Panel, Results, Settings, Study, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (1, 4, 16)
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)
CODECS: dict[str, qsim.codecs.Codec] = {
    "one float32 a coordinate": qsim.codecs.Dense("float32"),
    "float32 for non-zeros": qsim.codecs.SparseFloats(),
    "varint": qsim.codecs.Varint(),
    "Elias omega": qsim.codecs.Elias("omega"),
    "Golomb-Rice": qsim.codecs.GolombRice(),
}


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
        costs.append(f"s = {levels}: {each}.")
        best = min(coded, key=bits.__getitem__)
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
        f"Bits a message (n = {n}): " + " ".join(costs),
        " ".join(gains),
        "Yes, bit for bit." if same else "No: this is a defect.",
    ]


def draw(results: Results) -> Figure:
    return panels(
        results,
        *(
            Panel(
                "round",
                "bits_up",
                f"s = {levels}",
                y_scale="log",
                curves=[curve(levels, name) for name in CODECS],
                label=lambda name: name.split(", ", 1)[1],
            )
            for levels in LEVELS
        ),
        share_y=True,
    )


study = Study(
    title="Sparse messages: bits for the same trajectory in five representations",
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
