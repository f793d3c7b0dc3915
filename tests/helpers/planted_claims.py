"""Compressors with a known mistake in what they claim: the mean, the error, the closed forms."""

from __future__ import annotations

import numpy as np

from helpers.honest_compressors import Fast, KeepsLargest, Ternary
from qsim.batch import Floats, Levels, Signs
from qsim.compressors import DRIVE, QSGD, Compressor, RandK, Scaled, ThreePCv2
from qsim.options import option


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
class SumsForMeans(Compressor):
    """1-bit with the sums of both sides where their means belong."""

    emits = Signs
    dense = True
    keeps_sparse = False

    def quantize(self, v, key):
        return Signs.single(v >= 0, low=v[v < 0].sum(), high=v[v >= 0].sum())

    def contraction(self, n):
        return 1 / n


@option
class OneRotation(Compressor):
    """A single random rotation, said to make any vector look Gaussian."""

    emits = Levels
    dense = True
    keeps_sparse = False
    asymptotic = True

    def compress(self, v, keys, memory=None):
        return DRIVE(rotations=1).compress(v, keys)

    def decompress(self, message, keys):
        return DRIVE(rotations=1).decompress(message, keys)

    def variance(self, n):
        return np.pi / 2 - 1

    def contraction(self, n):
        return 2 - np.pi / 2


@option
class CountsZeros(Compressor):
    """Says that zeros change nothing, where the length decides how far off it is."""

    emits = Floats
    ignores_zeros = True

    def compress(self, v, keys, memory=None):
        return RandK(3).compress(v, keys)

    def variance(self, n):
        return RandK(3).variance(n)


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
class Miscounts(Fast):
    """Closed forms that are off by a tenth."""

    def expected_nonzeros(self, v):
        return 1.1 * QSGD(1).expected_nonzeros(v)

    def exact_variance(self, v):
        return 0.9 * QSGD(1).exact_variance(v)


# Each with the promises that it breaks.
@option
class TogetherInName(Fast):
    """Says that workers share out the coordinates, but each draws some for itself."""

    emits = Floats

    @property
    def correlated(self):
        return 8

    def compress(self, v, keys, memory=None):
        return RandK(max(1, v.n // 8)).compress(v, keys * np.uint64(5))

    def variance(self, n):
        return RandK(max(1, n // 8)).variance(n)

    def joint_variance(self, n):
        return 1.0, 1.0


@option
class FollowsTooClosely(Fast):
    """3PCv2 that says that it takes more of what was left than it does, or that a change leaves less than it does."""

    more: float = 1.0
    less: float = 0.9
    emits = Floats

    @property
    def inner(self):
        return ThreePCv2(RandK(10), Scaled(RandK(10)))

    def compress(self, v, keys, memory=None):
        return Floats.of(self.inner.decompress(self.inner.compress(v, keys, memory), keys))

    def memory(self, support):
        return self.inner.memory(support)

    def on_delivered(self, memory, sent):
        self.inner.on_delivered(memory, sent)

    def three_point(self, n):
        a, b = self.inner.three_point(n)
        return self.more * a, self.less * b


PLANTED = [
    (FollowsTooClosely(), ["error of three points"]),
    (FollowsTooClosely(more=1.2, less=1.0), ["error of three points"]),
    (NaturalDitheringAsIdentity(), ["it compresses"]),
    (IdentityWithFormulas(), ["it compresses", "exact variance"]),
    (Nearest(), ["independent for workers and rounds", "unbiased"]),
    (NearestOfMany(), ["unbiased"]),
    (Unscaled(), ["unbiased", "variance"]),
    (WithoutZero(), ["zeros stay zero"]),
    (SquaresOverflow(), ["zero, single, huge and subnormal vectors"]),
    (InvertedMask(), ["contraction"]),
    (SumsForMeans(), ["contraction"]),
    (OneRotation(), ["unbiased", "variance", "contraction"]),
    (CountsZeros(), ["variance"]),
    (ClaimsTooLittle(), ["variance"]),
    (ClaimsTooLittleInNumPy(), ["variance"]),
    (ClaimsTooLittleOfKnown(), ["variance"]),
    (Expansion(), ["contraction"]),
    (DeltaTooLarge(), ["contraction"]),
    (NormInHalf(), ["unbiased"]),
    (OnePercentMore(), ["unbiased"]),
    (OneInTwentyMore(), ["unbiased"]),
    (TogetherInName(), ["error of workers together"]),
    (Miscounts(), ["exact variance", "expected non-zeros"]),
]
