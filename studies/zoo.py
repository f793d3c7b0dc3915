"""Compressors at equal budgets of bits, both directions counted, on two data sets; and what the downlink costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.codecs import Codec, Elias
from qsim.compressors import (
    QSGD,
    Bucketed,
    Compose,
    Compressor,
    ErrorFeedback,
    RandK,
    Scaled,
    ScaledSign,
    TopK,
)
from qsim.datasets import Source, Synthetic
from qsim.downlinks import CompressedWeights, DenseWeights, Downlink, SparseSum
from qsim.study import (
    AxisSpec,
    Cell,
    Choice,
    Comparison,
    Panel,
    Results,
    Settings,
    Study,
    Tuning,
    bullets,
    compare,
    draw,
    each_seed,
    figure_grid,
    panel_letters,
    table,
    winner,
)
from qsim.study.gradients import worker_gradients

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PER_COORDINATE = 2.0
"""Bits of an uplink message that parameters are set for, per coordinate; the downlink takes about as many."""
BUDGETS = (0.25, 0.5, 1.0)
"""The shares of the whole budget, which is that of `rounds` rounds, at which losses are compared."""
SPARE = 1.2  # rounds are made for this share of the budget, as messages change their sizes
TARGET = 0.02
MULTIPLES = (0.5, 1, 2, 4, 8, 16)
"""The steps that are tried: so many times 1/L."""
OBJECTIVE = qsim.LogisticRegression(l2=1e-3)
TEXT: Source = Synthetic(rows=1600, features=1000, nonzeros_per_row=40, values="tfidf")
UNCOMPRESSED, TEMPLATE = "uncompressed", "QSGD, l2"
DOWN = ("QSGD, l2", "EF, Top-k")
"""What the downlinks are compared with, besides the uncompressed."""
Make = Callable[[int], Compressor]


@dataclass(frozen=True)
class Family:
    """A compressor with a parameter that sets its bits (none: 0), the values that it may have for n, and its code."""

    make: Make
    values: Callable[[int], Sequence[int]]
    codec: Codec | None = None


def _levels(n: int) -> Sequence[int]:
    return range(1, 41)


def _few(n: int) -> Sequence[int]:
    return range(1, 9)


def _kept(n: int) -> Sequence[int]:
    return sorted({max(1, round(n / part)) for part in np.geomspace(4, 60, 40)})


def _sizes(n: int) -> Sequence[int]:
    return (8, 16, 32, 64, 128)


def _none(n: int) -> Sequence[int]:
    return (0,)


_GAMMA = Elias("gamma")
FAMILIES: dict[str, dict[str, Family]] = {
    "uniform levels": {
        "QSGD, l2": Family(QSGD, _levels, _GAMMA),
        "QSGD, max": Family(lambda s: QSGD(s, "max"), _levels, _GAMMA),
        "TernGrad, buckets": Family(lambda size: Bucketed(qsim.TernGrad(), size), _sizes, _GAMMA),
        "subtractive dither": Family(qsim.SubtractiveDither, _levels, _GAMMA),
        "EF, scaled QSGD": Family(lambda s: ErrorFeedback(Scaled(QSGD(s))), _levels, _GAMMA),
    },
    "powers of two, pairs": {
        "NUQSGD": Family(qsim.NUQSGD, _few, _GAMMA),
        "natural dithering, max": Family(lambda s: qsim.NaturalDithering(s, "max"), _few, _GAMMA),
        "Rand-k, natural": Family(lambda k: Compose(RandK(k), qsim.NaturalCompression()), _kept),
        "EF, Top-k, scaled QSGD": Family(lambda k: ErrorFeedback(Compose(TopK(k), Scaled(QSGD(16)))), _kept, _GAMMA),
    },
    "sparsifiers": {
        "Rand-k, drawn": Family(lambda k: RandK(k, positions="drawn"), _kept),
        "Bernoulli, p = 1/m": Family(lambda m: qsim.Bernoulli(1 / m), lambda n: range(2, 41)),
        "Wangni": Family(qsim.Wangni, _kept),
        "EF, Top-k": Family(lambda k: ErrorFeedback(TopK(k)), _kept),
    },
    "signs, rotations": {
        "EF, scaled sign, buckets": Family(lambda size: ErrorFeedback(Bucketed(ScaledSign(), size)), _sizes),
        "EF, 1-bit": Family(lambda _: ErrorFeedback(qsim.OneBit()), _none),
        "DRIVE, chunks": Family(lambda size: qsim.DRIVE(chunk=size), _sizes),
        "EDEN, 2 bits": Family(lambda _: qsim.EDEN(2), _none),
    },
}


def families() -> dict[str, Family]:
    """Return all compressors by name."""
    return {name: family for shown in FAMILIES.values() for name, family in shown.items()}


def sources(settings: Settings) -> dict[str, qsim.datasets.Dataset | Source]:
    """Return the data sets, by what their curves call them."""
    return {settings.name: settings.load(), "text-like": TEXT}


def features(settings: Settings, data: str) -> int:
    source = sources(settings)[data]
    return (source.load() if isinstance(source, Source) else source).features


def curve(name: str, data: str) -> str:
    return f"{name}; {data}"


@dataclass(frozen=True)
class Fitted:
    """A compressor with its parameter, and the bits of its message at the start (mean over workers)."""

    compressor: Compressor
    parameter: int
    bits: float


@lru_cache
def plain(settings: Settings, data: str) -> qsim.Run:
    """Return the run without compression, a round long, step 1/L."""
    source = sources(settings)[data]
    smoothness = OBJECTIVE.smoothness(source.load() if isinstance(source, Source) else source)
    return qsim.Run(
        source,
        objective=OBJECTIVE,
        method=qsim.GradientDescent(step=qsim.steps.Constant(1 / smoothness)),
        workers=settings.workers,
        rounds=1,
    )


@lru_cache(maxsize=128)
def fitted(settings: Settings, data: str, name: str) -> Fitted:
    """Return a compressor with the parameter that comes nearest to the bits of a message."""
    n, run = features(settings, data), plain(settings, data)
    rows = worker_gradients(run, np.zeros(n))
    keys, found = qsim.Key(0).words(0, settings.workers), []
    family = families()[name]
    for value in family.values(n):
        compressor = family.make(value)
        inner = compressor.compressor if isinstance(compressor, ErrorFeedback) else compressor
        _, packets = qsim.Channel(inner, family.codec).pack(rows, keys)
        found.append(Fitted(compressor, value, float(np.sum(packets.bits)) / settings.workers))
    return min(found, key=lambda one: abs(one.bits - PER_COORDINATE * n))


@lru_cache
def down(settings: Settings, data: str) -> CompressedWeights:
    """Return the compressed downlink that all share: Top-k with as many bits as a message has."""
    n = features(settings, data)
    rows = worker_gradients(plain(settings, data), np.zeros(n))
    one = qsim.batch.Vectors.dense(rows.to_dense().mean(axis=0, keepdims=True))
    sizes = {k: float(np.sum(qsim.Channel(TopK(k)).pack(one, qsim.Key(0).words(0, 1))[1].bits)) for k in _kept(n)}
    return CompressedWeights(TopK(min(sizes, key=lambda k: abs(sizes[k] - PER_COORDINATE * n))))


def budget(settings: Settings, data: str) -> float:
    """Return the whole budget of a worker in bits, both ways."""
    return 2 * PER_COORDINATE * features(settings, data) * settings.rounds


def run(settings: Settings, name: str, multiple: float, seed: int) -> qsim.Run:
    """Return the run of a curve, which spends the budget and some more."""
    name, data = name.split("; ")
    first, n = plain(settings, data), features(settings, data)
    step = qsim.steps.Constant(multiple * first.method.step(0))  # type: ignore[attr-defined]
    found = replace(first, method=qsim.GradientDescent(step=step), seed=seed)
    if name == UNCOMPRESSED:
        return replace(found, rounds=ceil(SPARE * budget(settings, data) / (64 * n)))
    chosen = fitted(settings, data, name)
    a_round = chosen.bits + PER_COORDINATE * n
    return replace(
        found,
        compressor=chosen.compressor,
        codec=families()[name].codec,
        downlink=down(settings, data),
        rounds=ceil(SPARE * budget(settings, data) / a_round),
    )


def curves(settings: Settings) -> list[str]:
    """Return what is compared at equal budgets."""
    return [curve(name, data) for data in sources(settings) for name in (UNCOMPRESSED, *families())]


def downlinks(settings: Settings) -> dict[str, tuple[str, Downlink]]:
    """Return the curves on which downlinks are compared: the curve that has the same compressor, and the downlink."""
    data = settings.name
    shown: dict[str, Downlink] = {
        "dense weights": DenseWeights(),
        "sparse sum": SparseSum(),
        "compressed": down(settings, data),
    }
    names = [name for name in (UNCOMPRESSED, *DOWN) if name == UNCOMPRESSED or name in families()]
    return {
        f"{curve(name, data)}, {label} down": (curve(name, data), downlink)
        for name in names
        for label, downlink in shown.items()
    }


def tuned(settings: Settings) -> list[str]:
    """Return all curves: each has a step of its own."""
    return [*curves(settings), *downlinks(settings)]


def shown_run(settings: Settings, name: str, multiple: float, seed: int) -> qsim.Run:
    """Return the run of a curve."""
    if name not in downlinks(settings):
        return run(settings, name, multiple, seed)
    base, downlink = downlinks(settings)[name]
    return replace(run(settings, base, multiple, seed), downlink=downlink, rounds=settings.rounds)


def cells(settings: Settings, choices: Mapping[str, Choice]) -> list[Cell]:
    until = qsim.stopping.Suboptimality(TARGET)

    def one(name: str, seed: int) -> qsim.Run:
        found = shown_run(settings, name, choices[name].value, seed)
        return replace(found, rounds=3 * settings.rounds, until=until) if name in downlinks(settings) else found

    return each_seed(settings, {name: name for name in tuned(settings)}, one)


def to_choose(settings: Settings, name: str, multiple: float, seed: int) -> qsim.Run:
    """Return a run that is only looked at when it is over."""
    found = shown_run(settings, name, multiple, seed)
    return replace(found, evaluate_every=max(found.rounds, 1))


def setting(settings: Settings) -> str:
    text = TEXT.load()
    spent = "; ".join(f"{data} {budget(settings, data):,.0f}" for data in sources(settings))
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset} and on {text.name}, text-like"
        f" ({text.rows:,} rows of unit length, {text.features:,} features, {text.nonzeros / text.rows:.0f} non-zeros"
        f" per row), shuffled over {settings.workers} workers; full-batch updates. Contractions run with error feedback"
        " (EF), unbiased compressors as they are. Every compressor has the parameter with which its message at the"
        f" start comes nearest to {PER_COORDINATE:g} bits per coordinate; 1-bit and EDEN have none to choose. The"
        " server sends compressed weights of about as many bits (Top-k of what the workers do not know yet, which"
        " works like a memory), the same for all compressors; the uncompressed run sends float32 both ways. Compared"
        " is the suboptimality that can be had for the same bits of a worker, uplink and downlink, streams' headers"
        f" included: that of the last round which fits into the budget. The whole budget is that of {settings.rounds}"
        f" such rounds: {spent} bits of a worker. The step is a multiple of 1/L, tuned for each compressor and data set"
        " for the end of the budget (last answer). Left out: plain signs, which move weights by 1 per round whatever"
        " the step; the hard threshold, whose bits no parameter sets; formats of 8 bits and more per coordinate."
        f" {settings.statistics} In the figure all seeds are put on the same bits, by linear interpolation in"
        " logarithms; a line ends where the first of its seeds does."
    )


def within(results: Results, shown: str, bits: float) -> NDArray[np.float64]:
    """Return each seed's suboptimality after the last round that fits into the bits of a worker; NaN: it ended before.

    A run that ended before is one whose messages were smaller than at the start, so that it would have gone on.
    """
    found = []
    for trace in results.traces[shown]:
        spent = trace.axis("bits") / results.settings.workers
        place = int(np.searchsorted(spent, bits, side="right")) - 1
        found.append(float("nan") if spent[-1] < bits else float(trace.axis("suboptimality")[place]))
    return np.array(found)


def numbers(results: Results) -> pd.DataFrame:
    """Return the frame of the runs, over rounds and over bits both ways; traffic is of all workers."""
    return results.numbers(AxisSpec("bits"))


def compared(results: Results, data: str) -> list[str]:
    """Return the curves of a data set, those of a user's own compressors too, without those of the downlinks."""
    return [shown for shown in results.curves if shown.split("; ")[1] == data]


