"""Studies of papers: claims, numbers, badges and their table; and the constants that a paper publishes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import qsim
from helpers.paths import ROOT
from helpers.studies import load
from qsim.study import Cell, Claim, Comparison, PaperStudy, Results, Settings, Value, catalog, cli, panels
from qsim.study.panel import Panel
from qsim.study.papers import index

COMMITTED, PAGE = ROOT / "paper_figures", ROOT / "docs" / "papers.md"
SETTINGS = Settings("spark_sample", 2, 3, 3)


def trace(bits: list[float], suboptimality: list[float], down: float = 0.0) -> qsim.Trace:
    count = len(bits)
    columns = {"round": np.arange(count), "loss": np.ones(count), "suboptimality": np.array(suboptimality)}
    columns |= {"cumulative_bits_up": np.array(bits), "cumulative_bits_down": down * np.arange(count)}
    return qsim.Trace(columns, np.zeros(1), {})


def results(**curves: list[qsim.Trace]) -> Results:
    cells = [Cell(curve, SimpleNamespace(seed=k)) for curve, traces in curves.items() for k in range(len(traces))]
    return Results(SETTINGS, cells, [one for traces in curves.values() for one in traces])


def test_a_ratio_is_taken_where_both_curves_have_spent_the_same() -> None:
    """b has spent 20 bits in two rounds, a 40: at 20 bits a is half of the way down, in the logarithm."""
    found = results(
        a=[trace([0, 20, 40], [1.0, 0.1, 0.01]) for _ in range(3)],
        b=[trace([0, 10, 20], [1.0, 0.5, 0.4]) for _ in range(3)],
    )
    claim = Claim("a is below b", "a", "b")
    np.testing.assert_allclose(claim.measured(found), np.full(3, 0.1 / 0.4))
    np.testing.assert_allclose(claim.measured(found, "round"), np.full(3, 0.01 / 0.4))


def test_the_downlink_can_turn_a_claim_round() -> None:
    """Each round costs 100 bits down: then a round counts, and b gets further in one."""
    found = results(
        a=[trace([0, 1, 2], [1.0, 0.5, 0.25], 100.0) for _ in range(3)],
        b=[trace([0, 10, 20], [1.0, 0.3, 0.09], 100.0) for _ in range(3)],
    )
    claim = Claim("a is below b", "a", "b")
    assert (claim.measured(found) < 1).all()
    assert (claim.measured(found, "bits") > 1).all()


@pytest.mark.parametrize(
    ("least", "most", "low", "high", "verdict"),
    [
        (0.0, 1.0, 0.5, 0.9, "holds"),
        (0.0, 1.0, 0.5, 1.0, "holds"),
        (0.0, 1.0, 0.5, 1.1, "open"),
        (0.0, 1.0, 1.1, 1.2, "fails"),
        (0.5, 2.0, 0.6, 1.9, "holds"),
        (0.5, 2.0, 0.4, 0.49, "fails"),
        (0.5, 2.0, 0.4, 0.6, "open"),
        (0.5, 2.0, 0.4, 3.0, "open"),
    ],
)
def test_a_claim_holds_by_its_whole_interval(least, most, low, high, verdict: str) -> None:
    claim = Claim("says", least=least, most=most)
    assert claim.judge(Comparison(float(np.sqrt(low * high)), low, high, 0.5, 5, ratio=True, detectable=2.0)) == verdict


def test_one_seed_tells_nothing() -> None:
    assert Claim("says").judge(Comparison(0.5, 0.5, 0.5, float("nan"), 1, ratio=True)) == "open"
    nan = float("nan")
    assert Claim("says").judge(Comparison(nan, nan, nan, nan, 5, ratio=True)) == "open"


@pytest.mark.parametrize("limits", [{"least": 2.0}, {"least": float("nan")}, {"most": float("nan")}, {"least": -1.0}])
def test_a_claim_that_no_ratio_can_meet_is_refused(limits) -> None:
    with pytest.raises(ValueError, match=r"0 <= least <= most, found least = .*: 'says'"):
        Claim("says", **limits)


def test_a_number_of_a_paper_is_a_finite_number() -> None:
    with pytest.raises(ValueError, match="ours of 'L' must be a finite number"):
        Value("L", 1.0, float("nan"), "read")
    with pytest.raises(ValueError, match="within of 'L' must be"):
        Value("L", 1.0, 1.0, "read", within=-0.1)


def study(claims: list[Claim], values: list[Value]) -> PaperStudy:
    return PaperStudy(
        title="A paper",
        paper="Somebody, *A paper*, 2020.",
        claims=claims,
        differs=lambda found: ["nothing"],
        values=lambda found: values,
        defaults=SETTINGS,
        cells=lambda settings: [],
        setting=lambda settings: "A setting.",
        draw=lambda found: panels(found, Panel("bits", "loss")),
    )


def claim(says: str, *ratios: float) -> Claim:
    return Claim(says, ratios=lambda found: np.array(ratios))


HOLDS, FAILS, OPEN = claim("holds", 0.5, 0.51, 0.52), claim("fails", 1.5, 1.51, 1.52), claim("open", 0.5, 1.0, 2.0)
EQUAL, OFF = Value("L", 2.0, 2.02, "read"), Value("L", 2.0, 2.1, "read", "another set")


@pytest.mark.parametrize(
    ("claims", "values", "badge"),
    [
        ([HOLDS], [EQUAL], "reproduced"),
        ([HOLDS], [], "in shape"),
        ([HOLDS], [EQUAL, OFF], "in shape"),
        ([HOLDS, OPEN], [EQUAL], "in shape"),
        ([HOLDS, FAILS], [EQUAL], "not reproduced"),
        ([OPEN], [EQUAL], "not reproduced"),
    ],
)
def test_the_badge_follows_from_claims_and_numbers(claims, values, badge: str) -> None:
    found = study(claims, values)
    here = Results(SETTINGS, [], [])
    assert found.badge(here) == badge
    answers = found.answers(here)
    assert len(answers) == len(found.questions)
    assert f"**{badge}**" in answers[-1]
    for each, verdict in found.verdicts(here).items():
        assert re.search(rf"\| {each} \|.*\*\*{verdict}\*\* \|", answers[0])
    summary = found.summary(here)["paper"]
    assert (summary["badge"], sum(summary["claims"].values())) == (badge, len(claims))
    assert summary["numbers"] == [sum(value.agrees for value in values), len(values)]


def test_intervals_of_a_paper_hold_together() -> None:
    alone = study([OPEN], []).compared(Results(SETTINGS, [], []))["open"]
    both = study([OPEN, claim("other", 0.5, 1.1, 2.0)], []).compared(Results(SETTINGS, [], []))["open"]
    assert both.low < alone.low < alone.high < both.high


# The shipped ones.


@pytest.mark.parametrize("name", catalog.papers())
def test_every_paper_is_cited_and_its_claims_have_sources(name: str) -> None:
    found = catalog.find(name)[1]
    assert isinstance(found, PaperStudy)
    assert re.search(r"\b(19|20)\d\d\b", found.paper)
    assert all(claim.says and claim.source and "memory" not in claim.source for claim in found.claims)
    assert len({claim.says for claim in found.claims}) == len(found.claims) >= 2
    assert sum(claim.least > 0 or claim.most < np.inf for claim in found.claims) == len(found.claims)


def test_the_table_of_constants_of_a9a() -> None:
    """`Problem` on Adult has the constants that "Don't compress gradients in random reshuffling" publishes for a9a."""
    study, module = load("reshuffling")
    run = module.run(study.defaults, "QSGD", 1.0, 0)
    found = {
        value.what: value for value in module.values(SimpleNamespace(settings=study.defaults, cells=[Cell("", run)]))
    }
    assert all(value.agrees for value in found.values())
    assert found["L"].paper == 1.57
    assert found["L"].ours == pytest.approx(1.6005, abs=1e-3)
    assert found["L of a row, largest"].ours == pytest.approx(3.5 + found["mu"].ours, rel=1e-9)
    assert found["L"].ours / found["mu"].ours == pytest.approx(1e4, rel=1e-9)
    assert all(value.why for value in found.values() if value.ours != value.paper)


def test_theorem_steps_of_reshuffled_shifts() -> None:
    study, module = load("reshuffling")
    problem = module.run(study.defaults, "DIANA-RR", 1.0, 0).problem()
    omega, workers = 121 / 2 - 1, 20
    step = 1 / ((1 + 6 * omega / workers * problem.largest_share * workers) * problem.row_smoothness)
    assert module.first_step(study.defaults) == pytest.approx(
        min(step, 1 / (1 + omega) / (20 * problem.strong_convexity))
    )


def test_constants_of_rare_features() -> None:
    """L <= M <= the paper's constant, which is why the formulas never have EF21 below gradient descent."""
    _, module = load("rare_features")
    step, found = module.rare_step(module.RARE)
    assert found["L"] <= found["sum over owners"] + module.OBJECTIVES["rare"].l2
    assert found["sum over owners"] <= found["of rare features"]
    rows = module.RARE.load()
    parts = np.array_split(np.arange(rows.rows), module.OWNERS)
    owned = [set(rows.indices[rows.indptr[part[0]] : rows.indptr[part[-1] + 1]].tolist()) for part in parts]
    assert found["r"] == max(map(len, owned))
    assert found["c"] == max(sum(j in mine for mine in owned) for j in range(rows.features))
    theta = 1 - np.sqrt(1 - 1 / found["r"])
    ratio = (1 - 1 / found["r"]) / theta**2
    assert step == pytest.approx(1 / (found["L"] + found["of rare features"] * np.sqrt(ratio)))


