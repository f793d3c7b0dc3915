"""Count sketches, coordinate by coordinate."""

from __future__ import annotations

import numpy as np

from oracles import hashing


def place(word: int, table: int, coordinate: int, cells: int) -> tuple[int, int]:
    """The cell of a coordinate in a table, and its sign."""
    bits = hashing.uniform24(coordinate, hashing.fold(word, table))
    return (bits >> 1) * cells >> 23, -1 if bits & 1 else 1


def sketch(word: int, v: np.ndarray, tables: int, cells: int) -> list[np.float32]:
    sums = [[0.0] * cells for _ in range(tables)]
    for table in range(tables):
        for coordinate, x in enumerate(v.tolist()):
            cell, sign = place(word, table, coordinate, cells)
            sums[table][cell] += sign * x
    return [np.float32(x) for row in sums for x in row]


def estimates(word: int, n: int, sums: list[np.float32], tables: int, cells: int) -> list[np.float32]:
    found = []
    for coordinate in range(n):
        total = 0.0
        for table in range(tables):
            cell, sign = place(word, table, coordinate, cells)
            total += sign * float(sums[table * cells + cell])
        found.append(np.float32(total / tables))
    return found
