"""The check of a method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.clients import SampledClients
from qsim.compressors import QSGD, Identity
from qsim.datasets import Contiguous, Quadratics
from qsim.downlinks import DenseWeights, SparsePull
from qsim.engines import Processes, Serial
from qsim.methods import Method
from qsim.network import Fastest, Network
from qsim.objectives import LeastSquares, LogisticRegression, NonconvexLogistic, Objective, WithL1
from qsim.simulation import Run, simulate
from qsim.storage import read_arrays
from qsim.testing.parts import carried_out, prints_as_code
from qsim.testing.report import Finding, Report, not_made, refuse_unless
from qsim.testing.subprocess_call import elsewhere
from qsim.testing.training import L2, ROUNDS, WORKERS, MethodUnderTest, Sizes, alike, interrupted, sparse, watched

_NEAR = 2e-4  # of the length of the weights: rounding of float32 over a few rounds
_SEEDS, _BEYOND = 12, 6.5  # Markov: all of twelve runs are beyond 6.5 times their mean with a probability of 2e-10


def keeps_arrays(subject: MethodUnderTest) -> Finding:
    """Check that server and workers keep plain arrays, and that work is a function of its arguments.

    Watched from round to round: a task that is done twice, with the same memory, gives the same vectors; weights,
    messages and what arrives are not written to.
    """
    done = []
    for compressor in subject.compressors:
        run = subject.run(compressor)
        spy = watched(run.method)
        subject.train(replace(run, method=spy))
        done += spy.seen
    counts = ", ".join(f"{done.count(name)} times {name}" for name in ("round", "work", "on_delivered"))
    return Finding(True, f"{counts}, with {len(subject.compressors)} compressors")


def same_bits(subject: MethodUnderTest) -> Finding:
    """Check that blocks of workers, threads, another run of the same object and another process change no bit."""
    for compressor in subject.compressors:
        run = subject.run(compressor)
        expected = subject.train(run, Serial(block=1))
        for engine in (Serial(block=3), Serial(block=WORKERS), Serial(block=2, threads=2)):
            refuse_unless(
                np.array_equal(subject.train(run, engine), expected, True),
                f"{engine!r} gives other weights than one worker at a time, with {compressor!r}",
            )
        refuse_unless(
            np.array_equal(subject.train(subject.run(compressor), Serial(block=1)), expected, True),
            f"a run with a fresh copy gives other weights, with {compressor!r}: something is kept beside the arrays",
        )
    run = subject.run()
    expected = subject.train(run)
    refuse_unless(np.array_equal(elsewhere(_weights, run), expected, True), "another process gives other weights")
    refuse_unless(np.array_equal(subject.train(run, Processes(2)), expected, True), "Processes gives other weights")
    return Finding(True, "blocks of 1, 3 and all, threads, processes, a second run")


def _weights(run: Run) -> NDArray[np.float64]:
    return simulate(run, engine=Serial(), progress=False).weights


def resumes(subject: MethodUnderTest) -> Finding:
    """Check that a run that is broken off goes on to the same bits, from its file alone."""
    for compressor in subject.compressors:
        expected = subject.train(subject.run(compressor))
        with TemporaryDirectory() as folder:
            path = Path(folder) / "run.npz"
            interrupted(subject.run(compressor), path, 3)
            found = subject.train(subject.run(compressor), checkpoint=path)
        refuse_unless(
            np.array_equal(found, expected, True),
            f"a run that was broken off ends elsewhere, with {compressor!r}: all that changes must be in the arrays of"
            " `start` and `memory`",
        )
    return Finding(True, f"after 3 of {ROUNDS} rounds, with {len(subject.compressors)} compressors")


def reads(subject: MethodUnderTest) -> Finding:
    """Check `reads`: weights that it does not ask for are not a number, and the run is to be the same."""
    for compressor in subject.compressors:
        pulled = subject.train(subject.run(compressor, downlink=SparsePull()))
        dense = subject.train(subject.run(compressor, downlink=DenseWeights()))
        refuse_unless(np.array_equal(pulled, dense, True), f"SparsePull gives other weights, with {compressor!r}")
    return Finding(True, "SparsePull and DenseWeights give the same bits")


def workers_alike(subject: MethodUnderTest) -> Finding:
    """Check that workers with the same rows do what one worker does, for equal and unequal shards, and empty ones.

    Where batches are drawn, on rows that are all the same.
    """
    if not isinstance(subject.compressors[0], Identity):
        return not_made("it does not go without a compressor")
    method, seen = subject.resolved(Identity()), []
    cases = {"equal shards": (4, 4, 4), "unequal shards": (1, 3, 8), "an empty shard": (5, 0, 7)}
    for name, sizes in cases.items():
        off = _apart(subject, method, alike(12), sizes)
        refuse_unless(off <= _NEAR, f"{len(sizes)} workers whose rows are all the same ({name}) are off by {off:.2g}")
        seen.append(off)
    if not subject.random:
        rows = np.tile(np.arange(12), 3)
        off = _apart(subject, method, sparse(12).take(rows), (12, 12, 12))
        refuse_unless(off <= _NEAR, f"3 workers with the same 12 rows are off by {off:.2g} from one")
        seen.append(off)
    return Finding(True, f"off by at most {max(seen):.1g} of the weights", _NEAR, max(seen))


def _apart(subject: MethodUnderTest, method: Method, data: Any, sizes: tuple[int, ...]) -> float:
    """Return how far the weights of several workers are from those of one, in parts of them."""
    several = subject.run(Identity(), method=method, data=data, workers=len(sizes), partition=Sizes(sizes))
    w = subject.train(several)
    one = subject.train(replace(several, workers=1, partition=Contiguous()))
    return float(np.linalg.norm(w - one) / max(float(np.linalg.norm(one)), 1e-300))


def falls(subject: MethodUnderTest) -> Finding:
    """Check that the loss falls where it is easy: rows of unit length, one worker, no compressor."""
    if not isinstance(subject.compressors[0], Identity):
        return not_made("it does not go without a compressor")
    run = subject.run(Identity(), data=alike(12), workers=1, partition=Contiguous(), rounds=20, evaluate_every=20)
    loss = simulate(run, engine=Serial(), progress=False).columns["loss"]
    return Finding(bool(loss[-1] < loss[0]), f"from {loss[0]:.4g} to {loss[-1]:.4g} in 20 rounds, with its step")


def regularised(subject: MethodUnderTest) -> Finding:
    """Check that the regulariser counts: l2, one that is not l2, and l1 (unless they are refused)."""
    method = subject.resolved(subject.compressors[0])
    pairs: dict[str, tuple[Objective, Objective]] = {
        "l2": (LogisticRegression(l2=L2), LogisticRegression(l2=0.0)),
        "a regulariser that is not l2": (NonconvexLogistic(weight=L2), NonconvexLogistic(weight=0.0)),
    }
    if method.takes_proximal_steps:
        pairs["l1"] = WithL1(pairs["l2"][0], l1=L2), WithL1(pairs["l2"][0], l1=0.0)
    for name, objectives in pairs.items():
        runs = [subject.run(method=method, objective=objective) for objective in objectives]
        if all(subject.takes(run) for run in runs):
            with_it, without = (subject.train(run) for run in runs)
            refuse_unless(
                not np.array_equal(with_it, without),
                f"weights are the same with and without {name}: use exchange.objective.apply_l2_step(w, step),"
                " and for a method that is `proximal` proximal_step(w, step)",
            )
    return Finding(True, "weights depend on it")


def sums(subject: MethodUnderTest) -> Finding:
    """Check that what server and workers keep under one name is the workers' weighted mean on the server.

    Also where clients sit out, and where messages are dropped.
    """
    names, cases, worst = set[str](), 0, 0.0
    for compressor in subject.compressors:
        everywhere = {"weighting": "workers", "partition": Contiguous()}
        for changes in ({}, {"clients": SampledClients(2)} | everywhere, {"network": _dropping()}):
            run = subject.allowed(compressor, **changes)
            if run is None:
                continue
            with TemporaryDirectory() as folder:
                path = Path(folder) / "run.npz"
                subject.train(run, checkpoint=path)
                saved = read_arrays(path)
            found = _gaps(run, saved)
            names, cases = names | set(found), cases + bool(found)
            for name, gap in found.items():
                refuse_unless(
                    gap <= 1e-9,
                    f"the server's {name!r} is off by {gap:.2g} from the mean of the workers', with {compressor!r} and"
                    f" {', '.join(changes) or 'all messages'}: add what arrived, times `share`",
                )
                worst = max(worst, gap)
    if not names:
        return not_made("server and workers keep nothing under the same name")
    return Finding(True, f"{', '.join(sorted(names))}: off by at most {worst:.1g} in {cases} runs", 1e-9, worst)


def _dropping() -> Network:
    return Network(rule=Fastest(3))


def _gaps(run: Run, saved: dict[str, NDArray[Any]]) -> dict[str, float]:
    """Return for each name on both sides how far the server's array is from the workers' weighted mean."""
    problem, found = run.problem(), {}
    shards, weights = problem.shards, problem.weights
    for key, server in saved.items():
        kept = saved.get(f"workers/method/{key.removeprefix('server/')}")
        if not key.startswith("server/") or kept is None or server.shape != (shards.n,):
            continue
        mean = np.zeros(shards.n)
        if kept.size == shards.n * shards.workers:
            mean = weights @ kept.reshape(shards.workers, shards.n)
        elif kept.size == shards.support.size:
            np.add.at(mean, shards.support, kept * np.repeat(weights, np.diff(shards.support_offsets)))
        else:
            continue
        size = max(float(np.abs(server).max()), float(np.abs(mean).max()), 1e-300)
        found[key.removeprefix("server/")] = float(np.abs(server - mean).max()) / size
    return found


def promised(subject: MethodUnderTest) -> Finding:
    """Check the bound that the method states, on quadratics: with no compressor, and in the mean over QSGD's noise.

    It is broken if all of twelve runs, with seeds of their own, are beyond 6.5 times the bound.
    """
    source, seen = Quadratics(smoothness=(1.0, 2.0, 4.0), mu=0.5, heterogeneity=1.0), []
    for compressor in (Identity(), QSGD(4)):
        run = Run(
            source,
            LeastSquares(l2=0.0),
            subject.method,
            compressor,
            workers=3,
            partition=Contiguous(),
            rounds=60,
            evaluate_every=10,
        )
        if not subject.takes(run) or (bound := run.bound()) is None:
            continue
        least = np.full(7, np.inf)
        for seed in range(subject.seed, subject.seed + _SEEDS):
            frame = simulate(replace(run, seed=seed), engine=Serial(), progress=False).columns
            least = np.minimum(least, frame["suboptimality"][::10])
        told = np.maximum(bound(np.arange(0, 61, 10)), 1e-9)
        ratio = float((least / told).max())
        refuse_unless(ratio <= _BEYOND, f"with {compressor!r} all of {_SEEDS} runs exceed it {ratio:.3g} times")
        seen.append(f"at most {ratio:.2g} of it with {compressor!r}, least of {_SEEDS} runs")
    return Finding(True, "; ".join(seen)) if seen else not_made("no bound is stated")


def equals_reference(subject: MethodUnderTest) -> Finding:
    """Check that with one worker and no compressor it does what a reference does."""
    if subject.reference is None:
        return not_made("no reference is given")
    one = {"workers": 1, "partition": Contiguous()}
    found = subject.train(subject.run(Identity(), **one))
    expected = subject.train(subject.run(Identity(), method=subject.reference, **one))
    off = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    return Finding(off <= _NEAR, f"off by {off:.2g} from {subject.reference!r}", _NEAR, off)


CHECKS: dict[str, Callable[[MethodUnderTest], Finding]] = {
    "arrays are all that is kept, and work is pure": keeps_arrays,
    "the same bits everywhere": same_bits,
    "a run that was broken off goes on": resumes,
    "reads all that is read": reads,
    "workers with the same rows are as one": workers_alike,
    "the loss falls": falls,
    "the regulariser counts": regularised,
    "the server knows the workers' mean": sums,
    "its bound": promised,
    "its reference": equals_reference,
    "prints as the code that makes it": lambda subject: prints_as_code(subject.method),
}
"""The promises of a method, and how each is checked."""


def check_method(method: Method, reference: Method | None = None, seed: int = 0) -> Report:
    """Check that a method keeps the promises that all methods make, and the bound that it states.

    Parameters
    ----------
    method : Method
        The method.
    reference : Method, optional
        A method that this one equals with one worker and no compressor, such as `GradientDescent`.
    seed : int, default 0
        The seed of the runs.

    Returns
    -------
    Report
        What was found.

    Raises
    ------
    TypeError
        If it is not a method.

    Notes
    -----
    Short runs of logistic regression on small data, with those of a few compressors that the method takes. An array
    that the server and the workers keep under the same name is taken for the workers' weighted mean, as the shifts of
    `DIANA` are: give them different names if it is not.

    Examples
    --------
    >>> import qsim
    >>> method = qsim.SGD(step=qsim.steps.Constant(0.5), batch=2)
    >>> report = qsim.testing.check_method(method)
    >>> report.good
    True
    """
    return Report(repr(method), dict(findings(method, reference, seed)))


def findings(method: Method, reference: Method | None = None, seed: int = 0) -> Iterator[tuple[str, Finding]]:
    """Check one promise after the other; see `check_method`."""
    for given in (method, *([] if reference is None else [reference])):
        if not isinstance(given, Method):
            raise TypeError(f"only a Method can be checked, such as qsim.SGD(batch=8); found {given!r}")
    return carried_out(CHECKS, MethodUnderTest(method, reference, seed))
