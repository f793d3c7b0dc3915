"""The compressor contract."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Memory, Message, Support, Vectors, index_type
from qsim.batch.planned import plan_vectors
from qsim.compressors.doors import UnsoundMessageError as UnsoundMessageError
from qsim.compressors.doors import at_the_door, one_vector, read_at_the_door, vector_at_the_door
from qsim.compressors.plans import planned_at_the_door
from qsim.keys import Key, of_word, require_key
from qsim.program import NoProgram, Program

INFINITE = np.int32(0x7F800000)
"""The bits of float32's infinity. Bits of magnitudes compare as the magnitudes do, and those of NaN come last."""


class NotFiniteError(ValueError):
    """Raised if a vector to be compressed holds NaN or infinity, or is too large for float32.

    Parameters
    ----------
    text : str
        The message.
    row : int, optional
        The row of the batch that was refused; an attribute of the exception, too.
    """

    def __init__(self, text: str, row: int | None = None) -> None:
        super().__init__(text)
        self.row = row


class Compressor:
    """Base class of compressors, which turn vectors into messages.

    A compressor :math:`Q` may be random, but is a pure function of (vector, key). A compressor of your own sets
    `emits`, the kind of message that it makes, and overrides `quantize`, in plain NumPy, or `compress`, which takes a
    whole batch in one call. Each of the two is defined by the other; the shipped compressors override `compress`.

    Notes
    -----
    The default `compress` makes every row dense, at :math:`O(n)` per row.

    Override `variance` or `contraction` to certify the error, and `exact_variance` and `expected_nonzeros` where closed
    forms are known. A compressor with a memory also overrides `memory` and `on_delivered`.

    Examples
    --------
    >>> import numpy as np, qsim
    >>> @qsim.option
    ... class Ternary(qsim.compressors.Compressor):
    ...     emits = qsim.batch.Levels
    ...     def quantize(self, v, key):
    ...         scale = np.abs(v).max()
    ...         keep = key.generator().random(v.size) * scale < np.abs(v)
    ...         return qsim.batch.Levels.single(np.sign(v) * keep, scale=scale, s=1)
    >>> Ternary().quantize(np.array([0.0, -2.0]), qsim.Key(0)).vectors().to_dense()
    array([[ 0., -2.]], dtype=float32)
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Have what goes into and comes out of a compressor checked, also where users write their own."""
        super().__init_subclass__(**options)
        doors: dict[str, Callable[..., Any]] = {"compress": at_the_door, "decompress": read_at_the_door}
        doors |= dict.fromkeys(("expected_nonzeros", "exact_variance"), vector_at_the_door)
        if cls.__module__.partition(".")[0] != "qsim":
            doors["plan"] = planned_at_the_door
        for name, door in doors.items():
            if name in vars(cls):
                setattr(cls, name, door(vars(cls)[name]))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Return instances with usual parameters, which are checked with every shipped compressor; none by default."""
        return ()

    @property
    def asymptotic(self) -> bool:
        """Whether the certificate holds as n grows only."""
        return False

    @property
    def summable(self) -> bool:
        """Whether messages can be summed in flight: added number by number, without decoding them.

        The promise, for the messages m_1, ..., m_W of vectors of one length, made with one key and carried by the usual
        codec: m_1.plus(m_2)... is a message that this codec carries too, with as many numbers, and what it decodes to
        is the sum of what m_1, ..., m_W decode to, but for the rounding of sums in float32. Levels may grow, to W s.

        So messages must be linear in numbers at places that the key alone decides: all n (`Identity`, `Sign`, whose
        scale is always 1), or drawn ones (`RandK(k, "drawn")`). Not so the others: coordinates that depend on the
        vector, levels of a norm of its own (`Levels.plus` adds them for a shared one), means, powers of two, sums that
        16 bits do not hold, and a dither that would be subtracted once for W messages.
        """
        return False

    @property
    def correlated(self) -> int | None:
        """The number of workers whose messages are correlated, as they draw together; None: each draws for itself.

        The keys of such workers are numbered (`Key.numbered`): a word holds the random stream that all have in common,
        and the number of the worker. A run must have as many workers. By any other word, too, a message alone must keep
        what `variance` and the like say.
        """
        return None

    @property
    def dense(self) -> bool:
        """Whether messages hold a number for nearly every coordinate, so that positions are not worth sending."""
        return False

    @property
    def few_levels(self) -> bool:
        """Whether there are so few levels that those that are not zero are mostly 1 or 2.

        Golomb-Rice code is near the shortest then, and messages go by it unless another is chosen (`Channel`). False
        also where that is not known.
        """
        return False

    @property
    def keeps_sparse(self) -> bool:
        """Whether what is zero stays zero, so that a sparse vector makes a sparse message at its cost."""
        return True

    @property
    def ignores_zeros(self) -> bool:
        """Whether zeros in a vector change nothing: certificates for m hold for all with at most m non-zeros."""
        return False

    @property
    def dtype(self) -> Literal["float32", "float16", "bfloat16"]:
        """The format in which `Dense` holds the floats of its messages without loss."""
        return "float32"

    @property
    def emits(self) -> type[Message]:
        """The kind of message that `quantize` and `compress` return; a class sets it by `emits = qsim.batch.Levels`."""
        raise TypeError(
            f"{type(self).__name__} must say what it makes: emits = qsim.batch.Levels, or emits = qsim.batch.Floats"
        )

    def quantize(self, v: ArrayLike, key: Key) -> Message:
        """Compress one vector.

        Parameters
        ----------
        v : array-like of shape (n,)
            The vector, taken as float32.
        key : Key
            The random stream: the same vector and key give the same message.

        Returns
        -------
        Message
            A message of one row, of the kind `emits`.
        """
        if type(self).compress is Compressor.compress:  # each is defined by the other
            raise TypeError(
                f"{type(self).__name__} must define quantize(self, v, key), or compress(self, v, keys, memory)"
            )
        require_key(key)
        return self.compress(as_float32(Vectors.dense(one_vector("quantize", v))), np.array([key.word], np.uint64))

    @at_the_door
    def compress(self, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        """Compress a batch of vectors, one row per worker.

        Parameters
        ----------
        v : Vectors
            The vectors, in float32; in float64 where workers compute in it.
        keys : ndarray of uint64, shape (rows,)
            The word of the key of each row.
        memory : Memory, optional
            What `memory` returned for the same workers; None for a compressor without a memory. It may be changed in
            place.

        Returns
        -------
        Message
            A message of as many rows, of the kind `emits`.

        Raises
        ------
        NotFiniteError
            If a row holds NaN or infinity, or is too large for float32.
        """
        require_finite(v)
        return self.emits.join([self._row(b, v, of_word(int(word))) for b, word in enumerate(keys.view(np.uint64))])

    @read_at_the_door
    def decompress(self, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Return the vectors that a message stands for.

        Parameters
        ----------
        message : Message
            The message.
        keys : ndarray of uint64, shape (rows,)
            The words of the keys that the message was made with, which the receiver knows.

        Returns
        -------
        Vectors
            The vectors, in float32; in float64 where the message holds numbers in it.
        """
        return message.vectors()

    def plan(self, program: Program, v: Vectors, keys: NDArray[np.uint64], memory: Memory | None = None) -> Message:
        """Have a program compress what is in the arrays of `v`, as `compress` does; return where the message is.

        Calls that find what `compress` refuses end the program. Raises NoProgram if there are no calls for it.
        """
        raise NoProgram

    def plan_decompress(self, program: Program, message: Message, keys: NDArray[np.uint64]) -> Vectors:
        """Have a program do what `decompress` does; return where."""
        if type(self).decompress is not Compressor.decompress:
            raise NoProgram
        return plan_vectors(program, message)

    def plan_on_delivered(self, program: Program, memory: Memory, sent: Vectors) -> None:
        """Have a program do what `on_delivered` does."""
        raise NoProgram

    def contraction(self, n: int) -> float | None:
        """Return the contraction constant delta of the compressor, for vectors of length n.

        Parameters
        ----------
        n : int
            The length of the vectors.

        Returns
        -------
        float or None
            delta in (0, 1] with E ||Q(v) - v||^2 <= (1 - delta) ||v||^2 for all v of length n, biased or not; None if
            none is known.
        """
        return None

    def variance(self, n: int) -> float | None:
        """Return the variance constant omega of an unbiased compressor, for vectors of length n.

        Parameters
        ----------
        n : int
            The length of the vectors.

        Returns
        -------
        float or None
            omega >= 0 with E Q(v) = v and E ||Q(v) - v||^2 <= omega ||v||^2 for all v of length n; None if none is
            known.
        """
        return None

    def bias_and_variance(self, n: int) -> tuple[float, float] | None:
        """Return the constants eta and omega of a compressor with a bias and a variance, for vectors of length n.

        Parameters
        ----------
        n : int
            The length of the vectors.

        Returns
        -------
        (float, float) or None
            eta and omega with ||E Q(v) - v|| <= eta ||v|| and E ||Q(v) - E Q(v)||^2 <= omega ||v||^2 for all v of
            length n. By default what follows from `variance`, or from `contraction`; None if none is known.
        """
        if (omega := self.variance(n)) is not None:
            return 0.0, omega
        delta = self.contraction(n)
        return None if delta is None else (sqrt(1 - delta), 1 - delta)

    def three_point(self, n: int) -> tuple[float, float] | None:
        r"""Return the constants A and B of a three-point compressor, for vectors of length n.

        Such a compressor is for the differences :math:`v = x - h` of `EF21` alone: of a gradient :math:`x` to its shift
        :math:`h`, of which its memory knows what the last message has left, :math:`y - h` for the gradient :math:`y` of
        the round before.

        Parameters
        ----------
        n : int
            The length of the vectors.

        Returns
        -------
        (float, float) or None
            :math:`A` in (0, 1] and :math:`B \ge 0` with :math:`E \|Q(x - h) - (x - h)\|^2 \le (1 - A) \|y - h\|^2 + B
            \|x - y\|^2` for all :math:`x`, :math:`y` and :math:`h`. None: it is no three-point compressor.
        """
        return None

    def joint_variance(self, n: int) -> tuple[float, float] | None:
        """Return the constants A and B of the messages of `correlated` workers, for vectors of length n.

        Parameters
        ----------
        n : int
            The length of the vectors.

        Returns
        -------
        (float, float) or None
            A >= 0 and B from 0 to 1 with E ||mean of (Q_i(v_i) - v_i)||^2 <= A mean of ||v_i||^2 - B ||mean of v_i||^2
            for all v_1, ..., v_W, if Q_i(t v) = t Q_i(v) for t >= 0. None: the errors are at most those of workers that
            draw for themselves, A = omega/W and B = 0.
        """
        return None

    @vector_at_the_door
    def expected_nonzeros(self, v: ArrayLike) -> float | None:
        """Return the expected number of non-zeros of Q(v), in exact arithmetic.

        Parameters
        ----------
        v : array-like of shape (n,)
            The vector.

        Returns
        -------
        float or None
            E nnz Q(v); None if no closed form is known.
        """
        return None

    @vector_at_the_door
    def exact_variance(self, v: ArrayLike) -> float | None:
        """Return the expected squared error of Q(v), in exact arithmetic.

        Parameters
        ----------
        v : array-like of shape (n,)
            The vector.

        Returns
        -------
        float or None
            E ||Q(v) - v||^2; None if no closed form is known.
        """
        return None

    def memory(self, support: Support) -> Memory | None:
        """Return what the workers of a block keep between rounds, as it is before the first round.

        Parameters
        ----------
        support : Support
            The coordinates that each worker's vectors can fill.

        Returns
        -------
        Memory or None
            The memory, one row per worker; None for a compressor without one.
        """
        return None

    def on_delivered(self, memory: Memory, sent: Vectors) -> None:
        """Update the memory, given what was delivered of the vectors last compressed.

        Parameters
        ----------
        memory : Memory
            The memory, to be changed in place.
        sent : Vectors
            What the server decoded from the packets, one row per worker.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has a memory, so it must define on_delivered(self, memory, sent)"
        )

    def _row(self, row: int, v: Vectors, key: Key) -> Message:
        """Compress one row, made dense, with the user's `quantize`; an error tells which row it was."""
        try:
            message = self.quantize(v.row(row), key)
            if not isinstance(message, self.emits) or message.rows != 1 or message.n != v.n:
                found = repr(message)
                if isinstance(message, Message):
                    rows = "one row" if message.rows == 1 else f"{message.rows} rows"
                    found = f"{type(message).__name__} of {rows} of length {message.n}"
                raise ValueError(
                    f"quantize of {self!r} must return {self.emits.__name__} of one row of length {v.n}, found {found}"
                )
            return message
        except Exception as error:
            error.row = row  # type: ignore[attr-defined]
            raise


