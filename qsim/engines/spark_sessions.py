"""Sessions of Spark: whether there is one, starting and stopping, its slots, and what its errors say."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which
from signal import SIGINT, getsignal, signal
from subprocess import TimeoutExpired, run
from threading import current_thread, main_thread
from typing import Any

from qsim.engines.recovery import EngineError

_STEADY, _LOOK = 1.0, 0.25  # seconds that the number of slots must stay, and between two looks at it


def require_pyspark() -> None:
    """Raise ImportError if there is no PySpark, or an old one."""
    try:
        import pyspark
    except ImportError as error:
        raise ImportError("qsim.engines.Spark needs PySpark 4: python -m pip install 'pyspark>=4'") from error
    if int(pyspark.__version__.partition(".")[0]) < 4:
        raise ImportError(
            f"qsim.engines.Spark needs PySpark 4, found {pyspark.__version__}: python -m pip install 'pyspark>=4'"
        )


def has_session() -> bool:
    """Tell whether a session runs in this process."""
    from pyspark import SparkContext

    return SparkContext._active_spark_context is not None


@contextmanager
def own_session() -> Iterator[None]:
    """Start a session as Spark's settings say, on this machine if they say nothing; at the end, stop it and its JVM."""
    from pyspark import SparkContext
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    launches = SparkContext._gateway is None and "PYSPARK_GATEWAY_PORT" not in os.environ
    if launches:
        _require_java()
    handler = getsignal(SIGINT)  # Spark sets one of its own, which outlives it
    unset = launches and "PYSPARK_PYTHON" not in os.environ
    if unset:  # or it would be whatever python3 there is on the path
        os.environ["PYSPARK_PYTHON"] = sys.executable
    try:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
        session = SparkSession.builder.appName("qsim").config(map=quiet).getOrCreate()
    except PySparkException as error:
        java = f"; {_java_version()}, and Spark 4 needs 17 or later" if launches else ""
        raise EngineError(f"Spark could not be started ({error}){java}") from error
    finally:
        if unset:
            del os.environ["PYSPARK_PYTHON"]
    session.sparkContext.setLogLevel("OFF")
    try:
        yield
    finally:
        session.stop()
        if launches:
            _end_gateway()
        if current_thread() is main_thread():
            signal(SIGINT, handler)


def _end_gateway() -> None:
    """End the JVM, which Spark keeps for the next session."""
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    SparkContext._gateway = SparkContext._jvm = None
    gateway.shutdown()
    gateway.proc.stdin.close()  # the JVM ends with it
    try:
        gateway.proc.wait(10.0)
    except TimeoutExpired:
        gateway.proc.kill()
        gateway.proc.wait()


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return f"{home}/bin/java" if home else which("java")


def _require_java() -> None:
    java = _java()
    if java is None or which(java) is None:
        where = f"JAVA_HOME is {os.environ['JAVA_HOME']}" if "JAVA_HOME" in os.environ else "java is not on the PATH"
        raise EngineError(
            f"Spark needs Java 17 or later, and there is none: {where}; install it (apt install"
            " openjdk-17-jre-headless, say), or set JAVA_HOME"
        )


def _java_version() -> str:
    done = run([str(_java()), "-version"], capture_output=True, text=True, check=False)
    return (done.stderr or done.stdout).partition("\n")[0] or "java -version says nothing"


def context_of(session: Any) -> Any:
    """Return the SparkContext of a session, or the active one."""
    from pyspark import SparkContext
    from pyspark.errors import PySparkException

    if session is None:
        return SparkContext._active_spark_context
    try:
        context = session.sparkContext
        stopped = context._jsc is None
    except (AttributeError, PySparkException) as error:
        raise TypeError(
            f"session must be a pyspark.sql.SparkSession that runs in this process, not by Spark Connect; found"
            f" {session!r}"
        ) from error
    if stopped:
        raise EngineError("the Spark session has been stopped; make a new one")
    return context


def is_local(context: Any) -> bool:
    """Tell whether all executors are on this machine."""
    return re.match(r"local(\[|-cluster\[|$)", context.master) is not None


def count_slots(context: Any) -> int:
    """Return how many tasks can run at the same time, with the executors that there are now."""
    scala = context._jsc.sc()
    return int(scala.maxNumConcurrentTasks(scala.resourceProfileManager().defaultResourceProfile()))


def wait_for_slots(context: Any, wanted: int | None, patience: float) -> int:
    """Return how many groups to make: as many as wanted, else as there are slots.

    Executors may still be on their way. Raises EngineError if there are not so many slots after so many seconds.
    """
    fixed = re.fullmatch(r"local(\[.*\])?", context.master) is not None
    on_demand = context.getConf().get("spark.dynamicAllocation.enabled", "false") == "true"
    if on_demand and wanted is not None:
        return wanted
    begin = steady = time.monotonic()
    slots = count_slots(context)
    while True:
        now = time.monotonic()
        if slots >= (wanted or 1) and (fixed or wanted is not None or now - steady > _STEADY):
            return wanted or slots
        if fixed or now - begin > patience:
            break
        time.sleep(_LOOK)
        found = count_slots(context)
        if found != slots:
            slots, steady = found, time.monotonic()
    needs = "a run needs a slot" if wanted is None else f"groups={wanted} needs {wanted} slots"
    raise EngineError(
        f"{needs}, and Spark has {slots} (the cores of its executors / spark.task.cpus); take fewer groups, give Spark"
        " more cores, or name groups= where executors are started on demand"
    )


def is_running(context: Any, name: str) -> bool:
    """Tell whether a task of a job group runs."""
    tracker = context.statusTracker()
    for job in tracker.getJobIdsForGroup(name):
        info = tracker.getJobInfo(job)
        for stage in info.stageIds if info is not None else ():
            found = tracker.getStageInfo(stage)
            if found is not None and found.numActiveTasks:
                return True
    return False


def reason(problem: Exception) -> str:
    """Say why a Spark job failed, and on which host, in a line of the pages that Spark writes."""
    text = str(problem)
    lines = re.findall(r"^((?!org\.|py4j\.)[\w.]*(?:Error|Exception)[^\n]*)", text, flags=re.M)
    host = re.search(r"\((\S+) executor \S+\)", text)
    return (lines[-1] if lines else text.partition("\n")[0]) + (f" (on {host[1]})" if host else "")
