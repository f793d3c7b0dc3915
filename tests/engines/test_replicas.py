"""With millions of features: places are sent what has changed of the weights, and nobody holds n numbers per worker."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qsim
from helpers.paths import process_environment
from helpers.transports import LooseEngine
from qsim.batch import Vectors
from qsim.datasets import HashedText, Parts, save_clicks
from qsim.engines import Processes, recovery
from qsim.engines.replicas import Completer, Shortener
from qsim.weights import Change, Replica, Weights
from qsim.workers.tasks import Measurement, Order

N = 2**16
RUN = qsim.Run(
    qsim.datasets.synthetic(60, N, 4, seed=1),
    qsim.LogisticRegression(1e-3),
    qsim.SGD(0.5, batch=2),
    qsim.ErrorFeedback(qsim.TopK(3)),
    workers=6,
    rounds=12,
    evaluate_every=5,
    optimum=False,
)
DOWNLINKS: dict[str, qsim.downlinks.Downlink] = {
    "sums": qsim.downlinks.SparseSum(),
    "what is asked for": qsim.downlinks.SparsePull(),
    "all": qsim.downlinks.DenseWeights(),
}
CHANGES = st.lists(st.sampled_from(["sparse", "dense", "move", "shrink", "far", "write", "set", "become", "look"]))


@given(CHANGES, st.integers(0, 9))
def test_a_replica_is_the_rounded_vector_and_says_where_it_changed(changes: list[str], seed: int) -> None:
    random = np.random.default_rng(seed)
    w = Weights(random.standard_normal(20))
    known, number = np.zeros(20, np.float32), -2
    for change in [*changes, "look"]:
        if change == "sparse":
            index = np.sort(random.choice(20, 4, replace=False)).astype(np.int32)
            w.subtract(Vectors(20, np.array([0, 4]), index, random.standard_normal(4)))
            index[:] = (index + 7) % 20  # it is not looked at later
        elif change == "dense":
            w.subtract(Vectors.dense(random.standard_normal((1, 20))))
        elif change == "move":
            w.move(random.standard_normal(20))
        elif change == "shrink":
            w.shrink(0.5)
        elif change == "far":
            w.shrink(2.0**-70)
        elif change == "write":
            w.vector[3] = random.standard_normal()
        elif change == "set":
            w.vector = random.standard_normal(20)
        elif change == "become":
            w.become(Weights(random.standard_normal(20), 0.5))
        else:
            found = w.replica()
            right = w._vector.astype(np.float32)
            assert (found.vector.tobytes(), found.scale) == (right.tobytes(), w.scale)
            assert found.change is not None
            assert found.change.before in (number, -1)
            if found.change.before == number:
                known[found.change.index] = found.vector[found.change.index]
                assert known.tobytes() == right.tobytes()
            known, number = right.copy(), found.change.after


def test_sparse_steps_change_few_coordinates() -> None:
    w = Weights(np.zeros(20))
    w.replica()
    w.subtract(Vectors(20, np.array([0, 2]), np.array([3, 7]), np.ones(2)))
    w.shrink(0.9)
    assert w.replica().change.index.tolist() == [3, 7]
    assert w.replica().change.index.size == 0


@pytest.mark.parametrize("name", ["sums", "what is asked for"])
def test_messages_are_short_where_little_has_changed(name: str) -> None:
    """After the first weights, and but for evaluations of none, each is shorter than a hundredth of the weights."""
    engine = LooseEngine()
    run = replace(RUN, downlink=DOWNLINKS[name], evaluate_every=1000)
    qsim.simulate(run, engine=engine)
    long = [size for size in engine.transport.sizes if size > 4 * N / 100]
    assert len(long) <= 1
    engine = LooseEngine()
    qsim.simulate(replace(run, downlink=DOWNLINKS["all"]), engine=engine)
    assert sum(size > 4 * N for size in engine.transport.sizes) == run.rounds


def test_weights_that_were_not_asked_for_are_unknown() -> None:
    """Two rows of four features, of each of six workers, are all that a place knows."""
    engine = LooseEngine()
    qsim.simulate(replace(RUN, downlink=DOWNLINKS["what is asked for"]), engine=engine)
    for place in engine.transport.places:
        vector = place._members._completer._vector
        assert vector.size == N
        assert 0 < np.count_nonzero(~np.isnan(vector)) <= 48


@pytest.mark.parametrize("name", DOWNLINKS)
@pytest.mark.parametrize("kept", [3, 50])
def test_a_place_that_is_lost_at_any_message_has_the_same_weights_again(monkeypatch, name: str, kept: int) -> None:
    monkeypatch.setattr(recovery, "_LOG_ROUNDS", kept)
    run = replace(RUN, downlink=DOWNLINKS[name])
    right, engine = qsim.simulate(run), LooseEngine()
    assert qsim.simulate(run, engine=engine).frame.equals(right.frame)
    for message in range(3, engine.transport.places[0].posted):
        found = qsim.simulate(run, engine=LooseEngine({message: "after"}))
        assert found.weights.tobytes() == right.weights.tobytes()
        assert found.frame.equals(right.frame)


@pytest.mark.parametrize("name", DOWNLINKS)
def test_processes_read_the_same_weights(name: str) -> None:
    """Exact exchanges in float64 write over what they read."""
    for method, compressor in (
        (RUN.method, RUN.compressor),
        (qsim.MARINA(0.1, p=0.5), qsim.QSGD(2)),
        (qsim.LBFGS(gradients="compressed"), qsim.QSGD(2)),
    ):
        run = replace(RUN, downlink=DOWNLINKS[name], method=method, compressor=compressor)
        right, found = qsim.simulate(run), qsim.simulate(run, engine=Processes(2))
        assert found.weights.tobytes() == right.weights.tobytes()
        assert found.frame.equals(right.frame)


@pytest.mark.parametrize("name", ["sums", "what is asked for"])
def test_evaluations_by_the_workers_come_between(tmp_path: Path, name: str) -> None:
    """They are in float64, at weights that are sent for them alone."""
    for part in range(2):
        save_clicks(tmp_path / f"{part}.tsv", 20, part=part)
    data = Parts(HashedText(tmp_path / "*.tsv", 2**10))
    run = replace(RUN, data=data, downlink=DOWNLINKS[name], evaluate_every=1)
    right = qsim.simulate(run)
    for engine in (Processes(2), LooseEngine(), LooseEngine({20: "after"})):
        found = qsim.simulate(run, engine=engine)
        assert found.weights.tobytes() == right.weights.tobytes()
        assert found.frame.equals(right.frame)


def test_the_log_is_short_where_little_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 rounds whose weights have 256 kB it keeps one, and what changed after it."""
    bytes_kept: list[int] = []
    keep = recovery.RecoveringSession._keep

    def counted(self: Any, instruction: Any) -> None:
        keep(self, instruction)
        bytes_kept.append(self._log_bytes)

    monkeypatch.setattr(recovery.RecoveringSession, "_keep", counted)
    qsim.simulate(replace(RUN, downlink=DOWNLINKS["sums"]), engine=LooseEngine())
    assert 0 < max(bytes_kept) < 4 * N / 100


