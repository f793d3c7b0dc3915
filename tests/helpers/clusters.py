"""Spark and Ray on this machine alone, and what processes they have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from helpers.paths import process_environment

SCRIPT = """
import os, sys, time
import numpy as np
import qsim

@qsim.option
class Halved(qsim.compressors.Compressor):
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        return qsim.batch.Floats.single(np.asarray(v) * FACTOR)

FACTOR = np.float32(0.5)
run = qsim.Run(qsim.datasets.synthetic(100, 50, 4, seed=1), objective=qsim.LogisticRegression(l2=0.1),
               method=qsim.SGD(0.1, batch=2), compressor=Halved(), workers=6, rounds=5, optimum=False)
traces = [qsim.simulate(run, engine=engine, progress=False) for engine in (qsim.engines.Serial(), ENGINE)]
assert traces[0].weights.tobytes() == traces[1].weights.tobytes()
assert traces[0].frame.equals(traces[1].frame)
from helpers.clusters import descendants
end = time.monotonic() + 20
while descendants(os.getpid()) and time.monotonic() < end:
    time.sleep(0.1)
print("left:", descendants(os.getpid()))
"""
"""A script as a user writes it: a class of its own, no guard. It prints what processes it leaves."""


@contextmanager
def spark_session(master: str = "local[2]", **settings: str) -> Iterator[Any]:
    """Make a session that only this machine can reach, and stop it."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {name.replace("_", "."): value for name, value in settings.items()}
    settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false"}
    settings |= {"spark.ui.showConsoleProgress": "false"}
    session = SparkSession.builder.master(master).config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    try:
        yield session
    finally:
        session.stop()


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """Start a small cluster that only this machine can reach, and end it."""
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 << 20,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
    )
    try:
        yield ray
    finally:
        ray.shutdown()


def run_script(engine: str, folder: Path, as_notebook: bool) -> str:
    """Run the script on an engine, from a file or, as a notebook does, from none; return what it prints."""
    text = SCRIPT.replace("ENGINE", engine)
    (folder / "script.py").write_text(text)
    done = subprocess.run(
        [sys.executable] if as_notebook else [sys.executable, "script.py"],
        input=text if as_notebook else "",
        capture_output=True,
        text=True,
        cwd=folder,
        env=process_environment(SPARK_LOCAL_IP="127.0.0.1", PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def descendants(pid: int) -> list[str]:
    """Return the processes below one, by name."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            stat = (folder / "stat").read_text()
            name, _, rest = stat.partition("(")[2].rpartition(")")
            if rest.split()[0] != "Z":
                parents[int(folder.name)], names[int(folder.name)] = int(rest.split()[1]), name
    found = []
    for each in parents:
        above = each
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and each != pid:
            found.append(names[each])
    return found
