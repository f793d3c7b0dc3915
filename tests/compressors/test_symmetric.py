"""Rank-R of symmetric matrices: against NumPy, what is on the wire, its certificate, and FedNL with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
from helpers.dense_loops import RUN
from qsim.batch import SharedSupport, Vectors, dense_offsets
from qsim.compressors import Identity, NotFiniteError, RankR, SymmetricRankR
from qsim.compressors.triangles import matrix_of, triangle_of
from qsim.datasets import ByLabel
from qsim.engines import Serial
from qsim.methods import FedNL

pytestmark = pytest.mark.quick


def arrived(compressor: qsim.compressors.Compressor, v: np.ndarray) -> np.ndarray:
    keys = qsim.Key(0).words(0, len(v))
    channel = qsim.Channel(compressor)
    return channel.unpack(*channel.pack(Vectors.dense(v), keys), keys).to_dense()


def symmetric(d: int, seed: int, count: int = 3) -> np.ndarray:
    """With eigenvalues of both signs, each half of the one before."""
    random = np.random.default_rng(seed)
    found = np.zeros((count, d, d))
    for matrix in found:
        q = np.linalg.qr(random.standard_normal((d, d)))[0]
        matrix[:] = (q * 0.5 ** np.arange(d) * np.where(np.arange(d) % 2, -1, 1)) @ q.T
    return found


def test_triangles_are_column_by_column_with_the_frobenius_norm() -> None:
    """By plain loops, as the docstring says it."""
    matrix = symmetric(5, 0, 1)[0]
    by_hand = [matrix[i, j] * (1 if i == j else 2**0.5) for j in range(5) for i in range(j + 1)]
    np.testing.assert_allclose(triangle_of(matrix), by_hand, rtol=1e-15)
    assert np.linalg.norm(triangle_of(matrix)) == pytest.approx(np.linalg.norm(matrix), rel=1e-12)
    stacked = symmetric(5, 1)
    np.testing.assert_allclose(matrix_of(triangle_of(stacked), 5), stacked, rtol=1e-14)


@pytest.mark.parametrize(("d", "rank"), [(6, 1), (9, 3), (20, 2)])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e15])
def test_it_is_the_truncated_decomposition(d: int, rank: int, scale: float) -> None:
    """That of NumPy's singular values, of which a symmetric matrix has the magnitudes of its eigenvalues."""
    matrices = scale * symmetric(d, d)
    v = triangle_of(matrices).astype(np.float32)
    found = matrix_of(arrived(SymmetricRankR(rank), v).astype(np.float64), d)
    for matrix, near, row in zip(matrices, found, v, strict=True):
        u, s, vt = np.linalg.svd(matrix)
        assert np.allclose(near, (u[:, :rank] * s[:rank]) @ vt[:rank], rtol=0, atol=8 * 2.0**-24 * s[0])
        assert np.sum(s[rank:] ** 2) == pytest.approx(SymmetricRankR(rank).exact_variance(row), rel=1e-5)


def test_what_is_on_the_wire() -> None:
    """The eigenvalues and the eigenvectors: r (d + 1) numbers; vectors that are no longer go as they are."""
    matrix = symmetric(10, 4, 1)[0]
    message = SymmetricRankR(2).quantize(triangle_of(matrix), qsim.Key(0))
    assert (message.n, message.k) == (55, 22)
    values, vectors = message.value[:2].astype(np.float64), message.value[2:].reshape(10, 2).astype(np.float64)
    np.testing.assert_allclose(values, [1.0, -0.5], atol=1e-6)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-6)
    packets = qsim.Channel(SymmetricRankR(2)).pack(Vectors.dense(triangle_of(matrix)[None]), qsim.Key(0).words(0, 1))[1]
    assert packets.bits == 22 * 32
    for n, rank in ((3, 1), (6, 2), (55, 5), (55, 60)):  # 3, 8, 55, 110 numbers would not be fewer
        v = np.random.default_rng(n).standard_normal((2, n)).astype(np.float32)
        assert (SymmetricRankR(rank).quantize(v[0], qsim.Key(0)).k == n) == (rank != 1 or n == 3)
        assert np.array_equal(arrived(SymmetricRankR(rank), v), v)
        assert SymmetricRankR(rank).contraction(n) == 1
        assert SymmetricRankR(rank).exact_variance(v[0]) == 0


