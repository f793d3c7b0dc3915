"""Workers in the executors of Spark."""

from __future__ import annotations

import time
from collections import deque
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from threading import Condition, Thread
from typing import Any, final

from qsim.engines.base import Engine, Session
from qsim.engines.hosts import Facts, inspector, refusal, search_path
from qsim.engines.members import Compiling, awaited
from qsim.engines.recovery import EngineError, Place, PlaceEndedError, RecoveringSession, Transport, shares
from qsim.engines.shared import portable
from qsim.engines.sockets import Frames, Home, Line, frames
from qsim.engines.spark_sessions import (
    context_of,
    count_slots,
    has_session,
    is_local,
    is_running,
    own_session,
    reason,
    require_pyspark,
    wait_for_slots,
)
from qsim.options import number, option, shown, whole
from qsim.workers.tasks import Job

_FAILURES = 3  # of a Spark job, without a task that calls in between


@final
@option
class Spark(Engine):
    """Workers in the executors of Apache Spark: `pip install "pyspark>=4"`, with PySpark 4 and Java 17 or later.

    Parameters
    ----------
    session : pyspark.sql.SparkSession, optional
        The session; by default the active one, else one that Spark's own settings make (on this machine, unless they
        say otherwise), which ends with the run.
    groups : int, optional
        How many groups of workers there are, each in a Spark task of its own; by default as many as there are slots.
    block : int, optional
        How many workers pass through each stage together; chosen by default so that a block fits the cache.
    host : str, optional
        The driver's address, as executors reach it; by default `spark.driver.host`.
    port : int, default 0
        The driver's port that tasks connect to; 0: any that is free.
    patience : float, default 600.0
        Seconds without a sign of life after which a task is replaced.
    slot_patience : float, default 20.0
        Seconds in which Spark must find a slot for each group when the run begins.

    Raises
    ------
    ValueError
        For numbers below 1.

    Notes
    -----
    Each group is one long Spark job of one task, which connects to the driver, with a key that only tasks of the run
    know; a round is one message to and from each of them. The run takes its slots for as long as it lasts. Data are
    sent once, by broadcast, the weights to each task: with `spark.task.cpus` as large as an executor, once to each
    executor, and the task has as many threads.

    A task that ends (its process or its executor is killed, say) or is silent for `patience` seconds is started again
    by Spark, set to its last snapshot, and given the instructions since: the results are the same bits as if nothing
    had happened, and as on any other engine. No session is stopped that was there before.

    `docs/clusters.md` says what must be installed on the executors.

    Examples
    --------
    >>> import qsim
    >>> qsim.engines.Spark(groups=2)
    qsim.engines.Spark(groups=2)
    """

    session: Any = None
    groups: int | None = None
    block: int | None = None
    host: str | None = None
    port: int = 0
    patience: float = 600.0
    slot_patience: float = 20.0

    def __post_init__(self) -> None:
        for name in ("groups", "block"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least=1)
        if not isinstance(self.host, (str, type(None))):
            raise TypeError(f"host must be text such as '10.0.0.1', or None, found {shown(self.host)}")
        whole("port", self.port, least=0, most=65535)
        number("patience", self.patience, above=0)
        number("slot_patience", self.slot_patience, above=0)

    def started(self) -> AbstractContextManager[None]:
        require_pyspark()
        return nullcontext() if self.session is not None or has_session() else own_session()

    def open(self, job: Job) -> Session:
        require_pyspark()
        ours = self.session is None and not has_session()
        with ExitStack() as stack:
            stack.enter_context(self.started())
            tasks = _Tasks(self, context_of(self.session), job, ours, stack.pop_all())
        return RecoveringSession(tasks, job)


