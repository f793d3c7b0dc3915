"""The study of mean estimation, on recorded vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import qsim
from qsim.codecs import RANS
from qsim.study import cli

SMALL = ["--data", "spark_sample", "--workers", "2", "--rounds", "2", "--seeds", "1"]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "mine.npy"
    np.save(path, qsim.Key(5).generator().standard_normal((3, 64)))
    return path


def test_mean_estimation_of_recorded_vectors(tmp_path: Path, recorded: Path) -> None:
    """A point of the CSV is the error and the bits computed again from the definition."""
    out = tmp_path / "out"
    assert cli.main(["mean_estimation", *SMALL, "--vectors", str(recorded), "--out", str(out)]) == 0
    table = pd.read_csv(out / "mean_estimation.csv")
    assert set(table["vectors"]) == {"Gaussian", "Student t", "spark_sample, early", "spark_sample, late", "mine.npy"}
    rows = np.load(recorded).astype(np.float32)
    channel, batch = qsim.Channel(qsim.QSGD(4), RANS()), qsim.batch.Vectors.dense(rows)
    errors, bits = [], []
    for draw in range(5):
        keys = qsim.Key(draw).words(0, 3)
        header, packets = channel.pack(batch, keys)
        decoded = channel.unpack(header, packets, keys).to_dense()
        errors.append(3 * ((decoded - rows).mean(0) ** 2).sum() / (rows**2).sum(1).mean())
        bits.append(np.sum(packets.bits) / rows.size)
    here = table[(table["vectors"] == "mine.npy") & (table["curve"] == "QSGD, rANS")].iloc[1]
    assert here["error"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert here["bits per coordinate"] == pytest.approx(np.mean(bits))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (None, "there is no file"),
        (np.ones(3), r"shape (3,)"),
        (np.array([[1.0, np.nan]]), "nan at [0, 1]"),
        (np.array([[1e300, 1.0]]), "1e+300 at [0, 0]"),
        (np.zeros((2, 3)), "only zeros"),
        (np.array([["a"]]), "must hold numbers"),
        (np.array([[None]]), "not a .npy file of numbers"),
    ],
)
def test_bad_recorded_vectors_are_refused(
    array: np.ndarray | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.npy"
    if array is not None:
        np.save(path, array)
    assert cli.main(["mean_estimation", *SMALL, "--vectors", str(path), "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err


def test_a_text_file_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vectors.npy"
    path.write_text("1 2 3")
    assert cli.main(["mean_estimation", *SMALL, "--vectors", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "not a .npy file of numbers: it does not begin as one; numpy.save writes them" in capsys.readouterr().err


def test_other_studies_refuse_recorded_vectors(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "s_sweep", "--vectors", str(recorded)]) == 2
    assert "--vectors is not for this study" in capsys.readouterr().err
