"""DRIVE and EDEN: the error of a mean of compressed vectors against dimension, clients and bits (2021, 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.batch import Vectors
from qsim.codecs import Codec, FixedWidth
from qsim.compressors import Compressor
from qsim.study import (
    Band,
    Cell,
    Claim,
    PaperStudy,
    Results,
    Settings,
    Value,
    draw_band,
    figure_grid,
    legend_below,
    log_axes,
    panel_letters,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DIMENSIONS = (2**7, 2**9, 2**11, 2**13)
CLIENTS = (1, 4, 16, 64)
BITS = (1, 2, 3, 4)
FIXED_CLIENTS = 10
Way = Callable[[int], tuple[Compressor, Codec | None]]
"""What sends about this many bits per coordinate, and its code."""

WAYS: dict[str, Way] = {
    "EDEN": lambda bits: (qsim.EDEN(bits), None),
    "QUIC-FL": lambda bits: (qsim.QUICFL(bits), None),
    "QSGD, max": lambda bits: (qsim.QSGD(max(1, 2 ** (bits - 1) - 1), norm="max"), FixedWidth()),
    "QSGD, l2": lambda bits: (qsim.QSGD(max(1, 2 ** (bits - 1) - 1)), FixedWidth()),
}
LIMITS = {1: np.pi / 2 - 1, 2: 0.133, 3: 0.0358, 4: 0.00959}
"""Of long vectors, by EDEN's bits: D/(1 - D) with D the least error of so many bits for a Gaussian coordinate."""


@lru_cache(maxsize=256)
def errors(way: str, bits: int, n: int, clients: int, seeds: int) -> tuple[tuple[float, float], ...]:
    """Return for each seed the error of the mean over the mean square norm, times clients; and bits per coordinate."""
    compressor, codec = WAYS[way](bits)
    channel = qsim.channel.Channel(compressor, codec)
    found = []
    for seed in range(seeds):
        draw = qsim.Key(seed).fold(n).fold(clients).generator()
        vectors = draw.lognormal(size=(clients, n)).astype(np.float32)
        keys = qsim.Key(seed).fold(bits).words(0, clients)
        message = compressor.compress(Vectors.dense(vectors), keys)
        sent = channel.codec.encode(message)
        decoded = compressor.decompress(message, keys).to_dense().astype(np.float64)
        off = np.sum((decoded.mean(axis=0) - vectors.mean(axis=0, dtype=np.float64)) ** 2)
        square = np.mean(np.sum(vectors.astype(np.float64) ** 2, axis=1))
        found.append((float(clients * off / square), float(sent.bits) / (clients * n)))
    return tuple(found)


def samples(way: str, bits: int, n: int, clients: int, seeds: int) -> NDArray[np.float64]:
    return np.array([error for error, _ in errors(way, bits, n, clients, seeds)])


def cells(settings: Settings) -> Sequence[Cell]:
    """Nothing is trained."""
    return []


def setting(settings: Settings) -> str:
    return (
        "Vectors of independent lognormal(0, 1) coordinates, as in the papers; the error is that of the mean of what"
        " clients send over the mean square norm of their vectors, times the number of clients (the papers' NMSE is"
        f" that divided by clients). (a) against the dimension, {FIXED_CLIENTS} clients, 1 bit; (b) against clients,"
        f" n = {DIMENSIONS[-1]:,}, 1 bit; (c) against the bits that were really sent, positions and scales with them."
        f" {settings.seeds} draws of vectors and keys; bands are {settings.bands.words}. QSGD has as many levels as b"
        " bits with a sign hold (one at least, which takes two bits); its codes have fixed width. Nothing is"
        " trained."
    )


def ratio(way: str, bits: int) -> Callable[[Results], NDArray[np.float64]]:
    def of(results: Results) -> NDArray[np.float64]:
        size = (DIMENSIONS[-1], FIXED_CLIENTS, results.settings.seeds)
        return samples("EDEN", bits, *size) / samples(way, bits, *size)

    return of


def falls_with_clients(results: Results) -> NDArray[np.float64]:
    """Return the error, times clients, of many clients over that of one."""
    most, seeds = CLIENTS[-1], results.settings.seeds
    return samples("EDEN", 1, DIMENSIONS[-1], most, seeds) / samples("EDEN", 1, DIMENSIONS[-1], 1, seeds)


def values(results: Results) -> list[Value]:
    seeds = results.settings.seeds
    where = "the limit for long vectors, derived in docs/theory.md (the papers state it)"
    why = f"n = {DIMENSIONS[-1]:,} and {seeds} draws, not the limit"
    return [
        Value(
            f"error of EDEN, {bits} bit{'s' * (bits > 1)}",
            limit,
            float(samples("EDEN", bits, DIMENSIONS[-1], FIXED_CLIENTS, seeds).mean()),
            where,
            why,
            within=0.05,
        )
        for bits, limit in LIMITS.items()
    ]