class _Tasks(Transport):
    """Spark tasks that hold workers and call the driver: a job and a thread that waits for it, for each of them."""

    def __init__(self, engine: Spark, context: Any, job: Job, ours: bool, opened: ExitStack) -> None:
        self.processes_end = ours
        self._engine, self._context, self._opened = engine, context, opened
        self.places: list[_Seat] = []
        try:
            self._open(job)
        except BaseException:
            self.close(patient=False)
            raise

    def _open(self, job: Job) -> None:
        context, engine = self._context, self._engine
        threads = int(context.getConf().get("spark.task.cpus", "1"))
        wanted = None if engine.groups is None else min(engine.groups, job.shards.workers)
        groups = min(wait_for_slots(context, wanted, engine.slot_patience), job.shards.workers)
        settings, local = context.getConf(), is_local(context)
        host = engine.host or ("127.0.0.1" if local else settings.get("spark.driver.host"))
        bound = "127.0.0.1" if local else settings.get("spark.driver.bindAddress", host)
        try:
            self._home = Home(bound, engine.port, self._admit)
        except OSError as error:
            raise EngineError(
                f"the driver can't listen at {bound}, port {engine.port}: {error}; give the engine another"
                " port, or host"
            ) from error
        self._opened.callback(self._home.close)
        blob = context.broadcast(portable(job))
        self._opened.callback(_destroy, blob)
        here, address = inspector()(), (host, self._home.port)
        for place, (low, high) in enumerate(shares(job.shards.workers, groups)):
            which = (low, high, engine.block, threads)
            task = _task(place, address, self._home.key, blob, here["versions"], which)
            self.places.append(_Seat(engine, context, here, task, f"qsim {id(self)} {place}", low, high))
        for seat in self.places:
            seat.launch()

    def message(self, task: str, detail: Any) -> Frames:
        return frames((task, detail))

    def close(self, patient: bool) -> None:
        try:
            for seat in self.places:
                seat.close()
            end = time.monotonic() + (5.0 if patient else 1.0)
            for seat in self.places:
                seat.join(max(0.0, end - time.monotonic()))
        finally:
            self._opened.close()

    def _admit(self, line: Line, hello: tuple[int, Facts]) -> None:
        place, facts = hello
        self.places[place].admit(line, facts)


