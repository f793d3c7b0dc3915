"""The command line of studies: commands, options, exit codes, and what it says to bad requests."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import qsim
from helpers.paths import ROOT, process_environment
from helpers.traces import same
from qsim.object_loader import load_file
from qsim.study import catalog, cli, export, run_study
from qsim.study.compare_results import find
from qsim.study.store import Store

TINY = ["--data", "spark_sample", "--rounds", "10", "--seeds", "2", "--workers", "4"]

NORMS = """
import qsim
from matplotlib.figure import Figure
from qsim.study import Cell, Settings, Study

def cells(settings):
    data = qsim.datasets.load(settings.data)
    return [
        Cell(curve, qsim.Run(data, objective=qsim.LogisticRegression(l2=0.1),
             method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)), compressor=compressor,
             codec=qsim.codecs.RANS(), workers=settings.workers, rounds=settings.rounds, seed=seed))
        for curve, compressor in {"l2": qsim.QSGD(1), "max": qsim.QSGD(1, "max")}.items()
        for seed in range(settings.seeds)
    ]

study = Study(
    title="Norms", questions=["Which?"], defaults=Settings("spark_sample", 4, 5, 2), cells=cells, template="l2",
    setting=lambda settings: "A setting.", answers=lambda results: [", ".join(results.curves)],
    draw=lambda results: Figure(),
)
"""

MINE = """
import numpy as np
import qsim

@qsim.option
class Keep(qsim.compressors.Compressor):
    p: float
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        kept = key.generator().random(v.size) < self.p
        return qsim.batch.Floats.single(np.where(kept, v / self.p, 0))

