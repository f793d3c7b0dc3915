"""Checks of the messages themselves: what they depend on, edges, the codecs, memories, pickling, repr."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim import codecs
from qsim.batch import Memory, Message, Packets, Support, Vectors, dense_offsets, index_type
from qsim.channel import Channel, default_codec
from qsim.codecs import Codec
from qsim.compressors import Compressor, ErrorFeedback, Scaled, UnsoundMessageError
from qsim.keys import Key, Purpose, of_word
from qsim.testing.compressor_under_test import CompressorUnderTest
from qsim.testing.gallery import gallery
from qsim.testing.parts import copied
from qsim.testing.report import Finding, not_made, refuse_unless
from qsim.testing.shipped import shipped
from qsim.testing.subprocess_call import elsewhere

# Each part of the check has its own keys.
_PURE, _GROUPS, _BATCH, _SPARSE, _EDGES, _CODECS, _MEMORY, _SUMS = range(20, 28)

_GROUP = 24
_CORRELATION = 0.25
_LONG = 70_000  # more than 65,536


def wire(compressor: Compressor, v: Vectors, keys: NDArray[np.uint64]) -> tuple[bytes, list[bytes]]:
    """Return the stream header and the packets by the compressor's usual codec: what "the same message" means."""
    header, packets = Channel(compressor).pack(v, keys)
    return header, [packets[row] for row in range(len(packets))]


def rows_of(subject: CompressorUnderTest, n: int | None = None) -> NDArray[np.float32]:
    """Return the vectors of the gallery, one that is half zero, and the zero vector."""
    rows = [*gallery(n or subject.n, subject.key).values()]
    half = rows[-1].copy()
    half[::2] = 0
    return np.stack([*rows, half, 0 * half]) + np.float32(0)  # no zero has a sign: sparse rows cannot hold one


