"""Plans: what the rounds of a run do, as calls of kernels on arrays that stay.

A plan goes through a round once, part by part, as the round itself does: the method asks for updates and sends them,
the compressor and the codec add their kernels. What passes between the parts are the usual batches (`Vectors`,
`Levels`, `Floats`), whose arrays are as long as they ever need be: how many entries they hold in a round, the last of
their offsets says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Vectors, index_type
from qsim.block import Block, Rows
from qsim.channel import Channel
from qsim.keys import Key, Purpose
from qsim.objectives import Objective
from qsim.program import Cell, NoProgram, Program, with_plan
from qsim.steps import Step
from qsim.weights import PlannedWeights

ROUNDS = 4096
"""How many rounds are run at once, at most."""

_FEW = 4  # so many times as many weights as are read cost more to round than those


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
        weights: PlannedWeights,
        reads: float,
        state: Arrays,
        of_workers: NDArray[np.float64],
        key: Key,
        compressor_memory: Memory | None,
    ) -> None:
        """Begin a plan without calls; `reads` is about how many weights the rows of a round read."""
        self.program = Program()
        self.block, self.objective, self.channel = block, objective, channel
        self.weights, self.state = weights, state
        few = _FEW * reads < weights.vector.size or block.on_supports
        self._received = weights if few else np.empty(weights.vector.size, np.float32)
        self.too_large = np.zeros(1, np.int64)
        """How many weights float32 does not reach any more."""
        self.turn = np.zeros(3, np.int64)
        self.rows = 0
        """How many rows the workers read in a round."""
        self._of_workers = of_workers
        self.data_key, self._wire_key = key.fold(Purpose.DATA), key.fold(Purpose.QUANTIZE)
        self._memory = compressor_memory
        self.step: Step | None = None
        self.steps = np.zeros(ROUNDS)
        """The steps of the rounds that are run at once."""
        self.counted: tuple[Any, NDArray[np.int64]] | None = None

    def begin(self, step: Step | float | None) -> Cell:
        """Begin a round: with its step, by a rule, and the weights sent to the workers.

        Ends the program where the step is too long for the regulariser, and for weights that float32 does not reach.
        """
        from qsim.kernels.rounds import begin_round, to_float32

        if type(self.objective).apply_l2_step is not Objective.apply_l2_step:
            raise NoProgram
        assert isinstance(step, Step)
        self.step, cell, call = step, Cell.of(0.0), self.program.call
        l2 = self.objective.l2 or 0.0
        call(begin_round, self.turn, self.steps, cell.array, l2, self.too_large, stop="not zero")
        if self._received is not self.weights:
            call(to_float32, self.weights.vector, self.weights.scale, self._received, stop="not zero")
        return cell

    def data_words(self) -> NDArray[np.uint64]:
        """Return where the words of the workers' keys for the data of a round are."""
        from qsim.kernels.rounds import fold_round

        words = np.empty(self.block.workers, np.uint64)
        self.program.call(fold_round, np.uint64(self.data_key.word), self.turn, self.block.low, words)
        return words

    def update(self, rows: Rows, step: Any) -> Vectors:
        """Return where each worker's update is: step times the mean gradient of its rows."""
        self.rows = rows.index.size
        return with_plan(self.objective).plan(self.program, self.block, rows, self._received, step)

    def send(self, v: Vectors) -> tuple[Vectors, Vectors]:
        """Send what the workers have: return it as it arrives, and the weighted sum, one row."""
        from qsim.kernels.rounds import fold_exchange, nonzeros_among

        call, rows = self.program.call, self.block.workers
        keys = np.empty(rows, np.uint64)
        call(fold_exchange, np.uint64(self._wire_key.word), self.turn, self.block.low, keys)
        arrived, packet_offsets = self.channel.plan(self.program, v, keys, self._memory)
        nonzeros = call(nonzeros_among, arrived.offsets, arrived.value)
        self.counted = nonzeros, packet_offsets
        summed = self._sum(arrived)
        if self._memory is not None:
            self.channel.compressor.plan_on_delivered(self.program, self._memory, arrived)
        return arrived, summed

    def _sum(self, arrived: Vectors) -> Vectors:
        """Return where the weighted sum of the rows is, as `ParameterServer` makes it."""
        from qsim.kernels.rounds import store, take_dense, weighted
        from qsim.kernels.vectors import add_rows, take_marked

        call, n = self.program.call, arrived.n
        if arrived.rows == 1:
            alone = np.empty(arrived.value.size)
            call(weighted, arrived.offsets, arrived.value, self._of_workers[0], alone)
            return Vectors(n, arrived.offsets, arrived.index, alone)
        total, marks = np.zeros(n), np.zeros(-(-n // 64), np.uint64)
        call(add_rows, arrived.offsets, arrived.index, arrived.value, self._of_workers, total, marks)
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
