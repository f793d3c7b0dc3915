"""What each code costs: bits a coordinate and a non-zero, over s and n, beside the entropy and published bounds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import log2, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.batch import Levels, Vectors
from qsim.codecs import RANS, Bitmap, Codec, Dense, Elias, EliasDense, FixedWidth, GolombRice, Varint
from qsim.datasets.block import Block
from qsim.references import entropy_bits, position_bits
from qsim.study import STYLE, TEXT_WIDTH, Cell, Results, Settings, Study, look
from qsim.weights import Replica

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = tuple(2**e for e in range(11))
LENGTHS = (100, 1000, 10_000, 100_000, 1_000_000)
LARGEST = LENGTHS[-1]
FEW = 4
"""The s for which lengths are compared."""
TEXT = qsim.datasets.Synthetic(rows=8000, features=50_000, nonzeros_per_row=70, values="tfidf")
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)
DENSE = "float32 a coordinate"
CODECS: dict[str, Codec] = {
    DENSE: Dense("float32"),
    "fixed width": FixedWidth(),
    "bitmap": Bitmap(),
    "varint": Varint(),
    "Elias gamma": Elias("gamma"),
    "Elias delta": Elias("delta"),
    "Elias omega": Elias("omega"),
    "Elias gamma, dense": EliasDense("gamma"),
    "Elias delta, dense": EliasDense("delta"),
    "Elias omega, dense": EliasDense("omega"),
    "Golomb-Rice": GolombRice(),
    "rANS": RANS(),
}
DRAWN = ("fixed width", "bitmap", "varint", "Elias omega", "Elias omega, dense", "Golomb-Rice", "rANS")
ENTROPY, ENUMERATIVE, PAPER, COURSE = "entropy", "enumerative positions", "QSGD paper's bound", "course's bound"
REFERENCES = (ENTROPY, ENUMERATIVE, PAPER, COURSE)


def cells(settings: Settings) -> list[Cell]:
    """Train on both data sets; the gradients at the first and at the last weights are encoded."""
    sources = {Path(settings.data).name: qsim.datasets.load(settings.data), "text": TEXT}
    return [
        Cell(
            name,
            qsim.Run(
                source,
                objective=OBJECTIVE,
                method=qsim.GradientDescent(step=qsim.steps.Constant(step(name, settings.data))),
                workers=settings.workers,
                rounds=settings.rounds,
                evaluate_every=settings.rounds,
                optimum=False,
            ),
        )
        for name, source in sources.items()
    ]


@lru_cache
def step(name: str, data: str) -> float:
    """Return 1/L."""
    return 1 / OBJECTIVE.smoothness(TEXT.load() if name == "text" else qsim.datasets.load(data))


def setting(settings: Settings) -> str:
    data = qsim.datasets.load(settings.data)
    return (
        f"Vectors: independent Gaussian numbers (n = 100 to 10^6, {settings.seeds} draws); the gradients of"
        f" {settings.workers} workers for logistic regression (l2 = {OBJECTIVE.l2:g}) on {data.name}"
        f" (n = {data.features}) and on text-like data ({TEXT.load()!r}), at the start (early) and after"
        f" {settings.rounds} iterations of uncompressed gradient descent with step 1/L (late). QSGD with the l2 norm"
        " and s levels; bits of the whole packet, its 32-bit scale included, the stream header not. References, none"
        " of them a code: the entropy is n H of the levels plus 32; enumerative positions are log2 of n over k for the"
        " k positions, a bit for each sign, the entropy of the levels that are not zero, and 32. The QSGD paper's bound"
        " is (3 + 3/2 log2(2 (s^2 + n)/(s (s + sqrt n)))) s (s + sqrt n) + 32 for an expected length, here without its"
        " o(1) term (Alistarh et al. 2017, Theorem 3.2); the course's is sqrt(n) (log2 n + log2 2e) + 32 at s = 1,"
        " drawn with s^2 + sqrt n in place of sqrt n for larger s, where it does not hold. Elias gamma and delta are"
        " in the CSV only; the thin line in (f) is the paper's 2.8."
    )


def gradients(run: qsim.Run, weights: NDArray[np.float64]) -> Vectors:
    """Return the gradient of every worker's rows."""
    shards = run.partition.split(run.load(), run.workers, qsim.Key(run.seed).fold(qsim.keys.Purpose.PARTITION))
    block = Block(shards, 0, run.workers)
    return run.objective.update(block, block.all_rows(), Replica(weights.astype(np.float32)), 1.0)


