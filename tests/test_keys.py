import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsim.kernels import hashing
from qsim.keys import Key

words = st.integers(0, 2**64 - 1)


@given(words, words)
def test_fold_is_splitmix_in_python_and_in_the_kernel(word: int, part: int) -> None:
    assert Key(word).fold(part).word == oracles.fold(word, part)
    assert int(hashing.fold(np.uint64(word), np.uint64(part))) == oracles.fold(word, part)


def test_first_splitmix_output_is_the_published_one() -> None:
    assert Key(1234567).fold(0).word == 6457827717110365317  # the reference generator's first output for this seed


@given(words, st.integers(0, 1000), st.integers(0, 50))
def test_words_are_folds(word: int, low: int, count: int) -> None:
    assert Key(word).words(low, low + count).tolist() == [Key(word).fold(i).word for i in range(low, low + count)]


def test_parts_order_and_chain() -> None:
    key = Key(5)
    assert key.fold(1, 2) == key.fold(1).fold(2) != key.fold(2, 1)
    assert len({key.fold(i).word for i in range(10_000)}) == 10_000


@pytest.mark.parametrize("bad", [-1, 2**64])
def test_parts_out_of_range_are_refused(bad: int) -> None:
    with pytest.raises(ValueError, match=str(bad)):
        Key(0).fold(bad)
    with pytest.raises(ValueError, match=str(bad)):
        Key(bad)


def test_generators_repeat_and_differ_by_key() -> None:
    assert Key(3).generator().random() == Key(3).generator().random() != Key(4).generator().random()


@given(words, st.integers(1, 2**31))
def test_below_stays_below(word: int, size: int) -> None:
    found = hashing.below(np.uint64(word), size)
    assert found == oracles.below(word, size)
    assert 0 <= found < size


def test_below_reaches_both_ends() -> None:
    assert hashing.below(np.uint64(0), 7) == 0
    assert hashing.below(np.uint64(2**64 - 1), 2**31 - 1) == 2**31 - 2


def test_coordinate_stream_is_equidistributed_and_uncorrelated() -> None:
    """Counts of 256 bins, and correlations of neighbours, keys and workers, over 2^22 draws each.

    False alarms: chi2 with 255 degrees of freedom exceeds 430 with probability 4.3e-11, a correlation 6.5 deviations
    of 2^-11 with 8.0e-11: 6.7e-10 for all eight and four. Power: one bin of 256 that is off by 10% is found with
    probability 0.37, by 12% 0.95, by 14% 0.9999; a correlation of 0.003 with 0.36, 0.004 with 0.95, 0.005 with 0.9999.
    """
    n = 2**22
    first, second = (_stream(Key(1).fold(3, t, 0).words(0, 2), n) for t in (0, 1))
    for draws in (*first, *second):
        counts = np.bincount(draws >> 16, minlength=256)
        assert ((counts - n / 256) ** 2 / (n / 256)).sum() < 430
        low = np.bincount(draws & 255, minlength=256)
        assert ((low - n / 256) ** 2 / (n / 256)).sum() < 430
    pairs = [(first[0][1:], first[0][:-1]), (first[0], first[1]), (first[0], second[0]), (first[0][2:], first[0][:-2])]
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) < 6.5 * n**-0.5


def _stream(keys: np.ndarray, n: int) -> list[np.ndarray]:
    """The uniforms of many coordinates at once."""
    out = []
    for word in keys:
        c = np.arange(n, dtype=np.uint64)
        low, high = int(word) & oracles.M32, int(word) >> 32
        x = c ^ np.uint64(low)
        x ^= x >> np.uint64(16)
        x = (x * np.uint64(0x21F0AAAD)) & np.uint64(oracles.M32)
        x ^= x >> np.uint64(15)
        x = (x + np.uint64(high)) & np.uint64(oracles.M32)
        x = (x * np.uint64(0x735A2D97)) & np.uint64(oracles.M32)
        x ^= x >> np.uint64(15)
        out.append((x >> np.uint64(8)).astype(np.int64))
    return out


def test_the_vectorised_stream_above_is_the_oracle() -> None:
    word = Key(9).fold(1).word
    assert _stream(np.array([word], np.uint64), 50)[0].tolist() == [oracles.uniform24(c, word) for c in range(50)]
