"""The cost of each code: bits per coordinate and per non-zero, over s and n, beside entropy and published bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import log2, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.batch import Levels, Vectors
from qsim.block import Block
from qsim.codecs import RANS, Bitmap, Codec, Dense, Elias, EliasDense, FixedWidth, GolombRice, Varint
from qsim.entropy import entropy_bits, position_bits
from qsim.study import (
    Cell,
    Comparison,
    Results,
    Settings,
    Study,
    bullets,
    compare,
    figure_grid,
    legend_below,
    look,
    panel_letters,
)
from qsim.weights import Replica

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = tuple(2**e for e in range(11))
LENGTHS = (100, 1000, 10_000, 100_000, 1_000_000)
LARGEST = LENGTHS[-1]
SHORT, MORE = 10_000, 10
"""Up to this length so many times as many draws are made: codes of short vectors differ by little."""
FEW = 4
"""The s for which lengths are compared."""
TEXT = qsim.datasets.Synthetic(rows=8000, features=50_000, nonzeros_per_row=70, values="tfidf")
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)
DENSE = "dense float32"
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
TIMES = ("early", "late")
ENTROPY, ENUMERATIVE, PAPER, ROOT = (
    "entropy",
    "enumerative positions",
    "QSGD paper's bound",
    "sqrt(n) log2(2 e n) bound",
)
REFERENCES = (ENTROPY, ENUMERATIVE, PAPER, ROOT)


def cells(settings: Settings) -> list[Cell]:
    """Train on both data sets; the gradients at the first and at the last weights are encoded."""
    sources = {settings.name: settings.load(), "text": TEXT}
    return [
        Cell(
            name,
            qsim.Run(
                source,
                objective=OBJECTIVE,
                method=qsim.GradientDescent(step=qsim.steps.Constant(step(name, settings))),
                workers=settings.workers,
                rounds=settings.rounds,
                evaluate_every=settings.rounds,
                optimum=False,
            ),
        )
        for name, source in sources.items()
    ]


@lru_cache
def step(name: str, settings: Settings) -> float:
    """Return 1/L."""
    return 1 / OBJECTIVE.smoothness(TEXT.load() if name == "text" else settings.load())


def setting(settings: Settings) -> str:
    data = settings.load()
    return (
        f"Vectors: independent Gaussian numbers (n = 100 to 10^6, {settings.seeds} draws, for n up to"
        f" {SHORT:,} {MORE * settings.seeds}); the gradients of"
        f" {settings.workers} workers for logistic regression (l2 = {OBJECTIVE.l2:g}) on {data.name}"
        f" (n = {data.features}) and on text-like data ({TEXT.load()!r}), at the start (early) and after"
        f" {settings.rounds} iterations of uncompressed gradient descent with step 1/L (late). QSGD with the l2 norm"
        " and s levels; bits of the whole packet, its 32-bit scale included, the stream header not. References, none"
        " of them a code: the entropy is n H of the levels plus 32; enumerative positions are log2 of n over k for the"
        " k positions, a bit for each sign, the entropy of the levels that are not zero, and 32. The QSGD paper's bound"
        " is (3 + 3/2 log2(2 (s^2 + n)/(s (s + sqrt n)))) s (s + sqrt n) + 32 for an expected length, here without its"
        " o(1) term (Alistarh et al. 2017, Theorem 3.2). A shorter bound that is told for s = 1, sqrt(n) log2(2 e n)"
        " + 32,"
        " is drawn with s^2 + sqrt n in place of sqrt n for larger s, where it does not hold. Elias gamma and delta are"
        " in the CSV only; the thin line in (f) is the paper's 2.8. Drawn are means over draws or workers; the noise is"
        " their spread: codes are compared on the same messages, by joint 95% intervals of the ratios (Bonferroni)."
    )


def gradients(run: qsim.Run, weights: NDArray[np.float64]) -> Vectors:
    """Return the gradient of every worker's rows."""
    shards = run.partition.split(run.load(), run.workers, qsim.Key(run.seed).fold(qsim.keys.Purpose.PARTITION))
    block = Block(shards, 0, run.workers)
    return run.objective.update(block, block.all_rows(), Replica(weights.astype(np.float32)), 1.0)


def vectors(results: Results) -> Iterator[tuple[str, Vectors, tuple[int, ...]]]:
    """Yield what is encoded: its name, a batch, and the numbers of levels."""
    for n in LENGTHS:
        many = results.settings.seeds * (MORE if n <= SHORT else 1)
        draws = [qsim.Key(seed).fold(n).generator().standard_normal(n) for seed in range(many)]
        yield f"Gaussian, n = {n}", Vectors.dense(np.array(draws, np.float32)), (*LEVELS, round(sqrt(n)))
    for cell in results.cells:
        trace = results.traces[cell.curve][0]
        for time, weights in zip(TIMES, (np.zeros(trace.weights.size), trace.weights), strict=True):
            yield f"{cell.curve}, {time}", gradients(cell.run, weights), LEVELS


