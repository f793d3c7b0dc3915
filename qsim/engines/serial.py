"""All workers in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays
from qsim.engines.base import Engine, Session
from qsim.options import option, whole
from qsim.workers.group import WorkerGroup
from qsim.workers.tasks import Instruction, Job, Reply


@final
@option
class Serial(Engine):
    """All workers in this process, in blocks one after the other or on threads.

    Parameters
    ----------
    block : int, optional
        How many workers pass through each stage together; chosen by default so that a block fits the cache.
    threads : int, default 1
        How many blocks run at the same time.

    Raises
    ------
    ValueError
        For a number below 1.

    Notes
    -----
    Both change the speed, never the numbers. Rounds that read fewer than :math:`2^{20}` non-zeros, of workers whose
    vectors fit the cache together, take one thread whatever `threads` says: in planned rounds, which are faster.

    Examples
    --------
    >>> import qsim
    >>> options = {"objective": qsim.LogisticRegression(l2=0.1), "method": qsim.GradientDescent(step=0.1), "rounds": 3}
    >>> one, two = (
    ...     qsim.simulate("spark_sample", engine=qsim.engines.Serial(block=b), **options) for b in (1, 8)
    ... )
    >>> one.frame.equals(two.frame)
    True
    """

    block: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.block is not None:
            whole("block", self.block, least=1)
        whole("threads", self.threads, least=1)

    def open(self, job: Job) -> Session:
        return _SerialSession(WorkerGroup(job, 0, job.shards.workers, self.block, self.threads, True))


class _SerialSession(Session):
    def __init__(self, group: WorkerGroup) -> None:
        self._group = group

    @property
    def group(self) -> WorkerGroup:
        return self._group

    def round(self, instruction: Instruction) -> Iterator[Reply]:
        return self._group.run(instruction)

    def on_delivered(self, delivered: NDArray[np.bool_]) -> None:
        self._group.on_delivered(delivered)

    def snapshot(self) -> Arrays:
        return self._group.snapshot()

    def restore(self, snapshot: Arrays) -> None:
        self._group.restore(snapshot)

    def __exit__(self, *problem: Any) -> None:
        self._group.close()
