"""All workers in this process, one block after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import numpy as np

from qsim.engines.base import Engine, Session
from qsim.options import option, whole
from qsim.worker import Host, Job, Order, Reply

_BLOCK_BYTES = 1 << 20  # what the vectors of a block may take, so that they stay in the cache between stages
_ENTRY_BYTES = 20  # index and value of a vector's entry, index and level of its message's, and the packet


@final
@option
class Serial(Engine):
    """Runs all workers in this process.

    `block` is how many workers pass through each stage together; None chooses it so that a block fits the cache. It
    changes the speed, never the numbers. Raises ValueError for a block below 1.
    """

    block: int | None = None

    def __post_init__(self) -> None:
        if self.block is not None:
            whole("block", self.block, least=1)

    def open(self, job: Job) -> Session:
        return _SerialSession(Host(job, 0, job.shards.workers, self.block or _block_size(job)))


class _SerialSession(Session):
    def __init__(self, host: Host) -> None:
        self._host = host

    def round(self, order: Order) -> Iterator[Reply]:
        return self._host.run(order)

    def __exit__(self, *problem: Any) -> None:
        del self._host


def _block_size(job: Job) -> int:
    mean = max(1.0, float(np.diff(job.shards.support_offsets).mean()))
    return int(np.clip(_BLOCK_BYTES / (_ENTRY_BYTES * mean), 1, 1024))