def as_sparse(rows: NDArray[np.float32], kept: NDArray[np.bool_]) -> Vectors:
    """Return dense rows as sparse ones, with the entries that are kept."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept.sum(axis=1), dtype=np.int64)])
    n = rows.shape[1]
    return Vectors(n, offsets, np.nonzero(kept)[1].astype(index_type(n)), rows[kept])


# What a message depends on.


def pure(subject: CompressorUnderTest) -> Finding:
    """Check that vector and key alone make the message: not time, NumPy's global state, or what was compressed before.

    And that the input is left as it is.
    """
    rows = rows_of(subject)
    keys, before = subject.words(len(rows), _PURE), rows.copy()
    first = wire(subject.compressor, Vectors.dense(rows), keys)
    wire(subject.compressor, Vectors.dense(rows * 2), subject.words(len(rows), _PURE, 1))
    refuse_unless(first == wire(subject.compressor, Vectors.dense(rows), keys), "a second call gives another message")
    refuse_unless(rows.tobytes() == before.tobytes(), "the input is written to")
    message = subject.message(rows[:2], keys[:2])
    refuse_unless(isinstance(message, subject.compressor.emits), f"emits is wrong: it made {type(message).__name__}")
    return Finding(True, f"{len(rows)} vectors, twice")


def independent(subject: CompressorUnderTest) -> Finding:
    """Check that the errors of different workers, and of different rounds, are not correlated.

    Keys are put into groups that share their round, their worker, or half of the bits of their word; the correlation of
    errors in a group is 0 for independent streams, give or take 0.02, and 1 for a shared one. Above 0.25 is broken.
    """
    v = gallery(subject.n, subject.key)["gaussian"]
    found = {}
    for name, words in _groups(subject.key).items():
        errors = np.concatenate(list(subject.errors(v, words.reshape(-1))))
        if name == "round" and (errors == errors[0]).all():
            if subject.compressor.variance(subject.n):
                return Finding(False, "all keys give the same message, so an error above 0 is a bias", 0.0, 1.0)
            return not_made("all keys give the same message: it uses no random numbers")
        found[name] = _correlation(errors.reshape(*words.shape, -1))
    name, most = max(found.items(), key=lambda item: item[1])
    seen = f"errors of keys that share their {name} have correlation {most:.2g}; below {_CORRELATION} is independent"
    return Finding(most < _CORRELATION, seen, 0.0, most)


def _groups(key: Key) -> dict[str, NDArray[np.uint64]]:
    """Return words, a group a row."""
    grid = np.stack([key.fold(_GROUPS, Purpose.QUANTIZE, t, 0).words(0, _GROUP) for t in range(_GROUP)])
    halves = key.fold(_GROUPS, 1).generator().integers(2**32, size=(2, _GROUP, _GROUP), dtype=np.uint64)
    shared, other = np.broadcast_to(halves[0][:, :1], grid.shape), halves[1]
    high = np.uint64(32)
    return {
        "round": grid,
        "worker": np.ascontiguousarray(grid.T),
        "low 32 bits": other << high | shared,
        "high 32 bits": shared << high | other,
    }


def _correlation(errors: NDArray[np.float64]) -> float:
    """Return the mean correlation inside groups, for errors by (group, member, coordinate)."""
    centred = errors - errors.mean(axis=(0, 1))
    squares = float((centred**2).sum())
    pairs = float((centred.sum(axis=1) ** 2).sum()) - squares
    return pairs / ((errors.shape[1] - 1) * squares) if squares > 0 else 0.0


def any_batch(subject: CompressorUnderTest) -> Finding:
    """Check that a row's message does not depend on the batch that it is in, or on its place there."""
    rows = rows_of(subject)
    keys = subject.words(len(rows), _BATCH)
    header, together = wire(subject.compressor, Vectors.dense(rows), keys)
    for order in (np.arange(len(rows))[::-1], np.arange(1, len(rows), 3)):
        other, packets = wire(subject.compressor, Vectors.dense(rows[order]), keys[order])
        refuse_unless(other == header, "the stream header depends on the batch")
        refuse_unless(packets == [together[row] for row in order], "other messages in another batch")
    for row, key in enumerate(keys):
        alone = wire(subject.compressor, Vectors.dense(rows[row]), keys[row : row + 1])
        refuse_unless(alone == (header, together[row : row + 1]), "another message alone than in a batch")
        single = subject.compressor.quantize(rows[row], of_word(int(key)))
        vectors = subject.compressor.decompress(single, keys[row : row + 1])
        refuse_unless(
            np.array_equal(vectors.to_dense(), subject.sent(rows[row : row + 1], keys[row : row + 1])),
            "quantize(v, key) and compress differ",
        )
    return Finding(True, f"{len(rows)} vectors: alone, together, backwards, every third")


def dense_and_sparse(subject: CompressorUnderTest) -> Finding:
    """Check that a vector gives one message, dense, sparse, or sparse with zeros stored, and -0.0 is 0.0."""
    for n in (*subject.lengths, *subject.ladder, _LONG):
        rows = rows_of(subject, n) if n in subject.lengths else _long_rows() if n == _LONG else _half(subject, n)
        keys = subject.words(len(rows), _SPARSE, n)
        dense = wire(subject.compressor, Vectors.dense(rows), keys)
        stored = subject.key.fold(_SPARSE, n).generator().random(rows.shape) < 0.2
        for kept, name in ((rows != 0, "sparse"), ((rows != 0) | stored, "sparse, with zeros stored,")):
            found = wire(subject.compressor, as_sparse(rows, kept), keys)
            refuse_unless(found == dense, f"n = {n}: {name} gives another message than dense")
        if n in subject.lengths:
            signed = subject.sent(np.where(rows == 0, np.float32(-0.0), rows), keys)
            refuse_unless(np.array_equal(signed, subject.sent(rows, keys)), f"n = {n}: -0.0 is not taken as 0.0")
    return Finding(True, f"n = {', '.join(map(str, subject.lengths))} and {_LONG:,}")


