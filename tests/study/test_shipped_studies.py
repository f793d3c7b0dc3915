"""Every shipped study from end to end on a tiny size, and its committed numbers again where that is cheap."""

from __future__ import annotations

import json
import re
import sys
from ast import literal_eval
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import qsim
from helpers.paths import ROOT
from qsim.study import Choice, Results, Settings, Study, catalog, cli
from qsim.study.study import SETTINGS
from qsim.study.tuning import written

COMMITTED = ROOT / "paper_figures"
TINY = {"data": "spark_sample", "workers": 2, "rounds": 3, "seeds": 2}
SMALLER: dict[str, dict[str, object]] = {
    "certificates": {"LENGTHS": (4, 16), "FIXED_N": 16, "DRAWS": 20},
    "cluster": {"missing": lambda: dict.fromkeys(("Spark", "PySpark loop", "Ray"), "a test goes without")},
    "encodings": {
        "LENGTHS": (100, 1000),
        "LARGEST": 1000,
        "MORE": 1,
        "TEXT": qsim.datasets.Synthetic(rows=100, features=300, nonzeros_per_row=9),
    },
    "feedback": {"DENSE": qsim.datasets.Synthetic(rows=60, features=30, nonzeros_per_row=9, values="tfidf")},
    "lazy_l2": {"WINDOW": 200},
    "mean_estimation": {"N": 64},
    "one_bit": {"STEPS": 200},
    "eden": {"DIMENSIONS": (32, 512), "CLIENTS": (1, 4)},
    "qsgd": {
        "TEXT": qsim.datasets.Synthetic(rows=60, features=40, nonzeros_per_row=6),
        "LENGTH": 256,
        "LEVELS": (1, 4),
    },
    "sparsified_sgd": {"TEXT": qsim.datasets.Synthetic(rows=60, features=40, nonzeros_per_row=6, values="tfidf")},
    "survives": {"PAPERS": ("dasha",)},
    "zoo": {"TEXT": qsim.datasets.Synthetic(rows=60, features=40, nonzeros_per_row=6, values="tfidf")},
    "topologies": {"N": 10_000, "LARGEST": 64, "MOST": 1000},
}
"""What makes studies of vectors small, which the options do not."""
needs_committed = pytest.mark.skipif(not COMMITTED.is_dir(), reason="needs the checkout's paper_figures")


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Study, ModuleType]:
    """Return a study made small, which the command line finds too, and its module."""
    found, module = catalog.find(name)[1], sys.modules[f"qsim_study_{name}"]
    constants = dict(SMALLER.get(name, {}))
    if name == "zoo":  # every third compressor
        families = {title: dict(list(ways.items())[::3]) for title, ways in module.FAMILIES.items()}
        constants["FAMILIES"] = families
    for constant, value in constants.items():
        monkeypatch.setattr(module, constant, value)
    monkeypatch.setattr(catalog, "find", lambda given: (given, found))
    return found, module


def tiny(study: Study) -> list[str]:
    """Return the options that make a study small, of those that it takes."""
    return [text for name in TINY if name in study.takes for text in (f"--{name}", str(TINY[name]))]