def test_weights_that_do_not_follow_are_refused() -> None:
    first = Change.anew()
    order = Order(0, 0, "update", Replica(np.zeros(4, np.float32), change=first))
    second = replace(order, weights=Replica(np.ones(4, np.float32), change=first.then(np.array([2]))))
    shortener, completer = Shortener(), Completer()
    sent = [shortener.shortened(each) for each in (order, second)]
    assert sent[1].weights.vector.tolist() == [1.0]
    assert [completer.whole(each).weights.vector.tolist() for each in sent] == [[0.0] * 4, [0.0, 0.0, 1.0, 0.0]]
    assert sent[0].weights.vector.tolist() == [0.0] * 4  # which a log may begin from again
    with pytest.raises(RuntimeError, match="weights that follow number"):
        Completer().whole(sent[1])
    measure = Measurement(0, 0, "loss", Replica(np.zeros(4)))
    assert shortener.shortened(measure) is completer.whole(measure) is measure


MANY = """
import resource, sys
from pathlib import Path

import numpy as np
import scipy.sparse
import qsim

n, workers = 2**24, 512
random = np.random.default_rng(0)
places = random.integers(0, n, (5000, 10))
rows = scipy.sparse.csr_matrix((np.ones(places.size), places.reshape(-1), np.arange(5001) * 10), (5000, n))
data = qsim.Dataset.from_arrays(rows, random.choice([-1, 1], 5000), empty="keep")
downlink = {"sums": qsim.downlinks.SparseSum(), "what is asked for": qsim.downlinks.SparsePull()}[sys.argv[1]]
lines = Path("/proc/self/status").read_text().splitlines()
now = int(next(line for line in lines if line.startswith("VmData")).split()[1]) * 2**10
resource.setrlimit(resource.RLIMIT_DATA, (now + 10 * 8 * n, resource.RLIM_INFINITY))
trace = qsim.simulate(
    data, objective=qsim.LogisticRegression(1e-6), method=qsim.SGD(0.5, batch=4),
    compressor=qsim.ErrorFeedback(qsim.TopK(5)), downlink=downlink, workers=workers, rounds=30, evaluate_every=30,
    optimum=False,
)
print(trace.columns["loss"][-1] < trace.columns["loss"][0])
"""


@pytest.mark.parametrize("name", ["sums", "what is asked for"])
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_sixteen_million_features_fit_into_ten_vectors(name: str) -> None:
    """512 workers with a vector each would have 34 GB; ten vectors of float64 have 1.3."""
    command = [sys.executable, "-c", MANY, name]
    done = subprocess.run(command, env=process_environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