def require_compressor(name: str, value: object, why: str, together: bool = False) -> None:
    """Refuse what is no compressor to build on, and one that keeps a memory, which would never be made; `why` says so.

    together: whether workers may draw together, whose numbered words must be handed on as they are.

    Raises TypeError, and ValueError for the latter.
    """
    if not isinstance(value, Compressor):
        raise TypeError(f"{name} must be a Compressor such as qsim.QSGD(levels=4), found {value!r}")
    if type(value).memory is not Compressor.memory:
        if value.three_point(1) is not None:
            why = "a three-point compressor goes around others, so build on those inside"
        raise ValueError(f"{name} must have no memory, found {value!r}: {why}")
    if value.correlated is not None and not together:
        raise ValueError(
            f"{name} must draw for every worker alone, found {value!r}, whose workers draw together: use it as it is"
        )


def as_float32(v: Vectors) -> Vectors:
    """Return a batch with its values as float32; what overflows becomes infinite, to be refused."""
    if v.value.dtype == np.float32:
        return v
    with np.errstate(over="ignore"):
        return Vectors(v.n, v.offsets, v.index, v.value.astype(np.float32))


def empty_entries(
    v: Vectors, most: int, dtype: type[np.float32] | type[np.int32]
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Make the arrays of a message of the rows of v for a kernel to fill: offsets, and for `most` entries two more.

    These are the coordinates, and the levels or values.
    """
    return np.empty(v.rows + 1, np.int64), np.empty(most, index_type(v.n)), np.empty(most, dtype)


def require_finite(v: Vectors) -> None:
    """Refuse a batch with a NaN or an infinity, naming the first."""
    from qsim.kernels.vectors import first_not_finite

    place = first_not_finite(v.value)
    if place >= 0:
        row = int(np.searchsorted(v.offsets, place, side="right")) - 1
        coordinate = place - int(v.offsets[row]) if v.index is None else int(v.index[place])
        raise NotFiniteError(
            f"row {row} of the batch holds {v.value[place]} at coordinate {coordinate}: only finite float32 numbers"
            " can be compressed (in training, the usual cause is a step that is too large)",
            row,
        )


def require_finite_floats(v: Vectors) -> None:
    """As `require_finite`, faster for float32."""
    from qsim.kernels.select import first_at_least

    if first_at_least(v.value, INFINITE) >= 0:
        require_finite(v)
