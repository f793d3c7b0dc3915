"""Base of the codecs that spend bits on every coordinate."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from qsim.codecs.entries import Entries, EntryCodec


class CoordinateCodec(EntryCodec):
    """A codec whose bodies have bits for every coordinate: n of them at least, or none in a row without entries.

    A subclass says how many bits its kernels take at most.
    """

    @abstractmethod
    def _most_bits(self, s: int) -> tuple[int, int]:
        """Return how many bits a coordinate takes, and how many more an entry takes at most."""

    def _most_bytes(self, entries: Entries) -> int:
        coordinate, entry = self._most_bits(entries.s)
        rows = int(np.count_nonzero(np.diff(entries.offsets)))
        return (rows * entries.stream.n * coordinate + entries.index.size * entry) // 8 + 2 * rows
