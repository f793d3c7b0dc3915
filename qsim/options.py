"""Options: small frozen objects that own their parameters and print as the code that makes them."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterable
from dataclasses import Field, dataclass, fields
from functools import wraps
from inspect import get_annotations
from math import isfinite
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin

_T = TypeVar("_T")
_Plan = tuple[str, frozenset[type], tuple[Any, ...]]
"""The name of a field, the types of which it keeps values as they are, and the kinds that others are turned into."""


@dataclass_transform(frozen_default=True)
def option(cls: type[_T]) -> type[_T]:
    """Make a class an option: a frozen dataclass that prints as the code that makes it.

    `eval(repr(x)) == x`, given only `import qsim`.

    Returns
    -------
    type
        The dataclass.

    Notes
    -----
    A field that is annotated as a number, a truth value or a sequence of them (`float`, `int | None`, `bool`,
    `tuple[float, ...]`) holds that and nothing else, whatever spelling it was given: an integer, a NumPy scalar or an
    array without axes becomes the `float` or `int` that it stands for, before the class's own `__post_init__` sees it.
    So a parameter has one repr, one hash and one set of numbers. Refused with ValueError, by name: a float for an
    `int`, a truth value for a number, a text, and a masked array.

    Examples
    --------
    >>> import qsim, numpy as np
    >>> qsim.QSGD(levels=np.int16(4))
    qsim.QSGD(levels=4)
    >>> eval(repr(qsim.QSGD(levels=4))) == qsim.QSGD(levels=4)
    True
    >>> qsim.LogisticRegression(l2=1)
    qsim.LogisticRegression(l2=1.0)
    """
    own: Callable[..., None] | None = getattr(cls, "__post_init__", None)
    plans: dict[type, tuple[_Plan, ...]] = {}  # of the class and of those that inherit from it; they go with it

    def take_and_check(self: Any, *args: Any) -> None:
        made = type(self)
        if made not in plans:
            plans[made] = _plans(made)
        for name, exact, kinds in plans[made]:
            value = getattr(self, name)
            if type(value) not in exact:
                object.__setattr__(self, name, _taken(name, value, kinds))
        if own is not None:
            own(self, *args)

    cls.__post_init__ = wraps(own)(take_and_check) if own else take_and_check  # type: ignore[attr-defined]
    cls.__repr__ = code  # type: ignore[method-assign]
    return dataclass(frozen=True, repr=False)(cls)


def code(self: Any) -> str:
    """Return the expression that makes an option, as one writes it: its public name, and what is not the default."""
    cls = type(self)
    module = cls.__module__.split(".")
    if module[0] == "qsim":
        module = ["qsim"] if cls.__name__ in sys.modules["qsim"].__all__ else module[:2]
    prefix = "" if module == ["__main__"] else ".".join(module) + "."
    values = ", ".join(
        f"{field.name}={_written(cls, field, value)}"
        for field in fields(self)
        if field.init and not _same(value := getattr(self, field.name), field.default)
    )
    return f"{prefix}{cls.__qualname__}({values})"


def _same(value: Any, default: Any) -> bool:
    """Tell whether a field holds its default."""
    numbers = type(value) is float and type(default) is int  # 0 for 0.0
    return (numbers or type(value) is type(default)) and bool(value == default)


def _written(cls: type, field: Field[Any], value: Any) -> str:
    """Return the code of a field: a number where the field takes it for the option that it holds."""
    number = getattr(value, "as_number", None)
    takes_number = number is not None and float in _kinds(_annotation(cls, field.name, field.type))
    return repr(number if takes_number else plain(value))


def plain(value: Any) -> Any:
    """Return the Python number, truth value or text that a NumPy scalar, or an array without axes, stands for.

    Anything else is returned as it is, masked arrays and times among it.
    """
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    make = {"b": bool, "i": int, "u": int, "f": float, "U": str}.get(kind) if isinstance(kind, str) else None
    if make is None or getattr(value, "shape", None) != () or hasattr(value, "mask"):
        return value
    return make(value)


def _is_a(kind: Any, found: Any) -> bool:
    """Tell whether a plain value is a number of a kind: times of NumPy, which say so, are none."""
    return isinstance(found, kind) and not hasattr(found, "dtype")


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number in [least, most] as an int; refuse any other value."""
    found = plain(value)
    if isinstance(found, bool) or not _is_a(Integral, found) or found < least or (most is not None and found > most):
        limit = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {limit}, found {shown(value)}")
    return int(found)


def number(name: str, value: Any, *, above: float | None = None, least: float | None = None) -> float:
    """Return a finite real number above (or at least) a limit as a float; refuse any other value."""
    wanted = "a finite number"
    if above is not None:
        wanted += f" above {above:g}"
    if least is not None:
        wanted += f" of at least {least:g}"
    found = plain(value)
    try:
        real = float(found) if _is_a(Real, found) and not isinstance(found, bool) else None
    except OverflowError:
        real = None
    if (
        real is None
        or not isfinite(real)
        or (above is not None and real <= above)
        or (least is not None and real < least)
    ):
        raise ValueError(f"{name} must be {wanted}, found {shown(value)}")
    return real


def flag(name: str, value: Any) -> bool:
    """Return a truth value as a bool; refuse any other value, 0 and 1 among them."""
    found = plain(value)
    if not isinstance(found, bool):
        raise ValueError(f"{name} must be True or False, found {shown(value)}")
    return found


