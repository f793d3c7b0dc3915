"""Seconds per round on each engine, over the dimension d and the number of workers W. It measures time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import qsim
from qsim.batch import Arrays, Memory, Vectors
from qsim.block import Block
from qsim.engines import Engine, Processes, Serial, Session
from qsim.keys import Purpose
from qsim.methods import Task
from qsim.study import (
    COLUMN_WIDTH,
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
    panel_letters,
)
from qsim.study.statistics import band
from qsim.workers.tasks import Job, Order, Reply

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SYNTHETIC = "synthetic"
DIMENSIONS = (47_000, 1_000_000)
ROWS, NONZEROS, BATCH = 100_000, 39, 32
BLOCK = 40


@qsim.option
class Computing(Engine):
    """Computes the workers' updates on one thread, and sends none of them: what a round cannot do without."""

    def open(self, job: Job) -> Session:
        return _ComputingSession(job)


class _ComputingSession(Session):
    def __init__(self, job: Job) -> None:
        workers = job.shards.workers
        self._job, self._key = job, job.key.fold(Purpose.DATA)
        self._blocks = [Block(job.shards, low, min(low + BLOCK, workers)) for low in range(0, workers, BLOCK)]
        n = job.shards.dataset.features
        nothing = Vectors(n, np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
        self._header, self._packet = job.channel.pack(nothing, self._key.words(0, 1))

    def round(self, order: Order) -> Iterator[Reply]:
        for block in self._blocks:
            task = Task(order.task, order.round, order.weights, self._key)
            self._job.method.work(task, self._job.objective, block, Memory(block.support, {}))
        return (Reply(worker, self._header, self._packet) for worker in range(1))

    def snapshot(self) -> Arrays:
        return {}

    def restore(self, snapshot: Arrays) -> None:
        pass

    def __exit__(self, *problem: Any) -> None:
        pass


ALONE = "computing alone"


def engines() -> dict[str, Engine]:
    return {
        ALONE: Computing(),
        "Serial": Serial(),
        "Serial, 2 threads": Serial(threads=2),
        "2 Processes": Processes(2),
    }


def sources(settings: Settings) -> dict[int, qsim.datasets.Source]:
    """Return the data by dimension."""
    if settings.data != SYNTHETIC:
        source = qsim.datasets.load(settings.data).source
        assert source is not None
        return {source.load().features: source}
    return {d: qsim.datasets.Synthetic(ROWS, d, NONZEROS) for d in DIMENSIONS}


def curve(engine: str, d: int, workers: int) -> str:
    return f"{engine}, d = {d}, W = {workers}"


def grid(settings: Settings) -> list[int]:
    """Return the numbers of workers: 8, 64 and the largest."""
    return sorted({min(workers, settings.workers) for workers in (8, 64, settings.workers)})


def cells(settings: Settings) -> list[Cell]:
    return [
        Cell(
            curve(name, d, workers),
            qsim.Run(
                source,
                objective=qsim.LogisticRegression(l2=1e-6),
                method=qsim.SGD(step=qsim.steps.Constant(0.5), batch=BATCH),
                compressor=qsim.QSGD(levels=4),
                codec=qsim.codecs.Varint(),
                downlink=qsim.downlinks.SparseSum(),
                workers=workers,
                rounds=settings.rounds,
                seed=seed,
                evaluate_every=10**9,
                optimum=False,
            ),
            engine,
        )
        for d, source in sources(settings).items()
        for workers in grid(settings)
        for seed in range(settings.seeds)
        for name, engine in engines().items()
    ]


def setting(settings: Settings) -> str:
    data = " and ".join(f"{source.load()!r}" for source in sources(settings).values())
    return (
        f"Mini-batch SGD with {BATCH} rows per worker and round, QSGD with s = 4 in the varint code, the sparse sum"
        f" sent back, on {data}, shuffled over W workers, constant step 0.5. The median of {settings.rounds} rounds"
        f" without the first, geometric means over {settings.seeds} seeds, on the machine that the provenance names."
        f" Bands and intervals: {settings.bands.words} over seeds of the logarithms, those of a list jointly"
        " (Bonferroni). These are times: they differ from run to run and between machines."
    )


def places(settings: Settings) -> Iterator[tuple[int, int]]:
    """Yield all dimensions and numbers of workers."""
    for d in sources(settings):
        for workers in grid(settings):
            yield d, workers


def timed(results: Results, engine: str, d: int, workers: int) -> Band:
    """Return the geometric mean over seeds, in milliseconds."""
    samples = 1e3 * results.round_seconds(curve(engine, d, workers))[:, None]
    return band(np.array([float(workers)]), samples, results.settings.bands, logarithmic=True)


def numbers(results: Results) -> pd.DataFrame:
    """Return milliseconds per round, with an interval over seeds, and how often the time of computing alone that is."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for d, workers in places(results.settings):
        alone = timed(results, ALONE, d, workers).mean[0]
        for name in engines():
            found = timed(results, name, d, workers)
            row: dict[str, Any] = {"curve": curve(name, d, workers), "engine": name, "d": d, "workers": workers}
            row |= {"seeds": results.settings.seeds, "ms": found.mean[0], "ms_low": found.low[0]}
            rows.append(row | {"ms_high": found.high[0], "over computing": found.mean[0] / alone})
    return pd.DataFrame(rows)


def answers(results: Results) -> list[str]:
    here = list(places(results.settings))
    seeds = np.ones(results.settings.seeds)  # ratios are compared with 1, so that all of them are one list
    overhead = {
        at: results.round_seconds(curve("Serial", *at)) / results.round_seconds(curve(ALONE, *at)) for at in here
    }
    speed = {
        (name, at): results.round_seconds(curve("Serial", *at)) / results.round_seconds(curve(name, *at))
        for at in here
        for name in engines()
        if name not in (ALONE, "Serial")
    }
    over = compare({str(at): ratio for at, ratio in overhead.items()}, seeds, results.settings.bands, ratio=True)
    gains = compare({str(key): ratio for key, ratio in speed.items()}, seeds, results.settings.bands, ratio=True)
    first = [
        f"d = {d:,}, W = {workers:,}: {timed(results, 'Serial', d, workers).mean[0]:.2f} ms, {over[str((d, workers))]}"
        for d, workers in here
    ]
    second = [f"{name}, d = {d:,}, W = {workers:,}: {gains[str((name, (d, workers)))]}" for name, (d, workers) in speed]
    return [
        f"By `Serial`, and against computing alone:{bullets(first)}",
        f"The speed against `Serial` (below 1 times: slower):{bullets(second)}",
    ]


def draw(results: Results) -> Figure:
    shown = list(sources(results.settings))
    with figure_grid(1, len(shown), height=2.6, width=COLUMN_WIDTH, sharey=True) as (figure, axes):
        for d, ax in zip(shown, axes[0], strict=True):
            for place, name in enumerate(engines()):
                parts = [timed(results, name, d, workers) for workers in grid(results.settings)]
                joined = (np.concatenate([getattr(p, end) for p in parts]) for end in ("at", "mean", "low", "high"))
                draw_band(ax, Band(*joined), place, name, log=True)
            ax.set(xscale="log", yscale="log", xlabel="workers")
        panel_letters(axes[0], [f"SGD, d = {d:,}" for d in shown])
        axes[0, 0].set_ylabel("milliseconds per round")
        legend_below(figure, axes[0])
    return figure


study = Study(
    title="Engines: seconds per round, and the overhead over computing",
    questions=(
        "How long does a round take, and how much of it is not computing?",
        "What do threads and processes gain?",
    ),
    defaults=Settings(data=SYNTHETIC, workers=1000, rounds=20, seeds=5),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
    timed=True,
)
