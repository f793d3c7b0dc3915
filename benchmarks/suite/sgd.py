"""SGD by rows with l2 against scikit-learn; rounds of one worker, many at a time against one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qsim
from benchmarks.case import Case, Claim, Contestant, LongMinusShort, Timed
from qsim.block import Block
from qsim.l2_decay import GlobalScale, JustInTime, L2Decay
from qsim.weights import Replica

L2, STEP = 1e-6, 0.05
SHAPES = {  # and how often scikit-learn's speed is the target, with a global scale and just in time
    "as text: 100,000 x 47,236, 73 a row": (qsim.datasets.Synthetic(100_000, 47_236, 73, values="tfidf"), 2.5, 1.3),
    "as clicks: 150,000 x 10^6, 39 a row": (qsim.datasets.Synthetic(150_000, 10**6, 39), 1.8, 1.0),
}
QUICK = {"small": (qsim.datasets.Synthetic(2_000, 500, 10, values="tfidf"), 2.5, 1.3)}
ROUNDS = 200_000


def cases(quick: bool) -> Iterator[Case]:
    """Yield one pass over each shape, then rounds of a single worker."""
    shapes = QUICK if quick else SHAPES
    for title, (source, scaled, lazy) in shapes.items():
        yield _passes(title, source.load(), scaled, lazy)
    title, (source, _, _) = next(iter(shapes.items()))
    yield _rounds(title, source.load(), ROUNDS // 100 if quick else ROUNDS)


def _passes(title: str, data: qsim.Dataset, scaled: float, lazy: float) -> Case:
    shards = qsim.datasets.Contiguous().split(data, 1, qsim.Key(0))
    block, objective = Block(shards, 0, 1), qsim.LogisticRegression(l2=L2)
    nothing, steps = Replica(np.zeros(data.features, np.float32)), np.full(data.rows, STEP)

    def steps_by(way: L2Decay) -> NDArray[np.float32]:
        return -objective.local_steps(block, block.all_rows(), 1, nothing, steps, way).row(0)

    contestants: list[Contestant] = [
        Timed("qsim, global scale", partial(steps_by, GlobalScale()), data.rows),
        Timed("qsim, just in time", partial(steps_by, JustInTime()), data.rows),
    ]
    claims: list[Claim] = []
    absent: list[str] = []
    try:
        from sklearn.linear_model import SGDClassifier
    except ImportError:
        absent.append(f"scikit-learn, in {title!r}: it is not installed")
    else:
        matrix, labels = data.to_scipy().astype(np.float32), data.labels
        matrix.indices, matrix.indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
        model = SGDClassifier(
            loss="log_loss",
            alpha=L2,
            learning_rate="constant",
            eta0=STEP,
            fit_intercept=False,
            max_iter=1,
            tol=None,
            shuffle=False,
        )
        contestants.append(Timed("scikit-learn", lambda: model.fit(matrix, labels).coef_[0], data.rows))
        claims += [Claim("qsim, global scale", "scikit-learn", scaled)]
        claims += [Claim("qsim, just in time", "scikit-learn", lazy)]

    def check(results: Mapping[str, Any]) -> None:
        """All come to the same weights, to float32's rounding over all steps."""
        right = results["qsim, global scale"]
        for found in results.values():
            assert np.abs(found - right).max() < 1e-3 * np.abs(right).max()

    return Case(title, "row", contestants, claims, check, absent)


def _rounds(title: str, data: qsim.Dataset, rounds: int) -> Case:
    def run(count: int, **options: Any) -> qsim.Trace:
        return qsim.simulate(
            data,
            objective=qsim.LogisticRegression(l2=L2),
            method=qsim.SGD(qsim.steps.Constant(STEP)),
            compressor=qsim.QSGD(levels=4),
            workers=1,
            rounds=count,
            evaluate_every=10**9,
            optimum=False,
            progress=False,
            **options,
        )

    def watched(count: int) -> qsim.Trace:
        return run(count, after_round=lambda done: None)

    def check(results: Mapping[str, Any]) -> None:
        short = rounds // 400
        assert run(short).weights.tobytes() == watched(short).weights.tobytes(), (
            "the number of rounds at a time changed the bits"
        )

    return Case(
        f"QSGD with one worker, {title}",
        "step",
        [
            LongMinusShort("qsim", run, rounds // 10, rounds),
            LongMinusShort("qsim, round by round", watched, rounds // 400, rounds // 40),
        ],
        [Claim("qsim", "qsim, round by round")],
        check,
    )
