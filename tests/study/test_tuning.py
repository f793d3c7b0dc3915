"""Tuning: what is chosen, by which rule, on which seeds, and how a study says so."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.compressors import NotFiniteError
from qsim.study import Candidate, FewestRounds, LeastFinal, Settings, Tuning, cli, powers_of_two
from qsim.study.tuning import FIRST_SEED, written

SETTINGS = Settings("spark_sample", 2, 4, 3)
DIVERGED = NotFiniteError("too long a step")


def run(settings: Settings, curve: str, choice: float, seed: int) -> qsim.Run:
    return qsim.Run(
        settings.load(),
        objective=qsim.LogisticRegression(l2=0.1),
        method=qsim.GradientDescent(step=qsim.steps.Constant(choice)),
        compressor=qsim.TopK(1) if curve == "b" else qsim.Identity(),
        workers=settings.workers,
        rounds=settings.rounds,
        seed=seed,
    )


TUNING = Tuning("step", lambda settings: ["a", "b"], run, (0.5, 1, 2))


def trace(*suboptimality: float) -> qsim.Trace:
    rounds = len(suboptimality)
    return qsim.Trace({"round": np.arange(rounds), "suboptimality": np.array(suboptimality)}, np.zeros(1), {})


def choose(scores: dict[float, list[object]], rule=None) -> object:
    """Choose for one curve; scores: for each number the final suboptimality of its seeds, or what ended the run."""
    tuning = Tuning("step", lambda settings: ["a"], run, tuple(scores), rule or LeastFinal())
    candidates = [Candidate("a", None, choice=choice) for choice, ends in scores.items() for _ in ends]
    ends = [end for seeds in scores.values() for end in seeds]
    traces = [end if isinstance(end, (NotFiniteError, qsim.Trace)) else trace(1.0, end) for end in ends]
    return tuning.choose(candidates, traces).choices["a"]


def test_candidates_are_all_choices_of_all_curves_on_seeds_that_are_not_shown() -> None:
    found = TUNING.candidates(SETTINGS)
    assert [(c.curve, c.choice, c.run.seed - FIRST_SEED) for c in found] == [
        (curve, choice, seed) for curve in "ab" for choice in (0.5, 1, 2) for seed in (0, 1)
    ]
    for candidate in found:
        assert candidate.run == run(SETTINGS, candidate.curve, candidate.choice, candidate.run.seed)
    assert not {c.run.seed for c in found} & set(range(SETTINGS.seeds))
    assert found[3].name == "a, 1, seed 1000001"
    with pytest.raises(ValueError, match="seeds from 1,000,000 on are for tuning"):
        TUNING.candidates(Settings("spark_sample", 2, 4, FIRST_SEED + 1))


def test_the_least_mean_is_chosen() -> None:
    found = choose({0.5: [3.0, 3.0], 1: [1.0, 4.0], 2: [2.0, 2.9]})
    assert found.value == 2
    assert found.scores == {0.5: 3.0, 1: 2.5, 2: 2.45}
    assert choose({0.5: [3.0, 3.0], 1: [1.0, 1.0], 2: [2.0, 2.9]}).value == 1


def test_of_equal_means_the_larger_is_chosen() -> None:
    assert choose({2: [1.0, 3.0], 0.5: [2.0, 2.0], 1: [2.0, 2.0]}).value == 2
    assert choose({0.5: [2.0, 2.0], 1: [2.0, 2.0], 2: [2.0, 2.1]}).value == 1


def test_one_diverging_seed_rules_a_choice_out() -> None:
    assert choose({0.5: [3.0, 3.0], 1: [0.1, DIVERGED]}).value == 0.5
    found = choose({0.5: [3.0, 3.0], 1: [0.1, float("nan")]})
    assert (found.value, found.scores[1]) == (0.5, float("inf"))
    with pytest.raises(NotFiniteError, match=r"every step of 0\.5, 1 diverges for a: add smaller ones"):
        choose({0.5: [DIVERGED, 1.0], 1: [DIVERGED, DIVERGED]})


def test_the_fewest_rounds_to_a_target() -> None:
    rule = FewestRounds(0.5)
    assert rule.score(trace(1.0, 0.6, 0.5, 0.7)) == 2
    assert rule.score(trace(1.0, np.nan, 0.6)) == float("inf")
    slow, fast, never = trace(1, 0.9, 0.4), trace(1, 0.3, 0.9), trace(1, 0.9, 0.8)
    assert choose({0.5: [slow, slow], 1: [fast, slow], 2: [fast, never]}, rule).value == 1
    assert choose({0.5: [never], 1: [never], 2: [DIVERGED]}, rule).value == 1  # of equals, the larger that is usable
    with pytest.raises(ValueError, match="target"):
        FewestRounds(float("nan"))


def test_a_choice_at_an_end_of_the_grid_is_told() -> None:
    assert [choose({0.5: [x], 1: [y], 2: [z]}).edge for x, y, z in ((1, 2, 3), (2, 1, 3), (3, 2, 1))] == [
        "smallest",
        "",
        "largest",
    ]
    candidates = TUNING.candidates(SETTINGS)
    tuned = TUNING.choose(candidates, [trace(1.0, 0.1 * c.choice if c.curve == "a" else 1.0) for c in candidates])
    assert {curve: choice.value for curve, choice in tuned.choices.items()} == {"a": 0.5, "b": 2}
    for words in ("a (smallest); b (largest)", "least mean final suboptimality", "0.5, 1, 2", "2 seeds of their own"):
        assert words in tuned.words


def test_a_choice_beside_one_that_diverges_is_told() -> None:
    assert choose({0.5: [3.0], 1: [1.0], 2: [DIVERGED]}).beside_diverged
    assert choose({0.5: [DIVERGED], 1: [1.0], 2: [3.0]}).beside_diverged
    assert not choose({0.5: [1.0], 1: [2.0], 2: [DIVERGED]}).beside_diverged
    assert not choose({0.5: [3.0], 1: [1.0], 2: [float("nan")]}).beside_diverged  # no error ended it
    candidates = TUNING.candidates(SETTINGS)
    ends = {0.5: trace(1.0, 0.5), 1: trace(1.0, 0.1), 2: DIVERGED}
    steady = {0.5: trace(1.0, 0.5), 1: trace(1.0, 0.1), 2: trace(1.0, 0.3)}
    tuned = TUNING.choose(candidates, [(ends if c.curve == "a" else steady)[c.choice] for c in candidates])
    assert "Beside a number with which a run diverges: a. Chosen" in tuned.words


PAIRS = tuple(product((0.5, 1.0, 2.0), (0.1, 0.2, 0.3)))


@pytest.mark.parametrize(
    ("best", "diverged", "edge", "beside"),
    [
        ((1.0, 0.2), (2.0, 0.3), "", False),
        ((1.0, 0.2), (2.0, 0.2), "", True),
        ((1.0, 0.2), (1.0, 0.1), "", True),
        ((0.5, 0.3), None, "smallest first, largest second", False),
        ((1.0, 0.1), None, "smallest second", False),
        ((2.0, 0.2), (0.5, 0.2), "largest first", False),
    ],
)
def test_pairs_are_chosen_from_a_grid_of_two_parameters(best, diverged, edge: str, beside: bool) -> None:
    found = choose({pair: [DIVERGED if pair == diverged else 1.0 if pair == best else 2.0] for pair in PAIRS})
    assert (found.value, found.edge, found.beside_diverged) == (best, edge, beside)


def test_a_part_of_a_pair_that_changes_nothing_is_at_no_end() -> None:
    """Of equals the larger is chosen, which says nothing of what lies beyond."""
    found = choose({pair: [abs(pair[0] - 1.0)] for pair in PAIRS})
    assert (found.value, found.edge) == ((1.0, 0.3), "")
    found = choose({pair: [pair[0]] for pair in PAIRS})
    assert (found.value, found.edge) == ((0.5, 0.3), "smallest first")


def test_a_grid_of_pairs_has_names_runs_and_words() -> None:
    def paired(settings: Settings, curve: str, choice: tuple[float, float], seed: int) -> qsim.Run:
        return run(settings, curve, choice[0] * choice[1], seed)

    tuning = Tuning("step and share", lambda settings: ["a"], paired, PAIRS, seeds=1)
    candidates = tuning.candidates(SETTINGS)
    assert candidates[1].name == "a, (0.5, 0.2), seed 1000000"
    assert [c.run.method.step.step for c in candidates] == [first * second for first, second in PAIRS]
    tuned = tuning.choose(candidates, [trace(1.0, c.choice[1] / c.choice[0]) for c in candidates])
    assert "beyond it: a (largest first, smallest second)." in tuned.words
    assert tuned.words.endswith("- (2, 0.1): a")
    for wrong in ([1.0, (1.0, 2.0)], [], [(1.0, 2.0, 3.0)]):
        with pytest.raises(ValueError, match="pair"):
            Tuning("x", TUNING.curves, run, wrong)


def test_the_grid_of_papers() -> None:
    assert float(written(2.0**-20)) == pytest.approx(2.0**-20, rel=1e-9)
    assert float(written(2.0**-12)) == 2.0**-12
    assert powers_of_two(-2, 1) == (0.25, 0.5, 1.0, 2.0)


STUDY = """
import qsim
from qsim.study import LeastFinal, Panel, Settings, Study, Tuning, each_seed, panels

