"""The everyday round: Adult, 20 workers, against the dense NumPy loop that authors write for themselves.

The loop computes in float64, draws by NumPy's generator and counts bits by a formula; it encodes nothing. qsim encodes,
decodes and counts every packet. One thread each. QSGD also against the loop in SciPy and in PyTorch; then steps of one
worker; then a sweep over seeds and steps, on two cores each.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsim
from benchmarks.case import Case, Claim, LongMinusShort, Timed
from benchmarks.loops import L2, STEP, WORKERS, Alone, Loop, SparseLoop, TorchLoop, natural, qsgd, randk, topk

NO_TORCH = "PyTorch is not installed: python -m pip install '.[peers]'"
SEEDS, STEPS, ROUNDS = 8, 13, 1000
"""The sweep is of 40 seeds and 13 steps. qsim does 8 of the seeds, the loop 1, and times are for each run."""


def cases(quick: bool) -> Iterator[Case]:
    """Yield the settings of most papers' figures, from batches of one row to all rows."""
    data = qsim.datasets.load("adult")
    loop, n = Loop(data), data.features
    sgd, diana, ef21 = qsim.SGD, qsim.DIANA, qsim.EF21
    varint = qsim.codecs.Varint()
    plain = {  # compressor, codec, by hand
        "QSGD(4)": (qsim.QSGD(4), varint, qsgd),
        "Rand-2": (qsim.RandK(2), None, randk),
        "Top-2": (qsim.TopK(2), None, topk),
        "natural compression": (qsim.compressors.NaturalCompression(), varint, natural),
    }
    for batch, target in ((1, 40.0), (16, 15.0), (162, 7.0)):
        for name, (compressor, codec, by_hand) in plain.items():
            run = _run(data, sgd(STEP, batch=batch), compressor, codec)
            others = _others(data, batch) if name == "QSGD(4)" else {}
            peer = partial(loop.sgd, by_hand, batch)
            yield _case(f"SGD, {name}, batch {batch}", run, peer, target, quick, others=others)
        target = {1: 30.0, 16: 12.0, 162: 5.0}[batch]
        omega = n / 2 - 1
        run = _run(data, diana(STEP, shift=1 / (1 + omega), batch=batch), qsim.RandK(2), None)
        peer = partial(loop.shifted, randk, 1 / (1 + omega), True, batch)
        yield _case(f"DIANA, Rand-2, batch {batch}", run, peer, target, quick)
        run = _run(data, ef21(STEP, batch=batch), qsim.TopK(2), None)
        yield _case(f"EF21, Top-2, batch {batch}", run, partial(loop.shifted, topk, 1.0, False, batch), target, quick)
        run = _run(data, sgd(STEP, batch=batch), qsim.ErrorFeedback(qsim.TopK(2)), None)
        yield _case(
            f"SGD, error feedback, Top-2, batch {batch}", run, partial(loop.feedback, topk, batch), target, quick
        )
    run = _run(data, ef21(STEP), qsim.TopK(2), None)
    yield _case("EF21, Top-2, all rows", run, partial(loop.shifted, topk, 1.0, False, None), 6.0, quick, 100)
    run = _run(data, qsim.GradientDescent(STEP), qsim.QSGD(4), varint)
    yield _case("gradient descent, QSGD(4), all rows", run, partial(loop.sgd, qsgd, None), 6.0, quick, 100)
    run = _run(data, qsim.MARINA(STEP, p=2 / n), qsim.RandK(2), None)
    yield _case("MARINA, Rand-2, all rows", run, partial(loop.marina, randk, 2 / n), 6.0, quick, 100)
    yield from _settings(data, loop, quick)
    yield from _alone(data, quick)
    yield from _sweep(data, quick)


def _others(data: qsim.Dataset, batch: int) -> dict[str, Callable[[int], Any] | None]:
    """Return QSGD's rounds by other hands, by their names; None for one that could not come."""
    torch = find_spec("torch") is not None
    return {
        "SciPy loop": partial(SparseLoop(data).sgd, qsgd, batch),
        "PyTorch loop": partial(TorchLoop(data).sgd, batch) if torch else None,
    }


def _settings(data: qsim.Dataset, loop: Loop, quick: bool) -> Iterator[Case]:
    """Yield batches of one row with other downlinks, some of the clients, and a network with stragglers."""
    half = WORKERS // 2
    network = qsim.Network(
        link=qsim.network.Link(bandwidth=1e9),
        machines=qsim.network.Machines(delay=qsim.network.Exponential(0.01)),
        rule=qsim.network.Fastest(half),
    )
    sgd, qsgd_4, varint = qsim.SGD(STEP, batch=1), qsim.QSGD(4), qsim.codecs.Varint()
    for name, options, peer in (
        ("SparseSum", {"downlink": qsim.downlinks.SparseSum()}, partial(loop.sgd, qsgd, 1)),
        (
            "CompressedWeights(Top-10)",
            {"downlink": qsim.downlinks.CompressedWeights(qsim.TopK(10))},
            partial(loop.compressed_down, qsgd, partial(topk, k=10), 1),
        ),
        ("half of the clients", {"clients": qsim.clients.SampledClients(half)}, partial(loop.some, qsgd, 1, half)),
        ("stragglers, the first half", {"network": network}, partial(loop.fastest, qsgd, 1, half)),
    ):
        run = _run(data, sgd, qsgd_4, varint, **options)
        yield _case(f"SGD, QSGD(4), batch 1, {name}", run, peer, 15.0, quick)


