"""Lines: what one program packs and reads is what the channel packs and reads, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import qsim
from helpers.planned import plain
from qsim.batch import Floats, Levels, Memory, Support, Vectors, dense_offsets
from qsim.channel import Channel, Line
from qsim.compressors import Compressor, ErrorFeedback, NotFiniteError, UnsoundMessageError
from qsim.program import Program
from qsim.testing.shipped import shipped

N, WARM = 40, 20


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rounds each call of a program did."""
    done: list[int] = []
    run = Program.run

    def noted(self: Program, rounds: int) -> int:
        done.append(run(self, rounds))
        return done[-1]

    monkeypatch.setattr(Program, "run", noted)
    return done


def batch(seed: int, rows: int, dense: bool) -> Vectors:
    """Rows of whole and other numbers; of sparse ones some may be empty."""
    rng = np.random.default_rng(seed)
    full = rng.choice([0.0, 1.0, -1.0, 0.37, -2.5e-3, 70.0], (rows, N)).astype(np.float32)
    if dense:
        return Vectors.dense(full)
    kept = rng.random((rows, N)) < rng.random((rows, 1))
    row, at = np.nonzero(kept & (full != 0))
    return Vectors(N, np.searchsorted(row, np.arange(rows + 1)), at.astype(np.int32), full[row, at])


def memory_of(compressor: Compressor, rows: int) -> Memory | None:
    index = np.tile(np.arange(N, dtype=np.int32), rows)
    return compressor.memory(Support(N, dense_offsets(rows, N), index))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("compressor", list(shipped(qsim.compressors, Compressor)), ids=repr)
def test_bytes_and_vectors_are_those_of_the_channel(compressor: Compressor, dense: bool, dtype: type) -> None:
    rows, root = compressor.correlated or 3, qsim.Key(5)
    for codec in (None, qsim.codecs.Varint(), qsim.codecs.Dense("float32")):
        if codec and not {compressor.emits, Floats} & set(codec.carries):
            continue
        channel, ours, theirs = Channel(compressor, codec), memory_of(compressor, rows), memory_of(compressor, rows)
        line = Line(channel, ours)
        for t in range(WARM):
            key = root.fold(t)
            words = (key if compressor.correlated is None else key.numbered).words(0, rows)
            v = batch(t, rows, dense)
            v = replace(v, value=v.value.astype(dtype) * dtype(1 + 2.0**-40))
            header, packets, arrived = line.pack(v, words)
            expected, sent = channel.pack(v, words, theirs)
            assert (header, packets.data.tobytes()) == (expected, sent.data.tobytes())
            assert packets.offsets.tolist() == sent.offsets.tolist()
            right = channel.unpack(expected, sent, words)
            assert arrived == right
            if ours is not None:
                compressor.on_delivered(ours, arrived)
                compressor.on_delivered(theirs, right)
                assert all(array.tobytes() == theirs.arrays[name].tobytes() for name, array in ours.arrays.items())


@pytest.mark.parametrize(
    "compressor",
    [qsim.QSGD(4), qsim.TopK(2), qsim.RandK(2, "drawn"), ErrorFeedback(qsim.TopK(2)), qsim.compressors.Sign()],
    ids=repr,
)
def test_a_program_does_it(compressor: Compressor, runs: list[int]) -> None:
    line = Line(Channel(compressor, None), memory := memory_of(compressor, 3))
    for t in range(WARM):
        _, _, arrived = line.pack(batch(t, 3, False), qsim.Key(t).words(0, 3))
        if memory is not None:
            compressor.on_delivered(memory, arrived)
    assert runs == [1] * (WARM - 16)


def changed(v: Vectors, **changes: Any) -> Vectors:
    return replace(v, **changes)


