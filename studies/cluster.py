"""Seconds per round on Serial, Processes, Spark and Ray, beside the naive loop in PySpark. It measures time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from operator import add
from shutil import which
from typing import TYPE_CHECKING, Any

import numpy as np

import qsim
from qsim.batch import Arrays, Vectors
from qsim.engines import Engine, Processes, Ray, Serial, Session, Spark
from qsim.study import (
    Band,
    Cell,
    Results,
    Settings,
    Study,
    bullets,
    compare,
    draw_band,
    figure_grid,
    legend_below,
    look,
    panel_letters,
    table,
)
from qsim.study.statistics import band
from qsim.workers.tasks import Job, Order, Reply

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Place = tuple[qsim.datasets.Source, int]
"""Data, and the number of workers."""

SYNTHETIC = "synthetic"
ROWS, FEATURES, NONZEROS = (1_000, 10_000, 100_000), 1_000, 20
DENSE = 20_000_000
"""How many numbers the dense rows of the loop may be: 160 MB. Spark's memory on one machine is 1 GB, unless asked."""
WORKERS = (2,)
"""The numbers of workers beside `Settings.workers`."""
STEP, TARGET, LONGEST = 0.3, 0.05, 2_000
SHORTER = 8
"""How many times fewer rounds the loop has: one of them takes as long as hundreds of the others."""


@qsim.option
class PySparkLoop(Engine):
    """The loop of the exercise: dense rows in an RDD, weights by broadcast, gradients by map, their sum by reduce.

    For qsim it is a single worker, which sends the step of all rows, uncompressed; partitions are its workers.
    """

    partitions: int

    def started(self) -> AbstractContextManager[None]:
        return Spark().started()

    def open(self, job: Job) -> Session:
        return _LoopSession(job, self.partitions)


class _LoopSession(Session):
    def __init__(self, job: Job, partitions: int) -> None:
        from pyspark.sql import SparkSession

        self._job, data = job, job.shards.dataset
        self._rows, self._context = data.rows, SparkSession.builder.getOrCreate().sparkContext
        dense, signs = data.to_scipy().toarray().astype(np.float64), np.asarray(data.labels, np.float64)
        parts = list(zip(np.array_split(dense, partitions), np.array_split(signs, partitions), strict=True))
        self._parts = self._context.parallelize(parts, partitions).cache()

    def round(self, order: Order) -> Iterator[Reply]:
        weights = self._context.broadcast(order.weights.scale * order.weights.vector.astype(np.float64))

        def gradient(part: Any) -> Any:  # of the logistic loss, summed over the rows of a partition
            rows, signs = part
            return -(signs / (1 + np.exp(signs * (rows @ weights.value)))) @ rows

        update = STEP * self._parts.map(gradient).reduce(add) / self._rows
        key = order.key(self._job.key)
        header, packets = self._job.channel.pack(Vectors.dense(update.astype(np.float32)[None]), key.words(0, 1))
        yield Reply(0, header, packets, self._rows)

    def snapshot(self) -> Arrays:
        return {}

    def restore(self, snapshot: Arrays) -> None:
        pass

    def __exit__(self, *problem: Any) -> None:
        self._parts.unpersist()


LOOP = "PySpark loop"
ENGINES: dict[str, Engine] = {"Serial": Serial(), "Processes": Processes(), "Spark": Spark(), "Ray": Ray()}


def missing() -> dict[str, str]:
    """Return what cannot be measured here, and what it lacks."""
    java = which("java") or "JAVA_HOME" in os.environ
    lacks = {name: f"{name} is not installed" for name in ("pyspark", "ray") if find_spec(name) is None}
    spark = lacks.get("pyspark") or (None if java else "there is no Java")
    found = {"Spark": spark, LOOP: spark, "Ray": lacks.get("ray")}
    return {name: lack for name, lack in found.items() if lack}


def sources(settings: Settings) -> list[qsim.datasets.Source]:
    """Return the data, from few rows to many."""
    if settings.data != SYNTHETIC:
        source = qsim.datasets.load(settings.data).source
        assert source is not None
        return [source]
    return [qsim.datasets.Synthetic(rows, FEATURES, NONZEROS) for rows in ROWS]


