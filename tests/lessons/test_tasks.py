"""The tasks: the solution has all points, and every mistake costs points and is named."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from helpers.paths import ROOT
from qsim.lessons import TASKS, check, written
from qsim.lessons.answers import Failure
from qsim.lessons.submission import Submission

pytestmark = pytest.mark.skipif(not (ROOT / "lessons").exists(), reason="needs the checkout's lessons")


def solution(name: str) -> Callable:
    return Submission(ROOT / "lessons" / "exercise.py").function(name)


def function(code: str) -> Callable:
    space: dict = {"np": np}
    exec(code, space)
    return space[re.search(r"def (\w+)", code)[1]]


@pytest.mark.parametrize("name", TASKS)
def test_the_solution_has_all_points(name: str) -> None:
    """On any vectors and draws. A criterion is wrong about a correct function once in 10^10 times."""
    for seed in (0, 7):
        report = check(solution(name), seed=seed)
        assert report.good, str(report)


def test_points_sum_to_twenty() -> None:
    assert sum(task.points for task in TASKS.values()) == 20


FAULTS = {
    "minus the gradient": (
        "def gradient(w, X, y): return X.T @ (y * (0.5 - 0.5 * np.tanh(y * (X @ w) / 2))) / len(y)",
        0,
        "uphill",
    ),
    "a sum of gradients": (
        "def gradient(w, X, y): return -X.T @ (y * (0.5 - 0.5 * np.tanh(y * (X @ w) / 2)))",
        0,
        "the sum over the rows",
    ),
    "a gradient that overflows": (
        "def gradient(w, X, y):\n e = np.exp(-y * (X @ w))\n return -X.T @ (y * e / (1 + e)) / len(y)",
        2,
        "overflows",
    ),
    "a gradient that overflows on the other side": (
        "def gradient(w, X, y):\n e = np.exp(y * (X @ w))\n return -X.T @ (y * (1 - e / (1 + e))) / len(y)",
        2,
        "overflows",
    ),
    "a gradient of another shape": ("def gradient(w, X, y): return X * y[:, None]", 0, "shape"),
    "labels left out": ("def gradient(w, X, y): return X.mean(axis=0)", 0, "for 20 rows of 5 features it is"),
    "rounded to the larger": (
        "def simple(v, rng):\n n = np.linalg.norm(v)\n return n, np.sign(v) * (2 * np.abs(v) > n)",
        1,
        "biased.*the same for every seed",
    ),
    "chances by the largest magnitude": (
        "def simple(v, rng):\n n = np.linalg.norm(v)\n m = np.abs(v).max()\n"
        " return n, np.sign(v) * (m * rng.random(v.size) < np.abs(v))",
        1,
        "biased",
    ),
    "the largest magnitude for the norm": (
        "def simple(v, rng):\n n = np.abs(v).max()\n return n, np.sign(v) * (n * rng.random(v.size) < np.abs(v))",
        0,
        "the largest magnitude",
    ),
    "zero over zero": (
        "def simple(v, rng):\n n = np.linalg.norm(v)\n with np.errstate(all='ignore'):\n"
        "  return n, v / np.abs(v) * (rng.random(v.size) < np.abs(v) / n)",
        0,
        "NaN",
    ),
    "a generator of its own": (
        "def simple(v, rng):\n n = np.linalg.norm(v)\n"
        " return n, np.sign(v) * (n * np.random.default_rng().random(v.size) < np.abs(v))",
        0,
        "same seed",
    ),
    "levels times the norm": (
        "def simple(v, rng):\n n = np.linalg.norm(v)\n return n, n * np.sign(v) * (n * rng.random(v.size) < np.abs(v))",
        0,
        "whole numbers|from -1 to 1",
    ),
    "no sign": (
        "def simple(v, rng):\n n = np.linalg.norm(v)\n return n, n * rng.random(v.size) < np.abs(v)",
        0,
        "another sign",
    ),
    "levels alone": ("def simple(v, rng): return np.sign(v)", 0, "two things, norm and levels"),
    "the bound for the variance": (
        "def simple_variance(v): return (np.sqrt(v.size) - 1) * (v @ v)",
        0,
        "this is the bound",
    ),
    "the second moment": (
        "def simple_variance(v): return np.abs(v).sum() * np.linalg.norm(v)",
        0,
        "is still to be taken away",
    ),
    "a relative variance": (
        "def simple_variance(v): return np.abs(v).sum() / np.linalg.norm(v) - 1",
        0,
        "relative",
    ),
    "a sum of messages": ("def average(norms, levels, s): return norms @ levels / s", 0, "the sum of the 4 messages"),
    "levels not divided": ("def average(norms, levels, s): return norms @ levels / len(norms)", 0, "3 times too large"),
    "nearest level": (
        "def quantize(v, s, rng):\n n = np.linalg.norm(v)\n return n, np.round(s * v / (n or 1))",
        1,
        "biased.*nothing is drawn",
    ),
    "level below": (
        "def quantize(v, s, rng):\n n = np.linalg.norm(v)\n return n, np.trunc(s * v / (n or 1))",
        1,
        "biased",
    ),
    "s left out: unbiased with too large a variance": (
        "def quantize(v, s, rng):\n n = np.linalg.norm(v)\n"
        " return n, s * np.sign(v) * (n * rng.random(v.size) < np.abs(v))",
        3,
        "the variance is .* times that of the two neighbours",
    ),
    "noise on top: unbiased, two levels too far": (
        "def quantize(v, s, rng):\n n = np.linalg.norm(v)\n x = s * np.abs(v) / (n or 1)\n low = np.floor(x)\n"
        " far = (low > 0) & (low < s - 1)\n jump = rng.choice([-1, 1], v.size) * far\n"
        " return n, np.sign(v) * np.clip(low + (rng.random(v.size) < x - low) + jump, 0, s)",
        3,
        "no neighbour",
    ),
    "a bias of 0.15 levels": (
        "def quantize(v, s, rng):\n n = np.linalg.norm(v)\n x = s * np.abs(v) / (n or 1)\n low = np.floor(x)\n"
        " up = np.where((x - low > 0.05) & (x - low < 0.8), x - low + 0.15, x - low)\n"
        " return n, np.sign(v) * (low + (rng.random(v.size) < up))",
        1,
        "biased",
    ),
    "no norm": ("def bits(levels, s): return REST(levels, s) - 32", 0, "the 32 bits of the norm are missing"),
    "a float for every coordinate": ("def bits(levels, s): return 32 * len(levels)", 0, "float32 for every coordinate"),
    "bytes for bits": ("def bits(levels, s): return REST(levels, s) // 8", 0, "those are bytes"),
    "gaps from one": (
        "def bits(levels, s):\n w = (s - 1).bit_length()\n (p,) = np.nonzero(levels)\n g = np.diff(p, prepend=-1)\n"
        " return 32 + sum(8 * -(-((int(a) << w) + abs(int(l)) - 1 << 1).bit_length() // 7)"
        " for a, l in zip(g, levels[p]))",
        0,
        "non-zeros of n = .* bits, found",
    ),
    "bits as an array": ("def bits(levels, s): return levels", 0, "must be a number, found an array"),
    "the highest byte first": (
        "def encode(norm, levels, s):\n d = REST(norm, levels, s)\n return d[3::-1] + d[4:]",
        0,
        "the lowest goes first",
    ),
    "signs the other way": (
        "def encode(norm, levels, s): return REST(norm, -levels, s)",
        0,
        "byte 4 is 0x",
    ),
    "a text": ("def encode(norm, levels, s): return str(levels)", 0, "must return bytes, found of the type str"),
    "not written": ("def bits(levels, s): raise NotImplementedError", 0, "`bits` is not written yet"),
    "an error": (
        "def bits(levels, s): return 1 / 0",
        0,
        r"raises ZeroDivisionError: division by zero \(line 1 of bits\)",
    ),
    "other arguments": ("def bits(levels): return 0", 0, "raises TypeError"),
    "nothing": ("def bits(levels, s): pass", 0, "None: is a return missing"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the mistakes
@pytest.mark.parametrize("fault", FAULTS)
def test_mistakes_are_named(fault: str) -> None:
    code, points, reason = FAULTS[fault]
    wrong = function(code)
    wrong.__globals__["REST"] = solution(wrong.__name__)
    report = check(wrong)
    assert report.points == points, str(report)
    lost = [verdict.reason for verdict in report.verdicts if not verdict.good]
    assert re.search(reason, lost[0]), str(report)


def test_what_is_right_in_another_way_has_all_points() -> None:
    """Floats that are whole, float32, lists for arrays, one uniform number for all coordinates."""
    for code in (
        "def simple(v, rng):\n n = np.float32(np.linalg.norm(v))\n k = n * rng.random() < np.abs(v)\n"
        " return n, [float(x) for x in np.sign(v) * k]",
        "def quantize(v, s, rng):\n n = np.linalg.norm(v)\n x = s * v / (n or 1)\n"
        " return [n], np.floor(x + rng.random(v.size)) * (v != 0)",
        "def simple_variance(v): return np.array([np.abs(v).sum() * np.linalg.norm(v) - v @ v])",
        "def encode(norm, levels, s): return bytearray(REST(norm, levels, s))",
    ):
        right = function(code)
        right.__globals__["REST"] = solution(right.__name__)
        report = check(right)
        assert report.good, str(report)


def test_arguments_are_the_functions_own() -> None:
    """One that changes them is judged by what it returns."""
    wrong = function("def simple_variance(v):\n v *= 0\n return 0.0")
    report = check(wrong)
    assert report.points == 0
    assert re.search(r"of v = \(-?\d", report.verdicts[0].reason)


def test_all_answers_are_wanted() -> None:
    task = TASKS["bits"]
    calls = task.calls(0)
    (verdict,) = task.judge(calls, [[72]] * (len(calls) - 1))
    assert (verdict.good, verdict.reason) == (False, "`bits` did not answer every call")
    (verdict,) = task.judge(calls, Failure("is lost"))
    assert verdict.reason == "`bits` is lost"


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no task 'quantise'; did you mean 'quantize'"):
        check(function("def quantise(v, s, rng): return 0"))


def test_written(capsys: pytest.CaptureFixture[str]) -> None:
    blank = function("def simple(v, rng): raise NotImplementedError")
    wrong = function("def bits(levels, s): return 1 / 0")
    assert not written(wrong, blank)
    assert capsys.readouterr().out == "First write simple(v, rng).\n"
    assert written(wrong)
