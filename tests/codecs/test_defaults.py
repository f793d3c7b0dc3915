"""The code that messages go by when none is chosen is near the shortest; what never varies is sent once."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest

import qsim
from oracles import varint
from qsim.batch import Levels, Packets, Vectors
from qsim.channel import Channel, default_codec
from qsim.codecs import (
    RANS,
    Auto,
    Bitmap,
    Codec,
    DecodeError,
    Dense,
    Elias,
    EliasDense,
    FixedWidth,
    GolombRice,
    Varint,
)
from qsim.compressors import (
    DRIVE,
    EDEN,
    NUQSGD,
    QSGD,
    Bernoulli,
    Bucketed,
    Compose,
    CorrelatedQuantization,
    ErrorFeedback,
    Identity,
    Kashin,
    NaturalCompression,
    NaturalDithering,
    OneBit,
    RandK,
    RoundedFloats,
    Scaled,
    ScaledSign,
    Sign,
    SubtractiveDither,
    TernGrad,
    TopK,
    Wangni,
)

CODES = ("gamma", "delta", "omega")
CODECS: list[Codec] = [
    Dense(), FixedWidth(), Bitmap(), Varint(), *map(Elias, CODES), *map(EliasDense, CODES), GolombRice(), RANS(),
]  # fmt: skip
KEYS = qsim.Key(1).words(0, 4)


def vectors(kind: str, n: int) -> Vectors:
    random = np.random.default_rng(n)
    v = random.standard_normal((4, n)) if kind == "Gaussian" else random.standard_t(1.5, (4, n))
    if kind == "sparse":
        v[:, random.permutation(n)[max(1, n // 100) :]] = 0.0
    return Vectors.dense(v.astype(np.float32))


FILLED = [Sign(), ScaledSign(), OneBit(), DRIVE(), EDEN(1), EDEN(2), EDEN(4), Kashin(1)]
FILLED += [CorrelatedQuantization(4)]
FLOATS = [Identity(), RoundedFloats("bfloat16")]
OTHERS = [
    *(QSGD(s) for s in (1, 2, 4, 8, 16, 255)), *(QSGD(s, "max") for s in (1, 4, 64)), QSGD(4, 1.5), QSGD(4, 3.0),
    TernGrad(), NaturalCompression(), Scaled(NaturalCompression()), *map(NaturalDithering, (2, 8)), NUQSGD(3),
    *map(SubtractiveDither, (1, 8, 64)), SubtractiveDither(8, "max"), OneBit(support_only=True),
    Bucketed(QSGD(4), 128), Bucketed(QSGD(16), 512), Bucketed(NaturalCompression(), 64), Scaled(QSGD(4)),
    ErrorFeedback(Scaled(QSGD(4))), Compose(TopK(5), QSGD(4)), Compose(TopK(30), NaturalCompression()),
    TopK(4), RandK(4), Bernoulli(0.1), Wangni(10),
]  # fmt: skip


@pytest.mark.parametrize("n", [40, 1000, 10_000, 100_000])
@pytest.mark.parametrize("kind", ["Gaussian", "heavy-tailed", "sparse"])
def test_the_default_code_is_near_the_shortest(kind: str, n: int) -> None:
    """Within 15% and a byte of the shortest of all, on average over four vectors.

    Not for what makes zeros into numbers, or sends all n of them, of sparse vectors: who sends these wants another.
    """
    v = vectors(kind, n)
    for compressor in [*OTHERS, *((FILLED + FLOATS + [CorrelatedQuantization(4, 2)]) if kind != "sparse" else [])]:
        message = compressor.compress(v, KEYS)
        best = min(codec.size(message).mean() for codec in CODECS if type(message) in codec.carries)
        found = default_codec(compressor).size(message).mean()
        assert found <= 1.15 * best + 8, f"{compressor!r}: {found} bits, and {best} by another code"


def test_few_levels_do_without_trying_all_codes() -> None:
    for few in (QSGD(4), TernGrad(), NUQSGD(3), SubtractiveDither(8), Scaled(QSGD(1)), Compose(TopK(3), QSGD(2))):
        assert default_codec(few) == GolombRice()
    for other in (QSGD(9), QSGD(4, "max"), Bucketed(QSGD(4), 128), NaturalCompression(), NaturalDithering(8)):
        assert default_codec(other) == Auto()
    for filled in FILLED:
        assert default_codec(filled) == FixedWidth()


def test_where_few_levels_end() -> None:
    """Up to 8 equal steps, or powers of two down to 1/8, of an l_p norm with p <= 2; one level of any norm."""
    few = {
        **{QSGD(s, norm): s <= 8 for s in (1, 2, 8, 9) for norm in (1.0, 2.0, "l2")},
        **{QSGD(s, norm): s == 1 for s in (1, 2) for norm in (2.5, "max")},
        **{SubtractiveDither(s): s <= 8 for s in (1, 8, 9)},
        **{SubtractiveDither(s, "max"): s == 1 for s in (1, 2)},
        **{NaturalDithering(levels): levels <= 4 for levels in (1, 3, 4, 5)},
        NaturalDithering(3, "max"): False,
    }
    assert {compressor: compressor.few_levels for compressor in few} == few


# What never varies.

CONSTANT = {
    NaturalCompression(): 1.0,
    Sign(): 1.0,
    Bucketed(Sign(), 8): 1.0,
    Bucketed(NaturalCompression(), 8): 1.0,
    Scaled(NaturalCompression()): 8 / 9,
    ErrorFeedback(NaturalCompression()): 1.0,
    Compose(TopK(7), NaturalCompression()): 1.0,
    Compose(TopK(7), Scaled(NaturalCompression())): 8 / 9,
    qsim.Philox(Sign()): 1.0,
}


def by_hand(stream: bytes, packets: Packets) -> np.ndarray:
    """Decode levels of a fixed scale in the varint code, in plain Python, by the page of the wire format."""
    assert stream[:3] == bytes([1, 6, 4])
    (n, s, _), scale = stream[3:-4], struct.unpack("<f", stream[-4:])[0]
    found = np.zeros((len(packets), n))
    for row in range(len(packets)):
        data, at, coordinate = packets[row], 0, -1
        while at < len(data):
            number = shift = 0
            while True:
                byte = data[at]
                number |= (byte & 127) << shift
                at, shift = at + 1, shift + 7
                if byte < 128:
                    break
            width = (s - 1).bit_length()
            coordinate += (number >> 1 >> width) + 1
            level = (number >> 1 & (1 << width) - 1) + 1
            found[row, coordinate] = -level if number & 1 else level
    return found * scale


@pytest.mark.parametrize("compressor", CONSTANT, ids=repr)
def test_a_scale_that_never_varies_is_in_the_header(compressor) -> None:
    v = vectors("Gaussian", 40)
    message = compressor.compress(v, KEYS)
    assert message.fixed == np.float32(CONSTANT[compressor])
    expected = compressor.decompress(message, KEYS).to_dense()
    varying = replace(message, fixed=None)
    for codec in [*CODECS, Auto(), default_codec(compressor)]:
        if Levels not in codec.carries:
            continue
        header, packets = codec.header(message), codec.encode(message)
        assert (codec.size(message) == 8 * np.diff(packets.offsets)).all()
        assert codec.size(varying).sum() - codec.size(message).sum() == 4 * 32 * message.scales
        assert len(header) == len(codec.header(varying)) + 4
        there = Channel(compressor, codec).unpack(header, packets, KEYS)
        assert there.to_dense().tobytes() == expected.tobytes()
        if codec == Varint() and message.s < 128:
            levels = Levels(40, message.offsets, message.index, message.level, message.scale, message.s, message.bucket)
            dense = np.zeros((4, 40))
            dense[np.repeat(np.arange(4), np.diff(levels.offsets)), levels.index] = levels.level * np.float64(
                np.float32(message.fixed)
            )
            assert by_hand(header, packets).tolist() == dense.tolist()


def test_no_message_holds_what_is_the_same_in_all() -> None:
    """Over 40 vectors of one length, by every compressor: no scale is the same in every packet."""
    random = np.random.default_rng(3)
    v = Vectors.dense((random.standard_normal((40, 60)) * random.lognormal(0, 2, (40, 1))).astype(np.float32))
    for compressor in (*FILLED, *OTHERS):
        if compressor.emits is not Levels:
            continue
        message = compressor.compress(v, qsim.Key(2).words(0, 40))
        if message.fixed is None:
            assert (np.ptp(message.scale.reshape(40, -1), axis=0) > 0).all(), compressor


def test_golden_bytes_of_a_fixed_scale() -> None:
    """As the page of the wire format has them."""
    message = Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3, fixed=True)
    assert Varint().header(message).hex(" ") == "01 06 04 08 03 00 00 00 c0 3f"
    assert Varint().encode(message)[0].hex(" ") == "0d 08 1a"
    varying = Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3)
    assert Varint().encode(varying)[0] == varint.packet(np.float32(1.5), {1: -3, 3: 1, 7: 2}, 3)
    nothing = Levels.single([0, 0], scale=2.0, s=1, fixed=True)
    assert Varint().encode(nothing)[0] == b""
    back = Varint().decode(Varint().encode(nothing), Varint().header(nothing))
    assert (back.scale.tolist(), back.fixed, back.nonzeros) == ([2.0], 2.0, 0)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("01 06 04 08 03 00 00 00 c0", "ends inside the scale"),
        ("01 06 04 08 03 00 00 00 c0 3f 00", "1 bytes behind its end"),
        ("01 06 04 08 03 00 00 00 c0 7f", "a scale of nan"),
        ("01 06 04 08 03 00 00 00 80 7f", "a scale of inf"),
        ("01 06 04 08 03 00 00 00 00 80", "a scale of -0.0"),
        ("01 06 04 08 03 00 00 00 80 bf", "a scale of -1.0"),
        ("01 06 05 08 03 00 00 00 c0 3f", "messages of kind 5"),
        ("01 06 04 81 80 80 80 02 03 01 00 00 c0 3f", "scales that are not sent"),
    ],
)
def test_hostile_headers_of_a_fixed_scale_are_refused(header: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        Varint().decode(Packets.of(bytes.fromhex("0d081a")), bytes.fromhex(header))


def test_a_fixed_scale_is_kept_to() -> None:
    message = Levels.single([1, 0, -1], scale=2.0, s=1, fixed=True)
    with pytest.raises(ValueError, match="row 0 of the message has a scale of 3.0, and a fixed scale of 2.0"):
        Varint().encode(replace(message, scale=np.float32([3.0])))
    with pytest.raises(DecodeError, match="packet 0 holds a scale of zero, but levels of it"):
        Varint().decode(Packets.of(bytes.fromhex("00")), bytes.fromhex("01 06 04 03 01 00 00 00 00 00"))
    with pytest.raises(ValueError, match="one n, s, bucket and fixed scale"):
        Levels.join([message, replace(message, fixed=None)])
    assert message.plus(message).fixed == 4.0
    gone = message.scaled(1e-60)
    assert (gone.nonzeros, gone.fixed, gone.scale.tolist()) == (0, 0.0, [0.0])
    assert Varint().decode(Varint().encode(gone), Varint().header(gone)).nonzeros == 0


def test_bits_of_a_run_with_signs() -> None:
    """n bits per message both ways, and two headers of 10 bytes for each worker."""
    run = qsim.Run(
        qsim.datasets.Synthetic(rows=60, features=24, nonzeros_per_row=5, seed=3),
        qsim.LogisticRegression(l2=0.1),
        qsim.methods.SignSGD(qsim.steps.Constant(0.01)),
        Sign(),
        downlink=qsim.downlinks.SignSum(),
        workers=3,
        rounds=3,
        optimum=False,
    )
    frame = qsim.simulate(run).frame
    for name in ("bits_up", "bits_down"):
        assert frame[name].tolist() == [0, 3 * (24 + 80), 3 * 24, 3 * 24]
