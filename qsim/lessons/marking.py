"""The command `qsim mark`: students' files, each in a process of its own with limits; points and reasons."""

from __future__ import annotations

import csv
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile
from threading import Event

import numpy as np
from tqdm import tqdm

from qsim._version import __version__
from qsim.commands import command
from qsim.lessons.answers import Answers, Calls, Failure, UnreadableError, decode
from qsim.lessons.child import Job
from qsim.lessons.tasks import TASKS, Verdict, packet
from qsim.storage import replacing

LONGEST = 1 << 24
"""The bytes that a function's answers may take."""
_LARGEST = 1 << 26  # bytes of a file
_START = 120.0  # seconds that Python and NumPy have to start: nothing of a student's runs by then
_THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA")
_HELP = """examples:
  qsim mark homework/
  qsim mark homework/ --out marks --timeout 30 --jobs 8
  qsim mark homework/ --json

Marks all .ipynb and .py files in the folder and in those inside it. Points and reasons go to marks.csv (a row per
file) and marks.json (every criterion).

Of a file, marking runs the functions of the tasks and what they need: imports, definitions and assignments of what they
read. The students' code runs in a process of its own, with limits on time, memory and the size of files. It is no
sandbox: the code may read, write and delete what you may. Mark in a container, or as a user who owns nothing.

The exit code is 0 if the files were marked, whatever the marks, 1 if something failed, 2 for a wrong request.
"""


@dataclass(frozen=True)
class Limits:
    """The seconds that each function may take, the bytes of memory of a process, and whether to stop at once."""

    timeout: float
    memory: int
    stop: Event = field(default_factory=Event)


class _EndedError(Exception):
    """The process of a student's file cannot be asked any more; the text says why."""


def mark(path: Path, limits: Limits, seed: int, only: Sequence[str] = tuple(TASKS)) -> dict[str, list[Verdict]]:
    """Return the verdicts on a student's file, by task.

    Functions are asked in one process, and where that ends, those that follow in another. Verdicts are made here, from
    the answers.
    """
    calls = {name: TASKS[name].calls(seed) for name in only}
    answers: dict[str, Answers | Failure] = {}
    if path.stat().st_size > _LARGEST:
        answers = dict.fromkeys(calls, Failure(f"is in a file of more than {_LARGEST:,} bytes, which is not read"))
    while left := {name: asked for name, asked in calls.items() if name not in answers}:
        answers |= _answers(path, left, limits)
    return {name: TASKS[name].judge(calls[name], answers[name]) for name in calls}


