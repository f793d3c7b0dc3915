"""Where the time of a planned round goes: `python -m benchmarks.stages` prints a table.

SGD with QSGD(4) on Adult, 20 workers, batches of 1, 16 and 162 rows. Each kernel is called a hundred times in a row,
after a round that makes what it reads: its data are in the cache, and the sum is a little less than a round takes.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from statistics import median
from typing import Any
from unittest import mock

import numpy as np

import qsim
from qsim.kernels._calls import run_calls
from qsim.program import _COMPILED, Program

BATCHES = (1, 16, 162)
COUNTING = ("begin_round", "keep_weights", "end_round")
"""Kernels that count the rounds: they cannot be called twice in one, and take nanoseconds."""
STAGES = {
    "rows drawn": ("draw_with_replacement",),
    "margins": ("gather", "margins", "margins_on_support", "to_float32"),
    "slopes": ("logistic_slopes", "scale_by_count"),
    "sums of rows": ("single_rows", "scatter_short", "scatter_touched"),
    "quantizer": ("l2_scales", "round_to_levels"),
    "encoded": ("encode", "put_prefixes"),
    "decoded and checked": ("take_prefixes", "clear_behind", "decode", "wrong_prefix", "levels_to_values"),
    "added, and the step": ("add_rows", "take_marked", "shrink", "subtract"),
}


def stages(batch: int, repetitions: int = 25) -> dict[str, float]:
    """Return the microseconds of CPU time of each kernel of a round, in the order of the calls."""
    programs: list[Program] = []
    run = Program.run

    def noted(self: Program, rounds: int) -> int:
        programs.append(self)
        return run(self, rounds)

    with mock.patch.object(Program, "run", noted):
        qsim.simulate(
            "adult",
            objective=qsim.LogisticRegression(l2=1e-4),
            method=qsim.SGD(0.1, batch),
            compressor=qsim.QSGD(4),
            codec=qsim.codecs.Varint(),
            workers=20,
            partition=qsim.datasets.ByLabel(),
            rounds=300,
            evaluate_every=300,
            optimum=False,
            progress=False,
        )
    program = programs[-1]
    calls, _, results, *_ = program._table or program._laid_out()
    names = {address: key[0].__name__ for key, (_, address, _) in _COMPILED.items()}
    order = [(k, name) for k, name in enumerate(names[int(a)] for a in calls[:, 1]) if name not in COUNTING]

    def call(k: int, times: int) -> None:
        run_calls(calls[k : k + 1], np.zeros(1, np.int64), results[k : k + 1], times)

    def seconds(k: int) -> float:
        for other, _ in order:
            call(other, 1)
        start = time.process_time()
        call(k, 100)
        return (time.process_time() - start) / 100

    found: dict[str, float] = {}
    for k, name in order:
        found[name] = found.get(name, 0.0) + 1e6 * median(seconds(k) for _ in range(repetitions))
    return found


def main() -> None:
    """Print the table."""
    ArgumentParser("python -m benchmarks.stages", description=__doc__).parse_args()
    columns: list[dict[str, Any]] = [stages(batch) for batch in BATCHES]
    print(f"| microseconds of a round | {' | '.join(f'batch {batch}' for batch in BATCHES)} |")
    print("|---" * (1 + len(BATCHES)) + "|")
    listed = {name for names in STAGES.values() for name in names}
    others = tuple({name for column in columns for name in column} - listed)
    for stage, names in {**STAGES, "keys and counts": others}.items():
        print(f"| {stage} | {' | '.join(f'{sum(c.get(name, 0.0) for name in names):.2f}' for c in columns)} |")
    print(f"| together | {' | '.join(f'{sum(c.values()):.1f}' for c in columns)} |")


if __name__ == "__main__":
    main()
