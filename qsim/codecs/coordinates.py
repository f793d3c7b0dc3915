"""Base of the codecs that spend bits on every coordinate."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Packets
from qsim.codecs.base import DecodeError
from qsim.codecs.entries import Call, Entries, EntryCodec, require_short


class CoordinateCodec(EntryCodec):
    """A codec whose bodies have bits for every coordinate: n of them at least, or none in a row without entries.

    A subclass names its kernels, which have one signature, and says how many bits they take at most.
    """

    @abstractmethod
    def _kernels(self, s: int) -> tuple[Any, Any, Any]:
        """Return the kernels (encode, sizes, decode) for levels up to s, or (s = 0) for floats."""

    @abstractmethod
    def _most_bits(self, s: int) -> tuple[int, int]:
        """Return how many bits a coordinate takes, and how many more an entry takes at most."""

    def _most_bytes(self, entries: Entries) -> int:
        require_short(self, entries.stream.n)
        coordinate, entry = self._most_bits(entries.s)
        rows = int(np.count_nonzero(np.diff(entries.offsets)))
        return (rows * entries.stream.n * coordinate + entries.index.size * entry) // 8 + 2 * rows

    def _write(
        self, call: Call, entries: Entries, skip: int, offsets: NDArray[np.int64], data: NDArray[np.uint8]
    ) -> Any:
        e, s = entries, entries.s
        return call(self._kernels(s)[0], e.offsets, e.index, e.word, e.stream.n, s, skip, offsets, data)

    def _sizes(self, entries: Entries) -> NDArray[np.int64]:
        require_short(self, entries.stream.n)
        e, s, out = entries, entries.s, np.empty(entries.rows, np.int64)
        self._kernels(s)[1](e.offsets, e.index, e.word, e.stream.n, s, out)
        return out

    def _read(
        self,
        call: Call,
        packets: Packets,
        skip: int,
        n: int,
        s: int,
        offsets: NDArray[np.int64],
        index: NDArray[Any],
        word: NDArray[np.int32],
    ) -> Any:
        require_short(self, n, DecodeError)
        return call(self._kernels(s)[2], packets.data, packets.offsets, skip, n, s, offsets, index, word)
