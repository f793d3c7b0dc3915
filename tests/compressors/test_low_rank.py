"""Rank-R and PowerSGD: against NumPy and the oracle, their certificates, memories, and matrices of weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from helpers.planned import agree, plain
from oracles import low_rank
from qsim.batch import SharedSupport, Support, Vectors, dense_offsets
from qsim.compressors import NotFiniteError, PowerSGD, RankR
from qsim.engines import Serial
from qsim.keys import of_word
from qsim.methods import DIANA, EF21

SHAPES = [(12, 5, 2), (5, 12, 2), (7, 7, 3), (40, 3, 1), (30, 8, 7)]


def arrived(compressor, v: np.ndarray, keys: np.ndarray) -> np.ndarray:
    return compressor.decompress(compressor.compress(Vectors.dense(v), keys), keys).to_dense()


def truncated(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, s, vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e15])
def test_rank_r_is_the_best(shape: tuple[int, int, int], scale: float) -> None:
    """That of NumPy's singular values, to the rounding of factors to float32: rotations end elsewhere in last bits."""
    d, c, rank = shape
    random = np.random.default_rng(d)
    matrix = (scale * random.standard_normal((d, c)) * 0.5 ** np.arange(c)).astype(np.float32)
    compressor = RankR(rank, c)
    found = arrived(compressor, matrix.reshape(1, -1), qsim.Key(0).words(0, 1)).reshape(d, c)
    if rank * (d + c) >= d * c:
        assert np.array_equal(found, matrix)
        return
    expected = truncated(matrix, rank)
    assert np.allclose(found, expected, rtol=0, atol=4 * 2.0**-24 * np.linalg.norm(matrix))
    error = np.sum((matrix.astype(np.float64) - expected) ** 2)
    assert compressor.exact_variance(matrix.reshape(-1)) == pytest.approx(error, rel=1e-9)


def test_rows_are_filled_up() -> None:
    """17 numbers in 4 columns are 5 rows, of which the last one has zeros behind."""
    v = np.random.default_rng(2).standard_normal(17).astype(np.float32)
    found = arrived(RankR(1, 4), v[None], qsim.Key(0).words(0, 1))[0]
    expected = truncated(np.pad(v, (0, 3)).reshape(5, 4), 1).reshape(-1)[:17]
    assert np.allclose(found, expected, atol=1e-6)
    assert RankR(1, 4).quantize(v, qsim.Key(0)).k == 9
    assert arrived(RankR(1, 4), np.zeros((0, 17), np.float32), qsim.Key(0).words(0, 0)).shape == (0, 17)
    assert RankR(2, 4).quantize(v, qsim.Key(0)).value.tolist() == v.tolist()  # 18 numbers would be more than 17


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_step_is_the_oracles(shape: tuple[int, int, int]) -> None:
    """Bit for bit: the start is drawn from the key; of matrices of lower rank, too, whose last columns vanish."""
    d, c, rank = shape
    random, word = np.random.default_rng(c), int(qsim.Key(c).words(0, 1)[0])
    if rank * (d + c) >= d * c:
        return
    for matrix in (random.standard_normal((d, c)), np.outer(np.arange(d), np.ones(c)), np.zeros((d, c))):
        matrix = matrix.astype(np.float32)
        left, right = low_rank.subspace_step(matrix, of_word(word).generator().standard_normal((c, rank)))
        message = PowerSGD(rank, c).quantize(matrix.reshape(-1), of_word(word))
        assert message.value.tolist() == np.concatenate([left.reshape(-1), right.reshape(-1)]).tolist()
        found = PowerSGD(rank, c).decompress(message, np.array([word], np.uint64)).to_dense()
        assert found.reshape(d, c).tolist() == low_rank.product(left, right).tolist()


@pytest.mark.parametrize(("d", "c", "rank"), [(20, 6, 2), (6, 20, 2)])
def test_the_contraction_is_attained_and_never_worse(d: int, c: int, rank: int) -> None:
    """Equal singular values: any basis takes rank/min(d, c) of the energy. Else the mean of 400 starts takes more."""
    random, keys, least = np.random.default_rng(0), qsim.Key(1).words(0, 400), min(d, c)
    u = np.linalg.qr(random.standard_normal((max(d, c), least)))[0]
    equal = (u if d > c else u.T).reshape(-1).astype(np.float32)
    for compressor in (PowerSGD(rank, c), RankR(rank, c)):
        error = np.sum((arrived(compressor, np.tile(equal, (2, 1)), keys[:2]) - equal) ** 2, axis=1)
        assert error == pytest.approx((1 - rank / least) * np.sum(equal**2), rel=1e-5)
        assert compressor.contraction(d * c) == rank / least
    for power in (0.9, 0.5):
        v = (u * power ** np.arange(least) if d > c else (u * power ** np.arange(least)).T).astype(np.float32)
        error = np.sum(
            (arrived(PowerSGD(rank, c), np.tile(v.reshape(-1), (400, 1)), keys) - v.reshape(-1)) ** 2, axis=1
        )
        best = np.sum((v - truncated(v, rank)) ** 2)
        assert best < error.mean() < (1 - rank / least) * np.sum(v**2)