def test_the_error_of_a_mean_is_that_of_single_vectors() -> None:
    """For unbiased clients the error of the mean, times clients, is the mean error of one, to the noise of draws."""
    _, module = load("eden")
    many = np.array([error for error, _ in module.errors("QSGD, l2", 1, 64, 64, 40)])
    one = np.array([error for error, _ in module.errors("QSGD, l2", 1, 64, 1, 400)])
    noise = np.sqrt(many.var() / many.size + one.var() / one.size)
    assert abs(many.mean() - one.mean()) < 6.5 * noise + 1e-12
    assert noise < 0.05 * one.mean()
    assert [bits for _, bits in module.errors("EDEN", 2, 512, 3, 2)] == pytest.approx([2.0, 2.0], abs=0.2)


def test_the_twin_has_the_constants_of_mushrooms() -> None:
    """What the paper's tables have, to the digits that they give; the minimum is not in them."""
    study, module = load("reshuffling_local")
    found = module.measured(study.defaults)
    assert {what: float(f"{value:.3g}") for what, value in found.items()} == pytest.approx(
        {what: float(f"{value:.3g}") for what, value in module.MUSHROOMS.items()}, rel=5e-3
    )
    assert (np.diff(module.twin().indptr) == 21).all()
    assert module.objective(module.twin()).optimum(module.twin()).value == pytest.approx(0.022, abs=2e-3)


