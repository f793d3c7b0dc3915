"""Honest compressors for the tests of `check_compressor`."""

from __future__ import annotations

import numpy as np

from qsim.batch import Floats, Levels
from qsim.compressors import QSGD, Compressor
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
