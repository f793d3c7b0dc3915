"""The virtual clock of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.arrays import reals, truths
from qsim.batch import Arrays
from qsim.keys import Key, Purpose
from qsim.network.delays import NoDelay, uniforms
from qsim.network.network import Network
from qsim.network.rules import WaitForAll
from qsim.options import is_shipped, number

PARTS = ("downlink", "compute", "encode", "uplink", "decode", "wait")
"""The parts of the time of a round, which sum to it.

The way is that of the worker whose message came last of those that were waited for. `uplink` is what its message was
under way, the queue at the server included (without a server: what the collective took). `compute` and `encode` are the
means over all that came in time, but at most what the last one took; what it took longer, and how long the server
waited for nobody until a timeout, is `wait`: the price of stragglers.
"""
_WHOLE = ("round", "exchange", "worker", "nonzeros", "entries", "bytes")
SCHEDULE = (*_WHOLE, "began", "computed", "encoded", "came", "end")
"""The columns of a timeline: what each worker had to do, and when (seconds since the round began). Rounds count from 1.

`came`: when its message was there, infinite if it was dropped. `end`: when the exchange was over, decoding included.
"""


def elapsed(parts: ArrayLike) -> NDArray[np.float64]:
    """Return the seconds of rounds from those of their parts (`PARTS`), a row each, added in their order.

    From Python 3.12 on, its `sum` makes up for rounding, and so gives other bits than adding part after part.
    """
    found: NDArray[np.float64] = np.cumsum(parts, axis=-1)[..., -1]
    return found


@dataclass(frozen=True, eq=False)
class Load:
    """The work of some workers in an exchange, a number for each.

    Parameters
    ----------
    who : ndarray of int64, shape (count,)
        The numbers of the workers.
    nonzeros : ndarray of int64, shape (count,)
        Non-zeros of the rows that a worker reads, each counted as often as it met the weights.
    entries : ndarray of int64, shape (count,)
        Entries of the vector that it compresses.
    sizes : ndarray of int64, shape (count,)
        Bytes of its message.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> load = qsim.network.Load(np.arange(2), np.array([500, 900]), np.array([16, 16]), np.array([64, 64]))
    >>> int(load.sizes.sum())
    128
    """

    who: NDArray[np.int64]
    nonzeros: NDArray[np.int64]
    entries: NDArray[np.int64]
    sizes: NDArray[np.int64]


class Clock:
    """The virtual clock of a run.

    It computes the time of exchanges from what is sent and read. All randomness comes from the run's key; nothing is
    measured.

    Parameters
    ----------
    network : Network
        The cluster.
    workers : int
        How many workers there are.
    key : Key
        The key of the run.

    Attributes
    ----------
    times : dict of float
        Seconds of the round so far, by part (`PARTS`).
    dropped : int
        How many messages were dropped in the round so far.
    factors : ndarray of float64, shape (workers,)
        How many times as long as usual each worker takes.
    key : Key
        The key of its randomness.
    schedule : list
        The rows (see `SCHEDULE`) of the rounds whose timelines are kept.

    Raises
    ------
    ValueError
        If the network cannot work with that many workers.

    Examples
    --------
    >>> import qsim
    >>> clock = qsim.network.Clock(qsim.Network(link=qsim.network.Link(bandwidth=8e6, latency=0.0)), 4, qsim.Key(0))
    >>> clock.begin(1)
    >>> clock.down(1000.0, 4000.0)  # 4000 bytes over the server's link of 1 MB per second
    >>> clock.now
    0.004
    """

    def __init__(self, network: Network, workers: int, key: Key) -> None:
        """Be the clock of a run with a key."""
        self.network = network
        self.key = key.fold(Purpose.DELAY)
        speeds = network.machines.speeds
        self.factors = _times(
            f"the factors of {speeds!r}", speeds.factors(workers, key.fold(Purpose.MACHINES)), workers
        )
        if not self.factors.all():
            raise ValueError(f"the factors of {speeds!r} must be above 0, found 0")
        self.schedule: list[NDArray[np.float64]] = []
        self.begin(0)

    def begin(self, t: int) -> None:
        """Start round t at time zero."""
        self.times = dict.fromkeys(PARTS, 0.0)
        self.dropped = 0
        self._round = t

    @property
    def now(self) -> float:
        """The seconds since the round began."""
        return float(elapsed(list(self.times.values())))

    def snapshot(self) -> Arrays:
        """Return what is kept from round to round."""
        return {"schedule": np.concatenate([np.empty((0, len(SCHEDULE))), *self.schedule])}

    def timelines(self) -> Arrays:
        """Return the schedule by column."""
        rows = self.snapshot()["schedule"]
        return {name: rows[:, j].astype(np.int64) if name in _WHOLE else rows[:, j] for j, name in enumerate(SCHEDULE)}

    def restore(self, saved: Arrays) -> None:
        """Go back to a snapshot."""
        self.schedule = [saved["schedule"]]

    def down(self, each: float, total: float) -> None:
        """Let the workers wait for what is sent to them: `each` bytes over one's link, `total` over all."""
        network = self.network
        self.times["downlink"] += network.topology.broadcast(each, total, network.link)

    def ask(self, exchange: int, sizes: NDArray[np.integer]) -> None:
        """Send requests of these sizes in bytes up, all at once, and wait for all of them."""
        ties = self.key.fold(self._round, exchange, self.factors.size)
        begun = np.zeros(sizes.size)
        arrivals = self.network.topology.arrivals(begun, sizes.astype(np.float64), self.network.link, ties)
        self.times["uplink"] += float(arrivals.max(initial=0.0))

    def up(self, exchange: int, load: Load, exact: bool = False) -> NDArray[np.bool_]:
        """Let workers compute, encode and send, until the rule ends it; return whose messages are on time.

        exact: no vector is compressed, and all messages are waited for.
        """
        topology, machines, link = self.network.topology, self.network.machines, self.network.link
        factor, sizes = self.factors[load.who], load.sizes.astype(np.float64)
        compute = np.multiply(load.nonzeros, machines.per_nonzero, dtype=np.float64)
        compute += machines.base
        compute += self._delays(exchange, load.who)
        compute *= factor
        encode = factor  # no longer needed as such
        encode *= 0.0 if exact else machines.encode_per_entry
        encode *= load.entries
        ready = compute + encode
        ties = self.key.fold(self._round, exchange, self.factors.size)  # where one more worker's stream would be
        arrivals = topology.arrivals(ready, sizes, link, ties)
        rule = WaitForAll() if exact or not arrivals.size else self.network.rule
        on_time, close = rule.close(arrivals, ties)
        if not is_shipped(rule):
            on_time = truths(f"what is on time by {rule!r}", on_time, arrivals.shape)
            close = number(f"when the waiting ends by {rule!r}", close, least=0)
            if not (on_time.all() or rule.drops):
                raise ValueError(f"{rule!r} drops messages, so its class must say drops = True")
        self.dropped += int(on_time.size - on_time.sum())

        began, times = self.now, self.times
        summed = sizes[on_time]
        if not topology.has_server:  # all workers get the sum, also those who add nothing to it
            summed = np.zeros(self.factors.size)
            summed[load.who[on_time]] = sizes[on_time]
        if on_time.any():
            last = int(np.argmax(np.where(on_time, arrivals, -1.0)))
            usual = [min(float(part[last]), float(part[on_time].mean())) for part in (compute, encode)]
            longer = float(compute[last]) - usual[0] + float(encode[last]) - usual[1]
            times["compute"] += usual[0]
            times["encode"] += usual[1]
            times["wait"] += longer + close - float(arrivals[last])
            if topology.has_server:
                times["uplink"] += float(arrivals[last]) - float(ready[last])
            else:
                collected = topology.collect(summed, link)
                times["uplink"] += collected
                arrivals = np.full(ready.size, close + collected)
            times["decode"] += machines.decode_per_byte * topology.decoded(summed)
        else:
            times["wait"] += close
        if self._round + 1 in self.network.timelines:
            came = began + np.where(on_time, arrivals, np.inf)
            self._keep(exchange, load, [began, began + compute, began + ready, came, self.now])
        return on_time

    def _delays(self, exchange: int, who: NDArray[np.int64]) -> NDArray[np.float64] | float:
        delay = self.network.machines.delay
        if isinstance(delay, NoDelay):
            return 0.0
        u = uniforms(self.key.fold(self._round, exchange), self.factors.size)
        found = delay.quantile(u[who] if who.size < u.size else u)
        return _times(f"the delays of {delay!r}", found, who.size)

    def _keep(self, exchange: int, load: Load, times: list[Any]) -> None:
        """Keep the timeline of an exchange."""
        rows = np.empty((load.who.size, len(SCHEDULE)))
        columns = (self._round + 1, exchange, load.who, load.nonzeros, load.entries, load.sizes, *times)
        for place, column in enumerate(columns):
            rows[:, place] = column
        self.schedule.append(rows)


def _times(name: str, found: Any, count: int) -> NDArray[np.float64]:
    """Return numbers of a law that may be a user's own: finite ones of at least 0, one per worker."""
    times = reals(name, found, (count,)).astype(np.float64, copy=False)
    if not (times.min(initial=0.0) >= 0 and times.max(initial=0.0) < np.inf):
        wrong = times[~((times >= 0) & (times < np.inf))]
        raise ValueError(f"{name} must be finite numbers of at least 0, found {wrong[0]}")
    return times
