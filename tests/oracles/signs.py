"""The sign compressors, written from their docstrings."""

from __future__ import annotations

import numpy as np


def in_lanes(terms: list[float]) -> float:
    """Sum in 32 lanes, term k in lane k mod 32, and add the lanes in halves."""
    lanes = [0.0] * 32
    for k, term in enumerate(terms):
        lanes[k % 32] += term
    return lanes_total(lanes)


def lanes_total(lanes: list[float]) -> float:
    """Add 32 lanes in halves."""
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [a + b for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    return lanes[0]


def scaled_sign(v: list[float]) -> tuple[np.float32, dict[int, int]]:
    """The scale, and the levels by coordinate."""
    scale = np.float32(in_lanes([abs(x) for x in v]) / len(v))
    return scale, {i: 1 if x >= 0 else -1 for i, x in enumerate(v)} if scale > 0 else {}


def one_bit(v: list[float], support_only: bool) -> tuple[np.float32, np.float32, dict[int, bool]]:
    """The low mean, the high mean, and the bits by coordinate."""
    bits = {i: x >= 0 for i, x in enumerate(v) if x != 0 or not support_only}
    entries = [v[i] for i in bits]
    low, high = [x for x in entries if x < 0], [x for x in entries if x >= 0]
    low_sum = in_lanes([x if x < 0 else 0.0 for x in entries])
    high_sum = in_lanes([x if x >= 0 else 0.0 for x in entries])
    return np.float32(low_sum / max(len(low), 1)), np.float32(high_sum / max(len(high), 1)), bits


def decoded(rule: str, v: np.ndarray) -> np.ndarray:
    """What arrives of a vector, in float64: rule "scaled", "one bit" or "support"."""
    v = np.asarray(v, np.float64)
    if rule == "scaled":
        return np.where(v >= 0, 1.0, -1.0) * np.abs(v).mean()
    out = np.zeros(v.size)
    for side in (v >= 0, v < 0):
        if rule == "support":
            side = side & (v != 0)
        if side.any():
            out[side] = v[side].mean()
    return out
