"""Mutation testing: plant faults of one token in the sources, one at a time, and see which the tests notice.

    python tools/mutation.py --count 420                        # a sample of the faults, two at a time
    python tools/mutation.py --only 'qsim/codecs/*' --count 60  # of some files
    python tools/mutation.py --list --count 420                 # what would be planted

A fault is an operator for another, a whole number that is one more or one less, `and` for `or`, and the like. None is
planted where it would change no behaviour: in annotations, messages and docstrings, in calls that only refuse a bad
value, and in `examples()`, whose parameters are a sample for the checks. Each is planted in a copy of the checkout and
given to the tests that `tools/mutation.toml` names for its file. It is *noticed* if one of them fails, crashes, or
takes many times its usual time. Survivors are either equivalent, which `tools/survivors.toml` says with a reason, or a
hole in the tests.

Results are appended to `--out` as they come, kernels last, and a run that was stopped goes on from there. The seconds
of the tests are kept beside it (`.json`): the fastest run first. The same `--seed` and sources give the same
sample.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import csv
import fnmatch
import importlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
import tomllib
import traceback
from collections.abc import Collection, Iterator
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KERNELS = "qsim/kernels"
_CHECKS = ("whole", "number", "several", "one_of", "cast", "TypeVar")  # calls that only refuse, or say a type
_ASIDE = ("__repr__", "__str__", "examples")  # functions that print, or give the checks some parameters to sample
PATIENCE = 4  # how many times its usual time a test may take,
COMPILING = 30  # beside these seconds of the processor for compiling,
WAITING = 300  # and all tests of a mutant beside these seconds
IMPORTED = ("numba", "numpy", "pytest", "scipy.optimize", "scipy.sparse", "scipy.special", "scipy.stats")

SWAPS = {
    "+": ["-"], "-": ["+"], "*": ["+"], "/": ["*"], "//": ["*", "/"], "%": ["*"], "**": ["*"],
    "<<": [">>"], ">>": ["<<"], "&": ["|"], "|": ["&"], "^": ["|"],
    "<": ["<=", ">"], "<=": ["<"], ">": [">=", "<"], ">=": [">"], "==": ["!="], "!=": ["=="],
    "+=": ["-="], "-=": ["+="], "*=": ["/="], "|=": ["&="], "&=": ["|="], "^=": ["|="], ">>=": ["<<="], "<<=": [">>="],
    "and": ["or"], "or": ["and"], "not": [""], "True": ["False"], "False": ["True"], "min": ["max"], "max": ["min"],
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A token of a source, and what is put in its place."""

    path: str
    line: int
    column: int
    old: str
    new: str
    text: str
    """The line as it is, without indentation: names the place when lines above have moved."""

    def planted(self, source: str) -> str:
        """Return the source with the fault in it."""
        lines = source.splitlines(keepends=True)
        row = lines[self.line - 1]
        lines[self.line - 1] = row[: self.column] + self.new + row[self.column + len(self.old) :]
        return "".join(lines)

    @property
    def place(self) -> tuple[str, str, str]:
        """What a survivor is known by: its file, the line, and the line with the fault."""
        return self.path, self.text, self.planted((ROOT / self.path).read_text()).splitlines()[self.line - 1].strip()


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    mutant: Mutant
    noticed: bool
    how: str
    seconds: float

    def __str__(self) -> str:
        at = f"{self.mutant.path}:{self.mutant.line}:{self.mutant.column}"
        verdict = "noticed" if self.noticed else "SURVIVED"
        return f"{verdict:8} {at} {self.mutant.old!r} -> {self.mutant.new!r} {self.how} ({self.seconds:.1f} s)"


def mutants(path: str) -> Iterator[Mutant]:
    """Yield all mutants of a source, without those where a fault would change no behaviour."""
    source = (ROOT / path).read_text()
    lines, silent = source.splitlines(), _silent(ast.parse(source))
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (line, column), old = token.start, token.string
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT):
            continue
        is_star = old in ("*", "**", "/") and before in ("(", ",", "[")  # of arguments
        if not is_star and not any(first <= (line, column) < last for first, last in silent):
            for new in _replacements(token):
                yield Mutant(path, line, column, old, new, lines[line - 1].strip())
        before = old


def _replacements(token: tokenize.TokenInfo) -> list[str]:
    if token.type != tokenize.NUMBER:
        return SWAPS.get(token.string, [])
    text = token.string
    if text.isdigit():
        value = int(text)
        return [str(value + 1), *([str(value - 1)] if value else [])]
    if text.startswith("0x"):
        return [text[:-1] + format(int(text[-1], 16) ^ 1, "X")]
    digits = text.rstrip("0123456789") if "e" in text else text
    mantissa = digits[:-2] if digits.endswith("e-") else digits.removesuffix("e")
    return [mantissa[:-1] + str((int(mantissa[-1]) + 1) % 10) + text[len(mantissa) :]] if mantissa[-1].isdigit() else []


