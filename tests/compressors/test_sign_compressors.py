"""ScaledSign, Sign and OneBit: the oracle's message, their errors exactly, both counterexamples, error feedback."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import qsim
from helpers.vectors import levels_of, sparse
from oracles import signs
from qsim.batch import Signs, Vectors
from qsim.compressors import ErrorFeedback, NotFiniteError, OneBit, ScaledSign, Sign
from qsim.kernels.norms import l1_norms

pytestmark = pytest.mark.quick

KEY = qsim.Key(0)
ALL = [ScaledSign(), Sign(), OneBit(), OneBit(support_only=True)]
CONTRACTIONS = {"scaled": ScaledSign(), "one bit": OneBit(), "support": OneBit(support_only=True)}
LARGEST, SMALL, LEAST = float(np.finfo(np.float32).max), float(np.float32(1e-38)), float(np.float32(1e-45))

special = st.sampled_from([0.0, -0.0, 1.0, -1.0, LARGEST, -LARGEST, LEAST, -LEAST, SMALL])
numbers = st.one_of(special, st.floats(-100, 100, width=32), st.just(0.0))
vectors = arrays(np.float32, st.integers(1, 100), elements=numbers)
plain = arrays(np.float32, st.integers(1, 100), elements=st.integers(-1000, 1000).map(lambda k: k / 64))


# The messages.


@given(vectors)
def test_scaled_sign_and_sign_are_the_oracles(v: np.ndarray) -> None:
    scale, expected = signs.scaled_sign(v.tolist())
    message = ScaledSign().quantize(v, KEY)
    assert (message.s, message.bucket, message.scale.tolist()) == (1, 0, [float(scale)])
    assert levels_of(message) == expected
    message = Sign().quantize(v, KEY)
    assert (message.s, message.bucket, message.scale.tolist()) == (1, 0, [1.0])
    assert levels_of(message) == {i: 1 if x >= 0 else -1 for i, x in enumerate(v.tolist())}


@pytest.mark.parametrize("n", [1, 31, 32, 33, 1000])
def test_sums_are_taken_in_lanes(n: int) -> None:
    """In float64, to the last bit, of numbers whose sums must round."""
    v = (np.random.default_rng(n).standard_normal(n) * 10.0 ** (np.arange(n) % 17)).astype(np.float32)
    expected = signs.in_lanes([abs(x) for x in v.tolist()])
    assert l1_norms(np.array([0, n]), v).tolist() == [expected]


@given(vectors, st.booleans())
def test_one_bit_is_the_oracles(v: np.ndarray, support_only: bool) -> None:
    low, high, bits = signs.one_bit(v.tolist(), support_only)
    message = OneBit(support_only=support_only).quantize(v, KEY)
    assert (message.low.tolist(), message.high.tolist()) == ([float(low)], [float(high)])
    assert dict(zip(message.coordinates().tolist(), message.positive.tolist(), strict=True)) == bits


@pytest.mark.parametrize("compressor", ALL, ids=repr)
def test_long_rows_are_the_oracles(compressor: qsim.compressors.Compressor) -> None:
    """Past 65,536 coordinates, of a size that is no multiple of 32, in float64 sums that round."""
    v = (np.random.default_rng(1).standard_normal(70_001) * 10.0 ** np.arange(70_001) ** 0.1).astype(np.float32)
    v[::3] = 0
    message = compressor.quantize(v, KEY)
    if isinstance(message, Signs):
        low, high, bits = signs.one_bit(v.tolist(), compressor.support_only)
        assert (message.low[0], message.high[0]) == (low, high)
        assert dict(zip(message.coordinates().tolist(), message.positive.tolist(), strict=True)) == bits
    else:
        scale, expected = signs.scaled_sign(v.tolist())
        assert message.scale[0] == (1 if compressor == Sign() else scale)
        assert levels_of(message) == expected


@pytest.mark.parametrize("compressor", ALL, ids=repr)
@given(rows=st.lists(vectors, min_size=1, max_size=4), data=st.data())
def test_dense_and_sparse_alone_or_in_a_batch_give_one_message(compressor, rows, data) -> None:
    n = max(v.size for v in rows)
    block = np.zeros((len(rows), n), np.float32)
    for row, v in zip(block, rows, strict=True):
        row[: v.size] = v
    keys = KEY.words(0, len(rows))
    together = compressor.compress(Vectors.dense(block), keys)
    parts = []
    for row, key in zip(block, keys, strict=True):
        kept = np.flatnonzero((row != 0) | data.draw(arrays(np.bool_, n)))  # stored zeros change nothing
        parts.append(compressor.compress(sparse(row, kept), np.array([key], np.uint64)))
    assert together == compressor.emits.join(parts)
    offsets = np.cumsum([0, *(np.count_nonzero(block, axis=1))])
    index = np.nonzero(block)[1].astype(np.int32)
    assert together == compressor.compress(Vectors(n, offsets, index, block[block != 0]), keys)


def test_the_lectures_example() -> None:
    v = [0.1, 0.15, -0.2, 20, 15.3, -1.222]
    for compressor in (OneBit(), OneBit(support_only=True)):
        message = compressor.quantize(v, KEY)
        assert message.high[0] == np.float32(8.8875)
        assert message.low[0] == np.float32(-0.711)
        assert message.positive.tolist() == [True, True, False, True, True, False]


def test_zeros_move_unless_only_the_support_is_sent() -> None:
    v = [0.0, 3.0, 0.0, -1.0]
    assert ScaledSign().quantize(v, KEY).vectors().to_dense().tolist() == [[1.0, 1.0, 1.0, -1.0]]
    assert OneBit().quantize(v, KEY).vectors().to_dense().tolist() == [[1.0, 1.0, 1.0, -1.0]]
    message = OneBit(support_only=True).quantize(v, KEY)
    assert message.vectors().to_dense().tolist() == [[0.0, 3.0, 0.0, -1.0]]
    assert message.index.tolist() == [1, 3]
    assert [compressor.dense for compressor in ALL] == [True, True, True, False]
    assert [compressor.keeps_sparse for compressor in ALL] == [False, False, False, True]


# The errors.


def error(compressor: qsim.compressors.Compressor, v: np.ndarray) -> float:
    sent = compressor.quantize(v, KEY).vectors().to_dense()[0].astype(np.float64)
    return float(((sent - v) ** 2).sum())


@pytest.mark.parametrize("rule", CONTRACTIONS)
@given(v=plain)
def test_error_is_the_stated_one_and_a_contraction(rule: str, v: np.ndarray) -> None:
    compressor, exact = CONTRACTIONS[rule], v.astype(np.float64)
    square = float(exact @ exact)
    expected = float(((signs.decoded(rule, v) - exact) ** 2).sum())
    assert compressor.exact_variance(v) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert error(compressor, v) == pytest.approx(expected, rel=1e-6, abs=1e-6 * square)
    assert expected <= (1 - compressor.contraction(v.size)) * square * (1 + 1e-12)
    assert error(compressor, v) <= (1 - compressor.contraction(v.size)) * square + 2**-47 * square
    if rule == "scaled" and square:
        assert expected == pytest.approx((1 - np.abs(exact).sum() ** 2 / (v.size * square)) * square, abs=1e-9 * square)


@given(plain)
def test_one_bit_is_never_worse_than_scaled_sign(v: np.ndarray) -> None:
    """In exact arithmetic, and as sent (to the rounding of the means)."""
    square = float(v.astype(np.float64) @ v.astype(np.float64))
    assert OneBit().exact_variance(v) <= ScaledSign().exact_variance(v) * (1 + 1e-12) + 1e-12
    assert error(OneBit(), v) <= error(ScaledSign(), v) + 2**-47 * square
    assert OneBit(support_only=True).exact_variance(v) <= OneBit().exact_variance(v) * (1 + 1e-12) + 1e-12


@pytest.mark.parametrize("n", [1, 2, 50])
@pytest.mark.parametrize("compressor", [ScaledSign(), OneBit()], ids=repr)
def test_delta_is_attained_by_a_single_nonzero(compressor: qsim.compressors.Compressor, n: int) -> None:
    v = np.zeros(n)
    v[n // 2] = 4.0
    assert error(compressor, v) == pytest.approx((1 - 1 / n) * 16, abs=1e-6)
    assert compressor.contraction(n) == 1 / n
    assert error(OneBit(support_only=True), v) == 0.0


def test_what_is_not_claimed() -> None:
    assert Sign().contraction(1) is None
    assert Sign().exact_variance([0.5, -0.5, 0.0]) == 1.5
    assert error(Sign(), np.float32([0.5, -0.5, 0.0])) == 1.5
    for compressor in ALL:
        assert compressor.variance(4) is None  # biased, all of them
    with pytest.raises(ValueError, match="needs a contraction"):
        ErrorFeedback(Sign())


@given(plain)
def test_expected_nonzeros(v: np.ndarray) -> None:
    for compressor in ALL:
        assert compressor.quantize(v, KEY).vectors().nonzeros == compressor.expected_nonzeros(v)


# Edges.


def test_zero_vectors() -> None:
    zero = np.zeros(5)
    message = ScaledSign().quantize(zero, KEY)
    assert (message.scale.tolist(), message.nonzeros) == ([0.0], 0)
    message = OneBit().quantize(zero, KEY)
    assert (message.low.tolist(), message.high.tolist(), message.positive.tolist()) == ([0.0], [0.0], [True] * 5)
    assert OneBit(support_only=True).quantize(zero, KEY).positive.size == 0
    assert Sign().quantize(zero, KEY).vectors().to_dense().tolist() == [[1.0] * 5]
    for compressor in (ScaledSign(), OneBit(), OneBit(support_only=True)):
        assert compressor.quantize(zero, KEY).vectors().to_dense().tolist() == [[0.0] * 5]


@pytest.mark.parametrize("compressor", ALL, ids=repr)
def test_a_batch_without_rows(compressor: qsim.compressors.Compressor) -> None:
    message = compressor.compress(Vectors.dense(np.zeros((0, 9), np.float32)), KEY.words(0, 0))
    assert (message.rows, message.vectors().to_dense().shape) == (0, (0, 9))


@pytest.mark.parametrize("x", [1.0, -3.5, LARGEST, -LARGEST, SMALL, LEAST, -LEAST])
def test_single_coordinates_are_exact(x: float) -> None:
    for compressor in (ScaledSign(), OneBit(), OneBit(support_only=True)):
        assert compressor.quantize([x], KEY).vectors().to_dense().tolist() == [[x]]
        assert compressor.quantize([x] * 7, KEY).vectors().to_dense().tolist() == [[x] * 7]


def test_a_mean_that_is_rounded_to_zero_sends_nothing() -> None:
    message = ScaledSign().quantize([LEAST, 0, 0, 0], KEY)
    assert (message.scale.tolist(), message.nonzeros) == ([0.0], 0)


@pytest.mark.parametrize("compressor", ALL, ids=repr)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_not_finite_is_refused_and_located(compressor: qsim.compressors.Compressor, bad: float) -> None:
    block = np.ones((3, 70))
    block[1, 37] = bad
    with pytest.raises(NotFiniteError, match=r"row 1 .* coordinate 37") as caught:
        compressor.compress(Vectors.dense(block), KEY.words(0, 3))
    assert caught.value.row == 1
    with pytest.raises(NotFiniteError, match=r"row 0 .* coordinate 69"):
        compressor.compress(sparse(np.full(70, bad), np.array([69])), KEY.words(0, 1))


@pytest.mark.parametrize("compressor", ALL, ids=repr)
def test_other_types_are_taken_as_float32(compressor: qsim.compressors.Compressor) -> None:
    for v in (np.array([0.1, -4.0, 0.0, 1.3]), np.array([1, -4, 0, 2])):
        exact = compressor.compress(Vectors.dense(v.astype(np.float32)), KEY.words(0, 1))
        assert compressor.compress(Vectors.dense(v), KEY.words(0, 1)) == exact
        assert compressor.quantize(v.tolist(), KEY) == exact


@pytest.mark.parametrize("bad", [1, 0, None, "yes"])
def test_a_bad_option_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="support_only must be True or False"):
        OneBit(bad)


@pytest.mark.parametrize("compressor", ALL, ids=repr)
def test_messages_travel_and_options_print_as_code(compressor: qsim.compressors.Compressor) -> None:
    assert eval(repr(compressor)) == compressor
    block = np.random.default_rng(3).standard_normal((4, 33)).astype(np.float32)
    block[:, ::4] = 0
    block[2] = 0
    channel, keys = qsim.Channel(compressor), KEY.words(0, 4)
    expected = compressor.compress(Vectors.dense(block), keys).vectors().to_dense()
    assert np.array_equal(channel.unpack(*channel.pack(Vectors.dense(block), keys), keys).to_dense(), expected)


# Karimireddy et al., ICML 2019, section 3, with plain loops.


def run(compressor: qsim.compressors.Compressor, w: list[float], gradient, steps: int, size: float, feedback: bool):
    """Descend by what is sent of size * gradient; with feedback, of that and of what was not sent before."""
    point, memory = np.array(w), np.zeros(len(w))
    for t in range(steps):
        update = size * gradient(point, t)
        if compressor == Sign():
            point -= size * compressor.quantize(update, KEY).vectors().to_dense()[0]
            continue
        sent = compressor.quantize(memory + update, KEY).vectors().to_dense()[0].astype(np.float64)
        memory = (memory + update - sent) * feedback
        point = point - sent
    return point


def test_sign_descent_goes_the_wrong_way_and_feedback_does_not() -> None:
    """f(x) = x/4 on [-1, 1]; the gradient is 4 with probability 1/4, else -1.

    2000 steps of 0.001: sign descent moves up by about 1, since three gradients of four point up; error feedback
    (exact in one dimension: scaled sign sends all of it) down by 0.25 times 2. The standard deviations are 0.039
    and 0.097: each test fails by chance with a probability below 1e-9 (the seed is fixed besides).
    """
    rising = np.random.default_rng(5).random(2000) < 0.25

    def gradient(x: np.ndarray, t: int) -> np.ndarray:
        return np.array([4.0 if rising[t] else -1.0])

    assert run(Sign(), [0.0], gradient, 2000, 0.001, feedback=False)[0] > 0.7
    for compressor in CONTRACTIONS.values():
        assert -1.2 < run(compressor, [0.0], gradient, 2000, 0.001, feedback=True)[0] < 0.2


def test_signs_stay_on_a_line_that_misses_the_optimum_and_feedback_leaves_it() -> None:
    """f(x) = eps |x1 + x2| + |x1 - x2| from (1, 1), the subgradient's sign(0) = +1: all signs are +-(1, -1)."""
    eps = 0.5

    def sign(x: float) -> float:
        return 1.0 if x >= 0 else -1.0

    def value(x: np.ndarray) -> float:
        return eps * abs(x[0] + x[1]) + abs(x[0] - x[1])

    def gradient(x: np.ndarray, t: int) -> np.ndarray:
        return eps * sign(x[0] + x[1]) * np.array([1.0, 1.0]) + sign(x[0] - x[1]) * np.array([1.0, -1.0])

    for compressor in (Sign(), ScaledSign()):
        stuck = run(compressor, [1.0, 1.0], gradient, 2000, 2.0**-8, feedback=False)
        assert stuck.sum() == pytest.approx(2.0, abs=1e-9)
        assert value(stuck) >= 2 * eps - 1e-9
    for compressor in CONTRACTIONS.values():
        assert value(run(compressor, [1.0, 1.0], gradient, 2000, 2.0**-8, feedback=True)) < 0.05