class _Seat(Place):
    """A Spark task that holds workers, seen from the driver.

    Spark may run the task again when the first is still there, as it takes it for lost or for slow: whoever called
    later waits until the one before has ended, and then has everything to be told.
    """

    def __init__(self, engine: Spark, context: Any, here: Facts, task: Any, name: str, low: int, high: int) -> None:
        super().__init__(low, high)
        self._engine, self._context, self._here, self._task, self._name = engine, context, here, task, name
        self._line: Line | None = None
        self._facts: Facts = {}
        self._waiting: deque[tuple[Line, Facts]] = deque()
        self._changed = Condition()
        self._failures = 0
        self._hopeless: EngineError | None = None
        self._over = self._owes = self._silent = self._seated = False
        self._thread: Thread | None = None

    @property
    def machine(self) -> str:
        return str(self._facts.get("machine"))

    @property
    def pid(self) -> int | None:
        return self._facts["pid"] if self.machine == self._here["machine"] else None

    def launch(self) -> None:
        """Start the Spark job, and keep it going."""
        from pyspark import InheritableThread

        self._thread = InheritableThread(target=self._run, daemon=True)
        self._thread.start()

    def admit(self, line: Line, facts: Facts) -> None:
        """Take in a task that has called."""
        with self._changed:
            if self._over:
                _say_close(line)
            else:
                self._waiting.append((line, facts))
                self._failures = 0
            self._changed.notify_all()

    def start(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line, self._owes = None, False
        if self._silent:  # its slot is needed
            self._context.cancelJobGroup(self._name)
            self._silent = False
        patience = max(self._engine.slot_patience, self._engine.patience if self._seated else 0.0)
        idle = time.monotonic()
        with self._changed:
            while not self._waiting:
                if self._hopeless is not None:
                    raise self._hopeless
                self._changed.wait(0.5)
                if not self._waiting and is_running(self._context, self._name):
                    idle = time.monotonic()
                if time.monotonic() - idle > patience:
                    raise EngineError(
                        f"Spark found no slot for the task of workers {self.low} to {self.high - 1} in {patience:g} s"
                        f" (it has {count_slots(self._context)} in all, of spark.task.cpus cores each, which other jobs"
                        " may have taken); take fewer groups, give Spark more cores, or set slot_patience"
                    )
            self._line, self._facts = self._waiting.popleft()
        self._seated = True

    def post(self, message: Frames) -> None:
        if self._owes:  # the answer to a task whose round broke off, by an error of another place
            with suppress(Exception):
                self.receive()
        if self._line is not None:
            with suppress(OSError):
                self._line.send(message, self._engine.patience)
            self._owes = True

    def receive(self) -> Any:
        return awaited(self._next, self._engine.patience)

    def _next(self, patience: float | None) -> Any:
        """Return what the task says next."""
        if self._line is None:
            raise PlaceEndedError("before it was started")
        try:
            said = self._line.receive(patience)
        except TimeoutError:
            self._silent = True
            raise PlaceEndedError(f"silent for {patience:g} s") from None
        except OSError as error:
            raise PlaceEndedError(f"the connection broke ({error})") from None
        self._owes = isinstance(said, Compiling)  # not before: an interrupted wait leaves the answer owed
        return said

    def close(self) -> None:
        """Ask the tasks to end, after what they are doing."""
        with self._changed:
            self._over = True
            for line in [self._line, *(line for line, _ in self._waiting)]:
                if line is not None:
                    _say_close(line)
            self._waiting.clear()

    def join(self, patience: float) -> None:
        """Wait for the end of the Spark job; cancel it after so many seconds."""
        if self._thread is None:
            return
        self._thread.join(patience)
        if self._thread.is_alive():
            with suppress(Exception):  # the context may have been stopped
                self._context.cancelJobGroup(self._name)
            self._thread.join(10.0)

    def _refused(self, said: str | Facts) -> str:
        """Say why a task ended by itself."""
        return said if isinstance(said, str) else refusal(said, self._here["versions"])

    def _run(self) -> None:
        """Start the job again as often as it ends: Spark gives it up after spark.task.maxFailures, on local[n] one."""
        while not self._over:
            try:
                self._context.setJobGroup(self._name, f"qsim: workers {self.low} to {self.high - 1}", True)
                said = self._context.parallelize([0], 1).mapPartitions(self._task).collect()
                error = EngineError(self._refused(said[0])) if said else None
            except Exception as problem:
                self._failures += 1
                failed = EngineError(
                    f"the Spark task of workers {self.low} to {self.high - 1} fails: {reason(problem)}"
                )
                failed.__cause__ = problem
                error = failed if self._failures >= _FAILURES else None
            with self._changed:
                if error is not None and not self._over:
                    self._hopeless = error
                    self._changed.notify_all()
                    return
                self._changed.wait(0.1 if not self._over else 0.0)


def _task(place: int, address: tuple[str, int], key: bytes, blob: Any, versions: dict[str, str], which: Any) -> Any:
    """Return what a task runs. It is pickled by value, as qsim may not be there, or another version of it."""
    inspect = inspector(search_path())

    def work(rows: Any) -> list[Any]:
        list(rows)  # a process that leaves some of its input unread is not used again
        facts = inspect()
        if facts["versions"] != versions:
            return [facts]
        import pickle

        from qsim.engines.caller import serve

        said = serve(address, key, place, facts, lambda: pickle.loads(blob.value), *which)
        return [said] if said else []

    return work


def _destroy(blob: Any) -> None:
    with suppress(Exception):  # the context may have been stopped
        blob.destroy()


def _say_close(line: Line) -> None:
    with suppress(OSError):
        line.send(frames(("close", None)), 1.0)
    line.close()
