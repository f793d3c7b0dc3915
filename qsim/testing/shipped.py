"""The parts that qsim ships, as each class says: what the command `verify` checks, and every test of a whole kind."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, Protocol, TypeVar


class _WithExamples(Protocol):
    @classmethod
    def examples(cls) -> tuple[Any, ...]: ...


_T = TypeVar("_T", bound=_WithExamples)


def shipped(package: ModuleType, kind: type[_T]) -> Iterator[_T]:
    """Yield the examples of all public classes of a kind in a package, in the order of `__all__`.

    >>> import qsim
    >>> list(shipped(qsim.compressors, qsim.compressors.Compressor))[:3]
    [qsim.DRIVE(), qsim.EDEN(bits=2), qsim.EDEN(bits=4)]
    """
    for name in package.__all__:
        found = getattr(package, name)
        if isinstance(found, type) and issubclass(found, kind):
            yield from found.examples()
