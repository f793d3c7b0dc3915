"""Compressors with a known mistake in their messages: what they depend on, what they carry, the object itself."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

import numpy as np

from helpers.honest_compressors import Fast, KeepsLargest, Ternary
from qsim.batch import Floats, Levels, Memory, SharedSupport, Vectors
from qsim.compressors import Compressor
from qsim.keys import Key
from qsim.options import option

UNSEEDED = np.random.default_rng()
SEEN = {}  # what one process remembers, and no wire carries


@option
class ZeroNorm(Ternary):
    """Divides by the norm of the zero vector."""

    emits = Floats

    def quantize(self, v, key):
        scale = np.abs(v).max()
        with np.errstate(invalid="ignore"):
            keep = self.random(v, key) < np.abs(v) / scale
            return Floats.single(np.sign(v) * keep * scale * (scale / scale))


@option
class Clock(Ternary):
    """Seeds from the clock."""

    def random(self, v, key):
        return np.random.default_rng(time.time_ns()).random(v.size)


@option
class NeverSeeded(Ternary):
    """Draws from a generator that lives as long as the process, whoever asks."""

    def random(self, v, key):
        return UNSEEDED.random(v.size)


@option
class OfTheProcess(Ternary):
    """Seeds from the key and the process: the same here, another on every executor."""

    def random(self, v, key):
        return np.random.default_rng([key.word, os.getpid()]).random(v.size)


@option
class HashedKey(Ternary):
    """Seeds from a hash of a string, which Python salts in every process."""

    def random(self, v, key):
        return np.random.default_rng(abs(hash(str(key)))).random(v.size)


@option
class OneStream(Ternary):
    """Ignores the key: all workers draw the same."""

    def random(self, v, key):
        return np.random.default_rng(0).random(v.size)


@option
class HalfTheKey(Ternary):
    """Keeps 16 bits of the key."""

    def random(self, v, key):
        return np.random.default_rng(key.word & 0xFFFF).random(v.size)


@option
class ShortIndices(KeepsLargest):
    """Indices as uint16, which wrap at 65,536."""

    def quantize(self, v, key):
        index = np.flatnonzero(np.abs(v) == np.abs(v).max())[-1:].astype(np.uint16)
        return Floats(v.size, np.array([0, 1]), index, v[np.abs(v) == np.abs(v).max()][-1:])


@option
class OneLevelMore(Compressor):
    """Counts s levels where there are s + 1: the largest does not fit the bits."""

    emits = Levels

    def quantize(self, v, key):
        scale = np.abs(v).max()
        level = np.round(v / (scale or 1) * 4).astype(np.int32)
        (index,) = np.nonzero(level)
        return Levels(v.size, np.array([0, index.size]), index.astype(np.int32), level[index], np.float32([scale]), 3)


@option
class FreeIndices(KeepsLargest):
    """Top-1 as if the receiver knew the coordinate: it is not sent, but remembered in the process."""

    emits = SharedSupport

    def quantize(self, v, key):
        place = int(np.abs(v).argmax())
        SEEN[key.word] = place
        return SharedSupport(v.size, np.array([0, 1]), 1, v[place : place + 1])

    def decompress(self, message, keys):
        found = np.zeros((message.rows, message.n), np.float32)
        found[np.arange(message.rows), [SEEN[int(word)] for word in keys]] = message.value
        return Vectors.dense(found)


@option
class FreeNorm(Ternary):
    """Sends levels of 1; the norm is remembered in the process."""

    def quantize(self, v, key):
        message = super().quantize(v, key)
        SEEN[key.word] = float(message.scale[0])
        return Levels(message.n, message.offsets, message.index, message.level, np.ones(1, np.float32), 1)

    def decompress(self, message, keys):
        return Vectors.dense(message.vectors().to_dense() * np.float32([[SEEN[int(word)]] for word in keys]))


@option
class DrawnAgain(Ternary):
    """Rounds anew whenever it is asked what was sent."""

    emits = Floats

    def quantize(self, v, key):
        return Floats.single(v)

    def decompress(self, message, keys):
        rows = [super(DrawnAgain, self).quantize(v, Key(time.time_ns())) for v in message.vectors().to_dense()]
        return Levels.join(rows).vectors()


@option
class CountsStored(Fast):
    """Draws by the place among the stored entries, not by the coordinate."""

    def compress(self, v, keys, memory=None):
        if v.index is None:
            return super().compress(v, keys)
        packed = Vectors(
            v.n, v.offsets, (np.arange(v.value.size) - np.repeat(v.offsets[:-1], np.diff(v.offsets))), v.value
        )
        drawn = super().compress(packed, keys)
        rows = np.repeat(np.arange(v.rows), np.diff(drawn.offsets))
        return Levels(v.n, drawn.offsets, v.index[v.offsets[rows] + drawn.index], drawn.level, drawn.scale, 1)


@option
class ByPlace(Fast):
    """Draws by the row's place in the batch."""

    def compress(self, v, keys, memory=None):
        return super().compress(v, keys + np.arange(keys.size, dtype=np.uint64))


@option
class WritesInput(Fast):
    """Works in place, on the caller's array."""

    def compress(self, v, keys, memory=None):
        message = super().compress(v, keys)
        v.value[:] *= 0.5
        return message


@option
class TakesNaN(Fast):
    """Passes what is not finite on."""

    def compress(self, v, keys, memory=None):
        return super().compress(Vectors(v.n, v.offsets, v.index, np.nan_to_num(v.value, posinf=1, neginf=1)), keys)


