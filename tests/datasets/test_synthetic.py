"""Synthetic data: the promised sizes, popularity, labels and weights; the same for the same seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from qsim.datasets import Synthetic, synthetic

BASE = Synthetic(rows=20_000, features=500, nonzeros_per_row=10)
sources = st.builds(
    lambda rows, features, share, exponent, values, seed: Synthetic(
        rows, features, 1 + share * (features / 2 - 1), exponent=exponent, values=values, seed=seed
    ),
    st.integers(1, 60),
    st.integers(2, 60),
    st.floats(0, 1),
    st.floats(0, 5),
    st.sampled_from(["ones", "tfidf"]),
    st.integers(0, 2**64 - 1),
)


@settings(max_examples=50)
@given(sources)
def test_any_parameters_give_full_rows_of_the_right_shape(source: Synthetic) -> None:
    data = source.load()
    assert (data.rows, data.features, data.name) == (source.rows, source.features, source.name)
    assert np.diff(data.indptr).min() >= 1
    assert source.weights().shape == (source.features,)
    assert np.mean((data.to_scipy() @ source.weights()) ** 2) ** 0.5 == pytest.approx(3, rel=1e-5)
    assert eval(repr(source)) == source


@pytest.mark.parametrize("nonzeros", [1, 1.5, 4, 30, 250])
@pytest.mark.parametrize("exponent", [0.0, 1.1, 3.0])
def test_rows_have_the_promised_mean_size(nonzeros: float, exponent: float) -> None:
    """A row's size is a sum of independent indicators, so its variance is at most its mean: six deviations."""
    data = synthetic(20_000, 500, nonzeros, exponent=exponent)
    assert data.nonzeros / data.rows == pytest.approx(nonzeros, abs=6 * (nonzeros / data.rows) ** 0.5)


def test_popularity_follows_the_power_law() -> None:
    """Features of rank 20 and 200 are rare enough for share = rate: their ratio is 10^1.1, averaged over neighbours."""
    data = synthetic(200_000, 1000, 3)
    shares = np.sort(np.bincount(data.indices, minlength=1000))[::-1] / data.rows
    rates = -np.log1p(-shares)
    measured = np.log(rates[15:25].mean() / rates[150:250].mean()) / np.log(10)
    assert measured == pytest.approx(1.1, abs=0.03)


def test_popular_features_are_spread_over_the_columns() -> None:
    popular = [np.bincount(replace(BASE, seed=seed).load().indices).argmax() for seed in range(8)]
    assert len(set(popular)) > 4


def test_ones_are_not_stored_and_tfidf_rows_have_unit_length() -> None:
    assert BASE.load().values is None
    text = replace(BASE, values="tfidf").load()
    assert np.sqrt(text.to_scipy().power(2).sum(axis=1)) == pytest.approx(np.ones(text.rows), abs=1e-5)
    assert (text.indices == BASE.load().indices).all()


def test_rare_features_weigh_more_in_tfidf() -> None:
    text = synthetic(5000, 100, 4, values="tfidf")
    matrix, popularity = text.to_scipy(), np.bincount(text.indices, minlength=100)
    mean = matrix.sum(axis=0) / popularity
    assert mean[popularity.argmin()] > 1.5 * mean[popularity.argmax()]


def test_labels_follow_the_model() -> None:
    """In each tenth of the margins the share of positives is the mean of noise + (1 - 2 noise) p: six deviations."""
    for noise in (0.0, 0.2, 0.5):
        source = replace(BASE, noise=noise)
        data = source.load()
        chance = 1 / (1 + np.exp(-(data.to_scipy() @ source.weights())))
        chance = noise + (1 - 2 * noise) * chance
        for part in np.array_split(np.argsort(chance), 10):
            deviation = 0.5 / part.size**0.5
            assert (data.labels[part] == 1).mean() == pytest.approx(chance[part].mean(), abs=6 * deviation)


def test_noise_changes_labels_only() -> None:
    clear, noisy = replace(BASE, noise=0.0).load(), replace(BASE, noise=0.1).load()
    assert (clear.indices == noisy.indices).all()
    assert (clear.labels != noisy.labels).mean() == pytest.approx(0.1, abs=0.015)


def test_seeds_decide_everything() -> None:
    source = Synthetic(1000, 50, 5, seed=3)
    assert source.load() is Synthetic(1000, 50, 5, seed=3).load()
    assert source.load().source == source
    assert source.load() == synthetic(1000, 50, 5, seed=3)
    assert source.load() != synthetic(1000, 50, 5, seed=4)
    assert source.load().digest == "0671524ae24b570c"  # a change here changes what users' seeds mean


def test_repr_can_be_evaluated() -> None:
    assert eval(repr(BASE), {"qsim": qsim}) == BASE
    assert repr(BASE).startswith("qsim.datasets.Synthetic(rows=20000, ")
    assert "name" not in repr(BASE)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": 0}, "rows.*found 0"),
        ({"rows": 2.5}, "rows.*found 2.5"),
        ({"features": 1}, "features.*found 1"),
        ({"nonzeros_per_row": 0.5}, "nonzeros_per_row.*found 0.5"),
        ({"nonzeros_per_row": 251}, "half of the 500 features, found 251"),
        ({"nonzeros_per_row": float("nan")}, "nonzeros_per_row.*nan"),
        ({"exponent": -0.1}, "exponent.*-0.1"),
        ({"noise": 0.6}, "noise.*0.6"),
        ({"noise": -0.1}, "noise.*-0.1"),
        ({"values": "tfdif"}, "'tfdif'.*'tfidf'"),
        ({"seed": -1}, "seed.*-1"),
    ],
)
def test_bad_parameters_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(BASE, **changes)
