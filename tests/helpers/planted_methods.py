"""A method of a user's own that keeps its promises, and others with a known mistake each."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from qsim.batch import Memory
from qsim.methods import Method
from qsim.options import option
from qsim.problem import Bound


@option
class Plain(Method):
    """Gradient descent."""

    step: float = 0.5

    def round(self, w, state, exchange):
        total = exchange("gradient", w).vector
        exchange.objective.apply_l2_step(w, self.step)
        w.subtract(total.scaled(self.step))

    def work(self, task, objective, block, memory):
        return objective.update(block, self.reads(task, block, memory), task.weights, 1.0)


@option
class Shifted(Plain):
    """Compressed differences to shifts, as in DIANA."""

    def start(self, w):
        return {"shift": np.zeros_like(w.vector)}

    def memory(self, block, support):
        return Memory.zeros(support, "shift", dtype=np.float64)

    def work(self, task, objective, block, memory):
        return memory.less(super().work(task, objective, block, memory), "shift")

    def on_delivered(self, task, block, memory, arrived, delivered):
        memory.add("shift", arrived, 0.3)

    def round(self, w, state, exchange):
        received = exchange("difference", w)
        exchange.objective.apply_l2_step(w, self.step)
        w.move(-self.step * state["shift"])
        w.subtract(received.vector.scaled(self.step))
        received.vector.add_to(state["shift"], 0.3 * received.share)


class Uphill(Plain):
    """Adds what it should subtract."""

    def round(self, w, state, exchange):
        w.subtract(exchange("gradient", w).vector.scaled(-self.step))


class WithoutL2(Plain):
    """Forgets the regulariser."""

    def round(self, w, state, exchange):
        w.subtract(exchange("gradient", w).vector.scaled(self.step))


class OnlyL2(Plain):
    """Knows l2 alone."""

    def round(self, w, state, exchange):
        total = exchange("gradient", w).vector
        w.shrink(1 - self.step * exchange.objective.l2)
        w.subtract(total.scaled(self.step))


class SumOverRows(Plain):
    """Workers send sums over their rows, which are weighted once more."""

    def work(self, task, objective, block, memory):
        found = super().work(task, objective, block, memory)
        return replace(found, value=found.value * np.repeat(np.diff(block.offsets), np.diff(found.offsets)))


class ByNumber(Plain):
    """Later workers send less."""

    def work(self, task, objective, block, memory):
        found = super().work(task, objective, block, memory)
        number = np.repeat(np.arange(block.low, block.high), np.diff(found.offsets))
        return replace(found, value=found.value / (1 + number).astype(found.value.dtype))


class FirstOfBlock(Plain):
    """Takes the first worker of a block for the first of all."""

    def work(self, task, objective, block, memory):
        found = super().work(task, objective, block, memory)
        value = found.value.copy()
        value[: found.offsets[1]] *= 2
        return replace(found, value=value)


class EmptyIsNan(Plain):
    """Divides by the number of rows, of which an empty worker has none."""

    def work(self, task, objective, block, memory):
        found = objective.update(block, block.all_rows(), task.weights, 1.0).to_dense()
        sizes = np.diff(block.offsets)[:, None]
        with np.errstate(invalid="ignore"):
            return type(objective.update(block, block.all_rows(), task.weights, 1.0)).dense(found * sizes / sizes)


@option
class OnSelf(Plain):
    """Keeps its momentum on the object."""

    def __post_init__(self):
        object.__setattr__(self, "past", [0.0])

    def round(self, w, state, exchange):
        total = exchange("gradient", w).vector.to_dense()[0]
        self.past[0] = 0.5 * self.past[0] + total
        exchange.objective.apply_l2_step(w, self.step)
        w.move(-self.step * self.past[0])


class InAList(Plain):
    """Keeps a list, which no file of arrays holds."""

    def start(self, w):
        return {"past": []}


class InWorkersObject(Shifted):
    """Workers keep an object."""

    def memory(self, block, support):
        found = super().memory(block, support)
        found.arrays["names"] = np.array([None] * block.workers)
        return found


class OfTheBlock(Plain):
    """A counter of the block: workers of other blocks count for themselves."""

    def memory(self, block, support):
        return Memory(support, {"calls": np.zeros(1)})

    def work(self, task, objective, block, memory):
        memory.arrays["calls"] += block.workers
        return super().work(task, objective, block, memory).scaled(1 / float(memory.arrays["calls"][0]))


class AnyNumbers(Plain):
    """Noise that no key seeds."""

    def work(self, task, objective, block, memory):
        found = super().work(task, objective, block, memory)
        return replace(found, value=found.value * np.float32(1 + 0.01 * np.random.default_rng().random()))


class ByHash(Plain):
    """Hashes of strings, which differ from process to process."""

    def round(self, w, state, exchange):
        super().round(w, state, exchange)
        w.move(np.full(w.vector.size, hash("worker") % 1000 * 1e-6))


class WritesWeights(Plain):
    """Does its step in place, in the weights of all."""

    def work(self, task, objective, block, memory):
        task.weights.vector[:] *= 0.9
        return super().work(task, objective, block, memory)


class WritesArrived(Shifted):
    """Scales what arrived, in place."""

    def on_delivered(self, task, block, memory, arrived, delivered):
        arrived.value[...] *= 0.3
        memory.add("shift", arrived)


class ReadsLess(Plain):
    """Says that it reads a row, and reads all."""

    def reads(self, task, block, memory):
        rows = block.all_rows()
        first = rows.offsets[:-1][np.diff(rows.offsets) > 0]
        counts = np.minimum(np.diff(rows.offsets), 1)
        return type(rows)(rows.index[first], np.concatenate([[0], np.cumsum(counts)]))

    def work(self, task, objective, block, memory):
        return objective.update(block, block.all_rows(), task.weights, 1.0)


class ReadsTwice(Plain):
    """Draws other rows whenever it is asked."""

    def memory(self, block, support):
        return Memory(support, {"asked": np.zeros(block.workers, np.int64)})

    def reads(self, task, block, memory):
        memory.arrays["asked"] += 1
        rows = block.all_rows()
        sizes = np.diff(rows.offsets)
        chosen = rows.offsets[:-1] + memory.arrays["asked"] % np.maximum(sizes, 1)
        return type(rows)(rows.index[chosen[sizes > 0]], np.concatenate([[0], np.cumsum(np.minimum(sizes, 1))]))


class AllOfIt(Shifted):
    """The server forgets which share arrived."""

    def round(self, w, state, exchange):
        received = exchange("difference", w)
        exchange.objective.apply_l2_step(w, self.step)
        w.move(-self.step * state["shift"])
        received.vector.add_to(state["shift"], 0.3)


class OtherFactor(Shifted):
    """The workers' shifts go another way than the server's."""

    def on_delivered(self, task, block, memory, arrived, delivered):
        memory.add("shift", arrived, 0.35)


class WhatWasSent(Shifted):
    """Workers learn what they sent, not what arrived: with dropped messages the two differ."""

    def work(self, task, objective, block, memory):
        found = super().work(task, objective, block, memory)
        memory.add("shift", found, 0.3)
        return found

    def on_delivered(self, task, block, memory, arrived, delivered):
        return


class TooFewRows(Plain):
    """One row for all workers."""

    def work(self, task, objective, block, memory):
        return super().work(task, objective, block, memory).take(np.zeros(1, np.int64))


class TooFast(Plain):
    """Promises the rate of a condition number of its root."""

    def bound(self, problem):
        return Bound(0.6, problem.suboptimality, 0.0, "F(w) - F*")


class NotTheReference(Plain):
    """Half the step."""

    def round(self, w, state, exchange):
        total = exchange("gradient", w).vector
        exchange.objective.apply_l2_step(w, self.step)
        w.subtract(total.scaled(self.step / 2))


@option
class Locked(Plain):
    """Holds what cannot be sent to a process."""

    def __post_init__(self):
        object.__setattr__(self, "lock", threading.Lock())


class Unprintable(Plain):
    """Its repr is no code."""

    def __repr__(self):
        return "<a method>"


ARRAYS, BITS, RESUMES = (
    "arrays are all that is kept, and work is pure",
    "the same bits everywhere",
    "a run that was broken off goes on",
)
READS, ALIKE, COUNTS, MEAN = (
    "reads all that is read",
    "workers with the same rows are as one",
    "the regulariser counts",
    "the server knows the workers' mean",
)
PLANTED = [
    (Uphill(), "the loss falls"),
    (WithoutL2(), COUNTS),
    (OnlyL2(), COUNTS),
    (SumOverRows(), ALIKE),
    (ByNumber(), ALIKE),
    (EmptyIsNan(), ALIKE),
    (FirstOfBlock(), BITS),
    (OfTheBlock(), BITS),
    (AnyNumbers(), BITS),
    (ByHash(), BITS),
    (OnSelf(), RESUMES),
    (Locked(), BITS),
    (InAList(), ARRAYS),
    (InWorkersObject(), ARRAYS),
    (WritesWeights(), ARRAYS),
    (WritesArrived(), ARRAYS),
    (TooFewRows(), ARRAYS),
    (AnyNumbers(), ARRAYS),
    (ReadsLess(), READS),
    (ReadsTwice(), READS),
    (AllOfIt(), MEAN),
    (OtherFactor(), MEAN),
    (WhatWasSent(), MEAN),
    (TooFast(), "its bound"),
    (NotTheReference(), "its reference"),
    (Unprintable(), "prints as the code that makes it"),
]
