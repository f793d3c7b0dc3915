"""The engine contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays
from qsim.workers.group import WorkerGroup
from qsim.workers.tasks import Instruction, Job, Reply


class Session(AbstractContextManager["Session"]):
    """The workers of one run, alive until the session is closed (by leaving its `with` block)."""

    @abstractmethod
    def round(self, instruction: Instruction) -> Iterator[Reply]:
        """Have all workers follow an instruction.

        Parameters
        ----------
        instruction : Instruction
            What to do.

        Returns
        -------
        iterator of Reply
            The replies, in the order of the workers. An exception in a worker is raised here, with its traceback and a
            note that names worker and round.
        """

    def on_delivered(self, delivered: NDArray[np.bool_]) -> None:
        """Tell the workers whether their messages of the last exchange were delivered, before the next one.

        Parameters
        ----------
        delivered : ndarray of bool, shape (workers,)
            Whose messages were delivered.

        Notes
        -----
        Only for jobs that may drop messages (`Job.drops`), and not after an exact exchange.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot drop messages: it must define on_delivered(self, delivered)"
        )

    @abstractmethod
    def snapshot(self) -> Arrays:
        """Return what the workers keep between rounds.

        Returns
        -------
        dict of ndarray
            Arrays by name, in the order of the workers: the same on every engine.
        """

    @abstractmethod
    def restore(self, snapshot: Arrays) -> None:
        """Set what the workers keep to a snapshot.

        Parameters
        ----------
        snapshot : dict of ndarray
            A snapshot of the same job, taken on any engine.
        """

    @property
    def group(self) -> WorkerGroup | None:
        """The workers, if they all live in this process; None if they do not."""
        return None

    @property
    def pids(self) -> list[int]:
        """The processes of the workers on this machine, this one left out."""
        return []

    @property
    def ending_pids(self) -> list[int]:
        """Those of `pids` that end with the session; the others are of a cluster that lives on."""
        return self.pids


class Engine(ABC):
    """Base class of engines: where the workers run."""

    @abstractmethod
    def open(self, job: Job) -> Session:
        """Start the workers of a job.

        Parameters
        ----------
        job : Job
            What the workers are given: data, objective, method, compressor and codec.

        Returns
        -------
        Session
            The workers, which end with the session.
        """

    def started(self) -> AbstractContextManager[None]:
        """Start what sessions of this engine need, once for all that are opened inside the `with` block.

        Returns
        -------
        context manager
            Ends what it started. A session that is opened elsewhere starts what it needs for itself.
        """
        return nullcontext()
