"""Speed-up, efficiency and time to a target against the number of workers, for each topology with what it carries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.compressors import QSGD, Compressor, Identity, RandK, Scaled
from qsim.downlinks import CompressedWeights, DenseWeights, Downlink, Replicated
from qsim.network import (
    PARTS,
    AllGather,
    Exponential,
    Link,
    Machines,
    ParameterServer,
    Topology,
    simulate_timing,
)
from qsim.study import (
    Cell,
    Reach,
    Results,
    Settings,
    Study,
    bullets,
    compare,
    each_seed,
    figure_grid,
    legend_below,
    log_axes,
    look,
    panel_letters,
    table,
    winner,
)
from qsim.study.statistics import band

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
BATCH = 256  # rows per worker, weak scaling
OBJECTIVE = qsim.LogisticRegression(l2=1e-3)
STEP, HALF = 0.1, 0.5
LINK = Link(bandwidth=1e8, latency=1e-4)
PER_NONZERO, ENCODE = 1e-6, 1e-8
DENSE_DECODE, QSGD_DECODE, RANDK_DECODE = 5e-10, 1.5e-8, 6e-9
DELAY = Exponential(1e-3)
FEWEST, MOST, DRAWS = 2, 20, 2000  # rounds of a rehearsal, for each seed, and workers times rounds to aim at
STRONG, WEAK, DELAYED, GOAL = "strong", "weak", "strong, delays", "to the target"
RUN, REHEARSAL = "run", "rehearsal"
TARGET, TO_TARGET, LONGEST, EVERY = 0.02, (1, 10, 100, 1000), 400, 4
"""A suboptimality, the W that are trained to it, the most rounds for each of the settings', and when to look."""
ALIKE = 0.05  # ways whose speed-ups differ by less at every W are called alike


@dataclass(frozen=True)
class Way:
    """A topology with what goes over it: decode is in seconds per byte."""

    topology: Topology
    compressor: Compressor
    downlink: Downlink
    decode: float