def _silent(tree: ast.AST) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where a fault would change no behaviour: from and to, as (line, column)."""
    spans: list[tuple[tuple[int, int], tuple[int, int]]] = []

    def leave_out(*nodes: Any) -> None:
        spans.extend(
            ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
            for node in nodes
            if node is not None
        )

    for node in ast.walk(tree):
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Raise() | ast.Assert() | ast.JoinedStr():
                leave_out(node)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                leave_out(node)
            case ast.AnnAssign():
                leave_out(node.annotation)
            case ast.FunctionDef():
                leave_out(node.returns, *node.decorator_list)
                if node.name in _ASIDE:
                    leave_out(*node.body)
            case ast.arg():
                leave_out(node.annotation)
            case ast.Assign(targets=[ast.Name(id=name)]) if name == "__all__":
                leave_out(node)
            case ast.Call(func=ast.Name(id=name)) if name in _CHECKS:
                leave_out(node)
    return spans


def tests_of(path: str, table: dict[str, list[str]]) -> list[str]:
    """Return the test files that see to a source."""
    named = table.get(path) or next((names for key, names in table.items() if fnmatch.fnmatch(path, key)), [])
    return [_test_file(name) for name in named]


@cache
def _test_file(name: str) -> str:
    """Return the test file of a name, in whichever folder it is."""
    found = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob(f"{name}.py")]
    if len(found) != 1:
        raise SystemExit(f"tools/mutation.toml names {name}: expected one such file under tests/, found {found}")
    return found[0]


class Plan:
    """How tests of a fault are run, as a plugin of pytest: the same examples each time, and the fastest tests first."""

    def __init__(self, seconds: dict[str, float], noted: Path, limited: bool) -> None:
        self._seconds, self._noted, self._limited = seconds, noted, limited
        self.failed = ""
        self.took: dict[str, float] = {}
        self.kernels: Path | None = None
        """The folder that was made for compiled kernels."""

    def note(self, ends_in: str = "") -> None:
        """Write down what is known, for a process that may not live to the end."""
        known = {"failed": self.failed or ends_in, "took": self.took, "kernels": str(self.kernels or "")}
        self._noted.write_text(json.dumps(known))

    def pytest_sessionstart(self) -> None:
        """Draw the same examples in every run, and look for no smaller ones."""
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", settings.get_profile("qsim"), derandomize=True, phases=phases)
        settings.load_profile("mutation")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Begin with the fastest test."""
        items.sort(key=lambda item: self._seconds.get(item.nodeid, 0.0))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """End the process when a test takes many times its usual time of the processor."""
        if self._limited:
            signal.setitimer(signal.ITIMER_PROF, PATIENCE * self._seconds.get(nodeid, 0.0) + COMPILING)
            self.note(f"{nodeid} ends the process, or does not end")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note what failed, and the seconds that a test takes."""
        self.took[report.nodeid] = self.took.get(report.nodeid, 0.0) + report.duration
        self.pytest_collectreport(report)

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that can't be imported."""
        if report.failed:
            self.failed = report.nodeid


