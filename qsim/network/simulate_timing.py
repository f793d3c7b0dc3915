"""Rehearsals: the times of a cluster of any size, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.keys import Key, Purpose
from qsim.network.clock import PARTS, Clock, Load
from qsim.network.delays import uniforms
from qsim.network.network import Network
from qsim.options import number, refuse_masked, whole

if TYPE_CHECKING:
    import pandas as pd


def simulate_timing(
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
    """Return the times of rounds in which nothing is trained and workers send messages of recorded sizes.

    Parameters
    ----------
    network : Network
        The cluster.
    sizes : array-like of shape (records,), or float
        Recorded sizes of messages, in bytes. Every worker draws one of the records each round, independently.
    nonzeros, entries : array-like of shape (records,), or float, default 0
        What the workers had to do for these messages; see `qsim.network.Load`.
    down : float, default 0.0
        Bytes that are sent down to each worker.
    workers : int
        How many workers there are.
    rounds : int
        How many rounds.
    seed : int, default 0
        The seed of all randomness.

    Returns
    -------
    pandas.DataFrame
        A row per round: `seconds` and its parts (`qsim.network.PARTS`), and how many messages were `dropped` and
        `arrived`.

    Raises
    ------
    TypeError
        If `network` is no network.
    ValueError
        For records of different lengths or negative ones, for counts below 1, for messages of several sizes with a
        topology that adds them in flight, and for bytes down without a server.

    Notes
    -----
    This is a model of the time alone, for more workers than a data set has rows: it says nothing of the loss, and
    dropped messages have no effect on what is sent later. `Trace.schedule` of a run has records.

    Examples
    --------
    >>> import qsim
    >>> network = qsim.Network(qsim.network.AllGather(), qsim.network.Link(bandwidth=8e9, latency=0.0))
    >>> frame = qsim.network.simulate_timing(network, sizes=[1e6], workers=1001, rounds=2)
    >>> frame["seconds"].tolist()
    [1.0, 1.0]
    """
    import pandas as pd

    if not isinstance(network, Network):
        raise TypeError(f"network must be such as qsim.Network(), found {network!r}")
    workers, rounds = whole("workers", workers, least=1), whole("rounds", rounds, least=1)
    down, seed = number("down", down, least=0), whole("seed", seed, least=0, most=2**64 - 1)
    network.rule.require(workers)
    columns = {"nonzeros": nonzeros, "entries": entries, "sizes": sizes}
    given = [_numbers(name, column) for name, column in columns.items()]
    records = max(column.size for column in given)
    if any(column.ndim != 1 or column.size not in (1, records) for column in given):
        raise ValueError(
            f"records must be columns of one length, or single numbers; found {[column.shape for column in given]}"
        )
    topology, least, most = network.topology, given[-1].min(), given[-1].max()
    if down and not topology.has_server:
        raise ValueError(f"{topology!r} has no server that could send anything down; leave down=0, found {down!r}")
    if topology.sums_in_flight and least != most:
        raise ValueError(
            f"{topology!r} adds messages on their way, which must be all of one size, found {least:g} to {most:g}"
            " bytes; take qsim.network.AllGather() or qsim.network.ParameterServer()"
        )
    key = Key(seed)
    clock, everyone, zeros = Clock(network, workers, key), np.arange(workers), np.zeros(workers, np.int64)
    np.empty(30 << 20, np.uint8)  # freed at once: glibc then keeps a round's memory for the next, twice as fast
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


def _numbers(name: str, given: ArrayLike) -> NDArray[Any]:
    """Return records as an array; refuse what no machine could have to do."""
    refuse_masked(name, given)
    found = np.atleast_1d(np.asarray(given))
    if found.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be numbers, found {given!r}")
    good = np.isfinite(found) & (found >= 0)
    if not good.all():
        raise ValueError(f"{name} must be finite numbers of at least 0, found {float(found[~good][0])}")
    return found
