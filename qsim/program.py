"""Programs: a round as a list of calls of kernels, on arrays that stay where they are.

Planning a round once, and running it any number of times without coming back to Python, makes a small round as cheap as
its arithmetic. The parts of a run add their calls (`Compressor.plan` and the like); one that has none raises
`NoProgram`, and the run goes on round by round in Python, to the same bits.

A program stops before a round that cannot be done, with nothing that lasts changed by it, so that Python does that
round again and says what is wrong: calls that can fail come before those that change anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from qsim.options import is_shipped, shown

Stop = Literal["never", "not zero", "negative", "not negative"]
"""Which results of a call end a program."""


class NoProgram(Exception):  # noqa: N818
    """A part of a run has no calls of kernels to offer for its rounds."""


def with_plan(part: _Part) -> _Part:
    """Return a shipped part of a run. Raises NoProgram for a user's: what it overrides, no inherited plan knows."""
    if not is_shipped(part):
        raise NoProgram
    return part


_Part = TypeVar("_Part")


@dataclass(frozen=True, eq=False)
class Result:
    """A number that a call returns, each time that it is made: where it lies in the call's result, and its type."""

    call: int
    byte: int
    kind: Any


@dataclass(frozen=True, eq=False)
class Cell:
    """A number that changes from round to round: the only one in an array."""

    array: NDArray[Any]

    @classmethod
    def of(cls, value: Any) -> Cell:
        """Make a cell that holds a number, whose type it has."""
        return cls(np.array([value]))


@dataclass(frozen=True, eq=False)
class Part:
    """The first entries of an array, as many as a call returns each time that it is made: a whole number of 64 bits."""

    array: NDArray[Any]
    size: Result


