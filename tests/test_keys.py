from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracles.hashing
import qsim
from qsim.kernels import hashing
from qsim.keys import Key, of_word

pytestmark = pytest.mark.quick

words = st.integers(0, 2**64 - 1)


@given(words, words)
def test_fold_is_splitmix_in_python_and_in_the_kernel(word: int, part: int) -> None:
    assert of_word(word).fold(part).word == oracles.hashing.fold(word, part)
    assert int(hashing.fold(np.uint64(word), np.uint64(part))) == oracles.hashing.fold(word, part)


def test_first_splitmix_output_is_the_published_one() -> None:
    assert of_word(1234567).fold(0).word == 6457827717110365317  # the reference generator's first output for this seed


@given(words)
def test_words_are_mixed_from_seeds(seed: int) -> None:
    assert Key(seed).word == oracles.hashing.key(seed)


@given(words, words)
def test_keys_print_as_the_code_that_makes_them(seed: int, part: int) -> None:
    assert repr(Key(seed)) == f"qsim.Key({seed})"
    for key in (Key(seed), Key(seed).fold(part), Key(seed).shared, of_word(part)):
        again = eval(repr(key), {"qsim": qsim})
        assert again == key
        assert hash(again) == hash(key)
        assert again.words(0, 3).tolist() == key.words(0, 3).tolist()
    assert Key(seed).shared != Key(seed)


@given(words, st.integers(0, 1000), st.integers(0, 50))
def test_words_are_folds(word: int, low: int, count: int) -> None:
    assert Key(word).words(low, low + count).tolist() == [Key(word).fold(i).word for i in range(low, low + count)]


def test_parts_order_and_chain() -> None:
    key = Key(5)
    assert key.fold(1, 2) == key.fold(1).fold(2) != key.fold(2, 1)
    assert len({key.fold(i).word for i in range(10_000)}) == 10_000


@pytest.mark.parametrize("bad", [-1, 2**64, 1.0, "a", None, True, np.float32(2), np.arange(2)])
def test_what_is_no_seed_or_part_is_refused(bad: Any) -> None:
    for attempt in (Key, Key(0).fold):
        with pytest.raises(ValueError, match="must be a whole number"):
            attempt(bad)


@pytest.mark.parametrize(("low", "high"), [(-1, 3), (5, 4), (-4, -1)])
def test_words_of_parts_that_there_are_not_are_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match=f"found {low} and {high}"):
        Key(0).words(low, high)


def test_seeds_may_be_any_kind_of_whole_number() -> None:
    assert Key(np.int32(7)) == Key(np.uint64(7)) == Key(7)


def test_generators_repeat_and_differ_by_key() -> None:
    assert Key(3).generator().random() == Key(3).generator().random() != Key(4).generator().random()


@given(words, st.integers(1, 2**31))
def test_below_stays_below(word: int, size: int) -> None:
    found = hashing.below(np.uint64(word), size)
    assert found == oracles.hashing.below(word, size)
    assert 0 <= found < size


def test_below_reaches_both_ends() -> None:
    assert hashing.below(np.uint64(0), 7) == 0
    assert hashing.below(np.uint64(2**64 - 1), 2**31 - 1) == 2**31 - 2


@pytest.mark.parametrize("wrong", ["a", 1.0, np.True_, None, -1, 2**64, np.float64(1), np.ones(1, int)])
def test_what_is_no_word_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="must be a whole number"):
        qsim.Key(wrong)
    with pytest.raises(ValueError, match="a part of a key must be a whole number from 0 to"):
        qsim.Key(0).fold(wrong)
    assert qsim.Key(np.uint8(7)).fold(np.int64(1), np.array(2)) == qsim.Key(7).fold(1, 2)


def test_what_is_no_key_is_refused() -> None:
    for wrong in (0, None, "a", np.uint64(1)):
        with pytest.raises(TypeError, match=r"key must be a key such as qsim.Key\(0\), found"):
            qsim.QSGD(2).quantize([1.0, 2.0], wrong)