def _answers(path: Path, calls: Mapping[str, list[Calls]], limits: Limits) -> dict[str, Answers | Failure]:
    """Ask functions, up to the first that ends the process: it has failed."""
    found: dict[str, Answers | Failure] = {}
    with tempfile.TemporaryDirectory(prefix="qsim-mark-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / f"submission{path.suffix}"
        copyfile(path, copy)
        job = Path(folder) / "job"
        seconds = int(limits.timeout * len(calls)) + 60
        job.write_bytes(pickle.dumps(Job(copy, dict(calls), limits.memory, seconds)))
        with _Child(job, Path(folder), limits.stop) as child:
            try:
                child.line(_START)
            except _EndedError as ended:
                raise OSError(f"the process that marks {path.name} does not start: it {ended}") from None
            for name in calls:
                try:
                    found[name] = decode(child.line(limits.timeout))
                except UnreadableError:
                    found[name] = Failure("has answers that cannot be read: something else was written among them")
                    return found
                except _EndedError as ended:
                    found[name] = Failure(str(ended))
                    return found
    return found


class _Child:
    """A process that runs a student's functions, and the pipe that its answers come by."""

    def __init__(self, job: Path, folder: Path, stop: Event) -> None:
        self._stop = stop
        self._pipe, theirs = os.pipe()
        settings = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL")}
        settings |= {f"{name}_NUM_THREADS": "1" for name in _THREADS}
        settings |= {"HOME": str(folder), "TMPDIR": str(folder), "MPLBACKEND": "Agg", "PYTHONDONTWRITEBYTECODE": "1"}
        settings |= {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "qsim.lessons.child", str(job), str(theirs)],
                cwd=folder,
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs],
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)
        self._read = bytearray()

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        os.close(self._pipe)

    def _kill(self) -> int | None:
        """Kill the process and its group, and return how the process had ended; None: it had not."""
        with suppress(subprocess.TimeoutExpired):  # its pipe is closed, perhaps by hand
            self._process.wait(0.2)
        ended = self._process.poll()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        return ended

    def line(self, timeout: float) -> bytes:
        """Return the next line; raises _EndedError if none comes."""
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        end = self._read.find(b"\n")
        while end < 0:
            if len(self._read) > LONGEST:
                raise _EndedError(f"answers with more than {LONGEST:,} bytes")
            left = deadline - time.monotonic()
            if left <= 0:
                raise _EndedError(f"takes more than {timeout:g} s: is there a loop that does not end?")
            if self._stop.is_set():
                raise KeyboardInterrupt
            if not poll.poll(1000 * min(left, 0.2)):
                continue
            block = os.read(self._pipe, 1 << 20)
            if not block:
                raise _EndedError(_end(self._kill()))
            end = block.find(b"\n")
            end += len(self._read) if end >= 0 else 0
            self._read += block
        line = bytes(self._read[: end + 1])
        del self._read[: end + 1]
        return line


def _end(code: int | None) -> str:
    """Return why a process ended, by its exit code."""
    if code is None:
        return "closes the pipe that answers go by"
    if code == -signal.SIGXCPU:
        return "takes too much time of the processor"
    if code < 0:
        return f"ends its process by the signal {signal.Signals(-code).name}: a crash, or too much memory"
    return f"ends its process, with exit code {code}, instead of returning"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `qsim mark`; returns the exit code."""
    options = parser().parse_args(arguments)
    folder: Path = options.folder
    if not folder.is_dir():
        return _refuse(f"{folder} is no folder")
    files = list(_files(folder))
    if not files:
        return _refuse(f"there is no .ipynb or .py file in {folder}")
    if find_spec("nbformat") is None and any(path.suffix == ".ipynb" for path in files):
        return _refuse("notebooks are read with nbformat: pip install nbformat")
    limits = Limits(options.timeout, int(options.memory * 2**30))
    packet(1.0, np.zeros(1), 1)  # has its kernel compiled, once
    done: dict[Path, dict[str, list[Verdict]]] = {}
    code = 0
    try:
        done.update(_marked(files, limits, options.seed, options.jobs))
    except KeyboardInterrupt:
        print(f"\nstopped: {len(done)} of {len(files)} files are marked", file=sys.stderr)
        code = 130
    marks = {_shown(path.relative_to(folder)): done[path] for path in files if path in done}
    settings = {"qsim": __version__, "seed": options.seed, "timeout": options.timeout, "memory": options.memory}
    write(marks, settings, options.out)
    if options.json:
        print(json.dumps(_plain(marks, settings)))
    else:
        print(table(marks))
        print(
            f"\npoints and reasons are in {options.out / 'marks.csv'}, every criterion in {options.out / 'marks.json'}"
        )
    return code


def _refuse(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 2


def _files(folder: Path) -> Iterator[Path]:
    """Yield students' files in the order of their names; nothing hidden, and no link."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
        if path.suffix in (".ipynb", ".py") and path.is_file() and not path.is_symlink() and not hidden:
            yield path


def _shown(path: Path) -> str:
    """Return a path as a table may hold it: on one line, and no formula to a spreadsheet."""
    text = "".join(sign if sign.isprintable() else "?" for sign in str(path))
    return f"./{text}" if text.startswith(("=", "+", "-", "@")) else text