class Bench:
    """A copy of the checkout, in which one mutant after the other is planted and tested.

    Tests run in a fork of this process, which has imported the packages that qsim is built on.
    """

    def __init__(self, folder: Path, cache: Path, seconds: dict[str, float]) -> None:
        self.tree, self._temporary = folder / "tree", folder / "temporary"
        self._noted, self._said = folder / "noted.json", folder / "said.txt"
        self._cache, self.seconds = cache, seconds
        tracked = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        )
        for name in tracked.stdout.split("\0"):
            if name and (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.tree / name)
        self._kernels = cache_folder(self.tree, cache)
        self._mutant: Mutant | None = None

    def begin(self, tests: list[str]) -> None:
        """Run tests without a fault, compile what they need and time them; ends the command if one of them fails."""
        self._fork(tests, limited=False)
        _, status = os.waitpid(self._child, 0)
        noted = self._end()
        if status:
            raise SystemExit(
                f"the tests fail as they are: {noted['failed'] or status}\n{self._said.read_text()[-5000:]}"
            )
        self.seconds.update(noted["took"])

    def plant(self, mutant: Mutant, tests: list[str]) -> None:
        """Plant a mutant and begin its tests."""
        self._mutant, self._path = mutant, self.tree / mutant.path
        self._source, self._begun = self._path.read_text(), time.monotonic()
        self._path.write_text(mutant.planted(self._source))
        is_kernel = mutant.path.startswith(KERNELS)
        self._fork(tests, True, _dependents(self.tree / KERNELS, Path(mutant.path).stem) if is_kernel else None)
        usual = sum(seconds for name, seconds in self.seconds.items() if name.split("::")[0] in tests)
        self._latest = time.monotonic() + PATIENCE * usual + WAITING

    @property
    def free(self) -> bool:
        """Whether there is no mutant."""
        return self._mutant is None

    def outcome(self) -> Outcome | None:
        """Return what became of the mutant, and take it out; None if its tests still run."""
        assert self._mutant is not None
        ended, status = os.waitpid(self._child, os.WNOHANG)
        if not ended:
            if time.monotonic() > self._latest:
                os.kill(self._child, signal.SIGKILL)
            return None
        noted = self._end()
        self._path.write_text(self._source)
        if noted["kernels"]:
            shutil.rmtree(noted["kernels"])
        mutant, self._mutant = self._mutant, None
        return Outcome(mutant, status != 0, noted["failed"] if status else "", time.monotonic() - self._begun)

    def _end(self) -> dict[str, Any]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child, signal.SIGKILL)  # processes that its tests left
        shutil.rmtree(self._temporary, ignore_errors=True)
        noted: dict[str, Any] = json.loads(self._noted.read_text())
        return noted

    def _fork(self, tests: list[str], limited: bool, changed: Collection[str] | None = None) -> None:
        """Run tests in a child, with the compiled kernels of all files but those that are changed."""
        self._temporary.mkdir()
        plan = Plan(self.seconds, self._noted, limited)
        plan.note("the imports end the process")
        self._child = os.fork()
        if self._child:
            return
        code = 99
        try:
            os.setsid()
            os.chdir(self.tree)
            with self._said.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            os.environ |= environment(self.tree, self._cache) | {"TMPDIR": str(self._temporary)}
            tempfile.tempdir = None
            sys.path[0] = str(self.tree)
            sys.path[:] = [path for path in sys.path if Path(path).absolute() != ROOT]
            sys.dont_write_bytecode = True  # a token is changed within a second
            options = ["-n0", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=short"]
            if changed is not None:
                plan.kernels = importlib.import_module("qsim.kernels._jit").cache_folder()
                link(self._kernels, plan.kernels, changed)
            code = int(importlib.import_module("pytest").main([*tests, *options], plugins=[plan]))
            plan.note()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def environment(tree: Path, cache: Path | None) -> dict[str, str]:
    """Return the environment in which the qsim of a tree is imported."""
    mine = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "QSIM_QUIET": "1"}
    return mine | ({"QSIM_CACHE_DIR": str(cache)} if cache else {})


def cache_folder(tree: Path, cache: Path | None = None) -> Path:
    """Return the folder of compiled kernels for the sources of a tree as they are now."""
    ask = "from qsim.kernels._jit import cache_folder; print(cache_folder())"
    told = os.environ | environment(tree, cache)
    done = subprocess.run([sys.executable, "-c", ask], cwd=tree, env=told, capture_output=True, check=True, text=True)
    return Path(done.stdout.strip())


def link(compiled: Path, to: Path, but: Collection[str] = ()) -> None:
    """Give a folder the files of another, but for the compiled kernels of some files."""
    to.mkdir(parents=True, exist_ok=True)
    for old in compiled.iterdir():
        if old.name.split(".")[0] not in but:
            try:
                os.link(old, to / old.name)
            except OSError:  # another file system
                shutil.copy2(old, to / old.name)


def _dependents(kernels: Path, changed: str) -> set[str]:
    """Return the names of the kernel files that import a file, through others too, and its own."""
    imports = {
        path.stem: {
            node.module.split(".")[-1]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("qsim.kernels.")
        }
        for path in kernels.glob("*.py")
    }
    found = {changed}
    while more := {name for name, used in imports.items() if used & found} - found:
        found |= more
    return found


def sample(paths: list[str], count: int, seed: int) -> list[Mutant]:
    """Return about `count` mutants: every file has a share that grows with the square root of its mutants.

    They are drawn file by file, so that an edit of one file leaves those of the others as they are.
    """
    each = {path: found for path in paths if (found := list(mutants(path)))}
    weight = sum(len(found) ** 0.5 for found in each.values())
    chosen = []
    for path, found in each.items():
        random.Random(f"{seed} {path}").shuffle(found)
        chosen += found[: max(2, round(count * len(found) ** 0.5 / weight))]
    random.Random(seed).shuffle(chosen)
    return chosen


