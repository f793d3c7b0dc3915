"""What a run is known by: two that differ in anything that numbers depend on are told apart."""

from __future__ import annotations

import operator
import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache, partial, wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import qsim
from qsim.identity import UnknowableError, identify

pytestmark = pytest.mark.quick

GAIN = 1.0
TABLE = np.ones(3)
CONFIG = {"gain": 1.0}
SEEN: list[int] = []
COUNT = 0


@qsim.option
class Holds:
    what: Any = None


class Rate:
    rate = 1.0
    calls = 0
    kept: list[int] = []  # noqa: RUF012

    def __call__(self, x: float) -> float:
        Rate.calls += 1
        self.kept.append(1)
        return self.rate * x


def gained(x: float) -> float:
    global COUNT
    COUNT += 1
    SEEN.append(COUNT)
    return helper(x)


def helper(x: float) -> float:
    return sum(part * GAIN * TABLE[0] * CONFIG["gain"] for part in [x])


class Gained:
    def __call__(self, x: float) -> float:
        return gained(x)


def factor(text: str) -> Callable[[float], float]:
    return eval(f"lambda x: {text} * x", globals())


def attributed(scale: int) -> Callable[[float], float]:
    def scaled(x: float) -> float:
        return x

    scaled.scale = scale  # type: ignore[attr-defined]
    return scaled


def decorated(scale: int) -> Callable[[float], float]:
    @wraps(helper)
    def scaled(x: float) -> float:
        return scale * helper(x)

    return scaled


def marked(*mask: int) -> Any:
    return np.ma.array([1.0, 2.0], mask=mask)


def named(names: str) -> Any:
    return np.array([(1, 2.0)], dtype=[(names[0], int), (names[1], float)])


def key(what: Any) -> str:
    return identify(Holds(what)).key


DIFFERENT: dict[str, tuple[Any, Any]] = {
    "numbers in a function": (factor("2"), factor("3")),
    "numbers in a function inside": (factor("(lambda: 2)()"), factor("(lambda: 3)()")),
    "what a function closes over": (decorated(2), decorated(3)),
    "attributes of a function": (attributed(2), attributed(3)),
    "a function with a memo": (lru_cache(factor("2")), lru_cache(factor("3"))),
    "a vectorised function": (np.vectorize(factor("2")), np.vectorize(factor("3"))),
    "a part of a function": (partial(factor("2"), 1), partial(factor("3"), 1)),
    "which of two functions": ([factor("2"), factor("3")] * 2, [factor("2"), factor("3"), factor("3"), factor("2")]),
    "masks": (marked(0, 1), marked(1, 0)),
    "names of fields": (named("ab"), named("ba")),
    "a scalar's fields": (named("ab")[0], named("ba")[0]),
    "objects in fields": (np.array([([1],)], [("a", object)]), np.array([([2],)], [("a", object)])),
    "an array and its kind": (np.ones(2), marked(0, 0)),
    "whose method": ([1, 2].count, [1, 3].count),
    "whose generator": (random.Random(1).random, random.Random(2).random),
    "whose product": (np.array([1, 2]).dot, np.array([1, 3]).dot),
    "which item": (operator.itemgetter(1), operator.itemgetter(2)),
}  # fmt: skip


@pytest.mark.parametrize("what", DIFFERENT)
def test_different_things_have_different_keys(what: str) -> None:
    one, other = DIFFERENT[what]
    assert key(one) == key(one) != key(other)


@pytest.mark.parametrize(("name", "value"), [("GAIN", 2.0), ("TABLE", np.full(3, 2.0)), ("CONFIG", {"gain": 2.0})])
@pytest.mark.parametrize(
    "what", [helper, gained, Gained(), decorated(1)], ids=["helper", "gained", "Gained", "wrapped"]
)
def test_globals_that_a_function_reads(what: Any, name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a script sets them, by its arguments: its source is the same for all of them."""
    before = key(what)
    monkeypatch.setitem(globals(), name, value)
    assert key(what) != before


def test_attributes_that_a_class_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(Rate()), key(Rate)
    monkeypatch.setattr(Rate, "rate", 2.0)
    after = key(Rate()), key(Rate)
    assert all(a != b for a, b in zip(before, after, strict=True))
    monkeypatch.setattr(Rate, "__call__", lambda self, x: 2 * x)
    assert key(Rate()) not in (*before, *after)


def test_what_is_counted_and_kept_on_the_way_changes_nothing() -> None:
    before = key(gained), key(Gained()), key(Rate())
    gained(1.0)
    Rate()(1.0)
    assert (COUNT, len(SEEN), Rate.calls, len(Rate.kept)) == (COUNT, COUNT, 1, 1)
    assert (key(gained), key(Gained()), key(Rate())) == before


def test_a_setting_in_a_module_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_settings.py").write_text("GAIN = 1.0\n")
    (tmp_path / "own_part.py").write_text("import own_settings\ndef scaled(x):\n    return own_settings.GAIN * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import own_part  # type: ignore[import-not-found]

    before = key(own_part.scaled)
    settings: ModuleType = sys.modules["own_settings"]
    monkeypatch.setattr(settings, "GAIN", 2.0)
    assert key(own_part.scaled) != before
    for name in ("own_part", "own_settings"):
        monkeypatch.delitem(sys.modules, name)


def test_what_cannot_be_told_is_refused() -> None:
    for thing in (np.frompyfunc(factor("2"), 1, 1), (x for x in "a"), np.random.default_rng(0).random):
        with pytest.raises(UnknowableError):
            key(thing)


def test_a_difference_is_told_of_the_part_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identify(Holds(Gained()))
    monkeypatch.setitem(globals(), "GAIN", 2.0)
    (told,) = identify(Holds(Gained())).differences(before)
    assert told.startswith("what ")


def test_keys_are_the_same_in_another_process() -> None:
    code = "import test_identity as t; print([t.key(w) for w in (t.Gained(), t.Rate, t.factor('2'), t.marked(0, 1))])"
    folder = Path(__file__).parent
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        if seed == "1":
            first = done.stdout
    assert done.stdout == first


@qsim.option
class Weighted(qsim.compressors.Compressor):
    """A user's own compressor with a setting that its script made of its arguments."""

    emits = qsim.batch.Floats

    def quantize(self, v, key):
        return qsim.batch.Floats.single(np.float32(GAIN) * np.asarray(v))


def test_a_checkpoint_does_not_go_on_with_another_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(rounds: int) -> qsim.Trace:
        return qsim.simulate(
            qsim.datasets.load("spark_sample"), objective=qsim.LogisticRegression(0.1), compressor=Weighted(),
            method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)), rounds=rounds, optimum=False,
            checkpoint=tmp_path / "run.npz", workers=2,
        )  # fmt: skip

    run(3)
    run(3)
    monkeypatch.setitem(globals(), "GAIN", 0.1)
    with pytest.raises(qsim.simulation.checkpoint.CheckpointError, match="compressor holds something else"):
        run(3)
