"""Messages of all kinds, as examples and as what oracles take."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from qsim.batch import Floats, Levels, Message, Packets, Signs, index_type
from qsim.codecs import RANS, Codec, DecodeError, GolombRice

scales = st.floats(2.0**-126, 2.0**126, width=32)
values = st.floats(-(2.0**100), 2.0**100, width=32).filter(bool)
lengths = st.sampled_from([1, 2, 60, 128, 5000, 70_000, 2**31, 2**31 + 9, 2**33])


@st.composite
def coordinates(draw: st.DrawFn, n: int) -> np.ndarray:
    """None, few, or all, sometimes far apart."""
    if n <= 60 and draw(st.booleans()):
        return np.arange(n, dtype=index_type(n))
    return np.array(sorted(draw(st.sets(st.integers(0, n - 1), max_size=20))), index_type(n))


@st.composite
def messages(
    draw: st.DrawFn,
    lengths: st.SearchStrategy[int] = lengths,
    kinds: tuple[type[Message], ...] = (Floats, Levels, Signs),
) -> Message:
    n, kind = draw(lengths), draw(st.sampled_from(kinds))
    s = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 127, 128, 1000, 2**23, 2**30]))
    bucket = draw(st.sampled_from([0, 1, 7, n])) if n <= 128 else draw(st.sampled_from([0, n // 2 + 1]))
    rows: list[Message] = []
    for _ in range(draw(st.integers(1, 4))):
        index = draw(coordinates(n))
        offsets = np.array([0, index.size])
        signs = np.array([draw(st.sampled_from([-1, 1])) for _ in index], np.int32)
        if kind is Floats:
            rows.append(Floats(n, offsets, index, np.array([draw(values) for _ in index], np.float32)))
        elif kind is Signs:
            mean = np.array(draw(st.tuples(values, values)), np.float32)
            rows.append(Signs(n, offsets, index, signs > 0, mean[:1], mean[1:]))
        else:
            level = np.array([draw(st.integers(1, s)) for _ in index], np.int32) * signs
            count = -(-n // bucket) if bucket else 1
            scale = np.array([draw(scales) for _ in range(count)], np.float32)
            used = np.isin(np.arange(count), index.astype(np.int64) // (bucket or n))
            scale[~used & np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))] = 0
            rows.append(Levels(n, offsets, index, level, scale, s, bucket))
    return type(rows[0]).join(rows)


def parts(message: Message, row: int) -> tuple[list[float], dict[int, int | float], int]:
    """The floats, the entries and the s of a row, for the oracle."""
    at = slice(*message.offsets[row : row + 2])
    if isinstance(message, Levels):
        floats = message.scale.reshape(message.rows, -1)[row].tolist()
        return floats, dict(zip(message.index[at].tolist(), message.level[at].tolist(), strict=True)), message.s
    if isinstance(message, Signs):
        signs = np.where(message.positive[at], 1, -1).tolist()
        entries = dict(zip(message.coordinates()[at].tolist(), signs, strict=True))
        return [float(message.low[row]), float(message.high[row])], entries, 1
    assert isinstance(message, Floats)
    assert message.index is not None
    return [], dict(zip(message.index[at].tolist(), message.value[at].tolist(), strict=True)), 0


def refused_or_same(codec: Codec, header: bytes, packets: list[bytes]) -> None:
    try:
        message = codec.decode(Packets.of(*packets), header)
    except DecodeError:
        return
    again = codec.encode(message)
    if codec in (GolombRice(), RANS()):  # the parameter, and the frequencies, are the sender's choice
        assert codec.decode(again, header) == message
    else:
        assert [again[row] for row in range(len(again))] == packets