def middle(settings: Settings) -> qsim.datasets.Source:
    """Return the data that the numbers of workers, the parts of a round and the target are measured on."""
    return sources(settings)[len(sources(settings)) // 2]


def grid(settings: Settings) -> list[int]:
    """Return the numbers of workers."""
    return sorted({min(workers, settings.workers) for workers in (*WORKERS, settings.workers)})


def full(settings: Settings) -> Place:
    """Return where the parts of a round and the target are measured."""
    return middle(settings), settings.workers


def without_rows(settings: Settings) -> Place:
    """Return data of as many features, with a row for each worker."""
    features = middle(settings).load().features
    return qsim.datasets.Synthetic(settings.workers, features, min(NONZEROS, features / 2)), settings.workers


def without_all(settings: Settings) -> Place:
    """Return data of two features, with a row for each worker."""
    return qsim.datasets.Synthetic(settings.workers, 2, 1), settings.workers


def places(settings: Settings) -> list[Place]:
    """Return where rounds are timed, without those that the parts of a round are told by."""
    sizes = [(source, settings.workers) for source in sources(settings)]
    return sizes + [(middle(settings), workers) for workers in grid(settings) if workers != settings.workers]


def names(place: Place) -> list[str]:
    """Return what is measured at a place."""
    data = place[0].load()
    everything = [*ENGINES, LOOP] if data.rows * data.features <= DENSE else list(ENGINES)
    return [name for name in everything if name not in missing()]


def curve(name: str, place: Place) -> str:
    data = place[0].load()
    return f"{name}, {data.rows} x {data.features}, W = {place[1]}"


def goal(compressed: bool) -> str:
    return f"rounds to the target, {'QSGD' if compressed else 'uncompressed'}"


def run(place: Place, seed: int, rounds: int, compressed: bool = True, **more: Any) -> qsim.Run:
    source, workers = place
    return qsim.Run(
        source,
        objective=qsim.LogisticRegression(l2=1e-3),
        method=qsim.GradientDescent(step=qsim.steps.Constant(STEP)),
        compressor=qsim.QSGD(levels=4) if compressed else qsim.Identity(),
        codec=qsim.codecs.Varint() if compressed else None,
        workers=workers,
        rounds=rounds,
        seed=seed,
        **more,
    )


def cells(settings: Settings) -> list[Cell]:
    """Return the cells, seed by seed, so that what else the machine does meets all engines."""
    timed = [*places(settings), without_rows(settings), without_all(settings)]
    plain: dict[str, Any] = {"evaluate_every": 10**9, "optimum": False}
    target = qsim.stopping.Suboptimality(TARGET)
    found = []
    for seed in range(settings.seeds):
        for place in timed:
            for name in names(place):
                if name == LOOP:
                    rounds = max(2, settings.rounds // SHORTER)
                    alone = run((place[0], 1), seed, rounds, compressed=False, **plain)
                    found.append(Cell(curve(name, place), alone, PySparkLoop(place[1])))
                else:
                    found.append(Cell(curve(name, place), run(place, seed, settings.rounds, **plain), ENGINES[name]))
        found += [Cell(goal(c), run(full(settings), seed, LONGEST, c, until=target)) for c in (True, False)]
    return found


def load() -> str:
    """Say how busy the machine is."""
    if not hasattr(os, "getloadavg"):
        return ""
    busy, cores = os.getloadavg()[2], os.cpu_count() or 1
    other = ", so that other work took much of them: on an idle machine rounds are faster" if busy > 2 * cores else ""
    return f" (load: {busy:.1f}{other})"


def setting(settings: Settings) -> str:
    shown = [source.load() for source in sources(settings)]
    out = [f"{name} ({lack})" for name, lack in missing().items()]
    if LOOP not in missing():
        sizes = [d for d in shown if d.rows * d.features > DENSE]
        out += [
            f"the {LOOP} on {d.rows:,} rows, which are {8e-9 * d.rows * d.features:.2g} GB when dense" for d in sizes
        ]
    return (
        "Gradient descent on the logistic loss with l2 = 0.001: each round every worker sends the gradient of all its"
        f" rows, and the weights come back dense; step {STEP}, on {', '.join(map(repr, shown))}. qsim's engines"
        f" quantize by QSGD with s = 4 in the varint code. The {LOOP} is the exercise as it is usually solved, without"
        " quantization: a dense NumPy matrix for each worker in a cached RDD, weights by broadcast, gradients by `map`,"
        " their sum by `reduce`. Processes, Spark tasks and Ray actors are one a core, all on one machine."
        f"{' Left out: ' + '; '.join(out) + '.' if out else ''} The median of {settings.rounds} rounds"
        f" ({max(2, settings.rounds // SHORTER)} of the loop) without the first, by the clock on the wall, on"
        f" {os.cpu_count()} cores{load()}; the engines take turns. Geometric means over seeds 0 to"
        f" {settings.seeds - 1}, parts of a round arithmetic ones. Bands and intervals: {settings.bands.words} over"
        " seeds (of logarithms, but for parts), those of a list of comparisons jointly (Bonferroni). These are times:"
        " they differ from run to run and between machines."
    )


def timed(results: Results, name: str, place: Place) -> Band:
    """Return the geometric mean over seeds, in milliseconds per round."""
    samples = 1e3 * results.round_seconds(curve(name, place))[:, None]
    return band(np.zeros(1), samples, results.settings.bands, logarithmic=True)


def parts(results: Results, name: str) -> dict[str, Band]:
    """Return the parts of a round on the middle data, in milliseconds: means over seeds of differences of medians."""
    settings = results.settings
    ends = without_all(settings), without_rows(settings), full(settings)
    engine, network, whole = (1e3 * results.round_seconds(curve(name, place))[:, None] for place in ends)
    samples = {"engine": engine, "network": network - engine, "compute": whole - network}
    return {part: band(np.zeros(1), found, settings.bands) for part, found in samples.items()}


def rounds_to_target(results: Results, compressed: bool) -> np.ndarray | None:
    """Return for each seed how many rounds it takes; None if one does not get there."""
    traces = results.traces[goal(compressed)]
    if any(trace.axis("suboptimality")[-1] > TARGET for trace in traces):
        return None
    return np.array([float(trace.axis("round")[-1]) for trace in traces])


def numbers(results: Results) -> pd.DataFrame:
    """Return milliseconds per round with an interval over seeds, rounds per second, parts, and rounds to the target."""
    import pandas as pd

    settings, rows = results.settings, list[dict[str, Any]]()
    for place in (*places(settings), without_rows(settings), without_all(settings)):
        data = place[0].load()
        for name in names(place):
            found = timed(results, name, place)
            row: dict[str, Any] = {"curve": curve(name, place), "engine": name, "rows": data.rows, "d": data.features}
            row |= {"workers": place[1], "seeds": settings.seeds, "ms": found.mean[0], "ms_low": found.low[0]}
            row |= {"ms_high": found.high[0], "rounds per second": 1e3 / found.mean[0]}
            if place == full(settings):
                row |= {f"{part} ms": share.mean[0] for part, share in parts(results, name).items()}
            rows.append(row)
    for compressed in (True, False):
        needed = rounds_to_target(results, compressed)
        row = {"curve": goal(compressed), "workers": settings.workers, "seeds": settings.seeds}
        rows.append(row | ({} if needed is None else {"rounds to the target": needed.mean()}))
    return pd.DataFrame(rows)


def answers(results: Results) -> list[str]:
    return [speeds(results), against_loop(results), seconds_to_target(results), split(results)]


def speeds(results: Results) -> str:
    here = places(results.settings)
    shown = [name for name in (*ENGINES, LOOP) if any(name in names(place) for place in here)]
    rows = {}
    for place in here:
        known = {name: timed(results, name, place) for name in names(place)}
        rows[where(place)] = [
            "{} ({} to {})".format(*(digits(1e3 / getattr(known[n], end)[0]) for end in ("mean", "high", "low")))
            if n in known
            else "-"
            for n in shown
        ]
    return f"Rounds per second, with an interval for each:{table(shown, rows)}"


def against_loop(results: Results) -> str:
    ratios = {
        f"{name}, {where(place)}": results.round_seconds(curve(LOOP, place)) / results.round_seconds(curve(name, place))
        for place in places(results.settings)
        if LOOP in names(place)
        for name in names(place)
        if name != LOOP
    }
    if not ratios:
        return f"The {LOOP} was not measured."
    found = compare(ratios, np.ones(results.settings.seeds), results.settings.bands, ratio=True)
    return f"Rounds per second over those of the {LOOP}:{bullets(f'{key}: {value}' for key, value in found.items())}"


def seconds_to_target(results: Results) -> str:
    at = full(results.settings)
    needed = {name: rounds_to_target(results, name != LOOP) for name in names(at)}
    lines = []
    for name, rounds in needed.items():
        if rounds is None:
            lines.append(f"{name}: not reached in {LONGEST:,} rounds by every seed")
            continue
        took = (rounds * results.round_seconds(curve(name, at)))[:, None]
        found = band(np.zeros(1), took, results.settings.bands, logarithmic=True)
        lines.append(
            f"{name}: {rounds.mean():.4g} rounds, {found.mean[0]:.3g} s ({found.low[0]:.3g} to {found.high[0]:.3g})"
        )
    return (
        f"On {where(at)}, by the rounds that it takes (the weights are the same bits on every engine, so that they are"
        f" counted once, with an evaluation after each round that is not in the time; those of the {LOOP} by the"
        f" uncompressed run) times the seconds of a round:{bullets(lines)}"
    )


def split(results: Results) -> str:
    at = full(results.settings)
    rows = {
        name: [
            "{} ({} to {})".format(*(digits(getattr(part, end)[0]) for end in ("mean", "low", "high")))
            for part in parts(results, name).values()
        ]
        for name in names(at)
    }
    return (
        f"On {where(at)}, by three rounds that are measured. *Engine* is a round of data with two features and one row"
        " a worker: all that a round costs whatever it computes and sends, the server's work too. *Network* is what"
        f" {at[0].load().features:,} features add, still with one row per worker: longer messages, their coding, and"
        " longer steps of the server. *Compute* is what the rows add; in the loop also their way from Spark's memory"
        " to Python, in each round. A part whose interval includes zero is not told from the noise. Milliseconds, with"
        f" an interval for each:{table(['engine', 'network', 'compute'], rows)}"
    )


def draw(results: Results) -> Figure:
    settings = results.settings
    sizes = [(source.load().rows, (source, settings.workers)) for source in sources(settings)]
    counts = [(workers, (middle(settings), workers)) for workers in grid(settings)]
    steps = list(enumerate((without_all(settings), without_rows(settings), full(settings))))
    rows = f"{middle(settings).load().rows:,} rows"
    with figure_grid(1, 3, height=2.7, sharey=True) as (figure, axes):
        for ax, at in zip(axes[0], (sizes, counts, steps), strict=True):
            for name in names(full(settings)):
                _line(ax, results, name, at)
        axes[0, 0].set(xscale="log", yscale="log", xlabel="rows", ylabel="milliseconds per round")
        axes[0, 1].set_xticks(grid(settings))
        axes[0, 1].set_xlabel("workers")
        axes[0, 2].set_xticks(range(3), ["engine", "+ network", "+ compute"])
        axes[0, 2].set(xlim=(-0.4, 2.4), xlabel="what a round has")
        panel_letters(axes[0], [f"W = {settings.workers}", rows, f"{rows}, W = {settings.workers}"])
        legend_below(figure, axes[0])
    return figure


def _line(ax: Axes, results: Results, name: str, at: Sequence[tuple[float, Place]]) -> None:
    """Draw the rounds of an engine at those places where it was measured."""
    known = [(x, timed(results, name, place)) for x, place in at if name in names(place)]
    ends = (np.array([getattr(found, end)[0] for _, found in known]) for end in ("mean", "low", "high"))
    style = look([*ENGINES, LOOP].index(name))
    draw_band(ax, Band(np.array([float(x) for x, _ in known]), *ends), 0, name, style=style)


def where(place: Place) -> str:
    return f"{place[0].load().rows:,} rows, W = {place[1]:,}"


def digits(value: float) -> str:
    """Write a number with three digits, or all of a whole one."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


study = Study(
    title="Engines of a cluster, beside the naive loop in PySpark",
    questions=(
        "How many rounds per second?",
        "How much faster is that than the loop?",
        f"How long until the suboptimality is {TARGET:g}?",
        "What is a round's cost made of?",
    ),
    defaults=Settings(data=SYNTHETIC, workers=8, rounds=40, seeds=5),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
    timed=True,
)
