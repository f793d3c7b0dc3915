"""Downlinks whose workers keep the weights themselves: what they need is the sum."""

from __future__ import annotations

from typing import final

import numpy as np

from qsim.batch import Arrays, Floats, Vectors, index_type
from qsim.channel import Channel
from qsim.codecs import SparseFloats
from qsim.compressors import Identity, Sign
from qsim.compressors.signs import TIE
from qsim.downlinks.base import Broadcast, Sent
from qsim.downlinks.wire import unpacked
from qsim.keys import Key
from qsim.options import option
from qsim.plan import Plan
from qsim.weights import PlannedReplica, Replica, Weights


@final
@option
class SparseSum(Broadcast):
    """The weighted sum of the decoded messages, its non-zeros as float32.

    Each worker applies the sum to its own copy of the weights, which are never sent. The server applies the same
    rounded sum, so that all copies stay equal; the start is known to all (it is a function of the seed).

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.SparseSum()
    qsim.downlinks.SparseSum()
    """

    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        return w.replica(), Sent()

    def aggregate(self, total: Vectors, state: Arrays, key: Key) -> tuple[Vectors, Sent]:
        received, sent = unpacked(Channel(Identity(), SparseFloats()), total)
        return Vectors(received.n, received.offsets, received.index, received.value.astype(np.float64)), sent

    def plan_weights(self, plan: Plan) -> PlannedReplica:
        return plan.own_weights()

    def plan_sum(self, plan: Plan, total: Vectors) -> Vectors:
        from qsim.kernels.rounds import round_nonzeros, widen

        size = total.value.size
        index, value = np.empty(size, index_type(total.n)), np.empty(size, np.float32)
        kept = Floats(total.n, np.zeros(2, np.int64), index, value)
        row = total.offsets, total.index, total.value
        plan.program.call(round_nonzeros, *row, kept.offsets, index, value, stop="not zero")
        message, packets = SparseFloats().plan(plan.program, kept)
        assert isinstance(message, Floats)
        plan.sent_down(packets)
        applied = Vectors(total.n, message.offsets, message.index, np.empty(size))
        plan.program.call(widen, message.offsets, message.value, applied.value)
        return applied


@final
@option
class SignSum(Broadcast):
    """The signs of the weighted sum, a bit a coordinate, for `qsim.methods.SignSGD`.

    Each worker applies the signs, +1 for zero, to its own copy of the weights; as with `SparseSum` weights are never
    sent.

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.SignSum()
    qsim.downlinks.SignSum()
    """

    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        return w.replica(), Sent()

    def aggregate(self, total: Vectors, state: Arrays, key: Key) -> tuple[Vectors, Sent]:
        votes = total.to_dense()
        received, sent = unpacked(Channel(Sign()), Vectors.dense(np.where(np.abs(votes) > TIE, votes, 0.0)))
        return Vectors.dense(received.to_dense().astype(np.float64)), sent


@final
@option
class Replicated(Broadcast):
    """No server: every worker gets the sum by an all-reduce or an all-gather, and keeps the weights itself.

    Nothing is sent down, neither weights nor vectors beside them: every worker computes them. What the collective sends
    is in `bits_up`. For a `qsim.Network` whose topology has no server, and only for that.

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.Replicated().replicated
    True
    """

    replicated = True

    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        return w.replica(), Sent()
