"""TAMUNA and CompressedScaffnew: corrected local steps, after which each coordinate is sent by a few workers."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays, Memory, Support, Vectors
from qsim.block import Block
from qsim.clients import AllClients, SampledClients
from qsim.compressors import PermK
from qsim.datasets import Shards
from qsim.methods.base import Exchange, Task, constant, refuse_unfit, step_for
from qsim.methods.own_weights import OwnWeights
from qsim.methods.scaffnew import kept_by_steps, round_factor
from qsim.objectives import Objective
from qsim.options import number, option
from qsim.problem import Bound, Problem, TheoryError
from qsim.steps import Step, take_step
from qsim.weights import Weights


@final
@option
class TAMUNA(OwnWeights):
    r"""TAMUNA: local steps with control variates, compression, and clients who sit out, with linear convergence.

    A round is for the workers that take part. Each does local steps
    :math:`u_i \leftarrow u_i - a (\nabla f_i(u_i) - h_i)` from the common weights :math:`w`, as many as it takes until
    an event of probability :math:`p`. Then `PermK(workers, copies=s)` has every coordinate :math:`j` of :math:`w - u_i`
    sent by :math:`s` of them, and the server takes :math:`w_j \leftarrow` mean of their :math:`u_{ij}`. These :math:`s`
    learn: :math:`h_{ij} \leftarrow h_{ij} + (e/a) (w_j - u_{ij})` with the new :math:`w`. Control variates of all
    others stay.

    If all take part, this is CompressedScaffnew, and with :math:`s = W`, or without a compressor, `Scaffnew`.

    Parameters
    ----------
    step : Step or float, optional
        The local step :math:`a` of round :math:`t`, a number or a rule of `qsim.steps`. By default :math:`2 / (L + m)`,
        :math:`L` the largest :math:`L_i` and :math:`m` the strong convexity that all :math:`f_i` have.
    p : float, optional
        The probability of an exchange after a local step, in (0, 1]. By default :math:`\min(1, \sqrt{(1 - c)/(x y)})`,
        with :math:`c = \max((1 - a m)^2, (1 - a L)^2)`, :math:`x = W (s - 1)/(s (W - 1))` and
        :math:`y = (s - 1)/(W - 1)`.
    learning : float, optional
        The share :math:`e` of what comes that goes into the control variates, in (0, 1]; by default :math:`p x`.
    template : PermK, optional
        The compressor, which the run says: leave it out.

    Raises
    ------
    ValueError
        If a number is out of range. In the simulation for compressors other than `PermK` with two copies or more, whose
        workers are those that take part, and `Identity`; for weights of workers that are not equal, unless every
        coordinate is sent by all; and for networks that drop messages.
    TheoryError
        In the simulation, if :math:`f_i` that are not strongly convex are given no step and :math:`p`.

    Notes
    -----
    The error :math:`\mathbb{E} = \|w - w^\star\|^2 + a^2/(p e y)` mean of :math:`\|h_i - \nabla f_i(w^\star)\|^2` falls
    by a factor of at least :math:`\max(c, 1 - p e y)` a local step, and of
    :math:`\max(1 - e y, 1 - (1 - c)/(1 - c (1 - p) (1 - r)))`, :math:`r = \min(1, (1 - c)/(e y))`, a round, for
    :math:`e \leq p x`: how many take part does not change it, as only which :math:`s` workers send a coordinate
    matters. Both are derived here, in `docs/theory.md`; the first is the paper's, from memory.

    If all take part and :math:`p < 1`, what goes up until E has a given size is, by this rate, in proportion to
    :math:`s^{1.5}/(s - 1)`, the least for :math:`s = 3`.

    Workers keep two vectors in float64 and which coordinates they sent, all dense, whatever the rows are. The new
    :math:`w` goes down to those that took part, whole (the paper sends them only what they sent), and then to those
    that take part in the next round and do not have it.

    References
    ----------
    .. [1] Condat, Agarsky, Malinovsky, Richtarik, "TAMUNA: doubly accelerated federated learning with local training,
           compression, and partial participation", arXiv 2302.09832, 2023 (the method).
    .. [2] Condat, Agarsky, Richtarik, "Provably doubly accelerated federated learning: the first theoretically
           successful combination of local training and communication compression", arXiv 2210.13277, 2022
           (CompressedScaffnew).

    Examples
    --------
    >>> import qsim
    >>> run = qsim.Run("spark_sample", qsim.LogisticRegression(l2=0.1), qsim.methods.TAMUNA(), workers=10, rounds=30,
    ...     compressor=qsim.PermK(workers=5, copies=3), clients=qsim.clients.SampledClients(5), weighting="workers")
    >>> qsim.simulate(run).axis("suboptimality")[-1] < 1e-3
    np.True_
    """

    step: Step | float | None = None
    p: float | None = None
    learning: float | None = None
    template: PermK | None = None

    def __post_init__(self) -> None:
        take_step(self)
        for name in ("p", "learning"):
            if (value := getattr(self, name)) is not None:
                number(name, value, above=0)
                if value > 1:
                    raise ValueError(f"{name} must be at most 1, found {value!r}")

    def resolved(self, problem: Problem) -> Self:
        refuse_unfit(self, problem)
        self._refuse_dense(problem)
        found = replace(self, template=_template(problem))
        if found.step is None or found.p is None:
            common = problem.worker_convexity
            if not common:
                raise TheoryError(f"{problem.objective!r} is not strongly convex, so nothing follows: give step and p")
        step = step_for(self, problem, lambda of: 2 / (of.largest_smoothness + of.worker_convexity))
        found = replace(found, step=step)
        share, learnt = _laws(problem)
        if found.p is None:
            kept = kept_by_steps(step, problem)
            if kept is None:
                raise TheoryError(f"{step!r} is not constant or above 2/L, so that no p follows: give it")
            found = replace(found, p=min(1.0, sqrt((1 - kept) / (share * learnt))))
        assert found.p is not None
        return replace(found, learning=found.p * share if self.learning is None else self.learning)

    def bound(self, problem: Problem) -> Bound | None:
        step, kept = constant(self.step, float("inf")), kept_by_steps(self.step, problem)
        share, learnt = _laws(problem)
        if step is None or kept is None or self.p is None or self.learning is None:
            return None
        if self.learning > self.p * share * (1 + 1e-12) or (np.ptp(problem.weights) and learnt < 1):
            return None
        gain = self.learning * learnt
        error = problem.square_distance + step**2 / (self.p * gain) * problem.heterogeneity
        quantity = "||w - w*||^2 + c mean of ||h_i - grad f_i(w*)||^2"
        factor = round_factor(kept, self.p, gain)
        return Bound(factor, problem.smoothness / 2 * error, 0.0, quantity, problem.rounding)

    def rows_per_round(self, shards: Shards) -> float:
        assert self.p is not None
        return super().rows_per_round(shards) / self.p

    def memory(self, block: Block, support: Support) -> Memory:
        """Keep h_i, what arrived of u_i in the last exchange, and which coordinates that has."""
        kept = Memory.zeros(support, "control", "end", dtype=np.float64)
        kept.arrays["sent"] = np.zeros(block.workers * block.n, np.bool_)
        return kept

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        assert isinstance(self.step, Step)
        assert self.p is not None
        step, known, rows = self.step(task.round), self._known(task, block), block.all_rows()
        control, end = self._rows(memory, "control", block), self._rows(memory, "end", block)
        if task.name == "learn":
            assert self.learning is not None
            sent = self._rows(memory, "sent", block)
            control[sent] += self.learning / step * (known - end)[sent]
            return self._away(task, known, known)  # nothing, as nothing is sent
        own = known.copy()
        for _ in range(int(task.key.fold(task.round).generator().geometric(self.p))):
            own -= step * (self._gradients(task, objective, block, rows, own) - control)
        end[:] = known
        return self._away(task, known, own)

    def on_delivered(
        self, task: Task, block: Block, memory: Memory, arrived: Vectors, delivered: NDArray[np.bool_]
    ) -> None:
        sent, template = self._rows(memory, "sent", block), self.template
        sent[:] = template is None
        if template is None:
            memory.add("end", arrived, -1.0)
            return
        memory.add("end", arrived, -1.0 / template.factor(block.n))
        places = template.coordinates(block.n, task.words)
        for row, mine in zip(sent, places, strict=True):
            row[mine[mine < block.n]] = True

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        w.subtract(exchange("local", w).vector)
        exchange.tell("learn", w)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.5, p=0.4),)


def _template(problem: Problem) -> PermK | None:
    """Return what shares out the coordinates; None if all send all. Raises ValueError for what does neither."""
    template, clients = problem.compressor, problem.clients
    if not isinstance(clients, (AllClients, SampledClients)):
        raise ValueError(f"TAMUNA takes all clients or SampledClients(k), found clients={clients!r}")
    present = clients.count if isinstance(clients, SampledClients) else problem.workers
    if problem.compressor.variance(problem.n) == 0 and not isinstance(template, PermK):
        return None
    if not isinstance(template, PermK) or template.workers != present or 1 == template.copies < present:
        raise ValueError(
            f"TAMUNA has every coordinate sent by two or more of the {present} workers that take part: take"
            f" qsim.PermK(workers={present}, copies={min(3, present)}), or qsim.Identity(); found {template!r}"
        )
    if np.ptp(problem.weights) and template.copies < present:
        raise ValueError(
            "TAMUNA takes the mean over those that send a coordinate, so workers must have equal weights: take equal"
            ' shards, or weighting="workers"'
        )
    return template


def _laws(problem: Problem) -> tuple[float, float]:
    """Return x and y of the docstring."""
    template, workers = problem.compressor, problem.workers
    copies = template.copies if isinstance(template, PermK) else round(problem.participation * workers)
    if workers == 1:
        return 1.0, 1.0
    return workers * (copies - 1) / (copies * (workers - 1)), (copies - 1) / (workers - 1)
