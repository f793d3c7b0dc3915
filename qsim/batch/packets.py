"""Packets: the bytes of messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qsim.batch.vectors import taken


@dataclass(frozen=True, eq=False)
class Packets:
    """The bytes of messages, one packet a row.

    Parameters
    ----------
    data : ndarray of uint8, shape (bytes,)
        All bytes.
    offsets : ndarray of int64, shape (packets + 1,)
        Packet b is data[offsets[b]], ..., data[offsets[b + 1] - 1].

    Raises
    ------
    ValueError
        For offsets that do not rise from 0 to the number of bytes.

    Examples
    --------
    >>> packets = Packets.of(b"ab", b"", b"c")
    >>> packets.bits, packets[0]
    (24, b'ab')
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        for array, dtype in ((self.data, np.uint8), (self.offsets, np.int64)):
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
                raise ValueError(f"packets are an array of uint8 and their offsets one of int64, found {array!r}")
        ends = self.offsets
        if not ends.size or ends[0] != 0 or ends[-1] != self.data.size or (ends[1:] < ends[:-1]).any():
            raise ValueError(
                f"the offsets of packets must rise from 0 to the number of bytes, {self.data.size}, found"
                f" {np.array2string(ends, threshold=8)}"
            )

    @property
    def bits(self) -> int:
        """8 times the bytes of all packets."""
        return 8 * int(self.offsets[-1] - self.offsets[0])

    @classmethod
    def of(cls, *packets: bytes) -> Self:
        """Return a batch of packets.

        Parameters
        ----------
        *packets : bytes
            The bytes of each.

        Returns
        -------
        Packets
            The batch.
        """
        offsets = np.cumsum([0, *map(len, packets)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(packets), np.uint8), offsets)

    def take(self, rows: NDArray[np.int64]) -> Packets:
        """Return these packets, in this order."""
        offsets, places = taken(self.offsets, rows)
        return Packets(self.data[places], offsets)

    def __getitem__(self, row: int) -> bytes:
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def __len__(self) -> int:
        return self.offsets.size - 1


class SoundPackets(Packets):
    """Packets whose offsets are not looked at: kernels made them."""

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True, eq=False)
class PlannedPackets:
    """Packets in programs: arrays that stay, whose bytes are there when it comes to them."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    def as_they_are(self) -> Packets:
        """Return a copy of the packets that are in the arrays."""
        return SoundPackets(self.data[: self.offsets[-1]].copy(), self.offsets.copy())