def vectors(results: Results) -> Iterator[tuple[str, Vectors, tuple[int, ...]]]:
    """Yield what is encoded: its name, a batch, and the numbers of levels."""
    for n in LENGTHS:
        draws = [qsim.Key(seed).fold(n).generator().standard_normal(n) for seed in range(results.settings.seeds)]
        yield f"Gaussian, n = {n}", Vectors.dense(np.array(draws, np.float32)), (*LEVELS, round(sqrt(n)))
    for cell in results.cells:
        trace = results.traces[cell.curve][0]
        yield f"{cell.curve}, early", gradients(cell.run, np.zeros(trace.weights.size)), LEVELS
        yield f"{cell.curve}, late", gradients(cell.run, trace.weights), LEVELS


def lengths(message: Levels) -> dict[str, float]:
    """Return the bits of all rows by every codec, and by the references."""
    floats = qsim.batch.Floats.of(message.vectors())
    bits = {name: codec.size(floats if name == DENSE else message).sum() for name, codec in CODECS.items()}
    n, s, rows = message.n, message.s, message.rows
    counts = np.diff(message.offsets).tolist()
    entropy = entropy_bits(message)
    # Of n H, telling zeros from non-zeros takes n H(k/n): what is left is for signs and levels.
    places = [k * log2(n / k) + (n - k) * log2(n / (n - k)) if 0 < k < n else 0.0 for k in counts]
    enumerative = sum(h - p + position_bits(n, k) for h, p, k in zip(entropy, places, counts, strict=True))
    kept = s * (s + sqrt(n))
    bits[ENTROPY] = entropy.sum() + 32 * rows
    bits[ENUMERATIVE] = enumerative + 32 * rows
    bits[PAPER] = rows * ((3 + 1.5 * log2(2 * (s**2 + n) / kept)) * kept + 32)
    bits[COURSE] = rows * (((s**2 if s > 1 else 0) + sqrt(n)) * (log2(n) + log2(2 * np.e)) + 32)
    return bits


_TABLES: dict[int, pd.DataFrame] = {}


def numbers(results: Results) -> pd.DataFrame:
    """Return for all vectors, s and codes: bits a coordinate and a non-zero, and the share of non-zeros."""
    import pandas as pd

    if id(results) not in _TABLES:
        rows: list[dict[str, Any]] = []
        for name, batch, levels in vectors(results):
            for s in sorted(set(levels)):
                message = qsim.QSGD(s).compress(batch, qsim.Key(0).fold(s).words(0, batch.rows))
                coordinates, nonzeros = batch.n * batch.rows, max(message.nonzeros, 1)
                rows += [
                    {
                        "vectors": name,
                        "n": batch.n,
                        "s": s,
                        "code": code,
                        "bits a coordinate": bits / coordinates,
                        "bits a non-zero": bits / nonzeros,
                        "non-zeros": nonzeros / coordinates,
                    }
                    for code, bits in lengths(message).items()
                ]
        _TABLES[id(results)] = pd.DataFrame(rows)
    return _TABLES[id(results)]


def answers(results: Results) -> list[str]:
    table = numbers(results)
    coded = table[table["code"].isin(CODECS)]
    wins, gaps = [], []
    for name in dict.fromkeys(table["vectors"]):
        found: dict[str, list[int]] = {}
        for s in LEVELS:
            here = coded[(coded["vectors"] == name) & (coded["s"] == s)]
            found.setdefault(str(here.loc[here["bits a coordinate"].idxmin(), "code"]), []).append(s)
        listed = "; ".join(f"{code} at s = {', '.join(map(str, s))}" for code, s in found.items())
        wins.append(f"\n- {name}: {listed}")
    for code in DRAWN:
        ratios = [
            at(table, f"Gaussian, n = {LARGEST}", s, code) / at(table, f"Gaussian, n = {LARGEST}", s, ENTROPY)
            for s in LEVELS
        ]
        gaps.append(f"\n- {code}: {min(ratios):.3f} (s = {LEVELS[int(np.argmin(ratios))]}) to {max(ratios):.3f}")
    root = round(sqrt(LARGEST))
    dense = at(table, f"Gaussian, n = {LARGEST}", root, "Elias omega, dense")
    best = at(table, f"Gaussian, n = {LARGEST}", root, "rANS")
    holds = {
        bound: [
            s
            for s in LEVELS
            if at(table, f"Gaussian, n = {LARGEST}", s, ENTROPY) > at(table, f"Gaussian, n = {LARGEST}", s, bound)
        ]
        for bound in (PAPER, COURSE)
    }
    broken = " ".join(
        f"The {bound} lies below the entropy, so it can't hold, at s = {', '.join(map(str, s))}."
        if s
        else f"The {bound} lies above the entropy for all s."
        for bound, s in holds.items()
    )
    late = "".join(
        f"\n- {data}, s = {s}: entropy {at(table, f'{data}, early', s, ENTROPY):.3f} and"
        f" {at(table, f'{data}, late', s, ENTROPY):.3f}, Golomb-Rice"
        f" {at(table, f'{data}, early', s, 'Golomb-Rice'):.3f} and {at(table, f'{data}, late', s, 'Golomb-Rice'):.3f}"
        for data in (Path(results.settings.data).name, "text")
        for s in (1, FEW, 64)
    )
    return [
        "The shortest of all codes:\n" + "".join(wins),
        f"Length over the entropy, Gaussian vectors of n = {LARGEST:,}:\n" + "".join(gaps),
        f"At s = sqrt n = {root} (Gaussian, n = {LARGEST:,}) the dense Elias omega code takes {dense:.2f} bits a"
        f" coordinate, against 2.8 in the paper's Corollary 3.3, and rANS {best:.2f}. {broken}",
        "Bits a coordinate, early and late:\n" + late,
    ]


