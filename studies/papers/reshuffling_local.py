"""Local steps in reshuffled passes, with compressed differences: Figure 2 of the NeurIPS 2024 paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

import qsim
from qsim.datasets import ByLabel, Dataset
from qsim.methods import DIANA, DIANANASTYA, QNASTYA, SGD, GradientDescent, LocalSGD, Method
from qsim.study import (
    Cell,
    Choice,
    Claim,
    Comparison,
    Panel,
    PaperStudy,
    Results,
    Settings,
    Tuning,
    each_seed,
    panels,
    table,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TWIN = "twin of mushrooms"
KAPPA, BATCHES, SHARE = 1e4, 10, 0.02
NAMES = ("Q-NASTYA", "DIANA-NASTYA", "FedPAQ", "FedCOM")
FROZEN = ("Q-NASTYA, frozen", "DIANA-NASTYA, frozen", "FedPAQ = FedCOM, frozen")
PROGRAM = (*FROZEN[:2], *NAMES[2:])
"""What the authors' program runs: its NASTYAs do not move, FedPAQ and FedCOM do."""
MUSHROOMS = {
    "rows in equal parts": 8120,
    "features": 112,
    "rows with the label -1": 9 * 406 + 262,
    "L": 2.59,
    "L of a row, largest": 5.25,
    "mu": 2.58e-4,
    "rows of a batch": 40,
    "k of Rand-k": 2,
}
"""Tables 2, 3 and 6 of the paper, read."""
GRID = tuple(product((4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0), (0.125, 1.0, 8.0, 64.0, 512.0)))


@lru_cache(maxsize=1)
def twin() -> Dataset:
    """Return rows of 21 categories, of 5 or 6 values each, as mushrooms has 112 features in 21 ones a row.

    The values fall off geometrically, so that L is that of mushrooms, and the order of a third of the categories is
    turned round in three quarters of the rows with the label +1, so that the minimum is about that of mushrooms.
    """
    draw, rows, positive = np.random.default_rng(0), 8124, 4208
    sizes = np.repeat([5, 6], [14, 7])
    above = np.arange(rows) >= rows - positive
    columns = np.empty((rows, sizes.size), np.int32)
    for place, (size, first) in enumerate(zip(sizes, np.cumsum(sizes) - sizes, strict=True)):
        chance = np.exp(-1.312 * np.arange(size))
        value = draw.choice(size, rows, p=chance / chance.sum())
        turned = above & (draw.random(rows) < 0.75) & (place % 3 == 0)
        columns[:, place] = first + np.where(turned, size - 1 - value, value)
    return Dataset(sizes.size * np.arange(rows + 1), columns.ravel(), None, above, int(sizes.sum()), TWIN)


def rows_of(settings: Settings) -> Dataset:
    return twin() if settings.data == TWIN else settings.load()


def kept(data: Dataset) -> int:
    return max(1, int(SHARE * data.features))


@lru_cache(maxsize=4)
def objective(data: Dataset) -> qsim.LogisticRegression:
    """Return logistic regression with the regulariser that makes L/mu the paper's."""
    return qsim.LogisticRegression(l2=qsim.LogisticRegression(l2=0.0).smoothness(data) / (KAPPA - 1))


def run(settings: Settings, name: str, multiples: tuple[float, float], seed: int) -> qsim.Run:
    return _run(settings, method(settings, name, *multiples), seed)


