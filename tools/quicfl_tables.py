"""Solve for the tables of QUICFL: the numbers that levels stand for, and the constants of the error.

Usage: python tools/quicfl_tables.py   (writes qsim/compressors/quicfl_tables.py, in some minutes)

Sorted numbers v_1 < ... < v_m are sought, m = 2^b H with H = 2^l dithers, symmetric around 0. A window of H neighbours
has the mean z_k and the mean square r_k. What is z_k is sent without any randomness but the dither's, and between z_k
and z_(k+1) one window or the next is chosen, so that E Y^2 is piecewise linear in z, and the squared error is
f(z) = E Y^2 - z^2 (docs/theory.md). The last window's mean is T. Those numbers are taken that have the least mean of f,
for a Gaussian variable in [-T, T] but for a weight of 1/32 that is spread evenly over [-T, T]: without it the largest
error of all vectors is up to half as large again, and that of those that look Gaussian hardly smaller.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, minimize, minimize_scalar
from scipy.stats import norm

Array = NDArray[np.float64]

FRACTION = 1 / 512
T = float(norm.isf(FRACTION / 2))
EVEN = 1 / 32
SIZES = ((1, 0), (2, 0), (3, 0), (4, 0), (1, 6), (2, 5), (3, 4), (4, 4))
MODULE = Path(__file__).resolve().parents[1] / "qsim" / "compressors" / "quicfl_tables.py"


def windows(half: Array, dithers: int) -> tuple[Array, Array]:
    """Return the means and the mean squares of windows of the table whose positive half is given."""
    table = np.concatenate([-half[::-1], half])
    sums = (np.cumsum(np.concatenate([[0.0], power])) for power in (table, table**2))
    z, r = ((total[dithers:] - total[:-dithers]) / dithers for total in sums)
    return z, r


def gaussian_error(half: Array, dithers: int) -> float:
    """Return E f(Z) for a standard Gaussian Z, f = 0 outside of [-T, T]."""
    z, r = windows(half, dithers)
    slope = np.diff(r) / np.diff(z)
    mass, moment = np.diff(norm.cdf(z)), -np.diff(norm.pdf(z))
    end = z[-1]
    inside = 1 - 2 * norm.sf(end) - 2 * end * norm.pdf(end)  # E Z^2, in [-T, T]
    return float((r[:-1] - slope * z[:-1]) @ mass + slope @ moment - inside)


def even_error(half: Array, dithers: int) -> float:
    """Return the mean of f over [-T, T]."""
    z, r = windows(half, dithers)
    return float(((r[1:] + r[:-1]) / 2) @ np.diff(z) / (2 * z[-1]) - z[-1] ** 2 / 3)


def omega(half: Array, dithers: int) -> float:
    """Return the largest mean of f over numbers whose mean square is 1: the least of a + max (f(z) - a z^2), a >= 0."""
    z, r = windows(half, dithers)
    slope = np.diff(r) / np.diff(z)

    def dual(a: float) -> float:
        top = np.clip(slope / (2 * (1 + a)), z[:-1], z[1:])
        return float(a + np.max(r[:-1] + slope * (top - z[:-1]) - (1 + a) * top**2))

    return min(dual(0.0), float(minimize_scalar(dual, bounds=(0, 100), method="bounded", options={"xatol": 1e-12}).fun))


def solve(bits: int, shared_bits: int) -> Array:
    """Return the positive half of the table."""
    dithers = 1 << shared_bits
    size = dithers << (bits - 1)
    places = (np.arange(size) + 0.5) / size
    first = norm.ppf(0.5 + 0.499 * places) * (1 + (shared_bits > 0) * places**6)
    first[-dithers:] *= T / first[-dithers:].mean()

    def error(half: Array) -> float:
        z, _ = windows(half, dithers)
        if np.diff(z).min() <= 0:
            return 1e3
        return (1 - EVEN) * gaussian_error(half, dithers) + EVEN * even_error(half, dithers)

    top = LinearConstraint(np.repeat([0.0, 1.0], [size - dithers, dithers]) / dithers, T, T)
    found = minimize(error, first, method="SLSQP", constraints=top, options={"maxiter": 3000, "ftol": 1e-13}).x
    assert np.all(np.diff(found) > 0)
    assert found[0] > 0
    return np.array(found, np.float32).astype(np.float64)


def written(half: Array) -> str:
    """Return the numbers as they stand in the module."""
    numbers = [f"{x:.9g}" for x in half]
    lines = ["    " * 2 + ", ".join(numbers[k : k + 8]) + "," for k in range(0, len(numbers), 8)]
    return "(\n" + "\n".join(lines) + "\n    )"


def main() -> None:
    """Solve for all tables, and write the module."""
    tables, gaussian, worst = [], [], []
    for bits, shared_bits in SIZES:
        half, dithers = solve(bits, shared_bits), 1 << shared_bits
        tables.append(f"    ({bits}, {shared_bits}): {written(half)},")
        gaussian.append(f"    ({bits}, {shared_bits}): {gaussian_error(half, dithers):.4g},")
        bound = math.ceil(omega(half, dithers) * 10**5) / 10**5
        worst.append(f"    ({bits}, {shared_bits}): {bound},")
        print(bits, shared_bits, gaussian_error(half, dithers), bound, flush=True)
    MODULE.write_text(
        '"""Tables of QUICFL, as tools/quicfl_tables.py solved for them."""\n\n'
        "TABLES: dict[tuple[int, int], tuple[float, ...]] = {\n" + "\n".join(tables) + "\n}\n"
        '"""The positive half of the sorted numbers, by bits and shared bits."""\n\n'
        "GAUSSIAN = {\n" + "\n".join(gaussian) + "\n}\n"
        '"""E f(Z) for a standard Gaussian Z: the error over ||v||^2 of vectors that look Gaussian when rotated."""\n\n'
        "OMEGA = {\n" + "\n".join(worst) + "\n}\n"
        '"""The largest error over ||v||^2 of all vectors and rotations, rounded up."""\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