HOSTILE = {
    "NaN": lambda v: changed(v, value=np.full_like(v.value, np.nan)),
    "float64": lambda v: changed(v, value=v.value.astype(np.float64)),
    "too large for float32": lambda v: changed(v, value=np.full(v.value.size, 1e300)),
    "masked": lambda v: changed(v, value=np.ma.array(v.value, mask=v.value > 0)),
    "no array": lambda v: changed(v, value=v.value.tolist()),
    "in two dimensions": lambda v: changed(v, value=v.value[:, None]),
    "every second number": lambda v: changed(v, value=np.repeat(v.value, 2)[::2]),
    "too few numbers": lambda v: changed(v, value=v.value[:-1]),
    "too many numbers": lambda v: changed(v, value=np.append(v.value, np.float32(1))),
    "too few rows": lambda v: changed(v, offsets=np.delete(v.offsets, 1)),
    "rows that go back": lambda v: changed(v, offsets=v.offsets[[0, 2, 1, 3]]),
    "rows of other lengths": lambda v: changed(v, offsets=v.offsets + np.array([0, 1, 0, 0])),
    "rows that begin late": lambda v: changed(v, offsets=v.offsets + np.array([1, 0, 0, 0])),
    "offsets of 32 bits": lambda v: changed(v, offsets=v.offsets.astype(np.int32)),
    "offsets of floats": lambda v: changed(v, offsets=v.offsets.astype(np.float64)),
    "another length": lambda v: changed(v, n=v.n + 1),
}
SPARSE = {
    "coordinates that fall": lambda v: changed(v, index=v.index[::-1].copy()),
    "a coordinate of n": lambda v: changed(v, index=np.where(v.index == v.index.max(), v.n, v.index)),
    "a negative coordinate": lambda v: changed(v, index=v.index - np.int32(9)),
    "too few coordinates": lambda v: changed(v, index=v.index[:-1]),
    "coordinates of 64 bits": lambda v: changed(v, index=v.index.astype(np.int64)),
    "coordinates of floats": lambda v: changed(v, index=v.index.astype(np.float32)),
    "dense": lambda v: Vectors.dense(v.to_dense()),
}
CASES = [(name, change, dense) for name, change in HOSTILE.items() for dense in (False, True)]
CASES += [(name, change, False) for name, change in SPARSE.items()]


def outcome(call: Any) -> Any:
    """What a call returns, as bytes, or says."""
    try:
        header, packets, arrived = call()
    except (TypeError, ValueError, AttributeError) as error:
        return type(error), str(error)
    return header, packets.data.tobytes(), packets.offsets.tolist(), arrived.to_dense().tobytes()


@pytest.mark.parametrize("codec", [qsim.codecs.Varint(), qsim.codecs.Dense("float32")], ids=repr)
@pytest.mark.parametrize(("name", "change", "dense"), CASES, ids=[f"{name}, {dense}" for name, _, dense in CASES])
def test_what_a_program_does_not_take_the_channel_takes_or_refuses(
    name: str, change: Any, dense: bool, codec: qsim.codecs.Codec
) -> None:
    channel = Channel(qsim.QSGD(4) if isinstance(codec, qsim.codecs.Varint) else qsim.Identity(), codec)
    line, words = Line(channel), qsim.Key(0).words(0, 3)
    for t in range(WARM):
        line.pack(batch(t, 3, dense), words)
    v = change(batch(99, 3, dense))

    def by_the_channel() -> Any:
        header, packets = channel.pack(v, words)
        return header, packets, channel.unpack(header, packets, words)

    assert outcome(lambda: line.pack(v, words)) == outcome(by_the_channel)
    good = batch(100, 3, dense)  # what was refused has left nothing
    assert line.pack(good, words)[2] == channel.unpack(*channel.pack(good, words), words)


@qsim.option
class Mine(Compressor):
    """Whole numbers, as levels of 1, made in NumPy; what is asked for is spoilt from a round on."""

    spoilt: str = ""
    emits = Levels

    def compress(self, v, keys, memory=None):
        level = np.rint(v.value).astype(np.int32)
        kept = np.flatnonzero(level)
        late = _CALLS.append(0) or len(_CALLS) > WARM
        message = Levels(
            v.n,
            np.searchsorted(kept, v.offsets),
            v.index[kept],
            level[kept],
            np.full(v.rows, 127, np.float32),
            127 if not (late and self.spoilt == "s") else 255,
        )
        if late and self.spoilt == "level":
            return replace(message, level=np.full_like(message.level, 128))
        if late and self.spoilt == "scale":
            return replace(message, scale=np.full_like(message.scale, np.nan))
        return replace(message, index=message.index[::-1].copy()) if late and self.spoilt == "index" else message


_CALLS: list[int] = []