def zeros_stay(subject: CompressorUnderTest) -> Finding:
    """Check that what is zero stays zero, below and above coordinate 65,536."""
    if not subject.compressor.keeps_sparse:
        return not_made("keeps_sparse is False: zeros are filled in")
    for rows in (rows_of(subject), _long_rows()):
        found = subject.sent(rows, subject.words(len(rows), _SPARSE, 1))
        wrong = np.argwhere((found != 0) & (rows == 0))
        if wrong.size:
            row, coordinate = wrong[0]
            text = f"coordinate {coordinate} of {rows.shape[1]:,} is 0 and comes back as {found[row, coordinate]:.4g}"
            return Finding(False, f"{text} (who fills in zeros says keeps_sparse = False)")
    return Finding(True, f"n = {subject.n} and {_LONG:,}")


def _half(subject: CompressorUnderTest, n: int) -> NDArray[np.float32]:
    random = subject.key.fold(_SPARSE, n).generator()
    return (random.standard_normal((1, n)) * (random.random(n) < 0.5)).astype(np.float32) + np.float32(0)


def _long_rows() -> NDArray[np.float32]:
    rows = np.zeros((4, _LONG), np.float32)
    rows[:, [3, 65_535, 65_536, 65_537, _LONG - 1]] = [[5, 1, 1, 1, 1], [1, 2, 3, -4, 5], [2] * 5, [0] * 5]
    return rows


# Edges.


def lengths(subject: CompressorUnderTest) -> Finding:
    """Check that vectors of any length are taken; short ones may be refused."""
    taken = f"n = {', '.join(map(str, subject.lengths))} taken"
    if not subject.refusals:
        return Finding(True, taken)
    n, text = next(iter(subject.refusals.items()))
    return not_made(f"{taken}; n = {', '.join(map(str, subject.refusals))} refused: {text} (n = {n})")


def edges(subject: CompressorUnderTest) -> Finding:
    """Check zero, single, huge and subnormal vectors: finite numbers come back, or a ValueError says why not.

    Of numbers near the end of float32 the message may overflow; of large ones it may not, unless they are refused.
    Who claims a bound on the error in norms of v returns zero for zero. NaN and infinity are refused.
    """
    refused = []
    for n in subject.lengths:
        for name, v in _edge_vectors(n).items():
            try:
                found = _arrived(subject, v, subject.words(1, _EDGES))
            except ValueError as error:
                overflows = "huge" in name or ("large" in name and not isinstance(error, UnsoundMessageError))
                refuse_unless(overflows, f"{name}, n = {n}, is refused: {error}")
                refused.append(f"{name}, n = {n}")
                continue
            refuse_unless(
                np.isfinite(found).all(), f"{name}, n = {n}, comes back with {found[~np.isfinite(found)][:1]}"
            )
            exact = name != "zero" or not subject.bounds(n) or not found.any()
            refuse_unless(exact, f"the zero vector comes back as {found.ravel()[:4]}, which breaks every bound")
    for bad in (np.nan, np.inf, -np.inf):
        v = np.ones(subject.n, np.float32)
        v[-1] = bad
        try:
            subject.message(v[None], subject.words(1, _EDGES))
        except ValueError:
            continue
        return Finding(False, f"{bad} is not refused: raise qsim.compressors.NotFiniteError")
    return Finding(True, f"refused: {refused[0]}" if refused else "")


def _arrived(subject: CompressorUnderTest, v: NDArray[np.float32], keys: NDArray[np.uint64]) -> NDArray[Any]:
    """Return what a receiver decodes; codecs refuse what is not finite."""
    channel = Channel(subject.compressor)
    with np.errstate(all="ignore"):
        return channel.unpack(*channel.pack(Vectors.dense(v), keys), keys).to_dense()


