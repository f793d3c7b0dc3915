"""Ways of shrinking weights by l2: the time of a step over the dimension d, and whether the weights are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.block import Block
from qsim.keys import Key, Purpose
from qsim.l2_decay import EveryStep, GlobalScale, JustInTime, L2Decay
from qsim.methods import LocalSGD
from qsim.study import (
    Band,
    Cell,
    Comparison,
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

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SYNTHETIC = "synthetic"
DIMENSIONS = (100, 1_000, 10_000, 100_000, 1_000_000)
ROWS, NONZEROS = 100_000, 39
STEPS, MOST = 50_000, 1e9  # steps per round, fewer where they would touch more weights than MOST
OBJECTIVE = qsim.LogisticRegression(l2=1e-6)
DENSE = "every step"
COMPARED = qsim.LogisticRegression(l2=1e-2)
FALLING = qsim.steps.InverseTime(0.1, halving=2000)  # below 2/L of a row, so that roundings do not grow
WINDOW, WINDOWS = 2_000, 3  # steps between two exchanges, and how many exchanges, of the runs that are compared
LARGEST = 100_000  # up to this d there is a dense reference in float64
WAYS: dict[str, L2Decay] = {DENSE: EveryStep(), "just in time": JustInTime(), "global scale": GlobalScale()}


def sources(settings: Settings) -> dict[int, qsim.datasets.Source]:
    """Return the data by dimension; their columns are drawn evenly, so that rows touch nearly all of them."""
    if settings.data != SYNTHETIC:
        source = qsim.datasets.load(settings.data).source
        assert source is not None
        return {source.load().features: source}
    return {d: qsim.datasets.Synthetic(ROWS, d, NONZEROS, exponent=0.0) for d in DIMENSIONS}


def curve(way: str, d: int) -> str:
    return f"{way}, d = {d}"


def steps(way: str, d: int) -> int:
    """Return how many steps a round has."""
    return int(min(STEPS, MOST / d)) if way == DENSE else STEPS


def cells(settings: Settings) -> list[Cell]:
    return [
        Cell(
            curve(name, d),
            qsim.Run(
                source,
                objective=OBJECTIVE,
                method=qsim.methods.LocalSGD(qsim.steps.Constant(0.5), steps=steps(name, d), decay=way),
                codec=qsim.codecs.SparseFloats(),
                workers=settings.workers,
                rounds=settings.rounds,
                seed=seed,
                evaluate_every=10**9,
                optimum=False,
            ),
        )
        for d, source in sources(settings).items()
        for seed in range(settings.seeds)
        for name, way in WAYS.items()
    ]


def setting(settings: Settings) -> str:
    data = next(iter(sources(settings).values())).load()
    return (
        f"Rounds of up to {STEPS:,} steps of SGD, one row each, by"
        f" {'one worker' if settings.workers == 1 else f'{settings.workers} workers'} on {data.rows:,} rows"
        f" of {data.nonzeros / data.rows:.0f} non-zeros in evenly drawn columns, with l2 = {OBJECTIVE.l2:g} and step"
        " 0.5. A step's time is a round's over its steps, so it has its share of what a round does once: weights down,"
        f" sum up, all O(d). With {DENSE!r} a round has fewer steps where d is large (at least 1,000 at d = 10^6). The"
        f" median of {settings.rounds} rounds without the first, geometric means over {settings.seeds} seeds, on the"
        f" machine that the provenance names. Bands and intervals: {settings.bands.words} over seeds of the logarithms,"
        " those of a list jointly (Bonferroni). These are times: they differ from run to run and between machines. (c)"
        f" Weights after {WINDOWS} rounds of {WINDOW:,} steps with l2 = {COMPARED.l2:g} and a step that falls at every"
        f" local step, {FALLING.step:g}/(1 + t/{FALLING.halving:g}): the largest difference of a weight to a plain loop"
        f" in float64 that shrinks all weights in every step, over the largest weight (up to d = {LARGEST:,}; beyond,"
        f" to {DENSE!r}). Crosses: the same of a run that never shrinks."
    )


def walked(source: qsim.datasets.Source, workers: int, way: L2Decay, l2: float) -> qsim.Run:
    """Return the run whose weights are compared."""
    return qsim.Run(
        source,
        objective=replace(COMPARED, l2=l2),
        method=LocalSGD(FALLING, steps=WINDOW, decay=way),
        workers=workers,
        rounds=WINDOWS,
        evaluate_every=10**9,
        optimum=False,
    )


def plain_loop(run: qsim.Run) -> NDArray[np.float64]:
    """Return the weights of a run by a plain loop: dense, in float64, all weights shrunk in every step."""
    data, method = run.load(), run.method
    assert isinstance(method, LocalSGD)
    assert method.step is not None
    labels = np.asarray(data.labels, np.float64)
    key = Key(run.seed)
    shards = run.partition.split(data, run.workers, key.fold(Purpose.PARTITION))
    block, w = Block(shards, 0, run.workers), np.zeros(data.features)
    for t in range(run.rounds):
        drawn = method.sampling.draw(block, method.steps, t, {}, key.fold(Purpose.DATA))
        mean = np.zeros_like(w)
        for worker, (first, share) in enumerate(zip(drawn.offsets, shards.weights, strict=False)):
            u = w.copy()
            for h in range(method.steps if drawn.offsets[worker + 1] > first else 0):
                i = int(drawn.index[first + h])
                columns = data.indices[data.indptr[i] : data.indptr[i + 1]]
                x = 1.0 if data.values is None else data.values[data.indptr[i] : data.indptr[i + 1]].astype(np.float64)
                a, y = method.step(t * method.steps + h), labels[i]
                slope = -y / (1 + np.exp(y * np.sum(u[columns] * x)))
                u *= 1 - a * run.objective.l2
                u[columns] -= a * slope * x
            mean += share * u
        w = mean
    return w


def differences(results: Results) -> dict[int, dict[str, float]]:
    """Return the largest difference of a weight to the reference, over the largest weight: by d, then by way.

    Under "never": of a run that does not shrink at all, which is what the comparison can tell.
    """
    found: dict[int, dict[str, float]] = {}
    for d, source in sources(results.settings).items():
        workers = results.settings.workers
        weights = {name: _weights(walked(source, workers, way, COMPARED.l2)) for name, way in WAYS.items()}
        weights["never"] = _weights(walked(source, workers, WAYS[DENSE], 0.0))
        right = plain_loop(walked(source, workers, WAYS[DENSE], COMPARED.l2)) if d <= LARGEST else weights[DENSE]
        largest = float(np.abs(right).max())
        found[d] = {name: float(np.abs(w - right).max()) / largest for name, w in weights.items()}
    return found


def _weights(run: qsim.Run) -> NDArray[np.float64]:
    return qsim.simulate(run).weights


def microseconds(results: Results, way: str, d: int) -> NDArray[np.float64]:
    """Return the time of a step, for each seed."""
    return 1e6 * results.round_seconds(curve(way, d)) / (steps(way, d) * results.settings.workers)


def samples(results: Results, way: str) -> NDArray[np.float64]:
    """Return microseconds per step, of shape (seeds, dimensions)."""
    return np.stack([microseconds(results, way, d) for d in sources(results.settings)], axis=1)


def over_d(results: Results, found: NDArray[np.float64]) -> Band:
    """Return geometric means over seeds, over d."""
    return band(np.array(list(sources(results.settings)), float), found, results.settings.bands, logarithmic=True)


def timed(results: Results, way: str) -> Band:
    """Return microseconds per step, over d."""
    return over_d(results, samples(results, way))


def numbers(results: Results) -> pd.DataFrame:
    """Return microseconds per step, with an interval over seeds."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for way in WAYS:
        found = timed(results, way)
        for place, d in enumerate(sources(results.settings)):
            row: dict[str, Any] = {"curve": curve(way, d), "way": way, "d": d, "seeds": results.settings.seeds}
            row |= {"difference": results.once(differences)[d][way]}
            row |= {"us": found.mean[place], "us_low": found.low[place], "us_high": found.high[place]}
            rows.append(row)
    return pd.DataFrame(rows)


