"""Workers in actors of Ray."""

from __future__ import annotations

import os
import pickle
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any, final

from qsim.engines.base import Engine, Session
from qsim.engines.hosts import Facts, inspector, refusal, search_path
from qsim.engines.members import outcome
from qsim.engines.recovery import EngineError, Place, PlaceEndedError, RecoveringSession, Transport, shares
from qsim.engines.shared import portable
from qsim.options import number, option, shown, whole
from qsim.workers.tasks import Job

_OLDEST = (2, 40)
_SMALL = 100_000  # bytes, below which Ray sends what a method is given with the call
_CONNECTING_SECONDS = 10.0
_LOOK = 0.2  # seconds between two looks at an actor or a cluster that is not ready


@final
@option
class Ray(Engine):
    """Workers in actors of Ray: `pip install "ray>=2.40"`.

    Parameters
    ----------
    address : str, optional
        The address of a cluster, as `ray.init` takes it; by default that of the cluster that this process is connected
        to, else RAY_ADDRESS, else a cluster is started on this machine that ends with the run.
    groups : int, optional
        How many groups of workers there are, each in an actor of its own; by default as many as there are CPUs.
    threads : int, default 1
        How many CPUs each actor asks for, and how many threads it has.
    block : int, optional
        How many workers pass through each stage together; chosen by default so that a block fits the cache.
    patience : float, default 600.0
        Seconds without an answer after which an actor is replaced.
    slot_patience : float, default 20.0
        Seconds in which Ray must start each actor when the run begins.

    Raises
    ------
    TypeError
        For an address that is no text.
    ValueError
        For numbers below 1.

    Notes
    -----
    The run takes its CPUs for as long as it lasts. Data and weights are sent once to each machine, by Ray's object
    store. An actor that ends, or does not answer for `patience` seconds, is started again by Ray, set to its last
    snapshot, and given the instructions since: the results are the same bits as if nothing had happened, and as on any
    other engine. No connection is closed that was there before.

    `docs/clusters.md` says what must be installed on the machines.

    Examples
    --------
    >>> import qsim
    >>> qsim.engines.Ray(groups=2)
    qsim.engines.Ray(groups=2)
    """

    address: str | None = None
    groups: int | None = None
    threads: int = 1
    block: int | None = None
    patience: float = 600.0
    slot_patience: float = 20.0

    def __post_init__(self) -> None:
        if not isinstance(self.address, (str, type(None))):
            raise TypeError(f"address must be text such as 'host:6379', or None, found {shown(self.address)}")
        whole("threads", self.threads, least=1)
        for name in ("groups", "block"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least=1)
        number("patience", self.patience, above=0)
        number("slot_patience", self.slot_patience, above=0)

    def started(self) -> AbstractContextManager[None]:
        ray = _require_ray()
        return nullcontext() if ray.is_initialized() else _connected(self.address)

    def open(self, job: Job) -> Session:
        with ExitStack() as stack:
            stack.enter_context(self.started())
            actors = _Actors(self, job, stack.pop_all())
        return RecoveringSession(actors, job)


class _Actors(Transport):
    """Actors that hold workers. What goes to all of them lies in the object store once, if it is large."""

    def __init__(self, engine: Ray, job: Job, opened: ExitStack) -> None:
        import ray

        self._opened, self._ray = opened, ray
        self.places: list[_Actor] = []
        try:
            groups, here = _groups(engine, job.shards.workers), inspector()()
            blob = ray.put(portable(job))  # held by the places: a restarted actor needs it again
            member = _member(here["versions"])
            create = ray.remote(num_cpus=engine.threads, max_restarts=-1, max_task_retries=0)(member)
            for low, high in shares(job.shards.workers, groups):
                self.places.append(_Actor(engine, create.remote(), here, blob, low, high))
        except BaseException:
            self.close(patient=False)
            raise

    def message(self, task: str, detail: Any) -> bytes:
        return pickle.dumps((task, detail), protocol=5)

    def message_to_all(self, task: str, detail: Any) -> Any:
        blob = self.message(task, detail)
        return blob if len(blob) < _SMALL else self._ray.put(blob)

    def close(self, patient: bool) -> None:
        try:
            for actor in self.places:
                actor.close()
        finally:
            self._opened.close()


