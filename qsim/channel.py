"""The wire: a compressor and a codec. The only place where vectors become bytes, and bytes vectors again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Memory, Packets, SharedSupport, Vectors
from qsim.batch.checks import require_message
from qsim.codecs import Auto, Codec, Dense, FixedWidth, GolombRice, SparseFloats
from qsim.compressors import Compressor, Identity
from qsim.options import is_shipped, option, shown
from qsim.program import NoProgram, Program


def default_codec(compressor: Compressor) -> Codec:
    """Return the codec that a compressor's messages go by when none is chosen.

    Numbers at all or at drawn coordinates go as they are, others with their coordinates; bits at all coordinates, such
    as signs, in fields of fixed width; few levels in Golomb-Rice code, which takes no more time than any other. All
    else, of which little is known, goes by whichever code is shortest, which takes the time to try them.
    """
    if compressor.emits is SharedSupport or (compressor.emits is Floats and compressor.dense):
        return Dense(compressor.dtype)
    if compressor.emits is Floats:
        return SparseFloats()
    if compressor.dense and not compressor.keeps_sparse:
        return FixedWidth()
    return GolombRice() if compressor.few_levels else Auto()


@option
class Channel:
    """Sends vectors as the messages of a compressor in the bytes of a codec.

    Without a codec, the compressor's usual one is taken (`default_codec`). A codec that carries floats, but not the
    compressor's kind of message, sends the *values* that the message stands for; any other mismatch is refused.

    >>> import qsim
    >>> channel = qsim.Channel(qsim.QSGD(levels=1))
    >>> keys = qsim.Key(0).words(0, 1)
    >>> header, packets = channel.pack(qsim.batch.Vectors.dense(np.float32([3, 0, -4])), keys)
    >>> packets.bits, channel.unpack(header, packets, keys).to_dense().tolist()
    (48, [[5.0, 0.0, -5.0]])

    Raises ValueError if the codec cannot carry what the compressor makes.
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
        """Return the stream header, and a packet for every row; keys[b] is the word of the key for row b."""
        message = self.compressor.compress(v, keys, memory)
        if not self._native:
            message = Floats.of(self.compressor.decompress(message, keys))
        header, packets = self._codec.header(message), self._codec.encode(message)
        if not is_shipped(self.codec):
            if not isinstance(header, bytes):
                raise TypeError(f"the header of {self.codec!r} must be bytes, found {shown(header)}")
            if not isinstance(packets, Packets) or len(packets) != message.rows:
                raise TypeError(
                    f"{self.codec!r} must encode {message.rows} rows as so many Packets, found {shown(packets)}"
                )
        return header, packets

    def unpack(self, header: bytes, packets: Packets, keys: NDArray[np.uint64]) -> Vectors:
        """Return the vectors that packets stand for, packed with the same keys.

        Raises DecodeError for bytes that `pack` cannot have made.
        """
        message = self._codec.decode(packets, header)
        if not is_shipped(self.codec):
            kind = self.compressor.emits if self._native else Floats
            require_message(f"what {self.codec!r} reads", message, kind, getattr(message, "n", 0), len(packets))
        return self.compressor.decompress(message, keys) if self._native else message.vectors()

    def plan(
        self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None
    ) -> tuple[Vectors, NDArray[np.int64]]:
        """Have a program pack and unpack what is in the arrays of `v`; return where it arrives, and packets' offsets.

        Raises NoProgram if the compressor or the codec has no calls for it.
        """
        if not self._native:
            raise NoProgram
        message, offsets = self._codec.plan(program, self.compressor.plan(program, v, keys, memory))
        return self.compressor.plan_decompress(program, message, keys), offsets

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


__all__ = ["Channel", "default_codec"]


def __dir__() -> list[str]:
    return __all__
