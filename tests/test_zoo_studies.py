"""The studies of all compressors and of one bit, on small settings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import qsim
from qsim.compressors import ErrorFeedback, Identity, ScaledSign, Sign
from qsim.loading import load_file
from qsim.study import catalog, cli

TINY = ["--data", "spark_sample", "--rounds", "10", "--seeds", "2", "--workers", "4"]
one_bit = load_file(catalog.folder() / "one_bit.py", "one_bit_under_test")
zoo = load_file(catalog.folder() / "zoo.py", "zoo_under_test")


def test_zoo_shows_every_compressor_with_the_step_that_was_chosen(tmp_path: Path) -> None:
    assert cli.main(["zoo", *TINY, "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "zoo.csv")
    assert list(dict.fromkeys(table["curve"])) == list(zoo.WAYS)
    assert list(dict.fromkeys(table["axis"])) == ["round", "bits_up", "nonzeros"]
    assert len(list(tmp_path.iterdir())) == 5
    provenance = json.loads((tmp_path / "zoo.json").read_text())
    unit = zoo.step(qsim.study.Settings("spark_sample", 4, 10, 2))
    for curve, entry in provenance["curves"].items():
        assert f"Constant(a={entry['choice'] * unit!r})" in entry["run"], curve
        tried = {
            float(choice): each["score"] for choice, each in provenance["tuning"]["curves"][curve]["tried"].items()
        }
        assert list(tried) == list(zoo.MULTIPLES)
        assert entry["choice"] == max(choice for choice, score in tried.items() if score == min(tried.values()))


def test_one_bit_writes_runs_and_counterexamples(tmp_path: Path) -> None:
    assert cli.main(["one_bit", *TINY, "--out", str(tmp_path)]) == 0
    curves = set(pd.read_csv(tmp_path / "one_bit.csv")["curve"])
    assert set(one_bit.WAYS) <= curves
    assert {f"{problem}: {name}" for problem in ("x/4", "ridge") for name in one_bit.SIGNS} <= curves
    assert len(list(tmp_path.iterdir())) == 5


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