def answers(results: Results) -> list[str]:
    return [_sizes_of(results), _winners(results), _against(results), _downlinks(results)]


def _short(shown: str) -> str:
    return shown.split("; ")[0]


def _sizes_of(results: Results) -> str:
    said = []
    for data in sources(results.settings):
        rows: dict[str, list[object]] = {}
        both = []
        for shown in compared(results, data):
            name, traces = _short(shown), results.traces[shown]
            messages = results.settings.workers * sum(int(trace.axis("round")[-1]) for trace in traces)
            up, down_, kept = (sum(t.axis(axis)[-1] for t in traces) / messages for axis in _TRAFFIC)
            both += [up + down_] if name != UNCOMPRESSED else []
            known = fitted(results.settings, data, name) if name in families() else None
            rows[name] = [
                str(known.parameter) if known is not None and known.parameter else "",
                f"{up:,.0f}",
                f"{down_:,.0f}",
                f"{kept:.1f}",
                f"{traces[0].axis('round')[-1]:,}",
            ]
        spread = f"both ways {min(both):,.0f} to {max(both):,.0f} bits, but for the uncompressed"
        said.append(
            f"\n\n{data}, {spread}:{table(('parameter', 'bits up', 'bits down', 'non-zeros up', 'rounds'), rows)}"
        )
    return (
        "Means per message over the runs (parameter: levels, kept coordinates, bucket or chunk size, or m)."
        f"{''.join(said)}"
    )


