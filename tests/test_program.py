"""Programs: calls of kernels from machine code, and what they refuse to call."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

import qsim
from qsim.program import Cell, Program
from qsim.simulation.planned import PlannedRounds


@numba.njit
def parts(x: Any, number: Any) -> Any:
    return np.int64(x.size), np.int32(-7), np.float32(0.5), number


@numba.njit
def write(out: Any, whole: Any, small: Any, real: Any, number: Any) -> None:
    out[0], out[1], out[2], out[3] = whole, small, real, number


@numba.njit
def add(cell: Any, by: Any) -> int:
    cell[0] += by
    return int(cell[0])


def test_numbers_of_all_types_pass_from_call_to_call() -> None:
    program, x, out = Program(), np.zeros((3, 2), np.float32), np.zeros(4)
    program.call(write, out, *program.call(parts, x, np.uint64(9)))
    assert program.run(1) == 1
    assert out.tolist() == [6, -7, 0.5, 9]


def test_arrays_have_their_sizes_and_strides() -> None:
    """Of several axes, of truth values, and of parts of rows."""

    @numba.njit
    def look(a: Any, truths: Any, out: Any) -> None:
        out[0], out[1] = a[1, 2], a[1][1:].sum()
        out[2], out[3] = truths[1:].sum(), a.size

    program, out = Program(), np.zeros(4)
    program.call(look, np.arange(6.0).reshape(2, 3), np.array([True, False, True]), out)
    program.run(1)
    assert out.tolist() == [5.0, 9.0, 1.0, 6.0]


@pytest.mark.parametrize(
    ("stop", "by", "rounds"),
    [("never", 1, 9), ("not zero", 0, 9), ("not zero", 1, 0), ("not negative", 1, 4), ("negative", -1, 5)],
)
def test_a_program_stops_at_a_result(stop: Any, by: int, rounds: int) -> None:
    """From -4 up, the fifth result is 0 and the sixth 1; from 4 down, the sixth is -1."""
    program, cell = Program(), np.array([-5 * by])
    program.call(add, cell, by, stop=stop)
    assert program.run(9) == rounds


def test_a_call_that_raises_ends_the_round() -> None:
    @numba.njit
    def fails(cell: Any) -> None:
        cell[0] += 1
        if cell[0] == 3:
            raise ValueError("three")

    program, cell = Program(), np.zeros(1, np.int64)
    program.call(fails, cell)
    assert program.run(10) == 2


def test_cells_are_read_when_a_call_is_made() -> None:
    program, cell, out = Program(), Cell.of(1.5), np.zeros(4)
    program.call(write, out, 1, 2, cell.array[0], cell)
    cell.array[0] = 2.5
    program.run(1)
    assert out.tolist() == [1, 2, 1.5, 2.5]


@numba.njit
def made(x: Any) -> Any:
    return x.copy()


@numba.njit
def mean(x: Any) -> Any:
    return x.sum() / x.size


@numba.njit
def five(x: Any) -> Any:
    return 1, 2, 3, 4, 5


@pytest.mark.parametrize(
    ("kernel", "argument", "stop", "told"),
    [
        (mean, np.arange(10.0)[::2], "never", "arrays of numbers in C order"),
        (mean, np.ones((2, 3)).T, "never", "arrays of numbers in C order"),
        (mean, [1.0], "never", "arrays of numbers in C order.*found"),
        (mean, np.array(["a"]), "never", "arrays of numbers in C order"),
        (len, np.ones(3), "never", "functions that Numba compiles"),
        (made, np.ones(3), "never", "made must return up to 4 numbers"),
        (five, np.ones(3), "never", "five must return up to 4 numbers"),
        (mean, np.ones(3), "not zero", "mean must return a whole number of 64 bits first"),
    ],
)
def test_what_machine_code_cannot_be_given(kernel: Any, argument: Any, stop: Any, told: str) -> None:
    """Every other number of an array was read as if they were neighbours, and an array as a result broke the heap."""
    with pytest.raises(TypeError, match=told):
        Program().call(kernel, argument, stop=stop)


@numba.njit
def halve(offsets: Any, value: Any, out_offsets: Any, out: Any) -> None:
    out_offsets[:] = offsets
    for k in range(min(offsets[-1], out.size)):
        out[k] = value[k] * np.float32(0.5)


@qsim.option
class Half(qsim.compressors.Compressor):
    """Halves, whose plan may be wrong."""

    wrong: str = ""
    emits = qsim.batch.Floats

    def compress(self, v, keys, memory=None):
        return qsim.batch.Floats(v.n, v.offsets, v.index, v.value * np.float32(0.5))

    def plan(self, program, v, keys, memory=None):
        offsets, value, index = np.empty_like(v.offsets), np.empty_like(v.value), v.index
        if self.wrong == "short":
            value, index = value[:3].copy(), index[:3].copy()
        if self.wrong == "kind":
            return v
        if self.wrong == "type":
            value = value.astype(np.float64)
        if self.wrong == "sizes":
            value = value[:-1].copy()
        program.call(halve, v.offsets, v.value, offsets, value)
        if self.wrong == "index":
            index = np.full_like(index, 10**6)
        return qsim.batch.Floats(v.n, offsets, index, value)


RUN = qsim.Run(
    "spark_sample", qsim.LogisticRegression(0.1), qsim.SGD(0.1, batch=2), workers=4, rounds=40, evaluate_every=40,
    optimum=False,
)  # fmt: skip


def trained(compressor: qsim.compressors.Compressor) -> qsim.Trace:
    from dataclasses import replace

    return qsim.simulate(replace(RUN, compressor=compressor))


@pytest.mark.parametrize("wrong", ["", "short", "index"])
def test_a_plan_of_ones_own(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unsound messages end the program before a kernel takes them; the rounds go through `compress`."""
    done, run = [], PlannedRounds.run

    def counted(self, *arguments):
        found = run(self, *arguments)
        done.append(0 if found is None else len(found))
        return found

    monkeypatch.setattr(PlannedRounds, "run", counted)
    found = trained(Half(wrong))
    assert sum(done) == (0 if wrong else 39)
    monkeypatch.setattr(PlannedRounds, "of", lambda *arguments: None)
    assert found.frame.equals(trained(Half(wrong)).frame)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("kind", "the plan of Half must return Floats of 4 rows of length 16, found"),
        ("type", "the arrays of what the plan of Half returns must be int64 and int32 and float32"),
        ("sizes", "the last two of one size"),
    ],
)
def test_a_plan_that_is_none(wrong: str, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        trained(Half(wrong))


def test_a_kernel_is_called_for_the_type_of_each_argument() -> None:
    """What was compiled is found again by the looks of arguments, which must tell all types apart."""

    @numba.njit
    def keep(out: Any, number: Any) -> None:
        out[0] = number

    @numba.njit
    def first(out: Any, numbers: Any) -> None:
        out[0] = numbers.ravel()[0]

    def held(kernel: Any, argument: Any) -> float:
        out = np.zeros(1)
        program = Program()
        program.call(kernel, out, argument)
        program.run(1)
        return float(out[0])

    read_only = np.full(2, 11.0)
    read_only.flags.writeable = False
    numbers = [3, True, 2**63 + 2**12, -4, 1.5, np.float32(2.5), np.int32(-7), np.uint64(2**63), np.uint8(200)]
    cells = [Cell.of(np.float32(0.25)), Cell.of(8), Cell.of(9.5)]
    arrays = [np.full(2, 5.0), np.full(2, 6.0, np.float32), np.full((1, 2), 7.0), read_only, np.full(2, 9, np.int8)]
    for _ in range(2):
        assert [held(keep, number) for number in numbers] == [float(number) for number in numbers]
        assert [held(keep, cell) for cell in cells] == [float(cell.array[0]) for cell in cells]
        assert [held(first, array) for array in arrays] == [float(array.flat[0]) for array in arrays]
    with pytest.raises(TypeError, match="in C order"):
        held(first, np.zeros((2, 2)).T)
