"""Downlinks whose workers keep the weights themselves: what they need is the sum."""

from __future__ import annotations

from typing import final

import numpy as np

from qsim.batch import Arrays, Floats, Vectors, index_type
from qsim.channel import Channel
from qsim.codecs import Codec, SparseFloats
from qsim.compressors import Compressor, Identity, Sign
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
        plan.sent_down(packets.offsets)
        applied = Vectors(total.n, message.offsets, message.index, np.empty(size))
        plan.program.call(widen, message.offsets, message.value, applied.value)
        return applied


@final
@option
class CompressedSum(Broadcast):
    r"""Compressed sums, with what is left out kept for later (EF21-BC).

    The server sends :math:`C(e + u)`, with :math:`u` the sum, and keeps :math:`e \leftarrow e + u - C(e + u)`; both
    ends apply what is sent to their own copies of the weights. With `EF21` this is EF21 in both directions: what is
    applied adds up to the server's shift :math:`g`, with :math:`g \leftarrow g + C(h - g)`, :math:`h` the mean of the
    workers'.

    Parameters
    ----------
    compressor : Compressor
        The compressor :math:`C`, a contraction.
    codec : Codec, optional
        The codec of its messages; the compressor's usual one by default.

    Raises
    ------
    ValueError
        For a compressor that is no contraction or has a memory, for a codec that cannot carry its messages, and in a
        run by a method that does not add up what comes: `FedNL`, `MARINA`, `SignSGD`, `LBFGS`, `NewtonCG`.

    Notes
    -----
    The steps and bounds of `EF21` know of it; those of other methods do not, and no bound is given. The server needs
    :math:`O(n)` time per round.

    References
    ----------
    .. [1] Fatkhullin et al., "EF21 with bells and whistles", JMLR 2025 (EF21-BC).
    .. [2] Tang et al., "DoubleSqueeze", ICML 2019 (of updates).

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.CompressedSum(qsim.TopK(10)).codec is None
    True
    """

    compressor: Compressor
    codec: Codec | None = None

    def __post_init__(self) -> None:
        require_contraction(self.compressor, self.codec, "CompressedSum")

    def start(self, w: Weights) -> Arrays:
        return {"left": np.zeros(w.vector.size)}

    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        return w.replica(), Sent()

    def aggregate(self, total: Vectors, state: Arrays, key: Key) -> tuple[Vectors, Sent]:
        channel, left, keys = Channel(self.compressor, self.codec), state["left"], key.words(0, 1)
        total.add_to(left)
        header, packets = channel.pack(Vectors.dense(left), keys)
        sent = channel.unpack(header, packets, keys)
        sent = Vectors(sent.n, sent.offsets, sent.index, sent.value.astype(np.float64))
        sent.add_to(left, -1.0)
        return sent, Sent(packets.bits, 8 * len(header))


def require_contraction(compressor: Compressor, codec: Codec | None, name: str) -> None:
    """Raise ValueError for a compressor of a downlink with a memory that is no contraction or has one of its own."""
    Channel(compressor, codec)  # refuses what does not fit
    if compressor.contraction(1) is None:
        raise ValueError(
            f"{name} needs a contraction, found {compressor!r}; an unbiased compressor becomes one as qsim.Scaled(...)"
        )
    if compressor.correlated is not None:
        raise ValueError(f"what comes down is one message, and {compressor!r} is for several: take TopK or RandK")
    if type(compressor).memory is not Compressor.memory:
        raise ValueError(f"the server's difference is its memory already: take {compressor!r} without one")


@final
@option
class SignSum(Broadcast):
    """The signs of the weighted sum, a bit per coordinate, for `qsim.methods.SignSGD`.

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