_TRAFFIC = ("bits_up", "bits_down", "nonzeros")


def _winners(results: Results) -> str:
    said = []
    for data in sources(results.settings):
        whole = budget(results.settings, data)
        names = compared(results, data)
        ends = {share: {name: within(results, name, share * whole) for name in names} for share in BUDGETS}
        order = sorted(names, key=lambda name: _mean(ends[1.0][name]))
        rows = {
            _short(name): [_words(ends[share][name], not _fitting(results, name, share * whole)) for share in BUDGETS]
            for name in order
        }
        winners = []
        for share in BUDGETS:
            known = {name: found for name, found in ends[share].items() if np.isfinite(found).all()}
            if known:
                best = min(known, key=lambda name: _mean(known[name]))
                others = {_short(name): found for name, found in known.items() if name != best}
                lead = compare(others, known[best], results.settings.bands, ratio=True)
                winners.append(f"at {share * whole:,.0f} bits {winner(_short(best), lead)}")
        columns = [f"{share * whole:,.0f} bits" for share in BUDGETS]
        said.append(f"\n\n{data}: the least suboptimality {'; '.join(winners)}.{table(columns, rows)}")
    return (
        "Suboptimality within a budget of bits of a worker, both ways, geometric means, in order of the last column."
        f"{''.join(said)}"
    )