def test_frozen_local_steps_are_a_gradient_of_all_rows() -> None:
    """A pass whose gradients are all taken at the weights of the round, in NumPy, is what the frozen curves do."""
    _, module = load("reshuffling_local")
    settings = replace(SETTINGS, rounds=1, workers=4)
    frozen = module.method(settings, "Q-NASTYA, frozen", 4.0, 1.0)
    assert isinstance(frozen, qsim.GradientDescent)
    assert isinstance(module.method(settings, "DIANA-NASTYA, frozen", 4.0, 1.0), qsim.methods.DIANA)
    run = replace(module.run(settings, "Q-NASTYA, frozen", (4.0, 1.0), 0), compressor=qsim.compressors.Identity())
    problem = run.problem()
    x, y = problem.shards.dataset.to_scipy().toarray().astype(float), problem.shards.dataset.labels
    local, w, total = 0.01, np.full(problem.n, 0.2), np.zeros(problem.n)
    for weight, low, high in zip(problem.weights, problem.shards.offsets[:-1], problem.shards.offsets[1:], strict=True):
        u = w.copy()
        for row in problem.shards.order[low:high]:
            u -= local * (-y[row] * x[row] / (1 + np.exp(y[row] * (x[row] @ w))) + run.objective.l2 * w)
        total += weight * (w - u) / (local * (high - low))
    start = qsim.starts.Weights(w)
    found = qsim.simulate(replace(run, start=start, method=frozen)).weights
    np.testing.assert_allclose(found, w - frozen.step(0) * total, rtol=1e-4, atol=1e-6)


def test_frozen_fedpaq_and_fedcom_are_one_method() -> None:
    """With gradients at the weights of the round, what either does is a step of the server along the mean gradient."""
    _, module = load("reshuffling_local")
    settings = replace(SETTINGS, rounds=1, workers=4)
    batch = module.rows_of(settings).rows // settings.workers // module.BATCHES
    found = [module.method(settings, module.FROZEN[2], 4.0, local) for local in (0.125, 64.0)]
    assert found[0] == found[1]
    assert isinstance(found[0], qsim.SGD)
    assert found[0].batch == module.BATCHES * batch
    server = found[0].step(0)
    gradients = np.random.default_rng(0).normal(size=(module.BATCHES, 3))
    for name, local in (("FedPAQ", 1.0), ("FedCOM", 64.0)):
        moving = module.method(settings, name, 4.0, local)
        step = moving.step(0)
        moved = -step * gradients.sum(axis=0)
        np.testing.assert_allclose(moving.server_step * moved, -server * gradients.mean(axis=0), rtol=1e-12)


