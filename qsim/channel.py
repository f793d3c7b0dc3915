"""The wire: a compressor and a codec. The only place where vectors become bytes, and bytes vectors again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Levels, Memory, Message, Packets, SharedSupport, Vectors, WithOutliers
from qsim.batch.checks import require_message
from qsim.batch.packets import PlannedPackets
from qsim.batch.planned import as_they_are, plan_by_python, plan_vectors, room_like, take
from qsim.codecs import Auto, Blockwise, Codec, Dense, FixedWidth, GolombRice, Outliers, SparseFloats
from qsim.compressors import Compressor, ErrorFeedback, Identity, NotFiniteError, PerLayer, ThreePCv2
from qsim.compressors.plans import with_own_plan
from qsim.options import is_shipped, option, shown
from qsim.program import NoProgram, Program, with_plan


def default_codec(compressor: Compressor) -> Codec:
    """Return the codec that carries the messages of a compressor unless another is chosen.

    Parameters
    ----------
    compressor : Compressor
        The compressor.

    Returns
    -------
    Codec
        `Dense` for numbers at all or at drawn coordinates, `FixedWidth` for bits at all coordinates such as signs,
        `GolombRice` for few levels, and otherwise, such as for a compressor of your own, `Auto`, which takes the time
        to try all codes. `Blockwise` of these for a message of blocks, and `Outliers` for one with outliers.

    Examples
    --------
    >>> import qsim
    >>> qsim.channel.default_codec(qsim.QSGD(levels=1))
    qsim.codecs.GolombRice()
    """
    if isinstance(compressor, PerLayer):
        return Blockwise(tuple(map(default_codec, compressor.compressors)))
    if isinstance(compressor, ThreePCv2):
        return Blockwise((default_codec(compressor.first), default_codec(compressor.second)))
    if compressor.emits is WithOutliers:
        return Outliers()
    if compressor.emits is SharedSupport or (compressor.emits is Floats and compressor.dense):
        return Dense(compressor.dtype)
    if compressor.emits is Floats:
        return SparseFloats()
    if compressor.dense and not compressor.keeps_sparse:
        return FixedWidth()
    return GolombRice() if compressor.few_levels else Auto()


def _require_float32(message: Message, error: ValueError) -> None:
    """Refuse floats beyond float32's range, which are why a codec refused a message: such a run diverges."""
    from qsim.kernels.vectors import first_above

    if isinstance(message, (Floats, SharedSupport)):
        place = first_above(message.value, float(np.finfo(np.float32).max))
        if place >= 0:
            row = int(np.searchsorted(message.offsets, place, side="right")) - 1
            raise NotFiniteError(f"{error} (in training, the usual cause is a step that is too large)", row) from None


