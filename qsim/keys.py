"""Keys: counter-based randomness, a pure function of (seed, purpose, round, exchange, worker, coordinate).

A key is a 64-bit word. `fold` mixes further parts into it, one after the other, so that
`key.fold(a, b) == key.fold(a).fold(b)`, and two keys that differ in one part give unrelated streams. Nothing is ever
"advanced": the same parts give the same numbers on every engine, in any order, after a restart.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, SupportsIndex

from qsim.options import option, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FEW = 8  # so many words are made faster by Python than by NumPy


class Purpose(IntEnum):
    """What a random number is for. Each purpose has a stream of its own: runs that differ in one share the others."""

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


@option
class Key:
    """A 64-bit word that names a random stream.

    `fold` is the SplitMix64 generator (Steele, Lea and Flood, OOPSLA 2014) started at the word and moved by the part:
    `word' = mix(word + golden * (part + 1))`, all modulo 2^64. It is a bijection of the part, so different parts
    never collide.

    >>> Key(7).fold(1, 2) == Key(7).fold(1).fold(2)
    True
    """

    word: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "word", _word("the word of a key", self.word))

    def fold(self, *parts: SupportsIndex) -> Key:
        """Mix whole numbers from 0 to 2^64 - 1 into the key. Raises ValueError for any other part."""
        word = self.word
        for part in parts:
            word = _mix(word + _GOLDEN * (_word("a part of a key", part) + 1))
        return Key(word)

    def words(self, low: int, high: int) -> NDArray[np.uint64]:
        """Return the words of `fold(low), ..., fold(high - 1)` as an array of uint64."""
        import numpy as np

        if high - low <= _FEW:
            parts = range(low + 1, high + 1)
            return np.array([_mix(self.word + _GOLDEN * part) for part in parts], np.uint64)
        word = np.uint64(self.word) + np.uint64(_GOLDEN) * np.arange(low + 1, high + 1, dtype=np.uint64)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: NDArray[np.uint64] = word ^ (word >> np.uint64(31))
        return mixed

    @property
    def shared(self) -> Key:
        """The key that gives every worker the word of worker 0: for messages that are added on their way."""
        return _Shared(self.word)

    def generator(self) -> np.random.Generator:
        """Return a NumPy generator (Philox 4x64, counter-based too) for code that is not in a kernel."""
        import numpy as np

        return np.random.Generator(np.random.Philox(key=self.word))


class _Shared(Key):
    """A key whose workers all have one word."""

    def words(self, low: int, high: int) -> NDArray[np.uint64]:
        return super().words(0, 1).repeat(high - low)


def _mix(word: int) -> int:
    word &= _MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return word ^ (word >> 31)


def _word(name: str, value: SupportsIndex) -> int:
    word = value if type(value) is int else whole(name, value, least=0, most=_MASK)
    if not 0 <= word <= _MASK:
        raise ValueError(f"{name} must be a whole number from 0 to 2^64 - 1, found {word}")
    return word