def test_a_batch_may_have_no_rows() -> None:
    assert arrived(SymmetricRankR(2), np.zeros((0, 55), np.float32)).shape == (0, 55)


def test_other_lengths_are_filled_up() -> None:
    v = np.random.default_rng(2).standard_normal((1, 50)).astype(np.float32)
    filled = np.pad(v, ((0, 0), (0, 5)))
    compressor = SymmetricRankR(2)
    assert [compressor.shape(n)[0] for n in (1, 2, 3, 4, 6, 7, 50, 55, 56)] == [1, 2, 2, 3, 3, 4, 10, 10, 11]
    assert np.array_equal(arrived(compressor, v)[0], arrived(compressor, filled)[0, :50])
    error = np.sum((arrived(compressor, v).astype(np.float64) - v) ** 2)
    assert compressor.exact_variance(v[0]) == pytest.approx(error, rel=1e-5)


def test_the_certificate_is_attained_by_equal_magnitudes() -> None:
    for d, rank in ((8, 1), (12, 3)):
        q = np.linalg.qr(np.random.default_rng(d).standard_normal((d, d)))[0]
        v = triangle_of((q * np.where(np.arange(d) % 3, 1, -1)) @ q.T)
        compressor = SymmetricRankR(rank)
        left = compressor.exact_variance(v) / np.sum(v**2)
        assert left == pytest.approx(1 - compressor.contraction(v.size), rel=1e-9)
        assert compressor.contraction(v.size) == rank / d


def test_it_loses_less_than_rank_r_of_the_triangle_as_a_rectangle() -> None:
    """Of a Hessian of few rows, at fewer numbers."""
    x = np.random.default_rng(5).standard_normal((3, 20))
    v = triangle_of(x.T @ x)
    symmetric_error, rectangle = SymmetricRankR(3).exact_variance(v), RankR(3, 14).exact_variance(v)
    assert symmetric_error < 1e-12 * np.sum(v**2) < rectangle
    assert SymmetricRankR(3).quantize(v, qsim.Key(0)).k == 63 < RankR(3, 14).quantize(v, qsim.Key(0)).k


def test_fednl_takes_it() -> None:
    """Hessians of rank 3 of 20 weights: Rank-4 learns them as fast as exact ones; the same bits in blocks."""
    run = replace(
        RUN, objective=qsim.LogisticRegression(l2=1e-3), method=FedNL(), partition=ByLabel(), rounds=10, workers=40
    )
    ends = {}
    for compressor in (Identity(), SymmetricRankR(4), SymmetricRankR(1)):
        trace = qsim.simulate(replace(run, compressor=compressor))
        behind = trace.axis("suboptimality")
        ends[compressor] = behind[-1] / behind[0], trace.axis("bits_up")[-1]
    assert ends[SymmetricRankR(4)][0] < 1e-12
    assert ends[SymmetricRankR(4)][1] < 0.6 * ends[Identity()][1]
    assert ends[SymmetricRankR(1)][0] < 1e-3
    one = qsim.simulate(replace(run, compressor=SymmetricRankR(2)))
    other = qsim.simulate(replace(run, compressor=SymmetricRankR(2)), engine=Serial(block=7))
    assert one.weights.tobytes() == other.weights.tobytes()
    assert FedNL().resolved(replace(run, compressor=SymmetricRankR(2)).problem()).shift == 1.0


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="rank must be a whole number of at least 1, found 0"):
        SymmetricRankR(0)
    v = np.ones((2, 55), np.float32)
    v[1, 7] = np.nan
    with pytest.raises(NotFiniteError, match="row 1 of the batch holds nan at coordinate 7"):
        arrived(SymmetricRankR(2), v)
    v[1] = 3e38
    with pytest.raises(NotFiniteError, match="row 1 of the batch has eigenvalues above float32's range"):
        arrived(SymmetricRankR(2), v)
    wrong = SharedSupport(55, dense_offsets(1, 23), 23, np.zeros(23, np.float32))
    with pytest.raises(ValueError, match=r"SymmetricRankR\(rank=2\) makes 22 numbers per row, the message has 23"):
        SymmetricRankR(2).decompress(wrong, np.zeros(1, np.uint64))