def _marked(
    files: Sequence[Path], limits: Limits, seed: int, jobs: int
) -> Iterator[tuple[Path, dict[str, list[Verdict]]]]:
    """Yield the verdicts on files as they come."""
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(files), unit="file", disable=None, leave=False) as bar:
        running = {pool.submit(mark, path, limits, seed): path for path in files}
        try:
            for future in as_completed(running):
                bar.update()
                yield running[future], future.result()
        except BaseException:
            limits.stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def points(verdicts: Sequence[Verdict]) -> int:
    """Return the points of a task."""
    return sum(verdict.points for verdict in verdicts if verdict.good)


def reasons(verdicts: Sequence[Verdict]) -> str:
    """Return why points are missing, each reason once."""
    return " / ".join(dict.fromkeys(verdict.reason for verdict in verdicts if not verdict.good))


def table(marks: Mapping[str, Mapping[str, Sequence[Verdict]]]) -> str:
    """Return a row of points for each file, and below it the reasons."""
    full = sum(task.points for task in TASKS.values())
    lines = [["file", *TASKS, "total"], ["", *(f"of {task.points}" for task in TASKS.values()), f"of {full}"]]
    for name, tasks in marks.items():
        given = [points(verdicts) for verdicts in tasks.values()]
        lines.append([name, *map(str, given), str(sum(given))])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    return "\n".join(rows)


def _plain(marks: Mapping[str, Mapping[str, Sequence[Verdict]]], settings: Mapping[str, object]) -> dict[str, object]:
    return {
        **settings,
        "of": {name: task.points for name, task in TASKS.items()},
        "files": {
            name: {
                "points": sum(map(points, tasks.values())),
                "tasks": {
                    task: {"points": points(verdicts), "criteria": [asdict(one) for one in verdicts]}
                    for task, verdicts in tasks.items()
                },
            }
            for name, tasks in marks.items()
        },
    }


def write(marks: Mapping[str, Mapping[str, Sequence[Verdict]]], settings: Mapping[str, object], folder: Path) -> None:
    """Write marks.csv and marks.json into a folder."""
    with replacing(folder / "marks.json") as path:
        path.write_text(json.dumps(_plain(marks, settings), indent=1) + "\n", encoding="utf-8")
    with replacing(folder / "marks.csv") as path, path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "total", *TASKS, *(f"{name}: why" for name in TASKS)])
        for name, tasks in marks.items():
            given = [points(verdicts) for verdicts in tasks.values()]
            rows.writerow([name, sum(given), *given, *map(reasons, tasks.values())])


def parser() -> ArgumentParser:
    """Return what reads the command line."""
    parser = ArgumentParser(
        prog="qsim mark",
        description="Mark students' notebooks and scripts of the exercise on quantized gradients.",
        epilog=_HELP,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of the students' files")
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="FOLDER", help="where marks.csv and marks.json go; default: here"
    )
    parser.add_argument("--json", action="store_true", help="print what marks.json holds, and nothing else")
    parser.add_argument(
        "--jobs",
        type=_above_zero(int),
        default=os.cpu_count() or 1,
        metavar="N",
        help="files at a time; default: cores",
    )
    parser.add_argument(
        "--timeout", type=_above_zero(float), default=20.0, metavar="SECONDS", help="for each function; default: 20"
    )
    parser.add_argument(
        "--memory", type=_above_zero(float), default=2.0, metavar="GIB", help="of a process; default: 2"
    )
    parser.add_argument(
        "--seed", type=_above_zero(int), default=1, metavar="N", help="the vectors that are used; default: 1"
    )
    return parser


def _above_zero(kind: Callable[[str], float]) -> Callable[[str], float]:
    """Return what reads a number above zero."""

    def read(text: str) -> float:
        number = kind(text)
        if not 0 < number < 1e6:
            raise ArgumentTypeError(f"must be above 0 and below a million, found {text}")
        return number

    read.__name__ = "number"  # in argparse's own message
    return read


if __name__ == "__main__":
    sys.exit(main())
