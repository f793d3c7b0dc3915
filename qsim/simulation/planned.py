"""Rounds of a run that are planned: many at a time, without coming back to Python."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays
from qsim.block import Block
from qsim.channel import Channel
from qsim.clients import AllClients, SampledClients
from qsim.engines import Session
from qsim.keys import Key
from qsim.methods import Method
from qsim.objectives import Objective
from qsim.options import is_shipped
from qsim.plan import Plan
from qsim.program import Cell, NoProgram, with_plan
from qsim.simulation.exchange import WireExchange
from qsim.simulation.planned_clock import PlannedClock
from qsim.simulation.recorder import Counted
from qsim.simulation.run import Run
from qsim.weights import PlannedWeights, Weights
from qsim.workers.group import WorkerGroup

ToEnd = Callable[[int, Counted, NDArray[np.float64]], int]
"""Tells how many of some rounds there are until a run is over.

It is given the last of them, what each counted, and the weights after those that are evaluated, a row each.
"""


class PlannedRounds:
    """Does rounds on the server's weights and state, and on the memories of workers that live in this process.

    The same to the last bit as the exchange does, packets and all. Streams must have sent their headers.
    """

    @classmethod
    def of(
        cls,
        run: Run,
        method: Method,
        channel: Channel,
        session: Session,
        weights: NDArray[np.float64],
        state: Arrays,
        exchange: WireExchange,
        key: Key,
    ) -> PlannedRounds | None:
        """Return what does the rounds of a run, whose method is resolved; None if a part has no plan."""
        group = session.group
        if group is None:
            return None
        shards = group.shards
        reads = method.rows_per_round(shards) * shards.workers * shards.dataset.nonzeros / shards.dataset.rows
        if not _affordable(run, group, reads):
            return None
        part = group.joined()
        n = part.block.n
        try:
            timed = None if exchange.clock is None else PlannedClock(exchange.clock)
            plan = Plan(
                _laid_out(part.block, reads, run.rounds) if _has_plan(run.objective) else part.block,
                run.objective,
                channel,
                run.downlink,
                PlannedWeights(np.zeros(n), Cell.of(1.0)),
                reads,
                state,
                exchange.shared,
                weights,
                key,
                part.memory,
                lambda header: exchange.streams.require_same(f"up, None, {n}", header),
                run.clients,
                timed,
            )
            with_plan(method).plan(plan, part.kept)
            solution = method.plan_solution(plan)
        except NoProgram:
            return None
        lasting = [
            plan.weights.vector,
            plan.too_large,
            *state.values(),
            *exchange.shared.values(),
            *part.arrays.values(),
        ]
        evaluations = min(_EVALUATIONS, _READ // max(shards.dataset.nonzeros, 1), _KEPT // n)
        kept = np.empty((max(1, evaluations), n))
        formula_bits = plan.invited * exchange.formula_bits(n)
        return cls(plan, timed, solution, kept, run.evaluate_every, [] if run.until is None else lasting, formula_bits)

    def __init__(
        self,
        plan: Plan,
        clock: PlannedClock | None,
        solution: PlannedWeights,
        kept: NDArray[np.float64],
        every: int,
        lasting: list[NDArray[Any]],
        formula_bits: float,
    ) -> None:
        """Take the plan of a round, its clock, and where the solutions of every so many rounds are kept.

        lasting: the arrays of server and workers that rounds change, if rounds may have to be undone. formula_bits:
            what goes up in a round by the compressor's formula.
        """
        from qsim.kernels.rounds import keep_weights

        self._lasting, self._formula_bits = lasting, formula_bits
        self._kept, self._every = kept, every
        plan.at_the_end(keep_weights, plan.turn, every, solution.scale, solution.vector, kept)
        self._plan, self._traffic, self._clock = plan, plan.end(), clock
        self._most = 1 if lasting and plan.program.has_python else plan.most  # what is random there can't be done again
        self._at_once = min(16, self._most)

    def run(self, w: Weights, first: int, end: int, to_end: ToEnd) -> Counted | None:
        """Do rounds `first` to `end` - 1 on w, or fewer: none that fails, so that the exchange can say why it does.

        Not for much longer than a tenth of a second, in which nobody can interrupt them or see how far they are, and no
        more of them with an evaluation than weights can be kept for.

        to_end: is asked when the rounds are done. If they are too many they are undone, and fewer done.

        Returns what was counted in each; None if none was done, and from then on if Python could not do its part of
        one: whoever keeps something of their own is not to be called twice for every round.
        """
        if self._plan.program.failed:
            return None
        own, plan, scale = self._plan.weights.vector, self._plan, w.scale
        if w.vector is not own:
            own[:] = w.vector
        before = [array.copy() for array in self._lasting]
        due = first // self._every
        start = perf_counter()
        done = self._try(scale, first, min(end - first, self._at_once, (due + len(self._kept)) * self._every - first))
        if not done:
            return None
        self._at_once = int(min(max(1.0, _SECONDS * done / (perf_counter() - start)), self._most))
        kept = self._kept[: (first + done) // self._every - due]
        wanted = to_end(first + done, self._counted(done), kept)
        if wanted < done:
            for array, old in zip(self._lasting, before, strict=True):
                array[:] = old
            self._try(scale, first, wanted)
        w.vector, w.scale, w.stamp = own, float(plan.weights.scale.array[0]), object()
        return self._counted(wanted)

    def _counted(self, rounds: int) -> Counted:
        """Return what the first of the rounds counted that were run at once."""
        times = None if self._clock is None else self._clock.times[:rounds].copy()
        return Counted(self._traffic[:rounds].copy(), np.full(rounds, self._formula_bits), times)

    def _try(self, scale: float, first: int, count: int) -> int:
        """Do up to `count` rounds; return how many were done."""
        plan = self._plan
        count = plan.begin_rounds(first, count)
        plan.weights.scale.array[0] = scale
        return plan.program.run(count)


def _affordable(run: Run, group: WorkerGroup, reads: float) -> bool:
    """Tell whether all workers can be one block on one thread, where those that take no part still cost a little.

    Blocks are what fits the cache; of sampled clients each is one. Threads are for rounds that read much. Workers that
    are numbered among those that take part are not planned.
    """
    if group.threads > 1 and reads > _ALONE:
        return False
    clients = run.clients
    if run.compressor.correlated not in (None, run.workers):
        return False
    if not isinstance(clients, SampledClients):
        return (group.fits_the_cache or len(group.parts) == 1) and isinstance(clients, AllClients)
    return run.workers <= _ABSENT * clients.count and run.workers <= _SAMPLED


def _has_plan(objective: Objective) -> bool:
    """Tell whether an objective may have calls of kernels; blocks that are laid out are for these alone."""
    return is_shipped(objective) and type(objective).plan is not Objective.plan


def _laid_out(block: Block, reads: float, rounds: int) -> Block:
    """Return a block laid out for the workers if that pays: rounds that read much of it, and more than once or twice.

    Weights are then gathered on all supports in every round, which is too much for rounds that read few of them.
    """
    nonzeros = block.nonzeros
    pays = reads > block.support.offsets[-1] and reads * rounds > _PASSES * nonzeros
    return block.laid_out() if pays and block.width == 1 and nonzeros <= _MOST else block


_SECONDS = 0.1
_ALONE = 2**20  # non-zeros that one thread reads, in about a millisecond, before another would begin
_ABSENT = 16  # times as many workers as take part, at most
_SAMPLED = 1024  # workers, at most
_EVALUATIONS = 128  # weights that are kept to be evaluated together
_READ = 2**24  # non-zeros that are read for it, once for each weights
_KEPT = 2**21  # numbers in all these weights
_PASSES = 3
_MOST = 2**25  # non-zeros that are copied for it