def read_settings(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set that will have the names of all settings that a study's file reads."""
    files, read = {module.__file__, sys.modules[Settings.__module__].__file__}, set()
    usual = Settings.__getattribute__

    def note(self: Settings, name: str) -> object:
        code = sys._getframe(1).f_code
        if name in SETTINGS and code.co_filename in files and code.co_name != "__post_init__":
            read.add(name)
        return usual(self, name)

    monkeypatch.setattr(Settings, "__getattribute__", note)
    return read


@pytest.mark.parametrize("name", catalog.names())
def test_every_study_from_end_to_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All files are written, all questions answered, and every curve's runs can be made again from what is written.

    And the settings that are read are those that the study says it takes: the command line refuses the others.
    """
    study, module = load(name, monkeypatch)
    read = read_settings(module, monkeypatch)
    assert cli.main([name, *tiny(study), "--out", str(tmp_path)]) == 0
    assert read == set(study.takes)
    kinds = ("pdf", "png", "csv", "md", "json")
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{kind}" for kind in kinds}
    findings = (tmp_path / f"{name}.md").read_text()
    assert findings in capsys.readouterr().out
    for question in study.questions:
        (answer,) = re.findall(rf"\*\*{re.escape(question)}\*\* (.*)", findings)
        assert len(answer) > 10
    assert not re.search(r"\b(nan|inf)\b|[{}]", findings)
    assert ("**What was tuned?**" in findings) == (study.tuning is not None)
    table = pd.read_csv(tmp_path / f"{name}.csv")
    assert len(table)
    provenance = json.loads((tmp_path / f"{name}.json").read_text())
    settings = eval(provenance["settings"], {"qsim": qsim})
    assert settings == replace(study.defaults, **{name: TINY[name] for name in TINY if name in study.takes})
    cells = study.cells(settings) if study.tuning is None else study.cells(settings, chosen(provenance))
    for curve, entry in provenance["curves"].items():
        run = eval(entry["run"], {"qsim": qsim})
        assert [replace(run, seed=s) for s in entry["seeds"]] == [cell.run for cell in cells if cell.curve == curve]
    assert list(provenance["curves"]) == list(dict.fromkeys(cell.curve for cell in cells))
    if cells and name not in ("encodings", "mean_estimation"):  # whose runs only make gradients
        assert set(provenance["curves"]) <= set(table["curve"])
        for curve, seeds in table.groupby("curve")["seeds"]:
            if curve in provenance["curves"]:
                assert set(seeds) == {len(provenance["curves"][curve]["seeds"])}
    if study.tuning is not None:
        for curve, entry in provenance["tuning"]["curves"].items():
            scores = {literal_eval(choice): float(each["score"]) for choice, each in entry["tried"].items()}
            assert list(scores) == list(study.tuning.grid)
            best = max(c for c, score in scores.items() if score == min(scores.values()))
            assert pair_or_number(entry["choice"]) == best, curve
    check = {
        "cluster": what_is_missing_is_left_out,
        "engines": engines_are_timed,
        "one_bit": counterexamples_are_told,
        "s_sweep": s_is_explained,
        "sparse_representation": all_codes_agree,
    }
    if name in check:
        check[name](table, findings)


def engines_are_timed(table: pd.DataFrame, findings: str) -> None:
    assert set(table["engine"]) == {"computing alone", "Serial", "Serial, 2 threads", "2 Processes"}
    assert (table["ms"] > 0).all()
    assert (table.loc[table["engine"] == "computing alone", "over computing"] == 1).all()
    assert (table["ms_low"] <= table["ms"]).all()


def what_is_missing_is_left_out(table: pd.DataFrame, findings: str) -> None:
    """What else there is to see needs Spark and Ray: tests/engines/test_cluster_study.py."""
    assert set(table["engine"].dropna()) == {"Serial", "Processes"}
    left_out = "Left out: Spark (a test goes without); PySpark loop (a test goes without); Ray (a test goes without)."
    assert left_out in findings
    assert "The PySpark loop was not measured." in findings


def counterexamples_are_told(table: pd.DataFrame, findings: str) -> None:
    signs = ("sign", "scaled sign", "scaled sign, EF")
    assert {f"{problem}: {name}" for problem in ("x/4", "ridge") for name in signs} <= set(table["curve"])


def s_is_explained(table: pd.DataFrame, findings: str) -> None:
    """Both settings and every downlink are run, and beside each measured difference stands a predicted one."""
    levels = [f"s = {s}" for s in (1, 2, 4, 8, 16, 64)]
    curves = set(table["curve"])
    assert {f"{s}{suffix}" for s in levels for suffix in ("", "; sorted by label")} <= curves
    assert {f"{c}; {down}" for c in ("uncompressed", "s = 1") for down in ("sparse sum", "Top-6 weights")} <= curves
    rows = [line.split(" | ") for line in findings.splitlines() if line.startswith("| s = ") and "(" in line]
    predicted = {row[0].removeprefix("| "): float(row[3]) for row in rows if len(row) == 8}
    assert set(predicted) == {f"{s}{suffix}" for s in levels for suffix in ("", ", sorted by label")}
    assert predicted["s = 1"] > predicted["s = 16"] > predicted["s = 64"] > 0


def all_codes_agree(table: pd.DataFrame, findings: str) -> None:
    assert "Yes, bit for bit." in findings


def claims_are_kept(table: pd.DataFrame, findings: str) -> None:
    """No exact variance is beyond its claim, and known ones are attained."""
    exact = table[table["standard error"] == 0]
    assert (exact["measured"] <= exact["claim"] * (1 + 1e-5)).all()
    for curve in ("QSGD, max", "RandK, k = n/4", "TopK, k = n/4", "scaled sign", "subtractive dither, l2"):
        here = table[table["curve"] == curve]
        assert (here["measured"] >= 0.98 * here["claim"]).all(), curve


CHECKS = {
    "certificates": claims_are_kept,
    "engines": engines_are_timed,
    "one_bit": counterexamples_are_told,
    "sparse_representation": all_codes_agree,
}


def chosen(provenance: dict) -> dict[str, Choice]:
    tuned = provenance["tuning"]["curves"].items()
    return {curve: Choice(pair_or_number(entry["choice"]), {}) for curve, entry in tuned}


def pair_or_number(choice: float | list[float]) -> float | tuple[float, ...]:
    """What JSON has of a choice: pairs are lists there."""
    return tuple(choice) if isinstance(choice, list) else choice


@needs_committed
@pytest.mark.parametrize("name", catalog.names())
def test_committed_provenance_is_that_of_the_default_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings and runs behind each committed figure are those that the study has now."""
    study, provenance = catalog.find(name)[1], json.loads((COMMITTED / f"{name}.json").read_text())
    if name == "cluster":  # the figure has all engines, whatever is installed here
        monkeypatch.setattr(sys.modules["qsim_study_cluster"], "missing", dict)
    settings = study.defaults
    assert provenance["settings"] == repr(settings)
    cells = study.cells(settings) if study.tuning is None else study.cells(settings, chosen(provenance))
    first = {cell.curve: repr(cell.run) for cell in reversed(cells)}
    assert {curve: entry["run"] for curve, entry in provenance["curves"].items()} == first
    if study.tuning is not None:
        tried = provenance["tuning"]["curves"]
        candidates = {(c.curve, written(c.choice)): repr(c.run) for c in reversed(study.tuning.candidates(settings))}
        assert candidates == {(curve, choice): tried[curve]["tried"][choice]["run"] for curve, choice in candidates}


@needs_committed
@pytest.mark.parametrize("name", catalog.names())
def test_committed_findings_have_no_unfilled_places(name: str) -> None:
    assert not re.search("[{}]", (COMMITTED / f"{name}.md").read_text())


WITH_ROUNDS = (
    "ef21",
    "feedback",
    "one_bit",
    "rare_features",
    "s_sweep",
    "second_order",
    "seminar",
    "simple_quantization",
    "sparse_representation",
    "stragglers",
    "zoo",
)
EXACT, COUNTS = 1e-6, 1e-2
"""How far numbers may be off on another machine: there `exp` and fused multiply-add differ in the last digits, which
tips a few roundings of the quantizers. On one machine all digits that are written agree."""


@needs_committed
@pytest.mark.parametrize("name", WITH_ROUNDS)
def test_committed_rounds_come_again(name: str) -> None:
    """The first rounds of the first and the last curve: they do not depend on how many follow."""
    table, provenance = pd.read_csv(COMMITTED / f"{name}.csv"), json.loads((COMMITTED / f"{name}.json").read_text())
    if "axis" in table:
        table = table[table["axis"] == "round"]
    names = list(provenance["curves"])
    for curve in (names[0], names[-1]):
        run = eval(provenance["curves"][curve]["run"], {"qsim": qsim})
        runs = [replace(run, seed=seed, rounds=run.evaluate_every) for seed in provenance["curves"][curve]["seeds"]]
        traces = [qsim.simulate(short) for short in runs]
        rows = table[table["curve"] == curve].set_index("round")
        for t in (0, run.evaluate_every):
            for quantity, tolerance in (("loss", EXACT), ("bits_up", COUNTS), ("nonzeros", COUNTS)):
                column = quantity if quantity in rows else f"cumulative_{quantity}"
                mean = np.mean([trace.axis(quantity)[t] for trace in traces])
                assert rows.loc[t, column] == pytest.approx(mean, rel=tolerance), (curve, t, quantity)


@needs_committed
def test_committed_certificates_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    study, module = load("certificates", monkeypatch)
    monkeypatch.setattr(module, "DRAWS", 200)
    again = study.numbers(None)
    both = pd.read_csv(COMMITTED / "certificates.csv").merge(again, on=["curve", "s", "n"], suffixes=("", "_again"))
    assert len(both) > 30
    np.testing.assert_allclose(both["claim_again"], both["claim"], rtol=1e-9)
    np.testing.assert_allclose(both["measured_again"], both["measured"], rtol=1e-4)


@needs_committed
@pytest.mark.parametrize("name", ["encodings", "mean_estimation"])
def test_committed_measures_of_first_gradients_come_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients at the start need no training: their bits and errors are compared."""
    study, _ = load(name, monkeypatch)
    settings = replace(study.defaults, rounds=1, seeds=1)
    cells = study.cells(settings)[:1]
    again = study.numbers(Results(settings, cells, [qsim.simulate(cell.run) for cell in cells]))
    keys = ["vectors", "s", "code"] if name == "encodings" else ["vectors", "way", "curve"]
    both = pd.read_csv(COMMITTED / f"{name}.csv").merge(again, on=keys, suffixes=("", "_again"))
    both = both[both["vectors"] == "adult, early"]
    assert len(both) > 20
    for column in ("bits per coordinate", "bits per non-zero", "error"):
        if column in both:
            np.testing.assert_allclose(both[f"{column}_again"], both[column], rtol=COUNTS)


@needs_committed
def test_committed_iterations_to_the_target_come_again() -> None:
    table = pd.read_csv(COMMITTED / "tradeoff.csv")
    provenance = json.loads((COMMITTED / "tradeoff.json").read_text())
    curve = "uncompressed, W = 1, tuned step"
    trace = qsim.simulate(eval(provenance["curves"][curve]["run"], {"qsim": qsim}))
    assert trace.axis("round")[-1] == table.set_index("curve").loc[curve, "iterations"]  # without noise: all seeds


# What is particular to a study.


def test_the_study_of_encodings_counts_what_codecs_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """On short vectors: bits are those of encoded packets, and no code of them all is shorter than the references."""
    found, module = load("encodings", monkeypatch)
    settings = Settings("spark_sample", 2, 4, 2)
    cells = found.cells(settings)
    table = found.numbers(Results(settings, cells, [qsim.simulate(cell.run) for cell in cells]))
    draws = [qsim.Key(seed).fold(1000).generator().standard_normal(1000).astype(np.float32) for seed in (0, 1)]
    keys = qsim.Key(0).fold(4).words(0, 2)
    message = qsim.QSGD(4).compress(qsim.batch.Vectors.dense(np.array(draws)), keys)
    table = table[(table["vectors"] == "Gaussian, n = 1000") & (table["s"] == 4)]
    shown = table.set_index("code")["bits per coordinate"]
    for code, codec in (("rANS", qsim.codecs.RANS()), ("Elias omega, dense", qsim.codecs.EliasDense("omega"))):
        assert shown[code] == pytest.approx(codec.encode(message).bits / 2000)
    entropy = qsim.entropy.entropy_bits(message)
    assert shown["entropy"] == pytest.approx((entropy.sum() + 64) / 2000)
    assert shown["enumerative positions"] < shown["entropy"] < shown[list(module.CODECS)].min()


def test_codes_that_the_noise_does_not_part_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    _, module = load("encodings", monkeypatch)
    monkeypatch.setattr(module, "CODECS", dict.fromkeys(("a", "b", "c")))
    bits = {"a": np.array([10.0, 20, 30, 40]), "b": np.array([11.0, 19, 31, 40]), "c": np.array([20.0, 41, 59, 80])}
    assert module.shortest(bits) == "a or b"
    assert module.shortest({code: lengths[:1] for code, lengths in bits.items()}) == "a"


def test_one_seed_claims_nothing_of_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["s_sweep", *tiny(catalog.find("s_sweep")[1])[:-1], "1", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "With one seed the noise is not known; uplink bits go from" in said
    for words in ("the seed noise, from", "The interval at", "joint intervals"):
        assert words not in said
    assert "To 0.1: all are there at the start." in said


@pytest.mark.parametrize(("rounds", "words"), [("60", "seed noise"), ("4", "none gets there with every seed")])
def test_the_study_of_the_tradeoff_counts_to_the_target(tmp_path: Path, rounds: str, words: str, capsys) -> None:
    arguments = ["--data", "spark_sample", "--rounds", rounds, "--seeds", "2", "--workers", "4"]
    assert cli.main(["tradeoff", *arguments, "--out", str(tmp_path)]) == 0
    assert words in capsys.readouterr().out
    numbers = pd.read_csv(tmp_path / "tradeoff.csv")
    exact = numbers["curve"].str.endswith("no quantizer")
    assert len(numbers) == 2 * 6 * 2 + exact.sum() == 2 * 6 * 2 + 2 * 5 * 2
    dense = numbers[numbers["s"] == 0]
    iterations = dense["iterations"].to_numpy()
    assert dense["uplink bits per iteration"].gt(32 * 16).all()  # with the stream's header
    assert dense["bits per iteration"].gt(2 * 32 * 16).all()
    np.testing.assert_allclose(dense["bits to the target"], iterations * dense["bits per iteration"])
    assert (numbers["reached"] == 2)[~exact].tolist() == np.isfinite(numbers["iterations"])[~exact].tolist()
    assert np.isfinite(iterations).any() == (rounds == "60")
    shown = numbers.set_index("curve")
    for curve, row in shown[shown["noise factor"].notna()].iterrows():
        without = shown.loc[f"{curve}, no quantizer"]
        assert row["iterations"] == pytest.approx(without["iterations"] * row["noise factor"])
        best = shown.loc[f"uncompressed, W = {row['workers']}, tuned step", "iterations"]
        if np.isfinite(best):
            assert row["iterations"] == pytest.approx(best * without["step factor"] * row["noise factor"])
