"""Topologies: a server against all-reduces and all-gather, over message size and workers, and where they cross."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.batch import Vectors
from qsim.channel import Channel
from qsim.codecs import FixedWidth
from qsim.compressors import QSGD, Bucketed, Identity, RandK, ScaledSign, TopK
from qsim.network import AllGather, HalvingDoubling, Link, ParameterServer, Ring, Topology, Tree
from qsim.study import Cell, Results, Settings, Study, bullets, figure_grid, look, panel_letters, table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N = 1_000_000
LINK = Link(bandwidth=1e10, latency=5e-5)
SIZES = tuple(float(f"{10**e:.3g}") for e in np.arange(2, 9.01, 0.25))
WORKERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 2048, 4096, 10_000)
LARGEST, MOST = 4096, 100_000
UNCOMPRESSED = "uncompressed"
WAYS: dict[str, Channel] = {
    UNCOMPRESSED: Channel(Identity()),
    "QSGD, 8 bit": Channel(Bucketed(QSGD(127, "max"), 512), FixedWidth()),
    "QSGD, 4 bit": Channel(Bucketed(QSGD(7, "max"), 512), FixedWidth()),
    "scaled sign": Channel(ScaledSign()),
    "Top 1%": Channel(TopK(N // 100)),
    "Rand 1%, drawn": Channel(RandK(N // 100, "drawn")),
}
REDUCES: dict[str, Topology] = {"ring": Ring(), "tree": Tree(), "halving-doubling": HalvingDoubling()}


def topologies(p: int) -> dict[str, Topology]:
    """Return the topologies; the sharded server has as many servers as workers."""
    return {
        "one server": ParameterServer(),
        "a server per worker": ParameterServer(p),
        **REDUCES,
        "all-gather": AllGather(),
    }


def seconds(topology: Topology, p: int, up: float, down: float | None = None) -> float:
    """Return what one sum of messages of `up` bytes takes until all p workers have it; a server sends `down` bytes."""
    back = topology.broadcast(down or up, p * (down or up), LINK) if topology.has_server else 0.0
    return topology.collect(np.full(p, up), LINK) + back


def cells(settings: Settings) -> list[Cell]:
    return []


def setting(settings: Settings) -> str:
    return (
        "Seconds until all of p workers have the sum of their messages, on links of"
        f" {LINK.bandwidth / 1e9:g} Gbit/s each way and a latency of {1e6 * LINK.latency:g} us; nothing is computed,"
        " encoded or waited for. Servers get the messages and send the sum, as many bytes as a message, to each worker;"
        f" a server per worker means p more machines. (a) p = {settings.workers}; (b) messages of {4 * N / 1e6:g} MB,"
        " float32 numbers; (c) the fastest of one server and the all-reduces, for p a power of two, or half-way between"
        f" two. (d) n = {N:,} Gaussian numbers, the mean over {settings.seeds} draws of the real packets' bytes,"
        " headers left out. Messages that can be added (numbers at drawn positions, and uncompressed) go by the fastest"
        " all-reduce, the others by all-gather. QSGD with the max norm in buckets of 512 at s = 127 and 7, by a code of"
        " fixed width."
    )


@lru_cache
def lengths(seeds: int) -> dict[str, float]:
    """Return the mean bytes of a packet of n Gaussian numbers, by compressor."""
    rows = [qsim.Key(seed).generator().standard_normal(N).astype(np.float32) for seed in range(seeds)]
    keys = qsim.Key(0).words(0, seeds)
    found = {}
    for name, channel in WAYS.items():
        _, packets = channel.pack(Vectors.dense(np.stack(rows)), keys)
        found[name] = packets.bits / 8 / seeds
    return found


def compressed(name: str, p: int, size: float) -> float:
    """Return the seconds of an exchange of compressed messages: all-reduce if they can be added, else all-gather."""
    return reduced(p, size) if WAYS[name].sums_in_flight else seconds(AllGather(), p, size)


def reduced(p: int, size: float) -> float:
    """Return the seconds of the fastest all-reduce."""
    return min(seconds(topology, p, size) for topology in REDUCES.values())


def crossing(size: float, whole: float) -> int | None:
    """Return the first p at which an all-reduce of whole messages is faster than an all-gather of others; or None."""
    slower = (p for p in range(2, MOST) if seconds(AllGather(), p, size) > reduced(p, whole))
    return next(slower, None)


def later(size: float, whole: float, cross: int) -> list[int]:
    """Return the p from the crossing on at which all-gather is faster again: those whose all-reduce must fold.

    Folding makes an all-reduce about twice as long, and all-gather grows as p: four times the crossing is enough.
    """
    return [p for p in range(cross, 4 * cross) if seconds(AllGather(), p, size) <= reduced(p, whole)]


def fastest(p: int, size: float) -> str:
    """Return which topology with no further machine (but one server) is the fastest."""
    found = {
        name: seconds(topology, p, size)
        for name, topology in topologies(p).items()
        if name not in ("all-gather", "a server per worker")
    }
    return min(found, key=lambda name: found[name])


def between() -> list[int]:
    """Return powers of two, and what is half-way between."""
    powers = [2**k for k in range(1, LARGEST.bit_length())]
    return sorted({*powers, *(3 * power // 2 for power in powers if 2 < 3 * power // 2 < LARGEST)})


def numbers(results: Results) -> pd.DataFrame:
    """Return a row for each topology, number of workers and size, and for each compressor and number of workers."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for panel, ps, sizes in (("size", (results.settings.workers,), SIZES), ("workers", WORKERS, (4.0 * N,))):
        rows += [
            {"panel": panel, "curve": name, "workers": p, "bytes": size, "seconds": seconds(topology, p, size)}
            for p in ps
            for size in sizes
            for name, topology in topologies(p).items()
        ]
    rows += [
        {"panel": "compressed", "curve": name, "workers": p, "bytes": size, "seconds": compressed(name, p, size)}
        for name, size in lengths(results.settings.seeds).items()
        for p in WORKERS
    ]
    rows += [
        {"panel": "fastest", "curve": fastest(p, size), "workers": p, "bytes": size}
        for p in between()
        for size in SIZES
    ]
    return pd.DataFrame(rows)