def run(settings, curve, step, seed):
    return qsim.Run(settings.load(), objective=qsim.LogisticRegression(l2=0.0), optimum=False,
        method=qsim.GradientDescent(step=qsim.steps.Constant(step)),
        workers=settings.workers, rounds=settings.rounds, seed=seed)

def cells(settings, choices):
    return each_seed(settings, choices, lambda choice, seed: run(settings, "plain", choice.value, seed))

study = Study(
    title="Steps", questions=["Which?"], defaults=Settings("spark_sample", 2, 30, 2), cells=cells,
    setting=lambda settings: "A setting.", answers=lambda results: [str(results.tuned.choices["plain"].value)],
    draw=lambda results: panels(results, Panel("round", "loss", y_scale="log")),
    tuning=Tuning("step", lambda settings: ["plain"], run, (0.01, 0.1, 1e300), LeastFinal("loss")),
)
"""


def test_a_tuned_study_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The longest step diverges, which ends nothing; the provenance holds every candidate's run and score."""
    path = tmp_path / "steps.py"
    path.write_text(STUDY)
    assert cli.main([str(path), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "**Which?** 0.1" in said.out
    assert "steps, tuning: 6 runs to choose by, 180 rounds in all, about 0." in said.err
    assert "**What was tuned?** For every curve the step" in (tmp_path / "out" / "steps.md").read_text()
    provenance = json.loads((tmp_path / "out" / "steps.json").read_text())
    shown = provenance["curves"]["plain"]
    assert (shown["choice"], shown["seeds"]) == (0.1, [0, 1])
    assert eval(shown["run"], {"qsim": qsim}).method.step == qsim.steps.Constant(0.1)
    assert provenance["tuning"]["rule"] == repr(LeastFinal("loss"))
    tried = provenance["tuning"]["curves"]["plain"]["tried"]
    assert list(tried) == ["0.01", "0.1", "1e+300"]
    runs = {choice: eval(entry["run"], {"qsim": qsim}) for choice, entry in tried.items()}
    for choice, entry in tried.items():
        assert runs[choice].method.step == qsim.steps.Constant(float(choice))
        assert entry["seeds"] == [FIRST_SEED, FIRST_SEED + 1]
    finals = {choice: qsim.simulate(runs[choice]).axis("loss")[-1] for choice in ("0.01", "0.1")}
    for choice, final in finals.items():  # gradient descent without compression: all seeds alike
        assert tried[choice]["score"] == pytest.approx(final)
    assert finals["0.1"] < finals["0.01"]
    assert tried["1e+300"]["score"] == "inf"


def test_a_tuned_study_is_shown_without_running_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "steps.py"
    path.write_text(STUDY)
    assert cli.main(["show", str(path)]) == 0
    assert "6 runs to choose by, 180 rounds in all" in capsys.readouterr().out
    from qsim.study import catalog

    with pytest.raises(ValueError, match="this study is tuned"):
        catalog.find(str(path))[1].shown(SETTINGS)


def test_what_no_number_achieves_is_not_called_tuned() -> None:
    """All numbers miss the target for b: that the largest is taken says nothing of what lies beyond the grid."""
    tuning = Tuning("step", TUNING.curves, run, (0.5, 1), FewestRounds(0.1), seeds=1)
    candidates = tuning.candidates(SETTINGS)
    ends = {"a": {0.5: 0.05, 1: 0.2}, "b": {0.5: 0.3, 1: 0.2}}
    tuned = tuning.choose(candidates, [trace(1.0, ends[c.curve][c.choice]) for c in candidates])
    assert {curve: choice.value for curve, choice in tuned.choices.items()} == {"a": 0.5, "b": 1}
    assert "beyond it: a (smallest). With no number do all seeds get there, so the largest is taken: b." in tuned.words


def test_a_grid_has_numbers() -> None:
    with pytest.raises(ValueError, match="powers_of_two needs first <= last, found 4 and 1"):
        powers_of_two(4, 1)
    with pytest.raises(ValueError, match="grid must hold numbers or pairs to choose from, found none"):
        Tuning("step", lambda settings: ["a"], lambda *way: None, ())
