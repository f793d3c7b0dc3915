"""Edges of kernels and codecs: long vectors, extreme scales, rounding past the last level, the 64th bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import qsim
from oracles import csr, hashing, quantize
from qsim.batch import Packets, Vectors
from qsim.codecs import DecodeError, SparseFloats, Varint
from qsim.codecs.base import read_header
from qsim.compressors import NotFiniteError
from qsim.kernels.bits import take_marked_places
from qsim.kernels.csr import scatter_short, scatter_touched, single_rows
from qsim.kernels.norms import l2_norms
from qsim.kernels.vectors import first_not_finite
from qsim.objectives import Optimum
from qsim.objectives.optimum import _line

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("n", [1, 31, 32, 33, 64, 100, 1000])
def test_l2_norms_are_the_oracles_bit_by_bit(n: int) -> None:
    """In float64, before the scale is rounded to float32, where most orders of summing look alike."""
    for seed in range(20):
        v = np.random.default_rng(seed).standard_normal(2 * n).astype(np.float32)
        offsets, index = np.array([0, n, 2 * n]), np.tile(np.arange(n, dtype=np.int32), 2)
        expected = [quantize.l2_norm(list(range(n)), row) for row in (v[:n], v[n:])]
        assert l2_norms(offsets, None, v).tolist() == expected
        assert l2_norms(offsets, index, v).tolist() == expected
        assert l2_norms(offsets, index * 7 + 5, v).tolist() == [
            quantize.l2_norm([7 * c + 5 for c in range(n)], row) for row in (v[:n], v[n:])
        ]


@pytest.mark.parametrize("size", [1e-37, 2e-38, 1e-40, 1e-44, 2.0**-60, 2.0**-61, 1e-18, 1e38])
@pytest.mark.parametrize("s", [1, 1000, 2**23])
@pytest.mark.parametrize("norm", ["l2", "max"])
def test_extreme_scales_are_the_oracles(size: float, s: int, norm: str) -> None:
    """s / scale may exceed float32's range, though |x| s / scale never exceeds s."""
    v = np.float32([0.5, -0.25, 0, 0.01, -1, 0.125]) * np.float32(size)
    for word in range(20):
        message = qsim.QSGD(s, norm).quantize(v, qsim.Key(word))
        scale, expected = quantize.qsgd(list(range(6)), v, s, hashing.key(word), norm)
        assert message.scale[0] == scale
        assert dict(zip(message.index.tolist(), message.level.tolist(), strict=True)) == expected


def test_rounding_does_not_lead_past_the_last_level() -> None:
    """|x| f can round to s + 1/2 where x is the norm, and every other draw would make it s + 1; the level is s."""
    s = 2**23 - 1
    x = np.random.default_rng(0).uniform(0.5, 1, 1000).astype(np.float32)
    past = x[x * (s / x.astype(np.float64)).astype(np.float32) > np.float32(s)]
    assert past.size > 100
    for norm in ("l2", "max"):
        batch = Vectors.dense(np.column_stack([past, -np.zeros_like(past)]))
        message = qsim.QSGD(s, norm).compress(batch, qsim.Key(0).words(0, past.size))
        assert (message.level == s).all()
        assert (
            qsim.QSGD(s, norm).compress(Vectors.dense(-past[:, None]), qsim.Key(0).words(0, past.size)).level.max()
            == -s
        )


@pytest.mark.parametrize("place", [0, 4095, 4096, 4097, 8191, 8192, 9999])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found_in_long_vectors(place: int, bad: float) -> None:
    for dtype in (np.float32, np.float64):
        v = np.ones(10_000, dtype)
        assert first_not_finite(v) == -1
        v[place] = bad
        v[place + 1 :: 100] = np.nan
        assert first_not_finite(v) == place
    rows = np.ones((3, 10_000), np.float32)
    rows[1, place] = bad
    for compressor in (qsim.QSGD(1), qsim.Identity()):
        with pytest.raises(NotFiniteError, match=f"row 1 of the batch holds {bad} at coordinate {place}:"):
            compressor.compress(Vectors.dense(rows), qsim.Key(0).words(0, 3))


@pytest.mark.parametrize(
    ("number", "why"),
    [
        ("80" * 9 + "02", "more than 64 bits"),
        ("80" * 9 + "03", "more than 64 bits"),
        ("ff" * 9 + "02", "more than 64 bits"),
        ("ff" * 9 + "03", "more than 64 bits"),
        ("80" * 9 + "81", "more than 64 bits"),
        ("80" * 9 + "01", "past the last coordinate"),
        ("ff" * 9 + "01", "past the last coordinate"),
    ],
)
def test_numbers_beyond_64_bits_are_refused(number: str, why: str) -> None:
    packet = bytes.fromhex("0000c03f" + number)
    with pytest.raises(DecodeError, match=f"packet 0, byte 4: .*{why}"):
        Varint().decode(Packets.of(packet), bytes.fromhex("010601080300"))
    with pytest.raises(DecodeError, match=f"packet 0, byte 0: .*{why}"):
        SparseFloats().decode(Packets.of(packet[4:] + bytes.fromhex("0000803f")), bytes.fromhex("01060008"))


