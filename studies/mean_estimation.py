"""Distributed mean estimation: the error of the mean of compressed vectors against bits per coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

import qsim
from qsim.batch import Vectors
from qsim.codecs import RANS, Codec, FixedWidth
from qsim.compressors import Compressor
from qsim.datasets import DataError
from qsim.study import (
    Cell,
    Results,
    Settings,
    Study,
    bullets,
    compare,
    figure_grid,
    legend_below,
    look,
    panel_letters,
    table,
    winner,
)
from qsim.study.gradients import worker_gradients

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

N = 2**13
LEVELS = (1, 4, 16, 64, 256)
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)
DRAWS = 5
BUDGETS = (1.1, 2.1, 4.1)
NOTHING = "sending nothing"
Way = tuple[Compressor, Codec | None]


def ways(n: int) -> dict[str, list[Way]]:
    """Return the compressors, with their codecs, of every curve."""
    kept = [max(1, n // part) for part in (64, 16, 4, 2)]
    return {
        "QSGD, rANS": [(qsim.QSGD(s), RANS()) for s in LEVELS],
        "QSGD, fixed width": [(qsim.QSGD(s), FixedWidth()) for s in LEVELS],
        "EDEN": [(qsim.EDEN(bits), None) for bits in (1, 2, 3, 4)],
        "DRIVE": [(qsim.DRIVE(), None)],
        "subtractive dither, rANS": [(qsim.SubtractiveDither(s), RANS()) for s in LEVELS],
        "natural compression": [(qsim.NaturalCompression(), None)],
        "RandK, drawn": [(qsim.RandK(k, positions="drawn"), None) for k in kept],
        "TopK (biased)": [(qsim.TopK(k), None) for k in kept],
        "OneBit (biased)": [(qsim.OneBit(), None)],
        "bfloat16": [(qsim.RoundedFloats("bfloat16"), None)],
    }


def recorded(path: str) -> NDArray[np.float32]:
    """Read vectors, one per client. Raises DataError for what is not a finite (clients, n) array of numbers."""
    if not Path(path).is_file():
        raise DataError(f"--vectors: there is no file {path!r}")
    try:
        with Path(path).open("rb") as file:
            if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
                raise ValueError("it does not begin as one; numpy.save writes them")
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"--vectors: {path} is not a .npy file of numbers: {error}") from None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu" or not found.size:
        shape = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise DataError(f"--vectors: {path} must hold numbers of shape (clients, n), found {shape}")
    with np.errstate(over="ignore"):
        rows = found.astype(np.float32)
    bad = np.argwhere(~np.isfinite(rows))
    if bad.size:
        row, column = bad[0]
        raise DataError(f"--vectors: {path} holds {found[row, column]} at [{row}, {column}], not a finite float32")
    if not rows.any():
        raise DataError(f"--vectors: {path} holds only zeros, so there is no error to normalise")
    return rows


def cells(settings: Settings) -> list[Cell]:
    """Train on the data set: the gradients at the first and at the last weights are the recorded vectors."""
    if settings.vectors is not None:
        recorded(settings.vectors)
    data = settings.load()
    return [
        Cell(
            settings.name,
            qsim.Run(
                data,
                objective=OBJECTIVE,
                method=qsim.GradientDescent(step=qsim.steps.Constant(1 / OBJECTIVE.smoothness(data))),
                workers=settings.workers,
                rounds=settings.rounds,
                evaluate_every=settings.rounds,
                optimum=False,
            ),
        )
    ]


def setting(settings: Settings) -> str:
    data = settings.load()
    given = "" if settings.vectors is None else f" The vectors of {settings.vectors} are in the last panel."
    return (
        f"{settings.workers} clients, n = {N}: independent Gaussian and Student t (3 degrees of freedom) coordinates,"
        f" {settings.seeds} draws; the gradients of {settings.workers} workers for logistic regression (l2 ="
        f" {OBJECTIVE.l2:g}) on {data.name} (n = {data.features}), at the start (early) and after {settings.rounds}"
        f" iterations of uncompressed gradient descent with step 1/L (late).{given} Every client compresses with a key"
        " of its own; the server averages what it decodes. Error: W ||mean of decoded - mean||^2 over the mean of"
        " ||v||^2, W the number of clients: omega for independent, unbiased clients whose error attains omega ||v||^2."
        f" Sending nothing: the server takes 0 for the mean. Averages of {DRAWS} draws of keys; the noise is the spread"
        " over draws of keys and vectors: methods are compared on the same ones, by intervals of the logarithms that"
        " hold jointly (95%). Bits: whole packets, without the stream header. Limits, for independent Gaussian"
        " coordinates and long vectors: 2^(-2R) is the least error of one client at R bits (Shannon 1959); 1/(2^(2R) -"
        " 1) is that error after scaling to be unbiased (as in EDEN, Vargaftik et al. 2022). Neither bounds the error"
        " on other vectors, which can be easier."
    )


def sources(results: Results) -> dict[str, list[NDArray[np.float32]]]:
    """Return what is sent: arrays of shape (clients, n), by name."""
    settings = results.settings
    shape = (settings.workers, N)
    randoms = [qsim.Key(seed).generator() for seed in range(settings.seeds)]
    cell = results.cells[0]
    weights = results.traces[cell.curve][0].weights
    found = {
        "Gaussian": [random.standard_normal(shape).astype(np.float32) for random in randoms],
        "Student t": [random.standard_t(3, shape).astype(np.float32) for random in randoms],
        f"{cell.curve}, early": [worker_gradients(cell.run, np.zeros(weights.size)).to_dense()],
        f"{cell.curve}, late": [worker_gradients(cell.run, weights).to_dense()],
    }
    if settings.vectors is not None:
        found[Path(settings.vectors).name] = [recorded(settings.vectors)]
    return found


def measure(way: Way, rows: NDArray[np.float32]) -> tuple[float, list[float]]:
    """Return bits per coordinate, averaged over draws of keys, and the normalised error of each draw."""
    channel = qsim.Channel(*way)
    batch, true = Vectors.dense(rows), rows.mean(0, dtype=np.float64)
    scale = (rows.astype(np.float64) ** 2).sum() / len(rows) ** 2
    bits, errors = 0.0, []
    for draw in range(DRAWS):
        key = qsim.Key(draw)
        keys = (key if channel.compressor.correlated is None else key.numbered).words(0, len(rows))
        header, packets = channel.pack(batch, keys)
        mean = channel.unpack(header, packets, keys).to_dense().mean(0, dtype=np.float64)
        bits += float(np.sum(packets.bits)) / rows.size / DRAWS
        errors.append(float(((mean - true) ** 2).sum()) / scale)
    return bits, errors


@dataclass(frozen=True)
class Point:
    """What a way (None: to send nothing) costs and does: bits per coordinate, the errors of all draws."""

    curve: str
    way: Way | None
    bits: float
    errors: NDArray[np.float64]

    @property
    def error(self) -> float:
        return float(self.errors.mean())


def nothing(rows: NDArray[np.float32]) -> float:
    """Return the error of a server that takes 0 for the mean: W ||mean||^2 over the mean of ||v||^2, at most W."""
    square = np.square(rows.mean(0, dtype=np.float64)).sum()
    return float(square * len(rows) ** 2 / (rows.astype(np.float64) ** 2).sum())


def measured(results: Results) -> dict[str, list[Point]]:
    """Return the points of every way on all vectors, by the name of the vectors; the first is to send nothing."""
    found: dict[str, list[Point]] = {}
    for name, arrays in sources(results).items():
        errors = np.repeat([nothing(rows) for rows in arrays], DRAWS)
        found[name] = [Point(NOTHING, None, 0.0, errors)]
        for curve, curve_ways in ways(arrays[0].shape[1]).items():
            for way in curve_ways:
                bits, each = zip(*(measure(way, rows) for rows in arrays), strict=True)
                found[name].append(Point(curve, way, float(np.mean(bits)), np.concatenate(each)))
    return found


def numbers(results: Results) -> pd.DataFrame:
    """Return bits per coordinate and the normalised error of every way on all vectors, with its standard error."""
    import pandas as pd

    return pd.DataFrame(
        {
            "vectors": name,
            "curve": point.curve,
            "way": str(point.way[0]) if point.way else "",
            "bits per coordinate": point.bits,
            "error": point.error,
            "standard error": point.errors.std(ddof=1) / np.sqrt(point.errors.size),
            "draws": point.errors.size,
        }
        for name, points in results.once(measured).items()
        for point in points
    )


def answers(results: Results) -> list[str]:
    found = results.once(measured)
    over: dict[str, list[float]] = {}
    for point in found["Gaussian"]:
        if point.way is not None and "biased" not in point.curve:
            over.setdefault(point.curve, []).append(point.error * (4**point.bits - 1))
    least = []
    for name, points in found.items():
        for budget in BUDGETS:
            here = {_name(point): point for point in points if point.bits <= budget}
            if here:
                best = min(here.values(), key=lambda point: point.error)
                others = {key: point.errors for key, point in here.items() if point is not best}
                lead = winner(_name(best), compare(others, best.errors, ratio=True)).replace("seed noise", "noise")
                least.append(f"{name}, at most {budget} bits: error {best.error:.3g} at {best.bits:.2f} bits, {lead}")
    noise = max(float(point.errors.std(ddof=1) / point.error) for point in found["Gaussian"]) / np.sqrt(
        found["Gaussian"][0].errors.size
    )
    return [
        "Error over 1/(2^(2R) - 1), Gaussian vectors, least to most over the points of a curve (standard errors are at"
        f" most {100 * noise:.2g}%):"
        + bullets(f"{curve}: {min(ratios):.3g} to {max(ratios):.3g}" for curve, ratios in over.items()),
        f"The least error among the points measured, to send nothing among them:{bullets(least)}",
        _beaten(found),
    ]


def _beaten(found: dict[str, list[Point]]) -> str:
    """Say for every curve and kind of vectors from how many bits on it beats sending nothing."""
    curves = dict.fromkeys(point.curve for points in found.values() for point in points if point.way is not None)
    rows: dict[str, list[str]] = {curve: [] for curve in curves}
    zero = []
    for name, (none, *points) in found.items():
        zero.append(f"{name} {none.error:.3g}")
        better = compare({_name(point): point.errors for point in points}, none.errors, ratio=True)
        for curve in curves:
            here = sorted((point for point in points if point.curve == curve), key=lambda point: point.bits)
            ahead = [better[_name(point)].beyond_noise and point.error < none.error for point in here]
            first = f"from {here[ahead.index(True)].bits:.2f} bits" if any(ahead) else "never"
            after = zip(here[ahead.index(True) :], ahead[ahead.index(True) :], strict=True) if any(ahead) else ()
            late = [f"{point.bits:.2f}" for point, won in after if not won]
            rows[curve].append(first + (f", not at {', '.join(late)}" if late else ""))
    return (
        f"The error of a server that hears nothing and takes 0 for the mean: {'; '.join(zero)}. Of the points measured"
        " these have a smaller error, beyond the noise (bits per coordinate); what errs more is worse than silence as"
        " an estimate, though in training an unbiased one averages out over rounds, and 0 does not."
        + table(list(found), rows)
    )


def _name(point: Point) -> str:
    if point.way is None:
        return NOTHING
    return f"{str(point.way[0]).removeprefix('qsim.compressors.')} ({point.curve})"


def draw(results: Results) -> Figure:
    found = results.once(measured)
    curves = list(dict.fromkeys(point.curve for points in found.values() for point in points if point.way is not None))
    rows = (len(found) + 1) // 2
    with figure_grid(rows, 2, height=2.4 * rows + 0.7) as (figure, axes):
        for ax in axes.flat[len(found) :]:
            ax.set_axis_off()
        for ax, (name, points) in zip(axes.flat, found.items(), strict=False):
            ax.axhline(points[0].error, color="0.4", linestyle="-.", linewidth=0.8, label=NOTHING)
            for place, curve in enumerate(curves):
                line = sorted((point.bits, point.error) for point in points if point.curve == curve)
                ax.plot(*zip(*line, strict=True), label=curve, **look(place))
            if name == "Gaussian":
                rates = np.linspace(0.05, 8, 200)
                ax.plot(rates, 4.0**-rates, color="0.6", linestyle="--", label="limit $2^{-2R}$")
                ax.plot(rates, 1 / (4.0**rates - 1), color="0.6", linestyle=":", label="limit $1/(2^{2R} - 1)$")
            ax.set(xscale="log", yscale="log", xlabel="bits per coordinate", ylabel="normalised error")
        panel_letters(axes.flat, list(found))
        legend_below(figure, axes.flat)
    return figure


study = Study(
    title="Mean estimation: normalised error against bits per coordinate, with the distortion limits",
    questions=(
        "How far is each from the limit on Gaussian vectors?",
        "What has the least error at 1, 2 and 4 bits?",
        "Which beat sending nothing, and from how many bits on?",
    ),
    defaults=Settings(data="adult", workers=8, rounds=100, seeds=3),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
    takes=("data", "workers", "rounds", "seeds", "vectors"),
)
