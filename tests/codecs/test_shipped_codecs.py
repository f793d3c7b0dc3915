"""What every codec keeps; each class names its own in `examples()`."""

from __future__ import annotations

import re
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qsim
from helpers.messages import messages
from helpers.paths import DOCS
from qsim.batch import (
    Blocks,
    Floats,
    Levels,
    Message,
    Packets,
    SharedSupport,
    Signs,
    WithOutliers,
    dense_offsets,
    index_type,
)
from qsim.codecs import Auto, Codec, DecodeError
from qsim.testing.shipped import shipped

CODECS = list(shipped(qsim.codecs, Codec))
SHORT = st.sampled_from([1, 2, 60, 128, 1000])
every_codec = pytest.mark.parametrize("codec", CODECS, ids=repr)


def carried(codec: Codec) -> st.SearchStrategy[Message]:
    """Messages that a codec carries; floats are whole numbers below 2^7, which every format holds."""
    if Blocks in codec.carries:
        return _blocks()
    if WithOutliers in codec.carries:
        return _with_outliers()
    kinds = tuple(kind for kind in (Floats, Levels, Signs) if kind in codec.carries)
    return messages(SHORT, kinds).map(_rounded)


@st.composite
def _blocks(draw: st.DrawFn) -> Message:
    """Levels, and three floats, as the example of `Blockwise` has them."""
    levels = draw(messages(SHORT, (Levels,)))
    value = np.array([draw(st.floats(-9, 9, width=32)) for _ in range(3 * levels.rows)], np.float32)
    return Blocks.of([levels, Floats(3, dense_offsets(levels.rows, 3), None, value)])


@st.composite
def _with_outliers(draw: st.DrawFn) -> Message:
    """Levels, and a few floats, anywhere."""
    levels, places, value, offsets = draw(messages(SHORT, (Levels,))), [], [], [0]
    for _ in range(levels.rows):
        few = sorted(draw(st.sets(st.integers(0, levels.n - 1), max_size=3)))
        places += few
        value += [draw(st.floats(0.5, 9, width=32)) for _ in few]
        offsets.append(len(places))
    index = np.array(places, index_type(levels.n))
    return WithOutliers.of(levels, Floats(levels.n, np.array(offsets), index, np.array(value, np.float32)))


def _rounded(message: Message) -> Message:
    if not isinstance(message, Floats):
        return message
    return Floats(message.n, message.offsets, message.index, np.float32(1 + np.arange(message.value.size) % 127))


def same(message: Message, other: Message) -> bool:
    """Whether messages are the same; of floats, whether they stand for the same vectors."""
    if isinstance(message, Floats):
        return np.array_equal(message.vectors().to_dense(), other.vectors().to_dense())
    return message == other


def test_every_class_has_examples() -> None:
    classes = [kind for name in qsim.codecs.__all__ if issubclass(kind := getattr(qsim.codecs, name), Codec)]
    assert {type(codec) for codec in CODECS} == set(classes) - {Codec}


@every_codec
@settings(max_examples=20)
@given(st.data())
def test_a_message_comes_back_in_as_many_bits_as_are_said(codec: Codec, data: st.DataObject) -> None:
    message = data.draw(carried(codec))
    packets, header = codec.encode(message), codec.header(message)
    assert same(message, codec.decode(packets, header))
    assert codec.size(message).tolist() == [8 * len(packets[row]) for row in range(message.rows)]
    order = np.arange(message.rows)[::-1]
    turned, alone = packets.take(order), codec.encode(message.take(order))
    assert [turned[row] for row in range(message.rows)] == [alone[row] for row in range(message.rows)]


@every_codec
@settings(max_examples=20)
@given(st.data())
def test_bytes_that_are_changed_are_refused_or_are_a_message(codec: Codec, data: st.DataObject) -> None:
    message = data.draw(carried(codec))
    packets = codec.encode(message)
    hostile = []
    for row in range(message.rows):
        good = bytearray(packets[row])
        for _ in range(data.draw(st.integers(0, 3)) if good else 0):
            good[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        hostile.append(bytes(good[: data.draw(st.integers(0, len(good)))]) + data.draw(st.binary(max_size=2)))
    header = codec.header(message)
    try:
        found = codec.decode(Packets.of(*hostile), header)
    except DecodeError:
        return
    assert (found.rows, found.n) == (message.rows, message.n)
    again = codec.encode(found)
    assert same(found, codec.decode(again, header))
    if codec not in SENDER_CHOOSES:
        assert [again[row] for row in range(found.rows)] == hostile


SENDER_CHOOSES = [qsim.codecs.GolombRice(), qsim.codecs.RANS(), Auto()]
"""Codecs of which the sender chooses a parameter, so that several packets hold one message."""


@every_codec
@settings(max_examples=20)
@given(st.data(), st.binary(max_size=12))
def test_a_header_of_another_stream_is_refused(codec: Codec, data: st.DataObject, other: bytes) -> None:
    message = data.draw(carried(codec))
    header, packets = codec.header(message), codec.encode(message)
    for bad in (header[:-1], header + b"\0", bytes([2]) + header[1:], header[:1] + bytes([255]) + header[2:]):
        with pytest.raises(DecodeError):
            codec.decode(packets, bad)
    with suppress(DecodeError):
        codec.decode(packets, other)


@every_codec
def test_other_kinds_of_messages_are_refused(codec: Codec) -> None:
    known = [
        Floats.single([1.0, 0.0]),
        Levels.single([1, 0], scale=1.0, s=1),
        Signs.join([Signs(2, np.array([0, 2]), None, np.array([True, False]), np.float32([-1]), np.float32([1]))]),
        SharedSupport(2, np.array([0, 1]), 1, np.float32([1.0])),
    ]
    outliers = Floats(2, np.array([0, 1]), np.array([1], np.int32), np.float32([9]))
    for message in [*known, Blocks.of([Floats.single([1.0])]), WithOutliers.of(known[1], outliers)]:
        if not isinstance(message, codec.carries):
            with pytest.raises(ValueError, match=f"carries .* messages, found {type(message).__name__}"):
                codec.encode(message)


def test_numbers_are_those_on_the_page_of_the_format() -> None:
    """Each its own, but for `SparseFloats`, which is `Varint` of floats."""
    page = (DOCS / "wire-format.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| codec \| 1 \| (.*) \|$", page, re.MULTILINE)
    found = []
    for entry in row.split(", "):
        number, names = entry.split(" ", 1)
        for name in re.findall("`([^`]*)`", names):
            codec = eval(f"qsim.codecs.{name}")
            found += [(int(number), repr(each)) for each in (codec.examples() if isinstance(codec, type) else (codec,))]
    assert sorted(found) == sorted((codec.number, repr(codec)) for codec in CODECS)
    assert len({number for number, _ in found}) == len(found) - 1