def crossing(results: Results, way: str, gains: Mapping[str, Comparison]) -> str:
    """Say from which d on a way is faster than shrinking all weights beyond the noise, and where it is slower."""
    here = list(sources(results.settings))
    found = {d: gains[f"{way}, d = {d:,}"] for d in here}
    first = next((d for d in here if all(found[e].beyond_noise and found[e].mean > 1 for e in here if e >= d)), None)
    faster = "nowhere here" if first is None else f"from d = {first:,} on"
    slower = [f"{d:,}" for d, gain in found.items() if gain.beyond_noise and gain.mean < 1]
    return f"{way}: {faster}" + (f", and slower at d = {', '.join(slower)}" if slower else "")


def answers(results: Results) -> list[str]:
    here = list(sources(results.settings))
    seeds = np.ones(results.settings.seeds)
    ratios = {
        f"{way}, d = {d:,}": microseconds(results, DENSE, d) / microseconds(results, way, d)
        for way in WAYS
        if way != DENSE
        for d in here
    }
    gains = compare(ratios, seeds, results.settings.bands, ratio=True)
    return [
        "Microseconds a step: "
        + "; ".join(
            f"{way} " + ", ".join(f"{us:.3g} (d = {d:,})" for d, us in zip(here, timed(results, way).mean, strict=True))
            for way in WAYS
        )
        + ".",
        "Faster than shrinking all weights, beyond the seed noise: "
        + "; ".join(crossing(results, way, gains) for way in WAYS if way != DENSE)
        + f". The speed against {DENSE!r} (below 1 times: slower):"
        + bullets(f"{name}: {gain}" for name, gain in gains.items()),
        _same(results),
    ]