def _edge_vectors(n: int) -> dict[str, NDArray[np.float32]]:
    single = np.zeros(n, np.float32)
    single[n // 2] = -1
    ones = np.ones(n, np.float32)
    return {
        "zero": 0 * ones,
        "single": single,
        "single huge": single * np.float32(3e38),
        "all large": ones * np.float32(1e20),  # of squares, float32 has none
        "all huge": ones * np.float32(1e37),
        "single subnormal": single * np.float32(1e-45),
        "all subnormal": ones * np.float32(1e-40),
        "huge and subnormal": np.where(single < 0, np.float32(1e37), np.float32(1e-45)),
    }


# Codecs.


def all_codecs() -> list[Codec]:
    """Return the examples of every codec that qsim.codecs exports: each choice of its words."""
    return list(shipped(codecs, Codec))  # type: ignore[type-abstract]


def through_codecs(subject: CompressorUnderTest) -> Finding:
    """Check that every codec that takes the messages gives them back, in as many bits as it says.

    The usual codec must take them. And the receiver, which has the bytes, the keys and the compressor, in a process of
    its own, reads what the sender does.
    """
    import cloudpickle

    rows = rows_of(subject)
    keys = subject.words(len(rows), _CODECS)
    receiver = cloudpickle.loads(cloudpickle.dumps(Channel(subject.compressor)))  # before anything is sent
    header, packets = Channel(subject.compressor).pack(Vectors.dense(rows), keys)
    arrived = elsewhere(Channel.unpack, receiver, header, packets, keys).to_dense()
    refuse_unless(
        np.array_equal(arrived, subject.sent(rows, keys)),
        "what another process decodes from the bytes is not what decompress says here",
    )
    for n in subject.ladder:
        v, key = _half(subject, n), subject.words(1, _CODECS, n)
        channel = Channel(subject.compressor)
        arrived = channel.unpack(*channel.pack(Vectors.dense(v), key), key).to_dense()
        refuse_unless(np.array_equal(arrived, subject.sent(v, key)), f"n = {n:,}: other numbers arrive than were sent")
    accepted = [
        repr(codec).removeprefix("qsim.codecs.")
        for codec in all_codecs()
        if type(subject.message(rows, keys)) in codec.carries and _goes_through(subject, codec, rows, keys)
    ]
    return Finding(True, ", ".join(accepted))


def _goes_through(
    subject: CompressorUnderTest, codec: Codec, rows: NDArray[np.float32], keys: NDArray[np.uint64]
) -> bool:
    message = subject.message(rows, keys)
    try:
        packets = codec.encode(message)
    except ValueError as error:
        usual = default_codec(subject.compressor)
        refuse_unless(codec != usual, f"its usual codec {usual!r} does not take the message: {error}")
        return False
    name = repr(codec).removeprefix("qsim.codecs.")
    decoded = codec.decode(packets, codec.header(message))
    sizes = 8 * np.diff(packets.offsets)
    refuse_unless(np.array_equal(codec.size(message), sizes), f"{name} makes packets of other sizes than it says")
    rounds = isinstance(codec, codecs.Dense) and codec.dtype not in ("float32", "float64")
    same = rounds or np.array_equal(_values(subject, decoded, keys), _values(subject, message, keys))
    refuse_unless(same, f"{name} does not give the message back")
    refuse_unless(_same_bytes(codec.encode(decoded), packets), f"{name} writes what it read in other bytes")
    return True


def _values(subject: CompressorUnderTest, message: Message, keys: NDArray[np.uint64]) -> NDArray[Any]:
    return subject.compressor.decompress(message, keys).to_dense()


def _same_bytes(one: Packets, other: Packets) -> bool:
    return np.array_equal(one.offsets, other.offsets) and np.array_equal(one.data, other.data)


def summed(subject: CompressorUnderTest) -> Finding:
    """Check that messages made with one key can be added as they are, if it says so: `Compressor.summable`.

    All vectors of the gallery, one after the other and in pairs, the sums sent by the usual codec again.
    """
    if not subject.compressor.summable:
        return not_made("summable is False: messages are decoded before they are added")
    rows = rows_of(subject)
    rows = rows[: len(rows) // 2 * 2]
    keys = np.repeat(subject.words(1, _SUMS), len(rows))
    messages = _carried(subject, subject.message(rows, keys))
    values = _values(subject, messages, keys).astype(np.float64)
    every = np.arange(len(rows))
    chain = messages.take(every[:1])
    for row in every[1:]:
        chain = chain.plus(messages.take(np.array([row])))
    pairs = messages.take(every[::2]).plus(messages.take(every[1::2]))
    worst = 0.0
    for total, expected in ((chain, values.sum(axis=0, keepdims=True)), (pairs, values[::2] + values[1::2])):
        found = _values(subject, _carried(subject, total), keys[: total.rows])
        largest = np.abs(values).sum(axis=0).max()
        worst = max(worst, float(np.abs(found - expected).max() / largest))
    seen = f"{len(rows)} of them, and pairs: sums off by {worst:.2g} of the largest"
    return Finding(worst <= 2.0**-18, seen, 0.0, worst)


def _carried(subject: CompressorUnderTest, message: Message) -> Message:
    """Return a message as it arrives by the usual codec."""
    codec = default_codec(subject.compressor)
    return codec.decode(codec.encode(message), codec.header(message))


# Memory.


def learns_delivery(subject: CompressorUnderTest) -> Finding:
    """Check sent + new memory = old memory + v, to rounding, for rounds that arrive and rounds that are lost.

    For the compressor itself if it keeps an "error", else for error feedback around it, on dense and sparse supports.
    """
    wrapped = _with_memory(subject)
    if wrapped is None:
        return not_made("it has no memory of errors, and states no contraction or variance to build one on")
    n = subject.n
    some = np.arange(0, n, 3 if wrapped.keeps_sparse else 1, dtype=index_type(n))
    whole = Support(n, dense_offsets(2, n), None)
    part = Support(n, np.array([0, some.size, 2 * some.size]), np.tile(some, 2))
    worst = max(_drift(subject, wrapped, whole), _drift(subject, wrapped, part))
    return Finding(worst <= 2.0**-20, f"{wrapped!r}: off by {worst:.2g} of the largest term", 0.0, worst)


def _with_memory(subject: CompressorUnderTest) -> Compressor | None:
    memory = subject.compressor.memory(Support(1, np.zeros(1, np.int64), None))
    if memory is not None:
        return subject.compressor if "error" in memory.arrays else None
    bounds = subject.bounds(subject.n)
    if "contraction" in bounds:
        return ErrorFeedback(subject.compressor)
    return ErrorFeedback(Scaled(subject.compressor)) if "variance" in bounds else None


def _drift(subject: CompressorUnderTest, compressor: Compressor, support: Support) -> float:
    memory = compressor.memory(support)
    assert memory is not None
    channel, worst = Channel(compressor), 0.0
    for t in range(6):
        random = subject.key.fold(_MEMORY, t).generator()
        v = Vectors(
            support.n, support.offsets, support.index, random.standard_normal(support.offsets[-1]).astype(np.float32)
        )
        keys = subject.words(v.rows, _MEMORY, t)
        before = _error(memory)
        header, packets = channel.pack(v, keys, memory)
        arrived = channel.unpack(header, Packets(packets.data.copy(), packets.offsets), keys)
        if t == 3:
            arrived = Vectors.dense(np.zeros_like(before, dtype=np.float32))  # lost
        compressor.on_delivered(memory, arrived)
        terms = [arrived.to_dense(), _error(memory), before, v.to_dense()]
        off = terms[0].astype(np.float64) + terms[1] - terms[2] - terms[3]
        worst = max(worst, float(np.abs(off).max() / max(np.abs(term).max() for term in terms)))
    return worst


def _error(memory: Memory) -> NDArray[np.float64]:
    return memory.vectors("error").to_dense().astype(np.float64)


# As an object.


def pickles(subject: CompressorUnderTest) -> Finding:
    """Check that it can be sent to another process, and makes the same messages there."""
    copy = copied(subject.compressor)
    rows = rows_of(subject)
    keys = subject.words(len(rows), _PURE)
    here = wire(subject.compressor, Vectors.dense(rows), keys)
    refuse_unless(wire(copy, Vectors.dense(rows), keys) == here, "the copy makes other messages")
    there = elsewhere(wire, subject.compressor, Vectors.dense(rows), keys)
    refuse_unless(
        there == here,
        "another process makes other messages: they depend on more than vector and key (the process, hashes of"
        " strings, a generator that no key seeds)",
    )
    return Finding(True, "a copy here, and one in another process")
