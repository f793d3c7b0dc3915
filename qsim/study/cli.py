"""The command `qsim study` (also `python -m qsim.study`): its commands, options, exit codes."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path

import qsim
from qsim.commands import command
from qsim.compressors import NotFiniteError
from qsim.datasets import DataError
from qsim.engines import EngineError
from qsim.object_loader import NotFoundError
from qsim.objectives import NoOptimumError
from qsim.options import nearest
from qsim.study import commands
from qsim.study.catalog import RequestError
from qsim.study.extra_curves import NoTemplateError
from qsim.study.report.command import report
from qsim.study.store import StoreError
from qsim.study.watch_command import watch

_ABOUT = """Run studies: each trains with simulated workers and writes a figure (PDF, PNG), the numbers in it (CSV), its
findings in words (Markdown) and where the numbers come from (JSON)."""

_HELP = """commands:
  NAME or PATH ...      run these studies (so does `run NAME`); `all`: all that are shipped
  list                  what studies there are
  papers [NAME ...]     run studies of papers (`all`: all of them); without names their badges
  show NAME             what a study asks and runs
  status [NAME ...]     how many cells of each study are stored, and how large the store is
  clean                 remove stored cells that no study would use again, and old logs
  export NAME           all cells of a study as one table
  compare A B [NAME]    draw results that were written before against others of the same study
  report [NAME ...]     write a page with curves on any axis, findings and tables, for a browser
  watch [NAME]          show a sweep while it runs, here and as such a page

examples:
  qsim study s_sweep
  qsim study s_sweep --data spark_sample --workers 8 --rounds 50 --seeds 3 --out small_figures
  qsim study s_sweep --compressor "mine.py:MyQuantizer(3)"
  qsim study my_study.py --jobs 8 --format svg
  qsim study s_sweep --engine "qsim.engines:Spark()"
  qsim study s_sweep --part 3/16
  qsim study papers all
  qsim study s_sweep --only "s = 2, seed 1"
  qsim study export s_sweep --format parquet
  qsim study compare paper_figures small_figures s_sweep
  qsim study report s_sweep --html s_sweep.html
  qsim study watch s_sweep --html s_sweep.html

Every finished run is stored at once: a study that is stopped or killed goes on when the same command is given again.
The options of running: qsim study run --help; those of the others: qsim study COMMAND --help.

exit codes:
  0  good
  1  a cell failed (the others are done, no figure is drawn) or could not be stored; the engine could not be started;
     cells are missing in a report, or after a sweep that was watched
  2  a wrong request
  130  stopped by Ctrl-C; what was finished is kept
  141  nobody reads the output any more (`... | head`)