def refuse_masked(name: str, array: Any, error: type[Exception] = ValueError) -> None:
    """Refuse a masked array of NumPy: as a plain one it would lose its mask without a word."""
    if hasattr(array, "mask") and hasattr(array, "filled"):
        raise error(
            f"{name} is a masked array, whose mask would be lost; leave the masked entries out, or say what they are:"
            " array.filled(0)"
        )


def real(name: str, found: Any) -> float:
    """Return a number that a user's code made as a float, which may be NaN or infinite; refuse anything else."""
    value = plain(found)
    refused = isinstance(value, bool | str | bytes) or hasattr(value, "mask") or getattr(value, "shape", ()) != ()
    try:
        if not refused:
            return float(value)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{name} must be a number, found {shown(found)}")


def is_shipped(thing: object) -> bool:
    """Tell whether an object is of a class of qsim, not of a user's own."""
    return type(thing).__module__.partition(".")[0] == "qsim"


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not one of a few words, naming the nearest."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, found {value!r}{nearest(value, choices)}"
        )


def nearest(word: Any, choices: Any) -> str:
    """Return `; did you mean 'x'?` for the choice most like a misspelt word, or nothing."""
    from difflib import get_close_matches

    found = get_close_matches(str(word), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


@dataclass(frozen=True)
class _Many:
    """A sequence: of elements of one kind, as many as there are; what is made of it."""

    kinds: tuple[Any, ...]
    make: Callable[[Iterable[Any]], Any]


_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "None",
}


def _plans(cls: type) -> tuple[_Plan, ...]:
    """Return what there is to do for each field that holds numbers, truth values or texts."""
    plans = []
    for field in fields(cls):
        kinds = _kinds(_annotation(cls, field.name, field.type)) if field.init else ()
        if any(kind in (bool, int, float, str) or isinstance(kind, _Many) for kind in kinds):
            exact = {kind for kind in kinds if kind in (bool, int, float, str, NoneType)}
            exact |= {NoneType} if field.default is None else set()
            plans.append((field.name, frozenset(exact), kinds))
    return tuple(plans)


class _Names(dict[str, Any]):
    """The names that an annotation is read with; one that nobody knows stands for any object."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, object)


def _annotation(cls: type, name: str, annotation: Any) -> Any:
    """Return what an annotation stands for; object, which is anything, if that cannot be told."""
    try:
        owner = next(base for base in cls.__mro__ if name in get_annotations(base))
        known = _Names(vars(sys.modules.get(owner.__module__, builtins)) | vars(owner))
        while isinstance(annotation, str):  # it may be quoted twice
            annotation = eval(annotation, {}, known)
    except Exception:  # whatever an annotation may raise that was never meant to be read
        return object
    return annotation


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of an annotation: types, values of a Literal, sequences; object stands for any other."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated or hasattr(annotation, "__value__") or hasattr(annotation, "__supertype__"):
        inner = arguments[0] if arguments else getattr(annotation, "__value__", None) or annotation.__supertype__
        return _kinds(inner)
    if origin in (Union, UnionType):
        return tuple(dict.fromkeys(kind for argument in arguments for kind in _kinds(argument)))
    if origin is Literal:
        return tuple(dict.fromkeys(type(value) for value in arguments))
    if annotation in (bool, int, float, str, NoneType, None):
        return (annotation or NoneType,)
    if isinstance(origin, type) and issubclass(origin, Iterable) and arguments:
        same = len(arguments) == 1 or arguments[1:] == (...,)
        elements = _kinds(arguments[0])
        if same and all(kind in (bool, int, float) for kind in elements):
            return (_Many(elements, origin if origin in (list, set, frozenset) else tuple),)
    return (object,)


def _taken(name: str, value: Any, kinds: tuple[Any, ...]) -> Any:
    """Return a value as one of the kinds of its field. Raises ValueError if it is of none of them."""
    found = plain(value)
    if isinstance(found, str) and str in kinds:
        return found
    is_number = _is_a(Real, found)  # as bool is
    able = (bool,) if isinstance(found, bool) else (int, float) if _is_a(Integral, found) else (float,)
    for kind in able if is_number else ():
        if kind in kinds:
            try:
                return kind(found)
            except OverflowError:  # an int that no float comes near
                break
    many = next((kind for kind in kinds if isinstance(kind, _Many)), None)
    if many is not None and isinstance(found, Iterable) and not isinstance(found, str | bytes):
        refuse_masked(name, found)
        if isinstance(found, range) and many.make is tuple:
            return found
        return many.make(_taken(f"{name}[{place}]", part, many.kinds) for place, part in enumerate(found))
    for_others = object in kinds and not (is_number and {int, float} & set(kinds))
    if for_others or (many is None and {bool, int, float}.isdisjoint(kinds)):
        return value  # what the class's own check is for
    raise ValueError(f"{name} must be {_listed(kinds)}, found {shown(value)}")


def _listed(kinds: tuple[Any, ...]) -> str:
    kinds = tuple(sorted(kinds, key=lambda kind: kind is object))
    words = [
        f"a tuple of {' or '.join(_WORDS[part].removeprefix('a ') + 's' for part in kind.kinds)}"
        if isinstance(kind, _Many)
        else _WORDS.get(kind, "another object")
        for kind in kinds
    ]
    return " or ".join(", ".join(words).rsplit(", ", 1))


def shown(value: Any, most: int = 200) -> str:
    """Return the repr of a value, cut if it is longer than `most`."""
    try:
        text = repr(value)
    except ValueError:  # an int of thousands of digits
        return f"a whole number of {value.bit_length():,} bits"
    return text if len(text) <= most else f"{text[:most]}..."
