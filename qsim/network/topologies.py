"""Topologies: who sends what to whom, and how long that takes. A is a link's latency, B its seconds per byte."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from qsim.arrays import reals
from qsim.keys import Key
from qsim.network.traffic import Link, Stage
from qsim.options import number, option, whole

Array = NDArray[np.float64]


def _at_the_door(name: str, found: Callable[..., Any]) -> Callable[..., Any]:
    """Check the times and sizes of a user's own topology."""

    @wraps(found)
    def checked(self: Topology, first: Any, *rest: Any, **options: Any) -> Any:
        what, value = f"what {name} of {self!r} returns", found(self, first, *rest, **options)
        if name != "arrivals":
            return number(what, value, least=0)
        times = reals(what, value, np.shape(first)).astype(np.float64, copy=False)
        if not np.isfinite(times).all() or (times < first).any():
            raise ValueError(f"{what} must be no sooner than the messages are ready, and finite, found {times}")
        return times

    return checked


class Topology(ABC):
    """Base class of topologies: how messages reach the places where their sum is needed.

    :math:`p` workers send messages of :math:`m_1`, ..., :math:`m_p` bytes. The time is that of the `stages`, one after
    the other: each takes the latency :math:`A`, and :math:`B` seconds for each byte of its busiest node. `collect` is
    this sum in closed form. (Messages to several servers queue, and may take longer than their single stage.)

    Attributes
    ----------
    has_server : bool
        Whether there are servers, which hold the weights and send them down; otherwise every worker has its own.
    sums_in_flight : bool
        Whether messages are added in flight, so that their sum must be as long as each of them.
    """

    has_server: ClassVar[bool] = False
    sums_in_flight: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Have what the methods of a user's own return checked, before the clock takes it."""
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] != "qsim":
            for name in ("collect", "sent", "decoded", "broadcast", "arrivals"):
                if name in vars(cls):
                    setattr(cls, name, _at_the_door(name, vars(cls)[name]))

    def arrivals(self, ready: Array, sizes: Array, link: Link, ties: Key) -> Array:
        """Return when each message is known to have arrived.

        Parameters
        ----------
        ready : ndarray of float64, shape (count,)
            When each message is ready, in seconds.
        sizes : ndarray of float64, shape (count,)
            Their sizes in bytes.
        link : Link
            Latency and bandwidth.
        ties : Key
            Decides, at random, between messages that are ready at the same time.

        Returns
        -------
        ndarray of float64, shape (count,)
            Seconds. Without a server this is when the message is ready: the workers then begin to collect, together.
        """
        return ready

    @abstractmethod
    def collect(self, sizes: Array, link: Link) -> float:
        """Return how long the messages take if all are ready at once.

        Parameters
        ----------
        sizes : ndarray of float64, shape (count,)
            Their sizes in bytes.
        link : Link
            Latency and bandwidth.

        Returns
        -------
        float
            Seconds.
        """

    @abstractmethod
    def stages(self, sizes: Array) -> Iterator[Stage]:
        """Return what passes over the links to collect the messages.

        Parameters
        ----------
        sizes : ndarray of float64, shape (count,)
            Their sizes in bytes.

        Returns
        -------
        iterator of Stage
            The stages, in order.
        """

    @abstractmethod
    def sent(self, sizes: Array) -> float:
        """Return how much the workers send in all.

        Parameters
        ----------
        sizes : ndarray of float64, shape (count,)
            Sizes of the messages in bytes.

        Returns
        -------
        float
            Bytes.
        """

    @abstractmethod
    def decoded(self, sizes: Array) -> float:
        """Return how much the busiest node has to decode and add.

        Parameters
        ----------
        sizes : ndarray of float64, shape (count,)
            Sizes of the messages in bytes.

        Returns
        -------
        float
            Bytes.
        """

    def broadcast(self, each: float, total: float, link: Link) -> float:
        """Return how long the downlink takes.

        Parameters
        ----------
        each : float
            Bytes to one worker.
        total : float
            Bytes to all workers.
        link : Link
            Latency and bandwidth.

        Returns
        -------
        float
            Seconds.
        """
        return 0.0


