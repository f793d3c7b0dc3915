"""Downlinks that send weights: all of them, or compressed differences."""

from __future__ import annotations

from typing import Literal, final

import numpy as np

from qsim.batch import Arrays, Vectors
from qsim.channel import Channel
from qsim.codecs import Codec
from qsim.compressors import Compressor
from qsim.downlinks.base import Broadcast, Sent
from qsim.downlinks.sums import require_contraction
from qsim.downlinks.wire import through
from qsim.keys import Key
from qsim.options import one_of, option
from qsim.plan import Plan
from qsim.program import NoProgram
from qsim.weights import PlannedReplica, Replica, Weights


@final
@option
class DenseWeights(Broadcast):
    """All weights to every worker, every round: the usual parameter server.

    Each worker receives :math:`32 n` (or :math:`64 n`) bits.

    Parameters
    ----------
    dtype : {"float32", "float64"}, default "float32"
        The format of a weight. With "float64" workers compute in it, too, and keep their memories in it.

    Raises
    ------
    ValueError
        For another dtype.

    Notes
    -----
    Weights that a worker already holds are not sent again: those of an earlier exchange, if the method has not changed
    them since.

    In float64 first-order methods come to gradient norms of 1e-14 and below, where float32 stops near 1e-8
    (`docs/methods.md`, under Precision). Messages keep their format: of methods that send differences 32 bits each are
    enough. Exact gradients, as of `MARINA`, are then sent as float64. Such rounds are not planned. `LocalSGD` takes
    the steps of logistic regression in float32.

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.DenseWeights(dtype="float64")
    qsim.downlinks.DenseWeights(dtype='float64')
    """

    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float32", "float64"))

    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        known, sent = through(self.dtype, w.dense())
        return Replica(known), sent

    def plan_weights(self, plan: Plan) -> PlannedReplica:
        if self.dtype == "float64":
            raise NoProgram
        plan.sent_down(plan.weights.vector.size * 32)
        return plan.rounded_weights()


@final
@option
class CompressedWeights(Broadcast):
    r"""Compressed differences of the weights, with error feedback on the server.

    The server sends :math:`C(w - v)`, and both ends add it to :math:`v`, the weights that are known and at which the
    workers compute. What :math:`C` leaves out stays in the difference :math:`w - v` and is sent later: this is the
    error memory of the server.

    Parameters
    ----------
    compressor : Compressor
        The compressor :math:`C`, a contraction.
    codec : Codec, optional
        The codec of its messages; the compressor's usual one by default.

    Raises
    ------
    ValueError
        For a compressor that is no contraction or has a memory, and for a codec that cannot carry its messages.

    Notes
    -----
    `known` starts at the start of the run (a function of the seed, known to all), or at the weights themselves if an
    exact exchange has just sent them. Every worker receives every message, also those that sit out a round. A
    contraction keeps `known` near the weights; an unbiased :math:`C` with :math:`\omega \geq 1` does not: wrap it in
    `Scaled`. The server needs :math:`O(n)` time per round.

    References
    ----------
    .. [1] E.g. Gruntkowska, Tyurin, Richtarik, "EF21-P and friends", ICML 2023 (EF21-P, the primal error feedback).
    .. [2] Tang et al., "DoubleSqueeze", ICML 2019.

    Examples
    --------
    >>> import qsim
    >>> qsim.downlinks.CompressedWeights(qsim.compressors.TopK(10)).codec is None
    True
    """

    compressor: Compressor
    codec: Codec | None = None

    to_all = True

    def __post_init__(self) -> None:
        require_contraction(self.compressor, self.codec, "CompressedWeights")

    def start(self, w: Weights) -> Arrays:
        return {"known": w.dense()}

    def weights(self, w: Weights, state: Arrays, key: Key) -> tuple[Replica, Sent]:
        channel, known = Channel(self.compressor, self.codec), state["known"]
        header, packets = channel.pack(Vectors.dense(w.dense() - known), key.words(0, 1))
        channel.unpack(header, packets, key.words(0, 1)).add_to(known)
        return Replica(known.astype(np.float32)), Sent(packets.bits, 8 * len(header))

    def plan_weights(self, plan: Plan) -> PlannedReplica:
        from qsim.kernels.rounds import add_row, copy, difference

        call, weights, known = plan.program.call, plan.weights, plan.shared["known"]
        less, ahead, keys = Vectors.dense(np.empty(known.size, np.float32)), np.empty_like(known), plan.key_down()
        call(difference, weights.scale, weights.vector, known, less.value)
        received, packets = Channel(self.compressor, self.codec).plan(plan.program, less, keys)
        call(copy, known, ahead)
        call(add_row, received.offsets, received.index, received.value, 1.0, ahead)
        plan.at_the_end(copy, ahead, known)
        plan.sent_down(packets)
        return PlannedReplica(ahead)
