"""FedNL: the paper's loop in dense NumPy, special cases, and what Top-k is on triangles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qsim
import qsim.methods.fednl as module
from helpers.dense_loops import L2, RUN, WORKERS, Loop, N
from qsim.clients import SampledClients
from qsim.compressors import Identity, RandK, TopK
from qsim.compressors.triangles import matrix_of, places, sizes
from qsim.datasets import ByLabel, Contiguous, Dirichlet, Quadratics
from qsim.methods import FedNL, GradientDescent
from qsim.objectives import LeastSquares, NonconvexLogistic, WithRegulariser
from qsim.problem import TheoryError

KEPT = 40
SMALL = replace(RUN, rounds=3, compressor=TopK(KEPT))  # few, as all end at the optimum


def hessians(loop: Loop, w: np.ndarray) -> np.ndarray:
    found = np.zeros((WORKERS, N, N))
    for i in range(WORKERS):
        mine = loop.shards.order[loop.shards.offsets[i] : loop.shards.offsets[i + 1]]
        chance = 1 / (1 + np.exp(-loop.x[mine] @ w))
        found[i] = (loop.x[mine].T * chance * (1 - chance)) @ loop.x[mine] / max(mine.size, 1)
    return found


def top(matrix: np.ndarray, k: int = KEPT) -> np.ndarray:
    """Top-k of the upper triangle, in which the numbers off the diagonal count for two."""
    upper = np.triu(matrix) * np.sqrt(2 - np.eye(len(matrix)))
    least = np.sort(np.abs(upper).ravel())[-k]
    upper[np.abs(upper) < least] = 0.0
    upper /= np.sqrt(2 - np.eye(len(matrix)))
    return upper + np.triu(upper, 1).T


def fednl(loop: Loop, method: FedNL, mean_loss) -> np.ndarray:
    """Algorithm 1 of Safaryan et al., with both options, and the line search of Algorithm 3."""
    w, h = loop.start, np.zeros((WORKERS, N, N))
    for t in range(SMALL.rounds):
        now, gradient = hessians(loop, w), loop.share @ loop.gradients(w) + L2 * w
        if t == 0 and method.hessians == "exact":
            h = now.copy()
        mean = np.einsum("i,ijk->jk", loop.share, h) + L2 * np.eye(N)
        if method.correction == "projection":
            values, vectors = np.linalg.eigh(mean)
            way = -vectors @ (vectors.T @ gradient / np.maximum(values, method.floor))
        else:
            far = loop.share @ np.sqrt(np.sum((now - h) ** 2, axis=(1, 2)))
            way = -np.linalg.solve(mean + far * np.eye(N), gradient)
        h = h + method.shift * np.array([top(change) for change in now - h]) * (t > 0 or method.hessians == "zero")
        long = 1.0
        while method.line_search and mean_loss(w + long * way) > mean_loss(w) + 0.5 * long * gradient @ way:
            long /= 2
        w = w + long * way
    return w


@pytest.mark.parametrize("partition", [ByLabel(), Dirichlet(0.5)], ids=repr)
@pytest.mark.parametrize(
    "method",
    [
        FedNL(1.0, floor=0.1),
        FedNL(0.5, floor=0.3, hessians="zero"),
        FedNL(1.0, "distance"),
        FedNL(0.7, "distance", hessians="zero"),
        FedNL(1.0, floor=0.02, hessians="zero", line_search=True),
    ],
    ids=repr,
)
def test_it_is_that_of_the_paper(method: FedNL, partition) -> None:
    """To float32's rounding of Hessians, which are in steps."""
    run = replace(SMALL, method=method, partition=partition)
    data = run.load()
    expected = fednl(Loop(run), method, lambda w: run.objective.value(w, data))
    np.testing.assert_allclose(qsim.simulate(run).weights, expected, atol=2e-6)


@pytest.mark.parametrize("at_once", [2**23, 1], ids=["at once", "one by one"])
def test_hessians_of_margins_are_the_products_with_unit_vectors(at_once: int, monkeypatch) -> None:
    """Sparse products of rows, worker by worker or all at once, and a worker without rows."""
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    shards = replace(RUN, partition=Dirichlet(0.2), workers=9).problem().shards
    assert (shards.sizes == 0).any()
    block = qsim.block.Block(shards, 0, 9)
    at = qsim.weights.Replica(np.random.default_rng(0).standard_normal(N))
    found = module._hessians(RUN.objective, block, at)
    columns = [RUN.objective.hvp(block, block.all_rows(), at, unit).to_dense() for unit in np.eye(N)]
    row, column = places(N)
    np.testing.assert_allclose(found, np.stack(columns)[column, :, row].T, atol=1e-12)


def test_a_quadratic_is_solved_in_a_round() -> None:
    """To the rounding of its Hessian to float32, 1e-7 of the distance; whatever C is, as differences are zero."""
    run = qsim.Run(
        Quadratics((1.0, 2.0, 40.0), mu=0.5, heterogeneity=1.0),
        LeastSquares(l2=0.0),
        FedNL(),
        RandK(3),
        workers=3,
        partition=Contiguous(),
        rounds=2,
    )
    behind = qsim.simulate(run).axis("suboptimality")
    assert behind[1] < 1e-12 * behind[0]