@option
class Channel:
    """A compressor and a codec: vectors in, packets out, and back.

    Parameters
    ----------
    compressor : Compressor, default `qsim.Identity()`
        Makes messages of vectors.
    codec : Codec, optional
        Makes packets of messages; `default_codec(compressor)` by default. A codec that carries floats, but not the
        compressor's kind of message, sends the *values* that the message stands for; any other mismatch is refused.

    Raises
    ------
    TypeError
        If one of them is of another type.
    ValueError
        If the codec cannot carry what the compressor makes.

    Examples
    --------
    >>> import qsim
    >>> channel = qsim.Channel(qsim.QSGD(levels=1))
    >>> keys = qsim.Key(0).words(0, 1)
    >>> header, packets = channel.pack(qsim.batch.Vectors.dense(np.float32([3, 0, -4])), keys)
    >>> packets.bits, channel.unpack(header, packets, keys).to_dense().tolist()
    (48, [[5.0, 0.0, -5.0]])
    """

    compressor: Compressor = Identity()
    codec: Codec | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.compressor, Compressor):
            raise TypeError(f"compressor must be a Compressor such as qsim.QSGD(levels=4), found {self.compressor!r}")
        emits = self.compressor.emits
        if self.codec is None:
            object.__setattr__(self, "codec", default_codec(self.compressor))
        elif not isinstance(self.codec, Codec):
            raise TypeError(f"codec must be a Codec such as qsim.codecs.Varint(), found {self.codec!r}")
        elif not {emits, Floats} & set(self.codec.carries):
            kinds = " or ".join(kind.__name__ for kind in self.codec.carries)
            raise ValueError(
                f"{self.codec!r} carries {kinds} messages, but {self.compressor!r} makes {emits.__name__};"
                f" use {default_codec(self.compressor)!r}"
            )

    def pack(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> tuple[bytes, Packets]:
        """Compress and encode a batch.

        Parameters
        ----------
        v : Vectors
            The vectors, one row per worker.
        keys : ndarray of uint64, shape (rows,)
            The word of the key of each row.
        memory : Memory, optional
            The memory of the compressor, if it has one.

        Returns
        -------
        header : bytes
            The header of the stream.
        packets : Packets
            The packets, one for each row.

        Raises
        ------
        qsim.compressors.NotFiniteError
            For vectors that the compressor refuses, and messages in float64 that the codec has no float32 for.
        """
        return self._encoded(self._message(v, keys, memory))

    def _message(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None) -> Message:
        """Return the message of a batch, of a kind that the codec carries."""
        message = self.compressor.compress(v, keys, memory)
        return message if self._native else Floats.of(self.compressor.decompress(message, keys))

    def _encoded(self, message: Message) -> tuple[bytes, Packets]:
        """Return the header and the packets of a message."""
        try:
            header, packets = self._codec.header(message), self._codec.encode(message)
        except ValueError as error:
            _require_float32(message, error)
            raise
        if not is_shipped(self.codec):
            if not isinstance(header, bytes):
                raise TypeError(f"the header of {self.codec!r} must be bytes, found {shown(header)}")
            if not isinstance(packets, Packets) or len(packets) != message.rows:
                raise TypeError(
                    f"{self.codec!r} must encode {message.rows} rows as that many Packets, found {shown(packets)}"
                )
        return header, packets

    def unpack(self, header: bytes, packets: Packets, keys: NDArray[np.uint64]) -> Vectors:
        """Decode and decompress packets.

        Parameters
        ----------
        header : bytes
            The header of the stream.
        packets : Packets
            The packets.
        keys : ndarray of uint64, shape (rows,)
            The keys that they were packed with.

        Returns
        -------
        Vectors
            The vectors that the packets stand for, one row a packet.

        Raises
        ------
        qsim.codecs.DecodeError
            For bytes that `pack` cannot have made.
        """
        message = self._codec.decode(packets, header)
        if not is_shipped(self.codec):
            kind = self.compressor.emits if self._native else Floats
            require_message(f"what {self.codec!r} reads", message, kind, getattr(message, "n", 0), len(packets))
        return self._read(message, keys)

    def _read(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return the vectors that a message stands for which came through the codec."""
        return self.compressor.decompress(message, keys) if self._native else message.vectors()

    def plan(
        self,
        program: Program,
        v: Vectors,
        keys: NDArray[np.uint64],
        memory: Memory | None = None,
        check: Callable[[bytes], None] = lambda header: None,
    ) -> tuple[Vectors, NDArray[np.int64]]:
        """Have a program pack and unpack what is in the arrays of `v`; return where it arrives, and packets' offsets.

        Where the compressor or the codec has no calls for it, Python packs and unpacks, and checks the header. Raises
        NoProgram if there is a memory that a program does not know.
        """
        try:
            with program.all_or_nothing():
                arrived, packets = self._plan_by_kernels(program, v, keys, memory)
                return arrived, packets.offsets
        except NoProgram:
            return self._plan_by_python(program, v, keys, memory, check)

    def _plan_by_kernels(
        self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None
    ) -> tuple[Vectors, PlannedPackets]:
        """Have a program do what `plan` does by kernels alone; return where it arrives, and where the packets are.

        Raises NoProgram if compressor or codec have no calls for it.
        """
        if not self._native:
            raise NoProgram
        message = with_own_plan(self.compressor).plan(program, v, keys, memory)
        arrived, packets = with_plan(self._codec).plan(program, message)
        return self.compressor.plan_decompress(program, arrived, keys), packets

    def _plan_by_python(
        self,
        program: Program,
        v: Vectors,
        keys: NDArray[np.uint64],
        memory: Memory | None,
        check: Callable[[bytes], None],
    ) -> tuple[Vectors, NDArray[np.int64]]:
        """Have a program call what packs and reads."""
        channel = self
        if memory is not None:
            if type(self.compressor) is not ErrorFeedback:
                raise NoProgram
            v, channel = self.compressor.plan_total(program, v, memory), Channel(self.compressor.compressor, self.codec)
        offsets, line = np.zeros(v.rows + 1, np.int64), Line(channel)

        def exchange() -> Vectors:
            header, packets, arrived = line.pack(as_they_are(v), keys.copy())
            check(header)
            offsets[:] = packets.offsets
            return arrived

        return plan_by_python(program, v, exchange), offsets

    @property
    def dense(self) -> bool:
        """Whether a packet holds all n coordinates, however sparse the vector is."""
        return isinstance(self.codec, Dense)

    @property
    def sums_in_flight(self) -> bool:
        """Whether packets can be added number by number on their way, and their sum is no longer than each of them.

        So it is for floats of all coordinates, or of places that a key shared by all workers decides, of 32 bits or
        more. (Sums of `Sign` need more bits than signs do.)
        """
        drawn = self.compressor.emits is SharedSupport
        wide = isinstance(self.codec, Dense) and self.codec.dtype in ("float32", "float64")
        return wide and (self.compressor.summable if drawn else True)

    @property
    def _codec(self) -> Codec:
        assert self.codec is not None
        return self.codec

    @property
    def _native(self) -> bool:
        """Whether the codec carries the compressor's own messages, rather than the values they stand for."""
        return self.compressor.emits in self._codec.carries


EXACT = {dtype: Channel(Identity(), Dense(dtype)) for dtype in ("float32", "float64")}
"""Send vectors as they are, in one format or the other."""


class Line:
    """A channel whose ends are in one process: what is packed is read at once, by a program on arrays that stay.

    It is for batches that are alike: as many rows of one length, all dense or all sparse, with one memory. The first
    few go through the channel, and so does what a program refuses: the channel says why. Where the compressor has no
    calls of kernels, Python compresses, and the program is of the codec alone.
    """

    def __init__(self, channel: Channel, memory: Memory | None = None, most: int = 2**20) -> None:
        """Begin without programs. For batches of more than so many numbers there are none: their arrays are full."""
        self._channel, self._memory, self._most = channel, memory, most
        self._left, self._header = _BEFORE, b""
        self._whole: _Whole | None = None
        self._coding: _Coding | None = None

    def pack(self, v: Vectors, keys: NDArray[np.uint64]) -> tuple[bytes, Packets, Vectors]:
        """Return the header of the stream, the packets, and the vectors that these stand for."""
        channel = self._channel
        if self._whole is not None and (done := self._whole.pack(v, keys, self._memory)) is not None:
            return self._header, *done
        message = channel._message(v, keys, self._memory)
        if self._coding is not None and (done := self._coding.pack(message, keys)) is not None:
            return self._header, *done
        self._header, packets = channel._encoded(message)
        self._left -= 1
        if self._left == 0 and v.rows * v.n <= self._most:
            self._whole = _planned(lambda: _Whole(channel, v, self._memory))
            self._coding = None if self._whole else _planned(lambda: _Coding(channel, message))
        return self._header, packets, channel.unpack(self._header, packets, keys)


class _Whole:
    """A program that compresses, encodes, decodes and decompresses batches like one."""

    def __init__(self, channel: Channel, like: Vectors, memory: Memory | None) -> None:
        """Plan it. Raises NoProgram."""
        from qsim.kernels.rounds import unsound_offsets
        from qsim.kernels.vectors import first_unordered, first_wrong_row

        if like.value.dtype != np.float32:
            raise NoProgram
        room = like.rows * like.n
        program, self._v, self._keys = Program(), room_like(like), np.empty(like.rows, np.uint64)
        program.call(unsound_offsets, self._v.offsets, room, stop="not zero")
        if self._v.index is None:
            program.call(first_wrong_row, self._v.offsets, like.n, stop="not negative")
        else:
            program.call(first_unordered, self._v.offsets, self._v.index, like.n, stop="not negative")
        own = None if memory is None else Memory(memory.support, memory.arrays)
        self._arrived, self._packets = channel._plan_by_kernels(program, self._v, self._keys, own)
        self._program, self._pending = program, {} if own is None else own.planned

    def pack(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None) -> tuple[Packets, Vectors] | None:
        """Return packets and what they stand for; None for what the program does not take."""
        self._keys[:] = keys
        if not (take(v, self._v) and self._program.run(1)):
            return None
        if memory is not None:
            memory.pending.update(self._pending)
        return self._packets.as_they_are(), as_they_are(self._arrived)


class _Coding:
    """A program that encodes, decodes and reads messages like one; compressors with their own way read in Python."""

    def __init__(self, channel: Channel, like: Message) -> None:
        """Plan it. Raises NoProgram."""
        if not isinstance(like, (Floats, Levels, SharedSupport)):
            raise NoProgram
        self._channel, self._program, self._message = channel, Program(), room_like(like)
        self._arrived, self._packets = with_plan(channel._codec).plan(self._program, self._message)
        self._vectors: Vectors | None = None
        if not channel._native or type(channel.compressor).decompress is Compressor.decompress:
            self._vectors = _planned(lambda: plan_vectors(self._program, self._arrived))

    def pack(self, message: Message, keys: NDArray[np.uint64]) -> tuple[Packets, Vectors] | None:
        """Return packets and what they stand for; None for what the program does not take."""
        if not (take(message, self._message) and self._program.run(1)):  # of floats that are zero, as none is sent
            return None
        packets = self._packets.as_they_are()
        if self._vectors is not None:
            return packets, as_they_are(self._vectors)
        return packets, self._channel._read(as_they_are(self._arrived), keys)


_Planned = TypeVar("_Planned")


def _planned(make: Callable[[], _Planned]) -> _Planned | None:
    """Return what is made, or None if there is no program for it."""
    try:
        return make()
    except NoProgram:
        return None


_BEFORE = 16  # batches that are through by the time that a program is made

__all__ = ["Channel", "default_codec"]


def __dir__() -> list[str]:
    return __all__
