"""A single worker that sends one row's quantized update a round: many rounds at once, in one kernel."""

from __future__ import annotations

from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.channel import Channel
from qsim.clients import AllClients
from qsim.codecs import GolombRice, Varint
from qsim.compressors import QSGD
from qsim.datasets import Shards
from qsim.downlinks import DenseWeights
from qsim.keys import Key, Purpose
from qsim.methods import SGD, Method, Passes, WithReplacement
from qsim.objectives import LogisticRegression
from qsim.simulation.run import Run
from qsim.stopping import GradientNorm, Suboptimality
from qsim.weights import Weights


class Solo:
    """Does rounds of plain SGD on logistic regression for one worker: QSGD, Golomb-Rice code or varints, dense weights.

    The same to the last bit as the exchange does, packets and all, without coming back to Python for each round: a
    round is a few microseconds of work. Streams must have sent their headers.
    """

    @classmethod
    def of(cls, run: Run, method: Method, channel: Channel, shards: Shards, key: Key) -> Solo | None:
        """Return what does the rounds of a run, whose method is resolved; None if they need more than it can."""
        able = (
            shards.workers == 1
            and type(run.objective) is LogisticRegression
            and type(method) is SGD
            and method.batch == 1
            and method.momentum is None
            and type(method.sampling) in (WithReplacement, Passes)
            and type(channel.compressor) is QSGD
            and channel.compressor.norm in ("l2", "max")
            and type(channel.codec) in (GolombRice, Varint)
            and type(run.downlink) is DenseWeights
            and type(run.clients) is AllClients
            and run.network is None
            and type(run.until) in (NoneType, GradientNorm, Suboptimality)  # which look at evaluated rounds only
        )
        return cls(run.objective, method, channel, run.downlink, shards, key) if able else None

    def __init__(self, objective: Any, method: Any, channel: Channel, downlink: Any, shards: Shards, key: Key) -> None:
        """Take what `of` has looked at."""
        data = shards.dataset
        self._step, self._l2, self._order = method.step, objective.l2, shards.order
        self._rows: tuple[Any, Any, Any, Any] = (
            data.indptr,
            data.indices.view(f"u{data.indices.itemsize}"),
            data.values,
            data.labels,
        )
        in_passes = type(method.sampling) is Passes
        self._passes: tuple[Any, Any] = np.empty(data.rows if in_passes else 0, np.int64), np.full(1, -1, np.int64)
        self._words: tuple[Any, ...] = tuple(
            np.uint64(key.fold(purpose).word) for purpose in (Purpose.DATA, Purpose.QUANTIZE)
        )
        self._quantizer: Any = channel.compressor
        self._rice = type(channel.codec) is GolombRice
        self._scratch = np.empty(int(np.diff(data.indptr).max(initial=1)), data.indices.dtype)
        self._bits_down = data.features * (32 if downlink.dtype == "float32" else 64)

    def rounds(self, w: Weights, first: int, end: int) -> NDArray[np.int64] | None:
        """Do rounds `first` to `end` - 1 on w, or fewer: none that fails, so that the exchange can say why it does.

        Returns what was counted in each, as rows: non-zeros, bits up, bits down, rows read; None if none was done.
        """
        from qsim.kernels import solo

        steps = np.array([self._step(t) for t in range(first, end)], np.float64)
        counted = np.empty((steps.size, 4), np.int64)
        counted[:, 2:] = self._bits_down, 1
        kernel: Any = solo.qsgd_rounds
        done, w.scale = kernel(
            *self._rows,
            self._order,
            *self._passes,
            *self._words,
            first,
            steps,
            self._l2,
            self._quantizer.levels,
            self._quantizer.norm == "max",
            self._rice,
            self._scratch,
            w.vector,
            w.scale,
            counted,
        )
        return counted[:done] if done else None