def _mean(found: NDArray[np.float64]) -> float:
    return float(np.exp(np.log(found).mean())) if np.isfinite(found).all() else float("inf")


def _words(found: NDArray[np.float64], none_fits: bool) -> str:
    if not np.isfinite(found).all():
        return "not spent by all seeds"
    return f"{_mean(found):.3g}{' (no round fits)' if none_fits else ''}"


def _fitting(results: Results, shown: str, bits: float) -> int:
    """Return how many rounds of a curve fit into the bits of a worker, the most over seeds."""
    spent = [trace.axis("bits") / results.settings.workers for trace in results.traces[shown]]
    return max(int(np.searchsorted(each, bits, side="right")) - 1 for each in spent)


def _against(results: Results) -> str:
    said = []
    for data in sources(results.settings):
        whole = budget(results.settings, data)
        dense = within(results, curve(UNCOMPRESSED, data), whole)
        rounds = _fitting(results, curve(UNCOMPRESSED, data), whole)
        others = {
            _short(name): within(results, name, whole)
            for name in compared(results, data)
            if name != curve(UNCOMPRESSED, data)
        }
        known = {name: found for name, found in others.items() if np.isfinite(found).all()}
        ratios: dict[str, Comparison] = compare(known, dense, results.settings.bands, ratio=True) if known else {}
        lines = bullets(f"{name}: {ratio}" for name, ratio in ratios.items())
        said.append(
            f"\n\n{data}, uncompressed {_words(dense, not rounds)}, after the {rounds} uncompressed"
            f" round{'' if rounds == 1 else 's'} that the budget holds; ratios to it:{lines}"
        )
    return (
        "At the whole budget. It is made for compressed messages, so the uncompressed run has hardly begun: the ratios"
        f" say what the budget buys, not what compression costs.{''.join(said)}"
    )


