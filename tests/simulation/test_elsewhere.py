"""Runs over files that only their workers read: the bits of a run over all rows in one place, on every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qsim
from helpers.honest_objectives import Squares
from helpers.rows_elsewhere import click_parts, require_same, run_of, together
from qsim.datasets import DataError, HashedText, Parts, save_clicks
from qsim.datasets.parts import RowsElsewhere
from qsim.engines import Processes, Serial
from qsim.simulation.training import Training

CASES: dict[str, dict[str, Any]] = {
    "descent": {"method": qsim.GradientDescent(0.05)},
    "batches": {"method": qsim.SGD(0.05, batch=3)},
    "a memory": {"method": qsim.GradientDescent(0.05), "compressor": qsim.ErrorFeedback(qsim.TopK(5))},
    "shifts": {"method": qsim.DIANA(0.05), "compressor": qsim.QSGD(2)},
    "an intercept": {
        "method": qsim.GradientDescent(0.05),
        "objective": qsim.LogisticRegression(0.01, intercept=True),
        "compressor": qsim.QSGD(4),
    },
    "drawn workers": {"method": qsim.GradientDescent(0.05), "clients": qsim.clients.SampledClients(3)},
    "a network that drops": {
        "method": qsim.GradientDescent(0.05),
        "network": qsim.Network(rule=qsim.network.Fastest(5)),
        "compressor": qsim.ErrorFeedback(qsim.TopK(5)),
    },
    "local steps": {"method": qsim.LocalSGD(0.05, steps=2, batch=4)},
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return click_parts(tmp_path_factory.mktemp("clicks"))


@pytest.mark.parametrize("case", CASES)
def test_the_run_is_that_over_all_rows_in_one_place(parts: Parts, case: str) -> None:
    data, partition = together(parts)
    here = qsim.simulate(run_of(data, partition=partition, **CASES[case]), engine=Serial())
    there = qsim.simulate(run_of(parts, **CASES[case]), engine=Serial())
    require_same(there, here)


@pytest.mark.parametrize("case", ["descent", "a memory", "an intercept", "a network that drops"])
def test_engines_agree_to_the_last_bit(parts: Parts, case: str) -> None:
    run = run_of(parts, **CASES[case])
    serial = qsim.simulate(run, engine=Serial())
    for engine in (Processes(2), Serial(threads=2, block=2)):
        require_same(serial, qsim.simulate(run, engine=engine))


def test_a_killed_process_is_replaced(parts: Parts) -> None:
    import os
    import signal

    run = run_of(parts, **CASES["a memory"])
    expected = qsim.simulate(run, engine=Serial())
    with Training.opened(run, Processes(2)) as training:
        while not training.over:
            for pid in training._session.pids[:1]:
                os.kill(pid, signal.SIGKILL)
            training.advance()
        require_same(training.trace(), expected)


def test_the_driver_reads_no_file(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """On processes: a source that may be loaded by children only."""
    import os

    from qsim.datasets import parts as module

    driver, shards = os.getpid(), module._shards
    monkeypatch.setattr(module, "_KNOWN", {})

    def only_elsewhere(*arguments: Any) -> Any:
        assert os.getpid() != driver, "the driver held rows"
        return shards(*arguments)

    monkeypatch.setattr(module, "_shards", only_elsewhere)
    monkeypatch.setattr(HashedText, "load", lambda self: only_elsewhere())
    qsim.simulate(run_of(parts, **CASES["descent"]), engine=Processes(2))


def test_a_run_goes_on_from_a_checkpoint_over_the_same_files_only(tmp_path: Path) -> None:
    for part in range(2):
        save_clicks(tmp_path / f"{part}.tsv", 12, part=part)
    run = run_of(Parts(HashedText(tmp_path / "*.tsv", 2**8)), **CASES["a memory"])
    whole = qsim.simulate(run)
    path = tmp_path / "run.npz"

    def stop(done: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        qsim.simulate(run, checkpoint=path, every=2, after_round=stop)
    save_clicks(tmp_path / "1.tsv", 12, part=7)
    with pytest.raises(qsim.simulation.CheckpointError, match="the content"):
        qsim.simulate(run, checkpoint=path, every=2)
    save_clicks(tmp_path / "1.tsv", 12, part=1)
    require_same(qsim.simulate(run, checkpoint=path, every=2), whole)


@pytest.mark.parametrize("engine", [Serial(), Processes(2)], ids=["serial", "processes"])
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, engine: qsim.engines.Engine) -> None:
    for part in range(2):
        save_clicks(tmp_path / f"{part}.tsv", 5, part=part)
    with (tmp_path / "1.tsv").open("a") as file:
        file.write("1\t2\n")
    run = run_of(Parts(HashedText(tmp_path / "*.tsv", 2**8)), method=qsim.GradientDescent(0.1))
    with pytest.raises(DataError, match=r"1\.tsv, line 6: 2 fields instead of 40"):
        qsim.simulate(run, engine=engine)


def test_what_needs_all_rows_is_refused(parts: Parts) -> None:
    method = qsim.GradientDescent(0.1)
    with pytest.raises(ValueError, match="stay in their files: leave out partition=qsim.datasets.ByLabel"):
        run_of(parts, method=method, partition=qsim.datasets.ByLabel())
    with pytest.raises(ValueError, match="cannot be evaluated where the rows are"):
        run_of("spark_sample", method=method, test=parts, objective=Squares())
    with pytest.raises(DataError, match=r"test data must have the 16 features of .*, found .*256"):
        qsim.simulate(run_of("spark_sample", method=method, test=parts))
    with pytest.raises(DataError, match=r"2 workers cannot hold the 3 files of .*day"):
        qsim.simulate(run_of(qsim.datasets.synthetic(20, 2**8, 4), method=method, test=parts, workers=2))
    with pytest.raises(ValueError, match="cannot be evaluated where the rows are"):
        run_of(parts, method=method, objective=Squares())
    with pytest.raises(DataError, match=r"no process holds the rows .* \(evaluation\) is not known"):
        run_of(parts, method=method).objective.value(np.zeros(2**8), parts.load())
    with pytest.raises(DataError, match="2 workers cannot hold the 3 files"):
        qsim.simulate(run_of(parts, method=method, workers=2))
    assert isinstance(run_of(parts, method=method).load(), RowsElsewhere)


@pytest.mark.parametrize("where", ["test data elsewhere", "both elsewhere"])
@pytest.mark.parametrize("case", ["descent", "an intercept", "drawn workers", "a network that drops"])
def test_test_data_are_evaluated_where_they_are(
    parts: Parts, tmp_path: Path, case: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those in the driver's memory, which reads none of them; in planned rounds, several weights at a time."""
    later = click_parts(tmp_path, (12, 5))
    test, _ = together(later)
    data, partition = together(parts)
    options = {"partition": partition, "evaluate_every": 2} | CASES[case]
    expected = qsim.simulate(run_of(data, test=test, **options))
    if where == "both elsewhere":
        data, options = parts, {"evaluate_every": 2} | CASES[case]
    run = run_of(data, test=later, **options)
    found = qsim.simulate(run)
    require_same(found, expected, 1e-13)
    assert np.isfinite(found.columns["test_loss"]).sum() == 4
    monkeypatch.setattr("qsim.datasets.parts._KNOWN", {})
    monkeypatch.setattr(HashedText, "load", lambda self: pytest.fail("the driver read a file"))
    for engine in (Processes(2), Processes(3, block=1)):
        require_same(qsim.simulate(run, engine=engine), found)
    monkeypatch.undo()
    require_same(qsim.simulate(run, engine=Serial(threads=2, block=1)), found)