def lengths(message: Levels) -> dict[str, NDArray[np.float64]]:
    """Return the bits of each row by every codec, and by the references."""
    floats = qsim.batch.Floats.of(message.vectors())
    bits = {name: codec.size(floats if name == DENSE else message).astype(np.float64) for name, codec in CODECS.items()}
    n, s = message.n, message.s
    counts = np.diff(message.offsets).tolist()
    entropy = entropy_bits(message)
    # Of n H, telling zeros from non-zeros takes n H(k/n): what is left is for signs and levels.
    places = np.array([k * log2(n / k) + (n - k) * log2(n / (n - k)) if 0 < k < n else 0.0 for k in counts])
    kept = s * (s + sqrt(n))
    bits[ENTROPY] = entropy + 32
    bits[ENUMERATIVE] = entropy - places + [position_bits(n, k) for k in counts] + 32
    bits[PAPER] = np.full(message.rows, (3 + 1.5 * log2(2 * (s**2 + n) / kept)) * kept + 32)
    bits[ROOT] = np.full(message.rows, ((s**2 if s > 1 else 0) + sqrt(n)) * (log2(n) + log2(2 * np.e)) + 32)
    return bits


@dataclass(frozen=True)
class Encoded:
    """The bits of each message of a kind, by code, and how many non-zeros there are in all."""

    n: int
    nonzeros: int
    bits: dict[str, NDArray[np.float64]]


def encoded(results: Results) -> dict[tuple[str, int], Encoded]:
    """Return what was measured, by the name of the vectors and s."""
    found = {}
    for name, batch, levels in vectors(results):
        for s in sorted(set(levels)):
            message = qsim.QSGD(s).compress(batch, qsim.Key(0).fold(s).words(0, batch.rows))
            found[name, s] = Encoded(batch.n, message.nonzeros, lengths(message))
    return found


