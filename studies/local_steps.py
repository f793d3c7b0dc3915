"""Local steps: rounds and bits to a target over the steps between two exchanges, and what drift costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.compressors import QSGD, Compressor, Identity
from qsim.datasets import ByLabel, Partition, Shuffled
from qsim.downlinks import DenseWeights, SparseSum
from qsim.methods import LocalSGD
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
)
from qsim.study.statistics import band

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OBJECTIVE = qsim.LogisticRegression(l2=1e-3)
LOCAL_STEPS = (1, 2, 4, 8, 16, 32)
BATCH, STEP = 16, 0.2
SHARDS: dict[str, Partition] = {"iid": Shuffled(), "by label": ByLabel()}
CODES: dict[str, Compressor] = {"exact": Identity(), "QSGD, s = 4": QSGD(4)}
TARGET = 0.02
EVERY = 2
Case = tuple[str, str, int]
"""Kind of shards, way of sending, steps between two exchanges."""


def cases() -> dict[str, Case]:
    return {name(*case): case for case in ((s, c, h) for s in SHARDS for c in CODES for h in LOCAL_STEPS)}


def name(shards: str, code: str, steps: int) -> str:
    return f"{shards}, {code}, H = {steps}"


def cells(settings: Settings) -> list[Cell]:
    data = settings.load()

    def run(case: Case, seed: int) -> qsim.Run:
        shards, code, steps = case
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=LocalSGD(qsim.steps.Constant(STEP), steps=steps, batch=BATCH),
            compressor=CODES[code],
            codec=qsim.codecs.Varint() if isinstance(CODES[code], qsim.QSGD) else None,
            downlink=DenseWeights() if code == "exact" else SparseSum(),
            workers=settings.workers,
            partition=SHARDS[shards],
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=EVERY,
        )

    return each_seed(settings, cases(), run)


def setting(settings: Settings) -> str:
    smoothness = OBJECTIVE.smoothness(settings.load())
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset} over {settings.workers} workers, whose rows"
        " are shuffled (iid) or sorted by label, so that most workers see one class. Every round each worker goes H"
        f" steps of SGD (batches of {BATCH} rows, step {STEP:g} = {STEP * smoothness:.2g}/L, the same for all H) and"
        " sends how far it came: as float32 (exact: local SGD, FedAvg) or by QSGD with s = 4 in the varint code"
        f" (FedPAQ). (a, b) To the first evaluated round (every {EVERY}) with a suboptimality of at most {TARGET:g}; no"
        f" point where not all seeds get there. (c) After {settings.rounds} rounds for every H. Dashed in (a): the"
        " rounds of H = 1 over H, exact and iid. Bits are of all workers, uplink and downlink: the server sends the"
        " weights as float32, or with QSGD the sum of the messages as sparse floats, which loses nothing."
        f" {settings.statistics}"
    )


def reached(results: Results, case: Case, axis: str) -> Reach:
    return results.reach(name(*case), TARGET, axis=axis)


def ends(results: Results, case: Case) -> NDArray[np.float64]:
    """Return the suboptimality at the end of each seed's run."""
    return np.array([trace.axis("suboptimality")[-1] for trace in results.traces[name(*case)]])


