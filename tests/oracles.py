"""Plain-Python oracles: slow, obvious, and written from the specification, not from the kernels."""

from __future__ import annotations

import math
import struct

import numpy as np

M32, M64 = (1 << 32) - 1, (1 << 64) - 1


def key(seed: int) -> int:
    """The word of a seed: mixed, and salted by the fraction of the square root of 2."""
    return mix(seed ^ math.isqrt(2 << 128) & M64)


def fold(word: int, part: int) -> int:
    return mix((word + 0x9E3779B97F4A7C15 * (part + 1)) & M64)


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def uniform24(coordinate: int, word: int) -> int:
    return draw32(coordinate, word) >> 8


def draw32(coordinate: int, word: int) -> int:
    low, high = word & M32, word >> 32
    x = (coordinate & M32) ^ low
    x ^= x >> 17
    x = (x * 0xED5AD4BB) & M32
    x ^= x >> 11
    x ^= high
    x = (x * 0xAC4C1B51) & M32
    x ^= x >> 15
    x = (x * 0x31848BAB) & M32
    return x ^ x >> 14


def philox32(coordinate: int, word: int) -> int:
    return philox([coordinate & M32, 0, 0, 0], [word & M32, word >> 32])[0]


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x32-10, as Salmon et al. 2011 give it."""
    for _ in range(10):
        one, other = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [other >> 32 ^ counter[1] ^ key[0], other & M32, one >> 32 ^ counter[3] ^ key[1], one & M32]
        key = [(key[0] + 0x9E3779B9) & M32, (key[1] + 0xBB67AE85) & M32]
    return counter


def below(word: int, size: int) -> int:
    return int((word >> 11) * 2.0**-53 * size)


def l2_norm(coordinates: list[int], values: np.ndarray) -> float:
    """Sum squares in 32 lanes (coordinate mod 32), add the lanes in halves, take the root."""
    lanes = [0.0] * 32
    for c, x in zip(coordinates, values, strict=True):
        lanes[c % 32] += float(x) ** 2
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [a + b for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    return math.sqrt(lanes[0])


def up_to_float32(x: float) -> np.float32:
    rounded = np.float32(x)
    return np.nextafter(rounded, np.float32(np.inf)) if float(rounded) < x else rounded


def position(x: float, scale: np.float32, s: int) -> np.float32:
    """|x| s / scale, as the specification rounds it."""
    lift = np.float32(2.0**64) if scale < np.float32(2.0**-60) else np.float32(1)
    factor = np.float32(s / float(scale * lift))
    if scale * lift * factor < s:  # so that |x| = scale gives s exactly
        factor = np.nextafter(factor, np.float32(np.inf))
    return min(np.float32(np.float32(abs(np.float32(x)) * lift) * factor), np.float32(s))


def level(x: float, scale: np.float32, s: int, u: int) -> int:
    """The signed level of x when the 24-bit uniform is u."""
    if scale == 0:
        return 0
    t = position(x, scale, s)
    floor = math.floor(t)
    size = floor + int(u < (float(t) - floor) * 2**24)
    return -size if x < 0 else size


def qsgd(
    coordinates: list[int], values: np.ndarray, s: int, word: int, norm: str = "l2", n: int = 0
) -> tuple[np.float32, dict[int, int]]:
    """The message of one vector, of length n if that is more than its entries: its scale, and the levels but zeros."""
    size = l2_norm(coordinates, values) if norm == "l2" else float(max(map(abs, values), default=0.0))
    scale = up_to_float32(size)
    levels = {c: level(x, scale, s, uniform24(c, word)) for c, x in zip(coordinates, values, strict=True)}
    entries = dict(zip(coordinates, values, strict=True))
    if scale and max(n, len(coordinates)) >= 4096 * s * s:
        for block in {c // 2048 for c in coordinates}:
            inside = {c: x for c, x in entries.items() if c // 2048 == block}
            levels |= thinned(block, {c: position(x, scale, s) for c, x in inside.items()}, inside, word)
    return scale, {c: found for c, found in levels.items() if found}


def thinned(block: int, t: dict[int, np.float32], values: dict[int, float], word: int) -> dict[int, int]:
    """The levels of a block, if it is thinned."""
    largest = max(t.values())
    if sum(x != 0 for x in values.values()) < 512 or largest > 2.0**-6:
        return {}
    j = next((j for j in range(24, 6, -1) if largest <= 2.0**-j), 6)
    heads = candidates(block, j, word)
    return {
        c: (-1 if values[c] < 0 else 1) * int(c in heads and uniform24(c, word) < float(t[c]) * 2.0 ** (24 + j))
        for c in t
    }


def candidates(block: int, j: int, word: int) -> set[int]:
    """The coordinates of a block of which j coins show heads: coin l of 32 i + b is bit b of draw 64 l + i."""
    coins = [[draw32(2048 * block + 64 * turn + i, fold(word, 2**63)) for i in range(64)] for turn in range(j)]
    return {2048 * block + c for c in range(2048) if all(toss[c // 32] >> c % 32 & 1 for toss in coins)}


def leb128(number: int) -> bytes:
    out = []
    while True:
        out.append(number % 128 + (128 if number > 127 else 0))
        number //= 128
        if not number:
            return bytes(out)


def varint_packet(scale: np.float32, levels: dict[int, int], s: int) -> bytes:
    packet, previous, width = struct.pack("<f", scale), -1, (s - 1).bit_length()
    for c in sorted(levels):
        gap, size = c - previous, abs(levels[c])
        packet += leb128((((gap - 1) * 2**width + size - 1) * 2) + (levels[c] < 0))
        previous = c
    return packet


def gamma(number: int) -> str:
    return "0" * (number.bit_length() - 1) + f"{number:b}"


def delta(number: int) -> str:
    return gamma(number.bit_length()) + f"{number:b}"[1:]


def omega(number: int) -> str:
    word = "0"
    while number > 1:
        word, number = f"{number:b}{word}", number.bit_length() - 1
    return word


def rice(number: int, r: int) -> str:
    rest = f"{(number - 1) % 2**r:b}".zfill(r) if r else ""
    return "0" * ((number - 1) >> r) + "1" + rest


def rice_parameter(n: int, k: int) -> int:
    r = 0
    while 13 * k * 2 ** (r + 1) <= 9 * (n - k):
        r += 1
    return r


def bit_packet(code: str, n: int, floats: list[float], entries: dict[int, int | float], s: int) -> bytes:
    """The packet of Elias(code), or of GolombRice (code "rice"), as a string of zeros and ones."""
    prefix = b"".join(struct.pack("<f", x) for x in floats)
    if not entries:
        return prefix
    words = {"gamma": gamma, "delta": delta, "omega": omega}
    number, bits, previous = words.get(code, gamma), "", -1
    if code == "rice":
        r = rice_parameter(n, len(entries))
        bits = f"{r:08b}"
    for c in sorted(entries):
        bits += rice(c - previous, r) if code == "rice" else number(c - previous)
        if s == 0:
            bits += f"{struct.unpack('<I', struct.pack('<f', entries[c]))[0]:032b}"
        else:
            bits += "01"[entries[c] < 0] + (number(abs(int(entries[c]))) if s > 1 else "")
        previous = c
    bits += ("1" if code == "omega" else "0") * (-len(bits) % 8)
    return prefix + bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))


def sparse_floats_packet(values: dict[int, float]) -> bytes:
    packet, previous = b"", -1
    for c in sorted(values):
        packet += leb128(c - previous - 1) + struct.pack("<f", values[c])
        previous = c
    return packet


def logistic(w: list[float], rows: list[dict[int, float]], labels: list[int], l2: float) -> tuple[float, list[float]]:
    """Loss and gradient, summed exactly (fsum)."""
    losses, parts = [], [[] for _ in w]
    for row, y in zip(rows, labels, strict=True):
        m = y * math.fsum(x * w[j] for j, x in row.items())
        losses.append(math.log1p(math.exp(-m)) if m > 0 else -m + math.log1p(math.exp(m)))
        slope = -y * (math.exp(-m) / (1 + math.exp(-m)) if m > 0 else 1 / (1 + math.exp(m)))
        for j, x in row.items():
            parts[j].append(slope * x)
    n = len(rows)
    value = math.fsum(losses) / n + l2 / 2 * math.fsum(v * v for v in w)
    return value, [math.fsum(part) / n + l2 * v for part, v in zip(parts, w, strict=True)]


def softmax(
    w: list[float], rows: list[dict[int, float]], labels: list[int], classes: int, l2: float
) -> tuple[float, list[float], list[list[float]]]:
    """Value and gradient of softmax regression, and the probabilities: weight c of feature j is w[j * classes + c]."""
    value, gradient, chances = 0.5 * l2 * sum(x * x for x in w), [l2 * x for x in w], []
    for row, label in zip(rows, labels, strict=True):
        margins = [math.fsum(x * w[j * classes + c] for j, x in row.items()) for c in range(classes)]
        top = max(margins)
        total = math.fsum(math.exp(z - top) for z in margins)
        value += (math.log(total) + top - margins[label]) / len(rows)
        chances.append([math.exp(z - top) / total for z in margins])
        for j, x in row.items():
            for c in range(classes):
                gradient[j * classes + c] += x * (chances[-1][c] - (c == label)) / len(rows)
    return value, gradient, chances