def test_workers_may_be_more_than_rows_of_test_data(parts: Parts, tmp_path: Path) -> None:
    """As where the test data are in memory; processes whose workers hold none of them answer nothing."""
    options: dict[str, Any] = {"method": qsim.GradientDescent(0.05), "workers": 9}
    later = click_parts(tmp_path, (3, 2))
    found = qsim.simulate(run_of(parts, test=later, **options))
    here = qsim.simulate(run_of(parts, test=together(later, 5)[0], **options))
    require_same(found, here, 1e-13)
    assert np.isfinite(found.columns["test_loss"]).all()
    for engine in (Processes(3), Processes(3, block=1), Serial(threads=2, block=1)):
        require_same(qsim.simulate(run_of(parts, test=later, **options), engine=engine), found)


def test_a_checkpoint_knows_its_test_data(parts: Parts, tmp_path: Path) -> None:
    later = click_parts(tmp_path, (12, 5))
    run = run_of(parts, test=later, **CASES["descent"])
    whole = qsim.simulate(run, checkpoint=tmp_path / "run.npz")
    require_same(qsim.simulate(run, checkpoint=tmp_path / "run.npz"), whole)
    assert whole.provenance["test"]["digest"] == later.digest
    save_clicks(tmp_path / "day-1.tsv.gz", 5, part=9)
    with pytest.raises(qsim.simulation.CheckpointError, match="the content"):
        qsim.simulate(run, checkpoint=tmp_path / "run.npz")
