"""The picture of the theory: the claimed variance or contraction of compressors, and the worst that was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.batch import Vectors
from qsim.compressors import Compressor
from qsim.study import STYLE, TEXT_WIDTH, Cell, Results, Settings, Study, look
from qsim.testing.gallery import gallery

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LENGTHS = (4, 16, 64, 256, 1024, 4096)
LEVELS = (1, 2, 4, 8, 16, 64)
FIXED_N, FIXED_S = 1024, (1, 4, 16)
DRAWS = 200
TIGHT = 0.98
MORE_RATIOS = 2.0 ** np.arange(-8, 0.01, 0.25)
Make = Callable[[int], Compressor]


WITH_LEVELS: dict[str, Make] = {
    "QSGD, l2": qsim.QSGD,
    "QSGD, max": lambda s: qsim.QSGD(s, norm="max"),
    "subtractive dither, l2": qsim.SubtractiveDither,
    "natural dithering, l2": qsim.NaturalDithering,
    "NUQSGD": qsim.NUQSGD,
}
OTHERS: dict[str, Callable[[int], Compressor]] = {
    "TernGrad": lambda n: qsim.TernGrad(),
    "natural compression": lambda n: qsim.NaturalCompression(),
    "RandK, k = n/4": lambda n: qsim.RandK(n // 4),
    "Bernoulli, p = 1/8": lambda n: qsim.Bernoulli(p=0.125),
    "DRIVE": lambda n: qsim.DRIVE(),
    "EDEN, 2 bits": lambda n: qsim.EDEN(bits=2),
    "TopK, k = n/4": lambda n: qsim.TopK(n // 4),
    "scaled sign": lambda n: qsim.ScaledSign(),
}


def cases() -> list[tuple[str, int | None, int, Compressor]]:
    """Return what is measured: the curve, s, n, and the compressor."""
    found: list[tuple[str, int | None, int, Compressor]] = []
    for curve, make in WITH_LEVELS.items():
        pairs = {(s, n) for s in FIXED_S for n in LENGTHS} | {(s, FIXED_N) for s in LEVELS}
        found += [(curve, s, n, make(s)) for s, n in sorted(pairs) if s <= 16 or "QSGD, " in curve or "sub" in curve]
    return found + [(curve, None, n, make(n)) for curve, make in OTHERS.items() for n in LENGTHS]


def family(n: int, s: int | None) -> dict[str, NDArray[np.float32]]:
    """Return hard vectors: the gallery's, one large with equal others, and those that lie between levels of s."""
    place = np.arange(n)
    found = gallery(n, qsim.Key(0))
    found |= {f"one large, others {r:.3g} of it": np.where(place == 0, 1.0, r) for r in MORE_RATIOS}
    if s is not None:
        for q in (0.25, 0.5, 0.75, 1.0, 1.5):  # others at q levels of the l2 norm, if it leaves room for one large
            small = q / s
            if 1 - (n - 1) * small**2 > 0:
                found[f"others at {q:g} levels"] = np.where(place == 0, sqrt(1 - (n - 1) * small**2), small)
        best = s / (n - 1) * (sqrt(1 + (n - 1) / s**2) - 1) if n > 1 else 0.0
        found["others at the worst ratio of the max norm"] = np.where(place == 0, 1.0, best)
    return {name: v.astype(np.float32) for name, v in found.items()}


def relative_error(compressor: Compressor, v: NDArray[np.float32]) -> tuple[float, float]:
    """Return E ||Q(v) - v||^2 / ||v||^2 and its standard error, 0 if the first is exact."""
    square = float(v.astype(np.float64) @ v.astype(np.float64))
    exact = compressor.exact_variance(v)
    if exact is not None:
        return exact / square, 0.0
    draws = 1 if isinstance(compressor, qsim.TopK | qsim.ScaledSign) else DRAWS
    rows = Vectors.dense(np.tile(v, (draws, 1)))
    keys = qsim.Key(0).words(0, draws)
    decoded = compressor.decompress(compressor.compress(rows, keys), keys).to_dense()
    errors = ((decoded.astype(np.float64) - v) ** 2).sum(1) / square
    return float(errors.mean()), float(errors.std(ddof=1) / sqrt(draws)) if draws > 1 else 0.0


_TABLES: list[pd.DataFrame] = []


