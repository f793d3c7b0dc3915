"""The command line: `python -m qsim.study list | show NAME | all | NAME or PATH ...`."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Event, Lock
from time import perf_counter
from typing import Any

from tqdm import tqdm

import qsim
from qsim.compressors import NotFiniteError
from qsim.datasets import DataError
from qsim.objectives import NoOptimumError
from qsim.simulation import simulate
from qsim.storage import can_write
from qsim.study import catalog, output
from qsim.study.catalog import RequestError
from qsim.study.results import Results
from qsim.study.study import Cell, Settings, Study
from qsim.study.tuning import Candidate
from qsim.trace import Trace

_WORTH_THREADS = 100_000  # non-zeros; with 2,000 two threads took 1.4 times as long as one, with 450,000 half as long

_EXAMPLES = """examples:
  python -m qsim.study list
  python -m qsim.study show s_sweep
  python -m qsim.study s_sweep
  python -m qsim.study s_sweep --data spark_sample --workers 8 --rounds 50 --seeds 3 --out small_figures
  python -m qsim.study my_study.py
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code: 0, 1 if training failed, 2 for a wrong request, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        _do(options)
    except KeyboardInterrupt:
        print("\nstopped; what was finished before is written, this study is not", file=sys.stderr)
        return 130
    except (RequestError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (NotFiniteError, NoOptimumError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _do(options: Namespace) -> None:
    verb, *rest = options.what
    if verb == "list":
        if rest:
            raise RequestError(f"list takes no names, found {' '.join(rest)}")
        _list()
    elif verb == "show":
        if len(rest) != 1:
            raise RequestError("show takes the name of one study: python -m qsim.study show s_sweep")
        _show(*catalog.find(rest[0]), options)
    else:
        if verb == "all" and rest:
            raise RequestError(f"all takes no further names, found {' '.join(rest)}")
        names = catalog.names() if verb == "all" else options.what
        studies = [catalog.find(name) for name in names]  # all are found before the first is run
        if not can_write(options.out):
            raise RequestError(f"--out {options.out} is not a folder that can be written")
        for name, study in studies:
            _run(name, study, options)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m qsim.study",
        description="Run studies: each trains with simulated workers and writes a figure (PDF, PNG), the numbers in it "
        "(CSV), its findings in words (Markdown) and where the numbers come from (JSON).",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qsim {qsim.__version__}")
    parser.add_argument("what", nargs="+", metavar="STUDY", help="names or paths of studies; or list, show NAME, all")
    parser.add_argument("--data", metavar="NAME", help="train on another built-in data set")
    parser.add_argument("--workers", type=int, metavar="W", help="how many workers share the data")
    parser.add_argument("--rounds", type=int, metavar="T", help="how many iterations")
    parser.add_argument("--seeds", type=int, metavar="K", help="how many seeds: 0, 1, ..., K - 1")
    parser.add_argument("--vectors", metavar="FILE", help="a .npy of shape (clients, n), for mean_estimation")
    parser.add_argument("--out", type=Path, default=Path("paper_figures"), metavar="DIR", help="default: paper_figures")
    return parser


def _simulate(name: str, study: Study, cells: Sequence[Cell]) -> tuple[list[Any], list[list[float]]]:
    """Simulate all cells; on a thread a core if kernels, which run side by side, take most of the time.

    Returns the traces (for a candidate of tuning that diverges, the error), and the seconds of each round of each cell.
    """
    stop, counting = Event(), Lock()
    with tqdm(
        total=sum(cell.run.rounds for cell in cells), desc=name, unit="round", delay=2, disable=None, leave=False
    ) as bar:

        def simulate_cell(cell: Cell) -> tuple[Trace | NotFiniteError, list[float]]:
            times = [perf_counter()]

            def after_round(_: int) -> None:
                times.append(perf_counter())
                if stop.is_set():
                    raise KeyboardInterrupt
                with counting:
                    bar.update()

            try:
                trace = simulate(cell.run, engine=cell.engine, progress=False, after_round=after_round)
            except NotFiniteError as error:
                if not isinstance(cell, Candidate):
                    raise
                return error, []
            return trace, [end - start for start, end in pairwise(times)]

        largest = max((cell.run.load().nonzeros for cell in cells), default=0)
        threads = os.cpu_count() if largest >= _WORTH_THREADS and not study.timed else 1
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(simulate_cell, cell) for cell in cells]
            try:
                done = [future.result() for future in futures]
            except BaseException:
                stop.set()  # threads do not see Ctrl-C: they end after the round they are in
                pool.shutdown(cancel_futures=True)
                raise
    return [trace for trace, _ in done], [seconds for _, seconds in done]


def _settings(study: Study, options: Namespace) -> Settings:
    given = {name: getattr(options, name) for name in ("data", "workers", "rounds", "seeds", "vectors")}
    if options.vectors is not None and not study.recorded:
        raise RequestError(f"--vectors is not for this study ({study.title}); mean_estimation takes it")
    try:
        return replace(study.defaults, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise RequestError(str(error)) from None


def _list() -> None:
    width = max(map(len, catalog.names()))
    for name in catalog.names():
        print(f"{name:{width}}  {catalog.find(name)[1].title}")


def _show(name: str, study: Study, options: Namespace) -> None:
    settings = _settings(study, options)
    cells = study.cells(settings) if study.tuning is None else study.tuning.candidates(settings)
    print(f"{name}: {study.title}\n\n{study.setting(settings)}\n\nquestions:")
    for question in study.questions:
        print(f"  - {question}")
    print(f"\ncurves ({len(cells)} runs{'' if study.tuning is None else ' to choose by'}):")
    for curve in dict.fromkeys(cell.curve for cell in cells):
        print(f"  - {curve}")
    if cells:
        print(f"\na run of it:\n  {cells[0].run!r}")


def _run(name: str, study: Study, options: Namespace) -> None:
    settings = _settings(study, options)
    start = perf_counter()
    tuned = None
    if study.tuning is not None:
        candidates = study.tuning.candidates(settings)
        tuned = study.tuning.choose(candidates, _simulate(f"{name}, tuning", study, candidates)[0])
    cells = study.shown(settings, tuned)
    results = Results(settings, cells, *_simulate(name, study, cells), tuned=tuned)
    paths = output.write(options.out, name, study, results)
    print(output.findings(name, study, results))
    print(f"{name}: {len(cells)} runs in {perf_counter() - start:.1f} s; wrote {', '.join(map(str, paths))}")
