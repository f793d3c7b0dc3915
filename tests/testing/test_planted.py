"""Every planted mistake of `planted_families` is found at the default effort, and odd but honest compressors pass.

A third of them, to save time; all with QSIM_PLANTED=all in the environment:

    QSIM_PLANTED=all python -m pytest tests/testing/test_planted.py
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from helpers.planted_families import PLANTED
from qsim.batch import Floats, Levels, Vectors
from qsim.compressors import QSGD, Bernoulli, Compressor, RandK
from qsim.options import option
from qsim.testing import Report, check_compressor
from qsim.testing import compressor as checks

EVERY = 1 if os.environ.get("QSIM_PLANTED") == "all" else 3


@pytest.mark.parametrize(("compressor", "promises"), PLANTED[::EVERY], ids=repr)
def test_planted_families_are_found(compressor: Compressor, promises: list[str], monkeypatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", {promise: checks.CHECKS[promise] for promise in promises})
    found = check_compressor(compressor).findings
    assert [promise for promise in promises if found[promise].kept is not False] == [], str(Report("", found))


def levels(v: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.float32]:
    scale = np.float32(np.linalg.norm(v.astype(np.float64)))
    return np.sign(v) * (u * scale < np.abs(v)), scale


class Norm(Compressor):
    """One level of the l2 norm, as a user writes it."""

    emits = Levels

    def variance(self, n):
        return n**0.5


@option
class LongIsTripled(Norm):
    """Three times too large from n = 301 on."""

    def quantize(self, v, key):
        level, scale = levels(v, key.generator().random(v.size))
        return Levels.single(level, scale=np.float32(scale * 3) if v.size > 300 else scale, s=1)


@option
class TooRarely(Norm):
    """Keeps a coordinate 2% too rarely."""

    def quantize(self, v, key):
        level, scale = levels(v, key.generator().random(v.size) / 0.98)
        return Levels.single(level, scale=scale, s=1)


@option
class SmallFlipped(Norm):
    """The wrong sign for coordinates below a thousandth of the norm."""

    def quantize(self, v, key):
        level, scale = levels(v, key.generator().random(v.size))
        return Levels.single(np.where(np.abs(v) < 1e-3 * scale, -level, level), scale=scale, s=1)


@pytest.mark.parametrize("compressor", [LongIsTripled(), TooRarely(), SmallFlipped()], ids=repr)
def test_planted_mistakes_in_numpy_are_found(compressor: Compressor, monkeypatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", {"unbiased": checks.CHECKS["unbiased"]})
    assert check_compressor(compressor).broken == ["unbiased"]


@option
class Seldom(Compressor):
    """All of a vector with probability p, as v / p, else nothing: unbiased, and all coordinates at once."""

    p: float
    budget: int = 0  # on average at most so many numbers

    emits = Floats

    def compress(self, v, keys, memory=None):
        p = self.chance(v.n)
        kept = keys >> np.uint64(11) < p * 2.0**53
        return Floats.of(
            Vectors(v.n, v.offsets, v.index, v.value * np.repeat(kept / p, np.diff(v.offsets)).astype(np.float32))
        )

    def chance(self, n: int) -> float:
        return min(self.p, self.budget / n) if self.budget else self.p

    def variance(self, n):
        return (1 / self.chance(n) - 1) * (1 + 1e-6)


HONEST = [Seldom(0.5), Seldom(0.05), Seldom(0.001), Seldom(1.0, 100), Bernoulli(1e-3), RandK(1), QSGD(1, norm=1)]


@pytest.mark.parametrize("compressor", HONEST, ids=repr)
def test_what_arrives_seldom_is_not_called_biased(compressor: Compressor, monkeypatch) -> None:
    promises = ("unbiased", "variance", "exact variance")
    monkeypatch.setattr(checks, "CHECKS", {promise: checks.CHECKS[promise] for promise in promises})
    for seed in range(2):
        assert check_compressor(compressor, seed).good, str(check_compressor(compressor, seed))