def ways(n: int) -> dict[str, Way]:
    """Return the ways for n coordinates, by name."""
    qsgd, some = QSGD(levels=4), RandK(max(1, n // 10), positions="drawn")
    return {
        "server, 32 bit": Way(ParameterServer(), Identity(), DenseWeights(), DENSE_DECODE),
        "server, QSGD": Way(
            ParameterServer(), qsgd, CompressedWeights(Scaled(qsgd), qsim.codecs.Varint()), QSGD_DECODE
        ),
        "all-gather, QSGD": Way(AllGather(), qsgd, Replicated(), QSGD_DECODE),
        "ring, 32 bit": Way(qsim.network.Ring(), Identity(), Replicated(), DENSE_DECODE),
        "tree, 32 bit": Way(qsim.network.Tree(), Identity(), Replicated(), DENSE_DECODE),
        "tree, Rand-k": Way(qsim.network.Tree(), some, Replicated(), RANDK_DECODE),
        "halving-doubling, 32 bit": Way(qsim.network.HalvingDoubling(), Identity(), Replicated(), DENSE_DECODE),
    }


def cluster(way: Way, rounds: int) -> qsim.Network:
    """Return the cluster on which a way is taken; what is sent in the last round is recorded."""
    machines = Machines(per_nonzero=PER_NONZERO, encode_per_entry=ENCODE, decode_per_byte=way.decode)
    return qsim.Network(way.topology, LINK, machines, timelines=(rounds,))


def counted(settings: Settings) -> list[int]:
    """Return the numbers of workers that are run: those up to the settings' that leave no worker without a row."""
    most = min(settings.workers, settings.load().rows)
    return [count for count in COUNTS if count <= most]


def curve(scaling: str, name: str, workers: int) -> str:
    return f"{scaling}, {name}, W = {workers}"


def cells(settings: Settings) -> list[Cell]:
    data, step = settings.load(), qsim.steps.Constant(STEP)
    methods = {STRONG: qsim.GradientDescent(step=step), WEAK: qsim.SGD(step=step, batch=BATCH)}

    def run(case: tuple[str, Way, int], seed: int) -> qsim.Run:
        scaling, way, workers = case
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=methods[scaling],
            compressor=way.compressor,
            codec=qsim.codecs.Varint() if isinstance(way.compressor, QSGD) else None,
            downlink=way.downlink,
            workers=workers,
            network=cluster(way, settings.rounds),
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=settings.rounds,
            optimum=False,
        )

    cases = {
        curve(scaling, name, workers): (scaling, way, workers)
        for scaling in methods
        for name, way in ways(data.features).items()
        for workers in counted(settings)
    }

    def train(case: tuple[Way, int], seed: int) -> qsim.Run:
        way, workers = case
        found = replace(
            run((STRONG, way, workers), seed),
            network=replace(cluster(way, 1), timelines=()),
            rounds=LONGEST * settings.rounds,
            evaluate_every=EVERY,
            optimum=True,
            until=qsim.stopping.Suboptimality(TARGET),
        )
        return replace(found, method=qsim.GradientDescent(step=qsim.steps.Constant(safe_step(found))))

    trained = {
        curve(GOAL, name, workers): (way, workers)
        for name, way in ways(data.features).items()
        for workers in goals(settings)
    }
    return [*each_seed(settings, cases, run), *each_seed(settings, trained, train)]


def goals(settings: Settings) -> list[int]:
    """Return the numbers of workers that are trained to the target."""
    return [workers for workers in TO_TARGET if workers <= counted(settings)[-1]]


def safe_step(run: qsim.Run) -> float:
    """Return 1/(L (1 + s)), s = omega/W, or omega where all workers draw alike, as what is summed on its way must."""
    problem = run.problem()
    return 1 / (problem.smoothness * (1 + problem.omega / (1 if problem.shared else run.workers)))


def setting(settings: Settings) -> str:
    data, ran = settings.load(), counted(settings)
    n, decode = data.features, f"{DENSE_DECODE:g}, {QSGD_DECODE:g} and {RANDK_DECODE:g}"
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset}, n = {n}. Strong scaling (a, b): all rows"
        f" are shared by W workers, so that compute falls as T/W; weak (c, d): every worker reads {BATCH} rows per"
        " round. Speed-up: the compute time of one machine for the same rows, over the time of a round; efficiency: the"
        " speed-up over W; one machine alone would need no network. Filled markers, full lines: real runs of up to"
        f" {ran[-1]:,} workers, {settings.rounds} rounds, every message encoded, and of the last one the time (the"
        " first sends the streams' headers too). Open markers, dashed lines: rehearsals, in which nothing is trained:"
        " workers draw their message sizes and non-zeros from those recorded in the largest run (strong scaling: the"
        " non-zeros times its W over W, as if rows could be cut; whether there are so many rows is not asked),"
        f" {FEWEST} to {MOST} rounds for each seed. (e, f): strong scaling with exponential delays of"
        f" {1000 * DELAY.mean:g} ms on average, a draw for each worker and round; all rehearsed, with the messages that"
        " the run of the same W recorded (beyond, as before). (g, h): training on all rows, shared by W, to a"
        f" suboptimality of {TARGET:g} (looked at every {EVERY} rounds), with step 1/(L (1 + omega/W)), omega the"
        " compressor's variance (Rand-k: omega for omega/W, since workers that draw alike do not average their errors"
        f" out). Assumed: links of {LINK.bandwidth / 1e6:g} Mbit/s each way with {1e6 * LINK.latency:g} us latency; a"
        f" non-zero takes {1e6 * PER_NONZERO:g} us (a model some hundred times as heavy as logistic regression, so that"
        f" there is something to share). Encoding {ENCODE:g} s an entry, decoding {decode} s a byte (32 bit, QSGD,"
        " Rand-k), rounded from `python -m qsim.calibrate` on one core. QSGD has 4 levels (varint; to the server and,"
        f" scaled, back); Rand-k keeps {max(1, n // 10)} coordinates that both ends draw, and can be summed on its way,"
        f" as floats can; the all-reduces (ring, tree, halving-doubling) carry nothing else. {settings.statistics} A"
        " seed sets partition, batches,"
        " quantization, resampling and delays."
    )


