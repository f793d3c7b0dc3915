"""The codec contract, and the stream header."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar

from qsim.batch import Message, Packets

VERSION = 0
"""The format's version, the first byte of every stream header. 0 is a draft: it may change with any release."""


class DecodeError(ValueError):
    """Bytes that no encoder wrote. The text says which packet, where in it, and what is wrong."""


class Codec(ABC):
    """Turns messages into packets and back: `decode(encode(m), header(m)) == m`, all bytes consumed.

    What never changes in a stream (version, codec, n, and s for levels) is in its header, which is sent, and counted,
    once; a packet holds only what varies. The ends of packets are known from the transport, and not counted.
    """

    carries: ClassVar[tuple[type[Message], ...]]
    """The kinds of messages that `encode` takes."""

    @abstractmethod
    def header(self, message: Message) -> bytes:
        """Return the stream header for messages like this one."""

    @abstractmethod
    def encode(self, message: Message) -> Packets:
        """Write every row as a packet."""

    @abstractmethod
    def decode(self, packets: Packets, header: bytes) -> Message:
        """Read packets of a stream; raises DecodeError for bytes that `encode` cannot have written."""


def write_header(codec: int, *numbers: int) -> bytes:
    """Return a stream header: the version, the codec's number, then n (and s) as LEB128."""
    return bytes((VERSION, codec)) + b"".join(map(_leb128, numbers))


@lru_cache(maxsize=256)
def read_header(header: bytes, codec: int, names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the numbers of a stream header, or raise DecodeError."""
    if len(header) < 2:
        raise DecodeError(f"a stream header has at least 2 bytes, found {len(header)}")
    if header[0] != VERSION:
        raise DecodeError(f"the stream has format version {header[0]}; this release reads version {VERSION}")
    if header[1] != codec:
        raise DecodeError(f"the stream was written by codec {header[1]}, not by codec {codec}")
    numbers, at = [], 2
    for name in names:
        number, shift = 0, 0
        while True:
            if at == len(header) or shift > 56:
                raise DecodeError(f"the stream header ends inside {name}, or {name} is 2^63 or more")
            byte = header[at]
            at, number, shift = at + 1, number | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        if number == 0 or (byte == 0 and shift > 7):
            raise DecodeError(f"the stream header holds {name} = {number}, or writes it in more bytes than it needs")
        numbers.append(number)
    if at != len(header):
        raise DecodeError(f"the stream header has {len(header) - at} bytes behind its end")
    return tuple(numbers)


def _leb128(number: int) -> bytes:
    head = bytearray()
    while number > 127:
        head.append(number & 127 | 128)
        number >>= 7
    return bytes([*head, number])