def differs(results: Results) -> list[str]:
    sent = {way: errors(way, 1, DIMENSIONS[-1], FIXED_CLIENTS, results.settings.seeds)[0][1] for way in WAYS}
    return [
        f"Dimension: the papers go on to 2^19 and more; here to {DIMENSIONS[-1]:,}, where EDEN's error is flat.",
        "Bits: the papers give every method b bits per coordinate. Sent at b = 1: "
        + ", ".join(f"{way} {bits:.3g}" for way, bits in sent.items())
        + ". QSGD with a sign and one level has three symbols, so two bits at a fixed width; even so its error is"
        " larger.",
        "Rivals: Kashin's representation and count sketch, which the papers compare with, are not here. QUIC-FL"
        " (Ben Basat et al., ICML 2024) is later; it is unbiased for every vector; its outliers take 0.1 bits more.",
        "Rotation: EDEN has two Hadamard rotations here and one there, without which lognormal vectors of few"
        " coordinates are visibly biased.",
        "Downlink: a mean is asked for once, so nothing is sent back, and bits both ways are those of the uplink.",
    ]


def draw(results: Results) -> Figure:
    seeds = results.settings.seeds

    def band(way: str, at: Sequence[int], sizes: Sequence[tuple[int, int, int]], bits: bool = False) -> Band:
        found = [np.log(samples(way, *size, seeds)) for size in sizes]
        mean = np.array([values.mean() for values in found])
        ends = [results.settings.bands.interval(v[:, None]) if seeds > 1 else (v, v) for v in found]
        low, high = (np.array([float(end[side][0]) for end in ends]) for side in (0, 1))
        across = [errors(way, *size, seeds)[0][1] for size in sizes] if bits else at
        return Band(np.asarray(across, np.float64), np.exp(mean), np.exp(low), np.exp(high))

    with figure_grid(1, 3, height=2.6) as (figure, axes):
        for place, way in enumerate(WAYS):
            by_n = band(way, DIMENSIONS, [(1, n, FIXED_CLIENTS) for n in DIMENSIONS])
            by_clients = band(way, CLIENTS, [(1, DIMENSIONS[-1], clients) for clients in CLIENTS])
            by_bits = band(way, BITS, [(bits, DIMENSIONS[-1], FIXED_CLIENTS) for bits in BITS], bits=True)
            for ax, shown in zip(axes[0], (by_n, by_clients, by_bits), strict=True):
                draw_band(ax, shown, place, way, log=True)
        for ax, label in zip(axes[0], ("dimension n", "clients", "bits per coordinate"), strict=True):
            ax.set(xlabel=label, ylabel="error times clients")
            log_axes(ax, *("xy" if label != "bits per coordinate" else "y"))
        axes[0, 0].axhline(LIMITS[1], color="0.4", linewidth=0.8, linestyle=(0, (4, 2)), label="EDEN's limit, 1 bit")
        axes[0, 1].axhline(LIMITS[1], color="0.4", linewidth=0.8, linestyle=(0, (4, 2)))
        panel_letters(axes.flat, ("dimension", "clients", "bits"))
        legend_below(figure, axes.flat)
    return figure


def numbers(results: Results) -> pd.DataFrame:
    import pandas as pd

    seeds = results.settings.seeds
    sizes = {(1, n, FIXED_CLIENTS) for n in DIMENSIONS} | {(1, DIMENSIONS[-1], clients) for clients in CLIENTS}
    sizes |= {(bits, DIMENSIONS[-1], FIXED_CLIENTS) for bits in BITS}
    rows: list[dict[str, Any]] = []
    for way in WAYS:
        for bits, n, clients in sorted(sizes):
            found = samples(way, bits, n, clients, seeds)
            sent = errors(way, bits, n, clients, seeds)[0][1]
            rows.append(
                {"curve": way, "bits": bits, "n": n, "clients": clients, "seeds": seeds, "bits per coordinate": sent}
                | {"error": found.mean(), "spread": found.std(ddof=1) if seeds > 1 else 0.0}
            )
    return pd.DataFrame(rows)


study = PaperStudy(
    title="DRIVE and EDEN: the error of a compressed mean",
    paper=(
        "Vargaftik, Ben Basat, Portnoy, Mendelson, Ben-Itzhak, Mitzenmacher, *DRIVE: one-bit distributed mean"
        " estimation*, NeurIPS 2021 (2105.08339), and *EDEN: communication-efficient and robust distributed mean"
        " estimation for federated learning*, ICML 2022 (2108.08842)."
    ),
    claims=(
        Claim("EDEN's error is below QSGD's (max norm) at 1 bit", ratios=ratio("QSGD, max", 1)),
        Claim("... and at 4 bits", ratios=ratio("QSGD, max", 4)),
        Claim("EDEN's error is below QSGD's (l2 norm) at 1 bit", ratios=ratio("QSGD, l2", 1)),
        Claim(
            f"The error falls as 1/clients: that of {CLIENTS[-1]}, times clients, is that of 1",
            least=0.9,
            most=1.1,
            ratios=falls_with_clients,
        ),
    ),
    differs=differs,
    values=values,
    defaults=Settings(data="spark_sample", workers=1, rounds=1, seeds=10),
    takes=("seeds",),
    cells=cells,
    setting=setting,
    draw=draw,
    numbers=numbers,
)
