"""LIBSVM text in plain Python: regular expressions, `float`, and lists."""

from __future__ import annotations

import re

import numpy as np

NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class BadError(ValueError):
    """A bad line: where it is bad."""

    def __init__(self, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}")


def parse(text: bytes, first: int = 1, last: int = 2**31) -> list[tuple[float, list[tuple[int, float]]]]:
    """Return each row's label and its (column, float32) entries."""
    rows = []
    for line, whole in enumerate(text.split(b"\n"), 1):
        tokens = list(re.finditer(rb"[^ \t\r\v\f]+", whole.partition(b"#")[0]))
        entries: list[tuple[int, float]] = []
        for k, token in enumerate(tokens):
            place = token.start() + 1
            if k == 0:
                label = number(token.group(), line, place)
                continue
            if not entries and re.fullmatch(rb"qid:\d+", token.group()):
                continue
            index, colon, value = token.group().partition(b":")
            if not re.fullmatch(rb"\d+", index) or not colon:
                raise BadError(line, place)
            column = int(index) - first
            if column < 0 or int(index) > last or len(index) > 19 or (entries and column <= entries[-1][0]):
                raise BadError(line, place)
            place += len(index) + 1
            with np.errstate(over="ignore"):
                single = np.float32(number(value, line, place))
            if not np.isfinite(single):
                raise BadError(line, place)
            entries.append((column, float(single)))
        if tokens:
            rows.append((label, entries))
    return rows


def number(token: bytes, line: int, place: int) -> float:
    if not NUMBER.fullmatch(token):
        raise BadError(line, place)
    return float(token)