def test_compressed_hessians_get_there_in_few_rounds() -> None:
    """40 of 210 numbers, from Hessians at the start: in 12 rounds as far as float64 goes, where gradients with the step
    of theory are not yet a tenth of the way, on logistic regression of condition 300."""
    run = replace(RUN, objective=qsim.LogisticRegression(l2=1e-3), partition=ByLabel(), rounds=12)
    ends = {}
    for method, compressor in ((FedNL(), TopK(KEPT)), (FedNL(), RandK(KEPT)), (GradientDescent(), Identity())):
        behind = qsim.simulate(replace(run, method=method, compressor=compressor)).axis("suboptimality")
        ends[compressor] = behind[-1] / behind[0]
    assert ends[TopK(KEPT)] < 1e-12
    assert ends[RandK(KEPT)] < 1e-8
    assert ends[Identity()] > 1e-2


def test_line_searches_stop_what_diverges() -> None:
    """From far away, with Hessians that are not known: without a search the loss jumps above where it was."""
    far = replace(SMALL, start=qsim.starts.Uniform(20.0), objective=qsim.LogisticRegression(l2=1e-3))
    method = FedNL(floor=1e-3, hessians="zero")
    assert qsim.simulate(replace(far, method=method)).axis("loss").max() > 2 * far_loss(far)
    loss = qsim.simulate(replace(far, method=replace(method, line_search=True))).axis("loss")
    assert (np.diff(loss) <= 0).all()
    assert loss[-1] < 0.5 * loss[0]


def far_loss(run: qsim.Run) -> float:
    return qsim.simulate(replace(run, rounds=0)).axis("loss")[0]


def test_top_k_of_a_triangle_is_a_contraction_with_its_weights_only() -> None:
    """A little more on the diagonal than off it: of the plain triangle Top-k keeps k/n^2 of the energy, of the weighted
    one k numbers that stand for two. Authors of such code took 2k/(n (n + 1)) for the first at first."""
    n, k = 12, 12
    matrix = np.ones((n, n)) + 0.01 * np.eye(n)
    row, column = places(n)
    triangle = matrix[row, column]
    plain = np.where(np.argsort(np.argsort(-triangle, kind="stable"), kind="stable") < k, triangle, 0.0)
    kept = matrix_of(plain * sizes(n), n)
    share = 1 - np.sum((kept - matrix) ** 2) / np.sum(matrix**2)
    assert k / n**2 <= share < 1.05 * k / n**2 < 0.6 * 2 * k / (n * (n + 1))
    random = np.random.default_rng(0)
    for trial in range(20):
        if trial:
            matrix = random.standard_normal((n, n))
            matrix += matrix.T
        vector = matrix[row, column] * sizes(n)
        assert np.sum(vector**2) == pytest.approx(np.sum(matrix**2))
        found = TopK(k).compress(qsim.batch.Vectors.dense(vector), qsim.Key(0).words(0, 1)).vectors().to_dense()[0]
        error = np.sum((matrix_of(found.astype(float), n) - matrix) ** 2) / np.sum(matrix**2)
        assert error <= 1 - TopK(k).contraction(vector.size) + 1e-6


def test_regularisers_are_in_the_step() -> None:
    """On the server, or with the rows; one that is not l2 has a Hessian of its own."""
    plain = qsim.simulate(replace(SMALL, method=FedNL(floor=0.1), compressor=Identity())).weights
    inside = replace(SMALL, method=FedNL(floor=0.1), compressor=Identity(), objective=WithRegulariser(RUN.objective))
    np.testing.assert_allclose(qsim.simulate(inside).weights, plain, atol=1e-6)
    curved = replace(SMALL, method=FedNL(floor=0.1), objective=NonconvexLogistic(0.1), optimum=False, rounds=20)
    assert qsim.simulate(curved).axis("gradient_norm")[-1] < 1e-9


def test_shifts_and_floors_are_those_of_theory() -> None:
    problem = replace(SMALL, compressor=RandK(30)).problem()
    found = FedNL().resolved(problem)
    assert found.shift == pytest.approx(30 / 210)
    assert found.floor == L2
    assert FedNL().resolved(SMALL.problem()).shift == 1.0


def test_what_is_refused() -> None:
    for changes, words in [
        ({"clients": SampledClients(2)}, "FedNL needs every worker"),
        ({"compressor": qsim.ErrorFeedback(TopK(2))}, "without a memory"),
        ({"compressor": qsim.compressors.HardThreshold(0.1)}, "no shift follows"),
        ({"objective": NonconvexLogistic(0.1)}, "give FedNL a floor"),
        ({"data": qsim.datasets.synthetic(40, 3000, 4)}, "keeps n .* for n <= 2,048 weights, found 3,000"),
    ]:
        kind = TheoryError if "floor" in words else ValueError
        with pytest.raises(kind, match=words):
            FedNL().resolved(replace(SMALL, **changes).problem())
    with pytest.raises(ValueError, match="shift must be at most 1"):
        FedNL(shift=1.5)
