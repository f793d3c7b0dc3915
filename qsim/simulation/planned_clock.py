"""The clock of planned rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors
from qsim.network.clock import PARTS, Clock
from qsim.network.delays import NoDelay
from qsim.network.topologies import ParameterServer
from qsim.plan import Plan
from qsim.program import NoProgram, with_plan


class PlannedClock:
    """Computes the virtual time of planned rounds with parameter servers, as `Clock` does.

    times: those of the rounds that are run at once, by part, and how many messages were dropped.
    """

    def __init__(self, clock: Clock) -> None:
        """Plan what a clock does. Raises NoProgram for other topologies, and for users' own parts."""
        topology = clock.network.topology
        if not isinstance(topology, ParameterServer):
            raise NoProgram
        self._clock, self._servers = clock, topology.servers
        self._delays: NDArray[np.float64] | None = None
        self._spent = np.zeros(len(PARTS))
        self.times = np.empty((0, len(PARTS) + 1))

    def begin(self, plan: Plan) -> None:
        """Begin a round: with what its workers lose, by chance. Rounds whose timelines are kept end the program."""
        from qsim.kernels.clock import draw_uniforms
        from qsim.kernels.participation import entry

        clock, workers = self._clock, self._clock.factors.size
        delay, kept = with_plan(clock.network.machines.delay), clock.network.timelines
        key = np.uint64(clock.key.word)

        def is_kept(first: int, count: int) -> NDArray[np.bool_]:
            return np.isin(np.arange(first + 1, first + count + 1), kept)

        def delays(first: int, count: int) -> NDArray[np.float64]:
            u = np.empty((count, workers))
            draw_uniforms(key, first, u)
            return delay.quantile(u.reshape(-1)).reshape(count, workers)

        plan.program.call(entry, plan.told(is_kept, (), np.bool_), plan.turn, stop="not zero")
        if not isinstance(delay, NoDelay):
            self._delays = plan.told(delays, (workers,), np.float64)

    def plan(self, plan: Plan, v: Vectors, packets: NDArray[np.int64], invited: int) -> NDArray[np.bool_] | None:
        """Have workers compute, encode and send; return whose messages are on time, or None if all are.

        v: what they compress. invited: how many take part.
        """
        from qsim.kernels.clock import account, arrive, fold_ties, lengths, places_of, take_sizes, work

        call, clock = plan.program.call, self._clock
        network, workers = clock.network, clock.factors.size
        machines, link = network.machines, network.link
        who = np.arange(invited)
        if plan.present is not None:
            call(places_of, plan.present, who)
        entries = np.full(workers, v.n)
        if plan.memory is not None:
            entries = np.diff(plan.memory.support.offsets)
        elif plan.channel.compressor.keeps_sparse:
            call(lengths, v.offsets, entries)
        ties, on_time, delivered = np.empty(1, np.uint64), np.empty(invited, np.bool_), np.empty(workers, np.bool_)
        sizes, compute, encode, ready, arrivals = np.empty((5, invited))
        call(fold_ties, np.uint64(clock.key.word), plan.turn, workers, ties)
        call(take_sizes, who, packets, sizes)
        touched = plan.touched
        if touched is None:
            touched = plan.block.plan_touched(plan.program, plan.rows)
        speeds = clock.factors, machines.per_nonzero, machines.base, machines.encode_per_entry
        call(work, who, touched, entries, self._delays, plan.turn, *speeds, compute, encode, ready)
        call(arrive, ready, sizes, 8 / link.bandwidth, link.latency, self._servers, ties, arrivals)
        close = with_plan(network.rule).plan_close(plan.program, arrivals, ties, on_time)
        spent = arrivals, ready, compute, encode, sizes, machines.decode_per_byte, self._servers, delivered, self._spent
        call(account, who, on_time, close, *spent)
        return delivered if network.rule.drops else plan.present

    def end(self, plan: Plan, each: int, invited: int, packet: NDArray[np.int64] | None) -> None:
        """End a round: each of those that are invited has received some bytes, and all workers a packet, if any."""
        from qsim.kernels.clock import end_time

        network, workers = self._clock.network, self._clock.factors.size
        link = network.link
        self.times = np.zeros((plan.most, len(PARTS) + 1))
        fixed = network.topology.broadcast(float(each), float(each * invited), link)
        down: tuple[Any, ...] = (fixed, packet, workers, self._servers, link.latency, link.bandwidth)
        plan.program.call(end_time, plan.turn, *down, self._spent, self.times)
