"""Gaps and levels in Elias codes."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Packets
from qsim.codecs.entries import Entries, EntryCodec
from qsim.options import one_of, option

_CODES = ("gamma", "delta", "omega")


@final
@option
class Elias(EntryCodec):
    """The QSGD code: for every non-zero the Elias code word of its gap, its sign, and that of its level (if s > 1).

    >>> import qsim
    >>> message = qsim.batch.Levels.single([0, 0, -1, 2], scale=1.0, s=2)
    >>> qsim.codecs.Elias("gamma").encode(message)[0].hex()
    '0000803f75 00'

    Source: Alistarh et al., "QSGD", NeurIPS 2017, appendix A.2; Elias, "Universal codeword sets", 1975.
    """

    code: Literal["gamma", "delta", "omega"] = "omega"

    def __post_init__(self) -> None:
        one_of("code", self.code, _CODES)

    @property
    def number(self) -> int:
        return 7 + self._code

    @property
    def _code(self) -> int:
        return _CODES.index(self.code)

    def _most_bytes(self, entries: Entries) -> int:
        return entries.index.size * 20 + entries.rows

    def _write(self, entries: Entries, skip: int, offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> int:
        from qsim.kernels.bitcodes import KERNELS

        e, s = entries, entries.s
        return KERNELS[self._code][min(s, 2)][0](e.offsets, e.index, e.word, e.stream.n, e.s, _NONE, skip, offsets, data)

    def _sizes(self, entries: Entries) -> NDArray[np.int64]:
        from qsim.kernels.bitcodes import KERNELS

        e, s, out = entries, entries.s, np.empty(entries.rows, np.int64)
        KERNELS[self._code][min(s, 2)][1](e.offsets, e.index, e.word, e.stream.n, e.s, _NONE, out)
        return out

    def _least_bits(self, s: int) -> int:
        return (33, 2, 3)[min(s, 2)]

    def _read(
        self,
        packets: Packets,
        skip: int,
        n: int,
        s: int,
        offsets: NDArray[np.int64],
        index: NDArray[Any],
        word: NDArray[np.int32],
    ) -> tuple[int, int, int]:
        from qsim.kernels.bitcodes import KERNELS

        return KERNELS[self._code][min(s, 2)][2](packets.data, packets.offsets, skip, n, s, 64 if s==0 else 2*s.bit_length(), offsets, index, word)


_NONE = np.zeros(0, np.uint8)