@qsim.option
class Broken(qsim.compressors.Compressor):
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        raise RuntimeError("no luck")
"""


@pytest.fixture
def here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study and compressors of a user, in which the command line is used."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "norms.py").write_text(NORMS)
    (folder / "mine.py").write_text(MINE)
    monkeypatch.chdir(folder)
    for name in [name for name in sys.modules if name.startswith("qsim_file_mine")]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("s_swep", "did you mean 's_sweep'"),
        ("statsu", "did you mean 'status'"),
        ("s_sweep --sedes 3", "did you mean '--seeds'"),
        ("clean --out x", "clean takes no '--out'"),
        ("s_sweep --data adlt", "adult"),
        ("nowhere.py", "no study file"),
        ("all seminar", "all takes no further names"),
        ("list seminar", "list takes no names"),
        ("show", "show takes the name of one study"),
        ("s_sweep --rounds 0", "rounds must be a whole number of at least 1"),
        ("s_sweep --workers -3", "workers"),
        ("s_sweep --seeds 0", "seeds"),
        ("s_sweep --jobs 0", "--jobs must be a whole number of at least 1, found 0"),
        ("s_sweep --data spark_sample --workers 1292 --rounds 1", "322"),
        ("norms.py --only max,", "there is no cell 'max,'; did you mean 'max'"),
        ("norms.py seminar --only max", "--only is for the cells of one study"),
        ("norms.py --compressor mine.py:Kepe(0.1)", "did you mean 'Keep'"),
        ("norms.py --compressor mine.py:Keep", "is a class: make one of it"),
        ("norms.py --compressor mine.py:np", "is not a compressor"),
        ("encodings --compressor mine.py:Keep(0.1)", "--compressor is not for encodings"),
        ("norms.py --compressor qsim:PermK(3)", "PermK(3) fits no run of "),
        ("norms.py --vectors x.npy", "--vectors is not for this study"),
        ("eden --data nosuch.svm", "--data is not for this study (DRIVE and EDEN"),
        ("eden --rounds 0", "which takes seeds"),
        ("certificates --seeds 3", "which takes no settings"),
        ("topologies --engine qsim.engines:Processes(2)", "--engine is not for topologies, which trains nothing"),
        ("norms.py topologies --rounds 9", "--rounds is not for this study"),
        ("show rare_features --workers 3", "which takes rounds, seeds"),
        ("status epoch_time --data adult", "--data is not for this study"),
        ("export sparsified_sgd --workers 2", "which takes data, rounds, seeds"),
        ("export norms.py seminar", "export takes the name of one study"),
        ("compare norms.py", "compare takes two files"),
        ("compare a.csv b.csv", "there are no results a.csv"),
        ("compare . . norms", "has no results of 'norms'"),
        ("compare . nowhere norms", "there is no folder nowhere"),
    ],
)
def test_bad_requests_end_with_2_and_say_why(command: str, words: str, here: Path, capsys) -> None:
    before = written(here)
    assert cli.main(shlex.split(command)) == 2
    assert words in capsys.readouterr().err
    assert written(here) - {"paper_figures", "__pycache__"} == before
    assert not written(here / "paper_figures")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def x(:", "wrong.py can't be run: SyntaxError: invalid syntax (wrong.py, line 1)"),
        ("import qsim\n1 / 0", "wrong.py can't be run (line 2): ZeroDivisionError: division by zero"),
        ("import not_there", "wrong.py can't be run (line 1): ModuleNotFoundError: No module named 'not_there'"),
    ],
)
def test_a_study_file_that_fails_is_a_wrong_request(source: str, words: str, here: Path, capsys) -> None:
    (here / "wrong.py").write_text(source)
    for name in ([], ["show"], ["status"], ["export"]):
        assert cli.main([*name, "wrong.py"]) == 2
        assert words in capsys.readouterr().err
    assert cli.main(["norms.py", "--compressor", "wrong.py:X()"]) == 2
    assert f"can't be run: {words.partition(': ')[2]}" in capsys.readouterr().err


def test_a_study_runs_is_stored_and_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "norms.py"]) == 0
    assert "0 of 4 cells stored, 4 missing" in capsys.readouterr().out
    assert cli.main(["norms.py", "--format", "svg"]) == 0
    said = capsys.readouterr()
    assert "norms: 4 runs in " in said.out
    log = Path(said.err.split("log: ")[1].strip())
    assert log.read_text().count("computed in") == 4
    assert written(here / "paper_figures") == {f"norms.{kind}" for kind in ("pdf", "png", "svg", "csv", "md", "json")}
    assert cli.main(["status", "norms.py"]) == 0
    said = capsys.readouterr()
    assert "4 of 4 cells stored, 0 missing" in said.out
    assert ": 4 cells, 0." in said.out
    assert cli.main(["status", "norms.py", "--rounds", "6"]) == 0
    assert "0 of 4 cells stored" in capsys.readouterr().out
    assert cli.main(["clean"]) == 0
    assert "removed 0 stale cells, 0 half-written files and 0 logs" in capsys.readouterr().out
    assert cli.main(["clean", "--all"]) == 0
    assert "removed 4 cells, 0 half-written files and 1 logs" in capsys.readouterr().out
    assert not Store().cells()
    assert not log.exists()


def test_status_of_all_studies(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", *TINY[2:]]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line)
    assert set(catalog.names()) <= set(lines)
    assert lines["s_sweep"] == "0 of 36 cells stored, 36 missing"
    assert lines["engines"] == "not stored: it measures time"
    assert lines["certificates"] == "does not take all of these settings"


def test_without_the_cache(here: Path) -> None:
    assert cli.main(["norms.py", "--no-cache"]) == 0
    assert not Store().cells()


def test_only_runs_the_cells_that_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["norms.py", "--only", "max, seed 1"]) == 0
    said = capsys.readouterr().out
    assert "max, seed 1: Trace(5 rounds" in said
    assert "QSGD(levels=1, norm='max')" in said
    assert "no figure is drawn" in said
    assert str(Store().cells()[0]) in said
    assert not written(here / "paper_figures")
    assert cli.main(["norms.py", "--only", "l2", "--only", "max, seed 1"]) == 0
    assert "max, seed 1 (stored before): " in capsys.readouterr().out
    assert len(Store().cells()) == 3


def test_a_failing_cell_is_reported_with_the_command_that_runs_it(here: Path, capsys) -> None:
    command = ["norms.py", "--rounds", "4", "--compressor", "mine.py:Broken()", "--compressor", "mine.py:Keep(0.5)"]
    assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert "norms: 2 of 8 cells failed, the others are done, no figure is drawn" in said
    assert "RuntimeError: no luck" in said
    assert not written(here / "paper_figures")
    assert len(Store().cells()) == 6
    log = Path(said.split("log: ")[1].strip()).read_text()
    assert "Traceback" in log
    assert "in quantize" in log
    (again,) = [line.split(": ", 1)[1] for line in said.splitlines() if line.strip().startswith("Broken(), seed 1: ")]
    assert again in log
    words = shlex.split(again)
    assert words[:3] == ["python", "-m", "qsim.study"]
    assert cli.main(words[3:]) == 1
    said = capsys.readouterr().err
    assert "norms: 1 of 1 cells failed" in said
    assert "Traceback" in said
    (here / "mine.py").write_text(MINE.replace('raise RuntimeError("no luck")', "return qsim.batch.Floats.single(v)"))
    del sys.modules["qsim_file_mine"]
    assert cli.main(words[3:]) == 0


def test_an_added_compressor_sees_what_its_carrier_saw(here: Path) -> None:
    assert cli.main(["norms.py", "--compressor", "mine.py:Keep(0.5)", "--compressor", "mine.py:Keep(1.0)"]) == 0
    assert "l2, max, Keep(0.5), Keep(1.0)" in (here / "paper_figures" / "norms.md").read_text()
    curves = json.loads((here / "paper_figures" / "norms.json").read_text())["curves"]
    assert "codec=qsim.codecs.RANS" in curves["l2"]["run"]
    assert "codec=" not in curves["Keep(0.5)"]["run"]  # the usual one
    assert curves["Keep(0.5)"]["sources"] == {"mine.py": sha256((here / "mine.py").read_bytes()).hexdigest()}
    assert "sources" not in curves["l2"]
    table = pd.read_csv(here / "paper_figures" / "norms.csv").set_index("curve")
    _, study = catalog.find("norms.py")
    template = study.cells(study.defaults)[0].run
    keep = load_file(here / "mine.py", "mine_by_hand").Keep
    finals = [
        qsim.simulate(replace(template, compressor=keep(0.5), codec=None, seed=seed)).columns["loss"][-1]
        for seed in (0, 1)
    ]
    assert table.loc["Keep(0.5)", "loss"].iloc[-1] == pytest.approx(np.mean(finals))
    template = replace(template, compressor=qsim.Identity(), codec=None)
    plain = [qsim.simulate(replace(template, seed=seed)).columns["loss"][-1] for seed in (0, 1)]
    assert table.loc["Keep(1.0)", "loss"].iloc[-1] == pytest.approx(np.mean(plain))


def test_an_edited_compressor_is_run_again_alone(here: Path) -> None:
    command = [sys.executable, "-m", "qsim.study", "norms.py", "--compressor", "mine.py:Keep(0.5)"]
    environment = process_environment()

    def run() -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return Path(done.stderr.split("log: ")[1].strip()).read_text()

    assert run().count("computed in") == 6
    (here / "mine.py").write_text(MINE + "# edited\n")
    log = run()
    assert [line.split()[1] for line in log.splitlines() if "computed in" in line] == ["Keep(0.5),"] * 2


@pytest.mark.parametrize("name", [name for name in catalog.names() if catalog.find(name)[1].template is not None])
def test_shipped_studies_take_a_further_compressor(name: str, here: Path, capsys) -> None:
    assert cli.main([name, *TINY, "--jobs", "1", "--compressor", "mine.py:Keep(0.5)"]) == 0
    assert "Keep(0.5)" in (here / "paper_figures" / f"{name}.csv").read_text()
    assert "Keep(0.5)" in (here / "paper_figures" / f"{name}.md").read_text()


def test_export_has_a_row_for_each_cell_and_round(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "norms.py", "--compressor", "mine.py:Keep(0.5)"]) == 0
    assert "norms: 6 cells, 36 rows; wrote norms_cells.csv" in capsys.readouterr().out
    table = pd.read_csv(here / "norms_cells.csv")
    assert list(table.columns[:6]) == ["study", "curve", "compressor", "codec", "workers", "seed"]
    _, study = catalog.find("norms.py")
    for cell in study.cells(study.defaults):
        rows = table[(table["curve"] == cell.curve) & (table["seed"] == cell.run.seed)]
        assert set(rows["compressor"]) == {repr(cell.run.compressor)}
        frame = qsim.simulate(cell.run).frame
        for column in ("round", "loss", "cumulative_bits_up"):
            assert rows[column].tolist() == frame[column].tolist()
    assert set(table.loc[table["curve"] == "Keep(0.5)", "compressor"]) == {"qsim_file_mine.Keep(p=0.5)"}


def test_export_names_every_parameter_that_differs(here: Path) -> None:
    _, study = catalog.find("norms.py")
    first = study.cells(study.defaults)[0]
    step = qsim.GradientDescent(step=qsim.steps.Constant(0.2))
    cells = [first, replace(first, run=replace(first.run, workers=2, rounds=3, method=step))]
    table = export.frame("norms", cells, [qsim.simulate(cell.run) for cell in cells])
    assert list(table.columns[:7]) == ["study", "curve", "method", "compressor", "workers", "rounds of the run", "seed"]
    assert table["workers"].tolist() == [4] * 6 + [2] * 4
    assert set(table["method"]) == {repr(first.run.method), repr(step)}


def test_parquet_without_pyarrow_says_what_to_do(here: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(export, "find_spec", lambda _: None)
    assert cli.main(["export", "norms.py", "--format", "parquet"]) == 2
    assert "pip install pyarrow; or write --format csv" in capsys.readouterr().err


def test_parquet_holds_the_same_as_csv(here: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    for kind in ("csv", "parquet"):
        assert cli.main(["export", "norms.py", "--format", kind]) == 0
    pd.testing.assert_frame_equal(
        pd.read_parquet(here / "norms_cells.parquet"), pd.read_csv(here / "norms_cells.csv"), check_dtype=False
    )


def test_compare_says_what_differs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out, rounds in (("a", "5"), ("b", "5"), ("c", "7")):
        assert cli.main(["norms.py", "--rounds", rounds, "--out", out]) == 0
    capsys.readouterr()
    assert cli.main(["compare", "a", "b", "norms"]) == 0
    said = capsys.readouterr().out
    assert "loss: the same" in said
    assert "differ" not in said
    assert written(here) >= {"compare_norms.pdf", "compare_norms.png"}
    assert cli.main(["compare", "a/norms.json", "c/norms.csv"]) == 0  # at the last round of both
    said = capsys.readouterr().out
    assert "rounds=5" in said
    assert "rounds=7" in said
    assert "loss: the same" in said
    table = pd.read_csv("b/norms.csv")
    changed = (table["curve"] == "max") & (table["round"] == 5)
    half = table.loc[changed, "loss_high"] - table.loc[changed, "loss"]
    for share, verdict in ((1.3, "no difference found"), (1.6, "beyond the noise")):
        moved = table.assign(loss=table["loss"] + changed * half.iloc[0] * share)
        moved[["loss_low", "loss_high"]] += np.outer(changed * half.iloc[0] * share, [1, 1])
        moved.to_csv("b/norms.csv", index=False)
        assert cli.main(["compare", "a", "b", "norms"]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  max: ")]
        assert verdict in line
        assert f"{half.iloc[0] * share:+.3g}," in line


@pytest.mark.parametrize(
    ("seeds", "spread", "verdict"),
    [
        (5, 10.0, "beyond the noise"),  # log 100 = 4.6 is more than sqrt(2) log 10 = 3.3
        (5, 30.0, "no difference found"),
        (1, 1.0, "one seed: the noise is not known"),
    ],
)
def test_compare_takes_the_noise_of_logarithms_and_of_one_seed_none(
    seeds: int, spread: float, verdict: str, here: Path, capsys
) -> None:
    for folder, value in (("a", 1.0), ("b", 0.01)):
        Path(folder).mkdir()
        found = {"": value, "_low": value / spread, "_high": value * spread}
        row = {"curve": "x", "round": 5, "seeds": seeds, "loss": 1.0} | {
            f"suboptimality{k}": v for k, v in found.items()
        }
        pd.DataFrame([row]).to_csv(f"{folder}/own.csv", index=False)
    for order in (["a", "b"], ["b", "a"]):
        assert cli.main(["compare", *order, "own"]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  x: ")]
        assert verdict in line


def test_compare_of_a_study_with_a_table_of_its_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.DataFrame({"code": ["x", "x", "y"], "s": [1, 2, 1], "bits": [3.0, 4.0, np.nan], "way": list("abc")})
    for folder, changed in (("a", table), ("b", table.assign(bits=[3.0, 5.0, np.nan])[:2])):
        Path(folder).mkdir()
        changed.to_csv(f"{folder}/own.csv", index=False)
    assert cli.main(["compare", "a", "b", "own"]) == 0
    said = capsys.readouterr().out
    assert "only in A: y, 1" in said
    assert "bits: 1 of 2 differ\n  x, 2: 4 -> 5 (+1, +25.00%)" in said
    table.rename(columns={"bits": "bytes"}).to_csv("b/own.csv", index=False)
    assert cli.main(["compare", "a", "b", "own"]) == 2
    assert "are not of one study" in capsys.readouterr().err
    table.assign(bits=["many", "few", "none"]).to_csv("b/own.csv", index=False)
    assert cli.main(["compare", "a", "b", "own"]) == 2
    assert "are not all numbers" in capsys.readouterr().err


@pytest.mark.parametrize("name", catalog.names())
def test_committed_results_can_be_compared(name: str) -> None:
    from qsim.study.compare_results import compare

    folder = ROOT / "paper_figures"
    if not folder.is_dir():
        pytest.skip("needs the checkout's paper_figures")
    first, second = find([str(folder), str(folder), name])
    text, _ = compare(first, second)
    assert "the same" in text
    assert " differ\n" not in text


def test_commands_have_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("", "run", "list", "show", "status", "clean", "export", "compare"):
        with pytest.raises(SystemExit, match="0"):
            cli.main([name, "--help"] if name else ["--help"])
        said = capsys.readouterr().out
        assert said.startswith("usage: qsim study")
    with pytest.raises(SystemExit, match="2"):
        cli.main([])


def test_a_cell_file_is_the_trace_of_its_run(here: Path) -> None:
    assert cli.main(["norms.py"]) == 0
    _, study = catalog.find("norms.py")
    run = study.cells(study.defaults)[3].run
    assert same(qsim.Trace.load(Store().path(run)), qsim.simulate(run))


def test_a_study_is_timed_on_a_network(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The runs are those of the study, with seconds; what would be drawn over bits is drawn over them."""
    network = "qsim:Network(link=qsim.network.Link(bandwidth=1e6))"
    assert cli.main(["s_sweep", *TINY, "--jobs", "1", "--network", network]) == 0
    written = json.loads((here / "paper_figures" / "s_sweep.json").read_text())
    runs = {curve: eval(entry["run"], {"qsim": qsim}) for curve, entry in written["curves"].items()}
    assert {run.network for run in runs.values()} == {qsim.Network(link=qsim.network.Link(bandwidth=1e6))}
    _, study = catalog.find("s_sweep")
    settings = eval(written["settings"], {"qsim": qsim})
    plain = {cell.curve: cell.run for cell in study.cells(settings) if cell.run.seed == 0}
    assert {curve: replace(run, network=None) for curve, run in runs.items()} == plain
    assert "the figure has its virtual seconds" in (here / "paper_figures" / "s_sweep.md").read_text()
    results = run_study(study, settings, jobs=1)
    labels = [ax.get_xlabel() for ax in study.draw(results).axes]
    assert "virtual seconds" in labels
    assert not any("bits" in label for label in labels)
    assert "bits, uplink + downlink" in [
        ax.get_xlabel() for ax in study.draw(run_study(study, replace(settings, network=None), jobs=1)).axes
    ]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("study", "network", "said"),
    [
        ("s_sweep", "qsim:Network(qsim.network.Ring())", "has no server that could send down"),
        ("s_sweep", "qsim:QSGD(3)", "is not a network, such as qsim:Network()"),
        ("s_sweep", "qsim:Network", "is a class: make one of it"),
        ("stragglers", "qsim:Network()", "runs on networks of its own"),
    ],
)
def test_networks_that_cannot_be(study: str, network: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([study, *TINY, "--network", network]) == 2
    assert said in capsys.readouterr().err