"""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code.

    0 good, 1 a cell failed or could not be stored, 2 a wrong request, 130 after Ctrl-C, 141 when nobody reads on.
    """
    try:
        options = _parse(list(sys.argv[1:] if arguments is None else arguments))
        return int(options.do(options))
    except KeyboardInterrupt as error:
        print(f"\nstopped; {str(error) or 'what was finished before is kept'}", file=sys.stderr)
        return 130
    except (RequestError, NoTemplateError, DataError, NotFoundError, ImportError) as error:  # of an engine's package
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (NotFiniteError, NoOptimumError, StoreError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parse(arguments: list[str]) -> Namespace:
    """Return the options of a command; what begins with none is a study to run."""
    parser, known = _parsers()
    if not arguments or arguments[0] not in (*known, "-h", "--help", "--version"):
        arguments = ["run", *arguments]
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        choices = [name for action in known[options.command]._actions for name in action.option_strings]
        raise RequestError(
            f"{options.command} takes no {unknown[0]!r}{nearest(unknown[0].partition('=')[0], choices)}"
            f" (qsim study {options.command} --help)"
        )
    return options


def _parsers() -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    parser = ArgumentParser(
        prog="qsim study",
        usage="qsim study [COMMAND] NAME ... [OPTIONS]",
        description=_ABOUT,
        epilog=_HELP,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qsim {qsim.__version__}")
    return parser, add_commands(parser)


def add_commands(parser: ArgumentParser, listed: bool = False) -> dict[str, ArgumentParser]:
    """Give a parser the commands, listed in its help or not (as the epilog does); return what reads each of them."""
    group = parser.add_subparsers(dest="command", prog="qsim study", metavar="", help=None if listed else SUPPRESS)
    known: dict[str, ArgumentParser] = {}

    def add(name: str, do: Callable[[Namespace], int], text: str, names: str, about_names: str) -> ArgumentParser:
        if listed:
            known[name] = group.add_parser(name, description=text, allow_abbrev=False, help=text)
        else:
            known[name] = group.add_parser(name, description=text, allow_abbrev=False)
        if names:
            known[name].add_argument("names", nargs=names, metavar="NAME", help=about_names)
        known[name].set_defaults(do=do)
        return known[name]

    one = "the name of a study, or the path of its file"
    run = add("run", commands.run, "Run studies.", "+", "names of studies, paths of files, or all")
    papers = add(
        "papers",
        commands.papers,
        "Run studies of papers, or say by a table what came of them.",
        "*",
        "names of papers, or all; without: the badges of what was written to DIR before",
    )
    for each in (run, papers):
        _add_settings(each)
        _add_running(each)
        _add_writing(each)
    listing = add("list", commands.list_studies, "List the studies.", "*", "(none)")
    show = add("show", commands.show, "Show what a study asks and runs.", "*", one)
    _add_settings(show)
    status = add("status", commands.status, "Say how many cells are stored.", "*", "names or paths; without: all")
    for each in (listing, status):
        each.add_argument("--json", action="store_true", help="print JSON")
    _add_settings(status)
    clean = add(
        "clean",
        commands.clean,
        "Remove stored cells that are of other sources of qsim, of another version of NumPy, Numba, SciPy or Python, of"
        " another kind of machine, or of a user's file that has changed since; what killed processes left; and logs"
        " older than 30 days. It asks nothing, and says what it removed.",
        "",
        "",
    )
    clean.add_argument("--all", action="store_true", help="remove all stored cells and logs")
    export = add("export", commands.export_cells, "Write all cells of a study as one table.", "+", one)
    _add_settings(export)
    _add_running(export)
    export.add_argument("--format", choices=["csv", "parquet"], default="csv", help="default: csv")
    export.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="default: this folder")
    compare = add(
        "compare",
        commands.compare,
        "Draw results B against results A, and print how their final values differ.",
        "+",
        "two files (.csv or .json) that a study wrote; or two folders and the name of the study",
    )
    compare.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="default: this folder")
    page = add(
        "report",
        report,
        "Write one HTML page with the curves of studies on any axis, their findings and tables, from stored cells. It"
        " runs nothing: what is missing is said, on the page too, and the exit code is 1 then.",
        "*",
        "names or paths; without: all of which cells are stored",
    )
    _add_settings(page)
    page.add_argument("--html", type=Path, metavar="FILE", help="default: NAME.html, or studies.html")
    page.add_argument("--from", dest="written", type=Path, metavar="DIR", help="of what studies wrote to this folder")
    watching = add(
        "watch",
        watch,
        "Show a sweep that another process runs: cells done, rates, failures, time left. It ends when the sweep does,"
        " with exit code 1 if cells are missing then.",
        "*",
        "the name or path of a study; without: the sweep that began last",
    )
    _add_settings(watching)
    watching.add_argument("--html", type=Path, metavar="FILE", help="keep a page that shows it, and reloads itself")
    watching.add_argument("--json", action="store_true", help="print a line of JSON for every look")
    watching.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="between two looks; default: 1")
    watching.add_argument(
        "--wait", type=float, default=60.0, metavar="SECONDS", help="for a sweep to begin, if none runs; default: 60"
    )
    return known


def _add_writing(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--only", action="append", metavar="CELL", help='run these cells alone: "CURVE, seed N" or "CURVE"'
    )
    parser.add_argument(
        "--part",
        metavar="I/K",
        help="run and store the I-th of K shares of the cells, and draw nothing: for jobs side by side with one store",
    )
    parser.add_argument("--format", action="append", choices=["svg"], help="also write the figure as SVG")
    parser.add_argument("--out", type=Path, default=Path("paper_figures"), metavar="DIR", help="default: paper_figures")


def _add_settings(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("settings (default: those of the study, which refuses what it does not take)")
    group.add_argument("--data", metavar="DATA", help="a built-in set, a LIBSVM file (also .gz, .bz2, .xz), an .npz")
    group.add_argument("--workers", type=int, metavar="W", help="how many workers share the data")
    group.add_argument("--rounds", type=int, metavar="T", help="how many iterations")
    group.add_argument("--seeds", type=int, metavar="K", help="how many seeds: 0, 1, ..., K - 1")
    group.add_argument(
        "--network",
        metavar="MODULE:EXPRESSION",
        help='time all runs on a cluster, such as "qsim:Network()": what is drawn over bits is drawn over its seconds',
    )
    group.add_argument("--vectors", metavar="FILE", help="a .npy of shape (clients, n), for mean_estimation")
    group.add_argument(
        "--compressor",
        action="append",
        default=[],
        metavar="MODULE:EXPRESSION",
        help='add a curve of a compressor of your own, such as "mine.py:MyQuantizer(3)"; may be given again',
    )


def _add_running(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("running")
    group.add_argument(
        "--jobs", type=int, metavar="N", help="how many processes; default: one a core, or none for little work"
    )
    group.add_argument(
        "--engine",
        metavar="MODULE:EXPRESSION",
        help='where the workers of each cell run, such as "qsim.engines:Spark()": the numbers are the same',
    )
    group.add_argument("--no-cache", action="store_true", help="neither read nor write stored cells")