def test_the_claims_of_local_steps_are_judged_moving_and_as_in_the_authors_program() -> None:
    study, module = load("reshuffling_local")
    moving, program = study.claims[:5], study.claims[5:]
    frozen = {"Q-NASTYA": "Q-NASTYA, frozen", "DIANA-NASTYA": "DIANA-NASTYA, frozen"}
    assert [(frozen.get(c.curve, c.curve), frozen.get(c.other, c.other), c.least, c.most) for c in moving] == [
        (c.curve, c.other, c.least, c.most) for c in program
    ]
    assert {c.curve for c in study.claims} | {c.other for c in study.claims} == {*module.NAMES, *module.FROZEN[:2]}


def norms(*squared: float) -> qsim.Trace:
    columns = {"round": np.arange(0, 10 * len(squared), 10), "gradient_norm": np.sqrt(squared)}
    return qsim.Trace(columns, np.zeros(1), {})


def test_rounds_to_a_target_are_read_between_evaluations() -> None:
    _, ef21 = load("ef21")
    assert ef21.rounds_to_target(norms(1.0, 1e-4, 1e-6, 1e-8)) == pytest.approx(25)
    assert ef21.rounds_to_target(norms(1.0, np.nan, 1e-6, 1e-7)) == pytest.approx(30)
    assert ef21.rounds_to_target(norms(1.0, 1e-6)) == np.inf


def test_the_published_panel_of_ef21() -> None:
    """One seed: EF stays at the floor that the panel has, EF21 is at 1e-7 after about as many rounds."""
    study, module = load("ef21")
    settings = replace(study.defaults, rounds=240)
    ef21, ef = (qsim.simulate(module.run(settings, name, module.MULTIPLE, 0)) for name in module.NAMES)
    assert module.rounds_to_target(ef21) == pytest.approx(247, rel=0.3)
    assert ef.axis("gradient_norm")[-1] ** 2 == pytest.approx(1.78e-5, rel=0.4)


def test_elias_code_of_one_magnitude_is_longer_than_the_corollary() -> None:
    """3 n + 32 bits with gaps, 4 n + 32 without, where the corollary has 2.8 n + 32; the shortest code is far below."""
    _, module = load("qsgd")
    n = module.LENGTH
    levels = int(np.sqrt(n))
    assert module.bits("one magnitude", "Elias omega", levels, 0) == 3 * n + 32
    assert module.bits("one magnitude", "Elias omega, dense", levels, 0) == 4 * n + 32
    assert module.bits("one magnitude", "shortest", levels, 0) < 1.1 * n


def test_what_survives_is_judged_over_all_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    study, module = load("survives")
    monkeypatch.setattr(module, "PAPERS", ("dasha",))
    settings = replace(SETTINGS, rounds=6)
    found = Results(settings, [], [])
    claims = module.judged(found)
    assert [each.claim.says for each in claims] == [claim.says for claim in catalog.find("dasha")[1].claims]
    assert [each.both is None for each in claims] == [False, True]
    counted, both = module.comparisons(found)
    assert list(counted) == [each.name for each in claims]
    assert len(both) == 1
    table = study.numbers(found)
    assert table["counted verdict"].tolist() == [each.claim.judge(counted[each.name]) for each in claims]
    assert table["seeds in which it comes out"].between(0, 3).all()
    assert len(study.answers(found)) == 3


# The command, and the page.


def test_papers_are_listed_and_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["papers", "--out", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert [line.split(" | ")[0].strip("| ") for line in listed.splitlines()[2:]] == catalog.papers()
    assert "not drawn yet" in listed
    assert cli.main(["papers", "s_sweep"]) == 2
    assert "there is no paper 's_sweep' (there are: dasha, " in capsys.readouterr().err
    assert set(catalog.papers()) < set(catalog.names())


@pytest.mark.skipif(not COMMITTED.is_dir(), reason="needs the checkout's paper_figures")
def test_the_page_has_the_badges_of_the_committed_figures() -> None:
    assert index(COMMITTED, catalog.papers()) in PAGE.read_text()


@pytest.mark.skipif(not COMMITTED.is_dir(), reason="needs the checkout's paper_figures")
def test_the_committed_survey_has_every_claim_of_every_paper() -> None:
    rows = pd.read_csv(COMMITTED / "survives.csv")
    named = [(name, claim.says) for name in catalog.papers() for claim in catalog.find(name)[1].claims]
    assert list(zip(rows["paper"], rows["claim"], strict=True)) == named
    verdicts = rows["counted verdict"].tolist()
    counts = [verdicts.count(verdict) for verdict in ("holds", "fails", "open")]
    assert f"of all {len(named)} claims with five seeds, {counts[0]} hold, one fails" in PAGE.read_text()
    assert counts[1] == 1
