"""Count sketches: bit for bit against the oracle, linear, and what they find of sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from helpers.vectors import sparse, vectors, words
from oracles import count_sketch
from qsim.batch import SharedSupport, Vectors
from qsim.compressors import CountSketch, NotFiniteError
from qsim.keys import of_word


@given(vectors, st.integers(1, 4), st.integers(1, 30), words)
def test_it_is_the_oracles(v: np.ndarray, tables: int, cells: int, word: int) -> None:
    """Dense and sparse; vectors that are no longer than the sketch arrive as they are."""
    compressor, keys = CountSketch(tables, cells), np.array([word], np.uint64)
    message = compressor.quantize(v, of_word(word))
    assert compressor.compress(sparse(v, np.flatnonzero(v)), keys) == message
    found = compressor.decompress(message, keys).to_dense()[0]
    if v.size <= tables * cells:
        assert found.tolist() == v.tolist()
        return
    sums = count_sketch.sketch(word, v, tables, cells)
    assert message.value.tolist() == sums
    assert found.tolist() == count_sketch.estimates(word, v.size, sums, tables, cells)


@given(st.integers(1, 5), words)
def test_sketches_of_whole_numbers_add_up(workers: int, word: int) -> None:
    """To the last bit: the sum of messages made with one key is the message of the sum."""
    rows = np.random.default_rng(workers).integers(-99, 99, (workers, 200)).astype(np.float32)
    compressor, key = CountSketch(3, 16), of_word(word)
    messages = [compressor.quantize(row, key) for row in rows]
    total = messages[0]
    for message in messages[1:]:
        total = total.plus(message)
    assert total == compressor.quantize(rows.sum(axis=0), key)


def test_what_is_large_in_a_sum_is_found() -> None:
    """A coordinate that is 1 for all of 20 workers, whose others are noise of ten times its size: it is the largest of
    the sum of sketches, and of no worker's own vector.

    By Chebyshev's inequality the estimates of others, whose noise is sqrt(20 * 5000 * 0.01/1500) = 0.8, are rarely
    near 20.
    """
    random, compressor = np.random.default_rng(0), CountSketch(1, 1500)
    rows = 0.1 * random.standard_normal((20, 5000)).astype(np.float32)
    rows[np.arange(20), 100 + np.arange(20)] = 10.0
    rows[:, 7] = 1.0
    keys = qsim.Key(3).shared.words(0, 20)
    message = compressor.compress(Vectors.dense(rows), keys)
    total = message.value.reshape(20, -1).sum(axis=0)
    found = compressor.decompress(SharedSupport(5000, np.array([0, 1500]), 1500, total), keys[:1]).to_dense()[0]
    assert np.argmax(np.abs(found)) == 7
    assert (np.argmax(np.abs(rows), axis=1) != 7).all()


def test_messages_are_summed_on_their_way() -> None:
    """On a ring, at k numbers; the same as summed by a server if all have one key."""
    run = qsim.Run(
        qsim.datasets.synthetic(60, 40, 6, seed=5),
        qsim.LogisticRegression(l2=0.05),
        qsim.GradientDescent(0.1),
        CountSketch(2, 10),
        workers=4,
        rounds=5,
        optimum=False,
        network=qsim.Network(qsim.network.Ring()),
        downlink=qsim.downlinks.Replicated(),
    )
    trace = qsim.simulate(run)
    assert np.isfinite(trace.weights).all()
    assert replace(run, compressor=qsim.RandK(20, "drawn")).problem().spread < run.problem().spread == 39 / 20


def test_what_is_stated_and_refused() -> None:
    v = np.random.default_rng(1).standard_normal(40)
    assert CountSketch(2, 10).variance(40) == 39 / 20
    assert CountSketch(2, 10).variance(20) == 0
    assert CountSketch(2, 10).exact_variance(v) == pytest.approx(39 / 20 * v @ v)
    assert CountSketch(2, 10).summable
    for make in (lambda: CountSketch(0, 5), lambda: CountSketch(257, 5), lambda: CountSketch(1, 2**23 + 1)):
        with pytest.raises(ValueError, match="must be"):
            make()
    with pytest.raises(NotFiniteError, match="coordinate 2"):
        CountSketch(1, 2).quantize([1.0, 0.0, np.inf], qsim.Key(0))
    with pytest.raises(NotFiniteError, match="row 0 of the batch has sums above"):
        CountSketch(1, 1).quantize([3e38, 3e38, 3e38], qsim.Key(0))
    with pytest.raises(ValueError, match="makes 20 numbers per row, the message has 3"):
        CountSketch(2, 10).decompress(SharedSupport(50, np.array([0, 3]), 3, np.ones(3, np.float32)), np.zeros(1, "u8"))
