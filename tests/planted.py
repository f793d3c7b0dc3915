"""Compressors for the tests of `check_compressor`: honest ones, and one for each known mistake."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np

from qsim.batch import Floats, Levels, Memory, Vectors
from qsim.compressors import QSGD, Compressor
from qsim.keys import Key
from qsim.options import option


@option
class Ternary(Compressor):
    """An honest compressor in plain NumPy: 0 or the largest magnitude."""

    emits = Levels

    def quantize(self, v, key):
        scale = np.abs(v).max()
        keep = self.random(v, key) * scale < np.abs(v)
        return Levels.single(np.sign(v) * keep, scale=scale, s=1)

    def random(self, v, key):
        return key.generator().random(v.size)

    def variance(self, n):
        return (n**0.5 - 1) / 2


@option
class Fast(Compressor):
    """An honest compressor that takes whole batches."""

    emits = Levels

    def compress(self, v, keys, memory=None):
        return QSGD(1).compress(v, keys)

    def variance(self, n):
        return n**0.5 - 1


@option
class KeepsLargest(Compressor):
    """An honest contraction: the largest magnitude alone."""

    emits = Floats

    def quantize(self, v, key):
        place = np.abs(v).argmax()
        kept = np.zeros_like(v)
        kept[place] = v[place]
        return Floats.single(kept)

    def contraction(self, n):
        return 1 / n


@option
class Claimless(Compressor):
    """Rounds to whole numbers and states nothing about it."""

    emits = Floats

    def quantize(self, v, key):
        return Floats.single(np.round(v))


# Planted mistakes: each class with the promises that it breaks.


@option
class NaturalDitheringAsIdentity(Ternary):
    """Public code overwrote the result by the input: unbiased, and within every bound."""

    emits = Floats

    def quantize(self, v, key):
        return Floats.single(v)


@option
class IdentityWithFormulas(NaturalDitheringAsIdentity):
    """The same with closed forms that say that there is an error."""

    def exact_variance(self, v):
        return 0.1 * float(np.square(v).sum())


@option
class Nearest(Ternary):
    """Rounds to the nearest level in place of a random one."""

    def random(self, v, key):
        return np.full(v.size, 0.5)


@option
class NearestOfMany(Ternary):
    """The same with 64 levels: the error is within the bound, but it has a mean."""

    def quantize(self, v, key):
        scale = np.abs(v).max()
        return Levels.single(np.round(v / (scale or 1) * 64 + 0.01 * self.random(v, key)), scale=scale, s=65)


@option
class Unscaled(Ternary):
    """Forgets the norm."""

    def quantize(self, v, key):
        return Levels.single(np.sign(v) * (self.random(v, key) < np.minimum(np.abs(v), 1)), scale=1.0, s=1)


@option
class WithoutZero(Ternary):
    """Levels -1 and 1, at random without bias: nothing is sparse."""

    def quantize(self, v, key):
        scale = np.abs(v).max()
        return Levels.single(np.where((self.random(v, key) * 2 - 1) * scale < v, 1, -1), scale=scale, s=1)

    def variance(self, n):
        return float(n)


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
class SquaresOverflow(Ternary):
    """Sums squares in float32, where 10^20 squared is infinite, and 10^-30 squared is zero."""

    emits = Floats

    def quantize(self, v, key):
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            norm = np.sqrt(np.square(v).sum(dtype=np.float32))
            return Floats.single(np.sign(v) * (self.random(v, key) * norm < np.abs(v)) * norm)

    def variance(self, n):
        return n**0.5 - 1


@option
class Clock(Ternary):
    """Seeds from the clock."""

    def random(self, v, key):
        return np.random.default_rng(time.time_ns()).random(v.size)


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
class InvertedMask(Compressor):
    """1-bit with the mask inverted by ~ on uint8, which gives 255 and 254: always true."""

    emits = Floats
    keeps_sparse = False

    def quantize(self, v, key):
        mask = (v >= 0).astype(np.uint8)
        low = v[mask == 0].mean() if (mask == 0).any() else np.float32(0)
        return Floats.single(np.where(~mask, low, v[mask == 1].mean() if mask.any() else np.float32(0)))

    def contraction(self, n):
        return 1 / n


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
class ClaimsTooLittle(Fast):
    """States a variance that is too small by a factor of 1.3."""

    def variance(self, n):
        return (n**0.5 - 1) / 1.3


@option
class ClaimsTooLittleInNumPy(Ternary):
    """The same, one row at a time, with the fewer keys that it is given."""

    def variance(self, n):
        return (n**0.5 - 1) / 2 / 1.3


@option
class ClaimsTooLittleOfKnown(ClaimsTooLittle):
    """The same with a closed form, by one percent."""

    def variance(self, n):
        return (n**0.5 - 1) / 1.01

    def exact_variance(self, v):
        return QSGD(1).exact_variance(v)


@option
class Expansion(Ternary):
    """Unbiased with omega above 1, and said to be a contraction."""

    def contraction(self, n):
        return 0.5


@option
class DeltaTooLarge(KeepsLargest):
    """Claims 1.3 times the delta that it has."""

    def contraction(self, n):
        return min(1.3 / n, 1.0)


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
class NormInHalf(Ternary):
    """Quantizes with the norm, and sends it as float16."""

    def quantize(self, v, key):
        message = super().quantize(v, key)
        return message.scaled(float(np.float16(0.7)) / 0.7)


@option
class OnePercentMore(Ternary):
    """A bias of 1%."""

    def quantize(self, v, key):
        return super().quantize(v, key).scaled(1.01)


@option
class OneInTwentyMore(Ternary):
    """Keeps small coordinates too often, by a twentieth of the scale."""

    def random(self, v, key):
        return super().random(v, key) - 0.05 * (v != 0)


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

    def settle(self, memory, sent):
        pass


@option
class Miscounts(Fast):
    """Closed forms that are off by a tenth."""

    def expected_nonzeros(self, v):
        return 1.1 * QSGD(1).expected_nonzeros(v)

    def exact_variance(self, v):
        return 0.9 * QSGD(1).exact_variance(v)


@option
class MislabelsItself(Fast):
    """Says that it makes another kind of message."""

    emits = Floats


# Messages that are said to be summable, and are not.


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


PLANTED = [
    (NaturalDitheringAsIdentity(), ["it compresses"]),
    (IdentityWithFormulas(), ["it compresses", "exact variance"]),
    (Nearest(), ["independent for workers and rounds", "unbiased"]),
    (NearestOfMany(), ["unbiased"]),
    (Unscaled(), ["unbiased", "variance"]),
    (WithoutZero(), ["zeros stay zero"]),
    (ZeroNorm(), ["zero, single, huge and subnormal vectors"]),
    (SquaresOverflow(), ["unbiased"]),
    (Clock(), ["a pure function of vector and key", "the same in any batch"]),
    (OneStream(), ["independent for workers and rounds", "unbiased"]),
    (HalfTheKey(), ["independent for workers and rounds"]),
    (ShortIndices(), ["zeros stay zero"]),
    (InvertedMask(), ["contraction"]),
    (CountsStored(), ["the same for dense and sparse input"]),
    (ByPlace(), ["the same in any batch"]),
    (WritesInput(), ["a pure function of vector and key"]),
    (TakesNaN(), ["zero, single, huge and subnormal vectors"]),
    (ClaimsTooLittle(), ["variance"]),
    (ClaimsTooLittleInNumPy(), ["variance"]),
    (ClaimsTooLittleOfKnown(), ["variance"]),
    (Expansion(), ["contraction"]),
    (DeltaTooLarge(), ["contraction"]),
    (NormRoundedDown(), ["zero, single, huge and subnormal vectors"]),
    (NormInHalf(), ["unbiased"]),
    (OnePercentMore(), ["unbiased"]),
    (OneInTwentyMore(), ["unbiased"]),
    (MoreThanTheWire(), ["codecs give the message back"]),
    (Remembers(), ["codecs give the message back"]),
    (Locked(), ["pickling"]),
    (PlainClass(), ["prints as the code that makes it"]),
    (PrintsHalf(2.0), ["prints as the code that makes it"]),
    (Forgets(), ["error feedback adds up"]),
    (Miscounts(), ["exact variance", "expected non-zeros"]),
    (MislabelsItself(), ["a pure function of vector and key"]),
    (SumsOwnNorms(), ["messages can be summed"]),
    (SumsKept(), ["messages can be summed"]),
    (SumsHalves(), ["messages can be summed"]),
    (SumsPowers(), ["messages can be summed"]),
    (SumsDithered(), ["messages can be summed"]),
]
