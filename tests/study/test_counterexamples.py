"""The counterexamples of the study of one bit."""

from __future__ import annotations

import numpy as np
import pytest

from qsim.compressors import ErrorFeedback, Identity, ScaledSign, Sign
from qsim.object_loader import load_file
from qsim.study import catalog

one_bit = load_file(catalog.folder() / "one_bit.py", "one_bit_under_test")


def test_sign_goes_the_wrong_way_and_error_feedback_does_not() -> None:
    assert one_bit.linear(Sign())[-1] > 0.2
    assert one_bit.linear(ErrorFeedback(ScaledSign()))[-1] < -0.15


@pytest.mark.parametrize("compressor", [Sign(), ScaledSign()])
def test_sign_stays_on_the_line_through_the_start(compressor) -> None:
    """As x1 + x2 stays 2, f stays at or above 2 eps."""
    assert one_bit.ridge(compressor).min() >= 2 * one_bit.EPSILON - 1e-4


def test_the_ridge_is_solved_by_error_feedback_as_without_compression() -> None:
    for compressor in (ErrorFeedback(ScaledSign()), Identity()):
        assert np.mean(one_bit.ridge(compressor)[-100:]) < 0.1
