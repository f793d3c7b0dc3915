"""Distributed mean estimation: the error of the mean of compressed vectors against bits a coordinate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.batch import Vectors
from qsim.codecs import RANS, Codec, FixedWidth
from qsim.compressors import Compressor
from qsim.datasets import DataError
from qsim.datasets.block import Block
from qsim.study import STYLE, TEXT_WIDTH, Cell, Results, Settings, Study, look
from qsim.weights import Replica

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

N = 2**13
LEVELS = (1, 4, 16, 64, 256)
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)
DRAWS = 5
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
    """Read vectors, one a client. Raises DataError for what is not a finite (clients, n) array of numbers."""
    if not Path(path).is_file():
        raise DataError(f"--vectors: there is no file {path!r}")
    try:
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
    data = qsim.datasets.load(settings.data)
    return [
        Cell(
            Path(settings.data).name,
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
    data = qsim.datasets.load(settings.data)
    given = "" if settings.vectors is None else f" The vectors of {settings.vectors} are in the last panel."
    return (
        f"{settings.workers} clients, n = {N}: independent Gaussian and Student t (3 degrees of freedom) coordinates,"
        f" {settings.seeds} draws; the gradients of {settings.workers} workers for logistic regression (l2 ="
        f" {OBJECTIVE.l2:g}) on {data.name} (n = {data.features}), at the start (early) and after {settings.rounds}"
        f" iterations of uncompressed gradient descent with step 1/L (late).{given} Every client compresses with a key"
        " of its own; the server averages what it decodes. Error: W ||mean of decoded - mean||^2 over the mean of"
        " ||v||^2, W the number of clients: omega for independent, unbiased clients whose error attains omega"
        f" ||v||^2. Averages of {DRAWS} draws of keys. Bits: whole packets, without the stream header. Limits, for"
        " independent Gaussian coordinates and long vectors: 2^(-2R) is the least error of one client at R bits"
        " (Shannon 1959); 1/(2^(2R) - 1) is that error after scaling to be unbiased (as in EDEN, Vargaftik et al."
        " 2022). Neither bounds the error on other vectors, which can be easier."
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
        f"{cell.curve}, early": [gradients(cell.run, np.zeros(weights.size))],
        f"{cell.curve}, late": [gradients(cell.run, weights)],
    }
    if settings.vectors is not None:
        found[Path(settings.vectors).name] = [recorded(settings.vectors)]
    return found


def gradients(run: qsim.Run, weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the gradient of every worker's rows."""
    shards = run.partition.split(run.load(), run.workers, qsim.Key(run.seed).fold(qsim.keys.Purpose.PARTITION))
    block = Block(shards, 0, run.workers)
    update = run.objective.update(block, block.all_rows(), Replica(weights.astype(np.float32)), 1.0)
    return np.asarray(update.to_dense(), np.float32)


def measure(way: Way, rows: NDArray[np.float32]) -> tuple[float, float]:
    """Return bits a coordinate and the normalised error, averaged over draws of keys."""
    channel = qsim.Channel(*way)
    batch, true = Vectors.dense(rows), rows.mean(0, dtype=np.float64)
    scale = (rows.astype(np.float64) ** 2).sum() / len(rows) ** 2
    bits, errors = 0.0, []
    for draw in range(DRAWS):
        keys = qsim.Key(draw).words(0, len(rows))
        header, packets = channel.pack(batch, keys)
        mean = channel.unpack(header, packets, keys).to_dense().mean(0, dtype=np.float64)
        bits += float(np.sum(packets.bits)) / rows.size / DRAWS
        errors.append(float(((mean - true) ** 2).sum()) / scale)
    return bits, float(np.mean(errors))


_TABLES: dict[int, pd.DataFrame] = {}


def numbers(results: Results) -> pd.DataFrame:
    """Return bits a coordinate and the normalised error of every way on all vectors."""
    import pandas as pd

    if id(results) not in _TABLES:
        found: list[dict[str, Any]] = []
        for name, arrays in sources(results).items():
            for curve, curve_ways in ways(arrays[0].shape[1]).items():
                for way in curve_ways:
                    bits, errors = np.mean([measure(way, rows) for rows in arrays], axis=0)
                    found.append(
                        {
                            "vectors": name,
                            "curve": curve,
                            "way": str(way[0]),
                            "bits a coordinate": bits,
                            "error": errors,
                        }
                    )
        _TABLES[id(results)] = pd.DataFrame(found)
    return _TABLES[id(results)]


def answers(results: Results) -> list[str]:
    table = numbers(results)
    gaussian = table[table["vectors"] == "Gaussian"]
    over = gaussian["error"] * (4 ** gaussian["bits a coordinate"] - 1)
    near = "".join(
        f"\n- {curve}: {over[gaussian['curve'] == curve].min():.3g} to {over[gaussian['curve'] == curve].max():.3g}"
        for curve in dict.fromkeys(gaussian["curve"])
        if "biased" not in curve
    )
    least = []
    for name in dict.fromkeys(table["vectors"]):
        for budget in (1.1, 2.1, 4.1):
            here = table[(table["vectors"] == name) & (table["bits a coordinate"] <= budget)]
            if len(here):
                best = here.loc[here["error"].idxmin()]
                least.append(
                    f"\n- {name}, at most {budget} bits: {best['way']} ({best['curve']}), error {best['error']:.3g} at"
                    f" {best['bits a coordinate']:.2f} bits"
                )
    return [
        "Error over 1/(2^(2R) - 1), Gaussian vectors, least to most over the points of a curve:\n" + near,
        "The least error among the points measured:\n" + "".join(least),
    ]


def draw(results: Results) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    table = numbers(results)
    names = list(dict.fromkeys(table["vectors"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 2.4 * ((len(names) + 1) // 2) + 0.7), layout="constrained")
        axes = figure.subplots((len(names) + 1) // 2, 2, squeeze=False).ravel()
        for ax in axes[len(names) :]:
            ax.set_axis_off()
        for ax, name, letter in zip(axes, names, "abcdefgh", strict=False):
            here = table[table["vectors"] == name]
            for place, curve in enumerate(dict.fromkeys(table["curve"])):
                line = here[here["curve"] == curve].sort_values("bits a coordinate")
                hollow = {"markerfacecolor": "none", "markersize": 6} if place >= 8 else {}  # the looks come again
                ax.plot(line["bits a coordinate"], line["error"], label=curve, **look(place), **hollow)
            if name == "Gaussian":
                rates = np.linspace(0.05, 8, 200)
                ax.plot(rates, 4.0**-rates, color="0.6", linestyle="--", label="limit $2^{-2R}$")
                ax.plot(rates, 1 / (4.0**rates - 1), color="0.6", linestyle=":", label="limit $1/(2^{2R} - 1)$")
            ax.set(xscale="log", yscale="log", xlabel="bits a coordinate", ylabel="normalised error")
            ax.set_title(f"({letter}) {name}", loc="left")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


study = Study(
    title="Mean estimation: normalised error against bits a coordinate, with the distortion limits",
    questions=("How far is each from the limit on Gaussian vectors?", "What has the least error at 1, 2 and 4 bits?"),
    defaults=Settings(data="adult", workers=8, rounds=100, seeds=3),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
    recorded=True,
)
