"""The codec contract, and the stream header."""

from __future__ import annotations

import math
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Levels, Message, Packets, SharedSupport, Signs
from qsim.batch.packets import PlannedPackets
from qsim.program import NoProgram, Program

VERSION = 1
"""The format's version, the first byte of every stream header."""

KINDS: dict[type[Message], tuple[str, ...]] = {
    Floats: ("n",),
    Levels: ("n", "s", "bucket"),
    Signs: ("n",),
    SharedSupport: ("n", "k"),
}
"""The kinds of messages, and what the stream header says of them; it holds the place of its kind in this order."""
_FIXED = len(KINDS)
"""The number that it holds instead for levels of a fixed scale, which follows as a float32."""


MOST_FIXED = 2**28
"""The most buckets whose scale may be in the header: no packet's length bounds the room that they take."""


class DecodeError(ValueError):
    """Raised for bytes that no encoder can have written.

    The message says which packet it is, where in it, and what is wrong.

    Parameters
    ----------
    text : str
        The message, without the packet.
    row : int, optional
        The number of the packet in its batch; an attribute of the exception, too.
    """

    def __init__(self, text: str, row: int | None = None) -> None:
        super().__init__(text if row is None else f"packet {row}{text}")
        self.text, self.row = text, row


class TooLongError(ValueError):
    """A good message, but of longer vectors, or with more levels, than the codec can write."""