def numbers(results: Results) -> pd.DataFrame:
    """Return for each curve how many seeds reach the target, rounds and bits to it, and where the runs end."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for curve, case in cases().items():
        row: dict[str, Any] = dict(zip(("curve", "shards", "sent", "H"), (curve, *case), strict=True))
        row |= {"seeds": results.settings.seeds, "reached": reached(results, case, "round").reached}
        for axis, words in (
            ("round", "rounds to the target"),
            ("bits", "bits to the target"),
            ("bits_up", "uplink bits to the target"),
        ):
            found = reached(results, case, axis)
            row |= {words: found.mean, f"{words}_low": found.low, f"{words}_high": found.high}
        final = _final(results, case)
        row |= {"final suboptimality": final[0], "final suboptimality_low": final[1]}
        rows.append(row | {"final suboptimality_high": final[2]})
    return pd.DataFrame(rows)


def _final(results: Results, case: Case) -> tuple[float, float, float]:
    found = band(np.zeros(1), ends(results, case)[:, None], results.settings.bands, logarithmic=True)
    return float(found.mean[0]), float(found.low[0]), float(found.high[0])


def answers(results: Results) -> list[str]:
    columns = [f"{shards}, {code}" for shards in SHARDS for code in CODES]

    def rows(axis: str) -> dict[str, list[str]]:
        return {
            f"H = {h}": [str(reached(results, (s, c, h), axis)) for s in SHARDS for c in CODES] for h in LOCAL_STEPS
        }

    drift = compare(
        {f"H = {h}": ends(results, ("by label", "exact", h)) / ends(results, ("iid", "exact", h)) for h in LOCAL_STEPS},
        np.ones(results.settings.seeds),
        results.settings.bands,
        ratio=True,
    )
    lines = (
        f"{h}: iid {_final(results, ('iid', 'exact', h_))[0]:.3g}, by label"
        f" {_final(results, ('by label', 'exact', h_))[0]:.3g}, {ratio}"
        for (h, ratio), h_ in zip(drift.items(), LOCAL_STEPS, strict=True)
    )
    return [
        f"{_fall(results)}Rounds to the target:{table(columns, rows('round'))}",
        f"{_save(results)}Bits both ways to the target:{table(columns, rows('bits'))}",
        f"Suboptimality after {results.settings.rounds} rounds with exact differences, and by label as ratio to"
        f" iid:{bullets(lines)}",
    ]


def _fall(results: Results) -> str:
    """Say by how much the most local steps cut the rounds."""
    best, ratios = {}, {}
    for shards in SHARDS:
        found = {h: reached(results, (shards, "exact", h), "round") for h in LOCAL_STEPS}
        costs = {h: reach.costs for h, reach in found.items() if reach.mean > 0}
        if LOCAL_STEPS[0] in costs and len(costs) > 1:
            best[shards] = min(costs, key=lambda h: found[h].mean)
            ratios[shards] = costs[LOCAL_STEPS[0]] / costs[best[shards]]
    gains = compare(ratios, np.ones(results.settings.seeds), results.settings.bands, ratio=True) if ratios else {}
    words = [f"{shards} fewer with H = {best[shards]} by {gain}" for shards, gain in gains.items()]
    return f"Rounds with exact differences, against H = {LOCAL_STEPS[0]}: {'; '.join(words)}. " if words else ""


def _save(results: Results) -> str:
    """Say which way takes the fewest bits."""
    words, ratios = {}, {}
    first = ("exact", LOCAL_STEPS[0])
    for shards in SHARDS:
        spent = {(c, h): reached(results, (shards, c, h), "bits").mean for c in CODES for h in LOCAL_STEPS}
        spent = {way: bits for way, bits in spent.items() if bits > 0}
        if spent:
            best = min(spent, key=lambda way: spent[way])
            words[shards] = f"{shards}: {best[0]} with H = {best[1]}"
            if first in spent and best != first:
                for axis, unit in (("bits", "bits both ways"), ("bits_up", "uplink bits"), ("round", "rounds")):
                    costs = [reached(results, (shards, *way), axis).costs for way in (first, best)]
                    ratios[f"{shards}, {unit}"] = costs[0] / costs[1]
    if not words:
        return ""
    said = f"The fewest bits both ways: {'; '.join(words.values())}."
    if ratios:
        gains = compare(ratios, np.ones(results.settings.seeds), results.settings.bands, ratio=True)
        said += (
            f" How many times fewer than exact, H = 1:{bullets(f'{name}: {gain}' for name, gain in gains.items())}\n\n"
        )
    return said


def figure(results: Results) -> Figure:
    from matplotlib.ticker import NullLocator

    with figure_grid(1, 3, height=2.7) as (found, axes):
        for color, shards in enumerate(SHARDS):
            for code, dash, filled in zip(CODES, ("-", ":"), (True, False), strict=True):
                style = {key: look(color + 1)[key] for key in ("color", "marker")} | {"linestyle": dash}
                style |= {} if filled else {"markerfacecolor": "none"}
                every = [(shards, code, h) for h in LOCAL_STEPS]
                for ax, axis in zip(axes[0], ("round", "bits"), strict=False):
                    spent = [reached(results, case, axis) for case in every]
                    _line(ax, [(r.mean, r.low, r.high) for r in spent], f"{shards}, {code}", style)
                _line(axes[0, 2], [_final(results, case) for case in every], f"{shards}, {code}", style)
        first = reached(results, ("iid", "exact", LOCAL_STEPS[0]), "round").mean
        steps = np.array(LOCAL_STEPS, float)
        axes[0, 0].plot(steps, first * steps[0] / steps, color="0.5", linewidth=0.8, linestyle="--", label="1/H")
        labels = ("rounds", "bits, uplink + downlink", f"suboptimality, round {results.settings.rounds}")
        for ax, words in zip(axes[0], labels, strict=True):
            ax.set(xlabel="local steps H", ylabel=words)
            log_axes(ax, "x", "y")
            ax.set_xticks(LOCAL_STEPS, labels=[str(h) for h in LOCAL_STEPS])
            ax.xaxis.set_minor_locator(NullLocator())
        panel_letters(axes[0], ("rounds to the target", "bits to the target", "where runs end"))
        legend_below(found, axes[0])
    return found


def _line(ax: Axes, found: list[tuple[float, float, float]], label: str, style: dict[str, Any]) -> None:
    """Draw means with their intervals over the local steps."""
    mean, low, high = np.array(found).T
    ax.fill_between(LOCAL_STEPS, low, high, color=style["color"], alpha=0.15, linewidth=0)
    ax.plot(LOCAL_STEPS, mean, label=label, **style)


study = Study(
    title="Local steps: rounds and bits to a target, and what drift costs",
    questions=(
        "How do the rounds to the target fall with the local steps H?",
        "Which H takes the fewest bits, with and without quantization?",
        "What does drift cost?",
    ),
    defaults=Settings(data="adult", workers=8, rounds=250, seeds=6),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
)
