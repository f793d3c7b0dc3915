"""Numbers of 16 bits: rounded by the compressor, and bfloat16 on the wire."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import qsim
from oracles import bits, half_precision, hashing
from qsim.batch import Floats, Packets, SharedSupport, Vectors
from qsim.codecs import DecodeError, Dense, SparseFloats
from qsim.compressors import ErrorFeedback, Identity, NotFiniteError, RoundedFloats, Scaled
from qsim.keys import of_word

FORMATS = ("float16", "bfloat16")
MOST = {"float16": 65504.0, "bfloat16": float(np.uint32(0x7F7F0000).view(np.float32))}
words = st.integers(0, 2**64 - 1)
any_bits = st.integers(0, 2**32 - 1).map(bits.as_float).filter(np.isfinite)


def within(format: str) -> st.SearchStrategy[float]:
    """Any float32 that the format holds, often small or near a tie."""
    ties = st.builds(lambda e, k, d: np.ldexp(1 + (2 * k + 1) / 2**11 + d * 2.0**-23, e),
                     st.integers(-30, 14), st.integers(0, 1023), st.integers(-1, 1)).map(float)  # fmt: skip
    return st.one_of(any_bits, ties, st.floats(-(2.0**-13), 2.0**-13, width=32)).filter(
        lambda x: abs(x) <= MOST[format]
    )


@pytest.mark.parametrize("format", FORMATS)
@given(st.data(), words)
def test_stochastic_is_the_oracles(format: str, data: st.DataObject, word: int) -> None:
    v = data.draw(arrays(np.float32, st.integers(1, 90), elements=within(format)))
    found = RoundedFloats(format).quantize(v, of_word(word)).value
    expected = [half_precision.half_value(x, format, hashing.uniform24(c, word)) for c, x in enumerate(v.tolist())]
    assert found.tobytes() == np.float32(expected).tobytes()


@pytest.mark.parametrize("format", FORMATS)
@given(st.data())
def test_nearest_is_the_oracles(format: str, data: st.DataObject) -> None:
    v = data.draw(arrays(np.float32, st.integers(1, 90), elements=within(format)))
    found = RoundedFloats(format, "nearest").quantize(v, qsim.Key(0)).value
    assert found.tobytes() == np.float32([half_precision.nearest_half(x, format) for x in v.tolist()]).tobytes()
    if format == "float16":
        assert found.tobytes() == v.astype(np.float16).astype(np.float32).tobytes()


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
@pytest.mark.parametrize("format", FORMATS)
@given(st.data(), words)
def test_what_is_rounded_goes_by_16_bits_exactly(format: str, rounding: str, data: st.DataObject, word: int) -> None:
    v = data.draw(arrays(np.float32, st.integers(1, 90), elements=within(format)))
    compressor = RoundedFloats(format, rounding)
    channel, keys = qsim.Channel(compressor), np.array([word], np.uint64)
    assert channel.codec == Dense(format)
    header, packets = channel.pack(Vectors.dense(v), keys)
    assert packets.bits == 16 * v.size
    sent = compressor.compress(Vectors.dense(v), keys).value
    assert channel.unpack(header, packets, keys).value.tobytes() == sent.tobytes()
    again = RoundedFloats(format).quantize(sent, of_word(word + 1 & 2**64 - 1)).value
    assert again.tobytes() == sent.tobytes()  # what the format holds is not rounded


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
@pytest.mark.parametrize("format", FORMATS)
def test_the_largest_number_and_beyond(format: str, rounding: str) -> None:
    compressor, most = RoundedFloats(format, rounding), np.float32(MOST[format])
    below = np.nextafter(most, np.float32(0))
    for word in range(50):
        found = compressor.quantize([most, -most, below], of_word(word)).value
        assert np.isfinite(found).all()
        assert found[:2].tolist() == [most, -most]
    above = np.nextafter(most, np.float32(np.inf))
    with pytest.raises(
        NotFiniteError, match=rf"row 1 of the batch holds -\S+ at coordinate 2: {format} ends at"
    ) as caught:
        compressor.compress(Vectors.dense(np.float32([[1, most, 3], [-most, 2, -above]])), qsim.Key(0).words(0, 2))
    assert caught.value.row == 1
    sparse = Vectors(100, np.array([0, 1, 3]), np.array([5, 7, 99], np.int32), np.float32([1, 2, above]))
    with pytest.raises(NotFiniteError, match="row 1 of the batch holds .* at coordinate 99"):
        compressor.compress(sparse, qsim.Key(0).words(0, 2))


def test_certificates() -> None:
    """As the literature states them, and a little sharper; every float32 mantissa is within, and some attain them."""
    mantissas = np.linspace(1, 2, 2**15, endpoint=False)
    for format, stated in (("float16", 2.0**-22), ("bfloat16", 2.0**-16)):
        stochastic, nearest = RoundedFloats(format), RoundedFloats(format, "nearest")
        assert 0.99 * stated <= stochastic.variance(9) <= stated
        assert stochastic.contraction(9) == 1 - stochastic.variance(9)
        assert 1 - stated <= nearest.contraction(9) <= 1 - 0.99 * stated
        assert nearest.variance(9) is None
        for compressor, omega in ((stochastic, stochastic.variance(1)), (nearest, 1 - nearest.contraction(1))):
            worst = max(compressor.exact_variance([x]) / x**2 for x in mantissas.tolist())
            assert 0.999 * omega <= worst <= omega * (1 + 1e-9)


def test_nonzeros_that_are_rounded_to_zero() -> None:
    """Below the least number one in so many is kept; nearest, from half of it on (not at it: ties to even)."""
    for format, least in (("float16", 2.0**-24), ("bfloat16", 2.0**-133)):
        v = np.array([0, 1, -least, least / 2, 0.75 * least, least / 4, 3 * least])
        assert RoundedFloats(format).expected_nonzeros(v) == 3 + 0.5 + 0.75 + 0.25
        nearest = RoundedFloats(format, "nearest")
        assert nearest.expected_nonzeros(v) == 4 == nearest.quantize(v, qsim.Key(0)).nonzeros
        keys = qsim.Key(1).words(0, 4000)
        kept = RoundedFloats(format).compress(Vectors.dense(np.tile(v, (4000, 1))), keys).nonzeros / 4000
        assert abs(kept - 4.5) < 0.1  # eight standard deviations


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="format must be one of 'float16', 'bfloat16', found 'float32'"):
        RoundedFloats("float32")
    with pytest.raises(ValueError, match="did you mean 'nearest'"):
        RoundedFloats("float16", "neerest")


def test_usual_codecs_of_others_stay() -> None:
    assert qsim.Channel(Identity()).codec == Dense("float32")
    assert qsim.Channel(qsim.QSGD(1)).codec == qsim.codecs.GolombRice()
    assert qsim.Channel(Scaled(RoundedFloats("float16"))).codec == Dense("float32")  # a product needs its 24 bits
    assert qsim.Channel(ErrorFeedback(RoundedFloats("bfloat16"))).codec == Dense("bfloat16")


# bfloat16 on the wire.


@given(arrays(np.float32, st.integers(1, 90), elements=within("bfloat16")))
def test_bfloat16_is_the_nearest_in_16_bits(v: np.ndarray) -> None:
    message, codec = Floats.single(v), Dense("bfloat16")
    packets = codec.encode(message)
    halves = [bits.of_float(half_precision.nearest_half(x, "bfloat16")) >> 16 for x in v.tolist()]
    assert packets[0] == np.array(halves, "<u2").tobytes()
    found = codec.decode(packets, codec.header(message))
    assert found.value.tobytes() == np.array([bits.as_float(h << 16) for h in halves], np.float32).tobytes()
    assert codec.size(message).tolist() == [16 * v.size]


def test_golden_bfloat16() -> None:
    """A change of these is a change of the wire format: raise the version and docs/wire-format.md with it."""
    codec, message = Dense("bfloat16"), Floats.single([1.0, -2.5, 0.0, 1 + 2**-8, 1 + 3 * 2**-8, 1e-40])
    assert codec.header(message).hex() == "01100006"
    assert codec.encode(message)[0].hex() == "803f20c00000803f823f0100"
    assert [Dense(dtype).number for dtype in ("float32", "float64", "float16", "bfloat16")] == [1, 2, 3, 16]


def test_other_messages_go_as_bfloat16() -> None:
    codec = Dense("bfloat16")
    sparse = Floats(5, np.array([0, 2, 2]), np.array([1, 3], np.int32), np.float32([1, -2]))
    back = codec.decode(codec.encode(sparse), codec.header(sparse))
    assert back.vectors().to_dense().tolist() == [[0, 1, 0, -2, 0], [0] * 5]
    drawn = SharedSupport(300, np.array([0, 2, 4]), 2, np.float32([1, -2, 0, 3]))
    assert codec.decode(codec.encode(drawn), codec.header(drawn)) == drawn
    wide = Floats.of(Vectors.dense(np.array([0.1, -3.0])))
    assert codec.decode(codec.encode(wide), codec.header(wide)).value.tolist() == [0.10009765625, -3.0]


def test_bfloat16_refuses_what_it_does_not_hold() -> None:
    above = float(np.nextafter(np.float32(MOST["bfloat16"]), np.float32(np.inf)))
    with pytest.raises(ValueError, match=r"row 0 holds -3.38\S+ at coordinate 1, and bfloat16 ends at 3.38953e\+38"):
        Dense("bfloat16").encode(Floats.single([1.0, -above]))
    assert Dense("bfloat16").encode(Floats.single([MOST["bfloat16"]]))[0].hex() == "7f7f"
    header = bytes.fromhex("01100002")
    with pytest.raises(DecodeError, match="packet 0 has 3 bytes; 2 numbers as bfloat16 take 4"):
        Dense("bfloat16").decode(Packets.of(bytes(3)), header)
    for bad, name in (("807f", "inf"), ("c07f", "nan")):
        with pytest.raises(DecodeError, match=f"packet 0 holds {name} as number 1"):
            Dense("bfloat16").decode(Packets.of(bytes.fromhex("803f" + bad)), header)
    with pytest.raises(DecodeError, match="codec 3"):
        Dense("bfloat16").decode(Packets.of(bytes(4)), bytes.fromhex("01030002"))


def test_sparse_floats_take_them_too() -> None:
    v = Vectors(1000, np.array([0, 2]), np.array([7, 900], np.int32), np.float32([0.1, -3]))
    channel, keys = qsim.Channel(RoundedFloats("bfloat16", "nearest"), SparseFloats()), qsim.Key(0).words(0, 1)
    found = channel.unpack(*channel.pack(v, keys), keys)
    assert (found.index.tolist(), found.value.tolist()) == ([7, 900], [0.10009765625, -3.0])