def _same(results: Results) -> str:
    """Say how far the weights are apart."""
    found = results.once(differences)
    worst = max(each[way] for each in found.values() for way in WAYS)
    never = min(each["never"] for each in found.values())
    rows = {
        way: ["reference" if way == DENSE and d > LARGEST else f"{each[way]:.2g}" for d, each in found.items()]
        for way in (*WAYS, "never")
    }
    return (
        f"Yes, up to float32's rounding: the largest difference is {worst:.2g} of the largest weight, with a step that"
        f" falls inside the windows. The comparison would have told: without shrinking it is {never:.2g} and more."
        + table([f"d = {d:,}" for d in found], rows)
    )


def draw(results: Results) -> Figure:
    with figure_grid(1, 3, height=2.6) as (figure, axes):
        for place, way in enumerate(WAYS):
            draw_band(axes[0, 0], timed(results, way), place, way, log=True)
            if way != DENSE:
                gain = over_d(results, samples(results, DENSE) / samples(results, way))
                draw_band(axes[0, 1], gain, place, way, log=True)
        apart = results.once(differences)
        for place, way in enumerate(WAYS):
            shown = {d: each[way] for d, each in apart.items() if each[way] > 0}
            axes[0, 2].plot(list(shown), list(shown.values()), **look(place) | {"linestyle": ""})
        never = [each["never"] for each in apart.values()]
        axes[0, 2].plot(list(apart), never, "x", color="0.4", label="never shrunk")
        axes[0, 1].axhline(1, color="black", linewidth=0.8)
        for ax in axes[0]:
            ax.set(xscale="log", yscale="log", xlabel="dimension d")
        axes[0, 0].set_ylabel("microseconds per step")
        axes[0, 1].set_ylabel("speed-up")
        axes[0, 2].set_ylabel("difference / largest weight")
        panel_letters(axes[0], ("time of a step", "speed over shrinking each step", "weights against a plain loop"))
        legend_below(figure, axes[0])
    return figure


study = Study(
    title="Lazy l2: the time of a step against the dimension, and whether the weights are the same",
    questions=(
        "How long does a step take?",
        "From which dimension on does laziness pay?",
        "Are the weights the same?",
    ),
    defaults=Settings(data=SYNTHETIC, workers=1, rounds=4, seeds=5),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
    timed=True,
)
