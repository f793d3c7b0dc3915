"""Whole runs that every engine must give the same bits for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from qsim import methods
from qsim.clients import SampledClients
from qsim.compressors import QSGD, ErrorFeedback, TopK
from qsim.downlinks import Replicated, SparsePull
from qsim.engines import Engine, Serial
from qsim.network import AllGather, Exponential, Fastest, Machines, Network
from qsim.simulation import Run, simulate
from qsim.testing.training import MethodUnderTest
from qsim.trace import Trace

_ROUNDS = 4
_USERS = """
import numpy as np, qsim

@qsim.option
class _Halved(qsim.compressors.Compressor):
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        return qsim.batch.Floats.single(np.asarray(v) * np.float32(0.5))
"""


def whole_runs(engine: Engine) -> str:
    """Say which run is another than on `Serial`; nothing if none is."""
    for name, run in _runs():
        run = replace(run, rounds=_ROUNDS, evaluate_every=1)
        found, expected = (simulate(run, engine=one, progress=False) for one in (engine, Serial()))
        if not _alike(found, expected):
            return f"another run with {name}"
    return ""


def _runs() -> Iterator[tuple[str, Run]]:
    """Yield a run of every method; among them are memories, drawn clients, all that goes down, scores, and drops."""
    slow = Machines(delay=Exponential(0.01))
    changes: dict[str, dict[str, Any]] = {
        "SGD": {"compressor": ErrorFeedback(TopK(3))},
        "Averaged": {"compressor": QSGD(2), "downlink": SparsePull(), "progressive": True},
        "DIANA": {"compressor": QSGD(2), "clients": SampledClients(3), "progressive": True},
        "MARINA": {"compressor": QSGD(2), "network": Network(rule=Fastest(3), machines=slow)},
        "GradientDescent": {"compressor": QSGD(2), "network": Network(AllGather()), "downlink": Replicated()},
    }
    for kind in vars(methods).values():
        for method in kind.examples() if isinstance(kind, type) and issubclass(kind, methods.Method) else ():
            subject = MethodUnderTest(method)
            usual = {"compressor": subject.compressors[1 % len(subject.compressors)]}
            with_these = usual | changes.get(kind.__name__, {})
            yield f"{method!r} and {with_these}", subject.run(**with_these)
    main = sys.modules["__main__"]
    exec(_USERS, vars(main))  # as a script or a notebook defines it: in no file that another process could import
    try:
        yield "a class of __main__", MethodUnderTest(methods.SGD(0.5, batch=2)).run(vars(main)["_Halved"]())
    finally:
        del vars(main)["_Halved"]


def _alike(one: Trace, other: Trace) -> bool:
    """Tell whether weights and all columns are the same, to the last bit."""
    return one.columns.keys() == other.columns.keys() and all(
        mine.tobytes() == theirs.tobytes()
        for mine, theirs in zip(
            [*one.columns.values(), one.weights], [*other.columns.values(), other.weights], strict=True
        )
    )