@pytest.mark.parametrize("spoilt", ["", "level", "scale", "index", "s"])
def test_where_python_compresses_the_program_is_the_codecs(spoilt: str, runs: list[int]) -> None:
    channel = Channel(Mine(spoilt), qsim.codecs.Varint())
    line, words = Line(channel), qsim.Key(0).words(0, 3)
    _CALLS.clear()
    for t in range(WARM):
        assert line.pack(batch(t, 3, False), words)[2].value.size
    assert runs == [1] * (WARM - 16)
    v = batch(99, 3, False)
    right = outcome(lambda: (*(sent := channel.pack(v, words)), channel.unpack(*sent, words)))
    assert outcome(lambda: line.pack(v, words)) == right
    assert (right[0] is UnsoundMessageError) == (spoilt in ("level", "scale", "index"))


@qsim.option
class Whole(Compressor):
    """Whole numbers, zeros among them, as floats."""

    emits = Floats

    def compress(self, v, keys, memory=None):
        return Floats(v.n, v.offsets, v.index, np.rint(v.value))


def test_zeros_that_python_makes_are_left_out() -> None:
    channel, words = Channel(Whole(), None), qsim.Key(0).words(0, 3)
    line = Line(channel)
    for t in range(WARM):
        v = batch(t, 3, False)
        if t < 16:  # the program is for messages without zeros
            v = replace(v, value=np.ones_like(v.value))
        assert outcome(lambda v=v: line.pack(v, words)) == outcome(
            lambda v=v: (*(sent := channel.pack(v, words)), channel.unpack(*sent, words))
        )


@qsim.option
class Shifts(qsim.methods.Method):
    """DIANA of one's own, by all rows; diverges if its step is long."""

    step: float = 0.1

    def start(self, w):
        return {"shift": np.zeros_like(w.vector)}

    def memory(self, block, support):
        return Memory.zeros(support, "shift", dtype=np.float64)

    def work(self, task, objective, block, memory):
        gradient = objective.update(block, block.all_rows(), task.weights, 1.0)
        return memory.less(gradient, "shift") if task.name == "difference" else gradient

    def on_delivered(self, task, block, memory, arrived, delivered):
        if task.name == "difference":
            memory.add("shift", arrived, 0.2)

    def round(self, w, state, exchange):
        if exchange.round % 5 == 4:
            exchange("gradient", w, exact="float32")
        received = exchange("difference", w)
        exchange.objective.apply_l2_step(w, self.step)
        w.move(-self.step * state["shift"])
        w.subtract(received.vector.scaled(self.step))
        received.vector.add_to(state["shift"], 0.2 * received.share)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"compressor": qsim.TopK(2)},
        {"downlink": qsim.downlinks.SparseSum()},
        {"clients": qsim.clients.SampledClients(3)},
        {"network": qsim.Network(rule=qsim.network.Fastest(2))},
        {"objective": qsim.WithL1(qsim.LogisticRegression(l2=0.1), l1=1e-3), "method": qsim.SGD(0.1, batch=2)},
        {"method": qsim.LBFGS(gradients="compressed")},
    ],
    ids=str,
)
@pytest.mark.parametrize("engine", [qsim.engines.Serial(), qsim.engines.Serial(block=2, threads=2)], ids=repr)
def test_a_run_is_the_same_with_and_without_lines(changes: dict, engine: qsim.engines.Serial, runs: list[int]) -> None:
    options = {"objective": qsim.LogisticRegression(l2=0.1), "method": Shifts(), "compressor": qsim.QSGD(4)}
    options |= {"codec": None, "workers": 5, "rounds": 40, "optimum": False} | changes
    run = qsim.Run("spark_sample", **options)
    right = plain(run, engine=engine)
    assert not runs
    found = qsim.simulate(run, engine=engine)
    assert runs
    assert found.frame.equals(right.frame)
    assert found.weights.tobytes() == right.weights.tobytes()


def test_a_run_that_diverges_says_so_in_the_round_and_of_the_worker() -> None:
    run = qsim.Run(
        "spark_sample",
        qsim.LogisticRegression(l2=0.1),
        Shifts(1e4),
        compressor=qsim.QSGD(4),
        rounds=400,
        evaluate_every=400,
        optimum=False,
    )
    with pytest.raises((ValueError, NotFiniteError)) as right:
        plain(run)
    with pytest.raises(type(right.value)) as found:
        qsim.simulate(run)
    assert str(found.value) == str(right.value)
