"""Click logs that are drawn at random: the lines, and that they can be learnt from."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

import qsim
from oracles import clicks as oracle
from qsim.datasets import HashedText, save_clicks
from qsim.kernels.clicks import LONGEST, write_clicks


@pytest.mark.parametrize(("rows", "part", "seed"), [(1, 0, 0), (300, 0, 0), (50, 7, 2**64 - 1)])
def test_the_lines_are_those_of_plain_python(tmp_path: Path, rows: int, part: int, seed: int) -> None:
    save_clicks(tmp_path / "clicks.tsv", rows, part=part, seed=seed)
    assert (tmp_path / "clicks.tsv").read_text() == "".join(f"{line}\n" for line in oracle.lines(rows, part, seed))


def test_a_shorter_log_is_the_start_of_a_longer_one_packed_or_not(tmp_path: Path) -> None:
    save_clicks(tmp_path / "long.tsv", 9000)
    save_clicks(tmp_path / "short.tsv.gz", 5000)
    with gzip.open(tmp_path / "short.tsv.gz") as stream:
        assert (tmp_path / "long.tsv").read_bytes().startswith(stream.read())
    before = (tmp_path / "short.tsv.gz").read_bytes()
    save_clicks(tmp_path / "short.tsv.gz", 5000)
    assert (tmp_path / "short.tsv.gz").read_bytes() == before


def test_lines_have_room() -> None:
    for word in range(40):
        out = np.full(200 * LONGEST + 8, 77, np.uint8)
        size = write_clicks(np.uint64(word), np.uint64(word), 0, 200, out[:-8])
        assert (out[size:] == 77).all()
        assert max(map(len, out[:size].tobytes().splitlines(keepends=True))) <= LONGEST


def test_the_labels_can_be_learnt(tmp_path: Path) -> None:
    """On 5,000 rows of another part, some gradient steps lower the log-loss by a tenth: no chance does that."""
    for part in (0, 1):
        save_clicks(tmp_path / f"{part}.tsv", 5000, part=part)
    train, test = (HashedText(tmp_path / f"{part}.tsv", 2**18).load() for part in (0, 1))
    assert 0.2 < train.positives / train.rows < 0.3
    objective = qsim.LogisticRegression(l2=1e-4)
    w = np.zeros(train.features)
    start = objective.value_and_gradient(w, test)[0]
    for _ in range(30):
        w -= 0.1 * objective.value_and_gradient(w, train)[1]
    assert objective.value_and_gradient(w, test)[0] < 0.9 * start


@pytest.mark.parametrize(("rows", "options"), [(0, {}), (1.5, {}), (1, {"part": -1}), (1, {"seed": -1})])
def test_numbers_that_make_no_sense(tmp_path: Path, rows: int, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be a whole number"):
        save_clicks(tmp_path / "clicks.tsv", rows, **options)
    assert not list(tmp_path.iterdir())
