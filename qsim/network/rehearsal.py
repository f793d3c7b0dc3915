"""Rehearsals: the times of a cluster of any size, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from qsim.keys import Key, Purpose
from qsim.network.clock import PARTS, Clock, Load
from qsim.network.delays import uniforms
from qsim.network.network import Network
from qsim.options import whole

if TYPE_CHECKING:
    import pandas as pd


def rehearse(
    network: Network,
    *,
    sizes: ArrayLike,
    nonzeros: ArrayLike = 0,
    entries: ArrayLike = 0,
    down: float = 0.0,
    workers: int,
    rounds: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the times of rounds in which nothing is trained: workers send messages of recorded sizes.

    sizes, nonzeros, entries: recorded bytes of messages, and what their workers had to do for them (see
    `qsim.network.Load`): as many of each, or one for all. Every worker draws one of the records each round, whatever
    it drew before. down: bytes that go down to each worker.

    One row a round: `seconds` and its parts (`qsim.network.PARTS`), `dropped` messages, `arrived` ones. That is a
    model of the time alone, for more workers than a data set has rows: it says nothing of the loss, and what is
    dropped has no effect on what is sent later. `Trace.schedule` of a run has records.

    >>> import qsim
    >>> network = qsim.Network(qsim.network.AllGather(), qsim.network.Link(bandwidth=8e9, latency=0.0))
    >>> frame = qsim.network.rehearse(network, sizes=[1e6], workers=1001, rounds=2)
    >>> frame["seconds"].tolist()
    [1.0, 1.0]

    Raises ValueError for records that do not go together, and counts below 1.
    """
    import pandas as pd

    whole("workers", workers, least=1)
    whole("rounds", rounds, least=1)
    network.rule.require(workers)
    given = [np.atleast_1d(np.asarray(column)) for column in (nonzeros, entries, sizes)]
    records = max(column.size for column in given)
    if any(column.ndim != 1 or column.size not in (1, records) for column in given):
        raise ValueError(
            f"records must be columns of one length, or single numbers; found {[column.shape for column in given]}"
        )
    key = Key(seed)
    clock, everyone, zeros = Clock(network, workers, key), np.arange(workers), np.zeros(workers, np.int64)
    rows = []
    for t in range(rounds):
        clock.begin(t)
        if down:
            clock.down(down, down * workers)
        drawn = (uniforms(key.fold(Purpose.DATA, t), workers) * records).astype(np.int64) if records > 1 else everyone
        clock.up(0, Load(everyone, *(column[drawn if column.size > 1 else zeros] for column in given)))
        rows.append((t, clock.now, *clock.times.values(), clock.dropped, workers - clock.dropped))
    frame = pd.DataFrame(rows, columns=["round", "seconds", *PARTS, "dropped", "arrived"])
    frame.attrs["what"] = f"a rehearsal: times of {workers:,} workers that send resampled messages; nothing was trained"
    return frame
