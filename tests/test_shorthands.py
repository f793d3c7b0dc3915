"""Numbers that stand for something else: a constant step, a share of the coordinates, levels given in bits."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

import qsim
from helpers.options import made, options

pytestmark = pytest.mark.quick

WITH_STEP = [
    cls for cls in options() if any("Step" in str(field.type) for field in fields(cls) if field.name == "step")
]


@pytest.mark.parametrize("cls", WITH_STEP, ids=lambda cls: cls.__name__)
def test_a_number_is_a_constant_step(cls: type) -> None:
    usual = made(cls, "step", qsim.steps.Constant(0.5))
    for spelling in (0.5, np.float32(0.5), np.array(0.5)):
        other = made(cls, "step", spelling)
        assert (other, repr(other), hash(other)) == (usual, repr(usual), hash(usual))
    assert "step=0.5" in repr(usual)
    assert eval(repr(usual)) == usual
    assert made(cls, "step", 2) == made(cls, "step", 2.0)
    with pytest.raises(ValueError, match="step must be a finite number above 0"):
        made(cls, "step", 0)
    with pytest.raises(ValueError, match=r"step must be a number(, None)? or another object, found True"):
        made(cls, "step", True)
    with pytest.raises(ValueError, match="step"):
        made(cls, "step", True)
    with pytest.raises(TypeError, match="step must be a number, or a rule"):
        made(cls, "step", "0.5")


def test_every_method_but_the_second_order_ones_takes_a_step() -> None:
    assert {qsim.GradientDescent, qsim.SGD, qsim.LocalSGD, qsim.DIANA, qsim.EF21, qsim.MARINA} < set(WITH_STEP)


@pytest.mark.parametrize("cls", [qsim.TopK, qsim.RandK, qsim.Wangni], ids=lambda cls: cls.__name__)
def test_a_fraction_of_the_coordinates(cls: type) -> None:
    v = np.arange(1, 1001, dtype=np.float32)
    share, count = cls(np.float64(0.01)), cls(10)
    key = qsim.Key(0)
    assert share.quantize(v, key).vectors().to_dense().tolist() == count.quantize(v, key).vectors().to_dense().tolist()
    assert (share.variance(1000), share.contraction(1000)) == (count.variance(1000), count.contraction(1000))
    assert share.exact_variance(v) == count.exact_variance(v)
    assert share.expected_nonzeros(v) == count.expected_nonzeros(v)
    assert cls(1e-9).expected_nonzeros(v) == 1.0  # one at least
    assert cls(0.9999999).exact_variance(v) == 0.0  # all of them
    assert type(cls(np.int8(1)).k) is int
    for bad in (0, -1, 0.0, 1.0, -0.5, 1.5, np.nan, np.inf):
        with pytest.raises(ValueError, match="k must be a whole number of at least 1"):
            cls(bad)


def test_levels_by_bits() -> None:
    assert [qsim.QSGD.of_bits(bits).levels for bits in (2, 3, 4, 8)] == [1, 3, 7, 127]
    assert qsim.QSGD.of_bits(2, norm="max") == qsim.QSGD(1, "max")
    for bad in (1, 25, 4.0):
        with pytest.raises(ValueError, match="bits must be a whole number from 2 to 24"):
            qsim.QSGD.of_bits(bad)