def test_header_numbers_are_below_2_to_the_63() -> None:
    head = bytes([1, 6, 0])
    assert read_header(head + bytes([255] * 8 + [127]), SparseFloats()).n == 2**63 - 1
    for number in ([255] * 9 + [1], [128] * 9 + [1], [255] * 9 + [0], [128] * 10 + [1]):
        with pytest.raises(DecodeError, match=r"2\^63 or more"):
            read_header(head + bytes(number), SparseFloats())


def test_a_newton_step_is_halved_until_the_gradient_falls() -> None:
    """One weight, minimum at 0: from 1 along -7 the halves lead to -6, -2.5 and -0.75, the first that is nearer."""
    data = qsim.Dataset.from_arrays(np.array([[1.0], [1.0]]), np.array([1, -1]))
    objective = qsim.LogisticRegression(0.1)
    here = Optimum(np.array([1.0]), *_value_and_norm(objective, 1.0, data))
    found = _line(objective, here, np.array([-7.0]), data)
    assert found.weights.tolist() == [-0.75]
    assert (found.value, found.gradient_norm) == pytest.approx(_value_and_norm(objective, -0.75, data))
    assert _line(objective, here, np.array([1.0]), data) is None  # away from the minimum nothing helps


def _value_and_norm(objective: qsim.LogisticRegression, w: float, data: qsim.Dataset) -> tuple[float, float]:
    value, gradient = objective.value_and_gradient(np.array([w]), data)
    return value, abs(float(gradient[0]))


def test_marked_places_are_taken() -> None:
    """From words of none to 64 bits, the first and the last of a range among them."""
    rng = np.random.default_rng(0)
    for turn in range(300):
        bits = rng.random((7, 64)) < rng.choice([0.0, 0.02, 0.1, 0.5, 1.0], (7, 1))
        marks = np.packbits(bits, bitorder="little").view("<u8").astype(np.uint64)
        first, end = sorted(rng.integers(0, 8, 2).tolist())
        places = np.full(64 * (end - first) + 4 + 1, -7, np.int64)
        found = take_marked_places(marks, first, end, places[:-1])
        inside = np.zeros_like(bits)
        inside[first:end] = bits[first:end]
        assert places[:found].tolist() == np.flatnonzero(inside).tolist(), turn
        assert places[-1] == -7
        assert marks.tolist() == np.packbits(bits & ~inside, bitorder="little").view("<u8").tolist()


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_sums_of_rows_are_at_all_coordinates_of_these(batch: int, values: bool) -> None:
    """Whatever the sums are: of slopes that are zero, of either sign, and of numbers that cancel or vanish."""
    rng = np.random.default_rng(batch)
    n, workers = 12, 4
    lengths = rng.integers(0, 6, 20)
    columns = np.concatenate([np.sort(rng.choice(n, size, replace=False)) for size in lengths]).astype(np.uint32)
    indptr = np.concatenate([[0], lengths.cumsum()])
    numbers = rng.choice(np.float32([1, -1, 2, 1e-30, -1e-30]), columns.size) if values else None
    drawn = rng.integers(0, 20, batch * (workers - 1))
    offsets = batch * np.array([0, 1, 1, 2, 3])
    slopes = rng.choice(np.float32([0.0, -0.0, 1, -1, 1e-30]), drawn.size)
    each = np.ones(columns.size) if numbers is None else numbers
    rows = [dict(zip(columns[a:b].tolist(), each[a:b].tolist(), strict=True)) for a, b in pairwise(indptr)]
    drawn_by = [[(rows[r], s) for r, s in zip(drawn[a:b], slopes[a:b], strict=True)] for a, b in pairwise(offsets)]
    right = csr.sums_of_rows(drawn_by)

    support, support_offsets = np.tile(np.arange(n, dtype=np.int32), workers), n * np.arange(workers + 1)
    data = indptr, columns, numbers, drawn, offsets, slopes
    touched = *data, support, support_offsets, np.zeros(n, np.float32), np.zeros(1, np.uint64)
    short = *data, support, support_offsets, np.full(n, -0.0, np.float32)
    ways = [(scatter_touched, touched), (scatter_short, short)] + [(single_rows, data)] * (batch == 1)
    for kernel, arguments in ways:
        out = np.full(workers + 1, -7), np.full(60, -7, np.int32), np.full(60, np.nan, np.float32)
        kernel(*arguments, *out)
        found = [dict(zip(out[1][a:b].tolist(), out[2][a:b].tolist(), strict=True)) for a, b in pairwise(out[0])]
        assert list(map(repr, found)) == list(map(repr, right)), kernel
