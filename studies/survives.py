"""Which published conclusions survive seeds and bits both ways: all claims of the studies of papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.study import (
    TEXT_WIDTH,
    Cell,
    Claim,
    Comparison,
    PaperStudy,
    Results,
    Settings,
    Study,
    bullets,
    compare,
    figure_grid,
    look,
    panel_letters,
    run_study,
    table,
)
from qsim.study.catalog import find, papers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEFAULTS = Settings(data="adult", workers=1000, rounds=1_000_000, seeds=5)
"""Workers and rounds are the most that a study of a paper may have; it takes its own where these are fewer."""
PAPERS: Sequence[str] = papers()
HELD, FAILED, OPEN = "holds", "fails", "open"


@dataclass(frozen=True)
class Judged:
    """A claim of a paper: its ratio at every seed, as the paper counts and over bits both ways."""

    paper: str
    claim: Claim
    ratios: NDArray[np.float64]
    both: NDArray[np.float64] | None

    @property
    def name(self) -> str:
        return f"{self.paper}: {self.claim.says}"

    @property
    def single(self) -> int:
        """In how many of the seeds alone the claim comes out, as in a paper with one run per curve."""
        return int(((self.ratios >= self.claim.least) & (self.ratios <= self.claim.most)).sum())


def limited(study: Study, settings: Settings) -> Settings:
    """Return the settings of a paper's study, within the limits of this one."""
    own = study.defaults
    given: dict[str, Any] = {name: min(getattr(own, name), getattr(settings, name)) for name in ("workers", "rounds")}
    given["seeds"] = settings.seeds
    if settings.data != DEFAULTS.data:
        given["data"] = settings.data
    taken = {name: value for name, value in given.items() if name in study.takes}
    return replace(own, **taken, bands=settings.bands)


def judged(results: Results) -> list[Judged]:
    """Return all claims with their ratios; what the studies of papers have run before is found in the store."""
    found = []
    for name in PAPERS:
        study = find(name)[1]
        assert isinstance(study, PaperStudy)
        of = run_study(study, limited(study, results.settings), name=f"survives, {name}")
        for claim in study.claims:
            both = None if claim.ratios is not None else claim.measured(of, "bits")
            found.append(Judged(name, claim, claim.measured(of), both))
    return found


def comparisons(results: Results) -> tuple[dict[str, Comparison], dict[str, Comparison]]:
    """Return the ratios of all claims with intervals that hold together: as papers count, and over bits both ways."""
    found, ones, bands = results.once(judged), np.ones(results.settings.seeds), results.settings.bands
    counted = compare({each.name: each.ratios for each in found}, ones, bands, ratio=True)
    both = {each.name: each.both for each in found if each.both is not None}
    return counted, compare(both, ones, bands, ratio=True)


def cells(settings: Settings) -> list[Cell]:
    """Nothing that the studies of papers do not run."""
    return []


def setting(settings: Settings) -> str:
    return (
        f"All claims of the studies of papers ({', '.join(PAPERS)}), each with its own data, workers, rounds and"
        f" tuning; their runs are in the JSON files of these studies. {settings.seeds} seeds. The intervals of all"
        " claims together hold with 95% (Bonferroni over papers), so they are wider here than on the pages of the"
        " papers. A claim survives seeds if its whole interval lies within what it claims, and bits both ways if"
        " that holds of the same ratio at equal bits of uplink and downlink together; claims about other things than"
        " curves have no such ratio."
    )


def verdict(each: Judged, found: dict[str, Comparison]) -> str:
    return each.claim.judge(found[each.name]) if each.name in found else "-"


def answers(results: Results) -> list[str]:
    claims, (counted, both) = results.once(judged), results.once(comparisons)
    seeds = results.settings.seeds
    rows: dict[str, list[object]] = {
        each.name: [
            f"{each.single} of {seeds}",
            f"{verdict(each, counted)}, {_short(counted[each.name])}",
            f"{verdict(each, both)}, {_short(both[each.name])}" if each.name in both else "-",
        ]
        for each in claims
    }
    lost = [
        f"{each.name} ({verdict(each, both)})"
        for each in claims
        if verdict(each, counted) == HELD and verdict(each, both) in (FAILED, OPEN)
    ]
    by_chance = [each for each in claims if 0 < each.single < seeds]
    return [
        f"{_count(claims, counted)}. In how many seeds alone each comes out, and the joint intervals:"
        + table(["one seed alone", "as the paper counts", "bits both ways"], rows, "claim"),
        f"{_count([each for each in claims if each.name in both], both)}."
        + (
            f" Held as the papers count, and not over bits both ways:{bullets(lost)}"
            if lost
            else " Every claim that holds as the papers count also holds over bits both ways."
        ),
        f"{len(by_chance)} of {len(claims)}: what they say depends on the seed"
        + (f":{bullets(f'{each.name} ({each.single} of {seeds} seeds)' for each in by_chance)}" if by_chance else "."),
    ]