@final
@option
class ParameterServer(Topology):
    r"""One or more servers, which add the messages and send the weights down.

    Each of :math:`S` servers gets a share :math:`1/S` of each message. With latency :math:`A` and :math:`B` seconds per
    byte, :math:`p` messages of equal size :math:`m` that are ready at once take :math:`A + \lceil p/S \rceil B m` on
    the uplink; the downlink takes :math:`A + B \max(\max_i m_i, \sum_i m_i / S)`.

    Parameters
    ----------
    servers : int, default 1
        The number :math:`S` of servers.

    Raises
    ------
    ValueError
        If `servers` is below 1.

    Notes
    -----
    Uplink: a worker's link carries its message to all servers at once, in :math:`B m_i` seconds, and takes :math:`1/S`
    of each server's link meanwhile. So :math:`S` messages are in flight at a time; the others wait, in the order in
    which they were ready (ties in random order). On the downlink the servers divide their links as needed.

    A server decodes and adds :math:`\sum_i m_i / S` bytes.

    Examples
    --------
    >>> import qsim
    >>> import numpy as np
    >>> link = qsim.network.Link(bandwidth=8e6, latency=0.0)  # 1 MB per second
    >>> qsim.network.ParameterServer(servers=2).collect(np.full(10, 1e6), link)
    5.0
    """

    servers: int = 1

    has_server = True

    def __post_init__(self) -> None:
        whole("servers", self.servers, least=1)

    def arrivals(self, ready: Array, sizes: Array, link: Link, ties: Key) -> Array:
        from qsim.kernels.link_queue import rising

        when, everyone = (ready + 0.0).view(np.uint64), np.arange(ready.size)  # + 0.0: no zero is negative
        through, equal = self._pass(rising(when, everyone), ready, sizes, link)
        if equal:  # lots decide between equals
            by_lot = rising(ties.words(0, ready.size), everyone)
            through, _ = self._pass(rising(when, by_lot), ready, sizes, link)
        return through

    def collect(self, sizes: Array, link: Link) -> float:
        """Return how long the messages take, one after the other in this order, if all are ready at once."""
        return float(self._pass(np.arange(sizes.size), np.zeros(sizes.size), sizes, link)[0].max())

    def _pass(self, order: NDArray[np.int64], ready: Array, sizes: Array, link: Link) -> tuple[Array, bool]:
        """Return when each message has come, if they go in an order, and whether some were ready at one time."""
        from qsim.kernels.link_queue import pass_in_order

        through = np.empty(ready.size)
        places = max(1, min(self.servers, ready.size))
        equal = pass_in_order(order, ready, 8 / link.bandwidth * sizes, places, through)
        through += link.latency
        return through, equal

    def broadcast(self, each: float, total: float, link: Link) -> float:
        return link.seconds(max(each, total / self.servers)) if total else 0.0

    def stages(self, sizes: Array) -> Iterator[Stage]:
        p, servers = sizes.size, self.servers
        source, target = np.repeat(np.arange(p), servers), np.tile(np.arange(p, p + servers), p)
        yield Stage(source, target, np.repeat(sizes / servers, servers))

    def sent(self, sizes: Array) -> float:
        return float(sizes.sum())

    def decoded(self, sizes: Array) -> float:
        return float(sizes.sum()) / self.servers


class _AllReduce(Topology):
    """Every worker ends with the sum of all messages. They are added on the way, and all of one size m."""

    sums_in_flight = True

    def sent(self, sizes: Array) -> float:
        return 2.0 * (sizes.size - 1) * float(sizes.max()) if sizes.size else 0.0


@final
@option
class Ring(_AllReduce):
    """Ring all-reduce.

    With latency :math:`A` and :math:`B` seconds per byte, messages of :math:`m` bytes from :math:`p` workers take
    :math:`2 (p - 1) A + 2 (p - 1)/p m B`. A worker adds :math:`(p - 1)/p m` bytes.

    Notes
    -----
    Messages are cut into :math:`p` pieces. In each of :math:`p - 1` steps every worker sends a piece to its right and
    adds the one from its left, after which each has the sum of one piece; :math:`p - 1` more steps pass these around.

    References
    ----------
    .. [1] Patarasuk, Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", JPDC 2009.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> link = qsim.network.Link(bandwidth=8e6, latency=0.0)  # 1 MB per second
    >>> qsim.network.Ring().collect(np.full(4, 1e6), link)
    1.5
    """

    def collect(self, sizes: Array, link: Link) -> float:
        return 2 * (sizes.size - 1) * link.seconds(float(sizes.max()) / sizes.size)

    def stages(self, sizes: Array) -> Iterator[Stage]:
        p = sizes.size
        source = np.arange(p)
        for _ in range(2 * (p - 1)):
            yield Stage(source, (source + 1) % p, np.full(p, sizes.max() / p))

    def decoded(self, sizes: Array) -> float:
        return (sizes.size - 1) / sizes.size * float(sizes.max())


