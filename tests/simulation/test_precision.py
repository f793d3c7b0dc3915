"""Float64 for workers: how far first-order methods come, what is counted, and that engines and resumption agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.codecs import Dense, SparseFloats
from qsim.downlinks import DenseWeights
from qsim.engines import Processes, Serial
from qsim.methods import EF21
from qsim.storage import read_arrays

DATA = qsim.datasets.load("adult").take(np.arange(400))
RUN = qsim.Run(
    DATA,
    qsim.LogisticRegression(l2=0.2),
    qsim.GradientDescent(),
    workers=4,
    rounds=400,
    evaluate_every=10,
    optimum=False,
    downlink=DenseWeights("float64"),
)
RUNS = {
    "gradient descent, 64 bits up": {"codec": Dense("float64")},
    "gradient descent, 64 bits of non-zeros up": {"codec": SparseFloats("float64")},
    "Top-k EF21, 64 bits up": {"method": EF21(0.7), "compressor": qsim.TopK(40), "codec": SparseFloats("float64")},
    "Rand-k DIANA": {"method": qsim.DIANA(), "compressor": qsim.RandK(60)},
    "Top-k EF21": {"method": EF21(0.7), "compressor": qsim.TopK(40)},
    "QSGD DIANA": {"method": qsim.DIANA(), "compressor": qsim.QSGD(16)},
    "an average": {"method": EF21(0.5, momentum=0.2), "compressor": qsim.TopK(60)},
    "weights that are held": {"method": qsim.LBFGS(gradients="compressed"), "codec": Dense("float64"), "rounds": 60},
    "exact gradients": {"method": qsim.MARINA(0.5), "compressor": qsim.RandK(60)},
}


@pytest.mark.parametrize("name", RUNS)
def test_the_gradient_norm_that_is_reached(name: str) -> None:
    """Below 1e-13 in float64; in float32, the default, it stays above 1e-10."""
    run = replace(RUN, **RUNS[name])
    norm = qsim.simulate(run).frame["gradient_norm"]
    assert norm.iloc[-1] < 1e-13
    narrow = qsim.simulate(replace(run, downlink=DenseWeights())).frame["gradient_norm"]
    assert narrow.min() > 1e-10


def test_gradients_that_do_not_shrink_need_64_bits_up() -> None:
    """Those of workers are not zero at the minimum, so that 32 bits lose what is left of their sum."""
    for codec in (Dense(), SparseFloats()):
        assert qsim.simulate(replace(RUN, codec=codec)).frame["gradient_norm"].min() > 1e-11


def test_bits_are_those_of_the_formats() -> None:
    n, header = DATA.features, 8 * 4
    for run, up in ((replace(RUN, codec=Dense("float64")), 64 * n), (RUN, 32 * n)):
        frame = qsim.simulate(replace(run, rounds=3)).frame
        assert frame["bits_up"].tolist()[1:] == [4 * (up + header), 4 * up, 4 * up]
        assert frame["bits_down"].tolist()[1:] == [4 * (64 * n + header), 4 * 64 * n, 4 * 64 * n]
    sparse = qsim.simulate(replace(RUN, **RUNS["Rand-k DIANA"], rounds=5)).frame
    assert (sparse["bits_up"] == 40 * sparse["nonzeros"]).iloc[2:].all()  # a byte of gap, and float32
    wide = qsim.simulate(replace(RUN, **RUNS["Top-k EF21, 64 bits up"], rounds=5)).frame
    assert (wide["bits_up"] == 72 * wide["nonzeros"]).iloc[2:].all()  # a byte of gap, and float64
    exact = qsim.simulate(replace(RUN, **RUNS["exact gradients"], rounds=1)).frame
    assert exact["bits_up"].iloc[1] == 4 * (64 * n + header)


@pytest.mark.parametrize("name", ["QSGD DIANA", "an average", "exact gradients", "Top-k EF21, 64 bits up"])
def test_the_same_bits_anywhere(name: str, tmp_path: Path) -> None:
    run = replace(RUN, **RUNS[name], rounds=24)
    whole = qsim.simulate(run)
    for engine in (Serial(block=1), Processes(2)):
        assert np.array_equal(qsim.simulate(run, engine=engine).weights, whole.weights)

    def stop(done: int) -> None:
        if done == 13:
            raise KeyboardInterrupt

    path = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        qsim.simulate(run, checkpoint=path, every=8, after_round=stop)
    found = qsim.simulate(run, checkpoint=path, every=8)
    assert np.array_equal(found.weights, whole.weights)
    assert found.frame.equals(whole.frame)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_memories_are_in_the_format_of_the_weights(dtype, tmp_path: Path) -> None:
    compressor = qsim.ErrorFeedback(qsim.TopK(3))
    run = replace(RUN, compressor=compressor, rounds=3, method=qsim.SGD(0.1, batch=5), downlink=DenseWeights(dtype))
    qsim.simulate(run, checkpoint=tmp_path / "run.npz")
    assert read_arrays(tmp_path / "run.npz")["workers/compressor/error"].dtype == dtype