def _short(found: Comparison) -> str:
    return f"{found.mean:.3g} ({found.low:.3g} to {found.high:.3g})"


def _count(claims: Sequence[Judged], found: dict[str, Comparison]) -> str:
    all_of = [verdict(each, found) for each in claims]
    return (
        f"Of {len(all_of)} claims {all_of.count(HELD)} hold, {all_of.count(FAILED)} fail and {all_of.count(OPEN)} are"
        " open"
    )


def draw(results: Results) -> Figure:
    claims, (counted, both) = results.once(judged), results.once(comparisons)
    height = 0.9 + 0.2 * len(claims)
    with figure_grid(1, 2, height=height, width=TEXT_WIDTH, sharey=True) as (figure, axes):
        for ax, found in zip(axes[0], (counted, both), strict=True):
            _forest(ax, claims, found)
        axes[0, 0].set_yticks(range(len(claims)), labels=[_label(each) for each in claims], fontsize=6)
        axes[0, 0].set_ylim(len(claims) - 0.4, -0.6)
        panel_letters(axes.flat, ("as the paper counts", "bits both ways"))
    return figure


def _label(each: Judged) -> str:
    return fill(each.name, 54, max_lines=2, placeholder=" ...")


def _forest(ax: Axes, claims: Sequence[Judged], found: dict[str, Comparison]) -> None:
    """Draw each ratio with its joint interval, or an arrow if it is off the axis, and what is claimed of it in grey."""
    colours = {HELD: look(3)["color"], FAILED: look(6)["color"], OPEN: "0.45"}
    markers = {HELD: "o", FAILED: "X", OPEN: "s"}
    low, high = 1e-3, 1e3
    for row, each in enumerate(claims):
        if each.name not in found:
            continue
        ratio, said = found[each.name], verdict(each, found)
        claimed = [max(low, each.claim.least), min(high, each.claim.most)]
        ax.plot(claimed, [row, row], color="0.88", linewidth=6, solid_capstyle="butt", zorder=0)
        ends = np.clip([ratio.low, ratio.high], low, high)
        ax.plot(ends, [row, row], color=colours[said], linewidth=1.2)
        marker = "<" if ratio.mean < low else ">" if ratio.mean > high else markers[said]
        at = float(np.clip(ratio.mean, 1.2 * low, high / 1.2))
        ax.plot([at], [row], color=colours[said], marker=marker, markersize=4)
    ax.axvline(1, color="black", linewidth=0.6)
    ax.set(xscale="log", xlim=(low, high), xlabel="ratio (grey: what is claimed)")


def numbers(results: Results) -> pd.DataFrame:
    import pandas as pd

    claims, (counted, both) = results.once(judged), results.once(comparisons)
    rows = []
    for each in claims:
        row = {"paper": each.paper, "claim": each.claim.says, "least": each.claim.least, "most": each.claim.most}
        row |= {"seeds": results.settings.seeds, "seeds in which it comes out": each.single}
        for name, found in (("counted", counted), ("both ways", both)):
            ratio = found.get(each.name)
            ends = {} if ratio is None else {"": ratio.mean, " low": ratio.low, " high": ratio.high}
            row |= {f"{name}{end}": value for end, value in ends.items()} | {f"{name} verdict": verdict(each, found)}
        rows.append(row)
    return pd.DataFrame(rows)


study = Study(
    title="Which published conclusions survive seeds, and bits both ways",
    questions=(
        "Which claims survive seeds?",
        "Which survive bits both ways?",
        "Of which claims would one run per curve have told one thing with one seed, another with the next?",
    ),
    defaults=DEFAULTS,
    cells=cells,
    setting=setting,
    answers=answers,
    draw=draw,
    numbers=numbers,
)