def survivors() -> dict[tuple[str, str, str], str]:
    """Return the reasons why known survivors are equivalent."""
    path = ROOT / "tools/survivors.toml"
    listed = tomllib.loads(path.read_text())["survivor"] if path.exists() else []
    return {(entry["path"], entry["text"], entry["planted"]): entry["why"] for entry in listed}


_COLUMNS = [*(field.name for field in fields(Mutant)), "noticed", "how", "seconds"]


def earlier(path: Path) -> list[Outcome]:
    """Return the outcomes that a file holds."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Outcome(
                Mutant(row["path"], int(row["line"]), int(row["column"]), row["old"], row["new"], row["text"]),
                row["noticed"] == "True",
                row["how"],
                float(row["seconds"]),
            )
            for row in csv.DictReader(file)
        ]


def run(wanted: list[Mutant], table: dict[str, list[str]], out: Path, jobs: int) -> list[Outcome]:
    """Judge mutants on as many benches as there are jobs; appends each outcome to a file."""
    known = {outcome.mutant: outcome for outcome in earlier(out)}
    waiting = [mutant for mutant in wanted if mutant not in known]
    waiting.sort(key=lambda mutant: mutant.path.startswith(KERNELS))  # what must be compiled is slow, and comes last
    times, new = out.with_suffix(".json"), not out.exists()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder, out.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(_COLUMNS)
        seconds: dict[str, float] = json.loads(times.read_text()) if times.exists() else {}
        benches = _benches(Path(folder), min(jobs, len(waiting)), seconds)
        wanted_tests = {test for mutant in waiting for test in tests_of(mutant.path, table)}
        if untimed := wanted_tests - {name.split("::")[0] for name in seconds}:
            benches[0].begin(sorted(untimed))
            times.write_text(json.dumps(seconds, indent=0))
        while waiting or any(not bench.free for bench in benches):
            for bench in benches:
                if bench.free and waiting:
                    mutant = waiting.pop(0)
                    bench.plant(mutant, tests_of(mutant.path, table))
                elif not bench.free and (outcome := bench.outcome()):
                    known[outcome.mutant] = outcome
                    writer.writerow([*astuple(outcome.mutant), outcome.noticed, outcome.how, f"{outcome.seconds:.1f}"])
                    file.flush()
                    print(outcome, flush=True)
            time.sleep(0.01)
    return [known[mutant] for mutant in wanted]


def _benches(folder: Path, count: int, seconds: dict[str, float]) -> list[Bench]:
    """Return benches that share a cache, which begins with what the user's holds, and the seconds of tests."""
    cache = folder / "cache"
    benches = [Bench(folder / str(number), cache, seconds) for number in range(count)]
    link(cache_folder(ROOT), cache_folder(ROOT, cache))
    optima = cache_folder(ROOT).parent.parent / "optima"  # which take long to find
    if optima.is_dir():
        link(optima, cache / "optima")
    return benches


def main() -> int:
    """Run the command; the exit code is 1 if a survivor has no reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=420, help="how many mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: %(default)s)")
    parser.add_argument("--only", default="*", help="a pattern of paths (default: all in the table)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time (default: one per core)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("mutants.csv"), help="where outcomes go (default: %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    options = parser.parse_args()
    table = tomllib.loads((ROOT / "tools/mutation.toml").read_text())["tests"]
    named = {str(path.relative_to(ROOT)) for key in table for path in ROOT.glob(key) if path.stem != "__init__"}
    wanted = sample(sorted(fnmatch.filter(named, options.only)), options.count, options.seed)
    if options.list:
        for mutant in wanted:
            print(f"{mutant.path}:{mutant.line}:{mutant.column}: {mutant.old!r} -> {mutant.new!r}: {mutant.text}")
        return 0
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in IMPORTED:
        importlib.import_module(name)
    outcomes, why = run(wanted, table, options.out, options.jobs), survivors()
    lived = [outcome.mutant for outcome in outcomes if not outcome.noticed]
    holes = [mutant for mutant in lived if mutant.place not in why]
    real = len(outcomes) - len(lived) + len(holes)
    print(
        f"\n{len(outcomes)} mutants, {len(outcomes) - len(lived)} noticed, {len(lived) - len(holes)} equivalent;"
        f" {(real - len(holes)) / max(real, 1):.1%} of those that are not equivalent were noticed"
    )
    for mutant in lived:
        reason = why.get(mutant.place, "NO REASON GIVEN")
        print(f"{mutant.path}:{mutant.line}: {mutant.old!r} -> {mutant.new!r} in {mutant.text}\n    {reason}")
    return bool(holes)


if __name__ == "__main__":
    sys.exit(main())
