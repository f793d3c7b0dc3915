"""Networks: all that decides how long a run would take on a cluster."""

from __future__ import annotations

from typing import final

from qsim.network.machines import Machines
from qsim.network.rules import Rule, WaitForAll
from qsim.network.topologies import ParameterServer, Topology
from qsim.network.traffic import Link
from qsim.options import option, whole


@final
@option
class Network:
    """A cluster: all that decides how long a run would take on it.

    Parameters
    ----------
    topology : Topology, default `ParameterServer()`
        How messages become one sum: `ParameterServer`, `AllGather`, or the all-reduces `Ring`, `Tree` and
        `HalvingDoubling`.
    link : Link, default `Link()`
        Latency and bandwidth.
    machines : Machines, default `Machines()`
        Times to compute, encode and decode, with delays.
    rule : Rule, default `WaitForAll()`
        Which messages are waited for: `WaitForAll`, `Timeout`, `Fastest` or `Backup`.
    timelines : tuple of int, default (1,)
        Rounds, counted from 1, of which the trace keeps who did what when, for `Trace.timeline`.

    Raises
    ------
    TypeError
        If one of them is of another type.
    ValueError
        If a timeline is not a whole number of at least 1.

    Notes
    -----
    An exchange takes the time of its parts: the downlink (all workers begin when all have the weights); each worker's
    compute and encode; the uplink, until the rule ends the waiting; decode. Exact exchanges (line searches, MARINA's
    synchronisations) wait for all. Exchanges follow each other without overlap. All is a function of the run: the real
    sizes of the messages, the rows that were read, the seed.

    Examples
    --------
    >>> import qsim
    >>> network = qsim.Network(link=qsim.network.Link(bandwidth=1e9), rule=qsim.network.Timeout(0.5))
    >>> network.rule.drops
    True
    """

    topology: Topology = ParameterServer()
    link: Link = Link()
    machines: Machines = Machines()
    rule: Rule = WaitForAll()
    timelines: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        for name, kind, example in _KINDS:
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} must be {example}, found {getattr(self, name)!r}")
        for place, t in enumerate(self.timelines):
            whole(f"timelines[{place}]", t, least=1)


_KINDS = (
    ("topology", Topology, "a topology such as qsim.network.Ring()"),
    ("link", Link, "a link such as qsim.network.Link(bandwidth=1e9, latency=1e-4)"),
    ("machines", Machines, "such as qsim.network.Machines(per_nonzero=1e-8)"),
    ("rule", Rule, "a rule such as qsim.network.Timeout(0.5)"),
)
