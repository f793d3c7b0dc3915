"""What shipped studies conclude from: the parts of their answers that a wrong number would go through."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import qsim
from helpers.studies import load
from qsim.l2_decay import EveryStep, GlobalScale
from qsim.study import Results, Settings

SMALL = Settings("spark_sample", 4, 2, 1)


def test_the_zoo_takes_the_parameter_nearest_to_the_bits() -> None:
    _, module = load("zoo")
    for name in ("QSGD, l2", "EF, Top-k"):
        family, chosen = module.families()[name], module.fitted(SMALL, "spark_sample", name)
        rows = module.worker_gradients(module.plain(SMALL, "spark_sample"), np.zeros(16))
        keys = qsim.Key(0).words(0, 4)
        sizes = {}
        for value in family.values(16):
            made = family.make(value)
            inner = made.compressor if name.startswith("EF") else made
            sizes[value] = qsim.Channel(inner, family.codec).pack(rows, keys)[1].bits / 4
        assert abs(chosen.bits - 32) == min(abs(bits - 32) for bits in sizes.values())
        assert sizes[chosen.parameter] == chosen.bits


def test_within_a_budget_no_round_counts_that_does_not_fit() -> None:
    """Rounds of 10 bits, of 2 workers: 4 bits each buy nothing, 5 bits the first round, 9 no more."""
    _, module = load("zoo")
    ends = {"bits": np.array([0.0, 10.0, 20.0]), "suboptimality": np.array([3.0, 2.0, 1.0])}
    results = SimpleNamespace(
        traces={"a": [SimpleNamespace(axis=lambda name: ends[name])]}, settings=SimpleNamespace(workers=2)
    )
    assert [module.within(results, "a", bits)[0] for bits in (4.0, 5.0, 9.0, 10.0)] == [3.0, 2.0, 2.0, 1.0]
    assert np.isnan(module.within(results, "a", 10.5)[0])


def test_downlinks_are_compared_by_what_both_ends_send() -> None:
    """The same compressor with dense weights down takes at least 32 bits per coordinate more in each round."""
    _, module = load("zoo")
    run = module.run(SMALL, "QSGD, l2; spark_sample", 2.0, 0)
    dense = qsim.Run(**{**vars(run), "downlink": qsim.downlinks.DenseWeights()})
    spent = [qsim.simulate(each).frame[["bits_up", "bits_down"]].iloc[1:] for each in (run, dense)]
    assert (spent[1]["bits_down"] >= 4 * 32 * 16).all()
    assert spent[0]["bits_down"].mean() < spent[1]["bits_down"].mean() / 3


def test_sending_nothing_errs_by_what_the_vectors_have_in_common() -> None:
    """W for equal vectors, 1 for orthogonal ones of equal length, 0 where they cancel."""
    _, module = load("mean_estimation")
    assert module.nothing(np.ones((5, 3), np.float32)) == pytest.approx(5)
    assert module.nothing(np.eye(4, dtype=np.float32)) == pytest.approx(1)
    assert module.nothing(np.float32([[1, 2], [-1, -2]])) == 0


def test_the_comparison_of_weights_tells_a_way_that_forgets_to_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way is at the plain loop's weights with steps that fall inside a window; without l2 it is far off."""
    _, module = load("lazy_l2")
    monkeypatch.setattr(module, "WINDOW", 300)
    source = qsim.datasets.Synthetic(rows=50, features=9, nonzeros_per_row=3)
    monkeypatch.setattr(module, "sources", lambda settings: {9: source})
    (found,) = module.differences(SimpleNamespace(settings=SMALL)).values()
    assert max(found[way] for way in module.WAYS) < 1e-5
    assert found["never"] > 1e-2
    right = module.plain_loop(module.walked(source, 2, EveryStep(), 0.05))
    found = qsim.simulate(module.walked(source, 2, GlobalScale(), 0.05)).weights
    np.testing.assert_allclose(found, right, atol=2e-6)
    assert np.abs(right).max() > 0.1


def test_every_number_of_the_paper_says_where_it_stands() -> None:
    study, module = load("epoch_time")
    (against,) = [answer for answer in study.answers(Results(SMALL, [], [])) if "| paper | source |" in answer]
    for claim in module.CLAIMS:
        assert claim.where.split(",")[0].split(";")[0] in ("Table 1", "abstract", "Section 5")
        paper = f"over {claim.paper:g}" if claim.least else f"{claim.paper:g}"
        assert f"| {claim.what} | {paper} | {claim.where} |" in against


def test_claims_for_long_vectors_are_told_from_those_for_every_n() -> None:
    _, module = load("certificates")
    for curve, s, _, compressor in module.cases():
        assert compressor.asymptotic == (curve in module.ASYMPTOTIC), (curve, s)


def test_one_step_for_what_averages_and_another_for_what_does_not() -> None:
    """Rand-k with shared draws keeps its variance, whatever W; QSGD's is divided by W."""
    _, module = load("scaling")
    runs = {cell.curve: cell.run for cell in module.cells(Settings("spark_sample", 10, 1, 1))}
    steps = {}
    for name in ("tree, Rand-k", "all-gather, QSGD", "tree, 32 bit"):
        for workers in (1, 10):
            run = runs[f"to the target, {name}, W = {workers}"]
            steps[name, workers] = run.method.step(0) * run.problem().smoothness
    assert steps["tree, Rand-k", 1] == pytest.approx(1 / 16)
    assert steps["tree, Rand-k", 10] == pytest.approx(1 / 16)
    omega = qsim.QSGD(4).variance(16)
    assert steps["all-gather, QSGD", 10] == pytest.approx(1 / (1 + omega / 10))
    assert steps["tree, 32 bit", 10] == 1
