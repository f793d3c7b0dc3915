"""The command `python -m benchmarks [NAME ...] [--out DIR] [--quick]`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report, runner
from benchmarks.case import count_cpu_time


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the files; return 0 if all went through, whatever the targets."""
    known = runner.names()
    parser = ArgumentParser(prog="python -m benchmarks", description="Compare qsim's speed with its peers'.")
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"which (default: all): {', '.join(known)}")
    parser.add_argument("--out", type=Path, help="folder of results.md and results.csv (default: benchmarks, if all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once: a smoke test, whose times mean nothing")
    parser.add_argument("--cpu-time", action="store_true", help="of one thread, where other programs run too")
    options = parser.parse_args(arguments)
    for name in options.name:
        if name not in known:
            parser.error(f"there is no benchmark {name!r}: choose from {', '.join(known)}")
    if options.cpu_time:
        count_cpu_time()
    findings: list[runner.Finding] = []
    absent: list[str] = []
    for name in options.name or known:
        findings += runner.run(name, options.quick, absent)
    machine = runner.machine() | ({"clock": "CPU time"} if options.cpu_time else {})
    print(report.markdown(findings, machine, absent), end="")
    whole = not options.name and not options.quick
    out = options.out or (Path(__file__).parent if whole else None)
    if out is not None:
        report.write(out, findings, machine, absent)
        print(f"wrote {out / 'results.md'} and {out / 'results.csv'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
