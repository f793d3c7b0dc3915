"""The study command, its statistics, and what it says to bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

import qsim
from qsim.study import Results, catalog, cli, run_study

TINY = ["--data", "spark_sample", "--rounds", "10", "--seeds", "3", "--workers", "4"]

USERS_STUDY = """
import qsim
from qsim.study import Cell, Panel, Settings, Study, panels

def cells(settings):
    data = qsim.datasets.load(settings.data)
    return [
        Cell(str(compressor), qsim.Run(data, objective=qsim.LogisticRegression(l2=0.1),
             method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)), compressor=compressor,
             workers=settings.workers, rounds=settings.rounds, seed=seed))
        for compressor in (qsim.QSGD(1), qsim.QSGD(1, "max")) for seed in range(settings.seeds)
    ]

study = Study(
    title="Norms", questions=["Which?"], defaults=Settings("spark_sample", 4, 5, 2), cells=cells,
    setting=lambda settings: "A setting.", answers=lambda results: ["This."],
    draw=lambda results: panels(results, Panel("round", "loss")),
)
"""


def study(*arguments: str, out: Path) -> int:
    return cli.main([*arguments, "--out", str(out)])


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    listed = capsys.readouterr().out
    for name in ("simple_quantization", "s_sweep", "sparse_representation", "seminar"):
        assert name in listed
    assert cli.main(["show", "seminar"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "320 runs",
        "spark_sample",
        "step 0.2",
        "[-1, 1]^16",
        "s = 4",
        "weighting='workers'",
        "optimum=False",
        "\noptions: --data, --workers, --rounds, --seeds, --compressor, --network, --engine\n",
    ):
        assert words in shown
    for name, options in {
        "certificates": "none",
        "eden": "--seeds",
        "scaling": "--data, --workers, --rounds, --seeds, --engine",
        "engines": "--data, --workers, --rounds, --seeds, --network",
    }.items():
        assert cli.main(["show", name]) == 0
        assert f"\noptions: {options}\n" in capsys.readouterr().out


def test_a_study_names_settings_that_there_are() -> None:
    found = catalog.find("eden")[1]
    with pytest.raises(ValueError, match="takes names settings .*, found 'seed'; did you mean 'seeds'"):
        replace(found, takes=("seed",))


def test_settings_that_a_study_does_not_take_are_refused_in_python() -> None:
    found = catalog.find("eden")[1]
    with pytest.raises(ValueError, match=r"workers is not for this study \(DRIVE and EDEN.*\), which takes seeds"):
        run_study(found, replace(found.defaults, seeds=2, workers=3))


def test_a_users_study_by_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "norms.py"
    path.write_text(USERS_STUDY)
    assert study(str(path), out=tmp_path / "out") == 0
    assert "This." in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"norms.{kind}" for kind in ("pdf", "png", "csv", "md", "json")
    }


def test_numbers_are_those_of_the_runs(tmp_path: Path) -> None:
    """The CSV's means and bands, and the provenance's runs, recomputed from scratch."""
    assert study("s_sweep", *TINY, out=tmp_path) == 0
    numbers = pd.read_csv(tmp_path / "s_sweep.csv")
    provenance = json.loads((tmp_path / "s_sweep.json").read_text())
    assert list(provenance["curves"]) == list(dict.fromkeys(numbers["curve"]))
    entry = provenance["curves"]["s = 2"]
    run = eval(entry["run"], {"qsim": qsim})
    assert run.compressor == qsim.QSGD(2)
    assert entry["seeds"] == [0, 1, 2]
    from dataclasses import replace

    finals = np.array([qsim.simulate(replace(run, seed=seed)).frame.iloc[-1] for seed in entry["seeds"]])
    columns = list(qsim.simulate(run).frame.columns)
    last = numbers[(numbers["curve"] == "s = 2") & (numbers["axis"] == "round")].iloc[-1]
    for name in ("loss", "cumulative_bits_up", "cumulative_nonzeros"):
        sample = finals[:, columns.index(name)]
        interval = ttest_1samp(sample, 0).confidence_interval(0.95)
        assert last[name] == pytest.approx(sample.mean(), rel=1e-8)
        assert last[f"{name}_low"] == pytest.approx(interval.low, rel=1e-8)
        assert last[f"{name}_high"] == pytest.approx(interval.high, rel=1e-8)


def test_a_file_without_a_study_is_named(tmp_path: Path, capsys) -> None:
    path = tmp_path / "empty.py"
    path.write_text("x = 1")
    assert cli.main([str(path)]) == 2
    assert "defines no study" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert study("simple_quantization", *TINY, out=tmp_path / "file") == 2
    assert "is not a folder that can be written" in capsys.readouterr().err


def test_runs_that_end_early_are_compared_up_to_the_first_end() -> None:
    def trace(*losses: float) -> qsim.Trace:
        return qsim.Trace({"loss": np.array(losses)}, np.zeros(1), {})

    settings = qsim.study.Settings("spark_sample", 2, 2, 2)
    cells = [qsim.study.Cell(curve, None) for curve in "aabb"]
    losses = [(5, np.nan, 3, 1), (5, 4, 3), (5, 4, np.nan, 1), (5, 4, 3, np.nan, 1)]
    results = Results(settings, cells, [trace(*values) for values in losses])
    assert results.rounds.tolist() == [0]
    results = Results(settings, cells[:2], [trace(*values) for values in losses[:2]])
    assert results.rounds.tolist() == [0, 2]
    assert results.final("a", "loss") == 3


def test_an_error_in_a_users_study_keeps_its_traceback(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(USERS_STUDY.replace('["This."]', '[{}["lX"]]'))
    with pytest.raises(KeyError, match="lX"):
        study(str(path), out=tmp_path / "out")


def test_importing_a_study_runs_nothing(monkeypatch) -> None:
    monkeypatch.setattr(qsim.simulation, "simulate", lambda *_: pytest.fail("a study ran when it was imported"))
    assert [catalog.find(name)[0] for name in catalog.names()] == catalog.names()


def test_a_compressor_from_a_study_file_works_in_processes(tmp_path: Path) -> None:
    """The class is known by the path of its file alone, which no process could import."""
    text = USERS_STUDY.replace(
        "def cells(settings):",
        """import numpy as np
from qsim.engines import Processes

@qsim.option
class Rounded(qsim.compressors.Compressor):
    digits: int
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        return qsim.batch.Floats.single(np.round(v, self.digits))

def cells(settings):""",
    ).replace('(qsim.QSGD(1), qsim.QSGD(1, "max"))', "(Rounded(3),)")
    for name, engine in (("serial", ""), ("processes", ", Processes(2)")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(text.replace("seed=seed))", f"seed=seed){engine})"))
        assert study(str(tmp_path / name / "mine.py"), out=tmp_path / name) == 0
    assert (tmp_path / "serial" / "mine.csv").read_bytes() == (tmp_path / "processes" / "mine.csv").read_bytes()


def test_references_by_hand() -> None:
    message = qsim.batch.Levels.join(
        [qsim.batch.Levels.single(row, scale=1.0, s=2) for row in ([0, 0, 1, -2], [0] * 4, [1] * 4)]
    )
    assert qsim.entropy.entropy_bits(message).tolist() == [2 + 2 * 2, 0, 0]
    assert qsim.entropy.position_bits(5, 2) == pytest.approx(np.log2(10))
    assert qsim.entropy.position_bits(5, 5) == qsim.entropy.position_bits(5, 0) == 0
    with pytest.raises(ValueError, match="from 0 to n = 5, found 6"):
        qsim.entropy.position_bits(5, 6)
