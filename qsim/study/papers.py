"""Studies of papers: what a paper claims against our runs, its numbers against ours, and the badge that follows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qsim.options import number
from qsim.study.comparisons import Comparison, compare
from qsim.study.compute_cell import processor_seconds
from qsim.study.report_text import bullets, table
from qsim.study.results import Results
from qsim.study.statistics import resample
from qsim.study.study import Study
from qsim.trace import LABELS

Array = NDArray[np.float64]
Verdict: TypeAlias = Literal["holds", "fails", "open"]
Badge: TypeAlias = Literal["reproduced", "in shape", "not reproduced"]

QUESTIONS = (
    "Do the paper's claims come out?",
    "What are the paper's numbers, and ours?",
    "What differs from the paper, and what follows from it?",
    "What is the badge?",
)
"""The questions of every study of a paper."""

_ROUNDING = 1e-16  # a suboptimality below this is rounding, and may be negative


@dataclass(frozen=True)
class Claim:
    """A claim of a paper: the ratio of two curves lies between two numbers where both have spent the same.

    Parameters
    ----------
    says : str
        The claim, in words.
    curve : str, optional
        The curve above the fraction line.
    other : str, optional
        The curve below.
    quantity : str, default "suboptimality"
        An axis of `Trace`.
    axis : str, default "bits_up"
        What the paper counts: the ratio is taken at the last place of this axis that all seeds of both curves have.
    least : float, default 0.0
        The claim holds for no smaller ratio.
    most : float, default 1.0
        The claim holds for no larger ratio.
    source : str, default "abstract, read"
        Where the claim stands, and how it is known.
    ratios : callable, optional
        Returns the ratio of each seed, for given `Results`, where it is not one of two curves.

    Raises
    ------
    ValueError
        If no ratio can lie between the limits.

    Examples
    --------
    >>> claim = Claim("QSGD needs fewer bits", "QSGD", "uncompressed")
    >>> claim.judge(Comparison(0.5, 0.4, 0.6, 0.001, 5, ratio=True))
    'holds'
    """

    says: str
    curve: str = ""
    other: str = ""
    quantity: str = "suboptimality"
    axis: str = "bits_up"
    least: float = 0.0
    most: float = 1.0
    source: str = "abstract, read"
    ratios: Callable[[Results], Array] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most:  # NaN, too
            raise ValueError(
                f"a claim needs 0 <= least <= most, found least = {self.least}, most = {self.most}: {self.says!r}"
            )

    @property
    def where(self) -> str:
        """The quantity of the ratio, in words."""
        if self.ratios is not None:
            return ""
        return f"{LABELS.get(self.quantity, self.quantity)} at equal {LABELS.get(self.axis, self.axis)}"

    def measured(self, results: Results, axis: str | None = None) -> Array:
        """Return the ratio of each seed.

        Parameters
        ----------
        results : Results
            The results.
        axis : str, optional
            Another axis than the paper's.

        Returns
        -------
        ndarray of float64, shape (seeds,)
            The ratios.
        """
        if self.ratios is not None:
            return self.ratios(results)
        points = []
        for curve in (self.curve, self.other):
            for trace in results.traces[curve]:
                seen = np.isfinite(trace.columns["loss"])
                spent, found = trace.axis(axis or self.axis)[seen], trace.axis(self.quantity)[seen]
                points.append((spent.astype(np.float64), np.maximum(found.astype(np.float64), _ROUNDING)))
        _, up = resample(points, log_y=True)
        half = len(points) // 2
        return np.asarray(up[:half, -1] / up[half:, -1])

    def alone(self, results: Results) -> Comparison:
        """Return the ratio with an interval of its own, for a remark beside the claims.

        Parameters
        ----------
        results : Results
            The results.

        Returns
        -------
        Comparison
            The ratio over seeds.
        """
        ones = np.ones(results.settings.seeds)
        return compare({"": self.measured(results)}, ones, results.settings.bands, ratio=True)[""]

    def judge(self, found: Comparison) -> Verdict:
        """Return whether a claim holds, for a ratio with its interval.

        Parameters
        ----------
        found : Comparison
            The ratio over seeds.

        Returns
        -------
        {"holds", "fails", "open"}
            "open" if the interval lies on both sides of a limit, and for one seed, whose noise is not known.
        """
        if found.kind in ("not defined", "one seed"):
            return "open"
        if self.least <= found.low and found.high <= self.most:
            return "holds"
        return "fails" if found.high < self.least or found.low > self.most else "open"


@dataclass(frozen=True)
class Value:
    """A number of a paper, and ours.

    Parameters
    ----------
    what : str
        What it is.
    paper : float
        The number of the paper.
    ours : float
        Our number.
    source : str
        Where the number stands, and how it is known.
    why : str, default ""
        Why ours differs.
    within : float, default 0.02
        Up to this share of the paper's number ours agrees with it.

    Raises
    ------
    ValueError
        For what is no finite number.

    Examples
    --------
    >>> Value("L", 1.57, 1.60, "Table 1, read").agrees
    True
    """

    what: str
    paper: float
    ours: float
    source: str
    why: str = ""
    within: float = 0.02

    def __post_init__(self) -> None:
        for name in ("paper", "ours"):
            number(f"{name} of {self.what!r}", getattr(self, name))
        number(f"within of {self.what!r}", self.within, least=0)

    @property
    def agrees(self) -> bool:
        """Whether the numbers agree."""
        return bool(abs(self.ours - self.paper) <= self.within * abs(self.paper))


@dataclass(frozen=True, kw_only=True)
class PaperStudy(Study):
    """A study of a paper. Its badge follows from the claims and the numbers.

    Parameters
    ----------
    title : str
        One line.
    defaults : Settings
        The settings of the committed figure.
    cells : callable
        As for `Study`.
    setting : callable
        As for `Study`.
    draw : callable
        As for `Study`.
    numbers : callable, optional
        As for `Study`.
    tuning : Tuning, optional
        As for `Study`.
    timed : bool, default False
        As for `Study`.
    takes : sequence of str, default `("data", "workers", "rounds", "seeds")`
        As for `Study`.
    template : str, optional
        As for `Study`.
    questions : sequence of str, default `QUESTIONS`
        What is asked.
    paper : str
        The paper: authors, title, place, year.
    claims : sequence of Claim
        Its claims.
    differs : callable
        Returns, for given `Results`, what differs from the paper, and what follows from it.
    values : callable, optional
        Returns the numbers of the paper and ours, for given `Results`.

    Notes
    -----
    A claim holds or fails by the joint interval of its ratio over seeds (Bonferroni, over the claims of the paper), and
    is open if the seeds do not tell. The badge is "not reproduced" if a claim fails or none holds; "reproduced" if all
    hold, and there are numbers of the paper, all of which ours agree with; else "in shape".

    Examples
    --------
    >>> from qsim.study import catalog
    >>> _, study = catalog.find("dasha")
    >>> study.paper[:16]
    'Tyurin, Richtari'
    """

    paper: str
    claims: Sequence[Claim]
    differs: Callable[[Results], Sequence[str]]
    values: Callable[[Results], Sequence[Value]] = lambda results: ()
    questions: Sequence[str] = QUESTIONS
    answers: Callable[[Results], Sequence[str]] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "answers", self._answers)

    def compared(self, results: Results, axis: str | None = None) -> dict[str, Comparison]:
        """Return the ratio of each claim, with intervals that hold together.

        Parameters
        ----------
        results : Results
            The results.
        axis : str, optional
            Another axis than the paper's.

        Returns
        -------
        dict of Comparison
            By what the claim says.
        """
        ratios = {claim.says: claim.measured(results, axis) for claim in self.claims}
        return compare(ratios, np.ones(results.settings.seeds), results.settings.bands, ratio=True)

    def verdicts(self, results: Results) -> dict[str, Verdict]:
        """Return whether each claim holds.

        Parameters
        ----------
        results : Results
            The results.

        Returns
        -------
        dict of str
            "holds", "fails" or "open", by what the claim says.
        """
        found = self.compared(results)
        return {claim.says: claim.judge(found[claim.says]) for claim in self.claims}

    def badge(self, results: Results) -> Badge:
        """Return the badge.

        Parameters
        ----------
        results : Results
            The results.

        Returns
        -------
        {"reproduced", "in shape", "not reproduced"}
            The badge.
        """
        verdicts, values = set(self.verdicts(results).values()), self.values(results)
        if "fails" in verdicts or "holds" not in verdicts:
            return "not reproduced"
        agree = len(values) > 0 and all(value.agrees for value in values)
        return "reproduced" if agree and verdicts == {"holds"} else "in shape"

    def summary(self, results: Results) -> dict[str, Any]:
        verdicts, values = list(self.verdicts(results).values()), self.values(results)
        return {
            "paper": {
                "title": self.title,
                "badge": self.badge(results),
                "claims": {verdict: verdicts.count(verdict) for verdict in ("holds", "fails", "open")},
                "numbers": [sum(value.agrees for value in values), len(values)],
                "seconds": results.once(_seconds),
            }
        }

    def _answers(self, results: Results) -> list[str]:
        found, verdicts = self.compared(results), self.verdicts(results)
        rows: dict[str, list[object]] = {
            claim.says: [claim.source, _limits(claim), found[claim.says], claim.where, f"**{verdicts[claim.says]}**"]
            for claim in self.claims
        }
        columns, differs = ["source", "claimed ratio", "ours", "of", "verdict"], list(self.differs(results))
        return [
            f"{self.paper} Ratios of the first to the second that a claim names, geometric means over seeds with joint"
            f" intervals:{table(columns, rows, 'claim')}",
            self._numbers(results),
            f"These {len(differs)} things differ:{bullets(differs)}",
            self._verdict(results),
        ]

    def _numbers(self, results: Results) -> str:
        values = self.values(results)
        if not values:
            return (
                'No number of its figures stands beside one of ours, so the best badge that there can be is "in shape".'
            )
        rows: dict[str, list[object]] = {
            value.what: [
                f"{value.paper:.4g}",
                f"{value.ours:.4g}",
                "yes" if value.agrees else "no",
                f"{value.within:.0%}",
                value.source,
                value.why or "-",
            ]
            for value in values
        }
        columns = ["paper", "ours", "agrees", "within", "source", "why they differ"]
        return f"{sum(v.agrees for v in values)} of {len(values)} agree:{table(columns, rows, 'number')}"

    def _verdict(self, results: Results) -> str:
        found = self.summary(results)["paper"]
        claims, (agree, numbers) = found["claims"], found["numbers"]
        seconds = found["seconds"]
        took = "" if seconds is None else f" It took {seconds:.0f} s of one core."
        return (
            f"**{found['badge']}**: of {len(self.claims)} claims {claims['holds']} hold, {claims['fails']} fail and"
            f" {claims['open']} are open; of {numbers} numbers {agree} agree.{took}"
        )


def _seconds(results: Results) -> float | None:
    """Return how many seconds of one core it took; None if runs were found in the store, whose time is not known."""
    if results.begun is None or not all(results.seconds):
        return None
    return round(processor_seconds() - results.begun, 1)


def index(folder: Path, names: Sequence[str]) -> str:
    """Return a Markdown table of the badges of papers, from the provenance in a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Where the studies were written.
    names : sequence of str
        The studies.

    Returns
    -------
    str
        The table.

    Examples
    --------
    >>> print(index(Path("nowhere"), ["dasha"]))
    | study | paper | badge | claims: hold, fail, open | numbers that agree | seconds of one core |
    | --- | --- | --- | --- | --- | --- |
    | dasha | not drawn yet | | | | |
    """
    lines = [
        "| study | paper | badge | claims: hold, fail, open | numbers that agree | seconds of one core |",
        "| --- |" + " --- |" * 5,
    ]
    for name in names:
        path = folder / f"{name}.json"
        found = json.loads(path.read_text(encoding="utf-8")).get("paper") if path.is_file() else None
        if found is None:
            lines.append(f"| {name} | not drawn yet | | | | |")
            continue
        claims, (agree, numbers) = ", ".join(map(str, found["claims"].values())), found["numbers"]
        of = f"{agree} of {numbers}" if numbers else "none"
        seconds = "-" if found["seconds"] is None else f"{found['seconds']:.0f}"
        lines.append(f"| {name} | {found['title']} | {found['badge']} | {claims} | {of} | {seconds} |")
    return "\n".join(lines)


def _limits(claim: Claim) -> str:
    """Write the ratios for which a claim holds."""
    if claim.least <= 0:
        return f"at most {claim.most:g}"
    return f"at least {claim.least:g}" if np.isinf(claim.most) else f"{claim.least:g} to {claim.most:g}"