def _alone(data: qsim.Dataset, quick: bool) -> Iterator[Case]:
    """Yield steps of one worker on one row each."""
    steps, feedback = Alone(data), qsim.ErrorFeedback
    for name, compressor, peer, target in (
        ("Top-5 with memory", feedback(qsim.TopK(5)), steps.largest, 5.0),
        ("Rand-5 with memory", feedback(qsim.compressors.Scaled(qsim.RandK(5))), steps.drawn, 5.0),
        ("uncompressed", qsim.compressors.Identity(), steps.plain, 2.0),
    ):
        short, long, times = (2, 6, 1) if quick else (100, 5_000, 10)
        contestants = [
            LongMinusShort(
                "qsim", _run(data, qsim.SGD(STEP, batch=1), compressor, None, 1), short * times, long * times
            ),
            LongMinusShort("NumPy step", peer, short, long),
        ]
        yield Case(f"{name}, batch 1: Adult, 1 worker", "step", contestants, [Claim("qsim", "NumPy step", target)])


def _sweep(data: qsim.Dataset, quick: bool) -> Iterator[Case]:
    """Yield runs over seeds and steps on two cores, each run in one process."""
    rounds, seeds = (3, 1) if quick else (ROUNDS, SEEDS)
    steps = [STEP * 2.0 ** (power / 2) for power in range(STEPS)]
    tasks = [(step, seed, rounds) for seed in range(seeds) for step in steps]
    few = tasks[: len(steps) - len(steps) % 2]  # as many for either core
    with multiprocessing.get_context("forkserver").Pool(2, _own, (data,)) as pool:
        yield Case(
            f"SGD, QSGD(4), batch 16, {rounds} rounds, seeds x steps on two cores: Adult, {WORKERS} workers",
            "run",
            [
                Timed("qsim", lambda: pool.map(_by_qsim, tasks, chunksize=1), len(tasks), many=True),
                Timed("NumPy loop", lambda: pool.map(_by_hand, few, chunksize=1), len(few), many=True),
            ],
            [Claim("qsim", "NumPy loop", 14.0)],
        )


_owned: dict[str, Any] = {}


def _own(data: qsim.Dataset) -> None:
    """Keep the data in a process of the pool."""
    _owned.update(data=data, loop=Loop(data))


def _by_qsim(task: tuple[float, int, int]) -> NDArray[np.float64]:
    step, seed, rounds = task
    return _run(_owned["data"], qsim.SGD(step, batch=16), qsim.QSGD(4), qsim.codecs.Varint(), seed=seed)(rounds)


def _by_hand(task: tuple[float, int, int]) -> NDArray[np.float64]:
    step, seed, rounds = task
    loop: Loop = _owned["loop"]
    return loop.sgd(qsgd, 16, rounds, step, seed)


def _run(
    data: qsim.Dataset, method: Any, compressor: Any, codec: Any, workers: int = WORKERS, seed: int = 0, **options: Any
) -> Callable[[int], NDArray[np.float64]]:
    def simulate(rounds: int) -> NDArray[np.float64]:
        return qsim.simulate(
            data,
            objective=qsim.LogisticRegression(l2=L2),
            method=method,
            compressor=compressor,
            codec=codec,
            workers=workers,
            partition=qsim.datasets.ByLabel(),
            seed=seed,
            rounds=rounds,
            evaluate_every=rounds,
            optimum=False,
            progress=False,
            **options,
        ).weights

    return simulate


def _case(
    title: str,
    ours: Callable[[int], Any],
    peer: Callable[[int], Any],
    target: float,
    quick: bool,
    rounds: int = 300,
    others: Mapping[str, Callable[[int], Any] | None] = MappingProxyType({}),
) -> Case:
    short = 2 if quick else 10
    long = 6 if quick else 10 + rounds
    there = {"NumPy loop": peer} | {name: other for name, other in others.items() if other is not None}
    contestants = [
        LongMinusShort("qsim", ours, short, short + (long - short) * (1 if quick else 10)),
        *(LongMinusShort(name, run, short, long) for name, run in there.items()),
    ]
    claims = [Claim("qsim", name, target if name == "NumPy loop" else None) for name in there]
    absent = [NO_TORCH] if None in others.values() else []
    return Case(f"{title}: Adult, {WORKERS} workers", "round", contestants, claims, absent=absent)
