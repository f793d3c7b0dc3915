"""Base of the codecs of non-zeros: messages as entries, and packets as some floats and the bits of the entries."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Levels, Message, Packets, Signs, index_type
from qsim.batch.packets import PlannedPackets, SoundPackets
from qsim.codecs.base import MOST_FIXED, Codec, DecodeError, Stream, TooLongError, read_header
from qsim.kernels import decode_status
from qsim.program import NoProgram, Program

REASONS = {
    decode_status.TRUNCATED: "the packet ends inside an entry",
    decode_status.OVERLONG: "a number takes more bytes than it needs, or more than 64 bits",
    decode_status.PAST_N: "a gap leads past the last coordinate",
    decode_status.PAST_LEVELS: "a level is larger than s",
    decode_status.NOT_FINITE: "a value is infinite or not a number",
    decode_status.UNFILLED: "bits or bytes behind the last coordinate are not what fills the last byte",
    decode_status.EMPTY: "a body without an entry; such a packet ends behind its prefix",
    decode_status.ZERO: "a value is zero, and would not have been sent",
    decode_status.BAD_TABLE: "a table of frequencies is none",
    decode_status.NO_SYMBOL: "a state stands for no symbol of its table",
    decode_status.NO_ZERO: "no level is zero, and yet there is a value for it; such a row is shorter",
    decode_status.LEFT_OVER: "a state is outside its interval, or something is left behind the last entry",
}
"""The reasons that the kernels give for refusing a packet, in words."""


@dataclass(frozen=True, eq=False)
class Entries:
    """A message as the kernels take it: the floats of the prefix, then for every non-zero a coordinate and a word.

    The word is the signed level (from 1 to s or -s to -1), 1 or -1 for signs, and for floats, where s = 0, the bits of
    the float32, or, in 64 bits, of the float64.
    """

    stream: Stream
    offsets: NDArray[np.int64]
    index: NDArray[Any]
    word: NDArray[Any]
    prefix: NDArray[np.float32]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.offsets.size - 1

    @property
    def s(self) -> int:
        """The largest level; 1 for signs; 0 for floats."""
        return 1 if self.stream.kind is Signs else self.stream.s

    @classmethod
    def of(cls, message: Message, double: bool = False) -> Entries:
        """Take a message apart. The values of floats are rounded to float32, unless `double`, and zeros left out."""
        stream, rows = Stream.of(message), message.rows
        if isinstance(message, Levels):
            prefix = message.scale.reshape(rows, stream.scales)[:, : stream.floats]
            return cls(stream, message.offsets, message.index, message.level, prefix)
        if isinstance(message, Signs):
            word = np.where(message.positive, np.int32(1), np.int32(-1))
            prefix = np.stack([message.low, message.high], axis=1)
            return cls(stream, message.offsets, message.coordinates(), word, prefix)
        assert isinstance(message, Floats)
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            value = message.value.astype(np.float64 if double else np.float32, copy=False)
        kept = np.flatnonzero(value)
        index: NDArray[Any] = kept % message.n if message.index is None else message.index[kept]
        return cls(
            stream,
            np.searchsorted(kept, message.offsets),
            index.astype(index_type(message.n), copy=False),
            value[kept].view(np.int64 if double else np.int32),
            np.empty((rows, 0), np.float32),
        )

    @classmethod
    def planned(cls, message: Message) -> Self:
        """Return where the entries of a message will be, whose numbers are in its arrays later. It has no zeros."""
        stream = Stream.of(message)
        if isinstance(message, Levels):
            prefix = message.scale.reshape(message.rows, stream.scales)[:, : stream.floats]
            return cls(stream, message.offsets, message.index, message.level, np.ascontiguousarray(prefix))
        if isinstance(message, Floats) and message.index is not None and message.value.dtype == np.float32:
            word = message.value.view(np.int32)
            return cls(stream, message.offsets, message.index, word, np.empty((message.rows, 0), np.float32))
        raise NoProgram

    def wrong_prefix(self) -> tuple[int, str] | None:
        """Return the first row whose floats cannot be, and what is wrong; None if all are right."""
        from qsim.kernels.prefix import ZERO_SCALE, wrong_prefix

        levels, stream = self.stream.kind is Levels, self.stream
        if stream.scale == 0.0 and self.index.size:
            return int(np.argmax(np.diff(self.offsets) > 0)), _WRONG[ZERO_SCALE]
        row, wrong = wrong_prefix(self.prefix, self.offsets, self.index, levels, stream.bucket or stream.n)
        return None if row < 0 else (row, _WRONG[wrong])

    def message(self) -> Message:
        """Put the message together."""
        n, kind = self.stream.n, self.stream.kind
        if kind is Levels:
            fixed, scale = self.stream.scale, self.prefix.reshape(-1)
            if fixed is not None:
                scale = np.full(self.rows * self.stream.scales, fixed, np.float32)
            level = self.word.astype(np.int32, copy=False)
            return Levels(n, self.offsets, self.index, level, scale, self.s, self.stream.bucket, fixed)
        if kind is Signs:
            low, high = np.ascontiguousarray(self.prefix.T)
            return Signs(n, self.offsets, self.index, self.word > 0, low, high)
        floats = np.float64 if self.word.dtype == np.int64 else np.float32
        return Floats(n, self.offsets, self.index, self.word.view(floats))


_WRONG = (
    "",
    "holds a scale that is negative, infinite or not a number",
    "holds a scale of zero, but levels of it",
    "holds a mean that is infinite or not a number",
)


class EntryCodec(Codec):
    """A codec of non-zeros: every packet is its floats, then a body that the subclass's kernels write and read.

    A subclass says in `_most_entries` how many entries packets can hold, which bounds what they make us reserve.
    """

    carries: ClassVar[tuple[type[Message], ...]] = (Levels, Signs, Floats)

    @property
    def _double(self) -> bool:
        """Whether floats have 64 bits on the wire."""
        return False

    @abstractmethod
    def _kernels(self, s: int) -> tuple[Any, Any, Any]:
        """Return the kernels (encode, sizes, decode) for levels up to s, or (s = 0) for floats.

        Those of all codecs have the same signatures:

        - encode(offsets, index, words, n, s, skip, out_offsets, data) writes the packets one behind the other, leaving
          `skip` bytes free at the start of each; returns the bytes used, or -1 - row for a row that is no message;
        - sizes(offsets, index, words, n, s, out) writes the bytes of each row's body; -1 for a row that is no message;
        - decode(data, offsets, skip, n, s, out_offsets, index, words) reads the bodies, which begin `skip` bytes into
          each packet: (reason, row, byte of the packet).
        """

    def _require_fits(self, n: int, s: int, error: type[ValueError] = TooLongError) -> None:
        """Refuse vectors too long, or levels too many, for the code."""
        if n > decode_status.LARGEST:
            raise error(f"{self!r} carries vectors of up to 2^48 coordinates, found n = {n}; use qsim.codecs.Varint()")

    @abstractmethod
    def _most_bytes(self, entries: Entries) -> int:
        """Return how many bytes the bodies of all rows take at most."""

    def _most_entries(self, packets: Packets, skip: int, n: int, s: int) -> int:
        """Return how many entries packets whose bodies begin `skip` bytes into them can hold in all."""
        bits = 8 * (packets.offsets[1:] - packets.offsets[:-1] - skip)
        return int(np.minimum(bits // self._least_bits(s), n).sum())

    def _least_bits(self, s: int) -> int:
        """Return how many bits an entry takes at least."""
        return 1

    def encode(self, message: Message) -> Packets:
        from qsim.kernels.prefix import put_prefixes

        entries = self._entries(message)
        skip = 4 * entries.stream.floats
        data = np.empty(skip * entries.rows + self._most_bytes(entries) + SLACK, np.uint8)
        offsets = np.empty(entries.rows + 1, np.int64)
        e, encode = entries, self._kernels(entries.s)[0]
        used: int = encode(e.offsets, e.index, e.word, e.stream.n, e.s, skip, offsets, data)
        if used < 0:
            _refuse(entries, -1 - used)
        if skip:
            prefixes = np.ascontiguousarray(entries.prefix, "<f4")
            put_prefixes(prefixes.view(np.uint8), offsets, data)
        return Packets(data[:used], offsets)

    def size(self, message: Message) -> NDArray[np.int64]:
        entries = self._entries(message)
        e, sizes = entries, np.empty(entries.rows, np.int64)
        self._kernels(e.s)[1](e.offsets, e.index, e.word, e.stream.n, e.s, sizes)
        if (sizes < 0).any():
            _refuse(entries, int(np.argmax(sizes < 0)))
        return 8 * (sizes + 4 * entries.stream.floats)

    def decode(self, packets: Packets, header: bytes) -> Message:
        from qsim.kernels.prefix import first_short, take_prefixes

        stream = read_header(header, self)
        s, skip = 1 if stream.kind is Signs else stream.s, 4 * stream.floats
        if not len(packets):
            skip = min(skip, 8)  # without packets nothing bounds it
        short = first_short(packets.offsets, min(skip, 2**62))
        if short >= 0:
            raise DecodeError(f" ends inside the {stream.floats} floats that it begins with", short)
        self._require_fits(stream.n, s, DecodeError)
        packets = _with_slack(packets)
        prefixes = np.empty((len(packets), skip), np.uint8)
        take_prefixes(packets.data, packets.offsets, prefixes)
        prefix = prefixes.view("<f4").astype(np.float32, copy=False)
        most = self._most_entries(packets, skip, stream.n, s)
        index, word = np.empty(most, index_type(stream.n)), np.empty(most, np.int64 if self._double else np.int32)
        offsets = np.empty(len(packets) + 1, np.int64)
        read = self._kernels(s)[2]
        reason, row, at = read(packets.data, packets.offsets, skip, stream.n, s, offsets, index, word)
        if reason != decode_status.FINE:
            where = f"(n = {stream.n}, s = {s})" if s else f"(n = {stream.n})"
            raise DecodeError(f", byte {at}: {REASONS[reason]} {where}", row)
        entries = Entries(stream, offsets, index[: offsets[-1]], word[: offsets[-1]], prefix)
        wrong = entries.wrong_prefix()
        if wrong is not None:
            raise DecodeError(f" {wrong[1]}", wrong[0])
        return entries.message()

    def plan(self, program: Program, message: Message) -> tuple[Message, PlannedPackets]:
        from qsim.kernels.prefix import put_prefixes, take_prefixes, wrong_prefix
        from qsim.kernels.rounds import clear_behind

        sent = Entries.planned(message)
        stream, rows, n, s = sent.stream, sent.rows, sent.stream.n, sent.s
        self._require_fits(n, s)
        skip, (encode, _, decode) = 4 * stream.floats, self._kernels(s)
        most = skip * rows + self._most_bytes(replace(sent, offsets=np.arange(rows + 1)))  # no row without entries
        data, ends = np.zeros(most + SLACK, np.uint8), np.zeros(rows + 1, np.int64)
        program.call(encode, sent.offsets, sent.index, sent.word, n, s, skip, ends, data, stop="negative")
        came = replace(
            sent,
            offsets=np.zeros(rows + 1, np.int64),
            index=np.empty_like(sent.index),
            word=np.empty_like(sent.word),
            prefix=np.empty_like(sent.prefix),
        )
        if skip:
            program.call(put_prefixes, sent.prefix.view(np.uint8), ends, data)
            program.call(take_prefixes, data, ends, came.prefix.view(np.uint8))
        program.call(clear_behind, ends, SLACK, data)
        program.call(decode, data, ends, skip, n, s, came.offsets, came.index, came.word, stop="not zero")
        levels, bucket = stream.kind is Levels, stream.bucket or n
        program.call(wrong_prefix, came.prefix, came.offsets, came.index, levels, bucket, stop="not negative")
        return came.message(), PlannedPackets(data, ends)

    def _entries(self, message: Message) -> Entries:
        self.require(message)
        if isinstance(message, Levels) and message.fixed is not None:
            _require_fixed(message)
        entries = Entries.of(message, self._double)
        wrong = entries.wrong_prefix()
        if wrong is not None:
            raise ValueError(f"row {wrong[0]} of the message {wrong[1]}")
        self._require_fits(entries.stream.n, entries.s)
        return entries


def _require_fixed(message: Levels) -> None:
    """Refuse levels whose scales are not the one that the header would say, or too many for it."""
    fixed = np.float32(message.fixed)
    other = np.flatnonzero(message.scale != fixed)
    if other.size or not 0 <= fixed < np.inf:
        scale, row = (message.scale[other[0]], other[0] // message.scales) if other.size else (fixed, 0)
        raise ValueError(f"row {row} of the message has a scale of {scale}, and a fixed scale of {message.fixed}")
    if message.scales > MOST_FIXED:
        raise TooLongError(f"{message.scales} buckets are too many for a fixed scale, which 2^28 may have")


SLACK = 32
"""Bytes that kernels may write, and read, behind the last packet."""


def _with_slack(packets: Packets) -> Packets:
    """Return a copy of packets with zeros behind the last, which a kernel may read; no one else sees them."""
    return SoundPackets(np.concatenate([packets.data, np.zeros(SLACK, np.uint8)]), packets.offsets)


def _refuse(entries: Entries, row: int) -> NoReturn:
    """Say why a row is no message."""
    text = f"row {row} is no message: its coordinates must rise and stay below n = {entries.stream.n}"
    if entries.stream.kind is Levels:
        text += f", its levels be from 1 to s = {entries.s} or from -{entries.s} to -1"
    if entries.stream.kind is Floats:
        text += f", its values be finite as {'float64' if entries.word.dtype == np.int64 else 'float32'}"
    raise ValueError(text)
