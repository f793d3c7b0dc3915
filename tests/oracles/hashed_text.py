"""Feature hashing in plain Python: `str.split`, `float`, whole numbers of any size, and a dictionary a row."""

from __future__ import annotations

import math
import re
from hashlib import blake2b

import numpy as np

from qsim.datasets import HashedText

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
WORD = 2**64 - 1
ODD = 0x9E3779B97F4A7C15
Row = tuple[float, dict[int, float]]


class BadError(ValueError):
    """A bad line: which one."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line}")


def mixed(word: int) -> int:
    word = (word ^ word >> 32) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ word >> 29) * ODD & WORD
    return word ^ word >> 32


def hashed(column: str, cell: bytes) -> int:
    word = int.from_bytes(blake2b(column.encode(), digest_size=8).digest(), "little")
    word ^= len(cell) * ODD & WORD
    while len(cell) > 8:
        word, cell = mixed(word ^ int.from_bytes(cell[:8], "little")), cell[8:]
    return mixed(word ^ int.from_bytes(cell, "little"))


def number(text: str, line: int) -> float:
    if not NUMBER.fullmatch(text):
        raise BadError(line)
    return float(text)


def parse(text: bytes, source: HashedText) -> list[Row]:
    """Return each row's label, and its values by feature."""
    columns = source.columns
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    names, first = columns.names, 1
    if names is None:
        names, first = tuple(lines.pop(0).removesuffix(b"\r").decode("utf-8-sig").split(columns.delimiter)), 2
    rows = []
    for line, whole in enumerate(lines, first):
        try:
            fields = whole.removesuffix(b"\r").decode().split(columns.delimiter)
        except UnicodeDecodeError:
            raise BadError(line) from None
        if len(fields) != len(names) or (columns.delimiter != "\t" and b'"' in whole):
            raise BadError(line)
        cells: dict[str, tuple[int, float]] = {}
        for name, field in zip(names, fields, strict=True):
            if name == columns.label:
                label = number(field, line)
                if source.kind == "signs" and label not in (-1, 0, 1):
                    raise BadError(line)
                if not math.isfinite(label):
                    raise BadError(line)
            elif name not in columns.numbers and name not in columns.categories:
                continue
            elif not field:
                if source.missing == "feature":
                    cells[name] = hashed(name, b"\xff"), 1.0
            elif name in columns.categories:
                cells[name] = hashed(name, field.encode()), 1.0
            else:
                x = number(field, line)
                if columns.log1p:
                    x = math.copysign(math.log1p(abs(x)), x)
                cells[name] = hashed(name, b""), single(x, line)
        features = [(name, *cells[name]) for name in names if name in cells]
        for one, other in source.pairs:
            if one in cells and other in cells:
                (u, x), (v, y) = cells[one], cells[other]
                features.append((one, mixed((u * ODD + v) & WORD), single(x * y, line)))
        row: dict[int, float] = {}
        for _, word, x in features:
            if x:
                place = word % source.features
                signed = -x if source.signed and word >> 63 else x
                row[place] = float(np.float32(row[place]) + np.float32(signed)) if place in row else signed
        rows.append((label, row))
    return rows


def single(x: float, line: int) -> float:
    with np.errstate(over="ignore"):
        found = float(np.float32(x))
    if not math.isfinite(found):
        raise BadError(line)
    return found
