"""The command line `python -m qsim.verify`: it checks the shipped compressors, or parts of your own."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import asdict
from math import isnan

import pandas as pd
from tqdm import tqdm

import qsim
from qsim.commands import command
from qsim.compressors import Compressor
from qsim.methods import Method
from qsim.object_loader import FILE_MODULE, NotFoundError, evaluate
from qsim.objectives import Objective
from qsim.testing import method, objective
from qsim.testing.compressor import CHECKS, findings
from qsim.testing.report import Finding, Report
from qsim.testing.shipped import shipped

EXAMPLES: tuple[Compressor, ...] = tuple(shipped(qsim.compressors, Compressor))
"""The parts that are checked when none is named: every shipped compressor, with usual parameters."""

Part = Compressor | Objective | Method
"""The kinds of parts that can be checked."""

_HELP = """examples:
  qsim verify
  qsim verify "mine.py:MyLoss(l2=1e-3)"
  qsim verify "mine.py:Ternary()" "package.module:Rounding(step=0.5)"
  qsim verify --full "qsim.compressors:QSGD(levels=3)"

The exit code is 0 if every promise is kept, 1 if one is broken, 2 for a wrong request.
"""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `qsim verify`, which checks the shipped compressors, or parts of your own.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        The exit code: 0, 1 for a broken promise, 2 for a wrong request, 130 for Ctrl-C.

    Examples
    --------
    >>> import contextlib, io, qsim
    >>> with contextlib.redirect_stdout(io.StringIO()):
    ...     code = qsim.verify.main(["qsim:Identity()"])
    >>> code
    0
    """
    options = parser().parse_args(arguments)
    try:
        parts = [_find(text) for text in options.what] or list(EXAMPLES)
    except NotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    reports: list[Report] = []
    try:
        reports.extend(_check(parts, options.seed, options.effort))
    except KeyboardInterrupt:
        print("\nstopped; what was checked before follows", file=sys.stderr)
    if options.json:
        print(json.dumps([{"part": one.subject, "good": one.good, "findings": _plain(one)} for one in reports]))
        return 130 if len(reports) < len(parts) else int(any(not one.good for one in reports))
    compressors = sum(isinstance(part, Compressor) for part in parts)
    if reports:
        print(as_text(table(reports)))
    for report in reports:
        if options.full or not report.good:
            print(f"\n{report}")
    if len(reports) < len(parts):
        return 130
    broken = sum(not report.good for report in reports)
    what = "compressors" if compressors == len(parts) else "parts"
    print(f"\n{len(reports) - broken} of {len(reports)} {what} keep every promise that they make")
    return 1 if broken else 0


def table(reports: Iterable[Report]) -> pd.DataFrame:
    """Return a row for each part: the verdict; of compressors, their error as it is claimed and the worst measured.

    variance is omega in E ||Q(v) - v||^2 <= omega ||v||^2, contraction 1 - delta, at the length of the worst vector.
    """
    rows = []
    for report in reports:
        row: dict[str, object] = {"part": _short(report.subject)}
        for name in ("variance", "contraction"):
            finding = report.findings.get(name, Finding(None))
            row |= {f"{name} claimed": finding.claimed, f"{name} measured": finding.measured}
        made = [finding.kept for finding in report.findings.values() if finding.kept is not None]
        row["kept"] = f"{sum(made)} of {len(made)}"
        row["verdict"] = f"BROKEN: {', '.join(report.broken)}" if report.broken else "good"
        rows.append(row)
    return pd.DataFrame(rows)


def _plain(report: Report) -> dict[str, object]:
    """Return what was found about each promise, as plain values."""
    return {promise: asdict(finding) for promise, finding in report.findings.items()}


def as_text(frame: pd.DataFrame) -> str:
    """Return the table as text, numbers with four digits, what is not claimed as a dash."""
    shown = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    lines = [[str(name) for name in frame.columns], *shown]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(subject: str) -> str:
    return subject.replace("qsim.compressors.", "").replace("compressor=", "").replace(FILE_MODULE, "")


def _find(text: str) -> Part:
    found = evaluate(text)
    if isinstance(found, type) and issubclass(found, (Compressor, Objective, Method)):
        raise NotFoundError(f"{text} is a class: make one of it, such as {text}()")
    if not isinstance(found, (Compressor, Objective, Method)):
        raise NotFoundError(f"{text} is not a compressor, an objective or a method, found {found!r}")
    return found


def _check(parts: Sequence[Part], seed: int, effort: int) -> Iterator[Report]:
    """Check one part after the other; the bar counts promises."""
    total = sum(len(_checks(part)) for part in parts)
    with tqdm(total=total, unit="promise", disable=None, leave=False) as bar:
        for part in parts:
            bar.set_description(_short(repr(part)))
            found = {}
            for promise, finding in _findings(part, seed, effort):
                found[promise] = finding
                bar.update()
            yield Report(repr(part), found)


def _findings(part: Part, seed: int, effort: int) -> Iterator[tuple[str, Finding]]:
    if isinstance(part, Compressor):
        return findings(part, seed, effort)
    return objective.findings(part, seed=seed) if isinstance(part, Objective) else method.findings(part, seed=seed)


def _checks(part: Part) -> Sized:
    if isinstance(part, Compressor):
        return CHECKS
    return objective.CHECKS if isinstance(part, Objective) else method.CHECKS


def parser() -> ArgumentParser:
    """Return what reads the command line."""
    parser = ArgumentParser(
        prog="qsim verify",
        description="Check that compressors, objectives and methods keep what they promise: no bias, bounds, one"
        " message whatever the batch; the gradient that of the loss, smoothness, ..."
        " The table has the bound on the relative squared error that is claimed (variance: omega,"
        " contraction: 1 - delta) and the error that was measured, for the worst vector found.",
        epilog=_HELP,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qsim {qsim.__version__}")
    parser.add_argument(
        "what",
        nargs="*",
        metavar="MODULE:EXPRESSION",
        help="parts of your own; without: all compressors of qsim",
    )
    parser.add_argument("--json", action="store_true", help="print every finding as JSON, and nothing else")
    parser.add_argument("--full", action="store_true", help="show every promise, not only those of broken ones")
    parser.add_argument(
        "--seed", type=_whole(0), default=0, metavar="N", help="the keys and vectors that are used; default: 0"
    )
    parser.add_argument(
        "--effort", type=_whole(1), default=1, metavar="N", help="N times the keys, to see a bias smaller by sqrt(N)"
    )
    return parser


def _whole(least: int) -> Callable[[str], int]:
    """Return what reads a whole number of at least so much, up to 2^63 - 1."""

    def read(text: str) -> int:
        number = int(text)
        if not least <= number < 2**63:
            raise ArgumentTypeError(f"must be a whole number from {least} to 2^63 - 1, found {text}")
        return number

    read.__name__ = "whole number"  # in argparse's own message
    return read


__all__ = ["main"]


def __dir__() -> list[str]:
    return __all__


if __name__ == "__main__":
    sys.exit(main())
