"""Calling kernels from machine code: their arguments are read from memory, where other kernels wrote them.

A kernel that was compiled for some types has an address. A *trampoline* for these types is a function of three
addresses: the kernel's, that of a table with the address of every number it takes, and that of its result. So a list of
such triples is a program, and `run_calls` runs it any number of times without coming back to Python.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype
from numpy.typing import NDArray

from qsim.kernels._jit import kernel

STOPS = ("never", "not zero", "negative", "not negative")
"""When a program stops after a call: by the (first) number that it returned."""
_NEVER, _NOT_ZERO, _NEGATIVE, _NOT_NEGATIVE = range(4)

WORDS = 4
"""Room for a result, in words of 64 bits."""

_POINTER, _INT, _STATUS = ir.IntType(8).as_pointer(), ir.IntType(64), ir.IntType(32)
_SIGNATURE = ir.FunctionType(_STATUS, [_POINTER, _POINTER.as_pointer(), _POINTER])


@intrinsic
def _call(typing: Any, trampoline: Any, function: Any, table: Any, result: Any) -> Any:
    """Call a trampoline at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        trampoline, function, table, result = arguments
        pointer = builder.inttoptr(trampoline, _SIGNATURE.as_pointer())
        return builder.call(
            pointer,
            [
                builder.inttoptr(function, _POINTER),
                builder.inttoptr(table, _POINTER.as_pointer()),
                builder.inttoptr(result, _POINTER),
            ],
        )

    return types.int32(types.int64, types.int64, types.int64, types.int64), generate


call = cast("Callable[[int, int, int, int], int]", _call)
"""Call the trampoline at an address, which returns the status of the kernel that it calls: 0 or -2, or it raised."""


@kernel
def run_calls(calls: NDArray[np.int64], stops: NDArray[np.int64], results: NDArray[np.int64], rounds: int) -> int:
    """Make all calls, one after the other, `rounds` times; return how many rounds were completed.

    calls: a row each: the addresses of the trampoline, the kernel, its table and its result, which is a row of
    `results`. stops: when to stop after each. A round in which a call raises, or stops the program, is not completed.
    """
    for done in range(rounds):
        for c in range(stops.size):
            status = call(calls[c, 0], calls[c, 1], calls[c, 2], calls[c, 3])
            if status != 0 and status != -2:
                return done
            found = results[c, 0]
            if stops[c] == _NOT_ZERO and found != 0:
                return done
            if stops[c] == _NEGATIVE and found < 0:
                return done
            if stops[c] == _NOT_NEGATIVE and found >= 0:
                return done
    return rounds


def compiled(function: Any, kinds: tuple[Any, ...], stop: str) -> tuple[int, int, list[tuple[int, Any]]]:
    """Compile a kernel for these Numba types.

    Returns the addresses of their trampoline and of the kernel, and for each number that it returns the byte of the
    result where it lies, and its type. Raises TypeError for a kernel whose results a program can't hold.
    """
    if kinds not in function.overloads:
        function.compile(kinds)
    result = function.overloads[kinds]
    description = result.fndesc
    returned = description.restype
    tuples: Any = returned if isinstance(returned, types.BaseTuple) else [returned]
    numbers = [kind for kind in tuples if kind != types.none]
    simple = all(isinstance(kind, (types.Integer, types.Float)) for kind in numbers) and len(numbers) <= WORDS
    if not simple or (stop != STOPS[_NEVER] and (not numbers or numbers[0] not in (types.int64, types.uint64))):
        wanted = f"up to {WORDS} numbers" if stop == STOPS[_NEVER] else "a whole number of 64 bits first"
        raise TypeError(f"{function.__name__} must return {wanted} to a program, found {returned}")
    places, byte = [], 0
    for kind in numbers:
        size = kind.bitwidth // 8
        byte = -(-byte // size) * size
        places.append((byte, kind))
        byte += size
    address: int = result.library.get_pointer_to_function(description.llvm_func_name)
    return _trampoline(returned, tuple(description.argtypes))[0], address, places


@cache
def _trampoline(returned: Any, kinds: tuple[Any, ...]) -> tuple[int, Any]:
    """Compile the trampoline of some types; the code lives as long as the library that is returned with its address."""
    context = cpu_target.target_context
    module = context.create_module("trampoline")
    kind = context.call_conv.get_function_type(returned, kinds)
    function = ir.Function(module, _SIGNATURE, f"qsim_trampoline_{len(_NAMES)}")
    _NAMES.append(function.name)
    builder = ir.IRBuilder(function.append_basic_block())
    address, table, result = function.args
    place = 0

    def read(like: Any) -> Any:
        nonlocal place
        pointer = builder.load(builder.gep(table, [_INT(place)]))
        place += 1
        return builder.load(builder.bitcast(pointer, like.as_pointer()))

    arguments: list[Any] = []
    for argument in kinds:
        flat = iter(kind.args[2 + len(arguments) :])
        if isinstance(argument, types.Array):
            arguments += _array(builder, argument, read, flat)
        elif argument is types.none:
            arguments.append(next(flat)(None))
        else:
            arguments.append(read(next(flat)))
    raised = builder.alloca(kind.args[1].pointee)
    status = builder.call(
        builder.bitcast(address, kind.as_pointer()), [builder.bitcast(result, kind.args[0]), raised, *arguments]
    )
    builder.ret(status)
    with global_compiler_lock:
        library = context.codegen().create_library(function.name)
        library.add_ir_module(module)
        library.finalize()
    return library.get_pointer_to_function(function.name), library


_NAMES: list[str] = []


def _array(builder: Any, kind: Any, read: Any, flat: Any) -> list[Any]:
    """Return an array in C order as Numba passes it: no owner, its sizes, its data, shape and strides."""
    owner, parent, _, _, data = (next(flat) for _ in range(5))
    pointer, shape = read(data), [read(_INT) for _ in range(kind.ndim)]
    size = _INT(as_dtype(kind.dtype).itemsize)
    strides, count = [], _INT(1)
    for extent in reversed(shape):
        strides.append(builder.mul(size, count))
        count = builder.mul(count, extent)
    return [owner(None), parent(None), count, size, pointer, *shape, *reversed(strides)]
