"""Compressors that rotate, in tuned NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from qsim.compressors.quicfl_tables import TABLES

Vector = NDArray[np.float32]
generator = np.random.default_rng(0)


def rotated(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Transform every row by Hadamard's matrix; a power of two long."""
    size, half = x.shape[1], 1
    while half < size:
        pairs = x.reshape(-1, size // (2 * half), 2, half)
        x = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2).reshape(-1, size)
        half *= 2
    return x / np.float32(size**0.5)


def random_signs(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw as many signs."""
    return np.where(generator.random(x.shape, np.float32) < 0.5, np.float32(-1), np.float32(1))


def rotated_signs(v: Vector) -> Any:
    """Rotate runs of 2^13 numbers twice by random signs and a Hadamard transform in NumPy; take signs and scales."""
    chunk = 2**13
    x = np.pad(v, (0, -v.size % chunk)).reshape(-1, chunk)
    for _ in range(2):
        x = rotated(x * random_signs(x))
    x /= np.abs(x).sum(axis=1, keepdims=True)
    return np.where(x.reshape(-1)[: v.size] >= 0, np.int8(1), np.int8(-1))


def rotated_and_rounded(bits: int, shared_bits: int) -> Callable[[Vector], Any]:
    """Rotate runs of 2^13 numbers twice, and round to a table with a dither; take levels and large numbers."""
    half = np.array(TABLES[bits, shared_bits])
    dithers = 1 << shared_bits
    grid = sliding_window_view(np.concatenate([-half[::-1], half]), dithers).mean(axis=1).astype(np.float32)
    width = np.diff(grid)

    def form(v: Vector) -> Any:
        chunk = 2**13
        x = np.pad(v, (0, -v.size % chunk)).reshape(-1, chunk)
        x /= np.sqrt(np.square(x).mean(axis=1, keepdims=True))
        for _ in range(2):
            x = rotated(x * random_signs(x))
        x = x.reshape(-1)[: v.size]
        window = np.clip(np.searchsorted(grid, x), 1, grid.size - 1) - 1
        window += generator.random(v.size, np.float32) * width[window] < x - grid[window]
        level = (window + generator.integers(0, dithers, v.size, np.int32)) >> shared_bits
        large = np.flatnonzero(np.abs(x) > grid[-1])
        return level.astype(np.int8) + np.int8(1), large, x[large]

    return form


def small_coefficients(v: Vector) -> Any:
    """Represent runs of 2^13 numbers by truncation, eight times, and round to 4 numbers each."""
    chunk = 2**13
    x = np.pad(v, (0, -v.size % chunk)).reshape(-1, chunk)
    signs = [random_signs(x) for _ in range(2)]
    total = [np.zeros_like(x) for _ in signs]
    for _ in range(8):
        parts = [rotated(sign * x) / 2 for sign in signs]
        limit = np.sqrt(sum(np.square(part).mean(axis=1, keepdims=True) for part in parts) / 2)
        for row, sign, part in zip(total, signs, parts, strict=True):
            part = np.clip(part, -limit, limit)
            row += part
            x = x - sign * rotated(part)
    total = [row + rotated(sign * x) / 2 for row, sign in zip(total, signs, strict=True)]
    scale = np.maximum(*(np.abs(row).max(axis=1, keepdims=True) for row in total))
    first, second = (
        np.floor((row / scale + 1) * 1.5 + generator.random(row.shape, np.float32)).astype(np.int8) for row in total
    )
    return 4 * first + second, scale