@option
class NormRoundedDown(Ternary):
    """Norm below that of the vector: the largest entry is past the last level."""

    def quantize(self, v, key):
        scale = np.nextafter(np.float32(np.linalg.norm(v.astype(np.float64))), np.float32(0))
        level = np.floor(np.abs(v.astype(np.float64)) / max(float(scale), 1e-45) + self.random(v, key))
        return Levels.single(np.sign(v) * np.minimum(level, 2), scale=scale, s=1)

    def variance(self, n):
        return n**0.5 - 1


@option
class MoreThanTheWire(Ternary):
    """Holds float64 in its message, which the codec rounds."""

    emits = Floats

    def quantize(self, v, key):
        return Floats.of(Vectors.dense(super().quantize(v, key).vectors().to_dense().astype(np.float64) * (1 + 1e-9)))


@dataclass(frozen=True)
class Remembers(Fast):
    """Reads what it remembers in place of the message."""

    def compress(self, v, keys, memory=None):
        message = super().compress(v, keys)
        object.__setattr__(self, "_kept", message.vectors())
        return message

    def decompress(self, message, keys):
        return getattr(self, "_kept", None) or Vectors.dense(np.zeros((message.rows, message.n), np.float32))


@option
class Locked(Ternary):
    """Holds a lock, which no process can send to another."""

    def __post_init__(self):
        object.__setattr__(self, "lock", threading.Lock())


class PlainClass(Ternary):
    """Not an option: it prints as an address."""

    __repr__ = object.__repr__


@option
class PrintsHalf(Ternary):
    """Does not print its parameter."""

    p: float = 1.0

    def __repr__(self):
        return "PrintsHalf()"


PrintsHalf.__repr__ = lambda self: f"{__name__}.PrintsHalf()"


@option
class Forgets(KeepsLargest):
    """Has a memory, and does not learn what was sent."""

    def compress(self, v, keys, memory=None):
        if memory is None:
            return super().compress(v, keys)
        memory.add("error", v)
        return super().compress(memory.vectors("error"), keys)

    def memory(self, support):
        return Memory.zeros(support, "error")

    def on_delivered(self, memory, sent):
        pass


@option
class MislabelsItself(Fast):
    """Says that it makes another kind of message."""

    emits = Floats


# Said to be summable, and not so.


@option
class SumsOwnNorms(Ternary):
    """Levels of a norm of its own."""

    summable = True


@option
class SumsKept(KeepsLargest):
    """Other coordinates in every message."""

    summable = True


@option
class SumsHalves(Compressor):
    """16 bits, which do not hold the sum of two such numbers."""

    emits = Floats
    dense = True
    dtype = "float16"
    summable = True

    def quantize(self, v, key):
        return Floats.single(v.astype(np.float16))


@option
class SumsPowers(Compressor):
    """Levels of one scale for all, which stand for powers of two."""

    emits = Levels
    dense = True
    summable = True

    def quantize(self, v, key):
        exponent = np.frexp(v)[1] + 200
        return Levels.single(np.where(v == 0, 0, np.sign(v) * exponent), scale=1.0, s=400)

    def decompress(self, message, keys):
        level = message._dense()
        return Vectors.dense((np.sign(level) * np.ldexp(1.0, abs(level) - 201)).astype(np.float32))


@option
class SumsDithered(Compressor):
    """Steps of one size for all, and a dither that is subtracted once from a sum of many."""

    emits = Levels
    dense = True
    keeps_sparse = False
    summable = True

    def quantize(self, v, key):
        return Levels.single(np.round(v / 0.25 + self.dither(v.size, key)), scale=0.25 * 2**20, s=2**20)

    def decompress(self, message, keys):
        dither = [self.dither(message.n, Key(int(word))) for word in keys]
        return Vectors.dense((message.vectors().to_dense() - 0.25 * np.stack(dither)).astype(np.float32))

    def dither(self, n, key):
        return key.generator().random(n) - 0.5


# Each with the promises that it breaks.
PLANTED = [
    (ZeroNorm(), ["zero, single, huge and subnormal vectors"]),
    (Clock(), ["a pure function of vector and key", "the same in any batch"]),
    (NeverSeeded(), ["a pure function of vector and key"]),
    (OfTheProcess(), ["pickling"]),
    (HashedKey(), ["pickling"]),
    (OneStream(), ["independent for workers and rounds", "unbiased"]),
    (HalfTheKey(), ["independent for workers and rounds"]),
    (ShortIndices(), ["zeros stay zero"]),
    (OneLevelMore(), ["codecs give the message back"]),
    (FreeIndices(), ["codecs give the message back"]),
    (FreeNorm(), ["codecs give the message back"]),
    (DrawnAgain(), ["codecs give the message back"]),
    (CountsStored(), ["the same for dense and sparse input"]),
    (ByPlace(), ["the same in any batch"]),
    (WritesInput(), ["a pure function of vector and key"]),
    (TakesNaN(), ["zero, single, huge and subnormal vectors"]),
    (NormRoundedDown(), ["zero, single, huge and subnormal vectors"]),
    (MoreThanTheWire(), ["codecs give the message back"]),
    (Remembers(), ["codecs give the message back"]),
    (Locked(), ["pickling"]),
    (PlainClass(), ["prints as the code that makes it"]),
    (PrintsHalf(2.0), ["prints as the code that makes it"]),
    (Forgets(), ["error feedback adds up"]),
    (MislabelsItself(), ["a pure function of vector and key"]),
    (SumsOwnNorms(), ["messages can be summed"]),
    (SumsKept(), ["messages can be summed"]),
    (SumsHalves(), ["messages can be summed"]),
    (SumsPowers(), ["messages can be summed"]),
    (SumsDithered(), ["messages can be summed"]),
]
