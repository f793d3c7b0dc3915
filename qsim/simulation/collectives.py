"""Collectives: how the workers' messages become one sum: who is summed, weighted how, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Vectors, index_type
from qsim.channel import Channel
from qsim.keys import Key
from qsim.workers.tasks import Reply


@dataclass(frozen=True)
class Received:
    """The weighted sum of the decoded messages (one float64 row), and what came over the wire for it.

    The weights of those that are summed are scaled to sum 1; `share` is what they summed to before, 1 if all are.
    """

    vector: Vectors
    share: float
    nonzeros: int
    bits: int
    """8 times the bytes of the packets; stream headers not included."""
    header: bytes
    rows: int
    """The number of rows that the workers read for it."""
    scores: NDArray[np.float64] | None = None
    """For progressive validation: how many rows were scored, and the sums of their losses and errors."""


class ParameterServer:
    """Decodes every packet and adds weight times vector in float64, in the order of the workers."""

    def __init__(self, n: int, weights: NDArray[np.float64]) -> None:
        """Sum vectors of length n of as many workers as there are weights."""
        self._n, self._weights = n, weights
        self._total = np.zeros(n)
        self._marks = np.zeros(-(-n // 64), np.uint64)

    def reduce(
        self,
        replies: Iterable[Reply],
        channel: Channel,
        key: Callable[[], Key],
        participants: NDArray[np.bool_] | None = None,
        in_time: NDArray[np.bool_] | None = None,
    ) -> Received:
        """Sum what the workers sent, worker i with `key().fold(i)`. The result is sparse if all messages were.

        participants: which workers take part; None: all of them. in_time: whose messages are summed, of those; None:
            all. What is not summed counts as sent. If no message arrives, the sum is zero, and so is the share.
        """
        from qsim.kernels.vectors import add_rows

        summed = participants if in_time is None else in_time
        if summed is not None and summed.all():  # weights of all sum to 1 but for a rounding
            summed = None
        share = 1.0 if summed is None else float(self._weights[summed].sum())
        weight = self._weights if summed is None or not share else self._weights / share
        entries = nonzeros = bits = rows = low = 0
        dense, header = False, b""
        scores: list[NDArray[np.float64]] = []
        for reply in replies:
            assert reply.low == low or (participants is not None and reply.low > low), (
                "replies come in order of the workers"
            )
            low = reply.low + len(reply.packets)
            vectors = reply.vectors
            if vectors is None:
                vectors = channel.unpack(reply.header, reply.packets, key().words(reply.low, low))
            if vectors.n != self._n:
                raise ValueError(f"workers sent vectors of length {vectors.n}, expected {self._n}")
            nonzeros += vectors.nonzeros
            bits += reply.packets.bits
            rows += reply.rows
            if reply.scores is not None:
                scores.append(reply.scores)
            if header and reply.header != header:
                raise ValueError(
                    f"workers from {reply.low} on send with the header {reply.header.hex(' ')}, those before with"
                    f" {header.hex(' ')}: all messages of an exchange must be of one n, s, bucket and fixed scale"
                )
            header = reply.header
            dense = dense or vectors.index is None
            of_rows = weight[reply.low : low]
            if in_time is not None and not in_time[reply.low : low].all():
                kept = np.flatnonzero(in_time[reply.low : low])
                vectors, of_rows = vectors.take(kept), of_rows[kept]
            add_rows(vectors.offsets, vectors.index, vectors.value, of_rows, self._total, self._marks)
            entries += vectors.value.size
        vector = self._take_dense() if dense else self._take_sparse(entries)
        scored = np.concatenate(scores).sum(axis=0) if scores else None
        return Received(vector, share, nonzeros, bits, header, rows, scored)

    def _take_dense(self) -> Vectors:
        total, self._total = self._total, np.zeros(self._n)
        self._marks[:] = 0
        return Vectors.dense(total)

    def _take_sparse(self, most: int) -> Vectors:
        from qsim.kernels.vectors import take_marked

        most = min(most, self._n)
        index, value = np.empty(most, index_type(self._n)), np.empty(most)
        taken = take_marked(self._total, self._marks, index, value)
        return Vectors(self._n, np.array([0, taken]), index[:taken], value[:taken])