def numbers(results: Results | None = None) -> pd.DataFrame:
    """Return for every curve, s and n: the claim, the worst measured, its standard error, and the vector."""
    import pandas as pd

    if not _TABLES:
        rows: list[dict[str, Any]] = []
        for curve, s, n, compressor in cases():
            omega = compressor.variance(n)
            claim = 1 - (compressor.contraction(n) or 0.0) if omega is None else omega
            found = {name: relative_error(compressor, v) for name, v in family(n, s).items()}
            name = max(found, key=lambda key: found[key][0])
            measured, error = found[name]
            rows.append(
                {"curve": curve, "s": s, "n": n, "claim": claim, "measured": measured, "standard error": error}
                | {"kind": "1 - delta" if omega is None else "omega", "vector": name}
            )
        _TABLES.append(pd.DataFrame(rows))
    return _TABLES[0]


def cells(settings: Settings) -> Sequence[Cell]:
    """Nothing is trained."""
    return []


def setting(settings: Settings) -> str:
    return (
        "Lines: the claim, omega in E ||Q(v) - v||^2 <= omega ||v||^2, and for TopK and scaled sign, which are biased,"
        " 1 - delta. Markers: the largest E ||Q(v) - v||^2 / ||v||^2 over a family of about 50 vectors (constant,"
        " Gaussian, Laplace, geometric, sparse, one large and equal others in many ratios, equal others between two"
        f" levels), by the closed form of the variance where there is one, else the mean of {DRAWS} draws of keys"
        " (TopK and scaled sign draw nothing). No search: a worse vector may exist, so a marker below its line"
        " does not show that the claim is loose. The claims of DRIVE and EDEN hold"
        " in the limit of long vectors only. Nothing is trained; the options data, workers, rounds and seeds change"
        " nothing."
    )


def answers(results: Results) -> list[str]:
    table = numbers(results)
    ratio = table["measured"] / table["claim"]
    lines = []
    for curve in dict.fromkeys(table["curve"]):
        here = ratio[table["curve"] == curve]
        if table.loc[here.index, "standard error"].any():
            kind = "sampled: the largest of noisy means, so above the claim by chance too"
        else:
            kind = "attained" if here.min() >= TIGHT else "attained in part" if here.max() >= TIGHT else "not attained"
        lines.append(f"\n- {curve}: {here.min():.1%} to {here.max():.1%} of the claim ({kind})")
    beyond = table[table["measured"] > table["claim"] * (1 + 1e-5) + 5 * table["standard error"]]
    listed = "".join(
        f"\n- {row['curve']}, n = {row['n']}: {row['measured']:.4g}"
        f" (standard error {row['standard error']:.2g}) against {row['claim']:.4g}, {row['vector']}"
        for _, row in beyond.iterrows()
    )
    return [
        f"Measured over claim, least to most over n and s (attained: at least {TIGHT:.0%}):\n" + "".join(lines),
        f"Beyond the claim by more than five standard errors:\n{listed}"
        if listed
        else f"No, in none of {len(table)} cases by more than five standard errors (exact ones: 1e-5 of the claim).",
    ]


def draw(results: Results) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    table = numbers(results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 6.6), layout="constrained")
        axes = figure.subplots(3, 3).ravel()
        for ax, curve, letter in zip(axes, WITH_LEVELS, "abcde", strict=False):
            lines = {f"s = {s}": table[(table["curve"] == curve) & (table["s"] == s)] for s in FIXED_S}
            _panel(ax, lines, "n", f"({letter}) {curve}")
        over_s = table[(table["n"] == FIXED_N) & table["s"].notna()]
        _panel(axes[5], {c: over_s[over_s["curve"] == c] for c in WITH_LEVELS}, "s", f"(f) n = {FIXED_N}")
        groups = (tuple(OTHERS)[:4], tuple(OTHERS)[4:6], tuple(OTHERS)[6:])
        for ax, group, letter in zip(axes[6:], groups, "ghi", strict=True):
            _panel(ax, {c: table[table["curve"] == c] for c in group}, "n", f"({letter}) others")
        axes[5].legend(fontsize=5.5, loc="lower left")
        axes[5].set_ylim(bottom=1e-4)  # room for the legend
        axes[6].set_ylim(top=1e3)
        axes[8].set(ylabel="1 - delta", yscale="linear")
    return figure


def _panel(ax: Any, lines: dict[str, pd.DataFrame], x: str, title: str) -> None:
    for place, (name, line) in enumerate(lines.items()):
        style = look(place)
        ax.plot(line[x], line["claim"], color=style["color"], linestyle=style["linestyle"])
        ax.plot(line[x], line["measured"], color=style["color"], linestyle="", marker=style["marker"], label=name)
    ax.set(xscale="log", yscale="log", xlabel="levels s" if x == "s" else "n", ylabel="omega")
    ax.set_title(title, loc="left")
    ax.legend(fontsize=5.5)


study = Study(
    title="Certificates: claimed against measured variance, over n and s",
    questions=("How tight are the claims?", "Is any claim exceeded?"),
    defaults=Settings(data="spark_sample", workers=1, rounds=1, seeds=1),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
)