class Program:
    """Calls of kernels in the order in which a round makes them.

    >>> import numpy as np
    >>> from qsim.kernels.vectors import first_not_finite
    >>> program, numbers = Program(), np.array([1.0, 2.0])
    >>> place = program.call(first_not_finite, numbers, stop="not negative")
    >>> program.run(5)
    5
    """

    def __init__(self) -> None:
        """Begin with no calls."""
        self._calls: list[tuple[int, int, list[Any]]] = []
        self._functions: list[tuple[int, Callable[[], None]]] = []
        self._stops_on: list[int] = []
        self._table: tuple[Any, ...] | None = None
        self.failed = False
        """Whether a function of Python has raised."""

    def call(self, kernel: Any, *arguments: Any, stop: Stop = "never") -> Any:
        """Add a call of a kernel; return what stands for its result, or for the numbers of which it is a tuple.

        arguments: arrays (in C order), parts of them, None, numbers, results of calls before, and cells. stop: which
        (first) results, whole numbers of 64 bits, end the program.

        Raises TypeError for other arguments, for what Numba has not compiled, and for a kernel that returns more than
        four numbers, or anything else.
        """
        from qsim.kernels._calls import STOPS

        looks = tuple([_look(argument) for argument in arguments])
        found = _COMPILED.get((kernel, stop, looks))
        if found is None:
            found = _COMPILED[kernel, stop, looks] = _compiled(kernel, arguments, stop)
        trampoline, address, returned = found
        self._calls.append((trampoline, address, list(arguments)))
        self._stops_on.append(STOPS.index(stop))
        self._table = None
        results = tuple(Result(len(self._calls) - 1, byte, kind) for byte, kind in returned)
        return results[0] if len(results) == 1 else results

    def python(self, function: Callable[[], None]) -> None:
        """Add a function of Python, which reads arrays and writes others. If it raises, the program ends."""
        self._functions.append((len(self._calls), function))
        self._table = None

    @property
    def has_python(self) -> bool:
        """Whether rounds come back to Python."""
        return bool(self._functions)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Take back what has been added, if there turns out to be no program."""
        calls, functions = len(self._calls), len(self._functions)
        try:
            yield
        except NoProgram:
            del self._calls[calls:], self._stops_on[calls:], self._functions[functions:]
            self._table = None
            raise

    def run(self, rounds: int) -> int:
        """Run up to `rounds` rounds; return how many were completed."""
        from qsim.kernels._calls import run_calls

        if self._table is None:
            self._table = self._laid_out()
        calls, stops, results, *_ = self._table
        if not self._functions:
            return int(run_calls(calls, stops, results, rounds))
        ends = [place for place, _ in self._functions] + [len(stops)]
        parts = [slice(low, high) for low, high in zip([0, *ends], ends, strict=False)]
        functions = [function for _, function in self._functions] + [lambda: None]
        for done in range(rounds):
            for part, function in zip(parts, functions, strict=True):
                if not run_calls(calls[part], stops[part], results[part], 1):
                    return done
                try:
                    function()
                except Exception:  # the round is done again, which raises it where it belongs
                    self.failed = True
                    return done
        return rounds

    def _laid_out(self) -> tuple[Any, ...]:
        """Return the calls as addresses, and all that these must find alive."""
        from qsim.kernels._calls import WORDS

        results = np.zeros((len(self._calls), WORDS), np.int64)
        kept: list[Any] = []

        def at(array: NDArray[Any]) -> int:
            kept.append(array)
            return int(array.ctypes.data)

        def result(call: int, byte: int) -> int:
            return at(results) + 8 * WORDS * call + byte

        def words(argument: Any) -> list[int]:
            if argument is None:
                return []
            if isinstance(argument, Result):
                return [result(argument.call, argument.byte)]
            if isinstance(argument, Cell):
                return [at(argument.array)]
            if isinstance(argument, Part):
                return [words(argument.array)[0], result(argument.size.call, argument.size.byte)]
            if isinstance(argument, np.ndarray):
                kept.append(argument)
                shape = np.array([argument.ctypes.data, *argument.shape], np.int64)
                return [at(shape) + 8 * k for k in range(shape.size)]
            return [at(np.array([argument]))]

        rows = []
        for number, (trampoline, address, arguments) in enumerate(self._calls):
            kept += arguments
            table = np.array([word for argument in arguments for word in words(argument)], np.int64)
            rows.append([trampoline, address, at(table), result(number, 0)])
        return np.array(rows, np.int64).reshape(len(rows), 4), np.array(self._stops_on, np.int64), results, kept


_COMPILED: dict[tuple[Any, Stop, tuple[Any, ...]], tuple[int, int, list[tuple[int, Any]]]] = {}
"""What `_compiled` returned, by the looks of the arguments: asking Numba for their types takes longer than the rest."""


def _compiled(kernel: Any, arguments: tuple[Any, ...], stop: Stop) -> tuple[int, int, list[tuple[int, Any]]]:
    """Return the addresses of a trampoline and of a kernel for arguments, and where what it returns will lie."""
    from numba import typeof

    from qsim.kernels._calls import compiled

    if not hasattr(kernel, "overloads"):
        raise TypeError(f"a program calls functions that Numba compiles (numba.njit), found {shown(kernel)}")
    kind_of: Any = typeof
    kinds = tuple(a.kind if isinstance(a, Result) else kind_of(_like(a)) for a in arguments)
    return compiled(kernel, kinds, stop)


def _look(argument: Any) -> Any:
    """Return what decides the Numba type of an argument, and whether a program takes it, in little time."""
    if isinstance(argument, np.ndarray):
        return argument.dtype, argument.ndim, argument.flags.num
    if isinstance(argument, Part):
        return Part, _look(argument.array), _look(argument.size)
    if isinstance(argument, Cell):
        return Cell, argument.array.dtype
    if isinstance(argument, Result):
        return Result, str(argument.kind)
    if isinstance(argument, int):
        return type(argument), -(2**63) <= argument < 2**63
    return type(argument)


def _like(argument: Any) -> Any:
    """Return what has the Numba type of an argument. Raises TypeError for what machine code can't be given."""
    if argument is None or isinstance(argument, (bool, int, float, np.bool_, np.number)):
        return argument
    if isinstance(argument, Cell):
        return argument.array[0]
    if isinstance(argument, Part):
        if argument.array.ndim != 1 or argument.size.kind.bitwidth != 64:
            raise TypeError(f"a part is of an array with one dimension, and as long as a result says, found {argument}")
        argument = argument.array
    if not isinstance(argument, np.ndarray) or argument.dtype.kind not in "biuf" or not argument.flags.c_contiguous:
        raise TypeError(
            f"a program calls kernels with arrays of numbers in C order, None, numbers, cells and results of calls"
            f" before, found {shown(argument)}"
        )
    return argument
