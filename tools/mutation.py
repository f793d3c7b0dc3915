"""Mutation testing: plant faults of one token in the sources, one at a time, and see which the tests notice.

    python tools/mutation.py --count 420                        # a sample of the faults, two at a time
    python tools/mutation.py --only 'qsim/codecs/*' --count 60  # of some files
    python tools/mutation.py --list --count 420                 # what would be planted

A fault is an operator for another, a whole number that is one more or one less, `and` for `or`, and the like. Each is
planted in a copy of the checkout and given to the tests that `tools/mutation.toml` names for its file. It is *noticed*
if one of them fails, crashes, or takes many times its usual time. Survivors are either equivalent, which
`tools/survivors.toml` says with a reason, or a hole in the tests.

Results are appended to `--out` as they come, and a run that was stopped goes on from there. The same `--seed` and
sources give the same sample.
"""

from __future__ import annotations

import argparse
import ast
import csv
import fnmatch
import io
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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KERNELS = "qsim/kernels"
_CHECKS = ("whole", "number", "several", "one_of", "cast", "TypeVar")  # calls that only refuse, or say a type
PATIENCE = 3  # how many times its usual time a test run may take

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
    def place(self) -> tuple[str, str, str, str]:
        """What a survivor is known by."""
        return self.path, self.text, self.old, self.new


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    mutant: Mutant
    noticed: bool
    how: str
    seconds: float


def mutants(path: str) -> Iterator[Mutant]:
    """Yield all mutants of a source, without those of annotations, messages, docstrings and imports."""
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
    """Return where a fault would change no number: from and to, as (line, column)."""
    spans = []

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
                if node.name in ("__repr__", "__str__"):
                    leave_out(*node.body)
            case ast.arg():
                leave_out(node.annotation)
            case ast.Assign(targets=[ast.Name(id=name)]) if name in ("__all__",):
                leave_out(node)
            case ast.Call(func=ast.Name(id=name)) if name in (
                "whole",
                "number",
                "several",
                "one_of",
                "cast",
                "TypeVar",
            ):
                leave_out(node)
    return spans


def tests_of(path: str, table: dict[str, list[str]]) -> list[str]:
    """Return the test files that see to a source."""
    named = table.get(path) or next((names for key, names in table.items() if fnmatch.fnmatch(path, key)), [])
    return [f"tests/{name}.py" for name in named]


class Bench:
    """A copy of the checkout with a cache of its own, in which one mutant after the other is planted."""

    def __init__(self, folder: Path) -> None:
        self.tree, self._cache = folder / "tree", folder / "cache"
        tracked = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        )
        for name in tracked.stdout.split("\0"):
            if name and (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.tree / name)
        self._compiled = self._folder()
        self._usual: dict[str, float] = {}

    def usual(self, tests: list[str]) -> float:
        """Return the seconds that tests take without a fault, compiling included; ends the run if one of them fails."""
        key = " ".join(tests)
        if key not in self._usual:
            begun = time.perf_counter()
            code, how = self._run(tests, 3600)
            if code:
                raise SystemExit(f"the tests fail as they are: {how}")
            self._usual[key] = time.perf_counter() - begun
        return self._usual[key]

    def judge(self, mutant: Mutant, tests: list[str]) -> Outcome:
        """Plant a mutant, run its tests, and take it out again."""
        limit = PATIENCE * self.usual(tests) + 60
        path = self.tree / mutant.path
        source, stamp = path.read_text(), path.stat()
        begun, compiled = time.perf_counter(), None
        try:
            path.write_text(mutant.planted(source))
            if mutant.path.startswith(KERNELS):
                compiled = self._keep_compiled(mutant.path)
            code, how = self._run(tests, limit)
        finally:
            path.write_text(source)
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # so that what was compiled of it stays valid
            if compiled is not None:
                shutil.rmtree(compiled, ignore_errors=True)
        return Outcome(mutant, code != 0, how, time.perf_counter() - begun)

    def _run(self, tests: list[str], limit: float) -> tuple[int, str]:
        command = [sys.executable, "-m", "pytest", *tests, "-n0", "-x", "-q", "-p", "no:cacheprovider", "--no-header"]
        child = subprocess.Popen(
            command, cwd=self.tree, env=self._environment, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            return 1, "hangs"
        failed = [line.split(" - ")[0] for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return child.returncode, failed[0] if failed else f"exit {child.returncode}" if child.returncode else ""

    @property
    def _environment(self) -> dict[str, str]:
        mine = {"QSIM_CACHE_DIR": str(self._cache), "PYTHONPATH": str(self.tree), "PYTHONDONTWRITEBYTECODE": "1"}
        return os.environ | mine | {"OMP_NUM_THREADS": "1", "QSIM_QUIET": "1"}

    def _folder(self) -> Path:
        """Return the folder of compiled kernels for the sources as they are now."""
        ask = "from qsim.kernels._jit import cache_folder; print(cache_folder())"
        done = subprocess.run(
            [sys.executable, "-c", ask],
            cwd=self.tree,
            env=self._environment,
            capture_output=True,
            check=True,
            text=True,
        )
        return Path(done.stdout.strip())

    def _keep_compiled(self, path: str) -> Path:
        """Give the mutated sources the compiled kernels of all files that do not depend on the changed one."""
        folder, changed = self._folder(), _dependents(self.tree / KERNELS, Path(path).stem)
        for old in self._compiled.rglob("*.nb[ic]"):
            if old.name.split(".")[0] not in changed:
                new = folder / old.relative_to(self._compiled)
                new.parent.mkdir(parents=True, exist_ok=True)
                os.link(old, new)
        return folder


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
    """Return `count` mutants: every file has a share that grows with the square root of its mutants."""
    drawn = random.Random(seed)
    each = {path: found for path in paths if (found := list(mutants(path)))}
    weight = sum(len(found) ** 0.5 for found in each.values())
    chosen = []
    for found in each.values():
        share = max(2, round(count * len(found) ** 0.5 / weight))
        chosen += drawn.sample(found, min(share, len(found)))
    return chosen


def survivors() -> dict[tuple[str, str, str, str], str]:
    """Return the reasons why known survivors are equivalent."""
    path = ROOT / "tools/survivors.toml"
    listed = tomllib.loads(path.read_text())["survivor"] if path.exists() else []
    return {(entry["path"], entry["text"], entry["old"], entry["new"]): entry["why"] for entry in listed}


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
    new = not out.exists()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder, out.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(_COLUMNS)
        benches: SimpleQueue[Bench] = SimpleQueue()
        for job in range(min(jobs, len(waiting))):
            benches.put(Bench(Path(folder) / str(job)))

        def judge(mutant: Mutant) -> Outcome:
            bench = benches.get()
            try:
                return bench.judge(mutant, tests_of(mutant.path, table))
            finally:
                benches.put(bench)

        with ThreadPoolExecutor(jobs) as pool:
            for outcome in pool.map(judge, waiting):
                known[outcome.mutant] = outcome
                writer.writerow([*astuple(outcome.mutant), outcome.noticed, outcome.how, f"{outcome.seconds:.1f}"])
                file.flush()
                mutant, verdict = outcome.mutant, "noticed" if outcome.noticed else "SURVIVED"
                at = f"{mutant.path}:{mutant.line}:{mutant.column}"
                print(f"{verdict:8} {at} {mutant.old!r} -> {mutant.new!r} {outcome.how}", flush=True)
    return [known[mutant] for mutant in wanted]


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