def at(table: pd.DataFrame, name: str, s: int, code: str) -> float:
    """Return the bits a coordinate."""
    here = table[(table["vectors"] == name) & (table["s"] == s) & (table["code"] == code)]
    return float(here["bits a coordinate"].iloc[0])


def draw(results: Results) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    table = numbers(results)
    largest = table[table["vectors"] == f"Gaussian, n = {LARGEST}"]
    largest = largest[largest["s"].isin(LEVELS)]
    gaussian = table[table["vectors"].str.startswith("Gaussian")]
    data, features = Path(results.settings.data).name, qsim.datasets.load(results.settings.data).features
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 4.9), layout="constrained")
        axes = figure.subplots(2, 3)
        _lines(axes[0, 0], largest, "s", "bits a coordinate", "(a) Gaussian, n = 10$^6$")
        for ax, name, title in (
            (axes[0, 1], f"{data}, late", f"(b) {data}, late, n = {features}"),
            (axes[0, 2], "text, late", f"(c) text-like, late, n = {TEXT.features:,}"),
        ):
            _lines(ax, table[table["vectors"] == name], "s", "bits a coordinate", title)
        _lines(axes[1, 0], largest, "s", "bits a non-zero", "(d) Gaussian, n = 10$^6$")
        _lines(axes[1, 1], gaussian[gaussian["s"] == FEW], "n", "bits a non-zero", f"(e) Gaussian, s = {FEW}")
        root = gaussian[gaussian["s"] == np.sqrt(gaussian["n"]).round()]
        _lines(axes[1, 2], root, "n", "bits a coordinate", "(f) Gaussian, s = $\\sqrt{n}$")
        axes[1, 2].axhline(2.8, color="0.6", linewidth=0.8, linestyle="--")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _lines(ax: Axes, table: pd.DataFrame, x: str, y: str, title: str) -> None:
    looks: dict[str, dict[str, Any]] = {code: look(place + 1) | {"markersize": 2.5} for place, code in enumerate(DRAWN)}
    looks |= {
        "rANS": looks["rANS"] | {"color": "#7B3294"},  # grey is for bounds
        ENTROPY: {"color": "black", "linewidth": 1.6},
        ENUMERATIVE: {"color": "black", "linewidth": 0.8, "linestyle": (0, (1, 2))},
        PAPER: {"color": "0.6", "linestyle": "--"},
        COURSE: {"color": "0.6", "linestyle": ":"},
        DENSE: {"color": "0.8", "linewidth": 2},
    }
    for code, style in looks.items():
        line = table[table["code"] == code].sort_values(x)
        ax.plot(line[x], line[y], label=code, **style)
    codes = table[table["code"].isin((*DRAWN, ENTROPY))][y]
    ax.set(xscale="log", yscale="log", xlabel="levels s" if x == "s" else "n", ylabel=y)
    ax.set_ylim(0.7 * codes.min(), 1.4 * min(codes.max(), 60 if y == "bits a coordinate" else 200))
    if ax.get_ylim()[1] < 20 * ax.get_ylim()[0]:
        ax.set_yticks([2, 3, 5, 10], labels=["2", "3", "5", "10"])
        ax.yaxis.set_minor_formatter("")
    ax.set_title(title, loc="left")


study = Study(
    title="Encodings: bits a coordinate and a non-zero, beside the entropy",
    questions=(
        "Where does each code win?",
        "How far is each code from the entropy?",
        "What of the published bounds?",
        "Do the gradients get easier or harder to encode in training?",
    ),
    defaults=Settings(data="adult", workers=8, rounds=100, seeds=3),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
)