@dataclass(frozen=True)
class Point:
    """The seconds of a round with so many workers, by part, for each seed."""

    scaling: str
    way: str
    workers: int
    source: str
    parts: NDArray[np.float64]
    """Of shape (seeds, parts), as `qsim.network.PARTS`."""

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Of a round, for each seed."""
        return np.asarray(self.parts.sum(axis=1))


def measured(results: Results) -> list[Point]:
    """Return the times of all runs, and of the rehearsals beyond them and with delays."""
    settings, found = results.settings, []
    ran = counted(settings)
    for name, way in ways(settings.load().features).items():
        network = cluster(way, settings.rounds)
        late = replace(network, machines=replace(network.machines, delay=DELAY))
        for workers in COUNTS:
            records = min(workers, ran[-1])
            for scaling in (STRONG, WEAK):
                traces = results.traces[curve(scaling, name, records)]
                if workers in ran:
                    parts = [[t.columns[f"seconds_{part}"][-1] for part in PARTS] for t in traces]
                    found.append(Point(scaling, name, workers, RUN, np.array(parts)))
                else:
                    shared = records / workers if scaling == STRONG else 1.0
                    parts = again(network, traces, workers, shared)
                    found.append(Point(scaling, name, workers, REHEARSAL, np.array(parts)))
            traces = results.traces[curve(STRONG, name, records)]
            found.append(
                Point(DELAYED, name, workers, REHEARSAL, np.array(again(late, traces, workers, records / workers)))
            )
    return found


def again(network: qsim.Network, traces: list[Any], workers: int, shared: float) -> list[list[float]]:
    """Rehearse with what last rounds recorded, a seed for each; shared: a worker's non-zeros are times this."""
    rows = []
    for seed, trace in enumerate(traces):
        recorded = trace.schedule
        frame = simulate_timing(
            network,
            sizes=recorded["bytes"],
            nonzeros=recorded["nonzeros"] * shared,
            entries=recorded["entries"],
            down=float(trace.columns["bits_down"][-1]) / 8 / recorded["bytes"].size,
            workers=workers,
            rounds=min(MOST, max(FEWEST, DRAWS // workers)),
            seed=seed,
        )
        rows.append([float(frame[part].mean()) for part in PARTS])
    return rows


def alone(results: Results) -> dict[str, NDArray[np.float64]]:
    """Return what one machine computes in a round, without a network, for each seed, by scaling."""
    first = [p for p in results.once(measured) if p.workers == 1 and p.source == RUN]
    compute = {p.scaling: p.parts[:, PARTS.index("compute")] for p in first}
    return compute | {DELAYED: compute[STRONG]}


def speedups(results: Results, point: Point) -> NDArray[np.float64]:
    """Return T_1/T_W, and of weak scaling W T_1/T_W, for each seed."""
    work = point.workers if point.scaling == WEAK else 1
    return np.asarray(work * alone(results)[point.scaling] / point.seconds)


def numbers(results: Results) -> pd.DataFrame:
    """Return a row for each scaling, way and W: seconds of a round by part, speed-up and efficiency with bands."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for point in results.once(measured):
        here = curve(point.scaling, point.way, point.workers)
        row: dict[str, Any] = {
            "curve": here if point.source == RUN else f"{here}, rehearsed",
            "scaling": point.scaling,
            "way": point.way,
            "workers": point.workers,
            "source": point.source,
            "seeds": len(point.parts),
            "seconds": point.seconds.mean(),
        }
        row |= dict(zip(PARTS, point.parts.mean(axis=0), strict=True))
        gained = speedups(results, point)
        for quantity, samples in (("speed-up", gained), ("efficiency", gained / point.workers)):
            seen = band(np.zeros(1), samples[:, None], results.settings.bands)
            row |= {quantity: seen.mean[0], f"{quantity}_low": seen.low[0], f"{quantity}_high": seen.high[0]}
        rows.append(row)
    for name in ways(results.settings.load().features):
        for workers in goals(results.settings):
            row = {"curve": curve(GOAL, name, workers), "scaling": GOAL, "way": name, "workers": workers}
            row |= {"source": RUN, "seeds": results.settings.seeds}
            for axis, quantity in (("seconds", "seconds to the target"), ("round", "rounds to the target")):
                found = reached(results, name, workers, axis)
                row |= {quantity: found.mean, f"{quantity}_low": found.low, f"{quantity}_high": found.high}
            rows.append(row)
    return pd.DataFrame(rows)


def reached(results: Results, name: str, workers: int, axis: str) -> Reach:
    return results.reach(curve(GOAL, name, workers), TARGET, axis=axis)


def alike(shown: pd.DataFrame) -> list[str]:
    """Return pairs of ways whose speed-ups hardly differ, whatever W is, by scaling."""
    found = []
    for scaling in (STRONG, WEAK, DELAYED):
        by_way = shown[shown["scaling"] == scaling].pivot_table(index="workers", columns="way", values="speed-up")
        for first, second in combinations(by_way.columns, 2):
            apart = float(np.abs(np.log(by_way[first] / by_way[second])).max())
            if apart < ALIKE:
                found.append(f"{scaling}: {first} and {second} (at most {100 * np.expm1(apart):.1f}% apart)")
    return found


def checked(results: Results) -> float:
    """Return the largest relative difference of a rehearsal to the run that it could replace: the largest of each."""
    settings = results.settings
    most, found = counted(settings)[-1], []
    for name, way in ways(settings.load().features).items():
        for scaling in (STRONG, WEAK):
            traces = results.traces[curve(scaling, name, most)]
            ran = np.mean([t.columns["seconds"][-1] for t in traces])
            found.append(abs(np.sum(again(cluster(way, settings.rounds), traces, most, 1.0)) / len(traces) / ran - 1))
    return float(max(found))


def answers(results: Results) -> list[str]:
    shown = results.once(numbers)
    ran = counted(results.settings)[-1]
    rows = {}
    for name in dict.fromkeys(shown["way"]):
        cellsof = []
        for scaling in (STRONG, DELAYED):
            here = shown[(shown["way"] == name) & (shown["scaling"] == scaling)]
            best = here.loc[here["speed-up"].idxmax()]
            cellsof.append(_with_interval(best, "speed-up", f" at W = {best['workers']:,}"))
        here = shown[(shown["way"] == name) & (shown["scaling"] == STRONG)]
        best = here.loc[here["speed-up"].idxmax()]
        shares = " + ".join(
            f"{100 * best[part] / best['seconds']:.0f}% {part}"
            for part in PARTS
            if best[part] >= 0.005 * best["seconds"]
        )
        rows[name] = [*cellsof, shares]
    strong = table(["optimum", "with delays", "of the round at the optimum"], rows)
    weak = {}
    for name in dict.fromkeys(shown["way"]):
        here = shown[(shown["way"] == name) & (shown["scaling"] == WEAK)]
        half = here.loc[here["efficiency"] >= HALF, "workers"]
        last = here.iloc[-1]
        weak[name] = [
            f"{half.max():,}" if len(half) else "none",
            _with_interval(last, "speed-up"),
            _with_interval(last, "efficiency"),
        ]
    best = {(name, s): _best(results, name, s) for name in dict.fromkeys(shown["way"]) for s in (STRONG, DELAYED)}
    ratios = {name: best[name, STRONG] / best[name, DELAYED] for name in dict.fromkeys(shown["way"])}
    losses = compare(ratios, np.ones(results.settings.seeds), results.settings.bands, ratio=True)
    loss = [f"{name}: {lost}" for name, lost in losses.items()]
    return [
        f"The largest speed-up among the W shown (of one machine's {alone(results)[STRONG].mean():.3g} s per round);"
        f" W above {ran:,} is rehearsed:{strong}",
        f"Each worker computes {1000 * alone(results)[WEAK].mean():.3g} ms per round:"
        + table(
            ["largest W with an efficiency of at least 1/2", f"speed-up at W = {COUNTS[-1]:,}", "efficiency there"],
            weak,
        ),
        f"The optimum's speed-up is lowered by delays of {1000 * DELAY.mean:g} ms on average:{bullets(loss)}",
        _to_target(results),
        f"At W = {ran:,}, where both are known, a rehearsal differs from the run by at most {checked(results):.2g} of"
        " the seconds (it resamples the sizes and non-zeros, so its slowest worker is another).",
    ]


def _to_target(results: Results) -> str:
    """Say which W is the fastest to the target, and what of it is rounds and what the time of a round."""
    names, fleet = list(ways(results.settings.load().features)), goals(results.settings)
    rows: dict[str, list[object]] = {}
    best: dict[tuple[str, int], float] = {}
    for name in names:
        rows[name] = []
        for workers in fleet:
            seconds, rounds = (reached(results, name, workers, axis) for axis in ("seconds", "round"))
            if seconds.mean > 0:
                best[name, workers] = seconds.mean
            rows[name].append(f"{seconds} s, {rounds} rounds" if seconds.mean > 0 else f"{seconds} s")
    said = "No way gets there with every seed."
    if best:
        name, workers = min(best, key=lambda way: best[way])
        shown = results.once(numbers).query("scaling == @STRONG")
        top = shown.loc[shown["speed-up"].idxmax(), "way"]
        own = [cost for way, cost in best.items() if way[0] == top]
        ratio = f"{min(own) / best[name, workers]:.3g} times as long" if own else "more than it was given"
        said = f"The least: {name}, W = {workers}."
        cheapest = results.cheapest([curve(GOAL, *way) for way in best], TARGET, axis="seconds")
        if cheapest is not None:
            others = {shown.removeprefix(f"{GOAL}, "): found for shown, found in cheapest[1].items()}
            said = f"The least: {winner(cheapest[0].removeprefix(f'{GOAL}, '), others)}."
        said += f" {top} has the largest speed-up of a round and needs {ratio} at its best W: rounds are not all alike."
    same = alike(results.once(numbers))
    coincide = f" Lines that coincide, by less than {ALIKE:.0%}: {'; '.join(same)}." if same else ""
    return (
        "Time is rounds times the time of a round, and compression changes both: a coarser message has a shorter round"
        f" and, with a step that its variance allows, more of them. {said}{coincide} To the target:"
        + table([f"W = {workers:,}" for workers in fleet], rows)
    )


def _best(results: Results, name: str, scaling: str) -> NDArray[np.float64]:
    """Return the speed-ups of each seed at the W with the largest mean of them."""
    points = [p for p in results.once(measured) if p.way == name and p.scaling == scaling]
    return max((speedups(results, point) for point in points), key=lambda each: float(each.mean()))


def _with_interval(row: pd.Series[Any], quantity: str, at: str = "") -> str:
    low, high = row[f"{quantity}_low"], row[f"{quantity}_high"]
    return f"{row[quantity]:.3g}{at}" + (f" ({low:.3g} to {high:.3g})" if f"{low:.3g}" != f"{high:.3g}" else "")


def figure(results: Results) -> Figure:
    shown = results.once(numbers)
    names, ran = list(dict.fromkeys(shown["way"])), counted(results.settings)[-1]
    shown = shown[shown["scaling"] != GOAL]
    with figure_grid(4, 2, height=8.8) as (found, axes):
        for row, scaling in enumerate((STRONG, WEAK, DELAYED)):
            for ax, quantity in zip(axes[row], ("speed-up", "efficiency"), strict=True):
                if quantity == "speed-up":
                    ax.plot(COUNTS, COUNTS, color="0.6", linewidth=0.8, label="linear")
                for place, name in enumerate(names):
                    here = shown[(shown["way"] == name) & (shown["scaling"] == scaling)]
                    _line(ax, here, quantity, place, name)
                if scaling != DELAYED and ran < COUNTS[-1]:
                    ax.axvline(ran, color="0.5", linewidth=0.8, linestyle=":")
                ax.set(xlabel="workers W", ylabel=quantity)
                if quantity == "speed-up":
                    log_axes(ax, "x", "y")
                    ax.set_ylim(*((0.5, 2e5) if scaling == WEAK else (0.02, 1e3)))
                else:
                    log_axes(ax, "x")
                    ax.set_ylim(0, 1.05)
        for ax, axis, words in zip(axes[3], ("seconds", "round"), ("virtual seconds", "rounds"), strict=True):
            for place, name in enumerate(names):
                costs = [reached(results, name, workers, axis) for workers in goals(results.settings)]
                means = np.array([[cost.mean, cost.low, cost.high] for cost in costs]).T
                style = look(place) | {"linestyle": "-", "linewidth": _width(place), "markersize": 3}
                ax.plot(goals(results.settings), means[0], **style)
                ax.fill_between(goals(results.settings), *means[1:], alpha=0.2, linewidth=0, color=style["color"])
            ax.set(xlabel="workers W", ylabel=f"{words} to the target")
            log_axes(ax, "x", "y")
        titles = [
            f"{scaling}: {quantity}"
            for scaling in ("strong scaling", "weak scaling", "strong scaling with delays")
            for quantity in ("speed-up", "efficiency")
        ]
        panel_letters(axes.flat, [*titles, f"time to suboptimality {TARGET:g}", f"rounds to suboptimality {TARGET:g}"])
        for label, filled in (("real runs", True), ("rehearsed", False)):
            style: dict[str, Any] = {"color": "0.4", "marker": "o", "linestyle": "-" if filled else "--"}
            axes[0, 0].plot([], [], label=label, **style | ({} if filled else {"markerfacecolor": "white"}))
        legend_below(found, axes.flat)
    return found


def _width(place: int) -> float:
    """Return the width of a line, less for each that is drawn over it, so that lines that coincide are all seen."""
    return 2.9 - 0.37 * place


def _line(ax: Any, here: pd.DataFrame, quantity: str, place: int, label: str) -> None:
    """Draw runs as a full line with filled markers, what is rehearsed dashed and with open ones."""
    style = look(place) | {"linestyle": "-"}
    runs = here[here["source"] == RUN]
    beyond = here[here["source"] == REHEARSAL]
    ax.plot([], [], label=label, **style)
    style |= {"linewidth": _width(place), "markersize": 3}
    ax.plot(runs["workers"], runs[quantity], **style)
    joined = here.loc[[*runs.index[-1:], *beyond.index]]
    ax.plot(joined["workers"], joined[quantity], color=style["color"], linestyle="--", linewidth=_width(place))
    ax.plot(beyond["workers"], beyond[quantity], **style | {"linestyle": "", "markerfacecolor": "white"})
    ends = (here[f"{quantity}_{end}"] for end in ("low", "high"))
    ax.fill_between(here["workers"], *ends, alpha=0.2, linewidth=0, color=style["color"])


study = Study(
    title="Scaling: speed-up, efficiency and time to a target against the number of workers",
    questions=(
        "Strong scaling: which W is best, and what does the time go into there?",
        "Weak scaling: how far does it go?",
        "What do delays cost?",
        "How long does it take to a target?",
        "How near are rehearsals to runs?",
    ),
    defaults=Settings(data="adult", workers=10_000, rounds=2, seeds=3),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
)
