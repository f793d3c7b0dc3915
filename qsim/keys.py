"""Keys: counter-based randomness, a pure function of (seed, purpose, round, exchange, worker, coordinate).

A key is a 64-bit word, mixed from a seed. `fold` mixes further parts into it, one after the other, so that
`key.fold(a, b) == key.fold(a).fold(b)`, and two keys that differ in seed or parts give unrelated streams. Nothing is
ever "advanced": the same parts give the same numbers on every engine, in any order, after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, SupportsIndex

from qsim.options import shown, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_SALT = 0x6A09E667F3BCC908  # the fraction of the square root of 2
_FACTOR1, _FACTOR2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_INVERSE1, _INVERSE2 = (pow(factor, -1, 1 << 64) for factor in (_FACTOR1, _FACTOR2))
NUMBER_BITS = 24
"""The low bits of a word of `Key.numbered` that hold the number of the worker."""
_FEW = 8  # so many words are made in Python, which needs no kernel


class Purpose(IntEnum):
    """Purposes of random numbers, each with a random stream of its own.

    Runs that differ in what one purpose is used for share the streams of the others.

    Examples
    --------
    >>> import qsim
    >>> from qsim.keys import Purpose
    >>> qsim.Key(0).fold(Purpose.DATA) == qsim.Key(0).fold(Purpose.START)
    False
    """

    PARTITION = 0
    START = 1
    DATA = 2
    QUANTIZE = 3
    SYNTHETIC = 4
    METHOD = 5
    CLIENTS = 6
    DOWN = 7
    DELAY = 8
    MACHINES = 9


@dataclass(frozen=True, init=False, repr=False)
class Key:
    """A random stream, named by a seed.

    Randomness is counter-based: a number is a pure function of the seed and of the parts that are folded in, such as
    purpose, round and worker.

    Parameters
    ----------
    seed : int
        From 0 to :math:`2^{64} - 1`.

    Attributes
    ----------
    word : int
        What draws: all 64 bits of the seed, mixed, so that the streams of `Key(0)`, `Key(1)`, ... are as unrelated as
        those of any other seeds.

    Raises
    ------
    ValueError
        For any other seed.

    Notes
    -----
    `fold` is the SplitMix64 generator [1]_ started at the word and moved by the part:
    `word' = mix(word + golden * (part + 1))`, all modulo :math:`2^{64}`. It is a bijection of the part, so different
    parts never collide.

    References
    ----------
    .. [1] Steele, Lea and Flood, OOPSLA 2014.

    Examples
    --------
    >>> import qsim
    >>> qsim.Key(7).fold(1, 2) == qsim.Key(7).fold(1).fold(2)
    True
    >>> qsim.Key(7)
    qsim.Key(7)
    """

    word: int

    def __init__(self, seed: SupportsIndex) -> None:
        # Mixed, as streams of words that differ in a few bits are related; salted, as Key(key.word) would be a fold.
        object.__setattr__(self, "word", _mix(_whole("the seed of a key", seed) ^ _SALT))

    def __repr__(self) -> str:
        return f"qsim.Key({_unmix(self.word) ^ _SALT})"

    def fold(self, *parts: SupportsIndex) -> Key:
        """Mix parts into the key: `key.fold(a, b) == key.fold(a).fold(b)`.

        Parameters
        ----------
        *parts : int
            Whole numbers from 0 to 2^64 - 1.

        Returns
        -------
        Key
            The key of another stream.

        Raises
        ------
        ValueError
            For any other part.
        """
        word = self.word
        for part in parts:
            number = part if type(part) is int and 0 <= part <= _MASK else _whole("a part of a key", part)
            word = _mix(word + _GOLDEN * (number + 1))
        return of_word(word)

    def words(self, low: int, high: int) -> NDArray[np.uint64]:
        """Return the words of `fold(low), ..., fold(high - 1)`.

        Parameters
        ----------
        low : int
            The first part.
        high : int
            One more than the last part.

        Returns
        -------
        ndarray of uint64, shape (high - low,)
            The words.

        Raises
        ------
        ValueError
            Unless 0 <= low <= high.
        """
        import numpy as np

        if not 0 <= low <= high:
            raise ValueError(f"words are those of parts from low >= 0 up to high >= low, found {low!r} and {high!r}")
        if high - low <= _FEW:
            parts = range(low + 1, high + 1)
            return np.array([_mix(self.word + _GOLDEN * part) for part in parts], np.uint64)
        from qsim.kernels.hashing import fold_many

        out = np.empty(high - low, np.uint64)
        fold_many(np.uint64(self.word), np.uint64(low), out)
        return out

    @property
    def shared(self) -> Key:
        """The key that gives every worker the word of worker 0: for messages that are added on their way."""
        return of_word(self.word, _Shared)

    @property
    def numbered(self) -> Key:
        """The key whose words hold what workers have in common, and in the low 24 bits the number of each."""
        return of_word(self.word, _Numbered)

    def numbered_among(self, present: NDArray[np.bool_]) -> Key:
        """Return the key like `numbered`, whose workers are numbered among those that are present.

        Parameters
        ----------
        present : ndarray of bool, shape (workers,)
            Who is. Of the others, the words mean nothing.

        Returns
        -------
        Key
            The key.
        """
        key = of_word(self.word, _NumberedAmong)
        object.__setattr__(key, "numbers", present.cumsum() - present)
        return key

    def generator(self) -> np.random.Generator:
        """Return a NumPy generator (Philox 4x64, counter-based too) for code that is not in a kernel."""
        import numpy as np

        return np.random.Generator(np.random.Philox(key=self.word))


class _Shared(Key):
    """A key whose workers all have one word."""

    def __repr__(self) -> str:
        return f"{super().__repr__()}.shared"

    def words(self, low: int, high: int) -> NDArray[np.uint64]:
        return super().words(0, 1).repeat(high - low)


class _Numbered(Key):
    """A key whose workers have one random stream, and know their numbers."""

    def __repr__(self) -> str:
        return f"{super().__repr__()}.numbered"

    def words(self, low: int, high: int) -> NDArray[np.uint64]:
        import numpy as np

        if not 0 <= low <= high <= 1 << NUMBER_BITS:
            raise ValueError(f"numbers are from 0 to 2^{NUMBER_BITS} - 1, and do not fall; found {low!r} to {high!r}")
        in_common = np.uint64(self.word >> NUMBER_BITS << NUMBER_BITS)
        return in_common | np.arange(low, high, dtype=np.uint64)


class _NumberedAmong(_Numbered):
    """A key whose workers are numbered among some of them."""

    numbers: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"{super().__repr__()}_among(...)"

    def words(self, low: int, high: int) -> NDArray[np.uint64]:
        return super().words(0, self.numbers.size)[self.numbers[low:high]]


def require_key(key: object) -> None:
    """Raise TypeError for what is no key, such as a seed."""
    if not isinstance(key, Key):
        made = f"qsim.Key({key})" if isinstance(key, int) and not isinstance(key, bool) else "qsim.Key(0)"
        raise TypeError(f"key must be a key such as {made}, found {shown(key)}")


def of_word(word: int, kind: type[Key] = Key) -> Key:
    """Return the key that has a word: one that `words` gave, since words made by hand are not mixed."""
    key = object.__new__(kind)
    object.__setattr__(key, "word", word)
    return key


def _mix(word: int) -> int:
    word &= _MASK
    word = ((word ^ (word >> 30)) * _FACTOR1) & _MASK
    word = ((word ^ (word >> 27)) * _FACTOR2) & _MASK
    return word ^ (word >> 31)


def _unmix(word: int) -> int:
    word ^= (word >> 31) ^ (word >> 62)
    word = (word * _INVERSE2) & _MASK
    word ^= (word >> 27) ^ (word >> 54)
    word = (word * _INVERSE1) & _MASK
    return word ^ (word >> 30) ^ (word >> 60)


def _whole(name: str, value: SupportsIndex) -> int:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    number = int(value) if is_int else whole(name, value, least=0, most=_MASK)
    if not 0 <= number <= _MASK:
        raise ValueError(f"{name} must be a whole number from 0 to 2^64 - 1, found {number}")
    return number


__all__ = ["Key", "Purpose"]


def __dir__() -> list[str]:
    return __all__
