"""Exponentials and logarithms against decimals, to a part of a unit in the last place; and their bits."""

from __future__ import annotations

from decimal import Decimal, localcontext
from hashlib import sha256

import numpy as np
import pytest

from qsim.kernels._jit import kernel
from qsim.kernels.csr import logistic_losses, logistic_slopes
from qsim.kernels.exponentials import LARGEST, all_small, exp32, exp64, exponential, log1p64

pytestmark = pytest.mark.quick


@kernel
def exps(x, out):
    for k in range(x.size):
        out[k] = exp64(x[k])


@kernel
def exps_32(x, out):
    for k in range(x.size):
        out[k] = exp32(x[k])


@kernel
def either(x, out):
    for k in range(x.size):
        out[k] = exponential(x[k])


@kernel
def logs(x, out):
    for k in range(x.size):
        out[k] = log1p64(x[k])


@kernel
def small(x):
    return all_small(x)


def of(function, x):
    out = np.empty_like(x)
    function(x, out)
    return out


def furthest(found: np.ndarray, right: list[Decimal]) -> float:
    """The largest error, in units in the last place of what is right."""
    return max(
        abs(float((Decimal(float(f)) - r) / Decimal(float(np.spacing(f.dtype.type(float(r)))))))
        for f, r in zip(found, right, strict=True)
    )


RNG = np.random.default_rng(1)
ALL = np.concatenate([RNG.uniform(-s, s, 500) for s in (1e-20, 1e-9, 1e-3, 1.0, 30.0, 511.9)])
NEAR = np.concatenate([RNG.random(1500), RNG.random(500) * 1e-8, 1 - RNG.random(500) * 2e-6, [0.41421, 0.41422]])


def test_float64_is_within_a_part_of_the_last_place() -> None:
    with localcontext() as context:
        context.prec = 60
        assert furthest(of(exps, ALL), [Decimal(x).exp() for x in ALL]) < 0.52
        assert furthest(of(logs, NEAR), [(1 + Decimal(x)).ln() for x in NEAR]) < 1
    assert of(logs, np.array([0.0, 1.0])).tolist() == [0.0, np.log(2)]
    assert of(exps, np.array([0.0, -0.0])).tolist() == [1.0, 1.0]
    assert np.array_equal(of(either, ALL), of(exps, ALL))


def test_float32_is_within_a_part_of_the_last_place_for_any_number() -> None:
    x = np.concatenate([ALL, RNG.uniform(-104, 89, 2000)]).astype(np.float32)
    x = x[np.abs(x) < 88.7]
    with localcontext() as context:
        context.prec = 40
        assert furthest(of(exps_32, x), [Decimal(float(v)).exp() for v in x]) < 0.51
    ends = np.array([89, 200, np.inf, 3e38, -104, -np.inf, np.nan, -88, -103, 0], np.float32)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_array_equal(of(exps_32, ends), np.exp(ends.astype(np.float64)).astype(np.float32))
    assert np.array_equal(of(either, x), of(exps_32, x))


def test_their_bits_are_the_same_on_every_machine() -> None:
    x = np.linspace(-40, 40, 20_001)
    made = of(exps, x), of(exps_32, x.astype(np.float32)), of(logs, np.linspace(0, 1, 20_001))
    assert [sha256(m.tobytes()).hexdigest()[:16] for m in made] == BITS


BITS = ["f9874cfbf022edd3", "d0e7ae4e1a15e1a3", "d4cf4f5ec3a046a4"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("large", [None, 511.0, 600.0, -800.0, np.inf, np.nan])
def test_slopes_and_losses_of_many_rows(dtype: type, large: float | None) -> None:
    """Tiles by vectors and, where a margin is very large, without them."""
    z = RNG.standard_normal(1000).astype(dtype) * 5
    labels = RNG.choice(np.array([-1, 1], np.int8), 1000)
    if large is not None:
        z[300] = large
    rows = RNG.permutation(1000)
    with np.errstate(over="ignore", invalid="ignore"):
        right = -labels[rows] / (1 + np.exp(labels[rows] * z.astype(np.float64)))
        losses = np.logaddexp(0.0, -z.astype(np.float64) * labels)
    assert small(z) == (large in (None, 511.0))
    slopes, found = z.copy(), z.astype(np.float64)
    logistic_slopes(slopes, labels, rows)
    logistic_losses(found, labels)
    np.testing.assert_allclose(slopes, right, rtol=2e-7 if dtype is np.float32 else 1e-15, atol=1e-37)
    np.testing.assert_allclose(found, losses, rtol=1e-14)
    direct = z.copy()
    logistic_slopes(direct, labels[rows], None)
    np.testing.assert_array_equal(direct, slopes)


def test_what_is_small() -> None:
    assert small(np.array([LARGEST / 2, -LARGEST / 2]))
    assert not small(np.array([0.0, LARGEST]))
    assert not small(np.array([0.0, -np.inf], np.float32))
