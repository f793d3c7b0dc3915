"""The wire: a compressor and a codec. The only place where vectors become bytes, and bytes vectors again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Floats, Memory, Packets, SharedSupport, Vectors, WithOutliers
from qsim.batch.checks import require_message
from qsim.batch.planned import as_they_are, plan_by_python
from qsim.codecs import Auto, Blockwise, Codec, Dense, FixedWidth, GolombRice, Outliers, SparseFloats
from qsim.compressors import Compressor, ErrorFeedback, Identity, PerLayer, ThreePCv2
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
            For vectors that the compressor refuses.
        """
        message = self.compressor.compress(v, keys, memory)
        if not self._native:
            message = Floats.of(self.compressor.decompress(message, keys))
        header, packets = self._codec.header(message), self._codec.encode(message)
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
                if not self._native:
                    raise NoProgram
                message = with_own_plan(self.compressor).plan(program, v, keys, memory)
                arrived, offsets = with_plan(self._codec).plan(program, message)
                return self.compressor.plan_decompress(program, arrived, keys), offsets
        except NoProgram:
            return self._plan_by_python(program, v, keys, memory, check)

    def _plan_by_python(
        self,
        program: Program,
        v: Vectors,
        keys: NDArray[np.uint64],
        memory: Memory | None,
        check: Callable[[bytes], None],
    ) -> tuple[Vectors, NDArray[np.int64]]:
        """Have a program call `pack` and `unpack`."""
        channel = self
        if memory is not None:
            if type(self.compressor) is not ErrorFeedback:
                raise NoProgram
            v, channel = self.compressor.plan_total(program, v, memory), Channel(self.compressor.compressor, self.codec)
        offsets = np.zeros(v.rows + 1, np.int64)

        def exchange() -> Vectors:
            words = keys.copy()
            header, packets = channel.pack(as_they_are(v), words)
            check(header)
            offsets[:] = packets.offsets
            return channel.unpack(header, packets, words)

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


__all__ = ["Channel", "default_codec"]


def __dir__() -> list[str]:
    return __all__
