"""Kill what an engine runs on at random instants, and compare every run with `Serial`, to the last bit.

    python tools/kill_workers.py processes
    python tools/kill_workers.py ray --kills 100
    python tools/kill_workers.py spark --log kills.jsonl
    python tools/kill_workers.py spark --master "local-cluster[2,1,1024]" --victims executors

Everything runs on this machine. The log has a line for each kill: when, in which run and round, which process. Exit
code 1 says that a run was another than on `Serial`, or failed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np

import qsim
from qsim.engines import Engine, Session

DATA = qsim.datasets.synthetic(200, 300, 6, seed=3)
BASE = {"objective": qsim.LogisticRegression(l2=0.01), "workers": 8, "optimum": False}
_PAUSE = 1.0  # seconds, on average, between the recovery from a kill and the next


def runs(rounds: int) -> list[qsim.Run]:
    """Return runs whose workers keep much: one with error feedback, one with shifts and dropped messages."""
    machines = qsim.network.Machines(delay=qsim.network.Exponential(0.01))
    network = qsim.Network(rule=qsim.network.Fastest(5), machines=machines)
    feedback = {
        "method": qsim.SGD(step=0.1, batch=4, sampling=qsim.methods.Passes()),
        "compressor": qsim.ErrorFeedback(qsim.Scaled(qsim.QSGD(levels=2))),
    }
    shifts = {"method": qsim.DIANA(step=0.1), "compressor": qsim.QSGD(levels=4), "network": network}
    common = BASE | {"rounds": rounds, "evaluate_every": rounds}
    return [qsim.Run(DATA, **common, **run) for run in (feedback, shifts)]


def workers(session: Session) -> list[int]:
    """Return the processes that hold the workers."""
    return session.pids


def executors(_: Session) -> list[int]:
    """Return the executors of Spark that this process has started."""
    found, parents = [], {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if b"CoarseGrainedExecutorBackend" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if os.getpid() in _above(pid, parents)]


def _above(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid in parents:
        pid = parents[pid]
        yield pid


@dataclass
class Hunt:
    """Kills now and then, at most twice in two rounds: an engine gives up what ends three times in a row."""

    victims: Callable[[Session], list[int]]
    rng: np.random.Generator
    note: Callable[[int], None]
    session: Session | None = None
    round: int = 0
    _rounds: tuple[int, int] = (-2, -2)  # of the last two kills
    _last: int = 0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Hunt while the block runs, which starts with round 0."""
        self.round, self._rounds, over = 0, (-2, -2), Event()
        hunter = Thread(target=self._hunt, args=(over,))
        hunter.start()
        try:
            yield
        finally:
            over.set()
            hunter.join()

    def _hunt(self, over: Event) -> None:
        while not over.wait(self.rng.exponential(_PAUSE)):
            there = self.victims(self.session) if self.session is not None else []
            if not there or self._last in there or self.round <= self._rounds[0] + 1:
                continue
            self._last, self._rounds = int(self.rng.choice(there)), (self._rounds[1], self.round)
            with suppress(ProcessLookupError):
                os.kill(self._last, signal.SIGKILL)
                self.note(self._last)


class Watched(Engine):
    """An engine whose open session is shown to a hunt."""

    def __init__(self, engine: Engine, hunt: Hunt) -> None:
        self.engine, self.hunt = engine, hunt

    def open(self, job: Any) -> Session:
        self.hunt.session = self.engine.open(job)
        return self.hunt.session


def same(one: qsim.Trace, other: qsim.Trace) -> bool:
    """Tell whether two runs have the same weights and counts, to the last bit."""
    return one.weights.tobytes() == other.weights.tobytes() and one.frame.equals(other.frame)


def survives(
    engine: Engine,
    kills: int,
    seed: int = 0,
    victims: Callable[[Session], list[int]] = workers,
    rounds: int = 1500,
    log: Callable[[dict[str, Any]], None] = lambda line: None,
) -> tuple[int, int]:
    """Run until there have been so many kills; return how many there were, and how many runs were others."""
    done = wrong = number = 0
    expected = [qsim.simulate(run, progress=False) for run in runs(rounds)]
    start = time.monotonic()

    def seconds() -> float:
        return round(time.monotonic() - start, 2)

    def note(pid: int) -> None:
        nonlocal done
        done += 1
        log({"kill": done, "seconds": seconds(), "run": number, "round": hunt.round, "pid": pid})

    hunt = Hunt(victims, np.random.default_rng(seed), note)

    def after_round(t: int) -> None:
        hunt.round = t

    with engine.started():
        while done < kills:
            with hunt.on():
                watched = Watched(engine, hunt)
                found = qsim.simulate(runs(rounds)[number % 2], engine=watched, progress=False, after_round=after_round)
                hunt.session = None
            good = same(found, expected[number % 2])
            wrong += not good
            log({"run": number, "seconds": seconds(), "same bits": good})
            number += 1
    return done, wrong


def _engine(options: Any) -> Engine:
    if options.engine == "ray":
        return qsim.engines.Ray(groups=2)
    if options.engine == "processes":
        return qsim.engines.Processes(2)
    from pyspark.sql import SparkSession

    settings = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false"}
    settings |= {"spark.ui.showConsoleProgress": "false"}
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master(options.master).config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    return qsim.engines.Spark()


def main() -> int:
    """Run the command; returns its exit code."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("engine", choices=["processes", "ray", "spark"])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--master", default="local[2]", help="of Spark; default: local[2]")
    parser.add_argument("--victims", choices=["workers", "executors"], default="workers")
    parser.add_argument("--log", type=Path, default=Path("kills.jsonl"))
    options = parser.parse_args()
    with options.log.open("w", encoding="utf-8") as file:
        done, wrong = survives(
            _engine(options),
            options.kills,
            options.seed,
            {"workers": workers, "executors": executors}[options.victims],
            log=lambda line: print(json.dumps(line), file=file, flush=True),
        )
    print(f"{done} kills, {wrong} runs with other bits; the log is {options.log}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
