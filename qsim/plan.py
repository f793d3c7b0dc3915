"""Plans: what the rounds of a run do, as calls of kernels on arrays that stay.

A plan goes through a round once, part by part, as the round itself does: the method asks for updates and sends them,
the compressor and the codec add their kernels. What passes between the parts are the usual batches (`Vectors`,
`Levels`, `Floats`), whose arrays are as long as they ever need be: how many entries they hold in a round, the last of
their offsets says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Vectors, index_type
from qsim.batch.planned import plan_by_python
from qsim.block import Block, Rows
from qsim.channel import Channel
from qsim.clients import Clients, SampledClients
from qsim.keys import Key, Purpose
from qsim.l2_decay import L2Decay
from qsim.objectives import Objective
from qsim.options import is_shipped
from qsim.program import Cell, NoProgram, Program, Result, with_plan
from qsim.steps import Step
from qsim.weights import PlannedReplica, PlannedWeights

ROUNDS = 4096
"""How many rounds are run at once, at most."""

_FEW = 4  # so many times as many weights as are read cost more to round than those
_TOLD = 2**22  # numbers that are told for the rounds that are run at once, at most


class PlannedClock(Protocol):
    """What the time of a round is computed by, as a plan calls it: see `qsim.simulation.planned_clock.PlannedClock`."""

    def begin(self, plan: Plan) -> None: ...

    def plan(self, plan: Plan, v: Vectors, packets: NDArray[np.int64], invited: int) -> NDArray[np.bool_] | None: ...

    def end(self, plan: Plan, each: int, invited: int, packet: NDArray[np.int64] | None) -> None: ...


class PlannedDownlink(Protocol):
    """What the server sends to the workers, as a plan calls it: see `qsim.downlinks.Downlink`."""

    def plan_weights(self, plan: Plan) -> PlannedReplica: ...

    def plan_sum(self, plan: Plan, total: Vectors) -> Vectors: ...


class Plan:
    """The rounds of the workers of a block and of their server, in the making.

    program: the calls so far. weights: the server's. state: what it keeps beside them. turn: the number of the round,
    which of those that are run at once it is, and how many of them before it are evaluated.

    Weights come down as float32. Where the rows of a round read few of them, these alone are rounded.
    """

    def __init__(
        self,
        block: Block,
        objective: Objective,
        channel: Channel,
        downlink: PlannedDownlink,
        weights: PlannedWeights,
        reads: float,
        state: Arrays,
        shared: Arrays,
        of_workers: NDArray[np.float64],
        key: Key,
        compressor_memory: Memory | None,
        check_header: Callable[[bytes], None],
        clients: Clients,
        clock: PlannedClock | None,
    ) -> None:
        """Begin a plan without calls; `reads` is about how many weights the rows of a round read."""
        self.program = Program()
        self.block, self.objective, self.channel, self.downlink = block, objective, channel, downlink
        self.weights, self.state, self.shared = weights, state, shared
        self._few = _FEW * reads < weights.vector.size or block.on_supports
        self._received: PlannedReplica | None = None
        self.too_large = np.zeros(1, np.int64)
        """How many weights float32 does not reach any more."""
        self.turn = np.zeros(3, np.int64)
        self.most = ROUNDS
        """How many rounds can be run at once."""
        self._tellers: list[tuple[NDArray[Any], Callable[[int, int], NDArray[Any]]]] = []
        self._of_workers, self._root = of_workers, key
        self.data_key, self._wire_key = key.fold(Purpose.DATA), key.fold(Purpose.QUANTIZE)
        self.method_key = key.fold(Purpose.METHOD)
        self.memory = compressor_memory
        workers = of_workers.size
        self.present = np.ones(workers, np.bool_) if isinstance(clients, SampledClients) else None
        """Who takes part in a round; None: all workers. The others have no rows, or what they send is not delivered."""
        self.delivered: NDArray[np.bool_] | None = self.present
        """Whose messages arrive."""
        self._check_header, self._clients, self._clock = check_header, clients, clock
        self.rows = Rows(np.zeros(0, np.int64), np.zeros(workers + 1, np.int64))
        """The rows that workers read in a round."""
        self.touched: NDArray[np.int64] | None = None
        """How many non-zeros of its rows each worker read, where Python counts them."""
        self._read: Cell | None = None
        self.invited = clients.count if isinstance(clients, SampledClients) else workers
        self._nonzeros: Result | None = None
        self._up: Result | None = None
        self._down = 0
        self._packets_down: NDArray[np.int64] | None = None
        self._last: list[tuple[Any, ...]] = []

    def told(self, tell: Callable[[int, int], NDArray[Any]], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return where Python writes what a round needs to know: an entry for each of the rounds that are run at once.

        shape, dtype: those of an entry. tell: returns the entries of some rounds, of which it gets the number of the
            first, and how many there are; or of fewer, if it cannot tell more.
        """
        self.most = min(self.most, max(1, _TOLD // math.prod(shape)))
        found = np.zeros((self.most, *shape), dtype)
        self._tellers.append((found, tell))
        return found

    def begin_rounds(self, first: int, count: int) -> int:
        """Prepare to run some rounds at once; return for how many of them all was told."""
        self.turn[:] = first, 0, 0
        for found, tell in self._tellers:
            entries = tell(first, count)
            count = len(entries)
            found[:count] = entries
        return count

    def begin(self, step: Step | float | None) -> Cell:
        """Begin a round: with its step, by a rule, and the weights sent to the workers.

        Ends the program where the step is too long for the regulariser, and for weights that float32 does not reach.
        """
        from qsim.kernels.rounds import begin_round

        if type(self.objective).apply_l2_step is not Objective.apply_l2_step or self.objective.composite:
            raise NoProgram
        if self.present is not None:
            self._invite(self.present)
        if self._clock is not None:
            self._clock.begin(self)
        cell, steps = Cell.of(0.0), np.zeros(self.most)
        if step is not None:
            assert isinstance(step, Step)
            steps = self.told(partial(_steps, step), (), np.float64)
        l2 = self.objective.l2 or 0.0
        self.program.call(begin_round, self.turn, steps, cell.array, l2, self.too_large, stop="not zero")
        self._received = with_plan(self.downlink).plan_weights(self)
        return cell

    def _invite(self, present: NDArray[np.bool_]) -> None:
        """Have Python draw who takes part in a round."""
        from qsim.kernels.participation import take_entry

        key, clients, workers = self._root.fold(Purpose.CLIENTS), self._clients, present.size
        assert isinstance(clients, SampledClients)

        def draw(first: int, count: int) -> NDArray[np.bool_]:
            return clients.draw_each(key.words(first, first + count), workers)

        self.program.call(take_entry, self.told(draw, (workers,), np.bool_), self.turn, present)

    def rounded_weights(self) -> PlannedReplica:
        """Return the weights as float32; ends the program where float32 does not reach them."""
        from qsim.kernels.rounds import to_float32

        if self._few:
            return PlannedReplica(self.weights.vector, self.weights.scale)
        rounded = np.empty(self.weights.vector.size, np.float32)
        self.program.call(to_float32, self.weights.vector, self.weights.scale, rounded, stop="not zero")
        return PlannedReplica(rounded)

    def own_weights(self) -> PlannedReplica:
        """Return the weights as workers have them who do themselves what the server does: a scale beside float32."""
        from qsim.kernels.rounds import rounded

        vector: NDArray[Any] = self.weights.vector
        if not self._few:
            vector = np.empty(vector.size, np.float32)
            self.program.call(rounded, self.weights.vector, vector)
        return PlannedReplica(vector, factor=self.weights.scale)

    def key_down(self) -> NDArray[np.uint64]:
        """Return where the word of the key is with which the weights of a round are sent down."""
        from qsim.kernels.rounds import fold_down

        word = np.empty(1, np.uint64)
        self.program.call(fold_down, np.uint64(self._root.fold(Purpose.DOWN).word), self.turn, word)
        return word

    def sent_down(self, bits: int | NDArray[np.int64]) -> None:
        """Take note of what workers receive: so many bits, those that take part, or all a packet with these offsets."""
        if isinstance(bits, int):
            self._down += bits
        else:
            assert self._packets_down is None
            self._packets_down = bits

    def at_the_end(self, kernel: Any, *arguments: Any) -> None:
        """Add a call at the end of a round, when nothing can end the program any more."""
        self._last.append((kernel, *arguments))

    def end(self) -> NDArray[np.int64]:
        """End a round; return where it writes what it counted: non-zeros, bits up, bits down, rows read."""
        from qsim.kernels.participation import rows_of
        from qsim.kernels.rounds import end_round

        call, packet, invited = self.program.call, self._packets_down, self.invited
        for kernel, *arguments in self._last:
            call(kernel, *arguments)
        if self._clock is not None:
            self._clock.end(self, self._down // 8, invited, packet)
        rows: Any = self.rows.index.size if self._read is None else self._read
        if self.present is not None:
            rows = call(rows_of, self.rows.offsets, self.present)
        counted, down = np.zeros((self.most, 4), np.int64), invited * self._down
        call(end_round, self.turn, self._nonzeros, self._up, down, packet, self._of_workers.size, rows, counted)
        return counted

    def data_words(self) -> NDArray[np.uint64]:
        """Return where the words of the workers' keys for the data of a round are."""
        from qsim.kernels.rounds import fold_round

        words = np.empty(self.block.workers, np.uint64)
        self.program.call(fold_round, np.uint64(self.data_key.word), self.turn, self.block.low, words)
        return words

    def update(self, rows: Rows, step: Any) -> Vectors:
        """Return where each worker's update is: step times the mean gradient of its rows."""
        from qsim.kernels.participation import silence

        assert self._received is not None
        self.rows, received = rows, self._received
        try:
            with self.program.all_or_nothing():
                v = with_plan(self.objective).plan(self.program, self.block, rows, received, step)
        except NoProgram:
            v = self._update_by_python(rows, received, step)
        if self.present is not None and rows.all:
            self.program.call(silence, v.offsets, v.value, self.present)
        return v

    def _update_by_python(self, rows: Rows, received: PlannedReplica, step: Any) -> Vectors:
        """Have the program call `Objective.update`, which may read rows several times, or others."""
        block, objective, weights = self.block, self.objective, received
        self._read, self.touched = Cell.of(0), np.zeros(block.workers, np.int64)
        number, touched = self._read.array, self.touched
        like = Vectors(block.n, np.zeros(block.workers + 1, np.int64), None, np.empty(0, np.float32))

        def update() -> Vectors:
            drawn = Rows(rows.index[: rows.offsets[-1]].copy(), rows.offsets.copy(), rows.all)
            before, block.touched = block.read, touched
            touched[:] = 0
            try:
                return objective.update(block, drawn, weights.as_it_is(), _number(step))
            finally:
                number[0], block.touched = block.read - before, None

        return plan_by_python(self.program, like, update, dense=not objective.keeps_support)

    def local_steps(self, rows: Rows, batch: int, steps: NDArray[np.float64], decay: L2Decay) -> Vectors:
        """Return where it is how far each worker comes by steps of SGD."""
        from qsim.kernels.participation import silence

        assert self._received is not None
        self.rows = rows
        objective = with_plan(self.objective)
        v = objective.plan_local_steps(self.program, self.block, rows, batch, self._received, steps, decay)
        if self.present is not None:
            self.program.call(silence, v.offsets, v.value, self.present)
        return v

    def send(self, v: Vectors) -> tuple[Vectors, Vectors, Any]:
        """Send what the workers have: return it as it arrives, the weighted sum as it is applied, and its share.

        Messages that do not arrive are zero then. The sum is one row; the share is what the weights of those that are
        in it sum to.
        """
        from qsim.kernels.participation import bytes_of, is_zero, nonzeros_of, silence, weights_of
        from qsim.kernels.rounds import fold_exchange, number_exchange

        call, workers = self.program.call, self.block.workers
        keys = np.empty(workers, np.uint64)
        make = fold_exchange if self.channel.compressor.correlated is None else number_exchange
        call(make, np.uint64(self._wire_key.word), self.turn, self.block.low, keys)
        arrived, packets = self.channel.plan(self.program, v, keys, self.memory, self._check_header)
        if self.program.has_python and self.present is not None:  # which would see those that sit out the round
            raise NoProgram
        self._nonzeros = call(nonzeros_of, arrived.offsets, arrived.value, self.present)
        self._up = call(bytes_of, packets, self.present)
        weights, share = self._of_workers, 1.0
        if self._clock is not None:
            self.delivered = self._clock.plan(self, v, packets, self.invited)
        if self.delivered is not None:
            weights = np.empty(workers)
            share = call(weights_of, self._of_workers, self.delivered, weights)
            call(is_zero, share, stop="not zero")  # nothing is sent down then
        summed = with_plan(self.downlink).plan_sum(self, self._sum(arrived, weights))
        if self.delivered is not None:
            call(silence, arrived.offsets, arrived.value, self.delivered)
        if self.memory is not None:
            self.channel.compressor.plan_on_delivered(self.program, self.memory, arrived)
        return arrived, summed, share

    def times(self, factor: float, share: Any) -> Any:
        """Return a number times a share."""
        from qsim.kernels.participation import product

        return factor * share if isinstance(share, float) else self.program.call(product, factor, share)

    def _sum(self, arrived: Vectors, weights: NDArray[np.float64]) -> Vectors:
        """Return where the weighted sum of the rows is, as `ParameterServer` makes it."""
        from qsim.kernels.rounds import store, take_dense, weighted
        from qsim.kernels.vectors import add_rows, take_marked

        call, n = self.program.call, arrived.n
        if arrived.rows == 1:
            alone = np.empty(arrived.value.size)
            call(
                weighted,
                arrived.offsets,
                arrived.value,
                weights[0] if weights is self._of_workers else Cell(weights),
                alone,
            )
            return Vectors(n, arrived.offsets, arrived.index, alone)
        total, marks = np.zeros(n), np.zeros(-(-n // 64), np.uint64)
        call(add_rows, arrived.offsets, arrived.index, arrived.value, weights, total, marks)
        if arrived.index is None:
            summed = Vectors.dense(np.zeros(n))
            call(take_dense, total, marks, summed.value)
        else:
            most = min(n, arrived.value.size)
            summed = Vectors(n, np.zeros(2, np.int64), np.empty(most, index_type(n)), np.empty(most))
            taken = call(take_marked, total, marks, summed.index, summed.value)
            call(store, taken, summed.offsets[1:])
        return summed

    def apply_l2_step(self, step: Any) -> None:
        """Do a step on the regulariser alone, as `Objective.apply_l2_step` does."""
        from qsim.kernels.rounds import shrink

        if self.objective.l2:
            self.program.call(shrink, step, self.objective.l2, self.weights.vector, self.weights.scale.array)

    def subtract(self, v: Vectors, factor: Any = 1.0) -> None:
        """Subtract factor times a row from the weights."""
        from qsim.kernels.rounds import subtract

        row, weights = (v.offsets, v.index, v.value), self.weights
        self.program.call(subtract, *row, factor, weights.scale, weights.vector, self.too_large)

    def descend(self, step: Any, along: NDArray[np.float64]) -> None:
        """Subtract step times a dense vector from the weights."""
        from qsim.kernels.rounds import descend

        weights = self.weights
        self.program.call(descend, step, along, weights.scale, weights.vector, self.too_large)


def _steps(step: Step, first: int, count: int) -> NDArray[np.float64]:
    """Return the steps of some rounds, or of those before the first at which a user's own raises: it will again."""
    if is_shipped(step):
        return step.many(first, count)
    found = []
    for t in range(first, first + count):  # as the exchange does: its `many` may differ
        try:
            found.append(step(t))
        except Exception:
            break
    return np.array(found, np.float64)


def _number(x: Cell | float) -> float:
    """Return a number of a program as it is."""
    return float(x.array[0]) if isinstance(x, Cell) else x