@final
@option
class Tree(_AllReduce):
    r"""All-reduce over a binomial tree, up and down.

    With latency :math:`A` and :math:`B` seconds per byte, messages of :math:`m` bytes from :math:`p` workers take
    :math:`2 \lceil \log_2 p \rceil (A + m B)`. The root adds :math:`\lceil \log_2 p \rceil m` bytes.

    Notes
    -----
    In step :math:`j` worker :math:`i`, a multiple of :math:`2^j` but not of :math:`2^{j+1}`, sends its sum to worker
    :math:`i - 2^j`; the downlink is the reverse.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> link = qsim.network.Link(bandwidth=8e6, latency=0.0)  # 1 MB per second
    >>> qsim.network.Tree().collect(np.full(4, 1e6), link)
    4.0
    """

    def collect(self, sizes: Array, link: Link) -> float:
        return 2 * _depth(sizes.size) * link.seconds(float(sizes.max()))

    def stages(self, sizes: Array) -> Iterator[Stage]:
        up = []
        for j in range(_depth(sizes.size)):
            source = np.arange(2**j, sizes.size, 2 ** (j + 1))
            up.append(Stage(source, source - 2**j, np.full(source.size, float(sizes.max()))))
        yield from up
        for stage in reversed(up):
            yield Stage(stage.target, stage.source, stage.size)

    def decoded(self, sizes: Array) -> float:
        return _depth(sizes.size) * float(sizes.max())


@final
@option
class HalvingDoubling(_AllReduce):
    r"""All-reduce by recursive halving and doubling.

    With latency :math:`A` and :math:`B` seconds per byte, messages of :math:`m` bytes from :math:`p` workers, :math:`p`
    a power of two, take :math:`2 \log_2(p) A + 2 (p - 1)/p m B`.

    Notes
    -----
    In step :math:`j` of the halving, pairs of workers exchange the halves of what they still hold, and each adds one
    half; the doubling is the reverse. If :math:`p` is not a power of two, and :math:`q` is the largest one below: the
    :math:`p - q` workers above :math:`q` first send their whole message to a partner, and get the sum from it in the
    end; that takes :math:`2 (A + m B)` more, and :math:`q` replaces :math:`p`. A worker adds :math:`(q - 1)/q m` bytes,
    and :math:`m` more if it is a partner.

    References
    ----------
    .. [1] Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in MPICH", IJHPCA 2005.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> link = qsim.network.Link(bandwidth=8e6, latency=0.0)  # 1 MB per second
    >>> qsim.network.HalvingDoubling().collect(np.full(4, 1e6), link)
    1.5
    """

    def collect(self, sizes: Array, link: Link) -> float:
        m, k, q = float(sizes.max()), *_halvings(sizes.size)
        fold = 2 * link.seconds(m) if sizes.size > q else 0.0
        return 2 * k * link.latency + 2 * (q - 1) / q * link.carry(m) + fold

    def stages(self, sizes: Array) -> Iterator[Stage]:
        m, k, q = float(sizes.max()), *_halvings(sizes.size)
        extra = np.arange(q, sizes.size)
        if extra.size:
            yield Stage(extra, extra - q, np.full(extra.size, m))
        halving = [Stage(np.arange(q), np.arange(q) ^ (q >> (j + 1)), np.full(q, m / 2 ** (j + 1))) for j in range(k)]
        yield from halving
        yield from reversed(halving)
        if extra.size:
            yield Stage(extra - q, extra, np.full(extra.size, m))

    def decoded(self, sizes: Array) -> float:
        m, _, q = float(sizes.max()), *_halvings(sizes.size)
        return (q - 1) / q * m + (m if sizes.size > q else 0.0)


@final
@option
class AllGather(Topology):
    r"""All-gather in a ring: every worker gets every message.

    With latency :math:`A` and :math:`B` seconds per byte, messages of :math:`m_1`, ..., :math:`m_p` bytes take
    :math:`(p - 1) (A + B \max_i m_i)`. Any messages can be gathered.

    Notes
    -----
    In each of :math:`p - 1` steps every worker passes on, to its right, the message that it got last. Each then decodes
    and adds all messages but its own.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> link = qsim.network.Link(bandwidth=8e6, latency=0.0)  # 1 MB per second
    >>> qsim.network.AllGather().collect(np.full(4, 1e6), link)
    3.0
    """

    def collect(self, sizes: Array, link: Link) -> float:
        return (sizes.size - 1) * link.seconds(float(sizes.max()))

    def stages(self, sizes: Array) -> Iterator[Stage]:
        p = sizes.size
        source = np.arange(p)
        for step in range(p - 1):
            yield Stage(source, (source + 1) % p, sizes[(source - step) % p])

    def sent(self, sizes: Array) -> float:
        return (sizes.size - 1) * float(sizes.sum()) if sizes.size else 0.0

    def decoded(self, sizes: Array) -> float:
        return float(sizes.sum() - sizes.min())


def _depth(p: int) -> int:
    """Return ceil(log2 p)."""
    return (p - 1).bit_length()


def _halvings(p: int) -> tuple[int, int]:
    """Return k and q = 2^k, the largest power of two up to p."""
    k = p.bit_length() - 1
    return k, 1 << k
