"""The common part of methods whose workers compress the difference to a shift that both ends know."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.batch.planned import plan_add
from qsim.block import Block
from qsim.methods.base import Exchange, Method, Task, refuse_absences
from qsim.methods.sampling import Batched
from qsim.objectives import Objective
from qsim.options import one_of
from qsim.plan import Plan
from qsim.problem import Problem
from qsim.weights import Weights

Shifts = Literal["zero", "gradient"]
"""Where shifts begin."""


class Shifted(Method):
    """Workers hold shifts h_i, the server their weighted sum h; what is compressed is the difference to the shift.

    The shifts live on the supports of the shards (everywhere if the compressor fills in zeros), in float64: the server
    adds the same messages to h, so that h stays the sum of the h_i, also over very many rounds. A round costs a worker
    O(support), also with a batch, and the server O(n). Who sits out a round keeps its shift, and so does h its part.

    With `shifts="gradient"` they begin at h_i = g_i(w_0), which all workers send in round 0 as dense float32 (counted,
    and waited for) instead of a message; with "zero" at zero.
    """

    shifts: Shifts

    def _check_shifts(self, problem: Problem | None = None) -> None:
        one_of("shifts", self.shifts, ("zero", "gradient"))
        if problem is not None and self.shifts == "gradient":
            refuse_absences(self, problem, "all shifts begin at gradients, in round 0")

    def _begin(self, w: Weights, shift: NDArray[np.float64], step: float, exchange: Exchange) -> bool:
        """Do round 0 if shifts begin at gradients; tell whether it was done."""
        if self.shifts == "zero" or exchange.round:
            return False
        exchange("begin", w, exact="float32").vector.add_to(shift)
        exchange.objective.apply_l2_step(w, step)
        w.move(-step * shift)
        exchange.objective.proximal_step(w, step)
        return True

    def start(self, w: Weights) -> Arrays:
        return {"shift": np.zeros_like(w.vector)}

    def memory(self, block: Block, support: Support) -> Memory:
        kept = super().memory(block, support)
        kept.arrays.update(Memory.zeros(support, "shift", dtype=np.float64).arrays)
        return kept


class ShiftedBatches(Shifted, Batched):
    """Such methods whose workers draw `batch` of their rows each round; None for all of them."""

    def _plan_difference(self, plan: Plan, memory: Memory) -> Vectors:
        """Return where the differences of the gradients to the shifts are, as `Memory.less` makes them."""
        from qsim.kernels.rounds import negative, rounded

        g, support, call = plan.update(self._plan_rows(plan, memory), 1.0), memory.support, plan.program.call
        less, value = np.empty(support.offsets[-1]), np.empty(support.offsets[-1], np.float32)
        call(negative, memory.arrays["shift"], less)
        plan_add(plan.program, support, less, g, 1.0)
        call(rounded, less, value)
        return Vectors(support.n, support.offsets, support.index, value)

    def _gradient(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        """Return the gradients of the loss over the rows of this round."""
        return objective.update(block, self.reads(task, block, memory), task.weights, 1.0)