def numbers(results: Results) -> pd.DataFrame:
    """Return for all vectors, s and codes: bits per coordinate and per non-zero, and the share of non-zeros."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for (name, s), found in results.once(encoded).items():
        for code, bits in found.bits.items():
            coordinates = found.n * bits.size
            row = {"vectors": name, "n": found.n, "s": s, "code": code, "messages": bits.size}
            row |= {"bits per coordinate": bits.sum() / coordinates}
            row |= {"bits per non-zero": bits.sum() / max(found.nonzeros, 1), "non-zeros": found.nonzeros / coordinates}
            rows.append(row)
    return pd.DataFrame(rows)


def shortest(bits: dict[str, NDArray[np.float64]]) -> str:
    """Return the shortest code, and those that the noise does not tell from it."""
    codes = {code: bits[code] for code in CODECS}
    best = min(codes, key=lambda code: codes[code].mean())
    others = {code: length for code, length in codes.items() if code != best}
    near = [code for code, found in compare(others, codes[best], ratio=True).items() if not found.beyond_noise]
    if codes[best].size == 1:  # one message: nothing is known of the noise
        near = []
    return " or ".join((best, *near))


def answers(results: Results) -> list[str]:
    found = results.once(encoded)
    wins = []
    for name in dict.fromkeys(name for name, _ in found):
        best: dict[str, list[int]] = {}
        for s in LEVELS:
            best.setdefault(shortest(found[name, s].bits), []).append(s)
        shown = "; ".join(f"{code} at s = {', '.join(map(str, s))}" for code, s in best.items())
        wins.append(f"{name}: {shown}")
    large = {s: found[f"Gaussian, n = {LARGEST}", s] for s in (*LEVELS, round(sqrt(LARGEST)))}
    gaps, spreads = [], [0.0]
    for code in DRAWN:
        ratios = [large[s].bits[code] / large[s].bits[ENTROPY] for s in LEVELS]
        means = [float(ratio.mean()) for ratio in ratios]
        spreads += [float(np.ptp(ratio) / ratio.mean()) for ratio in ratios]
        gaps.append(f"{code}: {min(means):.3f} (s = {LEVELS[int(np.argmin(means))]}) to {max(means):.3f}")
    root = round(sqrt(LARGEST))
    dense, best_code = (large[root].bits[code].mean() / LARGEST for code in ("Elias omega, dense", "rANS"))
    return [
        "The shortest of all codes; codes that the noise over draws and workers does not tell apart: joined by"
        f" or.{bullets(wins)}",
        f"Length over the entropy, Gaussian vectors of n = {LARGEST:,}, over all s; the draws are within"
        f" {100 * max(spreads):.2g}% of each other:{bullets(gaps)}",
        f"At s = sqrt n = {root} (Gaussian, n = {LARGEST:,}) the dense Elias omega code takes {dense:.2f} bits per"
        f" coordinate, against 2.8 in the paper's Corollary 3.3, and rANS {best_code:.2f}. "
        + " ".join(_held(bound, {s: large[s] for s in LEVELS}) for bound in (PAPER, ROOT))
        + " (No code of vectors whose coordinates can be exchanged is shorter on average than the entropy without the"
        " scale, less 2 s log2(n + 1) bits for the shares of the levels.)",
        "Bits per coordinate, early and late, and the ratio, paired by worker (the noise is that over workers). That"
        " late"
        " gradients take more bits is what is measured; why they do is not tested.\n"
        + bullets(_early_and_late(results)),
    ]


def _held(bound: str, found: dict[int, Encoded]) -> str:
    """Say where a bound on the expected length is below what any code needs."""
    broken = [
        s
        for s, here in found.items()
        if here.bits[bound][0] < (here.bits[ENTROPY] - 32 - 2 * s * log2(here.n + 1)).mean()
    ]
    if broken:
        return f"The {bound} is below what any code needs, so it can't hold, at s = {', '.join(map(str, broken))}."
    above = all((here.bits[bound] > here.bits[ENTROPY]).all() for here in found.values())
    return f"The {bound} lies above the entropy for all s." if above else f"The {bound} may hold for all s."


def _early_and_late(results: Results) -> list[str]:
    found = results.once(encoded)
    pairs = {
        (data, s, code): [found[f"{data}, {time}", s].bits[code] / found[f"{data}, {time}", s].n for time in TIMES]
        for data in (results.settings.name, "text")
        for s in (1, FEW, 64)
        for code in (ENTROPY, "Golomb-Rice")
    }
    ratios: dict[Any, Comparison] = compare(
        {str(key): late / early for key, (early, late) in pairs.items()},
        np.ones(results.settings.workers),
        results.settings.bands,
        ratio=True,
    )
    words = {key: str(ratios[str(key)]).replace("seed noise", "noise over workers") for key in pairs}
    return [
        f"{data}, s = {s}, {code}: {pair[0].mean():.3f} and {pair[1].mean():.3f}, {words[data, s, code]}"
        for (data, s, code), pair in pairs.items()
    ]


def draw(results: Results) -> Figure:
    table = results.once(numbers)
    largest = table[table["vectors"] == f"Gaussian, n = {LARGEST}"]
    largest = largest[largest["s"].isin(LEVELS)]
    gaussian = table[table["vectors"].str.startswith("Gaussian")]
    data, features = results.settings.name, results.settings.load().features
    late = {name: table[table["vectors"] == f"{name}, late"] for name in (data, "text")}
    root = gaussian[gaussian["s"] == np.sqrt(gaussian["n"]).round()]
    shown = (
        (largest, "s", "bits per coordinate", "Gaussian, n = 10$^6$"),
        (late[data], "s", "bits per coordinate", f"{data}, late, n = {features}"),
        (late["text"], "s", "bits per coordinate", f"text-like, late, n = {TEXT.features:,}"),
        (largest, "s", "bits per non-zero", "Gaussian, n = 10$^6$"),
        (gaussian[gaussian["s"] == FEW], "n", "bits per non-zero", f"Gaussian, s = {FEW}"),
        (root, "n", "bits per coordinate", "Gaussian, s = $\\sqrt{n}$"),
    )
    with figure_grid(2, 3, height=4.9) as (figure, axes):
        for ax, (part, x, y, _) in zip(axes.flat, shown, strict=True):
            _lines(ax, part, x, y)
        axes[1, 2].axhline(2.8, color="0.6", linewidth=0.8, linestyle="--")
        panel_letters(axes.flat, [title for *_, title in shown])
        legend_below(figure, axes.flat)
    return figure


def _lines(ax: Axes, table: pd.DataFrame, x: str, y: str) -> None:
    looks: dict[str, dict[str, Any]] = {code: look(place + 1) | {"markersize": 2.5} for place, code in enumerate(DRAWN)}
    looks |= {
        "rANS": looks["rANS"] | {"color": "#7B3294"},  # grey is for bounds
        ENTROPY: {"color": "black", "linewidth": 1.6},
        ENUMERATIVE: {"color": "black", "linewidth": 0.8, "linestyle": (0, (1, 2))},
        PAPER: {"color": "0.6", "linestyle": "--"},
        ROOT: {"color": "0.6", "linestyle": ":"},
        DENSE: {"color": "0.8", "linewidth": 2},
    }
    for code, style in looks.items():
        line = table[table["code"] == code].sort_values(x)
        ax.plot(line[x], line[y], label=code, **style)
    codes = table[table["code"].isin((*DRAWN, ENTROPY))][y]
    ax.set(xscale="log", yscale="log", ylabel=y.replace(" a ", " per "))
    ax.set_xlabel("levels s" if x == "s" else "dimension n")
    ax.set_ylim(0.7 * codes.min(), 1.4 * min(codes.max(), 60 if y == "bits per coordinate" else 200))
    if ax.get_ylim()[1] < 20 * ax.get_ylim()[0]:
        ax.set_yticks([2, 3, 5, 10], labels=["2", "3", "5", "10"])
        ax.yaxis.set_minor_formatter("")


study = Study(
    title="Encodings: bits per coordinate and per non-zero, beside the entropy",
    questions=(
        "Where does each code win?",
        "How far is each code from the entropy?",
        "Do published bounds hold?",
        "Do the gradients get easier or harder to encode in training?",
    ),
    defaults=Settings(data="adult", workers=8, rounds=100, seeds=3),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
)