# In a simulation.


def test_memories_live_where_something_can_be_sent() -> None:
    support = qsim.batch.Support(9, np.array([0, 2]), np.array([3, 5], np.int32))
    for compressor, size in ((ScaledSign(), 9), (OneBit(), 9), (OneBit(support_only=True), 2)):
        assert ErrorFeedback(compressor).memory(support).arrays["error"].size == size


@pytest.mark.parametrize("compressor", CONTRACTIONS.values(), ids=repr)
def test_error_feedback_trains(compressor: qsim.compressors.Compressor) -> None:
    """At least 70% of what uncompressed training gains in as many rounds."""
    arguments = {"workers": 4, "rounds": 30, "seed": 0, "method": qsim.SGD(step=qsim.steps.Constant(0.1), batch=8)}
    data, objective = qsim.datasets.load("spark_sample"), qsim.LogisticRegression(l2=1e-3)
    losses = qsim.simulate(data, objective=objective, compressor=ErrorFeedback(compressor), **arguments).frame["loss"]
    best = qsim.simulate(data, objective=objective, compressor=qsim.Identity(), **arguments).frame["loss"]
    assert best.iloc[0] - best.iloc[-1] > 0.02
    assert losses.iloc[0] - losses.iloc[-1] > 0.7 * (best.iloc[0] - best.iloc[-1])