def _downlinks(results: Results) -> str:
    rows: dict[str, list[object]] = {}
    shown = downlinks(results.settings)
    costs: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name in shown:
        reached = {
            axis: results.reach(name, TARGET, axis=axis, per=1 if axis == "round" else results.settings.workers)
            for axis in ("round", "bits_up", "bits_down", "bits")
        }
        costs[name] = {axis: reached[axis].costs for axis in ("round", "bits")}
        known = np.isfinite(costs[name]["bits"]).all() and (costs[name]["round"] > 0).all()
        each = f"{_mean(costs[name]['bits'] / costs[name]['round']):,.0f}" if known else "not known"
        rows[name.replace(f"; {results.settings.name}", "")] = [reached["round"], each, *list(reached.values())[1:]]
    first = costs[next(iter(shown))]
    ratios: dict[str, Any] = {}
    parts: dict[str, str] = {}
    for name in list(shown)[1:]:
        here = costs[name]
        if np.isfinite([*here["bits"], *first["bits"]]).all() and (here["bits"] > 0).all():
            short = name.replace(f"; {results.settings.name}", "")
            ratios[short] = first["bits"] / here["bits"]
            fewer = _mean(first["round"] / here["round"])
            parts[short] = (
                f"{fewer:.3g} times fewer rounds x {_mean(ratios[short]) / fewer:.3g} times fewer bits per round"
            )
    saved = (
        compare(ratios, np.ones(results.settings.seeds), results.settings.bands, ratio=True) if ratios else {}
    )  # one list, as ratios to one
    return (
        f"On {results.settings.name}, a worker to a suboptimality of {TARGET:g}, at each downlink's own step, tuned for"
        f" {results.settings.rounds} rounds. Why the rounds differ with the downlink, at the same step too, is not"
        " tested here. How many times fewer bits both ways than uncompressed with dense weights down, and in which"
        f" part of them:{bullets(f'{name}: {found} = {parts[name]}' for name, found in saved.items())}"
        + table(("rounds", "bits per round", "bits up", "bits down", "bits both ways"), rows)
    )


def figure(results: Results) -> Figure:
    data_sets = list(sources(results.settings))
    with figure_grid(len(data_sets), len(FAMILIES), height=5.0, sharey="row", sharex="row") as (found, axes):
        for row, data in zip(axes, data_sets, strict=True):
            own = [name for name in compared(results, data) if _short(name) not in (UNCOMPRESSED, *families())]
            panel = Panel(
                "bits",
                "suboptimality",
                x_scale="log",
                y_scale="log",
                per=results.settings.workers,
                x_label="bits both ways, per worker",
                label=_short,
            )
            for ax, family in zip(row, FAMILIES.values(), strict=True):
                names = [curve(UNCOMPRESSED, data), *(curve(name, data) for name in family), *own]
                draw(results, replace(panel, curves=names), ax, [_short(name) for name in names])
                ax.axvline(budget(results.settings, data), color="0.5", linewidth=0.8, linestyle=":")
                ax.set_ylabel(f"suboptimality, {data}" if ax is row[0] else "")
        for ax in axes[-1]:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), borderpad=0, handlelength=1.8, handletextpad=0.5)
        panel_letters(axes.flat, [*FAMILIES] * len(data_sets))
    return found


study = Study(
    title="Compressors at equal budgets of bits, both ways",
    questions=(
        "How many bits does a message take?",
        "Which has the least suboptimality within the same bits?",
        "How far from the uncompressed run is each, at the same bits?",
        "What does the downlink cost, and what does a compressed one give?",
    ),
    defaults=Settings(data="adult", workers=32, rounds=30, seeds=10),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
    tuning=Tuning("multiple of 1/L as step", tuned, to_choose, MULTIPLES),
    template=TEMPLATE,
)
