"""The engine contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager

from qsim.worker import Job, Order, Reply


class Session(AbstractContextManager["Session"]):
    """The workers of one run, alive until the session is closed."""

    @abstractmethod
    def round(self, order: Order) -> Iterator[Reply]:
        """Have all workers carry out an order; yields their replies in the order of the workers."""


class Engine(ABC):
    """A place where workers run."""

    @abstractmethod
    def open(self, job: Job) -> Session:
        """Start the workers of a job."""