def test_its_memory_is_that_of_the_paper() -> None:
    """A plain loop: what is left out is added to the next update, and every step begins where the last one ended."""
    d, c, rank, compressor = 9, 6, 2, PowerSGD(2, 6)
    random, support = np.random.default_rng(3), Support(54, dense_offsets(2, 54), None)
    memory = compressor.memory(support)
    error, start = np.zeros((2, d, c), np.float32), [None, None]
    for t in range(6):
        keys, v = qsim.Key(t).words(0, 2), random.standard_normal((2, 54)).astype(np.float32)
        message = compressor.compress(Vectors.dense(v), keys, memory)
        sent = compressor.decompress(message, keys)
        compressor.on_delivered(memory, sent)
        for i in range(2):
            total = error[i] + v[i].reshape(d, c)
            begin = of_word(int(keys[i])).generator().standard_normal((c, rank)) if start[i] is None else start[i]
            left, right = low_rank.subspace_step(total, begin)
            start[i] = right.astype(np.float64)
            error[i] = total - low_rank.product(left, right)
            assert np.array_equal(sent.to_dense()[i].reshape(d, c), low_rank.product(left, right))
            assert np.array_equal(memory.arrays["error"].reshape(2, d, c)[i], error[i])
    with pytest.raises(ValueError, match="nothing was compressed"):
        compressor.on_delivered(memory, sent)


def test_a_warm_start_comes_to_the_best_subspace() -> None:
    """Of one matrix again and again, nothing left out: the error falls to that of the best of its rank."""
    matrix = np.random.default_rng(4).standard_normal((30, 10)) * 0.7 ** np.arange(10)
    compressor, v = PowerSGD(3, 10), matrix.astype(np.float32).reshape(1, -1)
    memory, keys, errors = compressor.memory(Support(300, dense_offsets(1, 300), None)), qsim.Key(0).words(0, 1), []
    for _ in range(40):
        sent = compressor.decompress(compressor.compress(Vectors.dense(v), keys, memory), keys)
        errors.append(float(np.sum((sent.to_dense() - v) ** 2)))
        compressor.on_delivered(memory, Vectors.dense(v))  # as if all of it had arrived: e stays zero
    best = np.sum((matrix - truncated(matrix, 3)) ** 2)
    assert errors[0] > 1.1 * best
    assert errors[-1] == pytest.approx(best, rel=1e-4)


def classes() -> qsim.datasets.Dataset:
    random = np.random.default_rng(6)
    x = random.standard_normal((240, 20)).astype(np.float32)
    return qsim.datasets.Dataset.from_arrays(x, np.argmax(x @ random.standard_normal((20, 6)), axis=1), kind="classes")


RUN = qsim.Run(
    classes(),
    qsim.MultinomialLogistic(classes=6, l2=0.05),
    qsim.GradientDescent(0.3),
    PowerSGD(1, 6),
    workers=4,
    rounds=12,
    evaluate_every=4,
    optimum=False,
)


@pytest.mark.parametrize("compressor", [PowerSGD(1, 6), RankR(2, 6), qsim.ErrorFeedback(RankR(1, 6))], ids=repr)
def test_matrices_of_weights_are_trained(compressor) -> None:
    """Six classes: the same bits in blocks and on threads, and near gradient descent at a part of its bits."""
    method = EF21(0.3) if isinstance(compressor, RankR) else qsim.GradientDescent(0.3)
    run = replace(RUN, method=method, compressor=compressor)
    one = plain(run)
    agree(qsim.simulate(run), one)
    for engine in (Serial(block=1), Serial(threads=2, block=2)):
        agree(plain(run, engine=engine), one)
    run = replace(run, rounds=150)
    found, exact = (qsim.simulate(replace(run, compressor=each)) for each in (compressor, qsim.Identity()))
    first, loss, best = exact.axis("loss")[0], found.axis("loss")[-1], exact.axis("loss")[-1]
    assert loss - best < 0.02 * (first - best)
    assert found.axis("bits_up")[-1] < 0.5 * exact.axis("bits_up")[-1]


def test_what_is_refused() -> None:
    for make in (lambda: RankR(0, 3), lambda: PowerSGD(1, 0)):
        with pytest.raises(ValueError, match="must be"):
            make()
    with pytest.raises(ValueError, match="without a memory"):
        DIANA(0.1).resolved(RUN.problem())
    with pytest.raises(NotFiniteError, match="coordinate 2"):
        RankR(1, 2).quantize([1.0, 0.0, np.nan, 0.0, 0.0, 0.0, 0.0, 0.0], qsim.Key(0))
    with pytest.raises(NotFiniteError, match="row 0 of the batch has factors above"):
        RankR(1, 8).quantize(np.full(64, 3e38, np.float32), qsim.Key(0))
    with pytest.raises(ValueError, match="makes 12 numbers per row, the message has 3"):
        RankR(1, 4).decompress(SharedSupport(32, np.array([0, 3]), 3, np.ones(3, np.float32)), np.zeros(1, np.uint64))