class Codec(ABC):
    """Base class of codecs, which turn messages into packets and back without loss.

    `decode(encode(m), header(m)) == m`, and all bytes are consumed. What never changes in a stream (version, codec,
    kind of message, :math:`n`, and for levels :math:`s`, the bucket and a fixed scale) is in its header, which is sent,
    and counted, once; a packet holds only what varies.

    Attributes
    ----------
    carries : tuple of type
        The kinds of messages that `encode` takes; a class sets it.

    Notes
    -----
    The ends of packets are known from the transport, and not counted. The format is in docs/wire-format.md.
    """

    carries: ClassVar[tuple[type[Message], ...]]

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Return instances with usual parameters, which are checked with every shipped codec; none by default."""
        return ()

    @property
    @abstractmethod
    def number(self) -> int:
        """The number of the codec in the stream header, from 0 to 255."""

    @abstractmethod
    def encode(self, message: Message) -> Packets:
        """Write every row of a message as a packet.

        Parameters
        ----------
        message : Message
            The message, of a kind that the codec carries.

        Returns
        -------
        Packets
            The packets, one for each row.

        Raises
        ------
        ValueError
            If the message is not valid, or not of a kind that the codec carries.
        """

    @abstractmethod
    def decode(self, packets: Packets, header: bytes) -> Message:
        """Read packets of a stream.

        Parameters
        ----------
        packets : Packets
            The packets, one for each row.
        header : bytes
            The header of the stream.

        Returns
        -------
        Message
            The message that was encoded.

        Raises
        ------
        DecodeError
            For bytes that `encode` cannot have written.
        """

    @abstractmethod
    def size(self, message: Message) -> NDArray[np.int64]:
        """Return the size of the packet of every row, without writing it.

        Parameters
        ----------
        message : Message
            The message.

        Returns
        -------
        ndarray of int64, shape (rows,)
            Bits of each packet.
        """

    def plan(self, program: Program, message: Message) -> tuple[Message, PlannedPackets]:
        """Have a program encode a message, and decode the packets; return where it then is, and where they are.

        Raises NoProgram if there are no calls for it.
        """
        raise NoProgram

    def header(self, message: Message) -> bytes:
        """Return the stream header for messages like this one.

        Parameters
        ----------
        message : Message
            The message.

        Returns
        -------
        bytes
            The header.
        """
        self.require(message)
        stream = Stream.of(message)
        kind, end = list(KINDS).index(stream.kind), b""
        if stream.scale is not None:
            kind, end = _FIXED, struct.pack("<f", stream.scale)
        numbers = [leb128(getattr(stream, name)) for name in KINDS[stream.kind]]
        return bytes((VERSION, self.number, kind)) + b"".join(numbers) + end

    def require(self, message: Message) -> None:
        """Refuse a message that the codec cannot carry.

        Parameters
        ----------
        message : Message
            The message.

        Raises
        ------
        ValueError
            If it is of another kind than `carries`.
        """
        if not isinstance(message, self.carries):
            kinds = " or ".join(kind.__name__ for kind in self.carries)
            raise ValueError(f"{self!r} carries {kinds} messages, found {type(message).__name__}")


@dataclass(frozen=True)
class Stream:
    """A stream header: the kind of its messages, n, s and the bucket (0: none) of levels, k of drawn ones.

    scale: the one that all levels have; None: scales are in the packets.
    """

    kind: type[Message]
    n: int
    s: int = 0
    bucket: int = 0
    k: int = 0
    scale: float | None = None

    @classmethod
    def of(cls, message: Message) -> Stream:
        """Return what the header of messages like this one says."""
        numbers = {name: getattr(message, name) for name in KINDS[type(message)]}
        return cls(type(message), **numbers, scale=message.fixed if isinstance(message, Levels) else None)

    @property
    def scales(self) -> int:
        """The number of scales of a message, wherever they are sent."""
        return -(-self.n // self.bucket) if self.bucket else 1

    @property
    def floats(self) -> int:
        """The number of float32 that a packet begins with: scales that vary, or the low and the high of signs."""
        if self.kind is Levels:
            return self.scales if self.scale is None else 0
        return 2 if self.kind is Signs else 0


@lru_cache(maxsize=256)
def read_header(header: bytes, codec: Codec) -> Stream:
    """Return what a stream header of this codec says, or raise DecodeError."""
    if len(header) < 4:
        raise DecodeError(f"a stream header has at least 4 bytes, found {len(header)}")
    if header[0] != VERSION:
        raise DecodeError(f"the stream has format version {header[0]}; this release reads version {VERSION}")
    if header[1] != codec.number:
        raise DecodeError(f"the stream was written by codec {header[1]}, not by {codec!r} (codec {codec.number})")
    kind = [*KINDS, Levels][header[2]] if header[2] <= _FIXED else None
    if kind is None or kind not in codec.carries:
        raise DecodeError(f"the stream holds messages of kind {header[2]}, which {codec!r} does not carry")
    numbers, at = {}, 3
    for name in KINDS[kind]:
        numbers[name], at = read_leb128(header, at, name)
    scale = None
    if header[2] == _FIXED:
        if len(header) < at + 4:
            raise DecodeError("the stream header ends inside the scale")
        (scale,) = struct.unpack_from("<f", header, at)
        at += 4
        if not 0 <= scale < math.inf or math.copysign(1, scale) < 0:
            raise DecodeError(f"the stream header holds a scale of {scale}, which is negative or no number")
    if at != len(header):
        raise DecodeError(f"the stream header has {len(header) - at} bytes behind its end")
    stream = Stream(kind, **numbers, scale=scale)
    if scale is not None and stream.scales > MOST_FIXED:
        raise DecodeError(f"the stream header holds {stream.scales} scales that are not sent; 2^28 may be")
    if stream.k > stream.n:
        raise DecodeError(f"the stream header holds k = {stream.k}, more than n = {stream.n}")
    if stream.n == 0 or (kind is Levels and stream.s == 0):
        raise DecodeError("the stream header holds n or s = 0")
    if stream.s >= 2**31:
        raise DecodeError(f"the stream header holds s = {stream.s}; levels are below 2^31")
    return stream


def leb128(number: int) -> bytes:
    """Return a whole number as LEB128: seven bits per byte, low bits first, the high bit set while more follow."""
    head = bytearray()
    while number > 127:
        head.append(number & 127 | 128)
        number >>= 7
    return bytes([*head, number])


def read_leb128(header: bytes, at: int, name: str) -> tuple[int, int]:
    """Return the number that begins at a place of a stream header, and where it ends; or raise DecodeError."""
    number, shift = 0, 0
    while True:
        if at == len(header) or shift > 56:
            raise DecodeError(f"the stream header ends inside {name}, or {name} is 2^63 or more")
        byte = header[at]
        at, number, shift = at + 1, number | (byte & 127) << shift, shift + 7
        if byte < 128:
            if byte == 0 and shift > 7:
                raise DecodeError(f"the stream header writes {name} in more bytes than it needs")
            return number, at
