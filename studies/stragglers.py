"""Stragglers: what waiting costs in time, and what dropping costs in loss, with like and unlike data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import qsim
from qsim.compressors import Compressor, ErrorFeedback, Identity
from qsim.datasets import ByLabel, Partition, Shuffled
from qsim.methods import EF21, GradientDescent
from qsim.network import Exponential, Fastest, FixedSpeeds, Link, Machines, Network, Rule, Timeout, WaitForAll
from qsim.study import (
    AxisSpec,
    Cell,
    Panel,
    Results,
    Settings,
    Study,
    bullets,
    draw,
    each_seed,
    figure_grid,
    legend_below,
    panel_letters,
    table,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OBJECTIVE = qsim.LogisticRegression(l2=1e-3)
BASE, DELAY, SLOWER = 0.01, 0.01, 3.0
TIMEOUT = 0.04
LINK = Link(bandwidth=2e7, latency=1e-3)
DATA: dict[str, Partition] = {"alike": Shuffled(), "by label": ByLabel()}
WAIT, LONGER, MEMORY, STALE = "wait for all", "wait, longer step", "3/4, memory", "3/4, last kept"
PARTS = {"downlink": "downlink", "compute": "compute (mean)", "uplink": "uplink", "wait": "wait"}
SHOWN = (("alike", "seconds"), ("by label", "seconds"), ("by label", "round"))
TARGET = 0.01
EVERY = 5


@dataclass(frozen=True)
class Way:
    """Whom the server waits for, what the workers send, what the server makes of it, and the step over 1/L."""

    rule: Rule
    compressor: Compressor = field(default_factory=Identity)
    method: type[GradientDescent | EF21] = GradientDescent
    multiple: float = 1.0


def rules(workers: int) -> dict[str, Way]:
    """Return the ways by name."""
    kept = max(1, 3 * workers // 4)
    most, half = Fastest(kept), Fastest(max(1, workers // 2))
    return {
        WAIT: Way(WaitForAll()),
        LONGER: Way(WaitForAll(), multiple=workers / kept),
        "timeout": Way(Timeout(TIMEOUT)),
        "fastest 1/2": Way(half),
        "fastest 3/4": Way(most),
        MEMORY: Way(most, ErrorFeedback(Identity())),
        STALE: Way(most, method=EF21),
    }


def speeds(workers: int) -> FixedSpeeds:
    """Return the factors: the last quarter of the workers, who hold the rarer label if rows are sorted, is slow."""
    slow = max(1, workers // 4)
    return FixedSpeeds((1.0,) * (workers - slow) + (SLOWER,) * slow)


def step(settings: Settings) -> float:
    """Return 1/L, the step at which gradient descent is sure to fall."""
    return 1 / OBJECTIVE.smoothness(settings.load())


def cells(settings: Settings) -> list[Cell]:
    data = settings.load()
    machines = Machines(base=BASE, per_nonzero=0.0, delay=Exponential(DELAY), speeds=speeds(settings.workers))
    curves = {
        f"{how}: {rule}": (partition, found)
        for how, partition in DATA.items()
        for rule, found in rules(settings.workers).items()
    }

    def run(curve: tuple[Partition, Way], seed: int) -> qsim.Run:
        partition, way = curve
        return qsim.Run(
            data,
            objective=OBJECTIVE,
            method=way.method(step=qsim.steps.Constant(way.multiple * step(settings))),
            compressor=way.compressor,
            workers=settings.workers,
            partition=partition,
            network=Network(link=LINK, machines=machines, rule=way.rule),
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=EVERY,
        )

    return each_seed(settings, curves, run)


def setting(settings: Settings) -> str:
    slow = sum(factor > 1 for factor in speeds(settings.workers).values)
    return (
        f"Logistic regression (l2 = {OBJECTIVE.l2:g}) on {settings.dataset} over {settings.workers} workers, full-batch"
        f" updates as floats, step 1/L = {step(settings):.3g}. Virtual time: an exchange takes a machine {BASE:g} s and"
        f" an exponential delay of mean {DELAY:g} s, both {SLOWER:g} times as long on the last {slow}; links of"
        f" {LINK.bandwidth / 1e6:g} Mbit/s and {1e3 * LINK.latency:g} ms, one parameter server. Data alike: shuffled;"
        f" by label: sorted, so that the slow machines hold labels of one kind. Timeout after {TIMEOUT:g} s; fastest:"
        " the server waits for this share of the messages (3/4: as with"
        f" {settings.workers - max(1, 3 * settings.workers // 4)} backup workers); the mean is over the messages"
        " that arrived."
        " Memory: error feedback without compression, so that a worker adds to its next message what was dropped. Since"
        " this comes on top of a mean over the messages that arrived, it acts like a longer step; waiting with the step"
        " (workers/messages waited for)/L is shown for comparison. Last kept: the server keeps using the last gradient"
        " that arrived from each worker (EF21 without compression). (d) is the mean time of a round; compute is"
        f" the mean over the workers whose messages arrived. {settings.statistics} A seed sets the delays, and the"
        " partition where it"
        " is shuffled."
    )


def split(results: Results) -> pd.DataFrame:
    """Return the mean seconds of a round by part, a row a rule; delays do not depend on the data."""
    import pandas as pd

    rows = {}
    for rule in rules(results.settings.workers):
        traces = results.traces[f"alike: {rule}"]
        rows[rule] = {
            part: np.mean([trace.columns[f"seconds_{part}"][1:].mean() for trace in traces]) for part in PARTS
        }
        rows[rule]["dropped"] = np.mean([trace.columns["dropped"][1:].mean() for trace in traces])
    return pd.DataFrame.from_dict(rows, orient="index")


def numbers(results: Results) -> pd.DataFrame:
    """Return the frame of the runs, and below it the parts of a round."""
    import pandas as pd

    parts = results.once(split).add_prefix("round_").reset_index(names="curve").assign(axis="rule")
    return pd.concat([results.numbers(AxisSpec("seconds", log=False)), parts], ignore_index=True)


def answers(results: Results) -> list[str]:
    workers = results.settings.workers
    parts = results.once(split)
    whole = parts[list(PARTS)].sum(axis=1)
    others = [rule for rule in rules(workers) if rule != WAIT]
    rounds = [
        f"{rule}: {1e3 * whole[rule]:.1f} ms, {parts.loc[rule, 'wait'] / whole[rule]:.0%} of it waiting;"
        f" {parts.loc[rule, 'dropped']:.2g} of {workers} messages dropped"
        for rule in parts.index
    ]
    finals, costs = {}, {}
    for how in DATA:
        compared = results.compare([f"{how}: {rule}" for rule in others], f"{how}: {WAIT}", "suboptimality")
        finals[how] = bullets(
            [f"{WAIT}: {results.final(f'{how}: {WAIT}', 'suboptimality'):.3g}"]
            + [
                f"{rule}: {results.final(f'{how}: {rule}', 'suboptimality'):.3g}, {compared[f'{how}: {rule}']}"
                for rule in others
            ]
        )
        costs[how] = [results.reach(f"{how}: {rule}", TARGET, axis="seconds") for rule in rules(workers)]
    ends = f"Suboptimality after {results.settings.rounds} rounds, and as a ratio to that of waiting:"
    times = table(
        [f"data {how}" for how in DATA],
        {rule: [costs[how][place] for how in DATA] for place, rule in enumerate(rules(workers))},
    )
    return [
        f"Mean time of a round:{bullets(rounds)}",
        _memory(results) + f"{ends}{finals['alike']}",
        f"{ends}{finals['by label']}",
        f"Virtual seconds to the first evaluated round (every {EVERY}) at or below suboptimality {TARGET:g}:{times}",
    ]


def _memory(results: Results) -> str:
    """Say how much of what memory gains is its longer step."""
    found = results.compare([f"alike: {MEMORY}"], f"alike: {LONGER}", "suboptimality")[f"alike: {MEMORY}"]
    return (
        "How much of the lead of memory is its longer step: the suboptimality with memory, as a ratio to that of"
        " waiting"
        f" with this step, is {found}. "
    )


def rule_of(curve: str) -> str:
    return curve.partition(": ")[2]


def bars(ax: Axes, results: Results) -> None:
    """Draw the parts of a round, a bar a rule."""
    parts = 1e3 * results.once(split)[list(PARTS)]
    left = np.zeros(len(parts))
    colours: Any = {"compute": "0.25", "wait": "#D55E00", "uplink": "0.6", "downlink": "0.8"}
    for part, name in PARTS.items():
        ax.barh(range(len(parts)), parts[part], left=left, color=colours[part], label=name, height=0.7)
        left += parts[part].to_numpy()
    ax.set_yticks(range(len(parts)), labels=list(parts.index))
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("milliseconds per round")
    ax.legend(loc="lower right")


def figure(results: Results) -> Figure:
    names = list(rules(results.settings.workers))
    with figure_grid(2, 2, height=4.6) as (found, axes):
        for ax, (how, x) in zip(axes.flat, SHOWN, strict=False):
            curves = [f"{how}: {name}" for name in names]
            draw(results, Panel(x, "suboptimality", y_scale="log", curves=curves, label=rule_of), ax, names)
        bars(axes[1, 1], results)
        panel_letters(
            axes.flat,
            ("shuffled: against time", "by label: against time", "by label: against rounds", "the time of a round"),
        )
        legend_below(found, axes.flat[:3], names)
    return found


study = Study(
    title="Stragglers: what waiting costs in time, and dropping in loss",
    questions=(
        "How long is a round, and how much of it is waiting?",
        "What does dropping cost where all machines hold similar data?",
        "And where the slow machines hold other data?",
        "Which rule reaches a target first?",
    ),
    defaults=Settings(data="adult", workers=16, rounds=300, seeds=5),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
)
