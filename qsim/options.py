"""Options: small frozen objects that own their parameters and print as the code that makes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def option(cls: type[_T]) -> type[_T]:
    """Make a class an option: a frozen dataclass with `eval(repr(x)) == x`, given only `import qsim`.

    >>> import qsim
    >>> qsim.QSGD(levels=4)
    qsim.compressors.QSGD(levels=4, norm='l2')
    >>> eval(repr(qsim.QSGD(levels=4))) == qsim.QSGD(levels=4)
    True
    """
    cls.__repr__ = code  # type: ignore[method-assign]
    return dataclass(frozen=True, repr=False)(cls)


def code(self: Any) -> str:
    """Return the expression that makes an option, under the public name of its class."""
    cls = type(self)
    module = cls.__module__.split(".")
    if module[0] == "qsim":
        module = module[:2]  # a room exports the classes of its files
    prefix = "" if module == ["__main__"] else ".".join(module) + "."
    values = ", ".join(f"{field.name}={_plain(getattr(self, field.name))!r}" for field in fields(self) if field.init)
    return f"{prefix}{cls.__qualname__}({values})"


def _plain(value: Any) -> Any:
    """Turn a NumPy scalar into the Python number, whose repr needs no import."""
    is_scalar = type(value).__module__ == "numpy" and hasattr(value, "item") and value.shape == ()
    return value.item() if is_scalar else value


def whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuse a value that is not a whole number in [least, most]."""
    if (
        isinstance(value, bool)
        or not hasattr(value, "__index__")
        or value < least
        or (most is not None and value > most)
    ):
        limit = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {limit}, found {value!r}")


def number(name: str, value: Any, *, above: float | None = None, least: float | None = None) -> None:
    """Refuse a value that is not a finite real number above (or at least) a limit."""
    wanted = "a finite number"
    if above is not None:
        wanted += f" above {above:g}"
    if least is not None:
        wanted += f" of at least {least:g}"
    try:
        good = not isinstance(value, (bool, str)) and isfinite(value)
    except (TypeError, OverflowError):
        good = False
    if not good or (above is not None and value <= above) or (least is not None and value < least):
        raise ValueError(f"{name} must be {wanted}, found {value!r}")


def several(name: str, values: Any, what: str) -> tuple[Any, ...]:
    """Return values as a tuple; refuse what is none, such as a single number."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a tuple of {what}, found {values!r}")
    return tuple(values)


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not one of a few words, naming the nearest."""
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, found {value!r}{nearest(value, choices)}"
        )


def nearest(word: Any, choices: Any) -> str:
    """Return `; did you mean 'x'?` for the choice most like a misspelt word, or nothing."""
    from difflib import get_close_matches

    found = get_close_matches(str(word), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
