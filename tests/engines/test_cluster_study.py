"""The study of clusters with all its engines, and the loop in PySpark that they are measured against."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import which

import numpy as np
import pandas as pd
import pytest

import qsim
from helpers.clusters import ray_cluster, spark_session
from helpers.studies import load
from qsim.study import cli

pytest.importorskip("pyspark", reason="needs Spark: pip install 'pyspark>=4'")
pytest.importorskip("ray", reason="needs Ray: pip install 'ray>=2.40'")
if which("java") is None:
    pytest.skip("needs Java, for Spark", allow_module_level=True)
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def clusters() -> Iterator[None]:
    with spark_session(), ray_cluster():
        yield


def test_the_loop_descends_as_qsim_does(clusters) -> None:
    """Its gradients are those of the logistic loss, over all rows, whatever partitions they are in."""
    _, module = load("cluster")
    source = qsim.datasets.Synthetic(rows=50, features=30, nonzeros_per_row=4, seed=2)
    run = replace(module.run((source, 1), 0, 4, compressed=False), optimum=False)
    ours = qsim.simulate(run, progress=False)
    loop = qsim.simulate(run, engine=module.PySparkLoop(3), progress=False)
    assert np.abs(ours.weights).max() > 0.05
    np.testing.assert_allclose(loop.weights, ours.weights, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_every_engine_is_measured(clusters, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["--data", "spark_sample", "--workers", "2", "--rounds", "2", "--seeds", "2"]
    assert cli.main(["cluster", *tiny, "--out", str(tmp_path)]) == 0
    findings, numbers = (tmp_path / "cluster.md").read_text(), pd.read_csv(tmp_path / "cluster.csv")
    assert "Left out" not in findings
    assert not re.search(r"\b(nan|inf)\b|[{}]", findings)
    timed = numbers[numbers["engine"].notna()]
    assert set(timed["engine"]) == {"Serial", "Processes", "Spark", "Ray", "PySpark loop"}
    assert (timed["ms"] > 0).all()
    whole = timed[timed["engine ms"].notna()]
    assert len(whole) == 5
    parts = whole[["engine ms", "network ms", "compute ms"]].sum(axis=1)
    assert (parts >= whole["ms"] * (1 - 1e-8)).all()  # a sum of arithmetic means, and a geometric one
