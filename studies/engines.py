"""Seconds a round on each engine, over the dimension d and the number of workers W. It measures time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import qsim
from qsim.batch import Arrays, Memory, Vectors
from qsim.datasets.block import Block
from qsim.engines import Engine, Processes, Serial, Session
from qsim.keys import Purpose
from qsim.methods import Task
from qsim.study import STYLE, TEXT_WIDTH, Cell, Results, Settings, Study, look
from qsim.worker import Job, Order, Reply

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


def engines() -> dict[str, Engine]:
    return {
        "computing alone": Computing(),
        "Serial": Serial(),
        "Serial, 2 threads": Serial(threads=2),
        "2 Processes": Processes(2),
    }


def sources(settings: Settings) -> dict[int, qsim.datasets.Source]:
    """Return the data by dimension."""
    if settings.data != SYNTHETIC:
        source = qsim.datasets.Builtin(settings.data)
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
        f"Mini-batch SGD with {BATCH} rows a worker and round, QSGD with s = 4 in the varint code, the sparse sum sent"
        f" back, on {data}, shuffled over W workers, constant step 0.5. The median of {settings.rounds} rounds without"
        f" the first, over {settings.seeds} seeds, on the machine that the provenance names. These are times: they"
        " differ from run to run and between machines."
    )


def numbers(results: Results) -> pd.DataFrame:
    """Return milliseconds a round, and how often the time of computing alone that is."""
    import pandas as pd

    times: dict[str, list[float]] = {}
    for cell, seconds in zip(results.cells, results.seconds, strict=True):
        times.setdefault(cell.curve, []).extend(seconds[1:] or seconds)
    rows = []
    for d in sources(results.settings):
        for workers in grid(results.settings):
            medians = {name: float(np.median(times[curve(name, d, workers)])) for name in engines()}
            rows += [
                {
                    "engine": name,
                    "d": d,
                    "workers": workers,
                    "ms": 1e3 * t,
                    "over computing": t / medians["computing alone"],
                }
                for name, t in medians.items()
            ]
    return pd.DataFrame(rows)


def answers(results: Results) -> list[str]:
    table = numbers(results).set_index(["engine", "d", "workers"])
    first, second = [], []
    for d in sources(results.settings):
        for workers in grid(results.settings):
            at = {name: table.loc[(name, d, workers)] for name in engines()}
            overhead = 100 * (at["Serial"]["over computing"] - 1)
            first.append(
                f"\n- d = {d:,}, W = {workers:,}: {at['Serial']['ms']:.2f} ms, {overhead:.0f}% over computing alone"
            )
            gains = {
                name: at["Serial"]["ms"] / at[name]["ms"] for name in engines() if name.startswith(("Serial,", "2"))
            }
            listed = ", ".join(f"{name} {gain:.2f} times as fast as Serial" for name, gain in gains.items())
            second.append(f"\n- d = {d:,}, W = {workers:,}: {listed}")
    return ["By `Serial`:\n" + "".join(first), "\n" + "".join(second)]


def draw(results: Results) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    table = numbers(results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 2.5), layout="constrained")
        shown = list(sources(results.settings))
        axes = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
        for letter, d, ax in zip("ab", shown, axes, strict=False):
            for place, name in enumerate(engines()):
                line = table[(table["d"] == d) & (table["engine"] == name)]
                ax.plot(line["workers"], line["ms"], label=name, **look(place))
            ax.set(xscale="log", yscale="log", xlabel="workers")
            ax.set_title(f"({letter}) d = {d:,}", loc="left")
        axes[0].set_ylabel("milliseconds a round")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


study = Study(
    title="Engines: seconds a round, and the overhead over computing",
    questions=(
        "How long does a round take, and how much of it is not computing?",
        "What do threads and processes gain?",
    ),
    defaults=Settings(data=SYNTHETIC, workers=1000, rounds=20, seeds=3),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
    timed=True,
)