def answers(results: Results) -> list[str]:
    found, whole, measured = results.once(numbers), 4.0 * N, lengths(results.settings.seeds)
    best = found[found["panel"] == "fastest"]
    shares = [f"{name} {share:.0%}" for name, share in best["curve"].value_counts(normalize=True).items()]
    p = results.settings.workers
    up_to = {
        q: max((size for size in SIZES if fastest(q, size) == "one server"), default=0.0) for q in (4, 16, p, 1024)
    }
    crossings = []
    for name, size in measured.items():
        if not WAYS[name].sums_in_flight:
            cross = crossing(size, whole)
            until = f"at any p below {MOST:,}" if cross is None else f"up to p = {cross - 1:,}"
            if cross is not None and (again := later(size, whole, cross)):
                until += f", and at {len(again)} larger p, none of them a power of two, the largest {again[-1]:,}"
            crossings.append(f"{name} ({size:,.0f} bytes, {whole / size:.3g} times fewer): {until}")
    shown = (4, 16, 64, 256)
    times = table(
        [f"p = {q}" for q in shown],
        {name: [f"{1e3 * compressed(name, q, size):.3g} ms" for q in shown] for name, size in measured.items()},
    )
    ratios = {
        name: [seconds(topologies(q)[name], q, whole) / reduced(q, whole) for q in (16, 1024)]
        for name in ("one server", "a server per worker")
    }
    return [
        f"Of one server and the all-reduces, over the {len(best):,} sizes and p of (c): {', '.join(shares)}."
        " Where p is not a power of two, halving-doubling sends whole messages to and from the machines in excess,"
        " and the"
        " ring is ahead for long messages. The tree is never the fastest: halving-doubling has the same latencies and"
        " sends fewer bytes.",
        f"All-gather of compressed messages of {N:,} numbers is faster than the fastest all-reduce of"
        f" {whole / 1e6:g} MB:{bullets(crossings)}\n\nAn exchange takes:{times}",
        "For small messages, whose cost is the latency. One server is the fastest up to, in steps of a quarter of a"
        f" power of ten, {'; '.join(f'{size:,.0f} bytes at p = {q:,}' for q, size in up_to.items())}. For"
        f" {whole / 1e6:g} MB it takes {ratios['one server'][0]:.3g} times as long as the fastest all-reduce at p = 16,"
        f" and {ratios['one server'][1]:.3g} times at 1,024: its link carries p messages each way. A server per worker"
        f" takes {ratios['a server per worker'][0]:.3g} and {ratios['a server per worker'][1]:.3g} times as long.",
    ]


def curves(ax: Axes, found: pd.DataFrame, panel: str, x: str) -> None:
    """Draw a line for each curve of a panel."""
    part = found[found["panel"] == panel]
    for place, (name, line) in enumerate(part.groupby("curve", sort=False)):
        style = look(place) | {"markevery": 4 if len(line) > 20 else 3}
        ax.plot(line[x], line["seconds"], label=name, **style)
    ax.set(xscale="log", yscale="log", xlabel="bytes of a message" if x == "bytes" else "workers p", ylabel="seconds")


def winners(ax: Axes, found: pd.DataFrame) -> None:
    """Draw which topology is the fastest, by size and workers."""
    part = found[found["panel"] == "fastest"]
    for place, name in enumerate(topologies(2)):
        here: NDArray[np.bool_] = (part["curve"] == name).to_numpy()
        if here.any():
            style = {"color": look(place)["color"], "marker": look(place)["marker"], "linestyle": "none"}
            ax.plot(part["bytes"][here], part["workers"][here], label=name, markersize=2.5, **style)
    ax.set(xscale="log", yscale="log", xlabel="bytes of a message", ylabel="workers p")


def figure(results: Results) -> Figure:
    found = results.once(numbers)
    with figure_grid(2, 2, height=5.0) as (drawn, axes):
        curves(axes[0, 0], found, "size", "bytes")
        curves(axes[0, 1], found, "workers", "workers")
        winners(axes[1, 0], found)
        curves(axes[1, 1], found, "compressed", "workers")
        axes[0, 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes[1, 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        panel_letters(
            axes.flat,
            (
                f"time against size, {results.settings.workers} workers",
                "time against workers, 4 MB",
                "the fastest topology",
                "compressed messages",
            ),
        )
    return drawn


study = Study(
    title="Topologies: a server, all-reduces and all-gather, and where they cross",
    questions=(
        "Which topology is the fastest for uncompressed messages?",
        "How many workers can all-gather compressed messages before an all-reduce of whole ones is faster?",
        "When is one server enough?",
    ),
    defaults=Settings(data="adult", workers=64, rounds=1, seeds=3),
    takes=("workers", "seeds"),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
)