class _Actor(Place):
    """An actor that holds workers, seen from the driver."""

    def __init__(self, engine: Ray, actor: Any, here: Facts, blob: Any, low: int, high: int) -> None:
        super().__init__(low, high)
        self._engine, self._actor, self._here, self._blob = engine, actor, here, blob
        self._facts: Facts = {}
        self._answer: Any = None
        self._silent = False

    @property
    def machine(self) -> str:
        return str(self._facts.get("machine"))

    @property
    def pid(self) -> int | None:
        return self._facts["pid"] if self.machine == self._here["machine"] else None

    def start(self) -> None:
        import ray

        self._answer = None
        if self._silent:
            ray.kill(self._actor, no_restart=False)
            self._silent = False
        self._await_actor()
        details = (self._blob, self.low, self.high, self._engine.block, self._engine.threads)
        self._facts = self._got(self._actor.begin.remote(*details))
        refused = refusal(self._facts, self._here["versions"])
        if refused:
            raise EngineError(refused)

    def post(self, message: Any) -> None:
        self._answer = self._actor.do.remote(message)

    def receive(self) -> Any:
        if self._answer is None:
            raise PlaceEndedError("before it was started")
        answer = self._got(self._answer)
        if answer is None:  # Ray has started it again meanwhile, with no workers
            raise PlaceEndedError("and was started again by Ray")
        return outcome(pickle.loads(answer))

    def close(self) -> None:
        import ray

        with suppress(Exception):  # the connection may have been closed
            ray.kill(self._actor)

    def _await_actor(self) -> None:
        """Wait until there is a process of the actor."""
        patience = max(self._engine.slot_patience, self._engine.patience if self._facts else 0.0)
        end = time.monotonic() + patience
        while True:
            with suppress(PlaceEndedError):
                self._got(self._actor.there.remote(), max(0.1, end - time.monotonic()))
                return
            if time.monotonic() > end:
                import ray

                raise EngineError(
                    f"Ray started no actor for workers {self.low} to {self.high - 1} in {patience:g} s (of"
                    f" {ray.cluster_resources().get('CPU', 0):g} CPUs {ray.available_resources().get('CPU', 0):g} are"
                    " free); take fewer groups, give Ray more CPUs, or set slot_patience"
                )
            time.sleep(_LOOK)

    def _got(self, answer: Any, patience: float | None = None) -> Any:
        """Wait for what a method returns. Raises PlaceEndedError if none comes."""
        import ray

        patience = self._engine.patience if patience is None else patience
        try:
            return ray.get(answer, timeout=patience)
        except ray.exceptions.GetTimeoutError:
            self._silent = bool(self._facts)
            raise PlaceEndedError(f"silent for {patience:g} s") from None
        except ray.exceptions.RayError as error:
            raise PlaceEndedError(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from None


def _member(versions: dict[str, str]) -> type:
    """Return the class of the actors. It is pickled by value, as qsim may not be there, or another version of it."""
    inspect = inspector(search_path())

    class Member:
        """An actor: it has no workers until it is told to begin, and none again when Ray has started it anew."""

        def __init__(self) -> None:
            self._do: Callable[[bytes], bytes] | None = None

        def there(self) -> None:
            """Answer, as a sign of life."""

        def begin(self, job: bytes, low: int, high: int, block: int | None, threads: int) -> Facts:
            """Have workers as a job begins with them; tell what is on this machine."""
            facts = inspect()
            if facts["versions"] == versions:
                from qsim.engines.members import answering

                self._do = answering(job, low, high, block, threads)
            return facts

        def do(self, message: bytes) -> bytes | None:
            """Do a task; return its outcome, or None if there are no workers."""
            return None if self._do is None else self._do(message)

    return Member


def _require_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError("qsim.engines.Ray needs Ray: python -m pip install 'ray>=2.40'") from error
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < _OLDEST:
        raise ImportError(f"qsim.engines.Ray needs Ray 2.40 or later, found {ray.__version__}: pip install 'ray>=2.40'")
    return ray


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine; end that at the end."""
    import ray

    given = address or os.environ.get("RAY_ADDRESS")
    options = {"include_dashboard": False} if given is None else {}
    try:
        _require_listening(given)  # Ray itself tries for minutes
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise EngineError(f"no Ray could be reached at {given}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_listening(address: str | None) -> None:
    """Raise OSError if nobody listens at an address of the form host:port."""
    found = re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d+)", address or "")
    if found is not None:
        socket.create_connection((found[1], int(found[2])), timeout=_CONNECTING_SECONDS).close()


def _groups(engine: Ray, workers: int) -> int:
    """Return how many groups to make; wait for machines that are still to come. Raises EngineError if they don't."""
    import ray

    end = time.monotonic() + engine.slot_patience
    wanted = 1 if engine.groups is None else min(engine.groups, workers)
    while True:
        found = int(ray.cluster_resources().get("CPU", 0)) // engine.threads
        if found >= wanted:
            return min(workers, found) if engine.groups is None else wanted
        if time.monotonic() > end:
            raise EngineError(
                f"{wanted} groups of {engine.threads} CPUs each are wanted, and Ray has CPUs for {found}; take fewer"
                " groups, or give Ray more CPUs"
            )
        time.sleep(_LOOK)
