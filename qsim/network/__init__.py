"""Virtual time: what a cluster would take for the real messages of a run. Bits become seconds."""

from qsim.network.clock import PARTS, SCHEDULE, Clock, Load
from qsim.network.delays import Delay, Exponential, LogNormal, NoDelay, Pareto, ShiftedExponential
from qsim.network.machines import Equal, FixedSpeeds, Machines, Slow, Speeds
from qsim.network.network import Network
from qsim.network.rules import Backup, Fastest, Rule, Timeout, WaitForAll
from qsim.network.simulate_timing import simulate_timing
from qsim.network.topologies import AllGather, HalvingDoubling, ParameterServer, Ring, Topology, Tree
from qsim.network.traffic import Link, Stage

__all__ = [
    "PARTS",
    "SCHEDULE",
    "AllGather",
    "Backup",
    "Clock",
    "Delay",
    "Equal",
    "Exponential",
    "Fastest",
    "FixedSpeeds",
    "HalvingDoubling",
    "Link",
    "Load",
    "LogNormal",
    "Machines",
    "Network",
    "NoDelay",
    "ParameterServer",
    "Pareto",
    "Ring",
    "Rule",
    "ShiftedExponential",
    "Slow",
    "Speeds",
    "Stage",
    "Timeout",
    "Topology",
    "Tree",
    "WaitForAll",
    "simulate_timing",
]


def __dir__() -> list[str]:
    return __all__