def _run(settings: Settings, method: Method, seed: int = 0) -> qsim.Run:
    data = rows_of(settings)
    return qsim.Run(
        data,
        objective=objective(data),
        method=method,
        compressor=qsim.RandK(kept(data)),
        workers=settings.workers,
        partition=ByLabel(),
        rounds=settings.rounds,
        seed=seed,
        evaluate_every=max(1, settings.rounds // 50),
    )


@lru_cache(maxsize=4)
def constants(settings: Settings) -> tuple[float, float, float]:
    """Return the largest L of a row, the spread of a sum and the shift 1/(1 + omega)."""
    problem = _run(settings, GradientDescent(1.0)).problem()
    return problem.row_smoothness, problem.spread, 1 / (1 + problem.omega)


def method(settings: Settings, name: str, server: float, local: float) -> Method:
    """Return a method with multiples of theory's steps, which are for rounds of single rows, whatever the batch is.

    With local gradients frozen at the weights of the round, a pass is the gradient of all rows of the worker, and
    batches drawn with replacement are one larger batch, of which a step of the server is left.
    """
    rough, spread, shift = constants(settings)
    batch = max(1, rows_of(settings).rows // settings.workers // BATCHES)
    step = server / ((1 + (7 if name.startswith("DIANA") else 2) * spread) * rough)
    short = local / (5 * BATCHES * rough)
    if name == FROZEN[2]:
        return SGD(step, batch=BATCHES * batch)
    if name in FROZEN:
        return DIANA(step) if name.startswith("DIANA") else GradientDescent(step)
    if name == "Q-NASTYA":
        return QNASTYA(step, short, BATCHES, batch)
    if name == "DIANA-NASTYA":
        return DIANANASTYA(step, short, shift, BATCHES, batch)
    if name == "FedCOM":
        return LocalSGD(short, BATCHES, batch, server_step=step / (BATCHES * short))
    return LocalSGD(step / BATCHES, BATCHES, batch)


def curves(settings: Settings) -> list[str]:
    return [*NAMES, *FROZEN]


def cells(settings: Settings, choices: Mapping[str, Choice]) -> list[Cell]:
    ways = {name: (name, choices[name].value) for name in curves(settings)}
    return each_seed(settings, ways, lambda way, seed: run(settings, *way, seed))  # type: ignore[arg-type]


def setting(settings: Settings) -> str:
    data = rows_of(settings)
    return (
        f"Logistic regression on {data.name} ({data.rows:,} rows, {data.features} features) with an l2 that makes L/mu"
        f" {KAPPA:.0e}, over {settings.workers} workers with rows sorted by label;"
        f" Rand-{kept(data)}, {settings.rounds} rounds of {BATCHES} local steps, which are a pass."
        " FedPAQ and FedCOM draw rows with replacement; FedPAQ has one step, the others one for the workers and one for"
        " the server, tuned together. Frozen: every local gradient is that at the weights of the round, so that the"
        " server's step alone counts, and FedPAQ and FedCOM are one method. (a) All local steps move, (b) as in the"
        " authors' program, where those of Q-NASTYA and DIANA-NASTYA are frozen, (c) all are frozen. The server sends"
        f" dense float32 weights. {settings.statistics}"
    )


def measured(settings: Settings) -> dict[str, float]:
    """Return what the paper's tables have of mushrooms, of the data that are used."""
    data, problem = rows_of(settings), _run(settings, GradientDescent(1.0)).problem()
    each = data.rows // settings.workers
    return {
        "rows in equal parts": each * settings.workers,
        "features": data.features,
        "rows with the label -1": int(np.sum(data.labels <= 0)),
        "L": problem.smoothness,
        "L of a row, largest": problem.row_smoothness,
        "mu": problem.strong_convexity,
        "rows of a batch": each // BATCHES,
        "k of Rand-k": kept(data),
    }


def differs(results: Results) -> list[str]:
    settings = results.settings

    def frozen(curve: str, moving: str) -> Comparison:
        return Claim("", curve, moving, axis="round").alone(results)

    sent = [np.mean([trace.axis("bits_up")[-1] for trace in traces]) for traces in results.traces.values()]
    least, most = min(sent), max(sent)
    rows: dict[str, list[object]] = {
        what: [f"{MUSHROOMS[what]:.4g}", f"{here:.4g}"] for what, here in measured(settings).items()
    }
    return [
        "Data: mushrooms, w8a and a9a there. The twin has the size, the ones of a row, the labels and the constants of"
        " mushrooms, not its rows, so curves compare in their order. That constants agree says nothing, as it is made"
        " so; they are no numbers of the list above. `--data` takes the set itself.",
        "Local steps: the authors' logistic code, as read, evaluates every gradient of a pass of Q-NASTYA and of"
        " DIANA-NASTYA at the weights of the round, so that no local step moves, and those are compressed gradient"
        " descent and DIANA, with all rows; its FedPAQ and FedCOM move. So both comparisons are claims here: all"
        " moving, as the paper writes the methods, and as the program has them. Frozen, Q-NASTYA ends at"
        f" {frozen(FROZEN[0], NAMES[0])} what it has left when it moves, DIANA-NASTYA at {frozen(FROZEN[1], NAMES[1])},"
        f" FedPAQ at {frozen(FROZEN[2], NAMES[2])} and FedCOM at {frozen(FROZEN[2], NAMES[3])}: above 1, steps that"
        " move get further, below 1, their drift costs more than they gain.",
        "Rows: the last of ten batches takes the rows that are left over there, 46 in place of 40; here they begin the"
        " next pass. Frozen, the NASTYAs have all rows.",
        f"Length: 5,000 passes there, {settings.rounds:,} here, so that the steps tuned here are longer.",
        "Grid: 16 to 18 multiples of either step there, 6 of the server's and 5 of the local one here, powers of 4 and"
        " 8; the steps of FedCOM and FedPAQ are multiples of those of Q-NASTYA, not of their papers'. FedPAQ's is that"
        " of the server alone, over the steps of a pass.",
        "Batches: theory's steps are those for single rows, here and there, so with batches of 40 they are short, and"
        " the multiples large.",
        "Seeds: the paper has one run per curve.",
        f"Both ways: the most that a method sends up in all is {most / least:.2f} times the least (zeros are not sent),"
        " and down comes the same, so counting it multiplies all axes by about the same."
        f" What the paper's tables have of mushrooms:{table(['paper', 'here'], rows)}",
    ]


def draw(results: Results) -> Figure:
    def panel(words: str, curves: Sequence[str]) -> Panel:
        return Panel("round", "suboptimality", words, y_scale="log", curves=curves)

    found = (("all move", NAMES), ("as in the authors' program", PROGRAM), ("all frozen", FROZEN))
    return panels(results, *(panel(*each) for each in found), height=2.9, share_y=True)


def compared(own: Sequence[str], words: str = "") -> tuple[Claim, ...]:
    """Return the paper's claims, for curves in the order of `NAMES`."""
    q, diana, paq, com = own

    def claim(says: str, curve: str, other: str, least: float, most: float) -> Claim:
        return Claim(says + words, curve, other, least=least, most=most, source="section 3, read")

    return (
        claim("Q-NASTYA behaves as FedPAQ", q, paq, 1 / 2, 2.0),
        claim("Q-NASTYA behaves as FedCOM", q, com, 1 / 2, 2.0),
        claim("DIANA-NASTYA noticeably outperforms Q-NASTYA (half of what is left)", diana, q, 0.0, 0.5),
        claim("DIANA-NASTYA noticeably outperforms FedPAQ", diana, paq, 0.0, 0.5),
        claim("DIANA-NASTYA noticeably outperforms FedCOM", diana, com, 0.0, 0.5),
    )


study = PaperStudy(
    title="Local steps in random reshuffling, with compressed differences",
    paper=(
        "Sadiev, Malinovsky, Gorbunov, Sokolov, Khaled, Burlachenko, Richtarik, *Don't compress gradients in random"
        " reshuffling: compress gradient differences*, NeurIPS 2024 (2206.07021), Figure 2."
    ),
    claims=(*compared(NAMES), *compared(PROGRAM, ", as in the authors' program")),
    differs=differs,
    defaults=Settings(data=TWIN, workers=20, rounds=2000, seeds=5),
    cells=cells,
    setting=setting,
    draw=draw,
    tuning=Tuning("multiples of theory's steps, of the server and local", curves, run, GRID, seeds=1),
)
